"""Documents that are read in chunks, against chunks that are made and pooled by hand."""

import numpy as np
import pytest
from ecosystem_data import LABELS, TEXTS, H, classifier, same
from inside import loaded
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from text_estimators import answer

from skmlmc import (
    Chunks,
    EmbeddingExtractor,
    GGUFClassifier,
    HiddenStateExtractor,
    MaxOverGenerations,
    StepwiseExtractor,
    UnaryExtractor,
)
from skmlmc.calibrate import SelectiveClassifier
from skmlmc.classifier import METHODS

SENTENCES = ["We won the game!", "I miss her so very much.", "It rained on my way home."]  # 10 to 25 tokens
LONG = " ".join(SENTENCES)
SIZE = 26
ZERO_SHOT = [method for method in METHODS if method not in ("linear_probe", "stack")]


def by_hand(rows, how, weights):
    """Pool probabilities in the plainest way."""
    pooled = np.empty(rows.shape[1])
    for k, column in enumerate(rows.T):
        if how == "max":
            pooled[k] = max(column)
        elif how == "mean":
            pooled[k] = sum(p * w for p, w in zip(column, weights, strict=True)) / sum(weights)
        elif how == "noisy_or":
            pooled[k] = 1 - np.prod([1 - p for p in column])
        else:
            odds = np.prod([p / (1 - p) for p in column])
            pooled[k] = odds / (1 + odds)
    return pooled


def tokens_of(text, tiny_model):
    return len(loaded(tiny_model).tokenize(text, False))


@pytest.mark.parametrize("how", ["max", "mean", "noisy_or", "log_odds"])
@pytest.mark.parametrize("method", ZERO_SHOT)
def test_agrees_with_chunks_by_hand(method, how, tiny_model):
    rows = classifier(tiny_model, method=method).fit().predict_proba(SENTENCES)
    found = classifier(tiny_model, method=method, truncation=Chunks(SIZE, pooling=how)).fit().predict_proba([LONG])
    weights = [tokens_of(text, tiny_model) for text in SENTENCES]
    if method == "hard_predictions" and how == "log_odds":  # of 0 and 1 there are none
        assert ((found >= 0) & (found <= 1)).all()
        return
    assert_allclose(found[0], by_hand(rows, how, weights), atol=1e-9)


@pytest.mark.parametrize("how", ["max", "mean", "noisy_or", "log_odds"])
def test_a_single_label_still_sums_to_one(how, tiny_model):
    params = {"multi_label": False, "truncation": Chunks(SIZE, pooling=how)}
    proba = classifier(tiny_model, **params).fit().predict_proba([LONG, SENTENCES[0]])
    assert_allclose(proba.sum(axis=1), 1)
    rows = classifier(tiny_model, multi_label=False).fit().predict_proba(SENTENCES)
    assert same(proba[1], rows[0])
    if how == "log_odds":
        product = np.prod(rows, axis=0)
        assert_allclose(proba[0], product / product.sum())


def test_what_fits_has_the_numbers_that_it_has_without(make, tmp_path, tiny_model, decoded):
    plain = answer(make(memory=tmp_path).fit(), TEXTS)
    decoded()
    assert same(answer(make(memory=tmp_path, truncation="chunk").fit(), TEXTS), plain)
    assert decoded() == 0, "and they are the same to the cache"
    assert same(answer(make(truncation="chunk").fit(), TEXTS[:3]), plain[:3])


def test_each_chunk_is_cached_by_itself(tiny_model, tmp_path, decoded):
    clf = classifier(tiny_model, truncation=Chunks(SIZE), memory=tmp_path).fit()
    clf.predict_proba([LONG])
    decoded()
    clf.predict_proba([" ".join(SENTENCES[::-1])])
    classifier(tiny_model, truncation=Chunks(SIZE, pooling="mean"), memory=tmp_path).fit().predict_proba([LONG])
    assert decoded() == 0


def test_chunks_as_large_as_the_context_allows(tiny_model):
    """A little more room, a chunk less; several label orders each have their own."""
    text = "We won it again. " * 120
    small, large = (
        classifier(tiny_model, truncation="chunk", n_ctx=n_ctx, n_label_orders=2).fit() for n_ctx in (700, 900)
    )
    counts = [len(clf.diagnose([text]).document) for clf in (small, large)]
    assert counts[0] > counts[1] > 1
    assert small.predict_proba([text]).shape == (1, 3)


def test_overlap_is_read_again(tiny_model):
    clf = classifier(tiny_model, truncation=Chunks(SIZE * 2, overlap=SIZE)).fit()
    rows = classifier(tiny_model).fit().predict_proba([" ".join(SENTENCES[:2]), " ".join(SENTENCES[1:])])
    assert same(clf.predict_proba([LONG])[0], rows.max(axis=0))


@pytest.mark.parametrize("params", [{"layer": 0.5, "pooling": "mean"}, {}])
def test_hidden_states_are_averaged(params, tiny_model):
    make = {"model": tiny_model, "labels": LABELS, "n_threads": 1, **params}
    rows = HiddenStateExtractor(**make).fit().transform(SENTENCES)
    found = HiddenStateExtractor(**make, truncation=Chunks(SIZE, pooling="max")).fit().transform([SENTENCES[0], LONG])
    weights = [tokens_of(text, tiny_model) for text in SENTENCES]
    assert same(found[0], rows[0]) and found.dtype == np.float32
    assert_allclose(found[1], np.average(rows, axis=0, weights=weights), rtol=1e-5)


def test_embeddings_are_averaged(tiny_encoder):
    rows = EmbeddingExtractor(tiny_encoder, normalize=False).fit().transform(SENTENCES)
    found = EmbeddingExtractor(tiny_encoder, truncation=Chunks(SIZE)).fit().transform([LONG])
    assert found.shape == (1, rows.shape[1])
    assert_allclose(np.linalg.norm(found), 1, rtol=1e-5)
    assert rows.min(axis=0).min() < found.min() and not same(found[0], rows[0])


def test_extractors_of_label_probabilities_pool_and_others_say_who_does(tiny_model):
    params = {"model": tiny_model, "labels": LABELS, "n_threads": 1, "truncation": Chunks(SIZE)}
    unary = UnaryExtractor(**params).fit().transform([LONG])
    assert same(
        unary, UnaryExtractor(tiny_model, labels=LABELS, n_threads=1).fit().transform(SENTENCES).max(axis=0)[None]
    )
    pipe = make_pipeline(StepwiseExtractor(**params), MaxOverGenerations()).fit(SENTENCES)
    assert pipe.predict_proba(SENTENCES).shape == (3, 3)
    with pytest.raises(ValueError, match="Document 1 does not fit in one chunk, .* its 3 chunks .*GGUFClassifier"):
        pipe.predict_proba([SENTENCES[0], LONG])


def test_diagnoses_of_documents_in_chunks(tiny_model):
    clf = classifier(tiny_model, truncation=Chunks(SIZE), n_label_orders=2).fit()
    found = clf.diagnose([LONG, SENTENCES[1]])
    alone = classifier(tiny_model).fit().diagnose(SENTENCES)
    assert found.document.tolist() == [0, 0, 0, 1]
    assert found.steps.shape[0] == 4 and found.disagreement.shape == found.label_mass.shape == (2,)
    assert same(found.proba, clf.predict_proba([LONG, SENTENCES[1]]))
    weights = [tokens_of(text, tiny_model) for text in SENTENCES]
    assert_allclose(found.label_mass, [np.average(alone.label_mass, weights=weights), alone.label_mass[1]])
    selective = SelectiveClassifier(clf, criterion="label_mass", coverage=0.5, cv="prefit").fit([LONG, *SENTENCES])
    assert selective.predict([LONG, *SENTENCES]).shape == (4, 3)


def test_what_is_fitted_sees_pooled_documents(tiny_model, tmp_path):
    texts = [f"{LONG} {text}" for text in TEXTS]
    params = {"truncation": Chunks(SIZE + 2), "memory": tmp_path, "content_free": ["N/A"]}
    plain = classifier(tiny_model, **params).fit()
    clf = classifier(tiny_model, aligner="platt", **params).fit(texts, H)
    expected = clf.aligner_.predict_proba(plain.predict_proba(texts))
    assert_allclose(clf.predict_proba(texts), expected)
    probe = classifier(tiny_model, method="linear_probe", truncation=Chunks(SIZE)).fit(texts, H)
    assert probe.predict_proba(texts[:2]).shape == (2, 3)


def test_poolings_are_searched_as_any_parameter(tiny_model, tmp_path):
    grid = {"truncation": [Chunks(SIZE, pooling=how) for how in ("max", "mean")]}
    base = classifier(tiny_model, memory=tmp_path)
    search = GridSearchCV(base, grid, cv=2, error_score="raise").fit([LONG + text for text in TEXTS], (H > 0.5) * 1)
    assert clone(search.best_estimator_).truncation in grid["truncation"]


@pytest.mark.parametrize(
    ("make_chunks", "message"),
    [
        (lambda: Chunks(size=0), "Got size=0 but expected a positive integer"),
        (
            lambda: Chunks(size=10, overlap=10),
            "Got overlap=10 but expected fewer tokens than a chunk has: less",
        ),
        (lambda: Chunks(overlap=-1), "Got overlap=-1 but expected a positive integer"),
        (lambda: Chunks(pooling="median"), "Got pooling='median' but expected one of 'max', 'mean', 'noisy_or'"),
    ],
)
def test_bad_chunks(make_chunks, message):
    with pytest.raises(ValueError, match=message):
        make_chunks()


def test_chunks_that_the_context_has_no_room_for(tiny_model, decoded):
    decoded()
    for chunks, message in [
        (Chunks(size=5000), r"Got chunks of size=5000 but only \d+ tokens fit beside the prompt \(n_ctx=900\)"),
        (Chunks(overlap=2000), r"Got overlap=2000 but expected fewer tokens than a chunk has: less than \d+\."),
    ]:
        with pytest.raises(ValueError, match=message):
            classifier(tiny_model, truncation=chunks, n_ctx=900).fit().predict_proba(TEXTS)
    with pytest.raises(ValueError, match="The prompt does not fit"):
        GGUFClassifier(tiny_model, labels=LABELS, truncation="chunk", n_ctx=100).fit().predict_proba(TEXTS)
    assert decoded() == 0

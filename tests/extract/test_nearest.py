"""Demonstrations that are nearest to each document, against the same ones given by hand."""

import numpy as np
import pytest
from ecosystem_data import LABELS, classifier, extractor, same
from inside import loaded, prepared
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from tiny_gguf import CHATML, write_tiny_gguf

from skmlmc import (
    Chunks,
    EmbeddingExtractor,
    HiddenStateExtractor,
    MarginalExtractor,
    PairwiseExtractor,
    PromptTemplate,
    StepwiseExtractor,
    UnaryExtractor,
)
from skmlmc.analysis import attention_to_labels
from skmlmc.finetune import FinetunedClassifier, answer_log_probability

WORDS = "we won the game and my dog came home in rain singing a song that nobody likes but me".split()
TEXTS = [" ".join(words) for words in np.random.default_rng(0).choice(WORDS, (20, 7))]  # none are equally near
H = np.tile([[0.8, 0, 0], [0, 0.2, 0.6], [0, 1, 0.6], [0, 0.2, 0]], (5, 1))
NEW = ["we won the dog in rain", "nobody has seen me singing the song", "and so what"]
SHOTS = 4


def nearest_by_hand(text, shots=SHOTS):
    """Sort all documents by their cosine, and take the first of which at most half have the same labels."""
    words = TfidfVectorizer(token_pattern=r"\b\w+\b", sublinear_tf=True).fit(TEXTS)
    order = np.argsort(-cosine_similarity(words.transform([text]), words.transform(TEXTS))[0], kind="stable")
    order = [i for i in order if TEXTS[i] != text][: 4 * shots]
    labels = {i: tuple(np.array(LABELS)[H[i] > 0.5]) for i in order}
    chosen, put_off = [], []
    for i in order:
        same_labels = [k for k in order[: order.index(i)] if labels[k] == labels[i]]
        (chosen if len(same_labels) < shots / 2 else put_off).append(i)
    kept = sorted((chosen + put_off)[:shots], key=order.index)
    return [(TEXTS[i], list(labels[i])) for i in reversed(kept)]


def shown_to(fitted, text):
    """Read the demonstrations off the prompt's text."""
    lines = fitted.prompt_text(text).split("\n")
    shown = [line.partition("Input:")[2].removesuffix("<|im_end|>") for line in lines if line.startswith("Input:")]
    return [text.strip() for text in shown[:-1]]


@pytest.fixture(params=["plain", "chat", "chat that trims"])
def model(request, tmp_path_factory):
    trims = CHATML.replace("turn['content']", "turn['content'] | trim")
    template = {"plain": None, "chat": CHATML, "chat that trims": trims}[request.param]
    path = tmp_path_factory.mktemp("near") / "tiny.gguf"
    return write_tiny_gguf(path, chat_template=template, add_bos=template is not None, n_ctx=4096)


@pytest.mark.parametrize("text", [*TEXTS[:3], NEW[0]])
def test_which_are_shown(text, tiny_model):
    fitted = extractor(tiny_model, shots=SHOTS, demonstrations="nearest").fit(TEXTS, H)
    by_hand = nearest_by_hand(text)
    assert text not in [shown for shown, _ in by_hand]
    given = extractor(tiny_model, demonstrations=by_hand).fit()
    assert fitted.prompt_text(text) == given.prompt_text(text)
    assert same(fitted.transform([text]), given.transform([text]))


@pytest.mark.parametrize("cls", [StepwiseExtractor, MarginalExtractor, HiddenStateExtractor])
def test_agrees_with_the_same_ones_given_by_hand(cls, model):
    params = {"kv_dtype": "float32"}
    fitted = extractor(model, cls, shots=SHOTS, demonstrations="nearest", **params).fit(TEXTS, H)
    documents = [TEXTS[5], *NEW, "", "  spaces  "]
    found = fitted.transform(documents)
    labels = dict(zip(TEXTS, (np.array(LABELS)[row > 0.5] for row in H), strict=True))
    for text, row in zip(documents, found, strict=True):
        by_hand = [(shown, list(labels[shown])) for shown in shown_to(fitted, text)]
        alone = extractor(model, cls, demonstrations=by_hand, **params).fit()
        assert alone.prompt_text(text) == fitted.prompt_text(text)
        assert_allclose(alone.transform([text])[0], row, atol=1e-5)


def test_a_document_depends_on_itself_alone(tiny_model):
    fitted = extractor(tiny_model, shots=SHOTS, demonstrations="nearest").fit(TEXTS, H)
    whole = fitted.transform(NEW + TEXTS)
    assert same(fitted.transform(TEXTS[::-1])[::-1], whole[3:])
    assert same(clone(fitted).set_params(n_jobs=2).fit(TEXTS, H).transform(NEW), whole[:3])


def test_what_is_shared_is_decoded_once(tiny_model, decoded):
    fitted = extractor(tiny_model, shots=SHOTS, demonstrations="nearest", max_labels=1).fit(TEXTS, H)
    fitted.transform(NEW[:1])  # and how the model begins, behind another prompt
    fitted.transform(NEW[:1])
    decoded()
    fitted.transform(NEW[:1])
    once = decoded()
    zero = extractor(tiny_model, max_labels=1).fit()
    whole = len(loaded(tiny_model).tokenize(fitted.prompt_text(NEW[0]), True))
    assert prepared(fitted).prefix == prepared(zero).prefix, "the instruction, up to the first text"
    assert once < whole - len(prepared(zero).prefix) + 60  # labels


def test_cached_by_what_is_shown(tiny_model, tmp_path, decoded):
    fitted = extractor(tiny_model, shots=2, demonstrations="nearest", memory=tmp_path)
    before = clone(fitted).fit(TEXTS, H).transform(NEW[:1])
    decoded()
    far = [*TEXTS, "Something else entirely"]
    again = clone(fitted).fit(far, np.vstack([H, [1, 0, 0]])).transform(NEW[:1])
    assert same(again, before) and decoded() == 0
    other = clone(fitted).fit(TEXTS, H[:, ::-1]).transform(NEW[:1])
    assert decoded() > 0 and not same(other, before)


def test_no_document_is_its_own_demonstration(tiny_model):
    copies = [*TEXTS, *TEXTS]
    fitted = extractor(tiny_model, shots=SHOTS, demonstrations="nearest").fit(copies, np.vstack([H, H]))
    for text in TEXTS:
        assert len(shown_to(fitted, text)) == SHOTS and text not in shown_to(fitted, text)
    few = extractor(tiny_model, shots=SHOTS, demonstrations="nearest").fit(TEXTS[:SHOTS], H[:SHOTS])
    assert len(shown_to(few, TEXTS[0])) == SHOTS - 1
    assert few.transform([TEXTS[0]]).shape == (1, 3, 4)


def test_not_all_show_the_same_labels(tiny_model):
    texts = [f"We won the game {i}" for i in range(12)] + ["We lost the game", "We lost the other game"]
    Y = np.repeat([[1, 0, 0], [0, 1, 0]], [12, 2], axis=0)
    fitted = extractor(tiny_model, shots=4, demonstrations="nearest").fit(texts, Y)
    shown = shown_to(fitted, "We won the game again")
    assert sum("lost" in text for text in shown) == 2 and "won" in shown[-1]
    every = extractor(tiny_model, shots=13, demonstrations="nearest").fit(texts, Y)
    assert len(shown_to(every, "We won the game again")) == 13, "of one label set as many as there have to be"


def test_the_majoritys_labels_are_shown_of_documents_that_have_one(tiny_model):
    split = [0.4, 0.4, 0.2]  # no majority for a label, nor for none
    fitted = extractor(tiny_model, shots=2, demonstrations="nearest").fit([*TEXTS, f"{NEW[0]}!"], [*H, split])
    assert f"{NEW[0]}!" not in shown_to(fitted, NEW[0])
    with pytest.warns(UserWarning, match="Most annotators agree on 0 of 4"):
        extractor(tiny_model, shots=2, demonstrations="nearest").fit(TEXTS[:4], [split] * 4)


@pytest.mark.parametrize("memory", [False, True])
def test_any_retriever(memory, tiny_model, tiny_encoder, tmp_path):
    fronts = [
        CountVectorizer(analyzer="char_wb", ngram_range=(2, 3)),
        EmbeddingExtractor(tiny_encoder, memory=tmp_path if memory else None),
        HiddenStateExtractor(tiny_model, read="document", n_threads=1),
    ]
    for front in fronts:
        retriever = make_pipeline(front, NearestNeighbors(metric="cosine"))
        fitted = extractor(tiny_model, shots=2, demonstrations=retriever).fit(TEXTS, H)
        features = clone(front).fit(TEXTS).transform([NEW[0], *TEXTS])
        features = np.asarray(features.todense() if hasattr(features, "todense") else features)
        nearest = TEXTS[int(np.argmax(cosine_similarity(features[:1], features[1:])[0]))]
        assert shown_to(fitted, NEW[0])[-1] == nearest
        assert fitted.learns_from_documents() and not hasattr(retriever[-1], "n_samples_fit_")


class Alphabet(BaseEstimator):
    """A retriever that takes texts as they are."""

    def fit(self, X, y=None):
        self.texts_ = sorted(range(len(X)), key=X.__getitem__)
        return self

    def kneighbors(self, X, n_neighbors, return_distance):
        return np.tile(self.texts_[:n_neighbors], (len(X), 1))


def test_a_retriever_of_texts(tiny_model):
    fitted = extractor(tiny_model, shots=2, demonstrations=Alphabet()).fit(TEXTS, H)
    assert shown_to(fitted, "whatever") == sorted(TEXTS)[:2][::-1]


def test_in_the_classifier(tiny_model, tmp_path):
    params = {"shots": 2, "demonstrations": "nearest", "memory": tmp_path}
    clf = classifier(tiny_model, n_label_orders=2, content_free=["N/A"], **params).fit(TEXTS, H)
    assert all(part.extractor_.retriever_ is not None for part in clf.extractors_)
    assert clf.predict_proba(NEW).shape == (3, 3) and clf.prompt_text(NEW[0]).count("Input:") == 3
    aligned = classifier(tiny_model, aligner="platt", **params).fit(TEXTS, H)
    plain = classifier(tiny_model, **params).fit(TEXTS, H)
    # Each document is read without itself, in fit as later.
    expected = aligned.aligner_.predict_proba(plain.predict_proba(TEXTS))
    assert_allclose(aligned.predict_proba(TEXTS), expected)
    assert plain.learns_from_documents() and classifier(tiny_model, threshold="tune", **params).fit(TEXTS, H)
    probe = classifier(tiny_model, method="linear_probe", **params).fit(TEXTS, H)
    assert probe.predict_proba(NEW).shape == (3, 3)


def test_held_out_documents_see_those_of_their_fold_alone(tiny_model):
    """Where a document is held out, its labels change nothing that is predicted of it."""
    clf = classifier(tiny_model, shots=2, demonstrations="nearest")
    Y = (H > 0.5).astype(int)
    before = cross_val_predict(clf, TEXTS, Y, cv=4, method="predict_proba")
    changed = Y.copy()
    changed[:5] = 1 - changed[:5]  # the first fold
    after = cross_val_predict(clf, TEXTS, changed, cv=4, method="predict_proba")
    assert same(before[:5], after[:5]) and not same(before[5:], after[5:])


def test_the_retriever_is_searched_as_any_parameter(tiny_model, tmp_path):
    retriever = make_pipeline(TfidfVectorizer(), NearestNeighbors(metric="cosine"))
    base = classifier(tiny_model, shots=2, demonstrations=retriever, memory=tmp_path)
    grid = {"demonstrations__tfidfvectorizer__ngram_range": [(1, 1), (1, 2)]}
    assert GridSearchCV(base, grid, cv=2, error_score="raise").fit(TEXTS, (H > 0.5) * 1).predict(NEW).shape == (3, 3)


def test_long_documents_keep_their_demonstrations(tiny_model):
    params = {"shots": 2, "demonstrations": "nearest", "n_ctx": 700}
    fitted = extractor(tiny_model, truncation="end", **params).fit(TEXTS, H)
    with pytest.warns(UserWarning, match="1 of 1 documents were cut"):
        assert fitted.transform(["We won the dog. " * 200]).shape == (1, 3, 4)
    huge = [f"{text} {'and on ' * 200}" for text in TEXTS]
    with pytest.raises(ValueError, match=r"The demonstrations of document 0 take \d+ tokens but only \d+ fit"):
        extractor(tiny_model, truncation="end", **params).fit(huge, H).transform(NEW)
    with pytest.raises(ValueError, match="Document 0 has"):
        extractor(tiny_model, **params).fit(huge, H).transform(NEW)


def test_other_readings_show_them_or_refuse(tiny_model):
    clf = classifier(tiny_model, shots=2, demonstrations="nearest", prompt=PromptTemplate(mode="plain")).fit(TEXTS, H)
    shown = [(text, list(np.array(LABELS)[H[TEXTS.index(text)] > 0.5])) for text in shown_to(clf, NEW[0])]
    fixed = classifier(tiny_model, demonstrations=shown, prompt=PromptTemplate(mode="plain")).fit()
    asked = NEW[:1], [["joy"]]
    assert_allclose(answer_log_probability(clf, *asked), answer_log_probability(fixed, *asked), atol=1e-4)
    assert clf.model_report().n_prompt < fixed.model_report().n_prompt
    with pytest.raises(ValueError, match="nearest to each document, which would count as tokens of the document"):
        attention_to_labels(clf.extractors_[0], NEW)
    with pytest.raises(ValueError, match="Got a classifier with demonstrations='nearest'"):
        FinetunedClassifier(clone(clf)).fit(TEXTS, H)


NO_NEAREST = [
    (UnaryExtractor, {}, "Got demonstrations='nearest' for questions"),
    (PairwiseExtractor, {}, "Got demonstrations='nearest' for questions"),
    (StepwiseExtractor, {"truncation": "chunk"}, "with truncation='chunk': expected truncation=None, 'end' or 'start'"),
    (StepwiseExtractor, {"truncation": Chunks(9)}, "expected truncation=None, 'end' or 'start'"),
    (StepwiseExtractor, {"shots": 21}, "Got shots=21 but there are only 20 documents to find the nearest among"),
    (StepwiseExtractor, {"demonstrations": TfidfVectorizer()}, "expected a retriever: .* with fit and kneighbors"),
    (StepwiseExtractor, {"demonstrations": NearestNeighbors}, "expected a retriever: .* with fit and kneighbors"),
    (StepwiseExtractor, {"demonstrations": make_pipeline(TfidfVectorizer(), KMeans())}, "expected a retriever"),
    (
        StepwiseExtractor,
        {"demonstrations": "near"},
        "expected one of 'multilabel', 'balanced', 'random', 'nearest'",
    ),
    (HiddenStateExtractor, {"layer": 1, "pooling": "mean"}, "Got pooling='mean' with demonstrations that are nearest"),
    (HiddenStateExtractor, {"read": "document"}, 'Got shots=3 with read="document"'),
]


@pytest.mark.parametrize(("cls", "params", "message"), NO_NEAREST)
def test_refused_before_anything_is_decoded(cls, params, message, tiny_model, decoded):
    decoded()
    with pytest.raises((ValueError, TypeError), match=message):
        extractor(tiny_model, cls, **{"shots": 3, "demonstrations": "nearest", **params}).fit(TEXTS, H)
    assert decoded() == 0


@pytest.mark.parametrize("data", [(), (TEXTS,)])
def test_documents_and_targets_are_needed(data, tiny_model):
    with pytest.raises(ValueError, match="Got shots=3 but fit got no [Xy] to draw demonstrations from"):
        extractor(tiny_model, shots=3, demonstrations="nearest").fit(*data)

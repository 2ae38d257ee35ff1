"""What documents without targets teach: offsets that make means priors, and how many label orders are enough."""

import numpy as np
import pandas as pd
import pytest
from ecosystem_data import LABELS, TEXTS, H, classifier, extractor, same
from scipy.special import logit, softmax
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skmlmc import GGUFClassifier, MaxOverGenerations, PriorCorrection, ScalingAligner, UnaryBreakdown, UnaryExtractor
from skmlmc.calibrate import diagnose

RNG = np.random.default_rng(0)
P = RNG.random((60, 3)) ** 2
ONE = softmax(3 * RNG.normal(size=(60, 3)), axis=1)
HARD = np.eye(3)[RNG.integers(0, 3, 60)]
PRIOR = [0.1, 0.6, 0.3]


@pytest.mark.parametrize("multi_label, X", [(True, P), (True, HARD), (False, ONE), (False, HARD)])
def test_means_become_the_prior(multi_label, X):
    aligner = PriorCorrection(PRIOR, multi_label=multi_label).fit(X)
    made = aligner.predict_proba(X)
    np.testing.assert_allclose(made.mean(axis=0), PRIOR, atol=1e-6)
    assert multi_label or np.allclose(made.sum(axis=1), 1)
    inside = (X > 1e-6) & (X < 1 - 1e-6)
    moved = logit(made) - logit(X.clip(1e-9, 1 - 1e-9)) if multi_label else np.log(made) - np.log(X.clip(1e-9))
    if multi_label and inside.all():
        np.testing.assert_allclose(moved, np.tile(aligner.offsets_, (60, 1)), atol=1e-6)
    elif inside.all():  # the same but for what makes each row sum to 1
        np.testing.assert_allclose(moved - moved[:, :1], moved[:1] - moved[:1, :1] + np.zeros((60, 1)), atol=1e-6)


def test_labels_come_up_equally_often_where_nobody_knows_better():
    made = PriorCorrection().fit_transform(P * [1, 0.1, 0.5])
    np.testing.assert_allclose(made.mean(axis=0), (P * [1, 0.1, 0.5]).mean(), atol=1e-9)
    single = PriorCorrection(multi_label=False).fit_transform(ONE)
    np.testing.assert_allclose(single.mean(axis=0), 1 / 3, atol=1e-9)


def test_one_number_is_for_all_labels_and_names_find_theirs():
    np.testing.assert_allclose(PriorCorrection(0.2).fit_transform(P).mean(axis=0), 0.2, atol=1e-9)
    table = pd.DataFrame(P, columns=LABELS)
    named = PriorCorrection({"sadness": 0.3, "joy": 0.1, "anger": 0.6}).fit(table)
    np.testing.assert_allclose(named.predict_proba(table[LABELS[::-1]]).mean(axis=0), PRIOR, atol=1e-9)


def test_weights_count_documents():
    weights = RNG.integers(0, 3, 60)
    twice = PriorCorrection(PRIOR).fit(np.repeat(P, weights, axis=0)).predict_proba(P)
    np.testing.assert_allclose(PriorCorrection(PRIOR).fit(P, sample_weight=weights).predict_proba(P), twice, atol=1e-9)


def test_targets_say_nothing_but_names():
    expected = PriorCorrection().fit(P).predict_proba(P)
    assert same(PriorCorrection().fit(P, (P > 0.5).astype(int)).predict_proba(P), expected)


BAD_PRIORS = [
    (0, ValueError, r"Got prior=0 but expected a number in \(0, 1\).*outside \(0, 1\)"),
    (1.0, ValueError, "outside"),
    ([0.1, 0.2], ValueError, "Got a prior of 2 numbers but expected"),
    ([0.1, 0.2, 1.2], ValueError, "1.2 is outside"),
    ([0.1, 0.2, float("nan")], ValueError, "nan is outside"),
    ("even", TypeError, "Got prior='even' but expected"),
    ({"joy": 0.1, "anger": 0.2, "fear": 0.2}, ValueError, r"missing: \['sadness'\], unexpected: \['fear'\]"),
]


@pytest.mark.parametrize("prior, error, message", BAD_PRIORS, ids=[str(case[0]) for case in BAD_PRIORS])
def test_priors_that_cannot_be(prior, error, message, tiny_model, decoded):
    """Also before a classifier decodes anything, and within a pipeline."""
    with pytest.raises(error, match=message):
        PriorCorrection(prior).fit(extractor(tiny_model, UnaryExtractor).fit().transform(TEXTS))
    decoded()
    for aligner in (PriorCorrection(prior), make_pipeline(UnaryBreakdown(), PriorCorrection(prior))):
        with pytest.raises(error, match=message):
            classifier(tiny_model, aligner=aligner).fit(TEXTS)
    assert decoded() == 0


def test_what_else_is_refused(tiny_model, decoded):
    with pytest.raises(ValueError, match="Got n_samples=1 but expected at least 2 documents"):
        PriorCorrection().fit(P[:1])
    with pytest.raises(ValueError, match="shares sum to 0.6. With multi_label=False expected them to sum to 1"):
        PriorCorrection(0.2, multi_label=False).fit(ONE)
    decoded()
    aligner = PriorCorrection()
    with pytest.raises(ValueError, match="Got 4 documents, of which 4 .* but expected at least 5"):
        classifier(tiny_model, aligner=aligner).fit(TEXTS[:4])
    with pytest.raises(ValueError, match=r"Expected texts: aligner=PriorCorrection\(\) is .* Call fit\(texts\)"):
        classifier(tiny_model, aligner=aligner).fit()
    for other in (make_pipeline(ScalingAligner(), PriorCorrection()), ScalingAligner()):
        with pytest.raises(ValueError, match="Expected texts and targets: aligner="):
            classifier(tiny_model, aligner=other).fit(TEXTS)
    with pytest.raises(ValueError, match="Expected texts and targets: method='linear_probe'"):
        classifier(tiny_model, aligner=aligner, method="linear_probe").fit(TEXTS)
    with pytest.raises(ValueError, match="expected the same task for both"):
        classifier(tiny_model, aligner=aligner, multi_label=False).fit(TEXTS)
    assert decoded() == 0


@pytest.mark.parametrize("method", ["max_over_generations", "unary_breakdown", "marginal_over_generations"])
def test_a_classifier_learns_it_from_texts_alone(method, tiny_model):
    prior = dict(zip(LABELS, PRIOR, strict=True))
    fitted = classifier(tiny_model, method=method, aligner=PriorCorrection(prior)).fit(TEXTS)
    made = fitted.predict_proba(TEXTS)
    np.testing.assert_allclose(made.mean(axis=0), PRIOR, atol=1e-9)
    plain = classifier(tiny_model, method=method).fit().predict_proba(TEXTS)
    np.testing.assert_allclose(made, PriorCorrection(PRIOR).fit_transform(plain), atol=1e-12)
    told = clone(fitted).fit(TEXTS, H)  # what people say is not looked at
    assert same(told.predict_proba(TEXTS), made)
    assert same(diagnose(fitted, TEXTS).proba, made) and fitted.learns_from_documents()


def test_behind_an_extractor_of_a_pipeline(tiny_model):
    prior = dict(zip(LABELS, PRIOR, strict=True))
    pipe = make_pipeline(extractor(tiny_model), MaxOverGenerations(), PriorCorrection(prior)).fit(TEXTS)
    np.testing.assert_allclose(pipe.predict_proba(TEXTS).mean(axis=0), PRIOR, atol=1e-9)
    assert list(pipe[-1].labels_) == LABELS and pipe.predict(TEXTS).shape == H.shape


@pytest.mark.parametrize("classes", [["a", "b", "c"], [3, 1, 2]])
def test_behind_classes(classes, tiny_model):
    y = np.array(classes)[np.arange(len(TEXTS)) % 3]
    labels = dict(zip(classes, LABELS, strict=True))
    prior = dict(zip(classes, PRIOR, strict=True))
    aligner = PriorCorrection(prior, multi_label=False)
    fitted = GGUFClassifier(tiny_model, labels=labels, multi_label=False, aligner=aligner, n_threads=1).fit(TEXTS, y)
    made = fitted.predict_proba(TEXTS)
    expected = [prior[label] for label in fitted.classes_.tolist()]
    np.testing.assert_allclose(made.mean(axis=0), expected, atol=1e-6)
    alone = GGUFClassifier(tiny_model, labels=labels, multi_label=False, aligner=aligner, n_threads=1).fit(TEXTS)
    np.testing.assert_allclose(alone.predict_proba(TEXTS), made, atol=1e-9)


@pytest.mark.parametrize("change", [0.3, 0.02, 1e-9])
def test_orders_until_one_more_changes_hardly_anything(change, tiny_model, monkeypatch):
    monkeypatch.setattr("skmlmc.classifier.ORDER_CHANGE", change)
    found = classifier(tiny_model, n_label_orders="auto", random_state=0).fit(TEXTS)
    n = len(found.extractors_)
    assert n == {0.3: 2, 1e-9: 6}.get(change, n)  # three labels have six orders
    counted = [classifier(tiny_model, n_label_orders=k, random_state=0).fit() for k in range(1, n + 1)]
    means = [one.predict_proba(TEXTS) for one in counted]
    assert same(means[-1], found.predict_proba(TEXTS))
    steps = [abs(a - b).mean() for a, b in zip(means[1:], means, strict=False)]
    assert all(step >= change for step in steps[:-1]) and (steps[-1] < change or n == 6)
    assert "disagreement" in found.document_criteria and found.learns_from_documents()


def test_orders_are_found_without_decoding_twice(tiny_model, decoded, tmp_path):
    """What the aligner is fitted on is what told how many orders there are; the cache has it afterwards."""
    params = {"n_label_orders": "auto", "random_state": 0, "memory": tmp_path, "aligner": PriorCorrection()}
    decoded()
    fitted = classifier(tiny_model, **params).fit(TEXTS)
    spent = decoded()
    made = fitted.predict_proba(TEXTS)
    assert decoded() == 0
    n = len(fitted.extractors_)
    counted = classifier(tiny_model, **{**params, "n_label_orders": n, "memory": None}).fit(TEXTS)
    assert decoded() == spent and same(counted.predict_proba(TEXTS), made)


def test_orders_need_some_documents(tiny_model, decoded):
    decoded()
    with pytest.raises(ValueError, match=r"Expected texts: n_label_orders='auto' is fitted on them. Call fit\(texts\)"):
        classifier(tiny_model, n_label_orders="auto").fit()
    for wrong in ("all", 0, -1, 1.5, None, True):
        with pytest.raises(ValueError, match="Got n_label_orders=.* but expected a positive integer or 'auto'"):
            classifier(tiny_model, n_label_orders=wrong).fit(TEXTS)
    assert decoded() == 0


def test_a_part_of_many_documents_is_enough(tiny_model, decoded, monkeypatch, tmp_path):
    monkeypatch.setattr("skmlmc.classifier.ORDER_DOCUMENTS", 7)
    classifier(tiny_model, n_label_orders="auto", random_state=0, memory=tmp_path).fit(TEXTS)
    decoded()
    classifier(tiny_model, memory=tmp_path).fit().predict_proba(TEXTS[::3])
    assert decoded() == 0
    classifier(tiny_model, memory=tmp_path).fit().predict_proba(TEXTS[1:3])
    assert decoded() > 0

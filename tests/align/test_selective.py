"""Abstaining: who is left out, how many, and what is refused before anything is asked."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from test_thresholds import LABELS, NUMBERS, PROBA, H, N, Told, X, Y

from skmlmc import GGUFClassifier, MaxOverGenerations, StepwiseExtractor, UnaryBreakdown, UnaryExtractor
from skmlmc.calibrate import LinearProbe, SelectiveClassifier, ThresholdTuner, diagnose
from skmlmc.metrics import example_f1

TEXTS = [f"text {k} {'word ' * (k % 4)}" for k in range(12)]


@pytest.fixture(autouse=True)
def forget():
    Told.asked = []


def slow_uncertainty(criterion, p, thresholds):
    if criterion == "entropy":
        return sum(-q * np.log(q) - (1 - q) * np.log(1 - q) for q in p)
    odds = [(np.log(q / (1 - q)), np.log(t / (1 - t))) for q, t in zip(p, thresholds, strict=True)]
    return -min(abs(a - b) for a, b in odds)


@pytest.mark.parametrize("criterion", ["entropy", "threshold_distance"])
@pytest.mark.parametrize("coverage", [0.05, 0.5, 0.8, 1])
def test_the_least_sure_are_left_out(criterion, coverage):
    clf = SelectiveClassifier(Told(PROBA), coverage=coverage, criterion=criterion).fit(NUMBERS, Y)
    slow = np.array([slow_uncertainty(criterion, p, [0.5] * 3) for p in PROBA])
    assert_allclose(clf.uncertainty(NUMBERS), slow, atol=1e-9)
    kept = ~clf.abstains(NUMBERS)
    assert kept.mean() == clf.coverage_ and coverage <= clf.coverage_ < coverage + 1 / N + 1e-9
    assert slow[kept].max() <= slow[~kept].min(initial=np.inf)
    sets = clf.predict(NUMBERS)
    assert (sets[~kept] == -1).all()
    assert_array_equal(sets[kept], PROBA[kept] >= 0.5)
    assert_array_equal(clf.predict_proba(NUMBERS), PROBA)
    assert clf.score(NUMBERS, H) == example_f1(Y[kept], sets[kept])


def test_coverage_comes_from_documents_held_out():
    """A document that was fitted on is surer than any other; what is answered of new ones is what was asked for."""
    clf = SelectiveClassifier(Told(PROBA, learns=True), coverage=0.6).fit(NUMBERS, Y)
    assert_array_equal(np.sort(np.concatenate(Told.asked)), np.arange(N))
    held_out = SelectiveClassifier(Told(PROBA), coverage=0.6).fit(NUMBERS, Y)
    assert clf.cutoff_ == held_out.cutoff_ and clf.coverage_ == held_out.coverage_


def test_what_learns_nothing_needs_no_targets_and_is_asked_once():
    for estimator in (Told(PROBA), FrozenEstimator(Told(PROBA).fit(NUMBERS))):
        Told.asked = []
        clf = SelectiveClassifier(estimator, cv=3).fit(NUMBERS)
        assert [len(rows) for rows in Told.asked] == [N]
        assert clf.labels_.tolist() == ["label0", "label1", "label2"]
    fitted = LinearProbe(None).fit(X, pd.DataFrame(H, columns=LABELS))
    clf = SelectiveClassifier(fitted, cv="prefit").fit(X)
    assert clf.labels_.tolist() == LABELS and clf.estimator_ is fitted
    with pytest.raises(ValueError, match="requires y to be passed"):
        SelectiveClassifier(Told(PROBA, learns=True)).fit(NUMBERS)


def test_thresholds_are_those_of_the_estimator():
    tuner = ThresholdTuner(Told(PROBA), shrinkage=0)
    clf = SelectiveClassifier(tuner, criterion="threshold_distance").fit(NUMBERS, Y)
    thresholds = clf.estimator_.thresholds_
    assert_allclose(clf.uncertainty(NUMBERS), [slow_uncertainty("", p, thresholds) for p in PROBA], atol=1e-9)
    kept = ~clf.abstains(NUMBERS)
    assert_array_equal(clf.predict(NUMBERS)[kept], PROBA[kept] >= thresholds)
    named = LinearProbe(None, threshold={"joy": 0.1, "anger": 0.2, "sadness": 0.3})
    table = pd.DataFrame(H, columns=LABELS)
    clf = SelectiveClassifier(make_pipeline(FunctionTransformer(), named), coverage=1).fit(X, table)
    assert_array_equal(clf.predict(X), clf.predict_proba(X) >= [0.1, 0.2, 0.3])
    turned = SelectiveClassifier(clf.estimator_, cv="prefit", coverage=1).fit(X, table[LABELS[::-1]])
    assert_array_equal(turned.predict(X), clf.predict(X)[:, ::-1])


def test_weights_and_ties():
    w = np.where(np.arange(N) < 60, 3, 1)
    clf = SelectiveClassifier(Told(PROBA), coverage=0.5).fit(NUMBERS, Y, sample_weight=w)
    kept = ~clf.abstains(NUMBERS)
    assert w[kept].sum() / w.sum() == pytest.approx(clf.coverage_) and 0.5 <= clf.coverage_ < 0.52
    same = SelectiveClassifier(Told(np.full((N, 3), 0.3)), coverage=0.1).fit(NUMBERS, Y)
    assert same.coverage_ == 1 and not same.abstains(NUMBERS).any(), "all are just as sure"


def test_nothing_answered():
    clf = SelectiveClassifier(Told(PROBA), coverage=0.1).fit(NUMBERS, Y)
    hard = NUMBERS[clf.abstains(NUMBERS)]
    with pytest.warns(UserWarning, match="abstains on all documents"):
        assert np.isnan(clf.score(hard, Y[hard[:, 0]]))


def test_a_models_diagnosis(tiny_model, decoded):
    pipe = make_pipeline(StepwiseExtractor(tiny_model, labels=LABELS), MaxOverGenerations())
    front = GGUFClassifier(tiny_model, labels=LABELS)
    for estimator in (pipe, front):
        clf = SelectiveClassifier(estimator, coverage=0.5, criterion="label_mass").fit(TEXTS)
        decoded()
        proba = clf.predict_proba(TEXTS)
        spent = decoded()
        found = clf.diagnose(TEXTS)
        assert decoded() == spent, "from one pass"
        assert_array_equal(found.proba, proba)
        assert_array_equal(found.uncertainty, -found.label_mass)
        assert_array_equal(found.abstains, clf.abstains(TEXTS))
        assert clf.coverage_ == 0.5 and (~found.abstains).mean() == 0.5
        assert found.steps.shape[0] == len(TEXTS) and clf.labels_.tolist() == LABELS
    searched = GridSearchCV(pipe, {"maxovergenerations__threshold": [0.3, 0.5]}, cv=2).fit(TEXTS, Y[:12])
    tuned = ThresholdTuner(front).fit(TEXTS, Y[:12])
    for estimator in (searched, tuned, FrozenEstimator(pipe.fit(TEXTS))):
        assert_array_equal(diagnose(estimator, TEXTS).label_mass, found.label_mass)
        assert_array_equal(diagnose(estimator, TEXTS).proba, estimator.predict_proba(TEXTS))


def test_disagreement_of_label_orders(tiny_model):
    several = GGUFClassifier(tiny_model, labels=LABELS, n_label_orders=3, random_state=0)
    clf = SelectiveClassifier(several, criterion="disagreement").fit(TEXTS)
    inner = clf.estimator_
    parts = [
        readout.predict_proba(extractor.transform(TEXTS))
        for extractor, readout in zip(inner.extractors_, inner.readouts_, strict=True)
    ]
    assert_allclose(clf.uncertainty(TEXTS), np.std(parts, axis=0).sum(axis=1))
    assert (clf.uncertainty(TEXTS) > 0).all()
    one = GGUFClassifier(tiny_model, labels=LABELS).fit()
    assert "disagreement" not in one.diagnose(TEXTS)


@pytest.mark.parametrize("criterion", ["label_mass", "disagreement"])
def test_what_an_estimator_cannot_say(criterion, tiny_model, decoded):
    asked = {"labels": LABELS, "n_threads": 1}
    decoded()
    for estimator in (
        Told(PROBA),
        GGUFClassifier(tiny_model, **asked, method="unary_breakdown"),
        make_pipeline(UnaryExtractor(tiny_model, **asked), UnaryBreakdown()),
        MultiOutputClassifier(LogisticRegression()),
    ):
        with pytest.raises(
            ValueError, match=rf"(?s)Got criterion='{criterion}' with .*, which does not say it. Expected"
        ):
            SelectiveClassifier(estimator, criterion=criterion).fit(TEXTS, Y[:12])
    assert decoded() == 0 and not Told.asked


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"coverage": 0}, r"coverage=0 but expected the share of documents to answer, a number in \(0, 1\]"),
        ({"coverage": 1.01}, "coverage=1.01 but expected"),
        ({"coverage": "most"}, "coverage='most' but expected"),
        ({"coverage": float("nan")}, "coverage=nan but expected"),
        ({"criterion": "margin"}, "criterion='margin' but expected one of"),
        ({"criterion": "beginning_mass"}, "criterion='beginning_mass' but expected one of"),
        ({"estimator": LinearProbe}, "expected a multi-label classifier"),
        ({"estimator": LinearProbe(multi_label=False)}, "only several labels leave room for -1"),
        ({"cv": 0}, "cv=0 but expected a positive integer"),
    ],
)
def test_hostile_parameters(params, message):
    clf = SelectiveClassifier(Told(PROBA, learns=True)).set_params(**params)
    with pytest.raises((TypeError, ValueError), match=message):
        clf.fit(NUMBERS, Y)
    assert not [name for name in vars(clf) if name.endswith("_")] and not Told.asked


def test_scikit_learns_machinery():
    clf = SelectiveClassifier(LinearProbe(None, C=1.0), cv=3).fit(X, H)
    again = pickle.loads(pickle.dumps(clf))
    assert_array_equal(again.predict(X), clf.predict(X))
    assert clone(clf).set_params(estimator__C=0.1).estimator.C == 0.1
    forest = SelectiveClassifier(MultiOutputClassifier(LogisticRegression())).fit(X, pd.DataFrame(Y, columns=LABELS))
    assert forest.predict(X).shape == Y.shape and forest.labels_.tolist() == LABELS

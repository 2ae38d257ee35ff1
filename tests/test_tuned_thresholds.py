"""Thresholds that the front doors learn by themselves, beside those of the tuner, and what is decoded for them."""

import numpy as np
import pytest
from ecosystem_data import LABELS, TEXTS, H, Y
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmlmc import GGUFClassifier, LinearProbe, ThresholdTuner, UnaryBreakdown, compare_methods, comparison
from skmlmc.metrics import example_f1

TUNED = [
    {},
    {"aligner": "platt"},
    {"method": "linear_probe"},
    {"method": "linear_probe", "aligner": "platt"},
    {"method": "unary_breakdown", "n_label_orders": 2},
    {"aligner": MultiOutputClassifier(LogisticRegression())},
]


@pytest.mark.parametrize("params", TUNED, ids=str)
def test_thresholds_are_learned_and_nothing_is_decoded_twice(params, tiny_model, decoded):
    given = {"labels": LABELS, "n_threads": 1, "shots": 2, "random_state": 0, **params}
    target = Y if "aligner" in params else H
    for _ in range(2):  # the first decodes the prompt, which is kept
        decoded()
        plain = GGUFClassifier(tiny_model, **given).fit(TEXTS, target)
        spent = decoded()
    tuned = GGUFClassifier(tiny_model, threshold="tune", **given).fit(TEXTS, target)
    rest = [text for text in TEXTS if text not in {shown for shown, _ in plain.demonstrations_}]
    if spent:
        assert decoded() == spent
    else:  # nothing is fitted, so the documents are asked for their thresholds alone
        assert decoded() > 0
        proba = plain.predict_proba(rest)
        majorities = Y[[TEXTS.index(text) for text in rest]]
        by_hand = ThresholdTuner(FrozenEstimator(plain)).fit(rest, majorities)
        np.testing.assert_array_equal(tuned.thresholds_, by_hand.thresholds_)
        np.testing.assert_array_equal(tuned.predict(rest), proba >= tuned.thresholds_)
    np.testing.assert_array_equal(tuned.predict_proba(TEXTS), plain.predict_proba(TEXTS))
    np.testing.assert_array_equal(tuned.predict(TEXTS), tuned.predict_proba(TEXTS) >= tuned.thresholds_)
    assert tuned.thresholds_.shape == (3,) and not hasattr(plain, "thresholds_")


def test_thresholds_are_learned_from_probabilities_held_out(tiny_model):
    """With a probe that knows its documents by heart, 0.5 would do for these; what was held out says something else."""
    heart = {"method": "linear_probe", "method_params": {"C": 1e4, "n_components": None}}
    tuned = GGUFClassifier(tiny_model, labels=LABELS, threshold="tune", **heart).fit(TEXTS, Y)
    seen = ThresholdTuner(tuned, cv="prefit").fit(TEXTS, Y)
    cv = KFold(5, shuffle=True, random_state=0)
    by_hand = ThresholdTuner(GGUFClassifier(tiny_model, labels=LABELS, **heart), cv=cv).fit(TEXTS, Y)
    np.testing.assert_allclose(tuned.thresholds_, by_hand.thresholds_, rtol=1e-4)
    assert abs(tuned.thresholds_ - seen.thresholds_).max() > 1e-3


def test_threshold_tune_is_refused_where_it_says_nothing(tiny_model, decoded):
    decoded()
    asked = {"labels": LABELS, "threshold": "tune"}
    with pytest.raises(ValueError, match="threshold='tune' is fitted on them. Call fit"):
        GGUFClassifier(tiny_model, **asked).fit(TEXTS)
    with pytest.raises(ValueError, match='Got threshold="tune" with multi_label=False'):
        GGUFClassifier(tiny_model, multi_label=False, **asked).fit(TEXTS, Y)
    with pytest.raises(TypeError, match="Got threshold='best' but expected a number"):
        GGUFClassifier(tiny_model, labels=LABELS, threshold="best").fit(TEXTS, Y)
    later = GGUFClassifier(tiny_model, labels=LABELS).fit().set_params(threshold="tune")
    with pytest.raises(ValueError, match="Got threshold='tune' but expected a number or, before fit"):
        later.predict(TEXTS[:2])
    tuned = GGUFClassifier(tiny_model, **asked).fit(TEXTS, Y)
    assert (tuned.set_params(threshold=0.0).predict(TEXTS) == 1).all(), "a number counts at once"
    assert not hasattr(tuned.fit(TEXTS, Y), "thresholds_")


def test_learned_thresholds_are_those_of_other_folds(tiny_model, decoded, monkeypatch):
    monkeypatch.setattr(comparison, "_time", lambda *_: (np.nan, np.nan))
    cv, Y = KFold(3, shuffle=True, random_state=0), H > 0.5
    words = make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0), LinearProbe(None, C=1.0))
    methods = {"asked": GGUFClassifier(tiny_model, labels=LABELS), "words": words}
    decoded()
    GGUFClassifier(tiny_model, labels=LABELS).fit().predict_proba(TEXTS)
    once = decoded()
    table, proba = compare_methods(TEXTS, H, methods, cv=cv, return_proba=True)
    assert decoded() <= once * 1.5, "each document once, and the prompt"
    for name in methods:
        found = []
        for train, test in cv.split(TEXTS):  # what is held out of the other folds is what is trained on
            told = FunctionTransformer(lambda rows, name=name: np.asarray(proba[name])[np.ravel(rows)])
            tuner = ThresholdTuner(FrozenEstimator(make_pipeline(told, UnaryBreakdown()).fit(train[:, None])))
            thresholds = tuner.fit(train[:, None], H[train]).thresholds_
            found.append(example_f1(Y[test], np.asarray(proba[name])[test] >= thresholds))
        row = table["method"].index(name)
        assert table["example_f1_tuned"][row] == pytest.approx(np.mean(found))
        assert table["example_f1_tuned_std"][row] == pytest.approx(np.std(found))


def test_one_fold_has_no_other_to_learn_thresholds_from(tiny_model):
    cv = ShuffleSplit(1, random_state=0)
    table = compare_methods(TEXTS, H, ["compare_to_none"], estimator=GGUFClassifier(tiny_model, labels=LABELS), cv=cv)
    assert np.isnan(table["example_f1_tuned"][1]) and np.isfinite(table["example_f1_tuned"][0])
    single = make_pipeline(TfidfVectorizer(), TruncatedSVD(2), LinearProbe(None, C=1.0, multi_label=False))
    assert "example_f1_tuned" not in compare_methods(TEXTS, np.eye(3)[H.argmax(axis=1)], {"words": single}, cv=2)

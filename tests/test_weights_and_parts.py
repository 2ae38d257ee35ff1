"""What a classifier hands on to its parts: the weights of documents, and the parameters that only a part has."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from ecosystem_data import TEXTS, H, Y, classifier, extractor, same
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmlmc import (
    HiddenStateExtractor,
    LinearProbe,
    MarginalExtractor,
    PairwiseExtractor,
    QuestionTemplate,
    ScalingAligner,
    UnaryExtractor,
)

FEW = TEXTS[:4]
W = np.random.default_rng(1).integers(0, 4, len(TEXTS))
ROWS = np.repeat(np.arange(len(TEXTS)), W)
REPEATED = [TEXTS[i] for i in ROWS]
FIXED = {"C": 1.0, "n_components": None}
FITTED = {
    "platt": {"aligner": "platt"},
    "matrix": {"aligner": ScalingAligner("matrix", C=1.0)},
    "isotonic, calibrated": {"aligner": "isotonic", "content_free": ("N/A",)},
    "orders": {"aligner": "beta", "n_label_orders": 2, "random_state": 0, "method": "compare_to_none"},
    "probe": {"method": "linear_probe", "method_params": FIXED},
    "logistic": {"aligner": MultiOutputClassifier(LogisticRegression())},
}


@pytest.mark.parametrize("params", FITTED.values(), ids=FITTED)
def test_a_weight_is_a_repetition(params, tiny_model):
    targets = Y if "logistic" in str(params).lower() else H
    weighted = classifier(tiny_model, **params).fit(TEXTS, targets, sample_weight=W)
    repeated = classifier(tiny_model, **params).fit(REPEATED, targets[ROWS])
    np.testing.assert_allclose(weighted.predict_proba(TEXTS), repeated.predict_proba(TEXTS), atol=1e-4)
    plain = classifier(tiny_model, **params).fit(TEXTS, targets).predict_proba(TEXTS)
    assert abs(weighted.predict_proba(TEXTS) - plain).max() > 1e-3


def test_weights_behind_a_fitted_readout(tiny_model):
    """The probe's parts are weighted too: documents of weight 0 change nothing, not even which part another is in."""
    params = {"method": "linear_probe", "method_params": FIXED, "aligner": "platt"}
    weighted = classifier(tiny_model, **params).fit(TEXTS, H, sample_weight=np.minimum(W, 1))
    left = classifier(tiny_model, **params).fit([TEXTS[i] for i in np.flatnonzero(W)], H[W > 0])
    np.testing.assert_allclose(weighted.predict_proba(TEXTS), left.predict_proba(TEXTS), atol=1e-6)
    other = classifier(tiny_model, **params).fit(TEXTS, H, sample_weight=W + 1.0)
    assert abs(other.predict_proba(TEXTS) - left.predict_proba(TEXTS)).max() > 1e-3


def test_weights_of_a_zero_shot_classifier_change_nothing(tiny_model):
    plain = classifier(tiny_model).fit(TEXTS, Y)
    assert same(plain.predict_proba(TEXTS), clone(plain).fit(TEXTS, Y, W).predict_proba(TEXTS))
    assert same(plain.predict_proba(TEXTS), clone(plain).fit(TEXTS, Y, pd.Series(W)).predict_proba(TEXTS))


@pytest.mark.parametrize(
    ("params", "data", "weights", "error", "message"),
    [
        ({}, (TEXTS, Y), W[:3], ValueError, r"sample_weight of shape \(20,\).*but got \(3,\)"),
        ({}, (TEXTS, Y), -W, ValueError, "sample_weight to be finite, nowhere negative"),
        ({}, (), W, ValueError, "Got sample_weight but no X"),
        ({"aligner": KNeighborsClassifier(3)}, (TEXTS, Y), W, TypeError, "fit of aligner=KNeigh.* takes none"),
        ({"aligner": "platt"}, (TEXTS, H), np.eye(20)[0], ValueError, "of which 1 have a weight"),
    ],
)
def test_weights_that_cannot_be(params, data, weights, error, message, tiny_model, decoded):
    decoded()
    with pytest.raises(error, match=message):
        classifier(tiny_model, **params).fit(*data, sample_weight=weights)
    assert decoded() == 0


def test_weights_are_routed_through_the_aligner(tiny_model):
    """A pipeline takes none by that name, but hands them to whoever has asked."""
    pipe = make_pipeline(FunctionTransformer(np.log), MultiOutputClassifier(LogisticRegression()))
    params = {"aligner": pipe}
    with sklearn.config_context(enable_metadata_routing=True):
        pipe[-1].estimator.set_fit_request(sample_weight=True)
        weighted = classifier(tiny_model, **params).fit(TEXTS, Y, sample_weight=W).predict_proba(TEXTS)
        expected = classifier(tiny_model, **params).fit(REPEATED, Y[ROWS]).predict_proba(TEXTS)
    np.testing.assert_allclose(weighted, expected, atol=1e-4)
    with pytest.raises(TypeError, match="fit of aligner=Pipeline.* takes none"):
        classifier(tiny_model, **params).fit(TEXTS, Y, sample_weight=W)


@pytest.mark.parametrize("as_pipeline", [False, True])
def test_weights_are_routed(as_pipeline, tiny_model):
    with sklearn.config_context(enable_metadata_routing=True):
        if as_pipeline:
            probe = LinearProbe(None, C=1.0).set_fit_request(sample_weight=True)
            estimator = make_pipeline(extractor(tiny_model, HiddenStateExtractor), probe)
        else:
            estimator = classifier(tiny_model, method="linear_probe", method_params=FIXED)
            estimator = estimator.set_fit_request(sample_weight=True)
        routed = clone(estimator).fit(TEXTS, Y, sample_weight=W).predict_proba(TEXTS)
        expected = clone(estimator).fit(REPEATED, Y[ROWS]).predict_proba(TEXTS)
        np.testing.assert_allclose(routed, expected, atol=1e-6)
        halves = cross_val_predict(estimator, TEXTS, Y, cv=2, method="predict_proba", params={"sample_weight": W})
        first, second = np.arange(20) < 10, np.arange(20) >= 10
        alone = clone(estimator).fit(TEXTS[10:], Y[second], sample_weight=W[second]).predict_proba(TEXTS[:10])
        assert same(halves[first], alone)


@pytest.mark.parametrize(
    ("method", "cls", "params"),
    [
        ("unary_breakdown", UnaryExtractor, {"answer_words": ("yes", "no")}),
        ("binary_breakdown", PairwiseExtractor, {"both_orders": False}),
        ("binary_breakdown", PairwiseExtractor, {"answer_words": ["1", "2"]}),
        ("marginal_over_generations", MarginalExtractor, {"min_probability": 0.2}),
    ],
)
def test_extractors_get_their_own_parameters(method, cls, params, tiny_model):
    fitted = classifier(tiny_model, method=method, method_params=params).fit()
    assert same(fitted.extractors_[0].transform(FEW), extractor(tiny_model, cls, **params).fit().transform(FEW))
    plain = classifier(tiny_model, method=method).fit()
    assert not same(plain.predict_proba(FEW), fitted.predict_proba(FEW))


def test_readouts_get_their_own_parameters(tiny_model):
    probe = classifier(tiny_model, method="linear_probe", method_params={"C": 0.01, "cv": 3}).fit(TEXTS, H)
    assert probe.readouts_[0].C_ == 0.01
    hidden = extractor(tiny_model, HiddenStateExtractor).fit().transform(TEXTS)
    expected = LinearProbe(C=0.01).fit(np.asarray(hidden), H).predict_proba(np.asarray(hidden))
    np.testing.assert_allclose(probe.predict_proba(TEXTS), expected, atol=1e-8)
    both = classifier(tiny_model, method="binary_breakdown", method_params={"both_orders": False, "l2": 0.5}).fit()
    assert both.readouts_[0].l2 == 0.5 and not both.extractors_[0].both_orders


def test_parameters_of_parts_in_a_search(tiny_model):
    grid = {"method_params": [{"C": C, "n_components": None} for C in (1e-3, 10.0)]}
    search = GridSearchCV(classifier(tiny_model, method="linear_probe"), grid, cv=2).fit(TEXTS, Y)
    assert search.best_estimator_.readouts_[0].C == search.best_params_["method_params"]["C"]
    aligned = classifier(tiny_model, aligner=ScalingAligner("matrix", C=1.0))
    assert clone(aligned).set_params(aligner__C=0.1).fit(TEXTS, H).aligner_.C_ == 0.1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"method_params": {"answer_words": ("a", "b")}},
            "method='max_over_generations' that are none",
        ),
        ({"method": "unary_breakdown", "method_params": {"shots": 3}}, r"some of \['answer_words'\]"),
        ({"method": "unary_breakdown", "method_params": {"answer_words": ("yes", "yes")}}, "answer_words"),
        ({"method": "binary_breakdown", "method_params": ["both_orders"]}, r"but expected None or a dict with some of"),
        ({"method": "marginal_over_generations", "method_params": {"min_probability": 2}}, "min_probability=2"),
    ],
)
def test_parameters_that_no_part_has(params, message, tiny_model):
    with pytest.raises(ValueError, match=message):
        classifier(tiny_model, **params).fit()


def test_a_question_template_as_the_prompt(tiny_model):
    question = QuestionTemplate(instruction="Does a label fit?")
    asked = classifier(tiny_model, method="unary_breakdown", prompt=question).fit()
    alone = make_pipeline(extractor(tiny_model, UnaryExtractor, prompt=question)).fit(TEXTS)
    assert "Does a label fit?" in asked.prompt_text("it rained")
    assert same(asked.predict_proba(TEXTS), np.asarray(alone.transform(TEXTS)))

"""Methods that answer leave a fitted estimator alone, and threads may share one; a fit that fails leaves nothing."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
from ecosystem_data import LABELS, TEXTS, H, Y, classifier, extractor, same
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from text_estimators import answer, public_estimators

from skmlmc import (
    BradleyTerry,
    ContextualCalibration,
    EmbeddingExtractor,
    GGUFClassifier,
    HiddenStateExtractor,
    LinearProbe,
    MarginalExtractor,
    PairwiseExtractor,
    ScalingAligner,
    StepwiseExtractor,
    UnaryExtractor,
)

# What changes an estimator by its name.
CHANGING = ("fit", "set_", "_")
ANSWERING = ("transform", "predict", "predict_proba", "diagnose", "abstains", "uncertainty", "score")
ONE_DOCUMENT = ("prompt_text",)
WITHOUT = ("get_params", "get_metadata_routing", "get_feature_names_out", "model_report", "learns_from_documents")


def estimators():
    """Every public estimator, and the classifier of single-label tasks."""
    return [*public_estimators(), GGUFClassifier(multi_label=False)]


def by_name(estimator):
    """Name of a test's case."""
    return type(estimator).__name__ + ("" if getattr(estimator, "multi_label", True) else " of one label")


def targets(estimator):
    """Label sets, or the class of each document."""
    if isinstance(estimator, GGUFClassifier) and not estimator.multi_label:
        return np.array(LABELS)[H.argmax(axis=1)]
    return Y


def answering_methods(estimator):
    """Names of all public methods but those whose name says that they change something."""
    methods = inspect.getmembers(type(estimator), inspect.isroutine)
    return [name for name, _ in methods if not name.startswith(CHANGING)]


def each_method():
    for estimator in estimators():
        for method in answering_methods(estimator):
            yield pytest.param(estimator, method, id=f"{by_name(estimator)}.{method}")


@pytest.fixture(scope="module")
def arrays(tiny_model):
    """What aligners take."""
    return {
        cls: extractor(tiny_model, cls).fit().transform(TEXTS)
        for cls in (PairwiseExtractor, StepwiseExtractor, UnaryExtractor)
    }


@pytest.fixture
def ready(arrays, tiny_model, tiny_encoder):
    """Return a copy of an estimator on the tiny model, and its input."""

    def ready(estimator):
        estimator = clone(estimator)
        tags = get_tags(estimator).input_tags
        if isinstance(estimator, EmbeddingExtractor):
            return estimator.set_params(model=tiny_encoder, n_threads=1), TEXTS
        if tags.string:
            asking = estimator.extractor if isinstance(estimator, ContextualCalibration) else estimator
            asking.set_params(model=tiny_model, labels=LABELS, n_threads=1)
            return estimator, TEXTS
        three = PairwiseExtractor if isinstance(estimator, BradleyTerry) else StepwiseExtractor
        return estimator, arrays[three if tags.three_d_array else UnaryExtractor]

    return ready


@pytest.mark.parametrize(("estimator", "method"), list(each_method()))
def test_an_answer_leaves_the_estimator_alone(estimator, method, ready):
    estimator, X = ready(estimator)
    y = targets(estimator)
    estimator.fit(X, y)
    before = joblib.hash(vars(estimator))
    given = {"score": (X, y), "prompt_text": (TEXTS[0],)}
    getattr(estimator, method)(*given.get(method, (X,) if method in ANSWERING else ()))
    assert joblib.hash(vars(estimator)) == before


def test_all_methods_are_tried():
    """The list above knows how every public method is called."""
    known = {*ANSWERING, *ONE_DOCUMENT, *WITHOUT}
    assert {name for estimator in public_estimators() for name in answering_methods(estimator)} == known


LABELLED = [estimator for estimator in public_estimators() if not isinstance(estimator, EmbeddingExtractor)]


@pytest.mark.parametrize("estimator", LABELLED, ids=by_name)
def test_labels_are_an_array(estimator, ready):
    estimator, X = ready(estimator)
    labels = estimator.fit(X, pd.DataFrame(Y, columns=LABELS)).labels_
    assert isinstance(labels, np.ndarray) and labels.dtype == object and list(labels) == LABELS
    if hasattr(estimator, "get_feature_names_out"):
        estimator.get_feature_names_out()[:] = "another"
    assert list(estimator.labels_) == LABELS


def parts_of(found):
    """The arrays of an answer, whichever form it has."""
    return list(found.values()) if isinstance(found, dict) else [found]


@pytest.mark.parametrize("estimator", estimators(), ids=by_name)
def test_threads_share_an_estimator(estimator, ready):
    """Eight at once, each with documents of its own, get what one alone gets."""
    estimator, X = ready(estimator)
    estimator.fit(X, targets(estimator))
    rows = [np.arange(k, k + 3) for k in range(8)]
    pieces = [[X[i] for i in some] if isinstance(X, list) else X[some] for some in rows]
    methods = [name for name in ANSWERING[:-1] if hasattr(estimator, name)]
    alone = [[parts_of(getattr(estimator, name)(piece)) for name in methods] for piece in pieces]

    def ask(piece):
        return [parts_of(getattr(estimator, name)(piece)) for name in methods]

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(ask, pieces))
    for expected, got in zip(alone, together, strict=True):
        for one, other in zip(expected, got, strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


# A parameter that fit refuses, for each estimator that has no threshold.
WRONG = {
    "ContextualCalibration": {"content_free": "N/A"},
    "EmbeddingExtractor": {"pooling": "max"},
    "SelectiveClassifier": {"coverage": 0},
    "ThresholdTuner": {"shrinkage": -1},
}


@pytest.mark.parametrize("estimator", estimators(), ids=by_name)
def test_an_estimator_whose_fit_failed_is_not_fitted(estimator, ready):
    estimator, X = ready(estimator)
    estimator.fit(X, targets(estimator))
    named = "threshold" if "threshold" in estimator.get_params() else "shots"
    estimator.set_params(**WRONG.get(by_name(estimator), {named: -1}))
    with pytest.raises((ValueError, TypeError)):
        estimator.fit(X, targets(estimator))
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)
    with pytest.raises(NotFittedError):
        answer(estimator, X)
    assert not [name for name in vars(estimator) if name.endswith("_")]


@pytest.mark.parametrize("estimator", [StepwiseExtractor, GGUFClassifier])
def test_a_fit_that_fails_late_leaves_nothing(estimator, tiny_model):
    """Labels are known before demonstrations are drawn, and extractors are fitted before aligners."""
    fitted = estimator(tiny_model, labels=LABELS, shots=2, n_threads=1).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="to draw demonstrations from"):
        fitted.fit()
    assert not [name for name in vars(fitted) if name.endswith("_")]


def test_another_kind_leaves_no_parameters_of_the_last():
    X = np.random.default_rng(0).random((len(H), 3))
    aligner = ScalingAligner("platt").fit(X, H)
    assert hasattr(aligner, "params_")
    aligner.set_params(kind="matrix", C=1.0).fit(X, H)
    assert hasattr(aligner, "coef_") and not hasattr(aligner, "params_")
    aligner.set_params(kind="isotonic").fit(X, H)
    assert hasattr(aligner, "curves_") and not hasattr(aligner, "coef_")


def diagnosing():
    for cls in (StepwiseExtractor, UnaryExtractor, PairwiseExtractor, MarginalExtractor):
        yield pytest.param(lambda model, cls=cls, **more: extractor(model, cls, **more), id=cls.__name__)
    for params in ({}, {"method": "unary_breakdown", "content_free": ("N/A",)}, {"n_label_orders": 2}):
        yield pytest.param(lambda model, params=params, **more: classifier(model, **params, **more), id=str(params))
    yield pytest.param(lambda model, **more: ContextualCalibration(extractor(model, **more)), id="calibrated")


@pytest.mark.parametrize("make", list(diagnosing()))
@pytest.mark.parametrize("memory", [False, True])
def test_a_diagnosis_decodes_what_an_answer_does(make, memory, tiny_model, decoded, tmp_path):
    estimator = make(tiny_model, memory=tmp_path if memory else None).fit()
    answer(estimator, ["first"])  # reads the answer's beginning once
    for texts in (TEXTS[:4], TEXTS[4:8], TEXTS[8:12]):
        decoded()
        given = answer(estimator, texts)
        spent = decoded()
        found = estimator.diagnose(texts)
        assert decoded() == (0 if memory else spent)
        assert same(found.proba if "proba" in found else next(iter(found.values())), given)


def test_what_a_diagnosis_holds(tiny_model):
    steps = extractor(tiny_model).fit()
    found = steps.diagnose(TEXTS)
    assert same(found.steps, steps.transform(TEXTS))
    assert ((found.written >= 0) == ~np.isnan(found.steps[:, :, 0])).all()
    assert found.label_mass.shape == (len(TEXTS),) and 0 < found.beginning_mass < 1
    hidden = extractor(tiny_model, HiddenStateExtractor).fit().diagnose(TEXTS)
    assert {**found}.keys() == {*hidden} - {"hidden"} and same(hidden.steps, found.steps)
    asked = classifier(tiny_model, aligner="platt").fit(TEXTS, H).diagnose(TEXTS)
    assert same(asked.steps, found.steps) and asked.proba.shape == H.shape


def test_which_place_a_pair_has(tiny_model):
    """The mean over both orders is a half where the place makes no difference."""
    both = extractor(tiny_model, PairwiseExtractor).fit().diagnose(TEXTS)
    assert ((both.first_named > 0) & (both.first_named < 1)).all() and (both.first_named != 0.5).any()
    one = extractor(tiny_model, PairwiseExtractor, both_orders=False).fit().diagnose(TEXTS)
    assert np.isnan(one.first_named).all()
    above = (slice(None), *np.triu_indices(4, 1))
    first, halves = one.pairs[above], both.pairs[above]  # of p[a, b] and 1 - p[b, a], so p[b, a] is the rest
    mean = (first + first + 1 - 2 * halves).mean(axis=1) / 2
    np.testing.assert_allclose(both.first_named, mean, atol=1e-4)


@pytest.mark.parametrize("method", ["max_over_generations", "linear_probe", "marginal_over_generations"])
def test_nothing_is_fitted_to_predict(method, tiny_model, monkeypatch):
    fitted = classifier(tiny_model, method=method, aligner="platt").fit(TEXTS, H)

    def refuse(self, *args, **kwargs):
        raise AssertionError("fitted again")

    for cls in {*map(type, [*public_estimators(), *fitted.readouts_]), LinearProbe}:
        monkeypatch.setattr(cls, "fit", refuse)
    assert fitted.predict_proba(TEXTS).shape == H.shape

"""Contextual calibration and label orders."""

import numpy as np
import pytest
from inside import loaded
from sklearn.exceptions import NotFittedError

from skmlmc import (
    ContextualCalibration,
    GGUFClassifier,
    HardPredictions,
    MaxOverGenerations,
    PairwiseExtractor,
    StepwiseExtractor,
    UnaryExtractor,
    clear_models,
)
from skmlmc.align import generated_labels
from skmlmc.extract._contextual import divide_by_prior

LABELS = ["joy", "anger", "sadness"]
TEXTS = ["I miss her so much.", "We won!!!", "", "it rained"]
CONTENT_FREE = ("N/A", "nothing")


def test_steps_are_divided_by_the_first_step(tiny_model):
    extractor = StepwiseExtractor(tiny_model, labels=LABELS)
    calibrated = ContextualCalibration(extractor, CONTENT_FREE).fit()
    prior = extractor.fit().transform(list(CONTENT_FREE))[:, 0].mean(axis=0)
    np.testing.assert_array_equal(calibrated.prior_, prior)
    raw, got = extractor.transform(TEXTS), calibrated.transform(TEXTS)
    happened = ~np.isnan(raw[..., 0])
    np.testing.assert_array_equal(~np.isnan(got[..., 0]), happened)
    expected = raw[happened] / prior
    np.testing.assert_allclose(got[happened], expected / expected.sum(axis=-1, keepdims=True))
    assert MaxOverGenerations().fit_transform(got).shape == (len(TEXTS), 3)


@pytest.mark.parametrize("cls", [UnaryExtractor, PairwiseExtractor])
def test_questions_are_divided_in_odds(cls, tiny_model):
    extractor = cls(tiny_model, labels=LABELS).fit()
    calibrated = ContextualCalibration(extractor, CONTENT_FREE).fit()
    raw, got = extractor.transform(TEXTS), calibrated.transform(TEXTS)
    prior = calibrated.prior_
    np.testing.assert_allclose(got / (1 - got), raw / (1 - raw) * (1 - prior) / prior)
    if raw.ndim == 3:
        np.testing.assert_allclose(got + got.transpose(0, 2, 1), 1)
    one, other = (ContextualCalibration(cls(tiny_model, labels=LABELS), TEXTS * 5) for _ in range(2))
    np.testing.assert_array_equal(
        one.fit().transform(TEXTS), other.set_output(transform="polars").fit().transform(TEXTS)
    )


def test_a_content_free_document_comes_out_even():
    prior = np.array([0.7, 0.2, 0.1])
    np.testing.assert_allclose(divide_by_prior(prior[None, None], prior, True), 1 / 3)
    np.testing.assert_allclose(divide_by_prior(prior[None], prior, False), 0.5)


def test_zero_probabilities_stay_finite():
    steps = np.array([[[0.0, 1.0], [np.nan, np.nan]]])
    got = divide_by_prior(steps, np.array([0.0, 1.0]), True)
    np.testing.assert_array_equal(got, steps)


def test_in_the_classifier(tiny_model):
    params = {"labels": LABELS, "random_state": 0}
    clf = GGUFClassifier(tiny_model, content_free=CONTENT_FREE, **params).fit()
    by_hand = ContextualCalibration(StepwiseExtractor(tiny_model, labels=LABELS), CONTENT_FREE).fit().transform(TEXTS)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), MaxOverGenerations().fit_transform(by_hand))
    with pytest.raises(ValueError, match="content_free"):
        GGUFClassifier(tiny_model, content_free=CONTENT_FREE, method="linear_probe", **params).fit(TEXTS, np.eye(4, 3))
    with pytest.raises(TypeError, match="content_free"):
        GGUFClassifier(tiny_model, content_free="N/A", **params).fit()


def test_hard_predictions_are_what_the_model_wrote(tiny_model):
    """The divided steps have other largest columns; the answer stays the answer."""
    steps = StepwiseExtractor(tiny_model, labels=LABELS).fit().transform(TEXTS)
    calibration = ContextualCalibration(StepwiseExtractor(tiny_model, labels=LABELS), CONTENT_FREE)
    calibrated = calibration.fit().transform(TEXTS)
    assert not np.array_equal(generated_labels(np.asarray(calibrated)), generated_labels(steps))
    expected = HardPredictions().fit_transform(steps)
    np.testing.assert_array_equal(HardPredictions().fit_transform(calibrated), expected)
    clf = GGUFClassifier(tiny_model, labels=LABELS, method="hard_predictions", content_free=CONTENT_FREE).fit()
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected)


def test_half_fitted_is_not_fitted(tiny_model):
    calibration = ContextualCalibration(StepwiseExtractor(tiny_model, labels=LABELS, n_ctx=256), ["word " * 300])
    with pytest.raises(ValueError, match="too long"):
        calibration.fit()
    with pytest.raises(NotFittedError):
        calibration.transform(TEXTS)


@pytest.mark.parametrize("method", ["max_over_generations", "unary_breakdown", "binary_breakdown"])
def test_label_orders_are_averaged(method, tiny_model):
    params = {"labels": LABELS, "method": method, "random_state": 0}
    clf = GGUFClassifier(tiny_model, n_label_orders=3, **params).fit()
    orders = [e.label_order for e in clf.extractors_]
    assert orders[0] is None
    assert len({tuple(o or LABELS) for o in orders}) == 3
    singles = [GGUFClassifier(tiny_model, label_order=o, **params).fit().predict_proba(TEXTS) for o in orders]
    assert not np.array_equal(singles[0], singles[1])
    np.testing.assert_allclose(clf.predict_proba(TEXTS), np.mean(singles, axis=0), rtol=1e-12)


def test_orders_cost_as_many_prefixes_and_answers(tiny_model):
    params = {"labels": LABELS, "random_state": 0, "max_labels": 1}
    GGUFClassifier(tiny_model, n_label_orders=3, **params).fit().predict_proba(TEXTS)  # reads the beginnings' mass
    clear_models()
    engine = loaded(GGUFClassifier(tiny_model, **params))
    GGUFClassifier(tiny_model, **params).fit().predict_proba(TEXTS)
    once = engine.decoded
    clear_models()
    engine = loaded(GGUFClassifier(tiny_model, **params))
    GGUFClassifier(tiny_model, n_label_orders=3, **params).fit().predict_proba(TEXTS)
    assert engine.decoded == 3 * once


def test_no_more_orders_than_there_are(tiny_model):
    clf = GGUFClassifier(tiny_model, labels=["joy", "anger"], n_label_orders=5).fit()
    assert len(clf.extractors_) == 2


def test_demonstrations_follow_the_label_order(tiny_model):
    order = ["sadness", "anger", "joy"]
    shown = {"a": ("joy", "sadness"), "b": (), "c": ("anger", "joy")}
    given = StepwiseExtractor(tiny_model, labels=LABELS, label_order=order, demonstrations=list(shown.items())).fit()
    assert given.demonstrations_ == [("a", ("sadness", "joy")), ("b", ()), ("c", ("anger", "joy"))]
    Y = np.array([[name in names for name in LABELS] for names in shown.values()]).astype(int)
    drawn = StepwiseExtractor(tiny_model, labels=LABELS, label_order=order, shots=3, random_state=0).fit(list(shown), Y)
    assert sorted(drawn.demonstrations_) == given.demonstrations_
    # The prompt is that of labels given in this order; the columns are not.
    other = StepwiseExtractor(tiny_model, labels=order, demonstrations=list(shown.items())).fit()
    columns = [*(order.index(name) for name in LABELS), -1]
    np.testing.assert_allclose(given.transform(TEXTS), other.transform(TEXTS)[:, :, columns], rtol=1e-12)


def test_a_wrong_label_order_is_refused(tiny_model):
    with pytest.raises(ValueError, match="each of the labels once"):
        StepwiseExtractor(tiny_model, labels=LABELS, label_order=["joy", "anger"]).fit()

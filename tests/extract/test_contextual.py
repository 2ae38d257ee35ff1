"""Contextual calibration and label orders."""

import pickle
from copy import copy, deepcopy
from tempfile import TemporaryDirectory

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from inside import loaded
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_predict, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline

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
from skmlmc.align import generated_labels, hard_predictions, label_sets
from skmlmc.extract._contextual import divide_by_prior
from skmlmc.metrics import scorers
from skmlmc.streaming import predict_chunks

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


def calibrated_pipeline(model, **params):
    calibration = ContextualCalibration(StepwiseExtractor(model, labels=LABELS), CONTENT_FREE)
    return Pipeline([("extractor", calibration), ("hard", HardPredictions())], **params)


def in_folder(run):
    def with_folder(calibrated, pipeline):
        with TemporaryDirectory() as folder:
            return run(calibrated, pipeline, folder)

    return with_folder


def config_of_frames(calibrated, pipeline):
    with config_context(transform_output="pandas"):
        return clone(pipeline).fit(TEXTS).transform(TEXTS)


HARD = HardPredictions()
# Ways from a calibrated extractor, or a pipeline of it and hard predictions, to these.
CONTAINERS = {
    "array": lambda c, p: HARD.fit_transform(c.transform(TEXTS)),
    "pipeline": lambda c, p: p.predict_proba(TEXTS),
    "pipeline's transform": lambda c, p: p.transform(TEXTS),
    "pandas": lambda c, p: clone(p).set_output(transform="pandas").fit(TEXTS).transform(pd.Series(TEXTS)),
    "polars": lambda c, p: clone(p).set_output(transform="polars").fit(TEXTS).transform(pl.Series(TEXTS)),
    "config": config_of_frames,
    "other index": lambda c, p: p.predict_proba(pd.Series(TEXTS, index=[7] * len(TEXTS))),
    "pickled array": lambda c, p: HARD.fit_transform(pickle.loads(pickle.dumps(c.transform(TEXTS)))),
    "pickled pipeline": lambda c, p: pickle.loads(pickle.dumps(p)).predict_proba(TEXTS),
    "joblib file": in_folder(
        lambda c, p, folder: HARD.fit_transform(joblib.load(joblib.dump(c.transform(TEXTS), f"{folder}/x")[0]))
    ),
    "joblib.Memory": in_folder(
        lambda c, p, folder: [
            HARD.fit_transform(joblib.Memory(folder, verbose=0).cache(c.transform)(TEXTS)) for _ in "12"
        ][1]
    ),
    "cached pipeline": in_folder(
        lambda c, p, folder: [
            clone(p).set_params(memory=folder).fit(TEXTS, np.eye(4, 3)).predict_proba(TEXTS) for _ in "12"
        ][1]
    ),
    "two processes": lambda c, p: cross_val_predict(p, TEXTS, np.eye(4, 3), cv=2, method="predict_proba", n_jobs=2),
    "folds of an array": lambda c, p: cross_val_predict(
        HARD, c.transform(TEXTS), np.eye(4, 3), cv=2, method="predict_proba"
    ),
    "copies": lambda c, p: HARD.fit_transform(deepcopy(copy(c.transform(TEXTS).copy()))),
    "rows": lambda c, p: HARD.fit(c.transform(TEXTS)).predict_proba(c.transform(TEXTS)[::-1])[::-1],
    "mask": lambda c, p: HARD.fit_transform(c.transform(TEXTS)[np.ones(len(TEXTS), dtype=bool)]),
    "joined": lambda c, p: HARD.fit_transform(np.concatenate([c.transform([text]) for text in TEXTS])),
    "stacked": lambda c, p: HARD.fit_transform(np.vstack([c.transform(TEXTS[:2]), c.transform(TEXTS[2:])])),
    "streamed": lambda c, p: HARD.fit_transform(
        np.concatenate(list(predict_chunks(c, [TEXTS[:1], TEXTS[1:]], method="transform")))
    ),
    "streamed to files": in_folder(
        lambda c, p, folder: [
            HARD.fit_transform(
                np.concatenate(list(predict_chunks(c, [TEXTS[:1], TEXTS[1:]], folder, method="transform")))
            )
            for _ in "12"
        ][1]
    ),
    "columns of a table": lambda c, p: ColumnTransformer([("llm", p, "text")]).fit_transform(
        pd.DataFrame({"text": TEXTS})
    ),
    "function": lambda c, p: hard_predictions(c.transform(TEXTS)),
    "sets": lambda c, p: np.where(label_sets(c.transform(TEXTS)), 1 - 1e-8, 1e-8),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_the_model_wrote_survives_every_container(container, tiny_model):
    """Derived again from the divided steps, the answers would be others."""
    pipeline = calibrated_pipeline(tiny_model).fit(TEXTS)
    calibrated = pipeline[0]
    expected = HARD.fit_transform(calibrated.extractor_.transform(TEXTS))
    assert not np.array_equal(HARD.fit_transform(np.asarray(calibrated.transform(TEXTS))), expected)
    np.testing.assert_array_equal(np.asarray(CONTAINERS[container](calibrated, pipeline)), expected)


def test_the_scores_of_cross_validation_are_of_what_the_model_wrote(tiny_model):
    y = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    found = cross_validate(calibrated_pipeline(tiny_model), TEXTS, y, cv=2, scoring=scorers())
    plain = make_pipeline(StepwiseExtractor(tiny_model, labels=LABELS), HardPredictions())
    expected = cross_validate(plain, TEXTS, y, cv=2, scoring=scorers())
    for name in scorers():
        np.testing.assert_array_equal(found[f"test_{name}"], expected[f"test_{name}"])


def test_arrays_that_are_joined_know_what_all_know(tiny_model):
    steps = StepwiseExtractor(tiny_model, labels=LABELS).fit().transform(pd.Series(TEXTS, index=range(7, 11)))
    other = StepwiseExtractor(tiny_model, labels=LABELS[::-1]).fit().transform(TEXTS)
    joined = np.concatenate([steps[:1], steps[1:]])
    assert joined.labels == LABELS and joined.kind == "steps" and list(joined.index) == [7, 8, 9, 10]
    np.testing.assert_array_equal(joined.written, steps.written)
    for arrays, axis in (([steps, other], 0), ([steps, np.asarray(steps)], 0), ([steps, steps], 1)):
        made = np.concatenate(arrays, axis=axis)
        assert getattr(made, "labels", None) is None and getattr(made, "written", None) is None


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

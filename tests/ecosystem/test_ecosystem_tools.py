"""Displays, inspection, risk control, averaging and stacking around the classifiers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from campaigns import sampled
from ecosystem_data import LABELS, TEXTS, H, N, Y, classifier, extractor, label_pipeline, same
from inside import loaded
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    PrecisionRecallDisplay,
    RocCurveDisplay,
    average_precision_score,
    get_scorer,
    label_ranking_average_precision_score,
    roc_auc_score,
)
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmlmc import (
    HiddenStateExtractor,
    LinearProbe,
    ScalingAligner,
    UnaryBreakdown,
    UnaryExtractor,
    compare_methods,
)
from skmlmc.base import label_columns
from skmlmc.metrics import nll, nll_scorer, scorers

plt.switch_backend("agg")
risk_control = pytest.importorskip("mapie.risk_control", reason="comes with the extra 'ecosystem'")


@pytest.fixture
def fitted(tiny_model):
    return classifier(tiny_model, threshold=0.3).fit()


@pytest.mark.parametrize("display", [CalibrationDisplay, PrecisionRecallDisplay, RocCurveDisplay])
@pytest.mark.parametrize("n_labels", [2, 3])
def test_displays_refuse_all_labels_at_once(tiny_model, display, n_labels):
    """Also for exactly two labels, which must not pass for two classes of one."""
    clf = classifier(tiny_model, labels=LABELS[:n_labels]).fit()
    for y in (Y[:, :n_labels], Y[:, 0]):
        with pytest.raises(ValueError, match="binary|1d array"):
            display.from_estimator(clf, TEXTS, y)
    with pytest.raises(ValueError, match="binary"):
        display.from_predictions(Y[:, :n_labels], clf.predict_proba(TEXTS))


@pytest.mark.parametrize("n_labels", [2, 3])
def test_scorers_by_name(tiny_model, n_labels):
    clf = classifier(tiny_model, labels=LABELS[:n_labels]).fit()
    y, proba = Y[:, :n_labels], clf.predict_proba(TEXTS)
    assert get_scorer("roc_auc")(clf, TEXTS, y) == pytest.approx(roc_auc_score(y, proba))
    assert get_scorer("average_precision")(clf, TEXTS, y) == pytest.approx(average_precision_score(y, proba))
    names = ["f1_macro", "f1_micro", "accuracy", "recall_micro", "jaccard_micro", "roc_auc_ovr"]
    result = cross_validate(clf, TEXTS, y, cv=2, scoring=names, error_score="raise")
    assert all(np.isfinite(result[f"test_{name}"]).all() for name in names)
    assert 0 < label_ranking_average_precision_score(y, proba) <= 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: FixedThresholdClassifier(clf, threshold=0.3),
        lambda clf: TunedThresholdClassifierCV(clf, cv=2),
        lambda clf: CalibratedClassifierCV(clf, cv=2),
        lambda clf: CalibratedClassifierCV(FrozenEstimator(clf)),
        lambda clf: OneVsRestClassifier(clf),
        lambda clf: MultiOutputClassifier(clf),
        lambda clf: VotingClassifier([("one", clf), ("two", clf)], voting="soft"),
    ],
    ids=["fixed threshold", "tuned threshold", "calibrated", "calibrated, frozen", "one vs rest", "outputs", "voting"],
)
@pytest.mark.parametrize("n_labels", [2, 3])
def test_tools_for_one_label_refuse_several(tiny_model, wrap, n_labels):
    clf = classifier(tiny_model, labels=LABELS[:n_labels]).fit()
    message = "binary|1d array|one label at a time|[Mm]ultilabel"
    with pytest.raises((ValueError, NotImplementedError), match=message):
        wrap(clf).fit(TEXTS, Y[:, :n_labels])


def test_calibration_of_each_label(tiny_model):
    """Behind the read-out every label is a problem of its own; a ScalingAligner is the short way."""
    per_label = OneVsRestClassifier(CalibratedClassifierCV(LogisticRegression(), cv=2))
    proba = label_pipeline(tiny_model).fit_transform(TEXTS)
    model = make_pipeline(label_pipeline(tiny_model), per_label).fit(TEXTS, Y)
    assert same(model.predict_proba(TEXTS), per_label.fit(proba, Y).predict_proba(proba))


def test_permutation_importance_of_columns(tiny_model):
    data = pd.DataFrame({"text": TEXTS, "label": Y[:, 0], "noise": np.random.default_rng(0).normal(size=N)})
    columns = ColumnTransformer(
        [("llm", label_pipeline(tiny_model), "text"), ("rest", "passthrough", ["label", "noise"])]
    )
    model = make_pipeline(columns, OneVsRestClassifier(LogisticRegression(C=100))).fit(data, Y)
    found = permutation_importance(model, data, Y, scoring=scorers(), n_repeats=3, random_state=0)
    for name in scorers():
        assert found[name].importances.shape == (3, 3)
    assert found["nll"].importances_mean[1] > found["nll"].importances_mean[2], "the column that holds a label"
    alone = make_pipeline(FunctionTransformer(lambda data: data["text"]), classifier(tiny_model)).fit(data)
    assert permutation_importance(alone, data[["text"]], Y, n_repeats=2, random_state=0).importances.shape == (1, 2)


def test_permutation_importance_of_labels(tiny_model):
    """Which read-out columns an aligner uses."""
    X = np.random.default_rng(0).uniform(size=(200, 3))
    for given in (X, pd.DataFrame(X, columns=LABELS)):
        aligner = ScalingAligner("matrix", C=10.0).fit(given, X[:, [0, 0, 0]])
        found = permutation_importance(aligner, given, X[:, [0, 0, 0]], scoring=nll_scorer, n_repeats=2, random_state=0)
        assert found.importances_mean.argmax() == 0
        assert abs(found.importances_mean[1:]).max() < 0.05 * found.importances_mean[0]
    with pytest.raises(ValueError, match="[Mm]ultioutput|[Mm]ulticlass"):
        partial_dependence(aligner, X, [0])


def perturbed(text, n, rng):
    """Variants of a text without some of its words, and which words each has, as LIME makes them."""
    words = np.array(text.split(" "))
    masks = rng.integers(0, 2, (n, len(words))).astype(bool)
    masks[0] = True
    return [" ".join(words[mask]) for mask in masks], masks


@pytest.mark.parametrize("container", [list, tuple, lambda texts: np.array(texts, dtype=object), np.array])
def test_many_variants_of_a_text(tiny_model, fitted, container):
    """Explainers call predict_proba with hundreds of variants, the empty text among them, and expect columns."""
    texts, masks = perturbed("we won it at last and no one knows why", 200, np.random.default_rng(0))
    texts[1], masks[1] = "", False
    model = loaded(tiny_model)
    fitted.predict_proba(texts[:1])
    before = model.decoded
    proba = fitted.predict_proba(container(texts))
    assert proba.shape == (200, 3)
    assert same(proba[7:8], fitted.predict_proba(texts[7:8]))
    # The prompt is not decoded again; a document costs its own tokens and those of its answer.
    assert model.decoded - before < 200 * 120
    effect = Ridge(alpha=0.1).fit(masks, proba[:, 0]).coef_
    assert effect.shape == (10,)
    assert np.isfinite(effect).all()
    assert abs(effect).max() > 0


def test_calls_with_few_variants_decode_the_prompt_once(tiny_model):
    clf = classifier(tiny_model, shots=5, random_state=0).fit(TEXTS, Y)
    model = loaded(tiny_model)
    clf.predict_proba(TEXTS)
    before = model.decoded
    whole = clf.predict_proba(TEXTS)
    together = model.decoded - before
    before = model.decoded
    one_by_one = np.concatenate([clf.predict_proba([text]) for text in TEXTS])
    assert model.decoded - before == together
    assert same(one_by_one, whole)


LABELLED = np.where(Y.sum(axis=1, keepdims=True) == 0, [[1, 0, 0]], Y)  # it wants a label in every document


def risk_controller(estimator, **params):
    return risk_control.MultiLabelClassificationController(estimator.predict_proba, **params)


@pytest.mark.parametrize("build", [classifier, label_pipeline])
@pytest.mark.parametrize("container", [list, pd.Series])
def test_recall_under_control(tiny_model, build, container):
    estimator = build(tiny_model).fit(TEXTS)
    controller = risk_controller(estimator, target_level=0.8).calibrate(container(TEXTS), LABELLED)
    sets = controller.predict(container(TEXTS))
    assert sets.shape == (N, 3, 1)
    recall = (sets[:, :, 0] & (LABELLED == 1)).sum(axis=1) / LABELLED.sum(axis=1)
    assert recall.mean() >= 0.8
    limit = controller.best_predict_param[0]
    assert 0 < limit < 1
    assert same(sets[:, :, 0], estimator.predict_proba(TEXTS) > limit)


def test_a_controlled_limit_is_a_threshold(tiny_model):
    """MAPIE asks for more than its limit, ``predict`` for at least its threshold."""
    controller = risk_controller(classifier(tiny_model).fit(), target_level=0.8).calibrate(TEXTS, LABELLED)
    threshold = np.nextafter(controller.best_predict_param[0], 1)
    pred = classifier(tiny_model, threshold=threshold).fit().predict(TEXTS)
    assert same(pred, controller.predict(TEXTS)[:, :, 0].astype(int))


def test_averaging(tiny_model):
    """As a mean of arrays, and as one estimator that cross-validates."""
    one, two = label_pipeline(tiny_model), extractor(tiny_model, UnaryExtractor)
    union = FeatureUnion([("one", one), ("two", two)])
    mean = FunctionTransformer(lambda X: (X[:, :3] + X[:, 3:]) / 2)
    ensemble = make_pipeline(union, mean, UnaryBreakdown(threshold=0.4)).fit(TEXTS)
    other = classifier(tiny_model, method="unary_breakdown").fit()
    expected = np.mean([classifier(tiny_model).fit().predict_proba(TEXTS), other.predict_proba(TEXTS)], axis=0)
    assert same(ensemble.predict_proba(TEXTS), expected)
    assert same(ensemble.predict(TEXTS), (expected >= 0.4).astype(int))
    result = cross_validate(ensemble, TEXTS, H, cv=2, scoring=scorers(), error_score="raise")
    assert np.isfinite(result["test_nll"]).all()


def test_an_aligner_weighs_several_classifiers(tiny_model):
    union = FeatureUnion([("one", label_pipeline(tiny_model)), ("two", extractor(tiny_model, UnaryExtractor))])
    model = make_pipeline(union, ScalingAligner("matrix", C=1.0)).fit(TEXTS, H)
    assert model[-1].coef_.shape == (3, 6)
    X = union.fit_transform(TEXTS)
    assert same(model.predict_proba(TEXTS), ScalingAligner("matrix", C=1.0).fit(X, H).predict_proba(X))


def test_stacking(tiny_model):
    """Label sets; StackingClassifier itself has no probabilities of several labels in one array."""
    members = [("one", classifier(tiny_model)), ("two", classifier(tiny_model, method="compare_to_none"))]
    stack = StackingClassifier(
        members, OneVsRestClassifier(LogisticRegression()), cv=2, stack_method="predict_proba"
    ).fit(TEXTS, Y)
    X = np.hstack([clf.fit().predict_proba(TEXTS) for _, clf in members])
    assert same(stack.transform(TEXTS), X)
    assert same(stack.predict(TEXTS), OneVsRestClassifier(LogisticRegression()).fit(X, Y).predict(X))
    with pytest.raises(IndexError):
        stack.predict_proba(TEXTS)


def test_stacked_probabilities_are_those_of_absence(tiny_model):
    """scikit-learn takes the first column of each label's pair; the README warns of it."""
    members = [("one", classifier(tiny_model)), ("two", classifier(tiny_model, method="compare_to_none"))]
    final = MultiOutputClassifier(LogisticRegression())
    stack = StackingClassifier(members, final, cv=2, stack_method="predict_proba").fit(TEXTS, Y)
    given = np.array([pair[:, 1] for pair in stack.final_estimator_.predict_proba(stack.transform(TEXTS))]).T
    assert np.allclose(stack.predict_proba(TEXTS), 1 - given)


FINAL = {
    "ClassifierChain": ClassifierChain(LogisticRegression()),
    "MultiOutputClassifier": MultiOutputClassifier(LogisticRegression()),
    "OneVsRestClassifier": OneVsRestClassifier(LogisticRegression()),
    "KNeighborsClassifier": KNeighborsClassifier(3),
    "RandomForestClassifier": RandomForestClassifier(5, random_state=0),
    "LinearProbe": LinearProbe(C=0.1, random_state=0),
}


@pytest.mark.parametrize("final", sampled(FINAL.values(), 3), ids=FINAL)
@pytest.mark.parametrize("features", ["labels", "hidden states"])
def test_classifiers_on_features(tiny_model, final, features):
    build = label_pipeline(tiny_model) if features == "labels" else extractor(tiny_model, HiddenStateExtractor)
    model = make_pipeline(build, final)
    result = cross_validate(model, TEXTS, Y, cv=2, scoring=scorers(), error_score="raise")
    assert np.isfinite(result["test_nll"]).all()
    assert label_columns(model.fit(TEXTS, Y), TEXTS).shape == (N, 3)


@pytest.mark.parametrize("final", FINAL.values(), ids=FINAL)
def test_any_classifier_as_the_aligner(tiny_model, final):
    """Whichever layout its probabilities have."""
    clf = classifier(tiny_model, aligner=final).fit(TEXTS, Y)
    proba = clf.predict_proba(TEXTS)
    X = classifier(tiny_model).fit().predict_proba(TEXTS)
    alone = final.fit(X, Y).predict_proba(X)
    expected = np.transpose([p[:, 1] for p in alone]) if isinstance(alone, list) else alone
    assert same(proba, expected)
    assert same(clf.predict(TEXTS), (expected >= 0.5).astype(int))


def test_labels_that_nobody_had_or_all_had(tiny_model):
    """scikit-learn's trees then give one column, of whichever class there was."""
    y = np.column_stack([Y[:, 0], np.zeros(N, int), np.ones(N, int)])
    forest = RandomForestClassifier(5, random_state=0)
    proba = classifier(tiny_model, aligner=forest).fit(TEXTS, y).predict_proba(TEXTS)
    assert (proba[:, 1] == 0).all()
    assert (proba[:, 2] == 1).all()
    assert len(set(proba[:, 0])) > 1


@pytest.mark.parametrize("final", ["MultiOutputClassifier", "RandomForestClassifier", "OneVsRestClassifier"])
def test_any_classifier_in_a_comparison(tiny_model, final):
    rival = make_pipeline(label_pipeline(tiny_model), FINAL[final])
    cv = [(np.arange(10), np.arange(10, 20))]
    table = compare_methods(TEXTS, Y, {"rival": rival}, cv=cv)
    fitted = rival.fit(TEXTS[:10], Y[:10])
    assert table["nll"][1] == pytest.approx(nll(Y[10:], label_columns(fitted, TEXTS[10:])))

"""Model selection by scikit-learn and iterative-stratification, with annotator distributions as metadata."""

import numpy as np
import pandas as pd
import pytest
from ecosystem_data import LABELS, TEXTS, H, N, Y, classifier, extractor, label_pipeline, same
from scipy.stats import loguniform, uniform
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    LearningCurveDisplay,
    RandomizedSearchCV,
    StratifiedKFold,
    ValidationCurveDisplay,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    train_test_split,
)
from sklearn.pipeline import Pipeline, make_pipeline
from versions import NEW_SKLEARN

from skmlmc import (
    ContextualCalibration,
    HiddenStateExtractor,
    LinearProbe,
    PairwiseExtractor,
    ScalingAligner,
    StepwiseExtractor,
    UnaryExtractor,
    compare_methods,
)
from skmlmc.metrics import example_f1, l1_distance, nll, nll_scorer, scorers

iterstrat = pytest.importorskip("iterstrat.ml_stratifiers", reason="comes with the extra 'ecosystem'")
NAMES = list(scorers())


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


SPLITTERS = {
    "k-fold": iterstrat.MultilabelStratifiedKFold(3, shuffle=True, random_state=0),
    "shuffle": iterstrat.MultilabelStratifiedShuffleSplit(3, test_size=0.3, random_state=0),
    "repeated": iterstrat.RepeatedMultilabelStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
}


@pytest.mark.parametrize("cv", SPLITTERS.values(), ids=SPLITTERS)
@pytest.mark.parametrize("frames", [False, True])
def test_stratified_cross_validation(tiny_model, cv, frames):
    X, y = (pd.Series(TEXTS), pd.DataFrame(Y, columns=LABELS)) if frames else (TEXTS, Y)
    clf = classifier(tiny_model, labels=None if frames else LABELS, shots=3, random_state=0)
    result = cross_validate(clf, X, y, cv=cv, scoring=scorers(), error_score="raise", return_estimator=True)
    for k, (train, test) in enumerate(cv.split(TEXTS, Y)):
        fitted = result["estimator"][k]
        assert {text for text, _ in fitted.demonstrations_} <= {TEXTS[i] for i in train}
        assert result["test_l1"][k] == -l1_distance(Y[test], fitted.predict_proba([TEXTS[i] for i in test]))


@pytest.mark.parametrize("cv", SPLITTERS.values(), ids=SPLITTERS)
def test_soft_targets_are_stratified_by_majority(tiny_model, routing, cv):
    """The splitters read any share above 0 as a yes, so indicators are y and shares travel beside them."""
    assert [test.tolist() for _, test in cv.split(TEXTS, H)] == [test.tolist() for _, test in cv.split(TEXTS, H > 0)]
    assert [test.tolist() for _, test in cv.split(TEXTS, H)] != [test.tolist() for _, test in cv.split(TEXTS, Y)]
    clf = classifier(tiny_model, aligner="platt")
    routed = cross_validate(clf, TEXTS, Y, cv=cv, scoring=nll_scorer, params={"distribution": H})["test_score"]
    for score, (train, test) in zip(routed, cv.split(TEXTS, Y), strict=True):
        fitted = clone(clf).fit([TEXTS[i] for i in train], H[train])
        assert score == pytest.approx(-nll(Y[test], fitted.predict_proba([TEXTS[i] for i in test])))
    # Splits made beforehand leave y free for the shares.
    splits = list(cv.split(TEXTS, Y))
    soft = cross_validate(clf, TEXTS, H, cv=splits, scoring=nll_scorer, error_score="raise")["test_score"]
    first = clone(clf).fit([TEXTS[i] for i in splits[0][0]], H[splits[0][0]])
    assert soft[0] == pytest.approx(-nll(H[splits[0][1]], first.predict_proba([TEXTS[i] for i in splits[0][1]])))


def test_compare_methods_stratifies_by_majority(tiny_model):
    cv = SPLITTERS["k-fold"]
    table = compare_methods(TEXTS, H, ["compare_to_none"], estimator=classifier(tiny_model), cv=cv)
    by_hand = [nll(H[test], np.tile(H[train].mean(axis=0), (len(test), 1))) for train, test in cv.split(TEXTS, Y)]
    assert table["nll"][0] == pytest.approx(np.mean(by_hand))


def test_stratified_grid_search_and_prediction(tiny_model):
    cv = SPLITTERS["k-fold"]
    search = GridSearchCV(classifier(tiny_model), {"threshold": [0.1, 0.5]}, cv=cv, error_score="raise").fit(TEXTS, Y)
    expected = [cross_val_score(classifier(tiny_model, threshold=t), TEXTS, Y, cv=cv).mean() for t in (0.1, 0.5)]
    assert search.cv_results_["mean_test_score"] == pytest.approx(expected)
    proba = cross_val_predict(classifier(tiny_model), TEXTS, Y, cv=cv, method="predict_proba")
    assert same(proba, classifier(tiny_model).fit().predict_proba(TEXTS))


def test_splitters_of_scikit_learn(tiny_model):
    groups = np.arange(N) // 4
    result = cross_validate(classifier(tiny_model), TEXTS, Y, groups=groups, cv=GroupKFold(3), error_score="raise")
    assert result["test_score"].shape == (3,)
    with pytest.raises(ValueError, match="multilabel-indicator"):
        cross_validate(classifier(tiny_model), TEXTS, Y, cv=StratifiedKFold(3))
    halves = train_test_split(TEXTS, np.array(TEXTS), pd.Series(TEXTS), H, random_state=0)
    expected = classifier(tiny_model).fit().predict_proba(halves[1])
    for test in halves[1:6:2]:
        assert same(classifier(tiny_model).fit().predict_proba(test), expected)


def test_halving_grid_search_over_methods(tiny_model, tmp_path):
    methods = ["max_over_generations", "compare_to_none", "hard_predictions", "unary_breakdown"]
    clf = classifier(tiny_model, memory=tmp_path)
    search = HalvingGridSearchCV(
        clf, {"method": methods}, cv=2, scoring=nll_scorer, factor=2, min_resources=5, random_state=0
    )
    search.fit(TEXTS, H)
    assert list(search.n_candidates_) == [4, 2, 1]
    assert list(search.n_resources_) == [5, 10, 20]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = classifier(tiny_model, **search.best_params_).fit()
    assert same(search.predict_proba(TEXTS), best.predict_proba(TEXTS))


@pytest.mark.parametrize("resource", ["n_label_orders", "shots"])
def test_halving_random_search_with_a_parameter_as_resource(tiny_model, resource):
    space = {"threshold": uniform(), "method": ["max_over_generations", "compare_to_none"]}
    search = HalvingRandomSearchCV(
        classifier(tiny_model, random_state=0),
        space,
        resource=resource,
        min_resources=1,
        max_resources=4,
        factor=2,
        n_candidates=4,
        cv=2,
        random_state=0,
    ).fit(TEXTS, Y)
    assert list(search.n_resources_) == [1, 2, 4]
    assert search.best_params_[resource] == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_randomized_search(tiny_model, tmp_path):
    space = {"ask__shots": [0, 2], "align__C": loguniform(0.01, 10), "align__kind": np.array(["matrix", "platt"])}
    pipeline = Pipeline([("ask", extractor(tiny_model, random_state=0, memory=tmp_path)), ("align", ScalingAligner())])
    search = RandomizedSearchCV(
        pipeline, space, n_iter=4, cv=2, scoring=scorers(), refit="nll", random_state=0, error_score="raise"
    ).fit(TEXTS, H)
    for name in NAMES:
        assert np.isfinite(search.cv_results_[f"mean_test_{name}"]).all()
    nested = cross_validate(search, TEXTS, H, cv=2, scoring=nll_scorer, error_score="raise")
    assert np.isfinite(nested["test_score"]).all()


def test_curve_displays(tiny_model):
    """A scorer object has no name to put on the axis: scikit-learn asks for one."""
    given = {"cv": 2, "score_name": "NLL", "scoring": nll_scorer, "negate_score": True}
    clf = classifier(tiny_model, aligner="platt")
    learning = LearningCurveDisplay.from_estimator(clf, TEXTS, H, train_sizes=[6, 10], **given)
    assert learning.ax_.get_ylabel() == "NLL"
    validation = ValidationCurveDisplay.from_estimator(
        clf, TEXTS, H, param_name="threshold", param_range=[0.2, 0.8], **given
    )
    assert validation.test_scores.shape == (2, 2)
    learning.figure_.clear()
    validation.figure_.clear()


@pytest.mark.parametrize("targets", [Y, H], ids=["indicator", "soft"])
def test_cross_validated_predictions(tiny_model, targets):
    pred = cross_val_predict(classifier(tiny_model, threshold=0.3), TEXTS, targets, cv=3)
    assert same(pred, classifier(tiny_model, threshold=0.3).fit().predict(TEXTS))


WEIGHT = np.linspace(0.1, 2, N)


def test_distributions_are_requested_unless_refused():
    """Nobody else has them, so the one who hands them over means them; as scikit-learn's splitters ask for groups."""
    for estimator in (
        StepwiseExtractor(),
        PairwiseExtractor(),
        UnaryExtractor(),
        HiddenStateExtractor(),
        ContextualCalibration(StepwiseExtractor()),
        classifier(None),
        ScalingAligner(),
        LinearProbe(),
    ):
        assert estimator.get_metadata_routing().fit.requests["distribution"] is True
        with config_context(enable_metadata_routing=True):
            refused = clone(estimator).set_fit_request(distribution=False)
        assert refused.get_metadata_routing().fit.requests["distribution"] is False


def test_weights_are_not_taken_unasked(tiny_model, routing):
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        label_pipeline(tiny_model, ScalingAligner()).fit(TEXTS, Y, sample_weight=WEIGHT)
    with pytest.raises(TypeError, match="unexpected|routing|distributions"):
        classifier(tiny_model).fit(TEXTS, Y, distributions=H)


def test_a_refused_distribution_is_not_used(tiny_model, routing):
    aligner = ScalingAligner().set_fit_request(distribution=False)
    pipeline = label_pipeline(tiny_model, aligner).fit(TEXTS, Y, distribution=H)
    assert same(
        pipeline.predict_proba(TEXTS), label_pipeline(tiny_model, ScalingAligner()).fit(TEXTS, Y).predict_proba(TEXTS)
    )


def test_extractors_draw_from_the_distribution(tiny_model):
    """Whatever the tool made of y: here ranks, as cross_val_predict does."""
    ranks = np.unique(H, return_inverse=True)[1].reshape(H.shape)
    for cls in (StepwiseExtractor, UnaryExtractor, PairwiseExtractor):
        expected = extractor(tiny_model, cls, shots=4, random_state=0).fit(TEXTS, H)
        got = extractor(tiny_model, cls, shots=4, random_state=0).fit(TEXTS, ranks, distribution=H)
        assert got.demonstrations_ == expected.demonstrations_
        calibrated = ContextualCalibration(clone(got)).fit(TEXTS, ranks, distribution=H)
        assert calibrated.extractor_.demonstrations_ == expected.demonstrations_
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            extractor(tiny_model, cls, shots=4).fit(TEXTS, ranks)


@pytest.mark.parametrize("orders", [1, 2])
@pytest.mark.parametrize("content_free", [None, ("N/A",)])
def test_the_names_are_those_of_either(tiny_model, orders, content_free):
    """Columns of y name an array of shares."""
    params = {"shots": 3, "random_state": 0, "n_label_orders": orders, "content_free": content_free}
    y = pd.DataFrame(Y[::-1], columns=LABELS)
    named = classifier(tiny_model, labels=None, **params).fit(TEXTS, y, distribution=H)
    assert list(named.labels_) == LABELS
    assert same(named.predict_proba(TEXTS), classifier(tiny_model, **params).fit(TEXTS, H).predict_proba(TEXTS))
    with pytest.raises(ValueError, match="labels=None"):
        classifier(tiny_model, labels=None, **params).fit(TEXTS, Y, distribution=H)


def pipelines(model):
    """Pipelines whose parts learn from the shares, with the columns they take."""
    return {
        "pipeline": label_pipeline(model, ScalingAligner(), shots=3, random_state=0),
        "calibrated": make_pipeline(
            ContextualCalibration(extractor(model, shots=3, random_state=0)), ScalingAligner("beta")
        ),
        "probe": make_pipeline(
            extractor(model, HiddenStateExtractor, shots=3, random_state=0), LinearProbe(C=0.1, random_state=0)
        ),
        "classifier": classifier(model, shots=3, aligner="platt", random_state=0),
    }


@pytest.mark.parametrize("name", ["pipeline", "calibrated", "probe", "classifier"])
def test_distributions_reach_every_fold(tiny_model, routing, name):
    estimator = pipelines(tiny_model)[name]
    hard = 1 - Y  # far from the shares: whoever used it would be caught
    result = cross_validate(
        estimator,
        TEXTS,
        hard,
        cv=KFold(2),
        scoring=scorers(),
        params={"distribution": H},
        return_estimator=True,
        error_score="raise",
    )
    for (train, test), fitted in zip(KFold(2).split(TEXTS), result["estimator"], strict=True):
        by_hand = clone(estimator).fit([TEXTS[i] for i in train], H[train])
        held_out = [TEXTS[i] for i in test]
        assert same(fitted.predict_proba(held_out), by_hand.predict_proba(held_out))
    proba = cross_val_predict(estimator, TEXTS, hard, cv=KFold(2), method="predict_proba", params={"distribution": H})
    assert same(proba[test], by_hand.predict_proba(held_out))


def test_distributions_reach_a_column_of_texts(tiny_model, routing):
    data = pd.DataFrame({"text": TEXTS, "length": [len(text) for text in TEXTS]})
    columns = ColumnTransformer(
        [("llm", label_pipeline(tiny_model, ScalingAligner(), shots=3, random_state=0), "text")],
        remainder="passthrough",
    )
    model = make_pipeline(columns, LinearProbe(C=0.1, random_state=0))
    result = cross_validate(
        model, data, 1 - Y, cv=KFold(2), params={"distribution": H}, return_estimator=True, error_score="raise"
    )
    train, test = next(iter(KFold(2).split(TEXTS)))
    by_hand = clone(model).fit(data.iloc[train], H[train])
    assert same(result["estimator"][0].predict_proba(data.iloc[test]), by_hand.predict_proba(data.iloc[test]))


if NEW_SKLEARN:

    def test_weights_and_distributions_in_searches(tiny_model, routing):
        aligner = ScalingAligner().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = label_pipeline(tiny_model, aligner)
        search = GridSearchCV(pipeline, {"scalingaligner__kind": ["platt", "beta"]}, cv=KFold(2), error_score="raise")
        search.fit(TEXTS, Y, distribution=H, sample_weight=WEIGHT)
        train, test = next(iter(KFold(2).split(TEXTS)))
        steps = extractor(tiny_model).fit().transform(TEXTS)
        for k, kind in enumerate(["platt", "beta"]):
            fitted = ScalingAligner(kind).fit(steps[train], H[train], sample_weight=WEIGHT[train])
            score = example_f1(Y[test], fitted.predict(steps[test]), sample_weight=WEIGHT[test])
            assert search.cv_results_["split0_test_score"][k] == pytest.approx(score)
        whole = ScalingAligner(search.best_params_["scalingaligner__kind"]).fit(steps, H, sample_weight=WEIGHT)
        assert same(search.predict_proba(TEXTS), whole.predict_proba(steps))


@pytest.mark.parametrize("fit_too", [False, True])
def test_weights_in_scorers(tiny_model, routing, fit_too):
    """As with scikit-learn's own classifiers one says whether weights are for the fit too."""
    weighted = scorers()["nll"].set_score_request(sample_weight=True)
    params = {"distribution": H, "sample_weight": WEIGHT}
    clf = classifier(tiny_model, aligner="platt").set_fit_request(sample_weight=fit_too)
    scores = cross_validate(clf, TEXTS, Y, cv=KFold(2), scoring=weighted, params=params)["test_score"]
    train, test = next(iter(KFold(2).split(TEXTS)))
    w = WEIGHT[train] if fit_too else None
    proba = clone(clf).fit([TEXTS[i] for i in train], H[train], w).predict_proba([TEXTS[i] for i in test])
    assert scores[0] == pytest.approx(-nll(Y[test], proba, sample_weight=WEIGHT[test]))


@pytest.mark.parametrize("tool", ["halving", "random", "curve", "permutation"])
def test_distributions_in_other_tools(tiny_model, routing, tool):
    clf, given = classifier(tiny_model, aligner="platt"), {"scoring": nll_scorer, "cv": KFold(2)}
    grid = {"aligner": ["platt", "temperature"]}
    hard, params = 1 - Y, {"distribution": H}
    if tool == "halving":
        search = HalvingGridSearchCV(clf, grid, min_resources=20, random_state=0, **given).fit(TEXTS, hard, **params)
    elif tool == "random":
        search = RandomizedSearchCV(clf, grid, n_iter=2, random_state=0, **given).fit(TEXTS, hard, **params)
    elif tool == "curve":
        scores = learning_curve(clf, TEXTS, hard, train_sizes=[10], params=params, **given)[2]
        assert scores.ravel() == pytest.approx(cross_validate(clf, TEXTS, hard, params=params, **given)["test_score"])
        return
    else:
        score = permutation_test_score(clf, TEXTS, hard, n_permutations=1, params=params, **given)[0]
        assert score == pytest.approx(cross_val_score(clf, TEXTS, hard, params=params, **given).mean())
        return
    best = clone(clf).set_params(**search.best_params_).fit(TEXTS, H)
    assert same(search.predict_proba(TEXTS), best.predict_proba(TEXTS))


def test_without_routing_metadata_goes_straight_to_fit(tiny_model):
    search = GridSearchCV(classifier(tiny_model, aligner="platt"), {"threshold": [0.5]}, cv=2, error_score="raise")
    search.fit(TEXTS, 1 - Y, distribution=H)
    expected = classifier(tiny_model, aligner="platt").fit(TEXTS, H).predict_proba(TEXTS)
    assert same(search.predict_proba(TEXTS), expected)
    pipeline = label_pipeline(tiny_model, ScalingAligner())
    pipeline.fit(TEXTS, 1 - Y, scalingaligner__distribution=H)
    assert pipeline.predict_proba(TEXTS) == pytest.approx(expected)

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.special import xlogy
from scipy.stats import wasserstein_distance as of_scipy
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.multioutput import ClassifierChain
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from skmlmc.base import LabelProbabilityMixin
from skmlmc.calibrate import LinearProbe, ScalingAligner
from skmlmc.metrics import (
    entropy_correlation,
    entropy_correlation_scorer,
    example_f1,
    l1_distance,
    l1_scorer,
    manhattan_distance,
    manhattan_scorer,
    nll,
    nll_scorer,
    scorers,
    wasserstein_distance,
    wasserstein_scorer,
)

H = np.array([[1, 0, 0.5], [0, 0, 0.25]])
P = np.array([[0.8, 0.1, 0.5], [0.2, 0.0, 1.0]])


def shapes(low=1):
    return st.tuples(st.integers(low, 6), st.integers(1, 5))


def proportions(shape):
    return arrays(float, shape, elements=st.floats(0, 1))


def indicators(shape):
    return arrays(int, shape, elements=st.integers(0, 1))


anytime = settings(deadline=None)  # other work on the machine is no failure
two_proportions = shapes().flatmap(lambda shape: st.tuples(proportions(shape), proportions(shape)))
two_indicators = shapes().flatmap(lambda shape: st.tuples(indicators(shape), indicators(shape)))


def test_nll_by_hand():
    first = -np.log(0.8) - np.log(0.9) - np.log(0.5)
    second = -np.log(0.8) - np.log(1 - 1e-8) - 0.25 * np.log(1 - 1e-8) - 0.75 * np.log(1e-8)
    assert_allclose(nll(H, P), (first + second) / 2, rtol=1e-7)
    assert isinstance(nll(H, P), float)


def test_nll_of_single_labels_by_hand():
    H = [[0.75, 0.25, 0], [0, 0, 1]]
    P = [[0.5, 0.5, 0], [0.2, 0.7, 0.1]]
    assert_allclose(nll(H, P, multi_label=False), (-np.log(0.5) - np.log(0.1)) / 2)
    assert_allclose(nll([[1, 0]], [[0, 1]], multi_label=False, eps=1e-3), -np.log(1e-3))


def test_l1_by_hand():
    assert l1_distance(H, P) == pytest.approx((0.2 + 0.1 + 0.2 + 0.75) / 2)
    assert isinstance(l1_distance(H, P), float)


def test_example_f1_by_hand():
    y = [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    pred = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert example_f1(y, pred) == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert isinstance(example_f1(y, pred), float)


def test_example_f1_counts_the_majority():
    assert example_f1([[0.6, 0.5, 0.2]], [[1, 0, 0]]) == 1
    assert example_f1([[1, 0, 0]], [[0.51, 0.5, 0.1]]) == 1
    assert example_f1([[0.5, 0.5]], [[0, 0]]) == 1


@pytest.mark.parametrize("eps", [1e-8, 1e-4])
def test_hard_predictions_cost_minus_log_eps_each(eps):
    rng = np.random.default_rng(0)
    y, answers = rng.integers(2, size=(2, 50, 7))
    pred = np.where(answers == 1, 1 - eps, eps)
    assert_allclose(nll(y, pred, eps=eps), -np.log(eps) * l1_distance(y, pred), rtol=20 * eps)
    assert_allclose(-np.log(1e-8) * 1.31, 24.1, atol=0.05)  # the paper's own table: GoEmotions, hard predictions
    assert_allclose(-np.log(1e-8) * 1.07, 19.7, atol=0.05)


@anytime
@given(two_proportions)
def test_nll_is_least_at_the_truth(pair):
    H, P = pair
    assert nll(H, P) >= nll(H, H) - 1e-6
    entropy = -(xlogy(H, H) + xlogy(1 - H, 1 - H)).sum(axis=1).mean()
    assert_allclose(nll(H, H), entropy, atol=1e-5)


@anytime
@given(two_proportions)
def test_l1_is_a_distance(pair):
    H, P = pair
    assert l1_distance(H, H) == 0
    assert l1_distance(H, P) == pytest.approx(l1_distance(P, H))
    assert 0 <= l1_distance(H, P) <= H.shape[1]
    assert l1_distance(H, P) == pytest.approx(l1_distance(1 - H, 1 - P), abs=1e-12)


@anytime
@given(two_indicators)
def test_example_f1_is_scikit_learns(pair):
    y, pred = pair
    if y.shape[1] == 1:  # not multi-label for scikit-learn
        y, pred = np.hstack([y, y]), np.hstack([pred, pred])
    assert_allclose(example_f1(y, pred), f1_score(y, pred, average="samples", zero_division=1))


@anytime
@given(two_proportions, st.randoms())
def test_order_of_documents_and_labels_does_not_matter(pair, random):
    H, P = pair
    rows, columns = list(range(H.shape[0])), list(range(H.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    for metric in (nll, l1_distance, example_f1):
        assert_allclose(metric(H[rows][:, columns], P[rows][:, columns]), metric(H, P), rtol=1e-9, atol=1e-12)


@anytime
@given(two_proportions, st.data())
def test_weights_are_repetitions(pair, data):
    H, P = pair
    weights = data.draw(arrays(int, len(H), elements=st.integers(0, 3)).filter(np.any))
    for metric in (nll, l1_distance, example_f1):
        repeated = metric(H.repeat(weights, axis=0), P.repeat(weights, axis=0))
        assert_allclose(metric(H, P, sample_weight=weights), repeated, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", [nll, l1_distance, example_f1])
class TestInputs:
    def test_columns_are_matched_by_name(self, metric):
        y = pd.DataFrame(H, columns=["a", "b", "c"])
        pred = pd.DataFrame(P, columns=["a", "b", "c"])[["c", "a", "b"]]
        assert metric(y, pred) == metric(H, P)
        with pytest.raises(ValueError, match=r"columns of y_pred.*missing: \['c'\], unexpected: \['d'\]"):
            metric(y, pred.rename(columns={"c": "d"}))

    def test_wrong_input_is_refused(self, metric):
        with pytest.raises(ValueError, match="y_pred to have 2 rows.*got 1"):
            metric(H, P[:1])
        with pytest.raises(ValueError, match=r"same labels, but got shapes \(2, 3\) and \(2, 2\)"):
            metric(H, P[:, :2])
        with pytest.raises(ValueError, match=r"Expected y_pred in \[0, 1\], but row 0, column 0 is 1.1"):
            metric(H, P + [0.3, 0, 0])
        with pytest.raises(ValueError, match="Input y_true contains NaN"):
            metric([[np.nan, 1]], [[0, 1]])
        with pytest.raises(ValueError, match="1-D y_true"):
            metric([0, 1], [0, 1])
        with pytest.raises(ValueError, match=r"sample_weight of shape \(2,\)"):
            metric(H, P, sample_weight=[1, 1, 1])


@pytest.mark.parametrize("eps", [0, 0.5, -1, None])
def test_eps_is_checked(eps):
    with pytest.raises(ValueError, match="Got eps="):
        nll(H, P, eps=eps)


class Shares(LabelProbabilityMixin, BaseEstimator):
    """Predicts the mean of the targets: the smallest estimator that fits soft ones."""

    def __init__(self, shift=0.0, threshold=0.5):
        self.shift = shift
        self.threshold = threshold

    def fit(self, X, y):
        self.labels_ = list(getattr(y, "columns", [f"label{i}" for i in range(y.shape[1])]))
        self.mean_ = np.asarray(y).mean(axis=0)
        return self

    def predict_proba(self, X):
        return np.tile((self.mean_ + self.shift).clip(0, 1), (len(X), 1))


def data(n_labels):
    X, y = make_multilabel_classification(n_samples=60, n_classes=n_labels, n_labels=1, random_state=0)
    rng = np.random.default_rng(0)
    return X, y, (0.8 * y + 0.2 * rng.random(y.shape)).round(2)


@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_scorers_in_cross_validate(n_labels, soft):
    X, hard, proportions = data(n_labels)
    # scikit-learn's own chain has classes_ as a list of arrays and predict_proba as one array, but wants hard targets.
    estimator, y = (Shares(), proportions) if soft else (ClassifierChain(GaussianNB()), hard)
    cv = KFold(3)
    results = cross_validate(estimator, X, y, cv=cv, scoring=scorers(), error_score="raise")
    for k, (train, test) in enumerate(cv.split(X)):
        fitted = sklearn.clone(estimator).fit(X[train], y[train])
        proba, pred = fitted.predict_proba(X[test]), fitted.predict(X[test])
        assert proba.shape == (20, n_labels)
        assert results["test_nll"][k] == pytest.approx(-nll(y[test], proba))
        assert results["test_l1"][k] == pytest.approx(-l1_distance(y[test], proba))
        assert results["test_example_f1"][k] == pytest.approx(example_f1(y[test] > 0.5, pred))


def test_scorers_take_a_list_of_predictions():
    X, hard, _ = data(3)
    forest = RandomForestClassifier(n_estimators=3, random_state=0).fit(X, hard)
    proba = np.column_stack([one[:, 1] for one in forest.predict_proba(X)])
    assert nll_scorer(forest, X, hard) == pytest.approx(-nll(hard, proba))


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_scorers_in_grid_search(soft):
    X, hard, proportions = data(3)
    y = pd.DataFrame(proportions if soft else hard, columns=["a", "b", "c"])
    search = GridSearchCV(Shares(), {"shift": [0.3, 0.0]}, scoring=scorers(), refit="nll", cv=3, error_score="raise")
    search.fit(X, y)
    assert search.best_params_ == {"shift": 0.0}
    assert search.best_estimator_.labels_ == ["a", "b", "c"]
    assert set(search.cv_results_["mean_test_l1"] < 0) == {True}
    single = GridSearchCV(Shares(), {"shift": [0.3, 0.0]}, scoring=l1_scorer, cv=3, error_score="raise").fit(X, y)
    assert single.best_params_ == {"shift": 0.0}


def test_scorers_of_single_labels():
    proba = scorers(multi_label=False, eps=1e-3)["nll"]
    X, y = np.zeros((4, 1)), np.eye(2)[[0, 0, 0, 1]]
    fitted = Shares().fit(X, y)
    assert proba(fitted, X, y) == pytest.approx(-(3 * -np.log(0.75) - np.log(0.25)) / 4)
    assert proba(Shares(shift=1).fit(X, y), X, y) == pytest.approx(np.log(1 - 1e-3))


def test_sample_weight_reaches_the_scorers():
    X, _, y = data(2)
    weights = np.arange(60.0)
    fitted = Shares().fit(X, y)
    assert nll_scorer(fitted, X, y, sample_weight=weights) == pytest.approx(
        -nll(y, fitted.predict_proba(X), sample_weight=weights)
    )
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = l1_scorer.set_score_request(sample_weight=True)
        results = cross_val_score(
            Shares(), X, y, cv=KFold(2), scoring=scorer, params={"sample_weight": weights}, error_score="raise"
        )
    fitted = Shares().fit(X[30:], y[30:])
    expected = l1_distance(y[:30], fitted.predict_proba(X[:30]), sample_weight=weights[:30])
    assert results[0] == pytest.approx(-expected)


def test_default_score_is_example_f1():
    X, _, y = data(3)
    y = pd.DataFrame(y, columns=["a", "b", "c"])
    fitted = Shares(shift=0.2).fit(X, y)
    assert 0 < fitted.score(X, y) < 1
    assert fitted.score(X, y) == pytest.approx(example_f1(y, fitted.predict(X)))
    assert fitted.score(X, y[["b", "c", "a"]]) == fitted.score(X, y)
    weights = np.arange(60.0)
    assert fitted.score(X, y, weights) == pytest.approx(example_f1(y, fitted.predict(X), sample_weight=weights))
    assert np.isfinite(cross_val_score(Shares(), X, y, cv=3)).all()


def test_classes_are_read_by_scikit_learn():
    X, y, _ = data(3)
    y = pd.DataFrame(y, columns=["a", "b", "c"])
    assert not hasattr(Shares(), "classes_")
    fitted = Shares().fit(X, y)
    assert fitted.classes_.tolist() == [[0, 1]] * 3
    for method in ("predict", "predict_proba"):  # a list of classes fails in the second
        proba = cross_val_predict(Shares(), X, y, cv=KFold(2), method=method)
        assert_allclose(proba[:30], getattr(Shares().fit(X[30:], y[30:]), method)(X[:30]))


def test_threshold_a_label():
    X, y = np.zeros((4, 1)), pd.DataFrame({"a": [1, 1, 0, 0], "b": [1, 0, 0, 0]})
    assert Shares().fit(X, y).predict(X).tolist() == [[1, 0]] * 4  # at least 0.5
    assert Shares(threshold={"b": 0.25, "a": 0.6}).fit(X, y).predict(X).tolist() == [[0, 1]] * 4
    assert Shares(threshold=[0.6, 0.2]).fit(X, y).predict(X).tolist() == [[0, 1]] * 4


def slow_entropy(row):
    return sum(-p * np.log(p) for share in row for p in (share, 1 - share) if p > 0)


@anytime
@given(two_proportions)
def test_entropy_correlation_is_that_of_ranks(pair):
    human, model = ([round(slow_entropy(row), 10) for row in values] for values in pair)
    if len(set(human)) == 1 or len(set(model)) == 1:
        assert entropy_correlation(*pair, replace_undefined_by=7) == 7
    else:
        ranks = [pd.Series(values).rank() for values in (human, model)]
        assert_allclose(entropy_correlation(*pair), np.corrcoef(*ranks)[0, 1], atol=1e-9)


def test_entropies_that_are_equal_on_paper_are_ties():
    shares = np.array([[1, 1], [1, 6], [6, 6], [0, 1]]) / 7  # the first three differ by 2e-16 as computed
    assert len({slow_entropy(row) for row in shares[:3]}) > 1
    proba = [[0.5, 0], [0.5, 0], [0.5, 0], [0, 0]]
    assert entropy_correlation(shares, proba) == pytest.approx(1)


def test_entropy_of_single_labels_is_that_of_the_distribution():
    soft = [[0.5, 0.5, 0], [1, 0, 0], [0.5, 0.25, 0.25]]
    scaled = np.array(soft) * [[0.5], [1], [0.1]]  # division by the sum
    assert entropy_correlation(soft, scaled, multi_label=False) == pytest.approx(1)
    assert entropy_correlation(soft, [[0.5, 0.5, 0], [1, 0, 0], [1, 0, 0]], multi_label=False) == pytest.approx(0)
    with pytest.raises(ValueError, match="y_pred to have a probability above 0 in every row, but row 1 is all 0"):
        entropy_correlation(soft, [[1, 0, 0], [0, 0, 0], [1, 0, 0]], multi_label=False)


@pytest.mark.parametrize("constant", [[[1, 0], [0, 1], [0, 0]], [[0.3, 0.7]] * 3])
def test_entropy_correlation_that_is_not_defined(constant):
    soft = [[0.5, 0], [1, 0], [0.75, 0]]
    for pair in ((soft, constant), (constant, soft)):
        with pytest.warns(UndefinedMetricWarning, match="same entropy"):
            assert np.isnan(entropy_correlation(*pair))
        assert entropy_correlation(*pair, replace_undefined_by=0) == 0  # and no warning
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(entropy_correlation(soft[:1], soft[:1]))


def test_manhattan_by_hand():
    """Both answers to each question count, as in the distributions of yes and no that the shared tasks compare."""
    pairs = [np.stack([1 - values, values], axis=2) for values in (H, P)]
    expected = np.abs(pairs[0] - pairs[1]).sum(axis=2).mean(axis=1)
    assert_allclose(manhattan_distance(H, P), expected.mean())
    assert_allclose(manhattan_distance(H, P, sample_weight=[1, 3]), expected @ [0.25, 0.75])
    assert_allclose(manhattan_distance(H, P, multi_label=False), l1_distance(H, P))
    assert isinstance(manhattan_distance(H, P), float)


def test_one_column_scores_as_the_distribution_over_yes_and_no():
    h, p = H[:, [2]], P[:, [2]]
    both = [np.hstack([1 - values, values]) for values in (h, p)]
    assert_allclose(nll(h, p), nll(*both, multi_label=False))
    assert_allclose(manhattan_distance(h, p), manhattan_distance(*both, multi_label=False))


@anytime
@given(two_proportions, st.data())
def test_wasserstein_is_that_of_scipy(pair, data):
    target, proba = (values + 0.01 for values in pair)
    points = np.arange(target.shape[1])
    target, proba = (values / values.sum(axis=1, keepdims=True) for values in (target, proba))
    expected = [of_scipy(points, points, *row) for row in zip(target, proba, strict=True)]
    weights = data.draw(arrays(float, len(target), elements=st.floats(0.1, 1)))
    assert_allclose(wasserstein_distance(target, proba), np.mean(expected), atol=1e-9)
    assert_allclose(
        wasserstein_distance(target, proba, sample_weight=weights), np.average(expected, weights=weights), atol=1e-9
    )


def test_wasserstein_counts_steps_of_the_scale():
    rating = np.eye(6)
    assert [wasserstein_distance(rating[[0]], rating[[k]]) for k in range(6)] == [0, 1, 2, 3, 4, 5]
    assert wasserstein_distance([[0.33, 0.33, 0.33]], [[1 / 3, 1 / 3, 1 / 3]]) == pytest.approx(0)
    with pytest.raises(ValueError, match="Expected y_pred to have a probability above 0 in every row, but row 1 is"):
        wasserstein_distance([[1, 0], [0, 1]], [[0.5, 0.5], [0, 0]])


def test_scorers_of_the_shared_tasks_take_columns_by_name():
    soft = pd.DataFrame([[1, 0, 0], [0.5, 0.5, 0], [0, 0.25, 0.75]], columns=["1", "2", "3"])
    known = LinearProbe(multi_label=False, C=1.0, n_components=None).fit(np.eye(3), soft)
    proba = known.predict_proba(np.eye(3))
    swapped = soft[["3", "1", "2"]]
    for scorer, expected in (
        (wasserstein_scorer, wasserstein_distance(soft, proba)),
        (manhattan_scorer, manhattan_distance(soft, proba, multi_label=False)),
    ):
        assert scorer(known, np.eye(3), soft) == scorer(known, np.eye(3), swapped) == pytest.approx(-expected)
        assert expected > 0


def test_entropy_correlation_scorer_scores_probabilities():
    class Echo(LabelProbabilityMixin, BaseEstimator):
        def fit(self, X, y):
            self.labels_ = ["joy", "love"]
            return self

        def predict_proba(self, X):
            return X

    soft = np.array([[0.5, 0], [1, 0], [0.75, 0]])
    assert entropy_correlation_scorer(Echo().fit(soft, soft), soft, soft) == pytest.approx(1)


def test_a_clustering_in_a_pipeline_names_no_labels():
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(30, 3)), pd.DataFrame(rng.integers(0, 2, (30, 3)), columns=["joy", "anger", "fear"])
    pipe = make_pipeline(KMeans(3, n_init=1, random_state=0), LinearProbe(C=1.0)).fit(X, y.to_numpy())
    assert nll_scorer(pipe, X, y) == nll_scorer(pipe, X, y.to_numpy())


@pytest.mark.parametrize("as_frame", [pytest.param("pandas"), pytest.param("polars")])
@pytest.mark.parametrize("wrap", [lambda e: e, make_pipeline, lambda e: GridSearchCV(e, {"cv": [3]}, cv=3)])
def test_scorers_find_columns_by_name(as_frame, wrap):
    frames = pytest.importorskip(as_frame)
    rng = np.random.default_rng(0)
    names = ["joy", "anger", "fear"]
    X = rng.uniform(0.01, 0.99, (30, 3))
    y = (rng.random((30, 3)) < X).astype(int)
    fitted = wrap(ScalingAligner("platt")).fit(X, frames.DataFrame(dict(zip(names, y.T, strict=True))))
    other = [2, 0, 1]
    turned = frames.DataFrame({names[k]: y[:, k] for k in other})
    for scorer in scorers().values():
        assert scorer(fitted, X, turned) == scorer(fitted, X, y)
    assert nll_scorer(fitted, X, y) != nll_scorer(fitted, X, y[:, other])
    strangers = frames.DataFrame({f"is_{names[k]}": y[:, k] for k in other})
    with pytest.raises(ValueError, match="y_true to be the labels .*unexpected"):
        nll_scorer(fitted, X, strangers)

"""Learned thresholds, beside a slow loop over all of them, scikit-learn's tools and hostile input."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, precision_score, recall_score
from sklearn.model_selection import GridSearchCV, GroupKFold, RepeatedKFold, ShuffleSplit, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skmlmc.calibrate import LinearProbe, SoftStackingClassifier, ThresholdTuner, diagnose
from skmlmc.metrics import example_f1, output_labels

LABELS = ["joy", "anger", "sadness"]
N = 120
RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(N, 3)) - [0.2, 1.0, 2.0]
X = np.hstack([TRUTH + RNG.normal(size=(N, 3)), RNG.normal(size=(N, 4))])
H = RNG.binomial(5, 1 / (1 + np.exp(-TRUTH))) / 5
Y = (H > 0.5).astype(int)
NUMBERS = np.arange(N)[:, None]
PROBA = 1 / (1 + np.exp(-TRUTH - RNG.normal(size=TRUTH.shape)))


class Told(ClassifierMixin, BaseEstimator):
    """Says what is known of each document, by its number, and notes whom it was asked about; learns if it is told to.

    A document that it has seen gets the right answer.
    """

    asked: list = []

    def __init__(self, proba=None, learns=False):
        self.proba = proba
        self.learns = learns

    def learns_from_documents(self):
        return self.learns

    def fit(self, X, y=None, sample_weight=None):
        self.seen_, self.weights_ = np.asarray(X)[:, 0], sample_weight
        return self

    def predict_proba(self, X):
        rows = np.asarray(X)[:, 0]
        Told.asked.append(rows)
        if not self.learns:
            return self.proba[rows]
        return np.where(np.isin(rows, self.seen_)[:, None], H[rows].clip(0.01, 0.99), self.proba[rows])


@pytest.fixture(autouse=True)
def forget():
    Told.asked = []


def learned(P, Y, sample_weight=None, **params):
    """What is learned from known probabilities."""
    return ThresholdTuner(Told(np.asarray(P)), **params).fit(np.arange(len(P))[:, None], Y, sample_weight)


def slow_thresholds(p):
    """One threshold between any two probabilities, below and above all."""
    values = sorted({0.0, 1.0, *np.ravel(p)})
    return [0.0, *[(a + b) / 2 for a, b in zip(values, values[1:], strict=False)], 1.0]


def counts(y, sets, w):
    """Hits, labels given and labels wanted, of one label or of all together."""
    w = np.broadcast_to(w, y.T.shape).T
    return (w * y * sets).sum(), (w * sets).sum(), (w * y).sum()


def f1(y, sets, w, empty=0.0):
    hits, given, wanted = counts(y, sets, w)
    return 2 * hits / (given + wanted) if given + wanted else empty


def score(objective, Y, sets, w):
    if objective == "example_f1":
        return np.average([f1(y, row, 1, empty=1.0) for y, row in zip(Y, sets, strict=True)], weights=w)
    if objective == "macro_f1":
        alone = [f1(y, column, w) for y, column in zip(Y.T, sets.T, strict=True) if y.any()]
        return np.mean(alone) if alone else 0.0
    return f1(Y, sets, w)


tables = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.integers(0, 8).map(lambda k: k / 8), min_size=2, max_size=2), min_size=n, max_size=n),
        st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=2), min_size=n, max_size=n),
        st.lists(st.integers(1, 3), min_size=n, max_size=n),
    )
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("objective", ["example_f1", "macro_f1", "micro_f1"])
@given(tables)
def test_no_threshold_does_better(objective, table):
    P, Y, w = map(np.array, table)
    tuner = learned(P, Y, w, objective=objective, per_label=False)
    best = max(score(objective, Y, t <= P, w) for t in slow_thresholds(P))
    assert score(objective, Y, tuner.common_threshold_ <= P, w) == pytest.approx(best)
    assert_array_equal(tuner.thresholds_, tuner.common_threshold_)
    # One a label: none alone could be better, and all together are no worse than one for all.
    tuner = learned(P, Y, w, objective=objective, shrinkage=0)
    reached = score(objective, Y, tuner.thresholds_ <= P, w)
    assert reached >= best - 1e-9
    for k in range(2):
        for t in slow_thresholds(P[:, k]):
            other = np.where(np.arange(2) == k, t, tuner.thresholds_)
            assert score(objective, Y, other <= P, w) <= reached + 1e-9


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("objective", "held", "other"), [("precision", 0, 1), ("recall", 1, 0)])
@given(tables, st.sampled_from([0.3, 0.7, 1.0]))
def test_a_precision_or_recall_is_reached_where_it_can_be(objective, held, other, table, target):
    P, Y, w = map(np.array, table)
    tuner = learned(P, Y, w, objective=objective, target=target, shrinkage=0)

    def both(k, t):
        hits, given, wanted = counts(Y[:, k], t <= P[:, k], w)
        return hits / max(given, 1), hits / max(wanted, 1)

    for k in np.flatnonzero(Y.any(axis=0)):
        all_there_are = [both(k, t) for t in slow_thresholds(P[:, k])]
        reached = [pair[other] for pair in all_there_are if pair[held] >= target - 1e-12]
        got = both(k, tuner.thresholds_[k])
        if reached:
            assert got[held] >= target - 1e-12 and got[other] == pytest.approx(max(reached))
        else:
            assert got[held] == pytest.approx(max(pair[held] for pair in all_there_are))


def test_what_cannot_be_reached_is_said():
    with pytest.warns(UserWarning, match=r"No threshold reaches a precision of 0.9 for \['label1'\]; the nearest"):
        learned([[0.9, 0.9], [0.1, 0.1]], [[1, 0], [0, 1]], objective="precision", target=0.9)
    with pytest.warns(UserWarning, match="precision of 0.9 for .'all labels together'"):
        learned([[0.9], [0.1]], [[0], [1]], objective="precision", target=0.9, per_label=False)


def test_rare_labels_are_drawn_to_the_common_threshold():
    def odds(t):
        return np.log(t / (1 - t))

    own, firm, soft = (learned(PROBA, Y, shrinkage=k, objective="macro_f1") for k in (0, 1e9, 10.0))
    assert_allclose(firm.thresholds_, own.common_threshold_, rtol=1e-5)
    n = np.minimum(Y.sum(axis=0), N - Y.sum(axis=0))
    between = (n * odds(own.thresholds_) + 10 * odds(own.common_threshold_)) / (n + 10)
    assert_allclose(odds(soft.thresholds_), between)
    nobody = learned(PROBA, Y * [1, 1, 0])
    assert nobody.thresholds_[2] == pytest.approx(nobody.common_threshold_), "nothing is known of a label nobody has"


def test_held_out_means_that_the_estimator_did_not_see_the_document():
    tuner = ThresholdTuner(Told(PROBA, learns=True)).fit(NUMBERS, Y)
    assert_array_equal(np.sort(np.concatenate(Told.asked)), np.arange(N))
    assert_allclose(tuner.thresholds_, learned(PROBA, Y).thresholds_)
    assert len(tuner.estimator_.seen_) == N
    assert_allclose(tuner.predict_proba(NUMBERS), H.clip(0.01, 0.99), err_msg="the last one saw all")


def test_what_learns_nothing_may_see_one_document():
    assert_array_equal(learned([[0.3, 0.2]], [[1, 0]]).predict([[0]]), [[1, 0]])


@pytest.mark.parametrize("cv", [5, RepeatedKFold(n_splits=3, n_repeats=2), "prefit"])
def test_what_learns_nothing_is_asked_once(cv):
    told = Told(PROBA).fit(NUMBERS)
    for estimator in (told, FrozenEstimator(Told(PROBA, learns=True).fit(NUMBERS[:1]))):
        Told.asked = []
        ThresholdTuner(estimator, cv=cv).fit(NUMBERS, Y)
        assert [len(rows) for rows in Told.asked] == [N]


def test_prefit():
    fitted = LinearProbe(None).fit(X[:60], H[:60])
    before = fitted.predict_proba(X)
    tuner = ThresholdTuner(fitted, cv="prefit").fit(X[60:], H[60:])
    assert tuner.estimator_ is fitted and tuner.thresholds_.shape == (3,)
    assert_array_equal(tuner.predict_proba(X), before)
    assert_array_equal(tuner.predict(X), before >= tuner.thresholds_)
    frozen = ThresholdTuner(FrozenEstimator(fitted)).fit(X[60:], H[60:])
    assert_array_equal(frozen.thresholds_, tuner.thresholds_)
    with pytest.raises(NotFittedError):
        ThresholdTuner(LinearProbe(), cv="prefit").fit(X, H)


@pytest.mark.parametrize(
    "estimator",
    [
        LinearProbe(None, C=1.0),
        make_pipeline(StandardScaler(), LinearProbe(None, C=1.0)),
        SoftStackingClassifier([("a", LinearProbe(None, C=1.0))], cv=3),
        OneVsRestClassifier(LogisticRegression()),
        MultiOutputClassifier(LogisticRegression()),
        DecisionTreeClassifier(max_depth=3, random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_any_multi_label_classifier(estimator):
    tuner = ThresholdTuner(estimator, cv=3).fit(X, pd.DataFrame(Y, columns=LABELS))
    assert tuner.labels_.tolist() == tuner.get_feature_names_out().tolist() == LABELS
    assert tuner.predict(X).shape == Y.shape and set(np.unique(tuner.predict(X))) <= {0, 1}
    assert tuner.score(X, pd.DataFrame(Y, columns=LABELS)[LABELS[::-1]]) == tuner.score(X, Y)
    assert diagnose(tuner, X).proba.shape == Y.shape


def test_soft_targets_count_through_their_majority():
    assert_array_equal(learned(PROBA, H).thresholds_, learned(PROBA, Y).thresholds_)
    told = ThresholdTuner(Told(PROBA)).fit(NUMBERS, np.zeros_like(Y), distribution=H)
    assert_array_equal(told.thresholds_, learned(PROBA, Y).thresholds_)


def test_weights_are_documents():
    w = np.random.default_rng(3).integers(0, 3, N)
    twice = np.repeat(np.arange(N), w)
    weighted = learned(PROBA, Y, w)
    assert_allclose(weighted.thresholds_, learned(PROBA[twice], Y[twice]).thresholds_)
    assert_array_equal(ThresholdTuner(Told(PROBA, learns=True)).fit(NUMBERS, Y, w).estimator_.weights_, w)
    frozen = ThresholdTuner(FrozenEstimator(Told(PROBA).fit(NUMBERS))).fit(NUMBERS, Y, sample_weight=w)
    assert_array_equal(frozen.thresholds_, weighted.thresholds_)
    with pytest.raises(TypeError, match="the fit of 'estimator', a KNeighborsClassifier, takes none"):
        ThresholdTuner(KNeighborsClassifier()).fit(X, Y, sample_weight=w)


def test_groups_are_held_out_together():
    groups = np.arange(N) // 3

    class Neighbour(Told):
        def fit(self, X, y, groups=None):
            assert groups is not None
            return super().fit(X)

        def predict_proba(self, X):
            known = np.isin(groups[np.asarray(X)[:, 0]], groups[self.seen_])
            assert known.all() or not known.any()
            return super().predict_proba(X)

    for cv in (5, GroupKFold(4)):
        ThresholdTuner(Neighbour(PROBA, learns=True), cv=cv).fit(NUMBERS, Y, groups=groups)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ThresholdTuner(Told(PROBA)).fit(NUMBERS, Y, groups=groups[1:])


def test_documents_that_are_never_held_out():
    cv = ShuffleSplit(2, test_size=0.3, random_state=0)
    tuner = ThresholdTuner(Told(PROBA, learns=True), cv=cv).fit(NUMBERS, Y)
    rows = np.unique(np.concatenate([test for _, test in cv.split(NUMBERS)]))
    assert_allclose(tuner.thresholds_, learned(PROBA[rows], Y[rows]).thresholds_)


def test_results_are_those_of_every_threshold():
    results = learned(PROBA, Y).cv_results_
    for row, t in list(enumerate(results["threshold"]))[::9]:
        sets = (t <= PROBA).astype(int)
        more = {"zero_division": 0}
        assert results["example_f1"][row] == pytest.approx(example_f1(Y, sets))
        assert results["macro_f1"][row] == pytest.approx(f1_score(Y, sets, average="macro", **more))
        assert results["micro_f1"][row] == pytest.approx(f1_score(Y, sets, average="micro", **more))
        assert results["precision"][row] == pytest.approx(precision_score(Y, sets, average="micro", **more))
        assert results["recall"][row] == pytest.approx(recall_score(Y, sets, average="micro", **more))
        assert_allclose(results["label_precision"][row], precision_score(Y, sets, average=None, **more))
        assert_allclose(results["label_recall"][row], recall_score(Y, sets, average=None, **more))
        assert_allclose(results["label_f1"][row], f1_score(Y, sets, average=None, **more))


def test_columns_are_found_by_name():
    probe = LinearProbe(None, C=1.0).fit(X, pd.DataFrame(H, columns=LABELS))
    other = pd.DataFrame(H, columns=LABELS)[LABELS[::-1]]
    one, two = (ThresholdTuner(probe, cv="prefit").fit(X, y) for y in (H, other))
    assert one.labels_.tolist() == LABELS and two.labels_.tolist() == LABELS[::-1] == output_labels(two)
    assert_allclose(two.thresholds_, one.thresholds_[::-1], rtol=0.3)
    assert_array_equal(two.predict_proba(X), one.predict_proba(X)[:, ::-1])
    with pytest.raises(ValueError, match="to give probabilities of"):
        ThresholdTuner(probe, cv="prefit").fit(X, other.rename(columns={"joy": "mirth"}))


def test_scikit_learns_machinery():
    tuner = ThresholdTuner(LinearProbe(None, C=1.0), cv=3)
    frame = pd.DataFrame(X).add_prefix("x")
    assert clone(tuner).fit(frame, Y).feature_names_in_.tolist() == list(frame) and not hasattr(tuner, "n_features_in_")
    assert clone(tuner).fit(X, Y).n_features_in_ == X.shape[1]
    search = GridSearchCV(tuner, {"shrinkage": [0, 5.0], "estimator__C": [0.1]}, cv=2).fit(X, Y)
    assert np.isfinite(search.best_score_)
    assert np.isfinite(cross_val_score(tuner, X, Y, cv=2, error_score="raise")).all()
    fitted = clone(tuner).fit(X, H)
    again = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(again.predict(X), fitted.predict(X))
    assert_array_equal(clone(tuner).fit(X, H).thresholds_, fitted.thresholds_)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"estimator": LinearProbe}, "expected a multi-label classifier with fit and predict_proba"),
        ({"estimator": TfidfVectorizer()}, "expected a multi-label classifier"),
        ({"estimator": LinearProbe(multi_label=False)}, "multi_label=False, but the most probable of them"),
        ({"objective": "f1"}, "objective='f1' but expected one of"),
        ({"objective": "precision"}, "target=None but expected the precision to reach"),
        ({"objective": "recall", "target": 1.5}, "target=1.5 but expected the recall to reach"),
        ({"target": 0.5}, "target=0.5 with objective='example_f1'"),
        ({"per_label": "yes"}, "per_label='yes' but expected"),
        ({"shrinkage": -1}, "shrinkage=-1 but expected"),
        ({"cv": 0}, "cv=0 but expected a positive integer"),
        ({"cv": []}, "no split at all"),
    ],
)
def test_hostile_parameters(params, message):
    tuner = ThresholdTuner(Told(PROBA, learns=True)).set_params(**params)
    with pytest.raises((TypeError, ValueError), match=message):
        tuner.fit(NUMBERS, Y)
    assert not [name for name in vars(tuner) if name.endswith("_")] and not Told.asked


def test_hostile_targets():
    for y, message in ((None, "requires y to be passed"), (["a", "b"] * 60, "the class of each document as y, but")):
        with pytest.raises(ValueError, match=message):
            ThresholdTuner(Told(PROBA)).fit(NUMBERS, y)
    with pytest.raises(ValueError, match="expected y to have 120 rows"):
        ThresholdTuner(Told(PROBA)).fit(NUMBERS, Y[1:])
    assert not Told.asked


def test_certain_and_hard_probabilities():
    tuner = learned([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1, 0], [1, 0], [0, 1]])
    assert_array_equal(tuner.predict(np.arange(3)[:, None]), [[1, 0], [1, 0], [0, 1]])
    near = learned([[0.3], [np.nextafter(0.3, 1)]], [[0], [1]], shrinkage=0)
    assert_array_equal(near.predict([[0], [1]]), [[0], [1]])

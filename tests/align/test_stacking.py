"""Several classifiers combined into one, beside a slow twin, scikit-learn's tools and hostile input."""

import pickle

import numpy as np
import pandas as pd
import pytest
from inside import labelled
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skmlmc.calibrate import LinearProbe, SoftStackingClassifier
from skmlmc.metrics import nll, scorers

LABELS = ["joy", "anger", "sadness"]
N = 90
RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(N, 3)) - 0.5
X = np.hstack([TRUTH + RNG.normal(size=(N, 3)), RNG.normal(size=(N, 5))])
H = RNG.binomial(5, 1 / (1 + np.exp(-TRUTH))) / 5
CLASSES = np.array(LABELS)[TRUTH.argmax(axis=1)]


class Told(ClassifierMixin, BaseEstimator):
    """Says what is known of each document, by its number, whoever asks; notes what it was fitted on."""

    def __init__(self, proba=None):
        self.proba = proba

    def fit(self, X, y):
        self.seen_, self.y_, self.labels_ = np.asarray(X)[:, 0].astype(int), y, np.array(LABELS, dtype=object)
        return self

    def predict_proba(self, X):
        return self.proba[np.asarray(X)[:, 0].astype(int)]


NUMBERS = np.arange(N)[:, None]


def told(seed, spread):
    noise = np.random.default_rng(seed).normal(scale=spread, size=TRUTH.shape)
    return Told(1 / (1 + np.exp(-TRUTH - noise)))


def probes(**kwargs):
    return [
        ("a", LinearProbe(None, **kwargs)),
        ("b", make_pipeline(StandardScaler(), LinearProbe(None, C=0.1, **kwargs))),
    ]


def slow_stack(views, H, penalty):
    """The same by its formula, one document and label after another, with slopes by differences."""
    n, n_labels = H.shape
    rate = (H.sum(axis=0) + 0.5) / (n + 1)
    base = [np.log(r / (1 - r)) for r in rate]
    odds = np.log(np.clip(views, 1e-4, 1 - 1e-4) / (1 - np.clip(views, 1e-4, 1 - 1e-4)))

    def combine(theta, i, label):
        weights, offsets = theta[: len(views)], theta[len(views) :]
        moved = sum(w * (odds[m, i, label] - base[label]) for m, w in enumerate(weights))
        return base[label] + moved + offsets[label]

    def loss(theta):
        total = penalty / 2 * (sum(len(views) * (w - 1 / len(views)) ** 2 for w in theta[: len(views)]))
        total += 0.1 / 2 * sum(offset**2 for offset in theta[len(views) :])
        for i in range(n):
            for label in range(n_labels):
                p = 1 / (1 + np.exp(-combine(theta, i, label)))
                t = (n * H[i, label] + 0.5) / (n + 1)
                total -= t * np.log(p) + (1 - t) * np.log(1 - p)
        return total

    start = [1 / len(views)] * len(views) + [0] * n_labels
    bounds = [(0, None)] * len(views) + [(None, None)] * n_labels
    theta = minimize(loss, start, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-7}).x
    proba = [[1 / (1 + np.exp(-combine(theta, i, label))) for label in range(n_labels)] for i in range(n)]
    return theta[: len(views)], theta[len(views) :], np.array(proba)


@pytest.mark.parametrize("penalty", [3.0, 100.0])
def test_as_its_formula_says(penalty):
    members = [("good", told(1, 0.5)), ("bad", told(2, 3.0))]
    stack = SoftStackingClassifier(members, penalty=penalty).fit(NUMBERS[:30], H[:30])
    weights, offsets, proba = slow_stack(np.stack([m.proba[:30] for _, m in members]), H[:30], penalty)
    assert_allclose(stack.weights_, weights, atol=1e-3)
    assert_allclose(stack.offsets_, offsets, atol=1e-3)
    assert_allclose(stack.predict_proba(NUMBERS[:30]), proba, atol=1e-3)
    assert stack.weights_[0] > stack.weights_[1]


def test_members_are_averaged_where_there_is_little_to_learn_from():
    members = [("good", told(1, 0.5)), ("bad", told(2, 3.0))]
    firm = SoftStackingClassifier(members, penalty=1e6).fit(NUMBERS, H)
    assert_allclose(firm.weights_, 0.5, atol=1e-3)
    assert_allclose(firm.predict_proba(NUMBERS).mean(axis=0), H.mean(axis=0), atol=0.02)


def test_probes_of_one_member_share_its_weight():
    class Layers(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.widths_ = [2, 2, 2]
            return self

        def transform(self, X):
            return np.tile(np.column_stack([X, X]), 3)

    firm = SoftStackingClassifier([("layers", Layers()), ("good", told(1, 0.5))], penalty=1e6).fit(NUMBERS, H)
    assert firm.views_ == ["layers[0]", "layers[1]", "layers[2]", "good"]
    assert_allclose(firm.weights_, [1 / 6, 1 / 6, 1 / 6, 1 / 2], atol=1e-3)


def test_held_out_means_that_members_did_not_see_the_document():
    class Cheat(Told):
        def predict_proba(self, X):
            rows = np.asarray(X)[:, 0].astype(int)
            return np.where(np.isin(rows, self.seen_)[:, None], H[rows].clip(0.01, 0.99), 0.3)

    stack = SoftStackingClassifier([("cheat", Cheat()), ("good", told(1, 0.5))]).fit(NUMBERS, H)
    assert stack.weights_[0] < stack.weights_[1]
    assert stack.nll_[0] == pytest.approx(nll(H, np.full(H.shape, 0.3)))
    assert stack.views_ == ["cheat", "good"]


def test_groups_are_held_out_together():
    groups = np.arange(N) // 3

    class Neighbour(Told):
        def predict_proba(self, X):
            rows = np.asarray(X)[:, 0].astype(int)
            known = np.isin(groups[rows], groups[self.seen_])
            assert known.all() or not known.any()
            return np.full((len(rows), 3), 0.3)

    SoftStackingClassifier([("a", Neighbour())]).fit(NUMBERS, H, groups=groups)
    SoftStackingClassifier([("a", Neighbour())], cv=GroupKFold(4)).fit(NUMBERS, H, groups=groups)
    with pytest.raises(ValueError, match="groups"):
        SoftStackingClassifier([("a", told(1, 1))], cv=GroupKFold(4)).fit(NUMBERS, H)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SoftStackingClassifier([("a", told(1, 1))]).fit(NUMBERS, H, groups=groups[1:])


def test_members_get_the_groups_that_they_take():
    groups, seen = np.arange(N) // 3, []

    class Grouped(Told):
        def fit(self, X, y, groups=None):
            seen.append(groups)
            return super().fit(X, y)

    SoftStackingClassifier([("a", Grouped(told(1, 1).proba)), ("b", told(2, 1))], cv=3).fit(NUMBERS, H, groups=groups)
    assert_array_equal(seen[0], groups)
    assert sum(map(len, seen)) == N + 2 * N, "of all documents, and of two parts of three, three times"


def test_a_probe_is_fitted_as_alone():
    """One search for its penalty, over the parts that are held out, whose probabilities are those that are combined."""
    cv = KFold(4, shuffle=True, random_state=0)
    stack = SoftStackingClassifier([("a", LinearProbe(None))], cv=cv).fit(X, H)
    alone = LinearProbe(None, cv=list(cv.split(X))).fit(X, H)
    (((columns, probe),),) = stack.heads_
    assert columns == slice(0, 8) and probe.C_ == alone.C_
    assert_allclose(probe.predict_proba(X), alone.predict_proba(X), atol=1e-6)
    held_out = np.empty(H.shape)
    for train, test in cv.split(X):
        held_out[test] = LinearProbe(None, C=alone.C_).fit(X[train], H[train]).predict_proba(X[test])
    assert stack.nll_ == pytest.approx([nll(H, held_out)], abs=1e-4)


def test_features_of_texts_are_learned_without_the_documents_held_out():
    texts = [f"word{k}" for k in range(N)]
    words = make_pipeline(TfidfVectorizer(), LinearProbe(None, C=1.0, scale=False))
    stack = SoftStackingClassifier([("words", words)]).fit(texts, H)
    rate = (H.sum(axis=0) + 0.5) / (N + 1)
    assert stack.nll_[0] == pytest.approx(nll(H, np.tile(rate, (N, 1))), abs=0.05), "nobody knows the word of another"
    transformer = SoftStackingClassifier([("words", TfidfVectorizer())]).fit(texts, H)
    assert transformer.predict_proba(texts[:2]).shape == (2, 3)


def test_what_learns_nothing_runs_once():
    calls = []

    def double(X):
        calls.append(len(X))
        return 2 * np.asarray(X)

    stack = SoftStackingClassifier([("a", make_pipeline(FunctionTransformer(double), LinearProbe(None, C=1.0)))])
    stack.fit(X, H).predict_proba(X[:3])
    assert calls == [N, 3]


def test_columns_are_found_by_name():
    class Other(Told):
        def fit(self, X, y):
            super().fit(X, y)
            self.labels_ = self.labels_[::-1]
            return self

        def predict_proba(self, X):
            return super().predict_proba(X)[:, ::-1]

    target = pd.DataFrame(H, columns=LABELS)
    one = SoftStackingClassifier([("a", told(1, 1))]).fit(NUMBERS, target)
    two = SoftStackingClassifier([("a", Other(told(1, 1).proba))]).fit(NUMBERS, target)
    assert_allclose(one.predict_proba(NUMBERS), two.predict_proba(NUMBERS))
    three = SoftStackingClassifier(probes()).fit(X, target[LABELS[::-1]])
    assert three.labels_.tolist() == three.get_feature_names_out().tolist() == LABELS[::-1]
    assert three.score(X, target) == three.score(X, target[LABELS[::-1]])
    with pytest.raises(ValueError, match="'a' to give probabilities of"):
        SoftStackingClassifier([("a", told(1, 1))]).fit(NUMBERS, target.rename(columns={"joy": "mirth"}))
    nameless = SoftStackingClassifier([("a", told(1, 1)), ("b", told(2, 1))]).fit(NUMBERS, H)
    assert nameless.labels_.tolist() == LABELS
    with pytest.raises(ValueError, match="same order of labels of all members"):
        SoftStackingClassifier([("a", told(1, 1)), ("b", Other(told(1, 1).proba))]).fit(NUMBERS, H)


@pytest.mark.parametrize("y", ["classes", "shares", "indicator"])
def test_single_label_tasks(y):
    targets = {"classes": CLASSES, "shares": (H + 0.1) / (H + 0.1).sum(axis=1, keepdims=True)}
    targets["indicator"] = np.eye(3)[TRUTH.argmax(axis=1)]
    members = probes(multi_label=False)
    if y == "classes":
        members += [("forest", RandomForestClassifier(random_state=0)), ("lr", LogisticRegression())]
    stack = SoftStackingClassifier(members, multi_label=False).fit(X, targets[y])
    proba = stack.predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1)
    if y == "classes":
        assert stack.classes_.tolist() == sorted(LABELS)
        assert stack.score(X, CLASSES) > 0.6 and set(stack.predict(X)) <= set(LABELS)
        assert np.isfinite(cross_val_score(stack, X, CLASSES, cv=3, scoring="neg_log_loss", error_score="raise")).all()
    with pytest.raises(ValueError, match="expected the same for both"):
        SoftStackingClassifier([("a", LinearProbe(None))], multi_label=False).fit(X, targets[y])


def test_classifiers_of_scikit_learn_for_indicators():
    Y = (H > 0.5).astype(int)
    members = [*probes(), ("forest", RandomForestClassifier(random_state=0))]
    members.append(("lr", MultiOutputClassifier(LogisticRegression())))
    stack = SoftStackingClassifier(members).fit(X, Y)
    assert stack.views_ == ["a", "b", "forest", "lr"] and stack.predict_proba(X).shape == Y.shape
    assert stack.nll_.shape == (4,)


def test_weights_are_documents():
    w = np.random.default_rng(3).integers(1, 3, N)
    twice, splits = np.repeat(np.arange(N), w), []
    for train, test in KFold(3).split(X):
        splits.append((np.flatnonzero(np.isin(twice, train)), np.flatnonzero(np.isin(twice, test))))
    members = [("a", LinearProbe(None, C=0.1)), ("b", LinearProbe(None))]
    weighted = SoftStackingClassifier(members, cv=KFold(3)).fit(X, H, sample_weight=w)
    repeated = SoftStackingClassifier(members, cv=splits).fit(X[twice], H[twice])
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-4)
    assert_allclose(weighted.nll_, repeated.nll_, atol=1e-5)
    with pytest.raises(TypeError, match="the fit of 'a', .* takes none"):
        SoftStackingClassifier([("a", told(1, 1))]).fit(NUMBERS, H, sample_weight=w)


def test_documents_that_are_never_held_out():
    cv = ShuffleSplit(3, test_size=0.3, random_state=0)
    stack = SoftStackingClassifier(probes(), cv=cv).fit(X, H)
    assert np.isfinite(stack.predict_proba(X)).all()


def test_scikit_learns_machinery():
    stack = SoftStackingClassifier(probes())
    assert stack.get_params()["b__linearprobe__C"] == 0.1
    stack.set_params(a__C=0.01, b=LinearProbe(None, C=1.0))
    assert stack.estimators[0][1].C == 0.01 and stack.estimators[1][1].C == 1.0
    search = GridSearchCV(stack, {"penalty": [1.0, 10.0]}, cv=3, scoring=scorers()["nll"]).fit(X, H)
    assert np.isfinite(search.best_score_)
    fitted = clone(stack).fit(X, H)
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), fitted.predict_proba(X))
    assert_array_equal(clone(stack).fit(X, H).predict_proba(X), fitted.predict_proba(X))
    named = SoftStackingClassifier(probes(), threshold=dict.fromkeys(LABELS, 0.3))
    assert named.fit(X, labelled(H, None, LABELS, None)).predict(X).sum() > fitted.predict(X).sum()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"estimators": []}, "expected a list of pairs"),
        ({"estimators": LinearProbe()}, "expected a list of pairs"),
        ({"estimators": [("a", LinearProbe)]}, "expected a list of pairs"),
        ({"estimators": [("a", 3)]}, "expected a list of pairs"),
        ({"estimators": probes() + probes()}, "not unique"),
        ({"estimators": [("a__b", LinearProbe())]}, "must not contain __"),
        ({"cv": 0}, "cv=0 but expected a positive integer"),
        ({"cv": []}, "no split at all"),
        ({"penalty": 0}, "penalty=0 but expected"),
        ({"multi_label": "no"}, "multi_label='no' but expected"),
        ({"threshold": 2}, "threshold=2 but expected"),
    ],
)
def test_hostile_parameters(params, message):
    stack = SoftStackingClassifier(probes()).set_params(**params)
    with pytest.raises((TypeError, ValueError), match=message):
        stack.fit(X, H)
    assert not [name for name in vars(stack) if name.endswith("_")]


def test_very_few_documents():
    stack = SoftStackingClassifier(probes()).fit(X[:3], H[:3])
    assert np.isfinite(stack.predict_proba(X)).all()
    with pytest.raises(ValueError, match="cv"):
        SoftStackingClassifier(probes()).fit(X[:1], H[:1])

import copy
import pickle
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pytest
from campaigns import at_most
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from inside import labelled
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict, cross_validate
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data
from sklearn_checks import parametrize_with_applicable_checks

from skmlmc.align import (
    BradleyTerry,
    CompareToNone,
    HardPredictions,
    MaxOverGenerations,
    UnaryBreakdown,
    bradley_terry_scores,
    compare_to_none,
    generated_labels,
    hard_predictions,
    label_sets,
    max_over_generations,
)
from skmlmc.align import _arithmetic as arithmetic
from skmlmc.calibrate import LinearProbe, ScalingAligner
from skmlmc.metrics import nll, scorers

NAN = [np.nan] * 4
STEPS = np.array(
    [
        [
            [0.6, 0.2, 0.1, 0.1],
            [0.5, 0.3, 0.1, 0.1],
            [0.2, 0.2, 0.1, 0.5],
        ],  # label 0, then 1 (0 came before), then none
        [[0.1, 0.2, 0.3, 0.4], NAN, NAN],  # none
        [[0.1, 0.2, 0.7, 0.0], [0.6, 0.1, 0.3, 0.0], [0.3, 0.3, 0.4, 0.0]],  # 2, 0, 1: all
        [[0.0, 0.9, 0.0, 0.1], [0.0, 0.9, 0.0, 0.1], NAN],  # 1, none
    ]
)


def random_steps(n, n_steps=3, n_labels=4, seed=0):
    rng = np.random.default_rng(seed)
    steps = rng.dirichlet(np.full(n_labels + 1, 0.5), size=(n, n_steps))
    steps[np.arange(n_steps) >= rng.integers(1, n_steps + 1, size=n)[:, None]] = np.nan
    return steps


def pairs_of(logits):
    """Pairwise probabilities from the logits of the upper triangle."""
    upper = np.triu(logits, 1)
    return expit(upper - np.swapaxes(upper, -1, -2))


def random_pairs(n, n_players=5, scale=2.0, seed=0):
    return pairs_of(np.random.default_rng(seed).normal(scale=scale, size=(n, n_players, n_players)))


def slow_answer(steps):
    answer = []
    for row in steps:
        if np.isnan(row).any() or len(row) - 1 in answer:
            answer.append(-1)
        else:
            answer.append(max(set(range(len(row))) - set(answer), key=lambda column: (row[column], -column)))
    return answer


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 5))
def test_generated_labels_agree_with_a_loop(seed, n_steps, n_labels):
    steps = random_steps(5, n_steps=n_steps, n_labels=n_labels, seed=seed)
    answers = generated_labels(steps)
    assert answers.tolist() == [slow_answer(document) for document in steps]
    indicators = [[int(label in answer) for label in range(n_labels)] for answer in answers]
    assert label_sets(steps).tolist() == indicators
    assert answers.dtype.kind == label_sets(steps).dtype.kind == "i"


def test_compare_to_none_is_a_sigmoid_of_the_logits():
    logits = np.random.default_rng(0).normal(scale=5, size=(20, 1, 6))
    assert_allclose(compare_to_none(softmax(logits, axis=2)), expit(logits[:, 0, :-1] - logits[:, 0, -1:]))


def test_compare_to_none_of_zeros():
    assert_array_equal(compare_to_none([[[1.0, 0.0, 0.0]]]), [[1, 0.5]])
    assert_array_equal(compare_to_none([[[0.0, 0.0, 1.0]]]), [[0, 0]])
    tiny = 5e-324  # the smallest double: nothing may overflow or become NaN
    assert_array_equal(compare_to_none([[[1.0, tiny, tiny]]]), [[1, 0.5]])
    assert_allclose(compare_to_none([[[1.0, 1e-300, 3e-300]]]), [[1, 0.25]])


def test_compare_to_none_of_single_labels():
    assert_allclose(compare_to_none(STEPS, multi_label=False)[1], [1 / 6, 2 / 6, 3 / 6])
    assert_array_equal(compare_to_none([[[0.0, 0.0, 1.0]]], multi_label=False), [[0.5, 0.5]])
    logits = np.random.default_rng(0).normal(size=(20, 1, 6))
    single = compare_to_none(softmax(logits, axis=2), multi_label=False)
    assert_allclose(single, softmax(logits[:, 0, :-1], axis=1))


def test_only_the_first_step_is_compared():
    changed = STEPS.copy()
    changed[:, 1:] = np.nan
    assert_array_equal(compare_to_none(changed), compare_to_none(STEPS))


def test_hard_predictions():
    assert_array_equal(hard_predictions(STEPS, eps=0.1), np.where(label_sets(STEPS) == 1, 0.9, 0.1))
    assert hard_predictions(STEPS)[0, 2] == 1e-8
    assert hard_predictions(STEPS)[0, 0] == 1 - 1e-8


def test_hard_predictions_of_single_labels():
    expected = np.full((4, 3), 0.1)
    expected[[0, 1, 2, 3], [0, 2, 2, 1]] = 0.9  # the answer of document 1 is none, label 2 its most probable label
    assert_array_equal(hard_predictions(STEPS, eps=0.1, multi_label=False), expected)


def test_max_over_generations():
    assert_array_equal(
        max_over_generations(STEPS), [[0.6, 0.3, 0.1], [0.1, 0.2, 0.3], [0.6, 0.3, 0.7], [0.0, 0.9, 0.0]]
    )


FUNCTIONS = [generated_labels, label_sets, compare_to_none, hard_predictions, max_over_generations]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_check_their_input_and_leave_it_alone(function):
    before = STEPS.copy()
    function(before)
    assert_array_equal(before, STEPS)
    with pytest.raises(ValueError, match="Expected steps to hold .*document 0, step 0"):
        function(STEPS * 2)
    with pytest.raises(ValueError, match=r"shape \(n, R, L \+ 1\)"):
        function(STEPS[0])


def slow_scores(pairs, l2):
    """One document by scipy: the oracle of the fast path."""
    players = len(pairs)
    a, b = np.triu_indices(players, 1)

    def loss(scores):
        gap = scores[a] - scores[b]
        cross_entropy = pairs[a, b] * np.logaddexp(0, -gap) + pairs[b, a] * np.logaddexp(0, gap)
        difference = expit(gap) - pairs[a, b]
        gradient = np.bincount(a, difference, players) - np.bincount(b, difference, players) + 2 * l2 * scores
        return cross_entropy.sum() + l2 * (scores**2).sum(), gradient

    options = {"gtol": 1e-10, "ftol": 1e-15, "maxiter": 10_000}
    return minimize(loss, np.zeros(players), jac=True, method="L-BFGS-B", options=options).x


@pytest.mark.parametrize("l2", [0.01, 1.0])
@pytest.mark.parametrize("n_players", [3, 8])
@pytest.mark.parametrize("scale", [1.0, 20.0], ids=["mild", "extreme"])
def test_scores_agree_with_scipy(l2, n_players, scale):
    pairs = random_pairs(4, n_players, scale)
    expected = [slow_scores(document, l2) for document in pairs]
    assert_allclose(bradley_terry_scores(pairs, l2), expected, atol=1e-6)


def total_order(n_players):
    return np.triu(np.ones((n_players, n_players)), 1)[None]


def gradient_of(scores, pairs, l2):
    pairs = pairs.copy()
    players = np.arange(pairs.shape[1])
    pairs[:, players, players] = 0.5
    return (expit(scores[:, :, None] - scores[:, None, :]) - pairs).sum(axis=2) + 2 * l2 * scores


@pytest.mark.parametrize("l2", [1e-6, 0.01, 100.0, 1e8])
def test_scores_of_a_total_order_converge(l2):
    pairs = total_order(12)  # without a penalty the scores would be infinite
    scores = bradley_terry_scores(pairs, l2)
    assert np.linalg.norm(gradient_of(scores, pairs, l2)) < 1e-9
    assert (np.diff(scores[0]) < 0).all()


def test_documents_do_not_depend_on_each_other(monkeypatch):
    pairs = np.concatenate([random_pairs(20), total_order(5), random_pairs(3, scale=30)])
    together = bradley_terry_scores(pairs)
    alone = np.concatenate([bradley_terry_scores(pairs[i : i + 1]) for i in range(len(pairs))])
    # Bit for bit: LAPACK solves each document's equations by themselves, however many are handed over at once.
    assert_array_equal(together, alone)
    monkeypatch.setattr(arithmetic, "CHUNK", 150)  # 6 documents at once
    assert_array_equal(together, bradley_terry_scores(pairs))


def test_pairs_within_the_tolerance_are_averaged():
    off = random_pairs(3)
    off[:, 0, 1:] += 4e-7  # now the two directions of a pair sum to 1 + 4e-7
    scores = bradley_terry_scores(off)
    assert_allclose(scores.sum(axis=1), 0, atol=1e-9)
    assert_allclose(bradley_terry_scores(off.transpose(0, 2, 1)), -scores, atol=1e-9)


def test_no_convergence_warns(monkeypatch):
    monkeypatch.setattr(arithmetic, "MAX_ITERATIONS", 2)
    with pytest.warns(ConvergenceWarning, match="scores of 1 documents did not converge in 2 steps. Increase l2"):
        scores = bradley_terry_scores(np.concatenate([total_order(5), np.full((1, 5, 5), 0.5)]))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("l2", [0, -1, np.nan, None])
def test_l2_must_be_positive(l2):
    with pytest.raises(ValueError, match="Got l2=.* but expected a finite number above 0"):
        bradley_terry_scores(random_pairs(2), l2)
    with pytest.raises(ValueError, match="Got l2="):
        BradleyTerry(l2=l2).fit(random_pairs(2))


logit_arrays = st.integers(3, 6).flatmap(lambda k: arrays(float, (2, k, k), elements=st.floats(-30, 30)))
few = at_most(50)


@few
@given(logit_arrays, st.randoms())
def test_scores_follow_a_permutation_of_the_players(logits, random):
    pairs = pairs_of(logits)
    order = list(range(pairs.shape[1]))
    random.shuffle(order)
    permuted = bradley_terry_scores(pairs[:, order][:, :, order])
    assert_allclose(permuted, bradley_terry_scores(pairs)[:, order], atol=1e-7)


@few
@given(logit_arrays)
def test_more_wins_mean_a_higher_score(logits):
    pairs = pairs_of(logits)
    scores, wins = bradley_terry_scores(pairs), pairs.sum(axis=2)  # of scores one way as of wins, in a round robin
    more = wins[:, :, None] > wins[:, None, :] + 1e-6
    assert (scores[:, :, None] > scores[:, None, :])[more].all()


@few
@given(logit_arrays, st.floats(0.1, 10))
def test_winning_more_raises_the_score(logits, lift):
    before = bradley_terry_scores(pairs_of(np.clip(logits, -5, 5)))
    logits = np.clip(logits, -5, 5)
    logits[:, 0, 1] += lift
    after = bradley_terry_scores(pairs_of(logits))
    assert (after[:, 0] > before[:, 0]).all()
    assert (after[:, 1] < before[:, 1]).all()


@few
@given(st.integers(3, 6).flatmap(lambda k: arrays(float, (2, k), elements=st.floats(-3, 3))))
def test_scores_are_recovered(truth):
    truth = truth - truth.mean(axis=1, keepdims=True)
    pairs = expit(truth[:, :, None] - truth[:, None, :])
    assert_allclose(bradley_terry_scores(pairs, l2=1e-9), truth, atol=1e-5)


def test_bradley_terry_compares_with_none():
    pairs = random_pairs(10)
    scores = bradley_terry_scores(pairs, 0.5)
    proba = BradleyTerry(l2=0.5).fit(pairs).predict_proba(pairs)
    assert_allclose(logit(proba), scores[:, :-1] - scores[:, -1:])
    single = BradleyTerry(l2=0.5, multi_label=False).fit(pairs).predict_proba(pairs)
    assert_allclose(single, softmax(scores[:, :-1], axis=1))
    assert_allclose(single.sum(axis=1), 1)


def test_hard_outcomes_are_rounded_and_draws_stay():
    pairs = np.array([[[0.5, 0.51, 0.5], [0.49, 0.5, 0.99], [0.5, 0.01, 0.5]]])
    rounded = np.array([[[0.5, 1, 0.5], [0, 0.5, 1], [0.5, 0, 0.5]]])
    hard = BradleyTerry(outcome="hard").fit(pairs)
    assert_array_equal(hard.predict_proba(pairs), BradleyTerry().fit(rounded).predict_proba(rounded))
    assert not np.allclose(hard.predict_proba(pairs), BradleyTerry().fit(pairs).predict_proba(pairs))
    within_tolerance = pairs + [[[0, 4e-7, 4e-7], [4e-7, 0, 0], [4e-7, 0, 0]]]  # both directions of a draw above 0.5
    assert_array_equal(hard.predict_proba(within_tolerance), hard.predict_proba(pairs))


ALIGNERS = [
    *(cls(multi_label=m) for cls in (CompareToNone, HardPredictions, BradleyTerry) for m in (True, False)),
    *(MaxOverGenerations(), BradleyTerry(outcome="hard")),
]
every_aligner = pytest.mark.parametrize("aligner", ALIGNERS, ids=repr)
NAMES = ["joy", "anger", "fear", "hope"]


def input_for(aligner, n=12, seed=0):
    return random_pairs(n, seed=seed) if isinstance(aligner, BradleyTerry) else random_steps(n, seed=seed)


def targets(n=12):
    return pd.DataFrame(np.random.default_rng(1).random((n, 4)).round(1), columns=NAMES)


@pytest.mark.parametrize(
    ("aligner", "function"),
    [
        (CompareToNone(), compare_to_none),
        (CompareToNone(multi_label=False), partial(compare_to_none, multi_label=False)),
        (HardPredictions(eps=0.1), partial(hard_predictions, eps=0.1)),
        (HardPredictions(multi_label=False), partial(hard_predictions, multi_label=False)),
        (MaxOverGenerations(), max_over_generations),
    ],
)
def test_estimators_are_their_functions(aligner, function):
    assert_array_equal(aligner.fit(STEPS).predict_proba(STEPS), function(STEPS))


@every_aligner
class TestEveryAligner:
    def test_fit_learns_the_names(self, aligner):
        X, y = input_for(aligner), targets()
        aligner = clone(aligner)
        assert aligner.fit(X) is aligner
        assert list(aligner.labels_) == ["label0", "label1", "label2", "label3"]
        assert aligner.n_labels_ == 4
        assert aligner.classes_.tolist() == [[0, 1]] * 4
        assert list(aligner.fit(X, y.to_numpy()).labels_) == ["label0", "label1", "label2", "label3"]
        for frame in (y, pl.from_pandas(y)):
            assert list(aligner.fit(X, frame).labels_) == NAMES
            assert_array_equal(aligner.get_feature_names_out(), np.array(NAMES, dtype=object))

    def test_probabilities(self, aligner):
        X = input_for(aligner)
        aligner = clone(aligner).fit(X)
        proba = aligner.predict_proba(X)
        assert proba.shape == (12, 4)
        assert proba.dtype == np.float64
        assert ((proba >= 0) & (proba <= 1)).all()
        assert_array_equal(aligner.transform(X), proba)
        assert_array_equal(aligner.fit_transform(X), proba)
        assert_array_equal(aligner.predict_proba(X.tolist()), proba)
        assert_array_equal(aligner.predict_proba(X[[3, 1]]), proba[[3, 1]])

    def test_predictions(self, aligner):
        X = input_for(aligner)
        aligner = clone(aligner).fit(X)
        proba, pred = aligner.predict_proba(X), aligner.predict(X)
        assert pred.dtype.kind == "i"
        if getattr(aligner, "multi_label", True):
            assert_array_equal(pred, proba >= 0.5)
            low = clone(aligner).set_params(threshold=[0, 1, 0.3, 0.5]).fit(X).predict(X)
            assert_array_equal(low, proba >= [0, 1, 0.3, 0.5])
        else:
            assert_array_equal(pred.sum(axis=1), 1)
            assert_array_equal(pred.argmax(axis=1), proba.argmax(axis=1))

    def test_not_fitted(self, aligner):
        X = input_for(aligner)
        for method in ("predict", "predict_proba", "transform"):
            with pytest.raises(NotFittedError):
                getattr(clone(aligner), method)(X)
        with pytest.raises(NotFittedError):
            clone(aligner).get_feature_names_out()
        assert not hasattr(clone(aligner), "classes_")

    def test_another_number_of_labels_is_refused(self, aligner):
        X = input_for(aligner)
        fewer = random_pairs(3, 4) if isinstance(aligner, BradleyTerry) else random_steps(3, n_labels=3)
        with pytest.raises(ValueError, match="for the 4 labels of fit, but got them for 3"):
            clone(aligner).fit(X).predict_proba(fewer)

    def test_wrong_input_is_refused(self, aligner):
        X = input_for(aligner)
        fit = clone(aligner).fit
        for wrong in (X[0], X[:0], X[:, :, :2], X + 1):
            with pytest.raises(ValueError, match="Expected|Found array with 0 sample"):
                fit(wrong)
            with pytest.raises(ValueError, match="Expected|Found array with 0 sample"):
                fit(X).predict_proba(wrong)
        with pytest.raises(TypeError, match="Expected (steps|pairs)"):
            fit(["a text"])

    def test_wrong_targets_are_refused(self, aligner):
        X, y = input_for(aligner), targets()
        with pytest.raises(ValueError, match="4 columns, one a label, but got 3"):
            clone(aligner).fit(X, y[NAMES[:3]])
        with pytest.raises(ValueError, match="12 rows, one a document, but got 5"):
            clone(aligner).fit(X, y[:5])
        message = "1-D y|and 4 labels|The numbers in y|y to have 4 columns, one a label, but got 12"
        with pytest.raises((ValueError, UserWarning), match=message):
            clone(aligner).fit(X, np.arange(12))

    def test_wrong_parameters_are_refused(self, aligner):
        X = input_for(aligner)
        wrong = {"threshold": [1.5, [0.5], {"joy": 0.5}], "multi_label": ["yes", 1], "eps": [0, 0.5], "outcome": ["x"]}
        for name in set(wrong) & set(aligner.get_params()):
            for value in wrong[name]:
                with pytest.raises(ValueError, match=f"Got (a )?{name}"):
                    clone(aligner).set_params(**{name: value}).fit(X)

    def test_pickle_is_small_and_the_same(self, aligner):
        X = input_for(aligner)
        fitted = clone(aligner).fit(X, targets())
        data = pickle.dumps(fitted)
        assert len(data) < 1000
        assert_array_equal(pickle.loads(data).predict_proba(X), fitted.predict_proba(X))
        assert list(pickle.loads(data).labels_) == NAMES

    @pytest.mark.parametrize(("container", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
    def test_set_output(self, aligner, container, frame):
        X = input_for(aligner)
        fitted = clone(aligner).set_output(transform=container).fit(X, targets())
        out = fitted.transform(X)
        assert isinstance(out, frame)
        assert list(out.columns) == NAMES
        assert_array_equal(out.to_numpy(), fitted.predict_proba(X))
        assert isinstance(fitted.predict_proba(X), np.ndarray)

    def test_tags(self, aligner):
        tags = get_tags(aligner)
        assert is_classifier(aligner)
        assert tags.input_tags.three_d_array
        assert not tags.input_tags.two_d_array
        assert tags.classifier_tags.multi_label == getattr(aligner, "multi_label", True)
        assert tags.classifier_tags.multi_class != tags.classifier_tags.multi_label
        assert not tags.target_tags.required
        assert tags.transformer_tags is not None

    def test_last_step_of_a_pipeline(self, aligner):
        X, y = input_for(aligner), targets()
        pipe = make_pipeline(Untouched(), clone(aligner)).fit(X, y)
        alone = clone(aligner).fit(X, y)
        assert_array_equal(pipe.predict_proba(X), alone.predict_proba(X))
        assert_array_equal(pipe.predict(X), alone.predict(X))
        assert pipe.score(X, y) == alone.score(X, y)
        assert_array_equal(pipe.classes_, alone.classes_)

    def test_middle_step_of_a_pipeline(self, aligner):
        X, y = input_for(aligner, n=40), targets(40) > 0.5
        pipe = make_pipeline(clone(aligner), MultiOutputClassifier(LogisticRegression()))
        pipe.set_output(transform="pandas").fit(X, y)
        last = pipe[-1].estimators_[0]
        assert_array_equal(last.feature_names_in_, NAMES)
        assert pipe.predict(X).shape == (40, 4)
        assert list(pipe[:-1].get_feature_names_out()) == NAMES

    @pytest.mark.parametrize("names", [True, False])
    def test_cross_validation(self, aligner, names):
        X, y = input_for(aligner), targets()
        y = y if names else y.to_numpy()
        proba = clone(aligner).fit(X).predict_proba(X)
        results = cross_validate(aligner, X, y, cv=KFold(3), scoring=scorers(), error_score="raise")
        several = getattr(aligner, "multi_label", True)
        assert results["test_nll"][0] == pytest.approx(-nll(np.asarray(y)[:4], proba[:4], multi_label=several))
        # scikit-learn hands ranks instead of soft targets to fit here, which does no harm: they are not used.
        assert_array_equal(cross_val_predict(aligner, X, y, cv=3, method="predict_proba"), proba)
        assert_array_equal(cross_val_predict(aligner, X, y, cv=3), clone(aligner).fit(X).predict(X))


class Untouched(TransformerMixin, BaseEstimator):
    """Stands for an extractor: gives a 3-D array, whatever set_output says."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize(
    ("aligner", "kind", "message"),
    [
        (MaxOverGenerations(), "pairs", r"Expected steps \(of StepwiseExtractor\), but got pairs .*Use BradleyTerry"),
        (CompareToNone(), "unary", "but got unary .*UnaryBreakdown or ScalingAligner"),
        (HardPredictions(), "hidden", "but got hidden .*LinearProbe"),
        (BradleyTerry(), "steps", r"Expected pairs \(of PairwiseExtractor\), but got steps"),
        (UnaryBreakdown(), "hidden", "Expected unary .* but got hidden"),
        (ScalingAligner(), "pairs", "Expected unary .* or steps .*, but got pairs .*Use BradleyTerry"),
        (LinearProbe(C=1.0), "steps", "Expected hidden .* or unary .*, but got steps .*MaxOverGenerations"),
    ],
)
def test_another_kind_is_refused_with_what_takes_it(aligner, kind, message):
    X = {"steps": random_steps(12), "pairs": random_pairs(12)}.get(kind, np.full((12, 4), 0.5))
    known, y = labelled(X, kind, None, None), targets().to_numpy()
    with pytest.raises(ValueError, match=message):
        clone(aligner).fit(known, y)
    takes = {BradleyTerry: random_pairs(12), UnaryBreakdown: np.full((12, 4), 0.5)}.get(type(aligner), random_steps(12))
    takes = np.full((12, 4), 0.5) if isinstance(aligner, (LinearProbe, ScalingAligner)) else takes
    with pytest.raises(ValueError, match=message):
        clone(aligner).fit(takes, y).predict_proba(known)


def test_what_the_model_wrote_is_read_where_it_is_known():
    written = np.array([[2, 3, -1], [3, -1, -1], [0, 1, 2], [1, 3, -1]])  # not what the probabilities say
    known = labelled(STEPS, "steps", NAMES[:3], None, written)
    assert_array_equal(generated_labels(known), written)
    assert_array_equal(label_sets(known), [[0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    assert_array_equal(hard_predictions(known, eps=0.1), np.where(label_sets(known) == 1, 0.9, 0.1))
    assert_array_equal(HardPredictions(eps=0.1).fit_transform(known), hard_predictions(known, eps=0.1))
    for rows in (slice(1, 3), [3, 0], written[:, 0] == 3, np.arange(2)):
        for part in (known[rows], known[rows, ...], copy.copy(known[rows]), copy.deepcopy(known[rows])):
            assert_array_equal(part, STEPS[rows])
            assert_array_equal(generated_labels(part), written[rows])
    assert {type(part) for part in (known[0], known[:, 0], known[STEPS > 0], known + 0)} == {np.ndarray}


class Flat:
    """Lets scikit-learn's checks, which only know 2-D input, at an aligner: features become logits."""

    def fit(self, X, y=None):
        return super().fit(self._unflatten(validate_data(self, X, dtype=np.float64)))

    def predict_proba(self, X):
        check_is_fitted(self)
        return super().predict_proba(self._unflatten(validate_data(self, X, dtype=np.float64, reset=False)))

    def _unflatten(self, X):
        logits = np.hstack([X, np.zeros((len(X), 2))])  # at least two labels and none
        if self._kind == "pairs":
            return expit(logits[:, :, None] - logits[:, None, :])
        return softmax(np.stack([logits, logits[:, ::-1]], axis=1), axis=2)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = False
        tags.input_tags.two_d_array = True
        return tags


class FlatCompareToNone(Flat, CompareToNone):
    pass


class FlatHardPredictions(Flat, HardPredictions):
    pass


class FlatMaxOverGenerations(Flat, MaxOverGenerations):
    pass


class FlatBradleyTerry(Flat, BradleyTerry):
    pass


ZERO_SHOT = "the labels are those of the input, whatever y: a zero-shot aligner reads nothing but names from it"
NAMES_ONLY = "the adapter has more labels than the check's y has columns, so score refuses"
EXPECTED_FAILURES = {
    **dict.fromkeys(["check_fit_score_takes_y", "check_pipeline_consistency"], NAMES_ONLY),
    **dict.fromkeys(
        """check_classifiers_one_label check_classifiers_classes check_classifier_multioutput check_classifiers_train
        check_classifiers_regression_target check_classifiers_multilabel_output_format_predict
        check_classifiers_multilabel_output_format_predict_proba check_supervised_y_no_nan
        check_classifier_not_supporting_multiclass""".split(),
        ZERO_SHOT,
    ),
}


@parametrize_with_applicable_checks(
    [FlatCompareToNone(), FlatHardPredictions(), FlatMaxOverGenerations(), FlatBradleyTerry()],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_names_pass_through_pipelines():
    steps = np.full((4, 1, 3), 1 / 3)
    given = MaxOverGenerations().fit(steps)
    assert given.get_feature_names_out(["joy", "anger", "none"]).tolist() == ["joy", "anger"]
    assert given.get_feature_names_out(["joy", "anger"]).tolist() == ["joy", "anger"]
    assert (
        given.get_feature_names_out().tolist() == given.get_feature_names_out(["text"]).tolist() == ["label0", "label1"]
    )

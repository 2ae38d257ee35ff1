import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from campaigns import at_most
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, logit, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.utils.validation import check_array
from sklearn_checks import parametrize_with_applicable_checks
from versions import ARRAY_API

from skmlmc.align import BradleyTerry, MaxOverGenerations
from skmlmc.calibrate import LinearProbe, ScalingAligner
from skmlmc.metrics import nll

ROOT = Path(__file__).parents[2]

KINDS = ["platt", "temperature", "beta", "isotonic", "matrix"]
SCALING = ["platt", "temperature", "beta"]
LABELS = ["anger", "joy", "love"]
N_ANNOTATORS = 4


def documents(n=200, n_labels=3, seed=0, multi_label=True):
    """Annotators' proportions, and a model that confuses the labels and is too sure of itself."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(n_labels) + 0.3 * np.random.default_rng(99).normal(size=(n_labels, n_labels))
    z = 1.5 * rng.normal(size=(n, n_labels)) - 1
    d = 3 * z @ mixing + 2 + rng.normal(size=(n, n_labels))
    if multi_label:
        return expit(d), rng.binomial(N_ANNOTATORS, expit(z)) / N_ANNOTATORS
    H = np.array([rng.multinomial(N_ANNOTATORS, p) for p in softmax(z, axis=1)]) / N_ANNOTATORS
    return softmax(d, axis=1), H


def hidden_states(n=150, d=20, n_labels=3, seed=0, multi_label=True):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.5
    z = 2 * X @ np.random.default_rng(98).normal(size=(d, n_labels)) - 1
    if multi_label:
        return X, rng.binomial(N_ANNOTATORS, expit(z)) / N_ANNOTATORS
    return X, np.array([rng.multinomial(N_ANNOTATORS, p) for p in softmax(z, axis=1)]) / N_ANNOTATORS


def expanded(X, H, multi_label=True):
    """One row of hard targets an annotator."""
    counts = np.rint(N_ANNOTATORS * H).astype(int)
    if multi_label:
        rows = np.stack([(np.arange(N_ANNOTATORS)[:, None] < c) for c in counts]).astype(float)
    else:
        rows = np.stack([np.eye(H.shape[1])[np.repeat(np.arange(H.shape[1]), c)] for c in counts])
    return np.repeat(X, N_ANNOTATORS, axis=0), rows.reshape(-1, H.shape[1])


def estimators(multi_label=True):
    """One of each, with C fixed so that nothing depends on folds."""
    return [ScalingAligner(kind, C=0.5, multi_label=multi_label) for kind in KINDS] + [
        ScalingAligner(kind, shared=True, multi_label=multi_label) for kind in KINDS[:-1]
    ]


def probe(**params):
    return LinearProbe(**{"C": 0.5, "n_components": 0.5, "random_state": 0} | params)


def data_for(estimator, **params):
    params["multi_label"] = estimator.multi_label
    return hidden_states(**params) if isinstance(estimator, LinearProbe) else documents(**params)


EVERYTHING = estimators() + estimators(False) + [probe(), probe(multi_label=False)]


def scaled(theta, kind, P, multi_label):
    """The table in ScalingAligner's docstring, word by word."""
    d = logit(P) if multi_label else np.log(P)
    if kind == "temperature":
        Z = d / theta[0]
    elif kind == "platt":
        Z = theta[0] * d + theta[1]
    else:
        Z = theta[0] * np.log(P) - theta[1] * np.log(1 - P) + theta[2]
    return expit(Z) if multi_label else softmax(Z, axis=1)


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", SCALING)
def test_scaling_agrees_with_a_reference_minimiser(kind, shared, multi_label):
    P, H = documents(120, multi_label=multi_label)
    P = P.clip(1e-8, 1 - 1e-8)
    n, n_labels = H.shape
    undecided = (n * H + (0.5 if multi_label else 1 / n_labels)) / (n + 1)
    n_params, width = {"temperature": 1, "platt": 2, "beta": 3}[kind], 1 if shared else n_labels
    # A minimiser without gradients; what must not be negative is a square.
    positive = {"temperature": [True], "platt": [False, False], "beta": [True, True, False]}[kind]

    def parameters(flat):
        theta = flat.reshape(n_params, width)
        return np.where(np.array(positive)[:, None], theta**2, theta)

    def loss(flat):
        Q = scaled(parameters(flat), kind, P, multi_label)
        return n * nll(undecided, Q, multi_label=multi_label)

    best = minimize(loss, np.full(n_params * width, 0.7), method="Powell", options={"xtol": 1e-9, "ftol": 1e-13})
    best = minimize(loss, best.x, method="BFGS")
    expected = scaled(parameters(best.x), kind, P, multi_label)
    aligner = ScalingAligner(kind, shared=shared, multi_label=multi_label).fit(P, H)
    assert_allclose(aligner.predict_proba(P), expected, atol=2e-4)
    fitted = n * nll(undecided, aligner.predict_proba(P), multi_label=multi_label)
    assert fitted <= best.fun + 1e-5


@pytest.mark.parametrize("kind", SCALING)
def test_public_parameters_are_those_of_the_documented_formula(kind):
    P, H = documents()
    aligner = ScalingAligner(kind).fit(P, H)
    theta = list(aligner.params_.values())
    assert all(value.shape == (3,) for value in theta)
    assert_allclose(aligner.predict_proba(P), scaled(theta, kind, P.clip(1e-8, 1 - 1e-8), True), atol=1e-7)


def reference_logistic(F, H, C, multi_label):
    n, k = F.shape
    n_labels = H.shape[1]
    F = np.vstack([F, F.mean(axis=0)])
    H = np.vstack([H, np.full(n_labels, 0.5 if multi_label else 1 / n_labels)])

    def loss(flat):
        theta = flat.reshape(k + 1, n_labels)
        Z = F @ theta[:k] + theta[k]
        if multi_label:
            likelihood = H * np.log(expit(Z)) + (1 - H) * np.log(expit(-Z))
        else:
            likelihood = H * np.log(softmax(Z, axis=1))
        return -likelihood.sum() + (theta[:k] ** 2).sum() / (2 * C)

    theta = minimize(loss, np.zeros((k + 1) * n_labels), method="BFGS", options={"gtol": 1e-4}).x.reshape(k + 1, -1)
    return theta[:k], theta[k]


@pytest.mark.parametrize("multi_label", [True, False])
def test_matrix_agrees_with_a_reference_minimiser(multi_label):
    P, H = documents(100, multi_label=multi_label)
    aligner = ScalingAligner("matrix", C=0.3, multi_label=multi_label).fit(P, H)
    d = logit(P.clip(1e-8, 1 - 1e-8)) if multi_label else np.log(P.clip(1e-8))
    F = (d - d.mean(axis=0)) / d.std(axis=0)
    coef, intercept = reference_logistic(F, H, 0.3, multi_label)
    Z = F @ coef + intercept
    assert_allclose(aligner.predict_proba(P), expit(Z) if multi_label else softmax(Z, axis=1), atol=1e-4)
    Z = d @ aligner.coef_.T + aligner.intercept_  # the public weights are those of the logits themselves
    assert_allclose(aligner.predict_proba(P), expit(Z) if multi_label else softmax(Z, axis=1), atol=1e-7)


@pytest.mark.parametrize("multi_label", [True, False])
def test_probe_agrees_with_a_reference_minimiser(multi_label):
    X, H = hidden_states(multi_label=multi_label)
    fitted = probe(n_components=4, multi_label=multi_label).fit(X, H)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    F = Z @ np.linalg.svd(Z)[2][:4].T
    coef, intercept = reference_logistic(F, H, 0.5, multi_label)
    Z = F @ coef + intercept
    assert_allclose(fitted.predict_proba(X), expit(Z) if multi_label else softmax(Z, axis=1), atol=1e-4)
    assert fitted.coef_.shape == (3, 4)


def test_probe_is_logistic_regression_up_to_one_document():
    X, H = hidden_states(2000, 5, 1)
    hard = (H > 0.5).astype(int)
    expected = LogisticRegression(C=0.5).fit((X - X.mean(0)) / X.std(0), hard[:, 0])
    got = probe(n_components=None).fit(X, hard).predict_proba(X)
    difference = abs(got[:, 0] - expected.predict_proba((X - X.mean(0)) / X.std(0))[:, 1])
    assert 0 < difference.max() < 5e-3


@pytest.mark.parametrize("estimator", EVERYTHING, ids=repr)
def test_soft_targets_are_exactly_the_annotators_one_by_one(estimator):
    X, H = data_for(estimator, n=60)
    weights = np.full(len(X), float(N_ANNOTATORS))
    soft = clone(estimator).fit(X, H, sample_weight=weights).predict_proba(X)
    hard = clone(estimator).fit(*expanded(X, H, estimator.multi_label)).predict_proba(X)
    assert_allclose(soft, hard, atol=2e-5)
    other = (H > 0.5) if estimator.multi_label else H[::-1]
    assert abs(soft - clone(estimator).fit(X, other).predict_proba(X)).max() > 0.02


@pytest.mark.parametrize("estimator", EVERYTHING, ids=repr)
def test_weights_are_repetitions_and_zero_is_absence(estimator):
    X, H = data_for(estimator, n=60)
    weights = np.random.default_rng(0).integers(0, 4, size=len(X))
    weighted = clone(estimator).fit(X, H, sample_weight=weights).predict_proba(X)
    repeated = clone(estimator).fit(np.repeat(X, weights, axis=0), np.repeat(H, weights, axis=0)).predict_proba(X)
    assert_allclose(weighted, repeated, atol=2e-5)
    assert abs(weighted - clone(estimator).fit(X, H).predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("estimator", [ScalingAligner("matrix"), LinearProbe(random_state=0)], ids=repr)
def test_documents_of_weight_zero_do_not_take_part_in_the_choice_of_strength(estimator):
    X, H = data_for(estimator, n=80)
    weights = np.r_[np.zeros(40), np.ones(40)]
    weighted, without = clone(estimator).fit(X, H, sample_weight=weights), clone(estimator).fit(X[40:], H[40:])
    assert_array_equal(weighted.cv_results_["nll"], without.cv_results_["nll"])


@pytest.mark.parametrize("estimator", EVERYTHING, ids=repr)
def test_labels_with_a_single_class_get_finite_probabilities(estimator):
    X, H = data_for(estimator, n=100)
    H = np.eye(3)[np.full(100, 1)] if not estimator.multi_label else H * [0, 0, 1] + [0, 1, 0]
    proba = clone(estimator).fit(X, H).predict_proba(X)
    assert ((proba > 0) & (proba < 1)).all()
    if getattr(estimator, "shared", False):
        return
    # One undecided document among 101; temperature has no offset, so that it cannot say "never".
    if getattr(estimator, "kind", "") != "temperature":
        assert (proba[:, 0] < 0.02).all()
        assert (proba[:, 1] > 0.98).all()


def test_constant_probabilities_give_the_smoothed_base_rate():
    _, H = documents(99)
    H[:, 0] = 0
    expected = (H.sum(axis=0) + 0.5) / 100
    for kind in ("platt", "isotonic", "beta", "matrix"):
        got = ScalingAligner(kind, C=1.0).fit(np.full(H.shape, 0.2), H).predict_proba(np.full((2, 3), 0.2))
        assert_allclose(got, [expected, expected], rtol=1e-3, err_msg=kind)


def test_constant_features_give_the_smoothed_base_rate():
    _, H = hidden_states(99)
    for params in ({}, {"scale": False}, {"n_components": None}):
        got = probe(**params).fit(np.ones((99, 8)), H).predict_proba(np.ones((1, 8)))
        assert_allclose(got, [(H.sum(axis=0) + 0.5) / 100], rtol=1e-3)


@pytest.mark.parametrize("estimator", EVERYTHING, ids=repr)
def test_separated_and_extreme_data_stay_inside_the_open_interval(estimator):
    H = np.eye(3)[np.arange(60) % 3]
    X = np.where(H == 1, 0.9, 0.1) / (1 if estimator.multi_label else 1.1)
    fitted = clone(estimator).fit(X, H)
    proba = fitted.predict_proba(np.vstack([X, np.eye(3), np.zeros((1, 3)), np.ones((1, 3))]))
    assert ((proba > 0) & (proba < 1)).all()
    assert_array_equal(fitted.predict(X), H)
    if not estimator.multi_label:
        assert_allclose(proba.sum(axis=1), 1)


probabilities = arrays(float, st.tuples(st.integers(2, 8), st.just(2)), elements=st.floats(0, 1))


@at_most(25)
@given(P=probabilities, seed=st.integers(0, 2**16), multi_label=st.booleans())
def test_any_probabilities_and_any_targets_give_probabilities(P, seed, multi_label):
    rng = np.random.default_rng(seed)
    H = rng.integers(0, 4, size=P.shape) / 3 if multi_label else rng.dirichlet([0.3, 0.3], size=len(P))
    for estimator in estimators(multi_label):
        proba = estimator.fit(P, H).predict_proba(np.vstack([P, [[0, 1]]]))
        assert ((proba > 0) & (proba < 1)).all()
        if not multi_label:
            assert_allclose(proba.sum(axis=1), 1)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_very_few_documents(n):
    X, H = hidden_states(n, 6)
    assert np.isfinite(probe().fit(X, H).predict_proba(X)).all()
    if n == 1:
        with pytest.raises(ValueError, match="n_samples=1 but expected at least 2 documents to choose C"):
            LinearProbe().fit(X, H)
    else:
        assert np.isfinite(LinearProbe(random_state=0).fit(X, H).predict_proba(X)).all()


def test_two_labels_of_a_single_label_task_agree_with_one_logistic_regression():
    X, H = hidden_states(n_labels=2, multi_label=False)
    single = probe(multi_label=False).fit(X, H)
    one = probe().fit(X, H[:, 1:])
    assert_allclose(single.predict_proba(X)[:, 1], one.predict_proba(X)[:, 0], atol=1e-4)
    assert_allclose(single.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", ["temperature", "beta", "isotonic"])
def test_rising_kinds_never_reverse_the_order(kind, shared):
    P, H = documents()
    grid = np.repeat(np.linspace(0, 1, 201)[:, None], 3, axis=1)
    steps = np.diff(ScalingAligner(kind, shared=shared).fit(P, H).predict_proba(grid), axis=0)
    assert (steps >= -1e-12).all()
    if kind == "temperature":
        assert (steps > 0).all()
    reverse = ScalingAligner(kind, shared=shared).fit(P, 1 - H).predict_proba(grid)
    assert (np.diff(reverse, axis=0) >= -1e-12).all()


def test_platt_turns_a_reversed_label_round():
    P, H = documents()
    assert (ScalingAligner("platt").fit(P, 1 - H).params_["slope"] < 0).all()


def test_temperature_keeps_what_is_above_one_half():
    P, H = documents()
    aligned = ScalingAligner("temperature").fit(P, H)
    assert_array_equal(aligned.predict_proba(P) > 0.5, P > 0.5)
    assert (aligned.params_["temperature"] > 2).all()  # the model is about three times too sure


def test_shared_functions_are_the_same_for_all_labels():
    P, H = documents()
    for kind in KINDS[:-1]:
        proba = ScalingAligner(kind, shared=True).fit(P, H).predict_proba(np.full((1, 3), 0.3))
        assert_allclose(proba, proba[0, 0])
        assert np.ptp(ScalingAligner(kind).fit(P, H).predict_proba(np.full((1, 3), 0.3))) > 0.001


@pytest.mark.parametrize("multi_label", [True, False])
def test_perfect_probabilities_are_left_alone(multi_label):
    P, _ = documents(400, multi_label=multi_label)
    P = 0.1 / P.shape[1] + 0.9 * P if not multi_label else 0.05 + 0.9 * P
    for kind in SCALING + ["isotonic", "matrix"]:
        aligned = ScalingAligner(kind, C=1e4, multi_label=multi_label).fit(P, P).predict_proba(P)
        assert_allclose(aligned, P, atol=0.02 if kind == "isotonic" else 0.01, err_msg=kind)


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_new_documents_are_better_aligned_than_by_the_model(kind, multi_label):
    P, H = documents(300, multi_label=multi_label)
    P_new, H_new = documents(1000, seed=1, multi_label=multi_label)
    constant = np.tile(H.mean(axis=0), (1000, 1))
    before, base = (nll(H_new, Q, multi_label=multi_label) for Q in (P_new, constant))
    aligner = ScalingAligner(kind, multi_label=multi_label).fit(P, H)
    after = nll(H_new, aligner.predict_proba(P_new), multi_label=multi_label)
    assert after < 0.7 * before
    assert after < base - 0.1 or kind == "temperature"


def test_matrix_learns_which_labels_the_model_confuses():
    P, H = documents(300)
    P_new, H_new = documents(1000, seed=1)
    # The model says "joy" when annotators say "anger", and the other way round.
    swapped = [1, 0, 2]
    score = {
        kind: nll(H_new, ScalingAligner(kind).fit(P[:, swapped], H).predict_proba(P_new[:, swapped]))
        for kind in ("platt", "matrix")
    }
    assert score["matrix"] < score["platt"] - 0.2


@pytest.mark.parametrize("estimator", EVERYTHING, ids=repr)
def test_training_documents_are_never_fitted_much_worse_than_by_the_base_rate(estimator):
    rng = np.random.default_rng(0)
    X, H = data_for(estimator, n=100)
    X = X[rng.permutation(100)]  # nothing to learn
    score = nll(H, clone(estimator).fit(X, H).predict_proba(X), multi_label=estimator.multi_label)
    constant = np.tile(H.mean(axis=0), (100, 1))
    if getattr(estimator, "kind", "") == "temperature":  # without an offset it can only say 0.5, or 1 / L
        constant[:] = 0.5 if estimator.multi_label else 1 / 3
    elif getattr(estimator, "shared", False):
        constant[:] = H.mean()
    assert score < nll(H, constant, multi_label=estimator.multi_label) + 0.01


@pytest.mark.parametrize(
    ("n_components", "shape", "expected"),
    [
        (0.25, (60, 16), 4),
        (0.01, (60, 16), 1),
        (0.9, (60, 16), 14),
        (5, (60, 16), 5),
        (99, (60, 16), 15),
        (0.9, (8, 16), 7),
        (0.25, (60, 1), 1),
        (None, (60, 16), 16),
    ],
)
def test_width_is_bounded_by_the_data(n_components, shape, expected):
    X, H = hidden_states(*shape)
    assert probe(n_components=n_components).fit(X, H).n_components_ == expected


def test_random_state_does_not_change_the_probe():
    X, H = hidden_states()
    first, second = (LinearProbe(random_state=seed).fit(X, H).predict_proba(X) for seed in (0, 1))
    assert_allclose(first, second, atol=1e-6)


def test_scaling_makes_the_unit_of_a_column_irrelevant():
    X, H = hidden_states()
    unit = np.random.default_rng(0).lognormal(size=X.shape[1])
    assert_allclose(probe().fit(X, H).predict_proba(X), probe().fit(X * unit, H).predict_proba(X * unit), atol=1e-5)
    unscaled = (probe(scale=False).fit(Z, H).predict_proba(Z) for Z in (X, X * unit))
    assert abs(next(unscaled) - next(unscaled)).max() > 0.01


def test_strength_is_chosen_by_held_out_likelihood():
    X, H = hidden_states(100, 60)
    X_new, H_new = hidden_states(1000, 60, seed=1)
    chosen = LinearProbe(n_components=None).fit(X, H)
    results = chosen.cv_results_
    assert chosen.C_ == results["C"][np.argmin(results["nll"])]
    assert 1e-3 < chosen.C_ < 10
    score = {C: nll(H_new, LinearProbe(None, C=C).fit(X, H).predict_proba(X_new)) for C in (1e-3, chosen.C_, 100.0)}
    assert score[chosen.C_] < min(score[1e-3], score[100.0]) - 0.05
    # The search stops two values after the best one.
    assert len(results["C"]) == np.argmin(results["nll"]) + 3


@pytest.mark.parametrize("multi_label", [True, False])
def test_choice_of_strength_sees_exactly_the_held_out_documents(multi_label):
    X, H = hidden_states(60, 6, multi_label=multi_label)
    cv = KFold(3, shuffle=True, random_state=0)
    splits = list(cv.split(X))

    def held_out_nll(train, test, C):
        fitted = probe(n_components=3, C=C, multi_label=multi_label).fit(X[train], H[train])
        return nll(H[test], fitted.predict_proba(X[test]), multi_label=multi_label)

    def results(cv):
        return LinearProbe(3, cv=cv, multi_label=multi_label).fit(X, H).cv_results_

    by_hand = [np.mean([held_out_nll(*split, C) for split in splits]) for C in results(cv)["C"]]
    assert_allclose(results(cv)["nll"], by_hand, atol=1e-5)
    assert_allclose(results(splits)["nll"], results(cv)["nll"])
    assert abs(results(3)["nll"][0] - results(cv)["nll"][0]) > 1e-7


def test_a_given_strength_is_used_without_a_search():
    for estimator in (probe(), ScalingAligner("matrix", C=0.5)):
        fitted = estimator.fit(*data_for(estimator))
        assert fitted.C_ == 0.5
        assert fitted.cv_results_ is None


@pytest.mark.parametrize("estimator", [ScalingAligner(), ScalingAligner("matrix"), probe()], ids=repr)
def test_names_of_labels_travel(estimator):
    X, H = data_for(estimator)
    for frame in (pd.DataFrame(H, columns=LABELS), pl.DataFrame(H, schema=LABELS)):
        fitted = clone(estimator).fit(X, frame)
        assert list(fitted.labels_) == LABELS
        assert_array_equal(fitted.get_feature_names_out(), LABELS)
        assert_allclose(fitted.predict_proba(X), clone(estimator).fit(X, H).predict_proba(X))
    assert list(clone(estimator).fit(X, H).labels_) == ["label0", "label1", "label2"]
    assert list(clone(estimator).fit(X, csr_array(H)).labels_) == ["label0", "label1", "label2"]
    out = fitted.set_output(transform="pandas").transform(X)
    assert list(out.columns) == LABELS
    assert_array_equal(out.to_numpy(), fitted.predict_proba(X))
    assert fitted.set_output(transform="polars").transform(X).columns == LABELS


def test_columns_of_probabilities_and_targets_are_matched_by_name():
    P, H = documents()
    frame = pd.DataFrame(P, columns=LABELS)
    assert list(ScalingAligner().fit(frame, H).labels_) == LABELS
    backwards = pd.DataFrame(H, columns=LABELS)[LABELS[::-1]]
    assert list(ScalingAligner().fit(frame, backwards).labels_) == LABELS
    assert list(ScalingAligner().fit(P, backwards).labels_) == LABELS[::-1]  # no names in X: the order of y
    prefixed = frame.add_prefix("llm__")  # as a ColumnTransformer names what an aligner's columns are made of
    assert_array_equal(
        ScalingAligner().fit(prefixed, backwards).predict_proba(prefixed[prefixed.columns[::-1]]),
        ScalingAligner().fit(P, H).predict_proba(P),
    )
    assert list(ScalingAligner().fit(prefixed, backwards).labels_) == LABELS
    for others in (["x", "y", "z"], ["anger", "joy", "z"]):
        with pytest.raises(ValueError, match="the same labels as columns, but got .*'love'.* and .*'z'"):
            ScalingAligner().fit(frame, pd.DataFrame(H, columns=others))


def test_distribution_takes_the_place_of_the_targets():
    P, H = documents()
    expected = ScalingAligner().fit(P, H)
    hard = pd.DataFrame((H > 0.5).astype(int), columns=LABELS)
    got = ScalingAligner().fit(P, hard, distribution=H)
    assert list(got.labels_) == LABELS
    assert_array_equal(got.predict_proba(P), expected.predict_proba(P))
    assert_array_equal(ScalingAligner().fit(P, None, distribution=H).predict_proba(P), expected.predict_proba(P))


@pytest.mark.parametrize("estimator", [ScalingAligner(), probe()], ids=repr)
def test_out_of_fold_probabilities_with_soft_targets(estimator):
    X, H = data_for(estimator)
    cv = KFold(4, shuffle=True, random_state=0)
    expected = np.empty_like(H)
    for train, test in cv.split(X):
        expected[test] = clone(estimator).fit(X[train], H[train]).predict_proba(X[test])
    with sklearn.config_context(enable_metadata_routing=True):
        for routed in (
            clone(estimator).set_fit_request(distribution=True),
            make_pipeline(clone(estimator).set_fit_request(distribution=True)),
        ):
            got = cross_val_predict(
                routed, X, (H > 0.5).astype(int), cv=cv, method="predict_proba", params={"distribution": H}
            )
            assert_allclose(got, expected)
    with pytest.raises(ValueError, match="cross_val_predict"):  # the trap: ranks instead of proportions
        cross_val_predict(clone(estimator), X, H, cv=cv, method="predict_proba")


def test_parameters_can_be_searched():
    P, H = documents()
    search = GridSearchCV(make_pipeline(ScalingAligner()), {"scalingaligner__kind": ["temperature", "matrix"]}, cv=3)
    search.fit(P, (H > 0.5).astype(int))
    assert search.best_params_ == {"scalingaligner__kind": "matrix"}


@pytest.mark.parametrize("estimator", EVERYTHING, ids=repr)
def test_clone_and_pickle(estimator):
    X, H = data_for(estimator)
    fitted = clone(estimator).fit(X, H)
    restored = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(restored.predict_proba(X), fitted.predict_proba(X))
    assert_array_equal(restored.transform(X[:7]), fitted.predict_proba(X[:7]))
    with pytest.raises(NotFittedError):
        clone(fitted).predict_proba(X)


def test_predictions_follow_the_threshold_and_the_task():
    P, H = documents()
    aligner = ScalingAligner(threshold={"label0": 0.2, "label1": 0.5, "label2": 0.9}).fit(P, H)
    assert_array_equal(aligner.predict(P), aligner.predict_proba(P) >= [0.2, 0.5, 0.9])
    P, H = documents(multi_label=False)
    predicted = ScalingAligner(multi_label=False).fit(P, H).predict(P)
    assert_array_equal(predicted.sum(axis=1), 1)


def test_aligners_take_steps_and_pairs():
    rng = np.random.default_rng(0)
    _, H = documents(60)
    steps = rng.dirichlet(np.full(4, 0.4), size=(60, 2))
    steps[:20, 1] = np.nan
    direct = ScalingAligner().fit(steps, H)
    assert direct.n_features_in_ == 3
    piped = make_pipeline(MaxOverGenerations(), ScalingAligner()).fit(steps, H)
    assert_array_equal(direct.predict_proba(steps), piped.predict_proba(steps))
    upper = np.triu(rng.uniform(size=(60, 4, 4)), 1)
    pairs = upper + np.tril(1 - upper.transpose(0, 2, 1), -1)
    assert make_pipeline(BradleyTerry(), ScalingAligner()).fit(pairs, H).predict_proba(pairs).shape == (60, 3)
    with pytest.raises(ValueError, match="sum to 1"):
        ScalingAligner().fit(pairs, H)


def test_matrix_takes_several_read_outs_side_by_side():
    P, H = documents()
    both = FeatureUnion([("platt", ScalingAligner("platt")), ("beta", ScalingAligner("beta"))])
    stacked = make_pipeline(both, ScalingAligner("matrix")).fit(P, H)
    assert stacked[-1].coef_.shape == (3, 6)
    assert stacked.predict_proba(P).shape == (200, 3)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (ScalingAligner("sigmoid"), "Got kind='sigmoid' but expected one of 'platt'"),
        (ScalingAligner("matrix", shared=True), "Use shared=False"),
        (ScalingAligner("matrix", C=0), "Got C=0 but expected"),
        (ScalingAligner(threshold=2), "threshold=2 but expected"),
        (LinearProbe(C=-1.0), r"Got C=-1.0 but expected"),
        (LinearProbe(1.5), "Got n_components=1.5 but expected"),
        (LinearProbe(0), "Got n_components=0 but expected"),
    ],
    ids=repr,
)
def test_wrong_parameters(estimator, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(*documents(30))


P, H = documents(30)
WRONG = [
    (P + 0.5, H, r"Expected X in \[0, 1\], but row"),
    (np.where(P > 0.9, np.nan, P), H, "Input X contains NaN"),
    (P[:, :2], H, r"a column a label, but got 2 and 3 columns"),
    (P, H[:, :1], r"a column a label, but got 3 and 1 columns"),
    (P, H[:20], "expected y to have 30 rows"),
    (P, H + 0.5, r"Expected y in \[0, 1\]"),
    (P, np.where(H > 0.9, np.nan, H), "Input y contains NaN"),
    (P, H[:, 0], "got a 1-D y"),
    (P, None, "requires y to be passed"),
    (P[:, 0], H, "Expected 2D array, got 1D array"),
]


@pytest.mark.parametrize(("X", "y", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_input_to_fit(X, y, message):
    with pytest.raises(ValueError, match=message):
        ScalingAligner().fit(X, y)


def test_wrong_distribution_is_called_by_its_name():
    with pytest.raises(ValueError, match="expected distribution to have 30 rows"):
        ScalingAligner().fit(P, H, distribution=H[:20])
    with pytest.raises(ValueError, match="Expected distribution to have 2 columns, those of y"):
        ScalingAligner().fit(P, pd.DataFrame(H[:, :2], columns=LABELS[:2]), distribution=H)


@pytest.mark.parametrize("kind", KINDS)
def test_an_aligner_of_other_labels(kind):
    aligner = ScalingAligner(kind).fit(P, pd.DataFrame(H, columns=LABELS))
    for X in (P[:, :2], P[:, :2].tolist()):
        with pytest.raises(ValueError, match="X has 2 features, but .* expecting 3 .*for other columns.*'anger'"):
            aligner.predict_proba(X)
    aligner = ScalingAligner(kind).fit(pd.DataFrame(P, columns=LABELS), H)
    with pytest.raises(ValueError, match="feature names"):
        aligner.predict_proba(pd.DataFrame(P, columns=["a", "b", "c"]))


def test_single_label_targets_must_be_distributions():
    for estimator in (ScalingAligner(multi_label=False), probe(multi_label=False)):
        with pytest.raises(ValueError, match="row 2 sums to 0, .*multi_label=True|row 2 sums to 0"):
            estimator.fit(np.full((3, 2), 0.5), [[1, 0], [0.5, 0.5], [0, 0]])
        with pytest.raises(ValueError, match="two columns or more.*there is one column"):
            estimator.fit(np.full((3, 1), 0.5), np.ones((3, 1)))


def indicator(y):
    """Turn a column of classes, as the checks draw it, into an indicator of each class."""
    column = None if y is None else np.asarray(y)
    if (
        column is None
        or column.shape[1:] not in ((), (1,))
        or (column.dtype.kind == "f" and not np.isfinite(column).all())
    ):
        return y
    return (column.reshape(-1, 1) == np.unique(column)).astype(int)


class OneClassADocument:
    def fit(self, X, y, sample_weight=None, distribution=None):
        return super().fit(X, indicator(y), sample_weight=sample_weight, distribution=distribution)

    def score(self, X, y, sample_weight=None):
        return super().score(X, indicator(y), sample_weight=sample_weight)


class ProbeOfClasses(OneClassADocument, LinearProbe):
    """A probe that takes `y` as the checks draw it."""


class AlignerOfReals(OneClassADocument, ScalingAligner):
    """An aligner that also takes `X` as the checks draw it, from the real numbers."""

    def _check_input(self, X):
        return expit(check_array(X, dtype=float, input_name="X", estimator=self))


LABEL_BY_LABEL = dict.fromkeys(
    """check_classifiers_one_label check_classifiers_classes check_classifiers_train check_classifiers_regression_target
    check_classifier_not_supporting_multiclass""".split(),
    "for classifiers of a column of classes: here y is (n, L), may be soft, and predict gives an indicator",
)
# A y of one class is refused with a message that names its class, as the check asks.
ONE_COLUMN = {check: reason for check, reason in LABEL_BY_LABEL.items() if "one_label" not in check} | dict.fromkeys(
    """check_estimators_dtypes check_sample_weights_pandas_series check_sample_weights_not_an_array
    check_sample_weights_shape check_sample_weights_not_overwritten check_sample_weight_equivalence_on_dense_data
    check_classifier_data_not_an_array check_transformer_data_not_an_array
    check_transformer_general check_transformer_preserve_dtypes check_fit2d_1feature""".split(),
    "y is a column of classes, which is refused with a hint; run on ProbeOfClasses and AlignerOfReals",
)
REALS = ONE_COLUMN | dict.fromkeys(
    """check_fit_score_takes_y check_estimators_overwrite_params check_dont_overwrite_parameters
    check_estimators_fit_returns_self check_readonly_memmap_input check_n_features_in_after_fitting
    check_positive_only_tag_during_fit check_sample_weights_list check_all_zero_sample_weights_error check_dtype_object
    check_pipeline_consistency check_estimators_nan_inf check_estimators_pickle check_f_contiguous_array_estimator
    check_classifier_multioutput check_classifiers_multilabel_representation_invariance
    check_classifiers_multilabel_output_format_predict check_classifiers_multilabel_output_format_predict_proba
    check_classifiers_multilabel_output_format_decision_function check_methods_sample_order_invariance
    check_methods_subset_invariance check_fit2d_1sample check_dict_unchanged check_fit_idempotent
    check_fit_check_is_fitted check_n_features_in check_fit2d_predict1d""".split(),
    "X is not in [0, 1] with a column a label, which is refused; run on AlignerOfReals",
)
EXPECTED_FAILURES = {
    "ProbeOfClasses": LABEL_BY_LABEL,
    "AlignerOfReals": LABEL_BY_LABEL,
    "LinearProbe": ONE_COLUMN,
    "ScalingAligner": REALS,
}


@parametrize_with_applicable_checks(
    [ProbeOfClasses(C=1.0), AlignerOfReals("matrix", C=1.0), LinearProbe(random_state=0), ScalingAligner()],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES[type(estimator).__name__],
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


if ARRAY_API:

    def test_array_api_dispatch_changes_nothing():
        """In a process of its own: scipy reads the variable that allows the option while it is imported."""
        code = """
    import numpy as np, sklearn
    from skmlmc import LinearProbe, MaxOverGenerations, ScalingAligner
    rng = np.random.default_rng(0)
    hidden, steps, H = rng.normal(size=(30, 4)), rng.dirichlet(np.ones(3), (30, 2)), rng.integers(0, 4, (30, 2)) / 3
    for estimator, X in [(LinearProbe(C=1.0, n_components=None), hidden), (ScalingAligner(), steps)]:
        results = []
        for dispatch in (False, True):
            with sklearn.config_context(array_api_dispatch=dispatch):
                fitted = sklearn.clone(estimator).fit(X, H)
                results.append((fitted.predict_proba(X), fitted.score(X, H), MaxOverGenerations().fit_transform(steps)))
        assert all(np.array_equal(a, b) for a, b in zip(*results))
    print("the same")
    """
        env = {**os.environ, "SCIPY_ARRAY_API": "1"}
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=env, cwd=ROOT
        )
        assert run.stdout == "the same\n", run.stderr

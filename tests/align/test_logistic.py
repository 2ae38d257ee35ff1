"""Logistic heads beside scikit-learn's, one a label, which share no code with them."""

import numpy as np
import pytest
from inside import arithmetic
from numpy.testing import assert_allclose
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression


def data(n, k, n_labels, multi_label, seed=0):
    rng = np.random.default_rng(seed)
    F = rng.normal(size=(n, k)) * np.linspace(3, 0.1, k) + rng.normal(size=k)
    Z = F[:, :3] @ rng.normal(size=(min(3, k), n_labels)) / 3 - 1
    H = rng.binomial(3, expit(Z)) / 3 if multi_label else np.array([rng.multinomial(3, p) for p in softmax(Z, 1)]) / 3
    return F, H, rng.integers(1, 4, n).astype(float)


def slowly(F, H, w, C, multi_label):
    """Logits of scikit-learn's regressions on documents that are divided among the classes, and an undecided one."""
    n_labels = H.shape[1]
    G = np.vstack([F, np.average(F, axis=0, weights=w)])
    H = np.vstack([H, np.full(n_labels, 0.5 if multi_label else 1 / n_labels)])
    w = np.append(w, 1.0)
    columns = []
    for target in [np.column_stack([1 - h, h]) for h in H.T] if multi_label else [H]:
        X, y = np.tile(G, (target.shape[1], 1)), np.repeat(np.arange(target.shape[1]), len(G))
        head = LogisticRegression(C=C, tol=1e-10, max_iter=20000)
        head.fit(X, y, sample_weight=(target * w[:, None]).T.ravel())
        Z = F @ head.coef_.T + head.intercept_
        columns.append(np.hstack([-Z / 2, Z / 2]) if not multi_label and n_labels == 2 else Z)
    Z = np.hstack(columns)
    return Z if multi_label else Z - Z.mean(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("n", "k", "n_labels", "multi_label"),
    [
        (200, 12, 5, True),
        (200, 12, 4, False),
        (200, 12, 2, False),
        (40, 90, 3, True),
        (40, 90, 3, False),
        (9, 1, 1, True),
    ],
)
@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0])
def test_as_one_regression_a_label(n, k, n_labels, multi_label, C):
    F, H, w = data(n, k, n_labels, multi_label)
    for fit in (arithmetic.fit_head, arithmetic.fit_wide_head):
        Z = fit(F, H, w, C, multi_label).logits(F)
        Z = Z if multi_label else Z - Z.mean(axis=1, keepdims=True)
        assert_allclose(Z, slowly(F, H, w, C, multi_label), rtol=1e-3, atol=2e-3)


def test_a_start_elsewhere_ends_at_the_same():
    F, H, w = data(200, 12, 5, True)
    far = arithmetic.fit_head(F, H, w, 100.0, True)
    found, anew = arithmetic.fit_head(F, H, w, 0.01, True, far), arithmetic.fit_head(F, H, w, 0.01, True)
    assert_allclose(found.logits(F), anew.logits(F), atol=1e-5)


def test_narrowed_features_have_the_same_products():
    F = np.random.default_rng(0).normal(size=(30, 80))
    F[7] = F[3]
    made, turn = arithmetic.narrow(F)
    assert made.shape == (30, 29)
    assert_allclose(made @ made.T, F @ F.T, atol=1e-10)
    assert_allclose(F @ turn, made, atol=1e-10)
    assert arithmetic.narrow(F.T)[1] is None

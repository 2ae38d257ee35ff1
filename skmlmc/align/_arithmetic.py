"""Arithmetic of alignment, without checks: arrays in, arrays out.

First the zero-shot methods, on steps or pairs that were checked; then the fitted ones: soft-target likelihoods, scaling
functions, logistic heads. There `P` (n, L) are label probabilities, `H` (n, L) soft targets, `w` (n,) positive weights
in documents, `Z` (n, L) log-odds (multi-label) or unnormalised log-probabilities (single-label). Losses are sums over
documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_expit, logit, logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.isotonic import IsotonicRegression

from .._utils.arrays import lay_out
from .._utils.checks import check_splits
from .._utils.warning import warn

CHUNK = 2**19
"""Pairs that are fitted at once: 4 MB of float64, so that the work stays in the processor's cache."""

MAX_ITERATIONS = 1000
"""Newton steps at most: a total order with a tiny l2 needs about 100, ordinary pairs fewer than 10."""

EPS = 1e-8
"""Probabilities are kept this far from 0 and 1, as the NLL metric does."""

RIDGE = 1e-6
"""Weight, in documents, of the pull of scaling parameters towards "change nothing"; decides where data cannot."""

VIEW_EPS = 1e-4
"""Probabilities that are combined are kept this far from 0 and 1, so that one member's certainty does not decide."""

C_GRID = np.logspace(-4, 2, 13)
OFFSET_PENALTY = 0.1  # of the stack, in documents
"""Candidates for the inverse regularisation strength of the logistic heads."""

PARAMETERS = {"temperature": ("temperature",), "platt": ("slope", "offset"), "beta": ("a", "b", "offset")}
"""Names of the scaling parameters of each kind, in the order of `scaling_basis`; a temperature divides."""

LOWEST: dict[str, list[float | None]] = {"temperature": [1e-6], "platt": [None, None], "beta": [0.0, 0.0, None]}
"""Lower bounds of the weights in the fit: what must rise with the probability does."""


def generated_labels(steps: np.ndarray) -> np.ndarray:
    """Return the column written at each step, for steps that do not know it: the largest that is still open."""
    n, n_steps, n_columns = steps.shape
    left = np.where(np.isnan(steps), -np.inf, steps)
    answers = np.full((n, n_steps), -1)
    going = np.ones(n, dtype=bool)
    for r in range(n_steps):
        going &= ~np.isnan(steps[:, r, 0])
        best = left[:, r].argmax(axis=1)
        answers[going, r] = best[going]
        left[np.arange(n), r + 1 :, best] = -np.inf
        going &= best != n_columns - 1
    return answers


def label_sets(answers: np.ndarray, n_labels: int) -> np.ndarray:
    """Return indicators (n, L) of the labels in `answers` (n, R)."""
    return (answers[:, :, None] == np.arange(n_labels)).any(axis=1).astype(int)


def compare_to_none(steps: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return ``p(l) / (p(l) + p(none))`` of the first step, or its distribution over the labels."""
    labels, none = steps[:, 0, :-1], steps[:, 0, -1:]
    total = labels + none if multi_label else np.broadcast_to(labels.sum(axis=1, keepdims=True), labels.shape)
    undecided = np.full(labels.shape, 0.5 if multi_label else 1 / labels.shape[1])
    return np.divide(labels, total, out=undecided, where=total > 0)


def hard_predictions(steps: np.ndarray, eps: float, multi_label: bool, written: np.ndarray | None) -> np.ndarray:
    """Return ``1 - eps`` for the labels generated (`written`, where it is known), ``eps`` for the others."""
    n_labels = steps.shape[2] - 1
    if multi_label:
        chosen = label_sets(generated_labels(steps) if written is None else written, n_labels) == 1
    else:
        # The first label generated is the most probable label of the first step, whether none is above it or not.
        first = steps[:, 0, :-1].argmax(axis=1)
        if written is not None:  # the steps may have been divided by something since
            first = np.where((0 <= written[:, 0]) & (written[:, 0] < n_labels), written[:, 0], first)
        chosen = np.eye(n_labels, dtype=bool)[first]
    return np.where(chosen, 1 - eps, eps)


def max_over_generations(steps: np.ndarray) -> np.ndarray:
    """Return each label's largest probability over the steps."""
    return np.fmax.reduce(steps[:, :, :-1], axis=1)


def bradley_terry_scores(pairs: np.ndarray, l2: float) -> np.ndarray:
    """Return the Bradley-Terry scores (n, K) of every document's pairs."""
    size = max(1, CHUNK // pairs.shape[1] ** 2)
    return np.concatenate([_newton(pairs[start : start + size], l2) for start in range(0, len(pairs), size)])


def _newton(pairs: np.ndarray, l2: float) -> np.ndarray:
    """Minimise the penalised cross-entropy of every document, leaving out those that have converged."""
    # p[a, b] and p[b, a] may be off by the tolerance of check_pairs; the gradient needs them exact.
    target = 0.5 + (pairs - pairs.transpose(0, 2, 1)) / 2
    scores, active = np.zeros(pairs.shape[:2]), np.arange(len(pairs))
    players = np.arange(pairs.shape[1])
    for _ in range(MAX_ITERATIONS):
        current = scores[active]
        model = expit(current[:, :, None] - current[:, None, :])
        gradient = (model - target).sum(axis=2) + 2 * l2 * current
        going = np.linalg.norm(gradient, axis=1) > 1e-10
        if not going.any():
            return scores
        active, current, model, gradient, target = (part[going] for part in (active, current, model, gradient, target))
        hessian = model * (model - 1)
        hessian[:, players, players] += 2 * l2 - hessian.sum(axis=2)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        # A whole Newton step may overshoot where scores are far apart. How fast the logistic loss can bend along a step
        # depends on the step's span (the largest move minus the smallest) alone, and ln(1 + span) / span of the step
        # always descends: Bach, "Self-concordant analysis for logistic regression", 2010. Near the minimum it is 1.
        span = np.ptp(step, axis=1)[:, None]
        scores[active] = current - step * (np.log1p(span) / span)
    warn(
        f"Bradley-Terry scores of {len(active)} documents did not converge in {MAX_ITERATIONS} steps. Increase l2, "
        f"now {l2:g}.",
        ConvergenceWarning,
    )
    return scores


def to_logits(P: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return log-odds, or log-probabilities for single-label tasks, of clipped probabilities."""
    P = np.clip(P, EPS, 1 - EPS)
    return logit(P) if multi_label else np.log(P)


def to_proba(Z: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return the probabilities of logits, strictly inside (0, 1); rows sum to 1 for single-label tasks."""
    return expit(Z).clip(EPS, 1 - EPS) if multi_label else normalise(softmax(Z, axis=1))


def normalise(P: np.ndarray) -> np.ndarray:
    """Return `P` with every row a distribution strictly inside (0, 1)."""
    P = P.clip(EPS)
    return P / P.sum(axis=1, keepdims=True)


def smooth(H: np.ndarray, w: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return `H` with one undecided document spread over the rows.

    A label that is never (or always) given then has finite log-odds, about log(2n), and so has a label that the
    probabilities separate perfectly.
    """
    undecided = 1 / 2 if multi_label else 1 / H.shape[1]
    return (w.sum() * H + undecided) / (w.sum() + 1)


def row_nll(Z: np.ndarray, H: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return each document's cross-entropy (n,) between soft targets and the probabilities of logits."""
    if multi_label:
        return -(log_expit(-Z) + H * Z).sum(axis=1)
    return logsumexp(Z, axis=1) - (H * Z).sum(axis=1)


def scaling_basis(P: np.ndarray, kind: str, multi_label: bool) -> np.ndarray:
    """Return the functions (K, n, L) of the probabilities whose weighted sum is the scaled logit.

    Temperature and Platt scaling weigh the logit; beta calibration weighs ln p and -ln(1 - p) separately.
    """
    d = to_logits(P, multi_label)
    if kind == "temperature":
        return d[None]
    if kind == "platt":
        return np.stack([d, np.ones_like(d)])
    P = np.clip(P, EPS, 1 - EPS)
    return np.stack([np.log(P), -np.log1p(-P), np.ones_like(d)])


def fit_scaling(
    P: np.ndarray, H: np.ndarray, w: np.ndarray, kind: str, shared: bool, multi_label: bool
) -> dict[str, np.ndarray]:
    """Return the most likely scaling parameters by name, each of shape (L,)."""
    basis, H = scaling_basis(P, kind, multi_label), smooth(H, w, multi_label)
    n_labels = H.shape[1]
    if multi_label and not shared:  # labels are problems of their own, each solved in a few steps
        columns = [slice(label, label + 1) for label in range(n_labels)]
        theta = np.hstack([_minimise_nll(basis[:, :, column], H[:, column], w, kind, True, True) for column in columns])
    else:
        theta = np.tile(_minimise_nll(basis, H, w, kind, shared, multi_label), n_labels if shared else 1)
    theta = 1 / theta if kind == "temperature" else theta
    return dict(zip(PARAMETERS[kind], theta, strict=True))


def _minimise_nll(
    basis: np.ndarray, H: np.ndarray, w: np.ndarray, kind: str, shared: bool, multi_label: bool
) -> np.ndarray:
    """Return the weights (K, L) of the basis functions, or (K, 1) if `shared`."""
    # What leaves the probabilities as they are: logit p = ln p - ln(1 - p), and softmax(ln p) = p.
    identity = np.array({"temperature": [1.0], "platt": [1.0, 0.0], "beta": [1.0, float(multi_label), 0.0]}[kind])
    start = np.repeat(identity[:, None], 1 if shared else H.shape[1], axis=1)

    def loss_and_gradient(flat):
        theta = flat.reshape(start.shape)
        Z = (theta[:, None] * basis).sum(axis=0)
        P = expit(Z) if multi_label else softmax(Z, axis=1)
        loss = w @ row_nll(Z, H, multi_label) + RIDGE / 2 * ((theta - start) ** 2).sum()
        gradient = np.einsum("knl,nl->kl", basis, w[:, None] * (P - H))
        gradient = (gradient.sum(axis=1, keepdims=True) if shared else gradient) + RIDGE * (theta - start)
        return loss / w.sum(), gradient.ravel() / w.sum()

    found = minimize(
        loss_and_gradient,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(low, None) for low in LOWEST[kind] for _ in range(start.shape[1])],
        options={"maxiter": 2000, "maxfun": 10000, "ftol": 1e-14, "gtol": 1e-9, "maxcor": 20},
    )
    return found.x.reshape(start.shape)


def apply_scaling(P: np.ndarray, params: dict[str, np.ndarray], kind: str, multi_label: bool) -> np.ndarray:
    """Return the logits (n, L) of scaled probabilities."""
    theta = np.array([params[name] for name in PARAMETERS[kind]])
    theta = 1 / theta if kind == "temperature" else theta
    return (theta[:, None] * scaling_basis(P, kind, multi_label)).sum(axis=0)


def prior_offsets(Z: np.ndarray, prior: np.ndarray, w: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return what to add to the logits (n, L) of each label so that its mean probability over documents is its prior.

    Examples
    --------
    >>> Z, prior = np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([0.5, 0.9])
    >>> bool(np.allclose(prior_offsets(Z, prior, np.ones(2), True), [0, np.log(9)]))
    True
    """
    offsets = np.zeros(Z.shape[1])
    for _ in range(MAX_ITERATIONS):
        before = offsets.copy()
        for k in range(len(offsets)):
            # Beside a softmax's other labels a label's probability is a sigmoid of its logit too.
            rest = 0 if multi_label else logsumexp(np.delete(Z + offsets, k, axis=1), axis=1)
            offsets[k] = _find_offset(Z[:, k] - rest, prior[k], w)
        if multi_label or abs(offsets - before).max() < 1e-9:
            break
    return offsets


def _find_offset(z, share, w):
    """Return what to add to log-odds (n,) so that the mean probability is `share`."""
    # With the one no probability is above the share, with the other none below it.
    bounds = logit(share) - z.max() - 1, logit(share) - z.min() + 1
    return brentq(lambda offset: np.average(expit(z + offset), weights=w) - share, *bounds, xtol=1e-12)


def fit_isotonic(
    P: np.ndarray, H: np.ndarray, w: np.ndarray, shared: bool, multi_label: bool
) -> list[IsotonicRegression]:
    """Return one rising function a label, the same one for all if `shared`.

    Least squares and maximum likelihood have the same isotonic solution.
    """
    H = smooth(H, w, multi_label)
    n_labels = H.shape[1]
    if shared:
        P, H, w = P.reshape(-1, 1), H.reshape(-1, 1), np.repeat(w, n_labels)
    curves = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, h, sample_weight=w)
        for p, h in zip(P.T, H.T, strict=True)
    ]
    return curves * n_labels if shared else curves


def apply_isotonic(P: np.ndarray, curves: list[IsotonicRegression], multi_label: bool) -> np.ndarray:
    """Return the probabilities (n, L) that the curves give, strictly inside (0, 1)."""
    P = np.column_stack([curve.predict(p) for curve, p in zip(curves, P.T, strict=True)])
    return P.clip(EPS, 1 - EPS) if multi_label else normalise(P)


class Head(NamedTuple):
    """Logistic regressions, one a label, or one multinomial of all: logits are ``F @ coef + intercept``.

    `coef` has shape (k, L) and `intercept` (L,).
    """

    coef: np.ndarray
    intercept: np.ndarray

    def logits(self, F: Any) -> np.ndarray:
        """Return the logits (n, L) of features (n, k)."""
        return F @ self.coef + self.intercept


def fit_head(
    F: np.ndarray, H: np.ndarray, w: np.ndarray, C: float, multi_label: bool, start: Head | None = None
) -> Head:
    """Fit logistic regressions with an L2 penalty to soft targets, all labels at once.

    A document with soft target p counts as p documents of class 1 and 1 - p of class 0, which is exactly its
    cross-entropy. One undecided document with average features keeps the intercept of a label with a single class
    finite. scikit-learn's ``LogisticRegression``, one a label, finds the same and takes three to eight times as long:
    here a product of matrices serves all labels, and each unknown is measured by about how much the loss bends along
    it, so that few steps are needed. `start` is where to begin, such as the solution of another `C`.
    """
    n_labels = H.shape[1]
    F = np.vstack([F, np.average(F, axis=0, weights=w)])
    H = np.vstack([H, np.full(n_labels, 1 / 2 if multi_label else 1 / n_labels)])
    w = np.append(w, 1.0)
    mean, rate = (np.average(part, axis=0, weights=w) for part in (F, H))
    F = F - mean
    bend = rate * (1 - rate) + 1e-3
    # Two classes of one task are one question; its weights are the difference of theirs, whose penalty this is.
    penalty = (2 if n_labels == 2 and not multi_label else 1) / C
    unit = np.vstack([np.outer(w @ F**2, bend) + penalty, w.sum() * bend]) ** -0.5

    def loss_and_gradient(flat):
        theta = flat.reshape(unit.shape) * unit
        coef, Z = theta[:-1], F @ theta[:-1] + theta[-1]
        D = w[:, None] * (expit(Z) - H if multi_label else softmax(Z, axis=1) - H)
        loss = w @ row_nll(Z, H, multi_label) + penalty / 2 * (coef**2).sum()
        return loss, (np.vstack([F.T @ D + penalty * coef, D.sum(axis=0)]) * unit).ravel()

    first = np.zeros_like(unit)
    first[-1] = logit(rate) if multi_label else np.log(rate)
    if start is not None:
        first = np.vstack([start.coef, start.intercept + mean @ start.coef])
    found = minimize(
        loss_and_gradient,
        (first / unit).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10000, "ftol": 1e-13, "gtol": 1e-5, "maxcor": 10},
    )
    theta = found.x.reshape(unit.shape) * unit
    return Head(lay_out(theta[:-1]), theta[-1] - mean @ theta[:-1])


class Fold(NamedTuple):
    """Features, soft targets and weights of the documents that are fitted on, and of those that are held out."""

    F: np.ndarray
    H: np.ndarray
    w: np.ndarray
    F_test: np.ndarray
    H_test: np.ndarray
    w_test: np.ndarray


def choose_strength(
    folds: list[Fold], multi_label: bool, grid: Sequence[float] | np.ndarray = C_GRID
) -> tuple[float, dict[str, np.ndarray], list[np.ndarray]]:
    """Return the C of a rising `grid` with the lowest held-out NLL a document.

    With the NLL of all that were tried, and each fold's logits of the documents held out, at the C chosen.
    """
    folds = [_narrow(fold) for fold in folds]
    weight = sum(fold.w_test.sum() for fold in folds)
    nll: list[float] = []
    best: list[np.ndarray] = []
    heads: list[Head | None] = [None] * len(folds)
    for C in grid:
        heads = [fit_head(f.F, f.H, f.w, C, multi_label, h) for f, h in zip(folds, heads, strict=True)]
        logits = [head.logits(fold.F_test) for fold, head in zip(folds, heads, strict=True) if head is not None]
        losses = [f.w_test @ row_nll(Z, f.H_test, multi_label) for f, Z in zip(folds, logits, strict=True)]
        nll.append(sum(losses) / weight)
        best = logits if nll[-1] == min(nll) else best
        if len(nll) - np.argmin(nll) > 2:  # the curve has one valley, and large C are the slow ones
            break
    return float(grid[int(np.argmin(nll))]), {"C": np.array(grid[: len(nll)]), "nll": np.array(nll)}, best


def _narrow(fold):
    """Return a fold with at most as many features as documents: turned, which changes no head, and cut where all are 0.

    The coefficients of a penalised head are sums of documents' features, so only products between documents count.
    """
    F, turn = narrow(fold.F)
    return fold if turn is None else fold._replace(F=F, F_test=fold.F_test @ turn)


def narrow(F: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return features (n, r) with the same products between documents, r at most n, and the (k, r) that makes them.

    None for the latter, and the features as they are, where there are no more of them than documents.
    """
    if F.shape[1] <= len(F):
        return F, None
    values, vectors = np.linalg.eigh(F @ F.T)
    keep = values > values.max() * len(F) * np.finfo(float).eps
    scale, vectors = np.sqrt(values[keep]), vectors[:, keep]
    return lay_out(vectors * scale), lay_out(F.T @ (vectors / scale))


def fit_logistic(
    X: np.ndarray,
    H: np.ndarray,
    w: np.ndarray,
    fit_features: Callable[[np.ndarray, np.ndarray], Any],
    C: float | None,
    cv: Any,
    multi_label: bool,
    groups: np.ndarray | None = None,
) -> tuple[Any, np.ndarray, np.ndarray, float, dict[str, np.ndarray] | None]:
    """Fit features and logistic regressions on them, with C chosen by cross-validated NLL where it is None.

    ``fit_features(X, w)`` returns a fitted transformer. It is fitted anew in every fold, so that the choice of C sees
    held-out documents as new ones. Returns features, coef, intercept (logits are ``features.transform(X) @ coef +
    intercept``), C and what the cross-validation found, if it was asked for.
    """
    results = None
    if C is None:
        C, results, _ = choose_strength(list(split_features(X, H, w, fit_features, cv, groups)), multi_label)
    features = fit_features(X, w)
    head = fit_wide_head(features.transform(X), H, w, C, multi_label)
    return features, head.coef, head.intercept, float(C), results


def fit_wide_head(F: np.ndarray, H: np.ndarray, w: np.ndarray, C: float, multi_label: bool) -> Head:
    """As `fit_head`, sooner where there are more features than documents."""
    narrowed, turn = narrow(F)
    head = fit_head(narrowed, H, w, C, multi_label)
    return head if turn is None else Head(lay_out(turn @ head.coef), head.intercept)


def split_features(
    X: np.ndarray,
    H: np.ndarray,
    w: np.ndarray,
    fit_features: Callable[[np.ndarray, np.ndarray], Any],
    cv: Any,
    groups: np.ndarray | None = None,
) -> Iterator[Fold]:
    """Yield the folds of `choose_strength`."""
    if len(X) < 2:
        raise ValueError(f"Got n_samples={len(X)} but expected at least 2 documents to choose C. Give C a number.")
    for split in check_splits(min(cv, len(X)) if isinstance(cv, Integral) else cv, X, H, groups=groups):
        (X_train, H_train, w_train), (X_test, *rest) = ([lay_out(part[rows]) for part in (X, H, w)] for rows in split)
        features = fit_features(X_train, w_train)
        yield Fold(features.transform(X_train), H_train, w_train, features.transform(X_test), *rest)


def stack_basis(views: Sequence[np.ndarray], base: np.ndarray, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-odds (L,) of base rates, and by how much those of views (M, n, L) differ from them."""
    P = np.stack(views).clip(VIEW_EPS, 1 - VIEW_EPS)
    b, Z = (logit(base), logit(P)) if multi_label else (np.log(base), np.log(P))
    return b, Z - b


def fit_stack(
    views: Sequence[np.ndarray], H: np.ndarray, w: np.ndarray, penalty: float, multi_label: bool, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Combine held-out probabilities (n, L) of several views; returns base rates (L,), weights (M,) and offsets (L,).

    Log-odds are ``b + sum_m weight_m (z_m - b) + offset``, b those of the base rates, and log-probabilities behind a
    softmax in single-label tasks. Weights are 0 or more and drawn towards `shares` (M,), which sum to 1, as strongly as
    `penalty` documents do. Offsets are hardly held: what averages rare labels gives them too much, which costs more
    than fitting one number a label.
    """
    H, n_views = smooth(H, w, multi_label), len(views)
    base = np.average(H, axis=0, weights=w)
    b, Z = stack_basis(views, base, multi_label)

    def loss_and_gradient(theta):
        weights, offsets = theta[:n_views], theta[n_views:]
        S = b + np.tensordot(weights, Z, 1) + offsets
        D = w[:, None] * ((expit(S) if multi_label else softmax(S, axis=1)) - H)
        away = weights - shares
        held = penalty * n_views * away @ away + OFFSET_PENALTY * offsets @ offsets
        loss = w @ row_nll(S, H, multi_label) + held / 2
        slopes = np.tensordot(Z, D, 2) + penalty * n_views * away, D.sum(axis=0) + OFFSET_PENALTY * offsets
        return loss / w.sum(), np.concatenate(slopes) / w.sum()

    found = minimize(
        loss_and_gradient,
        np.concatenate([shares, np.zeros(H.shape[1])]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * n_views + [(None, None)] * H.shape[1],
        options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-9},
    )
    return base, found.x[:n_views], found.x[n_views:]


def apply_stack(
    views: Sequence[np.ndarray], base: np.ndarray, weights: np.ndarray, offsets: np.ndarray, multi_label: bool
) -> np.ndarray:
    """Return the logits (n, L) of combined probabilities."""
    b, Z = stack_basis(views, base, multi_label)
    return b + np.tensordot(weights, Z, 1) + offsets

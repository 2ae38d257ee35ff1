"""Arithmetic of zero-shot alignment, on arrays; the estimators and the public names are in ``align``."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from .._utils.arrays import check_pairs, check_steps
from .._utils.checks import check_positive
from .._utils.labelled import written_of

_CHUNK = 2**19  # pairs fitted at once: 4 MB of float64, so that the work stays in the cache
_GRADIENT_TOLERANCE = 1e-10
_MAX_ITERATIONS = 1000  # a total order with a tiny l2 needs about 100, ordinary pairs fewer than 10


def generated_labels(steps: Any) -> np.ndarray:
    """Return the label generated at each step.

    An extractor's array knows what the model wrote. For other arrays it is the largest column that was not generated
    before; none ends the answer.

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.

    Returns
    -------
    ndarray of shape (n, R), int
        Column of the label, L for none, and -1 where no step happened or none was generated before.

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.

    Examples
    --------
    >>> from skmlmc.align import generated_labels
    >>> generated_labels([[[0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.3, 0.3, 0.4]], [[0.2, 0.1, 0.7]] * 3])
    array([[ 0,  1,  2],
           [ 2, -1, -1]])
    """
    written = written_of(steps)
    steps = check_steps(steps)
    if written is not None:
        return written.copy()
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


def label_sets(steps: Any) -> np.ndarray:
    """Return the set of labels that the model generated, as indicators.

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.

    Returns
    -------
    ndarray of shape (n, L), int
        1 for the labels generated; a row of 0 where the answer is none.

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.

    Examples
    --------
    >>> from skmlmc.align import label_sets
    >>> label_sets([[[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], [[0.2, 0.1, 0.7], [0.2, 0.1, 0.7]]])
    array([[1, 0],
           [0, 0]])
    """
    steps = check_steps(steps)
    n_columns = steps.shape[2]
    return (generated_labels(steps)[:, :, None] == np.arange(n_columns - 1)).any(axis=1).astype(int)


def compare_to_none(steps: Any, multi_label: bool = True) -> np.ndarray:
    """Compare each label's probability at the first step with that of none.

    ``p(l) / (p(l) + p(none))``, which is ``sigmoid(s(l) - s(none))`` of the logits; for single-label tasks the first
    step's distribution over the labels alone. Paper section 5, baseline "compare-to-none".

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; only the first step counts.
    multi_label : bool, default=True
        False for single-label tasks.

    Returns
    -------
    ndarray of shape (n, L)
        Label probabilities: 0.5 where label and none are both 0, and 1 / L in single-label tasks where all labels are.

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.

    Examples
    --------
    >>> from skmlmc.align import compare_to_none
    >>> compare_to_none([[[0.6, 0.3, 0.1]]]).round(3)
    array([[0.857, 0.75 ]])
    """
    first = check_steps(steps)[:, 0]
    labels, none = first[:, :-1], first[:, -1:]
    total = labels + none if multi_label else np.broadcast_to(labels.sum(axis=1, keepdims=True), labels.shape)
    undecided = np.full(labels.shape, 0.5 if multi_label else 1 / labels.shape[1])
    return np.divide(labels, total, out=undecided, where=total > 0)


def hard_predictions(steps: Any, eps: float = 1e-8, multi_label: bool = True) -> np.ndarray:
    """Take the model's answer at its word.

    ``1 - eps`` for a label that was generated, ``eps`` for the others; in single-label tasks for the first label
    generated, or the most probable one where the answer is none. Paper section 5, baseline "hard predictions".

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions.
    eps : float, default=1e-8
        Probability of the labels that were not generated, in (0, 0.5).
    multi_label : bool, default=True
        False for single-label tasks.

    Returns
    -------
    ndarray of shape (n, L)
        Label probabilities, ``eps`` or ``1 - eps``.

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions, or `eps` is out of its range.

    Examples
    --------
    >>> from skmlmc.align import hard_predictions
    >>> hard_predictions([[[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]], eps=0.01)
    array([[0.99, 0.01]])
    """
    steps, eps = check_steps(steps), check_positive(eps, "eps", upper=0.5)
    if multi_label:
        chosen = label_sets(steps) == 1
    else:
        # The first label generated is the most probable label of the first step, whether none is above it or not.
        chosen = np.eye(steps.shape[2] - 1, dtype=bool)[steps[:, 0, :-1].argmax(axis=1)]
    return np.where(chosen, 1 - eps, eps)


def max_over_generations(steps: Any) -> np.ndarray:
    """Take each label's largest probability over the steps of the answer.

    Paper section 5, "max-over-generations".

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; rows of steps that did not happen are NaN.

    Returns
    -------
    ndarray of shape (n, L)
        Label probabilities.

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.

    Examples
    --------
    >>> from skmlmc.align import max_over_generations
    >>> max_over_generations([[[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]])
    array([[0.6, 0.3]])
    """
    return np.fmax.reduce(check_steps(steps)[:, :, :-1], axis=1)


def bradley_terry_scores(pairs: Any, l2: float = 0.01) -> np.ndarray:
    """Fit one Bradley-Terry model a document: the strengths that explain its pairwise probabilities best.

    The scores minimise the cross-entropy of ``sigmoid(s[a] - s[b])`` against ``pairs[a, b]``, summed over the
    unordered pairs, plus ``l2 * sum(s**2)``, which makes them unique and finite; they sum to 0. Paper section 5,
    "binary breakdown".

    Parameters
    ----------
    pairs : array-like of shape (n, K, K)
        ``pairs[i, a, b]`` is the probability that a beats b; the diagonal is ignored.
    l2 : float, default=0.01
        Strength of the penalty, above 0.

    Returns
    -------
    ndarray of shape (n, K)
        Scores of the players, in logits.

    Raises
    ------
    TypeError, ValueError
        If `pairs` does not hold pairwise probabilities, or `l2` is not above 0.

    Warns
    -----
    ConvergenceWarning
        If a gradient is still longer than 1e-10 after 1000 steps.

    Examples
    --------
    >>> from skmlmc.align import bradley_terry_scores
    >>> bradley_terry_scores([[[0.5, 0.7, 0.9], [0.3, 0.5, 0.8], [0.1, 0.2, 0.5]]]).round(2)
    array([[ 0.97,  0.17, -1.13]])
    """
    pairs, l2 = check_pairs(pairs), check_positive(l2, "l2")
    size = max(1, _CHUNK // pairs.shape[1] ** 2)
    return np.concatenate([_newton(pairs[start : start + size], l2) for start in range(0, len(pairs), size)])


def round_pairs(pairs: np.ndarray) -> np.ndarray:
    """Return pairwise probabilities rounded to won (1), lost (0) and drawn (0.5)."""
    # Of the difference, so that both directions of a pair agree.
    return 0.5 + np.sign(pairs - pairs.transpose(0, 2, 1)) / 2


def _newton(pairs: np.ndarray, l2: float) -> np.ndarray:
    """Minimise the penalised cross-entropy of every document, leaving out those that have converged."""
    # p[a, b] and p[b, a] may be off by the tolerance of check_pairs; the gradient needs them exact.
    target = 0.5 + (pairs - pairs.transpose(0, 2, 1)) / 2
    scores, active = np.zeros(pairs.shape[:2]), np.arange(len(pairs))
    players = np.arange(pairs.shape[1])
    for _ in range(_MAX_ITERATIONS):
        current = scores[active]
        model = expit(current[:, :, None] - current[:, None, :])
        gradient = (model - target).sum(axis=2) + 2 * l2 * current
        going = np.linalg.norm(gradient, axis=1) > _GRADIENT_TOLERANCE
        if not going.any():
            return scores
        active, current, model, gradient, target = (part[going] for part in (active, current, model, gradient, target))
        hessian = model * (model - 1)
        hessian[:, players, players] += 2 * l2 - hessian.sum(axis=2)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        # The third derivative along a step is at most its span times the second (the logistic loss is self-concordant
        # in this sense), so ln(1 + span) / span of a Newton step always descends; near the minimum it is a whole one.
        span = np.ptp(step, axis=1)[:, None]
        scores[active] = current - step * (np.log1p(span) / span)
    warnings.warn(
        f"Bradley-Terry scores of {len(active)} documents did not converge in {_MAX_ITERATIONS} steps. Increase l2, "
        f"now {l2:g}.",
        ConvergenceWarning,
        stacklevel=3,
    )
    return scores

"""Public functions of zero-shot alignment: checks, then the arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._utils.arrays import check_pairs, check_steps
from .._utils.checks import check_positive
from .._utils.docs import documented
from .._utils.labelled import written_of
from . import _arithmetic as arithmetic

documented_function = documented(
    parameters="""Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.""",
    raises="""Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.""",
)


@documented_function
def generated_labels(steps: Any) -> np.ndarray:
    """Return the label generated at each step.

    An extractor's array knows what the model wrote, and still does after `ContextualCalibration`. For other arrays it
    is the largest column that was not generated before; none ends the answer.

    {parameters}

    Returns
    -------
    ndarray of shape (n, R), int
        Column of the label, L for none, and -1 where no step happened or none was generated before.

    {raises}

    Examples
    --------
    >>> from skmlmc.align import generated_labels
    >>> generated_labels([[[0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.3, 0.3, 0.4]], [[0.2, 0.1, 0.7]] * 3])
    array([[ 0,  1,  2],
           [ 2, -1, -1]])
    """
    cube, written = check_steps(steps), written_of(steps)
    return arithmetic.generated_labels(cube) if written is None else written.copy()


@documented_function
def label_sets(steps: Any) -> np.ndarray:
    """Return the set of labels that the model generated, as indicators.

    {parameters}

    Returns
    -------
    ndarray of shape (n, L), int
        1 for the labels generated; a row of 0 where the answer is none.

    {raises}

    Examples
    --------
    >>> from skmlmc.align import label_sets
    >>> label_sets([[[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], [[0.2, 0.1, 0.7], [0.2, 0.1, 0.7]]])
    array([[1, 0],
           [0, 0]])
    """
    answers = generated_labels(steps)  # which checks them
    return arithmetic.label_sets(answers, np.shape(steps)[2] - 1)


@documented_function
def compare_to_none(steps: Any, multi_label: bool = True) -> np.ndarray:
    """Compare each label's probability at the first step with that of none.

    ``p(l) / (p(l) + p(none))``, which is ``sigmoid(s(l) - s(none))`` of the logits; for single-label tasks the first
    step's distribution over the labels alone. Only the first step counts. {section5}, baseline "compare-to-none".

    {parameters}
    multi_label : bool, default=True
        False for single-label tasks.

    Returns
    -------
    ndarray of shape (n, L)
        Label probabilities: 0.5 where label and none are both 0, and 1 / L in single-label tasks where all labels are.

    {raises}

    Examples
    --------
    >>> from skmlmc.align import compare_to_none
    >>> compare_to_none([[[0.6, 0.3, 0.1]]]).round(3)
    array([[0.857, 0.75 ]])
    """
    return arithmetic.compare_to_none(check_steps(steps), multi_label)


@documented_function
def hard_predictions(steps: Any, eps: float = 1e-8, multi_label: bool = True) -> np.ndarray:
    """Take the model's answer at its word.

    ``1 - eps`` for a label that was generated, ``eps`` for the others; in single-label tasks for the first label
    generated, or the most probable one where the answer is none. What was generated is what ``generated_labels`` says,
    so `ContextualCalibration` changes it in single-label tasks only. {section5}, baseline "hard predictions".

    {parameters}
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
    cube, eps = check_steps(steps), check_positive(eps, "eps", upper=0.5)
    return arithmetic.hard_predictions(cube, eps, multi_label, written_of(steps))


@documented_function
def max_over_generations(steps: Any) -> np.ndarray:
    """Take each label's largest probability over the steps of the answer.

    {section5}, "max-over-generations".

    {parameters}

    Returns
    -------
    ndarray of shape (n, L)
        Label probabilities.

    {raises}

    Examples
    --------
    >>> from skmlmc.align import max_over_generations
    >>> max_over_generations([[[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]])
    array([[0.6, 0.3]])
    """
    return arithmetic.max_over_generations(check_steps(steps))


@documented_function
def bradley_terry_scores(pairs: Any, l2: float = 0.01) -> np.ndarray:
    """Fit one Bradley-Terry model a document: the strengths that explain its pairwise probabilities best.

    The scores minimise the cross-entropy of ``sigmoid(s[a] - s[b])`` against ``pairs[a, b]``, summed over the
    unordered pairs, plus ``l2 * sum(s**2)``, which makes them unique and finite; they sum to 0.
    Bradley and Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 39, 1952; {section5}, "binary breakdown".

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
    return arithmetic.bradley_terry_scores(check_pairs(pairs), check_positive(l2, "l2"))

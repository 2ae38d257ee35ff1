"""What answers look like: how right, in which order, how long; the public names are in ``analysis``."""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial
from typing import Any

import numpy as np

from .._utils.checks import check_labels, check_positive_int, check_steps, check_targets, majority, to_frame
from ..align._functions import generated_labels
from ._step_statistics import by_steps, columns_of, mean_of


def accuracy_by_step(
    steps: Any, y: Any, *, labels: Sequence[str] | None = None, min_labels: int = 2, as_frame: bool = False
) -> Any:
    """Measure how often the label generated first, second, ... is right.

    Figure 5 of the paper: the label generated second is right less often than the first, over the same answers.

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.
    y : array-like of shape (n, L) or DataFrame
        Indicator or soft targets in [0, 1]; a label is right where its value is above 0.5.
    labels : sequence of str of length L, default=None
        Label names in the order of the columns of `steps`, by which the columns of a DataFrame `y` are put in order.
    min_labels : int, default=2
        Only answers of so many labels count, as in the paper, so that steps 1 and 2 are about the same documents. 1:
        all answers but none.
    as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame
        A row a step: ``step`` (1 is the first), ``documents`` (answers that have a label there), ``accuracy`` (share
        of these labels that are right) and ``annotators`` (mean value of `y` at them: the share of annotators who
        agree, with soft targets).

    Raises
    ------
    TypeError, ValueError
        If `steps` or `y` are not as expected or do not fit each other.

    Examples
    --------
    >>> from skmlmc.analysis import accuracy_by_step
    >>> steps = [[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.7, 0.1], [0.8, 0.1, 0.1]]]
    >>> accuracy_by_step(steps, [[1, 0], [0.4, 0.6]])
    {'step': [1, 2], 'documents': [2, 2], 'accuracy': [1.0, 0.0], 'annotators': [0.8, 0.2]}
    """
    steps, min_labels = check_steps(steps), check_positive_int(min_labels, "min_labels")
    n_labels = steps.shape[2] - 1
    H, _ = check_targets(y, labels=labels, n_samples=len(steps))
    if H.shape[1] != n_labels:
        raise ValueError(
            f"Expected y to have {n_labels} columns, one a label of steps, but got {H.shape[1]}. Leave out none, and "
            "give the labels the order that the extractor has."
        )
    answers = generated_labels(steps)
    given = (answers >= 0) & (answers < n_labels)
    document, step = np.nonzero(given & (given.sum(axis=1, keepdims=True) >= min_labels))
    right, agree = (v[document, answers[document, step]] for v in (majority(H), H))
    rows = [
        (*r, int(here.sum()), mean_of(right[here]), mean_of(agree[here])) for r, here in by_steps(step, by_step=True)
    ]
    return to_frame(columns_of(("step", "documents", "accuracy", "annotators"), rows), as_frame)


def answer_order(
    steps: Any, labels: Sequence[str], label_order: Sequence[str] | None = None, *, as_frame: bool = False
) -> Any:
    """Compare the order of the labels in answers with the alphabet and with the prompt.

    Table 7 of the paper: the order in which the prompt names the labels drives the order of the answer.

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.
    labels : sequence of str of length L
        Label names, in the order of the columns.
    label_order : sequence of str of length L, default=None
        The order in which the prompt names them; None: that of `labels`.
    as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame
        Four rows: ``order`` ("alphabetical", "reverse alphabetical", "prompt", "reverse prompt"), ``answers`` (how
        many have two labels or more), the ``share`` of them that are wholly in this order (NaN where there are none),
        and the share ``by_chance``, were every order of an answer's labels equally likely.

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions, or `labels` or `label_order` do not fit it.

    Notes
    -----
    A prompt that names the labels alphabetically cannot tell the two apart: give the extractor another `label_order`.

    Examples
    --------
    >>> from skmlmc.analysis import answer_order
    >>> table = answer_order([[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]], ["joy", "anger"])
    >>> table["order"]
    ['alphabetical', 'reverse alphabetical', 'prompt', 'reverse prompt']
    >>> table["share"], table["by_chance"]
    ([0.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5])
    """
    steps = check_steps(steps)
    names = list(check_labels(labels))
    prompt = names if label_order is None else list(label_order)
    if len(names) != steps.shape[2] - 1:
        raise ValueError(f"Expected {steps.shape[2] - 1} labels, one a column of steps but none, but got {len(names)}.")
    if sorted(prompt, key=str) != sorted(names):
        raise ValueError(f"Got label_order={prompt!r} but expected each of the labels once: {names}.")
    answers = [row[(row >= 0) & (row < len(names))] for row in generated_labels(steps)]
    several = [row for row in answers if len(row) > 1]
    by_chance = mean_of(np.array([1 / factorial(len(row)) for row in several]))
    rows = []
    for name, order in (("alphabetical", sorted(names, key=str.casefold)), ("prompt", prompt)):
        rank = np.array([order.index(label) for label in names])
        for prefix, sign in (("", 1), ("reverse ", -1)):
            in_order = np.array([(sign * np.diff(rank[row]) > 0).all() for row in several])
            rows.append((prefix + name, len(several), mean_of(in_order), by_chance))
    return to_frame(columns_of(("order", "answers", "share", "by_chance"), rows), as_frame)


def answer_lengths(steps: Any, *, as_frame: bool = False) -> Any:
    """Count the labels of the answers.

    What Figure 6 of the paper plots is the share of answers with two labels or more; ``multilabel_share`` measures it
    against the demonstrations.

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.
    as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame
        A row a number of labels from 0 to the largest: ``n_labels``, ``documents`` and their ``share``.

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.

    Examples
    --------
    >>> from skmlmc.analysis import answer_lengths
    >>> answer_lengths([[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.1, 0.7]] * 2])
    {'n_labels': [0, 1, 2], 'documents': [1, 0, 1], 'share': [0.5, 0.0, 0.5]}
    """
    counts = np.bincount(n_generated(steps))
    table = {
        "n_labels": list(range(len(counts))),
        "documents": counts.tolist(),
        "share": (counts / counts.sum()).tolist(),
    }
    return to_frame(table, as_frame)


def n_generated(steps: Any) -> np.ndarray:
    """Return the number of labels that each answer has; none is no label."""
    answers = generated_labels(steps)
    return ((answers >= 0) & (answers < np.shape(steps)[2] - 1)).sum(axis=1)

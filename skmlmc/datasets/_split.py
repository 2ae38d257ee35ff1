"""The paper's protocol: a test set balanced over numbers of labels and over agreement among annotators."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from .._utils.arrays import check_targets, majority
from .._utils.checks import check_positive_int
from .._utils.warning import warn

ROWS = ("no label", "one label", "several labels")


def paper_split(H: Any, *, n_test: int = 200, random_state: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw a test set balanced over none, one and several labels, with and without disagreement.

    A document's number of labels is that of its majority; its annotators agree when every label has a share of 0 or
    1. These make six cells, each of which gives a sixth of the test set (paper section 5).

    Parameters
    ----------
    H : array-like of shape (n, L) or DataFrame
        Soft targets in [0, 1], as of `annotator_distribution`. Indicators are balanced over numbers of labels alone.
    n_test : int, default=200
        Size of the test set, below n. What division leaves goes to the rows of fewer labels, in a row to agreement.
    random_state : int, RandomState or None, default=None
        Seed, for the same split in every call.

    Returns
    -------
    test, rest : ndarray of int
        Indices of `n_test` documents and of all others, each in random order: the first part of `rest` is a sample.

    Raises
    ------
    TypeError, ValueError
        `H` is no array of soft targets, or `n_test` does not leave a document over.

    Warns
    -----
    UserWarning
        A number of labels has too few documents: it gives all it has, the others what is missing, half with
        disagreement. No warning where only a cell has too few: the other of its row fills it up.

    Examples
    --------
    >>> import numpy as np
    >>> from skmlmc.datasets import paper_split
    >>> H = np.repeat([[0, 0], [0, 1 / 3], [1, 0], [2 / 3, 0], [1, 1], [1, 2 / 3]], 5, axis=0)
    >>> test, rest = paper_split(H, n_test=12, random_state=0)
    >>> np.bincount(test // 5)
    array([2, 2, 2, 2, 2, 2])
    """
    soft, _ = check_targets(H, name="H")
    n_test = check_positive_int(n_test, "n_test")
    if n_test >= len(soft):
        raise ValueError(f"Got n_test={n_test} but expected fewer than the {len(soft)} documents in H.")
    rng = check_random_state(random_state)
    order = rng.permutation(len(soft))
    row_of = np.minimum(majority(soft).sum(axis=1), 2)[order]
    disagree = np.any((soft > 0) & (soft < 1), axis=1)[order]
    taken = np.zeros(len(soft), dtype=bool)
    short = []
    for row, (name, wanted) in enumerate(zip(ROWS, _shares(n_test, 3), strict=True)):
        here = row_of == row
        _take(taken, here, disagree, wanted)
        if here.sum() < wanted:
            short.append(f"{name} ({here.sum()} of {wanted})")
    if short:
        warn(
            f"Too few documents with {', '.join(short)} for a balanced test set of {n_test}: the others fill it up.",
        )
        _take(taken, ~taken, disagree, n_test - taken.sum())
    return rng.permutation(order[taken]), order[~taken]


def _take(taken: np.ndarray, where: np.ndarray, disagree: np.ndarray, wanted: int) -> None:
    """Take `wanted` documents, half of them with disagreement if there are enough of both, all if there are fewer."""
    there = np.flatnonzero(where & ~taken)
    for cell, n in enumerate(_shares(wanted, 2)):
        taken[there[disagree[there] == cell][:n]] = True
    missing = wanted - taken[there].sum()
    taken[there[~taken[there]][:missing]] = True


def _shares(n: int, parts: int) -> list[int]:
    return [n // parts + (k < n % parts) for k in range(parts)]

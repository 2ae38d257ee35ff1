"""What a model is to answer: from annotators' answers, shares or indicators to label sets with weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._utils.arrays import largest, majority
from ..datasets._annotators import read_answers

TARGETS = ("annotators", "majority", "preference")
LabelSet = tuple[int, ...]
Answers = dict[LabelSet, float]
_NOTHING = 1e-9


def read_annotations(annotations: Any, labels: Sequence[str] | None, n: int, none_label: str | None):
    """Return annotators' answers to `n` documents: label sets with weights, shares (n, L), and the labels' names.

    Parameters
    ----------
    annotations : sequence of mappings, or ndarray of shape (n, A, L)
        ``{annotator: labels}`` of each document, or 0 and 1 with rows of NaN.
    labels : sequence of str or None
        Label names; None: those found.
    n : int
        How many documents there are.
    none_label : str or None
        The word in answers for no label.
    """
    names = None if labels is None else list(labels)
    absent = none_label if none_label not in (names or ()) else None
    document, sets, names, documents = read_answers(annotations, names, none_label=absent)
    if len(documents) != n:
        raise ValueError(
            f"Got annotations of {len(documents)} documents, but expected those of the {n} in X, in the same order: "
            "a list with {annotator: labels} of each, or an array of shape (documents, annotators, labels)."
        )
    answers: list[Answers] = [{} for _ in range(n)]
    counts = np.bincount(document, minlength=n).tolist()
    shares = np.zeros((n, len(names)))
    for i, chosen in zip(document, sets, strict=True):
        labels_of = tuple(np.flatnonzero(chosen).tolist())
        answers[i][labels_of] = answers[i].get(labels_of, 0.0) + 1 / counts[i]
        shares[i] += chosen / counts[i]
    return answers, shares, names


def answers_of_shares(shares: np.ndarray) -> list[Answers]:
    """Return label sets with weights whose labels have these shares (n, L): annotators who are not known one by one.

    The shares are laid end to end on a line, and a comb with teeth one apart is moved along it: its teeth lie in the
    labels of one annotator. So each label has its share exactly, annotators differ by one label at most in how many
    they give, and where shares sum to 1 each gives one. Which labels go together is not in the shares; here it follows
    from the labels' order.

    Examples
    --------
    >>> import numpy as np
    >>> answers_of_shares(np.array([[0.5, 0.25, 0.0]]))
    [{(0,): 0.5, (1,): 0.25, (): 0.25}]
    >>> answers_of_shares(np.array([[1.0, 0.5, 0.5]]))
    [{(0, 1): 0.5, (0, 2): 0.5}]
    """
    return [_comb(row) for row in np.asarray(shares, float)]


def _comb(shares):
    ends = np.cumsum(shares)
    starts = ends - shares
    places = np.unique(np.concatenate([[0.0], np.mod(ends, 1.0), [1.0]]))
    found: Answers = {}
    for left, right in zip(places[:-1], places[1:], strict=True):
        if right - left > _NOTHING:
            teeth = (left + right) / 2 + np.arange(int(np.ceil(ends[-1])) + 1)[:, None]
            labels = tuple(np.flatnonzero(((starts < teeth) & (teeth < ends)).any(axis=0)).tolist())
            found[labels] = found.get(labels, 0.0) + float(right - left)
    total = sum(found.values())
    return {labels: round(weight / total, 12) for labels, weight in found.items()}


def majority_answers(shares: np.ndarray, multi_label: bool) -> list[Answers]:
    """Return the majority's label set of each document, of a single-label task the first of the most frequent labels.

    Examples
    --------
    >>> import numpy as np
    >>> majority_answers(np.array([[0.75, 0.5, 0.25]]), True)
    [{(0,): 1.0}]
    """
    sets = majority(shares) if multi_label else largest(shares)
    return [{tuple(np.flatnonzero(row).tolist()): 1.0} for row in sets]


def preferred_answers(answers: Sequence[Answers], known: Sequence[Answers], seed: int) -> list[Answers]:
    """Return pairs of answers: weight 1 for the right label set of each document, -1 for a wrong one.

    Wrong ones are drawn from the right ones of other documents, but for what an annotator of the document said (as in
    `known`); where none is left the wrong one is the first label alone, or the
    second.

    Examples
    --------
    >>> right, said = [{(0,): 1.0}, {(1,): 1.0}, {(2,): 1.0}], [{(0,): 0.5, (1,): 0.5}, {(1,): 1.0}, {(2,): 1.0}]
    >>> preferred_answers(right, said, 0)[0]
    {(0,): 1.0, (2,): -1.0}
    """
    rng = np.random.default_rng(seed)
    pool = sorted({labels for found in answers for labels in found})
    pairs = []
    for right, said in zip(answers, known, strict=True):
        (best,) = right
        wrong = [labels for labels in pool if labels != best and labels not in said]
        other = wrong[rng.integers(len(wrong))] if wrong else (1,) if best == (0,) else (0,)
        pairs.append({best: 1.0, other: -1.0})
    return pairs

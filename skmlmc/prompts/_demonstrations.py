"""Which documents a prompt shows as demonstrations, and which questions it asks about them."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

from .._utils.checks import check_choice, check_positive_int

DEMONSTRATION_CHOICES = ("multilabel", "balanced", "random")


def choose_demonstrations(Y, shots: int, how: str = "multilabel", random_state=None) -> np.ndarray:
    """Choose the documents that serve as demonstrations.

    Parameters
    ----------
    Y : array-like of shape (n, L)
        Indicator.
    shots : int
        How many, at least one.
    how : {"multilabel", "balanced", "random"}
        "multilabel": half of them with two or more labels, as in section 3 of the paper, as far as there are such
        documents. "balanced": one after another, the document that helps the label shown least so far. "random": any.
    random_state : int, RandomState instance or None
        Seed.

    Returns
    -------
    ndarray of shape (shots,), int
        Rows of `Y`, in the order in which the prompt shows them.

    Raises
    ------
    ValueError
        More shots than documents, or an unknown `how`.

    Examples
    --------
    >>> import numpy as np
    >>> Y = np.array([[1, 0], [1, 1], [0, 0], [1, 1], [0, 1]])
    >>> int((Y[choose_demonstrations(Y, 4, random_state=0)].sum(axis=1) > 1).sum())
    2
    """
    check_choice(how, "demonstrations", DEMONSTRATION_CHOICES)
    check_positive_int(shots, "shots")
    Y = np.asarray(Y)
    n = len(Y)
    if shots > n:
        raise ValueError(f"Got shots={shots} but there are only {n} documents to draw them from: choose fewer.")
    rng = check_random_state(random_state)
    order = rng.permutation(n)
    if how == "random":
        return order[:shots]
    if how == "balanced":
        return _balanced(Y, shots, order)
    several = Y[order].sum(axis=1) > 1
    many, few = order[several], order[~several]
    n_many = min(len(many), max(shots // 2, shots - len(few)))
    return rng.permutation(np.concatenate([many[:n_many], few[: shots - n_many]]))


def _balanced(Y, shots, order):
    # The empty answer counts as a label of its own, or no demonstration would ever show it.
    shown_by = np.column_stack([Y, Y.sum(axis=1) == 0])[order].astype(float)
    left, chosen, counts = np.ones(len(order), bool), [], np.zeros(shown_by.shape[1])
    for _ in range(shots):
        least = counts[shown_by[left].any(axis=0)].min()
        helps = left & shown_by[:, counts == least].any(axis=1)
        gain = shown_by @ (1.0 / (1.0 + counts) ** 2) / shown_by.sum(axis=1)
        best = int(np.argmax(np.where(helps, gain, -np.inf)))
        left[best] = False
        counts += shown_by[best]
        chosen.append(order[best])
    return np.array(chosen, int)


def unary_demonstrations(demonstrations, n_labels: int, random_state=None) -> list[tuple[str, int, bool]]:
    """Turn demonstrations into questions about one label: half with a label that was given, half with one that was not.

    Parameters
    ----------
    demonstrations : sequence of (str, sequence of int)
        Texts and the numbers of their labels.
    n_labels : int
        Number of labels.
    random_state : int, RandomState instance or None
        Seed.

    Returns
    -------
    list of (str, int, bool)
        Text, label, whether it was given. A text without labels, or with all of them, leaves no choice.
    """
    rng = check_random_state(random_state)
    can_yes = [bool(labels) for _, labels in demonstrations]
    can_no = [len(labels) < n_labels for _, labels in demonstrations]
    yes = [not no for no in can_no]
    for i in rng.permutation(len(demonstrations)):
        if can_yes[i] and sum(yes) < (len(yes) + 1) // 2:
            yes[i] = True
    asked = []
    for (text, labels), given in zip(demonstrations, yes, strict=True):
        pool = sorted(labels) if given else [k for k in range(n_labels) if k not in labels]
        asked.append((text, int(rng.choice(pool)), given))
    return asked


def pair_demonstrations(demonstrations, n_labels: int, random_state=None) -> list[tuple[str, int, int, bool]]:
    """Turn demonstrations into questions about two labels, of which one was given and one was not.

    Parameters
    ----------
    demonstrations, n_labels, random_state
        As for `unary_demonstrations`.

    Returns
    -------
    list of (str, int, int, bool)
        Text, first and second label, whether the first one fits better; every other answer is the first. Number
        `n_labels` is the empty answer, which fits better where no label was given.
    """
    rng = check_random_state(random_state)
    asked = []
    for i, (text, labels) in enumerate(demonstrations):
        better = int(rng.choice(sorted(labels))) if labels else n_labels
        others = [k for k in range(n_labels + bool(labels)) if k not in labels]
        worse = int(rng.choice(others))
        asked.append((text, better, worse, True) if i % 2 == 0 else (text, worse, better, False))
    return [asked[i] for i in rng.permutation(len(asked))]

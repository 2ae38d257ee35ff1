"""What demonstrations do to the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from .._utils.arrays import check_targets, majority
from .._utils.checks import check_positive_int, check_texts, is_number
from ._tables import documented_table, make_table, read_answers


@documented_table
def multilabel_share(
    extractor: Any,
    X: Any,
    y: Any,
    X_test: Any = None,
    *,
    shares: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    shots: int = 10,
    n_repeats: int = 1,
    random_state: Any = None,
    as_frame: bool = False,
) -> Any:
    """Measure the share of answers with several labels against the share of such demonstrations.

    The one follows the other, so choose demonstrations with as many labels as you expect of the answers. Nothing but
    the shares is compared: whether the longer answers are right says ``accuracy_by_step``. {paper}, Figure 6.

    Parameters
    ----------
    extractor : StepwiseExtractor
        Model, labels and all else, fitted or not; it is cloned, and its own demonstrations do not count.
    X : sequence of str of length n
        Documents to draw the demonstrations from.
    y : array-like of shape (n, L) or DataFrame
        Indicator or soft targets in [0, 1], which count through their majority.
    X_test : sequence of str, default=None
        Documents to answer. None: those of `X` in no prompt of the same repeat, so the same ones for every share.
    shares : sequence of float, default=(0, 0.2, 0.4, 0.6, 0.8, 1)
        Shares of demonstrations with two labels or more.
    shots : int, default=10
        Demonstrations in a prompt.
    n_repeats : int, default=1
        How many times demonstrations are drawn. Prompts of one repeat have as many documents in common as they can.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.
    {table}
        A row a repeat and share: ``repeat`` (from 0), ``share_of_demonstrations`` with two labels or more (the
        nearest that so many shots can have), ``documents`` (how many were answered), ``share_of_answers`` with two
        labels or more, and ``labels_per_answer`` (mean number; none is no label).

    Raises
    ------
    TypeError
        If `extractor` takes no demonstrations.
    ValueError
        If too few documents have, or lack, several labels, or an input is not as expected; nothing was decoded.

    Examples
    --------
    >>> from skmlmc import StepwiseExtractor
    >>> from skmlmc.analysis import multilabel_share
    >>> texts = ["won, then lost", "won again", "it is raining", "late and tired"] * 3
    >>> y = [[1, 1], [0, 1], [0, 0], [1, 1]] * 3
    >>> extractor = StepwiseExtractor(labels=["anger", "joy"])
    >>> table = multilabel_share(extractor, texts, y, shares=[0, 0.5, 1], shots=2, random_state=0)
    >>> table["share_of_demonstrations"], table["documents"]
    ([0.0, 0.5, 1.0], [8, 8, 8])
    """
    if not {"labels", "demonstrations"} <= set(getattr(extractor, "get_params", dict)()):
        raise TypeError(f"Got extractor={extractor!r:.60} but expected a StepwiseExtractor.")
    texts, shots = check_texts(X), check_positive_int(shots, "shots")
    tests = None if X_test is None else check_texts(X_test, "X_test")
    labels = getattr(extractor, "labels_", None) if extractor.labels is None else extractor.labels
    H, names = check_targets(y, labels=None if labels is None else list(labels), n_samples=len(texts))
    labels = names if labels is None else labels
    if labels is None:
        raise ValueError("Got no label names: give the extractor labels=[...], or a DataFrame y with them as columns.")
    counts = _check_shares(shares, shots)
    draws = _draw(majority(H), counts, shots, check_positive_int(n_repeats, "n_repeats"), random_state)
    if tests is None and len(texts) == max(len(set().union(*prompts)) for prompts in draws):
        raise ValueError(f"All {len(texts)} documents of X serve as demonstrations: give more of them, or X_test.")
    rows = []
    for repeat, prompts in enumerate(draws):
        shown = set().union(*prompts)
        answered = [text for i, text in enumerate(texts) if i not in shown] if tests is None else tests
        for n_several, prompt in zip(counts, prompts, strict=True):
            chosen = [(texts[i], [name for name, h in zip(labels, H[i], strict=True) if h > 0.5]) for i in prompt]
            fitted = clone(extractor).set_params(labels=labels, demonstrations=chosen).fit()
            sizes = read_answers(fitted.transform(answered)).is_label.sum(axis=1)
            rows.append((repeat, n_several / shots, len(sizes), float((sizes > 1).mean()), float(sizes.mean())))
    columns = ("repeat", "share_of_demonstrations", "documents", "share_of_answers", "labels_per_answer")
    return make_table(columns, rows, as_frame)


def _check_shares(shares, shots):
    """Return the number of demonstrations with several labels for each share."""
    shares = list(shares)
    if not shares or not all(is_number(share) and 0 <= share <= 1 for share in shares):
        raise ValueError(f"Got shares={shares!r:.60} but expected numbers in [0, 1], such as [0, 0.5, 1].")
    return [round(share * shots) for share in shares]


def _draw(Y, counts, shots, n_repeats, random_state):
    """Return, for each repeat, the rows of `Y` in the prompt of each share."""
    rng = check_random_state(random_state)
    several = Y.sum(axis=1) > 1
    n_several, n_others = max(counts), shots - min(counts)
    if several.sum() < n_several or (~several).sum() < n_others:
        raise ValueError(
            f"Expected {n_several} documents with two labels or more and {n_others} others to draw demonstrations "
            f"from, but got {several.sum()} and {(~several).sum()}: give more documents, or fewer shots."
        )
    draws = []
    for _ in range(n_repeats):
        many, others = (rng.permutation(np.flatnonzero(group)) for group in (several, ~several))
        draws.append([rng.permutation(np.concatenate([many[:n], others[: shots - n]])).tolist() for n in counts])
    return draws

"""What drives the answers: demonstrations, and what the hidden state knows; the public names are in ``analysis``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_consistent_length

from .._utils.checks import check_positive_int, check_steps, check_targets, check_texts, is_number, majority, to_frame
from ..align._fitted import LinearProbe
from ..align._functions import generated_labels, label_sets
from ._answer_statistics import n_generated
from ._step_statistics import columns_of, mean_of

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def multilabel_share(
    extractor: Any,
    X: Any,
    y: Any,
    X_test: Any = None,
    *,
    shares: Sequence[float] = SHARES,
    shots: int = 10,
    n_repeats: int = 1,
    random_state: Any = None,
    as_frame: bool = False,
) -> Any:
    """Measure the share of answers with several labels against the share of such demonstrations.

    Figure 6 of the paper: the one follows the other.

    Parameters
    ----------
    extractor : StepwiseExtractor
        Model, labels and all else, fitted or not; it is cloned, and its own demonstrations do not count.
    X : sequence of str of length n
        Documents to draw the demonstrations from.
    y : array-like of shape (n, L) or DataFrame
        Indicator or soft targets in [0, 1], which count through their majority.
    X_test : sequence of str, default=None
        Documents to answer. None: those of `X` that no prompt of the same repeat shows, so the same ones for every
        share.
    shares : sequence of float, default=(0, 0.2, 0.4, 0.6, 0.8, 1)
        Shares of demonstrations with two labels or more.
    shots : int, default=10
        Demonstrations in a prompt.
    n_repeats : int, default=1
        How many times demonstrations are drawn. Prompts of one repeat have as many documents in common as they can.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.
    as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame
        A row a repeat and share: ``repeat`` (from 0), ``share_of_demonstrations`` with two labels or more (the
        nearest that so many shots can have), ``documents`` (how many were answered), ``share_of_answers`` with two
        labels or more, and ``labels_per_answer`` (mean number; none is no label).

    Raises
    ------
    TypeError
        If `extractor` takes no demonstrations.
    ValueError
        If there are too few documents with, or without, several labels, or an input is not as expected; nothing was
        decoded.

    Examples
    --------
    >>> from skmlmc import StepwiseExtractor
    >>> from skmlmc.analysis import multilabel_share
    >>> table = multilabel_share(StepwiseExtractor(), texts, Y, shares=[0, 0.5, 1], random_state=0)  # doctest: +SKIP
    >>> table["share_of_demonstrations"]  # doctest: +SKIP
    [0.0, 0.5, 1.0]
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
            sizes = n_generated(fitted.transform(answered))
            rows.append((repeat, n_several / shots, len(sizes), float((sizes > 1).mean()), float(sizes.mean())))
    columns = ("repeat", "share_of_demonstrations", "documents", "share_of_answers", "labels_per_answer")
    return to_frame(columns_of(columns, rows), as_frame)


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


def probe_own_labels(
    hidden: Any,
    steps: Any,
    y: Any,
    *,
    cv: Any = None,
    probe: LinearProbe | None = None,
    labels: Sequence[str] | None = None,
    as_frame: bool = False,
) -> Any:
    """Measure what the hidden state of the first label knows: the right labels, the model's own, its later ones.

    Figure 7 of the paper ("Gold", "Pred", "Pred 2+"): a linear probe reads the gold labels and the labels that the
    model will generate off the state where it predicts the first one, but hardly those that it will generate later.

    Parameters
    ----------
    hidden : array-like of shape (n, d)
        Hidden states where the first label is predicted, as `HiddenStateExtractor` gives them.
    steps : array-like of shape (n, R, L + 1)
        Step distributions of the same documents.
    y : array-like of shape (n, L) or DataFrame
        Indicator or soft targets in [0, 1]. The probe is fitted on them as they are and scored on their majority.
    cv : int, splitter or None, default=None
        As in `sklearn.model_selection.cross_validate`; None: five folds.
    probe : LinearProbe or None, default=None
        Any classifier whose ``predict_proba`` is ``(n, L)``; None: ``LinearProbe()``.
    labels : sequence of str of length L, default=None
        Label names in the order of the columns of `steps`, by which the columns of a DataFrame `y` are put in order.
    as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame
        Three rows: ``target`` ("gold", "pred", "pred 2+"), ``documents`` and ``positives`` (labels of all documents),
        and scores of the out-of-fold predictions: ``micro_f1``, ``macro_f1``, ``jaccard`` (mean over documents; both
        sets empty is 1) and ``auc`` (mean over the labels that occur and do not always occur, NaN without any).

    Raises
    ------
    TypeError, ValueError
        If an input is not as expected, or they do not fit each other.

    Notes
    -----
    "pred 2+" scores the probe of "pred" on the documents whose answer has a label, leaving out each document's first
    one, as the paper does. Later labels are rare, which lowers F1 and raises the Jaccard index by itself; the AUC does
    not depend on how often a label comes, so compare the rows by it.

    Examples
    --------
    The first of two features says which label comes first, nothing says whether the other one follows:

    >>> import numpy as np
    >>> from skmlmc.analysis import probe_own_labels
    >>> from skmlmc.calibrate import LinearProbe
    >>> rng = np.random.default_rng(0)
    >>> first, going_on = rng.integers(2, size=(2, 200))
    >>> hidden = np.column_stack([first + 0.1 * rng.normal(size=200), rng.normal(size=200)])
    >>> steps = np.full((200, 2, 3), np.nan)
    >>> steps[:, 0] = np.where(first[:, None] == [0, 1, 2], 0.8, 0.1)
    >>> steps[going_on == 1, 1] = np.where(first[:, None] == [1, 0, 2], 0.8, 0.1)[going_on == 1]
    >>> table = probe_own_labels(hidden, steps, np.eye(2)[first], probe=LinearProbe(n_components=None))
    >>> table["target"], [round(auc, 1) for auc in table["auc"]]
    (['gold', 'pred', 'pred 2+'], [1.0, 0.8, 0.5])
    """
    steps = check_steps(steps)
    X = check_array(hidden, dtype=np.float64, input_name="hidden")
    check_consistent_length(X, steps)
    H, _ = check_targets(y, labels=labels, n_samples=len(X))
    own, gold = label_sets(steps), majority(H)
    if own.shape[1] != H.shape[1]:
        raise ValueError(f"Expected y to have {own.shape[1]} columns, one a label of steps, but got {H.shape[1]}.")
    folds = list(check_cv(cv).split(X, gold))
    probe = LinearProbe() if probe is None else probe
    first = generated_labels(steps)[:, 0]
    answered = first < own.shape[1]
    later = answered[:, None] & (np.arange(own.shape[1]) != first[:, None])
    rows = []
    for target, truth, groups in (("gold", H, {"gold": None}), ("pred", own, {"pred": None, "pred 2+": later})):
        proba, tested = _out_of_fold(probe, X, truth, folds)
        for name, counted in groups.items():
            counted = np.ones(own.shape, bool) if counted is None else counted
            counted = counted & tested[:, None]
            rows.append((name, *_probe_scores(gold if target == "gold" else own, proba, counted)))
    names = ("target", "documents", "positives", "micro_f1", "macro_f1", "jaccard", "auc")
    return to_frame(columns_of(names, rows), as_frame)


def _out_of_fold(probe, X, H, folds):
    """Return predicted probabilities, and which documents have some."""
    proba, tested = np.zeros(H.shape), np.zeros(len(X), bool)
    for train, test in folds:
        proba[test] = clone(probe).fit(X[train], H[train]).predict_proba(X[test])
        tested[test] = True
    return proba, tested


def _probe_scores(truth, proba, counted):
    """Scores over the entries that count."""
    rows = counted.any(axis=1)
    if not rows.any():
        return (0, 0, *[float("nan")] * 4)
    truth, proba, counted = truth[rows], proba[rows], counted[rows]
    # Entries that are 0 in both sets count for neither F1 nor the Jaccard index.
    sets, predicted = truth * counted, (proba >= 0.5) * counted
    areas = [
        roc_auc_score(truth[c, k], proba[c, k]) for k, c in enumerate(counted.T) if len(np.unique(truth[c, k])) == 2
    ]
    return (
        len(sets),
        int(sets.sum()),
        *(float(f1_score(sets, predicted, average=a, zero_division=0)) for a in ("micro", "macro")),
        float(jaccard_score(sets, predicted, average="samples", zero_division=1)),
        mean_of(areas),
    )

"""What the hidden state knows of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score
from sklearn.utils.validation import check_array, check_consistent_length

from .._utils.arrays import check_unmasked, majority
from .._utils.checks import check_splits
from ..align._arithmetic import label_sets
from ..calibrate import LinearProbe
from ._tables import documented_table, make_table, mean_of, read_answers


@documented_table
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

    A linear probe reads the gold labels and the labels that the model will generate off the state where it predicts the
    first one, but hardly those that it will generate later. {paper}, Figure 7 ("Gold", "Pred", "Pred 2+").

    Parameters
    ----------
    hidden : array-like of shape (n, d)
        Hidden states where the first label is predicted, as `HiddenStateExtractor` gives them.
    {steps}
    {targets} The probe is fitted on them as they are and
        scored on their majority.
    cv : int, splitter or None, default=None
        As in `sklearn.model_selection.cross_validate`; None: five folds.
    probe : LinearProbe or None, default=None
        Any classifier whose ``predict_proba`` is ``(n, L)``; None: ``LinearProbe()``.
    {labels}
    {table}
        Three rows: ``target`` ("gold", "pred", "pred 2+"), ``documents`` and ``positives`` (labels of all documents),
        and scores of the out-of-fold predictions: ``micro_f1``, ``macro_f1``, ``jaccard`` (mean over documents; both
        sets empty is 1) and ``auc`` (mean over the labels that occur and do not always occur, NaN without any).

    {raises}

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
    answers = read_answers(steps)
    check_unmasked(hidden, "hidden")
    X = check_array(hidden, dtype=np.float64, input_name="hidden")
    check_consistent_length(X, answers.steps)
    H = answers.targets(y, labels)
    own, gold = label_sets(answers.said, answers.n_labels), majority(H)
    folds = check_splits(cv, X, gold)
    probe = LinearProbe() if probe is None else probe
    first = answers.said[:, :1]
    later = answers.is_label[:, :1] & (np.arange(answers.n_labels) != first)
    (of_gold, tested), (of_own, _) = (_out_of_fold(probe, X, truth, folds) for truth in (H, own))
    everywhere = np.broadcast_to(tested[:, None], own.shape)
    rows = [
        ("gold", *_probe_scores(gold, of_gold, everywhere)),
        ("pred", *_probe_scores(own, of_own, everywhere)),
        ("pred 2+", *_probe_scores(own, of_own, everywhere & later)),
    ]
    names = ("target", "documents", "positives", "micro_f1", "macro_f1", "jaccard", "auc")
    return make_table(names, rows, as_frame)


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

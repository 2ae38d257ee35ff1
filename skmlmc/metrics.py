"""Metrics of alignment between label probabilities and annotator distributions, and their scorers.

Ma et al., "Large Language Models Do Multi-Label Classification Differently", EMNLP 2025, section 5, "Task: distribution
alignment". When most labels are 0 a constant distribution scores well on the negative log-likelihood and on L1
(appendix A.6 there), so look at example-F1 beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from scipy.special import entr
from scipy.stats import spearmanr
from sklearn.exceptions import UndefinedMetricWarning

# What make_scorer makes. Only of scorers of this private class does cross_validate ask the model once for all metrics.
from sklearn.metrics._scorer import _Scorer

from ._utils.arrays import check_proba, check_sample_weight, check_targets, majority, names_of, real_names, str_names
from ._utils.checks import check_positive
from ._utils.classes import as_indicator, as_targets
from ._utils.docs import documented
from ._utils.warning import warn

__all__ = [
    "entropy_correlation",
    "entropy_correlation_scorer",
    "example_f1",
    "example_f1_scorer",
    "l1_distance",
    "l1_scorer",
    "manhattan_distance",
    "manhattan_scorer",
    "nll",
    "nll_scorer",
    "scorers",
    "wasserstein_distance",
    "wasserstein_scorer",
]

Y_TRUE = """y_true : array-like of shape (n, L)
        Annotator distributions (share of the annotators who chose each label) or indicators, in [0, 1]."""

documented_metric = documented(
    y_true=Y_TRUE,
    parameters=f"""Parameters
    ----------
    {Y_TRUE}
    y_pred : array-like of shape (n, L)
        Label probabilities in [0, 1].""",
    sample_weight="""sample_weight : array-like of shape (n,), default=None
        Weights of the documents.""",
    raises="""Raises
    ------
    TypeError, ValueError
        If an input does not hold numbers in [0, 1], or shapes or column names differ.""",
)


@documented_metric
def nll(y_true: Any, y_pred: Any, *, eps: float = 1e-8, multi_label: bool = True, sample_weight: Any = None) -> float:
    """Negative log-likelihood of an annotator's answer, averaged over annotators, then documents.

    For one document with annotator distribution ``H`` and probabilities ``P``: ``sum(-H ln P - (1 - H) ln(1 - P))``
    over the labels, or ``sum(-H ln P)`` when exactly one label is right: {section5}.
    It asks for probabilities as sure as annotators are. One that is sure and wrong costs up to ``-ln(eps)``, 18 nats,
    so hard predictions score badly and a few labels can decide; report `eps` with it.

    It is the cross-entropy of the shared tasks on disagreement (Le-Wi-Di, 2021 and 2023): for a yes-no task with one
    column as it stands, since both answers count, and for distributions over classes with ``multi_label=False``. The
    tasks clip at 1e-12.

    {parameters}
    eps : float, default=1e-8
        Probabilities are clipped to ``[eps, 1 - eps]``.
    multi_label : bool, default=True
        Whether every label is a question of its own; False for single-label tasks.
    {sample_weight}

    Returns
    -------
    float
        Mean over the documents, in nats; lower is better, 0 is best.

    {raises}

    Examples
    --------
    >>> from skmlmc.metrics import nll
    >>> round(nll([[1, 0, 0.5]], [[0.8, 0.1, 0.5]]), 4)
    1.0217
    """
    target, proba, weights = _check_pair(y_true, y_pred, sample_weight)
    losses = document_losses("nll", target, proba, eps=check_positive(eps, "eps", upper=0.5), multi_label=multi_label)
    return float(np.average(losses, weights=weights))


@documented_metric
def l1_distance(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """L1 distance between label probabilities and annotator distributions.

    ``sum(|P - H|)`` over the labels of a document, averaged over documents: {section5}.
    Easier to read than `nll` and not ruled by single labels, but it grows with L, and probabilities of 0 do well where
    most labels are rare.

    {parameters}
    {sample_weight}

    Returns
    -------
    float
        Mean over the documents, in [0, L]; lower is better, 0 is best.

    {raises}

    Examples
    --------
    >>> from skmlmc.metrics import l1_distance
    >>> round(l1_distance([[1, 0, 0.5]], [[0.8, 0.1, 0.5]]), 4)
    0.3
    """
    target, proba, weights = _check_pair(y_true, y_pred, sample_weight)
    return float(np.average(document_losses("l1", target, proba), weights=weights))


@documented_metric
def manhattan_distance(y_true: Any, y_pred: Any, *, multi_label: bool = True, sample_weight: Any = None) -> float:
    """Manhattan distance between distributions of answers, averaged over documents.

    The soft score of the shared task Le-Wi-Di 2025. Where every label is a question of its own, ``|P - H|`` counts for
    both answers, yes and no, and the mean over the labels is taken, so that it does not grow with L as `l1_distance`
    does. Of classes of which one is right the sum is taken, which is `l1_distance`.

    {parameters}
    multi_label : bool, default=True
        Whether every label is a question of its own; False for single-label tasks.
    {sample_weight}

    Returns
    -------
    float
        Mean over the documents, in [0, 2]; lower is better, 0 is best.

    {raises}

    Examples
    --------
    >>> from skmlmc.metrics import manhattan_distance
    >>> round(manhattan_distance([[1, 0, 0.5]], [[0.8, 0.1, 0.5]]), 4)
    0.2
    >>> round(manhattan_distance([[1, 0, 0]], [[0.8, 0.1, 0.1]], multi_label=False), 4)
    0.4
    """
    target, proba, weights = _check_pair(y_true, y_pred, sample_weight)
    distances = np.abs(proba - target)
    return float(np.average(2 * distances.mean(axis=1) if multi_label else distances.sum(axis=1), weights=weights))


@documented_metric
def wasserstein_distance(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Wasserstein distance between distributions over a scale, averaged over documents.

    How far, in steps of the scale, what is predicted must be moved to become the annotators' distribution: the columns
    are the points of the scale in order, such as ratings from 1 to 6, so a rating beside the right one costs less than
    one far from it, which `nll` and `l1_distance` do not see. The soft score of Le-Wi-Di 2025 for ratings.

    {parameters}
    {sample_weight}

    Returns
    -------
    float
        Mean over the documents, in [0, L - 1]; lower is better, 0 is best.

    Raises
    ------
    TypeError, ValueError
        If an input does not hold numbers in [0, 1], shapes or column names differ, or a row is all 0. Rows are divided
        by their sums.

    Examples
    --------
    >>> from skmlmc.metrics import wasserstein_distance
    >>> wasserstein_distance([[1, 0, 0, 0]], [[0, 1, 0, 0]]), wasserstein_distance([[1, 0, 0, 0]], [[0, 0, 0, 1]])
    (1.0, 3.0)
    """
    target, proba, weights = _check_pair(y_true, y_pred, sample_weight)
    moved = np.cumsum(_shares(proba, "y_pred") - _shares(target, "y_true"), axis=1)
    return float(np.average(np.abs(moved).sum(axis=1), weights=weights))


@documented_metric
def example_f1(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """F1 between the predicted and the right label set of a document, averaged over documents.

    Soft values count through their majority: a label is in the set where its value is above 0.5. Two empty sets
    agree, which gives 1 (``sklearn.metrics.f1_score(average="samples", zero_division=1)`` for indicators):
    {section5}. It sees label sets only, so it depends on the threshold, and not on how sure anything is.

    Parameters
    ----------
    {y_true}
    y_pred : array-like of shape (n, L)
        Predicted indicators, or probabilities in [0, 1].
    {sample_weight}

    Returns
    -------
    float
        Mean over the documents, in [0, 1]; higher is better, 1 is best.

    {raises}

    Examples
    --------
    >>> from skmlmc.metrics import example_f1
    >>> round(example_f1([[1, 1, 0], [0, 0, 0]], [[1, 0, 0], [0, 0, 0]]), 4)
    0.8333
    """
    target, proba, weights = _check_pair(y_true, y_pred, sample_weight)
    return float(np.average(_f1_of_documents(target, proba), weights=weights))


def _f1_of_documents(target, pred):
    target, pred = majority(target), majority(pred)
    sizes = target.sum(axis=1) + pred.sum(axis=1)
    both = (target & pred).sum(axis=1)
    return np.where(sizes == 0, 1.0, 2 * both / np.maximum(sizes, 1))


def document_losses(
    name: str, target: np.ndarray, values: np.ndarray, *, eps: float = 1e-8, multi_label: bool = True
) -> np.ndarray:
    """Return what a metric, "nll", "l1" or "example_f1", loses on each document (n,); of the last one 1 - F1 of sets.

    Examples
    --------
    >>> document_losses("l1", np.array([[1, 0.5], [0, 0]]), np.array([[0.5, 0.5], [0, 1]])).tolist()
    [0.5, 1.0]
    """
    if name == "example_f1":
        return 1 - _f1_of_documents(target, values)
    if name == "l1":
        return np.abs(values - target).sum(axis=1)
    values = values.clip(eps, 1 - eps)
    losses = -target * np.log(values)
    if multi_label:
        losses -= (1 - target) * np.log1p(-values)
    return losses.sum(axis=1)


@documented_metric
def entropy_correlation(
    y_true: Any, y_pred: Any, *, multi_label: bool = True, replace_undefined_by: float = np.nan
) -> float:
    """Rank correlation of predicted and human entropy: whether the model knows which documents people disagree on.

    Spearman's correlation, over documents, of the entropy of the label probabilities with that of the annotator
    distribution. Uma et al., "Learning from Disagreement: A Survey", Journal of Artificial Intelligence Research 72,
    2021, compare entropies so; ranks are used here because probabilities that are too sharp or too flat everywhere keep
    them. It says nothing about which labels are probable: look at `nll` too.

    {parameters}
    multi_label : bool, default=True
        True: the sum over labels of the entropy of chosen or not. False, for single-label tasks: the entropy of the
        distribution over the labels, after division by its sum.
    replace_undefined_by : float, default=np.nan
        Returned when all entropies of either side are equal, as those of indicators (all 0) and of a constant
        prediction are, or there are fewer than two documents; NaN with an `UndefinedMetricWarning`.

    Returns
    -------
    float
        In [-1, 1]; higher is better, about 0 where predicted entropy says nothing.

    Raises
    ------
    TypeError, ValueError
        If an input does not hold numbers in [0, 1], shapes or column names differ, or, for single-label tasks, a row
        is all 0.

    Examples
    --------
    >>> from skmlmc.metrics import entropy_correlation
    >>> round(entropy_correlation([[0.5, 0], [1, 0], [0.8, 0]], [[0.6, 0.1], [0.9, 0], [0.7, 0]]), 4)
    1.0
    """
    target, proba, _ = _check_pair(y_true, y_pred, None)
    human, model = _entropy(target, multi_label, "y_true"), _entropy(proba, multi_label, "y_pred")
    if np.ptp(human) == 0 or np.ptp(model) == 0:
        if np.isnan(replace_undefined_by):
            warn(
                "entropy_correlation is not defined: all documents have the same entropy in y_true or in y_pred. It is "
                "set to NaN; replace_undefined_by= chooses another value.",
                UndefinedMetricWarning,
            )
        return float(replace_undefined_by)
    return float(spearmanr(human, model).statistic)


def _entropy(values: np.ndarray, multi_label: bool, name: str) -> np.ndarray:
    """Return the entropy of every document in nats."""
    if multi_label:
        entropy = entr(values) + entr(1 - values)
    else:
        entropy = entr(_shares(values, name))
    # Equal entropies, such as those of 1/3 and 2/3, must be ties: without rounding they differ in the last bits.
    return entropy.sum(axis=1).round(10)


def _shares(values: np.ndarray, name: str) -> np.ndarray:
    """Return the rows divided by their sums."""
    sums = values.sum(axis=1, keepdims=True)
    if not sums.all():
        i = np.flatnonzero(sums == 0)[0]
        raise ValueError(f"Expected {name} to have a probability above 0 in every row, but row {i} is all 0.")
    return values / sums


def _check_pair(y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    target, names = check_targets(y_true, name="y_true", known=str_names(y_pred))
    proba, _ = check_proba(y_pred, labels=names, n_samples=len(target))
    if proba.shape != target.shape:
        raise ValueError(
            f"Expected y_true and y_pred with the same labels, but got shapes {target.shape} and {proba.shape}."
        )
    return target, proba, check_sample_weight(sample_weight, len(target))


class LabelScorer(_Scorer):
    """What `sklearn.metrics.make_scorer` makes, but columns of a table of targets are found by their names.

    A metric sees probabilities without names. So the targets' columns are put into the order of the estimator's labels
    beforehand, where it knows them: inside pipelines and searches too.
    """

    def _score(self, method_caller, estimator, X, y_true, **kwargs):
        def call(*args, **more):  # what predicts classes gives indicators too
            return as_indicator(estimator, method_caller(*args, **more))

        scorer = self
        if self._kwargs.get("multi_label", True) is None:
            scorer = copy(self)
            scorer._kwargs = {**self._kwargs, "multi_label": gives_several(estimator) is not False}
        return super(LabelScorer, scorer)._score(call, estimator, X, _in_order_of(estimator, y_true), **kwargs)


def gives_several(estimator: Any) -> bool | None:
    """Return the `multi_label` of an estimator, or of the last step of a pipeline or search; None where it has none."""
    while estimator is not None and not hasattr(estimator, "multi_label"):
        estimator = wrapped(estimator)
    return None if estimator is None else bool(estimator.multi_label)


def wrapped(estimator: Any) -> Any:
    """Return the last step of a pipeline, or what a search or the like wraps; None where there is nothing inside."""
    steps = getattr(estimator, "steps", None)
    return steps[-1][1] if steps else getattr(estimator, "estimator", None)


def _in_order_of(estimator, y):
    y = as_targets(estimator, y, "y_true")
    names = names_of(y, output_labels(estimator), "y_true")
    labels = output_labels(estimator, names)
    if labels is None or names is None:
        return y
    return check_targets(y, labels=labels, name="y_true")[0]


def output_labels(estimator: Any, others: Sequence[str] | None = None) -> list[str] | None:
    """Return the labels of the columns of ``predict_proba``, of a pipeline or search too; None where nobody knows them.

    "label0", "label1", ... are known where the `others`, with which they are to be matched, are the same ones.

    A last step that was fitted on targets without names numbers them. The columns are then those of the step before
    that has names, which took the same targets in the order of its own labels. Estimators of scikit-learn, which
    forget the names of their targets, have the order of the targets, whatever steps before them say.
    """
    parts = [estimator]
    while not hasattr(parts[-1], "labels_"):
        steps = getattr(parts[-1], "steps", None)
        inner = [part for _, part in steps] if steps else [getattr(parts[-1], "best_estimator_", None)]
        if inner[-1] is None:
            return None
        parts = inner
    found = (real_names(getattr(part, "labels_", None), others) for part in reversed(parts))
    return next(filter(None, found), None)


def scorers(*, multi_label: bool | None = None, eps: float = 1e-8) -> dict[str, Any]:
    """Return the paper's three metrics as scorers, for ``cross_validate(scoring=...)``.

    Parameters
    ----------
    multi_label : bool or None, default=None
        Whether every label is a question of its own; False for single-label tasks. None: as the estimator says, True
        where it says nothing.
    eps : float, default=1e-8
        Probabilities are clipped to ``[eps, 1 - eps]`` in the negative log-likelihood.

    Returns
    -------
    dict of str to scorer
        "nll" and "l1", negated so that greater is better as scikit-learn's scorers have it, and "example_f1".

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_validate
    >>> from sklearn.multioutput import ClassifierChain
    >>> from skmlmc.metrics import scorers
    >>> X, y = make_multilabel_classification(n_classes=3, random_state=0)
    >>> results = cross_validate(ClassifierChain(LogisticRegression()), X, y, cv=3, scoring=scorers())
    >>> sorted(key for key in results if key.startswith("test_"))
    ['test_example_f1', 'test_l1', 'test_nll']
    """
    return {
        "nll": LabelScorer(nll, -1, {"multi_label": multi_label, "eps": eps}, "predict_proba"),
        "l1": LabelScorer(l1_distance, -1, {}, "predict_proba"),
        "example_f1": LabelScorer(example_f1, 1, {}, "predict"),
    }


nll_scorer = scorers()["nll"]
"""Scorer of ``nll`` on ``predict_proba``, negated so that greater is better, of the estimator's own task."""

l1_scorer = scorers()["l1"]
"""Scorer of ``l1_distance`` on ``predict_proba``, negated so that greater is better."""

example_f1_scorer = scorers()["example_f1"]
"""Scorer of ``example_f1`` on ``predict``."""

entropy_correlation_scorer = LabelScorer(entropy_correlation, 1, {}, "predict_proba")
"""Scorer of ``entropy_correlation`` on ``predict_proba``; not among ``scorers()``, which also take indicators."""

manhattan_scorer = LabelScorer(manhattan_distance, -1, {"multi_label": None}, "predict_proba")
"""Scorer of ``manhattan_distance`` on ``predict_proba``, negated, of the estimator's own task; not among `scorers`."""

wasserstein_scorer = LabelScorer(wasserstein_distance, -1, {}, "predict_proba")
"""Scorer of ``wasserstein_distance`` on ``predict_proba``, negated; not among `scorers`, since not all have a scale."""

"""Arithmetic behind the Displays, and the checks of what is drawn; no matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._utils.arrays import as_list, check_proba, check_steps, check_targets, default_names, first_repeated
from .._utils.checks import check_choice, check_positive_int
from ..align._functions import generated_labels
from ..base import label_columns
from ..metrics import output_labels


class Reliability(NamedTuple):
    """Reliability of one label's probabilities, a value a bin that is not empty.

    Attributes
    ----------
    prob_pred, prob_true : ndarray of shape (k,)
        Mean probability, and share of the answers that were yes.
    counts : ndarray of shape (k,), int
        Documents.
    edges : ndarray of shape (k, 2)
        The bins.
    """

    prob_pred: np.ndarray
    prob_true: np.ndarray
    counts: np.ndarray
    edges: np.ndarray

    @property
    def error(self) -> float:
        """Mean distance between probability and share, weighted by documents (expected calibration error)."""
        return float(np.average(abs(self.prob_pred - self.prob_true), weights=self.counts))


def reliability(target: np.ndarray, proba: np.ndarray, n_bins: int = 5, strategy: str = "uniform") -> Reliability:
    """Bin one label's documents by their probability.

    A document with a soft target h is the same as one of weight h with the label and one of weight 1 - h without it,
    so the share of yes in a bin is the mean of its targets.

    Parameters
    ----------
    target, proba : ndarray of shape (n,)
        Indicators or soft targets, and probabilities, in [0, 1].
    n_bins : int, default=5
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of one width, or of about as many documents.

    Returns
    -------
    Reliability
        The bins that hold documents, as ``sklearn.calibration.calibration_curve`` cuts them.

    Raises
    ------
    ValueError
        An unknown strategy, or a number of bins below 1.
    """
    quantiles = np.linspace(0, 1, check_positive_int(n_bins, "n_bins") + 1)
    uniform = check_choice(strategy, "strategy", ("uniform", "quantile")) == "uniform"
    # Percentiles as scikit-learn takes them: quantiles round differently, which moves ties to other bins.
    edges = quantiles if uniform else np.percentile(proba, quantiles * 100)
    bins = np.searchsorted(edges[1:-1], proba)
    counts = np.bincount(bins, minlength=n_bins)
    filled = counts > 0
    pred, true = (np.bincount(bins, weights=v, minlength=n_bins)[filled] / counts[filled] for v in (proba, target))
    return Reliability(pred, true, counts[filled], np.column_stack([edges[:-1], edges[1:]])[filled])


def step_order(steps: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return what one document's answer says, and an order of the labels in which it reads from top to bottom.

    Parameters
    ----------
    steps : ndarray of shape (R, L + 1)
        One document's step distributions.

    Returns
    -------
    said : ndarray of shape (r,), int
        The column said at each of the answer's r steps.
    order : list of int, length L
        Labels: those said in the order of saying, then the others, the largest probability at any step first.
    """
    said = generated_labels(steps[None])[0]
    said = said[said >= 0]
    none = steps.shape[1] - 1
    peak = steps[: len(said), :none].max(axis=0)
    rest = [int(k) for k in np.argsort(-peak, kind="stable") if k not in said]
    return said, [int(k) for k in said if k != none] + rest


def column_labels(labels: Any, n_columns: int, what: str) -> list[str]:
    """Return a name for each column: those of `labels`, or "label0", "label1", ...

    Parameters
    ----------
    labels : sequence of str or None
        Label names.
    n_columns : int
        How many are wanted.
    what : str
        What has the columns, for the message.

    Returns
    -------
    list of str, length n_columns
        Names.

    Raises
    ------
    TypeError
        If `labels` is no sequence of str.
    ValueError
        If there are not as many labels as columns, or one comes twice.
    """
    if labels is None:
        return default_names(n_columns)
    names = as_list(labels)
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"Got labels={labels!r:.80} but expected a sequence of str, one a column of {what}.")
    if len(names) != n_columns:
        raise ValueError(f"Got {len(names)} labels {names} but expected {n_columns}, one a column of {what}.")
    if len(set(names)) < len(names):
        raise ValueError(f"Expected different labels, but {first_repeated(names)!r} comes twice. Rename one.")
    return names


def check_both(y_true: Any, y_pred: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return targets, probabilities and label names that fit each other.

    Parameters
    ----------
    y_true, y_pred : array-like or DataFrame of shape (n, L)
        Indicators or soft targets, and label probabilities.
    labels : sequence of str, length L, or None
        Label names; None: those of a DataFrame, else "label0", ...

    Returns
    -------
    target, proba : ndarray of shape (n, L)
        In the order of the labels.
    labels : list of str
        Names.

    Raises
    ------
    TypeError, ValueError
        If they do not fit each other.
    """
    n_labels = len(labels) if hasattr(labels, "__len__") else 0
    wanted = None if labels is None else column_labels(labels, n_labels, "y_true")
    target, names = check_targets(y_true, labels=wanted, name="y_true")
    proba, others = check_proba(y_pred, labels=wanted or names, n_samples=len(target))
    if proba.shape != target.shape:
        raise ValueError(f"Expected y_true and y_pred with the same labels, but got {target.shape} and {proba.shape}.")
    return target, proba, column_labels(wanted or names or others, target.shape[1], "y_true")


def _parts(estimator):
    return [part for _, part in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]


def find_step_labels(estimator: Any) -> list[str] | None:
    """Return the label names of what gives steps: a pipeline's first step that has some; None without any."""
    found = next((part.labels_ for part in _parts(estimator) if hasattr(part, "labels_")), None)
    return None if found is None else [str(label) for label in found]


def find_labels(estimator: Any) -> list[str] | None:
    """Return the names of the columns of ``predict_proba``, from the first step where the last one numbers them."""
    names = output_labels(estimator)
    numbered = names is None or names == default_names(len(names))
    return (find_step_labels(estimator) if numbered else None) or names


def predict_beside_steps(estimator: Any, texts: Sequence[str]) -> np.ndarray | None:
    """Return one document's label probabilities in the order of its steps' columns; None without ``predict_proba``.

    A last step that was fitted on a table of targets may have its columns in that table's order.
    """
    if not hasattr(estimator, "predict_proba"):
        return None
    proba, names, order = predict_labels(estimator, texts)[0], find_labels(estimator), find_step_labels(estimator)
    if names is None or order is None or set(names) != set(order):
        return proba
    return proba[[names.index(name) for name in order]]


def find_none_label(estimator: Any) -> str:
    """Return the estimator's name for the empty answer."""
    parts = [p for part in _parts(estimator) for p in (part, getattr(part, "extractor_", part))]
    return next((part.none_label for part in parts if hasattr(part, "none_label")), "none")


def find_threshold(estimator: Any) -> Any:
    """Return the threshold of an estimator's predictions, None where it takes the largest probability."""
    last = _parts(estimator)[-1]
    return getattr(last, "threshold", 0.5) if getattr(last, "multi_label", True) else None


def extract_steps(estimator: Any, texts: Sequence[str]) -> np.ndarray:
    """Return step distributions of texts from a fitted extractor, classifier, or pipeline that holds one.

    Parameters
    ----------
    estimator : estimator
        With ``transform`` to steps, with ``extractors_`` (the first one counts), or a pipeline.
    texts : list of str
        Documents.

    Returns
    -------
    ndarray of shape (n, R, L + 1)
        Step distributions.

    Raises
    ------
    TypeError
        If the estimator gives no step distributions, which the first document shows.
    """
    for part in _parts(estimator):
        source = getattr(part, "extractors_", [part])[0]
        if not hasattr(source, "transform"):
            break
        first = np.asarray(source.transform(texts[:1]))  # one document tells, before all are decoded
        if first.ndim == 3 and first.shape[1] < first.shape[2]:
            return check_steps(first if len(texts) == 1 else source.transform(texts))
        if first.ndim != 1:  # no texts, so no step that prepares them
            break
        texts = source.transform(texts)
    raise TypeError(
        f"Expected an estimator that answers in steps (StepwiseExtractor, a pipeline that begins with one, or "
        f"GGUFClassifier with method='max_over_generations', 'compare_to_none' or 'hard_predictions'), but got "
        f"{estimator!r:.200}."
    )


def predict_labels(estimator: Any, X: Any) -> np.ndarray:
    """Return a fitted classifier's label probabilities.

    Parameters
    ----------
    estimator : estimator
        With ``predict_proba``, in either of scikit-learn's two layouts.
    X : array-like of length n
        Documents.

    Returns
    -------
    ndarray of shape (n, L)
        Label probabilities, unchecked.

    Raises
    ------
    TypeError
        If the estimator has no ``predict_proba``.
    """
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(f"Expected a fitted classifier with predict_proba, but got {estimator!r:.200}.")
    check_is_fitted(estimator)
    return label_columns(estimator, X)

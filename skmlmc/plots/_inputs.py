"""What the Displays are given, checked: label names, targets beside probabilities, and what estimators say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._utils.arrays import as_list, check_proba, check_targets, default_names, first_repeated, str_names
from .._utils.labelled import kind_of, labels_of
from ..base import label_columns
from ..metrics import output_labels


def column_labels(labels: Any, n_columns: int, what: str) -> list[str]:
    """Return a name for each column of `what`: those of `labels`, or "label0", "label1", ..."""
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
    """Return targets, probabilities and their names: those given, else an aligner's array's, else a DataFrame's."""
    labels = labels_of(y_pred) if labels is None else labels
    n_labels = len(labels) if hasattr(labels, "__len__") else 0
    wanted = None if labels is None else column_labels(labels, n_labels, "y_true")
    target, names = check_targets(y_true, labels=wanted, name="y_true", known=str_names(y_pred))
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


def predict_beside_steps(estimator: Any, texts: Sequence[str]) -> np.ndarray | None:
    """Return one document's label probabilities in the order of its steps' columns; None without ``predict_proba``.

    A last step that was fitted on a table of targets may have its columns in that table's order.
    """
    if not hasattr(estimator, "predict_proba"):
        return None
    proba, order = predict_labels(estimator, texts)[0], find_step_labels(estimator)
    names = output_labels(estimator, order)
    if names is None or order is None or set(names) != set(order):
        return proba
    return proba[[names.index(name) for name in order]]


def find_none_label(estimator: Any) -> str:
    """Return the estimator's name for the empty answer."""
    parts = [p for part in _parts(estimator) for p in (part, getattr(part, "extractor_", part))]
    return next((part.none_label for part in parts if hasattr(part, "none_label")), "none")


def are_texts(values: Any) -> bool:
    """Return whether values are str, one a document."""
    elements = as_list(values)
    return elements is not None and all(isinstance(element, str) for element in elements)


def extract_steps(estimator: Any, texts: Sequence[str]) -> np.ndarray:
    """Return what the fitted extractor in an estimator makes of texts, unchecked; of several extractors the first.

    Earlier parts of a pipeline may prepare texts. TypeError without steps, which one document shows before all others.
    """
    for part in _parts(estimator):
        source = getattr(part, "extractors_", [part])[0]
        if not hasattr(source, "transform"):
            break
        made = source.transform(texts[:1])
        if kind_of(made) == "steps" or (kind_of(made) is None and np.ndim(made) == 3):
            return made if len(texts) == 1 else source.transform(texts)
        if not are_texts(made):
            break
        texts = source.transform(texts)
    raise TypeError(
        f"Expected an estimator that answers in steps (StepwiseExtractor, a pipeline that begins with one, or "
        f"GGUFClassifier with method='max_over_generations', 'compare_to_none' or 'hard_predictions'), but got "
        f"{estimator!r:.200}."
    )


def predict_labels(estimator: Any, X: Any) -> np.ndarray:
    """Return a fitted classifier's label probabilities, of either of scikit-learn's two layouts, unchecked."""
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(f"Expected a fitted classifier with predict_proba, but got {estimator!r:.200}.")
    check_is_fitted(estimator)
    return label_columns(estimator, X)

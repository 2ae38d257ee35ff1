"""An array that remembers what its rows and columns are on its way through a pipeline.

scikit-learn joins DataFrames by their index, and takes it from the input of the step that makes the DataFrame. Between
an extractor and an aligner the input is an array of three dimensions, which has none: rows would be numbered from 0,
and joined with other documents' columns. Likewise an aligner could not see that a table `y` names the labels in another
order than the extractor has its columns in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class LabelledArray(np.ndarray):
    """Array with the pandas index of its rows and the labels of its columns; what is computed from it is ordinary."""

    index: Any = None
    labels: list[str] | None = None

    def __getitem__(self, key):
        return np.asarray(self)[key]

    def __array_wrap__(self, array, context=None, return_scalar=False):
        array = np.asarray(array)
        return array[()] if array.ndim == 0 else array

    def __repr__(self):
        return repr(np.asarray(self))

    def __reduce__(self):
        return _view, (np.asarray(self), self.index, self.labels)


def _view(array: np.ndarray, index: Any, labels: list[str] | None) -> LabelledArray:
    labelled = np.asarray(array).view(LabelledArray)
    labelled.index, labelled.labels = index, labels
    return labelled


def keep_names(array: np.ndarray, source: Any, labels: Any = None) -> np.ndarray:
    """Return `array` with the index of `source` and the labels of the columns, as it is where there are none.

    Parameters
    ----------
    array : ndarray of shape (n, ...)
        What was made of `source`, row for row.
    source : array-like of length n
        A pandas Series, a `LabelledArray`, or anything else. An index that numbers the rows from 0 is none.
    labels : sequence of str of length L, default=None
        Labels of the last axis, which may have the empty answer behind them. None: those of `source`.

    Returns
    -------
    ndarray of shape (n, ...)
        The same numbers.
    """
    index = source.index if hasattr(source, "iloc") or isinstance(source, LabelledArray) else None
    index = None if index is None or list(index) == list(range(len(array))) else index
    labels = labels_of(source) if labels is None else list(labels)
    return array if index is None and labels is None else _view(array, index, labels)


def labels_of(array: Any) -> list[str] | None:
    """Labels of an array's columns, where it knows them."""
    return array.labels if isinstance(array, LabelledArray) else None


def restore_names(made: Any, source: Any, labels: Sequence[str]) -> Any:
    """Return what a transformer made of `source`, with its index, and with `labels` where `source` knew its own."""
    if not isinstance(source, LabelledArray):
        return made
    if isinstance(made, np.ndarray):
        return keep_names(made, source, labels if source.labels else None)
    if source.index is not None and hasattr(made, "iloc"):
        made.index = source.index
    return made

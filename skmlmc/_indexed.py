"""An array that remembers the index of its rows on its way through a pipeline.

scikit-learn joins DataFrames by their index, and takes it from the input of the step that makes the DataFrame. Between
an extractor and an aligner the input is an array of three dimensions, which has none: rows would be numbered from 0,
and joined with other documents' columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class IndexedArray(np.ndarray):
    """Array with the pandas index of its rows; what is computed from it is an ordinary array."""

    index: Any = None

    def __getitem__(self, key):
        return np.asarray(self)[key]

    def __array_wrap__(self, array, context=None, return_scalar=False):
        array = np.asarray(array)
        return array[()] if array.ndim == 0 else array

    def __reduce__(self):
        return _view, (np.asarray(self), self.index)


def _view(array: np.ndarray, index: Any) -> IndexedArray:
    indexed = array.view(IndexedArray)
    indexed.index = index
    return indexed


def keep_index(array: np.ndarray, source: Any) -> np.ndarray:
    """Return `array` with the index of `source`, as it is where `source` has none or numbers its rows from 0.

    Parameters
    ----------
    array : ndarray of shape (n, ...)
        What was made of `source`, row for row.
    source : array-like of length n
        A pandas Series, an `IndexedArray`, or anything else.

    Returns
    -------
    ndarray of shape (n, ...)
        The same numbers.
    """
    index = source.index if hasattr(source, "iloc") or isinstance(source, IndexedArray) else None
    return array if index is None or list(index) == list(range(len(array))) else _view(array, index)


def restore_index(frame: Any, source: Any) -> Any:
    """Return `frame` with the index that `source` remembers, where it is a pandas DataFrame and there is one."""
    if isinstance(source, IndexedArray) and source.index is not None and hasattr(frame, "iloc"):
        frame.index = source.index
    return frame

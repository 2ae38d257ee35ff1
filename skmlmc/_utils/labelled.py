"""An array that remembers what its rows and columns are on its way through a pipeline.

scikit-learn joins DataFrames by their index, and takes it from the input of the step that makes the DataFrame. Between
an extractor and an aligner the input is an array of three dimensions, which has none: rows would be numbered from 0,
and joined with other documents' columns. Likewise an aligner could not see that a table `y` names the labels in another
order than the extractor has its columns in, nor tell steps from pairs, which both have three dimensions, nor see which
labels the model wrote where the steps have been divided by something since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class LabelledArray(np.ndarray):
    """Array that knows what it holds; so do copies, selections of rows and such arrays joined by ``numpy.concatenate``.

    All else made of it is ordinary arrays.
    """

    kind: str | None = None  # "steps", "pairs", "unary" or "hidden"
    labels: list[str] | None = None  # of the last axis, which may have the empty answer behind them
    index: Any = None  # of pandas: names of the rows
    # Of steps: (n, R), column of the label that the model wrote at each, L for none, -1 where no step happened.
    written: np.ndarray | None = None

    def __getitem__(self, key):
        made = np.asarray(self)[key]
        rows = key[0] if isinstance(key, tuple) and len(key) == 2 and key[1] is ... else key  # as scikit-learn asks
        if isinstance(rows, tuple) or not (isinstance(rows, slice) or np.ndim(rows) == 1):
            return made
        index, written = (None if each is None else each[rows] for each in (self.index, self.written))
        return _view(made, self.kind, self.labels, index, written)

    def copy(self, order="C"):
        return relabel(np.array(self, order=order), self)

    def __deepcopy__(self, memo=None):
        return self.copy()

    __copy__ = __deepcopy__

    def __array_wrap__(self, array, context=None, return_scalar=False):
        array = np.asarray(array)
        return array[()] if array.ndim == 0 else array

    def __array_function__(self, func, types, args, kwargs):
        made = super().__array_function__(func, types, args, kwargs)
        return _joined(made, *args, **kwargs) if func is np.concatenate else made

    def __repr__(self):
        return repr(np.asarray(self))

    def __reduce__(self):
        return _view, (np.asarray(self), self.kind, self.labels, self.index, self.written)


def _view(array, kind, labels, index, written) -> LabelledArray:
    made = np.asarray(array).view(LabelledArray)
    made.kind, made.labels, made.index, made.written = kind, labels, index, written
    return made


def _joined(made, arrays, axis=0, out=None, **kwargs):
    """Return rows of several arrays as an array that knows what they all know."""
    parts = [part for part in arrays if isinstance(part, LabelledArray)]
    known = [(part.kind, part.labels) for part in parts]
    if axis != 0 or out is not None or len(parts) < len(arrays) or known != known[:1] * len(parts):
        return made
    written = [part.written for part in parts if part.written is not None]
    index = [part.index for part in parts if part.index is not None]
    return _view(
        made,
        *known[0],
        index[0].append(index[1:]) if len(index) == len(parts) else None,
        np.concatenate(written) if len(written) == len(parts) else None,
    )


def index_of(source: Any, n: int) -> Any:
    """Return the pandas index of a Series or the index that an array knows; one that numbers n rows from 0 is none."""
    index = source.index if hasattr(source, "iloc") or isinstance(source, LabelledArray) else None
    return None if index is None or list(index) == list(range(n)) else index


def labelled(
    array: np.ndarray, kind: str | None, labels: Iterable[str] | None, source: Any, written: Any = None
) -> LabelledArray:
    """Return what an extractor made of `source`, row for row, as an array that says what it is.

    `kind`, `labels` and `written` are the attributes of `LabelledArray`; its index is that of `source`, the documents.
    """
    return _view(array, kind, None if labels is None else list(labels), index_of(source, len(array)), written)


def relabel(array: np.ndarray, source: Any) -> np.ndarray:
    """Return other numbers of the same kind, rows and columns as `source`; as they are where `source` knows nothing."""
    if not isinstance(source, LabelledArray):
        return array
    return _view(array, source.kind, source.labels, source.index, source.written)


def reorder(array: LabelledArray, labels: Sequence[str]) -> LabelledArray:
    """Return an array with its labels in another order, those of its columns; the empty answer stays last."""
    n, old = array.shape[-1], list(array.labels or ())
    columns = [*(old.index(label) for label in labels), *range(len(old), n)]
    made = np.asarray(array)[..., columns]
    if array.kind == "pairs":
        made = made[:, columns]
    written = array.written
    if written is not None:  # numbers of columns: where each stands now; -1 takes the last, which says -1 again
        written = np.append(np.argsort(columns), -1)[written]
    return _view(made, array.kind, list(labels), array.index, written)


def kind_of(array: Any) -> str | None:
    """Return what an array holds, where it knows."""
    return array.kind if isinstance(array, LabelledArray) else None


def written_of(array: Any) -> np.ndarray | None:
    """Return the labels that the model wrote at the steps of an array, where it knows."""
    return array.written if isinstance(array, LabelledArray) else None


def labels_of(array: Any) -> list[str] | None:
    """Labels of an array's columns, where it knows them."""
    return array.labels if isinstance(array, LabelledArray) else None


def restore_names(made: Any, source: Any, labels: Sequence[str]) -> Any:
    """Return label probabilities that an aligner made of `source`, with its index and with `labels`.

    `made` is an array or DataFrame, as ``set_output`` asks for; where `source` is an ordinary array it stays as it is.
    """
    if not isinstance(source, LabelledArray):
        return made
    if isinstance(made, np.ndarray):
        return _view(made, "unary", list(labels), source.index, None)
    if source.index is not None and hasattr(made, "iloc"):
        made.index = source.index
    return made

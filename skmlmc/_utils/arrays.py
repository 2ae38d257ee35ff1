"""Arrays: how they are laid out, and cheap checks of targets, label probabilities, steps, pairs and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse

from .labelled import kind_of, labelled, labels_of, reorder

_TOLERANCE = 1e-6
_RANKS_HINT = (
    " A common cause: cross_val_predict(method='predict_proba') re-encodes every column of a 2-D soft y as integer "
    "ranks; pass soft targets through the `distribution=` metadata of fit instead and give y as an indicator matrix."
)

_KINDS = {
    "steps": ("StepwiseExtractor", "MaxOverGenerations, CompareToNone or HardPredictions"),
    "pairs": ("PairwiseExtractor", "BradleyTerry"),
    "unary": ("UnaryExtractor", "UnaryBreakdown or ScalingAligner"),
    "hidden": ("HiddenStateExtractor", "LinearProbe"),
}


def lay_out(values: Any, dtype: Any = np.float64) -> np.ndarray:
    """Return numbers in the one layout that anything is computed from: row after row, without gaps.

    Sums, products and vectorised functions take another way through another layout and end in other last bits. So
    a slice, a frame's columns, a file mapped into memory or float32 come to this layout before they are used. What is
    returned may share memory with `values`: do not write into it.
    """
    array = np.require(values, dtype, ["C", "A", "E"])
    # An axis of length 1 may have any stride (x[None] has 0), and numpy multiplies without BLAS for some of them.
    return array.ravel().reshape(array.shape)


def check_kind(array: Any, *expected: str) -> str | None:
    """Return what an array holds, None where it does not know, or raise ValueError where that is not `expected`."""
    kind = kind_of(array)
    if kind is None or kind in expected:
        return kind
    wanted = " or ".join(f"{name} (of {_KINDS[name][0]})" for name in expected)
    source, aligners = _KINDS[kind]
    raise ValueError(
        f"Expected {wanted}, but got {kind} (of {source}). Use {aligners} for these, or the other extractor."
    )


def is_frame(values: Any) -> bool:
    """Return whether `values` is a DataFrame, of pandas or polars, without importing either."""
    # In this order: polars warns whoever asks a LazyFrame for its columns.
    return hasattr(values, "to_numpy") and hasattr(values, "columns")


def _is_arrow_table(values: Any) -> bool:
    return hasattr(values, "to_pydict")


def column_names(values: Any) -> list | None:
    """Return the column names of a DataFrame or a pyarrow table, None for anything else."""
    if _is_arrow_table(values):
        return list(values.column_names)
    return list(values.columns) if is_frame(values) else None


def check_unmasked(values: Any, name: str) -> None:
    """Raise TypeError for a masked array, or rows of one: numpy would read what is masked as if it were not."""
    rows = values if isinstance(values, (list, tuple)) else []
    if isinstance(values, np.ma.MaskedArray) or any(isinstance(row, np.ma.MaskedArray) for row in rows):
        raise TypeError(
            f"Got a masked array as {name}, whose mask would be lost. Expected an ordinary one: leave the masked rows "
            f"out, or write {name}.filled(value) where a value stands for what is masked."
        )


def check_table(values: Any, name: str) -> None:
    """Raise TypeError where numpy would read `values`, and lose a mask or the columns' names in silence."""
    check_unmasked(values, name)
    # Asked of the class, for polars warns whoever asks a LazyFrame for its columns.
    lazy = hasattr(type(values), "columns") and column_names(values) is None  # of dask and polars
    if lazy or (hasattr(type(values), "dims") and hasattr(type(values), "coords")):  # of xarray
        raise TypeError(
            f"Got {name} of type {type(values).__name__}, whose names would be lost. Expected an array, or a table "
            "that is in memory: call .compute(), .collect() or .to_pandas() first."
        )
    if issparse(values):  # one kind of which is a dict
        return
    if isinstance(values, Mapping) or any(_is_named_row(row) for row in as_list(values) or ()):
        raise TypeError(
            f"Expected {name} to be an array of numbers or a table, but got {values!r:.60}. Pass mappings and other "
            f"rows with names as pandas.DataFrame({name}), whose columns have names."
        )


def _is_named_row(row):
    """Return whether `row` is a mapping, a namedtuple or a Series with an index of names."""
    if isinstance(row, Mapping) or hasattr(row, "_fields"):
        return True
    return hasattr(row, "iloc") and any(isinstance(name, str) for name in row.index)


def str_names(values: Any) -> list[str] | None:
    """Return column names that are str, None where there are others or none, without a complaint."""
    names = column_names(values) or labels_of(values) or [None]
    return list(names) if all(isinstance(name, str) for name in names) else None


def names_of(values: Any, labels: Sequence[str] | None = None, name: str = "y") -> list[str] | None:
    """Return the names of the columns of a table or an array that knows its labels, None where there are none.

    Of columns with several levels it is the level that holds the `labels`, where these are known, else the only level
    that varies. Numbers that count columns from 0, as pandas gives them to a plain array, are no names, and "label0",
    "label1", ... of an array are none where these are not the `labels`. TypeError or ValueError, which call the table
    `name`, where the names are no str, repeated or levels of which nobody can tell which one it is.
    """
    names: Any = column_names(values)
    if names is None:
        return real_names(labels_of(values), labels)
    if any(isinstance(column, tuple) for column in names):
        names = _one_level(names, labels, name)
    if names == list(range(len(names))):
        return None
    if not all(isinstance(column, str) for column in names):
        raise TypeError(f"Expected the column names of {name} to be all str, but got {names}. Rename the columns.")
    if len(set(names)) < len(names):
        raise ValueError(f"Expected {name} with different column names, but {first_repeated(names)!r} comes twice.")
    return names


def real_names(names: Any, others: Sequence[str] | None = None) -> list[str] | None:
    """Return label names in a list, None where there are none or they only count: "label0", "label1", ...

    They are names all the same where the `others`, with which they are to be matched, are the same ones.
    """
    if names is None or not all(isinstance(name, str) for name in names):
        return None  # numbers are the labels_ of a clustering
    counted = list(names) == default_names(len(names))
    return None if counted and sorted([] if others is None else others) != sorted(names) else list(names)


def check_order(labels: Any, known: Sequence[str] | None, what: str) -> None:
    """Raise ValueError where the `labels` that somebody gives to the columns of `what` contradict those it knows."""
    if labels is not None and known is not None and list(labels) != list(known) and set(labels) == set(known):
        raise ValueError(
            f"Got labels={list(labels)} for the columns of {what}, but they are {list(known)}, in this order. Leave "
            "labels out."
        )


def _one_level(names, labels, name):
    """Return the one level of several that names the labels."""
    depth = {len(column) if isinstance(column, tuple) else 1 for column in names}
    levels = [list(level) for level in zip(*names, strict=True)] if len(depth) == 1 else []
    found = [level for level in levels if labels is not None and sorted(map(str, level)) == sorted(labels)]
    if not found:
        varying = [level for level in levels if len(set(level)) > 1]
        found = varying if len(names) > 1 else levels[-1:]
    if len(found) != 1:
        wanted = "different names in one level" if labels is None else f"one level to hold the labels {list(labels)}"
        raise ValueError(
            f"Got {name} with column names of several levels but expected {wanted}, and got {names}. Keep the level of "
            f"the labels, e.g. {name}.columns = {name}.columns.get_level_values(-1)."
        )
    return found[0]


def table_values(values: Any) -> Any:
    """Return the numbers of a table as an array, what is missing as NaN; anything else as it is."""
    if _is_arrow_table(values):
        columns = [np.asarray(column) for column in values.columns]
        return np.column_stack(columns) if columns else np.empty((values.num_rows, 0))
    if not is_frame(values):
        return values
    array = values.to_numpy()
    if array.dtype != object or not hasattr(values, "iloc"):  # polars makes NaN or None of nulls
        return array
    # pandas.NA does not convert to float by itself, and to_numpy(na_value=...) fails on float columns of pandas 3.
    array = np.array(array)
    array[values.isna().to_numpy()] = np.nan
    return array


def arrange(values: Any, names: list[str] | None, order: Sequence[str] | None) -> Any:
    """Return the values of a table or array with its columns, called `names`, in another `order` of the same names."""
    array = table_values(values)
    if names is None or order is None or names == list(order):
        return array
    if labels_of(array) is not None:
        return reorder(array, order)
    return array[:, [names.index(name) for name in order]]


def describe(value: Any) -> str:
    """Return a value's type, and its shape where it has one, for a message."""
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")


def as_list(values: Any) -> list | None:
    """Return the elements of an ordered 1-D collection, None for anything else (str, set, generator, 2-D, ...)."""
    if hasattr(values, "to_pylist") and not _is_arrow_table(values):  # a column of pyarrow
        return values.to_pylist()
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple):
        to_list = getattr(values, "to_list", None) or getattr(values, "tolist", None)
        return list(to_list()) if len(shape) == 1 and to_list else None
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes, bytearray)):
        return list(values)
    return None


def to_frame(table: dict[str, list], as_frame: bool) -> Any:
    """Return a tidy table as it is, or as a pandas DataFrame."""
    if not as_frame:
        return table
    import pandas as pd

    return pd.DataFrame(table)


def check_not_empty(n: int, what: str) -> None:
    """Raise ValueError when there is no sample."""
    if n == 0:  # scikit-learn's wording, which its own checks look for
        raise ValueError(f"Found array with 0 sample(s) while a minimum of 1 is required: {what} is empty.")


def first_repeated(values: list) -> Any:
    """Return the first of `values` that stands there a second time."""
    return next(value for i, value in enumerate(values) if value in values[:i])


def check_targets(
    y: Any,
    labels: Sequence[str] | None = None,
    n_samples: int | None = None,
    name: str = "y",
    known: Sequence[str] | None = None,
) -> tuple[np.ndarray, list[str] | None]:
    """Return indicator or soft targets (n, L) as float64 in [0, 1], and the names of its columns where it has them.

    `y` is array-like, sparse, a DataFrame (pandas, polars) or a pyarrow table. Columns that have names are put into the
    order of `labels`; `known` are only names that columns of several levels may have. TypeError or ValueError, which
    call it `name`, where it does not hold numbers, or its shape, rows (`n_samples`), columns or values are not as
    expected.
    """
    return _check_proportions(y, labels, n_samples, name, hint=_RANKS_HINT, known=known)


def check_proba(
    proba: Any, labels: Sequence[str] | None = None, n_samples: int | None = None, name: str = "y_pred"
) -> tuple[np.ndarray, list[str] | None]:
    """As ``check_targets``, for predictions, without its hint about the origin of values outside [0, 1]."""
    return _check_proportions(proba, labels, n_samples, name, hint="")


def check_label_names(
    y: Any, n_labels: int, n_samples: int, name: str = "y", known: list[str] | None = None
) -> list[str]:
    """Return the label names of a `y` that is used for nothing else, and may be None.

    `known` are the names of the columns that `y` belongs to, in their order, where they have some. They are returned
    where `y` has no names or the same ones in any order; else the columns of a table; else "label0", "label1", ...
    Errors are those of ``check_targets``, but numbers may be any, as scikit-learn's tools may have encoded them; and
    ValueError where `y` has other names than those that are known.
    """
    names = None
    if y is not None:
        values, names = _check_proportions(y, None, n_samples, name, hint="", bounded=False, known=known)
        if values.shape[1] != n_labels:
            raise ValueError(f"Expected {name} to have {n_labels} columns, one a label, but got {values.shape[1]}.")
    if names is None or known is None:
        return names or known or default_names(n_labels)
    return labels_of_columns(known, names)


def labels_of_columns(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the label, of `names`, that each of the `columns` of probabilities stands for.

    They are called the same, or with the prefix that scikit-learn's ColumnTransformer and FeatureUnion put before
    names, "llm__joy"; ValueError where they are not.
    """
    for found in (list(columns), [column.rpartition("__")[2] for column in columns]):
        if sorted(found) == sorted(names):
            return found
    raise ValueError(
        f"Expected X and y to have the same labels as columns, but got {list(columns)} and {list(names)}. Rename the "
        "columns of one, or pass it as an array whose columns are in the order of the other's."
    )


def default_names(n_labels: int) -> list[str]:
    """Names of labels that nobody named: "label0", "label1", ..."""
    return [f"label{i}" for i in range(n_labels)]


def name_targets(y: Any, distribution: Any, labels: Sequence[str] | None = None) -> Any:
    """Return the targets: `y`, or `distribution` in its place, with the names and the order of `y` where it has names.

    `labels` are names of which columns of several levels may have one. ValueError where both have names, and others.
    """
    if distribution is None:
        return y
    check_table(distribution, "distribution")
    names = names_of(y, labels)
    given = names_of(distribution, names if labels is None else labels, "distribution")
    if names is None or given == names:
        return distribution
    if given is not None and sorted(given) != sorted(names):
        raise ValueError(
            f"Expected y and distribution to have the same labels as columns, but got {names} and {given}. Rename the "
            "columns of one."
        )
    values = arrange(distribution, given, names)
    shape = values.shape if issparse(values) else np.shape(values)
    if len(shape) != 2 or shape[1] != len(names):
        raise ValueError(
            f"Expected distribution to have {len(names)} columns, those of y ({names}), but got shape {shape}. Give "
            "both the same labels, or pass distribution as a table whose columns are the labels."
        )
    return labelled(values.toarray() if issparse(values) else np.asarray(values), None, names, None)


def _check_proportions(y, labels, n_samples, name, hint, bounded=True, known=None):
    """Check, and put columns in the order of `labels`; `known` are names that columns of several levels may have."""
    check_table(y, name)
    names = names_of(y, known if labels is None else labels, name)
    if names is not None and labels is not None:
        _check_same_names(names, labels, name)
    y, names = arrange(y, names, labels), names if names is None or labels is None else list(labels)
    values = _to_numbers(y, name)
    check_not_empty(len(values), name)
    if n_samples is not None and len(values) != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: expected {name} to have {n_samples} rows, "
            f"one a document, but got {len(values)}."
        )
    if values.shape[1] == 0 or (labels is not None and values.shape[1] != len(labels)):
        wanted = "at least one column" if labels is None else f"{len(labels)} columns, one a label ({list(labels)})"
        raise ValueError(f"Expected {name} to have {wanted}, but got {values.shape[1]}.")
    low, high = values.min(), values.max()  # NaN where there is one
    if np.isnan(low) or (bounded and not -_TOLERANCE <= low <= high <= 1 + _TOLERANCE):
        _refuse_proportions(values, names or range(values.shape[1]), name, hint)
    return (values.clip(0, 1) if bounded else values), names


def _refuse_proportions(values, columns, name, hint):
    if np.isnan(values).any():
        row, column = np.argwhere(np.isnan(values))[0]
        raise ValueError(
            f"Input {name} contains NaN, first in row {row}, column {columns[column]!r}. Expected a number in [0, 1] "
            "for every label: leave out documents without annotation."
        )
    row, column = np.argwhere((values < -_TOLERANCE) | (values > 1 + _TOLERANCE))[0]
    raise ValueError(
        f"Expected {name} in [0, 1], but row {row}, column {columns[column]!r} is {values[row, column]:g}.{hint}"
    )


def _check_same_names(names, labels, name):
    missing = [label for label in labels if label not in names]
    unexpected = [column for column in names if column not in labels]
    if missing or unexpected:
        raise ValueError(
            f"Expected the columns of {name} to be the labels {list(labels)}; missing: {missing}, unexpected: "
            f"{unexpected}. Rename or select columns, or pass an array in the order of the labels."
        )


def _holds_label_sets(y: Any) -> bool:
    rows = y if isinstance(y, (list, tuple)) else as_list(y) or []
    return any(
        isinstance(row, (set, frozenset))
        or (isinstance(row, (list, tuple, np.ndarray)) and any(isinstance(value, str) for value in row))
        for row in rows
    )


def _to_numbers(y: Any, name: str) -> np.ndarray:
    """Return `y` as a float64 array of two dimensions."""
    expected = f"Expected {name} to be numbers in [0, 1] of shape (n, L), one column a label"
    if y is None or isinstance(y, (str, bytes, set, frozenset)):
        raise TypeError(f"{expected}, but got {y!r:.60}. Pass an array or a DataFrame.")
    if _holds_label_sets(y):
        raise ValueError(
            f"{expected}, but got sets of label names. Turn them into an indicator matrix with "
            f"sklearn.preprocessing.MultiLabelBinarizer(classes=labels).fit_transform({name})."
        )
    try:
        array = np.asarray(y.toarray() if issparse(y) else y)
    except ValueError as error:
        raise ValueError(f"{expected}, but got rows of different lengths. Give every row L numbers.") from error
    if array.ndim == 1:
        raise ValueError(
            f"{expected}, but got a 1-D {name} of shape {array.shape}. Where it holds the one class of each document, "
            f"use multi_label=False, or pandas.get_dummies({name}); for sets of labels use "
            "sklearn.preprocessing.MultiLabelBinarizer."
        )
    if array.ndim != 2:
        raise ValueError(f"{expected}, but got {array.ndim} dimensions: shape {array.shape}.")
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported. {expected}.")
    holds_str = array.dtype.kind == "O" and any(isinstance(value, (str, bytes)) for value in array.flat)
    if array.dtype.kind not in "biufO" or holds_str:
        raise TypeError(f"{expected}, but got {describe(y)} that holds {'str' if holds_str else array.dtype}.")
    try:
        return lay_out(array)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{expected}, but got an element that is no number: {error}.") from error


def majority(y: np.ndarray) -> np.ndarray:
    """Return the majority's label sets (n, L), int: 1 where ``y > 0.5``, so 0 for a tie."""
    return (np.asarray(y) > 0.5).astype(int)


def largest(proba: np.ndarray) -> np.ndarray:
    """Return label sets (n, L), int, of one label a row: the first of its most probable ones."""
    return np.eye(proba.shape[1], dtype=int)[proba.argmax(axis=1)]


def _to_cube(values: Any, name: str, shape: str, source: str) -> np.ndarray:
    """Return `values` as a float64 array of three dimensions with at least three columns."""
    expected = f"Expected {name} to be numbers of shape {shape} with at least two labels and none, as {source} gives"
    check_unmasked(values, name)
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO" or array.ndim == 0:
            raise TypeError(f"{array.ndim} dimensions of dtype {array.dtype}")
        cube = lay_out(array)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{expected}, but got {describe(values)} ({error}).") from error
    if cube.ndim != 3 or cube.shape[1] == 0 or cube.shape[2] < 3:
        raise ValueError(f"{expected}, but got shape {cube.shape}.")
    check_not_empty(len(cube), name)
    return cube


def check_steps(steps: Any) -> np.ndarray:
    """Return step distributions (n, R, L + 1) as float64, laid out by ``lay_out``: not to be written into.

    They hold the probability of every label, and of none in the last column, at each generation step; NaN in the rows
    of steps that did not happen. TypeError or ValueError where they are no numbers or known to be something else, have
    a wrong shape or are empty, a row is no distribution, or a step follows one that did not happen.
    """
    check_kind(steps, "steps")
    cube, tolerance = _to_cube(steps, "steps", "(n, R, L + 1)", "StepwiseExtractor"), _tolerance(steps)
    with np.errstate(invalid="ignore", over="ignore"):  # the sum is NaN where a step did not happen
        sums = (cube.reshape(-1, cube.shape[2]) @ np.ones(cube.shape[2])).reshape(cube.shape[:2])
    missing = np.isnan(sums)
    fine = (
        0 <= np.fmin.reduce(cube, axis=None) <= np.fmax.reduce(cube, axis=None) <= 1
        and not missing[:, 0].any()
        and (missing[:, :-1] <= missing[:, 1:]).all()
        and (missing | (abs(sums - 1) <= tolerance)).all()
        and np.count_nonzero(np.isnan(cube)) == np.count_nonzero(missing) * cube.shape[2]
    )
    if not fine:
        _refuse_steps(cube, tolerance)
    return cube


def _refuse_steps(cube: np.ndarray, tolerance: float) -> None:
    missing = np.isnan(cube)
    happened = ~missing.all(axis=2)
    with np.errstate(invalid="ignore", over="ignore"):
        wrong = happened & ~(((cube >= 0) & (cube <= 1)).all(axis=2) & (abs(cube.sum(axis=2) - 1) <= tolerance))
    for bad, message in (
        (~happened[:, :1], "a first step for every document, but it is NaN"),
        (happened & missing.any(axis=2), "rows that are wholly numbers or wholly NaN (no such step), but found both"),
        (wrong, "probabilities in [0, 1] that sum to 1 over the labels and none, but found others"),
        (happened[:, 1:] & ~happened[:, :-1], "steps one after another, but one that happened follows one of NaN"),
    ):
        if bad.any():
            i, r = np.argwhere(bad)[0]
            raise ValueError(f"Expected steps to hold {message}: document {i}, step {r}, {cube[i, r]}.")


def _tolerance(given: Any) -> float:
    """Return how far sums of probabilities may be from 1, given the precision they were stored in."""
    dtype = getattr(given, "dtype", None)
    if not isinstance(dtype, np.dtype) or dtype.kind != "f":
        return _TOLERANCE
    return max(_TOLERANCE, 16 * float(np.finfo(dtype).eps))


def check_pairs(pairs: Any) -> np.ndarray:
    """Return pairwise probabilities (n, K, K) as a float64 copy with 0.5 on the diagonal, which is ignored.

    ``pairs[i, a, b]`` is the probability that player a beats player b in document i, the last player being none.
    TypeError or ValueError where they are no numbers or known to be something else, have a wrong shape or are empty, or
    ``pairs[i, a, b] + pairs[i, b, a]`` is not 1.
    """
    check_kind(pairs, "pairs")
    cube = _to_cube(pairs, "pairs", "(n, L + 1, L + 1)", "PairwiseExtractor")
    if cube.shape[1] != cube.shape[2]:
        raise ValueError(f"Expected pairs of shape (n, L + 1, L + 1), but got {cube.shape}.")
    cube, players, tolerance = cube.copy(), np.arange(cube.shape[1]), _tolerance(pairs)
    cube[:, players, players] = 0.5
    off = cube + cube.transpose(0, 2, 1) - 1
    # Comparisons with NaN, which the least and the largest number are where there is one, are False.
    if 0 <= cube.min() <= cube.max() <= 1 and -tolerance <= off.min() <= off.max() <= tolerance:
        return cube
    outside = ~((cube >= 0) & (cube <= 1))
    bad, message = (
        (outside, "probabilities in [0, 1]") if outside.any() else (abs(off) > tolerance, "p[a, b] + p[b, a] = 1")
    )
    i, a, b = np.argwhere(bad)[0]
    raise ValueError(
        f"Expected pairs with {message}, but in document {i} p[{a}, {b}] is {cube[i, a, b]:g} and p[{b}, {a}] "
        f"is {cube[i, b, a]:g}."
    )


def check_sample_weight(sample_weight: Any, n_samples: int) -> np.ndarray:
    """Return the documents' weights (n_samples,), ones by default.

    TypeError where they are no numbers, ValueError where their number differs, or one is negative or not finite, or all
    are 0.
    """
    if sample_weight is None:
        return np.ones(n_samples)
    check_unmasked(sample_weight, "sample_weight")
    try:
        weights = lay_out(sample_weight)
    except (TypeError, ValueError) as error:
        raise TypeError(f"Expected sample_weight to be numbers, one a document: {error}.") from error
    if weights.shape != (n_samples,):
        raise ValueError(
            f"Expected sample_weight of shape ({n_samples},), one number a document, but got {weights.shape}."
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("Expected sample_weight to be finite, nowhere negative and not all zero.")
    return weights

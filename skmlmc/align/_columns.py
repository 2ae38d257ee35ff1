"""Columns of the aligners' input: learned by ``fit``, and matched by their names afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse

from .._utils.arrays import arrange, check_table, column_names, names_of, real_names, str_names, table_values
from .._utils.checks import check_choice
from .._utils.classes import class_vector, find_classes, holds_classes, refuse_binarisers
from .._utils.warning import warn


def learn_columns(aligner: Any, X: Any, y: Any, are_labels: bool) -> tuple[Any, list[str] | None]:
    """Return the values of `X`, and the names of its columns, in ``fit`` on the targets `y`.

    ``feature_names_in_`` has those of a table, and an array's own where the columns are no labels, ``labels_``.
    """
    _check(X)
    names = names_of(X, str_names(y) if are_labels else None, "X")
    vars(aligner).pop("feature_names_in_", None)
    if names is not None and (column_names(X) is not None or not are_labels):
        aligner.feature_names_in_ = np.array(names, dtype=object)
    return table_values(X), names


def learn_classes(aligner: Any, y: Any, X: Any, known: list[str] | None, are_labels: bool) -> tuple:
    """Return targets, the values of `X` and the names of its columns, in ``fit``, with classes where `y` has them.

    Of a single-label task with a one-dimensional `y` the targets become indicators that know their names, and columns
    that are labels come into the order of the classes, which scikit-learn sorts.
    """
    aligner._classes = None
    multi_label = check_choice(getattr(aligner, "multi_label", True), "multi_label", (True, False))
    if y is None or not holds_classes(y):
        return y, X, known
    refuse_binarisers()
    if multi_label:
        return y, X, known
    named = [] if known is None or not are_labels else _class_names(known, y)
    classes = find_classes(y, named or None, asked=False)
    aligner._classes, names = classes.values, list(classes.wordings)
    if known is None or not named:
        return classes.targets(), X, known
    order = [known[named.index(name)] for name in names]
    if hasattr(aligner, "feature_names_in_"):
        aligner.feature_names_in_ = np.array(order, dtype=object)
    return classes.targets(), arrange(X, known, order), names


def _class_names(columns, y):
    """Return the classes of columns: their names, or those behind the prefix that ColumnTransformer puts there."""
    bare = [column.rpartition("__")[2] for column in columns]
    found = set(map(str, class_vector(y).tolist()))
    return bare if found <= set(bare) and not found <= set(columns) and len(set(bare)) == len(bare) else columns


def match_columns(aligner: Any, X: Any, labels: Sequence[str] | None) -> Any:
    """Return the values of `X` after ``fit``, its columns in the order that they had there.

    They are matched by name: a table's, or the labels that an extractor's array knows, with those of the `X` of
    ``fit``, else with `labels`, where the columns are labels. Without names on either side their place counts;
    scikit-learn's warning says so where only the other side has some.
    """
    _check(X)
    fitted = list(getattr(aligner, "feature_names_in_", []))
    names = names_of(X, fitted or labels, "X")
    expected = fitted or real_names(labels, names)
    if names is None or expected is None:
        if fitted or (names is not None and column_names(X) is not None and labels is None):
            _warn(type(aligner).__name__, fitted)
        return table_values(X)
    missing = [name for name in expected if name not in names]
    unexpected = [name for name in names if name not in expected]
    if missing or unexpected:
        raise ValueError(
            "The feature names should match those that were passed during fit, in any order, but got a "
            f"{type(X).__name__} with missing: {missing}, unexpected: {unexpected}. Rename or select its columns, or "
            "pass an array in the order of fit."
        )
    return arrange(X, names, expected)


def _check(X):
    check_table(X, "X")
    if issparse(X):
        raise TypeError("Sparse data was passed for X, but dense data is required. Use X.toarray().")


def _warn(name, fitted):
    has, was = ("does not have valid", "with") if fitted else ("has", "without")
    warn(f"X {has} feature names, but {name} was fitted {was} feature names")

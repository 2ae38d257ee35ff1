"""Tables of methods, as the Displays read them: rows, values, bounds; and scores of several methods' predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._utils.arrays import check_proba, check_targets
from .._utils.checks import check_positive
from ..metrics import example_f1, l1_distance, nll

SCORES = {"nll": nll, "l1": l1_distance, "example_f1": example_f1}
N_RESAMPLES = 2000


def read_table(table: Any) -> list[dict[str, Any]]:
    """Return a table of methods as rows.

    Parameters
    ----------
    table : mapping of str to sequence, DataFrame, sequence of mappings, or mapping with "rows"
        What ``compare_methods`` returns, with a column "method"; or rows as a JSON file has them.

    Returns
    -------
    list of dict
        The rows.

    Raises
    ------
    TypeError, ValueError
        It is none of these, is empty, has columns of different lengths, or a row has no method.
    """
    rows = _rows(table)
    if rows is None:
        raise TypeError(
            f"Expected a table of methods, as compare_methods returns (mapping of columns, or DataFrame) or a sequence "
            f"of rows, but got {type(table).__name__}."
        )
    if not rows:
        raise ValueError("Expected a table with at least one method, but it has no rows.")
    for i, row in enumerate(rows):
        if "method" not in row:
            raise ValueError(f"Expected a column 'method' in the table, but row {i} has {sorted(map(str, row))}.")
    return rows


def _rows(table):
    if hasattr(table, "to_dicts"):  # polars
        return table.to_dicts()
    if hasattr(table, "columns") and hasattr(table, "to_dict"):
        return table.to_dict("records")
    if isinstance(table, Mapping) and "rows" in table:
        return _rows(table["rows"])
    if isinstance(table, Mapping):
        lengths = {name: len(column) for name, column in table.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Expected columns of one length, but got {lengths}.")
        return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    if isinstance(table, Sequence) and not isinstance(table, str) and all(isinstance(r, Mapping) for r in table):
        return [dict(row) for row in table]
    return None


def table_metrics(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None = None) -> list[str]:
    """Return the metrics to draw: those asked for, or the known ones and those with an interval.

    Parameters
    ----------
    rows : list of dict
        A table of methods.
    metrics : sequence of str, default=None
        Names of columns.

    Returns
    -------
    list of str
        Names of columns.

    Raises
    ------
    ValueError
        A metric is no column, or there is none.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if metrics is None:
        spread = {c.rpartition("_")[0] for c in columns if c.endswith(("_interval", "_std"))}
        metrics = [c for c in columns if c in SCORES or c in spread]
        if not metrics:
            raise ValueError(f"Expected columns of metrics, such as {list(SCORES)}, but got {columns}: name metrics=.")
    elif isinstance(metrics, str) or not metrics or (unknown := [m for m in metrics if m not in columns]):
        got = metrics if isinstance(metrics, str) or not metrics else unknown
        raise ValueError(f"Got metrics={got!r} but expected a list of columns of the table: {columns}.")
    return list(metrics)


def value_and_bounds(row: Mapping[str, Any], metric: str) -> tuple[float, float, float]:
    """Return a row's value of a metric with its lower and upper bound, NaN where there is none.

    Parameters
    ----------
    row : mapping
        Row of a table; bounds are in ``..._interval`` (lower, upper), or ``..._std`` around the value.
    metric : str
        Name of the column.

    Returns
    -------
    value, lower, upper : float
        In the metric's unit.
    """
    value = np.nan if row.get(metric) is None else float(row[metric])
    bounds, std = row.get(f"{metric}_interval"), row.get(f"{metric}_std")
    if bounds is not None and np.ndim(bounds) == 1:
        return value, float(bounds[0]), float(bounds[1])
    return (value, np.nan, np.nan) if std is None else (value, value - float(std), value + float(std))


def row_names(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
    """Return a name for each row: its method, and where several rows have one, what tells them apart.

    Parameters
    ----------
    rows : list of dict
        A table of methods.
    metrics : sequence of str
        Columns that are measured, and so tell nothing apart.

    Returns
    -------
    list of str
        Names: "method", "method (column value)", or "method (2)" where no column helps.
    """
    names = [str(row["method"]) for row in rows]
    columns = [c for c in dict.fromkeys(c for row in rows for c in row) if c not in ("method", *metrics)]
    for name in {name for name in names if names.count(name) > 1}:
        alike = [i for i, other in enumerate(names) if other == name]
        # Floats are rather results than settings.
        settings = [c for c in columns if all(isinstance(rows[i].get(c), int | str) for i in alike)]
        column = next((c for c in settings if len({rows[i][c] for i in alike}) == len(alike)), None)
        for number, i in enumerate(alike):
            more = number + 1 if column is None else f"{column} {rows[i][column]}"
            names[i] = name if column is None and number == 0 else f"{name} ({more})"
    return names


def score_table(y_true: Any, predictions: Mapping[str, Any], confidence_level: float = 0.95) -> list[dict[str, Any]]:
    """Score several methods' probabilities on the same documents, with bootstrap intervals over documents.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        Indicators or soft targets.
    predictions : mapping of str to array-like of shape (n, L)
        Name of a method -> its label probabilities.
    confidence_level : float, default=0.95
        Share of the resamplings that an interval holds.

    Returns
    -------
    list of dict
        A row a method, as `read_table` gives them; intervals are NaN for a single document.

    Raises
    ------
    TypeError, ValueError
        If targets and probabilities do not fit each other.
    """
    if not isinstance(predictions, Mapping) or not predictions:
        raise TypeError(
            f"Expected predictions to be a mapping from method to probabilities, but got {type(predictions).__name__}."
        )
    check_positive(confidence_level, "confidence_level", upper=1)
    H, names = check_targets(y_true, name="y_true")
    rows: list[dict[str, Any]] = []
    for method, values in predictions.items():
        P, _ = check_proba(values, labels=names, n_samples=len(H), name=f"predictions[{method!r}]")
        row: dict[str, Any] = {"method": method}
        for metric, score in SCORES.items():
            each = np.array([score(H[[i]], P[[i]]) for i in range(len(H))])
            row[metric], row[f"{metric}_interval"] = float(each.mean()), _interval(each, confidence_level)
        rows.append(row)
    return rows


def _interval(values, confidence_level):
    if np.ptp(values) == 0:  # resamplings of equal values are equal
        return (np.nan, np.nan) if len(values) == 1 else (float(values[0]), float(values[0]))
    rng = np.random.default_rng(0)
    # Not scipy.stats.bootstrap, whose argument for the random numbers has changed its name.
    means = [rng.choice(values, len(values)).mean() for _ in range(N_RESAMPLES)]
    low, high = np.quantile(means, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return float(low), float(high)

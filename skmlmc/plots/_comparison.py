"""Which method is best, and by how much: tables of methods, scores with intervals, and their Display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._utils.arrays import check_proba, check_targets, is_frame
from .._utils.checks import check_positive
from .._utils.docs import documented
from .._utils.typing import Self
from ..classifier import GGUFClassifier
from ..comparison import BASE_RATE, compare_methods
from ..metrics import example_f1, l1_distance, nll
from . import _canvas as canvas

SCORES = {"nll": nll, "l1": l1_distance, "example_f1": example_f1}
N_RESAMPLES = 2000

_TITLES = {
    "nll": ("NLL", -1),
    "l1": ("L1 distance", -1),
    "example_f1": ("example-F1", 1),
    "example_f1_tuned": ("example-F1, learned thresholds", 1),
    "entropy_correlation": ("entropy correlation", 1),
    "documents_per_second": ("documents per second", 1),
    "tokens_per_document": ("tokens per document", -1),
}
_NAME_WIDTH = 60


@documented(
    baseline="""baseline : str, default="constant base rate"
        Method that the others are compared with.""",
    metrics="""metrics : sequence of str, default=None
        See `plot`.""",
)
@canvas.documented_display
class MethodComparisonDisplay(canvas.Display):
    """Methods beside each other: a row a method, a panel a metric, dots with their intervals.

    Draw what `compare_methods` returns, to choose a method. A difference within the intervals may be chance, and a
    method no better than the constant base rate has learned nothing about single documents. The best value of a metric
    is bold, the baseline has a colour and a line of its own; an axis is logarithmic where values differ over fivefold.

    Parameters
    ----------
    rows : list of dict
        A method each: ``method``, values of metrics, and where known ``..._interval`` (lower, upper) or ``..._std``.
    baseline : str, default="constant base rate"
        Method that the others are compared with; none where no row has that name.
    confidence_level : float, default=None
        Share of the resamplings that an interval holds, where known.

    {attributes}
    methods_ : list of str
        The rows' names, from top to bottom.

    See Also
    --------
    skmlmc.compare_methods : Makes such a table.

    Examples
    --------
    >>> from skmlmc.plots import MethodComparisonDisplay
    >>> table = {"method": ["constant base rate", "unary_breakdown"], "nll": [2.3, 2.0], "nll_std": [0.1, 0.1]}
    >>> MethodComparisonDisplay.from_table(table).methods_
    ['unary_breakdown', 'constant base rate']
    """

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], *, baseline: str = BASE_RATE, confidence_level: float | None = None
    ) -> None:
        self.rows = rows
        self.baseline = baseline
        self.confidence_level = confidence_level

    @classmethod
    def from_estimator(
        cls,
        estimator: GGUFClassifier,
        X: Any,
        y: Any,
        *,
        methods: Sequence[str] | Mapping[str, Any] | None = None,
        cv: Any = None,
        metrics: Sequence[str] | None = None,
        ax: Any = None,
        sort: bool = True,
    ) -> Self:
        """Cross-validate methods with `compare_methods` and draw its table; intervals are deviations over folds.

        Parameters
        ----------
        estimator : GGUFClassifier
            Where the methods take model, labels, shots and all else from. It need not be fitted: every fold fits.
        X : sequence of str of length n
            Documents.
        y : array-like of shape (n, L) or DataFrame
            Indicators or soft targets.
        methods : sequence of str, or mapping of str to str or estimator, default=None
            As in `compare_methods`; None: its default.
        cv : int, splitter or None, default=None
            As in `compare_methods`.
        {metrics}
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        given: dict[str, Any] = {} if methods is None else {"methods": methods}
        table = compare_methods(X, y, **given, cv=cv, estimator=estimator)
        return cls.from_table(table, metrics=metrics, ax=ax, sort=sort)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        predictions: Mapping[str, Any],
        *,
        baseline: str = BASE_RATE,
        confidence_level: float = 0.95,
        metrics: Sequence[str] | None = None,
        ax: Any = None,
        sort: bool = True,
    ) -> Self:
        """Score several methods on the same documents and draw the scores with bootstrap intervals over documents.

        Parameters
        ----------
        {y_true}
        predictions : mapping of str to array-like of shape (n, L)
            Name of a method -> its label probabilities.
        {baseline}
        confidence_level : float, default=0.95
            Share of the resamplings that an interval holds.
        {metrics}
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        rows = score_table(y_true, predictions, confidence_level)
        return cls(rows, baseline=baseline, confidence_level=confidence_level).plot(ax, metrics=metrics, sort=sort)

    @classmethod
    def from_table(
        cls,
        table: Any,
        *,
        baseline: str = BASE_RATE,
        metrics: Sequence[str] | None = None,
        ax: Any = None,
        sort: bool = True,
    ) -> Self:
        """Draw a table of methods.

        Parameters
        ----------
        table : mapping of str to sequence, DataFrame, sequence of mappings, or mapping with "rows"
            What `compare_methods` returns, or rows as a JSON file of results has them.
        {baseline}
        {metrics}
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        return cls(read_table(table), baseline=baseline).plot(ax, metrics=metrics, sort=sort)

    def plot(self, ax: Any = None, *, metrics: Sequence[str] | None = None, sort: bool = True) -> Self:
        """Draw.

        Parameters
        ----------
        {ax}
        metrics : sequence of str, default=None
            Columns to draw; None: "nll", "l1", "example_f1" and others that have an interval or a deviation.
        sort : bool, default=True
            Rows by the first metric, the best on top; False: as given.

        {itself}
        """
        metrics = table_metrics(self.rows, metrics)
        order = list(range(len(self.rows)))
        if sort:
            order.sort(key=lambda i: _rank(self.rows[i], metrics[0]))
        names = row_names(self.rows, metrics)
        rows, self.methods_ = [self.rows[i] for i in order], [names[i] for i in order]
        height = canvas.row_height(self.methods_, 0.3, _NAME_WIDTH) * len(rows) + 1.5
        size = (max(0.085 * canvas.widest(self.methods_, _NAME_WIDTH) + 0.5 + 3.1 * len(metrics), 5.5), height)
        axes = self._open(ax, metrics, len(metrics), size)
        for at, (panel, metric) in enumerate(zip(axes, metrics, strict=True)):
            self._draw(panel, rows, metric, named=ax is not None or at == 0)
        if ax is None:
            self.figure_.get_layout_engine().set(wspace=0.04)
            self.figure_.suptitle(f"Comparison of {len(rows)} methods", size=12, weight="bold")
            if note := self._note(metrics):
                self.figure_.supxlabel(note, size=9, color=canvas.GREY)
        return self

    def _note(self, metrics):
        columns = {column for row in self.rows for column in row}
        notes = []
        if columns & {f"{metric}_interval" for metric in metrics}:
            notes.append("lines: intervals" + (f" of {self.confidence_level:.0%}" if self.confidence_level else ""))
        elif columns & {f"{metric}_std" for metric in metrics}:
            notes.append("lines: one standard deviation to either side")
        if self.baseline in self.methods_:
            notes.append(f"dashed: {self.baseline}")
        return "; ".join(notes)

    def _draw(self, ax, rows, metric, named):
        values = np.array([value_and_bounds(row, metric) for row in rows])
        sign = _TITLES.get(metric, (metric, 0))[1]
        known = values[~np.isnan(values[:, 0]), 0]
        best = {1: np.max, -1: np.min}[sign](known) if sign and len(known) else None
        for at, (row, (value, low, high)) in enumerate(zip(rows, values, strict=True)):
            is_baseline = row["method"] == self.baseline
            color = canvas.ORANGE if is_baseline else canvas.BLUE
            if at % 2:
                ax.axhspan(at - 0.5, at + 0.5, color="#F5F5F5", lw=0, zorder=0)
            if is_baseline and not np.isnan(value):
                ax.axvline(value, color=canvas.ORANGE, ls="--", lw=1, zorder=1)
            ax.plot([low, high], [at, at], color=color, lw=2.4, solid_capstyle="butt", zorder=2)
            ax.plot(value, at, "D" if is_baseline else "o", color=color, mew=0, ms=6.5, zorder=3)
            text = "–" if np.isnan(value) else _number(value)
            weight = "bold" if value == best else "normal"
            place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
            ax.annotate(text, (1, at), (4, 0), color=color if is_baseline else "black", weight=weight, size=9, **place)
        self._scale(ax, known)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_yticks(range(len(rows)), [canvas.wrap(name, _NAME_WIDTH) for name in self.methods_] if named else [])
        for tick, row in zip(ax.get_yticklabels(), rows, strict=False):
            tick.set_color(canvas.ORANGE if row["method"] == self.baseline else "black")
        canvas.tidy(ax, "x", "top", "right", "left")
        note = {1: "\nhigher is better →", -1: "\n← lower is better", 0: ""}[sign]
        ax.set_title(f"{_TITLES.get(metric, (metric, 0))[0]}{note}", size=10)

    @staticmethod
    def _scale(ax, known):
        if len(known) and known.min() > 0 and known.max() > 5 * known.min():
            from matplotlib.ticker import LogLocator, NullFormatter

            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if known.max() < 50 * known.min() else (1,)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel("logarithmic", size=8, color=canvas.GREY)


def _rank(row, metric):
    value = value_and_bounds(row, metric)[0]
    return np.inf if np.isnan(value) else value * (-1 if _TITLES.get(metric, ("", -1))[1] == 1 else 1)


def _number(value):
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def read_table(table: Any) -> list[dict[str, Any]]:
    """Return a table of methods as rows: what ``compare_methods`` returns, or rows as a JSON file has them."""
    given = table["rows"] if isinstance(table, Mapping) and "rows" in table else table
    if is_frame(given):
        given = {name: list(given[name]) for name in given.columns}
    if isinstance(given, Mapping):
        lengths = {name: len(column) for name, column in given.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Expected columns of one length, but got {lengths}.")
        rows = [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]
    elif isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(r, Mapping) for r in given):
        rows = [dict(row) for row in given]
    else:
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


def table_metrics(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None = None) -> list[str]:
    """Return the columns to draw: those asked for, or the known metrics and what has an interval or a deviation."""
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
    """Return a row's value of a metric and its bounds, from ``..._interval`` or ``..._std`` around it; NaN for none."""
    value = np.nan if row.get(metric) is None else float(row[metric])
    bounds, std = row.get(f"{metric}_interval"), row.get(f"{metric}_std")
    if bounds is not None and np.ndim(bounds) == 1:
        return value, float(bounds[0]), float(bounds[1])
    return (value, np.nan, np.nan) if std is None else (value, value - float(std), value + float(std))


def row_names(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
    """Name rows "method"; where several have one, "method (column value)", or "method (2)" if only `metrics` differ."""
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
    """Score methods, a row each as of `read_table`, with bootstrap intervals over documents, NaN for a single one."""
    if not isinstance(predictions, Mapping) or not predictions:
        raise TypeError(
            f"Expected predictions to be a mapping from method to probabilities, but got {type(predictions).__name__}."
        )
    check_positive(confidence_level, "confidence_level", upper=1)
    H, names = check_targets(y_true, name="y_true")
    rows: list[dict[str, Any]] = []
    first = None
    for method, values in predictions.items():
        P, found = check_proba(values, labels=names, n_samples=len(H), name=f"predictions[{method!r}]")
        first = first or found
        if found is not None and found != first:
            raise ValueError(
                f"Expected predictions with the same columns, as y_true has no names, but got {first} and {found}. "
                "Pass y_true as a DataFrame whose columns are the labels, and they are matched by name."
            )
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

"""Methods beside each other, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._utils.typing import Self
from ..classifier import GGUFClassifier
from ..comparison import BASE_RATE, compare_methods
from ._canvas import BLUE, GREY, ORANGE, hand_back, import_matplotlib, make_axes, row_height, wrap
from ._method_table import read_table, row_names, score_table, table_metrics, value_and_bounds

_TITLES = {
    "nll": ("NLL", -1),
    "l1": ("L1 distance", -1),
    "example_f1": ("example-F1", 1),
    "entropy_correlation": ("entropy correlation", 1),
    "documents_per_second": ("documents per second", 1),
    "tokens_per_document": ("tokens per document", -1),
}
_NAME_WIDTH = 60


class MethodComparisonDisplay:
    """Methods beside each other: a row a method, a panel a metric, dots with their intervals.

    The best value of a metric is bold, and the baseline has a colour of its own, with a line through all rows. An axis
    is logarithmic where values differ more than fivefold.

    Parameters
    ----------
    rows : list of dict
        A method each: ``method``, values of metrics, and where known ``..._interval`` (lower, upper) or ``..._std``.
    baseline : str, default="constant base rate"
        Method that the others are compared with; none where no row has that name.
    confidence_level : float, default=None
        Share of the resamplings that an interval holds, where known.

    Attributes
    ----------
    ax_ : Axes or ndarray of Axes
        A panel a metric.
    figure_ : Figure
        The figure that holds them.
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
        metrics : sequence of str, default=None
            See `plot`.
        ax : Axes or array-like of Axes, default=None
            One a metric.
        sort : bool, default=True
            See `plot`.

        Returns
        -------
        MethodComparisonDisplay
            Drawn.

        Raises
        ------
        TypeError, ValueError
            As in `compare_methods`, or an argument does not fit.
        ImportError
            matplotlib is missing; nothing was decoded.
        """
        import_matplotlib(cls.__name__)
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
        y_true : array-like or DataFrame of shape (n, L)
            Indicators or soft targets.
        predictions : mapping of str to array-like of shape (n, L)
            Name of a method -> its label probabilities.
        baseline : str, default="constant base rate"
            Method that the others are compared with.
        confidence_level : float, default=0.95
            Share of the resamplings that an interval holds.
        metrics : sequence of {"nll", "l1", "example_f1"}, default=None
            See `plot`.
        ax : Axes or array-like of Axes, default=None
            One a metric.
        sort : bool, default=True
            See `plot`.

        Returns
        -------
        MethodComparisonDisplay
            Drawn.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit.
        ImportError
            matplotlib is missing.
        """
        import_matplotlib(cls.__name__)
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
        baseline : str, default="constant base rate"
            Method that the others are compared with.
        metrics : sequence of str, default=None
            See `plot`.
        ax : Axes or array-like of Axes, default=None
            One a metric.
        sort : bool, default=True
            See `plot`.

        Returns
        -------
        MethodComparisonDisplay
            Drawn.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit.
        ImportError
            matplotlib is missing.
        """
        import_matplotlib(cls.__name__)
        return cls(read_table(table), baseline=baseline).plot(ax, metrics=metrics, sort=sort)

    def plot(self, ax: Any = None, *, metrics: Sequence[str] | None = None, sort: bool = True) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes or array-like of Axes, default=None
            One a metric. None: a new figure.
        metrics : sequence of str, default=None
            Columns to draw; None: "nll", "l1", "example_f1" and others that have an interval or a deviation.
        sort : bool, default=True
            Rows by the first metric, the best on top; False: as given.

        Returns
        -------
        MethodComparisonDisplay
            Itself.

        Raises
        ------
        TypeError, ValueError
            If `ax` does not have a panel a metric, or a metric is no column.
        """
        metrics = table_metrics(self.rows, metrics)
        order = list(range(len(self.rows)))
        if sort:
            order.sort(key=lambda i: _rank(self.rows[i], metrics[0]))
        names = row_names(self.rows, metrics)
        rows, self.methods_ = [self.rows[i] for i in order], [names[i] for i in order]
        height = row_height(self.methods_, 0.3, _NAME_WIDTH) * len(rows) + 1.5
        longest = max(len(line) for name in self.methods_ for line in wrap(name, _NAME_WIDTH).split("\n"))
        size = (max(0.085 * longest + 0.5 + 3.1 * len(metrics), 5.5), height)
        self.figure_, axes = make_axes(ax, metrics, len(metrics), size)
        for at, (panel, metric) in enumerate(zip(axes, metrics, strict=True)):
            self._draw(panel, rows, metric, named=ax is not None or at == 0)
        if ax is None:
            self.figure_.get_layout_engine().set(wspace=0.04)
            self.figure_.suptitle(f"Comparison of {len(rows)} methods", size=12, weight="bold")
            if note := self._note(metrics):
                self.figure_.supxlabel(note, size=9, color=GREY)
        self.ax_ = hand_back(axes)
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
            color = ORANGE if is_baseline else BLUE
            if at % 2:
                ax.axhspan(at - 0.5, at + 0.5, color="#F5F5F5", lw=0, zorder=0)
            if is_baseline and not np.isnan(value):
                ax.axvline(value, color=ORANGE, ls="--", lw=1, zorder=1)
            ax.plot([low, high], [at, at], color=color, lw=2.4, solid_capstyle="butt", zorder=2)
            ax.plot(value, at, "D" if is_baseline else "o", color=color, mew=0, ms=6.5, zorder=3)
            text = "–" if np.isnan(value) else _number(value)
            weight = "bold" if value == best else "normal"
            place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
            ax.annotate(text, (1, at), (4, 0), color=color if is_baseline else "black", weight=weight, size=9, **place)
        self._scale(ax, known)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_yticks(range(len(rows)), [wrap(name, _NAME_WIDTH) for name in self.methods_] if named else [])
        for tick, row in zip(ax.get_yticklabels(), rows, strict=False):
            tick.set_color(ORANGE if row["method"] == self.baseline else "black")
        ax.grid(axis="x", color="#E5E5E5", lw=0.8)
        ax.set_axisbelow(True)
        ax.tick_params(length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
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
            ax.set_xlabel("logarithmic", size=8, color=GREY)


def _rank(row, metric):
    value = value_and_bounds(row, metric)[0]
    return np.inf if np.isnan(value) else value * (-1 if _TITLES.get(metric, ("", -1))[1] == 1 else 1)


def _number(value):
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"

"""How a model answers one document."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from .._utils.arrays import check_order, check_proba, check_steps, check_table, check_targets, check_unmasked
from .._utils.checks import check_texts, check_threshold
from .._utils.labelled import labelled, labels_of, written_of
from .._utils.typing import Names, Self, Threshold
from ..align._arithmetic import generated_labels
from ..base import find_threshold
from . import _canvas as canvas
from ._inputs import (
    column_labels,
    extract_steps,
    find_none_label,
    find_step_labels,
    predict_beside_steps,
)

MOST_UPRIGHT = 6  # steps whose names are not turned


@canvas.documented_display
class StepsDisplay(canvas.Display):
    """What a model could have said about one document at each step of its answer, and what it said.

    Draw it for a document whose prediction surprises you: was the label probable at some step and never said, was the
    model sure of another one? Probabilities of one step are not those of the label: they sum to 1 over the labels.

    Rows are labels, columns steps, each a distribution. Orange frames are the answer, from left to right. A second
    panel, where there is something to show, has the label probabilities read out of the steps and annotators' shares.

    Parameters
    ----------
    steps : ndarray of shape (R, L + 1)
        Step distributions of one document, the last column being none; NaN in rows of steps that did not happen.
    labels : sequence of str, length L
        Label names.
    proba : ndarray of shape (L,), default=None
        Label probabilities.
    y_true : ndarray of shape (L,), default=None
        Share of the annotators who chose each label, or indicators.
    text : str, default=None
        The document, for the title.
    threshold : float, ndarray of shape (L,) or None, default=0.5
        Probability from which a label is predicted, drawn beside `proba`; None: not drawn.
    none_label : str, default="none"
        Name of the last column.

    {attributes}
    legend_handles_ : dict of str to artist
        An artist for each of "said", "proba", "y_true" and "threshold" that was drawn, for a legend of your own.

    See Also
    --------
    SpikinessDisplay : How sure the model is at each step, over many documents.

    Notes
    -----
    Step distributions: {paper}, section 3.

    Examples
    --------
    >>> from skmlmc.plots import StepsDisplay
    >>> display = StepsDisplay.from_predictions([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], labels=["joy", "anger"])
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['joy', 'anger', 'none']
    """

    def __init__(
        self,
        steps: Any,
        *,
        labels: Names,
        proba: Any = None,
        y_true: Any = None,
        text: str | None = None,
        threshold: float | np.ndarray | None = 0.5,
        none_label: str = "none",
    ) -> None:
        self.steps = steps
        self.labels = labels
        self.proba = proba
        self.y_true = y_true
        self.text = text
        self.threshold = threshold
        self.none_label = none_label

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, labels: Names | None = None, ax: Any = None, sort: bool = True
    ) -> Self:
        """Let a fitted estimator answer one document and draw the answer.

        Parameters
        ----------
        estimator : estimator
            A fitted extractor of steps, a pipeline that begins with one, or a `GGUFClassifier` whose method reads steps
            (of several label orders the first is shown). Its ``predict_proba``, if any, gives the second panel.
        X : str, or sequence of one str
            The document.
        y : array-like of shape (L,) or (1, L), default=None
            Share of the annotators who chose each label, or indicators.
        {labels}
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        check_is_fitted(estimator)
        texts = [X] if isinstance(X, str) else check_texts(X)
        if len(texts) != 1:
            raise ValueError(f"Got {len(texts)} documents but expected one: pass X[i].")
        return cls.from_predictions(
            extract_steps(estimator, texts),
            labels=find_step_labels(estimator) if labels is None else labels,
            proba=predict_beside_steps(estimator, texts),
            y_true=y,
            text=texts[0],
            threshold=find_threshold(estimator),
            none_label=find_none_label(estimator),
            ax=ax,
            sort=sort,
        )

    @classmethod
    def from_predictions(
        cls,
        steps: Any,
        *,
        labels: Names | None = None,
        proba: Any = None,
        y_true: Any = None,
        text: str | None = None,
        threshold: Threshold | None = 0.5,
        none_label: str = "none",
        ax: Any = None,
        sort: bool = True,
    ) -> Self:
        """Draw one document's step distributions.

        Parameters
        ----------
        steps : array-like of shape (R, L + 1) or (1, R, L + 1)
            Step distributions of one document, such as ``steps[i]``; ``steps[[i]]`` of what `StepwiseExtractor` returns
            knows the labels and what the model wrote.
        {labels}
        proba, y_true : array-like of shape (L,) or (1, L), default=None
            Label probabilities, and share of the annotators who chose each label.
        text : str, default=None
            The document, for the title.
        threshold : float, array-like of shape (L,), mapping of str to float or None, default=0.5
            Probability from which a label is predicted; None: not drawn.
        none_label : str, default="none"
            Name of the last column.
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        check_unmasked(steps, "steps")
        if np.ndim(steps) == 3 and len(steps) != 1:
            raise ValueError(f"Got steps of shape {np.shape(steps)} but expected one document's: pass steps[[i]].")
        cube = check_steps(steps if np.ndim(steps) == 3 else np.asarray(steps)[None])
        names = labels_of(steps) if labels is None else labels
        names = column_labels(names, cube.shape[2] - 1, "steps beside none")
        check_order(names, labels_of(steps), "steps")
        if proba is not None:
            proba = check_proba(_one_row(proba, "proba"), labels=names, n_samples=1, name="proba")[0][0]
        if y_true is not None:
            y_true = check_targets(_one_row(y_true, "y_true"), labels=names, n_samples=1, name="y_true")[0][0]
        limit = None if threshold is None else check_threshold(threshold, names)
        written = written_of(steps)
        one = labelled(cube[0], "steps", names, None, None if written is None else written[0])
        display = cls(one, labels=names, proba=proba, y_true=y_true, text=text, threshold=limit, none_label=none_label)
        return display.plot(ax, sort=sort)

    def plot(self, ax: Any = None, *, sort: bool = True, n_steps: int | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        {ax} Two panels where there is `proba` or `y_true`.
        sort : bool, default=True
            Rows in the order in which the model says the labels, then by their largest probability; False: as given.
        n_steps : int, default=None
            Columns to leave room for, so that several documents have cells of one width.

        {itself}
        """
        said, order = _reading_order(self.steps)
        order = order if sort else list(range(len(self.labels)))
        panels = ["steps", "label probabilities"][: 1 + (self.proba is not None or self.y_true is not None)]
        n_columns = max(len(said), n_steps or 0)
        ratios, size = self._size(said, n_columns, panels)
        kwargs = {"width_ratios": ratios} if ax is None else {}
        axes = self._open(ax, panels, len(panels), size, **kwargs)
        self.legend_handles_: dict[str, Any] = {}
        self._draw_steps(axes[0], said, [*order, len(self.labels)], n_columns)
        if len(axes) > 1:
            self._draw_proba(axes[1], order)
        if ax is None:
            self._finish(said, size[0])
        return self

    def _size(self, said, n_columns, panels):
        names = [*self.labels, self.none_label]
        upright = n_columns <= MOST_UPRIGHT
        heads = [self._head(step, column, n_columns) for step, column in enumerate(said)]
        lines = max(head.count("\n") + 1 for head in heads)
        cell = 0.5 if not upright else 0.95 if max(len(self._name(k)) for k in said) <= 9 else 1.3
        widths = [max(2.0, cell * n_columns), 2.4][: len(panels)]
        header = 0.17 * lines if upright else 0.085 * max(map(len, heads))
        height = canvas.row_height(names, 0.36 if len(names) < 12 else 0.27) * len(names) + header + 1.7
        return widths, (max(0.085 * canvas.widest(names) + 0.5 + sum(widths), 6.2), height)

    def _head(self, step, column, n_columns):
        if n_columns <= MOST_UPRIGHT:
            return f"step {step + 1}\n{canvas.wrap(self._name(column), 15)}"
        return f"{step + 1}  {canvas.wrap(self._name(column))}"

    def _name(self, k):
        return [*self.labels, self.none_label][k]

    def _draw_steps(self, ax, said, rows, n_columns):
        from matplotlib.patches import Rectangle

        values = self.steps[: len(said), rows].T
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        size = 10 if n_columns <= 8 and len(rows) <= 12 else 8
        for (row, step), p in np.ndenumerate(values):
            text = f"{100 * p:.0f}" if p >= 0.005 else "·"
            weight, color = "bold" if said[step] == rows[row] else "normal", "white" if p > 0.55 else "black"
            ax.text(step, row, text, ha="center", va="center", size=size, weight=weight, color=color)
        for step, column in enumerate(said):
            corner = (step - 0.5, rows.index(column) - 0.5)
            frame = Rectangle(corner, 1, 1, fill=False, lw=2.2, ec=canvas.ORANGE, clip_on=False, zorder=3)
            self.legend_handles_["said"] = ax.add_patch(frame)
        if len(said) < n_columns:
            ax.text(len(said) - 0.4, (len(rows) - 1) / 2, "end of\nthe answer", va="center", color=canvas.GREY)
        heads = [self._head(step, column, n_columns) for step, column in enumerate(said)]
        ax.set_xticks(range(len(said)), heads, rotation=0 if n_columns <= MOST_UPRIGHT else 90)
        ax.set_yticks(range(len(rows)), [canvas.wrap(self._name(k)) for k in rows])
        ax.set_xlim(-0.5, n_columns - 0.5)
        ax.tick_params(length=0)
        ax.xaxis.tick_top()
        ax.spines[:].set_visible(False)

    def _draw_proba(self, ax, order):
        rows = np.arange(len(order))
        if self.proba is not None:
            self.legend_handles_["proba"] = ax.barh(rows, np.asarray(self.proba)[order], height=0.62, color=canvas.BLUE)
        if self.proba is not None and self.threshold is not None:
            limits = np.broadcast_to(self.threshold, len(order))[order]
            line = ax.plot(np.repeat(limits, 2), np.repeat(rows, 2) + np.tile([-0.5, 0.5], len(rows)))[0]
            line.set(color=canvas.GREY, ls="--", lw=1.2)
            self.legend_handles_["threshold"] = line
        if self.y_true is not None:
            marks = ax.plot(np.asarray(self.y_true)[order], rows, ms=7, clip_on=False, zorder=3, **canvas.DIAMOND)
            self.legend_handles_["y_true"] = marks[0]
        ax.set_xlim(0, 1)
        ax.set_ylim(len(rows) + 0.5, -0.5)
        ax.set_yticks(rows, [])
        head = "annotators" if self.proba is None else "label probability"
        ax.set_xticks([0, 0.5, 1], ["0", f"{head}\n50", "100 %"])
        ax.tick_params(length=0)
        ax.xaxis.tick_top()
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        ax.spines["left"].set_bounds(-0.5, len(rows) - 0.5)

    def _finish(self, said, width):
        letters = int(width * 8)  # of the bold font
        if self.text is None:
            title = "What the model says, step by step"
        else:
            title = canvas.quote(self.text, letters, 2 * letters)
        self.figure_.suptitle(title, size=12, weight="bold", x=0.1 / width, ha="left")
        meaning = {
            "said": "the answer (numbers: probability in %, a step sums to 100)",
            "proba": "probability of the label",
            "y_true": "share of the annotators",
            "threshold": "threshold: from here on the label is predicted",
        }
        shown = [key for key in meaning if key in self.legend_handles_]
        handles, texts = [self.legend_handles_[key] for key in shown], [meaning[key] for key in shown]
        self.figure_.legend(handles, texts, loc="outside lower left", ncols=2 if width > 9 else 1, frameon=False)


def _reading_order(steps):
    """Return the columns said step by step, and the labels' order: as said, then by largest probability at any step."""
    written = written_of(steps)
    said = generated_labels(np.asarray(steps)[None])[0] if written is None else written
    said = said[said >= 0]
    none = steps.shape[1] - 1
    peak = np.asarray(steps)[: len(said), :none].max(axis=0)
    rest = [int(k) for k in np.argsort(-peak, kind="stable") if k not in said]
    return said, [int(k) for k in said if k != none] + rest


def _one_row(values, name):
    """Return one document's values as a table of one row, whose columns are a Series' index."""
    check_table(values, name)
    if hasattr(values, "to_frame") and hasattr(values, "index"):
        return values.to_frame().T
    return values if hasattr(values, "columns") or issparse(values) else np.atleast_2d(values)

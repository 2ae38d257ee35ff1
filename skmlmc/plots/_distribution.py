"""What annotators and a model say about a document."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._utils.arrays import as_list, str_names
from .._utils.checks import check_texts
from .._utils.classes import as_targets
from .._utils.typing import Names, Self
from ..metrics import l1_distance, output_labels
from . import _canvas as canvas
from ._inputs import are_texts, check_both, predict_labels

MOST_DOCUMENTS = 12


@canvas.documented_display
class DistributionDisplay(canvas.Display):
    """What annotators say about documents, and what the model says: diamonds on bars, a panel a document.

    Look at single documents with it, after a metric has said how far probabilities and annotators are apart: which
    labels are missed, which are too sure? A dozen documents prove nothing; `ReliabilityDisplay` counts all of them.

    Parameters
    ----------
    y_true : ndarray of shape (n, L)
        Share of the annotators who chose each label, or indicators.
    y_pred : ndarray of shape (n, L)
        Label probabilities.
    labels : sequence of str, length L
        Label names.
    texts : sequence of str, length n, default=None
        Documents, for the titles.

    {attributes}

    See Also
    --------
    ReliabilityDisplay : Model and annotators over many documents.

    Notes
    -----
    Distribution alignment: {paper}, section 5.

    Examples
    --------
    >>> from skmlmc.plots import DistributionDisplay
    >>> display = DistributionDisplay.from_predictions([[1, 0.3]], [[0.8, 0.1]], labels=["joy", "anger"])
    >>> print(display.ax_.get_title(loc="left"))
    document 1
    L1 distance 0.40
    """

    def __init__(self, y_true: Any, y_pred: Any, *, labels: Names, texts: Any = None) -> None:
        self.y_true = y_true
        self.y_pred = y_pred
        self.labels = labels
        self.texts = texts

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, labels: Names | None = None, ax: Any = None, sort: bool = True
    ) -> Self:
        """Let a fitted classifier predict documents and draw its probabilities beside the annotators' shares.

        Parameters
        ----------
        {estimator}
        X : array-like of length n
            Documents, at most 12.
        {y}
        {labels}
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        _check_number(X.shape[0] if hasattr(X, "shape") else len(X))
        names = output_labels(estimator, str_names(y)) if labels is None else labels
        texts = as_list(X) if are_texts(X) else None
        y = as_targets(estimator, y, "y_true")
        return cls.from_predictions(y, predict_labels(estimator, X), labels=names, texts=texts, ax=ax, sort=sort)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        labels: Names | None = None,
        texts: Any = None,
        ax: Any = None,
        sort: bool = True,
    ) -> Self:
        """Draw label probabilities beside annotators' shares.

        Parameters
        ----------
        {y_true} At most 12 documents.
        {y_pred}
        {labels}
        texts : sequence of str, length n, default=None
            Documents, for the titles.
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        target, proba, names = check_both(y_true, y_pred, labels)
        _check_number(len(target))
        if texts is not None:
            texts = check_texts(texts, name="texts")
            if len(texts) != len(target):
                raise ValueError(f"Got {len(texts)} texts but expected {len(target)}, one a row of y_true.")
        return cls(target, proba, labels=names, texts=texts).plot(ax, sort=sort)

    def plot(self, ax: Any = None, *, sort: bool = True) -> Self:
        """Draw.

        Parameters
        ----------
        {ax}
        sort : bool, default=True
            Rows by the annotators' mean share, the largest first, in one order for all documents; False: as given.

        {itself}
        """
        n = len(self.y_true)
        means = np.mean(self.y_true, axis=0), np.mean(self.y_pred, axis=0)
        order = np.lexsort((-means[1], -means[0])) if sort else np.arange(len(self.labels))
        names = [canvas.wrap(self.labels[k]) for k in order]
        panels = [f"document {i + 1}" for i in range(n)]
        n_columns = min(n, 4 if n != 5 and n != 6 else 3)
        height = canvas.row_height(self.labels, 0.3 if len(names) < 12 else 0.24) * len(names) + 1.0
        size = (max(0.085 * canvas.widest(self.labels) + 0.4 + 2.9 * n_columns, 5), height * -(-n // n_columns) + 0.8)
        axes = self._open(ax, panels, n_columns, size)
        for i, panel in enumerate(axes):
            # A new figure has the names once a row of panels; elsewhere nobody knows where the axes stand.
            self._draw(panel, i, order, names if ax is not None or i % n_columns == 0 else [""] * len(names))
        if ax is None:
            self.figure_.get_layout_engine().set(wspace=0.06, hspace=0.05)
            what = "one document" if n == 1 else f"{n} documents"
            canvas.finish(self.figure_, f"Annotators and model on {what}", axes[0], 2)
        return self

    def _draw(self, ax, i, order, names):
        rows = np.arange(len(order))
        ax.barh(rows, self.y_pred[i, order], height=0.66, color=canvas.BLUE, label="model: probability of the label")
        style = {"ms": 6.5, "clip_on": False, "zorder": 3, **canvas.DIAMOND}
        ax.plot(self.y_true[i, order], rows, label="share of the annotators", **style)
        ax.set_yticks(rows, names)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "50", "", "100 %"])
        canvas.tidy(ax, "x", "top", "right", "bottom")
        ax.tick_params(axis="y", pad=9)  # a diamond at 0 does not touch the names
        head = f"document {i + 1}" if self.texts is None else canvas.quote(self.texts[i], 32, 96)
        distance = l1_distance(self.y_true[[i]], self.y_pred[[i]])
        ax.set_title(f"{head}\nL1 distance {distance:.2f}", size=9.5, loc="left")


def _check_number(n):
    if n > MOST_DOCUMENTS:
        raise ValueError(
            f"Got {n} documents but expected at most {MOST_DOCUMENTS}, a panel each: choose some, or look at all of "
            "them with ReliabilityDisplay."
        )

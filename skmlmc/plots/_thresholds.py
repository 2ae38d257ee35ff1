"""What a decision threshold trades: precision against recall, for all labels and for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._utils.arrays import majority, str_names
from .._utils.checks import check_threshold
from .._utils.classes import as_targets
from .._utils.typing import Names, Self, Threshold
from ..align._selective import thresholds_of
from ..align._thresholds import ThresholdTuner, grid, threshold_curves
from ..metrics import output_labels
from . import _canvas as canvas
from ._inputs import check_both, predict_labels

GREEN = "#009E73"


@canvas.documented_display
class ThresholdDisplay(canvas.Display):
    """Precision, recall and F1 by the threshold from which labels are given: a panel for all labels, and one a label.

    Look at it before you take a threshold: where F1 is flat, any will do; where curves of a label jump, few documents
    have it. The first panel gives all labels one threshold, and draws the mean F1 of a document beside precision and
    recall of all decisions. A dashed line marks 0.5, an orange one the threshold that was chosen. Soft targets count
    through their majority.

    Parameters
    ----------
    curves : dict of str to ndarray
        As ``cv_results_`` of `ThresholdTuner`.
    labels : sequence of str
        Label names.
    thresholds : array-like of shape (L,), default=None
        Thresholds that were chosen.
    common : float, default=None
        That of all labels.

    {attributes}

    See Also
    --------
    skmlmc.calibrate.ThresholdTuner : Learns thresholds.

    Examples
    --------
    >>> from skmlmc.plots import ThresholdDisplay
    >>> display = ThresholdDisplay.from_predictions([[1, 0.3], [0, 0.6]], [[0.8, 0.1], [0.3, 0.4]], thresholds=0.35)
    >>> display.labels, float(display.curves["example_f1"].max())
    (['label0', 'label1'], 1.0)
    """

    def __init__(
        self, curves: Mapping[str, np.ndarray], *, labels: Names, thresholds: Any = None, common: float | None = None
    ) -> None:
        self.curves = curves
        self.labels = labels
        self.thresholds = thresholds
        self.common = common

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        labels: Names | None = None,
        ax: Any = None,
        sort: bool = True,
    ) -> Self:
        """Let a fitted classifier predict documents, and draw their curves with its own thresholds.

        Parameters
        ----------
        {estimator}
        X : array-like of length n, default=None
            Documents; None: those of a `ThresholdTuner`'s ``fit``, as they were predicted when they were held out.
        y : array-like or DataFrame of shape (n, L), default=None
            Share of the annotators who chose each label, or indicators.
        {labels}
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        if X is None:
            if not isinstance(estimator, ThresholdTuner):
                raise TypeError(
                    f"Got no X: expected a ThresholdTuner, or documents and targets, but got {estimator!r:.200}."
                )
            check_is_fitted(estimator)
            found = {"thresholds": estimator.thresholds_, "common": estimator.common_threshold_}
            return cls(estimator.cv_results_, labels=list(estimator.labels_), **found).plot(ax, sort=sort)
        names = output_labels(estimator, str_names(y)) if labels is None else labels
        y, proba = as_targets(estimator, y, "y_true"), predict_labels(estimator, X)
        thresholds = thresholds_of(estimator, names or [f"label{k}" for k in range(np.shape(proba)[1])])
        return cls.from_predictions(y, proba, thresholds=thresholds, labels=names, ax=ax, sort=sort)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        thresholds: Threshold | None = None,
        labels: Names | None = None,
        ax: Any = None,
        sort: bool = True,
    ) -> Self:
        """Draw the curves of label probabilities.

        Parameters
        ----------
        {y_true}
        {y_pred}
        thresholds : float, array-like of shape (L,) or mapping of label to float, default=None
            Thresholds to mark.
        {labels}
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        target, proba, names = check_both(y_true, y_pred, labels)
        marked: Any = None if thresholds is None else np.broadcast_to(check_threshold(thresholds, names), len(names))
        curves = threshold_curves(proba, majority(target), np.ones(len(target)), grid(proba))
        same = marked is not None and (marked == marked[0]).all()
        return cls(curves, labels=names, thresholds=marked, common=float(marked[0]) if same else None).plot(
            ax, sort=sort
        )

    def plot(self, ax: Any = None, *, sort: bool = True) -> Self:
        """Draw.

        Parameters
        ----------
        {ax}
        sort : bool, default=True
            Labels by the F1 that they can reach, the best first; False: as given.

        {itself}
        """
        order = list(range(len(self.labels)))
        if sort:
            order.sort(key=lambda k: -self.curves["label_f1"][:, k].max())
        names = ["all labels", *(str(self.labels[k]) for k in order)]
        n = len(names)
        n_columns = n if n <= 4 else 4 if n <= 12 else 6
        size = (max(2.3 * n_columns, 4.6), 2.4 * -(-n // n_columns) + 0.9)
        axes = self._open(ax, names, n_columns, size, sharex=True, sharey=True)
        curves = self.curves
        self._draw(axes[0], names[0], curves["precision"], curves["recall"], curves["example_f1"], self.common)
        for panel, name, k in zip(axes[1:], names[1:], order, strict=True):
            precision, recall, f1 = (curves[f"label_{what}"][:, k] for what in ("precision", "recall", "f1"))
            self._draw(panel, name, precision, recall, f1, None if self.thresholds is None else self.thresholds[k])
        for at, panel in enumerate(axes):
            if ax is not None or at + n_columns >= n:
                panel.set_xlabel("threshold", size=9)
                panel.tick_params(labelbottom=True)
        if ax is None:
            canvas.finish(self.figure_, "What the threshold trades", axes[0], 5)
        return self

    def _draw(self, ax, name, precision, recall, f1, chosen):
        at = self.curves["threshold"]
        given = precision > 0  # where nothing is given, precision is not defined
        ax.plot(at[given], precision[given], color=canvas.BLUE, lw=1.2, label="precision")
        ax.plot(at, recall, color=GREEN, lw=1.2, ls="-.", label="recall")
        ax.plot(at, f1, color="black", lw=2, label="F1")
        ax.axvline(0.5, color=canvas.GREY, ls="--", lw=0.8, label="0.5")
        if chosen is not None:
            ax.axvline(chosen, color=canvas.ORANGE, lw=1.4, label="chosen")
        elif name == "all labels":
            ax.plot([], [], color=canvas.ORANGE, lw=1.4, label="chosen")
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1.02)
        canvas.tidy(ax, "both", "top", "right")
        ax.tick_params(labelsize=8)
        text = "" if chosen is None else f"\nfrom {chosen:.2f}, best F1 {f1.max():.2f}"
        weight = "bold" if name == "all labels" else "normal"
        ax.set_title(f"{canvas.wrap(name, 24)}{text}", size=9, weight=weight)

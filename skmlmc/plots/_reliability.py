"""Whether label probabilities are the shares of yes that they claim to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._utils.arrays import str_names
from .._utils.checks import check_choice, check_positive_int
from .._utils.classes import as_targets
from .._utils.typing import Names, Self
from ..metrics import output_labels
from . import _canvas as canvas
from ._inputs import check_both, predict_labels


class Reliability(NamedTuple):
    """Reliability of one label's probabilities, a value for each of the k bins that are not empty."""

    prob_pred: np.ndarray  # (k,), mean probability
    prob_true: np.ndarray  # (k,), share of the answers that were yes
    counts: np.ndarray  # (k,), documents
    edges: np.ndarray  # (k, 2)

    @property
    def error(self) -> float:
        """Mean distance between probability and share, weighted by documents (expected calibration error)."""
        return float(np.average(abs(self.prob_pred - self.prob_true), weights=self.counts))


def reliability(target: np.ndarray, proba: np.ndarray, n_bins: int = 5, strategy: str = "uniform") -> Reliability:
    """Bin one label's documents by their probability, as ``sklearn.calibration.calibration_curve`` cuts the bins.

    A soft target h counts with weight h for the label, 1 - h against it: a bin's share of yes is its mean target.
    """
    quantiles = np.linspace(0, 1, check_positive_int(n_bins, "n_bins") + 1)
    uniform = check_choice(strategy, "strategy", ("uniform", "quantile")) == "uniform"
    # Percentiles as scikit-learn takes them: quantiles round differently, which moves ties to other bins.
    edges = quantiles if uniform else np.percentile(proba, quantiles * 100)
    bins = np.searchsorted(edges[1:-1], proba)
    counts = np.bincount(bins, minlength=n_bins)
    filled = counts > 0
    pred, true = (np.bincount(bins, weights=v, minlength=n_bins)[filled] / counts[filled] for v in (proba, target))
    return Reliability(pred, true, counts[filled], np.column_stack([edges[:-1], edges[1:]])[filled])


@canvas.documented_display
class ReliabilityDisplay(canvas.Display):
    """Whether a label's probability is the share of yes: reliability curves, a panel a label.

    Look at it before you trust a threshold or add probabilities up, and after fitting an aligner. Few documents make
    bins that jump: with less than about 20 a bin take fewer bins, or read the panel of all labels together.

    Documents are binned by probability. A bin's dot is below the diagonal where the model says the label too surely,
    above it where not surely enough; its area is the share of the documents, and the bars below count them. Panels of
    rare labels show the corner at 0 only. ECE is the expected calibration error. Soft targets count as so many votes.

    Parameters
    ----------
    curves : list of Reliability
        Binned probabilities of each label (``prob_pred``, ``prob_true``, ``counts``, ``edges``, ``error``).
    labels : sequence of str
        Label names.
    base_rates : sequence of float
        Mean target of each label.
    pooled : bool, default=False
        Whether the first of them is all labels together.

    {attributes}

    See Also
    --------
    sklearn.calibration.CalibrationDisplay : For one binary classifier and hard targets.

    Notes
    -----
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.

    Examples
    --------
    >>> from skmlmc.plots import ReliabilityDisplay
    >>> display = ReliabilityDisplay.from_predictions([[1, 0.3], [0, 0.6]], [[0.8, 0.1], [0.3, 0.5]], n_bins=2)
    >>> display.labels
    ['all labels', 'label0', 'label1']
    >>> [float(round(curve.error, 3)) for curve in display.curves]
    [0.05, 0.25, 0.15]
    """

    def __init__(
        self, curves: Sequence[Any], *, labels: Names, base_rates: Sequence[float], pooled: bool = False
    ) -> None:
        self.curves = curves
        self.labels = labels
        self.base_rates = base_rates
        self.pooled = pooled

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        labels: Names | None = None,
        n_bins: int = 5,
        strategy: str = "uniform",
        pooled: bool = True,
        ax: Any = None,
        sort: bool = True,
    ) -> Self:
        """Let a fitted classifier predict documents and draw the reliability of its probabilities.

        Parameters
        ----------
        {estimator}
        X : array-like of length n
            Documents.
        {y}
        {labels}
        n_bins, strategy, pooled : int, str, bool
            See `from_predictions`.
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        names = output_labels(estimator, str_names(y)) if labels is None else labels
        bins: dict[str, Any] = {"n_bins": n_bins, "strategy": strategy, "pooled": pooled}
        y = as_targets(estimator, y, "y_true")
        return cls.from_predictions(y, predict_labels(estimator, X), labels=names, ax=ax, sort=sort, **bins)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        labels: Names | None = None,
        n_bins: int = 5,
        strategy: str = "uniform",
        pooled: bool = True,
        ax: Any = None,
        sort: bool = True,
    ) -> Self:
        """Draw the reliability of label probabilities.

        Parameters
        ----------
        {y_true}
        {y_pred}
        {labels}
        n_bins : int, default=5
            Number of bins of the probability.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of one width, or of about as many documents.
        pooled : bool, default=True
            Whether to begin with a panel of all labels together, where there are several.
        {ax_sort_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        target, proba, names = check_both(y_true, y_pred, labels)
        columns = [(target[:, k], proba[:, k]) for k in range(len(names))]
        pooled = bool(pooled) and len(names) > 1
        if pooled:
            columns, names = [(target.ravel(), proba.ravel()), *columns], ["all labels", *names]
        curves = [reliability(h, p, n_bins, strategy) for h, p in columns]
        base_rates = [float(h.mean()) for h, _ in columns]
        return cls(curves, labels=names, base_rates=base_rates, pooled=pooled).plot(ax, sort=sort)

    def plot(self, ax: Any = None, *, sort: bool = True) -> Self:
        """Draw.

        Parameters
        ----------
        {ax}
        sort : bool, default=True
            Labels by their base rate, the most frequent first (all labels together remain in front); False: as given.

        {itself}
        """
        order = list(range(len(self.labels)))
        if sort:
            order.sort(key=lambda k: (not self._is_pooled(k), -self.base_rates[k]))
        n = len(order)
        n_columns = n if n <= 4 else 4 if n <= 12 else 6
        lines = max(canvas.wrap(name, 24).count("\n") for name in self.labels)
        size = (max(2.2 * n_columns, 4.6), (2.85 + 0.17 * lines) * -(-n // n_columns) + (1.0 if n > 2 else 1.9))
        axes = self._open(ax, [str(self.labels[k]) for k in order], n_columns, size)
        for at, (panel, k) in enumerate(zip(axes, order, strict=True)):
            self._draw(panel, k)
            if ax is not None or at % n_columns == 0:
                panel.set_ylabel("share of yes (%)", size=9)
            if ax is not None or at + n_columns >= n:
                panel.set_xlabel("probability (%)", size=9)
        if ax is None:
            canvas.finish(self.figure_, "Reliability of the label probabilities", axes[0], 3 if n > 2 else 1)
        return self

    def _is_pooled(self, k):
        return self.pooled and k == 0

    def _draw(self, ax, k):
        curve = self.curves[k]
        # A rare label's dots all lie in the corner, so the panel shows that corner, on one of few scales.
        most = max(curve.prob_pred.max(), curve.prob_true.max())
        scale = next(scale for scale in (0.05, 0.1, 0.25, 0.5, 1) if most <= scale or scale == 1)
        ax.plot([0, scale], [0, scale], color=canvas.GREY, ls="--", lw=1, label="perfectly reliable")
        ax.plot(curve.prob_pred, curve.prob_true, color=canvas.BLUE, lw=1.2, clip_on=False)
        style = {"color": canvas.BLUE, "ec": "white", "clip_on": False, "zorder": 3}
        sizes = 14 + 90 * curve.counts / curve.counts.sum()
        ax.scatter(curve.prob_pred, curve.prob_true, s=sizes, label="documents in a bin", **style)
        self._draw_counts(ax, curve, scale)
        ax.set_xlim(0, scale)
        ax.set_ylim(-0.36 * scale, scale)
        ticks = [0, scale / 2, scale]
        ax.set_xticks(ticks, [f"{100 * t:g}" for t in ticks], size=8)
        ax.set_yticks(ticks, [f"{100 * t:g}" for t in ticks], size=8)
        ax.set_aspect("equal")
        ax.tick_params(length=2)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines["left"].set_bounds(0, scale)
        numbers = f"base rate {_percent(self.base_rates[k])}, ECE {_percent(curve.error)}"
        weight = "bold" if self._is_pooled(k) else "normal"
        ax.set_title(f"{canvas.wrap(self.labels[k], 24)}\n{numbers}", size=9, weight=weight)

    @staticmethod
    def _draw_counts(ax, curve, scale):
        """Draw the bins' numbers of documents as bars in a strip below the curve."""
        heights = 0.18 * scale * curve.counts / curve.counts.max()
        near = len(curve.counts) > 1 and np.diff(curve.prob_pred).min() < 0.06 * scale
        width = (0.015 if near else 0.05) * scale
        ax.bar(curve.prob_pred, heights, width, -0.36 * scale, color="#B5B5B5", label="number of documents")
        ax.axhline(0, color="black", lw=0.8)
        turned = len(curve.counts) > 5
        free = -1.0
        for at, height, n in zip(curve.prob_pred, heights, curve.counts, strict=True):
            if at >= free:  # numbers that would cover their neighbour are left out
                inside = at > 0.08 * scale
                place = {"ha": "center" if inside else "left", "va": "bottom", "rotation": 90 * turned}
                ax.text(at if inside else 0.01 * scale, height - 0.35 * scale, n, size=7, color=canvas.GREY, **place)
                free = at + scale * (0.075 if turned else 0.02 + 0.045 * len(str(n)))


def _percent(share):
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"

"""How sure a model is at each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._utils.checks import check_choice, check_texts
from .._utils.docs import documented
from .._utils.typing import Self
from ..analysis import step_values
from . import _canvas as canvas
from ._inputs import extract_steps


@documented(
    quantities="""quantities : sequence of {"top1", "spikiness", "entropy"}, default=("top1", "entropy")
        What to draw, a panel each."""
)
@canvas.documented_display
class SpikinessDisplay(canvas.Display):
    """How sure a model is at each step of its answers, last steps against intermediate ones.

    Where the largest probability is near 1 at every step, the steps say little about the other labels: read the labels
    out with questions of their own then (`UnaryExtractor`), or fit an aligner. The entropy grows with the number of
    labels, so compare it only between models with the same ones.

    Boxes span the quartiles, with the median as a line and whiskers from the 5th to the 95th percentile; the documents
    are drawn as dots beside them where there are few.

    Parameters
    ----------
    tops : dict of str to ndarray of shape (m,)
        Columns of `skmlmc.analysis.step_values`: a value a step.
    n_columns : int
        Number L + 1 of columns of the step distributions: the entropy is at most its logarithm.

    {attributes}

    See Also
    --------
    StepsDisplay : The steps of one document.

    Notes
    -----
    Spikiness: {paper}, section 4.

    Examples
    --------
    >>> from skmlmc.plots import SpikinessDisplay
    >>> display = SpikinessDisplay.from_predictions([[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]])
    >>> [ax.get_title() for ax in display.ax_]
    ['largest probability of the step', 'entropy of the step (nats)']
    """

    _names = {
        "top1": "largest probability of the step",
        "spikiness": "largest probability less the second",
        "entropy": "entropy of the step (nats)",
    }

    def __init__(self, tops: Mapping[str, np.ndarray], *, n_columns: int) -> None:
        self.tops = tops
        self.n_columns = n_columns

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, quantities: Sequence[str] = ("top1", "entropy"), ax: Any = None
    ) -> Self:
        """Let a fitted estimator answer documents and draw how sure it is.

        Parameters
        ----------
        estimator : estimator
            As in `StepsDisplay.from_estimator`.
        X : sequence of str of length n
            Documents.
        y : ignored
            Present for scikit-learn's convention.
        {quantities}
        {ax}

        {drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        check_is_fitted(estimator)
        return cls.from_predictions(extract_steps(estimator, check_texts(X)), quantities=quantities, ax=ax)

    @classmethod
    def from_predictions(cls, steps: Any, *, quantities: Sequence[str] = ("top1", "entropy"), ax: Any = None) -> Self:
        """Draw how spiky step distributions are.

        Parameters
        ----------
        steps : array-like of shape (n, R, L + 1)
            Step distributions.
        {quantities}
        {ax}

        {drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        tops = {name: np.array(values) for name, values in step_values(steps).items()}
        return cls(tops, n_columns=np.shape(steps)[2]).plot(ax, quantities=quantities)

    def plot(self, ax: Any = None, *, quantities: Sequence[str] = ("top1", "entropy")) -> Self:
        """Draw.

        Parameters
        ----------
        {ax}
        {quantities}

        {itself}
        """
        quantities = [quantities] if isinstance(quantities, str) else list(quantities)
        for quantity in quantities:
            check_choice(quantity, "quantities", tuple(self._names))
        n_steps = int(self.tops["step"].max())
        width = max(4.2, 1.0 + 0.62 * (n_steps + 1))
        beside = width * len(quantities) <= 16
        n_columns = len(quantities) if beside else 1
        size = (width * n_columns, 4.1 if beside else 3.6 * len(quantities))
        axes = self._open(ax, quantities, n_columns, size)
        for panel, quantity in zip(axes, quantities, strict=True):
            self._draw(panel, quantity, n_steps)
        if ax is None:
            n = len(np.unique(self.tops["document"]))
            documents = "one answer" if n == 1 else f"the answers to {n} documents"
            canvas.finish(self.figure_, f"How sure the model is at each step of {documents}", axes[0], 2)
        return self

    def _draw(self, ax, quantity, n_steps):
        steps, last, values = self.tops["step"], self.tops["position"] == "last", self.tops[quantity]
        groups = [np.ones(len(steps), bool), *(steps == r for r in range(1, n_steps + 1))]
        few = last.sum() <= 60
        ax.axvspan(-0.5, 0.5, color="#F2F2F2", zorder=0)
        looks = ((False, canvas.BLUE, "intermediate steps"), (True, canvas.ORANGE, "last steps"))
        for at, group in enumerate(groups):
            for side, (is_last, color, _) in zip((-0.2, 0.2), looks, strict=True):
                _box(ax, at + side, values[group & (last == is_last)], color, few)
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "size": 9, "va": "center"}
        ax.annotate("step", (-0.55, 0), (-4, -10), ha="right", **place)
        for line, (is_last, color, name) in enumerate(looks):
            ax.plot([], [], "s", color=color, ms=9, alpha=0.75, label=name)
            ax.annotate("n", (-0.55, 0), (-4, -23 - 12 * line), ha="right", color=color, **place)
            for at, group in enumerate(groups):
                n = int((group & (last == is_last)).sum())
                ax.annotate(str(n) if n else "–", (at, 0), (0, -23 - 12 * line), ha="center", color=color, **place)
        ax.set_xticks(range(n_steps + 1), ["all", *(str(r) for r in range(1, n_steps + 1))], size=9)
        ax.set_xlim(-0.55, n_steps + 0.55)
        ax.set_title(self._names[quantity], size=11)
        canvas.tidy(ax, "y", "top", "right")
        if quantity == "entropy":
            most = np.log(self.n_columns)
            ax.axhline(most, color=canvas.GREY, ls="--", lw=1)
            ax.annotate("no preference", (n_steps + 0.5, most), (0, 2), textcoords="offset points", ha="right", size=8)
        ax.set_ylim(0, 1.02 if quantity != "entropy" else 1.1 * np.log(self.n_columns))


def _box(ax, at, values, color, dots):
    """Draw a group's quartiles, whiskers and median, and its values as dots if asked for or needed."""
    if not len(values):
        return
    if dots or len(values) < 5:
        spread = np.random.default_rng(0).uniform(-0.1, 0.1, len(values))
        ax.plot(at + spread, values, "o", ms=3, color=color, alpha=0.55, mew=0, zorder=2)
    if len(values) >= 5:
        style = {"color": color, "lw": 1.2}
        ax.boxplot(
            values,
            positions=[at],
            widths=0.3,
            whis=(5, 95),
            showfliers=False,
            manage_ticks=False,
            patch_artist=True,
            showcaps=False,
            boxprops={"facecolor": f"{color}40", "edgecolor": color},
            whiskerprops=style,
            medianprops={"color": color, "lw": 2.6},
        )
    else:
        ax.plot([at - 0.15, at + 0.15], [np.median(values)] * 2, color=color, lw=2.6)

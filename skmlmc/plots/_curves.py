"""How many documents must be annotated before a method pays: scores by the number of fitting documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import t as student
from sklearn.base import clone
from sklearn.model_selection import ShuffleSplit, check_cv
from sklearn.utils import _safe_indexing as rows_of

from .._utils.checks import check_choice, check_positive, check_seed
from .._utils.typing import Self
from ..metrics import scorers
from . import _canvas as canvas

# Okabe and Ito's other colours, but for the yellow, which is pale on white.
COLORS = (canvas.BLUE, canvas.ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "black", canvas.GREY)
MARKERS = "osD^vPXp"
DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
TITLES = {"nll": ("NLL", -1), "l1": ("L1 distance", -1), "example_f1": ("example-F1", 1)}


@canvas.documented_display
class AnnotationCurveDisplay(canvas.Display):
    """How many documents must be annotated before which method pays: a curve a method, over the fitting documents.

    Draw it before you pay for annotations, on a few hundred documents that you have: where a curve has become flat,
    more documents will not help; where curves cross, the method to take changes. A curve is the mean over draws of
    fitting documents, its band the interval of that mean (Student's t): few draws have wide bands, a single one has
    none. All methods are tested on the same documents, so those whose bands overlap may still differ. What needs no
    documents is a horizontal line. The axis of documents is logarithmic, with 0 at its left where it is a size.

    Parameters
    ----------
    sizes : array-like of shape (k,)
        Numbers of fitting documents, rising; 0 for what was fitted on none.
    scores : mapping of str to array-like of shape (draws, k) or (k,)
        Name of a method -> its score on test documents at each size; NaN where it was not tried.
    metric : str, default="nll"
        What the scores are: "nll" and "l1", of which lower is better, or any other name, of which higher is better.
    constants : mapping of str to float, default=None
        Scores of what needs no documents, such as a zero-shot read-out, or of what is no better with more of them.
    confidence_level : float or None, default=0.95
        Of the intervals over draws; None: no bands, which of two or three draws are wide and say little.

    {attributes}
    means_ : dict of str to ndarray of shape (k,)
        Mean over the draws of each method.
    pays_from_ : dict of str to number or None
        The smallest size from which a method is better on average than all `constants`, and remains so; None: never,
        or there are none.

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : For one estimator, with training scores.
    MethodComparisonDisplay : Methods at one size, on several metrics.

    Examples
    --------
    >>> from skmlmc.plots import AnnotationCurveDisplay
    >>> scores = {"words": [[2.9, 2.5, 2.3], [2.8, 2.6, 2.3]], "probe": [[2.6, 2.3, 2.2], [2.7, 2.4, 2.2]]}
    >>> display = AnnotationCurveDisplay([50, 200, 800], scores, constants={"base rate": 2.7}).plot()
    >>> display.pays_from_
    {'words': 200, 'probe': 50}
    """

    def __init__(
        self,
        sizes: Any,
        scores: Mapping[str, Any],
        *,
        metric: str = "nll",
        constants: Mapping[str, float] | None = None,
        confidence_level: float | None = 0.95,
    ) -> None:
        self.sizes = sizes
        self.scores = scores
        self.metric = metric
        self.constants = constants
        self.confidence_level = confidence_level

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        X: Any,
        y: Any,
        *,
        distribution: Any = None,
        train_sizes: Sequence[int] = (20, 50, 100, 200, 400, 800),
        cv: Any = 3,
        groups: Any = None,
        metric: str = "nll",
        constants: Mapping[str, float] | None = None,
        n_jobs: int | None = None,
        random_state: Any = 0,
        ax: Any = None,
    ) -> Self:
        """Fit classifiers on more and more of the documents, score them on others, and draw.

        A draw's larger fitting sets hold the smaller ones. Give estimators a cache (``memory=``), so that a document is
        decoded once and not at every size.

        Parameters
        ----------
        estimators : mapping of str to estimator
            Name of a method -> classifier with ``fit`` and ``predict_proba``, which is cloned.
        X : array-like of length n
            Documents.
        y : array-like or DataFrame of shape (n, L)
            Share of the annotators who chose each label, or indicators.
        distribution : array-like or DataFrame of shape (n, L), default=None
            Soft targets beside `y`, as `fit` of the package's classifiers takes them; scores are then against them.
        train_sizes : sequence of int, default=(20, 50, 100, 200, 400, 800)
            Numbers of fitting documents, rising; those above what a draw holds are an error.
        cv : int or splitter, default=3
            Draws: a number of random ones that test on a quarter of the documents, or a splitter.
        groups : array-like of length n, default=None
            Groups that a splitter keeps together.
        metric : {"nll", "l1", "example_f1"}, default="nll"
            What is drawn, as `skmlmc.metrics.scorers` computes it.
        constants : mapping of str to float, default=None
            See the class.
        n_jobs : int, default=None
            How many fits at once, as in `joblib.Parallel`.
        random_state : int or RandomState, default=0
            Draws documents.
        {ax}

        {drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        scorer = scorers()[check_choice(metric, "metric", list(TITLES))]
        rng = check_seed(random_state)
        if isinstance(cv, int):
            cv = ShuffleSplit(cv, test_size=0.25, random_state=rng)
        draws = list(check_cv(cv).split(X, groups=groups))
        sizes = _check_sizes(train_sizes, 1)
        most = min(len(train) for train, _ in draws)
        if sizes[-1] > most:
            raise ValueError(f"Got train_sizes up to {sizes[-1]} but expected {most} at most, as a draw has them.")
        order = [rng.permutation(train) for train, _ in draws]
        jobs = [
            (estimator, order[draw][:size], test)
            for estimator in estimators.values()
            for draw, (_, test) in enumerate(draws)
            for size in sizes
        ]
        values = Parallel(n_jobs=n_jobs)(delayed(_fit_and_score)(*job, scorer, X, y, distribution) for job in jobs)
        found = np.reshape(values, (len(estimators), len(draws), len(sizes))) * TITLES[metric][1]
        scores = dict(zip(estimators, found, strict=True))
        return cls(sizes, scores, metric=metric, constants=constants).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        {ax}

        {itself}
        """
        sizes = _check_sizes(self.sizes, 0)
        scores = {name: _check_scores(name, values, len(sizes)) for name, values in self.scores.items()}
        constants = dict(self.constants or {})
        tried = {name: ~np.isnan(values) for name, values in scores.items()}
        self.means_ = {
            name: np.divide(np.nansum(values, axis=0), n, out=np.full(len(sizes), np.nan), where=n > 0)
            for name, values in scores.items()
            for n in [tried[name].sum(axis=0)]
        }
        title, sign = TITLES.get(self.metric, (self.metric, 1))
        best = max((sign * value for value in constants.values()), default=np.inf)
        self.pays_from_ = {name: _pays_from(sizes, sign * mean > best, mean) for name, mean in self.means_.items()}
        lines = sum(canvas.wrap(name, 34).count("\n") + 1 for name in (*scores, *constants))
        (panel,) = self._open(ax, [title], 1, (8.2, max(4.6, 0.5 + 0.2 * lines)))
        for k, (name, mean) in enumerate(self.means_.items()):
            self._draw(panel, k, name, sizes, mean, scores[name])
        for k, (name, value) in enumerate(constants.items()):
            panel.axhline(
                value, color="black", lw=1.1, ls=DASHES[k % len(DASHES)], label=canvas.wrap(name, 34), zorder=1
            )
        _log_axis(panel, sizes)
        panel.set_ylabel(f"{title} ({'higher' if sign > 0 else 'lower'} is better)")
        canvas.tidy(panel, "both", "top", "right")
        if ax is None:
            self._finish(panel)
        return self

    def _draw(self, ax, k, name, sizes, mean, values):
        """Draw one method: its mean, and around it the interval where there are several draws."""
        known, color = ~np.isnan(mean), COLORS[k % len(COLORS)]
        # A second round of colours has other markers.
        marker = MARKERS[(k + k // len(COLORS)) % len(MARKERS)]
        style = {"color": color, "marker": marker, "ms": 4.5, "lw": 1.6}
        ax.plot(sizes[known], mean[known], label=canvas.wrap(name, 34), **style)
        n = (~np.isnan(values)).sum(axis=0)
        several = n > 1
        if self.confidence_level is not None and several.any():
            deviation = np.nanstd(values[:, several], axis=0, ddof=1) / np.sqrt(n[several])
            level = check_positive(self.confidence_level, "confidence_level", upper=1)
            half = student.ppf((1 + level) / 2, n[several] - 1) * deviation
            middle = mean[several]
            ax.fill_between(sizes[several], middle - half, middle + half, color=color, alpha=0.15, lw=0)

    def _finish(self, panel):
        """Give a new figure its title, and a legend beside it in the order in which the curves end."""
        draws = max(len(np.atleast_2d(values)) for values in self.scores.values())
        level = self.confidence_level
        band = f"; bands: {level:.0%} intervals of the mean over draws" if draws > 1 and level is not None else ""
        self.figure_.suptitle("How many documents must be annotated?", size=12, weight="bold")
        self.figure_.supxlabel(f"documents to fit on{band}", size=9, color=canvas.GREY)
        lines, names = panel.get_legend_handles_labels()
        order = sorted(range(len(lines)), key=lambda k: -lines[k].get_ydata()[-1])
        legend = {"loc": "outside right center", "frameon": False, "fontsize": 9}
        self.figure_.legend([lines[k] for k in order], [names[k] for k in order], **legend)


def _check_sizes(sizes, least):
    """Return sizes as a rising array of whole numbers."""
    found = np.asarray(sizes)
    if (
        found.ndim != 1
        or not len(found)
        or found.dtype.kind not in "iu"
        or found[0] < least
        or (np.diff(found) <= 0).any()
    ):
        raise ValueError(f"Expected rising whole numbers of documents, {least} or more, but got {sizes!r}.")
    return found


def _check_scores(name, values, n_sizes):
    """Return scores as (draws, k)."""
    found = np.atleast_2d(np.asarray(values, float))
    if found.ndim != 2 or found.shape[1] != n_sizes:
        raise ValueError(
            f"Expected scores[{name!r}] of shape (draws, {n_sizes}), a column a size, but got shape {np.shape(values)}."
        )
    return found


def _pays_from(sizes, better, mean):
    """Return the first size from which a method that was tried is always better."""
    known = np.flatnonzero(~np.isnan(mean))
    worse = known[~better[known]]
    left = known[known > worse[-1]] if len(worse) else known
    return sizes[left[0]].item() if len(left) else None


def _fit_and_score(estimator, train, test, scorer, X, y, distribution):
    soft = {} if distribution is None else {"distribution": rows_of(distribution, train)}
    fitted = clone(estimator).fit(rows_of(X, train), rows_of(y, train), **soft)
    return scorer(fitted, rows_of(X, test), rows_of(y if distribution is None else distribution, test))


def _log_axis(ax, sizes):
    """Make the axis of documents logarithmic, with 0 at its left if it is a size, and a tick a size."""
    if sizes[0] == 0:
        first = sizes[1] if len(sizes) > 1 else 10
        ax.set_xscale("symlog", linthresh=first, linscale=0.4)
        ax.set_xlim(-0.15 * first, 1.1 * max(sizes[-1], first))
    else:
        ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes], size=9)
    ax.minorticks_off()


def _show_means(ax, values):
    """Cut the bands off where they would take more room than the curves: those of two draws are very wide."""
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.3 * (high - low)
    if room > 0:
        ax.set_ylim(max(ax.get_ylim()[0], low - room), min(ax.get_ylim()[1], high + room))

"""What the Displays share: colours, axes, names, texts of docstrings. matplotlib is imported only to draw."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._utils.docs import documented

# Okabe and Ito's colours, told apart by colour-blind eyes.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#5F5F5F"
DIAMOND = {"marker": "D", "ls": "", "color": "white", "mec": "black", "mew": 1.4}
MOST_LINES = 6  # of a name: a thousand would make a figure that cannot be drawn

AX = """ax : Axes or array-like of Axes, default=None
        Where to draw, one a panel. None: a new figure with title and legend; ``ax.legend()`` adds one elsewhere."""
DRAWN = """Returns
    -------
    Display
        Drawn.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit.
    ImportError
        matplotlib is missing; nothing was predicted or decoded."""

documented_display = documented(
    attributes="""Attributes
    ----------
    ax_ : Axes or ndarray of Axes
        The panel, or all of them in the order drawn.
    figure_ : Figure
        The figure that holds them.""",
    estimator="""estimator : estimator
        Fitted, with ``predict_proba`` of shape (n, L).""",
    y_true="""y_true : array-like or DataFrame of shape (n, L)
        Share of the annotators who chose each label, or indicators.""",
    y="""y : array-like or DataFrame of shape (n, L)
        Share of the annotators who chose each label, or indicators.""",
    y_pred="""y_pred : array-like or DataFrame of shape (n, L)
        Label probabilities.""",
    labels="""labels : sequence of str, length L, default=None
        Label names; None: those that the estimator, the columns of a DataFrame or an aligner's array have, else
        "label0", "label1", ...""",
    ax=AX,
    drawn=DRAWN,
    ax_drawn=f"{AX}\n\n    {DRAWN}",
    ax_sort_drawn=f"{AX}\n    sort : bool, default=True\n        See `plot`.\n\n    {DRAWN}",
    itself="""Returns
    -------
    Display
        Itself.

    Raises
    ------
    TypeError, ValueError
        If `ax` is not one Axes a panel, or something else does not fit.""",
)


def import_matplotlib(name: str) -> Any:
    """Return matplotlib, or raise ImportError that says how to install it for the Display `name`."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(f"{name} needs matplotlib, which is not installed: pip install matplotlib") from error
    return matplotlib


class Display:
    """What every Display does: draw on the Axes given, one a panel, or on a new figure."""

    figure_: Any
    ax_: Any

    def _open(self, ax: Any, panels: Sequence[str], n_columns: int, size: tuple[float, float], **kwargs: Any) -> list:
        """Set `figure_` and `ax_`, and return one Axes a panel; new ones, `n_columns` in a row, in `size` inches."""
        matplotlib = import_matplotlib("plot()")
        if ax is None:
            import matplotlib.pyplot as plt

            n_rows = -(-len(panels) // n_columns)
            figure, grid = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False, **kwargs)
            for unused in grid.ravel()[len(panels) :]:
                unused.remove()
            axes = grid.ravel()[: len(panels)]
        else:
            axes = np.ravel(np.array(ax, dtype=object))
            _check_axes(axes, panels, matplotlib.axes.Axes)
            figure = axes[0].figure
        self.figure_, self.ax_ = figure, axes[0] if len(axes) == 1 else axes
        return list(axes)


def _check_axes(axes: np.ndarray, panels: Sequence[str], kind: type) -> None:
    wrong = [a for a in axes if not isinstance(a, kind)]
    if wrong:
        raise TypeError(f"Got {type(wrong[0]).__name__} in ax but expected matplotlib Axes, from plt.subplots().")
    if len(axes) != len(panels):
        shown = ", ".join(panels[:4]) + (", ..." if len(panels) > 4 else "")
        raise ValueError(
            f"Got {len(axes)} axes in ax but expected {len(panels)}, one for each panel ({shown}): pass "
            f"ax=plt.subplots(1, {len(panels)})[1], or ax=None for a new figure."
        )


def tidy(ax: Any, grid: str, *spines: str) -> None:
    """Give a panel pale grid lines across the axis `grid`, no ticks, and none of the `spines`."""
    ax.grid(axis=grid, color="#E5E5E5", lw=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(length=0)
    ax.spines[list(spines)].set_visible(False)


def finish(figure: Any, title: str, panel: Any, n_columns: int) -> None:
    """Give a new figure its title, and below a legend of what one panel has."""
    figure.suptitle(title, size=12, weight="bold")
    handles, texts = panel.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=n_columns, frameon=False)


def wrap(name: str, width: int = 30) -> str:
    """Break a long name into lines, its end left out where it takes too many; a dollar sign stays one."""
    drawable = str(name).encode("utf-8", "replace").decode()  # matplotlib takes no lone surrogates
    lines = textwrap.fill(drawable, width, break_on_hyphens=False, max_lines=MOST_LINES, placeholder=" ...")
    return lines.replace("$", r"\$")  # matplotlib would read a formula between two of them


def quote(text: str, width: int, longest: int = 110) -> str:
    """Return a document between quotation marks in lines of `width`, its end left out where it is long."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= longest else flat[: longest - 4].rsplit(" ", 1)[0] + " ..."
    return wrap(f"“{short}”", width)


def widest(names: Iterable[str], width: int = 30) -> int:
    """Letters in the longest line of names that may be broken into lines."""
    return max(len(line) for name in names for line in wrap(name, width).split("\n"))


def row_height(names: Iterable[str], least: float = 0.26, width: int = 30) -> float:
    """Height in inches of a row whose name may be broken into lines."""
    return max(least, 0.19 * max(wrap(name, width).count("\n") + 1 for name in names) + 0.07)

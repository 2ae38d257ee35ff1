"""What the Displays share in drawing: colours, axes, names. matplotlib is imported when something is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# Okabe and Ito's colours, told apart by colour-blind eyes.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#5F5F5F"
DIAMOND = {"marker": "D", "ls": "", "color": "white", "mec": "black", "mew": 1.4}
MOST_LINES = 6  # of a name: a thousand would make a figure that cannot be drawn


def import_matplotlib(name: str) -> Any:
    """Return matplotlib, or raise ImportError that says how to install it for the Display `name`."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(f"{name} needs matplotlib, which is not installed: pip install matplotlib") from error
    return matplotlib


def make_axes(ax: Any, panels: Sequence[str], n_columns: int, size: tuple[float, float], **kwargs: Any) -> tuple:
    """Return a figure and one Axes a panel: those given, or new ones.

    Parameters
    ----------
    ax : Axes, array-like of Axes, or None
        Where to draw; None: a new figure.
    panels : sequence of str
        What the panels show, for the message.
    n_columns : int
        Panels in a row of a new figure.
    size : tuple of float
        Width and height of a new figure, in inches.
    **kwargs : dict
        More arguments of ``plt.subplots``.

    Returns
    -------
    figure : Figure or SubFigure
        That of the axes.
    axes : list of Axes
        One a panel.

    Raises
    ------
    TypeError
        If `ax` holds something that is no Axes.
    ValueError
        If the number of axes is not that of the panels.
    """
    matplotlib = import_matplotlib("plot()")
    if ax is None:
        import matplotlib.pyplot as plt

        n_rows = -(-len(panels) // n_columns)
        figure, grid = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False, **kwargs)
        for unused in grid.ravel()[len(panels) :]:
            unused.remove()
        return figure, list(grid.ravel()[: len(panels)])
    axes = list(np.ravel(np.array(ax, dtype=object)))
    wrong = [a for a in axes if not isinstance(a, matplotlib.axes.Axes)]
    if wrong:
        raise TypeError(f"Got {type(wrong[0]).__name__} in ax but expected matplotlib Axes, from plt.subplots().")
    if len(axes) != len(panels):
        shown = ", ".join(panels[:4]) + (", ..." if len(panels) > 4 else "")
        raise ValueError(
            f"Got {len(axes)} axes in ax but expected {len(panels)}, one for each panel ({shown}): pass "
            f"ax=plt.subplots(1, {len(panels)})[1], or ax=None for a new figure."
        )
    return axes[0].figure, axes


def hand_back(axes: list) -> Any:
    """Return the Axes of a single panel, or an array of them."""
    if len(axes) == 1:
        return axes[0]
    array = np.empty(len(axes), dtype=object)
    array[:] = axes
    return array


def wrap(name: str, width: int = 30) -> str:
    """Break a long name into lines, its end left out where it takes too many; a dollar sign stays one."""
    drawable = str(name).encode("utf-8", "replace").decode()  # matplotlib takes no lone surrogates
    lines = textwrap.fill(drawable, width, break_on_hyphens=False, max_lines=MOST_LINES, placeholder=" ...")
    return lines.replace("$", r"\$")  # and begins no formula


def quote(text: str, width: int, longest: int = 110) -> str:
    """Return a document between quotation marks in lines of `width`, its end left out where it is long."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= longest else flat[: longest - 4].rsplit(" ", 1)[0] + " ..."
    return wrap(f"“{short}”", width)


def row_height(names: Iterable[str], least: float = 0.26, width: int = 30) -> float:
    """Height in inches of a row whose name may be broken into lines."""
    return max(least, 0.19 * max(wrap(name, width).count("\n") + 1 for name in names) + 0.07)

"""What the tables of this room share: answers read once, rows and columns, texts of the docstrings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._utils.arrays import check_order, check_steps, check_targets, to_frame
from .._utils.docs import documented
from .._utils.labelled import labels_of, written_of
from ..align._arithmetic import generated_labels

STEPS = """steps : array-like of shape (n, R, L + 1)
        Step distributions, the last column being none; rows of steps that did not happen are NaN. An extractor's array
        knows what the model wrote; in other arrays it is the largest column that was not said before."""

documented_table = documented(
    steps=STEPS,
    parameters=f"Parameters\n    ----------\n    {STEPS}",
    targets="""y : array-like of shape (n, L) or DataFrame
        Indicator or soft targets in [0, 1]. A DataFrame's columns are put in the order of the labels.""",
    labels="""labels : sequence of str of length L, default=None
        Label names in the order of the columns of `steps`; None: those that an extractor's array knows.""",
    table="""as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame""",
    raises="""Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions, or another argument does not fit them.""",
)


class Answers(NamedTuple):
    """Answers of n documents: ``said`` is the column of the label said, L for none, -1 behind the answer."""

    steps: np.ndarray  # (n, R, L + 1), checked
    said: np.ndarray  # (n, R), int
    labels: list[str] | None  # where the array knows them

    @property
    def n_labels(self) -> int:
        """Number L of labels."""
        return self.steps.shape[2] - 1

    @property
    def is_label(self) -> np.ndarray:
        """Where a label was said, and not none: ndarray of shape (n, R), bool."""
        return (self.said >= 0) & (self.said < self.n_labels)

    def targets(self, y: Any, labels: Sequence[str] | None) -> np.ndarray:
        """Return targets whose columns are the labels: by `labels`, or the array's own, where `y` has names."""
        check_order(labels, self.labels, "steps")
        H, _ = check_targets(y, labels=self.labels if labels is None else labels, n_samples=len(self.steps))
        if H.shape[1] != self.n_labels:
            raise ValueError(
                f"Expected y to have {self.n_labels} columns, one a label of steps, but got {H.shape[1]}. Leave out "
                "none, and give the labels the order that the extractor has."
            )
        return H


def read_answers(steps: Any) -> Answers:
    """Check step distributions, and see what they say."""
    cube, written = check_steps(steps), written_of(steps)
    return Answers(cube, generated_labels(cube) if written is None else written, labels_of(steps))


def means_by_step(step: np.ndarray, count: str, as_frame: bool, by_step: bool = True, **values: np.ndarray) -> Any:
    """Return a row a step, from 1, or one of all: how often it is in `step`, and means of `values` there but NaN."""
    numbers = np.unique(step).tolist() if by_step else [None]
    rows = []
    for r in numbers:
        here = np.ones(len(step), bool) if r is None else step == r
        means = [mean_of(v[here & ~np.isnan(v)]) for v in values.values()]
        rows.append((*([] if r is None else [r + 1]), int(here.sum()), *means))
    return make_table((*(["step"] if by_step else []), count, *values), rows, as_frame)


def make_table(names: Sequence[str], rows: Sequence[tuple], as_frame: bool) -> Any:
    """Return rows as the columns of a tidy table."""
    return to_frame({name: [row[k] for row in rows] for k, name in enumerate(names)}, as_frame)


def mean_of(values: np.ndarray | list) -> float:
    """Return the mean, NaN where there is nothing."""
    return float(np.mean(values)) if len(values) else float("nan")

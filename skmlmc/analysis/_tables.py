"""What the tables of this room share: answers read once, rows and columns, texts of the docstrings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._utils.arrays import check_steps, check_targets
from .._utils.docs import documented
from .._utils.labelled import labels_of, written_of
from ..align._arithmetic import generated_labels

documented_table = documented(
    steps="""steps : array-like of shape (n, R, L + 1)
        Step distributions, the last column being none; rows of steps that did not happen are NaN. An extractor's array
        knows what the model wrote; in other arrays it is the largest column that was not said before.""",
    targets="""y : array-like of shape (n, L) or DataFrame
        Indicator or soft targets in [0, 1]. A DataFrame's columns are put in the order of the labels.""",
    labels="""labels : sequence of str of length L, default=None
        Label names in the order of the columns of `steps`; None: those that an extractor's array knows.""",
    as_frame="""as_frame : bool, default=False
        Return a pandas DataFrame.""",
    raises="""TypeError, ValueError
        If `steps` does not hold step distributions, or another argument does not fit them.""",
)


class Answers(NamedTuple):
    """Answers of n documents.

    Attributes
    ----------
    steps : ndarray of shape (n, R, L + 1)
        Step distributions, checked.
    said : ndarray of shape (n, R), int
        Column of the label said at each step, L for none, -1 behind the answer.
    labels : list of str of length L, or None
        Label names, where the array knows them.
    """

    steps: np.ndarray
    said: np.ndarray
    labels: list[str] | None

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


def by_steps(step: np.ndarray, by_step: bool = True) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Each step's number, from 1, and which rows it has; or no number and all rows at once."""
    if not by_step:
        yield (), np.ones(len(step), bool)
        return
    for r in np.unique(step).tolist():
        yield (r + 1,), step == r


def columns_of(names: Sequence[str], rows: Sequence[tuple]) -> dict[str, list]:
    """Return a table's rows as its columns."""
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


def mean_of(values: np.ndarray | list) -> float:
    """Return the mean, NaN where there is nothing."""
    return float(np.mean(values)) if len(values) else float("nan")

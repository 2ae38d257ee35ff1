"""How sure the model is at each step."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr

from .._utils.arrays import to_frame
from ._tables import documented_table, make_table, mean_of, read_answers


@documented_table
def step_values(steps: Any, *, as_frame: bool = False) -> Any:
    """Return how sure the model was at every step of every document.

    The observations behind ``step_shape``, for figures and tests of one's own. {paper}, section 4, "spikiness".

    {parameters}
    {table}
        A row a document and step: ``document`` (its row in `steps`), ``step`` (1 is the first), ``position`` ("last"
        where the answer ends, else "intermediate"), ``label`` (column that was generated; L is none), ``top1`` and
        ``top2`` (the two largest probabilities), ``spikiness`` (their difference) and ``entropy`` (in nats).

    {raises}

    Examples
    --------
    >>> from skmlmc.analysis import step_values
    >>> table = step_values([[[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]]])
    >>> table["position"], table["label"], table["spikiness"]
    (['intermediate', 'last'], [0, 1], [0.5, 0.0])
    """
    answers = read_answers(steps)
    happened = answers.said >= 0
    document, step = np.nonzero(happened)
    last = step + 1 == happened.sum(axis=1)[document]
    proba = answers.steps[document, step]
    top2, top1 = np.partition(proba, -2, axis=1)[:, -2:].T
    columns = {
        "document": document,
        "step": step + 1,
        "position": np.where(last, "last", "intermediate"),
        "label": answers.said[document, step],
        "top1": top1,
        "top2": top2,
        "spikiness": top1 - top2,
        "entropy": entr(proba).sum(axis=1),
    }
    return to_frame({name: column.tolist() for name, column in columns.items()}, as_frame)


@documented_table
def step_shape(steps: Any, *, as_frame: bool = False) -> Any:
    """Summarise the shape of the distributions by step, the last step of an answer apart from those before it.

    Look at it before you read probabilities out of the steps: where the top label takes nearly all mass ("spikiness"),
    the others' probabilities say little, also at later steps ("sequential spikiness") and at the last one ("stopping").
    {paper}, section 4.

    {parameters}
    {table}
        A row a step and position: ``step`` (1 is the first), ``position`` ("intermediate", or "last" where the answer
        ends), ``documents`` (how many), and the means over them of ``top1``, ``top2``, ``spikiness`` and ``entropy``
        as in ``step_values``.

    {raises}

    Notes
    -----
    The paper shows spikiness as the sorted probabilities of a step and has no number for it. Here it is the
    largest probability minus the second, over the labels and none: 1 where one label has all mass, 0 where two share
    it. An answer that fills all R steps counts its step R as last, though the model may have gone on.

    Examples
    --------
    >>> from skmlmc.analysis import step_shape
    >>> table = step_shape([[[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]], [[0.0, 0.25, 0.75], [float("nan")] * 3]])
    >>> table["step"], table["position"], table["documents"]
    ([1, 1, 2], ['intermediate', 'last', 'last'], [1, 1, 1])
    >>> table["spikiness"]
    [0.5, 0.5, 0.0]
    """
    values = {name: np.array(column) for name, column in step_values(steps).items()}
    measures = ("top1", "top2", "spikiness", "entropy")
    rows = []
    for step in range(1, values["step"].max() + 1):
        for position in ("intermediate", "last"):
            here = (values["step"] == step) & (values["position"] == position)
            if here.any():
                rows.append((step, position, int(here.sum()), *(mean_of(values[name][here]) for name in measures)))
    return make_table(("step", "position", "documents", *measures), rows, as_frame)

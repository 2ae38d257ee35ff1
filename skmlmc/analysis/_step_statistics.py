"""What step distributions look like, in numbers: arithmetic on arrays; the public names are in ``analysis``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import entr

from .._utils.checks import check_steps, to_frame
from ..align._functions import generated_labels


def step_values(steps: Any, *, as_frame: bool = False) -> Any:
    """Return how sure the model was at every step of every document.

    The observations behind ``step_shape`` and paper section 4, "spikiness".

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.
    as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame
        A row a document and step: ``document`` (its row in `steps`), ``step`` (1 is the first), ``position`` ("last"
        where the answer ends, else "intermediate"), ``label`` (column that was generated; L is none), ``top1`` and
        ``top2`` (the two largest probabilities), ``spikiness`` (their difference) and ``entropy`` (in nats).

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.

    Examples
    --------
    >>> from skmlmc.analysis import step_values
    >>> table = step_values([[[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]]])
    >>> table["position"], table["label"], table["spikiness"]
    (['intermediate', 'last'], [0, 1], [0.5, 0.0])
    """
    steps = check_steps(steps)
    answers = generated_labels(steps)
    document, step = np.nonzero(answers >= 0)
    last = step + 1 == (answers >= 0).sum(axis=1)[document]
    proba = steps[document, step]
    top2, top1 = np.partition(proba, -2, axis=1)[:, -2:].T
    return to_frame(
        {
            "document": document.tolist(),
            "step": (step + 1).tolist(),
            "position": np.where(last, "last", "intermediate").tolist(),
            "label": answers[document, step].tolist(),
            "top1": top1.tolist(),
            "top2": top2.tolist(),
            "spikiness": (top1 - top2).tolist(),
            "entropy": entr(proba).sum(axis=1).tolist(),
        },
        as_frame,
    )


def step_shape(steps: Any, *, as_frame: bool = False) -> Any:
    """Summarise the shape of the distributions by step, the last step of an answer apart from those before it.

    Paper section 4: the top label of each step takes nearly all mass ("spikiness"), each later step spikes again
    ("sequential spikiness"), and the last step looks like those before it ("stopping").

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.
    as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame
        A row a step and position: ``step`` (1 is the first), ``position`` ("intermediate", or "last" where the answer
        ends), ``documents`` (how many), and the means over them of ``top1``, ``top2``, ``spikiness`` and ``entropy``
        as in ``step_values``.

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.

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
    return to_frame(columns_of(("step", "position", "documents", *measures), rows), as_frame)


def second_ranked(steps: Any, *, by_step: bool = True, as_frame: bool = False) -> Any:
    """Count how often the label ranked second is the one generated next, and how often it never comes.

    Table 4 of the paper: the relative order of the labels at a step says little about what comes next.

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.
    by_step : bool, default=True
        A row a step; False: one row of all steps together, as in the paper's table.
    as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame
        ``step`` (of the ranking; 1 is the first), ``transitions`` (how many answers went on to another label there),
        the share of these in which the second-ranked label was ``next`` and ``not_next``, and of the latter the share
        in which it was ``never_generated`` (NaN where there are none).

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.

    Notes
    -----
    Only steps after which another label was generated count. Second-ranked is the most probable label that was not
    generated up to this step; none is no label.

    Examples
    --------
    The second label comes next in the first document, and third in the other one:

    >>> from skmlmc.analysis import second_ranked
    >>> steps = [
    ...     [[0.6, 0.3, 0.1, 0.0], [0.1, 0.8, 0.0, 0.1], [0.1, 0.0, 0.0, 0.9]],
    ...     [[0.6, 0.3, 0.1, 0.0], [0.0, 0.1, 0.9, 0.0], [0.0, 0.9, 0.0, 0.1]],
    ... ]
    >>> second_ranked(steps)
    {'step': [1, 2], 'transitions': [2, 1], 'next': [0.5, 1.0], 'not_next': [0.5, 0.0], 'never_generated': [0.0, nan]}
    """
    steps = check_steps(steps)
    generated, said, document, step = _transitions(steps)
    ranked = _open_labels(steps, said)[document, step].argmax(axis=1)
    next_label = generated[document, step + 1]
    hit = ranked == next_label
    never = ~said[document, -1, ranked]
    rows = [
        (*r, int(here.sum()), mean_of(hit[here]), mean_of(~hit[here]), mean_of(never[here & ~hit]))
        for r, here in by_steps(step, by_step)
    ]
    names = ("transitions", "next", "not_next", "never_generated")
    return to_frame(columns_of(("step", *names) if by_step else names, rows), as_frame)


def early_probability(steps: Any, *, by_step: bool = True, as_frame: bool = False) -> Any:
    """Measure which probability a label has one step before it is generated.

    Paper section 4, "relative ranking", beside Table 4: a label that the model is about to give next is mostly
    suppressed at the step before.

    Parameters
    ----------
    steps : array-like of shape (n, R, L + 1)
        Step distributions; the last column is none, rows of steps that did not happen are NaN.
    by_step : bool, default=True
        A row a step; False: one row of all steps together.
    as_frame : bool, default=False
        Return a pandas DataFrame.

    Returns
    -------
    dict of str to list, or DataFrame
        ``step`` (the earlier of the two; 1 is the first), ``transitions`` (how many answers went on to another label
        there), and means over them: ``early``, the next label's probability at this step, ``own``, its probability at
        its own step, and ``rank``, its rank at this step among the labels not generated up to it (1 is best).

    Raises
    ------
    TypeError, ValueError
        If `steps` does not hold step distributions.

    Examples
    --------
    >>> from skmlmc.analysis import early_probability
    >>> early_probability([[[0.6, 0.1, 0.3, 0.0], [0.1, 0.8, 0.0, 0.1], [0.1, 0.0, 0.0, 0.9]]])
    {'step': [1], 'transitions': [1], 'early': [0.1], 'own': [0.8], 'rank': [2.0]}
    """
    steps = check_steps(steps)
    generated, said, document, step = _transitions(steps)
    next_label = generated[document, step + 1]
    early, own = steps[document, step, next_label], steps[document, step + 1, next_label]
    rank = 1 + (_open_labels(steps, said)[document, step] > early[:, None]).sum(axis=1)
    rows = [
        (*r, int(here.sum()), mean_of(early[here]), mean_of(own[here]), mean_of(rank[here]))
        for r, here in by_steps(step, by_step)
    ]
    names = ("transitions", "early", "own", "rank")
    return to_frame(columns_of(("step", *names) if by_step else names, rows), as_frame)


def _transitions(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels generated, labels said up to each step, and the documents and steps after which a label comes."""
    answers, n_labels = generated_labels(steps), steps.shape[2] - 1
    said = np.logical_or.accumulate(answers[:, :, None] == np.arange(n_labels), axis=1)
    document, step = np.nonzero((answers[:, 1:] >= 0) & (answers[:, 1:] < n_labels))
    return answers, said, document, step


def _open_labels(steps: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Probabilities of the labels that were not said up to each step, -1 for the others."""
    return np.where(said, -1.0, steps[:, :, :-1])


def by_steps(step: np.ndarray, by_step: bool) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
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

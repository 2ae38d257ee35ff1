"""What a step says about the label that comes next."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._tables import documented_table, means_by_step, read_answers


@documented_table
def second_ranked(steps: Any, *, by_step: bool = True, as_frame: bool = False) -> Any:
    """Count how often the label ranked second is the one generated next, and how often it never comes.

    The order of the labels at a step says little about what comes next, so do not read it as an order of the labels'
    probabilities. {paper}, Table 4.

    {parameters}
    by_step : bool, default=True
        A row a step; False: one row of all steps together, as in the paper's table.
    {table}
        ``step`` (of the ranking; 1 is the first), ``transitions`` (how many answers went on to another label there),
        the share of these in which the second-ranked label was ``next`` and ``not_next``, and of the latter the share
        in which it was ``never_generated`` (NaN where there are none).

    {raises}

    Notes
    -----
    Second-ranked is the most probable label that was not generated up to this step; none is no label.

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
    t = _transitions(steps)
    ranked = t.left.argmax(axis=1)
    hit = ranked == t.next_label
    never = ~t.in_answer[np.arange(len(ranked)), ranked]
    shares = {"next": hit, "not_next": ~hit, "never_generated": np.where(hit, np.nan, never)}
    return means_by_step(t.step, "transitions", as_frame, by_step, **shares)


@documented_table
def early_probability(steps: Any, *, by_step: bool = True, as_frame: bool = False) -> Any:
    """Measure which probability a label has one step before it is generated.

    A label that the model is about to give next is mostly suppressed at the step before, so the first step alone
    misses it: read probabilities out of all steps. {paper}, section 4, "relative ranking", beside Table 4.

    {parameters}
    by_step : bool, default=True
        A row a step; False: one row of all steps together.
    {table}
        ``step`` (the earlier of the two; 1 is the first), ``transitions`` (how many answers went on to another label
        there), and means over them: ``early``, the next label's probability at this step, ``own``, its probability at
        its own step, and ``rank``, its rank at this step among the labels not generated up to it (1 is best).

    {raises}

    Examples
    --------
    >>> from skmlmc.analysis import early_probability
    >>> early_probability([[[0.6, 0.1, 0.3, 0.0], [0.1, 0.8, 0.0, 0.1], [0.1, 0.0, 0.0, 0.9]]])
    {'step': [1], 'transitions': [1], 'early': [0.1], 'own': [0.8], 'rank': [2.0]}
    """
    t = _transitions(steps)
    row = np.arange(len(t.step))
    early, own = t.now[row, t.next_label], t.then[row, t.next_label]
    rank = 1 + (t.left > early[:, None]).sum(axis=1)
    return means_by_step(t.step, "transitions", as_frame, by_step, early=early, own=own, rank=rank)


class _Transitions(NamedTuple):
    """Every step of every answer after which a label comes, T in all.

    For an answer "joy, anger" of three labels there is one: ``step`` 0, ``next_label`` anger, ``now`` and ``then`` the
    distributions of the first and the second step, ``left`` is ``now`` with -1 for joy, which was said already, and
    ``in_answer`` is true for joy and anger.
    """

    step: np.ndarray  # (T,)
    next_label: np.ndarray  # (T,)
    now: np.ndarray  # (T, L), as are those below
    then: np.ndarray
    left: np.ndarray
    in_answer: np.ndarray


def _transitions(steps: Any) -> _Transitions:
    answers = read_answers(steps)
    document, step = np.nonzero(answers.is_label[:, 1:])
    said = np.logical_or.accumulate(answers.said[:, :, None] == np.arange(answers.n_labels), axis=1)
    proba = answers.steps[:, :, :-1]
    now = proba[document, step]
    left = np.where(said[document, step], -1.0, now)
    then = proba[document, step + 1]
    return _Transitions(step, answers.said[document, step + 1], now, then, left, said[document, -1])

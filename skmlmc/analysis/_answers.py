"""What whole answers look like: how right, in which order, how long."""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial
from typing import Any

import numpy as np

from .._utils.arrays import majority
from .._utils.checks import check_labels, check_positive_int
from ._tables import documented_table, make_table, mean_of, means_by_step, read_answers


@documented_table
def accuracy_by_step(
    steps: Any, y: Any, *, labels: Sequence[str] | None = None, min_labels: int = 2, as_frame: bool = False
) -> Any:
    """Measure how often the label generated first, second, ... is right.

    The label generated second is right less often than the first, over the same answers: cut answers with
    ``max_labels`` where precision counts. {paper}, Figure 5.

    {parameters}
    {targets} A label is right where its value is above 0.5.
    {labels}
    min_labels : int, default=2
        Fewest labels of answers that count. 2, as in the paper: steps 1 and 2 share their documents. 1: all but none.
    {table}
        A row a step: ``step`` (1 is the first), ``documents`` (answers that have a label there), ``accuracy`` (share
        of these labels that are right) and ``annotators`` (mean value of `y` at them: the share of annotators who
        agree, with soft targets).

    {raises}

    Examples
    --------
    >>> from skmlmc.analysis import accuracy_by_step
    >>> steps = [[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.7, 0.1], [0.8, 0.1, 0.1]]]
    >>> accuracy_by_step(steps, [[1, 0], [0.4, 0.6]])
    {'step': [1, 2], 'documents': [2, 2], 'accuracy': [1.0, 0.0], 'annotators': [0.8, 0.2]}
    """
    answers, min_labels = read_answers(steps), check_positive_int(min_labels, "min_labels")
    H = answers.targets(y, labels)
    long_enough = answers.is_label.sum(axis=1, keepdims=True) >= min_labels
    document, step = np.nonzero(answers.is_label & long_enough)
    right, agree = (v[document, answers.said[document, step]] for v in (majority(H), H))
    return means_by_step(step, "documents", as_frame, accuracy=right, annotators=agree)


@documented_table
def answer_order(
    steps: Any, labels: Sequence[str], label_order: Sequence[str] | None = None, *, as_frame: bool = False
) -> Any:
    """Compare the order of the labels in answers with the alphabet and with the prompt.

    The order in which the prompt names the labels drives the order of the answer, which thus says nothing about their
    importance; `GGUFClassifier` averages over orders with ``n_label_orders``. {paper}, Table 7.

    {parameters}
    labels : sequence of str of length L
        Label names, in the order of the columns.
    label_order : sequence of str of length L, default=None
        The order in which the prompt names them; None: that of `labels`.
    {table}
        Four rows: ``order`` ("alphabetical", "reverse alphabetical", "prompt", "reverse prompt"), ``answers`` (how
        many have two labels or more), the ``share`` of them that are wholly in this order (NaN where there are none),
        and the share ``by_chance``, were every order of an answer's labels equally likely.

    {raises}

    Notes
    -----
    A prompt that names the labels alphabetically cannot tell the two apart: give the extractor another `label_order`.

    Examples
    --------
    >>> from skmlmc.analysis import answer_order
    >>> table = answer_order([[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]], ["joy", "anger"])
    >>> table["order"]
    ['alphabetical', 'reverse alphabetical', 'prompt', 'reverse prompt']
    >>> table["share"], table["by_chance"]
    ([0.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5])
    """
    answers, names = read_answers(steps), list(check_labels(labels))
    prompt = names if label_order is None else list(label_order)
    if len(names) != answers.n_labels:
        raise ValueError(f"Expected {answers.n_labels} labels, one a column of steps but none, but got {len(names)}.")
    if sorted(prompt, key=str) != sorted(names):
        raise ValueError(f"Got label_order={prompt!r} but expected each of the labels once: {names}.")
    several = [row[given] for row, given in zip(answers.said, answers.is_label, strict=True) if given.sum() > 1]
    by_chance = mean_of(np.array([1 / factorial(len(row)) for row in several]))
    rows = []
    for name, order in (("alphabetical", sorted(names, key=str.casefold)), ("prompt", prompt)):
        rank = np.array([order.index(label) for label in names])
        for prefix, sign in (("", 1), ("reverse ", -1)):
            in_order = np.array([(sign * np.diff(rank[row]) > 0).all() for row in several])
            rows.append((prefix + name, len(several), mean_of(in_order), by_chance))
    return make_table(("order", "answers", "share", "by_chance"), rows, as_frame)


@documented_table
def answer_lengths(steps: Any, *, as_frame: bool = False) -> Any:
    """Count the labels of the answers.

    Answers much shorter than the annotators' label sets call for other demonstrations: ``multilabel_share`` measures
    what they do. {paper}, Figure 6, plots the share of answers with two labels or more.

    {parameters}
    {table}
        A row a number of labels from 0 to the largest: ``n_labels``, ``documents`` and their ``share``.

    {raises}

    Examples
    --------
    >>> from skmlmc.analysis import answer_lengths
    >>> answer_lengths([[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.1, 0.7]] * 2])
    {'n_labels': [0, 1, 2], 'documents': [1, 0, 1], 'share': [0.5, 0.0, 0.5]}
    """
    counts = np.bincount(read_answers(steps).is_label.sum(axis=1))
    rows = list(zip(range(len(counts)), counts.tolist(), (counts / counts.sum()).tolist(), strict=True))
    return make_table(("n_labels", "documents", "share"), rows, as_frame)

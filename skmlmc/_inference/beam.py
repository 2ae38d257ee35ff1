"""All answers a model may give to a document: a beam over label sequences, with the probability mass it covers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from .._engine.forest import Ask, Branch, Read
from .label_trie import ROOT, AnswerSpace, Slot


class Marginal(NamedTuple):
    """Probability that a document's answer holds each label, and the mass of the answers followed to their end.

    The probabilities are lower bounds, exact where the mass is 1.
    """

    labels: np.ndarray
    mass: float


class _Tally(NamedTuple):
    """A `Marginal` that is being counted: both are arrays, so that they can grow in place."""

    labels: np.ndarray
    mass: np.ndarray


class _State(NamedTuple):
    """An answer in progress: its branch, labels and probability, the slot it stands before and that slot's logits."""

    trunk: tuple
    said: tuple[int, ...]
    p: float
    slot: Slot
    logits: list[np.ndarray]
    greedy: bool


def next_labels(trie, logits, said: Sequence[int]) -> np.ndarray:
    """Distribution over the labels that may come next, the answer's end last: none that the answer holds already.

    `logits` are those of `LabelTrie.probabilities`, `said` the labels written so far.
    """
    p = trie.probabilities(logits)
    p[list(said)] = 0
    total = p.sum()
    if total > 0:
        return p / total
    p[-1] = 1.0
    return p


class AnswerBeam:
    """Follow every label sequence whose probability stays above a bound, depth first.

    The answers are the constrained ones of `greedy_answer`, but every label is tried, not only the best. A label has
    the probability of the step distribution without the labels written so far; "another label" against "the end" is
    the model's own choice between their first tokens. A label stands in an answer at most once, so the probabilities
    of all places where it is written add up.

    Answers of more than `max_labels` count as not followed to their end, and so do those in progress below
    `min_probability`, but for the greedy one. ValueError: so many levels need more than the `sequences` of a document.
    """

    def __init__(self, answers: AnswerSpace, *, max_labels: int, min_probability: float, sequences: int):
        self._answers, self._max_labels, self._min = answers, max_labels, min_probability
        self.sequences = sequences
        inner = answers.sequences(max_labels) - 1
        self._width = sequences // max_labels - inner
        if self._width < 1:
            raise ValueError(
                f"Got max_labels={max_labels}, but the labels share so many tokens that answers of at most "
                f"{sequences // (1 + inner)} labels can be followed: choose a smaller max_labels."
            )

    def answer(self, document: Sequence[int]) -> Generator[Ask, list, Marginal]:
        """Follow the answers to a document, given in tokens with what leads over to the answer.

        Asks for the document; then for the labels that may come next, as many together as there are sequences.
        """
        slot, trunk = self._answers.slot(), ("answer",)
        tokens = [*document, *slot.lead]
        read = Read(len(tokens) - 1, slot.trie.columns[ROOT])
        rows = yield Ask((Branch(trunk, tokens, None, (read,)), *slot.trie.inner_branches(trunk, trunk)))
        tally = _Tally(np.zeros(self._answers.none), np.zeros(1))
        state = _State(trunk, (), 1.0, slot, [row[0].logits for row in rows], True)
        yield from self._follow(state, tally, [])
        return Marginal(np.minimum(tally.labels, 1.0), float(min(tally.mass[0], 1.0)))

    def _follow(self, state, tally, stale):
        """Count what may come next, and follow it; `stale` are branches that the next ask drops."""
        following = state.p * next_labels(state.slot.trie, state.logits, state.said)
        tally.labels[:] += following[:-1]
        tally.mass[0] += following[-1]
        if len(state.said) + 1 == self._answers.none:
            tally.mass[0] += following[:-1].sum()
            return
        if len(state.said) + 1 >= self._max_labels:
            return
        best = int(following[:-1].argmax())
        order = np.argsort(-following[:-1], kind="stable")
        labels = [int(k) for k in order if following[k] >= self._min or (state.greedy and k == best)]
        for at in range(0, len(labels), self._width):
            chosen = labels[at : at + self._width]
            grown = yield from self._write(state, chosen, tally, following, stale)
            for child in grown:
                yield from self._enter(child, tally, stale)
            stale += [(*state.trunk, k) for k in chosen]

    def _write(self, state, labels, tally, following, stale):
        """Write each of `labels` in a branch of its own; returns the answers that go on, behind the separator.

        Say that joy has probability 0.5 at the first step, and sad 0.01. One ask writes both, in the branches
        ``("answer", joy)`` and ``("answer", sad)``, and reads what follows: a separator or the end. After joy the
        model goes on with probability 0.4: 0.3 are mass of the finished answer "joy", and "joy, ..." is followed with
        0.2. After sad it goes on with 0.1: 0.001 is below a bound of 0.002, so nothing longer is followed, and that
        0.001 is the mass which the result lacks. A label whose last token was read along with the slot, because
        another label continues it, has its two logits already and adds no token.
        """
        trie = state.slot.trie
        branches: list[Branch] = []
        ends: list[Any] = []
        for k in labels:
            node, tail = trie.deepest(k)
            parent = state.trunk if node == ROOT else (state.trunk, node)
            reads = (Read(len(tail) - 1, np.array(trie.ends[k])),) if tail else ()
            branches.append(Branch((*state.trunk, k), tail, parent, reads))
            ends.append(None if tail else trie.ends_at(k, node, state.logits))
        rows = yield Ask(tuple(branches), tuple(stale))
        stale.clear()
        grown = []
        for k, row, known in zip(labels, rows, ends, strict=True):
            another, end = row[0].logits if row else known
            goes_on = float(expit(float(another) - float(end)))
            tally.mass[0] += following[k] * (1 - goes_on)
            greedy = state.greedy and k == labels[0] and following[k] == following[:-1].max() and goes_on > 0.5
            p = following[k] * goes_on
            if p >= self._min or greedy:
                grown.append(_State((*state.trunk, k), (*state.said, k), p, self._answers.slot(k), [], greedy))
        return (yield from self._separate(grown))

    def _separate(self, grown):
        """Write the separators of answers that go on, and read the slots behind them."""
        if not grown:
            return []
        leads = [child.slot.lead for child in grown]
        columns = [child.slot.trie.columns[ROOT] for child in grown]
        rows = yield Ask(
            tuple(
                Branch(child.trunk, lead, None, (Read(len(lead) - 1, wanted),))
                for child, lead, wanted in zip(grown, leads, columns, strict=True)
            )
        )
        return [child._replace(logits=[row[0].logits]) for child, row in zip(grown, rows, strict=True)]

    def _enter(self, child, tally, stale):
        """Read the inner branches of a child's slot, where its labels share tokens, then follow it."""
        inner = child.slot.trie.inner_branches(child.trunk, child.trunk)
        if inner:
            rows = yield Ask(inner, tuple(stale))
            stale.clear()
            child = child._replace(logits=[*child.logits, *(row[0].logits for row in rows)])
        yield from self._follow(child, tally, stale)
        stale += [branch.name for branch in inner]

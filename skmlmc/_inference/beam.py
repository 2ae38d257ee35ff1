"""All answers a model may give to a document: a beam over label sequences, with the probability mass it covers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from .._engine.forest import Ask, Branch, ask_in_turn, divide
from .greedy import SlotReading, read_slot
from .label_trie import AnswerSpace, Slot


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
    """An answer in progress: its labels, probability and slot, what was read of that, and whether it is the greedy one.

    The reading of a slot that was not entered yet has the root alone.
    """

    said: tuple[int, ...]
    p: float
    slot: Slot
    read: SlotReading
    greedy: bool


def next_labels(trie, places, said: Sequence[int]) -> np.ndarray:
    """Distribution over the labels that may come next, the answer's end last: none that the answer holds already.

    `places` are the readings of `LabelTrie.probabilities`, `said` the labels written so far.
    """
    p = trie.probabilities(places)
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
    the model's own choice between the tokens that begin them. A label stands in an answer at most once, so the
    probabilities of all places where it is written add up.

    Answers of more than `max_labels` count as not followed to their end, and so do those in progress below
    `min_probability`, but for the greedy one. ValueError: so many levels need more than the `sequences` of a document.
    """

    def __init__(self, answers: AnswerSpace, *, max_labels: int, min_probability: float, sequences: int):
        self._answers, self._max_labels, self._min = answers, max_labels, min_probability
        self.sequences = sequences
        level = sequences // max_labels  # sequences of the branches of one slot, and of the labels followed from there
        inner = answers.sequences(max_labels, sequences) - 1
        try:  # where not all of them fit at once, slots are read in several calls with half of the sequences
            self._inner = inner if inner < level else answers.sequences(max_labels, level // 2) - 1
        except ValueError as error:
            raise ValueError(
                f"Got max_labels={max_labels}, but only {sequences} answers can be followed at one time, and labels "
                "share too many tokens for so many levels of them: choose a smaller max_labels."
            ) from error
        self._width = level - self._inner

    def answer(self, document: Sequence[int]) -> Generator[Ask, list, Marginal]:
        """Follow the answers to a document, given in tokens with what leads over to the answer.

        Asks for the document; then for the labels that may come next, as many together as there are sequences.
        """
        slot, trunk = self._answers.slot(), ("answer",)
        branch = Branch(trunk, [*document, *slot.lead])
        read = yield from read_slot(slot, branch, trunk, max(1, self._inner))
        tally = _Tally(np.zeros(self._answers.none), np.zeros(1))
        yield from self._follow(_State((), 1.0, slot, read, True), tally, [])
        return Marginal(np.minimum(tally.labels, 1.0), float(min(tally.mass[0], 1.0)))

    def _follow(self, state, tally, stale):
        """Count what may come next, and follow it; `stale` are branches that the next ask drops."""
        following = state.p * next_labels(state.slot.trie, state.read.places, state.said)
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
            stale += [(*state.read.trunk, k) for k in chosen]

    def _write(self, state, labels, tally, following, stale):
        """Write each of `labels` in a branch of its own; returns the answers that go on, behind the separator.

        Say that joy has probability 0.5 at the first step, and sad 0.01. One ask writes both, in the branches
        ``("answer", joy)`` and ``("answer", sad)``, and reads what follows: a separator or the end. After joy the
        model goes on with probability 0.4: 0.3 are mass of the finished answer "joy", and "joy, ..." is followed with
        0.2. After sad it goes on with 0.1: 0.001 is below a bound of 0.002, so nothing longer is followed, and that
        0.001 is the mass which the result lacks. A label whose last token was read along with the slot, because
        another label continues it, has its logits already and adds no token where its branch is still there.
        """
        trie, (trunk, places, alive) = state.slot.trie, state.read
        branches, ends = [], []
        for k in labels:
            node, tail = trie.grows_from(k)
            parent = (trunk, node)
            if parent not in alive:
                parent, tail = trunk, trie.paths[k]
            ends.append(trie.known_ends(k, places))
            reads = (trie.ends_read(k, len(tail) - 1),) if ends[-1] is None else ()
            branches.append(Branch((*trunk, k), tail, parent, reads))
        rows = yield Ask(tuple(branches), tuple(stale))
        stale.clear()
        grown = []
        for k, row, known in zip(labels, rows, ends, strict=True):
            goes_on = float(expit(trie.goes_on(k, row[0].logits if known is None else known)))
            tally.mass[0] += following[k] * (1 - goes_on)
            greedy = state.greedy and k == labels[0] and following[k] == following[:-1].max() and goes_on > 0.5
            p = following[k] * goes_on
            if p >= self._min or greedy:
                grown.append(((*trunk, k), (*state.said, k), p, self._answers.slot(k), greedy))
        return (yield from self._separate(grown))

    def _separate(self, grown):
        """Write the separators of answers that go on, and read the roots of the slots behind them."""
        if not grown:
            return []
        branches = [
            Branch(trunk, slot.lead, None, (slot.trie.root_read(len(slot.lead) - 1),)) for trunk, _, _, slot, _ in grown
        ]
        rows = yield Ask(tuple(branches))
        return [
            _State(said, p, slot, SlotReading(trunk, row, []), greedy)
            for (trunk, said, p, slot, greedy), row in zip(grown, rows, strict=True)
        ]

    def _enter(self, child, tally, stale):
        """Read the places of a child's slot below the root, where its labels share tokens, then follow it."""
        trie, trunk = child.slot.trie, child.read.trunk
        first, *others = divide(trie.branches(trunk, trunk), max(1, self._inner))
        if first.branches:
            rows, alive = yield from ask_in_turn([first._replace(drop=tuple(stale)), *others])
            stale.clear()
            places = trie.in_order(child.read.places[0], {n: rows[trunk, n] for n in trie.runs})
            child = child._replace(read=SlotReading(trunk, places, alive))
        yield from self._follow(child, tally, stale)
        stale += child.read.alive

"""Attention from the later labels of an answer to the input and to earlier labels.

The answer is written as `greedy_answer` writes it. Then its branches are forgotten and document and answer are decoded
once more as one sequence, whose cells in llama.cpp's cache stand in the order of its tokens.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .._cache.records import DamagedEntryError, checked
from .._engine.context import Attention
from .._engine.forest import Ask, Branch, Read
from .tasks import PreparedSteps, StepsTask

TARGETS = ("prompt", "input", "earlier labels", "other")
_TOLERANCE = 1e-3


class Attended(NamedTuple):
    """Where the later labels of an answer look.

    Attributes
    ----------
    labels : ndarray of shape (k,)
        The answer's labels but the first.
    tokens : ndarray of shape (k, 4)
        Number of tokens of each of `TARGETS` that a label sees.
    weights : ndarray of shape (k, 4)
        Attention to all of them together; rows sum to 1.
    """

    labels: np.ndarray
    tokens: np.ndarray
    weights: np.ndarray


def write_answer(answers, said: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the tokens of an answer up to its last label, and the first and last + 1 token of each label.

    A label that has no tokens of its own there, since all labels begin alike, counts as the token before it.
    """
    tokens: list[int] = []
    spans = []
    previous = None
    for label in said:
        slot = answers.slot(previous)
        path = slot.trie.paths[label]
        tokens += [*slot.lead, *path]
        spans.append((len(tokens) - max(1, len(path)), len(tokens)))
        previous = label
    return tokens, spans


def count_attention(row: np.ndarray, n_prompt: int, n_input: int, earlier: Sequence[tuple[int, int]], stop: int):
    """Return the number of tokens of each of `TARGETS` that a label sees, and its attention to them.

    `row` is the attention to each token of the sequence, `earlier` the spans of the labels before, and `stop` where the
    label itself ends. RuntimeError: the weights do not lie on the tokens up to there, or do not sum to 1.

    Examples
    --------
    >>> count_attention(np.array([0.5, 0.1, 0.1, 0.1, 0.2, 0.0]), 1, 2, [(3, 4)], 5)
    (array([1, 2, 1, 1]), array([0.5, 0.2, 0.1, 0.2]))
    """
    if abs(row[:stop].sum() - 1) > _TOLERANCE or row[stop:].any():
        raise RuntimeError(
            f"Expected attention to the {stop} tokens so far to sum to 1, but got {row[:stop].sum():g}: llama.cpp does "
            "not keep this model's tokens in order. Use a model with plain attention."
        )
    kind = np.full(stop, TARGETS.index("other"))
    kind[:n_prompt] = TARGETS.index("prompt")
    kind[n_prompt : n_prompt + n_input] = TARGETS.index("input")
    for start, end in earlier:
        kind[start:end] = TARGETS.index("earlier labels")
    n = len(TARGETS)
    return np.bincount(kind, minlength=n), np.bincount(kind, weights=row[:stop], minlength=n)


@dataclass(frozen=True)
class PreparedAttention(PreparedSteps):
    """The stepwise prompt of one model, ready to answer documents and to look back at the answers."""

    @cached_property
    def cells(self):
        """Cells of the longest answer, its last label included."""
        return self.compiled.answers.longest(self.max_labels + 1, self.budget)

    def job(self, tokens):
        alive: set = set()
        answer = yield from _tracking(super().job(tokens), alive)
        said = [k for k in answer.written.tolist() if k != self.compiled.answers.none]
        return (yield from self._look_back(tokens, said, tuple(alive)))

    def _look_back(self, tokens, said, drop) -> Generator[Ask, list, Attended]:
        """Decode document and answer as one sequence, a label an ask, and read the labels' attention."""
        written, spans = write_answer(self.compiled.answers, said)
        kept, weights = [], []
        for k, (start, stop) in enumerate(spans[1:], 1):
            if k == 1:
                yield Ask((Branch("look back", [*tokens, *written[:start]]),), drop)
            # The reading is the mean over the label's tokens; what leads over to the next one stands behind it.
            end = spans[k + 1][0] if k + 1 < len(said) else stop
            read = Read(stop - start - 1, np.empty(0, int), tap=True)
            ((reading,),) = yield Ask((Branch("look back", written[start:end], None, (read,)),))
            before = len(self.prefix) + len(tokens)
            earlier = [(a + before, b + before) for a, b in spans[:k]]
            n_input = len(tokens) - len(self.compiled.bridge)
            row = reading.tapped.astype(float)
            counted = count_attention(row, len(self.prefix), n_input, earlier, stop + before)
            kept.append(counted[0])
            weights.append(counted[1])
        shape = (-1, len(TARGETS))
        return Attended(np.array(said[1:], int), np.reshape(kept, shape).astype(int), np.reshape(weights, shape))


def _tracking(job, alive: set):
    """Run a document's generator and keep the names of the branches that it leaves behind."""
    reply = None
    while True:
        try:
            ask = job.send(reply)
        except StopIteration as done:
            return done.value
        alive.difference_update(ask.drop)
        alive.update(branch.name for branch in ask.branches)
        reply = yield ask


@dataclass(frozen=True)
class AttentionTask:
    """Ask for a document's answer and for the attention of its later labels.

    Parameters
    ----------
    answer : StepsTask
        How the answer is asked for.
    layer : int, float or None
        As for `Attention`.
    """

    answer: StepsTask
    layer: Any = None

    @property
    def words(self):
        return self.answer.words

    @property
    def tap(self):
        return Attention(self.layer)

    def key(self):
        return ("attention", self.layer, *self.answer.key())

    def prepare(self, model):
        return PreparedAttention(self.answer.compile(model), self.answer.max_labels, self.tap, model.sequences - 1)

    def to_arrays(self, result):
        return result._asdict()

    def from_arrays(self, arrays):
        labels = arrays.get("labels", np.empty(()))
        shape = (*labels.shape, len(TARGETS))
        number = np.dtype(int).name
        found = Attended(
            checked(arrays, "labels", shape[:1], number, len(self.words) - 2),
            checked(arrays, "tokens", shape, number, np.iinfo(np.int32).max),
            checked(arrays, "weights", shape),
        )
        if (abs(found.weights.sum(axis=1) - 1) > _TOLERANCE).any():
            raise DamagedEntryError("expected attention that sums to 1")
        return found

"""The greedy answer to a document, label by label; `label_trie.LabelTrie` computes the probabilities at each step."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from typing import NamedTuple

import numpy as np

from .._engine.forest import Ask, Branch, Read, Reading, ask_in_turn, divide
from .label_trie import AnswerSpace, Slot


class Answer(NamedTuple):
    """What a document's answer gave.

    Attributes
    ----------
    steps : ndarray of shape (r, L + 1)
        Step distributions of the r steps that happened.
    written : ndarray of shape (r,), int
        Column of the label that was written at each step; L, the empty answer, only as the last one.
    label_mass : float
        Probability of all labels together at the first step.
    """

    steps: np.ndarray
    written: np.ndarray
    label_mass: float


class SlotReading(NamedTuple):
    """What was read behind a slot's lead: of each place of its trie.

    The branches `alive` grow out of `trunk`, at whose end the slot begins.
    """

    trunk: Hashable
    places: list[Reading]
    alive: list[Hashable]


def read_slot(
    slot: Slot, branch: Branch, step: Hashable, sequences: int, drop: Sequence[Hashable] = (), **more: bool
) -> Generator[Ask, list, SlotReading]:
    """Write what leads to a slot, the tokens of `branch`, and read the slot.

    That takes one ask, or several where the labels' branches, named ``(step, number)``, are more than `sequences`.
    `more` is read behind the last token of `branch`.
    """
    trie, trunk = slot.trie, branch.name
    branch = branch._replace(reads=(trie.root_read(len(branch.tokens) - 1, **more),))
    first, *others = divide(trie.branches(trunk, step), sequences)
    asks = [Ask((branch, *first.branches), tuple(drop)), *others]
    rows, alive = yield from ask_in_turn(asks)
    (root,) = rows.pop(trunk)
    places = trie.in_order(root, {n: rows[step, n] for n in trie.runs})
    return SlotReading(trunk, places, [name for name in alive if name != trunk])


def greedy_answer(
    document: Sequence[int],
    answers: AnswerSpace,
    *,
    max_labels: int,
    sequences: int,
) -> Generator[Ask, list, Answer]:
    """Write a constrained greedy answer and keep the distribution over labels at each step.

    At each step the most probable label that the answer does not hold yet is written; the empty answer's word ends the
    answer. After a label the model itself chooses between "another label" and the end. `document` holds what leads over
    to the answer too; `sequences` are those beside the answer's own.

    Asks for the document with the first slot's branches; then for the label; then, where the model goes on, for
    the separator with the branches of the next slot.
    """
    slot = answers.slot()
    tokens = [*document, *slot.lead]
    read = yield from read_slot(slot, Branch("answer", tokens), 0, sequences, total=True)
    mass = slot.trie.mass(read.places)
    rows: list[np.ndarray] = []
    said: list[int] = []
    while True:
        rows.append(slot.trie.probabilities(read.places))
        said.append(_best(rows[-1], said))
        if said[-1] == answers.none or len(said) == max_labels:
            break
        another = yield from _write(answers, slot, said, read, sequences)
        if another is None:
            break
        slot, read = answers.slot(said[-1]), another
    return Answer(np.array(rows), np.array(said), mass)


def _best(row, said):
    open_ = np.array(row)
    open_[said] = -1.0
    return int(open_.argmax())


def _write(answers, slot, said, read, sequences):
    """Write the label chosen last; returns what was read of the next slot, or None at the answer's end.

    The separator waits for the model's choice. Guessing it together with the label saves a call where the answer goes
    on, but costs its tokens and a second row of logits where it ends: slower on small models unless nearly all go on.
    """
    step, label = len(said), said[-1]
    node, tail = slot.trie.grows_from(label)
    at = (step - 1, node)
    if at not in read.alive:
        at, tail = read.trunk, slot.trie.paths[label]
    drop = tuple(name for name in [read.trunk, *read.alive] if name != at)
    ends = slot.trie.known_ends(label, read.places)
    if ends is None:
        ((choice,),) = yield Ask((Branch(at, tail, None, (slot.trie.ends_read(label, len(tail) - 1),)),), drop)
        ends, tail, drop = choice.logits, [], ()
    if slot.trie.goes_on(label, ends) <= 0:
        return None
    following = answers.slot(label)
    return (yield from read_slot(following, Branch(at, [*tail, *following.lead]), step, sequences, drop))


def read_beginning(document: Sequence[int], answers: AnswerSpace) -> Generator[Ask, list, float]:
    """Read how probable it is that the model begins its answer by itself as it is made to, up to the first label.

    Of ``{"label": ["`` that is the product over its tokens.
    """
    tokens = [*document, *answers.slot().lead]
    return float(np.exp((yield from read_log_probability(tokens, len(document) + answers.begins_at()))))


def read_log_probability(tokens: Sequence[int], start: int) -> Generator[Ask, list, float]:
    """Read the log-probability of the tokens from number `start` on, but for the prompt's very first token."""
    forced = range(max(1, start), len(tokens))
    reads = tuple(Read(at - 1, np.array(tokens[at : at + 1]), True) for at in forced)
    (row,) = yield Ask((Branch("answer", tokens[: forced.stop - 1], None, reads),))
    return sum(float(one.logits[0]) - one.total for one in row)


def read_state(document: Sequence[int], answers: AnswerSpace) -> Generator[Ask, list, np.ndarray]:
    """Read what the context's tap shows where the first label is predicted, and write nothing."""
    tokens = [*document, *answers.slot().lead]
    read = Read(len(tokens) - 1, np.empty(0, int), tap=True)
    ((reading,),) = yield Ask((Branch("answer", tokens, None, (read,)),))
    return reading.tapped

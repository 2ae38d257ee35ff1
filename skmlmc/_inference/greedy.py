"""The greedy answer to a document, label by label; `label_trie.LabelTrie` computes the probabilities at each step."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np

from .._engine.forest import Ask, Branch, Read
from .label_trie import ROOT, AnswerSpace


class Answer(NamedTuple):
    """What a document's answer gave.

    Attributes
    ----------
    steps : ndarray of shape (r, L + 1)
        Step distributions of the r steps that happened.
    written : ndarray of shape (r,), int
        Column of the label that was written at each step; L, the empty answer, only as the last one.
    label_mass : float
        Probability of all label tokens together at the first step.
    hidden : ndarray of shape (d,), float32, or None
        Hidden state where the first label is predicted.
    """

    steps: np.ndarray
    written: np.ndarray
    label_mass: float
    hidden: np.ndarray | None


def greedy_answer(
    document: Sequence[int], answers: AnswerSpace, *, max_labels: int, hidden: bool = False
) -> Generator[Ask, list, Answer]:
    """Write a constrained greedy answer and keep the distribution over labels at each step.

    At each step the most probable label that the answer does not hold yet is written; the empty answer's word ends the
    answer. After a label the model itself chooses between "another label" and the end. `document` holds what leads over
    to the answer too; with `hidden` the context's tap is read in the same pass.

    Asks for the document with the first slot's inner branches; then for the label; then, where the model goes on, for
    the separator with the inner branches of the next slot.
    """
    slot, trunk = answers.slot(), "answer"
    tokens = [*document, *slot.lead]
    read = Read(len(tokens) - 1, slot.trie.columns[ROOT], total=True, tap=hidden)
    (first,), *rest = yield Ask((Branch(trunk, tokens, None, (read,)), *slot.trie.inner_branches(trunk)))
    label_mass = float(np.exp(np.logaddexp.reduce(first.logits.astype(float)) - first.total))
    logits = [first.logits, *(row[0].logits for row in rest)]
    rows: list[np.ndarray] = []
    said: list[int] = []
    while True:
        rows.append(slot.trie.probabilities(logits))
        said.append(_best(rows[-1], said))
        if said[-1] == answers.none or len(said) == max_labels:
            break
        another = yield from _write(answers, slot, trunk, said, logits)
        if another is None:
            break
        slot = answers.slot(said[-1])
        trunk, logits = another
    return Answer(np.array(rows), np.array(said), label_mass, first.tapped)


def _best(row, said):
    open_ = np.array(row)
    open_[said] = -1.0
    return int(open_.argmax())


def _write(answers, slot, trunk, said, logits):
    """Write the label chosen last; returns where the next slot begins and its logits, or None at the answer's end.

    The separator waits for the model's choice. Guessing it together with the label saves a call where the answer goes
    on, but costs its tokens and a second row of logits where it ends: slower on small models unless nearly all go on.
    """
    step, label = len(said), said[-1]
    node, tail = slot.trie.deepest(label)
    at = trunk if node == ROOT else (step - 1, node)
    inner = [(step - 1, n) for n in slot.trie.branching[1:]]
    drop = tuple(name for name in [trunk, *inner] if name != at)
    if tail:
        read = Read(len(tail) - 1, np.array(slot.trie.ends[label]))
        ((choice,),) = yield Ask((Branch(at, tail, None, (read,)),), drop)
        (another, end), drop = choice.logits, ()
    else:
        another, end = slot.trie.ends_at(label, node, logits)
    if another <= end:
        return None
    lead, trie = answers.slot(label).lead, answers.slot(label).trie
    root = Branch(at, lead, None, (Read(len(lead) - 1, trie.columns[ROOT]),))
    rows = yield Ask((root, *trie.inner_branches(at, step)), drop)
    return at, [row[0].logits for row in rows]

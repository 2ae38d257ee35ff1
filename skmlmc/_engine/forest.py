"""The forest of token prefixes: who shares which tokens, planned without a model.

A prompt has three storeys: the *prefix* (instruction and demonstrations) in sequence 0, each *document* on top of
it, and the document's *branches*: answers, label spellings, questions. A document is a generator: it yields an
`Ask` (branches to grow and what to read at their tokens), is sent the readings, and returns its result. `Forest`
turns the asks of one or several documents into a `Plan`, arrays that one decode call takes. Nothing is planned
twice: a token is decoded once for all sequences that contain it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .context import N_UBATCH

PREFIX = 0


class Read(NamedTuple):
    """What to read after one token of a branch.

    Parameters
    ----------
    at : int
        Offset of the token in the branch's new tokens.
    columns : ndarray of int
        Vocabulary entries whose logits are wanted.
    total : bool
        Also the log of the sum of exponentials over the whole vocabulary.
    tap : bool
        Also what the context's tap reads there: a hidden state, or attention weights.
    """

    at: int
    columns: np.ndarray
    total: bool = False
    tap: bool = False


class Reading(NamedTuple):
    """What was read: logits of the columns, log-sum-exp of the whole row or None, what the tap read or None."""

    logits: np.ndarray
    total: float | None = None
    tapped: np.ndarray | None = None


class Branch(NamedTuple):
    """Tokens to add to a document.

    Parameters
    ----------
    name : hashable
        A new name makes a new branch that grows out of `parent`; a known one is extended in place. Each name stands
        in an ask at most once.
    tokens : sequence of int
        The new tokens. Without any, a new branch is a fork of its parent.
    parent : hashable, optional
        Branch to grow from: one that exists, or one that stands earlier in the same ask; None: the prompt's prefix.
    reads : tuple of Read
        What to read, at which of the new tokens.
    """

    name: Hashable
    tokens: Sequence[int]
    parent: Hashable | None = None
    reads: tuple[Read, ...] = ()


class Ask(NamedTuple):
    """One step of a document: branches to forget first, then branches to grow."""

    branches: tuple[Branch, ...]
    drop: tuple[Hashable, ...] = ()


@dataclass
class Plan:
    """One decode call: sequences to remove and to fork beforehand, then tokens with positions and owners.

    `forks` are source and destination. `spans` are the first and last + 1 token of each branch, and the sequences that
    own them. `outputs` are tokens of the call and what to read there, in the order in which the asks name them.
    `counts` are each document's numbers of reads, a branch each, to hand the readings back.
    """

    removes: list[int] = field(default_factory=list)
    forks: list[tuple[int, int]] = field(default_factory=list)
    tokens: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    positions: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    spans: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    outputs: list[tuple[int, Read]] = field(default_factory=list)
    counts: list[tuple[Hashable, list[int]]] = field(default_factory=list)

    def hand_back(self, readings):
        """Sort flat `readings` into ``{document: [[reading, ...] of each branch]}``."""
        flat = iter(readings)
        return {doc: [[next(flat) for _ in range(n)] for n in reads] for doc, reads in self.counts}


class Forest:
    """Sequences of one context: number 0 for the prefix of `prefix_length` tokens, the others for documents in work."""

    def __init__(self, prefix_length: int, n_seq: int):
        self.prefix_length, self.n_seq = prefix_length, n_seq
        self._free = list(range(n_seq - 1, PREFIX, -1))
        self._seq: dict[tuple[Hashable, Hashable], int] = {}
        self._length: dict[tuple[Hashable, Hashable], int] = {}

    def plan(self, asks: Mapping[Hashable, Ask]) -> Plan:
        """Plan one decode call that answers what each document asks for; the forest already counts it as done.

        ValueError: an ask names no branch, or one twice, or reads beside a branch's tokens. RuntimeError: there are
        more branches than sequences.
        """
        plan, tokens, positions = Plan(), [], []
        at = 0
        for doc, ask in asks.items():
            _check_ask(ask)
            plan.removes += self._drop(doc, ask.drop)
        for doc, ask in asks.items():
            owners = self._grow(doc, ask.branches, plan)
            for branch, (start, seqs) in zip(ask.branches, owners, strict=True):
                n = len(branch.tokens)
                tokens.append(np.asarray(branch.tokens, np.int32))
                positions.append(np.arange(start, start + n, dtype=np.int32))
                plan.spans.append((at, at + n, seqs))
                plan.outputs += [(at + read.at, read) for read in branch.reads]
                at += n
            plan.counts.append((doc, [len(b.reads) for b in ask.branches]))
        plan.tokens, plan.positions = np.concatenate(tokens), np.concatenate(positions)
        return plan

    def close(self, doc: Hashable) -> list[int]:
        """Forget a document; returns the sequences to empty."""
        return self._drop(doc, [name for d, name in self._seq if d == doc])

    def _drop(self, doc, names):
        seqs = [self._seq.pop((doc, name)) for name in names]
        for name in names:
            del self._length[doc, name]
        self._free = sorted(self._free + seqs, reverse=True)
        return seqs

    def _take(self):
        if not self._free:
            raise RuntimeError(
                f"All {self.n_seq - 1} sequences of the context are in use. Choose a smaller batch_size, or labels of "
                "which fewer begin alike."
            )
        return self._free.pop()

    def _grow(self, doc, branches, plan):
        """Give each branch its sequence; returns its first position and the sequences that own its tokens.

        A sequence owns the tokens of its own branch and of all branches of this ask that it grows out of. Say that
        "joy" is new and gets sequence 1, "ful" grows out of it (sequence 2), and so does "ous" (sequence 3). Both fork
        from sequence 1 before the call, when the tokens of "joy" are not there yet. So these are decoded once for the
        owners 1, 2 and 3, and those of "ful" and "ous" for 2 and for 3 alone. Had "joy" been decoded by an earlier
        ask, the forks would carry it over, and this ask would not name it.
        """
        lines: dict[Hashable, list[int]] = {}  # each branch and those of this ask that it grows out of, by number
        starts: list[int] = []
        for i, branch in enumerate(branches):
            key = (doc, branch.name)
            lines[branch.name] = [i]
            if key not in self._seq:
                parent = None if branch.parent is None else (doc, branch.parent)
                self._seq[key] = self._take()
                self._length[key] = self.prefix_length if parent is None else self._length[parent]
                plan.forks.append((PREFIX if parent is None else self._seq[parent], self._seq[key]))
                lines[branch.name] += lines.get(branch.parent, ())
            starts.append(self._length[key])
            self._length[key] += len(branch.tokens)
        owners: list[list[int]] = [[] for _ in branches]
        for name, line in lines.items():
            for i in line:
                owners[i].append(self._seq[doc, name])
        return [(start, tuple(seqs)) for start, seqs in zip(starts, owners, strict=True)]


def _check_ask(ask):
    # A second mention would need the first one's tokens as ancestors; a read beside the branch's tokens would silently
    # give a neighbour's logits.
    names = [branch.name for branch in ask.branches]
    inside = all(0 <= read.at < len(branch.tokens) for branch in ask.branches for read in branch.reads)
    if not names or len(set(names)) < len(names) or not inside:
        raise ValueError(f"Expected branches, each named once and read at its own tokens, but got {ask!r:.200}.")


def divide(branches: Sequence[Branch], sequences: int) -> list[Ask]:
    """Divide branches among asks, one after another, that have no more of them at one time than `sequences`.

    A branch stays as long as a later one grows from it. Those of the last ask stay, of the others as few as need be.
    What fits is one ask, in the given order. ValueError: a branch and all that it grows from are more than `sequences`.

    Examples
    --------
    Two of "b" to "d" fit beside "a", which they grow from.

    >>> family = [Branch("a", [1]), Branch("b", [2], "a"), Branch("c", [3], "a"), Branch("d", [4], "a")]
    >>> [[branch.name for branch in ask.branches] for ask in divide(family, 3)], divide(family, 3)[1].drop
    ([['a', 'b', 'c'], ['d']], ('b', 'c'))
    """
    if len(branches) <= sequences:
        return [Ask(tuple(branches))]
    ordered = _depth_first(branches)
    left = Counter(branch.parent for branch in ordered)
    asks: list[Ask] = []
    alive: list[Hashable] = []
    new: list[Branch] = []
    drop: tuple[Hashable, ...] = ()
    for branch in ordered:
        if new and len(alive) + len(new) == sequences:
            asks.append(Ask(tuple(new), drop))
            alive += [b.name for b in new]
            drop = tuple(name for name in alive if not left[name])
            alive, new = [name for name in alive if left[name]], []
        if len(alive) + len(new) == sequences:
            raise ValueError(f"Got branches that grow from {sequences} others, but there are {sequences} sequences.")
        new.append(branch)
        left[branch.parent] -= 1
    return [*asks, Ask(tuple(new), drop)]


def _depth_first(branches):
    """Put branches in an order in which all that grows from one stands behind it, before its neighbours."""
    names, children = {branch.name for branch in branches}, defaultdict(list)
    for branch in branches:
        children[branch.parent if branch.parent in names else None].append(branch)
    ordered, waiting = [], children[None][::-1]
    while waiting:
        ordered.append(waiting.pop())
        waiting += children[ordered[-1].name][::-1] if ordered[-1].name is not None else []
    return ordered


def ask_in_turn(asks: Sequence[Ask]) -> Generator[Ask, list, tuple[dict[Hashable, list[Reading]], list[Hashable]]]:
    """Ask one after another; returns the readings of each branch, and the branches that are still there."""
    rows: dict[Hashable, list[Reading]] = {}
    alive: list[Hashable] = []
    for ask in asks:
        names = [branch.name for branch in ask.branches]
        rows.update(zip(names, (yield ask), strict=True))
        alive = [name for name in [*alive, *names] if name not in ask.drop]
    return rows, alive


def most_alive(asks: Sequence[Ask]) -> tuple[int, int]:
    """Return the most branches that asks have at one time, and the most tokens held.

    A dropped branch's tokens are held as long as another one has grown out of it.
    """
    known: dict[Hashable, Branch] = {}
    alive: set[Hashable] = set()
    branches = tokens = 0
    for ask in asks:
        known.update((branch.name, branch) for branch in ask.branches)
        alive = (alive - set(ask.drop)) | {branch.name for branch in ask.branches}
        held, waiting = set(), list(alive)
        while waiting:
            name = waiting.pop()
            if name in known and name not in held:
                held.add(name)
                waiting.append(known[name].parent)
        branches, tokens = max(branches, len(alive)), max(tokens, sum(len(known[name].tokens) for name in held))
    return branches, tokens


def levels(ask: Ask) -> list[Ask]:
    """Split an ask so that no branch stands in one call with its parent.

    Recurrent models keep one state a sequence, so a token there cannot belong to two of them: they take one level
    a call.
    """
    depth: dict[Hashable, int] = {}
    for branch in ask.branches:
        depth[branch.name] = depth[branch.parent] + 1 if branch.parent in depth else 0
    n = max(depth.values()) + 1
    return [Ask(tuple(b for b in ask.branches if depth[b.name] == d), ask.drop if d == 0 else ()) for d in range(n)]


def pack(
    needs: Sequence[int],
    *,
    batch_size: int,
    cells: int,
    per_document: int,
    sequences: int,
    enough: int | None = None,
    firsts: Sequence[int] | None = None,
    call: int = N_UBATCH,
) -> list[list[int]]:
    """Group documents that are decoded together, under the context's budget of cells and sequences.

    Parameters
    ----------
    needs : sequence of int
        Cells that each document may fill, its answer included.
    batch_size : int
        Documents a group at most. With 1 the order is kept; otherwise documents of like length stand together.
    cells : int
        Cells left beside the prefix.
    per_document : int
        Sequences that a document uses at most.
    sequences : int
        Sequences left beside the prefix's.
    enough : int or None
        Cells that fill a decode call. A larger group brings nothing, and attention looks at the cells of all of it.
    firsts : sequence of int or None
        Tokens of each document that the first call takes. A group whose first call has to be divided is slower than
        its documents one by one.
    call : int
        Tokens that are decoded undivided.

    Returns
    -------
    list of list of int
        Indices of each group's documents. A document that alone needs more than `cells` has a group of its own.

    Examples
    --------
    >>> pack([30, 10, 20, 10], batch_size=2, cells=45, per_document=2, sequences=8)
    [[1, 3], [2], [0]]
    """
    order = sorted(range(len(needs)), key=lambda i: (needs[i], i)) if batch_size > 1 else range(len(needs))
    limit = max(1, min(batch_size, sequences // per_document))
    cells = cells if enough is None else min(cells, enough)
    firsts = [0] * len(needs) if firsts is None else firsts
    groups: list[list[int]] = []
    filled = begun = 0
    for i in order:
        if not groups or len(groups[-1]) == limit or filled + needs[i] > cells or begun + firsts[i] > call:
            groups.append([])
            filled = begun = 0
        groups[-1].append(i)
        filled, begun = filled + needs[i], begun + firsts[i]
    return groups

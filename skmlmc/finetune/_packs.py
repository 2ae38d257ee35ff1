"""Documents and their answers packed for training, so that no token is computed twice.

A pack is one sequence that holds the prompt's prefix, some documents behind it, and behind each document its answers:
a tree, as the forest of `skmlmc._engine` is. A mask keeps each branch from the others, and positions are those of the
branch alone, so the model computes what it would of ``prefix document answer`` one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._inference.label_trie import common_prefix

MOST_TOKENS = 1024  # of a pack with several documents: attention grows with the square


class Example(NamedTuple):
    """A document's tokens, and answers to it with weights.

    The weights sum to 1, or are 1 for a preferred answer and -1 for another one; `reference` is then how much more
    probable, in nats, the preferred one was before.
    """

    document: list[int]
    answers: list[tuple[list[int], float]]
    reference: float = 0.0


class Pack(NamedTuple):
    """Tokens (N,) of a pack with their positions, what each may attend to, and what is to be predicted.

    Attributes
    ----------
    tokens, positions : ndarray of shape (N,)
        The sequence.
    mask : ndarray of shape (N, N), bool
        Whether the token of the row attends to the one of the column.
    rows : ndarray of shape (M,)
        Tokens behind which a prediction is read.
    which, wanted, weights, owners : ndarray of shape (K,)
        For each token that is to be predicted its number in `rows`, itself, its weight, and the number of its document.
    references : ndarray of shape (n,)
        Of each document.
    """

    tokens: np.ndarray
    positions: np.ndarray
    mask: np.ndarray
    rows: np.ndarray
    which: np.ndarray
    wanted: np.ndarray
    weights: np.ndarray
    owners: np.ndarray
    references: np.ndarray


def size(example: Example) -> int:
    """Count the tokens that a document and its answers take in a pack."""
    shared = common_prefix([tokens for tokens, _ in example.answers])
    return len(example.document) + shared + sum(len(tokens) - shared for tokens, _ in example.answers)


def divide(examples: Sequence[Example], prefix: int, most: int = MOST_TOKENS) -> list[list[Example]]:
    """Divide examples among packs of at most `most` tokens with a prefix of `prefix` ones, one example at least."""
    parts: list[list[Example]] = []
    room = 0
    for example in examples:
        if not parts or size(example) > room:
            parts.append([])
            room = most - prefix
        parts[-1].append(example)
        room -= size(example)
    return parts


class _Tree:
    """A pack in the making: branches that grow out of others."""

    def __init__(self):
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.ranges: list[list[tuple[int, int]]] = []  # of each branch, where it and those before it stand
        self.wanted: list[tuple[int, int, float, int]] = []  # row, token, weight, owner

    def grow(self, tokens, before=None, start=0, weight=0.0, owner=0):
        """Add a branch behind branch number `before`; with a weight its tokens from `start` on are to be predicted."""
        above = [] if before is None else self.ranges[before]
        at, begin = len(self.tokens), sum(stop - first for first, stop in above)
        last = next((stop - 1 for first, stop in reversed(above) if stop > first), None)
        for k, token in enumerate(tokens):
            row = at + k - 1 if k else last
            if weight and k >= start and row is not None:
                self.wanted.append((row, token, weight, owner))
        self.tokens += tokens
        self.positions += range(begin, begin + len(tokens))
        self.ranges.append([*above, (at, at + len(tokens))])
        return len(self.ranges) - 1

    def pack(self, references):
        mask = np.zeros((len(self.tokens), len(self.tokens)), bool)
        for *above, (start, stop) in self.ranges:
            for first, last in above:
                mask[start:stop, first:last] = True
            mask[start:stop, start:stop] = np.tri(stop - start, dtype=bool)
        rows, wanted, weights, owners = map(np.array, zip(*self.wanted, strict=True))
        unique, which = np.unique(rows, return_inverse=True)
        tokens, positions = np.array(self.tokens), np.array(self.positions)
        numbers = weights.astype(np.float32), owners, np.array(references, np.float32)
        return Pack(tokens, positions, mask, unique, which, wanted, *numbers)


def make_pack(prefix: list[int], examples: Sequence[Example], begins: int) -> Pack:
    """Pack some examples behind a prefix; the first `begins` tokens of answers are not to be predicted.

    What a document's answers begin with alike is written once, with all their weight.
    """
    tree = _Tree()
    root = tree.grow(prefix)
    for owner, (document, answers, _) in enumerate(examples):
        shared = common_prefix([tokens for tokens, _ in answers])
        trunk = tree.grow(document, root)
        stem = tree.grow(answers[0][0][:shared], trunk, begins, sum(weight for _, weight in answers), owner)
        for tokens, weight in answers:
            tree.grow(tokens[shared:], stem, max(0, begins - shared), weight, owner)
    return tree.pack([example.reference for example in examples])

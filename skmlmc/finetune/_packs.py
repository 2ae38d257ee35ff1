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
    """A document's tokens, and answers to it with weights that sum to 1."""

    document: list[int]
    answers: list[tuple[list[int], float]]


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
    which, wanted, weights : ndarray of shape (K,)
        For each token that is to be predicted its number in `rows`, itself, and its weight.
    n : int
        Documents.
    """

    tokens: np.ndarray
    positions: np.ndarray
    mask: np.ndarray
    rows: np.ndarray
    which: np.ndarray
    wanted: np.ndarray
    weights: np.ndarray
    n: int


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
        self.wanted: list[tuple[int, int, float]] = []  # row, token, weight

    def grow(self, tokens, before=None, start=None, weight=0.0):
        """Add a branch behind branch number `before`; its tokens from `start` on are to be predicted."""
        above = [] if before is None else self.ranges[before]
        at, begin = len(self.tokens), sum(stop - first for first, stop in above)
        last = next((stop - 1 for first, stop in reversed(above) if stop > first), None)
        for k, token in enumerate(tokens):
            row = at + k - 1 if k else last
            if start is not None and k >= start and row is not None:
                self.wanted.append((row, token, weight))
        self.tokens += tokens
        self.positions += range(begin, begin + len(tokens))
        self.ranges.append([*above, (at, at + len(tokens))])
        return len(self.ranges) - 1

    def pack(self, n):
        mask = np.zeros((len(self.tokens), len(self.tokens)), bool)
        for *above, (start, stop) in self.ranges:
            for first, last in above:
                mask[start:stop, first:last] = True
            mask[start:stop, start:stop] = np.tri(stop - start, dtype=bool)
        rows, wanted, weights = zip(*self.wanted, strict=True)
        unique, which = np.unique(rows, return_inverse=True)
        tokens, positions = np.array(self.tokens), np.array(self.positions)
        return Pack(tokens, positions, mask, unique, which, np.array(wanted), np.array(weights, np.float32), n)


def make_pack(prefix: list[int], examples: Sequence[Example], begins: int) -> Pack:
    """Pack some examples behind a prefix; the first `begins` tokens of answers are not to be predicted.

    What a document's answers begin with alike is written once, with all their weight.
    """
    tree = _Tree()
    root = tree.grow(prefix)
    for document, answers in examples:
        shared = common_prefix([tokens for tokens, _ in answers])
        trunk = tree.grow(document, root)
        stem = tree.grow(answers[0][0][:shared], trunk, begins, sum(weight for _, weight in answers))
        for tokens, weight in answers:
            tree.grow(tokens[shared:], stem, max(0, begins - shared), weight)
    return tree.pack(len(examples))

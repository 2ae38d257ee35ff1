"""Questions about a document: one decode of its text, then each question adds only the tokens it does not share."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from .._engine.forest import Ask, Branch, ask_in_turn, divide, most_alive
from .label_trie import LabelTrie

TEXT = "text"


@dataclass
class _Node:
    """A run of tokens that one or more questions share; `leaf` is the question that ends with it, if one does."""

    tokens: list[int]
    parent: int
    questions: list[int]
    leaf: int | None = None


def share(paths: Sequence[Sequence[int]]) -> list[_Node]:
    """Arrange token paths, none a prefix of another, as a radix tree: parents first, each token in one node.

    A parent of -1 is the document.

    Examples
    --------
    "1 2" is decoded once for the first two questions, and its 1 for the third one too.

    >>> for node in share([[1, 2, 3], [1, 2, 4, 5], [1, 6], [7]]):
    ...     print(node.tokens, node.parent, node.questions, node.leaf)
    [1] -1 [0, 1, 2] None
    [2] 0 [0, 1] None
    [3] 1 [0] 0
    [4, 5] 1 [1] 1
    [6] 0 [2] 2
    [7] -1 [3] 3
    """
    nodes: list[_Node] = []

    def split(members, depth, parent):
        groups: dict[int, list[int]] = {}
        for q in members:
            if len(paths[q]) == depth:
                raise ValueError(
                    "Two questions have the same tokens, or one begins the other: labels cannot be told apart by their "
                    "tokens in the prompt. Give one of them another wording."
                )
            groups.setdefault(paths[q][depth], []).append(q)
        for group in groups.values():
            stop = depth + 1
            while all(len(paths[q]) > stop for q in group) and len({paths[q][stop] for q in group}) == 1:
                stop += 1
            nodes.append(_Node(list(paths[group[0]][depth:stop]), parent, group))
            if len(group) == 1:
                nodes[-1].leaf = group[0]
                nodes[-1].tokens += paths[group[0]][stop:]
            else:
                split(group, stop, len(nodes) - 1)

    split(range(len(paths)), 0, -1)
    return nodes


class Questionnaire:
    """All questions of one prompt, planned once for every document.

    `questions` are the tokens of each up to where its answer begins, `tries` the two answer words at its end. The
    `common` tokens of all questions follow the document; `asks` are what is decoded beside it, one call after another;
    `cells` and `sequences` are what a document takes at most at one time.
    """

    def __init__(self, questions: list[list[int]], tries: list[LabelTrie], sequences: int):
        self._tries = tries
        nodes = share(questions)
        while len(nodes) > 1 and sum(n.parent == -1 for n in nodes) == 1 and nodes[0].leaf is None:
            nodes = [_Node(n.tokens, n.parent - 1, n.questions, n.leaf) for n in nodes[1:]]
        shared = len(questions[0]) - len(_path(nodes, next(i for i, n in enumerate(nodes) if n.leaf == 0)))
        self.common = list(questions[0][:shared])
        self._nodes = nodes
        self.asks = divide([branch for i in range(len(nodes)) for branch in self._branches(i)], sequences - 1)
        most, self.cells = most_alive(self.asks)
        self.sequences = 1 + most

    def _branches(self, i):
        """Branch of a node and, at a question's end, those of its answer words."""
        node = self._nodes[i]
        parent = TEXT if node.parent == -1 else node.parent
        if node.leaf is None:
            return (Branch(i, node.tokens, parent),)
        trie = self._tries[node.leaf]
        read = trie.root_read(len(node.tokens) - 1)
        return (Branch(i, node.tokens, parent, (read,)), *trie.branches(i, step=("answer", i)))

    def answer(self, text: Sequence[int]) -> Generator[Ask, list, np.ndarray]:
        """Ask a document, given in tokens, all questions; returns the probability of each one's first answer word.

        Asks for the document with as many questions as the budget allows, then for the others.
        """
        first, *others = self.asks
        trunk = Branch(TEXT, [*text, *self.common], None)
        rows, _ = yield from ask_in_turn([first._replace(branches=(trunk, *first.branches)), *others])
        probabilities = np.empty(len(self._tries))
        for i, node in enumerate(self._nodes):
            if node.leaf is not None:
                trie = self._tries[node.leaf]
                places = trie.in_order(rows[i][0], {n: rows[("answer", i), n] for n in trie.runs})
                probabilities[node.leaf] = trie.probabilities(places)[0]
        return probabilities


def _path(nodes, i):
    tokens: list[int] = []
    while i != -1:
        tokens = nodes[i].tokens + tokens
        i = nodes[i].parent
    return tokens

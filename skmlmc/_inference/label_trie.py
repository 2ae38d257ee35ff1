"""How answers are spelled in tokens: the trie of labels at each slot of an answer, and exact label probabilities.

An answer is written in slots: ``opening label (separator label)* end``. Which tokens a label has depends on what stands
before it, so each slot is found by tokenising whole answers and comparing them; labels are never tokenised alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .._engine.forest import Branch, Read

ROOT = 0


def common_prefix(sequences: Sequence[list[int]]) -> int:
    """Length of the longest common prefix.

    Examples
    --------
    >>> common_prefix([[1, 2, 3], [1, 2, 4], [1, 2]])
    2
    """
    shortest, longest = min(sequences), max(sequences)
    for i, (a, b) in enumerate(zip(shortest, longest, strict=False)):
        if a != b:
            return i
    return min(len(shortest), len(longest))


@dataclass(frozen=True)
class Choice:
    """What may come next at a branching node: the first tokens of it, and the node they lead to.

    Where a label ends there is no further node; `child` is then ``~label``, a negative number.
    """

    tokens: tuple[int, ...]
    child: int


class LabelTrie:
    """Token trie of the labels' spellings at one slot.

    `paths` are the tokens of each label as the prompt spells it, the empty answer's word last; a path may be empty, a
    prefix of another one, or even the same if other tokens follow. `ends` are for each label the tokens that follow it
    when another label comes and when the answer ends. `variants` are the first tokens of its other spellings ("Joy",
    " joy"); those that begin another label too are left out. ValueError: tokens cannot tell two labels apart.

    At each branching node the model chooses among the children that continue some label; where a label ends, the
    separator and the end of the answer are together one more child. A label's probability is the product along its
    path. Other spellings count by their first token alone, and a label's score is the highest of its spellings'
    (section 3 of the paper); where all first tokens differ, this is the paper's softmax over label tokens.
    """

    def __init__(self, paths, ends, variants):
        self.paths, self.ends = [list(p) for p in paths], list(ends)
        self._children: list[dict[int, int]] = [{}]
        self._parents: list[tuple[int, int]] = [(-1, -1)]
        self.nodes = [self._insert(path) for path in self.paths]
        self._ending: dict[int, list[int]] = {}
        for label, node in enumerate(self.nodes):
            self._ending.setdefault(node, []).append(label)
        self.branching = [n for n in range(len(self._children)) if n == ROOT or self._width(n) > 1]
        self.choices = {n: self._choices(n) for n in self.branching}
        first = {t for c in self.choices[ROOT] for t in c.tokens}
        spelled = [t for v in variants for t in set(v)]
        self.variants = [[t for t in sorted(set(v)) if t not in first and spelled.count(t) == 1] for v in variants]
        self.columns = {n: np.array([t for c in self.choices[n] for t in c.tokens]) for n in self.branching}
        self.columns[ROOT] = np.concatenate([self.columns[ROOT], *self.variants]).astype(int)
        self._prepare_scores()

    def _insert(self, path):
        node = ROOT
        for token in path:
            if token not in self._children[node]:
                self._children[node][token] = len(self._children)
                self._children.append({})
                self._parents.append((node, token))
            node = self._children[node][token]
        return node

    def _width(self, node):
        return len(self._children[node]) + len(self._ending.get(node, ()))

    def _choices(self, node):
        choices = [Choice((token,), child) for token, child in self._children[node].items()]
        choices += [Choice(tuple(sorted(set(self.ends[k]))), ~k) for k in self._ending.get(node, ())]
        taken: dict[int, Choice] = {}
        for choice in choices:
            for token in choice.tokens:
                if token in taken:
                    a, b = sorted(self._a_label(c) for c in (taken[token], choice))
                    raise ValueError(
                        f"Labels number {a} and {b} cannot be told apart by their tokens in the prompt. Give one of "
                        "them another wording, or choose another answer_format."
                    )
                taken[token] = choice
        return choices

    def _a_label(self, choice):
        if choice.child < 0:
            return ~choice.child
        begun = self.path_to(choice.child)
        return next(k for k, path in enumerate(self.paths) if path[: len(begun)] == begun)

    def _prepare_scores(self):
        """Give each choice of each branching node a number, and list the choices along each label's path.

        Say that joy is token 5, joyful is 5 6 and none is 7, and that a label is followed by 1 (another one comes) or
        by 2 (the answer ends). Two nodes branch. At the root: choice 0 is token 5, choice 1 is token 7. Behind 5:
        choice 2 is token 6, choice 3 is the end of joy, tokens 1 and 2. So the columns of the second node are
        ``[6, 1, 2]`` with slices that begin at 0 and 1, and the steps are ``[0, 3]`` for joy, ``[0, 2]`` for joyful
        and ``[1]`` for none. `probabilities` makes a vector of one value a choice, and a label's score is the sum of
        its steps: for joy the logit of 5, and the log-probability of 1 or 2 among 1, 2 and 6.
        """
        at, number = 0, {}
        self._slices: list[tuple[np.ndarray, int]] = []  # first column of each choice, and the end of the last
        for n in self.branching:
            stops = np.cumsum([len(c.tokens) for c in self.choices[n]])
            self._slices.append((np.concatenate([[0], stops[:-1]]), int(stops[-1])))
            for c in self.choices[n]:
                number[n, c.child] = at
                at += 1
        self.steps = [self._choice_numbers(label, number) for label in range(len(self.paths))]
        self._variant_labels = np.repeat(np.arange(len(self.paths)), [len(v) for v in self.variants])

    def _choice_numbers(self, label, number):
        numbers, node, child = [], self.nodes[label], ~label
        while node != -1:
            if (node, child) in number:
                numbers.append(number[node, child])
            child, node = node, self._parents[node][0]
        return numbers[::-1]

    def path_to(self, node):
        """Tokens from the root to a node."""
        tokens = []
        while node != ROOT:
            node, token = self._parents[node]
            tokens.append(token)
        return tokens[::-1]

    def inner_branches(self, parent, step=0) -> tuple[Branch, ...]:
        """Return branches named ``(step, n)`` that read every branching node below the root, each token once.

        They stand in the order of ``branching[1:]``; `parent` is the branch at whose end the slot begins.
        """
        made = []
        for n in self.branching[1:]:
            path, up = self.path_to(n), n
            while up != ROOT:
                up = self._parents[up][0]
                if up in self.branching:
                    break
            tokens = path[len(self.path_to(up)) :]
            source = parent if up == ROOT else (step, up)
            made.append(Branch((step, n), tokens, source, (Read(len(tokens) - 1, self.columns[n]),)))
        return tuple(made)

    def deepest(self, label):
        """Return the deepest branching node on a label's path, and the tokens of the path that come after it."""
        node = self.nodes[label]
        while node not in self.choices:
            node = self._parents[node][0]
        return node, self.paths[label][len(self.path_to(node)) :]

    def ends_at(self, label, node, logits) -> list[float]:
        """Logits of another label coming, and of the answer's end, where a label ends at a node that was read already.

        The node is the one that `deepest` gives, the logits are those of `probabilities`.
        """
        row = dict(zip(self.columns[node], logits[self.branching.index(node)], strict=True))
        return [row[token] for token in self.ends[label]]

    def probabilities(self, logits) -> np.ndarray:
        """Exact probabilities of the labels at this slot, the empty answer's word last.

        Tokens of one choice are added, choices along a label's path multiplied; of several spellings the highest
        counts. `logits` are for each node of ``branching`` those of ``columns[node]``.
        """
        # numpy's own reductions: scipy's checks would take longer than the arithmetic, at each step of each document.
        rows = [np.asarray(row, float) for row in logits]
        parts = [
            np.logaddexp.reduceat(row[:stop], starts) for (starts, stop), row in zip(self._slices, rows, strict=True)
        ]
        values = np.concatenate([parts[0], *(p - np.logaddexp.reduce(p) for p in parts[1:])])
        scores = np.array([values[s].sum() for s in self.steps])
        np.maximum.at(scores, self._variant_labels, rows[0][self._slices[0][1] :])
        odds = np.exp(scores - scores.max())
        return odds / odds.sum()


@dataclass(frozen=True)
class Slot:
    """One slot: the tokens between what stands before (the prompt or a label) and the label, and its trie of labels."""

    lead: list[int]
    trie: LabelTrie


class AnswerSpace:
    """All answers that a label set allows, in tokens.

    `tokenize` gives the tokens of a whole answer (a list of wordings), with what follows it. The last of the `words` is
    the empty answer's.
    """

    def __init__(self, tokenize: Callable[[list[str]], list[int]], words: Sequence[str]):
        self._tokenize, self.words = tokenize, list(words)
        self.none = len(self.words) - 1
        self._slots: dict[int | None, Slot] = {}

    def slot(self, previous: int | None = None) -> Slot:
        """Return the slot after label number `previous`, or the first slot; found once, then kept."""
        if previous not in self._slots:
            self._slots[previous] = self._find_slot([] if previous is None else [self.words[previous]])
        return self._slots[previous]

    def _find_slot(self, before):
        """Compare whole answers: where a word's tokens begin and end, and which tokens may follow it.

        Say that the word behind joy is anger. ``["joy", "anger"]`` and ``["joy", "anger", "none"]`` differ first at
        ``"]`` and ``",``: there the word ends, with these two tokens as its `ends`. What the answers of all words share
        beyond ``["joy`` leads to the slot, and what is left up to the end is the word's path.
        """
        answers, boundaries, ends = [], [], []
        for word in self.words:
            probe = self.words[self.none] if word != self.words[self.none] else self.words[0]
            alone, followed = self._tokenize([*before, word]), self._tokenize([*before, word, probe])
            cut = common_prefix([alone, followed])
            if cut == min(len(alone), len(followed)):
                raise ValueError(
                    "Nothing in the prompt ends an answer. Expected a line break or other text after the answer: write "
                    "it behind {answer} in the demonstration."
                )
            answers.append(alone)
            boundaries.append(cut)
            ends.append((followed[cut], alone[cut]))
        start = min(common_prefix(answers), *boundaries)
        stem = common_prefix([self._tokenize(before), answers[0], answers[-1]]) if before else 0
        if before and start == stem:
            raise ValueError(
                "This model's tokenizer joins the separator of the answer format with the label after it. Expected "
                "them to be tokens of their own: choose the other answer_format."
            )
        paths = [a[start:cut] for a, cut in zip(answers, boundaries, strict=True)]
        variants = [self._variant_tokens(before, word, answers[i], start) for i, word in enumerate(self.words)]
        return Slot(answers[0][stem:start], LabelTrie(paths, ends, variants))

    def _variant_tokens(self, before, word, canonical, start):
        """First tokens of other spellings of a word that leave the tokens before it alone.

        A spelling that takes more tokens than the prompt's own begins with a mere letter or space, which says little.
        """
        found = []
        cases = {word, word.lower(), word[:1].upper() + word[1:]}
        for spelling in (cases | {" " + case for case in cases}) - {word}:
            tokens = self._tokenize([*before, spelling])
            if tokens[:start] == canonical[:start] and start < len(tokens) <= len(canonical):
                found.append(tokens[start])
        return sorted(found)

    def _reachable(self, max_labels):
        return [self.slot(previous) for previous in (None, *(range(self.none) if max_labels > 1 else ()))]

    def sequences(self, max_labels: int) -> int:
        """Sequences that an answer of `max_labels` labels uses at most: its trunk and the inner branches of a slot."""
        return max(len(slot.trie.branching) for slot in self._reachable(max_labels))

    def longest(self, max_labels: int) -> int:
        """Cells that the longest answer of `max_labels` labels fills, with the inner branches of its last slot."""
        slots = self._reachable(max_labels)
        inner = max(sum(len(b.tokens) for b in slot.trie.inner_branches(None)) for slot in slots)
        # Each label but the last is written, with the separator after it; no label comes twice.
        written = [
            max(len(slot.trie.paths[k]) for slot in slots) + len(later.lead) for k, later in enumerate(slots[1:])
        ]
        return len(slots[0].lead) + inner + sum(sorted(written)[::-1][: max_labels - 1])

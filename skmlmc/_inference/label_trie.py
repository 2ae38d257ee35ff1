"""How answers are spelled in tokens: the trie of labels at each slot of an answer, and label probabilities.

An answer is written in slots: ``opening label (separator label)* end``. Which tokens a label has depends on what stands
before it, so each slot is found by tokenising whole answers and comparing them; labels are never tokenised alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .._engine.forest import Branch, Read, Reading, divide, most_alive

ROOT = 0
LONGEST_END = 16  # characters of what follows a label among whose beginnings tokens are looked for


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


class Ends(NamedTuple):
    """Tokens that may follow a label: when another one comes, and when the answer ends; the prompt's own first."""

    another: tuple[int, ...]
    end: tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """What may come next at a node: the first tokens of it, and the node they lead to.

    Where a label ends there is no further node; `child` is then ``~label``, a negative number.
    """

    tokens: tuple[int, ...]
    child: int


class LabelTrie:
    """Token trie of the labels' spellings at one slot.

    `paths` are the tokens of each label as the prompt spells it, the empty answer's word last; a path may be empty, a
    prefix of another one, or even the same if other tokens follow. `ends` are the `Ends` of each label. `variants` are
    the first tokens of its other spellings ("Joy", " joy"); those that begin another label too are left out.
    ValueError: tokens cannot tell two labels apart.

    Logits are read at `places`. Without `whole` these are the nodes where labels part: there the model chooses among
    the children that continue some label; where a label ends, what may follow it is together one more child. A label's
    probability is the product along its path, so its tokens behind the last parting count as certain. Other spellings
    count by their first token alone, and a label's score is the highest of its spellings' (section 3 of the paper);
    where all first tokens differ, this is the paper's softmax over label tokens.

    With `whole` every node is a place, and a label's score is the probability that the model writes all its tokens as
    the prompt spells them, and then a token that may follow; over all labels they are made to sum to 1. Another
    spelling is taken to go on as the prompt's own does behind its first token.
    """

    def __init__(self, paths, ends, variants, whole: bool = False):
        self.paths, self.whole = [list(p) for p in paths], whole
        self.ends = [Ends(tuple(another), tuple(end)) for another, end in ends]
        self._children: list[dict[int, int]] = [{}]
        self._parents: list[tuple[int, int]] = [(-1, -1)]
        self.nodes = [self._insert(path) for path in self.paths]
        self._ending: dict[int, list[int]] = {}
        for label, node in enumerate(self.nodes):
            self._ending.setdefault(node, []).append(label)
        self.places = [n for n in range(len(self._children)) if n == ROOT or self._width(n) > (0 if whole else 1)]
        self.choices = {n: self._choices(n) for n in self.places}
        self.variants = self._own_variants(variants)
        self.columns = {n: np.array([t for c in self.choices[n] for t in c.tokens]) for n in self.places}
        self.columns[ROOT] = np.concatenate([self.columns[ROOT], *self.variants]).astype(int)
        self._prepare_scores()
        self.runs = self._find_runs()

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
        """List what may come next at a node; of the tokens that may follow a label those that mean nothing else."""
        choices = [Choice((token,), child) for token, child in self._children[node].items()]
        ending = self._ending.get(node, [])
        choices += [Choice((self.ends[k].another[0], self.ends[k].end[0]), ~k) for k in ending]
        taken: dict[int, Choice] = {}
        for choice in choices:
            for token in choice.tokens:
                if taken.setdefault(token, choice) is not choice:
                    a, b = sorted(self._a_label(c) for c in (taken[token], choice))
                    raise ValueError(
                        f"Labels number {a} and {b} cannot be told apart by their tokens in the prompt. Give one of "
                        "them another wording, or choose another answer_format."
                    )
        more = [t for k in ending for t in {*self.ends[k].another[1:], *self.ends[k].end[1:]}]
        refused = {*taken, *(t for t in more if more.count(t) > 1)}
        for k in ending:
            self.ends[k] = Ends(*((first, *(t for t in rest if t not in refused)) for first, *rest in self.ends[k]))
        inner = choices[: len(choices) - len(ending)]
        return [*inner, *(Choice(tuple(sorted({*self.ends[k].another, *self.ends[k].end})), ~k) for k in ending)]

    def _a_label(self, choice):
        if choice.child < 0:
            return ~choice.child
        begun = self.path_to(choice.child)
        return next(k for k, path in enumerate(self.paths) if path[: len(begun)] == begun)

    def _own_variants(self, variants):
        first = {t for c in self.choices[ROOT] for t in c.tokens}
        spelled = [t for v in variants for t in set(v)]
        return [[t for t in sorted(set(v)) if t not in first and spelled.count(t) == 1] for v in variants]

    def _prepare_scores(self):
        """Give each choice of each place a number, and list the choices along each label's path.

        Say that joy is token 5, joyful is 5 6 and none is 7, and that a label is followed by 1 (another one comes) or
        by 2 (the answer ends). Labels part at two nodes. At the root: choice 0 is token 5, choice 1 is token 7. Behind
        5: choice 2 is token 6, choice 3 is the end of joy, tokens 1 and 2. So the columns of the second node are
        ``[6, 1, 2]`` with slices that begin at 0 and 1, and the steps are ``[0, 3]`` for joy, ``[0, 2]`` for joyful
        and ``[1]`` for none. `scores` makes a vector of one value a choice, and a label's score is the sum of its
        steps: for joy the logit of 5, and the log-probability of 1 or 2 among 1, 2 and 6.
        """
        at, number = 0, {}
        self._slices: list[tuple[np.ndarray, int]] = []  # first column of each choice, and the end of the last
        for n in self.places:
            stops = np.cumsum([len(c.tokens) for c in self.choices[n]])
            self._slices.append((np.concatenate([[0], stops[:-1]]), int(stops[-1])))
            for c in self.choices[n]:
                number[n, c.child] = at
                at += 1
        self.steps = [self._choice_numbers(label, number) for label in range(len(self.paths))]
        self._variant_labels = np.repeat(np.arange(len(self.variants)), [len(v) for v in self.variants])
        self._place = {n: i for i, n in enumerate(self.places)}

    def _choice_numbers(self, label, number):
        numbers, node, child = [], self.nodes[label], ~label
        while node != -1:
            if (node, child) in number:
                numbers.append(number[node, child])
            child, node = node, self._parents[node][0]
        return numbers[::-1]

    def _find_runs(self):
        """List the nodes at which branches of the trie end, with the places along each: ``{node: (start, places)}``.

        A branch runs from the end of another one, `start`, to the next node where labels part or a label ends. Say that
        joy is ``j oy``, joyful ``j oy ful`` and none ``none``, each letter group a token. Read whole, there are three:
        ``j oy``, ``ful`` behind it, and ``none``; else one, ``j oy``.
        """
        needed = set(self.places) - {ROOT}
        for n in range(len(self._children) - 1, ROOT, -1):  # a parent has a smaller number than its children
            if n in needed:
                needed.add(self._parents[n][0])
        runs: dict[int, tuple[int, list[int]]] = {}
        begun: dict[int, tuple[int, list[int]]] = {ROOT: (ROOT, [])}
        for n in sorted(needed - {ROOT}):
            start, before = begun[self._parents[n][0]]
            places = [*before, n] if n in self._place else before
            if self._width(n) > 1 or n in self._ending:
                runs[n] = (start, places)
                begun[n] = (n, [])
            else:
                begun[n] = (start, places)
        return runs

    def path_to(self, node):
        """Tokens from the root to a node."""
        tokens = []
        while node != ROOT:
            node, token = self._parents[node]
            tokens.append(token)
        return tokens[::-1]

    def branches(self, parent, step=0) -> tuple[Branch, ...]:
        """Return branches named ``(step, n)`` that read every place below the root, each token once.

        They stand in the order of ``runs``; `parent` is the branch at whose end the slot begins.
        """
        made = []
        for n, (start, places) in self.runs.items():
            begin = len(self.path_to(start))
            reads = tuple(Read(len(self.path_to(p)) - begin - 1, self.columns[p], self.whole) for p in places)
            source = parent if start == ROOT else (step, start)
            made.append(Branch((step, n), self.path_to(n)[begin:], source, reads))
        return tuple(made)

    def root_read(self, at, **more) -> Read:
        """Return what is read at the root, token `at` of a branch."""
        return Read(at, self.columns[ROOT], **{"total": self.whole, **more})

    def in_order(self, first: Reading, rows: dict) -> list[Reading]:
        """Return the readings of all places, the root's and those of branches by number, as `scores` wants them."""
        by_place = {ROOT: first}
        for n, (_, places) in self.runs.items():
            by_place.update(zip(places, rows[n], strict=True))
        return [by_place[n] for n in self.places]

    def grows_from(self, label):
        """Return the end of the last branch on a label's path, or the root, and the tokens of the path behind it."""
        node = self.nodes[label]
        while node != ROOT and node not in self.runs:
            node = self._parents[node][0]
        return node, self.paths[label][len(self.path_to(node)) :]

    def ends_read(self, label, at) -> Read:
        """Return what tells, at token `at` of a branch that ends with a label, whether another one follows."""
        return Read(at, np.array([*self.ends[label].another, *self.ends[label].end]))

    def goes_on(self, label, logits) -> float:
        """Return the logarithm of the odds that another label comes, of the logits that `ends_read` asks for."""
        n = len(self.ends[label].another)
        return float(np.logaddexp.reduce(logits[:n]) - np.logaddexp.reduce(logits[n:]))

    def known_ends(self, label, readings):
        """Return the logits that `ends_read` would ask for where they were read along with the slot, else None."""
        place = self._place.get(self.nodes[label])
        if place is None:
            return None
        row = dict(zip(self.columns[self.nodes[label]], readings[place].logits, strict=True))
        return np.array([row[t] for t in (*self.ends[label].another, *self.ends[label].end)], float)

    def scores(self, readings: Sequence[Reading]) -> np.ndarray:
        """Logarithms of the labels' probabilities at this slot, the empty answer's word last, but for a constant.

        `readings` are those of ``places``. Tokens of one choice are added, choices along a label's path multiplied; of
        several spellings the highest counts. With `whole` the constant is 0.
        """
        # numpy's own reductions: scipy's checks would take longer than the arithmetic, at each step of each document.
        rows = [np.asarray(reading.logits, float) for reading in readings]
        parts = [
            np.logaddexp.reduceat(row[:stop], starts) for (starts, stop), row in zip(self._slices, rows, strict=True)
        ]
        others = rows[0][self._slices[0][1] :]
        if self.whole:
            values = np.concatenate([p - r.total for p, r in zip(parts, readings, strict=True)])
            behind = np.array([values[s[1:]].sum() for s in self.steps])
            others = others - readings[0].total + behind[self._variant_labels]
        else:
            values = np.concatenate([parts[0], *(p - np.logaddexp.reduce(p) for p in parts[1:])])
        scores = np.array([values[s].sum() for s in self.steps])
        np.maximum.at(scores, self._variant_labels, others)
        return scores

    def probabilities(self, readings: Sequence[Reading]) -> np.ndarray:
        """Probabilities of the labels at this slot, the empty answer's word last; `readings` as for `scores`."""
        scores = self.scores(readings)
        odds = np.exp(scores - scores.max())
        return odds / odds.sum()

    def mass(self, readings: Sequence[Reading]) -> float:
        """Probability of all labels together: of their first tokens, or with `whole` of all they are made of."""
        row = self.scores(readings) if self.whole else readings[0].logits.astype(float) - readings[0].total
        return float(np.exp(np.logaddexp.reduce(row)))


@dataclass(frozen=True)
class Slot:
    """One slot: the tokens between what stands before (the prompt or a label) and the label, and its trie of labels."""

    lead: list[int]
    trie: LabelTrie


@dataclass(frozen=True)
class Spelling:
    """How answers become tokens.

    `tokenize` gives the tokens of a whole answer (a list of wordings) and of what the prompt has behind it, of which
    the last `n_behind` stand behind a control token; `continued` those of a text that continues another one. `text_of`
    is the text of tokens, `following` the text from the last wording on, such as ``anger"]}`` with a line break, and
    `begun` what stands before the answer and is tokenised with it.
    """

    tokenize: Callable[[list[str]], list[int]]
    continued: Callable[[str], list[int]]
    text_of: Callable[[Sequence[int]], str]
    following: Callable[[str], str]
    n_behind: int = 0
    begun: str = ""


class AnswerSpace:
    """All answers that a label set allows, in tokens; the last of the `words` is the empty answer's.

    `whole` is as for `LabelTrie`.
    """

    def __init__(self, spelling: Spelling, words: Sequence[str], whole: bool = False):
        self._spelling, self.words, self._whole = spelling, list(words), whole
        self.none = len(self.words) - 1
        self._slots: dict[int | None, Slot] = {}
        self._tokens: dict[tuple[str, ...], list[int]] = {}
        self._single: dict[str, list[int]] = {}

    def slot(self, previous: int | None = None) -> Slot:
        """Return the slot after label number `previous`, or the first slot; found once, then kept."""
        if previous not in self._slots:
            before = [] if previous is None else [self.words[previous]]
            self._slots[previous] = (self._share_slot(before) if previous else None) or self._find_slot(before)
        return self._slots[previous]

    def tokens(self, words: Sequence[str]) -> list[int]:
        """Return the tokens of a whole answer, with what stands before and behind it and is tokenised with it."""
        return list(self._tokenize(words))

    def _tokenize(self, words):
        key = tuple(words)
        if key not in self._tokens:
            self._tokens[key] = self._spelling.tokenize(list(words))
        return self._tokens[key]

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
            ends.append(self._find_ends(alone[cut:], followed[cut:], probe))
        start = min(common_prefix(answers), *boundaries)
        stem = self._stem(before)
        if before and start == stem:
            raise ValueError(
                "This model's tokenizer joins the separator of the answer format with the label after it. Expected "
                "them to be tokens of their own: choose the other answer_format."
            )
        paths = [a[start:cut] for a, cut in zip(answers, boundaries, strict=True)]
        variants = [self._variant_tokens(before, k, answers[k], start) for k in range(len(paths))]
        return Slot(answers[0][stem:start], LabelTrie(paths, ends, variants, self._whole))

    def _stem(self, before):
        """Count the tokens of an answer up to where its one label ends, whatever comes next."""
        some = [self._tokenize([*before, word]) for word in (self.words[0], self.words[-1])]
        return common_prefix([self._tokenize(before), *some]) if before else 0

    def _share_slot(self, before):
        """Return the slot after a label with the first label's trie, where both have the same tokens; else None.

        A tokenizer that parts the separator from the word behind it does so whatever came before. Three words are
        tried; each must have, to the end, the tokens that it has behind the first label, and the same token before.
        """
        try:
            model = self.slot(0)
        except ValueError:
            return None
        first, heads = [self.words[0]], []
        at = self._stem(first) + len(model.lead)
        for k in dict.fromkeys((0, self.none // 2, self.none)):
            rest, tokens = self._tokenize([*first, self.words[k]])[at:], self._tokenize([*before, self.words[k]])
            if not rest or tokens[-len(rest) :] != rest:
                return None
            heads.append(tokens[: -len(rest)])
        stem = self._stem(before)
        if any(head != heads[0] for head in heads) or len(heads[0]) <= stem or heads[0][-1] != model.lead[-1]:
            return None
        return Slot(heads[0][stem:], model.trie)

    def _find_ends(self, alone, followed, probe) -> Ends:
        """Return the tokens that may follow a label, of what the prompt has there without and with another label.

        These are the prompt's own, and all others whose text is a beginning of the separator, or of the end, but not of
        both: in ``["joy", "anger"]`` the prompt's ``",`` follows joy, and a model may write ``", `` instead.
        """
        n = self._spelling.n_behind
        end = self._spelling.text_of(alone[: len(alone) - n])
        another = self._spelling.text_of(followed[: len(followed) - n])
        another = another[: max(0, len(another) - len(self._spelling.following(probe)))]
        both = [self._beginnings(text) for text in (another, end)]
        own = (followed[0], alone[0])
        more = ([t for t in mine if t not in other and t not in own] for mine, other in (both, both[::-1]))
        return Ends(*((first, *rest) for first, rest in zip(own, more, strict=True)))

    def _beginnings(self, text):
        """List the tokens whose text is a beginning of `text`."""
        found = []
        for stop in range(1, min(len(text), LONGEST_END) + 1):
            part = text[:stop]
            if part not in self._single:
                self._single[part] = self._spelling.continued(part)
            found += self._single[part] if len(self._single[part]) == 1 else []
        return found

    def _variant_tokens(self, before, number, canonical, start):
        """First tokens of other spellings of a word that leave the tokens before it alone.

        A spelling that takes more tokens than the prompt's own begins with a mere letter or space, which says little.
        """
        found, word = [], self.words[number]
        cases = {word, word.lower(), word[:1].upper() + word[1:]}
        for spelling in (cases | {" " + case for case in cases}) - {word}:
            tokens = self._spelling.tokenize([*before, spelling])
            if tokens[:start] == canonical[:start] and start < len(tokens) <= len(canonical):
                found.append(tokens[start])
        return sorted(found)

    def begins_at(self) -> int:
        """Return how many tokens of the first slot's lead stand before the answer itself."""
        lead, begun = self.slot().lead, len(self._spelling.begun)
        return next((k for k in range(len(lead)) if len(self._spelling.text_of(lead[: k + 1])) > begun), len(lead))

    def _tries(self, max_labels):
        slots = [self.slot(previous) for previous in (None, *(range(self.none) if max_labels > 1 else ()))]
        return slots, list({id(slot.trie): slot.trie for slot in slots}.values())

    def sequences(self, max_labels: int, budget: int) -> int:
        """Sequences that an answer of `max_labels` labels uses at most: its trunk and the branches read at one time."""
        return 1 + max(most_alive(divide(trie.branches(None), budget))[0] for trie in self._tries(max_labels)[1])

    def longest(self, max_labels: int, budget: int) -> int:
        """Cells that the longest answer of `max_labels` labels fills, with the branches of its last slot."""
        slots, tries = self._tries(max_labels)
        inner = max(most_alive(divide(trie.branches(None), budget))[1] for trie in tries)
        # Each label but the last is written, with the separator after it; no label comes twice.
        written = [max(len(trie.paths[k]) for trie in tries) + len(later.lead) for k, later in enumerate(slots[1:])]
        return len(slots[0].lead) + inner + sum(sorted(written)[::-1][: max_labels - 1])

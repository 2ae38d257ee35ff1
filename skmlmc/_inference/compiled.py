"""Prompts compiled for one model's vocabulary: from texts to tokens, as the whole prompt would be tokenised at once.

A tokenizer joins what stands side by side: ``.`` and a line break behind it are often one token. So a prompt is divided
at its control tokens alone, and what stands between two of them is tokenised as one text, whoever wrote its parts. Of
such a text only the end depends on the document, so it is cut once more, at the last place where no token can reach
over; what stands before is decoded once, and kept.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..prompts._layouts import Layout, Segment
from ..prompts._templates import ANSWER_FORMATS, check_words, render_answer
from .label_trie import AnswerSpace, Spelling

# How texts may begin and end, as far as tokenizers care.
PROBES = ("a", "The", " a", "1", ".", "\n", "é", "中", "🙂", "'s", '"', "(", "-", "  b", "</s>", "_", "https://")
ENDS = ("a", "word", ".", "!!!", "?\n", '"', "1", " ", "\n", "é", "。", "🙂", ")", ":", "-", "…", "'")
NEAR = 200  # characters before a cut that may decide about it
_BORDER = re.compile(r"(?<=\s)(?=\S)|(?<=\S)(?=\s)|(?<=[^\w\s])(?=\w)")


def fragments(vocabulary: Any, segments: Sequence[Segment]) -> list[Any]:
    r"""Divide a prompt at its control tokens.

    Between two of them stands a text, which may be empty, and a text comes first and last.

    Examples
    --------
    ``[("<|im_start|>user\n", True), ("Hi <|im_end|>", False), ("<|im_end|>\n", True)]`` gives
    ``["", 1, "user\nHi <|im_end|>", 2, "\n"]``.
    """
    parts: list[Any] = [""]
    for text, special in segments:
        for piece in vocabulary.split_at_controls(text) if special else [text]:
            if isinstance(piece, str):
                parts[-1] += piece
            else:
                parts += [piece, ""]
    for k in range(1, len(parts), 2):  # some control tokens swallow the spaces beside them
        left, right = vocabulary.swallows(parts[k])
        parts[k - 1] = parts[k - 1].rstrip() if left else parts[k - 1]
        parts[k + 1] = parts[k + 1].lstrip() if right else parts[k + 1]
    return parts


class Encoder:
    """Tokenise texts that begin behind a control token, and texts that continue others.

    The vocabulary is not kept alive: prompts that are kept for a model must not keep it in their turn.
    """

    def __init__(self, vocabulary: Any):
        self.vocabulary = weakref.proxy(vocabulary)

    def __call__(self, text: str, fresh: bool) -> list[int]:
        """Tokens of a text; `fresh` where it stands behind a control token or begins the prompt."""
        return self.vocabulary.tokenize(text, fresh) if text else []

    def whole(self, parts: Sequence[int | str]) -> list[int]:
        """Tokens of fragments."""
        return [t for part in parts for t in ([part] if isinstance(part, int) else self(part, True))]

    def cut(self, text: str, afters: Sequence[str], befores: Sequence[str] = ("",), *, fresh: bool = False) -> int:
        r"""Find the last place of a text where no token reaches over, whatever stands before and behind it.

        That may be one of `befores` and one of `afters`. Returns the characters before the cut: the whole length where
        nothing joins; where every place is bridged by some token, the one that fewest reach over. `fresh`: the text,
        with what stands before it, begins behind a control token.

        Say that the text is ``\n\nLabel: `` and ``joy`` comes behind it. Its end is no place to cut, for a word is one
        token with its space; behind the colon both halves, tokenised alone, give the whole's tokens: 8 characters.
        """
        borders = [m.start() for m in _BORDER.finditer(text)]
        start = max((b for b in borders if b < len(text) - NEAR), default=0)
        near, fresh = text[start:], fresh and start == 0
        wholes = {(b, a): self(b + near + a, fresh) for b in befores for a in afters}
        best, most = len(near), -1
        places = [len(near), *(b - start for b in reversed(borders) if b > start), 0]
        for at in (place for place in places if place == 0 or near[place - 1] != " "):  # a space goes with its word
            agree = 0
            for before in befores:
                kept = self(before + near[:at], fresh)
                restart = fresh and not before and at == 0
                for after in afters:
                    agree += wholes[before, after] == kept + self(near[at:] + after, restart)
            if agree > most:
                best, most = at, agree
            if most == len(wholes):
                break
        return start + best


@dataclass(frozen=True)
class Prefix:
    """Everything before the document.

    Every prompt begins with `tokens`. `begun` is the end of the text before the document, which is tokenised with it,
    and `fresh` says whether that follows on a control token. `text` is all of it, with the name of the begin token
    where the model adds that by itself. `first`: no demonstrations stand before the document. Where nothing is left of
    a document, the last `spare` characters of `begun` go too. `tokens` end in a fragment of the prompt, and a place in
    it, `end`, and `added` of them are the begin token.
    """

    tokens: list[int]
    begun: str
    fresh: bool
    text: str
    first: bool
    spare: int
    end: tuple[int, int] = (0, 0)
    added: int = 0


class Beside(str):
    """A document with demonstrations of its own, `shown`, texts with label numbers; what is cut of it keeps them."""

    shown: tuple

    def __new__(cls, text: str, shown: tuple):
        """Keep both."""
        document = super().__new__(cls, text)
        document.shown = shown
        return document

    def __getitem__(self, at):
        return Beside(super().__getitem__(at), self.shown)


def compile_prefix(
    encoder: Encoder, layout: Layout, turns: Sequence[tuple], bos: Sequence[int] = (), behind: Prefix | None = None
) -> Prefix:
    """Tokenise everything before the document.

    `turns` are demonstrations: a text, the bridge behind it, and the answer. `bos`, the model's begin token or nothing,
    is put first where the template does not do so itself. `behind`: leave out the tokens of another prefix, that
    of the same layout without demonstrations.
    """
    segments = layout.conversation(turns, None)
    *parts, last = fragments(encoder.vocabulary, segments)
    spare = min(layout.spare(segments, first=not turns), len(last))
    sure = last[: len(last) - spare]
    afters = [last[len(sure) :] + probe for probe in PROBES]
    fragment, begin = (0, 0) if behind is None else behind.end
    least = begin if fragment == len(parts) else 0
    at = max(least, encoder.cut(sure, [*afters, ""] if spare else afters, fresh=True))
    first, *rest = [*parts, last[:at]][fragment:]
    head = encoder(first[begin:], begin == 0) + encoder.whole(rest)
    added = list(bos if head[: len(bos)] != list(bos) else ()) if behind is None else behind.tokens[: behind.added]
    text = "".join([*map(encoder.vocabulary.token_text, added), *(segment.text for segment in segments)])
    tokens = added + head if behind is None else head
    return Prefix(tokens, last[at:], at == 0, text, not turns, spare, (len(parts), at), len(added))


class CompiledPrompt:
    """What stands between a document and its answer, and all answers, in tokens.

    The last of the `words` is the empty answer's. `shared` characters behind the document belong to it (see
    `shared_opening`; None: as many as may), and `bridge` holds the tokens between what `document` gives and the answer.
    `whole` is as for `LabelTrie`. `prefix_of` makes of a document's own demonstrations what stands behind `prefix`.
    """

    def __init__(
        self,
        encoder: Encoder,
        prefix: Prefix,
        layout: Layout,
        answer_format: str,
        words: Sequence[str],
        shared: int | None = None,
        whole: bool = False,
        prefix_of: Callable[[tuple], Prefix] | None = None,
    ):
        check_words(answer_format, words)
        self._prefix_of = prefix_of
        self._encoder, self._prefix, self.layout, self._format = encoder, prefix, layout, answer_format
        self._after = fragments(encoder.vocabulary, layout.after)
        behind, *tail = fragments(encoder.vocabulary, layout.opening)
        afters = [self._written([word]) for word in dict.fromkeys((*words[:8], words[-1]))]
        if tail:  # a control token divides document and answer
            at = encoder.cut(tail[-1], afters, fresh=True)
            lead, self._begun, self._fresh = tail[-1][:at], tail[-1][at:], at == 0
            shared = len(behind) if shared is None else shared
            rest = encoder(behind[shared:], False) if shared < len(behind) else []
            self.bridge = [*rest, *encoder.whole(tail[:-1]), *encoder(lead, True)]
        else:
            if shared is None:
                shared = at = encoder.cut(behind, afters, ENDS)
            else:  # no token reaches over that place, so nothing before it matters
                at = shared + encoder.cut(behind[shared:], afters)
            self._begun, self._fresh = behind[at:], False
            self.bridge = encoder(behind[shared:at], False)
        self._behind = behind[:shared]
        self._last = encoder.whole(self._after[1:])
        spelling = Spelling(
            tokenize=lambda words: encoder(self._begun + self._written(words), self._fresh) + self._last,
            continued=lambda text: encoder(text, False),
            text_of=lambda tokens: encoder.vocabulary.text_of(tokens),  # a method would keep the model alive
            following=lambda word: self._written([word])[len(ANSWER_FORMATS[answer_format][0]) :],
            n_behind=len(self._last),
            begun=self._begun,
        )
        self.answers = AnswerSpace(spelling, words, whole)

    @property
    def prefix(self) -> list[int]:
        """Tokens before the document."""
        return self._prefix.tokens

    def answer(self, words: Sequence[str]) -> list[int]:
        r"""Tokens of an answer with these wordings as it stands behind a document, up to the first token behind it.

        That token, a line break or the end of a turn, is where a model shows that its answer ends. Of these tokens
        ``answers.begins_at()`` stand before the answer itself.
        """
        tokens, text_of = self.answers.tokens(words), self._encoder.vocabulary.text_of
        n = len(tokens) - len(self._last)
        stop = len(text_of(tokens[:n])) - len(self._after[0])
        lengths = [len(text_of(tokens[:k])) for k in range(n + 1)]
        at = next(k for k, length in enumerate(lengths) if length >= stop)
        return tokens[: at + (lengths[at] == stop)]

    def _written(self, words):
        return render_answer(self._format, words) + self._after[0]

    def document(self, text: str) -> list[int]:
        """Tokens of a document, and of what is tokenised with it."""
        prefix, own = self._read_before(text)
        return own + self._encoder(self._with(prefix.begun, text, prefix) + self._behind, prefix.fresh)

    def _read_before(self, text):
        """Return the prefix that a document stands behind, and its tokens where they are the document's own."""
        if not isinstance(text, Beside) or self._prefix_of is None or not text.shown:
            return self._prefix, []
        prefix = self._prefix_of(text.shown)
        return prefix, prefix.tokens

    def _with(self, before, text, prefix):
        """Return what stands before a document, and the document, as the chat template writes them."""
        text = self.layout.trimmed(text, first=prefix.first)
        return before + text if text else before[: len(before) - prefix.spare]

    def text(self, text: str) -> str:
        """Text of the whole prompt of a document, up to the first word that is read."""
        vocabulary = self._encoder.vocabulary
        lead = vocabulary.text_of(self.answers.slot().lead)
        if self._fresh and vocabulary.adds_space:
            lead = lead.removeprefix(" ")  # which the tokenizer put there
        opening = "".join(segment.text for segment in self.layout.opening).removesuffix(self._begun)
        prefix, _ = self._read_before(text)
        return self._with(prefix.text, text, prefix) + opening + lead


def shared_opening(encoder: Encoder, layouts: Sequence[Layout]) -> int:
    r"""Characters behind a document that several questions about it share, and that no token reaches over.

    Of ``\nLabel: joy`` and ``\nLabel: anger`` these are the first eight or so: the space goes with the label.
    """
    behind = [fragments(encoder.vocabulary, layout.opening)[0] for layout in layouts]
    common = os.path.commonprefix(behind)
    return encoder.cut(common, [text[len(common) :] for text in behind[:40]], ENDS)


def longest_that_fits(text: str, fits: Callable[[str], bool], end: bool) -> str:
    """Cut the end of a text off, or with ``end=False`` its start, so that as many characters are left as fit.

    Examples
    --------
    >>> longest_that_fits("We won!!!", lambda text: len(text) <= 4, end=True)
    'We w'
    """
    kept, no = 0, len(text) + 1
    while no - kept > 1:
        middle = (kept + no) // 2
        kept, no = (middle, no) if fits(text[:middle] if end else text[len(text) - middle :]) else (kept, middle)
    return text[:kept] if end else text[len(text) - kept :]


_preparers: weakref.WeakKeyDictionary[Any, Callable] = weakref.WeakKeyDictionary()


def prepared_prompt(task, model):
    """Make a task's prompt ready for a model, with or without weights; the eight used last are kept with the model.

    Tokenising every spelling of 30 labels takes a quarter of a second.
    """
    there = weakref.ref(model)  # what is kept for a model must not keep it
    return _preparers.setdefault(model, lru_cache(8)(lambda task: task.prepare(there())))(task)

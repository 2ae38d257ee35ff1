"""Prompts compiled for one tokenizer, from texts to tokens; those used last are kept for each model."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from ..prompts._templates import check_words, render_answer
from .answers import AnswerSpace


def continuing(tokenize: Callable[..., list[int]]) -> Callable[..., list[int]]:
    """Make a tokenizer for texts that continue others.

    Many SentencePiece vocabularies put a space before every text, which would stand in the middle of words and lines
    of a prompt made of pieces. There a line break is put before the text, and its tokens are taken off again.

    Parameters
    ----------
    tokenize : callable
        ``tokenize(text, special) -> list of int``.

    Returns
    -------
    callable
        The same, without that space.
    """
    line = tokenize("\n", False)
    if len(line) != 2 or tokenize("\n\n", False) != [*line, line[1]]:
        return tokenize

    def tokenize_next(text, special):
        tokens = tokenize("\n" + text, special)
        return tokens[2:] if tokens[:2] == line else tokenize(text, special)

    return tokenize_next


class CompiledPrompt:
    """A prompt in tokens: its prefix, documents and answers.

    Parameters
    ----------
    tokenize : callable
        ``tokenize(text, special) -> list of int``.
    layout : Layout
        Where texts and answers stand.
    answer_format : str
        "json" or "list".
    words : sequence of str
        Wordings of the labels, the empty answer's word last.
    demonstrations : sequence of (str, sequence of int)
        Texts and the numbers of their labels.
    bos : sequence of int
        The model's begin token, or nothing.

    Attributes
    ----------
    prefix : list of int
        Everything before the document.
    answers : AnswerSpace
        The answers in tokens.
    """

    def __init__(self, tokenize, layout, answer_format, words, demonstrations=(), bos=()):
        check_words(answer_format, words)
        self._tokenize, self._layout, self._format = continuing(tokenize), layout, answer_format
        self.bridge, self._after = self._segments(layout.bridge), self._segments(layout.after)
        self.answers = AnswerSpace(self._answer, words)
        head = [*tokenize(*layout.head[0]), *self._segments(layout.head[1:])]
        self.prefix = [*(() if head[: len(bos)] == list(bos) else bos), *head]
        for text, labels in demonstrations:
            self.prefix += self.shown(text, labels)

    def shown(self, text: str, labels: Sequence[int]) -> list[int]:
        """Tokens of a demonstration: a text and its answer."""
        words = self.answers.words
        return self.document(text) + self._answer([words[k] for k in labels] or [words[-1]])

    def _segments(self, segments):
        return [token for s in segments for token in self._tokenize(s.text, s.special)]

    def _answer(self, words):
        text = self._layout.answer_lead + render_answer(self._format, words)
        return self._tokenize(text, False) + self._after

    def text(self, text: str, keep: slice = slice(None)) -> list[int]:
        """Tokens of a document alone; `keep` cuts them."""
        return self._tokenize(self._layout.text_lead + text, False)[keep]

    def document(self, text: str, keep: slice = slice(None)) -> list[int]:
        """Tokens of a document and of what leads over to its answer; `keep` cuts the document's own tokens."""
        return self.text(text, keep) + self.bridge


class _Recent:
    """The values asked for last, by key; safe between threads."""

    def __init__(self, size: int):
        self._size, self._lock = size, threading.Lock()
        self._values: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key, make: Callable[[], Any]):
        """Return the value of `key`, made once."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)
            return self._values[key]


_kept: weakref.WeakKeyDictionary[Any, _Recent] = weakref.WeakKeyDictionary()


def prepared_prompt(task, model):
    """Make a task's prompt ready for a model, or give the one that was made before and kept as long as the model.

    Tokenising every spelling of 30 labels takes a quarter of a second.

    Parameters
    ----------
    task : Task
        What is asked of documents.
    model : Vocabulary
        The tokenizer, with or without weights.

    Returns
    -------
    Prepared
        One of the eight used last with this model.
    """
    return _kept.setdefault(model, _Recent(8)).get(task, lambda: task.prepare(model))


def tokenizer_of(model):
    """Return ``model.tokenize`` for a prompt to keep; the prompts of a model must not keep it loaded in their turn."""
    weak = weakref.proxy(model)
    return lambda text, special=False: weak.tokenize(text, special)

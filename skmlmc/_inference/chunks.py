"""Long documents in chunks: where they are cut, and which results belong together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .._models.identity import Fingerprints, find_files
from .._models.loaded import load_vocabulary
from ..prompts._chunks import chunks_of, pool_chunks
from .compiled import longest_that_fits, prepared_prompt
from .run import Options, Task, room_for_documents

# What may end a chunk, with the spaces behind it.
_PARAGRAPH = re.compile(r"\n\s*\n\s*")
_SENTENCE = re.compile(r"""[.!?…]["'”’)\]]*\s+|[。！？]["'”’」』]*\s*|\n\s*""")
_WORD = re.compile(r"\s+")


class Pieces(NamedTuple):
    """Documents, each as one piece or several.

    Attributes
    ----------
    texts : list of str
        The pieces of all documents, in order.
    counts : list of int
        How many each document has.
    weights : ndarray
        Tokens of each piece.
    pooling : str
        How `pool` makes one row of a document's rows.
    """

    texts: list[str]
    counts: Sequence[int]
    weights: np.ndarray
    pooling: str

    @property
    def whole(self) -> bool:
        """Whether all documents are one piece."""
        return len(self.texts) == len(self.counts)

    @property
    def document(self) -> np.ndarray:
        """Number of the document that each piece is of."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def pool(self, values, how: str | None = None, multi_label: bool = True):
        """Make one row a document of an array with one row a piece; those of one piece stay as they are."""
        if self.whole:
            return values
        parts = zip(*(np.split(a, np.cumsum(self.counts)[:-1]) for a in (values, self.weights)), strict=True)
        return np.array([pool_chunks(rows, w, how or self.pooling, multi_label) for rows, w in parts])


def in_pieces(task: Task, texts: Sequence[str], options: Options, expected: Fingerprints | None = None) -> Pieces:
    """Divide documents that do not fit, where ``options.truncation`` asks for chunks; nothing is decoded.

    ValueError: the chunks are larger than the context has room for, or the overlap than they are.
    """
    how = chunks_of(options.truncation)
    if how is None:
        return Pieces(list(texts), [1] * len(texts), np.ones(len(texts)), "mean")
    model = load_vocabulary(find_files(options.model, options.lora, expected).path)
    prepared = prepared_prompt(task, model)
    n_ctx = min(options.n_ctx, model.n_ctx_train)
    limit, around = room_for_documents(prepared, n_ctx)
    room = limit - around
    if how.size is not None and how.size > room:
        raise ValueError(
            f"Got chunks of size={how.size} but only {room} tokens fit beside the prompt (n_ctx={n_ctx}): expected a "
            "smaller size, or None for as many as fit."
        )
    how.check_overlap(size := how.size or room)

    def count(text):
        return len(prepared.document(text)) - around

    parts = {text: split_text(text, count, size, how.overlap) for text in dict.fromkeys(texts)}
    tokens = {part: max(1, count(part)) for several in parts.values() for part in several}
    pieces = [part for text in texts for part in parts[text]]
    weights = np.array([tokens[part] for part in pieces], float)
    return Pieces(pieces, [len(parts[text]) for text in texts], weights, how.pooling)


def split_text(text: str, count: Callable[[str], int], size: int, overlap: int = 0) -> list[str]:
    """Divide a text into chunks of at most `size` tokens, as `count` counts them; see `Chunks`.

    A text that fits is returned as it is; of chunks the spaces at both ends are left out. ValueError: a single
    character has more tokens.

    Examples
    --------
    >>> split_text("We won!!! It rained all day. Nobody cared.", len, 20)
    ['We won!!!', 'It rained all day.', 'Nobody cared.']
    >>> split_text("one two three four", len, 9, overlap=4)
    ['one two', 'two three', 'four']
    """
    if count(text) <= size:
        return [text]
    chunks: list[str] = []
    start = done = 0  # what the chunk may begin with, and what stands in a chunk already
    while text[done:].strip():
        reach = start + _reach(text[start:], lambda part: count(part.strip()) <= size, 8 * size)
        stop = reach if reach == len(text) else _end(text, start, done, reach, count, size)
        if stop is None and start < done:  # no room for a whole word behind the overlap
            start = done
            continue
        if reach == start:
            raise ValueError(f"Got chunks of {size} tokens, but {text[done]!r} alone has more: expected a larger size.")
        stop = stop or reach
        chunks += [chunk] if (chunk := text[start:stop].strip()) else []
        start, done = _begin(text, start, stop, count, overlap), stop
    return chunks or [""]


def _reach(text, fits, width):
    """Count the characters of the longest begin that fits; the first look is at so many."""
    while width < len(text) and fits(text[:width]):
        width *= 2
    return len(longest_that_fits(text[:width], fits, True))


def _end(text, start, done, reach, count, size):
    """Find the best place to end a chunk that may reach so far, behind what is done; None: inside a word."""
    for pattern, least in ((_PARAGRAPH, (start + reach) // 2), (_SENTENCE, 0), (_WORD, 0)):
        ends = [m.end() for m in pattern.finditer(text, start, reach)]
        for end in reversed(ends):
            if end > max(done, least) and count(text[start:end].strip()) <= size:
                return end
    return None


def _begin(text, start, stop, count, overlap):
    """Find where the next chunk begins: at a sentence, else a word, of which not too much is read again."""
    tail = longest_that_fits(text[start:stop], lambda part: count(part.strip()) <= overlap, False) if overlap else ""
    first = stop - len(tail)
    for pattern in (_SENTENCE, _WORD):
        begins = (m.end() for m in pattern.finditer(text, max(start, first - 3), stop))
        found = next((begin for begin in begins if first <= begin < stop), None)
        if found is not None:
            return found
    return stop

"""A model's words and metadata: tokenise, chat template, sizes. Needs no weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ctypes import create_string_buffer
from functools import cached_property

# llama.cpp keeps a row of logits for every sequence. Fewer sequences for large vocabularies keep that small and cost
# no speed.
LOGIT_BYTES, MIN_SEQ, MAX_SEQ = 25_000_000, 24, 64

# llama.cpp splits words with std::regex, which recurses for each character of a match: a run of some ten thousand
# letters overflows the stack and kills the process. Pieces of this many characters are safe on small stacks too.
PIECE = 1000
# Vocabularies of SentencePiece split no words, but the time for letters that they lack grows with the square.
LONG_PIECE = 10_000
# Where words are split in every vocabulary, so that a cut changes no token: before a space between two words, and
# before a stop of Chinese or Japanese.
_WORD_BORDER = re.compile(r"(?<=\S) (?=\S)|(?<=\w)(?=[，。、！？；：]\w)")
# What chat templates are made of, in files that do not say that it is a control token.
_MARK = re.compile(r"<[|｜].*[|｜]>|<(start|end)_of_turn>|\[/?[A-Z_]+\]|<[be]os>")


def pieces(text: str, size: int = PIECE) -> list[str]:
    """Cut a long text into pieces of at most `size` characters, between words where it can.

    Examples
    --------
    >>> pieces("We won the cup!", 8)
    ['We won', ' the', ' cup!']
    >>> pieces("Woooooow", 4)
    ['Wooo', 'ooow']
    """
    cut, at = [], 0
    while len(text) - at > size:
        borders = [m.start() for m in _WORD_BORDER.finditer(text, at + 1, at + size + 1)]
        stop = borders[-1] if borders else at + size
        cut.append(text[at:stop])
        at = stop
    return [*cut, text[at:]]


class Vocabulary:
    """What a model file, loaded with or without its weights, says about text.

    The vocabulary has `n_vocab` tokens, and a context of this model `n_seq` sequences.
    """

    def __init__(self, library, model):
        self._library, self._model = library, model
        self._vocab = library.llama_model_get_vocab(model)
        self.n_vocab = library.llama_vocab_n_tokens(self._vocab)
        self.n_seq = min(MAX_SEQ, max(MIN_SEQ, LOGIT_BYTES // (4 * max(1, self.n_vocab))))
        kind = library.llama_vocab_type(self._vocab)
        self._is_sentencepiece = kind == library.LLAMA_VOCAB_TYPE_SPM
        # Those of encoders, WordPiece and unigrams, go through a text once, whatever its length.
        self._takes_all = kind in (library.LLAMA_VOCAB_TYPE_WPM, library.LLAMA_VOCAB_TYPE_UGM)
        self._reserved: dict[int, bool] = {}
        # BERT's files call the unknown token a control token, but any text may hold it. Elsewhere it may end texts too.
        self._unknown = int(self.metadata("tokenizer.ggml.unknown_token_id") or -1) if self._takes_all else -1

    @cached_property
    def ends(self) -> tuple[list[int], list[int]]:
        """Tokens that llama.cpp puts before and behind a whole text: begin and end, or CLS and SEP; perhaps none."""
        plain, whole = self._tokenize("a", False), self._tokenize("a", False, ends=True)
        at = next(k for k in range(len(whole)) if whole[k : k + len(plain)] == plain)
        return whole[:at], whole[at + len(plain) :]

    @cached_property
    def adds_space(self) -> bool:
        """Whether the tokenizer puts a space before every text, as many SentencePiece vocabularies do."""
        line = self._tokenize("\n", False)
        return len(line) == 2 and self._tokenize("\n\n", False) == [*line, line[1]]

    def tokenize(self, text: str, fresh: bool = True) -> list[int]:
        """Tokens of a text, in which names of control tokens are text, without begin or end tokens.

        Parameters
        ----------
        text : str
            Lone surrogates become "?".
        fresh : bool, default=True
            Whether it begins a prompt or stands behind a control token; False: it continues another text.

        Returns
        -------
        list of int
            Token ids.
        """
        size = LONG_PIECE if self._is_sentencepiece else PIECE
        first, *others = [text] if self._takes_all else pieces(text, size)
        tokens = self._tokenize(first, False) if fresh else self._continue(first)
        for part in others:
            tokens += self._continue(part)
        reserved = {token for token in set(tokens) if self._is_reserved(token)}
        if not reserved:
            return tokens
        spelled = {token: self._spell(token) for token in reserved}
        return [t for token in tokens for t in spelled.get(token, (token,))]

    def _tokenize(self, text, special, ends=False):
        call = self._library.llama_tokenize
        raw = text.encode("utf-8", "replace")
        buffer = (self._library.llama_token * (len(raw) + 16))()
        n = call(self._vocab, raw, len(raw), buffer, len(buffer), ends, special)
        if n < 0:
            buffer = (self._library.llama_token * -n)()
            n = call(self._vocab, raw, len(raw), buffer, len(buffer), ends, special)
        return buffer[:n]

    def text_of(self, tokens: Sequence[int]) -> str:
        """Text that tokens stand for, control tokens by their names."""
        # Token by token: llama.cpp's detokenizer of many at once takes spaces out of ``C'est cher !``.
        return b"".join(map(self._piece, tokens)).decode("utf-8", "replace")

    def _piece(self, token, size=256):
        buffer = create_string_buffer(size)
        n = self._library.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
        return buffer.raw[:n] if n >= 0 else self._piece(token, -n)

    def split_at_controls(self, text: str) -> list[int | str]:
        r"""Divide a template's text at its control tokens: ``"<|im_end|>\n"`` gives ``[2, "\n"]``.

        Parameters
        ----------
        text : str
            Text of a template, in which names of control tokens count.

        Returns
        -------
        list of int or str
            Control tokens and the texts between them. Long names come first, as in llama.cpp.
        """
        found = {token for token in self._tokenize(text, True) if self._is_reserved(token)}
        parts: list[int | str] = [text]
        for token in sorted(found, key=lambda token: -len(self.token_text(token))):
            name, divided = self.token_text(token), []
            for part in parts:
                pieces_ = part.split(name) if isinstance(part, str) else [part]
                divided += [x for piece in pieces_ for x in (token, piece)][1:]
            parts = [part for part in divided if part != ""]
        return parts

    def swallows(self, token: int) -> tuple[bool, bool]:
        """Whether a control token takes the spaces before and behind it, as some of Phi-3 do."""
        attributes = self._library.llama_vocab_get_attr(self._vocab, token)
        return bool(attributes & self._library.LLAMA_TOKEN_ATTR_LSTRIP), bool(
            attributes & self._library.LLAMA_TOKEN_ATTR_RSTRIP
        )

    def _is_reserved(self, token):
        """Whether a token marks the prompt's structure, so that no text may hold it.

        llama.cpp leaves control tokens out of texts, but not those that older files call user-defined; and its merges
        of letters may end in either.
        """
        if token not in self._reserved:
            library = self._library
            attributes = library.llama_vocab_get_attr(self._vocab, token)
            reserved = bool(attributes & library.LLAMA_TOKEN_ATTR_CONTROL) and token != self._unknown
            if attributes & library.LLAMA_TOKEN_ATTR_USER_DEFINED:
                text = self.token_text(token).strip()
                ends = token == library.llama_vocab_bos(self._vocab) or library.llama_vocab_is_eog(self._vocab, token)
                reserved = bool(ends or _MARK.fullmatch(text) or (text and text in (self.chat_template or "")))
            self._reserved[token] = reserved
        return self._reserved[token]

    def _continue(self, text):
        """Tokens of a text that stands behind others: behind a line break, whose tokens are taken off again."""
        if not self.adds_space:
            return self._tokenize(text, False)
        line, behind = self._tokenize("\n", False), self._tokenize("\n" + text, False)
        return behind[len(line) :] if behind[: len(line)] == line else self._tokenize(text, False)

    def _spell(self, token):
        """Tokens of a reserved token's name, letter by letter."""
        letters = self.token_text(token).replace("\u2581", " ")
        return [t for letter in letters for t in self._continue(letter) if not self._is_reserved(t)]

    def metadata(self, key: str) -> str | None:
        """Value of the file's metadata, as text; ``{arch}`` in the key is the architecture's name."""
        if "{arch}" in key:
            key = key.replace("{arch}", self.metadata("general.architecture") or "")
        buffer = create_string_buffer(1 << 12)
        n = self._library.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return None if n < 0 else buffer.value.decode("utf-8", "replace")

    @property
    def n_ctx_train(self) -> int:
        """Tokens of context that the model was trained for."""
        return self._library.llama_model_n_ctx_train(self._model) or int(self.metadata("{arch}.context_length") or 0)

    @property
    def sequences(self) -> int:
        """Sequences of the context beside the prefix's."""
        return self.n_seq - 1

    @property
    def bos(self) -> list[int]:
        """Tokens that begin every prompt of this model: its begin token, or nothing."""
        begins = self._library.llama_vocab_get_add_bos(self._vocab)
        return [self._library.llama_vocab_bos(self._vocab)] if begins else []

    @property
    def text_end(self) -> list[int]:
        """The token between the texts that this model was trained on, or nothing where it has none."""
        token = self._library.llama_vocab_eos(self._vocab)
        return [token] if token >= 0 else []

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template (Jinja), or None."""
        raw = self._library.llama_model_chat_template(self._model, None)
        return raw.decode("utf-8", "replace") if raw else None

    def token_text(self, token: int) -> str:
        """Text of a token, control tokens included; "" where there is none (-1)."""
        if token < 0:
            return ""
        return self._library.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace")

    @property
    def special_texts(self) -> dict[str, str]:
        """Texts of the begin and end tokens, which chat templates refer to."""
        return {
            "bos_token": self.token_text(self._library.llama_vocab_bos(self._vocab)),
            "eos_token": self.token_text(self._library.llama_vocab_eos(self._vocab)),
        }

    def cell_bytes(self, value_bytes: int) -> int:
        """Bytes of attention cache that one token takes, all layers together; 0 where the file does not say.

        Layers times key and value heads times their lengths; recurrent layers count as if they had them.
        """
        layers, heads, width = (
            self._numbers(f"{{arch}}.{k}") for k in ("block_count", "attention.head_count", "embedding_length")
        )
        if not (layers and heads and heads[0] and width):
            return 0
        kv_heads = self._numbers("{arch}.attention.head_count_kv") or heads
        own = width[0] // heads[0]
        lengths = [(self._numbers(f"{{arch}}.attention.{k}_length") or [own])[0] for k in ("key", "value")]
        total = sum(kv_heads) if len(kv_heads) > 1 else layers[0] * kv_heads[0]
        return total * sum(lengths) * value_bytes

    def _numbers(self, key):
        """Whole numbers of a metadata value: one, or a list with one for each layer; empty where it is missing."""
        text = (self.metadata(key) or "").strip("[] ")
        parts = [part.strip() for part in text.split(",")]
        return [int(part) for part in parts] if all(part.isdigit() for part in parts) else []

"""Whether a GGUF file is whole and of the right kind, as far as its header tells.

What its numbers do to llama.cpp shows in a trial run (`skmlmc._models.trial`). Here stands what is said better in one
line, and what a trial of a few tokens need not meet: a vocabulary that lacks something, an adapter's numbers.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import NamedTuple

from .._engine.context import POOLINGS
from .header import FLOAT32, STRING, Array, GGUFFile, Header, HeaderError

# Architectures that llama.cpp loads, but which do not continue a text.
ENCODERS = frozenset(
    "bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert gemma-embedding "
    "llama-embed t5encoder".split()
)
TRANSLATORS = frozenset({"t5"})
OTHERS = frozenset("clip dflash eagle3 gemma4-assistant".split())
SPEECH = frozenset("pockettts qwen3tts wavtokenizer-dec".split())
DIFFUSION = frozenset("dream llada llada-moe rnd1".split())
KINDS = {
    "an encoder with a decoder behind it": TRANSLATORS,
    "a diffusion model": DIFFUSION,
    "a speech model": SPEECH,
    "a helper model": OTHERS,
}
# What llama.cpp of llama-cpp-python 0.3.36 makes of a call that wants logits at some of its tokens alone.
UNUSABLE = {"cogvlm": "gives the logits of other tokens than those that are asked for"}
RANKS = 4  # as a pooling
# ggml's types for activations and plain numbers: no kernel multiplies with them.
NO_WEIGHTS = {9: "Q8_1", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64"}
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)

WHAT_TO_DO = "Download the file again, or convert the model again with a current llama.cpp."
NEEDS = "Expected a language model that continues texts, such as an instruction-tuned one."


class WrongFileError(HeaderError):
    """A sound file of the wrong kind; the message says what to do."""


class Embedder(NamedTuple):
    """What the header of an embedding model says: what it is, the pooling that it names, and the vectors' width."""

    what: str
    pooling: str | None
    width: int


def check_model(path: Path) -> Embedder | None:
    """Refuse a model file (of several, the first) that is cut short, contradicts itself, or is of no use here.

    Returns what an embedding model is, and None for a language model, which continues texts.
    """
    return _checked(path, _check_model)


def check_adapter(path: Path) -> None:
    """Refuse a file that is no whole LoRA adapter."""
    _checked(path, _check_adapter)


def _checked(path, check):
    try:
        with GGUFFile(path) as file:
            return check(file, file.read(), path)
    except WrongFileError as error:
        raise ValueError(f"{str(path)!r} {error}") from None
    except HeaderError as error:
        raise ValueError(f"{str(path)!r} is no sound GGUF file: {error}. {WHAT_TO_DO}") from None


def _check_model(file, header, path):
    others = _other_parts(header, path)
    arch = _check_is_model(header)
    key = f"{arch}.context_length"
    length = header.values.get(key)
    _expect(isinstance(length, int) and 0 < length < 1 << 31, header, key, f"1 to {(1 << 31) - 1}")
    _check_vocabulary(file, header)
    for part in others:
        try:
            with GGUFFile(part) as other:
                rest = other.read()
        except FileNotFoundError:
            raise HeaderError(f"its part {part.name!r} is missing: put all parts into one folder") from None
        except HeaderError as error:
            raise HeaderError(f"its part {part.name!r} is damaged: {error}") from None
        if rest.kinds.get("split.no") != 2:
            raise HeaderError(f"its part {part.name!r} has no number (split.no)")
    return _embedder(arch, header)


def _embedder(arch, header):
    """Say what an embedding model is; None where it is none."""
    values = header.values
    number = values.get(f"{arch}.pooling_type")
    pooling = next((name for name, k in POOLINGS.items() if k == number), None)
    if arch in ENCODERS:
        what = f"an encoder (general.architecture is {arch!r})"
    elif values.get(f"{arch}.attention.causal") is False:
        what = f"an encoder ({arch}.attention.causal is false)"
    elif pooling:
        what = f"an embedding model ({arch}.pooling_type is {number}, {pooling})"
    else:
        return None
    out = f"{arch}.embedding_length_out"
    key = out if out in values else f"{arch}.embedding_length"
    width = values.get(key)
    _expect(type(width) is int and 0 < width < 1 << 31, header, key, f"1 to {(1 << 31) - 1}")
    return Embedder(what, pooling, width)


def _check_is_model(header: Header) -> str:
    arch, kind = header.values.get("general.architecture"), header.values.get("general.type", "model")
    if kind == "adapter":
        raise WrongFileError("is an adapter, not a model: give it as lora= and the model it was trained for as model=.")
    if kind in ("mmproj", "imatrix") or arch == "clip":
        what = "an importance matrix" if kind == "imatrix" else "the image or sound part (mmproj) of a model"
        raise WrongFileError(f"is {what}, not a model. {NEEDS}")
    if not isinstance(arch, str) or not arch:
        raise HeaderError(f"its key 'general.architecture' is {arch!r}, expected a name such as 'llama'")
    other = next((kind for kind, names in KINDS.items() if arch in names), None)
    if other:
        raise WrongFileError(f"is {other} (general.architecture is {arch!r}): it gives no next word. {NEEDS}")
    if arch in UNUSABLE:
        raise WrongFileError(f"is of the architecture {arch!r}, with which llama.cpp {UNUSABLE[arch]}. {NEEDS}")
    if header.values.get(f"{arch}.pooling_type") == RANKS:
        raise WrongFileError(f"is a ranking model ({arch}.pooling_type is {RANKS}, rank): it compares texts. {NEEDS}")
    if not header.tensors:
        raise WrongFileError(f"holds a vocabulary or metadata without weights (no tensors). {NEEDS}")
    return arch


def _other_parts(header, path):
    """Paths of the files that follow the first one of a model in several files."""
    count, number = header.values.get("split.count", 0), header.values.get("split.no", 0)
    if not isinstance(count, int) or count < 2:
        return []
    if not isinstance(number, int):
        raise HeaderError(f"its key 'split.no' is {number!r}, expected a number")
    if number != 0:
        raise WrongFileError(
            f"is part {number + 1} of {count} of a model: give the path of the first part, '-00001-of-...'."
        )
    name = _SPLIT.fullmatch(path.name)
    if not name or (int(name[2]), int(name[3])) != (1, count):
        raise WrongFileError(
            f"is part 1 of {count} of a model, but its name does not end in '-00001-of-{count:05}.gguf', from which "
            "llama.cpp finds the others: rename the parts, or join them with `llama-gguf-split --merge`."
        )
    return later_parts(path)


def part_paths(path: Path) -> list[Path]:
    """Files that a model consists of, the given first one first; of the others, those that exist."""
    return [Path(path), *(part for part in later_parts(Path(path)) if os.path.exists(part))]


def later_parts(path: Path) -> list[Path]:
    """All other files of a model in several ones, of which `path` is the first; none where it is no such file."""
    name = _SPLIT.fullmatch(path.name)
    if not name or int(name[2]) != 1:
        return []
    return [path.with_name(f"{name[1]}-{i:05}-of-{int(name[3]):05}.gguf") for i in range(2, int(name[3]) + 1)]


def _check_vocabulary(file, header):
    values = header.values
    model, tokens = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.tokens")
    if tokens is None or model in (None, "none", "no_vocab"):
        raise WrongFileError(f"has no vocabulary (tokenizer.ggml.model is {model!r}): it cannot read texts. {NEEDS}")
    if not isinstance(tokens, Array) or tokens.kind != STRING or not tokens.length:
        raise HeaderError(f"its 'tokenizer.ggml.tokens' is {_shown(tokens)}, expected texts")
    for key in ("scores", "token_type"):
        array = values.get(f"tokenizer.ggml.{key}")
        if array is not None and _length(array) < tokens.length:
            raise HeaderError(
                f"its 'tokenizer.ggml.{key}' is {_shown(array)}, expected one for each of {tokens.length} tokens"
            )
    rows = header.tensors.get("token_embd.weight")
    if rows is not None and (len(rows.shape) < 2 or rows.shape[1] != tokens.length):
        raise HeaderError(
            f"its tensor 'token_embd.weight' has shape {rows.shape}, expected a row for each of {tokens.length} tokens"
        )
    _check_words(file, tokens, byte_fallback=model == "llama")


def _check_words(file, tokens, byte_fallback):
    """Refuse words that are there twice, and a SentencePiece vocabulary that cannot spell every byte."""
    # llama.cpp calls an empty word [EMPTY_7] where it is the one with number 7.
    words = {word or b"[EMPTY_%d]" % i for i, word in enumerate(file.texts(tokens))}
    if len(words) < tokens.length:
        raise HeaderError("its 'tokenizer.ggml.tokens' has a word twice")
    if byte_fallback:
        # llama.cpp reads a word of one NUL as an empty one.
        missing = [b for b in range(256) if b"<0x%02X>" % b not in words and (b == 0 or bytes([b]) not in words)]
        if missing:
            raise HeaderError(
                f"its vocabulary spells no byte {missing[0]:#04x} ('<0x{missing[0]:02X}>' in 'tokenizer.ggml.tokens'), "
                "expected all 256: a text with a character that it does not know would end the process"
            )


def _length(array):
    return array.length if isinstance(array, Array) else len(array) if isinstance(array, tuple) else 0


def _shown(value):
    return f"an array of {_length(value)}" if isinstance(value, tuple) else repr(value)


def _expect(holds, header, key, expected):
    if not holds:
        raise HeaderError(f"its key {key!r} is {header.values.get(key)!r}, expected {expected}")


def _check_adapter(file, header, path):
    kind = header.values.get("general.type")
    if kind != "adapter":
        shown = "a model" if "tokenizer.ggml.tokens" in header.values else f"no adapter (general.type is {kind!r})"
        raise WrongFileError(
            f"is {shown}, but lora= expected a LoRA adapter in GGUF form, which convert_lora_to_gguf.py makes."
        )
    for key in ("general.architecture", "adapter.type"):
        _expect(header.kinds.get(key, STRING) == STRING, header, key, "a text")
    key = "adapter.lora.alpha"
    _expect(header.kinds.get(key, FLOAT32) == FLOAT32, header, key, "a number")
    _expect(header.values.get("adapter.type") == "lora", header, "adapter.type", "'lora'")
    _expect(math.isfinite(header.values.get(key, 0.0)), header, key, "a finite number")
    for name, tensor in header.tensors.items():
        if tensor.kind in NO_WEIGHTS:
            raise HeaderError(
                f"its tensor {name!r} has type {NO_WEIGHTS[tensor.kind]}, which llama.cpp cannot multiply"
            )
        if math.prod(tensor.shape[2:]) != 1 and "_exps." not in name:
            raise HeaderError(f"its tensor {name!r} has shape {tensor.shape}, expected a matrix")

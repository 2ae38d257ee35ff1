"""What must be true of a GGUF file before llama.cpp may see it, since llama.cpp ends the process where it is not.

Each limit is one at which llama.cpp was seen to abort, crash, hang or exhaust the memory; what it refuses by itself
with an error is left to it, and so is what a newer version may know: architectures, tensor types, tokenizers.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from .header import FLOAT32, STRING, Array, GGUFFile, Header, HeaderError

# Architectures that llama.cpp loads, but which do not continue a text.
ENCODERS = frozenset(
    "bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert gemma-embedding "
    "llama-embed t5 t5encoder".split()
)
OTHERS = frozenset("clip dflash eagle3 gemma4-assistant".split())
SPEECH = frozenset("pockettts qwen3tts wavtokenizer-dec".split())
DIFFUSION = frozenset("dream llada llada-moe rnd1".split())
KINDS = {"an encoder": ENCODERS, "a diffusion model": DIFFUSION, "a speech model": SPEECH, "a helper model": OTHERS}
# What llama.cpp of llama-cpp-python 0.3.36 makes of a call that wants logits at some of its tokens alone.
UNUSABLE = {"chameleon": "ends the process", "cogvlm": "gives the logits of other tokens than those that are asked for"}
POOLINGS = {1: "mean", 2: "cls", 3: "last", 4: "rank"}
MAX_LAYERS, MAX_EXPERTS, MAX_TOKENS, MAX_WINDOW = 512, 1024, 1 << 21, 1 << 25
ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
MAPPED_ALIGNMENT = 32
# ggml's types for activations and plain numbers: no kernel multiplies with them.
NO_WEIGHTS = {9: "Q8_1", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64"}
TABLES = ("tid2eid", "d2t")
# Tensors that are added or scanned, not multiplied with: their kernels read F32 alone, and converters write it.
_ADDED = re.compile(r"(\.bias|rope_f\w*\.weight|ssm_conv1d\.weight|ssm_[ad])$")
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)

WHAT_TO_DO = "Download the file again, or convert the model again with a current llama.cpp."
NEEDS = "Expected a language model that continues texts, such as an instruction-tuned one."


class WrongFileError(HeaderError):
    """A sound file of the wrong kind; the message says what to do."""


def check_model(path: Path) -> None:
    """Refuse a model file (of several, the first) that is damaged, continues no texts, or would end the process."""
    _checked(path, _check_model)


def check_adapter(path: Path) -> None:
    """Refuse a file that is no whole LoRA adapter."""
    _checked(path, _check_adapter)


def _checked(path, check):
    try:
        with GGUFFile(path) as file:
            check(file, file.read(), path)
    except WrongFileError as error:
        raise ValueError(f"{str(path)!r} {error}") from None
    except HeaderError as error:
        raise ValueError(f"{str(path)!r} is no sound GGUF file: {error}. {WHAT_TO_DO}") from None


def _check_model(file, header, path):
    others = _other_parts(header, path)
    arch = _check_is_model(header)
    _check_vocabulary(file, header)
    _check_sizes(header, arch)
    _check_attention(header, arch)
    _check_numbers(header, arch)
    _check_tensors(header)
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
        _check_tensors(rest)


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
    if header.values.get(f"{arch}.attention.causal") is False:
        raise WrongFileError(f"is an encoder ({arch}.attention.causal is false): it gives no next word. {NEEDS}")
    pooling = header.values.get(f"{arch}.pooling_type", 0)
    if pooling in POOLINGS:
        raise WrongFileError(
            f"is an embedding or ranking model ({arch}.pooling_type is {pooling}, {POOLINGS[pooling]}). {NEEDS}"
        )
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
    if not isinstance(tokens, Array) or tokens.kind != STRING or not 0 < tokens.length <= MAX_TOKENS:
        raise HeaderError(f"its 'tokenizer.ggml.tokens' is {_shown(tokens)}, expected 1 to {MAX_TOKENS} texts")
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


def _size(header, key) -> int | None:
    value = header.values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _most(header, key) -> int:
    """Largest value of a number or an array with one a layer; 0 where it is missing."""
    return max(_per_layer(header, key), default=0)


def _expect(holds, header, key, expected):
    if not holds:
        raise HeaderError(f"its key {key!r} is {header.values.get(key)!r}, expected {expected}")


def _check_sizes(header, arch):
    key = f"{arch}.block_count"
    layers = _size(header, key) or 0
    _expect(0 < layers <= MAX_LAYERS, header, key, f"1 to {MAX_LAYERS}")
    key = f"{arch}.context_length"
    _expect(0 < (_size(header, key) or 0) < 1 << 31, header, key, f"1 to {(1 << 31) - 1}")
    key = f"{arch}.nextn_predict_layers"
    _expect(_most(header, key) <= layers, header, key, f"at most the {layers} layers")
    key = f"{arch}.attention.sliding_window"
    _expect(_most(header, key) <= MAX_WINDOW, header, key, f"at most {MAX_WINDOW}")
    key = f"{arch}.attention.sliding_window_pattern"
    _expect(
        header.values.get(key) != 1 or not _most(header, f"{arch}.attention.sliding_window"), header, key, "2 or more"
    )
    _check_experts(header, arch)


def _check_experts(header, arch):
    n = _most(header, f"{arch}.expert_count")
    _expect(n <= MAX_EXPERTS, header, f"{arch}.expert_count", f"at most {MAX_EXPERTS}")
    key = f"{arch}.expert_used_count"
    used = _most(header, key)
    # Hunyuan writes its dense models with one expert, none of which is used.
    if not (n <= 1 and arch.startswith("hunyuan")):
        _expect(min(n, 1) <= used <= n, header, key, f"{min(n, 1)} to the {n} experts there are")
    key = f"{arch}.expert_group_count"
    groups, group_used = _most(header, key), _most(header, f"{arch}.expert_group_used_count")
    _expect(groups < max(n, 1) and (groups < 2 or n % groups == 0), header, key, f"a divisor of {n}, below it")
    if groups > 1:
        _expect(0 < group_used < groups, header, f"{arch}.expert_group_used_count", f"1 to {groups - 1}")


def _check_attention(header, arch):
    heads, width = _most(header, f"{arch}.attention.head_count"), _most(header, f"{arch}.embedding_length")
    if not heads:
        return
    names = [f"{arch}.attention.{k}" for k in ("key_length", "key_length_swa")]
    own = [_most(header, name) for name in names if name in header.values]
    own += [width // n for n in _per_layer(header, f"{arch}.attention.head_count") if n]
    linear = {name for name in header.tensors if name.endswith(".ssm_a")}  # layers of linear attention
    for key in (f"{arch}.rope.dimension_count", f"{arch}.rope.dimension_count_swa"):
        n = _size(header, key)
        if n is not None and not (n == 0 and linear):
            _expect(0 < n <= max(own) and n % 2 == 0, header, key, f"an even number up to {max(own)}, a head's length")
    key = f"{arch}.attention.head_count_kv"
    if isinstance(header.values.get(key), tuple):
        for i, n in enumerate(_per_layer(header, key)):
            if n == 0 and f"blk.{i}.ssm_a" in linear:  # its keys are no attention heads
                continue
            keys = header.tensors.get(f"blk.{i}.attn_k.weight")
            if keys is not None and len(keys.shape) == 2:
                fits = keys.shape[1] in {n * size for size in own}
                _expect(fits, header, key, f"what fits tensor 'blk.{i}.attn_k.weight' of shape {keys.shape}")


def _per_layer(header, key):
    value = header.values.get(key)
    return [int(v) for v in value] if type(value) is tuple else [_size(header, key) or 0]


def _check_numbers(header, arch):
    for key, value in header.values.items():
        if not (key.startswith(f"{arch}.") and isinstance(value, float)):
            continue
        _expect(not math.isnan(value), header, key, "a number")
        if key.endswith(("_epsilon", ".freq_base", ".freq_base_swa")):
            _expect(0 <= value < math.inf, header, key, "a finite number that is not negative")
    key = f"{arch}.rope.scaling.type"
    _expect(header.values.get(key, "none") in ROPE_SCALINGS, header, key, f"one of {', '.join(ROPE_SCALINGS)}")


def _check_tensors(header, copied=False):
    for name, tensor in header.tensors.items():
        # llama.cpp copies an adapter's tensors and uses a model's where they lie.
        if not copied and tensor.start % MAPPED_ALIGNMENT:
            raise HeaderError(
                f"its tensor {name!r} begins at byte {tensor.start}, expected a multiple of {MAPPED_ALIGNMENT}: "
                "'general.alignment' is too small"
            )
        if tensor.kind in NO_WEIGHTS and not any(table in name for table in TABLES):
            raise HeaderError(
                f"its tensor {name!r} has type {NO_WEIGHTS[tensor.kind]}, which llama.cpp cannot multiply"
            )
        if tensor.kind and (
            _ADDED.search(name) or ("norm" in name and max(tensor.shape, default=1) == math.prod(tensor.shape))
        ):
            raise HeaderError(f"its tensor {name!r} has type {tensor.kind}, expected F32 (0)")


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
    _check_tensors(header, copied=True)

"""What training needs, said and checked before it starts: packages, an architecture that can be read, memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

from .._engine.memory import available_memory
from .._models.header import GGUFFile
from .._models.soundness import later_parts
from ._packs import MOST_TOKENS, Example, size

PACKAGES = ("torch", "transformers", "accelerate", "gguf")  # transformers reads GGUF files with its help
# What transformers reads, but whose layers do not keep the branches of a pack apart, or which continue no text.
NO_TREES = frozenset({"mamba", "lfm2", "t5", "t5encoder", "umt5", "bloom"})
KEPT_OF_WIDTH, KEPT_OF_FF, KEPT_OF_LOGITS = 14, 6, 4  # arrays of a layer's width that wait for the way back


def check_packages() -> None:
    """Raise ImportError where a package is missing that only training needs."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Fine-tuning needs {', '.join(PACKAGES)}, but {', '.join(missing)} cannot be imported: expected the extra "
            "packages of skmlmc[finetune]. Install them with `pip install 'skmlmc[finetune]'`. Adapters that were "
            "trained before need none of them: GGUFClassifier(lora=...)."
        )


def readable_architectures() -> list[str]:
    """Return the architectures that transformers says it reads from GGUF files, without those that cannot be trained.

    An empty list: this version of transformers does not say.
    """
    try:
        from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES
    except ImportError:
        return []
    return sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - NO_TREES)


class Sizes(NamedTuple):
    """What a model's header says: its architecture, weights, layers, widths, heads and vocabulary."""

    arch: str
    n_weights: int
    n_layers: int
    width: int
    n_ff: int
    n_heads: int
    n_vocab: int


def read_sizes(path: Path) -> Sizes:
    """Read a model's sizes from its header."""
    with GGUFFile(path) as file:
        header = file.read()
    arch = header.values["general.architecture"]

    def number(key):
        value = header.values.get(f"{arch}.{key}", 0)
        return int(max(value, default=0) if isinstance(value, tuple) else value)  # some have one a layer

    rows = header.tensors.get("token_embd.weight")
    return Sizes(
        arch,
        n_weights=sum(prod(tensor.shape) for tensor in header.tensors.values()),
        n_layers=number("block_count"),
        width=number("embedding_length"),
        n_ff=number("feed_forward_length"),
        n_heads=number("attention.head_count"),
        n_vocab=0 if rows is None else max(rows.shape),
    )


def check_readable(path: Path) -> Sizes:
    """Return a model's sizes; ValueError where transformers does not read such a file."""
    if later_parts(path):
        raise ValueError(
            f"{str(path)!r} is the first of several files, which transformers does not read: expected a model in one "
            "file for fine-tuning. Join them with `llama-gguf-split --merge`."
        )
    sizes, known = read_sizes(path), readable_architectures()
    if sizes.arch in NO_TREES or (known and sizes.arch not in known):
        raise ValueError(
            f"{str(path)!r} is of the architecture {sizes.arch!r}, which cannot be fine-tuned here. Expected one that "
            f"transformers reads from GGUF files and trains: {', '.join(known)}."
        )
    return sizes


def bytes_needed(sizes: Sizes, rank: int, tokens: int, predicted: int) -> int:
    """Estimate the memory of training: weights as float32, what a pack keeps for the way back, and the optimiser."""
    in_layers = (KEPT_OF_WIDTH * sizes.width + KEPT_OF_FF * sizes.n_ff + sizes.n_heads * tokens) * sizes.n_layers
    logits = KEPT_OF_LOGITS * predicted * sizes.n_vocab
    factors = 4 * sizes.n_layers * rank * (8 * sizes.width + 3 * (sizes.width + sizes.n_ff))
    # While it is read a model is there twice.
    return 4 * max(2 * sizes.n_weights, sizes.n_weights + tokens * in_layers + logits + factors)


def largest_pack(examples: Sequence[Example], prefix: int, batch_size: int) -> tuple[int, int]:
    """Return tokens of the largest pack of so many documents, and how many are predicted in it, at most."""
    sizes = [size(example) for example in examples]
    predicted = [n - len(example.document) for n, example in zip(sizes, examples, strict=True)]
    tokens = max(min(MOST_TOKENS, prefix + sum(sorted(sizes)[-batch_size:])), prefix + max(sizes))
    share = max(p / n for p, n in zip(predicted, sizes, strict=True))
    return tokens, int(share * (tokens - prefix)) + 1


def check_device(device: str) -> None:
    """Raise ValueError where torch cannot compute on a device."""
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"Got device={device!r}, on which torch cannot compute: {str(error).splitlines()[0]} Expected 'cpu', or a "
            "device that this build of torch has, such as 'cuda'."
        ) from error


def check_memory(needed: int, device: str = "cpu") -> int | None:
    """Return how much memory is free; MemoryError where it is less than what is needed."""
    free = available_memory() if device == "cpu" else None  # torch says so itself of a GPU's
    if free is not None and free < needed:
        raise MemoryError(
            f"Fine-tuning needs about {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free. Expected "
            "more: free some, use fewer processes (n_jobs), shorten documents (a smaller n_ctx with truncation='end'), "
            "or choose a smaller model."
        )
    return free

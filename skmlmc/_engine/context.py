"""What a context of the engine depends on."""

from __future__ import annotations

from typing import NamedTuple


class Hidden(NamedTuple):
    """Which hidden states to read: after which block (None: the last, normalised), at which tokens; or "attention"."""

    layer: int | float | None = None
    pooling: str = "last"


class Settings(NamedTuple):
    """What a context depends on: cells, KV cache type, whether hidden states are read, adapters; and the threads."""

    n_ctx: int = 4096
    kv_dtype: str = "float16"
    hidden: Hidden | None = None
    lora: tuple[tuple[tuple, float], ...] = ()  # state of a file, its path first, and scale
    n_threads: int = 1

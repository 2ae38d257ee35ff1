"""What a context of the engine depends on."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path
from typing import NamedTuple

# llama.cpp keeps scratch memory for every token of a batch; more than 256 bring no speed.
N_UBATCH = 256


class Hidden(NamedTuple):
    """Hidden states to read; calls then end at the deepest of them and have no logits.

    Attributes
    ----------
    layers : tuple of (int, float or None)
        After which blocks, by number or by part of the depth; None: after the last one and the final norm. Their states
        follow one another in what is read.
    poolings : tuple of {"last", "mean"}
        For each layer the state at the token that is read, or the mean over the new tokens of its branch up to there.
    """

    layers: tuple[int | float | None, ...] = (None,)
    poolings: tuple[str, ...] = ("last",)


class Attention(NamedTuple):
    """Attention weights to read, averaged over heads and over the new tokens of a branch.

    Attributes
    ----------
    layer : int, float or None
        Of which block, as for `Hidden`; None: averaged over all blocks.
    """

    layer: int | float | None = None

    @property
    def layers(self):
        """The one layer, as `Hidden` has several."""
        return (self.layer,)


# Poolings of an embedding model, with llama.cpp's numbers, which files use too.
POOLINGS = {"mean": 1, "cls": 2, "last": 3}


class Pooled(NamedTuple):
    """One vector a text to read, of an embedding model.

    Attributes
    ----------
    pooling : {"mean", "cls", "last"}
        The mean of all tokens' states, or the state of the first or last token.
    """

    pooling: str


class Settings(NamedTuple):
    """What a context depends on, and the threads.

    Attributes
    ----------
    n_ctx : int
        Cells of the KV cache.
    kv_dtype : {"float16", "float32"}
        Type of its numbers.
    tap : Hidden, Attention, Pooled or None
        What is read beside logits, or hidden states in their place, where a `Read` asks for it.
    lora : tuple of (tuple, float)
        State of each adapter's file, its path first, and its scale.
    n_threads : int
        Threads; another number needs no other context.
    fewer : bool
        Whether a call uses fewer where they do not pay.
    """

    n_ctx: int = 4096
    kv_dtype: str = "float16"
    tap: Hidden | Attention | Pooled | None = None
    lora: tuple[tuple[tuple, float], ...] = ()
    n_threads: int = 1
    fewer: bool = False


def block_number(layer: float | None, n: int, path: Path) -> int | None:
    """Return the number of the block, of `n`, whose output `layer` means; None for the last one, behind the final norm.

    Examples
    --------
    >>> from pathlib import Path
    >>> [block_number(layer, 24, Path("model.gguf")) for layer in (0.5, 3, -2, -1, None)]
    [11, 3, 22, None, None]
    """
    block = layer if layer is None or isinstance(layer, Integral) else max(0, round(layer * n) - 1)
    if block is not None and not -n <= block < n:
        raise ValueError(f"Got layer={layer} but {str(path)!r} has {n} blocks: expected -{n} to {n - 1}.")
    return None if block is None or block % n == n - 1 else int(block % n)

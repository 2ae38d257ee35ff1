"""Reads hidden states and attention weights while llama.cpp computes them."""

from __future__ import annotations

from ctypes import CDLL, POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_void_p, cast

import numpy as np

from .context import Attention, Settings


def _declare(library: CDLL):
    """Return ggml's functions that give a tensor's name, its size in bytes and its values."""
    name, size, get = library.ggml_get_name, library.ggml_nbytes, library.ggml_backend_tensor_get
    name.restype, name.argtypes = c_char_p, [c_void_p]
    size.restype, size.argtypes = c_size_t, [c_void_p]
    get.restype, get.argtypes = None, [c_void_p, c_void_p, c_size_t, c_size_t]
    return name, size, get


class HiddenTap:
    """Reads hidden states through llama.cpp's evaluation callback, into `rows`.

    llama.cpp's own embeddings mode makes every token of a batch an output, and logits for all of them cost a third
    more time and gigabytes for large vocabularies. The evaluation callback sees the same tensor for the outputs alone,
    and the outputs of inner blocks for all tokens. With ``block=None`` the states are those behind the last block,
    normalised, at the outputs.
    """

    def __init__(self, library: CDLL, callback_type, n_embd: int, block: int | None):
        self.rows, self.block = np.empty((0, n_embd), np.float32), block
        wanted = b"result_norm" if block is None else f"l_out-{block}".encode()
        name, size, get = _declare(library)

        def on_tensor(tensor, ask, _):
            if name(tensor) != wanted:
                return not ask
            if not ask:
                rows = np.empty((size(tensor) // (4 * n_embd), n_embd), np.float32)
                get(tensor, rows.ctypes.data, 0, rows.nbytes)
                self.rows = rows
            return True

        self.callback = callback_type(on_tensor)

    def take(self, n: int) -> np.ndarray:
        """Return the states of the `n` tokens just decoded, or raise RuntimeError: the blocks have another name."""
        rows, self.rows = self.rows, self.rows[:0]
        if len(rows) != n:
            raise RuntimeError(
                f"Expected hidden states of {n} tokens after block {self.block}, got {len(rows)}: llama.cpp does not "
                "show the blocks of this model's architecture. Use layer=None."
            )
        return rows


class _TensorHead(Structure):
    """The first fields of a ggml_tensor, down to its shape."""

    _fields_ = [("type", c_int), ("buffer", c_void_p), ("shape", c_int64 * 4)]


class AttentionTap:
    """Reads attention weights, averaged over heads, of one block (-1: the last one) or averaged over `every` block.

    llama.cpp computes them as tensors of their own where flash attention is off. Their rows are as wide as the cache,
    which has `n_cells`.
    """

    def __init__(self, library: CDLL, callback_type, n_cells: int, block: int, every: bool):
        self._sum, self._count, self._n_cells, self.block = np.empty((0, n_cells), np.float32), 0, n_cells, block
        one = None if every or block < 0 else f"kq_soft_max-{block}".encode()
        name, size, get = _declare(library)

        def on_tensor(tensor, ask, _):
            found = name(tensor)
            if not found.startswith(b"kq_soft_max-") or one not in (None, found):
                return not ask
            if not ask:
                cells, tokens, heads = cast(tensor, POINTER(_TensorHead)).contents.shape[:3]
                values = np.empty((heads, tokens, cells), np.float32)
                get(tensor, values.ctypes.data, 0, min(values.nbytes, size(tensor)))
                self._add(values.mean(axis=0), every)
            return True

        self.callback = callback_type(on_tensor)

    def _add(self, weights, every):
        """Add a block's weights to those of the blocks before, or forget those."""
        if not (every and self._count):
            self._sum, self._count = np.zeros((len(weights), self._n_cells), np.float32), 0
        # The cache's view is rounded up to whole pages.
        used = min(self._n_cells, weights.shape[1])
        self._sum[:, :used] += weights[:, :used]
        self._count += 1

    def take(self, n: int) -> np.ndarray:
        """Return the (n, n_cells) weights of the `n` tokens just decoded, or raise RuntimeError: there are none."""
        rows, self._sum, count, self._count = self._sum, self._sum[:0], self._count, 0
        if len(rows) != n:
            raise RuntimeError(
                f"Expected attention weights of {n} tokens, got {len(rows)}: llama.cpp does not show those of this "
                "model's architecture. Use a model with plain attention."
            )
        return rows / count


def make_tap(
    library: CDLL, callback_type, n_embd: int, block: int | None, settings: Settings
) -> HiddenTap | AttentionTap:
    """Return the tap for what ``settings.tap`` asks for.

    That for attention reads the block, or all of them where no layer is named.
    """
    if not isinstance(settings.tap, Attention):
        return HiddenTap(library, callback_type, n_embd, block)
    every = settings.tap.layer is None
    return AttentionTap(library, callback_type, settings.n_ctx, -1 if block is None else block, every)

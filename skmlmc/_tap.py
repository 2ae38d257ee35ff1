"""Reads hidden states while llama.cpp computes them."""

from __future__ import annotations

from ctypes import CDLL, c_char_p, c_size_t, c_void_p

import numpy as np


class HiddenTap:
    """Reads hidden states through llama.cpp's evaluation callback.

    llama.cpp's own embeddings mode makes every token of a batch an output, and logits for all of them cost a third
    more time and gigabytes for large vocabularies. The evaluation callback sees the same tensor for the outputs alone,
    and the outputs of inner blocks for all tokens.

    Parameters
    ----------
    library : CDLL
        ggml's base library.
    callback_type : ctypes function type
        ``ggml_backend_sched_eval_callback``.
    n_embd : int
        Width of the model.
    block : int or None
        Block whose output is read; None: the last one, normalised, at the tokens that have logits.

    Attributes
    ----------
    rows : ndarray of shape (n, n_embd), float32
        Hidden states of the last decode call: of all its tokens, or with ``block=None`` of its outputs.
    """

    def __init__(self, library: CDLL, callback_type, n_embd: int, block: int | None):
        self.rows, self.block = np.empty((0, n_embd), np.float32), block
        wanted = b"result_norm" if block is None else f"l_out-{block}".encode()
        name, size, get = library.ggml_get_name, library.ggml_nbytes, library.ggml_backend_tensor_get
        name.restype, name.argtypes = c_char_p, [c_void_p]
        size.restype, size.argtypes = c_size_t, [c_void_p]
        get.restype, get.argtypes = None, [c_void_p, c_void_p, c_size_t, c_size_t]

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
        """Return the states of the `n` tokens just decoded.

        Raises
        ------
        RuntimeError
            llama.cpp computes this architecture's blocks under another name.
        """
        rows, self.rows = self.rows, self.rows[:0]
        if len(rows) != n:
            raise RuntimeError(
                f"Expected hidden states of {n} tokens after block {self.block}, got {len(rows)}: llama.cpp does not "
                "show the blocks of this model's architecture. Use layer=None."
            )
        return rows

"""llama.cpp's batch arrays, filled by numpy instead of token by token."""

from __future__ import annotations

from ctypes import POINTER, c_float, c_int8, c_int32, cast

import numpy as np


class BatchArrays:
    """Tokens, positions, owners, and which rows have logits: arrays to which an empty ``llama_batch`` points."""

    def __init__(self, batch, capacity: int):
        self._tokens, self._positions = np.zeros(capacity, np.int32), np.zeros(capacity, np.int32)
        self._n_owners, self._wanted = np.zeros(capacity, np.int32), np.zeros(capacity, np.int8)
        self._pointers = np.zeros(capacity, np.uintp)
        self._batch = batch
        self._batch.token = cast(self._tokens.ctypes.data, POINTER(c_int32))
        self._batch.embd = POINTER(c_float)()
        self._batch.pos = cast(self._positions.ctypes.data, POINTER(c_int32))
        self._batch.n_seq_id = cast(self._n_owners.ctypes.data, POINTER(c_int32))
        self._batch.seq_id = cast(self._pointers.ctypes.data, POINTER(POINTER(c_int32)))
        self._batch.logits = cast(self._wanted.ctypes.data, POINTER(c_int8))

    def set_owners(self, spans):
        """Lay out which sequences own each token of the plan."""
        lengths = [stop - start for start, stop, _ in spans]
        counts = np.array([len(seqs) for *_, seqs in spans], np.int32)
        self._owners = np.concatenate([np.asarray(seqs, np.int32) for *_, seqs in spans])
        offsets = np.concatenate([[0], np.cumsum(counts)[:-1]]) * self._owners.itemsize
        self._owner_counts = np.repeat(counts, lengths)
        self._owner_pointers = np.repeat((self._owners.ctypes.data + offsets).astype(np.uintp), lengths)

    def fill(self, tokens, positions, start, stop, wanted):
        """Return the batch of tokens ``start:stop`` of the plan with logits at `wanted`."""
        n = stop - start
        self._tokens[:n], self._positions[:n] = tokens[start:stop], positions[start:stop]
        self._n_owners[:n], self._pointers[:n] = self._owner_counts[start:stop], self._owner_pointers[start:stop]
        self._wanted[:n] = 0
        self._wanted[wanted - start] = 1
        self._batch.n_tokens = n
        return self._batch

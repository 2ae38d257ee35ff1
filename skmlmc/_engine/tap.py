"""Reads hidden states and attention weights while llama.cpp computes them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from ctypes import CDLL, POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_void_p, cast
from math import prod
from typing import NamedTuple

import numpy as np

from .context import Attention, Settings

# Tokens of the decode in which a tap sees the graph: a number that no other axis of a state has.
TRIAL_TOKENS = 7
_NUMBERED = re.compile(rb".+-(\d+)")
# Stands for the name of a state that has none.
_FOLLOWS = b"(follows on norm)"
_WHOLE_NUMBERS = (26, 27)  # GGML_TYPE_I32 and GGML_TYPE_I64


def _declare(library: CDLL):
    """Return ggml's functions that give a tensor's name, its size in bytes and its values."""
    name, size, get = library.ggml_get_name, library.ggml_nbytes, library.ggml_backend_tensor_get
    name.restype, name.argtypes = c_char_p, [c_void_p]
    size.restype, size.argtypes = c_size_t, [c_void_p]
    get.restype, get.argtypes = None, [c_void_p, c_void_p, c_size_t, c_size_t]
    return name, size, get


class _TensorHead(Structure):
    """The first fields of a ggml_tensor, down to its shape."""

    _fields_ = [("type", c_int), ("buffer", c_void_p), ("shape", c_int64 * 4)]


def _shape(tensor, size):
    """Shape of a tensor of `size` bytes, tokens before columns; () where it is no array of F32 numbers in a row."""
    head = cast(tensor, POINTER(_TensorHead)).contents
    shape = tuple(head.shape[::-1])
    return shape if head.type == 0 and size == 4 * prod(shape) else ()


class _Source(NamedTuple):
    """Where the state of a block is read: the last tensor of a name, its shape, and how many of that name there are."""

    name: bytes
    shape: tuple[int, ...]
    times: int


class HiddenTap:
    """Reads hidden states through llama.cpp's evaluation callback, and ends each call at the deepest of them.

    llama.cpp's own embeddings mode makes every token of a batch an output, and logits for all of them cost a third
    more time and gigabytes for large vocabularies. The evaluation callback sees the same tensor for the outputs alone,
    and the outputs of inner blocks for all tokens. The states of block None are those behind the last block,
    normalised, at the outputs.

    Each architecture has its own names for tensors, but they end in their block's number, and what a block hands on is
    computed last: ``attn_norm-0 ... ffn_out-0 l_out-0 norm-1 attn_norm-1 ...``. So the tap watches a decode of
    `TRIAL_TOKENS` tokens before anything else, and `choose` takes the last tensor of each block. Where the blocks share
    several residual streams, it has that many states a token, which make one long one here. The final norm's output is
    ``result_norm``; PLaMo 3 gives it no name, and there it is what follows on ``norm``.

    The callback's no to a tensor that it has read ends the graph there: llama_decode returns 0 and keeps the cells,
    written for the blocks so far, and no later call of this context looks at others. Where another backend, such as
    BLAS, takes parts of the graph, it ends only the part at hand, and the first operation of each later one is computed
    on whatever is there. That does no harm unless it looks something up by computed indices: such graphs run to
    their end then.
    """

    def __init__(self, library: CDLL, callback_type, n_embd: int, blocks: tuple[int | None, ...], parted: Callable):
        self._blocks, self._n_embd, self._parted = blocks, n_embd, parted
        self.at_outputs = None in blocks
        self._asked = self._before = b""  # the last two tensors that llama.cpp asked about
        self._seen: Counter[bytes] = Counter()  # tensors of each name that were watched
        self._shown: dict[int | None, _Source] = {}
        self._indexed = False  # whether a graph computes whole numbers, which may be indices
        self._sources: dict[bytes, _Source] = {}  # empty as long as the tap watches
        self._ends = False
        name, size, get = _declare(library)

        def on_tensor(tensor, ask, _):
            if self._over:
                return bool(ask)
            found = name(tensor)
            if ask:
                self._before, self._asked = self._asked, found
            if not self._sources:
                self._watch(found, tensor, size)
            if found not in self._sources:
                if self._before != b"norm" or _FOLLOWS not in self._sources:
                    return not ask
                found = _FOLLOWS
            if not ask:
                values = np.empty(_shape(tensor, size(tensor)), np.float32)
                get(tensor, values.ctypes.data, 0, values.nbytes)
                self._keep(found, values)
            return not self._over

        self.callback = callback_type(on_tensor)
        self.begin()

    def begin(self) -> None:
        """Get ready for a decode call."""
        self._read: dict[bytes, np.ndarray] = {}
        self._left = Counter({name: source.times for name, source in self._sources.items()})
        self._over = False

    def _watch(self, name, tensor, size):
        shape = _shape(tensor, size(tensor))
        self._indexed |= cast(tensor, POINTER(_TensorHead)).contents.type in _WHOLE_NUMBERS
        self._seen[name] += 1
        numbered = _NUMBERED.fullmatch(name)
        if numbered:
            self._shown[int(numbered[1])] = _Source(name, shape, self._seen[name])
        elif name == b"result_norm":
            self._shown[None] = _Source(name, shape, self._seen[name])
        elif self._before == b"norm" and shape[-1:] == (self._n_embd,) and self._shown and None not in self._shown:
            self._shown[None] = _Source(_FOLLOWS, shape, 1)

    def choose(self) -> None:
        """Read the wanted states from now on, or raise ValueError: the graph that was watched does not have them."""
        inner = sorted(k for k, source in self._shown.items() if k is not None and self._is_state(source.shape))
        there = [*(f"{k}" for k in inner), *(["None"] if None in self._shown else [])]
        for block in self._blocks:
            if str(block) not in there:
                raise ValueError(
                    f"Expected a layer whose hidden states llama.cpp shows: of this model {', '.join(there) or 'none'}."
                    f" Got {'the last one (layer=None)' if block is None else f'layer {block}'}."
                )
        self._sources = {self._shown[block].name: self._shown[block] for block in self._blocks}
        self._ends = not (self._indexed and self._parted())

    def _is_state(self, shape):
        return shape[-1:] == (self._n_embd,) and TRIAL_TOKENS in shape[:-1]

    def _keep(self, name, values):
        self._read[name] = values
        self._left[name] -= 1
        self._over = self._ends and not any(left > 0 for left in self._left.values())

    def take(self, n: int, outputs: Sequence[int]) -> np.ndarray:
        """Return the states of the `n` tokens just decoded, a row each; of block None only at the `outputs`.

        RuntimeError: there are those of other tokens.
        """
        return np.concatenate([self._rows(block, n, outputs) for block in self._blocks], axis=1)

    @property
    def widths(self) -> list[int]:
        """Numbers of a token's state after each block."""
        shapes = ((block, self._shown[block].shape) for block in self._blocks)
        return [self._n_embd * (1 if block is None else prod(shape[:-1]) // TRIAL_TOKENS) for block, shape in shapes]

    def _rows(self, block, n, outputs):
        name, shape, _ = self._shown[block]
        values = self._read.get(name, np.empty((0, self._n_embd), np.float32))
        if block is None:
            rows = np.full((n, self._n_embd), np.nan, np.float32)
            rows[outputs] = values.reshape(-1, self._n_embd)
            return rows
        streams = prod(shape[:-1]) // TRIAL_TOKENS
        if streams > 1:
            values = np.moveaxis(values, shape.index(TRIAL_TOKENS) - len(shape), 0)
        rows = values.reshape(-1, streams * self._n_embd)
        if len(rows) != n:
            raise RuntimeError(
                f"Expected hidden states of {n} tokens after block {block}, got {len(rows)}: llama.cpp does not "
                "decode them at once. Use layer=None."
            )
        return rows


class AttentionTap:
    """Reads attention weights, averaged over heads, of one block (-1: the last one) or averaged over `every` block.

    llama.cpp computes them as tensors of their own where flash attention is off. Their rows are as wide as the cache,
    which has `n_cells`.
    """

    at_outputs = True

    def __init__(self, library: CDLL, callback_type, n_cells: int, block: int, every: bool):
        self._sum, self._count, self._n_cells = np.empty((0, n_cells), np.float32), 0, n_cells
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

    def begin(self) -> None:
        """Get ready for a decode call: nothing has to be done."""

    def choose(self) -> None:
        """Raise RuntimeError where the graph that was watched has no attention weights."""
        self.take(TRIAL_TOKENS)

    def _add(self, weights, every):
        """Add a block's weights to those of the blocks before, or forget those."""
        if not (every and self._count):
            self._sum, self._count = np.zeros((len(weights), self._n_cells), np.float32), 0
        # The cache's view is rounded up to whole pages.
        used = min(self._n_cells, weights.shape[1])
        self._sum[:, :used] += weights[:, :used]
        self._count += 1

    def take(self, n: int, outputs: Sequence[int] = ()) -> np.ndarray:
        """Return the (n, n_cells) weights of the `n` tokens just decoded, or raise RuntimeError: there are none."""
        rows, self._sum, count, self._count = self._sum, self._sum[:0], self._count, 0
        if len(rows) != n:
            raise RuntimeError(
                f"Expected attention weights of {n} tokens, got {len(rows)}: llama.cpp does not show those of this "
                "model's architecture. Use a model with plain attention."
            )
        return rows / count


def make_tap(
    library: CDLL, callback_type, n_embd: int, blocks: tuple[int | None, ...], settings: Settings, parted: Callable
) -> HiddenTap | AttentionTap:
    """Return the tap for what ``settings.tap`` asks for; `parted` says whether other backends take parts of graphs.

    That for attention reads the one block, or all of them where no layer is named.
    """
    if not isinstance(settings.tap, Attention):
        return HiddenTap(library, callback_type, n_embd, blocks, parted)
    (block,) = blocks
    every = settings.tap.layer is None
    return AttentionTap(library, callback_type, settings.n_ctx, -1 if block is None else block, every)

"""Read the header of a GGUF file without trusting it: no size is believed before it is compared with the file's.

llama.cpp ends the process at many a damaged header. This reader needs neither llama.cpp nor memory for what a header
merely claims: it walks over the mapped file once.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .._engine.context import block_number

MAX_KEYS = MAX_TENSORS = 1 << 16
MAX_KEY_BYTES = (1 << 16) - 1
MAX_NAME_BYTES = 63
MAX_DIMENSIONS = 4
# Texts and arrays that are longer are left in the file: nothing here asks for them.
MAX_KEPT = 1 << 12
DEFAULT_ALIGNMENT = 32

FLOAT32, STRING, ARRAY = 6, 8, 9
# Numbers in the order of GGUF's types; 8 and 9 are no numbers.
_SCALARS = {kind: struct.Struct("<" + code) for kind, code in enumerate("BbHhIif?--Qqd") if code != "-"}
_START, _COUNT, _KIND, _ARRAY, _TENSOR = (struct.Struct("<" + code) for code in ("4sIQQ", "Q", "i", "iQ", "iQ"))

# ggml's types in the order of their numbers: elements and bytes of a block. A type that is missing here is left to
# llama.cpp, which may be newer and refuses one that it does not know.
BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)},
    **{23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18)},
}


class HeaderError(Exception):
    """What is wrong with a header; the file's name is the caller's to say."""


class Array(NamedTuple):
    """An array that stays in the file: kind and number of its elements, and where they begin."""

    kind: int
    length: int
    start: int


class Tensor(NamedTuple):
    """A tensor's shape, ggml type and place in the file."""

    shape: tuple[int, ...]
    kind: int
    start: int


class Header(NamedTuple):
    """Metadata (numbers, texts, tuples of numbers, or `Array`), GGUF's number of each one's type, and the tensors."""

    values: dict[str, Any]
    kinds: dict[str, int]
    tensors: dict[str, Tensor]


class GGUFFile:
    """A GGUF file, mapped while it is looked at; `HeaderError` where it is no regular file or too short for one."""

    def __init__(self, path: Path):
        # Without O_NONBLOCK a pipe that took the file's place would keep this waiting for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, flags)
        try:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise HeaderError("it is a device, pipe or socket")
            self.size = state.st_size
            head = os.read(handle, 4)
            if head != b"GGUF":
                raise HeaderError(f"expected it to begin with b'GGUF', got {head!r}")
            if self.size < _START.size:
                raise HeaderError(f"it is truncated: {self.size} bytes are too few for a header")
            self.data = mmap.mmap(handle, self.size, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
        self._at = 0

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(self, *_) -> None:
        # An exception's traceback may still look at the map; then it is closed with the last look.
        with suppress(BufferError):
            self.data.close()

    def read(self) -> Header:
        """Walk over the header; `HeaderError` where sizes, types or names contradict each other or the length."""
        _, version, n_tensors, n_keys = self._take(_START, "its counts")
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
            order = "it is big-endian" if swapped else f"it has GGUF version {version}"
            raise HeaderError(f"{order}, expected version 2 or 3, little-endian")
        if n_keys > MAX_KEYS or n_tensors > MAX_TENSORS:
            raise HeaderError(f"it claims {n_keys} metadata keys and {n_tensors} tensors, expected at most {MAX_KEYS}")
        values, kinds = {}, {}
        for i in range(n_keys):
            key = self._name(f"metadata key {i}", MAX_KEY_BYTES)
            if not key or key in values:
                raise HeaderError(f"its metadata key {i} is {key!r}, which is {'repeated' if key else 'empty'}")
            (kinds[key],) = self._take(_KIND, key)
            values[key] = self._value(kinds[key], key)
        return Header(values, kinds, self._tensors(n_tensors, _alignment(values, kinds)))

    def texts(self, array: Array) -> list[bytes]:
        """Texts of an array from `read`, which has seen that they lie within the file."""
        found, at = [], array.start
        for _ in range(array.length):
            begin = at + _COUNT.size
            at = begin + _COUNT.unpack_from(self.data, at)[0]
            found.append(self.data[begin:at])
        return found

    def _take(self, form, what):
        at, self._at = self._at, self._at + form.size
        if self._at > self.size:
            raise HeaderError(f"it is truncated: its {self.size} bytes end within {what}")
        return form.unpack_from(self.data, at)

    def _jump(self, n, what):
        """Pass over `n` bytes and return where they begin."""
        at, self._at = self._at, self._at + n
        if self._at > self.size:
            raise HeaderError(
                f"it is truncated, or {what!r} is damaged: {n} bytes from byte {at} on, but it has {self.size}"
            )
        return at

    def _name(self, what, limit):
        (n,) = self._take(_COUNT, what)
        if n > limit:
            raise HeaderError(f"its {what} claims {n} bytes, expected at most {limit}")
        at = self._jump(n, what)
        return self.data[at : at + n].decode("utf-8", "backslashreplace")

    def _value(self, kind, key):
        if kind in _SCALARS:
            return self._take(_SCALARS[kind], key)[0]
        if kind == STRING:
            (n,) = self._take(_COUNT, key)
            at = self._jump(n, key)
            return self.data[at : at + min(n, MAX_KEPT)].decode("utf-8", "backslashreplace")
        if kind == ARRAY:
            return self._array(key)
        raise HeaderError(f"its key {key!r} has type {kind}, which GGUF does not know")

    def _array(self, key):
        kind, count = self._take(_ARRAY, key)
        if kind == STRING:
            return self._string_array(key, count)
        if kind not in _SCALARS:
            raise HeaderError(f"its key {key!r} is an array of type {kind}, expected numbers or texts")
        at = self._jump(count * _SCALARS[kind].size, key)
        if count > MAX_KEPT:
            return Array(kind, count, at)
        return struct.unpack_from(f"<{count}{_SCALARS[kind].format[1:]}", self.data, at)

    def _string_array(self, key, count):
        start = at = self._at
        if count * 8 > self.size - at:
            raise HeaderError(f"its key {key!r} claims {count} texts, more than the file's {self.size} bytes hold")
        try:
            for _ in range(count):
                at += _COUNT.size + _COUNT.unpack_from(self.data, at)[0]
        except (struct.error, OverflowError):
            at = self.size + 1
        self._at = start
        self._jump(at - start, key)
        return Array(STRING, count, start)

    def _tensors(self, n_tensors, alignment):
        found = []
        for i in range(n_tensors):
            name = self._name(f"tensor name {i}", MAX_NAME_BYTES)
            (n_dims,) = self._take(struct.Struct("<I"), name)
            if n_dims > MAX_DIMENSIONS:
                raise HeaderError(f"its tensor {name!r} claims {n_dims} dimensions, expected at most {MAX_DIMENSIONS}")
            shape = self._take(struct.Struct(f"<{n_dims}Q"), name)
            found.append((name, shape, *self._take(_TENSOR, name)))
        begin = self._at + -self._at % alignment
        placed: dict[str, Tensor] = {}
        expected: int | None = 0
        for name, shape, kind, offset in found:
            if name in placed:
                raise HeaderError(f"its tensor {name!r} is there twice")
            if offset % alignment or (expected is not None and offset != expected):
                raise HeaderError(f"its tensor {name!r} lies at {offset}, expected {expected}")
            n_bytes = _tensor_bytes(name, shape, kind)
            end = begin + offset + (n_bytes or 0)
            if end > self.size:
                raise HeaderError(
                    f"it is truncated: its tensor {name!r} ends at byte {end}, but it has {self.size} bytes"
                )
            placed[name] = Tensor(shape, kind, begin + offset)
            # Behind a tensor of unknown size nothing more is known about offsets.
            expected = None if n_bytes is None or expected is None else offset + n_bytes + -n_bytes % alignment
        return placed


def _alignment(values, kinds):
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if kinds.get("general.alignment", 4) != 4 or alignment == 0 or alignment & (alignment - 1):
        raise HeaderError(f"its general.alignment is {alignment!r}, expected a power of two")
    return alignment


def _tensor_bytes(name, shape, kind):
    """Bytes of a tensor, or None where its type is not known here."""
    if kind not in BLOCKS:
        return None
    elements, n_bytes = BLOCKS[kind]
    n = math.prod(shape)
    if n >= 1 << 63 or any(size >= 1 << 63 for size in shape):
        raise HeaderError(f"its tensor {name!r} claims a shape of {shape}, more than a number can count")
    if (shape[0] if shape else 1) % elements:
        raise HeaderError(
            f"its tensor {name!r} of shape {shape} has rows that are no multiple of {elements}, its block"
        )
    return n // elements * n_bytes


def read_widths(path: Path, layers: Sequence[float | None]) -> list[tuple[int, int]]:
    """Find the block that each layer of `HiddenStateExtractor` means, and count the numbers of a hidden state there.

    That is the model's width, and before the last block once for each of its residual streams. The weights are not
    loaded. ValueError: there is no such layer.
    """
    with GGUFFile(path) as file:
        values = file.read().values
    arch = values["general.architecture"]
    # llama.cpp counts blocks that only predict later tokens apart.
    blocks = values[f"{arch}.block_count"] - values.get(f"{arch}.nextn_predict_layers", 0)
    # Gemma 3n's number stands in llama.cpp's code.
    streams = 4 if arch == "gemma3n" else values.get(f"{arch}.hyper_connection.count") or 1
    width = int(values.get(f"{arch}.embedding_length", 0))
    numbers = [block_number(layer, blocks, path) for layer in layers]
    return [(blocks - 1, width) if block is None else (block, width * streams) for block in numbers]

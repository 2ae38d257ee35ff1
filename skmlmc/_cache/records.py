"""What the cache keeps: keys made of everything a result depends on, and arrays as checked raw bytes."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

# numpy.lib.format would make entries two times as large, 657 bytes instead of 311 for a document's steps.
_MAGIC = b"skmlmc\x00\x01"  # the last byte is the version of the encoding
_CHECKSUM_SIZE = 16
ROUNDING = 1e-4  # what a sum of probabilities may be off: those of a whole vocabulary are added in float32
_ARRAY_HEADER = struct.Struct("<B3sB")  # bytes in the name, dtype, dimensions
_DTYPES = {
    code.encode(): np.dtype(code)
    for code in ("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8")
}


def _tagged(tag: bytes, payload: bytes) -> bytes:
    return tag + struct.pack("<Q", len(payload)) + payload


def _encode_part(part: Any) -> bytes:
    """Encode one part of a key so that different parts, types included, never give the same bytes."""
    if isinstance(part, np.generic):
        part = part.item()
    if part is None or isinstance(part, bool):
        return {None: b"N", True: b"T", False: b"F"}[part]
    if isinstance(part, str):
        return _tagged(b"s", part.encode("utf-8", "surrogatepass"))
    if isinstance(part, bytes):
        return _tagged(b"b", part)
    if isinstance(part, int):
        return _tagged(b"i", part.to_bytes(part.bit_length() // 8 + 1, "little", signed=True))
    if isinstance(part, float):
        return b"f" + struct.pack("<d", part)
    if isinstance(part, (tuple, list)):
        tag = b"t" if isinstance(part, tuple) else b"l"
        return _tagged(tag, b"".join(map(_encode_part, part)))
    if isinstance(part, dict):
        items = sorted(_encode_part(name) + _encode_part(value) for name, value in part.items())
        return _tagged(b"d", b"".join(items))
    if type(part) is np.ndarray:
        dtype = part.dtype.newbyteorder("<")
        if dtype.str.encode() in _DTYPES or dtype.kind in "US":
            raw = part.astype(dtype, order="C", copy=False).tobytes()
            return b"a" + _encode_part(dtype.str) + _encode_part(part.shape) + _tagged(b"b", raw)
    kind = f"an array of dtype {part.dtype}" if isinstance(part, np.ndarray) else type(part).__name__
    raise TypeError(
        f"A cache key expected str, bytes, int, float, bool, None, tuple, list, dict or a plain array of numbers or "
        f"strings. Got {kind}: convert it to one of these."
    )


def result_key(*parts: Any) -> bytes:
    """Digest everything a result depends on into the key it is kept under, 32 bytes.

    Values and their types count: ``1``, ``1.0``, ``True`` and ``"1"`` are four keys, and so are a tuple and a list. The
    order of a dict's items does not. NumPy scalars count as the Python number of the same value. TypeError where a
    part, at any depth, is no str, bytes, int, float, bool, None, tuple, list, dict or ndarray.

    Examples
    --------
    >>> from skmlmc._cache.records import result_key
    >>> len(result_key("prompt", 0.5, {"labels": ["joy", "anger"]}))
    32
    >>> result_key("ab", "c") == result_key("a", "bc")
    False
    """
    return hashlib.blake2b(_encode_part(parts), digest_size=32, person=b"skmlmc-key-1").digest()


class DamagedEntryError(ValueError):
    """An entry is not what was written under its key."""


def checked(
    arrays: Mapping[str, np.ndarray],
    name: str,
    shape: tuple[int | None, ...],
    dtype: str = "float64",
    most: float | None = 1.0,
) -> np.ndarray:
    """Return an array of an entry, or raise `DamagedEntryError` where it is not as expected.

    None in `shape` stands for any length from 1. Values lie from 0 to `most`, a rounding error aside; where that is
    None, they are finite.

    Examples
    --------
    >>> import numpy as np
    >>> from skmlmc._cache.records import checked
    >>> checked({"p": np.array([0.5, 7.0])}, "p", (2,))
    Traceback (most recent call last):
    skmlmc._cache.records.DamagedEntryError: expected values of 'p' from 0 to 1.0
    """
    array = arrays.get(name)
    if array is None or array.dtype != dtype or array.ndim != len(shape):
        raise DamagedEntryError(f"expected {name!r} with {len(shape)} dimensions of {dtype}")
    if any(n < 1 if wanted is None else n != wanted for n, wanted in zip(array.shape, shape, strict=True)):
        raise DamagedEntryError(f"expected {name!r} of shape {shape}")
    if most is None:
        if not np.isfinite(array).all():
            raise DamagedEntryError(f"expected finite values of {name!r}")
    elif array.size and not (array.min() >= 0 and array.max() <= most + ROUNDING):  # NaN fails both
        raise DamagedEntryError(f"expected values of {name!r} from 0 to {most}")
    return array


def _checksum(key: bytes, body: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(_tagged(b"k", key), digest_size=_CHECKSUM_SIZE)
    digest.update(body)
    return digest.digest()


def _encode_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode named arrays: their number, then name, dtype, shape and raw bytes of each."""
    pieces = [struct.pack("<H", len(arrays))]
    for name, value in arrays.items():
        array = np.asarray(value)
        dtype = array.dtype.newbyteorder("<")
        if dtype.str.encode() not in _DTYPES:
            raise TypeError(
                f"The cache expected arrays of bool, integers or floats of at most 64 bits. "
                f"Got dtype {array.dtype} for {name!r}: convert it."
            )
        encoded = name.encode("utf-8")
        pieces.append(_ARRAY_HEADER.pack(len(encoded), dtype.str.encode(), array.ndim) + encoded)
        pieces.append(struct.pack(f"<{array.ndim}Q", *array.shape))
        pieces.append(array.astype(dtype, order="C", copy=False).tobytes())
    return b"".join(pieces)


def _decode_arrays(body: bytes) -> dict[str, np.ndarray]:
    """Decode what `_encode_arrays` gave; bytes are never trusted, so every size is compared with what is there."""
    arrays = {}
    try:
        (count,) = struct.unpack_from("<H", body)
        offset = 2
        for _ in range(count):
            name_size, code, ndim = _ARRAY_HEADER.unpack_from(body, offset)
            offset += _ARRAY_HEADER.size
            name = body[offset : offset + name_size].decode("utf-8")
            offset += name_size
            shape = struct.unpack_from(f"<{ndim}Q", body, offset)
            offset += 8 * ndim
            dtype = _DTYPES[code]
            size = math.prod(shape) * dtype.itemsize
            if size > len(body) - offset:
                raise DamagedEntryError(f"{size} bytes expected, {len(body) - offset} left")
            view: np.ndarray = np.ndarray(shape, dtype, body, offset)
            arrays[name] = view.astype(dtype.newbyteorder("="))  # copies: writable and aligned
            offset += size
    except (struct.error, KeyError, ValueError, OverflowError) as error:
        raise DamagedEntryError(str(error)) from error
    if offset != len(body):
        raise DamagedEntryError(f"{len(body) - offset} bytes too many")
    return arrays


def encode_entry(key: bytes, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Write named arrays down as an entry; its checksum holds for this key alone, so that swapped entries are seen."""
    body = _encode_arrays(arrays)
    return _MAGIC + _checksum(key, body) + body


def decode_entry(key: bytes, value: object) -> dict[str, np.ndarray]:
    """Read what `encode_entry` wrote under that key, or raise `DamagedEntryError`."""
    start = len(_MAGIC) + _CHECKSUM_SIZE
    if not isinstance(value, bytes) or value[: len(_MAGIC)] != _MAGIC:
        raise DamagedEntryError("not an entry of this version")
    body = value[start:]
    if value[len(_MAGIC) : start] != _checksum(key, body):
        raise DamagedEntryError("checksum differs")
    return _decode_arrays(body)

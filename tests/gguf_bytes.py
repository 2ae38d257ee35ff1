"""GGUF files taken apart and put together again, with whatever a test wants to be wrong in them."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def pack_string(raw):
    raw = raw.encode() if isinstance(raw, str) else raw
    return struct.pack("<Q", len(raw)) + raw


def pack_value(kind, value):
    """Bytes of a value; `kind` is a number, or (ARR, element's kind)."""
    if isinstance(kind, tuple):
        head = struct.pack("<iQ", kind[1], len(value))
        if kind[1] == STR:
            return head + b"".join(map(pack_string, value))
        return head + struct.pack(f"<{len(value)}{CODES[kind[1]]}", *value)
    return pack_string(value) if kind == STR else struct.pack("<" + CODES[kind], value)


@dataclass
class Parts:
    """What a GGUF file is made of: keys to (kind, value), tensors to [shape, type, data]."""

    keys: dict = field(default_factory=dict)
    tensors: dict = field(default_factory=dict)
    version: int = 3

    def set(self, key, kind, value):
        self.keys[key] = (kind, value)
        return self

    def value(self, key):
        return self.keys[key][1]

    def header(self):
        """All before the data: counts, keys, tensor directory."""
        out = [b"GGUF", struct.pack("<IQQ", self.version, len(self.tensors), len(self.keys))]
        for key, (kind, value) in self.keys.items():
            out += [pack_string(key), struct.pack("<i", kind[0] if isinstance(kind, tuple) else kind)]
            out.append(pack_value(kind, value))
        offset = 0
        for name, (shape, kind, data) in self.tensors.items():
            out += [pack_string(name), struct.pack(f"<I{len(shape)}Q", len(shape), *shape)]
            out.append(struct.pack("<iQ", kind, offset))
            offset += len(data) + -len(data) % self.alignment
        return b"".join(out)

    @property
    def alignment(self):
        return self.keys.get("general.alignment", (U32, 32))[1]

    def tobytes(self):
        head = self.header()
        out = [head, bytes(-len(head) % self.alignment)]
        for _, _, data in self.tensors.values():
            out += [data, bytes(-len(data) % self.alignment)]
        return b"".join(out)

    def write(self, path):
        Path(path).write_bytes(self.tobytes())
        return Path(path)


def take_apart(path):
    """Read a sound file."""
    raw, at = Path(path).read_bytes(), 24
    version, n_tensors, n_keys = struct.unpack_from("<IQQ", raw, 4)

    def take(code):
        nonlocal at
        values = struct.unpack_from("<" + code, raw, at)
        at += struct.calcsize("<" + code)
        return values

    def take_string():
        nonlocal at
        (n,) = take("Q")
        at += n
        return raw[at - n : at]

    parts = Parts(version=version)
    for _ in range(n_keys):
        key, (kind,) = take_string().decode(), take("i")
        if kind == ARR:
            inner, n = take("iQ")
            values = [take_string() for _ in range(n)] if inner == STR else list(take(f"{n}{CODES[inner]}"))
            parts.set(key, (ARR, inner), values)
        else:
            parts.set(key, kind, take_string() if kind == STR else take(CODES[kind])[0])
    for _ in range(n_tensors):
        name, (n_dims,) = take_string().decode(), take("I")
        shape, (kind, offset) = list(take(f"{n_dims}Q")), take("iQ")
        parts.tensors[name] = [shape, kind, offset]
    start = at + -at % parts.alignment
    ends = [*[offset for _, _, offset in parts.tensors.values()][1:], len(raw) - start]
    for tensor, end in zip(parts.tensors.values(), ends, strict=False):  # a vocabulary has no tensors
        tensor[2] = raw[start + tensor[2] : start + end]
    return parts


def with_sentencepiece(parts, words=("▁", "joy", "▁joy", "anger", "e", "r")):
    """Give a model a SentencePiece vocabulary of the same size: control tokens, all bytes, `words`, fillers."""
    n = len(parts.value("tokenizer.ggml.tokens"))
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    tokens += [f"<filler{i}>" for i in range(n - len(tokens))]
    types = [2, 3, 3, *[6] * 256, *[1] * (n - 259)]
    parts.set("tokenizer.ggml.model", STR, "llama")
    parts.set("tokenizer.ggml.tokens", (ARR, STR), tokens)
    parts.set("tokenizer.ggml.token_type", (ARR, I32), types)
    parts.set("tokenizer.ggml.scores", (ARR, F32), [-float(i) for i in range(n)])
    for key, token in {"bos": 1, "eos": 2, "unknown": 0}.items():
        parts.set(f"tokenizer.ggml.{key}_token_id", U32, token)
    return parts


def mutate(raw, rng, limit):
    """Damage the first `limit` bytes of a file as a bad disk, a bad download or a bad person would."""
    raw, at = bytearray(raw), int(rng.integers(0, min(limit, len(raw) - 8)))
    kind = rng.integers(0, 8)
    if kind < 3:
        raw[at] ^= 1 << int(rng.integers(0, 8))
    elif kind == 3:
        raw[at] = int(rng.integers(0, 256))
    elif kind == 4:
        size = int(rng.choice([4, 8]))
        value = int(rng.choice([0, 1, 2, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1]))
        raw[at : at + size] = (value % 256**size).to_bytes(size, "little")
    elif kind == 5:
        del raw[at : at + int(rng.integers(1, 64))]
    elif kind == 6:
        raw[at:at] = raw[at : at + int(rng.integers(1, 64))]
    else:
        del raw[at:]
    return bytes(raw)

"""The header check: what is sound passes, what is damaged is an error that names the file, and nothing else happens."""

import ctypes
import hashlib
import struct
import time
import tracemalloc
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from adapters import write_adapter
from campaigns import at_most
from gguf_bytes import ARR, BOOL, F32, I32, STR, U8, U16, U32, mutate, pack_string, take_apart, with_sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_cpp._ctypes_extensions import load_shared_library
from tiny_gguf import CHATML, write_tiny_gguf

from skmlmc._models import loaded
from skmlmc._models.files import file_state, resolve_lora, resolve_model
from skmlmc._models.header import BLOCKS, GGUFFile, HeaderError
from skmlmc._models.identity import model_fingerprint
from skmlmc._models.soundness import check_adapter, check_model, part_paths


@pytest.fixture
def parts(tiny_model):
    return take_apart(tiny_model)


def refused(path, match, check=check_model):
    with pytest.raises(ValueError, match=match) as caught:
        check(Path(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("arch", ["llama", "gemma3", "mamba"])
@pytest.mark.parametrize("params", [{}, {"chat_template": CHATML, "add_bos": True}, {"n_layer": 1, "n_embd": 64}])
def test_sound_models_pass(tmp_path, arch, params):
    check_model(Path(write_tiny_gguf(tmp_path / "m.gguf", arch=arch, **params)))


def test_sound_variants_pass(tmp_path, parts):
    check_model(with_sentencepiece(take_apart(parts.write(tmp_path / "m.gguf"))).write(tmp_path / "spm.gguf"))
    parts.version = 2
    check_model(parts.write(tmp_path / "v2.gguf"))
    parts.set("general.alignment", U32, 4096)
    check_model(parts.write(tmp_path / "aligned.gguf"))
    parts.set("made.up", (ARR, F32), [1.0] * 10_000).set("made.up.too", (ARR, STR), ["", "x" * 10_000])
    check_model(parts.write(tmp_path / "more.gguf"))


def test_sound_adapters_pass(tmp_path):
    for name, params in {"a": {}, "b": {"arch": "gemma3", "rank": 4}}.items():
        check_adapter(Path(write_adapter(tmp_path / f"{name}.gguf", **params)))


@pytest.mark.model
def test_a_real_model_passes_quickly(embedded_model):
    check_model(Path(embedded_model))
    begin = time.process_time()
    check_model(Path(embedded_model))
    assert time.process_time() - begin < 1, "takes 20 ms on an idle machine"


def test_the_reader_reads_what_was_written(tiny_chat_model):
    written = take_apart(tiny_chat_model)
    with GGUFFile(Path(tiny_chat_model)) as file:
        read = file.read()
        tokens = read.values["tokenizer.ggml.tokens"]
        words = file.texts(tokens)
        data = {name: file.data[t.start : t.start + 4 * int(np.prod(t.shape))] for name, t in read.tensors.items()}
    assert words == written.value("tokenizer.ggml.tokens")
    assert list(read.values) == list(written.keys)
    for key, (kind, value) in written.keys.items():
        assert read.kinds[key] == (kind[0] if isinstance(kind, tuple) else kind)
        if kind == STR:
            assert read.values[key] == value.decode()
        elif not isinstance(kind, tuple):
            assert read.values[key] == value
    assert {name: list(t.shape) for name, t in read.tensors.items()} == {n: t[0] for n, t in written.tensors.items()}
    for name, (_, _, expected) in written.tensors.items():
        assert expected.startswith(data[name])


def test_block_sizes_are_ggmls():
    ggml = load_shared_library("ggml-base", Path(llama_cpp.__file__).parent / "lib")
    ggml.ggml_blck_size.restype, ggml.ggml_type_size.restype = ctypes.c_int64, ctypes.c_size_t
    for kind, (elements, n_bytes) in BLOCKS.items():
        assert (ggml.ggml_blck_size(kind), ggml.ggml_type_size(kind)) == (elements, n_bytes)


def test_types_and_architectures_of_tomorrow_are_left_to_llama_cpp(tmp_path, parts):
    """What is not known here may be known to a newer llama.cpp; this one refuses it without harm."""
    parts.tensors["blk.0.ffn_up.weight"][1] = 1000
    path = parts.write(tmp_path / "type.gguf")
    check_model(path)
    with pytest.raises(ValueError, match="llama.cpp could not load"):
        loaded.load_model(path)
    parts.tensors["blk.0.ffn_up.weight"][1] = 0
    for key in [key for key in parts.keys if key.startswith("llama.")]:
        parts.keys[key.replace("llama.", "tomorrow.")] = parts.keys.pop(key)
    path = parts.set("general.architecture", STR, "tomorrow").write(tmp_path / "arch.gguf")
    check_model(path)
    with pytest.raises(ValueError, match="llama.cpp could not load.*unknown model architecture"):
        loaded.load_model(path)


def test_every_truncation_is_noticed(tmp_path, tiny_model):
    raw, path = Path(tiny_model).read_bytes(), tmp_path / "short.gguf"
    header = len(take_apart(tiny_model).header())
    for end in [*range(0, 64), *range(64, header, 97), *range(header, len(raw), 9973), len(raw) - 1]:
        path.write_bytes(raw[:end])
        refused(path, "truncated|expected it to begin with|claims")


def start(version=3, n_tensors=0, n_keys=0):
    return struct.pack("<4sIQQ", b"GGUF", version, n_tensors, n_keys)


def one(what, name, form, *values, times=1):
    """A header of one key or tensor, or of the same one several times, and some bytes behind it."""
    count = {"n_keys": times} if what == "key" else {"n_tensors": times}
    return start(**count) + times * (pack_string(name) + struct.pack("<" + form, *values)) + bytes(999)


HUGE = [2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]
LIES = {
    "other file": (b"PK\x03\x04" + bytes(100), "begin with b'GGUF'"),
    "version 1": (start(version=1), "version 1, expected version 2 or 3"),
    "version 4": (start(version=4), "version 4"),
    "big-endian": (struct.pack(">4sIQQ", b"GGUF", 3, 1, 1), "big-endian"),
    "counts without content": (start(n_tensors=3, n_keys=2), "truncated"),
    "empty key": (one("key", "", "iB", 0, 1), "empty"),
    "key twice": (one("key", "a", "iB", 0, 1, times=2), "'a', which is repeated"),
    "unknown type": (one("key", "a", "iQ", 13, 1), "type 13"),
    "negative type": (one("key", "a", "iQ", -1, 1), "type -1"),
    "nested array": (one("key", "a", "iiQ", 9, 9, 1), "array of type 9"),
    "dimensions": (one("tensor", "t", "I", 5), "claims 5 dimensions"),
    "name": (one("tensor", "t" * 64, "I", 1), "claims 64 bytes, expected at most 63"),
    "tensor twice": (one("tensor", "t", "IQiQ", 1, 0, 0, 0, times=2), "'t' is there twice"),
    "broken block": (one("tensor", "t", "IQiQ", 1, 33, 2, 0), "multiple of 32"),
}
for n in HUGE:
    LIES |= {
        f"{n} keys": (start(n_keys=n) + bytes(99), "claims"),
        f"{n} tensors": (start(n_tensors=n) + bytes(99), "claims"),
        f"key of {n}": (start(n_keys=1) + struct.pack("<Q", n) + bytes(99), "claims"),
        f"text of {n}": (one("key", "a", "iQ", 8, n), "truncated, or"),
        f"texts of {n}": (one("key", "a", "iiQQ", 9, 8, 2, n), "'a' is damaged"),
        f"shape of {n}": (one("tensor", "t", "IQQiQ", 2, n, n, 0, 0), "claims a shape|truncated"),
        f"offset {n}": (one("tensor", "t", "IQiQ", 1, 1, 0, n), "lies at"),
        **{f"{n} of type {kind}": (one("key", "a", "iiQ", 9, kind, n), "'a'") for kind in (0, 5, 8, 12)},
    }


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused_without_memory(name, tmp_path):
    raw, match = LIES[name]
    path = tmp_path / "lie.gguf"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        refused(path, match)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("alignment", [(U32, 0), (U32, 3), (U32, 48), (STR, "32"), (I32, 32)])
def test_alignment_must_be_a_power_of_two(alignment, tmp_path, parts):
    raw = parts.set("general.alignment", U32, 64).tobytes()
    kind, value = alignment
    old = pack_string("general.alignment") + struct.pack("<iI", U32, 64)
    new = pack_string("general.alignment") + struct.pack("<i", kind)
    new += pack_string(value) if kind == STR else struct.pack("<i", value)
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.replace(old, new))
    refused(path, "general.alignment is .* expected a power of two")


def check_quietly(path, check):
    """Whether the check passes; whatever else it raises than ValueError with the file's name is a failure."""
    try:
        check(path)
    except ValueError as error:
        assert str(path) in str(error)
        return False
    return True


@pytest.mark.parametrize("n", [125, pytest.param(1250, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("kind", ["chat", "sentencepiece", "mamba", "adapter"])
def test_damage_anywhere_is_an_error_or_harmless(kind, n, tmp_path, tiny_chat_model):
    if kind == "adapter":
        source = write_adapter(tmp_path / "source.gguf")
    elif kind == "mamba":
        source = write_tiny_gguf(tmp_path / "source.gguf", arch="mamba")
    else:
        parts = take_apart(tiny_chat_model)
        source = (with_sentencepiece(parts) if kind == "sentencepiece" else parts).write(tmp_path / "source.gguf")
    raw, header = Path(source).read_bytes(), len(take_apart(source).header())
    path, rng, passed = tmp_path / "mutant.gguf", np.random.default_rng(0), 0
    check, begin = check_adapter if kind == "adapter" else check_model, time.process_time()
    tracemalloc.start()
    for _ in range(n):
        path.write_bytes(mutate(raw, rng, header))
        passed += check_quietly(path, check)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < passed < n, "some damage is harmless, such as a letter of the model's name"
    assert peak < 20_000_000
    assert time.process_time() - begin < 30


@given(st.binary(max_size=300))
@settings(at_most(500), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_behind_the_magic(tmp_path, raw):
    path = tmp_path / "any.gguf"
    path.write_bytes(b"GGUF" + raw)
    assert not check_quietly(path, check_model)
    assert not check_quietly(path, check_adapter)


numbers = st.one_of(st.integers(0, 10), st.sampled_from([2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))


@given(
    st.lists(st.tuples(st.text(max_size=5), st.integers(-1, 14), st.integers(-1, 14), numbers, st.binary(max_size=40))),
    st.lists(st.tuples(st.text(max_size=5), st.lists(numbers, max_size=5), st.integers(-1, 45), numbers)),
)
@settings(at_most(500), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_headers_of_the_right_form(tmp_path, keys, tensors):
    raw = start(n_tensors=len(tensors), n_keys=len(keys))
    for key, kind, inner, count, value in keys:
        raw += (
            pack_string(key)
            + struct.pack("<i", kind)
            + (struct.pack("<iQ", inner, count) if kind == 9 else b"")
            + value
        )
    for name, shape, kind, offset in tensors:
        raw += pack_string(name) + struct.pack(f"<I{len(shape)}QiQ", len(shape), *shape, kind, offset)
    path = tmp_path / "form.gguf"
    path.write_bytes(raw + bytes(100))
    assert not check_quietly(path, check_model)
    try:
        with GGUFFile(path) as file:
            read = file.read()
    except HeaderError:
        return
    # A key's drawn bytes may be longer or shorter than its value, so that the names behind it are read elsewhere.
    assert len(read.tensors) == len(tensors)
    for tensor in read.tensors.values():
        elements, n_bytes = BLOCKS.get(tensor.kind, (1, 0))
        assert tensor.start + int(np.prod(tensor.shape, dtype=object)) // elements * n_bytes <= file.size


def test_a_sound_file_is_read_once(tmp_path, monkeypatch):
    path = Path(write_tiny_gguf(tmp_path / "m.gguf"))
    read, seen = GGUFFile.read, []
    monkeypatch.setattr(GGUFFile, "read", lambda self: seen.append(1) or read(self))
    for _ in range(3):
        assert resolve_model(path) == path
    assert len(seen) == 1
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    for _ in range(2):
        with pytest.raises(ValueError, match="truncated"):
            resolve_model(path)
    path.write_bytes(raw)
    resolve_model(path)


def split(parts, folder, n=3, name="m"):
    """Write a model in `n` files, as llama-gguf-split does."""
    tensors = list(parts.tensors.items())
    paths = []
    for i in range(n):
        part = type(parts)(dict(parts.keys) if i == 0 else {}, dict(tensors[i::n]))
        part.set("split.no", U16, i).set("split.count", U16, n).set("split.tensors.count", I32, len(tensors))
        paths.append(part.write(folder / f"{name}-{i + 1:05}-of-{n:05}.gguf"))
    return paths


def test_a_model_in_several_files(tmp_path, parts):
    paths = split(parts, tmp_path)
    check_model(paths[0])
    assert loaded.load_model(paths[0]).n_vocab == len(parts.value("tokenizer.ggml.tokens"))
    assert part_paths(paths[0]) == paths and part_paths(paths[1]) == [paths[1]]
    refused(paths[1], "is part 2 of 3 of a model: give the path of the first part")
    state, fingerprint = file_state(paths[0]), model_fingerprint(paths[0])
    raw = paths[2].read_bytes()
    paths[2].write_bytes(raw[:-8] + bytes(8))
    assert file_state(paths[0]) != state and model_fingerprint(paths[0]) != fingerprint, "any part counts"
    paths[2].write_bytes(raw[:-1])
    refused(paths[0], f"'{paths[2].name}' is damaged: it is truncated")
    paths[2].unlink()
    refused(paths[0], f"'{paths[2].name}' is missing: put all parts into one folder")
    renamed = paths[0].rename(tmp_path / "renamed.gguf")
    refused(renamed, "llama-gguf-split --merge")


def test_a_part_needs_its_number(tmp_path, parts):
    """llama.cpp aborts where the number of a later part has another type."""
    paths = split(parts, tmp_path, n=2)
    part = take_apart(paths[1])
    part.set("split.no", U32, 1).write(paths[1])
    refused(paths[0], "has no number")
    part = take_apart(paths[0])
    part.set("split.no", STR, "1").write(paths[0])
    refused(paths[0], "'split.no' is '1', expected a number")


def test_one_file_keeps_its_fingerprint(tiny_model):
    """Caches of earlier versions stay valid."""
    raw = Path(tiny_model).read_bytes()
    digest = hashlib.blake2b(str(len(raw)).encode(), digest_size=32)
    digest.update(raw)
    for k in range(1, 65):
        at = (len(raw) - 65536) * k // 64
        digest.update(raw[at : at + 65536])
    assert model_fingerprint(Path(tiny_model)) == digest.digest()


ENCODER = "is an encoder with .*: it gives no next word. Expected a language model"
KINDS = {
    "translator": ({"general.architecture": (STR, "t5")}, ENCODER),
    "diffusion": ({"general.architecture": (STR, "dream")}, "diffusion model"),
    "projector": ({"general.architecture": (STR, "clip")}, "mmproj"),
    "projector by type": ({"general.type": (STR, "mmproj")}, "mmproj"),
    "imatrix": ({"general.type": (STR, "imatrix")}, "importance matrix"),
    "adapter": ({"general.type": (STR, "adapter")}, "is an adapter, not a model: give it as lora="),
    "draft": ({"general.architecture": (STR, "eagle3")}, "helper model"),
    "ranks": ({"llama.pooling_type": (U32, 4)}, "pooling_type is 4, rank"),
    "no vocabulary": ({"tokenizer.ggml.model": None, "tokenizer.ggml.tokens": None}, "has no vocabulary"),
    "no words": ({"tokenizer.ggml.tokens": None}, "has no vocabulary"),
    "none": ({"tokenizer.ggml.model": (STR, "none")}, "has no vocabulary"),
    "no_vocab": ({"tokenizer.ggml.model": (STR, "no_vocab")}, "has no vocabulary"),
    "no architecture": ({"general.architecture": None}, "general.architecture' is None, expected a name"),
    "architecture of another type": ({"general.architecture": (U8, 1)}, "general.architecture' is 1"),
}


@pytest.mark.parametrize("name", KINDS)
def test_files_of_another_kind(name, tmp_path, parts):
    changes, match = KINDS[name]
    for key, new in changes.items():
        if new is None:
            del parts.keys[key]
        else:
            parts.set(key, *new)
    path = parts.write(tmp_path / "kind.gguf")
    refused(path, match)
    with pytest.raises(ValueError, match=match):
        resolve_model(path)


EMBEDDERS = {
    "bert": (
        {"general.architecture": (STR, "bert"), **{f"bert.{k}_length": (U32, 64) for k in ("context", "embedding")}},
        "an encoder .general.architecture is 'bert'",
    ),
    "not causal": ({"llama.attention.causal": (BOOL, False)}, "an encoder .llama.attention.causal is false"),
    "pooled": ({"llama.pooling_type": (U32, 1)}, "an embedding model .llama.pooling_type is 1, mean"),
}


@pytest.mark.parametrize("name", EMBEDDERS)
def test_embedding_models_are_of_use_where_they_are_wanted(name, tmp_path, parts):
    changes, what = EMBEDDERS[name]
    for key, new in changes.items():
        parts.set(key, *new)
    path = parts.write(tmp_path / "kind.gguf")
    assert resolve_model(path, embeds=True) == resolve_model(path, embeds=None) == path
    with pytest.raises(ValueError, match=f"is {what}.*: it gives no next word. Expected .* EmbeddingExtractor makes"):
        resolve_model(path)


def test_a_vocabulary_without_weights(tmp_path, parts):
    parts.tensors.clear()
    refused(parts.write(tmp_path / "vocabulary.gguf"), "without weights")


def test_an_importance_matrix_or_projector_is_no_adapter(tmp_path, parts):
    parts.set("general.type", STR, "imatrix")
    del parts.keys["tokenizer.ggml.tokens"]
    path = parts.write(tmp_path / "m.gguf")
    refused(path, "is no adapter .general.type is 'imatrix'", check_adapter)
    with pytest.raises(ValueError, match="is no adapter"):
        resolve_lora(str(path))

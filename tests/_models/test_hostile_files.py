"""Files on which llama.cpp ends the process: each is an exception that names the file, what is wrong and a way out.

What each case does to llama.cpp when nothing checks it first stands beside it, as measured with llama-cpp-python
0.3.36.
"""

import errno
import os
import socket
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from adapters import write_adapter
from campaigns import sampled
from gguf_bytes import ARR, BOOL, F32, I32, STR, U8, U32, take_apart, with_sentencepiece
from tiny_gguf import write_tiny_gguf

from skmlmc import HiddenStateExtractor, StepwiseExtractor, UnaryExtractor, clear_models
from skmlmc._models.files import resolve_lora, resolve_model
from skmlmc._models.loaded import load_model, load_vocabulary

LABELS, TEXTS = ["joy", "anger"], ["I miss her.", "We won!!!"]
NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _forget():
    yield
    clear_models()


def refused(path, match, resolve=resolve_model):
    with pytest.raises(ValueError, match=match) as caught:
        resolve(path)
    assert str(path) in str(caught.value)


def ends_a_trial(path, match=""):
    """The header check finds nothing; the trial run does."""
    refused(
        path, f"A trial run of .* with llama.cpp ended its process: .*{match}", lambda p: load_model(resolve_model(p))
    )


HEADS, ROPE, WINDOW = "attention.head_count_kv", "rope.dimension_count", "attention.sliding_window"
# arch, key, type, values, and what llama.cpp does with them
DEADLY = [
    ("llama", "block_count", U32, [0, 513, 65535, 2**32 - 1], "aborts"),
    ("llama", "nextn_predict_layers", U32, [3, 2**32 - 1], "aborts"),
    ("llama", "expert_count", U32, [1, 8, 1025, 2**32 - 1], "aborts"),
    ("llama", "expert_used_count", U32, [1, 2**32 - 1], "aborts"),
    ("llama", "expert_used_count", (ARR, U32), [[1, 0]], "aborts"),
    ("llama", "expert_group_count", U32, [1, 2, 2**32 - 1], "aborts"),
    ("llama", "attention.layer_norm_rms_epsilon", F32, [-1.0, NAN, -INF, -1e-9], "aborts"),
    ("llama", "rope.scaling.type", STR, ["", "mystery"], "aborts"),
    ("llama", HEADS, (ARR, U32), [[4, 0], [4, 1]], "aborts"),
    ("gemma3", ROPE, U32, [1, 3, 16, 64, 2**32 - 1], "aborts"),
    ("gemma3", ROPE + "_swa", U32, [1, 64], "aborts"),
    ("gemma3", WINDOW, U32, [2**31 - 1, 2**31], "asks for all memory, then aborts"),
    ("gemma3", WINDOW + "_pattern", U32, [1], "aborts"),
]
DEADLY = [(arch, key, kind, value) for arch, key, kind, values, _ in DEADLY for value in values]


@pytest.mark.parametrize(("arch", "key", "kind", "value"), sampled(DEADLY, 12))
def test_deadly_sizes(arch, key, kind, value, tmp_path, trials):
    parts = take_apart(write_tiny_gguf(tmp_path / "m.gguf", arch=arch))
    ends_a_trial(parts.set(f"{arch}.{key}", kind, value).write(tmp_path / "bad.gguf"))


@pytest.mark.parametrize("value", [0, 2**31, 2**32 - 1])
def test_context_lengths(value, tmp_path, tiny_model):
    """llama.cpp says nothing, and works with none or with negative ones."""
    path = take_apart(tiny_model).set("llama.context_length", U32, value).write(tmp_path / "bad.gguf")
    refused(path, f"'llama.context_length' is {value}, expected 1 to .* Download the file again, or convert")


def test_missing_sizes(tmp_path, tiny_model):
    parts = take_apart(tiny_model)
    del parts.keys["llama.block_count"]
    refused(parts.write(tmp_path / "bad.gguf"), "could not load .*llama.block_count", load_model)
    del parts.keys["llama.context_length"]
    refused(parts.write(tmp_path / "bad.gguf"), "'llama.context_length' is None, expected 1 to")


@pytest.mark.parametrize(
    ("key", "value"),
    [("rope.freq_base", NAN), ("rope.freq_base", -1.0), ("rope.scaling.factor", NAN)],
)
def test_numbers_that_give_no_numbers(key, value, tmp_path, tiny_model):
    path = take_apart(tiny_model).set(f"llama.{key}", F32, value).write(tmp_path / "bad.gguf")
    fitted = StepwiseExtractor(str(path), labels=LABELS, n_threads=1).fit()
    with pytest.raises(ValueError, match="bad.gguf' computes .*NaN.* or numbers in its header"):
        fitted.transform(TEXTS)


@pytest.mark.parametrize(("count", "groups", "used"), sampled([(8, 3, 1), (8, 4, 0), (8, 4, 4)]))
def test_expert_groups(count, groups, used, tmp_path, tiny_model, trials):
    parts = take_apart(tiny_model).set("llama.expert_count", U32, count).set("llama.expert_used_count", U32, 2)
    parts.set("llama.expert_group_count", U32, groups).set("llama.expert_group_used_count", U32, used)
    ends_a_trial(parts.write(tmp_path / "bad.gguf"), "GGML_ASSERT")


@pytest.mark.parametrize(
    ("key", "kind", "value", "match"),
    [
        ("tokens", U32, 3, "is 3, expected texts"),  # aborts
        ("tokens", (ARR, STR), [], "expected texts"),
        ("tokens", (ARR, I32), [1] * 400, "expected texts"),
        ("tokens", (ARR, STR), ["a", "b"], "shape .* expected a row for each of 2 tokens|as many rows"),
        ("token_type", (ARR, I32), [1], "'tokenizer.ggml.token_type' is an array of 1, expected one for each"),
        ("scores", (ARR, F32), [], "'tokenizer.ggml.scores' is an array of 0, expected one for each"),
        ("scores", U32, 1, "'tokenizer.ggml.scores' is 1, expected one for each"),
    ],
)
def test_deadly_vocabularies(key, kind, value, match, tmp_path, tiny_model):
    parts = take_apart(tiny_model).set(f"tokenizer.ggml.{key}", kind, value)
    refused(parts.write(tmp_path / "bad.gguf"), match)


@pytest.mark.parametrize(
    "pair", [(b"a" * 3, b"a" * 3), (b"word" * 9, b"word" * 9), (b"", b"[EMPTY_7]"), (b"x" * 99,) * 2]
)
def test_a_word_that_is_there_twice(pair, tmp_path, tiny_model):
    """llama.cpp aborts; an empty word is one that it calls [EMPTY_n] itself."""
    parts = take_apart(tiny_model)
    words = parts.value("tokenizer.ggml.tokens")
    words[7], words[200] = pair[0], b"other"
    resolve_model(parts.write(tmp_path / "good.gguf"))
    words[200] = pair[1]
    refused(parts.write(tmp_path / "bad.gguf"), "'tokenizer.ggml.tokens' has a word twice")


@pytest.mark.parametrize("byte", [0, 10, 65, 255])
def test_a_sentencepiece_vocabulary_spells_every_byte(byte, tmp_path, tiny_model):
    """Otherwise an exception that nobody catches ends the process at the first unknown character."""
    parts = with_sentencepiece(take_apart(tiny_model))
    words = parts.value("tokenizer.ggml.tokens")
    words[3 + byte] = "filler"
    refused(parts.write(tmp_path / "bad.gguf"), f"spells no byte 0x{byte:02x}")
    words[3 + byte] = bytes([byte]) if byte else "<0x00>"
    parts.value("tokenizer.ggml.token_type")[3 + byte] = 1 if byte else 6
    path = parts.write(tmp_path / "good.gguf")
    resolve_model(path)
    assert load_vocabulary(path).tokenize("\n A\x00ü", False)


NORM, WEIGHT = "output_norm.weight", "blk.0.ffn_up.weight"
TENSORS = [
    *(("llama", WEIGHT, kind, n) for kind, n in {24: 1, 9: 36 / 32, 25: 2, 26: 4, 27: 8, 28: 8}.items()),  # SIGSEGV
    ("llama", NORM, 1, 2),  # F16: aborts, as all that follow
    ("llama", "blk.0.attn_norm.weight", 30, 2),  # BF16
    ("llama", "blk.1.ffn_norm.weight", 8, 34 / 32),  # Q8_0
    ("mamba", "blk.0.ssm_conv1d.weight", 1, 2),
    ("mamba", "blk.0.ssm_a", 30, 2),
    ("mamba", "blk.0.ssm_d", 2, 18 / 32),
    ("mamba", "blk.0.ssm_dt.bias", 1, 2),
    ("llama", "token_embd.weight", 26, 4),
]


@pytest.mark.parametrize(("arch", "name", "kind", "bytes_each"), sampled(TENSORS, 14))
def test_deadly_tensor_types(arch, name, kind, bytes_each, tmp_path, trials):
    parts = take_apart(write_tiny_gguf(tmp_path / "m.gguf", arch=arch))
    shape = parts.tensors[name][0]
    parts.tensors[name] = [shape, kind, bytes(round(int(np.prod(shape)) * bytes_each))]
    ends_a_trial(parts.write(tmp_path / "bad.gguf"), "SIGSEGV" if name == WEIGHT else "SIGABRT")


@pytest.mark.parametrize("alignment", sampled([1, 2, 4, 8]))
def test_unaligned_tensors(alignment, tmp_path, tiny_model, trials):
    """llama.cpp maps the file and aborts; an adapter's tensors are copied."""
    parts = take_apart(tiny_model).set("general.alignment", U32, alignment).set("pad", STR, "")
    while len(parts.header()) % 32 in (0, *range(32 - alignment + 1, 32)):
        parts.set("pad", STR, parts.value("pad") + "x")
    ends_a_trial(parts.write(tmp_path / "bad.gguf"), "TENSOR_ALIGNMENT")
    adapter = take_apart(write_adapter(tmp_path / "a.gguf")).set("general.alignment", U32, alignment)
    resolve_lora(adapter.write(tmp_path / "adapter.gguf"))


@pytest.mark.parametrize(
    ("key", "kind", "value", "match"),
    [
        # Of another type: llama.cpp aborts.
        ("general.architecture", U32, 1, "'general.architecture' is 1, expected a text"),
        ("general.type", U32, 1, "is no adapter .general.type is 1"),
        ("adapter.type", (ARR, U32), [1], "'adapter.type' is .*, expected a text"),
        ("adapter.type", STR, "other", "'adapter.type' is 'other', expected 'lora'"),
        ("adapter.lora.alpha", U8, 2, "'adapter.lora.alpha' is 2, expected a"),
        ("adapter.lora.alpha", F32, NAN, "'adapter.lora.alpha' is nan, expected a finite number"),
    ],
)
def test_deadly_adapters(key, kind, value, match, tmp_path):
    parts = take_apart(write_adapter(tmp_path / "a.gguf")).set(key, kind, value)
    refused(parts.write(tmp_path / "bad.gguf"), match, resolve_lora)


@pytest.mark.parametrize("kind", [24, 25, 26, 27, 28])
def test_deadly_adapter_tensors(kind, tmp_path):
    parts = take_apart(write_adapter(tmp_path / "a.gguf"))
    name, (shape, _, _) = next(iter(parts.tensors.items()))
    parts.tensors[name] = [shape, kind, bytes(8 * int(np.prod(shape)))[: {24: 1, 25: 2, 26: 4}.get(kind, 8) * 64]]
    refused(parts.write(tmp_path / "bad.gguf"), f"tensor '{name}' has type", resolve_lora)


def test_an_adapter_of_matrices(tmp_path):
    """llama.cpp looks at two sizes of a tensor and aborts at a third one; experts have it."""
    parts = take_apart(write_adapter(tmp_path / "a.gguf"))
    shape, kind, data = parts.tensors.pop("blk.0.attn_q.weight.lora_a")
    parts.tensors["blk.0.attn_q.weight.lora_a"] = [[*shape, 2], kind, 2 * data]
    refused(parts.write(tmp_path / "bad.gguf"), r"lora_a' has shape \(32, 2, 2\), expected a matrix", resolve_lora)
    parts.tensors["blk.0.ffn_up_exps.weight.lora_a"] = parts.tensors.pop("blk.0.attn_q.weight.lora_a")
    resolve_lora(parts.write(tmp_path / "experts.gguf"))


# Values that look odd, which llama.cpp bears: the check must bear them too.
ODD = {
    "ids out of range": {"tokenizer.ggml.bos_token_id": (U32, 2**32 - 1), "tokenizer.ggml.eos_token_id": (U32, 10**6)},
    "broken merges": {"tokenizer.ggml.merges": (ARR, STR, ["", "x", " ", "a b c", b"\xff \xfe"])},
    "long context": {"llama.context_length": (U32, 2**31 - 1)},
    "long name": {"general.name": (STR, "x" * 10**6)},
    "junk name": {"general.name": (STR, b"\xff\x00\xfe")},
    "flag of another type": {"tokenizer.ggml.add_bos_token": (BOOL, True)},
    "no types": {"tokenizer.ggml.token_type": None},
}


@pytest.mark.parametrize("name", ODD)
def test_what_llama_cpp_bears(name, tmp_path, tiny_model):
    parts = take_apart(tiny_model)
    for key, new in ODD[name].items():
        if new is None:
            del parts.keys[key]
        else:
            *kind, value = (tuple(new[:-1]), new[-1]) if len(new) == 3 else new
            parts.set(key, kind[0], value)
    steps = (
        StepwiseExtractor(str(parts.write(tmp_path / "odd.gguf")), labels=LABELS, n_threads=1).fit().transform(TEXTS)
    )
    assert np.isfinite(steps[:, 0]).all()


def within(seconds, function, *args):
    """Call a function that might wait for ever."""
    caught = []

    def call():
        try:
            function(*args)
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits"
    return caught[0]


@pytest.mark.parametrize("resolve", [resolve_model, resolve_lora])
def test_paths_that_are_no_files(resolve, tmp_path):
    os.mkfifo(tmp_path / "fifo.gguf")
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "dangling.gguf").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.gguf").symlink_to(tmp_path / "loop.gguf")
    (tmp_path / "empty.gguf").touch()
    (tmp_path / "to fifo.gguf").symlink_to(tmp_path / "fifo.gguf")
    expected = {
        "fifo.gguf": (ValueError, "device, pipe or socket"),
        "to fifo.gguf": (ValueError, "device, pipe or socket"),
        "folder.gguf": (ValueError, "a folder, but expected a GGUF file inside one"),
        "dangling.gguf": (FileNotFoundError, "link to nothing"),
        "loop.gguf": (FileNotFoundError, "link to nothing"),
        "missing.gguf": (FileNotFoundError, f"There is no {'model' if resolve is resolve_model else 'adapter'} file"),
        "empty.gguf": (ValueError, "expected it to begin with b'GGUF', got b''"),
    }
    for name, (kind, match) in expected.items():
        error = within(10, resolve, str(tmp_path / name))
        assert type(error) is kind and match in str(error) and str(tmp_path / name) in str(error), error
    for device in ("/dev/zero", "/dev/null"):
        if os.path.exists(device):
            assert "device, pipe or socket" in str(within(10, resolve, device))


def test_a_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.gguf")
        assert "device, pipe or socket" in str(within(10, resolve_model, "s.gguf"))


def test_a_pipe_that_takes_the_files_place_is_not_waited_for(tmp_path, tiny_model, monkeypatch):
    """Between the look at the path and its opening it may change."""
    fifo = tmp_path / "fifo.gguf"
    os.mkfifo(fifo)
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    assert "device, pipe or socket" in str(within(10, resolve_model, str(fifo)))


def test_no_permission(tmp_path, tiny_model, monkeypatch):
    path = Path(write_tiny_gguf(tmp_path / "m.gguf"))

    def closed(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(PermissionError, match="No permission to read .*m.gguf.*ls -l"):
        resolve_model(path)


@pytest.mark.parametrize("make", [StepwiseExtractor, UnaryExtractor])
@pytest.mark.parametrize("value", [NAN, INF, 3e38])
@pytest.mark.parametrize("name", ["output.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight"])
def test_weights_that_give_no_numbers(make, value, name, tmp_path, tiny_model):
    """NaN in a result would read as "this step did not happen"."""
    parts = take_apart(tiny_model)
    shape, kind, data = parts.tensors[name]
    parts.tensors[name][2] = struct.pack("<f", value) * (len(data) // 4)
    path = parts.write(tmp_path / "bad.gguf")
    fitted = make(str(path), labels=LABELS, n_threads=1).fit()
    with pytest.raises(ValueError, match="bad.gguf' computes .*NaN.* weights are damaged"):
        fitted.transform(TEXTS)


def test_hidden_states_that_are_no_numbers(tmp_path, tiny_model):
    parts = take_apart(tiny_model)
    parts.tensors["blk.0.ffn_down.weight"][2] = struct.pack("<f", NAN) * (32 * 64)
    path = parts.write(tmp_path / "bad.gguf")
    fitted = HiddenStateExtractor(str(path), labels=LABELS, n_threads=1, layer=0).fit()
    with pytest.raises(ValueError, match="weights are damaged"):
        fitted.transform(TEXTS)


def test_flipped_bits_in_weights_give_numbers_or_an_error(tmp_path, tiny_model):
    """They cannot be told from weights; what comes is finite, or an exception, and never the end of the process."""
    raw, path, rng = Path(tiny_model).read_bytes(), tmp_path / "m.gguf", np.random.default_rng(0)
    begin = len(take_apart(tiny_model).header()) + 32
    for _ in range(30):
        damaged = bytearray(raw)
        for at in rng.integers(begin, len(raw), 20):
            damaged[at] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        os.utime(path, ns=(0, int(rng.integers(2**40))))
        try:
            steps = StepwiseExtractor(str(path), labels=LABELS, n_threads=1).fit().transform(TEXTS)
            assert np.isfinite(steps[:, 0]).all()
        except ValueError as error:
            assert "weights are damaged" in str(error)


def test_the_model_still_works_after_all_that(tiny_model):
    model = load_model(Path(tiny_model))
    assert model.n_vocab > 256 and resolve_model(tiny_model)

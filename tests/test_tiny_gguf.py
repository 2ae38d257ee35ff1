"""The models that the tests share are what they claim to be."""

import contextlib
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest
from tiny_gguf import CHATML, CONTROL_TOKENS, WORDS, apply_merges, byte_letters, merges_for, write_tiny_gguf


@llama_cpp.llama_log_callback
def _silent(level, text, user_data):
    pass


@contextlib.contextmanager
def loaded(path):
    llama_cpp.llama_log_set(_silent, None)
    params = llama_cpp.llama_model_default_params()
    # A default build dies at its first decode on a processor with AMX; without extra buffers it does not.
    params.use_extra_bufts = b"AMX_INT8 = 1" not in llama_cpp.llama_print_system_info()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model, f"llama.cpp refused {path}"
    try:
        yield model
    finally:
        llama_cpp.llama_model_free(model)


def tokenize(model, text, bos=False, special=False):
    vocab = llama_cpp.llama_model_get_vocab(model)
    raw = text.encode()
    ids = (llama_cpp.llama_token * (len(raw) + 8))()
    n = llama_cpp.llama_tokenize(vocab, raw, len(raw), ids, len(ids), bos, special)
    return [llama_cpp.llama_vocab_get_text(vocab, i).decode() for i in ids[:n]]


def last_logits(model, n_tokens=40):
    vocab = llama_cpp.llama_model_get_vocab(model)
    ids = np.random.default_rng(0).integers(0, 256, n_tokens).tolist()
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 64, 1, 1
    context = llama_cpp.llama_init_from_model(model, params)
    try:
        tokens = (llama_cpp.llama_token * n_tokens)(*ids)
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, n_tokens)) == 0
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return np.ctypeslib.as_array(logits, (llama_cpp.llama_vocab_n_tokens(vocab),)).copy()
    finally:
        llama_cpp.llama_free(context)


def test_merges_glue_from_the_left():
    assert merges_for(["joy"]) == [("j", "o"), ("jo", "y")]
    assert merges_for(["an", "jan"]) == [("a", "n"), ("j", "an")]
    assert merges_for(["jojo"]) == [("j", "o"), ("jo", "jo")]


@pytest.mark.parametrize("words", [WORDS, ["banana", "an", "nan", "anan"], [" zu", "zu", "ü", " über"]])
def test_each_word_is_one_piece(words):
    letters = byte_letters()
    for word in words:
        spelled = [letters[byte] for byte in word.encode()]
        assert apply_merges(spelled, merges_for(words)) == ["".join(spelled)]


def test_tokens_are_as_designed(tiny_model):
    with loaded(tiny_model) as model:
        assert tokenize(model, "joy") == ["joy"]
        assert tokenize(model, " joy") == ["Ġjoy"]
        assert tokenize(model, "joyful") == ["joy", "f", "u", "l"]
        assert tokenize(model, "sadness")[0] == tokenize(model, "surprise")[0] == "s"
        assert tokenize(model, "none") == ["none"]
        assert tokenize(model, "\n€") == ["Ċ", "â", "Ĥ", "¬"]
        assert llama_cpp.llama_model_chat_template(model, None) is None


def test_a_vocabulary_of_sentencepiece(tmp_path):
    with loaded(write_tiny_gguf(tmp_path / "m.gguf", sentencepiece=True)) as model:
        assert tokenize(model, "joy") == ["\u2581joy"]
        assert tokenize(model, "an joyful") == ["\u2581a", "n", "\u2581joy", "f", "u", "l"]
        assert tokenize(model, "x\n€") == ["\u2581", "x", "<0x0A>", "<0xE2>", "<0x82>", "<0xAC>"]
        assert tokenize(model, "<|im_end|>", special=True) == ["<|im_end|>"]
        assert np.isfinite(last_logits(model)).all()


def test_what_the_file_calls_control_tokens(tmp_path):
    user_defined = gguf.TokenType.USER_DEFINED
    with loaded(
        write_tiny_gguf(tmp_path / "m.gguf", controls=(*CONTROL_TOKENS, "[X]"), control_type=user_defined)
    ) as m:
        assert tokenize(m, "a[X]") == tokenize(m, "a[X]", special=True) == ["a", "[X]"]


@pytest.mark.parametrize("words", [WORDS, ["banana", "an", "nan", "anan"], [" zu", "zu", "ü", " über"]])
def test_llama_cpp_merges_like_the_writer(tmp_path, words):
    with loaded(write_tiny_gguf(tmp_path / "m.gguf", words=words)) as model:
        for word in words:
            assert len(tokenize(model, word)) == 1


def test_control_tokens_are_tokens_only_where_asked(tiny_chat_model):
    with loaded(tiny_chat_model) as model:
        for text in CONTROL_TOKENS:
            assert tokenize(model, text, special=True) == [text]
            assert len(tokenize(model, text)) > 1
        assert tokenize(model, "x", bos=True) == ["<|end|>", "x"]
        assert llama_cpp.llama_model_chat_template(model, None).decode() == CHATML


def test_beginning_token_only_where_asked(tiny_model, tiny_chat_model):
    for path, expected in [(tiny_model, False), (tiny_chat_model, True)]:
        with loaded(path) as model:
            assert llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(model)) is expected


@pytest.mark.parametrize("arch", ["llama", "gemma3", "mamba"])
def test_every_architecture_decodes(tmp_path, arch):
    path = write_tiny_gguf(tmp_path / "m.gguf", arch=arch)
    with loaded(path) as model:
        assert llama_cpp.llama_model_is_recurrent(model) is (arch == "mamba")
        logits = last_logits(model)
    assert np.isfinite(logits).all()
    assert logits.std() > 0.1


def test_seed_decides_the_file(tmp_path):
    paths = [write_tiny_gguf(tmp_path / f"{i}.gguf", seed=seed) for i, seed in enumerate([0, 0, 1])]
    first, again, other = (Path(path).read_bytes() for path in paths)
    assert first == again != other
    assert len(first) < 500_000


def test_the_embedded_model_is_a_gguf(embedded_model):
    with open(embedded_model, "rb") as file:
        assert file.read(4) == b"GGUF"

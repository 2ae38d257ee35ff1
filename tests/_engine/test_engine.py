"""The engine on real llama.cpp: loading, guards, what is kept and freed, what an interruption leaves behind."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from ctypes import POINTER, c_void_p, cast
from pathlib import Path

import numpy as np
import pytest
from inside import loaded, set_clock
from scripts import run_script
from tiny_gguf import CONTROL_TOKENS, byte_letters, write_tiny_gguf

import skmlmc._engine.model as engine
from skmlmc import HiddenStateExtractor, StepwiseExtractor, UnaryExtractor, clear_models
from skmlmc._engine import memory
from skmlmc._engine.model import C
from skmlmc.prompts import PromptTemplate

ROOT = Path(__file__).parents[2]
KEPT = 2  # models that a process keeps loaded
LABELS = ["joy", "joyful", "anger", "sadness"]
TEXTS = [f"{text} {i}" for i in range(3) for text in ("I miss her", "We won!!!", "it rained and nothing happened", "a")]


@pytest.fixture(autouse=True)
def _forget():
    clear_models()
    gc.collect()
    yield
    clear_models()


def extractor(path, **params):
    return StepwiseExtractor(str(path), **{"labels": LABELS, "n_threads": 1, **params}).fit()


def assert_same(a, b):
    assert np.array_equal(a, b, equal_nan=True)


def count_calls(monkeypatch, name):
    """Count the calls of a llama.cpp function."""
    original, seen = getattr(C, name), []

    def counting(*args):
        seen.append(args)
        return original(*args)

    monkeypatch.setattr(C, name, counting)
    return seen


def test_amx_guard(tiny_model, monkeypatch):
    """A build that would crash on this processor loads without extra buffers, works, and says once what to do."""
    expected = extractor(tiny_model).transform(TEXTS)
    clear_models()
    loads = count_calls(monkeypatch, "llama_model_load_from_file")
    monkeypatch.setattr(engine, "uses_amx", lambda: True)
    engine._warn_of_amx.cache_clear()
    with pytest.warns(RuntimeWarning, match="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16") as seen:
        steps = extractor(tiny_model).transform(TEXTS)
        clear_models()
        extractor(tiny_model).transform(TEXTS)
    assert [w.category for w in seen if "AMX" in str(w.message)] == [RuntimeWarning]
    assert [params.use_extra_bufts for _, params in loads] == [False, False]
    np.testing.assert_allclose(steps, expected, atol=1e-5)


def test_without_amx_nothing_is_given_up(tiny_model, monkeypatch):
    loads = count_calls(monkeypatch, "llama_model_load_from_file")
    monkeypatch.setattr(engine, "uses_amx", lambda: False)
    loaded(tiny_model)
    assert [params.use_extra_bufts for _, params in loads] == [True]


def test_builds_with_a_gpu_stay_on_the_cpu(tiny_model, monkeypatch):
    """llama.cpp's default puts all layers on every GPU that the build knows (Metal on a Mac)."""
    seen = count_calls(monkeypatch, "llama_model_load_from_file")
    extractor(tiny_model).transform(TEXTS[:1])
    devices = [cast(params.devices, POINTER(c_void_p)) for _, params in seen]
    assert devices and all(devices) and not any(list_of[0] for list_of in devices)


def test_uses_amx_reads_the_system_info(monkeypatch):
    for info, expected in [(b"AVX512 = 1 | AMX_INT8 = 1 | ", True), (b"AVX512 = 1 | ", False)]:
        monkeypatch.setattr(C, "llama_print_system_info", lambda info=info: info)
        assert engine.uses_amx() is expected


def test_models_are_loaded_once_and_a_bounded_number_is_kept(tmp_path, monkeypatch):
    paths = [write_tiny_gguf(tmp_path / f"{i}.gguf", seed=i) for i in range(KEPT + 1)]
    freed = count_calls(monkeypatch, "llama_model_free")
    first = weakref.ref(loaded(paths[0]))
    for path in paths[1:-1]:
        loaded(path)
    assert loaded(paths[0]) is first(), "loaded once, and now the one used last"
    second = weakref.ref(loaded(paths[1]))
    loaded(paths[0])
    loaded(paths[-1])
    gc.collect()
    assert first() is not None
    assert second() is None, "the one that was used longest ago makes room"
    assert len(freed) == 1


def test_a_model_that_makes_room_while_it_works_ends_its_work(tmp_path):
    """The cache forgets it; the call that uses it does not notice."""
    paths = [write_tiny_gguf(tmp_path / f"{i}.gguf", seed=i) for i in range(KEPT + 1)]
    expected = extractor(paths[0]).transform(TEXTS)
    fitted = extractor(paths[0])
    model = loaded(paths[0])
    run, others = model.run, paths[1:]

    def crowded(*args):
        for k, pair in enumerate(run(*args)):
            if k == 2:
                for path in others:
                    loaded(path)
            yield pair

    model.run = crowded
    assert_same(fitted.transform(TEXTS), expected)


def test_clear_models_frees(tiny_model, monkeypatch):
    contexts, models = count_calls(monkeypatch, "llama_free"), count_calls(monkeypatch, "llama_model_free")
    fitted = extractor(tiny_model)
    before = fitted.transform(TEXTS)
    model = weakref.ref(loaded(tiny_model))
    clear_models()
    gc.collect()
    assert model() is None
    assert (len(contexts), len(models)) == (1, 1)
    assert_same(fitted.transform(TEXTS), before)


def test_a_replaced_file_is_noticed(tmp_path):
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, seed=0)
    fitted = extractor(path)
    before = fitted.transform(TEXTS)
    write_tiny_gguf(tmp_path / "other.gguf", seed=1)
    expected = extractor(tmp_path / "other.gguf").transform(TEXTS)
    os.replace(tmp_path / "other.gguf", path)
    with pytest.raises(ValueError, match="is another one than in fit"):
        fitted.transform(TEXTS)
    after = fitted.fit().transform(TEXTS)
    assert_same(after, expected)
    assert not np.array_equal(after, before, equal_nan=True)


def test_the_context_is_kept_between_calls(tiny_model, monkeypatch):
    made, threads = count_calls(monkeypatch, "llama_init_from_model"), []
    monkeypatch.setattr(C, "llama_set_n_threads", lambda _, *numbers: threads.append(numbers))
    fitted = extractor(tiny_model)
    steps = fitted.transform(TEXTS)
    fitted.transform(TEXTS[:1])
    fitted.set_params(n_threads=2).transform(TEXTS[:1])
    assert threads[-1] == (2, 2)
    extractor(tiny_model, labels=["hot", "cold"]).transform(TEXTS)
    assert len(made) == 1
    assert_same(fitted.transform(TEXTS), steps)
    assert len(made) == 1


def test_another_type_of_cache_makes_a_new_context(tiny_model, monkeypatch):
    made, freed = count_calls(monkeypatch, "llama_init_from_model"), count_calls(monkeypatch, "llama_free")
    steps = extractor(tiny_model).transform(TEXTS)
    other = extractor(tiny_model, kv_dtype="float32").transform(TEXTS)
    assert (len(made), len(freed)) == (2, 1), "one context a model at a time"
    np.testing.assert_allclose(other, steps, atol=0.01)
    assert_same(extractor(tiny_model).transform(TEXTS), steps)


def test_the_size_of_the_context_does_not_change_a_bit(tiny_model):
    """The result cache relies on this: its keys do not name n_ctx."""
    long = "and so on " * 50
    steps = extractor(tiny_model).transform(TEXTS)
    model = loaded(tiny_model)
    assert model._settings.n_ctx == 512
    assert_same(extractor(tiny_model).transform([*TEXTS, long])[: len(TEXTS), : steps.shape[1]], steps)
    assert model._settings.n_ctx == 1024
    assert_same(extractor(tiny_model).transform(TEXTS), steps)
    assert model._settings.n_ctx == 1024, "what is large enough is kept"
    clear_models()
    assert_same(extractor(tiny_model, n_ctx=400).transform(TEXTS), steps)
    assert loaded(tiny_model)._settings.n_ctx == 400


@pytest.mark.parametrize("cls", [UnaryExtractor, StepwiseExtractor, HiddenStateExtractor])
def test_a_group_fills_no_more_than_one_call(cls, tmp_path, monkeypatch):
    """What has to be divided is slower than the documents one by one."""
    sizes, divide = [], engine.batches
    monkeypatch.setattr(engine, "batches", lambda n, *more: sizes.append(n) or divide(n, *more))
    model = write_tiny_gguf(tmp_path / "words.gguf", words=("joy", "ful", " joy", "sad"))
    texts = [f"{text} number {k} " * 2 for k in range(8) for text in TEXTS[:2]]
    estimator = cls(str(model), labels=["joy", "sad"], random_state=0, batch_size=16, n_threads=1).fit()
    estimator.transform(texts[:1])
    sizes.clear()
    estimator.transform(texts)
    assert max(sizes) <= engine.N_UBATCH and 1 < len(sizes) < len(texts)


def test_no_more_context_than_the_model_was_trained_for(tiny_model):
    extractor(tiny_model, n_ctx=1_000_000).transform(["a " * 1500])
    model = loaded(tiny_model)
    assert model._settings.n_ctx == model.n_ctx_train == 2048
    with pytest.raises(ValueError, match="n_ctx=2048"):
        extractor(tiny_model, n_ctx=1_000_000).transform(["a " * 3000])


def test_memory_is_looked_at_before_it_is_taken(tiny_model, monkeypatch):
    """llama.cpp fills what it allocates: a system without enough memory would kill the process."""
    fitted = extractor(tiny_model)
    a_cell = loaded(tiny_model).cell_bytes(2)
    assert a_cell == 2 * 2 * 32 * 2, "layers, keys and values, width, bytes"
    monkeypatch.setattr(engine, "available_memory", lambda: 1500 * a_cell)
    with pytest.raises(MemoryError, match="not enough memory .*n_ctx=2048 .*about n_ctx=1280 would fit"):
        fitted.transform(["a " * 1400])
    assert fitted.set_params(n_ctx=1280, truncation="end").transform(TEXTS[:2]).shape[0] == 2


def test_available_memory(monkeypatch, tmp_path):
    meminfo, limit, usage = tmp_path / "meminfo", tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "CGROUPS", ((limit, usage),))
    assert memory.available_memory() is None
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    1000 kB\n")
    assert memory.available_memory() == 1000 * 1024
    limit.write_text("500000\n")
    usage.write_text("100000\n")
    assert memory.available_memory() == 400_000
    limit.write_text("max\n")
    assert memory.available_memory() == 1000 * 1024


def test_no_memory_for_the_context(tiny_model, monkeypatch):
    fitted = extractor(tiny_model)
    with monkeypatch.context() as patch:
        patch.setattr(C, "llama_init_from_model", lambda *_: None)
        with pytest.raises(MemoryError, match="context of n_ctx=512 tokens .* Choose a smaller n_ctx"):
            fitted.transform(TEXTS)
    assert fitted.transform(TEXTS[:1]).shape == (1, 4, 5)


def interrupt_at(monkeypatch, k, action):
    """Let the k-th decode call do `action` instead."""
    original, calls = C.llama_decode, []

    def decode(*args):
        calls.append(args)
        return action() if len(calls) == k else original(*args)

    monkeypatch.setattr(C, "llama_decode", decode)


def stop():
    raise KeyboardInterrupt


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_an_interrupted_call_leaves_no_trace(tiny_model, monkeypatch, k, batch_size):
    fitted = extractor(tiny_model, batch_size=batch_size)
    expected = fitted.transform(TEXTS)
    clear_models()
    with monkeypatch.context() as patch:
        interrupt_at(patch, k, stop)
        with pytest.raises(KeyboardInterrupt):
            fitted.transform(TEXTS)
    model = loaded(tiny_model)
    assert_same(fitted.transform(TEXTS), expected)
    assert loaded(tiny_model) is model, "the model itself is kept"


@pytest.mark.parametrize("code, message", [(1, "choose a larger n_ctx or a smaller batch_size"), (-3, "with code -3")])
def test_a_failed_decode_is_an_error_and_leaves_no_trace(tiny_model, monkeypatch, code, message):
    fitted = extractor(tiny_model)
    expected = fitted.transform(TEXTS)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5, lambda: code)
        with pytest.raises(RuntimeError, match=message):
            fitted.transform(TEXTS)
    assert_same(fitted.transform(TEXTS), expected)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_interruption_between_decodes_lets_go_of_the_model(tiny_model, tmp_path, batch_size):
    """Whoever keeps the traceback, as notebooks do, keeps the frames; the model's lock must not hang on them."""
    fitted = extractor(tiny_model, batch_size=batch_size)
    expected = fitted.transform(TEXTS)
    fitted.set_params(memory=tmp_path)
    ticks = iter([0.0, 0.0])

    def tick():
        for value in ticks:
            return value
        raise KeyboardInterrupt

    put_back = set_clock(tick)
    with pytest.raises(KeyboardInterrupt) as traceback:
        fitted.transform(TEXTS)
    put_back()
    assert traceback.tb is not None
    fitted.set_params(memory=None)
    got = []
    thread = threading.Thread(target=lambda: got.append(fitted.transform(TEXTS)), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "the interrupted call still holds the model's lock"
    assert_same(got[0], expected)


def test_slow_models_decode_in_a_second_thread_and_give_the_same(tiny_model, monkeypatch):
    expected = extractor(tiny_model).transform(TEXTS)
    clear_models()
    monkeypatch.setattr(engine, "SLOW_BYTES", 0)
    assert_same(extractor(tiny_model).transform(TEXTS), expected)


class Changing:
    """Gives every call another number of threads."""

    def __init__(self, room, bold):
        self.seen = []

    def run(self, call, tokens, most):
        self.seen.append((1, 2, 3)[len(self.seen) % 3])
        return call(self.seen[-1])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_threads_that_change_within_a_document_change_no_bit(tiny_model, monkeypatch, batch_size):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    expected = extractor(tiny_model, batch_size=batch_size).transform(TEXTS)
    clear_models()
    monkeypatch.setattr(engine, "Pace", Changing)
    fitted = extractor(tiny_model, n_threads=None, batch_size=batch_size)
    assert_same(fitted.transform(TEXTS), expected)
    seen = loaded(tiny_model)._pace.seen
    assert seen[:4] == [1, 2, 3, 1] and len(seen) > 2 * len(TEXTS) / batch_size


def test_a_number_of_threads_is_kept(tiny_model, monkeypatch):
    monkeypatch.setattr(engine, "Pace", Changing)
    extractor(tiny_model, n_threads=1).transform(TEXTS)
    assert loaded(tiny_model)._pace.seen == []


@pytest.mark.model
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_stops_a_slow_decode_call(embedded_model):
    code = """
    import signal, threading, time
    import skmlmc._engine.model as engine
    engine.SLOW_BYTES = 0
    codes, begun, decode = [], threading.Event(), engine.C.llama_decode
    def noted(*args):
        begun.set()
        codes.append(decode(*args))
        return codes[-1]
    engine.C.llama_decode = noted
    def interrupt():
        begun.wait()
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    fitted = StepwiseExtractor(sys.argv[1], labels=["joy", "anger"], max_labels=1, n_threads=1).fit()
    try:
        fitted.transform(["and so on " * 300])
    except KeyboardInterrupt:
        print(codes)
    engine.C.llama_decode = decode
    print(fitted.transform(["we won"]).shape)
    """
    run = run_script(code, embedded_model)
    assert run.stdout.splitlines() == ["[2]", "(1, 1, 3)"], run.stdout + run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("parent, child", [(1, 2), (2, 2)])
def test_a_forked_child_loads_its_own(tiny_model, parent, child):
    """OpenMP's threads do not survive a fork: a child that waits for them would wait for ever."""
    code = """
    texts = ["we won"]
    fitted = StepwiseExtractor(sys.argv[1], labels=["joy", "anger"], max_labels=1, n_threads=int(sys.argv[2])).fit()
    expected = fitted.transform(texts)
    pid = os.fork()
    fitted.set_params(n_threads=int(sys.argv[3]))
    if pid == 0:
        import signal
        signal.alarm(20)
        os._exit(0 if np.array_equal(fitted.transform(texts), expected, equal_nan=True) else 3)
    same = np.array_equal(fitted.transform(texts), expected, equal_nan=True)
    print(os.waitpid(pid, 0)[1], same)
    """
    run = run_script(code, tiny_model, parent, child)
    assert run.stdout.split() == ["0", "True"], run.stderr


@pytest.mark.campaign
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_pool_of_forked_workers(tiny_model):
    code = """
    import multiprocessing
    texts = ["a b", "we won", "oh no"]
    fitted = StepwiseExtractor(sys.argv[1], labels=["joy", "anger", "sad"], n_threads=2).fit()
    expected = fitted.transform(texts)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        parts = pool.map_async(fitted.transform, [[text] for text in texts]).get(30)
    print(np.array_equal(np.concatenate(parts), expected, equal_nan=True))
    """
    run = run_script(code, tiny_model)
    assert run.stdout.split() == ["True"], run.stderr


def test_threads_on_one_model_and_two_prompts(tiny_model):
    one, two = extractor(tiny_model), extractor(tiny_model, labels=["hot", "cold", "wet"])
    expected = [one.transform(TEXTS), two.transform(TEXTS)]
    wrong, start = [], threading.Barrier(8)

    def work(k):
        start.wait()
        for _ in range(3):
            if not np.array_equal([one, two][k % 2].transform(TEXTS), expected[k % 2], equal_nan=True):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_control_tokens_are_tokens_in_templates_alone(tiny_chat_model):
    model = loaded(tiny_chat_model)
    control = {model._tokenize(text, True)[0] for text in CONTROL_TOKENS}
    assert len(control) == len(CONTROL_TOKENS)
    for text in CONTROL_TOKENS:
        assert not control & set(model.tokenize(text))
        assert not control & set(model.tokenize(f"a {text}b"))


@pytest.mark.parametrize("mode", ["plain", "chat"])
def test_documents_labels_and_demonstrations_never_become_control_tokens(tiny_chat_model, monkeypatch, mode):
    model = loaded(tiny_chat_model)
    control = [model._tokenize(text, True)[0] for text in CONTROL_TOKENS]
    plans = record_plans(monkeypatch)

    def decoded(x):
        """Control tokens in all that is decoded, with `x` in everything that is no template."""
        labels = [f"joy{x}", f"{x}anger"]
        fitted = extractor(
            tiny_chat_model,
            labels=labels,
            none_label=f"none{x}",
            demonstrations=[(f"{x} a {x}", labels[:1]), (x, labels)],
            prompt=PromptTemplate(mode=mode),
            max_labels=1,
        )
        plans.clear()
        fitted.transform([f"so {x}", x])
        return int(np.isin(np.concatenate([plan.tokens for plan in plans]), control).sum())

    plain = decoded("x")
    assert (plain > 1) == (mode == "chat"), "the begin token, and in the chat layout the turns"
    assert decoded("".join(CONTROL_TOKENS)) == plain


def record_plans(monkeypatch):
    """Keep every plan that is decoded."""
    original, plans = engine.Model._decode, []

    def recording(self, plan):
        plans.append(plan)
        return original(self, plan)

    monkeypatch.setattr(engine.Model, "_decode", recording)
    return plans


@pytest.mark.parametrize("text", ["", "a\0b", "\0", "\ud800", "a\udfffb", "ü€😀", "\n\r\t", "x" * 5000, "﻿"], ids=ascii)
def test_any_text_has_tokens(tiny_model, text):
    model = loaded(tiny_model)
    tokens = model.tokenize(text)
    raw = b"".join(C.llama_vocab_get_text(model._vocab, t) for t in tokens).decode()
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    assert bytes(letters[letter] for letter in raw) == text.encode("utf-8", "replace")


def test_what_is_after_a_nul_counts(tiny_model):
    fitted = extractor(tiny_model)
    steps = fitted.transform(["a\0b", "a\0c", "a"])
    assert not np.array_equal(steps[0], steps[1], equal_nan=True)
    assert not np.array_equal(steps[0], steps[2], equal_nan=True)


def test_a_document_costs_the_same_after_many_demonstrations(tiny_model, monkeypatch):
    """In tokens and decode calls, once the prompt is there."""
    plans = record_plans(monkeypatch)
    prefixes, costs = [], []
    for shots in (0, 10, 50):
        demonstrations = [(f"so {i}", ["joy"] if i % 2 else ["anger"]) for i in range(shots)]
        fitted = extractor(tiny_model, demonstrations=demonstrations, max_labels=1)
        model = loaded(tiny_model)
        plans.clear()
        fitted.transform(TEXTS[:1])
        prefixes.append(len(plans[0].tokens))
        decoded, calls = model.decoded, model.calls
        fitted.transform(TEXTS[1:])
        costs.append((model.decoded - decoded, model.calls - calls))
    assert prefixes[2] > 3 * prefixes[1] > 3 * prefixes[0]
    assert costs[0] == costs[1] == costs[2]


def test_the_log_is_kept_for_errors_and_shown_only_when_asked(tiny_model, capfd):
    extractor(tiny_model).transform(TEXTS[:1])
    assert capfd.readouterr() == ("", "")
    clear_models()
    extractor(tiny_model, verbose=2).transform(TEXTS[:1])
    clear_models()
    out, err = capfd.readouterr()
    assert "llama" in err and out == ""
    extractor(tiny_model).transform(TEXTS[:1])
    assert capfd.readouterr() == ("", "")


def test_the_callback_of_another_library_is_called_through(tiny_model, tmp_path, capfd):
    """Set before this package's first call or after it; what it says itself is told nobody else."""
    code = f"""
import ctypes, llama_cpp
from skmlmc import StepwiseExtractor, clear_models
heard = []
mine = [llama_cpp.llama_log_callback(lambda level, text, data, k=k: heard.append((k, data, text))) for k in range(2)]
for k in range(2):
    llama_cpp.llama_log_set(mine[k], ctypes.c_void_p(40 + k))
    StepwiseExtractor({tiny_model!r}, labels=["joy", "anger"], n_threads=1, n_ctx=512 + k).fit().transform(["we won"])
    clear_models()
    assert {{(by, data) for by, data, _ in heard}} == {{(k, 40 + k)}} and any(b"llama" in text for *_, text in heard)
    heard.clear()
    llama_cpp.llama_model_load_from_file(b"no such file", llama_cpp.llama_model_default_params())
    assert any(b"no such file" in text for *_, text in heard)
    heard.clear()
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_other_users_of_llama_cpp_keep_its_log(tiny_model):
    code = f"""
import llama_cpp
from skmlmc import StepwiseExtractor, clear_models
StepwiseExtractor({tiny_model!r}, labels=["joy", "anger"], n_threads=1).fit().transform(["we won"])
clear_models()
llama_cpp.llama_model_load_from_file(b"no such file", llama_cpp.llama_model_default_params())
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and run.stdout == ""
    assert "no such file" in run.stderr and "llama_context" not in run.stderr

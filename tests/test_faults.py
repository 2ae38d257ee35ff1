"""What may go wrong around a run: kills, other processes, full disks, replaced files, hostile caches."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from adapters import write_adapter
from campaigns import in_campaigns, sampled
from ecosystem_data import same
from kill_runs import CHUNK
from kill_runs import TEXTS as MANY
from scripts import ROOT, run_script
from text_estimators import answer, text_estimators
from tiny_gguf import write_tiny_gguf

from skmlmc import (
    EmbeddingExtractor,
    HiddenStateExtractor,
    MarginalExtractor,
    StepwiseExtractor,
    UnaryExtractor,
)
from skmlmc._cache import results as _cache
from skmlmc._cache.records import decode_entry, encode_entry
from skmlmc._cache.results import FILE_NAME, open_cache
from skmlmc._engine import model as _engine
from skmlmc._inference import run as _run
from skmlmc._models.identity import fingerprints
from skmlmc.analysis import attention_to_labels
from skmlmc.streaming import predict_chunks

LABELS = ["joy", "anger", "sadness"]
TEXTS = [f"{text} {k}" for k in range(3) for text in ("We won!!!", "I miss her", "it rained", "why me")]

# Of random damage: one by default, all in a campaign.
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in (1, 2, 3))]
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the processes and signals of POSIX")


@pytest.fixture
def make(tiny_model):
    def make(cls=StepwiseExtractor, **params):
        return cls(**{"model": tiny_model, "labels": LABELS, "n_threads": 1, **params}).fit()

    return make


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def run_and_stop(kind, runs, model, folder, seed=0):
    command = [sys.executable, "-W", "ignore", ROOT / "tests" / "kill_runs.py", model, folder, seed, runs, kind]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env, timeout=400, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    outcomes = json.loads(run.stdout)
    assert len(outcomes) == runs
    assert all(outcome["code"] == 0 for outcome in outcomes), run.stderr
    assert all(outcome["same"] for outcome in outcomes), "a resumed run gave other bits"
    assert any(0 < outcome["kept"] < len(MANY) for outcome in outcomes), "nothing was interrupted in mid-run"
    for outcome in outcomes:
        assert outcome["decoded"] == len(MANY) - outcome["kept"], "what is there is not computed again"
    return outcomes


@posix
@pytest.mark.parametrize(
    "kind, runs, batch",
    [
        ("kill", 5, _run.FLUSH_DOCUMENTS),
        in_campaigns(("kill", 50, _run.FLUSH_DOCUMENTS)),
        in_campaigns(("processes", 2, _run.FLUSH_DOCUMENTS)),
        in_campaigns(("stream", 5, CHUNK)),
    ],
)
def test_kill_9_loses_at_most_one_batch(kind, runs, batch, tiny_model, tmp_path):
    for outcome in run_and_stop(kind, runs, tiny_model, tmp_path):
        assert outcome["status"] == signal.SIGKILL
        assert outcome["answered"] - batch <= outcome["kept"] <= outcome["answered"]


@pytest.mark.campaign
@posix
def test_an_interrupt_loses_nothing(tiny_model, tmp_path):
    for outcome in run_and_stop("interrupt", 5, tiny_model, tmp_path):
        assert os.WEXITSTATUS(outcome["status"]) == 130
        assert outcome["answered"] - 1 <= outcome["kept"] <= outcome["answered"], "all but the one at hand"


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, SystemExit])
@pytest.mark.parametrize("cls", [StepwiseExtractor, UnaryExtractor, MarginalExtractor])
def test_an_error_in_mid_run_loses_nothing(make, tmp_path, monkeypatch, cls, error):
    fitted, expected = make(cls, memory=tmp_path), make(cls).transform(TEXTS)
    run, after = _engine.Model._run_group, iter(range(6))

    def run_group(self, *args):
        if next(after) == 5:
            raise error("no more")
        yield from run(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_engine.Model, "_run_group", run_group)
        with pytest.raises(error, match="no more"):
            fitted.transform(TEXTS)
    assert len(open_cache(tmp_path)) == 5
    assert same(fitted.transform(TEXTS), expected)


AT_ONCE = """
    import time, warnings
    from skmlmc._cache.results import open_cache
    sys.path.insert(0, sys.argv[3])
    from kill_runs import forked, finished
    def fitted(memory):
        return StepwiseExtractor(sys.argv[1], labels=["joy", "anger"], n_threads=1, memory=memory).fit()
    def work(k, texts, start, folder):
        def run(pipe):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "The (label tokens|answer's beginning)")
            time.sleep(max(0, start - time.time()))
            got = [fitted(folder).transform(texts[at : at + 40]) for at in (0, 40)]
            assert np.array_equal(np.concatenate(got), fitted(None).transform(texts), equal_nan=True)
        return run
    for n, same in [(2, True), (2, False), (4, True), (4, False)]:
        folder, start = os.path.join(sys.argv[2], f"{n}-{same}"), time.time() + 0.2
        texts = [[f"we won {0 if same else k} {i}" for i in range(80)][:: -1 if k % 2 else 1] for k in range(n)]
        codes = [finished(*child)[0] for child in [forked(work(k, texts[k], start, folder)) for k in range(n)]]
        print(sum(codes), len(open_cache(folder)) == 1 + 80 * (1 if same else n))
"""


@pytest.mark.campaign
@posix
def test_processes_on_one_cache(tiny_model, tmp_path):
    """Two and four at once, with the same documents and with others."""
    run = run_script(AT_ONCE, tiny_model, tmp_path, ROOT / "tests", timeout=120)
    assert run.stdout.splitlines() == ["0 True"] * 4, run.stdout + run.stderr


def test_threads_on_one_estimator_and_one_cache(make, tmp_path):
    fitted, plain = make(memory=tmp_path), make()
    parts = [TEXTS[k:] + TEXTS[:k] if k % 2 else [f"{k} {text}" for text in TEXTS] for k in range(8)]
    expected = [plain.transform(part) for part in parts]
    got, start = {}, threading.Barrier(8)

    def work(k):
        start.wait()
        got[k] = [fitted.transform(parts[k]) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(got) == list(range(8))
    assert all(same(result, expected[k]) for k in got for result in got[k])


@pytest.mark.campaign
@posix
def test_forks_while_a_thread_is_in_mid_call(tiny_model, tmp_path):
    code = """
    import random, signal, threading, time
    from skmlmc._cache.results import open_cache
    texts = [f"we won {k}" for k in range(12)]
    def fitted(memory):
        return StepwiseExtractor(sys.argv[1], labels=["joy", "anger"], n_threads=1, memory=memory).fit()
    expected = fitted(None).transform(texts)
    kept, stop, calls = open_cache(sys.argv[2]), threading.Event(), []
    def work():
        while not stop.is_set():
            k = len(calls)
            got = fitted(sys.argv[2] if k % 2 else None).transform([*texts, f"another {k}"])
            calls.append(np.array_equal(got[:12], expected, equal_nan=True))
    thread = threading.Thread(target=work)
    thread.start()
    random.seed(0)
    codes = []
    for k in range(20):
        time.sleep(random.random() * 0.03)
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            right = np.array_equal(fitted(sys.argv[2]).transform(texts), expected, equal_nan=True)
            right &= np.array_equal(fitted(None).transform(texts[:3]), expected[:3], equal_nan=True)
            right &= len(kept) >= 0
            os._exit(0 if right else 3)
        right = np.array_equal(fitted(sys.argv[2]).transform(texts), expected, equal_nan=True)
        codes.append((os.waitpid(pid, 0)[1], right))
    stop.set()
    thread.join()
    print(set(codes), all(calls), len(calls) > 2)
    """
    run = run_script(code, tiny_model, tmp_path, timeout=120)
    assert run.stdout.split("\n")[0] == "{(0, True)} True True", run.stdout + run.stderr


def other_model(tmp_path, seed=9):
    """A model of the same size with other weights."""
    return Path(write_tiny_gguf(tmp_path / f"other-{seed}.gguf", seed=seed))


def put_in_place(new, path, how):
    """Replace a file, keeping size and time of the last change."""
    stat = os.stat(path)
    assert os.path.getsize(new) == stat.st_size
    if how == "renamed":
        os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.replace(new, path)
    else:
        with open(path, "r+b") as file:
            file.write(Path(new).read_bytes())
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert os.stat(path).st_mtime_ns == stat.st_mtime_ns


def fit_again(fitted):
    """Refused as it is, since other files were fitted; then fitted to the new ones."""
    with pytest.raises(ValueError, match="than in fit"):
        fitted.transform(TEXTS)
    return fitted.fit().transform(TEXTS)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file in use from being replaced")
@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("how", ["renamed", "written over"])
def test_a_replaced_model_is_noticed(make, tiny_model, tmp_path, how, memory):
    path, new = tmp_path / "model.gguf", other_model(tmp_path)
    shutil.copy(tiny_model, path)
    expected = [make(model=str(tiny_model)).transform(TEXTS), make(model=str(new)).transform(TEXTS)]
    fitted = make(model=str(path), memory=tmp_path / "cache" if memory else None)
    assert same(fitted.transform(TEXTS), expected[0])
    put_in_place(new, path, how)
    assert same(fit_again(fitted), expected[1]) and not same(*expected)
    put_in_place(shutil.copy(tiny_model, tmp_path / "again"), path, how)
    assert same(fit_again(fitted), expected[0])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file in use from being replaced")
@pytest.mark.parametrize("how", ["renamed", "written over"])
@pytest.mark.parametrize("cls", [StepwiseExtractor, UnaryExtractor])
def test_a_replaced_adapter_is_noticed(make, tmp_path, cls, how):
    path, new = Path(write_adapter(tmp_path / "one.gguf")), Path(write_adapter(tmp_path / "two.gguf", seed=3))
    expected = [
        make(cls, lora=shutil.copy(file, tmp_path / f"copy-{file.name}")).transform(TEXTS) for file in (path, new)
    ]
    fitted = [make(cls, lora=str(path)), make(cls, lora=str(path), memory=tmp_path / "cache")]
    assert all(same(each.transform(TEXTS), expected[0]) for each in fitted)
    put_in_place(new, path, how)
    assert all(same(fit_again(each), expected[1]) for each in fitted) and not same(*expected)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file in use from being replaced")
@pytest.mark.parametrize("what", ["model", "lora"])
@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("how", ["renamed", "written over"])
def test_replaced_in_mid_call(make, tiny_model, tmp_path, monkeypatch, how, memory, what):
    """A call never mixes two contents: where it cannot go on with the first, it says so and keeps what is right."""
    model, adapter = Path(shutil.copy(tiny_model, tmp_path / "model.gguf")), write_adapter(tmp_path / "adapter.gguf")
    path, new = (model, other_model(tmp_path)) if what == "model" else (adapter, write_adapter(tmp_path / "2", seed=3))
    fitted = make(model=str(model), lora=adapter, memory=tmp_path / "cache" if memory else None)
    copies = [shutil.copy(file, tmp_path / f"copy-{k}") for k, file in enumerate((model, adapter))]
    expected = make(model=copies[0], lora=copies[1]).transform(TEXTS)
    run, after = _engine.Model._run_group, iter(range(100))

    def run_group(self, *args):
        if next(after) == 5:
            put_in_place(new, path, how)
        yield from run(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_engine.Model, "_run_group", run_group)
        if how == "renamed":
            assert same(fitted.transform(TEXTS), expected), "what is loaded stays whole"
        else:
            with pytest.raises(RuntimeError, match="was changed while it was in use.*Call again"):
                fitted.transform(TEXTS)
    if memory:
        assert len(open_cache(tmp_path / "cache")) == (len(TEXTS) if how == "renamed" else 5)
    after_it = fit_again(fitted)
    copies[what == "lora"] = shutil.copy(path, tmp_path / "copy-new")
    assert same(after_it, make(model=copies[0], lora=copies[1]).transform(TEXTS)) and not same(after_it, expected)


def test_replaced_between_fingerprint_and_load(make, tiny_model, tmp_path, monkeypatch):
    """Else results of the new file would be kept under the old one's key, for good."""
    path, new = Path(shutil.copy(tiny_model, tmp_path / "model.gguf")), other_model(tmp_path)
    fitted, load = make(model=str(path), memory=tmp_path / "cache"), _run.load_model

    def replaced(file):
        if new.exists():
            put_in_place(new, path, "renamed")
        return load(file)

    monkeypatch.setattr(_run, "load_model", replaced)
    with pytest.raises(RuntimeError, match="was changed while it was in use"):
        fitted.transform(TEXTS)
    assert len(open_cache(tmp_path / "cache")) == 0
    assert same(fit_again(fitted), make(model=str(path)).transform(TEXTS))


def test_touching_a_file_in_use_does_no_harm(make, tiny_model, tmp_path, monkeypatch):
    path = Path(shutil.copy(tiny_model, tmp_path / "model.gguf"))
    run = _engine.Model._run_group

    def run_group(self, *args):
        os.utime(path)
        yield from run(self, *args)

    monkeypatch.setattr(_engine.Model, "_run_group", run_group)
    assert same(make(model=str(path)).transform(TEXTS), make().transform(TEXTS))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file in use from being removed")
def test_deleted_in_mid_call(make, tiny_model, tmp_path, monkeypatch):
    path = Path(shutil.copy(tiny_model, tmp_path / "model.gguf"))
    fitted, run, after = make(model=str(path)), _engine.Model._run_group, iter(range(100))

    def run_group(self, *args):
        if next(after) == 5:
            path.unlink()
        yield from run(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_engine.Model, "_run_group", run_group)
        got = fitted.transform(TEXTS)
    assert same(got, make().transform(TEXTS)), "what is loaded stays whole"
    with pytest.raises(FileNotFoundError, match="There is no model file"):
        fitted.transform(TEXTS)


def test_workers_notice_another_adapter(tiny_model, tmp_path):
    adapter = write_adapter(tmp_path / "adapter.gguf")
    options = _run.Options(model=str(tiny_model), lora=adapter)
    content = fingerprints(Path(tiny_model), ((adapter, 1.0),))
    shutil.copy(write_adapter(tmp_path / "2", seed=3), adapter)
    with pytest.raises(ValueError, match="adapters of a worker differs"):
        _run._Worker(None, options, content)(({}, []))


@pytest.mark.campaign
@posix
def test_full_disk(tiny_model, tmp_path):
    """A limit on file sizes, which the system enforces as it does a full disk."""
    code = """
    import resource, warnings
    from skmlmc._cache.results import open_cache
    texts = [f"we won {k}" for k in range(100)]
    def fitted(memory):
        return StepwiseExtractor(sys.argv[1], labels=["joy", "anger"], n_threads=1, memory=memory).fit()
    expected = fitted(None).transform(texts)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 4096, 20_000, 30_000, 40_000):
        folder = os.path.join(sys.argv[2], str(limit))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            got = fitted(folder).transform(texts)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        print(np.array_equal(got, expected, equal_nan=True), end=" ")
        print(len({str(w.message) for w in told if "results are computed but not kept" in str(w.message)}), end=" ")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "The (label tokens|answer's beginning)")
            print(np.array_equal(fitted(folder).transform(texts), expected, equal_nan=True), len(open_cache(folder)))
    """
    run = run_script(code, tiny_model, tmp_path)
    assert run.stdout.splitlines() == ["True 1 True 101"] * 5, run.stdout + run.stderr


@posix
def test_read_only(tiny_model):
    """Root, whom permissions do not bind, becomes nobody; known answers are read, new ones computed."""
    code = """
    import tempfile, warnings, shutil
    for folder_mode, file_mode in [(0o555, 0o666), (0o777, 0o444), (0o555, 0o444)]:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            model, cache = shutil.copy(sys.argv[1], folder), os.path.join(folder, "cache")
            os.chmod(model, 0o644)
            def fitted(memory):
                return StepwiseExtractor(model, labels=["joy", "anger"], n_threads=1, memory=memory).fit()
            expected = fitted(None).transform(["a", "b", "c"])
            fitted(cache).transform(["a", "b"])
            file = os.path.join(cache, "skmlmc.sqlite")
            os.chmod(cache, folder_mode)
            os.chmod(file, file_mode)
            if os.geteuid() == 0:
                os.seteuid(65534)
            before = open(file, "rb").read()
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                got = fitted(cache).transform(["c", "a", "b"])
            print(np.array_equal(got, expected[[2, 0, 1]], equal_nan=True), open(file, "rb").read() == before, end=" ")
            print(len({str(w.message) for w in told if "known ones are still read" in str(w.message)}))
            os.seteuid(os.getuid())
            os.chmod(cache, 0o755)
    """
    run = run_script(code, tiny_model)
    assert run.stdout.splitlines() == ["True True 1"] * 3, run.stdout + run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file in use from being removed")
@pytest.mark.parametrize("then", sampled(["nothing", "a file", "another cache"]))
def test_the_cache_vanishes_in_mid_run(make, tmp_path, monkeypatch, then):
    folder, expected = tmp_path / "cache", make().transform(MANY)
    fitted, put, puts = make(memory=folder), _cache.ResultCache.put_many, []

    def put_many(self, items):
        put(self, items)
        puts.append(len(items))
        if len(puts) == 2:
            shutil.rmtree(folder)
            if then == "a file":
                folder.write_text("mine")
            elif then == "another cache":
                with open_cache(folder):
                    pass

    with monkeypatch.context() as patch, quiet():
        patch.setattr(_cache.ResultCache, "put_many", put_many)
        assert same(fitted.transform(MANY), expected)
    assert sum(puts) == len(MANY) + 1, "the answer's beginning has an entry of its own"
    if then == "a file":
        assert folder.read_text() == "mine"
    else:
        assert len(rows(folder)) == len(MANY) - sum(puts[:2])
        assert same(fitted.transform(MANY), expected)


def rows(folder):
    """Entries of documents, not that of the answer's beginning."""
    with contextlib.closing(sqlite3.connect(Path(folder) / FILE_NAME)) as connection:
        found = dict(connection.execute("SELECT key, value FROM results"))
    return {key: value for key, value in found.items() if set(decode_entry(key, value)) != {"mass"}}


def write(folder, values):
    with contextlib.closing(sqlite3.connect(Path(folder) / FILE_NAME)) as connection, connection:
        connection.executemany("UPDATE results SET value = ? WHERE key = ?", [(v, k) for k, v in values.items()])


def forge(folder, change):
    """Change the arrays of all entries and write the checksums that belong to them."""
    values = {}
    for key, value in rows(folder).items():
        arrays = decode_entry(key, value)
        change(arrays)
        values[key] = encode_entry(key, arrays)
    write(folder, values)


@pytest.mark.parametrize("cls", text_estimators(), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("damage", ["swapped", "truncated"])
def test_swapped_and_truncated_entries(make, tmp_path, decoded, cls, damage):
    fitted = make(cls, memory=tmp_path)
    decoded()
    expected = answer(fitted, TEXTS)
    once, values = decoded(), rows(tmp_path)
    if damage == "swapped":
        write(tmp_path, dict(zip(values, [*values.values()][1:] + [*values.values()][:1], strict=True)))
    else:
        write(tmp_path, {key: value[: 30 + 3 * k] for k, (key, value) in enumerate(values.items())})
    with pytest.warns(UserWarning, match=f"{len(TEXTS)} of {len(TEXTS)} entries read from .* were damaged"):
        assert same(answer(fitted, TEXTS), expected)
    assert 0 < decoded() <= once
    assert same(answer(fitted, TEXTS), expected) and decoded() == 0


def at(name, index, value):
    def change(arrays):
        arrays[name][index] = value

    return change


def put(name, make_array):
    def change(arrays):
        arrays[name] = make_array(arrays[name])

    return change


NUMBERS = {
    "seven": lambda a: np.full(a.shape, 7.0),
    "negative": lambda a: a - 2,
    "nan": lambda a: a * np.nan,
    "infinite": lambda a: a + np.inf,
    "float32": lambda a: a.astype("f4"),
    "integers": lambda a: a.astype("i8"),
    "bool": lambda a: a > 0.5,
    "one more axis": lambda a: a[None],
    "scalar": lambda a: np.array(0.5) if a.ndim else np.array([0.5]),
    "longer": lambda a: np.concatenate([a, a], axis=-1) if a.ndim else np.array([a, a]),
    "empty": lambda a: a[..., :0] if a.ndim else np.empty(0),
    "huge": lambda a: np.zeros(a.shape[:-1] + (10**5,)),
}
FORGED = {
    (cls, name): NUMBERS
    for cls, names in {
        StepwiseExtractor: ["steps", "label_mass"],
        UnaryExtractor: ["first"],
        MarginalExtractor: ["labels", "mass"],
    }.items()
    for name in names
}
FORGED[StepwiseExtractor, "steps"] = {
    **NUMBERS,
    "no distribution": lambda a: a * 0.9,
    "too many": lambda a: np.tile(a[:1], (4, 1)),
    "no steps": lambda a: a[:0],
}
FORGED[HiddenStateExtractor, "hidden"] = {
    name: change for name, change in NUMBERS.items() if name not in ("seven", "negative", "float32", "longer")
} | {"float64": lambda a: a.astype("f8")}


@pytest.mark.parametrize(
    "cls, name, change", sampled([(*key, change) for key, changes in FORGED.items() for change in changes], 5)
)
def test_forged_entries_are_computed_again(make, tmp_path, decoded, cls, name, change):
    """The checksum is right, the arrays cannot be: whoever wrote them knew how to write an entry."""
    fitted = make(cls, memory=tmp_path)
    expected = fitted.transform(TEXTS)
    forge(tmp_path, put(name, FORGED[cls, name][change]))
    decoded()
    with pytest.warns(UserWarning, match=f"{len(TEXTS)} of {len(TEXTS)} entries read from .* were damaged"):
        assert same(fitted.transform(TEXTS), expected)
    assert decoded() > 0
    assert same(fitted.transform(TEXTS), expected) and decoded() == 0


@pytest.mark.parametrize("name", sampled([name for name in NUMBERS if name not in ("negative", "float32")], 5))
def test_forged_embeddings_are_computed_again(tiny_encoder, tmp_path, name):
    """Numbers of another kind, or not as many as the model has."""
    fitted = EmbeddingExtractor(tiny_encoder, n_threads=1, memory=tmp_path).fit()
    expected = fitted.transform(TEXTS)
    forge(tmp_path, put("embedding", NUMBERS[name]))
    with pytest.warns(UserWarning, match=f"{len(TEXTS)} of {len(TEXTS)} entries read from .* were damaged"):
        assert same(fitted.transform(TEXTS), expected)
    assert same(fitted.transform(TEXTS), expected)


@pytest.mark.parametrize("name", ["steps", "label_mass", None])
def test_entries_that_lack_something(make, tmp_path, name):
    fitted = make(memory=tmp_path)
    expected = fitted.transform(TEXTS)
    forge(tmp_path, lambda arrays: arrays.clear() if name is None else arrays.pop(name))
    with pytest.warns(UserWarning, match="entries read from .* were damaged"):
        assert same(fitted.transform(TEXTS), expected)


@pytest.mark.parametrize("forged", [1, len(TEXTS)])
def test_hidden_states_of_another_length(make, tmp_path, forged):
    """Only the model knows their length, so those that differ from the others are not believed, nor are the others."""
    fitted = make(HiddenStateExtractor, memory=tmp_path)
    expected = fitted.transform([*TEXTS, "another"])
    fitted = make(HiddenStateExtractor, memory=tmp_path / "2")
    fitted.transform(TEXTS)
    left = iter(range(forged))
    forge(tmp_path / "2", lambda arrays: next(left, None) is None or put("hidden", lambda a: a[:5])(arrays))
    with pytest.warns(UserWarning, match="expected hidden states of one length, got several"):
        assert same(fitted.transform([*TEXTS, "another"]), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(fitted.transform([*TEXTS, "another"]), expected)


@pytest.mark.parametrize(
    "change",
    [
        at("labels", 0, 99),
        at("labels", 0, -1),
        at("tokens", (0, 0), -5),
        at("weights", (0, 0), np.nan),
        at("weights", (0, 0), 0.0),
        put("weights", lambda a: a[:, :3]),
        put("labels", lambda a: a[:0]),
        put("labels", lambda a: a.astype("f8")),
        put("labels", lambda a: np.array(1)),
        lambda arrays: arrays.clear(),
    ],
)
def test_forged_attention(make, tmp_path, change):
    fitted = make(memory=tmp_path, demonstrations=[("we won", ["joy", "anger"])] * 2)
    expected = attention_to_labels(fitted, TEXTS)
    changed = 0

    def forged(arrays):
        nonlocal changed
        if arrays.get("labels", np.empty(0)).size:
            change(arrays)
            changed += 1

    forge(tmp_path, forged)
    assert changed
    with pytest.warns(UserWarning, match=f"{changed} of {len(TEXTS)} entries read from .* were damaged"):
        assert attention_to_labels(fitted, TEXTS) == expected


def test_what_would_count_as_damaged_is_not_kept(make, tmp_path, monkeypatch):
    """A model with broken weights gives NaN; a second call must not blame the disk."""
    monkeypatch.setattr(_engine.Model, "_read", lambda self, *args: _engine.Reading(np.full(9, np.nan), np.nan, None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*(label tokens|NaN|invalid).*")
        for _ in range(2):
            with contextlib.suppress(Exception):
                make(memory=tmp_path).transform(TEXTS)
    assert len(open_cache(tmp_path)) == 0


@pytest.fixture
def hostile(make, tmp_path):
    """A cache of one estimator, and a check that a call works and is right whatever became of the folder."""
    fitted = make(memory=tmp_path / "cache")
    expected = fitted.transform(TEXTS)
    folder = tmp_path / "cache"

    def check():
        began = time.monotonic()
        with quiet():
            for _ in range(2):
                assert same(fitted.transform(TEXTS), expected)
        assert time.monotonic() - began < 20
        return sorted(os.listdir(folder)) if folder.is_dir() else None

    return folder, check


def scramble(data, rng):
    """Flip bytes, cut, repeat or overwrite stretches of bytes."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 12)):
        where, length = rng.integers(max(1, len(data))), int(rng.integers(1, 300))
        what = rng.integers(5)
        if what < 2 and data:
            data[where % len(data)] = rng.integers(256)
        elif what == 2:
            data[where : where + length] = rng.bytes(length)
        elif what == 3:
            data[where : where + length] = data[:length]
        elif rng.random() < 0.3:
            del data[where:]
    return bytes(data)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_damage(hostile, seed):
    """Of the file and of what SQLite keeps beside it, through the estimator: 160 folders."""
    folder, check = hostile
    path, rng = folder / FILE_NAME, np.random.default_rng(seed)
    wal, shm = Path(f"{path}-wal"), Path(f"{path}-shm")
    values = rows(folder)
    with contextlib.closing(sqlite3.connect(path)) as writer:
        with writer:
            writer.execute("DELETE FROM results")
            writer.executemany("INSERT INTO results VALUES (?, ?)", values.items())
        clean = {file: file.read_bytes() for file in (path, wal, shm)}
    assert clean[wal]
    for _ in range(40):
        shutil.rmtree(folder)
        folder.mkdir()
        chosen = rng.integers(1, 8)
        for bit, (file, data) in enumerate(clean.items()):
            if file == path or rng.random() < 0.7:
                file.write_bytes(scramble(data, rng) if chosen >> bit & 1 else data)
        check()


@posix
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["pipe", "link", "empty link", "dangling link", "device", "folder"])
def test_no_plain_file(hostile, tmp_path, suffix, kind):
    folder, check = hostile
    file, victim = Path(f"{folder / FILE_NAME}{suffix}"), tmp_path / "victim"
    content = b"" if kind == "empty link" else b"precious\n" * 1000
    if kind != "dangling link":
        victim.write_bytes(content)
    file.unlink(missing_ok=True)
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero" if kind == "device" else victim)
    check()
    assert victim.read_bytes() == content if kind != "dangling link" else not victim.exists()


def journal_that_deletes(database, victim):
    """A rollback journal that names `victim` as its super-journal: SQLite deletes that file after a rollback."""
    magic, name = bytes.fromhex("d9d505f920a163d7"), os.fsencode(victim)
    header = (magic + struct.pack(">5I", 0, 7, os.path.getsize(database) // 4096, 512, 4096)).ljust(512, b"\0")
    total = sum(byte - 256 * (byte > 127) for byte in name) & 0xFFFFFFFF
    return header + struct.pack(">I", 2**30 // 4096 + 1) + name + struct.pack(">2I", len(name), total) + magic


def test_a_forged_journal_deletes_nothing(hostile, tmp_path):
    folder, check = hostile
    victim, path = tmp_path / "precious.txt", folder / FILE_NAME
    victim.write_text("precious")
    shutil.copy(path, tmp_path / "copy")
    Path(f"{tmp_path / 'copy'}-journal").write_bytes(journal_that_deletes(path, victim))
    with contextlib.closing(sqlite3.connect(tmp_path / "copy")) as connection:
        connection.execute("SELECT count(*) FROM results").fetchall()
    assert not victim.exists(), "SQLite alone does delete it"
    victim.write_text("precious")
    Path(f"{path}-journal").write_bytes(journal_that_deletes(path, victim))
    assert check() == [FILE_NAME, f"{FILE_NAME}.damaged-1", f"{FILE_NAME}.damaged-1-journal"]
    assert victim.read_text() == "precious"


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
SCHEMAS = {
    "view": ["ALTER TABLE results RENAME TO kept", "CREATE VIEW results AS SELECT * FROM kept"],
    "endless view": ["DROP TABLE results", f"CREATE VIEW results AS {ENDLESS} SELECT x AS key, x AS value FROM n"],
    "endless trigger": [
        "CREATE TABLE t (x)",
        f"CREATE TRIGGER e BEFORE INSERT ON results BEGIN INSERT INTO t {ENDLESS} SELECT x FROM n; END",
    ],
    "generated column": [
        "DROP TABLE results",
        "CREATE TABLE results (key BLOB PRIMARY KEY NOT NULL, value BLOB AS (zeroblob(1000000000)))",
    ],
    "virtual table": ["DROP TABLE results", "CREATE VIRTUAL TABLE results USING fts5(key, value)"],
    "index on an expression": ["CREATE INDEX i ON results (hex(zeroblob(1000)))"],
    "check": ["DROP TABLE results", "CREATE TABLE results (key BLOB PRIMARY KEY, value BLOB CHECK (abs(1) > 2))"],
    "rows of other types": ["DELETE FROM results", "INSERT INTO results VALUES (1, 2), ('x', 'y'), (x'', x'')"],
    "large text": ["UPDATE results SET value = CAST(zeroblob(50000000) AS TEXT) WHERE rowid = 1"],
    "large blob": ["UPDATE results SET value = zeroblob(50000000) WHERE rowid = 1"],
    "large pages": ["PRAGMA journal_mode=DELETE", "PRAGMA page_size=65536", "VACUUM"],
    "statistics": ["ANALYZE", "UPDATE sqlite_stat1 SET stat = '1000000000000 -5 x'"],
}


@pytest.mark.parametrize("statements", SCHEMAS.values(), ids=SCHEMAS)
def test_schemas(hostile, statements):
    folder, check = hostile
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    check()


def test_a_trigger_that_calls_itself_sqlites_own(hostile):
    """Names that begin with "sqlite_" are SQLite's, but a file edited by hand may hold any."""
    folder, check = hostile
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("CREATE TRIGGER wqlite_t BEFORE INSERT ON results BEGIN SELECT RAISE(ABORT, 'no'); END")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    path = folder / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b"wqlite_t", b"sqlite_t"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert ("sqlite_t",) in connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert check() == [FILE_NAME, f"{FILE_NAME}.damaged-1"]


def test_a_value_that_claims_a_gigabyte(hostile):
    """Its pages stand in a circle, so the file is small; loading it would take the memory it claims."""
    folder, check = hostile
    path = folder / FILE_NAME
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE results SET value = zeroblob(900000)")
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("VACUUM")
    data = path.read_bytes()
    # The length in the cell: as a varint of the record, 900,000 * 2 + 12 is the type of the value in its header.
    old, new = varint(900_000 * 2 + 12), varint(999_000_000 * 2 + 12)
    assert old in data
    path.write_bytes(data.replace(old, new[: len(old)]))
    check()


def varint(number):
    out = [number & 127]
    while number := number >> 7:
        out.append(number & 127 | 128)
    return bytes(reversed(out))


def test_a_huge_log(hostile):
    folder, check = hostile
    log = Path(f"{folder / FILE_NAME}-wal")
    log.write_bytes(bytes.fromhex("377f0682002de218") + struct.pack(">I", 4096))
    os.truncate(log, 20_000_000_000)
    check()
    log.unlink(missing_ok=True)


@posix
def test_a_pipe_among_chunks(make, tmp_path):
    fitted = make()
    os.mkfifo(tmp_path / "chunk-00000000.npz")
    (part,) = predict_chunks(fitted, [TEXTS], tmp_path, method="transform")
    assert same(part, fitted.transform(TEXTS))
    assert (tmp_path / "chunk-00000000.npz").is_file()


@pytest.mark.parametrize("seed", SEEDS)
def test_random_damage_of_chunks(make, tmp_path, seed):
    """A damaged file is named, or what it says is right: zip files carry checksums."""
    fitted, file = make(), tmp_path / "chunk-00000000.npz"
    (expected,) = predict_chunks(fitted, [TEXTS], tmp_path, method="transform")
    clean, rng, refused = file.read_bytes(), np.random.default_rng(seed), 0
    for _ in range(45):
        file.write_bytes(scramble(clean, rng))
        try:
            (got,) = predict_chunks(fitted, [TEXTS], tmp_path, method="transform")
            assert same(got, expected)
        except ValueError as error:
            assert file.name in str(error)
            refused += 1
    assert refused > 20

"""A trial run of each model file in a process of its own: what it finds, what it remembers, and where it cannot be."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from architecture_specs import write_architecture
from gguf_bytes import U32, take_apart
from inside import try_model
from scripts import ROOT
from tiny_gguf import write_tiny_gguf

from skmlmc import StepwiseExtractor, clear_models
from skmlmc._models import trial
from skmlmc._models.files import resolve_model
from skmlmc._models.loaded import load_model, load_vocabulary


@pytest.fixture(autouse=True)
def _forget():
    trial._warn_of_no_trial.cache_clear()
    yield
    clear_models()


@pytest.fixture
def path(tmp_path, trials):
    """Path of a sound file that no trial has seen."""
    return Path(write_tiny_gguf(tmp_path / "tiny.gguf"))


@pytest.fixture
def started(monkeypatch):
    """Trials that were started, by what they were told."""
    start, told = trial._start, []
    monkeypatch.setattr(trial, "_start", lambda what, limit: told.append(what) or start(what, limit))
    return told


def with_key(path, key, value, arch="llama"):
    """Give a model another number, in place."""
    return take_apart(path).set(f"{arch}.{key}", U32, value).write(path)


def in_another_process(code, *args, **environment):
    code = (
        "import sys; from pathlib import Path; from skmlmc._models.loaded import load_model\n"
        "from skmlmc._models import trial\n" + code
    )
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "GGML_NO_BACKTRACE": "1", **environment},
        timeout=60,
    )


def interpreter(folder, script, monkeypatch):
    """Have a shell script started instead of Python."""
    file = folder / "python-of-a-test"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(trial, "get_executable", lambda: str(file))


def test_what_passes_is_remembered(path, trials, started):
    steps = StepwiseExtractor(path, labels=["joy", "anger"], n_threads=1).fit().transform(["We won!!!"])
    assert np.isfinite(steps[:, 0]).all() and len(started) == 1
    assert [file.stat().st_size for file in trials.iterdir()] == [0]
    clear_models()
    assert load_vocabulary(path).n_vocab == load_model(path).n_vocab > 256
    copy = path.rename(path.with_name("another name.gguf"))
    load_model(copy)
    assert len(started) == 1, "the content counts"
    other = in_another_process("trial._run = None; load_model(Path(sys.argv[1])); print('loaded')", copy)
    assert other.stdout == "loaded\n", other.stderr
    load_model(Path(write_tiny_gguf(path, seed=1)))
    assert len(started) == 2 and len(list(trials.iterdir())) == 2


@pytest.mark.parametrize("arch", ["llama", "gemma3", "mamba"])
def test_what_a_trial_does(arch, tmp_path):
    try_model(Path(write_tiny_gguf(tmp_path / "m.gguf", arch=arch)))
    weights = take_apart(tmp_path / "m.gguf")
    weights.tensors["output.weight"][2] = bytes([255]) * len(weights.tensors["output.weight"][2])
    with pytest.raises(ValueError, match="weights are damaged"):
        try_model(weights.write(tmp_path / "bad.gguf"))


@pytest.mark.model
def test_a_real_model_passes(embedded_model, trials):
    trial.check_by_trial(Path(embedded_model))
    assert len(list(trials.iterdir())) == 1


def test_a_file_that_ends_the_process(path, trials, started):
    """Each time anew, even where a sound one lay before; other models work on."""
    load_model(path)
    resolve_model(with_key(path, "block_count", 0))
    for load in (load_vocabulary, load_model):
        with pytest.raises(
            ValueError, match=r"GGML_ASSERT\(hparams.n_layer.* \(SIGABRT\)\. Expected .* again"
        ) as caught:
            load(path)
        assert str(path) in str(caught.value) and "/src/" not in str(caught.value)
    assert len(started) == 3 and len(list(trials.iterdir())) == 1
    without = in_another_process("load_model(Path(sys.argv[1])); print('alive')", path, SKMLMC_TRIAL="off")
    assert without.returncode != 0 and "alive" not in without.stdout, "what the trial is for"


def test_a_hybrid_model_without_recurrent_layers(tmp_path, trials):
    with pytest.raises(ValueError, match=r"GGML_ASSERT\(buffer\) failed"):
        load_model(write_architecture(tmp_path / "m.gguf", "lfm2", 1))


def test_a_file_that_never_ends(tmp_path, trials, monkeypatch):
    monkeypatch.setattr(trial, "CPU_SECONDS", 1)
    path = with_key(write_tiny_gguf(tmp_path / "m.gguf", arch="gemma3"), "rope.dimension_count", 0, "gemma3")
    with pytest.raises(ValueError, match="was not done after 1 seconds of the processor. Expected .* SKMLMC_TRIAL=off"):
        load_model(path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_a_file_that_asks_for_all_memory(tmp_path, trials):
    path = write_tiny_gguf(tmp_path / "m.gguf", arch="gemma3")
    with pytest.raises(ValueError, match=r"what\(\): +std::bad_alloc \(SIGABRT\)"):
        load_model(with_key(path, "attention.sliding_window", 2**31 - 1, "gemma3"))


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("echo begun; exec sleep 60", "was not done after 1 seconds. Expected"),
        ("echo begun; kill -9 $$", "ended its process: SIGKILL, as the system does where memory runs out. Expected"),
        ("echo begun; exit 3", "ended its process: exit code 3. Expected"),
        ("echo begun; echo 'some words' >&2; exit 3", r"ended its process: some words \(exit code 3\)"),
    ],
)
def test_other_ends(script, match, path, trials, tmp_path, monkeypatch):
    interpreter(tmp_path, script, monkeypatch)
    monkeypatch.setattr(trial, "SECONDS", 1)
    with pytest.raises(ValueError, match=match):
        load_model(path)
    assert not trials.exists()


def test_what_llama_cpp_refuses_by_itself_is_left_to_it(path, trials):
    with pytest.raises(ValueError, match="llama.cpp could not load .* 'blk.2.attn_norm.weight' not found"):
        load_model(with_key(path, "block_count", 3))
    assert not trials.exists()


@pytest.mark.parametrize("value", ["off", "0", "No"])
def test_the_switch(value, path, trials, started, monkeypatch):
    monkeypatch.setenv("SKMLMC_TRIAL", value)
    load_model(path)
    assert started == [] and not trials.exists()


@pytest.mark.parametrize("case", ["no program", "no Python", "frozen", "missing", "broken"])
def test_where_no_trial_is_possible(case, path, trials, tmp_path, monkeypatch):
    """One warning, and the file is loaded."""
    found = {"no program": None, "no Python": "/usr/bin/uwsgi", "missing": b"/nowhere/python"}
    if case in found:
        monkeypatch.setattr(trial, "get_executable", lambda: found[case])
    elif case == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        interpreter(tmp_path, "echo 'No module named x' >&2; exit 1", monkeypatch)
    why = {"missing": "/nowhere/python", "broken": "No module named x"}.get(case, "is no Python")
    with pytest.warns(RuntimeWarning, match=f"loaded without a trial run .*{why}.* SKMLMC_TRIAL=off") as caught:
        load_model(path)
    assert len(caught) == 1 and not trials.exists()
    clear_models()
    load_model(path)


@pytest.mark.parametrize("case", ["folder that is a file", "nobody's home"])
def test_nowhere_to_remember(case, path, started, monkeypatch):
    """This process knows; others try again."""
    if case == "nobody's home":

        def nowhere():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", nowhere)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    for _ in range(2):
        load_model(path)
        clear_models()
    assert len(started) == 1


@pytest.mark.parametrize(
    ("platform", "name", "value", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "relative", ".cache/skmlmc"),
        ("linux", "XDG_CACHE_HOME", None, ".cache/skmlmc"),
        ("darwin", "XDG_CACHE_HOME", None, "Library/Caches/skmlmc"),
        ("win32", "LOCALAPPDATA", "local", "local/skmlmc/Cache"),
        ("win32", "LOCALAPPDATA", None, "AppData/Local/skmlmc/Cache"),
    ],
)
def test_where_it_is_remembered(platform, name, value, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(name, str(tmp_path / value) if value == "local" else value or "")
    assert trial._cache_folder() == tmp_path / expected


def test_threads_try_a_file_once(path, trials, started):
    models = []
    threads = [threading.Thread(target=lambda: models.append(load_model(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 1 and len({id(model) for model in models}) == 1


@pytest.mark.campaign
def test_a_trial_finds_every_number_that_ends_the_process(tmp_path):
    """One number of 19 architectures changed at a time: no answer ends the process behind a trial that did not."""
    command = [sys.executable, ROOT / "tests" / "hostile_runs.py", tmp_path, "0", "16"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=900)
    outcomes = json.loads(done.stdout)
    assert [case for case in outcomes if (case[-2] == "ends") != (case[-1] == "ends")] == []
    ended = [case for case in outcomes if case[-1] == "ends"]
    assert len({arch for arch, *_ in outcomes}) == 19 and len(outcomes) > 250 and len(ended) > 20

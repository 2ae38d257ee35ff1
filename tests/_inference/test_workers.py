"""Several processes: joblib's own, dask's, and what happens when one dies."""

import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import joblib
import numpy as np
import pytest
from adapters import write_adapter
from campaigns import in_campaigns
from inside import fingerprint, kept, loaded
from scripts import run_script
from sklearn.model_selection import cross_validate
from text_estimators import answer, text_estimators

from skmlmc import GGUFClassifier, StepwiseExtractor, clear_models
from skmlmc._inference import run as _run
from skmlmc._inference import workers as _workers
from skmlmc._models.identity import Fingerprints

ROOT = Path(__file__).parents[2]
WORDS = "we won and lost again but nobody cared at all about that old dog who ran home".split()
LABELS = ["joy", "anger", "sadness"]
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(1, 20))) for _ in range(40)]


def build(cls, path, **params):
    return cls(model=str(path), labels=LABELS, **params)


@pytest.mark.parametrize("n_jobs", [2, in_campaigns(3)])
@pytest.mark.parametrize("cls", text_estimators())
def test_processes_change_no_bit(cls, n_jobs, tiny_model):
    expected = answer(build(cls, tiny_model, n_threads=1).fit(TEXTS), TEXTS)
    got = answer(build(cls, tiny_model, n_jobs=n_jobs).fit(TEXTS), TEXTS)
    assert np.array_equal(got, expected, equal_nan=True)


def test_the_caller_needs_no_weights(tiny_model):
    clear_models()
    build(StepwiseExtractor, tiny_model, n_jobs=2).fit().transform(TEXTS)
    from skmlmc._models import loaded as _models

    assert not _models._models and len(_models._vocabularies) == 1
    clear_models()
    assert not _models._vocabularies


def test_the_caller_keeps_what_it_has_loaded(tiny_model):
    model = loaded(tiny_model)
    decoded = model.decoded
    build(StepwiseExtractor, tiny_model, n_jobs=2).fit().transform(TEXTS)
    assert loaded(tiny_model) is model and model.decoded == decoded


def test_duplicates_and_the_cache_are_the_callers(tiny_model, tmp_path, monkeypatch):
    seen = []
    spread = _run.spread
    monkeypatch.setattr(_run, "spread", lambda call, pieces, n: seen.append(pieces) or spread(call, pieces, n))
    fitted = build(StepwiseExtractor, tiny_model, n_jobs=2, memory=tmp_path).fit()
    expected = fitted.transform(TEXTS[:30] + TEXTS[:10])
    assert sorted(i for documents, _ in seen[0] for i in documents) == list(range(30))
    assert np.array_equal(fitted.transform(TEXTS[:30]), expected[:30], equal_nan=True)
    assert len(seen) == 1
    assert not list(tmp_path.rglob("*.npz")) and [p.name for p in tmp_path.iterdir() if p.suffix == ".sqlite"]


def test_batches_stay_whole(tiny_model, monkeypatch):
    seen = []
    monkeypatch.setattr(_run, "spread", lambda call, pieces, n: seen.extend(pieces) or (x for x in ()))
    fitted = build(StepwiseExtractor, tiny_model, n_jobs=2, batch_size=5).fit()
    with pytest.raises(KeyError):
        fitted.transform([f"a {k}" for k in range(40)])
    assert {len(group) for _, groups in seen for group in groups} == {5}


def test_errors_come_from_the_caller_before_any_work(tiny_model, monkeypatch):
    monkeypatch.setattr(_run, "spread", None)
    with pytest.raises(ValueError, match="Document 1 has .* tokens"):
        build(StepwiseExtractor, tiny_model, n_jobs=2, n_ctx=300).fit().transform(["a", "b " * 500])


@pytest.mark.parametrize("n_jobs", [0, 1.5, "two"])
def test_bad_n_jobs(tiny_model, n_jobs):
    with pytest.raises(ValueError, match="n_jobs=.*expected a number of processes"):
        build(StepwiseExtractor, tiny_model, n_jobs=n_jobs).fit()


def test_another_model_at_the_workers(tiny_model, tiny_chat_model):
    options = _run.Options(model=str(tiny_chat_model))
    worker = _run._Worker(None, options, Fingerprints("the fingerprint of another file"))
    with pytest.raises(ValueError, match="of a worker differs"):
        worker(({}, []))


def test_other_adapters_at_the_workers(tiny_model, tmp_path):
    adapter = write_adapter(tmp_path / "adapter.gguf")
    worker = _run._Worker(None, _run.Options(model=tiny_model, lora=adapter), Fingerprints(fingerprint(tiny_model)))
    with pytest.raises(ValueError, match=f"model adapters of a worker .*{fingerprint(adapter)}"):
        worker(({}, []))


class TestThreads:
    def test_more_than_there_are(self, tiny_model, monkeypatch):
        monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores=False: 2)
        with pytest.warns(UserWarning, match="n_threads=64 but this process may use 2"):
            assert _workers.count_threads(64) == 2

    def test_shared_among_processes(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores=False: 8)
        assert [_workers.share_of_threads(n) for n in (1, 2, 3, 16)] == [8, 4, 2, 1]
        assert _workers.count_threads(None, 3) == 3 and _workers.count_threads(5, 3) == 5
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        assert _workers.share_of_threads(2) == 2

    def test_a_caller_that_decodes_nothing_is_not_counted(self, monkeypatch):
        """Its forked children may use threads, and a forked caller's new processes too."""
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores=False: 8)
        monkeypatch.setattr(_workers, "_threads_used", False)
        assert _workers.share_of_threads(2) == 4 and not _workers._threads_used
        monkeypatch.setattr(_workers, "_one_thread", True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert _workers.share_of_threads(2) == 4

    def test_threading_backends_run_one_model_once(self):
        with joblib.parallel_config(backend="threading", n_jobs=4):
            assert _workers.count_jobs(None) == _workers.count_jobs(4) == 1
        assert _workers.count_jobs(2) == 2 and _workers.count_jobs(None) == 1
        with joblib.parallel_config(backend="loky", n_jobs=3):
            assert _workers.count_jobs(None) == 3

    def test_nested_in_cross_validation(self, tiny_model):
        """A worker of cross_validate starts no workers of its own, and takes its share of the threads."""
        Y = (RNG.random((len(TEXTS), 3)) > 0.5).astype(int)
        estimator = Spy(str(tiny_model), labels=LABELS, n_jobs=2)
        expected = cross_validate(estimator.set_params(n_jobs=None), TEXTS, Y, cv=2)["test_score"]
        out = cross_validate(estimator.set_params(n_jobs=2), TEXTS, Y, cv=2, n_jobs=2, return_estimator=True)
        assert np.array_equal(out["test_score"], expected)
        share = max(1, joblib.cpu_count() // 2)
        assert [e.seen_ for e in out["estimator"]] == [(1, share)] * 2


class Spy(GGUFClassifier):
    """Notes how many processes and threads it would use where it runs."""

    def fit(self, X=None, y=None, **params):
        self.seen_ = _workers.count_jobs(2), _workers.count_threads(None)
        return super().fit(X, y, **params)


def die_once(piece):
    """Kill the own process at the first call for piece 3."""
    path, k = piece
    if k == 3 and not os.path.exists(path):
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return k


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this platform")
def test_a_lost_workers_pieces_are_done_again(tmp_path):
    pieces = [(str(tmp_path / "died"), k) for k in range(8)]
    with pytest.warns(RuntimeWarning, match="A worker process died; its documents are answered again"):
        assert sorted(_workers.spread(die_once, pieces, 2)) == list(range(8))


def die(piece):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this platform")
def test_workers_that_always_die(recwarn):
    with pytest.raises(RuntimeError, match="died and none of 2 pieces .* n_jobs=2") as caught:
        list(_workers.spread(die, [0, 1], 2))
    assert isinstance(caught.value.__cause__, BrokenProcessPool)


def fail_at_two(piece):
    if piece == 2:
        raise ZeroDivisionError("a mistake of the task itself")
    return piece


def test_errors_of_the_work_itself_are_raised():
    with pytest.raises(ZeroDivisionError, match="of the task itself"):
        list(_workers.spread(fail_at_two, list(range(4)), 2))


def itself(piece):
    return piece


def test_backends_without_a_generator_work_in_rounds(monkeypatch):
    rounds = []

    class Backend:
        supports_return_generator = False

    class Parallel:
        def __init__(self, *args, **kwargs):
            assert "return_as" not in kwargs

        def __call__(self, tasks):
            tasks = list(tasks)
            rounds.append(len(tasks))
            return [function(*args, **kwargs) for function, args, kwargs in tasks]

    monkeypatch.setattr(_workers, "get_active_backend", lambda: (Backend(), None))
    monkeypatch.setattr(_workers.joblib, "Parallel", Parallel)
    assert list(_workers.spread(itself, list(range(20)), 2)) == list(range(20))
    assert rounds == [8, 8, 4]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.campaign
def test_interrupt_with_processes_keeps_the_cache(tiny_model, tmp_path):
    code = """
    import signal, threading, time
    from inside import kept
    texts = [f"we won {k} " + "and lost " * 150 for k in range(300)]
    fitted = StepwiseExtractor(sys.argv[1], labels=["joy", "anger"], max_labels=1, memory=sys.argv[2], n_jobs=2).fit()
    def interrupt():
        while not kept(sys.argv[2]):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        fitted.transform(texts)
        print("not interrupted")
    except KeyboardInterrupt:
        print(0 < kept(sys.argv[2]) < 300)
    again = fitted.set_params(n_jobs=1).transform(texts[:40])
    print(np.array_equal(again, fitted.set_params(memory=None).transform(texts[:40]), equal_nan=True))
    """
    run = run_script(code, tiny_model, tmp_path)
    assert run.stdout.split() == ["True", "True"], run.stdout + run.stderr


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as made:
            with distributed.Client(made) as client:
                yield client


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this platform")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.campaign
def test_dask_with_a_worker_killed_in_mid_run(cluster, tiny_model, tmp_path):
    texts = [f"{k} {text} " + "and so on " * 100 for k, text in enumerate(TEXTS * 4)]
    expected = build(StepwiseExtractor, tiny_model, max_labels=1, n_threads=1).fit().transform(texts)
    pids = list(cluster.run(os.getpid).values())
    assert len(set(pids)) == 2 and os.getpid() not in pids
    fitted = build(StepwiseExtractor, tiny_model, max_labels=1, memory=tmp_path).fit()
    done_before_the_kill = []

    def kill():
        while not kept(tmp_path):
            time.sleep(0.01)
        done_before_the_kill.append(kept(tmp_path))
        os.kill(pids[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with joblib.parallel_config(backend="dask"):
        got = fitted.transform(texts)
    killer.join(10)
    assert 0 < done_before_the_kill[0] < len(texts)
    assert pids[0] not in cluster.run(os.getpid).values()
    assert np.array_equal(got, expected, equal_nan=True)
    assert kept(tmp_path) == len(texts) + 1, "the answer's beginning has an entry of its own"


@pytest.mark.campaign
@pytest.mark.filterwarnings("ignore")
def test_cross_validation_on_dask(cluster, tiny_model):
    Y = (RNG.random((len(TEXTS), 3)) > 0.5).astype(int)
    estimator = GGUFClassifier(str(tiny_model), labels=LABELS)
    expected = cross_validate(estimator, TEXTS, Y, cv=2)["test_score"]
    with joblib.parallel_config(backend="dask"):
        got = cross_validate(estimator, TEXTS, Y, cv=2, n_jobs=2)["test_score"]
    assert np.array_equal(got, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_says_that_it_uses_one_thread(tiny_model, monkeypatch):
    monkeypatch.setattr(_workers, "_one_thread", True)
    _workers._warn_of_fork.cache_clear()
    with pytest.warns(RuntimeWarning, match="forked.*one thread.*spawn"):
        build(StepwiseExtractor, tiny_model, n_threads=2).fit().transform(TEXTS[:1])
    assert loaded(tiny_model)._settings.n_threads == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The (label tokens|answer's beginning)")
        build(StepwiseExtractor, tiny_model, n_threads=2).fit().transform(TEXTS[:1])


def test_workers_take_the_callers_default_model(tiny_model, tiny_chat_model, monkeypatch):
    """The environment variable may have changed since the workers were started."""
    for model in (tiny_model, tiny_chat_model):
        monkeypatch.setenv("SKMLMC_MODEL", str(model))
        alone, shared = (StepwiseExtractor(labels=LABELS, n_jobs=n).fit().transform(TEXTS) for n in (1, 2))
        assert np.array_equal(alone, shared, equal_nan=True)

"""Run text estimators in forked processes, stop them at random moments, resume, and print what was found as JSON.

Usage: ``python kill_runs.py MODEL FOLDER SEED RUNS KIND`` with KIND one of "kill", "interrupt", "processes", "stream".
The process that forks has imported everything and loaded no model, so a run costs no more than what it computes.
"""

import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
import traceback
import warnings
from pathlib import Path

import llama_cpp  # noqa: F401  (imported before the forks, which then need not)
import numpy as np
from inside import FILE_NAME, count_documents

from skmlmc import StepwiseExtractor, UnaryExtractor, streaming

TEXTS = [f"we won and lost {k}" for k in range(160)]
CHUNK = 16
DEADLINE = 120


def forked(work):
    """Run `work` in a child; returns its number and the end of a pipe that `work` may write to."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    signal.alarm(DEADLINE)
    code = 1
    try:
        work(writing)
        code = 0
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def finished(pid, reading):
    """Wait for a child; returns its exit status and what it wrote."""
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    return os.waitpid(pid, 0)[1], said


def estimator(number, model, memory, n_jobs=None):
    cls = UnaryExtractor if number % 4 == 3 else StepwiseExtractor
    return cls(model, labels=["joy", "anger", "sadness"], n_threads=1, memory=memory, n_jobs=n_jobs).fit()


def chunks():
    return [TEXTS[at : at + CHUNK] for at in range(0, len(TEXTS), CHUNK)]


def answers(kind, number, model, folder, n_jobs=None):
    if kind != "stream":
        return estimator(number, model, folder, n_jobs).transform(TEXTS)
    fitted = estimator(number, model, None)
    if folder is None:
        return fitted.transform(TEXTS)
    return np.concatenate(list(streaming.predict_chunks(fitted, chunks(), folder, method="transform")))


def victim(kind, number, model, folder):
    """Run until stopped: a byte for each document that is answered."""

    def work(pipe):
        os.setsid()
        if kind == "stream":
            write = streaming._write

            def noted(*args):
                os.write(pipe, b"." * CHUNK)
                write(*args)

            streaming._write = noted
        else:
            count_documents(lambda: os.write(pipe, b"."))
        answers(kind, number, model, folder, 2 if kind == "processes" else None)
        signal.pause()

    return work


def stop(kind, rng, pid, reading):
    """Stop a run: at any moment from its start, or a moment after any of its documents."""
    seen = b""
    if kind != "processes" and rng.random() < 0.2:
        time.sleep(rng.random() * 0.1)
    else:
        # Every third of them where a batch is being written.
        wanted = 32 * rng.randrange(1, 5) if rng.random() < 0.33 else rng.randrange(1, len(TEXTS))
        while len(seen) < wanted and (more := os.read(reading, wanted - len(seen))):
            seen += more
        time.sleep(rng.random() * 0.004)
    os.kill(pid, signal.SIGINT if kind == "interrupt" else signal.SIGKILL)
    status, more = finished(pid, reading)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return status, len(seen + more)


def kept_in(kind, folder):
    """Count the documents whose results are on disk, after a look at every page of the file."""
    if kind == "stream":
        return CHUNK * sum(1 for _ in Path(folder).glob("chunk-*.npz"))
    path = Path(folder) / FILE_NAME
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not connection.execute("SELECT * FROM sqlite_master").fetchall():
            return 0
        return connection.execute("SELECT count(*) FROM results").fetchone()[0]


def resumed(kind, number, model, folder, expected):
    """Resume a run and compare; nothing may be told about the files."""

    def work(pipe):
        kept = kept_in(kind, folder)
        decoded = []
        if kind == "stream":
            answer = StepwiseExtractor._run
            for cls in (StepwiseExtractor, UnaryExtractor):
                cls._run = lambda self, X, task: decoded.extend(X) or answer(self, X, task)
        else:
            count_documents(lambda: decoded.append(0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "The (label tokens|answer's beginning)")
            got = answers(kind, number, model, folder)
        result = {"kept": kept, "decoded": len(decoded), "same": np.array_equal(got, expected, equal_nan=True)}
        os.write(pipe, json.dumps(result).encode())

    return work


def undisturbed(kind, model, root):
    """Answer everything without a cache, by each kind of estimator."""
    found = {}
    for number in (0, 3):
        file = os.path.join(root, f"expected-{number}.npy")
        finished(*forked(lambda pipe, n=number, file=file: np.save(file, answers(kind, n, model, None))))
        found[number] = np.load(file)
    return found


def main(model, root, seed, runs, kind):
    rng = random.Random(int(seed))
    expected = undisturbed(kind, model, root)
    outcomes = []
    for number in range(int(runs)):
        folder = os.path.join(root, str(number))
        status, answered = stop(kind, rng, *forked(victim(kind, number, model, folder)))
        right = expected[3 if number % 4 == 3 else 0]
        code, said = finished(*forked(resumed(kind, number, model, folder, right)))
        outcomes.append({"status": status, "answered": answered, "code": code, **json.loads(said or b"{}")})
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])

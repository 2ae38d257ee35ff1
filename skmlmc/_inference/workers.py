"""How many threads and processes to use, and work spread over joblib's processes, here or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import lru_cache
from typing import Any

import joblib
from joblib.parallel import get_active_backend  # undocumented, but joblib tells no other way which backend is set

from .._utils.warning import warn

# Where a backend gives results back only all together, this many pieces a process are handed out at one time.
ROUND = 4


def count_threads(n_threads: int | None, share: int | None = None) -> int:
    """Threads to use: as asked, else ``OMP_NUM_THREADS`` (which joblib sets for its workers), else physical cores.

    Where nobody asked, no more than this process's `share`, and the engine takes fewer while fewer are faster. At most
    the processors that this process may use: more would only wait for each other. One in a process whose parent ran a
    model with more before it forked: there GNU's OpenMP would wait for ever. The number changes no bit of a result.
    """
    global _threads_used
    most = joblib.cpu_count()
    if n_threads is None:
        n_threads = min(_threads_here(), share or most)
    elif n_threads > most:
        warn(
            f"Got n_threads={n_threads} but this process may use {most} processors, so it uses {most} threads.",
        )
    n_threads = min(n_threads, most)
    if n_threads > 1 and _one_thread:
        _warn_of_fork()
        return 1
    _threads_used = _threads_used or n_threads > 1
    return n_threads


def _threads_here():
    """Count the threads that nobody has asked for in a parameter."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    here = int(told) if told.isdigit() and int(told) > 0 else joblib.cpu_count(only_physical_cores=True)
    return min(here, joblib.cpu_count())


@lru_cache(1)
def _warn_of_fork():
    warn(
        "This process was forked from one that had run a model with several threads, which llama.cpp's OpenMP does not "
        "survive, so it uses one thread. For more start workers with joblib's default backend, or with "
        'multiprocessing.get_context("spawn").',
        RuntimeWarning,
    )


_threads_used = _one_thread = False


def _after_fork():
    global _one_thread
    _one_thread = _threads_used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def count_jobs(n_jobs: int | None) -> int:
    """Count the processes that joblib would use now: `n_jobs`, or those of ``joblib.parallel_config``.

    One where joblib's backend runs threads, as it does inside a worker of its own: one model answers one caller at a
    time, so more would only wait.
    """
    backend, _ = get_active_backend()
    return 1 if getattr(backend, "supports_sharedmem", False) else joblib.effective_n_jobs(n_jobs)


def share_of_threads(n_jobs: int) -> int | None:
    """Count the threads that each of `n_jobs` processes of this machine may use where no number is asked for.

    None for a cluster's workers, who are told by ``OMP_NUM_THREADS``. The process that asks decodes nothing itself, so
    nothing is noted of it, and it may be a forked one.
    """
    backend, _ = get_active_backend()
    local = getattr(backend, "supports_inner_max_num_threads", False)
    return max(1, _threads_here() // n_jobs) if local else None


def spread(call: Callable[[Any], Any], pieces: Sequence[Any], n_jobs: int) -> Generator[Any, None, None]:
    """Call a function on each piece in `n_jobs` processes of joblib; yields what the calls return, as soon as they do.

    Function and results can be pickled. Pieces of a worker that died are handed out again; RuntimeError: workers died
    again before any piece was done.
    """
    todo = dict(enumerate(pieces))
    while todo:
        before = len(todo)
        try:
            for k, result in _once(call, todo, n_jobs):
                del todo[k]
                yield result
        except BrokenProcessPool as error:
            if len(todo) == before:
                raise RuntimeError(
                    f"A worker process died and none of {len(todo)} pieces of work was done since. Most often memory "
                    f"ran out: choose fewer processes than n_jobs={n_jobs}, a smaller n_ctx or a smaller model. What "
                    "was done before is in the cache where memory= is set."
                ) from error
            warn(
                f"A worker process died; its documents are answered again ({len(todo)} of {len(pieces)} pieces of work "
                "are left).",
                RuntimeWarning,
            )


def _once(call, todo, n_jobs):
    """Hand every piece out once; yields (number, result)."""
    backend, _ = get_active_backend()
    items = list(todo.items())
    if not backend.supports_return_generator:
        for at in range(0, len(items), ROUND * n_jobs):
            some = items[at : at + ROUND * n_jobs]
            yield from joblib.Parallel(n_jobs, batch_size=1)(joblib.delayed(_numbered)(call, *item) for item in some)
        return
    parallel = joblib.Parallel(n_jobs, batch_size=1, return_as="generator_unordered")
    with closing(parallel(joblib.delayed(_numbered)(call, *item) for item in items)) as done:
        yield from done


def _numbered(call, number, piece):
    return number, call(piece)

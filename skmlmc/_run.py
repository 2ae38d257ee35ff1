"""Answer many documents: duplicates once, the cache first, lengths checked before anything is decoded."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import joblib
from tqdm.auto import tqdm

from ._cache import open_cache, result_key
from ._models import load_model, model_fingerprint, resolve_lora, resolve_model
from ._prefix import pack
from ._validation import check_choice, check_positive_int

FLUSH_DOCUMENTS, FLUSH_SECONDS = 32, 2.0
RESULT_VERSION = 1


@dataclass(frozen=True)
class Options:
    """How to run, as the estimators' parameters of the same names say; checked by `check_options`."""

    model: Any = None
    batch_size: int = 1
    truncation: str | None = None
    n_ctx: int = 4096
    n_threads: int | None = None
    kv_dtype: str = "float16"
    lora: Any = None
    memory: Any = None
    verbose: int = 0


class Prepared(Protocol):
    """A task made ready for one model."""

    prefix: list[int]
    sequences: int
    cells: int

    def document(self, text: str, keep: slice = slice(None)) -> list[int]:
        """Tokens of a document."""

    def job(self, tokens: list[int]) -> Generator:
        """Start a document."""


class Task(Protocol):
    """What to ask of each document."""

    hidden: tuple | None

    def key(self) -> tuple:
        """Everything that a result depends on beside the model, the document and the options."""

    def prepare(self, model) -> Prepared:
        """Tokenise the prompt for a loaded model."""

    def to_arrays(self, result) -> dict:
        """Turn a result into named arrays for the cache."""

    def from_arrays(self, arrays: dict):
        """Turn a cache entry into a result, or None where the entry lacks something."""


def check_options(options: Options) -> Options:
    """Check the options that need no model.

    Raises
    ------
    ValueError, TypeError
        An option is out of range; `memory` is no folder and no joblib.Memory; the model file is missing or no GGUF.
    """
    check_positive_int(options.batch_size, "batch_size")
    check_positive_int(options.n_ctx, "n_ctx")
    if options.n_threads is not None:
        check_positive_int(options.n_threads, "n_threads")
    check_choice(options.truncation, "truncation", (None, "end", "start"))
    check_choice(options.kv_dtype, "kv_dtype", ("float16", "float32"))
    resolve_model(options.model)
    resolve_lora(options.lora)
    return options


def count_threads(n_threads: int | None) -> int:
    """Threads to use: as asked, else ``OMP_NUM_THREADS`` (which joblib sets for its workers), else physical cores.

    One in a process whose parent ran a model with more before it forked: there GNU's OpenMP would wait for ever. The
    number changes no bit of a result.
    """
    global _threads_used, _fork_warned
    told = os.environ.get("OMP_NUM_THREADS", "")
    if n_threads is None:
        n_threads = int(told) if told.isdigit() and int(told) > 0 else joblib.cpu_count(only_physical_cores=True)
    if n_threads > 1 and _one_thread:
        if not _fork_warned:
            _fork_warned = True
            warnings.warn(
                "This process was forked from one that had run a model with several threads, which llama.cpp's OpenMP "
                "does not survive, so it uses one thread. For more start workers with joblib's default backend, or "
                'with multiprocessing.get_context("spawn").',
                RuntimeWarning,
                stacklevel=2,
            )
        return 1
    _threads_used = _threads_used or n_threads > 1
    return n_threads


_threads_used = _one_thread = _fork_warned = False


def _after_fork():
    global _one_thread
    _one_thread = _threads_used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(task: Task, texts: Sequence[str], options: Options) -> list:
    """Answer `texts`.

    Parameters
    ----------
    task : Task
        What to ask.
    texts : sequence of str
        The documents; identical ones are answered once.
    options : Options
        How to run.

    Returns
    -------
    list
        One result a text.

    Raises
    ------
    ValueError
        A document does not fit the context and ``truncation`` is None, or the prompt itself does not fit.
    """
    path = resolve_model(options.model)
    unique = list(dict.fromkeys(texts))
    cache = open_cache(options.memory)
    if cache is None:
        with closing(_decode(task, unique, texts, path, options)) as pairs:
            results = dict(pairs)
        return [results[t] for t in texts]
    with cache:
        base = result_key(*_key_parts(task, path, options))
        keys = {text: result_key(base, text) for text in unique}
        known = cache.get_many(list(keys.values()))
        results = {t: task.from_arrays(known[k]) for t, k in keys.items() if k in known}
        results = {t: r for t, r in results.items() if r is not None}
        todo = [t for t in unique if t not in results]
        # Closed by hand: an exception's traceback would keep a generator alive, and with it the model's lock.
        with (
            closing(_decode(task, todo, texts, path, options)) as pairs,
            closing(_saving(pairs, task, keys, cache)) as saved,
        ):
            results.update(saved)
    return [results[t] for t in texts]


def _key_parts(task, path, options):
    cut = None if options.truncation is None else (options.truncation, options.n_ctx)
    exact = options.batch_size == 1
    engine = version("llama-cpp-python")
    lora = tuple((model_fingerprint(adapter), scale) for adapter, scale in resolve_lora(options.lora))
    return (RESULT_VERSION, model_fingerprint(path), lora, engine, options.kv_dtype, exact, cut, *task.key())


def _saving(pairs: Generator, task, keys, cache):
    """Pass results through and write them down in small batches, the last one too when the run is interrupted."""
    pending: dict[bytes, dict] = {}
    last = time.monotonic()
    try:
        for text, result in pairs:
            pending[keys[text]] = task.to_arrays(result)
            if len(pending) >= FLUSH_DOCUMENTS or time.monotonic() - last > FLUSH_SECONDS:
                cache.put_many(pending)
                pending, last = {}, time.monotonic()
            yield text, result
    finally:
        if pending:
            cache.put_many(pending)


def _decode(task, todo, texts, path, options):
    """Yield each text of `todo` with its result."""
    if not todo:
        return
    from ._engine import Hidden, Settings, show_log

    show_log(int(options.verbose) > 1)
    model = load_model(path)
    n_ctx = min(options.n_ctx, model.n_ctx_train)
    prepared = model.prompts.get(task, lambda: task.prepare(model))
    documents = _fit_documents(prepared, todo, texts, n_ctx, options.truncation)
    free = n_ctx - len(prepared.prefix)
    needs = [len(tokens) + prepared.cells for tokens in documents]
    groups = pack(
        needs,
        batch_size=options.batch_size,
        cells=free,
        per_document=prepared.sequences,
        sequences=model.sequences,
    )
    hidden = None if task.hidden is None else Hidden(*task.hidden)
    settings = Settings(n_ctx, options.kv_dtype, hidden, resolve_lora(options.lora), count_threads(options.n_threads))
    with (
        closing(model.run(prepared.prefix, lambda i: prepared.job(documents[i]), groups, settings)) as done,
        tqdm(done, total=len(todo), disable=not options.verbose, unit="doc", desc=type(task).__name__) as shown,
    ):
        for i, result in shown:
            yield todo[i], result


def _fit_documents(prepared: Prepared, todo, texts, n_ctx, truncation):
    """Tokenise all documents and see to it that each fits beside the prompt, before anything is decoded."""
    room = n_ctx - len(prepared.prefix) - prepared.cells - len(prepared.document(""))
    if room < 1:
        raise ValueError(
            f"The prompt does not fit: its instruction and demonstrations have {len(prepared.prefix)} tokens and an "
            f"answer up to {prepared.cells}, but the context has n_ctx={n_ctx}. Expected room for a document: raise "
            "n_ctx (if the model was trained for more) or use fewer shots."
        )
    documents = [prepared.document(text) for text in todo]
    limit = room + len(prepared.document(""))
    long = [k for k, tokens in enumerate(documents) if len(tokens) > limit]
    if long and truncation is None:
        first = long[0]
        raise ValueError(
            f"Document {list(texts).index(todo[first])} has {len(documents[first])} tokens but only {limit} fit beside "
            f"the prompt of {len(prepared.prefix)} tokens (n_ctx={n_ctx}); {len(long)} documents are too long. Raise "
            'n_ctx, shorten them, or cut them with truncation="end" or "start".'
        )
    for k in long:
        over = len(documents[k]) - limit
        keep = slice(None, -over) if truncation == "end" else slice(over, None)
        documents[k] = prepared.document(todo[k], keep)
    if long:
        warnings.warn(
            f"{len(long)} of {len(todo)} documents were cut to {limit} tokens, the first of them document "
            f"{list(texts).index(todo[long[0]])} (truncation={truncation!r}, n_ctx={n_ctx}).",
            UserWarning,
            stacklevel=2,
        )
    return documents

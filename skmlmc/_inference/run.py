"""Answer many documents: duplicates once, the cache first, lengths checked before anything is decoded."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from .._cache.results import DamagedEntryError, cache_folder, open_cache, result_key
from .._engine.context import Attention, Hidden, Pooled, Settings
from .._engine.forest import pack
from .._models.identity import Fingerprints, ModelFiles, find_files
from .._models.loaded import load_model, load_vocabulary
from .._utils.checks import check_choice, check_positive_int
from .._utils.warning import warn
from ..prompts._chunks import chunks_of
from .compiled import longest_that_fits, prepared_prompt
from .workers import count_jobs, count_threads, share_of_threads, spread

FLUSH_DOCUMENTS, FLUSH_SECONDS = 32, 2.0
ENOUGH_CELLS = 512  # of documents decoded together, with the longest answers they may have: about one decode call
PIECES = 8  # of work for each process, so that all end at about the same time
RESULT_VERSION = 6
CUTS = ("end", "start")
installed_version = lru_cache(version)  # looked up once: a process may lose the right to read its packages


@dataclass(frozen=True)
class Options:
    """How to run, as the estimators' parameters of the same names say; checked by `check_options`."""

    model: Any = None
    batch_size: int = 1
    truncation: Any = None
    n_ctx: int = 4096
    n_threads: int | None = None
    n_jobs: int | None = None
    kv_dtype: str = "float16"
    lora: Any = None
    memory: Any = None
    verbose: int = 0


class Prepared(Protocol):
    """A task made ready for one model."""

    prefix: Sequence[int]
    sequences: int
    cells: int
    first: int
    tap: Hidden | Attention | Pooled | None

    def document(self, text: str) -> list[int]:
        """Tokens of a document."""

    def job(self, tokens: list[int]) -> Generator:
        """Start a document."""


class Task(Protocol):
    """What to ask of each document."""

    @property
    def words(self) -> tuple[str, ...]:
        """Wordings of the labels, the empty answer's word last."""

    @property
    def tap(self) -> Hidden | Attention | Pooled | None:
        """What is read beside logits, or in their place."""

    def key(self) -> tuple:
        """Everything that a result depends on beside the model, the document and the options."""

    def prepare(self, model) -> Prepared:
        """Tokenise the prompt for a loaded model."""

    def to_arrays(self, result) -> dict:
        """Turn a result into named arrays for the cache."""

    def from_arrays(self, arrays: dict):
        """Turn a cache entry into a result; raises DamagedEntryError."""


def check_options(options: Options) -> Options:
    """Check the options that need no model.

    Raises
    ------
    ValueError, TypeError
        An option is out of range.
    """
    check_positive_int(options.batch_size, "batch_size")
    check_positive_int(options.n_ctx, "n_ctx")
    if options.n_threads is not None:
        check_positive_int(options.n_threads, "n_threads")
    if options.n_jobs is not None and (not isinstance(options.n_jobs, Integral) or options.n_jobs == 0):
        raise ValueError(
            f"Got n_jobs={options.n_jobs!r} but expected a number of processes, -1 for all processors, or None."
        )
    if chunks_of(options.truncation) is None:
        check_choice(options.truncation, "truncation", (None, *CUTS, "chunk"))
    check_choice(options.kv_dtype, "kv_dtype", ("float16", "float32"))
    cache_folder(options.memory)
    if not isinstance(options.verbose, Integral) or options.verbose < 0:
        raise ValueError(f"Got verbose={options.verbose!r} but expected 0, 1 for a progress bar, or 2 for the log too.")
    return options


def run(task: Task, texts: Sequence[str], options: Options, expected: Fingerprints | None = None) -> list:
    """Answer `texts`.

    Parameters
    ----------
    task : Task
        What to ask.
    texts : sequence of str
        The documents; identical ones are answered once.
    options : Options
        How to run.
    expected : Fingerprints or None, default=None
        The model that this must be.

    Returns
    -------
    list
        One result a text.

    Raises
    ------
    FileNotFoundError
        The model file or an adapter is missing.
    ValueError
        The model is not the expected one; a document does not fit the context and ``truncation`` is None, or the
        prompt itself does not fit.
    """
    files = find_files(options.model, options.lora, expected)
    unique = list(dict.fromkeys(texts))
    cache = open_cache(options.memory)
    if cache is None:
        with closing(_decode(task, unique, texts, files, options)) as pairs:
            results = dict(pairs)
        return [results[t] for t in texts]
    with cache:
        base = result_key(*key_parts(task, files.content, options))
        keys = {text: result_key(base, text, *getattr(text, "shown", ())) for text in unique}
        known = cache.get_many(keys.values(), task.from_arrays, _largest_entry(task))
        results = {t: known[k] for t, k in keys.items() if known.get(k) is not None}
        while True:
            todo = [t for t in unique if t not in results]
            # Closed by hand: an exception's traceback would keep a generator alive, and with it the model's lock.
            with (
                closing(_decode(task, todo, texts, files, options)) as pairs,
                closing(_saving(pairs, task, keys, cache)) as saved,
            ):
                results.update(saved)
            # Hidden states have one length, the model's, which cannot be seen from one entry.
            if not isinstance(task.tap, Hidden) or len({state.shape for state in results.values()}) < 2:
                return [results[t] for t in texts]
            warn(
                f"Entries read from {cache.path} were damaged: expected hidden states of one length, got several. All "
                "results of this call are computed again and overwritten.",
            )
            results = {}


def _largest_entry(task):
    """Bytes that an entry may have: hidden states wider than any model's, and two tables of labels by labels."""
    layers = len(task.tap.layers) if isinstance(task.tap, Hidden) else 1
    return 300_000 * layers + 16 * len(task.words) ** 2


def key_parts(task, content, options):
    """Say what decides, beside the document, whether a kept result is used again; `run` adds the document."""
    truncated = (options.truncation, options.n_ctx) if options.truncation in CUTS else None
    how = (installed_version("llama-cpp-python"), options.kv_dtype, options.batch_size == 1, truncated)
    return (RESULT_VERSION, *content, *how, *task.key())


def _saving(pairs: Generator, task, keys, cache):
    """Pass results through and write them down in small batches, the last one too when the run is interrupted."""
    pending: dict[bytes, dict] = {}
    last = time.monotonic()
    try:
        for text, result in pairs:
            arrays = task.to_arrays(result)
            # What would count as damaged when it is read is not kept: the next call would blame the disk.
            with suppress(DamagedEntryError):
                task.from_arrays(arrays)
                pending[keys[text]] = arrays
            if len(pending) >= FLUSH_DOCUMENTS or time.monotonic() - last > FLUSH_SECONDS:
                cache.put_many(pending)
                pending, last = {}, time.monotonic()
            yield text, result
    finally:
        if pending:
            cache.put_many(pending)


def _decode(task, todo, texts, files, options):
    """Yield each text of `todo` with its result, as they come."""
    if not todo:
        return
    from .._engine.log import show_log

    show_log(int(options.verbose) > 1)
    jobs = min(count_jobs(options.n_jobs), len(todo))
    model = load_model(files.path) if jobs == 1 else load_vocabulary(files.path)
    n_ctx = min(options.n_ctx, model.n_ctx_train)
    prepared = prepared_prompt(task, model)
    documents = cut_documents(prepared, todo, texts, n_ctx, options.truncation)
    groups = pack(
        [len(tokens) + prepared.cells for tokens in documents],
        batch_size=options.batch_size,
        cells=n_ctx - len(prepared.prefix),
        per_document=prepared.sequences,
        sequences=model.sequences,
        enough=ENOUGH_CELLS,
        firsts=[len(tokens) + prepared.first for tokens in documents],
    )
    if jobs == 1:
        answers = answer(model, prepared, documents, groups, options, files)
    else:
        answers = _answer_elsewhere(task, documents, groups, options, files, jobs)
    name = type(task).__name__.removesuffix("Task")
    # Of a large model the prompt takes longer than any document.
    first = f"{name}, first a prompt of {len(prepared.prefix)} tokens"
    with (
        closing(answers) as done,
        tqdm(done, total=len(todo), disable=not options.verbose, unit="doc", desc=first) as shown,
    ):
        for i, result in shown:
            shown.set_description(name, refresh=False)
            yield todo[i], result


def context_size(needed: int, limit: int) -> int:
    """Cells of the context to make: a power of two, so that memory follows the need and contexts are seldom made anew.

    The number of cells changes no bit of a result.

    Examples
    --------
    >>> context_size(700, 4096), context_size(20, 4096), context_size(3000, 4000)
    (1024, 512, 4000)
    """
    return min(limit, max(512, 1 << (needed - 1).bit_length()))


def answer(
    model: Any,
    prepared: Prepared,
    documents: Mapping[int, list[int]] | Sequence[list[int]],
    groups: Sequence[Sequence[int]],
    options: Options,
    files: ModelFiles,
    share: int | None = None,
) -> Generator:
    """Answer tokenised documents, short enough for the context, in this process; yields (number, result).

    `documents` gives the tokens of each by its number, `groups` says which are decoded together, `files` are the model
    and its adapters as the call found them, and `share` is this process's part of the threads. RuntimeError: the files
    hold something else now; the result at hand is not given.
    """
    most = max(sum(len(documents[i]) + prepared.cells for i in group) for group in groups)
    n_ctx = context_size(len(prepared.prefix) + most, min(options.n_ctx, model.n_ctx_train))
    n_threads, fewer = count_threads(options.n_threads, share), options.n_threads is None
    settings = Settings(n_ctx, options.kv_dtype, prepared.tap, files.lora, n_threads, fewer)
    with closing(model.run(prepared.prefix, lambda i: prepared.job(documents[i]), groups, settings)) as done:
        for k, pair in enumerate(done):
            files.check(loaded=k > 0)
            yield pair


@dataclass(frozen=True)
class _Worker:
    """What a process of its own does with a piece of the work: some groups of documents."""

    task: Task
    options: Options
    content: Fingerprints
    path: Path | None = None
    share: int | None = None

    def __call__(self, piece):
        """Answer ``(documents by number, groups of numbers)``; returns pairs of number and result."""
        documents, groups = piece
        model = self.options.model
        if model is None and self.path is not None and self.path.exists():
            model = self.path  # a worker that was started before has the environment of then
        files = find_files(model, self.options.lora)
        found = files.content
        if found != self.content:
            what = "adapters" if found.model == self.content.model else f"file {str(files.path)!r}"
            raise ValueError(
                f"The model {what} of a worker differs from the one of the process that started it: expected the same "
                f"on every machine, with the fingerprints {self.content}, found {found}."
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The prompt is laid out as plain text")  # the caller has been told
            model = load_model(files.path)
            prepared = prepared_prompt(self.task, model)
            return list(answer(model, prepared, documents, groups, self.options, files, self.share))


def _answer_elsewhere(task, documents, groups, options, files, jobs):
    """Answer documents in `jobs` other processes, which write no cache; yields as `answer` does.

    A group's results depend on the group alone, so it does not matter who answers which.
    """
    theirs = replace(options, memory=None, verbose=0, n_jobs=1)
    worker = _Worker(task, theirs, files.content, files.path, share_of_threads(jobs))
    size = min(FLUSH_DOCUMENTS // options.batch_size, len(groups) // (PIECES * jobs)) or 1
    parts = [groups[at : at + size] for at in range(0, len(groups), size)]
    pieces = [({i: documents[i] for group in part for i in group}, part) for part in parts]
    with closing(spread(worker, pieces, jobs)) as done:
        for pairs in done:
            yield from pairs


def cut_documents(prepared: Prepared, todo, texts, n_ctx, truncation):
    """Tokenise all documents and see to it that each fits beside the prompt, before anything is decoded."""
    limit, _ = room_for_documents(prepared, n_ctx)
    documents = [prepared.document(text) for text in todo]
    long = [k for k, tokens in enumerate(documents) if len(tokens) > limit]
    if long and truncation not in CUTS:
        first, there, answers = long[0], "", ""
        if prepared.prefix:
            there = f" beside the prompt of {len(prepared.prefix)} tokens"
            answers = f"let answers be shorter than {prepared.cells} tokens (max_labels), "
        raise ValueError(
            f"Document {list(texts).index(todo[first])} has {len(documents[first])} tokens but only {limit} fit{there} "
            f"(n_ctx={n_ctx}); {len(long)} documents are too long. Raise n_ctx, shorten them, {answers}or cut "
            'documents with truncation="end" or "start", or read them in pieces with truncation="chunk".'
        )
    for k in long:
        cut = longest_that_fits(todo[k], lambda text: len(prepared.document(text)) <= limit, truncation == "end")
        documents[k] = prepared.document(cut)
        if len(documents[k]) > limit:
            raise ValueError(
                f"The demonstrations of document {list(texts).index(todo[k])} take {len(documents[k])} tokens but only "
                f"{limit} fit beside the prompt (n_ctx={n_ctx}). Raise n_ctx, or use fewer shots."
            )
    if long:
        warn(
            f"{len(long)} of {len(todo)} documents were cut to {limit} tokens, the first of them document "
            f"{list(texts).index(todo[long[0]])} (truncation={truncation!r}, n_ctx={n_ctx}).",
        )
    return documents


def room_for_documents(prepared: Prepared, n_ctx: int) -> tuple[int, int]:
    """Return the tokens that a document may have beside the prompt, and how many of them an empty one has."""
    limit, around = n_ctx - len(prepared.prefix) - prepared.cells, len(prepared.document(""))
    if limit <= around:
        raise ValueError(_no_room(prepared, n_ctx, around))
    return limit, around


def _no_room(prepared, n_ctx, around):
    """Message for a context in which no document has room."""
    if not prepared.prefix:
        return (
            f"Got n_ctx={n_ctx}, which leaves no room for a text between the {around} tokens around it. Raise n_ctx "
            "(if the model was trained for more)."
        )
    return (
        f"The prompt does not fit: its instruction and demonstrations have {len(prepared.prefix)} tokens and an answer "
        f"up to {prepared.cells}, but the context has n_ctx={n_ctx}. Expected room for a document: raise n_ctx (if the "
        "model was trained for more), use fewer shots, or let answers be shorter (max_labels)."
    )

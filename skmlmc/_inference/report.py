"""What an estimator reads and how: the text of a prompt, and a report of model, layout and context."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace

from .._cache.results import open_cache, result_key
from .._models.identity import Fingerprints, find_files
from .._models.loaded import load_vocabulary
from .._models.soundness import part_paths
from ..prompts._templates import ANSWER_FORMATS
from .compiled import prepared_prompt
from .run import Options, Task, key_parts, run
from .tasks import BeginningTask, EmbeddingTask, StepsTask


def prompt_text(task: Task, text: str, options: Options, expected: Fingerprints | None = None) -> str:
    """Return the text that the model reads of a document before the first word that is asked of it; decode nothing."""
    model = load_vocabulary(find_files(options.model, options.lora, expected).path)
    prepared = prepared_prompt(task, model)
    return getattr(prepared, "compiled", prepared).text(text)


# The document that the beginning is read on, the same for all: a sentence in which nothing is the matter.
SAMPLE = "The train leaves at nine."
_beginnings: dict[bytes, float] = {}


def beginning_mass(task: StepsTask, options: Options, expected: Fingerprints | None = None) -> float:
    """Return how probable it is that the model begins its answer by itself as a task's prompt makes it.

    It is read once for a prompt, behind `SAMPLE`, and kept in the cache: other documents move it by a factor of some
    ten, and a row of logits for each token of each would cost a fifth of a short document where the vocabulary is
    large. NaN where the model's file is another one meanwhile, or the sample does not fit the context.
    """
    if not ANSWER_FORMATS[task.template.answer_format][0]:
        return 1.0
    asked = BeginningTask(task)
    alone = replace(options, n_jobs=1, batch_size=1, verbose=0, memory=None, truncation=None)
    with suppress(OSError, RuntimeError, ValueError):
        key = result_key(*key_parts(asked, find_files(options.model, options.lora, expected).content, alone))
        cache = open_cache(options.memory)
        with nullcontext() if cache is None else cache:
            found = {} if cache is None else cache.get_many([key], asked.from_arrays)
            mass = found.get(key, _beginnings.get(key))
            mass = _beginnings[key] = run(asked, [SAMPLE], alone, expected)[0] if mass is None else mass
            if cache is not None and key not in found:
                cache.put_many({key: asked.to_arrays(mass)})
        return mass
    return float("nan")


@dataclass(frozen=True)
class ModelReport:
    """What an estimator reads and how; printed, a few lines.

    Attributes
    ----------
    model : str
        The model's name as its file says, else the file's.
    architecture : str
        Kind of model, as llama.cpp calls it.
    n_bytes : int
        Size of the file, all parts together.
    layout : {"plain", "chat", "document"}
        How the prompt is laid out; "document": there is none.
    reason : str
        Why it is laid out so.
    thinking : {"none", "switched off", "closed"}
        How the model comes to answer at once: nothing had to be done; a variable of its chat template says so; the
        thought that the template begins is ended.
    n_ctx : int
        Tokens that a prompt, its document and answer may have together.
    n_ctx_train : int
        Tokens of context that the model was trained for.
    n_prompt : int
        Tokens of the prompt before the document.
    n_answer : int
        Tokens that an answer, or all questions, may take at most.
    n_cache_bytes : int
        Bytes that the attention cache of a process takes where a document fills the context; 0: the file does not say.
    """

    model: str
    architecture: str
    n_bytes: int
    layout: str
    reason: str
    thinking: str
    n_ctx: int
    n_ctx_train: int
    n_prompt: int
    n_answer: int
    n_cache_bytes: int

    def __str__(self):
        cache = f"; cache up to {_size(self.n_cache_bytes)}" if self.n_cache_bytes else ""
        return (
            f"model     {self.model} ({self.architecture}, {_size(self.n_bytes)})\n"
            f"layout    {self.layout}: {self.reason}\n"
            f"thinking  {self.thinking}\n"
            f"context   {self.n_ctx} of the {self.n_ctx_train} tokens trained for; "
            f"prompt {self.n_prompt}, answer up to {self.n_answer}{cache}"
        )


def _size(n_bytes):
    """Write a number of bytes.

    Examples
    --------
    >>> _size(98_400_000), _size(2_020_000_000)
    ('98.4 MB', '2.02 GB')
    """
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def model_report(task: Task, options: Options, expected: Fingerprints | None = None) -> ModelReport:
    """Say what a task's prompt is for its model; decode nothing."""
    model, facts = _look_at(options, expected)
    prepared = prepared_prompt(task, model)
    layout = getattr(prepared, "compiled", prepared).layout
    return ModelReport(
        **facts,
        layout=layout.mode,
        reason=layout.reason,
        thinking=layout.thinking,
        n_prompt=len(prepared.prefix),
        n_answer=prepared.cells,
        n_cache_bytes=facts["n_ctx"] * model.cell_bytes(4 if options.kv_dtype == "float32" else 2),
    )


@dataclass(frozen=True)
class EmbeddingReport:
    """What an extractor of embeddings reads and how; printed, three lines.

    Attributes
    ----------
    model, architecture, n_bytes
        As of `ModelReport`.
    pooling : str
        What becomes of the tokens' states.
    n_features : int
        Length of a vector.
    n_ctx : int
        Tokens that a text may have.
    n_ctx_train : int
        Tokens of a text that the model was trained for.
    """

    model: str
    architecture: str
    n_bytes: int
    pooling: str
    n_features: int
    n_ctx: int
    n_ctx_train: int

    def __str__(self) -> str:
        return (
            f"model     {self.model} ({self.architecture}, {_size(self.n_bytes)})\n"
            f"vectors   {self.n_features} numbers, pooling {self.pooling}\n"
            f"context   {self.n_ctx} of the {self.n_ctx_train} tokens trained for"
        )


def embedding_report(task: EmbeddingTask, options: Options, expected: Fingerprints | None = None) -> EmbeddingReport:
    """Say what an embedding task reads; no text is read."""
    _, facts = _look_at(options, expected)
    return EmbeddingReport(**facts, pooling=task.tap.pooling, n_features=task.width)


def _look_at(options, expected):
    """Return a model's vocabulary, and what both reports say."""
    path = find_files(options.model, options.lora, expected).path
    model = load_vocabulary(path)
    return model, {
        "model": model.metadata("general.name") or path.name,
        "architecture": model.metadata("general.architecture") or "unknown",
        "n_bytes": sum(os.stat(part).st_size for part in part_paths(path)),
        "n_ctx": min(options.n_ctx, model.n_ctx_train),
        "n_ctx_train": model.n_ctx_train,
    }

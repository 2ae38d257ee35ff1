"""Answers that are given: their tokens as an extractor would read them, and how probable a model finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .._models.identity import Fingerprints, find_files
from .._models.loaded import load_vocabulary
from .compiled import prepared_prompt
from .run import Options, cut_documents, run
from .tasks import StepsTask, WrittenTask, written_tokens


class Written(NamedTuple):
    """The tokens of documents and of answers to them.

    Attributes
    ----------
    prefix : list of int
        What stands before every document.
    documents : list of list of int
        Each document, with what leads over to its answer.
    answers : dict of tuple of int to list of int
        Label sets, and the tokens of the answer that names them, which may stand behind any document.
    begins : int
        How many tokens of an answer stand before the answer itself.
    """

    prefix: list[int]
    documents: list[list[int]]
    answers: dict[tuple[int, ...], list[int]]
    begins: int


def write_answers(
    task: StepsTask,
    texts: Sequence[str],
    label_sets: Sequence[tuple[int, ...]],
    options: Options,
    expected: Fingerprints | None = None,
) -> Written:
    """Tokenise documents and answers as a task's prompt has them; decode nothing.

    ValueError: a document does not fit the context, and is not to be cut.
    """
    model = load_vocabulary(find_files(options.model, options.lora, expected).path)
    prepared = prepared_prompt(task, model)
    n_ctx = min(options.n_ctx, model.n_ctx_train)
    documents = cut_documents(prepared, list(texts), texts, n_ctx, options.truncation)
    answers = {labels: written_tokens(task, prepared, labels) for labels in dict.fromkeys(label_sets)}
    return Written(list(prepared.prefix), documents, answers, prepared.compiled.answers.begins_at())


def log_probabilities(
    task: StepsTask,
    texts: Sequence[str],
    label_sets: Sequence[tuple[int, ...]],
    options: Options,
    expected: Fingerprints | None = None,
) -> np.ndarray:
    """Return the log-probability (n,) of an answer to each document, its labels in the order in which they are given.

    It is that of all tokens of the answer and of the one behind it, as the prompt spells them.
    """
    found, quiet = np.empty(len(texts)), replace(options, verbose=0)
    for labels in dict.fromkeys(label_sets):
        rows = [i for i, given in enumerate(label_sets) if given == labels]
        found[rows] = run(WrittenTask(task, labels), [texts[i] for i in rows], quiet, expected)
    return found

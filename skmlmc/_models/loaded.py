"""The models and vocabularies that this process has loaded."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from .files import embedder, file_state
from .trial import check_by_trial

if TYPE_CHECKING:
    from .._engine.model import Model
    from .._engine.vocabulary import Vocabulary

MAX_MODELS = 2

_models: OrderedDict[tuple, Model] = OrderedDict()
_vocabularies: OrderedDict[tuple, Vocabulary] = OrderedDict()
_lock, _trials = threading.Lock(), threading.Lock()


def _after_fork():
    # The parent's threads do not exist in a forked child, so neither its models nor its locks are usable there.
    global _models, _vocabularies, _lock, _trials
    _models, _vocabularies = OrderedDict(), OrderedDict()
    _lock, _trials = threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def load_model(path: Path) -> Model:
    """Return the process's model of a GGUF file: loaded once, at most `MAX_MODELS` kept, loaded anew when replaced.

    A file that no trial has seen yet gets one first. ValueError: it would end the process, or llama.cpp refuses it.
    Another thread may be using it.
    """
    from .._engine.embedding import EmbeddingModel
    from .._engine.model import Model

    return _kept(_models, path, EmbeddingModel if embedder(path) else Model)


def load_vocabulary(path: Path) -> Vocabulary:
    """Return a model's vocabulary and metadata: enough to tokenise, for a process that leaves decoding to others.

    Where the model is loaded already, it is that; else its weights stay in the file.
    """
    from .._engine import model as _engine

    loaded = _models.get(file_state(path))
    return _kept(_vocabularies, path, _engine.load_vocabulary) if loaded is None else loaded


def _kept(kept, path, load):
    key = file_state(path)
    if key not in kept:
        with _trials:  # apart, so that nobody waits for it who has loaded another model
            check_by_trial(path)
    with _lock:
        if key not in kept:
            while len(kept) >= MAX_MODELS:
                kept.popitem(last=False)
            kept[key] = load(path)
        kept.move_to_end(key)
        return kept[key]


def clear_models() -> None:
    """Forget all loaded models of this process and free their memory.

    Estimators stay usable: the next call loads what it needs again. A model in use by another thread is freed when
    that call ends. Worker processes of ``n_jobs`` keep theirs until they end: joblib stops idle ones after minutes.

    Examples
    --------
    >>> from skmlmc import clear_models
    >>> clear_models()
    """
    with _lock:
        _models.clear()
        _vocabularies.clear()

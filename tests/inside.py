"""What tests look at and no user sees: tokens that were decoded, a prompt compiled for its model, entries of a cache.

That nothing is decoded twice, or that a stopped run keeps what it has answered, is promised to users; only counters
inside tell. Tests of other rooms reach them here alone.
"""

from pathlib import Path
from types import SimpleNamespace

from skmlmc._cache.results import FILE_NAME, open_cache
from skmlmc._engine import model as _model
from skmlmc._engine.trial import try_model
from skmlmc._inference import run as _run
from skmlmc._inference import tasks as _tasks
from skmlmc._models import identity as _identity
from skmlmc._models.files import embedder
from skmlmc._models.loaded import load_model
from skmlmc._models.soundness import check_model
from skmlmc._utils.labelled import labelled
from skmlmc.align import _arithmetic as arithmetic

__all__ = [
    "FILE_NAME",
    "arithmetic",
    "check_model",
    "count_documents",
    "embedder",
    "fingerprint",
    "fingerprints_made",
    "kept",
    "labelled",
    "loaded",
    "merge_letters",
    "note_decoding",
    "note_lookups",
    "prepared",
    "set_clock",
    "try_model",
]


def loaded(model):
    """Return the loaded model of a path or an estimator; its `decoded` and `calls` count tokens and decodes."""
    return load_model(model._options().model if hasattr(model, "get_params") else Path(model))


def prepared(extractor):
    """Return a fitted extractor's prompt, compiled for its model."""
    return extractor._task().prepare(loaded(extractor))


def kept(memory):
    """Count the documents whose results a cache holds."""
    return len(open_cache(memory))


def count_documents(note):
    """Call `note` for each document that is answered in this process or handed to it by a worker."""
    for task in (_tasks.StepsTask, _tasks.QuestionsTask):
        original = task.to_arrays

        def to_arrays(self, result, original=original):
            note()
            return original(self, result)

        task.to_arrays = to_arrays


def note_decoding(monkeypatch, note):
    """Call `note` instead of decoding anything."""
    monkeypatch.setattr(_model.C, "llama_decode", lambda *args: note("decoded") or 0)


def note_lookups(monkeypatch, note):
    """Call `note` instead of looking at a result cache."""
    monkeypatch.setattr(_run, "open_cache", lambda *args: note("cache opened"))


def set_clock(tick):
    """Let `tick` say how late it is while documents are answered; returns what puts the clock back."""
    before, _run.time = _run.time, SimpleNamespace(monotonic=tick)
    return lambda: setattr(_run, "time", before)


def merge_letters(monkeypatch, letter, other):
    """Let the tokenizer take a letter for another one."""
    plain = _model.Model.tokenize
    changed = lambda self, text, special=False: plain(self, text.replace(letter, other), special)  # noqa: E731
    monkeypatch.setattr(_model.Model, "tokenize", changed)


def fingerprint(file):
    """Fingerprint of a file's content as fitted estimators record it."""
    return _identity.model_fingerprint(Path(file)).hex()


def fingerprints_made():
    """Count the files that were read for their fingerprint."""
    return _identity._fingerprint.cache_info().misses

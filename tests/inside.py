"""What tests look at and no user sees: tokens that were decoded, a prompt compiled for its model, entries of a cache.

That nothing is decoded twice, or that a stopped run keeps what it has answered, is promised to users; only counters
inside tell. Tests of other rooms reach them here alone.
"""

from pathlib import Path

from skmlmc._cache.results import FILE_NAME, open_cache
from skmlmc._inference import tasks as _tasks
from skmlmc._models.loaded import load_model

__all__ = ["FILE_NAME", "count_documents", "kept", "loaded", "prepared"]


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

"""Corpora that do not fit into memory: predict chunk by chunk, write as it goes, resume."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import uuid4

import joblib
import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._models.identity import asks_a_model, check_models, nested_estimators
from ._utils.checks import check_texts
from ._utils.labelled import LabelledArray, labelled
from .extract._base import WORKING_PARAMETERS

__all__ = ["predict_chunks", "read_chunks"]


def predict_chunks(
    estimator: Any,
    chunks: Iterable[Any],
    folder: str | os.PathLike | None = None,
    *,
    method: str = "predict_proba",
) -> Iterator[np.ndarray]:
    """Apply a fitted estimator to one chunk of documents after the other.

    For corpora that do not fit into memory, or take days: a call that was stopped goes on where it was. The arguments
    are checked at once, but no chunk is taken before its result is asked for; go through the iterator to its end.

    Parameters
    ----------
    estimator : estimator
        Fitted: a `GGUFClassifier`, an extractor, or a pipeline with one.
    chunks : iterable of sequences of str
        Documents, a chunk at a time, such as ``(part["text"] for part in pandas.read_csv(path, chunksize=10_000))``.
        Only the chunk at hand is kept in memory.
    folder : str, path-like or None, default=None
        Where to write each chunk's result as soon as it is there, one ``.npz`` file a chunk, with the permissions that
        your umask gives. A second call with the same estimator and documents reads what is there and goes on behind
        it. Give the estimator ``memory=`` to resume within a chunk too. None: nothing is written.
    method : str, default="predict_proba"
        Method of the estimator to call.

    Yields
    ------
    ndarray of shape (n_documents_of_the_chunk, ...)
        Result of each chunk, in order. Arrays of an extractor know their labels and what the model wrote, from a file
        and joined by ``numpy.concatenate`` too.

    Raises
    ------
    FileNotFoundError
        The model file is missing.
    ValueError
        A file in `folder` was written for other documents, by another estimator or by another method; the model file
        is another one than in ``fit``.
    AttributeError
        The estimator has no such method.
    NotFittedError, TypeError
        The estimator is not fitted; `chunks` is no iterable of documents, or `folder` no name of a folder.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn.pipeline import make_pipeline
    >>> from skmlmc.streaming import predict_chunks
    >>> model = make_pipeline(CountVectorizer(), MultinomialNB()).fit(["we won", "we lost"], [1, 0])
    >>> for proba in predict_chunks(model, [["we won", "won"], ["lost"]]):
    ...     print(proba.shape)
    (2, 2)
    (1, 2)
    """
    if not isinstance(method, str):
        raise TypeError(f"Got method={method!r:.80} but expected the name of a method, such as 'predict_proba'.")
    call = getattr(estimator, method)
    check_is_fitted(estimator)
    check_models(estimator)
    if isinstance(chunks, (str, bytes)) or not isinstance(chunks, Iterable):
        raise TypeError(
            f"Expected chunks to be an iterable of sequences of str, but got {chunks!r:.80}. Put one chunk in a list."
        )
    if folder is None:
        return _predict(call, chunks)
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"Got folder={folder!r:.80} but expected the name of a folder, or None.")
    if Path(folder).exists() and not Path(folder).is_dir():
        raise NotADirectoryError(f"Got folder={str(folder)!r}, which is a file. Expected the name of a folder.")
    return _predict(call, chunks, Path(folder), joblib.hash((_what_it_is(estimator), method)))


def _predict(call, chunks, folder=None, state=None):
    for number, chunk in enumerate(chunks):
        texts = check_texts(chunk)
        if folder is None:
            yield _as_array(call(texts))
            continue
        file = folder / f"chunk-{number:08d}.npz"
        key = joblib.hash((state, texts))
        result = _read(file, key)
        if result is None:
            result = _as_array(call(texts))
            _write(file, key, result)
        yield result


def read_chunks(folder: str | os.PathLike) -> Iterator[np.ndarray]:
    """Read what `predict_chunks` wrote.

    Parameters
    ----------
    folder : str or path-like
        As given to `predict_chunks`.

    Yields
    ------
    ndarray
        Result of each chunk, in order; ``numpy.concatenate(list(...))`` joins them.

    Raises
    ------
    FileNotFoundError
        There is none.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.dummy import DummyClassifier
    >>> from skmlmc.streaming import predict_chunks, read_chunks
    >>> model = DummyClassifier().fit(["a", "b"], [0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for _ in predict_chunks(model, [["c", "d"], ["e"]], folder, method="predict"):
    ...         pass
    ...     [len(part) for part in read_chunks(folder)]
    [2, 1]
    """
    files = sorted(Path(folder).glob("chunk-*.npz"))
    if not files:
        raise FileNotFoundError(f"There are no results in {str(folder)!r}: expected files chunk-*.npz.")
    for file in files:
        with np.load(file, allow_pickle=False) as data:
            yield _loaded(data)


def _as_array(made):
    """Return a result as an array; that of an extractor or aligner still says what it holds."""
    array = np.asarray(made)
    if not isinstance(made, LabelledArray):
        return array
    return labelled(array, made.kind, made.labels, None, made.written)


def _known(result):
    """Return what a result says of itself, as arrays."""
    names = ("kind", "labels", "written") if isinstance(result, LabelledArray) else ()
    return {name: np.asarray(value) for name in names if (value := getattr(result, name)) is not None}


def _loaded(data):
    """Return a result with what it said of itself."""
    result = data["result"]
    if not {"kind", "labels", "written"} & set(data):
        return result
    kind, labels, written = (data.get(name) for name in ("kind", "labels", "written"))
    names = None if labels is None else labels.tolist()
    return labelled(result, None if kind is None else str(kind), names, None, written)


def _read(file, key):
    """Read the result in a file; None where there is none yet."""
    if not file.is_file():  # a named pipe would block for ever
        return None
    try:
        # Opened here, for np.load leaves open what it cannot read.
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as data:
            found, result = str(data["key"]), _loaded(data)
    except Exception as error:
        raise ValueError(f"{str(file)!r} is no result of predict_chunks: delete it and call again.") from error
    if found != key:
        raise ValueError(
            f"{str(file)!r} was written for other documents, by another estimator or by another method. Expected the "
            "call that began in this folder: choose another folder, or delete the files there."
        )
    return result


def _write(file, key, result):
    """Write all or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # tempfile's own files are for nobody but their owner.
    name = file.with_name(f"{file.name}.{uuid4().hex}.tmp")
    try:
        with open(name, "xb") as stream:
            np.savez(stream, key=np.array(key), result=np.asarray(result), **_known(result))
        os.replace(name, file)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def _what_it_is(estimator):
    """Copy of an estimator without what does not matter to its results, and with the model's content for its path."""
    copied = deepcopy(estimator)
    for part in list(nested_estimators(copied)):
        for name in WORKING_PARAMETERS:
            if hasattr(part, name):
                setattr(part, name, None)
        if asks_a_model(part):
            part.model = part.lora = None  # what fit recorded of them stays
    return copied

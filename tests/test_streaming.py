"""Chunk after chunk: what is written, resumed and refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skmlmc import GGUFClassifier, MaxOverGenerations, StepwiseExtractor
from skmlmc.streaming import predict_chunks, read_chunks

TEXTS = ["we won", "we lost", "a dog ran", "nobody cared", "home again"]
LABELS = ["joy", "anger", "sadness"]


def chunks(size=2):
    return (TEXTS[at : at + size] for at in range(0, len(TEXTS), size))


@pytest.fixture
def classifier(tiny_model):
    return GGUFClassifier(str(tiny_model), labels=LABELS, n_threads=1).fit()


def forbid(estimator, monkeypatch):
    def predict_proba(self, X):
        raise AssertionError("computed again")

    monkeypatch.setattr(type(estimator), "predict_proba", predict_proba)


@pytest.mark.parametrize("to_disk", [False, True])
def test_the_same_as_all_at_once(classifier, tmp_path, to_disk):
    parts = list(predict_chunks(classifier, chunks(), tmp_path / "out" if to_disk else None))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert np.array_equal(np.concatenate(parts), classifier.predict_proba(TEXTS))
    if to_disk:
        assert np.array_equal(np.concatenate(list(read_chunks(tmp_path / "out"))), np.concatenate(parts))


def test_one_chunk_is_taken_at_a_time(classifier, tmp_path):
    taken = []

    def source():
        for chunk in chunks():
            taken.append(chunk)
            yield chunk

    results = predict_chunks(classifier, source(), tmp_path)
    assert not taken
    next(results)
    assert len(taken) == 1 and len(list(tmp_path.iterdir())) == 1


def test_resumes_behind_what_is_there(classifier, tmp_path, monkeypatch):
    first = predict_chunks(classifier, chunks(), tmp_path)
    kept = [next(first), next(first)]
    first.close()
    asked = []
    original = GGUFClassifier.predict_proba
    monkeypatch.setattr(GGUFClassifier, "predict_proba", lambda self, X: asked.extend(X) or original(self, X))
    again = list(predict_chunks(classifier, chunks(), tmp_path))
    assert asked == TEXTS[4:]
    assert all(np.array_equal(a, b) for a, b in zip(kept, again, strict=False))


def test_pipelines_and_other_methods(tiny_model, tmp_path):
    pipe = make_pipeline(StepwiseExtractor(str(tiny_model), labels=LABELS, n_threads=1), MaxOverGenerations()).fit(
        TEXTS
    )
    assert np.array_equal(np.concatenate(list(predict_chunks(pipe, chunks()))), pipe.predict_proba(TEXTS))
    steps = list(predict_chunks(pipe[0], chunks(), tmp_path, method="transform"))
    assert steps[0].shape[0] == 2 and steps[0].shape[2] == 4


def test_mere_means_may_change(classifier, tmp_path, monkeypatch):
    list(predict_chunks(classifier, chunks(), tmp_path / "out"))
    other = GGUFClassifier(
        classifier.model, labels=LABELS, n_threads=2, n_jobs=2, memory=str(tmp_path / "cache"), verbose=0
    ).fit()
    forbid(classifier, monkeypatch)
    assert len(list(predict_chunks(other, chunks(), tmp_path / "out"))) == 3


def test_a_moved_model_is_the_same_one(classifier, tmp_path, monkeypatch):
    list(predict_chunks(classifier, chunks(), tmp_path / "out"))
    moved = tmp_path / "moved.gguf"
    moved.write_bytes(Path(classifier.model).read_bytes())
    forbid(classifier, monkeypatch)
    assert len(list(predict_chunks(GGUFClassifier(str(moved), labels=LABELS).fit(), chunks(), tmp_path / "out"))) == 3


@pytest.mark.parametrize("change", ["documents", "estimator", "method", "model"])
def test_another_call_is_refused(classifier, tmp_path, change, tiny_chat_model):
    list(predict_chunks(classifier, chunks(), tmp_path))
    estimator, parts, method = classifier, chunks(), "predict_proba"
    if change == "documents":
        parts = chunks(3)
    elif change == "estimator":
        estimator = GGUFClassifier(classifier.model, labels=LABELS, method="compare_to_none").fit()
    elif change == "model":
        estimator = GGUFClassifier(str(tiny_chat_model), labels=LABELS).fit()
    else:
        method = "predict"
    with pytest.raises(ValueError, match="was written for other documents, by another estimator"):
        list(predict_chunks(estimator, parts, tmp_path, method=method))


def test_a_damaged_file_is_named(classifier, tmp_path):
    list(predict_chunks(classifier, chunks(), tmp_path))
    (tmp_path / "chunk-00000001.npz").write_bytes(b"PK half a file")
    with pytest.raises(ValueError, match="chunk-00000001.npz' is no result.*delete it"):
        list(predict_chunks(classifier, chunks(), tmp_path))


def test_a_failed_write_leaves_nothing(classifier, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        list(predict_chunks(classifier, chunks(), tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o002, 0o027, 0o077])
def test_the_umask_decides_who_may_read(classifier, tmp_path, umask):
    before = os.umask(umask)
    try:
        list(predict_chunks(classifier, chunks(), tmp_path / "out"))
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()} == {0o666 & ~umask}


def test_bad_input_is_refused_at_the_call(classifier, tmp_path, tiny_model):
    """Before anybody asks for a result."""
    with pytest.raises(AttributeError, match="no_such_method"):
        predict_chunks(classifier, chunks(), method="no_such_method")
    with pytest.raises(NotFittedError):
        predict_chunks(GGUFClassifier(tiny_model, labels=LABELS), chunks())
    with pytest.raises(NotFittedError):
        predict_chunks(make_pipeline(StepwiseExtractor(tiny_model, labels=LABELS)), chunks(), method="transform")
    for wrong in ("one text", None, 3):
        with pytest.raises(TypeError, match=f"Expected chunks to be an iterable of .*, but got {wrong!r}"):
            predict_chunks(classifier, wrong)
    with pytest.raises(TypeError, match="Got folder=3"):
        predict_chunks(classifier, chunks(), 3)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file', which is a file"):
        predict_chunks(classifier, chunks(), tmp_path / "file")
    Path(tiny_model).rename(tmp_path / "away.gguf")
    try:
        with pytest.raises(FileNotFoundError, match="no model file"):
            predict_chunks(classifier, chunks())
    finally:
        (tmp_path / "away.gguf").rename(tiny_model)


def test_bad_chunks_and_nothing_to_read(classifier, tmp_path):
    with pytest.raises(TypeError, match="single str"):
        list(predict_chunks(classifier, ["not", "chunks"]))
    with pytest.raises(FileNotFoundError, match="no results"):
        list(read_chunks(tmp_path))

"""Every warning points at the line that the user wrote."""

import pickle
import warnings

import joblib
import numpy as np
import pytest
from ecosystem_data import TEXTS, H, Y, classifier, extractor, label_pipeline
from inside import loaded
from sklearn.model_selection import cross_validate

import skmlmc
from skmlmc import ScalingAligner, StepwiseExtractor, clear_models
from skmlmc.datasets import paper_split
from skmlmc.metrics import entropy_correlation
from skmlmc.streaming import predict_chunks

LONG, CUT = ["a b " * 5000], {"verbose": 1, "truncation": "end"}


def another_version(estimator, monkeypatch):
    monkeypatch.setattr(skmlmc._version, "__version__", "0.0.1")
    data = pickle.dumps(estimator)
    monkeypatch.undo()
    return data


def joblib_file(estimator, tmp_path, monkeypatch):
    monkeypatch.setattr(skmlmc._version, "__version__", "0.0.1")
    joblib.dump(estimator, tmp_path / "estimator.joblib")
    monkeypatch.undo()
    return tmp_path / "estimator.joblib"


# What is called, on one line of this file, with what a case needs made before.
CALLS = {
    "transform": ("label tokens", lambda m: extractor(m).fit(), lambda e: e.transform(TEXTS)),
    "predict_proba": ("label tokens", lambda m: classifier(m).fit(), lambda e: e.predict_proba(TEXTS)),
    "score": ("label tokens", lambda m: classifier(m, n_label_orders=2).fit(), lambda e: e.score(TEXTS, Y)),
    "fit": ("label tokens", lambda m: classifier(m, aligner="platt", content_free=("N/A",)), lambda e: e.fit(TEXTS, H)),
    "pipeline": ("label tokens", lambda m: label_pipeline(m, ScalingAligner()), lambda e: e.fit(TEXTS, H)),
    "pipeline's transform": ("label tokens", lambda m: label_pipeline(m).fit(TEXTS), lambda e: e.transform(TEXTS)),
    "cross-validation": ("label tokens", classifier, lambda e: cross_validate(e, TEXTS, Y, cv=2, error_score="raise")),
    "chunks": ("label tokens", lambda m: classifier(m).fit(), lambda e: next(predict_chunks(e, [TEXTS]))),
    "progress bar": ("documents were cut", lambda m: extractor(m, **CUT).fit(), lambda e: e.transform(LONG)),
    "threads": ("n_threads=640", lambda m: extractor(m).fit().set_params(n_threads=640), lambda e: e.transform(TEXTS)),
    "metric": ("not defined", lambda m: np.ones((4, 2)), lambda H: entropy_correlation(H, H)),
    "split": ("Too few documents", lambda m: np.eye(12)[:, :3], lambda H: paper_split(H, n_test=6)),
}  # fmt: skip


def caught(call, *args):
    """Warnings of a call."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call(*args)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_a_warning_points_at_the_call(name, tiny_model):
    message, make, call = CALLS[name]
    found = [w for w in caught(call, make(tiny_model)) if message in str(w.message)]
    assert found
    assert {(w.filename, w.lineno) for w in found} == {(__file__, call.__code__.co_firstlineno)}


def test_a_damaged_cache(tiny_model, tmp_path):
    fitted = extractor(tiny_model, memory=tmp_path).fit()
    fitted.transform(TEXTS)
    (file,) = [file for file in tmp_path.iterdir() if file.suffix == ".sqlite"] or list(tmp_path.iterdir())
    file.write_bytes(b"no database" * 100)
    found = [w for w in caught(fitted.transform, TEXTS) if not str(w.message).startswith("The ")]
    assert found and {w.filename for w in found} == {__file__}


@pytest.mark.parametrize("how", ["pickle", "joblib"])
def test_another_versions_estimator(how, tiny_model, tmp_path, monkeypatch):
    fitted = extractor(tiny_model, StepwiseExtractor).fit()
    if how == "pickle":
        found = caught(pickle.loads, another_version(fitted, monkeypatch))
    else:
        found = caught(joblib.load, joblib_file(fitted, tmp_path, monkeypatch))
    assert [w.filename for w in found if "unpickle" in str(w.message)] == [__file__]


def test_a_prompt_laid_out_as_plain_text(tmp_path):
    from tiny_gguf import write_tiny_gguf

    clear_models()
    path = write_tiny_gguf(tmp_path / "m.gguf", chat_template="{{ broken")
    fitted = extractor(path).fit()
    found = [w for w in caught(fitted.prompt_text, "a text") if "laid out as plain text" in str(w.message)]
    assert [w.filename for w in found] == [__file__]
    assert loaded(path)

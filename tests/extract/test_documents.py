"""Hidden states of documents alone: no prompt, no labels."""

import numpy as np
import pandas as pd
import pytest
from ecosystem_data import LABELS, TEXTS, H, Y, classifier
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from slow_twin import SlowTwin
from tiny_gguf import write_tiny_gguf

from skmlmc import GGUFClassifier, HiddenStateExtractor, LinearProbe
from skmlmc.analysis import attention_to_labels

DOCUMENTS = ["We won!!!", "", " a space\nand a line ", "<|im_end|> is text", "ö🙂"]
STATES = {"layer": [1, 1, None], "pooling": ["mean", "last", "last"]}


def alone(model, **params):
    return HiddenStateExtractor(model, read="document", n_threads=1, **params)


@pytest.mark.parametrize("begins", [True, False], ids=["begin token", "none"])
def test_agrees_with_the_slow_twin(begins, tmp_path):
    """One call each of the whole text behind the token that begins it; the mean leaves that token out."""
    path = write_tiny_gguf(tmp_path / "deep.gguf", n_layer=3, add_bos=begins)
    found = alone(path, kv_dtype="float32", **STATES).fit().transform(DOCUMENTS)
    twin = SlowTwin(path)
    begin = twin.special_texts()["bos_token" if begins else "eos_token"]
    for text, row in zip(DOCUMENTS, found, strict=True):
        tokens = [*twin.tokenize(begin, special=True), *twin.tokenize(text + "\n")]
        states = twin.states(tokens, 1)
        expected = [states[1:].mean(axis=0), states[-1], twin.hidden(tokens)]
        for part, wanted in zip(np.split(row, 3), expected, strict=True):
            assert_allclose(part, wanted, atol=1e-5 * abs(wanted).max())
    twin.close()


def test_no_bit_depends_on_the_others(tiny_model):
    whole = alone(tiny_model).fit_transform(DOCUMENTS)
    assert_array_equal(alone(tiny_model).fit_transform(DOCUMENTS[::-1])[::-1], whole)
    assert_array_equal(alone(tiny_model, n_jobs=2).fit_transform(DOCUMENTS[2:]), whole[2:])


def test_one_cache_for_all_tasks(tiny_model, tmp_path, decoded):
    first = alone(tiny_model, labels=LABELS, memory=tmp_path).fit_transform(TEXTS)
    assert decoded() > 0
    others = alone(tiny_model, labels=["red", "green"], none_label="grey", memory=tmp_path).fit_transform(TEXTS)
    assert decoded() == 0
    assert_array_equal(others, first)


@pytest.mark.parametrize("y", [None, np.arange(len(TEXTS)) / 3, Y, H, [f"class {k % 2}" for k in range(len(TEXTS))]])
def test_whatever_the_targets_are(tiny_model, y):
    extractor = alone(tiny_model).fit(TEXTS, y)
    assert extractor.labels_.tolist() == []
    assert not extractor.learns_from_documents()
    assert_array_equal(extractor.transform(TEXTS), alone(tiny_model).fit_transform(TEXTS))


def test_in_front_of_any_estimator(tiny_model):
    numbers = np.arange(len(TEXTS)) / 3
    scores = cross_validate(make_pipeline(alone(tiny_model), Ridge()), TEXTS, numbers, cv=3, error_score="raise")
    assert np.isfinite(scores["test_score"]).all()
    assert make_pipeline(alone(tiny_model), LinearProbe()).fit(TEXTS, H).predict_proba(TEXTS).shape == H.shape


@pytest.mark.parametrize("method", ["linear_probe", "stack"])
def test_in_the_classifier(tiny_model, method):
    given = classifier(tiny_model, method=method, method_params={"read": "document"}, random_state=0).fit(TEXTS, H)
    assert given.prompt_text("We won!!!").endswith("We won!!!\n") and "joy" not in given.prompt_text("We won!!!")
    assert given.model_report().layout == "document" and given.model_report().n_prompt <= 1
    named = clone(given).set_params(labels=None).fit(TEXTS, pd.DataFrame(H, columns=LABELS))
    assert_array_equal(named.predict_proba(TEXTS), given.predict_proba(TEXTS))
    single = GGUFClassifier(
        tiny_model, method=method, method_params={"read": "document"}, multi_label=False, n_threads=1, random_state=0
    )
    words = [("sad", "glad")[k % 2] for k in range(len(TEXTS))]
    assert single.fit(TEXTS, words).classes_.tolist() == ["glad", "sad"]


@pytest.mark.parametrize("given", [{"shots": 2}, {"prompt": "Say {labels}."}, {"demonstrations": [("a", ["joy"])]}])
def test_what_has_no_effect_is_refused(tiny_model, given, decoded):
    with pytest.raises(ValueError, match=f'Got {next(iter(given))}=.* with read="document", which has no prompt'):
        alone(tiny_model, labels=LABELS, **given).fit(TEXTS, H)
    with pytest.raises(ValueError, match="which has no prompt"):
        classifier(tiny_model, method="stack", method_params={"read": "document"}, **given).fit(TEXTS, H)
    assert decoded() == 0


def test_answers_need_labels(tiny_model):
    with pytest.raises(ValueError, match="read='documents' but expected"):
        alone(tiny_model).set_params(read="documents").fit()
    extractor = alone(tiny_model).fit()
    for ask in (extractor.diagnose, lambda X: attention_to_labels(extractor, X)):
        with pytest.raises(ValueError, match="expected labels, such as"):
            ask(TEXTS)
    labelled = alone(tiny_model, labels=LABELS).fit()
    found = labelled.diagnose(TEXTS[:2])
    assert found.steps.shape == (2, 3, 4)
    assert_array_equal(found.hidden, extractor.transform(TEXTS[:2]))

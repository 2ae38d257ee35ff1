"""Estimators that are saved, loaded and used again: the same numbers, from the same model file or not at all."""

import contextlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import warnings
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io as sio
from adapters import write_adapter
from campaigns import sampled
from ecosystem_data import LABELS, TEXTS, H, Y, same
from inside import fingerprint, fingerprints_made, note_decoding, note_lookups
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from text_estimators import answer, public_estimators, text_estimators
from tiny_gguf import write_tiny_gguf

import skmlmc
from skmlmc import (
    BradleyTerry,
    CompareToNone,
    ContextualCalibration,
    EmbeddingExtractor,
    GGUFClassifier,
    HardPredictions,
    LinearProbe,
    MaxOverGenerations,
    PriorCorrection,
    PromptTemplate,
    ScalingAligner,
    SelectiveClassifier,
    SoftStackingClassifier,
    StepwiseExtractor,
    ThresholdTuner,
    UnaryBreakdown,
    UnaryExtractor,
    locate_model,
)
from skmlmc.analysis import attention_to_labels
from skmlmc.classifier import ALIGNERS, METHODS
from skmlmc.streaming import predict_chunks

ROOT = Path(__file__).parents[1]
FEW, TWO = TEXTS[:4], TEXTS[:2]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapters") / "adapter.gguf")


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    """Path of a model that fits the same prompts and has other weights."""
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "other.gguf", seed=5)


@pytest.fixture
def path(tiny_model, tmp_path):
    """Path of a model file of one's own."""
    return Path(shutil.copy(tiny_model, tmp_path / "model.gguf"))


@pytest.fixture
def nothing_read(monkeypatch):
    """Fail where anything is decoded, or the result cache looked at, in spite of the error."""
    calls = []
    note_decoding(monkeypatch, calls.append)
    note_lookups(monkeypatch, calls.append)
    yield
    assert not calls


def expected(file):
    """Fingerprint as a regular expression finds it."""
    return f"fingerprint {fingerprint(file)}"


def run_script(code, *args, cwd, **environment):
    code = "import sys, pickle, joblib\nimport numpy as np\n" + textwrap.dedent(code)
    command = [sys.executable, "-W", "error::sklearn.exceptions.InconsistentVersionWarning", "-c", code]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    run = subprocess.run([*command, *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    return run.stdout


def fitted_estimators(model, adapter, encoder):
    """Yield name, fitted estimator and what to feed it: every public estimator, alone and nested."""
    engine_parameters = {"labels": LABELS, "shots": 3, "random_state": 0, "n_threads": 1}
    for cls in text_estimators():
        yield cls.__name__, cls(model, **engine_parameters).fit(TEXTS, H), TWO
    for extractor in (StepwiseExtractor(model, **engine_parameters), UnaryExtractor(model, **engine_parameters)):
        yield f"calibrated {type(extractor).__name__}", ContextualCalibration(extractor).fit(TEXTS, H), TWO
    yield "EmbeddingExtractor", EmbeddingExtractor(encoder, n_threads=1).fit(TEXTS), TWO
    classifier = partial(GGUFClassifier, model, **engine_parameters)
    for method in METHODS:
        for aligner in (None, "platt"):
            yield f"{method}+{aligner}", classifier(method=method, aligner=aligner).fit(TEXTS, H), TWO
        if method not in ("linear_probe", "stack"):
            several = classifier(method=method, n_label_orders=2, content_free=["N/A"])
            yield f"{method}, orders and calibration", several.fit(TEXTS, H), TWO
    yield "adapter", classifier(lora=[(adapter, 0.5)]).fit(TEXTS, H), TWO
    yield "descriptions", classifier(descriptions={"joy": "happy, delighted"}).fit(TEXTS, H), TWO
    yield "template", classifier(prompt=PromptTemplate(wording="emotions")).fit(TEXTS, H), TWO
    single = classifier(method="compare_to_none", multi_label=False, threshold={"joy": 0.2, "anger": 0.3, "sadness": 1})
    yield "single label", single.fit(TEXTS, Y), TWO
    yield "tuned", classifier(threshold="tune").fit(TEXTS, H), TWO
    yield from _fitted_aligners()
    yield from _nested(classifier, StepwiseExtractor(model, **engine_parameters))


def _fitted_aligners():
    steps = RNG.dirichlet(np.ones(4), (20, 3))
    pairs = RNG.random((20, 4, 4))
    pairs = pairs / (pairs + pairs.transpose(0, 2, 1))
    read = (CompareToNone(), HardPredictions(), MaxOverGenerations(), BradleyTerry(), UnaryBreakdown())
    for aligner in (*read, PriorCorrection([0.1, 0.2, 0.3])):
        flat = dict.fromkeys((UnaryBreakdown, PriorCorrection), steps[:, 0, :3])
        X = {BradleyTerry: pairs, **flat}.get(type(aligner), steps)
        yield type(aligner).__name__, aligner.fit(X), X
    frame = pd.DataFrame(H, columns=LABELS)
    for kind in ALIGNERS:
        yield f"ScalingAligner {kind}", ScalingAligner(kind).fit(steps[:, 0, :3], frame), steps[:, 0, :3]
    for params in ({}, {"C": None, "cv": 2}, {"n_components": 3}):
        hidden = RNG.normal(size=(20, 6)).astype(np.float32)
        yield f"LinearProbe {params}", LinearProbe(**params).fit(hidden, frame), hidden
    words = make_pipeline(TfidfVectorizer(), LinearProbe(None, scale=False))
    yield "SoftStackingClassifier", SoftStackingClassifier([("words", words)]).fit(TEXTS, H), TWO
    yield "ThresholdTuner", ThresholdTuner(LinearProbe()).fit(hidden, frame), hidden
    yield "SelectiveClassifier", SelectiveClassifier(LinearProbe()).fit(hidden, frame), hidden


def _nested(classifier, extractor):
    pipeline = make_pipeline(clone(extractor), MaxOverGenerations())
    yield "Pipeline", clone(pipeline).fit(TEXTS, H), TWO
    search = GridSearchCV(classifier(), {"method": ["max_over_generations", "compare_to_none"]}, cv=2)
    yield "GridSearchCV", search.fit(TEXTS, Y), TWO
    union = FeatureUnion([("steps", pipeline), ("words", TfidfVectorizer())])
    yield "FeatureUnion", make_pipeline(union, OneVsRestClassifier(LogisticRegression())).fit(TEXTS, Y), TWO
    columns = ColumnTransformer([("steps", clone(pipeline), "text"), ("rest", "passthrough", ["length"])])
    frame = pd.DataFrame({"text": TEXTS, "length": [len(text) for text in TEXTS]})
    yield "ColumnTransformer", columns.fit(frame, Y), frame[:2]


@pytest.fixture(scope="module")
def saved(tiny_model, adapter, tiny_encoder):
    """Name to fitted estimator, what to feed it, and what it gave before it was saved."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The (label tokens|answer's beginning)")
        return {name: (est, X, answer(est, X)) for name, est, X in fitted_estimators(tiny_model, adapter, tiny_encoder)}


def with_joblib(estimator, compress):
    file = io.BytesIO()
    joblib.dump(estimator, file, compress=compress)
    file.seek(0)
    return joblib.load(file)


def with_skops(estimator):
    raw = sio.dumps(estimator)
    return sio.loads(raw, trusted=sio.get_untrusted_types(data=raw))


ROUND_TRIPS = {
    **{f"pickle {n}": lambda e, n=n: pickle.loads(pickle.dumps(e, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "joblib": partial(with_joblib, compress=0),
    "joblib zlib": partial(with_joblib, compress=3),
    "joblib xz": partial(with_joblib, compress=("xz", 2)),
    "skops": with_skops,
}


def test_every_public_estimator_is_tried(saved):
    tried = {type(estimator) for estimator, *_ in saved.values()}
    assert {type(estimator) for estimator in public_estimators()} <= tried


@pytest.mark.parametrize("trip", sampled(ROUND_TRIPS, 9))
def test_round_trips_are_exact(saved, trip):
    for name, (estimator, X, before) in saved.items():
        again = ROUND_TRIPS[trip](estimator)
        assert type(again) is type(estimator)
        assert same(answer(again, X), before), name


@pytest.mark.parametrize("trip", ["pickle 5", "skops"])
def test_round_trips_keep_thresholds(saved, trip):
    learned = ("tuned", "ThresholdTuner", "SelectiveClassifier")
    for name in ("single label", "max_over_generations+platt", "GridSearchCV", "BradleyTerry", *learned):
        estimator, X, _ = saved[name]
        assert same(ROUND_TRIPS[trip](estimator).predict(X), estimator.predict(X)), name


@pytest.mark.parametrize("trip", ["pickle 0", "pickle 5", "skops"])
def test_round_trips_keep_parameters_and_fitted_attributes(make, trip):
    estimator = make(shots=3, random_state=0, prompt=PromptTemplate() if make().prompt is None else None)
    with contextlib.suppress(ValueError):  # questions have a template of their own
        estimator.fit(TEXTS, Y)
    if not hasattr(estimator, "labels_"):
        estimator.set_params(prompt=None).fit(TEXTS, Y)
    again = ROUND_TRIPS[trip](estimator)
    assert repr(again.get_params()) == repr(estimator.get_params())
    assert vars(again).keys() == vars(estimator).keys()
    assert again.model_fingerprint_ == estimator.model_fingerprint_
    assert list(again.labels_) == LABELS
    assert again.demonstrations_ == estimator.demonstrations_


def test_a_fresh_process_in_another_folder(saved, tmp_path):
    folder = tmp_path / "somewhere else"
    folder.mkdir()
    joblib.dump(saved, tmp_path / "saved.joblib", compress=3)
    (tmp_path / "saved.pkl").write_bytes(pickle.dumps(saved, 2))
    for k, (estimator, *_) in enumerate(saved.values()):
        sio.dump(estimator, tmp_path / f"{k}.skops")
    code = """
    from pathlib import Path
    import skops.io as sio
    from sklearn.exceptions import InconsistentVersionWarning
    folder, count = Path(sys.argv[1]), 0
    rows = list(joblib.load(folder / "saved.joblib").values())
    rows += pickle.loads((folder / "saved.pkl").read_bytes()).values()
    for k in range(len(rows) // 2):
        trusted = sio.get_untrusted_types(file=folder / f"{k}.skops")
        rows.append((sio.load(folder / f"{k}.skops", trusted=trusted), *rows[k][1:]))
    for estimator, X, before in rows:
        got = (estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.transform)(X)
        count += np.array_equal(got, before, equal_nan=True)
    print(count, len(rows))
    """
    assert run_script(code, tmp_path, cwd=folder).split() == [str(3 * len(saved))] * 2


def test_skops_asks_trust_for_public_classes_alone(saved):
    """Beside what it asks for scikit-learn's own, such as the splitter in a search."""
    public = [getattr(skmlmc, name) for name in skmlmc.__all__]
    public = {f"{cls.__module__}.{cls.__qualname__}" for cls in public if isinstance(cls, type)}
    for name, (estimator, *_) in saved.items():
        untrusted = set(sio.get_untrusted_types(data=sio.dumps(estimator)))
        if name == "GridSearchCV":
            untrusted = {cls for cls in untrusted if not cls.startswith("sklearn.")}
        assert untrusted <= public, name
        assert len(untrusted) <= 5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("aligner", [None, "platt"])
def test_states_are_small(tiny_model, method, aligner):
    """Ten demonstrations: their texts once, and 8 kB at most for all else; 16 of the stack, which knows words."""
    texts = [f"{text} {'and on ' * 9}" for text in TEXTS]
    params = {"labels": LABELS, "shots": 10, "random_state": 0, "n_threads": 1}
    clf = GGUFClassifier(tiny_model, method=method, aligner=aligner, **params).fit(texts, H)
    assert len(clf.demonstrations_) == 10
    content = sum(len(text) for text, _ in clf.demonstrations_)
    assert content > 600
    assert len(pickle.dumps(clf)) < (16_000 if method == "stack" else 8_000) + content


def test_states_do_not_grow_with_the_documents(make):
    short, long = make().fit(TEXTS[:2]), make().fit([text * 300 for text in TEXTS] * 20)
    assert len(pickle.dumps(short)) == len(pickle.dumps(long))
    before = len(pickle.dumps(short))
    answer(short, TEXTS)
    assert len(pickle.dumps(short)) <= before + 8 * len(TEXTS) + 500, "at most a number a document of the last call"


def every_byte(estimator):
    """Bytes of a saved estimator in every form, uncompressed."""
    yield from (pickle.dumps(estimator, n) for n in range(pickle.HIGHEST_PROTOCOL + 1))
    with zipfile.ZipFile(io.BytesIO(sio.dumps(estimator))) as archive:
        yield from map(archive.read, archive.namelist())


def machine_paths(*others):
    paths = {str(Path.home()), os.getcwd(), str(ROOT), sys.prefix, *map(str, others)}
    return [path.encode() for path in paths if len(path) > 1]


def test_no_path_of_the_machine_from_the_environment(make, tiny_model, monkeypatch):
    monkeypatch.setenv("SKMLMC_MODEL", tiny_model)
    estimator = make(model=None, shots=10, random_state=0).fit(TEXTS, Y)
    answer(estimator, FEW)
    for raw in every_byte(estimator):
        assert not [path for path in machine_paths(tiny_model, Path(tiny_model).parent) if path in raw]


@pytest.mark.model
def test_no_path_of_the_machine_from_the_embedded_model(embedded_model, monkeypatch):
    monkeypatch.delenv("SKMLMC_MODEL", raising=False)
    estimator = GGUFClassifier(labels=LABELS, shots=10, random_state=0).fit(TEXTS, Y)
    for raw in every_byte(estimator):
        assert not [path for path in machine_paths(embedded_model, Path(embedded_model).parent) if path in raw]


def test_relative_paths_stay_as_given(make, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    estimator = make(model="model.gguf").fit()
    assert not [place for raw in every_byte(estimator) for place in machine_paths(path.parent) if place in raw]


def test_fit_records_the_content(make, tiny_model, path, other_model):
    recorded = make().fit().model_fingerprint_
    assert recorded == fingerprint(tiny_model)
    assert make(model=path).fit().model_fingerprint_ == recorded
    assert make(model=other_model).fit().model_fingerprint_ != recorded
    assert not hasattr(clone(make().fit()), "model_fingerprint_")


def test_fit_reads_the_file_once(make, path):
    before = fingerprints_made()
    for _ in range(3):
        make(model=path).fit()
    assert fingerprints_made() == before + 1


def test_fit_records_adapters_with_scales(make, adapter):
    digits = fingerprint(adapter)
    assert make().fit().lora_fingerprints_ == []
    assert make(lora=[adapter, (adapter, 0.5), (adapter, 0)]).fit().lora_fingerprints_ == [(digits, 1.0), (digits, 0.5)]


def test_the_same_file_elsewhere(make, path, tmp_path):
    estimator = make(model=path, memory=tmp_path / "cache").fit()
    before = answer(estimator, FEW)
    moved = path.rename(tmp_path / "moved.gguf")
    with pytest.raises(FileNotFoundError, match="There is no model file"):
        answer(estimator, FEW)
    assert same(answer(estimator.set_params(model=moved), FEW), before)
    assert same(answer(estimator.set_params(model=str(moved), memory=None), TEXTS)[:4], before)


@pytest.mark.usefixtures("nothing_read")
def test_a_missing_file(make, path, tmp_path):
    estimator = make(model=path, memory=tmp_path / "cache").fit()
    saved, digits = pickle.dumps(estimator), expected(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=digits) as error:
        answer(pickle.loads(saved), FEW)
    for part in (str(path), "est.set_params(model=...)", "set_params(step__model=...)", "locate_model", "fit again"):
        assert part in str(error.value)


@pytest.mark.usefixtures("nothing_read")
def test_another_file(make, path, other_model, tmp_path):
    estimator = make(model=path, memory=tmp_path / "cache").fit()
    saved, digits = pickle.dumps(estimator), expected(path)
    os.replace(shutil.copy(other_model, tmp_path / "copy.gguf"), path)
    for again in (estimator, pickle.loads(saved)):
        with pytest.raises(ValueError, match=f"{digits}, found {fingerprint(path)}") as error:
            answer(again, FEW)
        for part in (str(path), "est.set_params(model=...)", "locate_model", "fit again"):
            assert part in str(error.value)


def test_what_is_cached_is_not_served_for_another_file(make, path, other_model, tmp_path):
    estimator = make(model=path, memory=tmp_path / "cache").fit()
    before = answer(estimator, FEW)
    kept = path.rename(tmp_path / "kept.gguf")
    with pytest.raises(FileNotFoundError):
        answer(estimator, FEW)
    shutil.copy(other_model, path)
    with pytest.raises(ValueError, match="is another one than in fit"):
        answer(estimator, FEW)
    assert not same(answer(estimator.fit(), FEW), before), "fitted again, the other file is the right one"
    kept.replace(path)
    with pytest.raises(ValueError, match="is another one than in fit"):
        answer(estimator, FEW)
    assert same(answer(estimator.fit(), FEW), before)


@pytest.mark.usefixtures("nothing_read")
@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", b"GGUF\x01\x00\x00\x00" + bytes(16)], ids=repr)
def test_a_file_that_became_no_model(make, path, content):
    estimator, digits = make(model=path).fit(), expected(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"GGUF .*{digits}"):
        answer(estimator, FEW)


@pytest.mark.usefixtures("nothing_read")
def test_a_file_that_became_a_folder(make, path):
    estimator, digits = make(model=path).fit(), expected(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=f"a folder, but expected .*{digits}"):
        answer(estimator, FEW)


@pytest.mark.usefixtures("nothing_read")
def test_another_model_without_fitting(make, other_model):
    with pytest.raises(ValueError, match="is another one than in fit"):
        answer(make().fit().set_params(model=other_model), FEW)


@pytest.mark.usefixtures("nothing_read")
def test_one_changed_byte_is_noticed(make, path):
    estimator, raw = make(model=path).fit(), bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="is another one than in fit"):
        answer(estimator, FEW)


def test_relative_paths_in_another_folder(make, path, tmp_path, monkeypatch):
    monkeypatch.chdir(path.parent)
    estimator, digits = make(model="model.gguf").fit(), expected(path)
    before = answer(estimator, FEW)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"relative to the working folder '.*elsewhere',.*{digits}"):
        answer(estimator, FEW)
    assert same(answer(estimator.set_params(model=path), FEW), before)


def test_the_environment(make, path, other_model, tiny_model, monkeypatch):
    monkeypatch.setenv("SKMLMC_MODEL", str(path))
    estimator = make(model=None).fit()
    before = answer(estimator, FEW)
    monkeypatch.setenv("SKMLMC_MODEL", tiny_model)
    assert same(answer(estimator, FEW), before), "the same file at another place"
    monkeypatch.setenv("SKMLMC_MODEL", other_model)
    with pytest.raises(ValueError, match=r"other.gguf' \(model=None\) is another one"):
        answer(estimator, FEW)
    monkeypatch.setenv("SKMLMC_MODEL", "no/such.gguf")
    with pytest.raises(FileNotFoundError, match=rf"no/such\.gguf.*{expected(path)}"):
        answer(estimator, FEW)
    assert same(answer(estimator.set_params(model=path), FEW), before)


@pytest.mark.usefixtures("nothing_read")
def test_no_model_is_installed_any_more(make, tiny_model, monkeypatch):
    monkeypatch.setenv("SKMLMC_MODEL", tiny_model)
    estimator = make(model=None).fit()
    monkeypatch.delenv("SKMLMC_MODEL")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=f"No model: model=None.*{expected(tiny_model)}"):
        answer(estimator, FEW)


def test_the_hub(make, tiny_model, other_model, monkeypatch):
    files = [tiny_model]
    hub = SimpleNamespace(hf_hub_download=lambda repo_id, filename: files[-1])
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    estimator = make(model="hf:owner/repo/file.gguf").fit()
    before = answer(estimator, FEW)
    files.append(other_model)
    with pytest.raises(ValueError, match=r"\(model='hf:owner/repo/file.gguf'\) is another one"):
        answer(estimator, FEW)
    assert same(answer(estimator.set_params(model=tiny_model), FEW), before)


@pytest.mark.usefixtures("nothing_read")
def test_adapters(make, adapter, tmp_path):
    mine = Path(shutil.copy(adapter, tmp_path / "adapter.gguf"))
    estimator, digits = make(lora=[(mine, 0.5)]).fit(), fingerprint(mine)
    for lora in (None, mine, [(mine, 0.4)], [(mine, 0.5), mine], [(mine, 0)]):
        with pytest.raises(ValueError, match=rf"adapters are others than in fit: .*{digits} \(scale 0.5\), found"):
            answer(clone_fitted(estimator).set_params(lora=lora), FEW)
    write_adapter(mine, seed=3)
    with pytest.raises(ValueError, match=rf"{digits} \(scale 0.5\), found {fingerprint(mine)}"):
        answer(estimator, FEW)
    mine.unlink()
    with pytest.raises(FileNotFoundError, match=rf"adapter.gguf.*{digits} \(scale 0.5\).*set_params\(lora=...\)"):
        answer(estimator, FEW)


def clone_fitted(estimator):
    return pickle.loads(pickle.dumps(estimator))


def test_an_adapter_elsewhere(make, adapter, tmp_path):
    mine = Path(shutil.copy(adapter, tmp_path / "adapter.gguf"))
    estimator = make(lora=mine).fit()
    before = answer(estimator, FEW)
    mine.unlink()
    assert same(answer(estimator.set_params(lora=adapter), FEW), before)
    assert same(answer(estimator.set_params(lora=[(adapter, 1)]), FEW), before)


def test_a_scale_of_0_needs_no_refit(make, adapter):
    estimator = make().fit()
    before = answer(estimator, FEW)
    assert same(answer(estimator.set_params(lora=[(adapter, 0)]), FEW), before)


def test_loading_needs_no_file(make, path, tiny_model):
    """So that a driver without the model can look at an estimator, send it on, and say where the model is."""
    estimator = make(model=path).fit()
    before, raws = answer(estimator, FEW), [pickle.dumps(estimator), sio.dumps(estimator)]
    path.unlink()
    trusted = sio.get_untrusted_types(data=raws[1])
    for again in (pickle.loads(raws[0]), sio.loads(raws[1], trusted=trusted)):
        assert list(again.labels_) == LABELS
        assert type(again).__name__ in repr(again)
        assert not hasattr(clone(again), "labels_")
        assert same(answer(again.set_params(model=tiny_model), FEW), before)


def test_classifiers_hand_on_where_the_model_lies(path, tiny_model, tmp_path, adapter):
    for params in ({"n_label_orders": 2}, {"content_free": ["N/A"]}, {"method": "linear_probe"}, {"aligner": "platt"}):
        clf = GGUFClassifier(path, labels=LABELS, n_threads=1, lora=adapter, random_state=0, **params).fit(TEXTS, H)
        before = clf.predict_proba(FEW)
        mine = shutil.copy(adapter, tmp_path / "adapter.gguf")
        clf = clone_fitted(clf).set_params(model=tiny_model, lora=mine, n_jobs=2, memory=tmp_path / "cache", verbose=0)
        parts = [*clf.extractors_]
        parts += [e for part in parts for e in (getattr(part, "extractor", None), getattr(part, "extractor_", None))]
        for part in parts:
            if part is not None and not isinstance(part, ContextualCalibration):
                assert (part.model, part.lora, part.n_jobs) == (tiny_model, mine, 2)
                assert part.memory == tmp_path / "cache"
        assert same(clf.predict_proba(FEW), before)
        assert same(clf.fit(TEXTS, H).predict_proba(FEW), before)
        shutil.rmtree(tmp_path / "cache")


def test_a_classifiers_other_parameters_wait_for_fit(tiny_model):
    clf = GGUFClassifier(tiny_model, labels=LABELS, n_threads=1, method="unary_breakdown").fit()
    before = clf.predict_proba(FEW)
    assert same(clf.set_params(none_label="neutral", method="compare_to_none").predict_proba(FEW), before)
    assert not same(clf.fit().predict_proba(FEW), before)


def test_contextual_calibration(path, tiny_model):
    calibrated = ContextualCalibration(StepwiseExtractor(path, labels=LABELS, n_threads=1)).fit()
    before = calibrated.transform(FEW)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=expected(tiny_model)):
        calibrated.transform(FEW)
    assert same(calibrated.set_params(extractor__model=tiny_model).transform(FEW), before)
    assert calibrated.extractor_.model == calibrated.extractor.model == tiny_model
    calibrated.set_params(content_free=["x"], extractor__none_label="neutral")
    assert same(calibrated.transform(FEW), before), "everything else waits for fit"
    unfitted = ContextualCalibration(StepwiseExtractor(labels=LABELS)).set_params(extractor__model=tiny_model)
    assert unfitted.extractor.model == tiny_model


@pytest.mark.parametrize("wrap", ["pipeline", "union"])
def test_set_params_reaches_steps(path, tiny_model, wrap):
    step = make_pipeline(StepwiseExtractor(path, labels=LABELS, n_threads=1), MaxOverGenerations())
    if wrap == "union":
        outer = FeatureUnion([("llm", step), ("words", TfidfVectorizer())]).fit(TEXTS)
        name = "llm__stepwiseextractor__model"
    else:
        outer, name = step.fit(TEXTS), "stepwiseextractor__model"
    before = answer(outer, FEW)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=expected(tiny_model)):
        answer(outer, FEW)
    again = clone_fitted(outer).set_params(**{name: tiny_model})
    if wrap == "union":
        assert same(answer(again, FEW).toarray(), before.toarray())
    else:
        assert same(answer(again, FEW), before)


def nested(model):
    """Fitted estimators that hold clones of what they were given."""
    clf = GGUFClassifier(model, labels=LABELS, n_threads=1, content_free=["N/A"])
    yield GridSearchCV(Pipeline([("clf", clf)]), {"clf__none_label": ["none", "neutral"]}, cv=2).fit(TEXTS, Y), FEW
    steps = make_pipeline(StepwiseExtractor(model, labels=LABELS, n_threads=1), MaxOverGenerations())
    frame = pd.DataFrame({"text": TEXTS})
    yield ColumnTransformer([("llm", steps, "text")]).fit(frame), frame[:4]
    yield ContextualCalibration(UnaryExtractor(model, labels=LABELS, n_threads=1)).fit(), FEW


@pytest.mark.parametrize("k", range(3))
def test_locate_model_inside_other_estimators(path, tiny_model, other_model, k):
    estimator, X = list(nested(path))[k]
    before = answer(estimator, X)
    assert locate_model(estimator) is estimator
    path.unlink()
    loaded = clone_fitted(estimator)
    with pytest.raises(FileNotFoundError, match=expected(tiny_model)):
        locate_model(loaded)
    with pytest.raises(FileNotFoundError, match="There is no model file"):
        locate_model(loaded, "no/such.gguf")
    with pytest.raises(ValueError, match=f"Nothing was fitted with the file .*{expected(tiny_model)}, found"):
        locate_model(loaded, other_model)
    with pytest.raises(FileNotFoundError):
        answer(loaded, X)
    assert same(answer(locate_model(loaded, tiny_model), X), before)
    assert str(path).encode() not in pickle.dumps(loaded), "nothing of the old place is left"
    assert same(answer(clone_fitted(loaded), X), before)
    if not isinstance(loaded, ColumnTransformer):
        assert same(answer(loaded.fit(TEXTS, Y), X), before), "fitting again finds the file too"


def test_locate_model_with_two_models(path, other_model, tiny_model, tmp_path):
    mine = shutil.copy(other_model, tmp_path / "mine.gguf")
    parts = [(str(k), GGUFClassifier(m, labels=LABELS, n_threads=1).fit()) for k, m in enumerate([path, mine])]
    union = VotingClassifier(parts)
    union.estimators_ = [clf for _, clf in parts]
    path.unlink()
    os.unlink(mine)
    locate_model(union, tiny_model)
    with pytest.raises(FileNotFoundError, match=expected(other_model)):
        locate_model(union)
    locate_model(locate_model(union, other_model))
    assert [clf.model for clf in union.estimators_] == [tiny_model, other_model]


def test_locate_model_checks_adapters(tiny_model, adapter, tmp_path):
    mine = Path(shutil.copy(adapter, tmp_path / "adapter.gguf"))
    clf = GGUFClassifier(tiny_model, labels=LABELS, n_threads=1, lora=mine).fit()
    locate_model(clf)
    write_adapter(mine, seed=3)
    for model in (None, tiny_model):
        with pytest.raises(ValueError, match="adapters are others"):
            locate_model(clf, model)


@pytest.mark.parametrize("estimator", [GGUFClassifier(labels=LABELS), TfidfVectorizer(), MaxOverGenerations()])
def test_locate_model_without_a_model(estimator):
    with pytest.raises(NotFittedError, match=f"Nothing in this {type(estimator).__name__} .*call fit first"):
        locate_model(estimator)


def test_processes(path, tiny_model, other_model, tmp_path):
    estimator = StepwiseExtractor(path, labels=LABELS, n_jobs=2).fit()
    before = estimator.transform(FEW)
    moved = path.rename(tmp_path / "moved.gguf")
    assert same(estimator.set_params(model=moved).transform(FEW), before)
    shutil.copy(other_model, moved)
    with pytest.raises(ValueError, match="is another one than in fit"):
        estimator.transform(FEW)


def test_attention(path, other_model):
    extractor = StepwiseExtractor(path, labels=LABELS, n_threads=1).fit()
    shutil.copy(other_model, path)
    with pytest.raises(ValueError, match="is another one than in fit"):
        attention_to_labels(extractor, FEW)


def test_streams(path, tiny_model, other_model, tmp_path):
    clf = GGUFClassifier(path, labels=LABELS, n_threads=1, content_free=["N/A"]).fit()
    before = list(predict_chunks(clf, [FEW[:2], FEW[2:]], tmp_path / "out"))
    assert same(np.concatenate(before), clf.predict_proba(FEW))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=expected(tiny_model)):
        list(predict_chunks(clf, [FEW[:2], FEW[2:]], tmp_path / "out"))
    shutil.copy(other_model, path)
    with pytest.raises(ValueError, match="is another one than in fit"):
        list(predict_chunks(clf, [FEW[:2], FEW[2:]], tmp_path / "out"))
    moved = clone_fitted(clf).set_params(model=tiny_model)
    again = list(predict_chunks(moved, [FEW[:2], FEW[2:], TEXTS[:1]], tmp_path / "out"))
    assert same(np.concatenate(again[:2]), np.concatenate(before))
    assert len(again) == 3


def saved_by(version, estimator):
    """Pickle as another version of the package would have written it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skmlmc._version, "__version__", version)
        return pickle.dumps(estimator)


@pytest.mark.parametrize("estimator", public_estimators(), ids=lambda estimator: type(estimator).__name__)
def test_another_version_warns(estimator):
    name = type(estimator).__name__
    message = f"estimator skmlmc.{name} from version 99.1 when using version {skmlmc.__version__}"
    raw = saved_by("99.1", estimator)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        again = pickle.loads(raw)
    assert {w.category for w in seen} == {InconsistentVersionWarning}
    assert sum(message in str(w.message) for w in seen) == 1
    assert vars(again).keys() == vars(estimator).keys(), "no trace in the attributes"
    assert type(pickle.loads(pickle.dumps(again))) is type(estimator), "saved again it is of this version"


def test_another_version_of_scikit_learn_warns(saved, monkeypatch):
    """Where its own estimators are in the state, they say so themselves."""
    estimator, *_ = saved["Pipeline"]
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", "0.99")
        raw = pickle.dumps(estimator)
    with pytest.warns(InconsistentVersionWarning, match="estimator Pipeline from version 0.99"):
        pickle.loads(raw)


def test_states_without_fingerprints_still_answer(make, path, other_model):
    """As before there were any: whatever lies at the path is believed."""
    estimator = make(model=path).fit()
    before = answer(estimator, FEW)
    for part in [estimator, *getattr(estimator, "extractors_", [])]:
        del part.model_fingerprint_, part.lora_fingerprints_
    again = clone_fitted(estimator)
    assert same(answer(again, FEW), before)
    with pytest.raises(NotFittedError):
        locate_model(again)
    shutil.copy(other_model, path)
    assert not same(answer(again, FEW), before)
    answer(again.fit(), FEW)
    assert hasattr(again, "model_fingerprint_")


def test_states_without_a_version_still_load(make):
    estimator = make().fit()
    again = type(estimator).__new__(type(estimator))
    with pytest.warns(InconsistentVersionWarning, match="from version unknown"):
        again.__setstate__(dict(vars(estimator)))
    assert same(answer(again, FEW), answer(estimator, FEW))

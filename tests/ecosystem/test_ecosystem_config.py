"""scikit-learn's settings, and what its tools ask of an estimator beside fitting: HTML, tags, hashes, signatures."""

import inspect
import os
import pickle
import re
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
from campaigns import sampled
from ecosystem_data import LABELS, TEXTS, H, Y, classifier, extractor, label_pipeline, same
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, clone, is_classifier, is_clusterer, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.utils import estimator_html_repr, get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from text_estimators import answer, public_estimators, text_estimators
from versions import ARRAY_API

import skmlmc
from skmlmc import (
    ContextualCalibration,
    GGUFClassifier,
    LinearProbe,
    MarginalExtractor,
    PromptTemplate,
    ScalingAligner,
    SelectiveClassifier,
    SoftStackingClassifier,
    StepwiseExtractor,
    ThresholdTuner,
    UnaryExtractor,
)
from skmlmc.metrics import scorers

ROOT = Path(__file__).parents[2]
PUBLIC = public_estimators()
NAMES = [type(estimator).__name__ for estimator in PUBLIC]
FITTED = (LinearProbe, ScalingAligner, SelectiveClassifier, SoftStackingClassifier, ThresholdTuner)


SETTINGS = {
    "transform_output": "pandas",
    "assume_finite": True,
    "skip_parameter_validation": True,
    "enable_metadata_routing": True,
    "display": "text",
    "print_changed_only": False,
    "working_memory": 1,
}


def everything(model):
    """Numbers from each way of reading probabilities, with and without fitting."""
    for method in skmlmc.classifier.METHODS:
        clf = classifier(model, method=method, random_state=0).fit(TEXTS, Y)
        yield clf.predict_proba(TEXTS)
        yield clf.predict(TEXTS)
    for kind in ("platt", "temperature", "beta", "isotonic", "matrix"):
        yield label_pipeline(model, ScalingAligner(kind, C=1.0)).fit(TEXTS, H).predict_proba(TEXTS)
    result = cross_validate(classifier(model), TEXTS, H, cv=2, scoring=scorers(), error_score="raise")
    yield np.array([result[f"test_{name}"] for name in scorers()])


@pytest.fixture(scope="module")
def plain(tiny_model):
    """What the settings may not change."""
    return list(everything(tiny_model))


@pytest.mark.parametrize("name", sampled(SETTINGS, 7))
def test_settings_change_no_number_and_are_left_alone(tiny_model, plain, name):
    with config_context(**{name: SETTINGS[name]}):
        before = get_config()
        for got, expected in zip(everything(tiny_model), plain, strict=True):
            assert same(got, expected)
            assert isinstance(got, np.ndarray)
        assert get_config() == before


if ARRAY_API:

    def test_array_api_dispatch(tiny_model, plain, tmp_path):
        """scipy has to be told before it is imported, so this takes a process of its own."""
        (tmp_path / "plain.pkl").write_bytes(pickle.dumps(plain))
        code = """
        import pickle, sys, warnings
        import numpy as np
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="The (label tokens|answer's beginning)|This build of llama-cpp")
        import sklearn
        sklearn.set_config(array_api_dispatch=True)
        before = sklearn.get_config()
        from test_ecosystem_config import everything
        expected = pickle.loads(open(sys.argv[2], "rb").read())
        print(all(np.array_equal(a, b) for a, b in zip(everything(sys.argv[1]), expected, strict=True)))
        print(sklearn.get_config() == before)
        """
        paths = os.pathsep.join(
            [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "ecosystem"), os.environ.get("PYTHONPATH", "")]
        )
        environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": paths}
        command = [sys.executable, "-c", textwrap.dedent(code), tiny_model, str(tmp_path / "plain.pkl")]
        run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        assert run.stdout.split() == ["True", "True"]


def test_array_api_dispatch_without_scipy_is_refused_by_scikit_learn(tiny_model):
    if os.environ.get("SCIPY_ARRAY_API"):
        return
    clf = classifier(tiny_model)
    with pytest.raises((RuntimeError, ImportError), match="SCIPY_ARRAY_API|array_api|array API"):
        with config_context(array_api_dispatch=True):
            clf.fit(TEXTS, Y)
    assert get_config()["array_api_dispatch"] is False
    assert clf.fit(TEXTS, Y).predict_proba(TEXTS).shape == (len(TEXTS), 3)


def test_parameters_are_checked_whatever_scikit_learn_skips(tiny_model):
    with config_context(skip_parameter_validation=True, assume_finite=True):
        with pytest.raises(ValueError, match="Got method='guess'"):
            classifier(tiny_model, method="guess").fit()
        with pytest.raises(ValueError, match="NaN"):
            ScalingAligner().fit([[0.1, np.nan], [0.2, 0.3]], [[1, 0], [0, 1]])


class Text(HTMLParser):
    """What a reader of a page sees, and how its elements nest."""

    def __init__(self):
        super().__init__()
        self.seen, self.open, self.hidden = [], [], 0

    def handle_starttag(self, tag, attrs):
        if tag not in ("input", "br", "img", "meta", "link", "path", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Nothing stands inside."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "elements are closed in order"

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.seen.append(data)


def read(html):
    page = Text()
    page.feed(html)
    page.close()
    assert page.open == []
    return re.sub(r"\s+", " ", " ".join(page.seen))


def html_of(estimator):
    html = estimator_html_repr(estimator)
    with config_context(display="diagram"):
        assert set(estimator._repr_mimebundle_()) == {"text/plain", "text/html"}
    with config_context(display="text"):
        assert set(estimator._repr_mimebundle_()) == {"text/plain"}
    return read(html)


@pytest.mark.parametrize("estimator", PUBLIC, ids=NAMES)
def test_html_shows_every_parameter(estimator):
    """Warnings are errors here."""
    seen = html_of(estimator)
    assert type(estimator).__name__ in seen
    assert "Not fitted" in seen
    for name in estimator.get_params(deep=False):
        assert name in seen
    inner = [value for value in estimator.get_params(deep=False).values() if isinstance(value, BaseEstimator)]
    assert all(type(part).__name__ in seen for part in inner)


@pytest.mark.parametrize("cls", text_estimators(), ids=lambda cls: cls.__name__)
def test_html_of_fitted_estimators(tiny_model, cls):
    estimator = extractor(tiny_model, cls, shots=3, random_state=0).fit(TEXTS, Y)
    answer(estimator, TEXTS[:2])
    seen = html_of(estimator)
    assert "Not fitted" not in seen
    assert "shots 3" in seen
    assert str(LABELS[0]) in seen


def test_html_of_what_holds_them(tiny_model):
    column = ColumnTransformer([("llm", label_pipeline(tiny_model, ScalingAligner("beta")), "text")])
    union = FeatureUnion([("words", extractor(tiny_model, UnaryExtractor)), ("steps", label_pipeline(tiny_model))])
    calibrated = make_pipeline(ContextualCalibration(extractor(tiny_model)), ScalingAligner())
    inside = classifier(tiny_model, aligner=ScalingAligner("isotonic"), prompt=PromptTemplate(wording="emotions"))
    for estimator, names in (
        (make_pipeline(column, ScalingAligner("matrix")), ["ColumnTransformer", "StepwiseExtractor", "ScalingAligner"]),
        (union, ["FeatureUnion", "UnaryExtractor", "StepwiseExtractor", "MaxOverGenerations"]),
        (calibrated, ["ContextualCalibration", "StepwiseExtractor", "ScalingAligner"]),
        (calibrated.fit(TEXTS, Y), ["ContextualCalibration", "StepwiseExtractor", "ScalingAligner"]),
        (GridSearchCV(inside, {"threshold": [0.5]}, cv=2), ["GridSearchCV", "GGUFClassifier", "isotonic", "emotions"]),
        (inside.fit(TEXTS, Y), ["GGUFClassifier", "isotonic", "emotions"]),
    ):
        seen = html_of(estimator)
        assert all(name in seen for name in names)


def test_html_escapes_and_stays_short(tiny_model):
    rude = classifier(tiny_model, labels=["<b>joy", "anger</td>"], none_label="<script>alert(1)</script>")
    for estimator in (rude, rude.fit()):
        html = estimator._repr_html_()
        assert "<script>alert" not in html
        assert "<b>joy" not in html
        read(html)
    long = classifier(tiny_model, demonstrations=[("word " * 2000, ["joy"])] * 20)
    assert len(long._repr_html_()) < 100_000


@pytest.mark.parametrize("estimator", PUBLIC, ids=NAMES)
def test_text_shows_what_was_changed(estimator):
    shown = repr(estimator)
    with config_context(print_changed_only=False):
        whole = repr(estimator)
    params = estimator.get_params(deep=False)
    assert all(f"{name}=" in whole for name in params)
    changed = [name for name, p in inspect.signature(type(estimator)).parameters.items() if p.default is p.empty]
    assert re.findall(r"(\w+)=", shown) == changed


@pytest.mark.parametrize("estimator", PUBLIC, ids=NAMES)
def test_tags(estimator):
    tags = get_tags(estimator)
    takes_texts = not isinstance(estimator, BaseEstimator) or "model" in estimator.get_params()
    takes_texts |= isinstance(estimator, ContextualCalibration)
    assert tags.input_tags.string == takes_texts
    assert not tags.input_tags.sparse
    assert tags.input_tags.two_d_array + tags.input_tags.three_d_array + tags.input_tags.string >= 1
    assert is_classifier(estimator) == hasattr(estimator, "predict_proba")
    assert not is_regressor(estimator)
    assert not is_clusterer(estimator)
    assert (tags.transformer_tags is not None) == hasattr(estimator, "transform")
    assert tags.target_tags.required == isinstance(estimator, FITTED)
    if is_classifier(estimator):
        assert tags.classifier_tags.multi_label
        assert tags.target_tags.multi_output
        assert not tags.target_tags.single_output


def test_required_targets_are_those_that_fit_misses(tiny_model):
    """A tag that says so and a fit that does not mind would keep tools from calling it."""
    assert not get_tags(MarginalExtractor()).target_tags.required
    extractor(tiny_model, MarginalExtractor).fit().predict(TEXTS[:1])
    with pytest.raises(ValueError, match="requires y to be passed"):
        ScalingAligner().fit([[0.1, 0.2]], None)


@pytest.mark.parametrize("estimator", PUBLIC, ids=NAMES)
def test_signatures_and_names(estimator):
    cls = type(estimator)
    assert cls.__module__.startswith("skmlmc.")
    assert getattr(skmlmc, cls.__name__) is cls
    assert list(inspect.signature(cls).parameters) == list(inspect.signature(cls.__init__).parameters)[1:]
    takes_targets = get_tags(estimator).input_tags.string and cls.__name__ != "EmbeddingExtractor"
    assert has_fit_parameter(estimator, "distribution") or not takes_targets
    for name in ("fit", "transform", "predict", "predict_proba", "score", "get_feature_names_out", "set_output"):
        method = getattr(cls, name, None)
        assert method is None or inspect.getdoc(method)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        check_is_fitted(estimator)


def test_every_public_estimator_is_found():
    """As scikit-learn's own discovery goes about it."""
    found = set()
    for path in sorted((ROOT / "skmlmc").glob("[a-z]*")):
        if path.stem == "py":  # py.typed
            continue
        module = __import__(f"skmlmc.{path.stem}", fromlist=["_"])
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, BaseEstimator) and cls.__module__ == module.__name__ and not name.startswith("_"):
                found.add(name)
    # Neither the base class of one's own, which cannot align, nor what stands in a module of its own is exported.
    assert found == {*NAMES, "ZeroShotAligner", "FinetunedClassifier"}


@pytest.mark.parametrize("estimator", PUBLIC, ids=NAMES)
def test_hashes_and_clones(estimator):
    copies = [clone(estimator), clone(estimator, safe=False), pickle.loads(pickle.dumps(estimator))]
    assert {joblib.hash(copy) for copy in copies} == {joblib.hash(estimator)}
    name = next(iter(estimator.get_params(deep=False)))
    assert joblib.hash(clone(estimator).set_params(**{name: "other"})) != joblib.hash(estimator)
    assert clone([estimator, estimator])[1].get_params().keys() == estimator.get_params().keys()


@pytest.mark.parametrize("cls", text_estimators(), ids=lambda cls: cls.__name__)
def test_equal_fits_hash_equal(tiny_model, cls):
    """Caches of joblib take fitted estimators as arguments."""
    first, second = (extractor(tiny_model, cls, shots=3, random_state=0).fit(TEXTS, Y) for _ in range(2))
    assert joblib.hash(first) == joblib.hash(second) == joblib.hash(pickle.loads(pickle.dumps(first)))
    assert joblib.hash(first) != joblib.hash(extractor(tiny_model, cls, shots=2, random_state=0).fit(TEXTS, Y))


def test_functions_cached_by_joblib(tiny_model, tmp_path):
    calls = []

    def ask(clf, texts):
        calls.append(len(texts))
        return clf.predict_proba(texts)

    memory = joblib.Memory(tmp_path, verbose=0)
    cached = memory.cache(ask)
    clf = classifier(tiny_model, shots=3, random_state=0)
    for _ in range(2):
        got = cached(clone(clf).fit(TEXTS, Y), TEXTS)
    assert calls == [len(TEXTS)]
    assert same(got, clone(clf).fit(TEXTS, Y).predict_proba(TEXTS))


def test_cached_pipelines_of_columns(tiny_model, tmp_path):
    """The steps' own cache and that of the pipeline around them."""
    memory = joblib.Memory(tmp_path, verbose=0)
    inner = make_pipeline(StepwiseExtractor(tiny_model, labels=LABELS, n_threads=1), ScalingAligner(), memory=memory)
    outer = make_pipeline(FeatureUnion([("llm", inner)]), ScalingAligner("matrix", C=1.0), memory=memory)
    first = outer.fit(TEXTS, H).predict_proba(TEXTS)
    assert same(clone(outer).fit(TEXTS, H).predict_proba(TEXTS), first)
    assert same(clone(outer).set_params(memory=None).fit(TEXTS, H).predict_proba(TEXTS), first)


def test_subclasses_keep_working(tiny_model):
    class Careful(GGUFClassifier):
        """One more parameter."""

        def __init__(self, model=None, *, labels=None, n_threads=None, margin=0.1):
            super().__init__(model, labels=labels, n_threads=n_threads)
            self.margin = margin

    clf = clone(Careful(tiny_model, labels=LABELS, n_threads=1, margin=0.2))
    assert clf.get_params()["margin"] == 0.2
    assert same(clf.fit().predict_proba(TEXTS), classifier(tiny_model).fit().predict_proba(TEXTS))

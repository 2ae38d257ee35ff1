"""Estimators that take documents, inside scikit-learn: clones, cross-validation, pipelines, result cache."""

import io
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from campaigns import in_campaigns, sampled
from ecosystem_data import LABELS, TEXTS, H, Y, same
from inside import loaded, set_clock
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as checks
from sklearn.utils import get_tags
from sklearn_checks import parametrize_with_applicable_checks
from text_estimators import answer, public_estimators, text_estimators

from skmlmc import (
    BradleyTerry,
    CompareToNone,
    ContextualCalibration,
    GGUFClassifier,
    MarginalExtractor,
    MaxOverGenerations,
    PairwiseExtractor,
    PromptTemplate,
    ScalingAligner,
    StepwiseExtractor,
    UnaryBreakdown,
    UnaryExtractor,
    clear_models,
)
from skmlmc.classifier import METHODS
from skmlmc.metrics import example_f1, l1_distance, scorers

ROOT = Path(__file__).parents[1]
FEW = TEXTS[:5]
ZERO_SHOT = [method for method in METHODS if method not in ("linear_probe", "stack")]


@pytest.fixture
def classifier(tiny_model):
    """Make a classifier on the tiny model."""

    def make(**params):
        return GGUFClassifier(**{"model": tiny_model, "labels": LABELS, "n_threads": 1, **params})

    return make


# Most checks feed numbers, so scikit-learn skips them for estimators of texts and of three-dimensional arrays; the
# contract tests below stand for them.
@parametrize_with_applicable_checks(
    [estimator for estimator in public_estimators() if not get_tags(estimator).input_tags.two_d_array]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


API_CHECKS = [
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_no_attributes_set_in_init,
    checks.check_parameters_default_constructible,
    checks.check_get_params_invariance,
    checks.check_set_params,
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_mixin_order,
    checks.check_valid_tag_types,
    checks.check_estimator_tags_renamed,
]


@pytest.mark.parametrize("check", API_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("cls", text_estimators(), ids=lambda cls: cls.__name__)
def test_checks_that_need_no_data(cls, check):
    """Those of scikit-learn's checks that it skips for estimators of texts, though they work on them."""
    check(cls.__name__, cls())


def test_init_only_assigns(make):
    odd = {name: object() for name in type(make())._get_param_names()}
    estimator = make(**odd)
    assert vars(estimator) == odd
    assert all(estimator.get_params(deep=False)[name] is value for name, value in odd.items())


def test_parameters_round_trip(make):
    estimator = make(shots=3, memory="somewhere")
    other = make().set_params(**estimator.get_params())
    assert other.get_params() == estimator.get_params()
    with pytest.raises(ValueError, match="Invalid parameter 'shot'"):
        estimator.set_params(shot=3)


def test_fit_changes_no_parameter(make):
    estimator = make(shots=4, labels=dict(zip(LABELS, ["glad", "cross", "sad"], strict=True)), random_state=0)
    before = {name: (value, repr(value)) for name, value in estimator.get_params(deep=False).items()}
    assert estimator.fit(TEXTS, Y) is estimator
    answer(estimator, FEW)
    for name, value in estimator.get_params(deep=False).items():
        assert value is before[name][0]
        assert repr(value) == before[name][1]


def test_clone_is_unfitted_and_fits_to_the_same(make):
    estimator = make(shots=4, random_state=0).fit(TEXTS, Y)
    copy = clone(estimator)
    assert copy.get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        answer(copy, FEW)
    assert same(answer(copy.fit(TEXTS, Y), FEW), answer(estimator, FEW))


def test_fitting_again_forgets_what_was(make):
    estimator = make(shots=4, random_state=0).fit(TEXTS, Y)
    expected = answer(make(labels=["hot", "cold"]).fit(), FEW)
    assert same(answer(estimator.set_params(labels=["hot", "cold"], shots=0).fit(), FEW), expected)
    assert list(estimator.labels_) == ["hot", "cold"]


def test_fit_is_idempotent(make):
    estimator = make(shots=4, random_state=0).fit(TEXTS, Y)
    first = answer(estimator, FEW)
    assert same(answer(estimator.fit(TEXTS, Y), FEW), first)


def test_subsets_order_and_repetition(make):
    estimator = make().fit()
    whole = answer(estimator, FEW)
    # Bit for bit: each document is decoded on its own, and zero-shot aligners never multiply documents by matrices.
    assert same(answer(estimator, FEW[::-1]), whole[::-1])
    assert same(answer(estimator, FEW[3:4]), whole[3:4])
    assert same(answer(estimator, [FEW[2]] * 3), whole[[2, 2, 2]])


@pytest.mark.parametrize("container", [list, tuple, np.array, pd.Series, lambda texts: pd.Series(texts, index=texts)])
def test_every_container_of_texts(make, container):
    estimator = make(shots=3, random_state=0).fit(container(TEXTS), Y)
    expected = answer(make(shots=3, random_state=0).fit(TEXTS, Y), FEW)
    assert same(answer(estimator, container(FEW)), expected)


def test_documents_stay_as_they_were(make):
    X, y = np.array(TEXTS, dtype=object), pd.DataFrame(H, columns=LABELS)
    before_X, before_y = X.copy(), y.copy()
    answer(make(shots=3).fit(X, y), X)
    assert (before_X == X).all()
    pd.testing.assert_frame_equal(y, before_y)


def run_script(code, *args):
    code = "import sys\nimport numpy as np\n" + textwrap.dedent(code)
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, args)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_docstrings_are_complete(make):
    assert "n_ctx : int" in type(make()).__doc__
    assert "{engine" not in type(make()).__doc__


@pytest.mark.campaign
def test_python_without_docstrings():
    subprocess.run([sys.executable, "-OO", "-c", "import skmlmc"], cwd=ROOT, check=True, timeout=100)


def test_eight_threads_on_one_estimator(make):
    estimator = make(shots=3, random_state=0).fit(TEXTS, Y)
    expected = answer(estimator, FEW)
    fresh, start, got = pickle.loads(pickle.dumps(estimator)), threading.Barrier(8), [None] * 8

    def work(k):
        start.wait()
        got[k] = answer(fresh, FEW[k % 4 :])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(got[k], expected[k % 4 :]) for k in range(8))


def test_joblib_threads(make):
    estimator = make().fit()
    parts = joblib.Parallel(n_jobs=4, prefer="threads")(joblib.delayed(answer)(estimator, [text]) for text in FEW)
    assert same(np.concatenate(parts), answer(estimator, FEW))


@pytest.mark.parametrize("method", METHODS)
def test_outputs(classifier, method):
    clf = classifier(method=method).fit(TEXTS, Y)
    proba = clf.predict_proba(TEXTS)
    assert proba.shape == (len(TEXTS), 3)
    assert proba.dtype == np.float64
    assert ((proba >= 0) & (proba <= 1)).all()
    pred = clf.predict(TEXTS)
    assert pred.dtype.kind == "i"
    assert same(pred, (proba >= 0.5).astype(int))
    assert list(clf.labels_) == LABELS
    assert is_classifier(clf)


def test_classes(classifier):
    clf = classifier()
    assert not hasattr(clf, "classes_")
    clf.fit()
    assert [c.tolist() for c in clf.classes_] == [[0, 1]] * 3
    assert [c.tolist() for c in classifier(labels=["hot", "cold"]).fit().classes_] == [[0, 1]] * 2


@pytest.mark.parametrize("method", sampled(["linear_probe", *ZERO_SHOT], 3))
@pytest.mark.parametrize("output", ["polars", in_campaigns("pandas")])
def test_arrays_whatever_scikit_learn_is_configured_to(classifier, method, output):
    params = {"method": method, "aligner": "platt", "random_state": 0}
    expected = classifier(**params).fit(TEXTS, Y).predict_proba(TEXTS)
    with sklearn.config_context(transform_output=output):
        clf = classifier(**params).fit(TEXTS, Y)
        got, pred = clf.predict_proba(TEXTS), clf.predict(TEXTS)
    assert isinstance(got, np.ndarray)
    assert isinstance(pred, np.ndarray)
    assert same(got, expected)


@pytest.mark.parametrize("method", METHODS)
def test_two_labels(classifier, method):
    clf = classifier(labels=["hot", "cold"], method=method, shots=2, random_state=0).fit(TEXTS, Y[:, :2])
    assert clf.predict_proba(TEXTS).shape == (len(TEXTS), 2)
    result = cross_validate(clf, TEXTS, Y[:, :2], cv=3, scoring=scorers(), error_score="raise")
    assert all(np.isfinite(result[f"test_{name}"]).all() for name in scorers())
    assert cross_val_predict(clf, TEXTS, Y[:, :2], cv=3, method="predict_proba").shape == (len(TEXTS), 2)


def test_labels_as_a_mapping(classifier):
    """Names for people, wordings for the model."""
    wordings = {"joy": "glad", "anger": "cross", "sadness": "sad"}
    clf = classifier(labels=wordings).fit()
    assert list(clf.labels_) == LABELS
    assert same(clf.predict_proba(TEXTS), classifier(labels=list(wordings.values())).fit().predict_proba(TEXTS))
    assert not same(clf.predict_proba(TEXTS), classifier().fit().predict_proba(TEXTS))
    frame = pd.DataFrame(Y, columns=LABELS)
    assert {name for _, given in clf.set_params(shots=5).fit(TEXTS, frame).demonstrations_ for name in given} <= set(
        LABELS
    )


def test_labels_from_a_frame(classifier):
    frame = pd.DataFrame(Y, columns=LABELS)
    clf = classifier(labels=None, shots=4, random_state=0).fit(TEXTS, frame)
    assert list(clf.labels_) == LABELS
    assert same(clf.predict_proba(TEXTS), classifier(shots=4, random_state=0).fit(TEXTS, Y).predict_proba(TEXTS))
    clf.fit(TEXTS, frame[["sadness", "joy"]])
    assert list(clf.labels_) == ["sadness", "joy"]


@pytest.mark.parametrize(
    ("params", "data", "error", "message"),
    [
        ({"method": "max_over_generations", "multi_label": False}, (), ValueError, "has no single-label form"),
        ({"method": "linear_probe", "content_free": ["N/A"]}, (TEXTS, Y), ValueError, "no probabilities to divide"),
        ({"aligner": "plat"}, (TEXTS, Y), ValueError, "Got aligner='plat' but expected one of 'platt'"),
        ({"aligner": 3}, (TEXTS, Y), TypeError, "Got aligner=3 but expected None, one of .*, or an estimator"),
        ({"aligner": "platt"}, (), ValueError, r"texts and targets: aligner='platt' is fitted .* Call fit\(texts, y\)"),
        ({"aligner": "platt"}, (TEXTS,), ValueError, "Expected texts and targets: aligner='platt' is fitted on them"),
        ({"method": "linear_probe"}, (), ValueError, "Expected texts and targets: method='linear_probe' is fitted"),
        ({"aligner": "platt"}, (TEXTS[:3], Y[:3]), ValueError, "Got 3 documents, of which 3 have .* give more"),
        ({"aligner": "platt", "shots": 16}, (TEXTS, Y), ValueError, "of which 4 have a weight and are not shown"),
        ({"aligner": "platt", "content_free": ["N/A"]}, (), ValueError, "Expected texts and targets"),
        ({"aligner": "platt", "content_free": ["N/A"]}, (TEXTS[:3], Y[:3]), ValueError, "Got 3 documents"),
    ],
)
def test_what_is_fitted_says_what_it_needs(classifier, decoded, params, data, error, message):
    clf = classifier(**params)
    with pytest.raises(error, match=message):
        clf.fit(*data)
    assert decoded() == 0 and not hasattr(clf, "labels_")


@pytest.mark.filterwarnings("ignore:The columns of y are")
def test_columns_are_matched_by_name(classifier):
    frame = pd.DataFrame(Y, columns=LABELS)
    shuffled = frame[["sadness", "joy", "anger"]]
    clf = classifier(shots=6, random_state=0).fit(TEXTS, frame)
    other = classifier(shots=6, random_state=0).fit(TEXTS, shuffled)
    assert clf.demonstrations_ == other.demonstrations_
    assert clf.score(TEXTS, shuffled) == clf.score(TEXTS, frame) == clf.score(TEXTS, Y)


PARTS = [
    lambda extract: (extract(StepwiseExtractor), MaxOverGenerations()),
    lambda extract: (extract(StepwiseExtractor), ScalingAligner("platt")),
    lambda extract: (extract(StepwiseExtractor), CompareToNone(), ScalingAligner("beta")),
    lambda extract: (ContextualCalibration(extract(StepwiseExtractor)), MaxOverGenerations()),
    lambda extract: (extract(UnaryExtractor), UnaryBreakdown()),
    lambda extract: (extract(UnaryExtractor), ScalingAligner("isotonic")),
    lambda extract: (extract(PairwiseExtractor), BradleyTerry(), ScalingAligner("matrix")),
    lambda extract: (extract(MarginalExtractor), ScalingAligner("temperature")),
]


@pytest.mark.filterwarnings("ignore:The columns of y are")
@pytest.mark.parametrize("parts", sampled(PARTS, 3))
def test_columns_are_matched_by_name_in_pipelines(tiny_model, parts):
    """An aligner sees the extractor's columns, and a table of targets in whatever order."""
    frame = pd.DataFrame(H, columns=LABELS)
    turned = frame[["sadness", "joy", "anger"]]
    made = [make_pipeline(*parts(lambda cls: cls(tiny_model, labels=LABELS))).fit(TEXTS, y) for y in (frame, turned)]
    probas = []
    for pipe, scored in zip(made, (turned, frame), strict=True):
        order = [list(pipe[-1].labels_).index(name) for name in LABELS]
        probas.append(pipe.predict_proba(TEXTS)[:, order])
        assert list(pipe.get_feature_names_out()) == list(pipe[-1].labels_)
        for scorer in scorers().values():
            assert scorer(pipe, TEXTS, scored) == pytest.approx(scorer(pipe, TEXTS, frame))
    np.testing.assert_allclose(*probas, rtol=1e-6)
    assert repr(made[0][0].transform(TEXTS[:2])).startswith("array(")


def test_demonstrations_are_rows_of_the_data_and_reproducible(classifier):
    clf = classifier(shots=8, random_state=3).fit(TEXTS, H)
    assert clf.demonstrations_ == classifier(shots=8, random_state=3).fit(TEXTS, H).demonstrations_
    assert clf.demonstrations_ != classifier(shots=8, random_state=4).fit(TEXTS, H).demonstrations_
    for i, (text, given) in zip(clf.demonstration_indices_, clf.demonstrations_, strict=True):
        assert text == TEXTS[i]
        assert list(given) == [LABELS[k] for k in np.flatnonzero(H[i] > 0.5)]
    assert sum(len(given) > 1 for _, given in clf.demonstrations_) == 4


@pytest.mark.parametrize("choice", ["multilabel", "balanced", "random"])
def test_demonstrations_show_documents_with_a_majority(classifier, choice):
    """Three annotators who say three things agree on nothing, and two of three who say nothing on none."""
    undecided, none, joy = [1 / 3, 1 / 3, 1 / 3], [0, 1 / 3, 0], [1, 0, 1 / 3]
    H = np.array([undecided, none, joy] * 4)
    texts = [f"text {i}" for i in range(12)]
    for seed in range(5):
        clf = classifier(labels=LABELS, shots=8, demonstrations=choice, random_state=seed).fit(texts, H)
        assert sorted(clf.demonstration_indices_ % 3) == [1] * 4 + [2] * 4
        assert all(
            labels == (("joy",) if int(text.split()[1]) % 3 == 2 else ()) for text, labels in clf.demonstrations_
        )
    with pytest.warns(UserWarning, match="Most annotators agree on 8 of 12 documents only, fewer than shots=9"):
        clf = classifier(labels=LABELS, shots=9, demonstrations=choice, random_state=0).fit(texts, H)
    assert len(clf.demonstrations_) == 9


@pytest.mark.parametrize("random_state", [None, 0, "instance"])
def test_every_label_order_shows_the_same_demonstrations(classifier, random_state):
    random_state = np.random.RandomState(0) if random_state == "instance" else random_state
    clf = classifier(shots=6, n_label_orders=3, aligner="platt", random_state=random_state).fit(TEXTS, H)
    assert len(clf.extractors_) == 3
    shown = [(text, sorted(given)) for text, given in clf.demonstrations_]
    for extractor in clf.extractors_:
        assert [(text, sorted(given)) for text, given in extractor.demonstrations_] == shown
        order = extractor.label_order or LABELS
        assert all(list(given) == sorted(given, key=order.index) for _, given in extractor.demonstrations_)


@pytest.mark.parametrize("cls", text_estimators())
def test_prompt_text(cls, tiny_model, decoded):
    shown = [("We won!", ["joy"]), ("It rained.", [])]
    estimator = cls(tiny_model, labels=LABELS, demonstrations=shown)
    with pytest.raises(NotFittedError):
        estimator.prompt_text("Hello")
    text = estimator.fit().prompt_text("Hello <|im_end|>")
    places = [text.index(part) for part in ("labels", "We won!", "Hello <|im_end|>")]
    assert places == sorted(places) and "It rained." in text
    with pytest.raises(TypeError, match="expected X to be|Expected X to be"):
        estimator.prompt_text(None)
    assert decoded() == 0


def test_prompt_text_is_what_the_template_gives(classifier):
    template = PromptTemplate(mode="plain", wording="emotions")
    clf = classifier(prompt=template, demonstrations=[("We won!", ["joy"])]).fit()
    expected = template.instruction.format(labels=", ".join(LABELS), wording="emotions", none="none") + "\n\n"
    expected += template.demonstration.format(text="We won!", answer='{"label": ["joy"]}')
    before, _, _ = template.demonstration.format(text="I miss her", answer="@").partition("@")
    assert clf.prompt_text("I miss her") == expected + before + '{"label": ["'


def test_thresholds(classifier):
    clf = classifier().fit()
    proba = clf.predict_proba(TEXTS)
    low, middle, high = np.quantile(proba, [0.1, 0.5, 0.9])
    for threshold, values in [
        (middle, middle),
        (0, 0),
        ([low, middle, high], [low, middle, high]),
        (np.array([high, high, low]), [high, high, low]),
        ({"sadness": high, "joy": low, "anger": middle}, [low, middle, high]),
    ]:
        clf.set_params(threshold=threshold)
        assert same(clf.predict(TEXTS), (proba >= np.array(values)).astype(int))
        assert same(clone(clf).fit().predict(TEXTS), clf.predict(TEXTS))


def test_score(classifier):
    clf = classifier(threshold=0.3).fit()
    pred, weights = clf.predict(TEXTS), np.arange(len(TEXTS))
    assert clf.score(TEXTS, Y) == example_f1(Y, pred)
    assert clf.score(TEXTS, H) == clf.score(TEXTS, Y), "soft targets count through their majority"
    assert clf.score(TEXTS, H, sample_weight=weights) == pytest.approx(example_f1(Y, pred, sample_weight=weights))
    assert clf.score(TEXTS, H, sample_weight=weights) != clf.score(TEXTS, H)
    assert cross_val_score(clf, TEXTS, H, cv=4, error_score="raise").shape == (4,)


@pytest.mark.parametrize("method", ["max_over_generations", "compare_to_none", "hard_predictions"])
def test_the_classifier_is_extractor_and_aligner(classifier, tiny_model, method):
    extractor, aligner = METHODS[method]
    pipeline = make_pipeline(extractor(tiny_model, labels=LABELS, n_threads=1), aligner())
    clf = classifier(method=method).fit()
    assert same(pipeline.fit(TEXTS).predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert same(pipeline.predict(TEXTS), clf.predict(TEXTS))


@pytest.mark.parametrize("targets", [Y, H, pd.DataFrame(Y, columns=LABELS), pd.DataFrame(H, columns=LABELS)])
@pytest.mark.parametrize("shots", [0, 4])
def test_cross_validate(classifier, targets, shots):
    clf = classifier(shots=shots, random_state=0)
    result = cross_validate(
        clf, TEXTS, targets, cv=KFold(4), scoring=scorers(), return_estimator=True, error_score="raise"
    )
    values = np.asarray(targets)
    for k, (train, test) in enumerate(KFold(4).split(TEXTS)):
        fitted = result["estimator"][k]
        assert {TEXTS.index(text) for text, _ in fitted.demonstrations_} <= set(train)
        proba = fitted.predict_proba([TEXTS[i] for i in test])
        assert result["test_l1"][k] == -l1_distance(values[test], proba)
    assert (result["test_nll"] < 0).all()


def test_cross_validate_in_two_processes(classifier):
    clf = classifier(shots=3, random_state=0)
    one, two = (
        cross_validate(clf, TEXTS, Y, cv=4, scoring=scorers(), n_jobs=n, error_score="raise") for n in (None, 2)
    )
    for name in scorers():
        assert same(two[f"test_{name}"], one[f"test_{name}"])


@pytest.mark.parametrize("method", ["max_over_generations", "linear_probe"])
def test_cross_val_predict_of_indicators(classifier, method):
    y = Y.copy()
    y[:, 2] = 0
    y[1, 2] = 1  # one fold trains without this label
    clf = classifier(method=method, random_state=0)
    proba = cross_val_predict(clf, TEXTS, y, cv=KFold(4), method="predict_proba")
    assert proba.shape == (len(TEXTS), 3)
    for train, test in KFold(4).split(TEXTS):
        fitted = clone(clf).fit([TEXTS[i] for i in train], y[train])
        assert same(proba[test], fitted.predict_proba([TEXTS[i] for i in test]))


@pytest.mark.parametrize("wrap", ["bare", "pipeline"])
@pytest.mark.parametrize("y", [None, H], ids=["no y", "soft y"])
def test_cross_val_predict_of_soft_targets_through_metadata(classifier, wrap, y):
    """scikit-learn turns a soft `y` into ranks on its way, so the targets travel as metadata."""
    with sklearn.config_context(enable_metadata_routing=True):
        clf = classifier(shots=4, random_state=0).set_fit_request(distribution=True)
        estimator = clf if wrap == "bare" else make_pipeline(FunctionTransformer(list), clf)
        proba = cross_val_predict(estimator, TEXTS, y, cv=KFold(4), method="predict_proba", params={"distribution": H})
    for train, test in KFold(4).split(TEXTS):
        fitted = classifier(shots=4, random_state=0).fit([TEXTS[i] for i in train], H[train])
        assert same(proba[test], fitted.predict_proba([TEXTS[i] for i in test]))


def test_distribution_names_the_labels_and_is_used_instead_of_y(classifier):
    frame = pd.DataFrame(H, columns=LABELS)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = classifier(labels=None, shots=4, random_state=0).set_fit_request(distribution=True)
        result = cross_validate(clf, TEXTS, Y[::-1], cv=4, params={"distribution": frame}, return_estimator=True)
    assert [list(fitted.labels_) for fitted in result["estimator"]] == [LABELS] * 4
    direct = classifier(shots=4, random_state=0).fit(TEXTS, Y[::-1], distribution=frame)
    assert direct.demonstrations_ == classifier(shots=4, random_state=0).fit(TEXTS, H).demonstrations_


@pytest.mark.parametrize("refit", [True, False])
def test_grid_search_over_method_and_threshold(classifier, refit, decoded):
    grid = {"method": ["max_over_generations", "compare_to_none", "hard_predictions"], "threshold": [0.1, 0.5, 0.9]}
    search = GridSearchCV(classifier(), grid, cv=3, refit=refit, error_score="raise").fit(TEXTS, Y)
    assert len(search.cv_results_["params"]) == 9
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    for params, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        expected = cross_val_score(classifier(**params), TEXTS, Y, cv=3)
        assert score == pytest.approx(expected.mean())
    if refit:
        assert same(search.predict(TEXTS), classifier(**search.best_params_).fit().predict(TEXTS))
        assert search.predict_proba(TEXTS).shape == (len(TEXTS), 3)


def test_grid_search_with_the_cache_decodes_once(classifier, tmp_path, decoded):
    grid = {"method": ["max_over_generations", "compare_to_none", "hard_predictions"], "threshold": [0.1, 0.5, 0.9]}
    classifier().fit().predict(TEXTS)  # the prefix and all documents, once
    decoded()
    classifier().fit().predict(TEXTS)
    documents = decoded()
    GridSearchCV(classifier(memory=tmp_path), grid, cv=5, error_score="raise").fit(TEXTS, Y)
    assert decoded() == documents


def test_scorers_see_all_columns(classifier):
    """With flat classes of two names scikit-learn would pass one column."""
    seen = []
    scorer = make_scorer(lambda y, p: seen.append(np.shape(p)) or 0.0, response_method="predict_proba")
    cross_validate(classifier(labels=["hot", "cold"]), TEXTS, Y[:, :2], cv=4, scoring=scorer, error_score="raise")
    assert seen == [(5, 2)] * 4


def steps_pipeline(tiny_model, **params):
    return make_pipeline(StepwiseExtractor(tiny_model, labels=LABELS, n_threads=1), MaxOverGenerations(), **params)


def test_pipeline_memory(tiny_model, tmp_path, decoded):
    """The pipeline's own cache keeps what the extractor gave."""
    pipeline = steps_pipeline(tiny_model, memory=str(tmp_path))
    decoded()
    expected = pipeline.fit(TEXTS).predict_proba(TEXTS)
    assert decoded() > 0
    again = steps_pipeline(tiny_model, memory=str(tmp_path)).fit(TEXTS)
    assert decoded() == 0
    assert same(again.predict_proba(TEXTS), expected)


def test_pipeline_around_the_classifier(classifier):
    pipeline = Pipeline([("strip", FunctionTransformer(lambda X: [x.strip() for x in X])), ("clf", classifier())])
    proba = pipeline.fit([f" {text} " for text in TEXTS], Y).predict_proba([f"  {text}" for text in TEXTS])
    assert same(proba, classifier().fit().predict_proba(TEXTS))
    assert pipeline.score(TEXTS, Y) == classifier().fit().score(TEXTS, Y)


def test_grid_search_over_aligners(tiny_model, tmp_path):
    pipeline = Pipeline(
        [
            ("ask", StepwiseExtractor(tiny_model, labels=LABELS, n_threads=1, memory=tmp_path)),
            ("align", MaxOverGenerations()),
        ]
    )
    grid = {"align": [MaxOverGenerations(), CompareToNone()], "align__threshold": [0.2, 0.5]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise", scoring=scorers()["nll"]).fit(TEXTS, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("how", ["folder", "path", "joblib"])
def test_cross_validation_decodes_each_document_once(classifier, tmp_path, decoded, how):
    memory = {"folder": str(tmp_path), "path": tmp_path, "joblib": joblib.Memory(tmp_path, verbose=0)}[how]
    plain = cross_validate(classifier(), TEXTS, Y, cv=5, scoring=scorers())
    decoded()
    classifier().fit().predict_proba(TEXTS)
    once = decoded()
    result = cross_validate(classifier(memory=memory), TEXTS, Y, cv=5, scoring=scorers(), error_score="raise")
    assert decoded() == once
    cross_validate(classifier(memory=memory), TEXTS, Y, cv=4, scoring=scorers(), error_score="raise")
    classifier(memory=memory, method="compare_to_none").fit().predict(TEXTS[::-1])
    assert decoded() == 0
    for name in scorers():
        assert same(result[f"test_{name}"], plain[f"test_{name}"])


@pytest.mark.parametrize("make", sampled(text_estimators(), 6), indirect=True)
def test_what_is_cached_needs_no_model_in_memory(make, tiny_model, tmp_path):
    estimator = make(memory=tmp_path / "cache").fit()
    expected = answer(estimator, FEW)
    (tmp_path / "estimator.pkl").write_bytes(pickle.dumps((estimator, expected, FEW)))
    code = """
    import pickle
    estimator, expected, texts = pickle.loads(open(sys.argv[1], "rb").read())
    got = (estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.transform)(texts)
    loaded = ["skmlmc._engine.model" in sys.modules, "llama_cpp" in sys.modules]
    print(np.array_equal(got, expected, equal_nan=True), *loaded)
    """
    assert run_script(code, tmp_path / "estimator.pkl").split() == ["True", "False", "False"]


@pytest.mark.parametrize("k", [1, 7, 15])
def test_an_interrupted_run_keeps_what_it_has(classifier, tmp_path, tiny_model, decoded, k):
    clf = classifier(memory=tmp_path).fit()
    expected = classifier().fit().predict_proba(TEXTS)
    ticks = iter([0.0] * (k + 1))

    def tick():
        for value in ticks:
            return value
        raise KeyboardInterrupt

    put_back = set_clock(tick)
    with pytest.raises(KeyboardInterrupt):
        clf.predict_proba(TEXTS)
    put_back()
    decoded()
    clf.predict_proba(TEXTS[:k])
    assert decoded() == 0, "the documents that were answered are kept"
    assert same(clf.predict_proba(TEXTS), expected)
    assert decoded() > 0
    clf.predict_proba(TEXTS)
    assert decoded() == 0


def test_a_killed_run_resumes(tiny_model, tmp_path, decoded):
    """SIGKILL, at a document after the first batch was written."""
    code = """
    import os, signal
    from skmlmc import GGUFClassifier
    from inside import set_clock
    ticks = iter(range(1000))
    def tick():
        now = next(ticks)
        if now == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return 3.0 * now
    set_clock(tick)
    texts = sys.argv[3].split("|")
    clf = GGUFClassifier(sys.argv[1], labels=["joy", "anger", "sadness"], n_threads=1, memory=sys.argv[2])
    clf.fit().predict(texts)
    """
    command = [sys.executable, "-W", "ignore", "-c", "import sys\n" + textwrap.dedent(code)]
    run = subprocess.run([*command, tiny_model, str(tmp_path), "|".join(TEXTS)], cwd=ROOT / "tests", timeout=100)
    assert run.returncode == -9
    clf = GGUFClassifier(tiny_model, labels=LABELS, n_threads=1, memory=tmp_path).fit()
    decoded()
    clf.predict(TEXTS[:2])
    assert decoded() == 0
    assert same(clf.predict_proba(TEXTS), clf.set_params(memory=None).fit().predict_proba(TEXTS))


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["joy", "anger", "sad"]},
        {"labels": ["anger", "joy", "sadness"]},
        {"labels": {"joy": "happiness", "anger": "anger", "sadness": "sadness"}},
        {"none_label": "neutral"},
        {"descriptions": {"joy": "happy"}},
        {"prompt": "Choose from {labels}."},
        {"prompt": PromptTemplate(answer_format="list")},
        {"prompt": PromptTemplate(wording="emotions")},
        {"demonstrations": [("ha ha", ["joy"])]},
        {"max_labels": 1},
        {"label_order": ["sadness", "joy", "anger"]},
        {"kv_dtype": "float32"},
        {"batch_size": 4},
        {"shots": 3, "random_state": 0},
    ],
    ids=str,
)
def test_what_changes_the_result_changes_the_entry(classifier, tmp_path, decoded, change):
    classifier(memory=tmp_path).fit().predict_proba(TEXTS)
    decoded()
    expected = classifier(**change).fit(TEXTS, Y).predict_proba(TEXTS)
    cost = decoded()
    got = classifier(memory=tmp_path, **change).fit(TEXTS, Y).predict_proba(TEXTS)
    assert same(got, expected)
    assert 0 < decoded() <= cost, "answered anew"
    classifier(memory=tmp_path).fit().predict_proba(TEXTS)
    assert decoded() == 0, "and the other entries are still there"


def test_what_does_not_change_the_result_does_not_change_the_entry(classifier, tmp_path, decoded):
    expected = classifier(memory=tmp_path).fit().predict_proba(TEXTS)
    decoded()
    for change in ({"n_threads": 2}, {"n_ctx": 1000}, {"threshold": 0.1}, {"random_state": 5}, {"verbose": 0}):
        assert same(classifier(memory=tmp_path, **change).fit().predict_proba(TEXTS), expected)
    assert decoded() == 0


def test_batches_never_serve_single_documents(classifier, tmp_path, decoded):
    """They differ in the last bits; a default run gives default numbers whatever ran before."""
    classifier(memory=tmp_path, batch_size=8).fit().predict_proba(TEXTS)
    decoded()
    exact = classifier(memory=tmp_path).fit().predict_proba(TEXTS)
    assert decoded() > 0
    assert same(exact, classifier().fit().predict_proba(TEXTS))


def test_another_model_file_is_another_entry(tiny_model, tmp_path):
    import os
    import shutil

    from tiny_gguf import write_tiny_gguf

    path = tmp_path / "model.gguf"
    shutil.copy(tiny_model, path)
    clf = GGUFClassifier(path, labels=LABELS, n_threads=1, memory=tmp_path / "cache").fit()
    before = clf.predict_proba(TEXTS)
    write_tiny_gguf(tmp_path / "other.gguf", seed=5)
    os.replace(tmp_path / "other.gguf", path)
    after = clf.fit().predict_proba(TEXTS)
    assert not same(after, before)
    assert same(after, GGUFClassifier(path, labels=LABELS, n_threads=1).fit().predict_proba(TEXTS))
    shutil.copy(tiny_model, tmp_path / "moved.gguf")
    moved = GGUFClassifier(tmp_path / "moved.gguf", labels=LABELS, n_threads=1, memory=tmp_path / "cache").fit()
    model = loaded(tmp_path / "moved.gguf")
    assert same(moved.predict_proba(TEXTS), before)
    assert model.decoded == 0, "the same content at another place is the same model"


def test_truncated_documents_have_entries_of_their_own(classifier, tmp_path, decoded):
    texts = [*TEXTS[:3], "ab " * 400]
    cut = classifier(memory=tmp_path, truncation="end", n_ctx=600).fit()
    with pytest.warns(UserWarning, match="were cut"):
        cut.predict_proba(texts)
    whole = classifier(memory=tmp_path).fit().predict_proba(texts)
    assert same(whole, classifier().fit().predict_proba(texts))
    decoded()
    assert same(classifier(memory=tmp_path, truncation="end", n_ctx=2048).fit().predict_proba(texts), whole)


def test_processes_share_a_cache(classifier, tmp_path, decoded):
    expected = cross_validate(classifier(), TEXTS, Y, cv=4, scoring=scorers())
    clf = classifier(memory=tmp_path)
    result = cross_validate(clf, TEXTS, Y, cv=4, scoring=scorers(), n_jobs=2, error_score="raise")
    for name in scorers():
        assert same(result[f"test_{name}"], expected[f"test_{name}"])
    decoded()
    clf.fit().predict(TEXTS)
    assert decoded() == 0


def test_silent_unless_asked(classifier, capfd, tmp_path):
    clear_models()
    classifier(memory=tmp_path).fit().predict(TEXTS)
    assert capfd.readouterr() == ("", "")


def test_progress(classifier, capsys, tmp_path):
    clear_models()
    classifier(verbose=1, memory=tmp_path).fit().predict(TEXTS)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{len(TEXTS)}/{len(TEXTS)}" in err
    assert "Steps, first a prompt of" in err and "Steps:" in err and "doc" in err
    classifier(verbose=1, memory=tmp_path).fit().predict(TEXTS)
    assert capsys.readouterr() == ("", ""), "nothing to do, nothing to show"


def test_warnings_point_at_the_call(tiny_model):
    """Low label mass: the prompt does not fit the model."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        StepwiseExtractor(tiny_model, labels=LABELS, n_threads=1).fit().transform(TEXTS)
    low = [w for w in seen if "The label tokens hold only" in str(w.message)]
    assert len(low) == 1
    assert low[0].category is UserWarning


def test_real_texts_on_the_embedded_model(embedded_model):
    """Few-shot, end to end; numbers come from a demonstration model, so only what must hold is checked."""
    demonstrations = [("What a lovely day, I love it!", ["joy"]), ("I hate this so much.", ["anger"]), ("ok", [])]
    clf = GGUFClassifier(
        embedded_model, labels=LABELS, demonstrations=demonstrations, prompt=PromptTemplate(wording="emotions")
    )
    texts = ["We won, this is wonderful!", "I am furious about this."]
    proba = clf.fit().predict_proba(texts)
    assert proba[0, 0] > proba[1, 0]
    assert proba[1, 1] > proba[0, 1]
    assert same(pickle.load(io.BytesIO(pickle.dumps(clf))).predict_proba(texts[::-1]), proba[::-1])

"""Single-label tasks in scikit-learn's own words: classes in, classes out, with its tools around the classifier."""

import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import DataConversionWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelEncoder
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data
from sklearn_checks import parametrize_with_applicable_checks

from skmlmc import (
    CompareToNone,
    GGUFClassifier,
    HardPredictions,
    LinearProbe,
    ScalingAligner,
    StepwiseExtractor,
    UnaryBreakdown,
    compare_methods,
)
from skmlmc.classifier import METHODS
from skmlmc.metrics import nll, nll_scorer, scorers
from skmlmc.plots import DistributionDisplay, ReliabilityDisplay
from skmlmc.streaming import predict_chunks

SAID = {"pos": "What a lovely day", "neg": "I hate all of it", "neu": "The train leaves at nine"}
TEXTS = [f"{SAID[name]} {k}" for k in range(6) for name in SAID]
Y = np.array(list(SAID) * 6)
SORTED = ["neg", "neu", "pos"]
SINGLE = [method for method in METHODS if method != "max_over_generations"]
# The last one is said of every table y in another order than labels, in which these tests have them on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:The (label tokens|answer's beginning|columns of y are)")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@pytest.fixture
def classifier(tiny_model, cache):
    """Make a single-label classifier on the tiny model."""

    def make(**params):
        return GGUFClassifier(**{"model": tiny_model, "multi_label": False, "n_threads": 1, "memory": cache, **params})

    return make


@pytest.mark.parametrize("method", ["auto", *SINGLE])
def test_a_multiclass_classifier(classifier, method):
    fitted = classifier(method=method).fit(TEXTS, Y)
    proba = fitted.predict_proba(TEXTS)
    assert fitted.classes_.tolist() == fitted.labels_.tolist() == SORTED
    assert proba.shape == (18, 3)
    assert_allclose(proba.sum(axis=1), 1)
    assert_array_equal(fitted.predict(TEXTS), fitted.classes_[proba.argmax(axis=1)])
    assert fitted.score(TEXTS, Y) == accuracy_score(Y, fitted.predict(TEXTS))


def test_the_first_step_is_enough(classifier, decoded):
    """Later steps of the answer would say nothing about the one label."""
    one, whole = (classifier(memory=None, max_labels=n).fit(TEXTS, Y) for n in (None, 3))
    one.predict_proba(TEXTS[:1])  # decodes the prompt
    decoded()
    few, n = one.predict_proba(TEXTS), decoded()
    assert_array_equal(whole.predict_proba(TEXTS), few)
    assert decoded() > n


def test_columns_are_sorted_and_the_prompt_is_not(classifier):
    """scikit-learn's metrics take columns to be sorted by class, whatever order a user writes the labels in."""
    given = classifier(labels=["pos", "neu", "neg"]).fit(TEXTS, Y)
    assert given.classes_.tolist() == SORTED and "pos, neu, neg" in given.prompt_text("")
    sorted_ = classifier(labels=SORTED, label_order=["pos", "neu", "neg"]).fit(TEXTS, Y)
    assert_array_equal(sorted_.predict_proba(TEXTS), given.predict_proba(TEXTS))
    proba = given.predict_proba(TEXTS)
    score = cross_val_score(given, TEXTS, Y, cv=[(range(18), range(18))], scoring="neg_log_loss")
    assert -score[0] == pytest.approx(log_loss(Y, proba, labels=SORTED))
    by_hand = np.mean([roc_auc_score(Y == name, proba[:, k]) for k, name in enumerate(SORTED)])
    score = cross_val_score(given, TEXTS, Y, cv=[(range(18), range(18))], scoring="roc_auc_ovr")
    assert score[0] == pytest.approx(by_hand)


def test_without_data(classifier):
    fitted = classifier(labels={"pos": "good news", "neg": "bad news"}).fit()
    assert fitted.classes_.tolist() == ["neg", "pos"] and set(fitted.predict(TEXTS)) <= {"neg", "pos"}
    assert "good news, bad news" in fitted.prompt_text("")
    for X in (None, TEXTS):
        with pytest.raises(ValueError, match="labels=None, which requires y to be passed, but the target y is None"):
            classifier().fit(X)


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        np.array,
        lambda y: np.array(y, object),
        pd.Series,
        lambda y: pd.Series(y, dtype="category"),
        lambda y: pd.Series(y, dtype="category").cat.set_categories(["pos", "neg", "neu"], ordered=True),
        lambda y: pd.Series(y, index=range(90, 72, -1)),
        lambda y: pl.Series(y),
        lambda y: pl.Series(y, dtype=pl.Categorical),
        pa.array,
    ],
)
def test_containers_of_classes(classifier, make):
    expected = classifier(method="linear_probe", random_state=0).fit(TEXTS, Y)
    fitted = classifier(method="linear_probe", random_state=0).fit(TEXTS, make(Y.tolist()))
    assert fitted.classes_.tolist() == SORTED
    assert_array_equal(fitted.predict_proba(TEXTS), expected.predict_proba(TEXTS))
    assert fitted.score(TEXTS, make(Y.tolist())) == expected.score(TEXTS, Y)


@pytest.mark.parametrize("make", [lambda y: y[:, None], lambda y: pd.DataFrame({"class": y})])
def test_a_column_of_classes(classifier, make):
    with pytest.warns(DataConversionWarning, match="column-vector y was passed when a 1d array was expected"):
        fitted = classifier().fit(TEXTS, make(Y))
    assert fitted.predict(TEXTS).shape == (18,)


CODES = {"neg": 0, "neu": 1, "pos": 2}
NUMBERS = np.array([CODES[name] for name in Y])


@pytest.mark.parametrize("y", [NUMBERS, NUMBERS.astype("i1"), NUMBERS.astype(float), NUMBERS * 10 - 5])
def test_numbers_as_classes(classifier, y):
    with pytest.warns(UserWarning, match=r"classes in y are numbers.*labels=\{number: wording\}"):
        fitted = classifier(method="linear_probe", random_state=0).fit(TEXTS, y)
    assert_array_equal(fitted.classes_, np.unique(y))
    assert fitted.classes_.dtype == y.dtype == fitted.predict(TEXTS).dtype
    expected = classifier(
        method="linear_probe", random_state=0, labels={n: str(k) for n, k in zip(SORTED, np.unique(y), strict=True)}
    )
    assert_array_equal(fitted.predict_proba(TEXTS), expected.fit(TEXTS, Y).predict_proba(TEXTS))


def test_numbers_with_a_wording(classifier):
    words = {2: "positive", 0: "negative", 1: "neutral"}
    fitted = classifier(labels=words).fit(TEXTS, NUMBERS)
    assert fitted.classes_.tolist() == [0, 1, 2] and "positive, negative, neutral" in fitted.prompt_text("")
    named = classifier(labels={"pos": "positive", "neg": "negative", "neu": "neutral"}).fit(TEXTS, Y)
    assert_array_equal(fitted.predict_proba(TEXTS), named.predict_proba(TEXTS))


@pytest.mark.parametrize("labels", [["1", "2", "3"], {1: "one", 2: "two", 3: "three"}, [1, 2, 3]])
def test_numbers_that_do_not_start_at_zero(classifier, labels):
    y = NUMBERS + 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The numbers in y are read as the labels with the same digits")
        fitted = classifier(labels=labels, method="linear_probe", random_state=0).fit(TEXTS, y)
    assert fitted.classes_.tolist() == [1, 2, 3] and fitted.score(TEXTS, y) > 0.9
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The numbers in y are read as the labels with the same digits")
        voting = VotingClassifier([("one", clone(fitted))], voting="soft").fit(TEXTS, y)
    assert voting.score(TEXTS, y) > 0.9


def test_names_that_are_digits(classifier):
    """As texts "10" comes before "2"; as numbers it does not."""
    y = NUMBERS * 4 + 2
    with pytest.warns(UserWarning, match="read as the labels with the same digits"):
        fitted = classifier(labels=["2", "6", "10"], method="linear_probe", random_state=0).fit(TEXTS, y)
    assert fitted.classes_.tolist() == [2, 6, 10] and fitted.score(TEXTS, y) > 0.9
    assert fitted.labels_.tolist() == ["2", "6", "10"]
    vote = VotingClassifier([("one", clone(fitted))], voting="soft")
    with pytest.warns(UserWarning, match="read as the labels with the same digits"):
        assert vote.fit(TEXTS, y).score(TEXTS, y) > 0.9
    with pytest.warns(UserWarning, match="in sorted order: 0: '10', 1: '2', 2: '6'"), out_of_sight():
        cross_val_predict(fitted, TEXTS, y, cv=2, method="predict_proba", n_jobs=2)


def test_classes_that_a_type_cannot_hold(classifier):
    labels = {-1: "bad", 0: "so", 1: "good"}
    assert classifier(labels=labels).fit(TEXTS, np.uint8(NUMBERS % 2)).classes_.tolist() == [-1, 0, 1]


def test_one_task_for_classifier_and_aligner(classifier):
    with pytest.raises(ValueError, match="expected the same task for both: give the aligner multi_label=False"):
        classifier(aligner=ScalingAligner()).fit(TEXTS, Y)


def test_aligners_of_scikit_learn_that_do_not_fit_the_task(classifier, decoded):
    H = pd.DataFrame(0.8 * np.eye(3)[NUMBERS] + 0.2 / 3, columns=["pos", "neg", "neu"])
    single = classifier(labels=SORTED, aligner=LogisticRegression())
    several = classifier(labels=SORTED, aligner=LogisticRegression(), multi_label=True)
    with pytest.raises(ValueError, match=r"LogisticRegression.* expected one that takes the shares of annotators"):
        single.fit(TEXTS, H)
    with pytest.raises(ValueError, match=r"such as MultiOutputClassifier\(LogisticRegression\(\)\)"):
        several.fit(TEXTS, (H > 0.5).astype(int))
    assert decoded() == 0
    metric = scorers(multi_label=False)["nll"]
    search = GridSearchCV(ScalingAligner(multi_label=False), {"C": [1.0]}, cv=2, scoring=metric)
    assert_allclose(single.set_params(aligner=search).fit(TEXTS, H).predict_proba(TEXTS).sum(axis=1), 1)
    several.set_params(aligner=MultiOutputClassifier(LogisticRegression())).fit(TEXTS, (H > 0.5).astype(int))


def test_what_was_written_counts(classifier):
    plain, divided = (
        classifier(method="hard_predictions", content_free=given).fit(TEXTS, Y) for given in (None, ["N/A", "x"])
    )
    first = plain.diagnose(TEXTS).written[:, 0]
    wrote = first < 3  # else none of the classes
    assert_array_equal(divided.predict(TEXTS)[wrote], plain.predict(TEXTS)[wrote])
    assert_array_equal(divided.predict(TEXTS)[wrote], plain.classes_[first[wrote]])
    assert 0 < wrote.sum() < 18


def test_truth_values(classifier):
    y = np.arange(18) % 2 == 0
    fitted = classifier(labels={True: "spam", False: "no spam"}).fit(TEXTS, y)
    assert fitted.classes_.tolist() == [False, True] and fitted.predict(TEXTS).dtype == bool


def test_codes_of_a_label_encoder(classifier):
    """As scikit-learn's ensembles make them of the classes: numbers of the sorted names."""
    encoded = LabelEncoder().fit_transform(Y)
    fitted = classifier(labels=SORTED).fit(TEXTS, encoded)
    assert fitted.classes_.tolist() == [0, 1, 2] and fitted.labels_.tolist() == SORTED
    named = classifier(labels=SORTED).fit(TEXTS, Y)
    assert_array_equal(named.predict(TEXTS), np.array(SORTED)[fitted.predict(TEXTS)])
    with pytest.warns(UserWarning, match="in sorted order: 0: 'neg', 1: 'neu', 2: 'pos'. Say what they mean"):
        classifier(labels=["pos", "neg", "neu"]).fit(TEXTS, encoded)
    for y in (np.minimum(encoded, 1), encoded + 1, encoded - 1):
        with pytest.raises(ValueError, match=r"those of labels, .* but got .*understood where all 3 classes"):
            classifier(labels=SORTED).fit(TEXTS, y)


@pytest.mark.parametrize(
    ("y", "error", "match"),
    [
        ([*Y[:-1], None], ValueError, "Input y contains NaN.*element 17 is None"),
        ([*NUMBERS[:-1].astype(float), np.nan], ValueError, "Input y contains NaN"),
        (pd.Series([*Y[:-1], pd.NA], dtype="string"), ValueError, "Input y contains NaN"),
        ([*NUMBERS[:-1].astype(float), np.inf], ValueError, "infinity"),
        ([*Y[:-1], 3], TypeError, "all of one type, but got .*int and str"),
        (np.linspace(0, 1, 18), ValueError, "Unknown label type: continuous"),
        (Y[:-1], ValueError, "inconsistent numbers of samples"),
        ([], ValueError, "0 sample"),
        ("pos", TypeError, "Expected y"),
        (["pos"] * 18, ValueError, "number of classes has to be greater than one; got 1 class, 'pos'"),
        ([["pos"]] * 18, ValueError, "sets of label names"),
        (["pos", "", " "] * 6, ValueError, "not blank"),
    ],
)
def test_what_is_no_class(classifier, y, error, match):
    with pytest.raises(error, match=match):
        classifier().fit(TEXTS, y)


def test_classes_that_labels_do_not_name(classifier):
    with pytest.raises(ValueError, match=r"those of labels, \['pos', 'neg'\], but got \['neu'\] too"):
        classifier(labels=["pos", "neg"]).fit(TEXTS, Y)
    more = classifier(labels=[*SORTED, "unseen"], method="linear_probe", aligner=LogisticRegression()).fit(TEXTS, Y)
    assert more.classes_.tolist() == [*SORTED, "unseen"]
    assert_array_equal(more.predict_proba(TEXTS)[:, 3], 0)


def test_a_class_that_is_named_twice(classifier):
    with pytest.raises(ValueError, match="different labels, but 'pos' comes twice"):
        classifier(labels=["pos", "neg", "pos"]).fit(TEXTS[:2], Y[:2])


def test_several_labels_are_asked_for_otherwise(classifier):
    with pytest.raises(ValueError, match="1-D y of shape .*use multi_label=False"):
        classifier(multi_label=True, labels=SORTED).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="y to have 3 columns, one a label .*but got 1"):
        classifier(multi_label=True, labels=SORTED).fit(TEXTS, NUMBERS[:, None] / 2)


def test_soft_targets_go_on_working(classifier):
    """A table of targets has predictions of its own shape; beside classes it says how annotators voted."""
    soft = 0.8 * np.eye(3)[NUMBERS] + 0.2 / 3
    table = classifier(labels=SORTED, aligner="platt").fit(TEXTS, soft)
    assert table.classes_.shape == (3, 2) and table.predict(TEXTS).sum(axis=1).tolist() == [1] * 18
    for labels, order in ((None, [0, 1, 2]), (["pos", "neg", "neu"], [2, 0, 1])):
        named = classifier(labels=labels, label_order=SORTED, aligner="platt")
        if labels is None:
            named.fit(TEXTS, Y, distribution=soft[:, order])
        else:
            with pytest.raises(ValueError, match="distribution to be a table whose columns are the classes"):
                named.fit(TEXTS, Y, distribution=soft[:, order])
            named.fit(TEXTS, Y, distribution=pd.DataFrame(soft[:, order], columns=labels))
        assert named.classes_.tolist() == SORTED
        assert_allclose(named.predict_proba(TEXTS), table.predict_proba(TEXTS))
        named.fit(TEXTS, Y, distribution=pd.DataFrame(soft, columns=SORTED)[["pos", "neg", "neu"]])
        assert_allclose(named.predict_proba(TEXTS), table.predict_proba(TEXTS))
    shares, hard = (pd.DataFrame(values, columns=SORTED) for values in (soft, np.eye(3)[NUMBERS]))
    assert 0 <= named.score(TEXTS, shares) <= 1 and named.score(TEXTS, hard) == named.score(TEXTS, Y)


KINDS = {
    "zero-shot": {},
    "shots": {"shots": 2, "random_state": 0},
    "several orders": {"n_label_orders": 2, "random_state": 0},
    "probe": {"method": "linear_probe", "random_state": 0},
    "platt": {"aligner": "platt"},
    "scikit-learn's": {"aligner": LogisticRegression()},
}


@pytest.mark.parametrize("kind", KINDS)
def test_cross_validation(classifier, kind):
    estimator, cv = classifier(labels=SORTED, **KINDS[kind]), StratifiedKFold(3)
    scores = cross_validate(
        estimator, TEXTS, Y, cv=cv, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr", "f1_macro"], error_score="raise"
    )
    assert all(np.isfinite(values).all() for values in scores.values())
    proba = cross_val_predict(estimator, TEXTS, Y, cv=cv, method="predict_proba")
    for train, test in cv.split(TEXTS, Y):
        fitted = clone(estimator).fit([TEXTS[i] for i in train], Y[train])
        assert_allclose(proba[test], fitted.predict_proba([TEXTS[i] for i in test]), atol=1e-12)
    assert set(cross_val_predict(estimator, TEXTS, Y, cv=cv)) <= set(SORTED)


def out_of_sight():
    """Let joblib fit in threads, where nobody sees which classes a tool of scikit-learn made its codes of."""
    return joblib.parallel_config(backend="threading")


def test_names_that_scikit_learn_hides(classifier):
    """It fits on codes in their place; where they are out of sight the model would be asked for numbers."""
    named = classifier(labels=SORTED, method="unary_breakdown")
    expected = cross_val_predict(named, TEXTS, Y, cv=2, method="predict_proba")
    nameless = clone(named).set_params(labels=None)
    assert_array_equal(cross_val_predict(nameless, TEXTS, Y, cv=2, method="predict_proba"), expected)
    ensembles = [cls([("a", nameless), ("b", nameless)], **kw) for cls, kw in ENSEMBLES]
    for ensemble in ensembles:
        assert ensemble.fit(TEXTS, Y).predict_proba(TEXTS).shape == (len(TEXTS), 3)
    voting = ensembles[0]
    assert_allclose(voting.predict_proba(TEXTS), named.fit(TEXTS, Y).predict_proba(TEXTS))
    assert_allclose(cross_val_predict(voting, TEXTS, Y, cv=2, method="predict_proba"), expected)
    with pytest.warns(UserWarning, match="cross_val_predict, VotingClassifier and StackingClassifier hand on numbers"):
        with out_of_sight():
            cross_val_predict(nameless, TEXTS, Y, cv=2, method="predict_proba", n_jobs=2)


ENSEMBLES = [(VotingClassifier, {"voting": "soft"}), (StackingClassifier, {"cv": 2})]


def test_codes_that_come_from_the_user(classifier):
    """Numbers in the order of labels, as other libraries give them, are read as in fit: sorted, with a warning."""
    estimator = classifier(labels=["pos", "neg", "neu"])
    for run in (
        lambda: estimator.fit(TEXTS, NUMBERS),
        lambda: cross_val_predict(estimator, TEXTS, NUMBERS, cv=2, method="predict_proba"),
        lambda: VotingClassifier([("a", estimator)], voting="soft").fit(TEXTS, NUMBERS),
    ):
        with pytest.warns(UserWarning, match="in sorted order: 0: 'neg', 1: 'neu', 2: 'pos'"):
            run()


def test_a_class_that_is_spelt_otherwise(classifier):
    estimator = classifier(labels=["Pos", "neg", "neu"])
    for run in (
        lambda: cross_val_predict(estimator, TEXTS, Y, cv=2, method="predict_proba"),
        lambda: VotingClassifier([("a", estimator)], voting="soft").fit(TEXTS, Y),
        lambda: StackingClassifier([("a", estimator)], cv=2).fit(TEXTS, Y),
    ):
        with pytest.raises(ValueError, match="classes in y to be those of labels"):
            run()


@pytest.mark.parametrize("labels", [SORTED, ["pos", "neg", "neu"], {"neu": "so", "neg": "bad", "pos": "good"}])
def test_ensembles_of_scikit_learn(classifier, labels):
    """No order of labels needs a word of explanation, though voting and stacking hand on codes."""
    probe = classifier(method="linear_probe", labels=labels, random_state=0)
    middle = clone(probe).set_params(layer=0, pooling="mean")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The (numbers|classes) in y")
        for ensemble in (
            CalibratedClassifierCV(probe, cv=2),
            VotingClassifier([("last", probe), ("middle", middle)], voting="soft"),
            StackingClassifier([("last", probe), ("middle", middle), ("asked", classifier(labels=labels))], cv=2),
        ):
            ensemble.fit(TEXTS, Y)
            assert ensemble.classes_.tolist() == SORTED
            assert_allclose(ensemble.predict_proba(TEXTS).sum(axis=1), 1)
            assert ensemble.score(TEXTS, Y) > 0.8, "columns of one class would be taken for those of another"


def test_a_search(classifier):
    search = GridSearchCV(classifier(), {"method": ["auto", "linear_probe"]}, cv=2, scoring="neg_log_loss")
    assert search.fit(TEXTS, Y).best_params_ == {"method": "linear_probe"}
    assert search.predict(TEXTS).shape == (18,)


def test_two_classes(classifier):
    """The binary tools: columns are [no, yes], and curves are of the second class unless `pos_label` says otherwise."""
    y = np.where(Y == "pos", "yes", "no")
    probe = classifier(method="linear_probe", random_state=0).fit(TEXTS, y)
    assert probe.classes_.tolist() == ["no", "yes"]
    proba = probe.predict_proba(TEXTS)
    score = cross_val_score(probe, TEXTS, y, cv=[(range(18), range(18))], scoring="roc_auc")
    assert score[0] == roc_auc_score(y == "yes", proba[:, 1])
    tuned = TunedThresholdClassifierCV(probe, cv=2, scoring="balanced_accuracy").fit(TEXTS, y)
    assert set(tuned.predict(TEXTS)) <= {"no", "yes"} and 0 <= tuned.best_threshold_ <= 1
    shown = CalibrationDisplay.from_estimator(probe, TEXTS, y, pos_label="yes", n_bins=3)
    assert_array_equal(shown.y_prob, proba[:, 1])
    matrix = ConfusionMatrixDisplay.from_estimator(probe, TEXTS, y)
    assert matrix.confusion_matrix.sum() == 18


@pytest.mark.parametrize("wrapper", [OneVsRestClassifier, MultiOutputClassifier])
@pytest.mark.parametrize("several", [True, False])
def test_wrappers_that_feed_one_column(classifier, wrapper, several):
    table, labels = np.eye(3, dtype=int)[NUMBERS], SORTED
    for estimator in (
        classifier(multi_label=several, labels=labels),
        make_pipeline(classifier(labels=labels).fit().extractors_[0], CompareToNone(multi_label=several)),
    ):
        with pytest.raises(ValueError, match="asks for a classifier of one label at a time. .* without that wrapper"):
            wrapper(estimator).fit(TEXTS, table)


def test_tags(classifier):
    single, several = get_tags(classifier()), get_tags(classifier(multi_label=True))
    assert is_classifier(classifier())
    assert single.classifier_tags.multi_class and not single.classifier_tags.multi_label
    assert single.target_tags.single_output
    assert several.classifier_tags.multi_label and not several.classifier_tags.multi_class


def test_extractors_draw_demonstrations_from_classes(tiny_model):
    drawn = [
        StepwiseExtractor(tiny_model, labels=labels, shots=3, random_state=0).fit(TEXTS, y)
        for labels, y in ((SORTED, Y), (SORTED, np.eye(3)[NUMBERS]), (None, Y))
    ]
    assert drawn[0].demonstrations_ == drawn[1].demonstrations_ == drawn[2].demonstrations_
    assert drawn[2].labels_.tolist() == SORTED


def test_methods_are_compared_on_classes(classifier):
    tfidf = make_pipeline(TfidfVectorizer(), LogisticRegression())
    methods = {"asked": "compare_to_none", "probe": "linear_probe", "words": tfidf}
    for labels, y in (
        (None, Y),
        (["pos", "neg", "neu"], Y),
        ({2: "good", 0: "bad", 1: "so"}, NUMBERS),
        (SORTED, NUMBERS),
    ):
        base = classifier(labels=labels, random_state=0)
        table, proba = compare_methods(TEXTS, y, methods, estimator=base, cv=StratifiedKFold(3), return_proba=True)
        for name, estimator in (("probe", base.set_params(method="linear_probe")), ("words", tfidf)):
            by_hand = cross_validate(estimator, TEXTS, y, cv=StratifiedKFold(3), scoring=["neg_log_loss", "accuracy"])
            row = table["method"].index(name)
            assert table["nll"][row] == pytest.approx(-by_hand["test_neg_log_loss"].mean())
            assert table["example_f1"][row] == pytest.approx(by_hand["test_accuracy"].mean())
            assert proba[name].labels == (SORTED if labels == SORTED else [str(value) for value in np.unique(y)])
        assert table["nll"][0] == pytest.approx(np.log(3))
    assert compare_methods(TEXTS, Y, estimator=base.set_params(labels=None, method="auto"), cv=2)["method"][1:] == [
        "compare_to_none",
        "hard_predictions",
        "unary_breakdown",
    ]
    with pytest.raises(ValueError, match="the class of each document as y, but the estimator has multi_label=True"):
        compare_methods(TEXTS, Y, estimator=classifier(multi_label=True, labels=SORTED))


def test_methods_are_compared_on_tables_of_one_label(classifier):
    """Shares of annotators in a single-label task: its own likelihood, and its own base rate's label."""
    H = pd.DataFrame(0.8 * np.eye(3)[NUMBERS] + 0.2 / 3, columns=["pos", "neg", "neu"])
    base = classifier(labels=SORTED)
    table, proba = compare_methods(TEXTS, H, ["unary_breakdown"], estimator=base, cv=KFold(2), return_proba=True)
    for row, name in enumerate(table["method"]):
        folds = [test for _, test in KFold(2).split(TEXTS)]
        by_hand = [nll(H.iloc[test], proba[name][test], multi_label=False) for test in folds]
        assert table["nll"][row] == pytest.approx(np.mean(by_hand))
    assert table["nll"][0] < 1.2, "of three questions it would be 1.9"
    with pytest.raises(ValueError, match="Expected the same multi_label of all methods"):
        compare_methods(TEXTS, H, {"a": base, "b": classifier(labels=SORTED, multi_label=True)})


def test_a_table_of_one_column_is_compared(classifier):
    column = pd.DataFrame({"tone": Y})
    with pytest.warns(DataConversionWarning, match="column-vector"):
        table = compare_methods(TEXTS, column, ["unary_breakdown"], estimator=classifier(), cv=2)
    assert table["nll"] == compare_methods(TEXTS, Y, ["unary_breakdown"], estimator=classifier(), cv=2)["nll"]


@pytest.mark.parametrize("kind", ["classifier", "pipeline", "search"])
def test_metrics_and_displays_take_classes(classifier, tiny_model, cache, kind):
    """Those of this package are about distributions over labels, which a class is one of."""
    extractor = StepwiseExtractor(tiny_model, labels=["pos", "neg", "neu"], max_labels=1, n_threads=1, memory=cache)
    fitted = {
        "classifier": classifier(),
        "pipeline": make_pipeline(extractor, CompareToNone(multi_label=False)),
        "search": GridSearchCV(classifier(), {"aligner": ["platt"]}, cv=2),
    }[kind].fit(TEXTS, Y)
    H, proba = np.eye(3)[NUMBERS], fitted.predict_proba(TEXTS)
    for name, scorer in scorers(multi_label=False).items():
        assert scorer(fitted, TEXTS, Y) == pytest.approx(scorer(fitted, TEXTS, pd.DataFrame(H, columns=SORTED))), name
    assert -scorers(multi_label=False)["nll"](fitted, TEXTS, Y) == pytest.approx(log_loss(Y, proba))
    shown = DistributionDisplay.from_estimator(fitted, TEXTS[:6], Y[:6])
    assert_array_equal(shown.y_true, H[:6])
    ReliabilityDisplay.from_estimator(fitted, TEXTS, Y)
    with pytest.raises(ValueError, match="Expected classes that the classifier was fitted with"):
        DistributionDisplay.from_estimator(fitted, TEXTS[:2], ["pos", "strange"])


def test_chunks_of_classes(classifier, tmp_path):
    fitted = classifier().fit(TEXTS, np.array(Y, object))
    for _ in range(2):  # the second time from the files
        parts = predict_chunks(fitted, [TEXTS[:10], TEXTS[10:]], tmp_path, method="predict")
        assert_array_equal(np.concatenate(list(parts)), fitted.predict(TEXTS))


ALIGNERS = {
    "compare to none": CompareToNone(multi_label=False),
    "hard": HardPredictions(multi_label=False),
    "platt": ScalingAligner(multi_label=False),
    "matrix": ScalingAligner("matrix", C=1.0, multi_label=False),
}


@pytest.mark.parametrize("aligner", ALIGNERS.values(), ids=ALIGNERS)
@pytest.mark.parametrize("y", [Y, NUMBERS], ids=["names", "codes"])
def test_pipelines_of_extractor_and_aligner(tiny_model, cache, aligner, y):
    """The prompt lists the labels in an order of its own; columns and classes are sorted all the same."""
    extractor = StepwiseExtractor(
        tiny_model, labels=["pos", "neg", "neu"], label_order=SORTED, max_labels=1, n_threads=1, memory=cache
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The numbers in y")
        pipeline = make_pipeline(extractor, clone(aligner)).fit(TEXTS, y)
    assert pipeline.classes_.tolist() == sorted(set(y.tolist()))
    table = make_pipeline(extractor, clone(aligner)).fit(TEXTS, pd.DataFrame(np.eye(3)[NUMBERS], columns=SORTED))
    order = [list(table[-1].labels_).index(name) for name in SORTED]
    assert_allclose(pipeline.predict_proba(TEXTS), table.predict_proba(TEXTS)[:, order], rtol=1e-6)
    assert_array_equal(pipeline.predict(TEXTS), pipeline.classes_[pipeline.predict_proba(TEXTS).argmax(axis=1)])
    assert pipeline.score(TEXTS, y) == accuracy_score(y, pipeline.predict(TEXTS))


def test_tables_of_probabilities_beside_classes():
    rng = np.random.default_rng(0)
    P = pd.DataFrame(rng.dirichlet(np.ones(3), 18), columns=["pos", "neg", "neu"])
    right = ScalingAligner(multi_label=False).fit(P[SORTED].to_numpy(), Y)
    fitted = ScalingAligner(multi_label=False).fit(P, Y)
    for X in (P, P[SORTED], P[["neu", "pos", "neg"]]):
        assert_allclose(fitted.predict_proba(X), right.predict_proba(P[SORTED].to_numpy()))
    unary = UnaryBreakdown(multi_label=False).fit(P, Y)
    assert_array_equal(unary.predict(P), np.array(P.columns)[P.to_numpy().argmax(axis=1)])
    with pytest.raises(ValueError, match="those of labels"):
        ScalingAligner(multi_label=False).fit(P, np.where(Y == "neu", "other", Y))


def test_a_probe_of_vectors():
    X = np.random.default_rng(0).normal(size=(18, 4)) / 9 + np.eye(4)[NUMBERS]
    probe = LinearProbe(C=1.0, multi_label=False, random_state=0).fit(X, Y)
    assert probe.classes_.tolist() == SORTED and probe.score(X, Y) > 0.7
    table = LinearProbe(C=1.0, multi_label=False, random_state=0).fit(X, np.eye(3)[NUMBERS])
    assert_array_equal(probe.predict_proba(X), table.predict_proba(X))
    scores = cross_validate(probe, X, Y, cv=3, scoring=["accuracy", "neg_log_loss"], error_score="raise")
    assert scores["test_neg_log_loss"].mean() > -np.log(3), "columns of one class would be taken for those of another"


class OfNumbers(GGUFClassifier):
    """Reads rows of numbers as texts, so that scikit-learn's checks, which know nothing else, can try it."""

    def fit(self, X, y=None):
        return super().fit(as_texts(validate_data(self, X)), y)

    def predict_proba(self, X):
        check_is_fitted(self)
        return super().predict_proba(as_texts(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = False, True
        tags.target_tags.required = tags.classifier_tags.poor_score = True
        return tags


def as_texts(X):
    return [" ".join(f"{value:.2g}" for value in row) for row in X]


@pytest.fixture(scope="module", autouse=True)
def _named_model(tiny_model):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKMLMC_MODEL", str(tiny_model))
        yield


@pytest.mark.filterwarnings("ignore:The classes in y are numbers")
@parametrize_with_applicable_checks(
    [OfNumbers(multi_label=False, method="linear_probe", random_state=0, method_params={"C": 1.0})]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("order", [["pos", "neg", "neu"], ["neu", "pos", "neg"]])
def test_columns_of_a_pipeline_are_sorted_for_classes(tiny_model, order):
    """So that what loses their names on the way loses nothing: the extractor's columns stand as those behind it."""
    extractor = StepwiseExtractor(model=tiny_model, labels=order, n_threads=1)
    steps = extractor.fit(TEXTS, Y).transform(TEXTS)
    assert extractor.labels_.tolist() == SORTED and extractor.label_order_.tolist() == order
    assert extractor.get_feature_names_out().tolist() == [*SORTED, "none"]
    given = clone(extractor).fit(TEXTS)
    assert given.labels_.tolist() == given.label_order_.tolist() == order
    columns = [order.index(name) for name in SORTED]
    same_prompt = np.asarray(given.transform(TEXTS))[..., [*columns, 3]]
    assert_allclose(steps, same_prompt, atol=1e-12)
    aligner = CompareToNone(multi_label=False)
    named, nameless = (clone(aligner).fit(array, Y) for array in (steps, np.asarray(steps)))
    assert_array_equal(named.predict_proba(steps), nameless.predict_proba(np.asarray(steps)))


def test_tables_without_names_beside_labels_in_another_order(classifier):
    """Nobody can tell whether their columns are as in labels, or sorted as those of predict_proba."""
    H = np.eye(3)[[SORTED.index(name) for name in Y]]
    fitted = classifier(labels=["pos", "neg", "neu"]).fit(TEXTS, Y)
    for use in (
        lambda y: fitted.score(TEXTS, y),
        lambda y: scorers(multi_label=False)["nll"](fitted, TEXTS, y),
        lambda y: ReliabilityDisplay.from_estimator(fitted, TEXTS, y),
        lambda y: DistributionDisplay.from_estimator(fitted, TEXTS[:3], y[:3]),
    ):
        with pytest.raises(ValueError, match=r"as labels has them in another order than predict_proba, which sorts"):
            use(H)
        use(pd.DataFrame(H, columns=SORTED)[["neu", "pos", "neg"]])
    fitted = classifier(labels=SORTED).fit(TEXTS, Y)
    assert fitted.score(TEXTS, H) == fitted.score(TEXTS, Y)


@pytest.mark.parametrize("labels", [["pos", "neg", "neu", "odd"], [-1, 0, 1]])
def test_labels_that_y_lacks_where_scikit_learn_hands_on_numbers(classifier, labels):
    estimator = classifier(labels=labels)
    y = Y if isinstance(labels[0], str) else np.where(Y == "pos", 1, -1)
    assert len(estimator.fit(TEXTS, y).classes_) == len(labels)
    for run, tool in (
        (lambda: VotingClassifier([("a", estimator)], voting="soft").fit(TEXTS, y), "VotingClassifier"),
        (lambda: cross_val_predict(estimator, TEXTS, y, cv=2, method="predict_proba"), "cross_val_predict"),
    ):
        with pytest.raises(ValueError, match=rf"just the classes in y.*{tool} .* Name these alone in labels"):
            run()
    with out_of_sight(), pytest.raises(ValueError, match="numbers the classes that y has .* Name in labels"):
        cross_val_predict(estimator, TEXTS, y, cv=2, method="predict_proba", n_jobs=2)
    assert set(cross_val_predict(estimator, TEXTS, y, cv=2)) <= set(labels)


@pytest.mark.parametrize("names", [{"pos": 1, "neg": -1, "neu": 0}, {"pos": 10, "neg": 2, "neu": 7}])
def test_numbers_that_ensembles_number_again(classifier, names):
    y = np.array([names[name] for name in Y])
    estimator = classifier(method="linear_probe", labels={code: name for name, code in names.items()}, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The (numbers|classes) in y")
        vote = VotingClassifier([("a", estimator), ("b", estimator)], voting="soft").fit(TEXTS, y)
        assert_array_equal(vote.predict_proba(TEXTS), estimator.fit(TEXTS, y).predict_proba(TEXTS))
        proba = cross_val_predict(estimator, TEXTS, y, cv=2, method="predict_proba")
    assert_array_equal(vote.classes_, sorted(names.values()))
    assert (np.array(sorted(names.values()))[proba.argmax(axis=1)] == y).mean() > 0.5


def test_prefixes_of_columns_of_classes():
    proba = np.random.default_rng(0).dirichlet(np.ones(3), len(Y))
    X = pd.DataFrame(proba, columns=["llm__pos", "llm__neg", "llm__neu"])
    bare = X.rename(columns=lambda name: name[5:])
    for aligner in (UnaryBreakdown(multi_label=False), ScalingAligner(multi_label=False)):
        fitted, same = clone(aligner).fit(X, Y), clone(aligner).fit(bare, Y)
        assert fitted.classes_.tolist() == fitted.labels_.tolist() == SORTED
        assert fitted.feature_names_in_.tolist() == ["llm__neg", "llm__neu", "llm__pos"]
        assert_array_equal(fitted.predict_proba(X[X.columns[::-1]]), same.predict_proba(bare))


def test_classes_after_a_fit_on_a_table(classifier):
    """Targets may be shares in fit and classes later: a table names the labels, and so the classes."""
    H = pd.DataFrame(np.eye(3)[[SORTED.index(name) for name in Y]], columns=SORTED)
    fitted = classifier(labels=["pos", "neg", "neu"]).fit(TEXTS, H)
    assert fitted.score(TEXTS, Y) == fitted.score(TEXTS, H)
    metric = scorers(multi_label=False)["nll"]
    assert metric(fitted, TEXTS, Y) == metric(fitted, TEXTS, H)
    with pytest.raises(ValueError, match="classes that the classifier was fitted with"):
        fitted.score(TEXTS, ["odd"] * len(Y))


DISTRIBUTION = pd.DataFrame(0.8 * np.eye(3)[[SORTED.index(name) for name in Y]] + 0.2 / 3, columns=SORTED)


@pytest.mark.parametrize("make", [lambda: LinearProbe(None, C=10.0, multi_label=False), lambda: ALIGNERS["matrix"]])
def test_a_distribution_with_names_in_another_order(make):
    """Beside classes as y, and beside a table: its columns are found by their names, and strangers refused."""
    F = np.eye(3)[NUMBERS] * 0.8 + 0.1
    for y in (Y, pd.get_dummies(Y, dtype=int)):
        fits = [clone(make()).fit(F, y, distribution=DISTRIBUTION[names]) for names in (SORTED, SORTED[::-1])]
        assert fits[0].labels_.tolist() == fits[1].labels_.tolist() == SORTED
        assert_array_equal(fits[0].predict_proba(F), fits[1].predict_proba(F))
        assert fits[1].score(F, y) == 1
        with pytest.raises(ValueError, match="y and distribution to have the same labels"):
            clone(make()).fit(F, y, distribution=DISTRIBUTION.rename(columns={"pos": "odd"}))


def test_a_distribution_without_names_in_a_pipeline(tiny_model, classifier):
    labels = ["pos", "neg", "neu"]
    extractor = StepwiseExtractor(tiny_model, labels=labels, shots=3, random_state=0, n_threads=1)
    with pytest.raises(ValueError, match="distribution to be a table whose columns are the classes"):
        extractor.fit(TEXTS, Y, distribution=DISTRIBUTION.to_numpy())
    extractor.set_params(labels=SORTED).fit(TEXTS, Y, distribution=DISTRIBUTION.to_numpy())
    assert all(SAID[names[0]] in text for text, names in extractor.demonstrations_)


def test_shares_reach_an_aligner_that_something_wraps(classifier):
    scoring = scorers()["nll"]
    plain = ScalingAligner(multi_label=False)
    bare = classifier(labels=SORTED, aligner=plain).fit(TEXTS, DISTRIBUTION).predict_proba(TEXTS)
    for wrapped in (
        GridSearchCV(plain, {"C": [None]}, cv=2, scoring=scoring),
        make_pipeline(FunctionTransformer(), plain),
    ):
        found = classifier(labels=SORTED, aligner=wrapped).fit(TEXTS, DISTRIBUTION).predict_proba(TEXTS)
        assert_allclose(found, bare)
        with pytest.raises(ValueError, match="expected the same task for both"):
            classifier(labels=SORTED, aligner=wrapped, multi_label=True).fit(TEXTS, DISTRIBUTION.round())


def test_scorers_know_the_task(classifier):
    single = classifier(labels=SORTED).fit(TEXTS, Y)
    proba, indicator = single.predict_proba(TEXTS), np.eye(3)[[SORTED.index(name) for name in Y]]
    for scorer in (scorers()["nll"], nll_scorer, scorers(multi_label=False)["nll"]):
        assert scorer(single, TEXTS, Y) == pytest.approx(-log_loss(Y, proba))
    several = scorers(multi_label=True)["nll"](single, TEXTS, Y)
    assert several == pytest.approx(-nll(indicator, proba)) and several < nll_scorer(single, TEXTS, Y)
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, Y)
    assert nll_scorer(pipeline, TEXTS, indicator) == pytest.approx(-nll(indicator, pipeline.predict_proba(TEXTS)))


def test_classes_that_are_numbers_in_every_parameter(classifier):
    labels = {1: "good", 2: "bad", 3: "so"}
    shown = [("fine", [1]), ("awful", {2})]
    fitted = classifier(labels=labels, demonstrations=shown, label_order=[3, 1, 2], threshold={1: 0.5, 2: 0.5, 3: 0.5})
    assert fitted.fit(TEXTS, NUMBERS + 1).demonstrations_ == [("fine", ("1",)), ("awful", ("2",))]


@pytest.mark.parametrize("wrapper", [OneVsRestClassifier, MultiOutputClassifier])
@pytest.mark.parametrize("aligner", [ScalingAligner(), LinearProbe(C=1.0), LinearProbe(C=1.0, multi_label=False)])
def test_wrappers_around_aligners(wrapper, aligner):
    X, y = np.random.default_rng(0).uniform(size=(12, 3)), np.eye(3, dtype=int)[np.arange(12) % 3]
    with pytest.raises(ValueError, match=f"{wrapper.__name__}.* asks for a classifier of one label at a time"):
        wrapper(aligner).fit(X, y)

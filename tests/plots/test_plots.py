"""Displays: their arithmetic on known answers, what they draw, and what they refuse."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from campaigns import in_campaigns
from hypothesis import given
from hypothesis import strategies as st
from inside import labelled
from scipy.stats import bootstrap, sem, t
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import calibration_curve
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmlmc import (
    GGUFClassifier,
    LinearProbe,
    MaxOverGenerations,
    ScalingAligner,
    StepwiseExtractor,
    UnaryExtractor,
    clear_models,
)
from skmlmc.analysis import step_values
from skmlmc.metrics import l1_distance, nll
from skmlmc.plots import (
    AnnotationCurveDisplay,
    DistributionDisplay,
    MethodComparisonDisplay,
    ReliabilityDisplay,
    SpikinessDisplay,
    StepsDisplay,
)
from skmlmc.plots._comparison import read_table, row_names, score_table, table_metrics, value_and_bounds
from skmlmc.plots._inputs import check_both, column_labels, extract_steps
from skmlmc.plots._reliability import reliability

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

NAN = [np.nan] * 4
LABELS = ["anger", "joy", "sadness"]
# The first document says joy, then anger; the second says none.
STEPS = np.array([[[0.2, 0.5, 0.1, 0.2], [0.6, 0.3, 0.1, 0.0], NAN], [[0.1, 0.1, 0.1, 0.7], NAN, NAN]])
H = np.array([[1, 2 / 3, 0], [0, 1, 1 / 3], [0, 0, 0], [1 / 3, 0, 1]])
P = np.array([[0.8, 0.4, 0.1], [0.3, 0.9, 0.2], [0.1, 0.2, 0.05], [0.4, 0.1, 0.7]])
TABLE = {
    "method": ["constant base rate", "worse", "better"],
    "nll": [2.0, 3.0, 1.0],
    "nll_std": [0.1, 0.2, 0.3],
    "example_f1": [0.4, 0.3, 0.5],
    "documents_per_second": [np.nan, 2.0, 1.0],
}


class Answers(TransformerMixin, BaseEstimator):
    """A fitted extractor that gives the steps of known texts and remembers what it was asked."""

    labels_ = np.array(LABELS, dtype=object)
    none_label = "nothing"
    asked = ()

    def fit(self, X=None, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def transform(self, X):
        self.asked = [*self.asked, *X]
        return STEPS[[{"first": 0, "second": 1}[text] for text in X]]


class Classifier(BaseEstimator):
    """A fitted classifier that always says `P`."""

    labels_ = LABELS
    asked = 0

    def fit(self, X=None, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, X):
        self.asked += 1
        return P[: len(X)]


def tick_names(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def drawn(display):
    """Draw the figure as a file would be, and return all its texts."""
    display.figure_.canvas.draw()
    return " ".join(t.get_text() for t in display.figure_.findobj(matplotlib.text.Text))


def test_empty_bins_are_left_out():
    curve = reliability(np.array([1.0, 0.0, 1.0]), np.array([0.05, 0.95, 0.97]), n_bins=10)
    assert curve.counts.tolist() == [1, 2]
    np.testing.assert_allclose(curve.edges, [[0, 0.1], [0.9, 1]])


bins = st.tuples(st.integers(1, 12), st.sampled_from(["uniform", "quantile"]))
percent = st.integers(0, 100).map(lambda k: k / 100)


@given(st.lists(st.tuples(percent, st.booleans()), min_size=2, max_size=40), bins)
def test_reliability_of_hard_targets_is_that_of_sklearn(pairs, how):
    proba, target = np.array([p for p, _ in pairs]), np.array([float(y) for _, y in pairs])
    target[:2] = 0, 1  # calibration_curve wants both
    curve = reliability(target, proba, *how)
    true, pred = calibration_curve(target, proba, n_bins=how[0], strategy=how[1])
    np.testing.assert_allclose(curve.prob_true, true)
    np.testing.assert_allclose(curve.prob_pred, pred)
    assert curve.counts.sum() == len(proba)


@given(st.lists(st.tuples(percent, st.integers(0, 3)), min_size=2, max_size=30), st.integers(1, 12))
def test_a_soft_target_is_so_many_votes(pairs, n_bins):
    proba, votes = np.array([p for p, _ in pairs]), np.array([v for _, v in pairs])
    votes[:2] = 1, 2  # calibration_curve wants both classes
    soft = reliability(votes / 3, proba, n_bins)
    hard = np.concatenate([[1.0] * v + [0.0] * (3 - v) for v in votes])
    true, pred = calibration_curve(hard, np.repeat(proba, 3), n_bins=n_bins)
    np.testing.assert_allclose(soft.prob_true, true)
    np.testing.assert_allclose(soft.prob_pred, pred)


@pytest.mark.parametrize(("how", "message"), [({"n_bins": 0}, "n_bins=0"), ({"strategy": "kmeans"}, "'quantile'")])
def test_reliability_refuses(how, message):
    with pytest.raises(ValueError, match=message):
        reliability(H[:, 0], P[:, 0], **how)


@pytest.mark.parametrize(
    "table",
    [TABLE, pd.DataFrame(TABLE), pl.DataFrame(TABLE), read_table(TABLE), {"rows": read_table(TABLE), "model": "any"}],
    ids=["columns", "pandas", "polars", "rows", "file"],
)
def test_tables_of_all_forms(table):
    rows = read_table(table)
    assert [row["method"] for row in rows] == TABLE["method"]
    assert [row["nll"] for row in rows] == TABLE["nll"]
    assert table_metrics(rows) == ["nll", "example_f1"]


def test_bounds():
    row = {"nll": 2.0, "nll_interval": [1.5, 3.0], "l1": 1.0, "l1_std": 0.25, "example_f1": 0.5, "other": None}
    assert value_and_bounds(row, "nll") == (2.0, 1.5, 3.0)
    assert value_and_bounds(row, "l1") == (1.0, 0.75, 1.25)
    assert np.isnan(value_and_bounds(row, "example_f1")[1:]).all()
    assert np.isnan(value_and_bounds(row, "other")).all()
    assert np.isnan(value_and_bounds(row, "absent")).all()


def test_rows_of_one_name_are_told_apart():
    rows = [{"method": m, "nll": x, "n": n, "k": 7} for m, x, n in (("a", 1.0, 800), ("b", 2.0, 800), ("a", 3.0, 120))]
    assert row_names(rows, ["nll"]) == ["a (n 800)", "b", "a (n 120)"]
    assert row_names([{"method": "a", "nll": 1}, {"method": "a", "nll": 2}], ["nll"]) == ["a", "a (2)"]
    assert MethodComparisonDisplay.from_table(rows[::-1]).methods_ == ["a (n 800)", "b", "a (n 120)"]


def test_scores_are_the_metrics_and_lie_in_their_intervals():
    base, model = score_table(H, {"base": np.tile(H.mean(axis=0), (4, 1)), "model": P})
    assert model["nll"] == pytest.approx(nll(H, P))
    assert base["l1"] == pytest.approx(l1_distance(H, np.tile(H.mean(axis=0), (4, 1))))
    each = [nll(H[[i]], P[[i]]) for i in range(4)]
    by_scipy = bootstrap((each,), np.mean, method="percentile").confidence_interval
    assert model["nll_interval"] == pytest.approx((by_scipy.low, by_scipy.high), rel=0.05)
    assert model["nll_interval"][0] < model["nll"] < model["nll_interval"][1]
    wide, narrow = (score_table(H, {"model": P}, level)[0]["l1_interval"] for level in (0.99, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    with pytest.raises(ValueError, match="confidence_level=1"):
        score_table(H, {"model": P}, 1)
    assert np.isnan(score_table(H[:1], {"model": P[:1]})[0]["nll_interval"]).all()


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (3, TypeError, "as compare_methods returns"),
        ("nll", TypeError, "but got str"),
        ([], ValueError, "has no rows"),
        ({"nll": [1.0]}, ValueError, "a column 'method'"),
        ({"method": ["a"], "nll": [1.0, 2.0]}, ValueError, "one length"),
        ({"method": ["a"], "name": ["b"]}, ValueError, "columns of metrics"),
    ],
)
def test_tables_refused(table, error, message):
    with pytest.raises(error, match=message):
        MethodComparisonDisplay.from_table(table)


@pytest.mark.parametrize("metrics", ["nll", [], ["accuracy"]])
def test_unknown_metrics_are_refused(metrics):
    with pytest.raises(ValueError, match="a list of columns of the table"):
        MethodComparisonDisplay.from_table(TABLE, metrics=metrics)


def test_labels_follow_a_data_frame():
    target = pd.DataFrame(H, columns=LABELS)
    shuffled = pd.DataFrame(P, columns=LABELS)[["sadness", "anger", "joy"]]
    _, proba, names = check_both(target, shuffled, None)
    np.testing.assert_array_equal(proba, P)
    assert names == LABELS
    assert check_both(H, shuffled, None)[2] == ["sadness", "anger", "joy"]
    assert check_both(H, P, None)[2] == ["label0", "label1", "label2"]
    aligned = labelled(P, "unary", LABELS, None)
    target, _, names = check_both(target[["joy", "sadness", "anger"]], aligned, None)
    np.testing.assert_array_equal(target, H)
    assert names == LABELS


def test_steps_show_the_answer():
    display = StepsDisplay.from_predictions(STEPS[0], labels=LABELS)
    assert tick_names(display.ax_.xaxis) == ["step 1\njoy", "step 2\nanger"]
    assert tick_names(display.ax_.yaxis) == ["joy", "anger", "sadness", "none"]
    (image,) = display.ax_.images
    np.testing.assert_allclose(image.get_array(), [[0.5, 0.3], [0.2, 0.6], [0.1, 0.1], [0.2, 0]])
    frames = [(patch.get_x(), patch.get_y()) for patch in display.ax_.patches]
    assert frames == [(-0.5, -0.5), (0.5, 0.5)]
    assert "What the model says" in drawn(display)
    assert list(display.legend_handles_) == ["said"]


def test_rows_follow_the_answer_and_then_the_largest_probability_at_any_step():
    def rows(steps):
        return tick_names(StepsDisplay.from_predictions(steps, labels=LABELS).ax_.yaxis)[:-1]

    assert rows(STEPS[1]) == LABELS
    assert rows([[0.1, 0.2, 0.6, 0.1]]) == ["sadness", "joy", "anger"]
    assert rows([[0.6, 0.1, 0.2, 0.1], [0.1, 0.5, 0.2, 0.2], [0.0, 0.0, 0.1, 0.9]]) == LABELS


def test_an_extractors_array_says_what_was_written():
    steps = labelled(STEPS[:1], "steps", LABELS, None, np.array([[2, 1, -1]]))
    display = StepsDisplay.from_predictions(steps)
    assert tick_names(display.ax_.xaxis) == ["step 1\nsadness", "step 2\njoy"]
    assert tick_names(display.ax_.yaxis) == ["sadness", "joy", "anger", "none"]
    assert tick_names(display.plot().ax_.xaxis) == ["step 1\nsadness", "step 2\njoy"]
    with pytest.raises(ValueError, match="Expected steps .*, but got unary"):
        StepsDisplay.from_predictions(labelled(STEPS[:1], "unary", LABELS, None))


def test_the_kind_tells_steps_from_pairs():
    class Pairs(Answers):
        def transform(self, X):
            return labelled(np.full((len(X), 4, 4), 0.25), "pairs", LABELS, X)

    with pytest.raises(TypeError, match="answers in steps"):
        SpikinessDisplay.from_estimator(Pairs(), ["a"])


def test_steps_that_did_not_happen_stay_empty():
    display = StepsDisplay.from_predictions(STEPS[0], labels=LABELS)
    assert "end of\nthe answer" not in drawn(display)
    wider = display.plot(n_steps=4)
    assert "end of\nthe answer" in drawn(wider) and wider.ax_.get_xlim() == (-0.5, 3.5)


def test_steps_as_given():
    display = StepsDisplay.from_predictions(STEPS[0], labels=LABELS, sort=False)
    assert tick_names(display.ax_.yaxis) == [*LABELS, "none"]
    assert [(patch.get_x(), patch.get_y()) for patch in display.ax_.patches] == [(-0.5, 0.5), (0.5, -0.5)]


def test_steps_with_probabilities_and_annotators():
    y = pd.Series([0.25, 1, 0.5], index=["sadness", "joy", "anger"])
    display = StepsDisplay.from_predictions(
        STEPS[0], labels=LABELS, proba=[0.6, 0.5, 0.1], y_true=y, threshold={"anger": 0.3, "joy": 0.4, "sadness": 0.5}
    )
    _, right = display.ax_
    assert [bar.get_width() for bar in right.patches] == [0.5, 0.6, 0.1]
    assert display.legend_handles_["y_true"].get_xdata().tolist() == [1, 0.5, 0.25]
    assert display.legend_handles_["threshold"].get_xdata().tolist() == [0.4, 0.4, 0.3, 0.3, 0.5, 0.5]
    assert "threshold" not in StepsDisplay.from_predictions(STEPS[0], proba=[0, 0, 1], threshold=None).legend_handles_


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"steps": STEPS}, ValueError, r"pass steps\[\[i\]\]"),
        ({"steps": [[0.5, 0.2, 0.1]]}, ValueError, "sum to 1"),
        ({"labels": ["joy"]}, ValueError, "1 labels .* expected 3, one a column of steps beside none"),
        ({"labels": "joy"}, TypeError, "labels='joy'"),
        ({"proba": [0.1, 0.2]}, ValueError, "proba to have 3 columns"),
        ({"y_true": [2, 0, 0]}, ValueError, "y_true in"),
        ({"threshold": 2}, ValueError, "threshold=2"),
    ],
)
def test_steps_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        StepsDisplay.from_predictions(**{"steps": STEPS[0], **kwargs})


def test_steps_from_an_extractor():
    display = StepsDisplay.from_estimator(Answers(), "first", y=[1, 0, 0])
    assert tick_names(display.ax_[0].yaxis) == ["joy", "anger", "sadness", "nothing"]
    assert "“first”" in drawn(display)
    assert display.proba is None


def test_columns_in_the_order_of_the_last_step():
    """A last step that learns the labels from a table of targets has that table's order, not the extractor's."""
    texts = ["first", "second"] * 4
    Y = pd.DataFrame({"sadness": [0.0] * 8, "joy": [1.0] * 8, "anger": [1.0, 0.0] * 4})
    pipe = make_pipeline(Answers(), ScalingAligner("matrix", C=1.0)).fit(texts, Y)
    by_name = dict(zip(Y.columns, pipe.predict_proba(["first"])[0], strict=True))
    assert by_name["joy"] > 0.8 > 0.2 > by_name["sadness"]
    distribution = DistributionDisplay.from_estimator(pipe, ["first"], Y[:1])
    assert dict(zip(distribution.labels, distribution.y_pred[0], strict=True)) == by_name
    assert dict(zip(distribution.labels, distribution.y_true[0], strict=True)) == dict(Y.iloc[0])
    steps = StepsDisplay.from_estimator(pipe, "first")
    assert steps.labels == LABELS and dict(zip(LABELS, steps.proba, strict=True)) == by_name
    numbered = make_pipeline(Answers(), ScalingAligner("matrix", C=1.0)).fit(texts, Y[LABELS].to_numpy())
    assert DistributionDisplay.from_estimator(numbered, ["first"], Y[:1]).labels == LABELS
    np.testing.assert_allclose(StepsDisplay.from_estimator(numbered, "first").proba, steps.proba, rtol=1e-4)


def test_steps_from_a_pipeline_with_cleaned_texts():
    clean = FunctionTransformer(lambda X: [text.lower() for text in X])
    pipe = make_pipeline(clean, Answers(), MaxOverGenerations(threshold=0.4)).fit(["First", "second"])
    display = StepsDisplay.from_estimator(pipe, ["FIRST"])
    np.testing.assert_array_equal(display.steps, STEPS[0])
    np.testing.assert_allclose(display.proba, [0.6, 0.5, 0.1])
    assert display.threshold == 0.4
    assert display.labels == LABELS


def test_one_document_tells_whether_there_are_steps():
    class Unary(Answers):
        def transform(self, X):
            self.asked = [*self.asked, *X]
            return P[: len(X)]

    unary = Unary()
    with pytest.raises(TypeError, match="answers in steps"):
        SpikinessDisplay.from_estimator(unary, ["a", "b", "c"])
    assert unary.asked == ["a"]
    with pytest.raises(TypeError, match="answers in steps"):
        extract_steps(Classifier(), ["a"])
    with pytest.raises(ValueError, match=r"2 documents but expected one: pass X\[i\]"):
        StepsDisplay.from_estimator(Answers(), ["first", "second"])
    with pytest.raises(NotFittedError):
        StepsDisplay.from_estimator(StepwiseExtractor(labels=LABELS), "first")


def test_spikiness():
    display = SpikinessDisplay.from_estimator(Answers(), ["first", "second"])
    top, entropy = display.ax_
    assert tick_names(top.xaxis) == ["all", "1", "2"]
    counts = [t.get_text() for t in top.texts]
    assert counts == ["step", "n", "1", "1", "–", "n", "2", "1", "1"]
    assert entropy.get_ylim()[1] > np.log(4)
    assert "2 documents" in drawn(display)
    only = SpikinessDisplay.from_predictions(STEPS, quantities="entropy")
    assert only.ax_.get_title() == "entropy of the step (nats)"


def test_spikiness_draws_medians():
    rng = np.random.default_rng(0)
    steps = rng.dirichlet(np.ones(4), (9, 1))
    ax = SpikinessDisplay.from_predictions(steps, quantities=["top1"]).ax_
    heights = {tuple(line.get_ydata()) for line in ax.lines if len(line.get_ydata()) == 2}
    assert (np.median(steps.max(axis=2)),) * 2 in heights


def test_spikiness_refuses():
    with pytest.raises(ValueError, match="'top1', 'spikiness', 'entropy'"):
        SpikinessDisplay.from_predictions(STEPS, quantities=["variance"])


def test_distribution():
    display = DistributionDisplay.from_estimator(Classifier(), ["one", "two"], H[:2])
    first, second = display.ax_
    assert tick_names(first.yaxis) == ["joy", "anger", "sadness"]  # mean shares 5/6, 1/2, 1/6
    assert [bar.get_width() for bar in first.patches] == [0.4, 0.8, 0.1]
    assert first.lines[0].get_xdata() == pytest.approx([2 / 3, 1, 0])
    assert second.get_title(loc="left") == f"“two”\nL1 distance {l1_distance(H[1:2], P[1:2]):.2f}"
    given_order = DistributionDisplay.from_predictions(H[:1], P[:1], labels=LABELS, sort=False)
    assert tick_names(given_order.ax_.yaxis) == LABELS


def test_distribution_of_documents_that_are_no_texts():
    probe = LinearProbe(n_components=None, C=1.0).fit(np.eye(3), np.round(H[:3]))
    display = DistributionDisplay.from_estimator(probe, np.eye(3)[:1], H[:1])
    assert display.texts is None and display.ax_.get_title(loc="left").startswith("document 1\n")


def test_distribution_of_probabilities_in_a_list():
    forest = RandomForestClassifier(3, random_state=0).fit(np.eye(3), np.eye(3)[::-1])
    display = DistributionDisplay.from_estimator(forest, np.eye(3), np.eye(3)[::-1])
    expected = np.column_stack([p[:, 1] for p in forest.predict_proba(np.eye(3))])
    np.testing.assert_array_equal(display.y_pred, expected)


def test_distribution_refuses():
    classifier = Classifier()
    with pytest.raises(ValueError, match="13 documents but expected at most 12"):
        DistributionDisplay.from_estimator(classifier, ["text"] * 13, np.tile(H[:1], (13, 1)))
    assert classifier.asked == 0
    with pytest.raises(ValueError, match="Got 1 texts but expected 4"):
        DistributionDisplay.from_predictions(H, P, texts=["one"])
    with pytest.raises(ValueError, match="2 columns"):
        DistributionDisplay.from_predictions(H, P, labels=["joy", "anger"])
    with pytest.raises(ValueError, match="the same labels"):
        DistributionDisplay.from_predictions(H, P[:, :2])
    with pytest.raises(TypeError, match="predict_proba"):
        DistributionDisplay.from_estimator(Answers(), ["first"], H[:1])


def test_method_comparison():
    display = MethodComparisonDisplay.from_table(TABLE)
    left, right = display.ax_
    assert display.methods_ == ["better", "constant base rate", "worse"]
    assert [t.get_text() for t in left.texts] == ["1.00", "2.00", "3.00"]
    assert [t.get_weight() for t in left.texts] == ["bold", "normal", "normal"]
    assert [t.get_weight() for t in right.texts] == ["bold", "normal", "normal"]
    lines = [tuple(line.get_xdata()) for line in left.lines if len(line.get_xdata()) == 2]
    assert lines == [(0.7, 1.3), (2.0, 2.0), (1.9, 2.1), (2.8, 3.2)]
    assert left.get_title() == "NLL\n← lower is better"
    colors = [label.get_color() for label in left.get_yticklabels()]
    assert colors[0] == colors[2] != colors[1]
    assert "one standard deviation" in drawn(display)
    by_f1 = MethodComparisonDisplay.from_table(TABLE, metrics=["example_f1", "documents_per_second"])
    assert by_f1.methods_ == ["better", "constant base rate", "worse"]
    by_speed = MethodComparisonDisplay.from_table(TABLE, metrics=["documents_per_second"])
    assert by_speed.methods_ == ["worse", "better", "constant base rate"]
    assert MethodComparisonDisplay.from_table(TABLE, sort=False).methods_ == TABLE["method"]


def test_wide_ranges_are_logarithmic():
    table = {"method": ["a", "b"], "nll": [1.0, 24.0], "l1": [1.0, 2.0]}
    left, right = MethodComparisonDisplay.from_table(table).ax_
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")
    far = MethodComparisonDisplay.from_table({"method": ["a", "b"], "nll": [0.0001, 900.0]})
    far.figure_.canvas.draw()
    names = tick_names(far.ax_.xaxis)
    assert {"0.001", "1", "100"} <= set(names) and len(names) == len(set(names))


def test_method_comparison_from_predictions():
    display = MethodComparisonDisplay.from_predictions(H, {"model": P, "wrong": 1 - P}, confidence_level=0.9)
    assert display.methods_ == ["model", "wrong"]
    assert "intervals of 90%" in drawn(display)
    with pytest.raises(TypeError, match="mapping from method to probabilities"):
        MethodComparisonDisplay.from_predictions(H, P)
    with pytest.raises(ValueError, match=r"predictions\['model'\] to have 4 rows"):
        MethodComparisonDisplay.from_predictions(H, {"model": P[:2]})


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("paper-*.json")))
def test_committed_results_are_drawn(path):
    results = json.loads(path.read_text())
    display = MethodComparisonDisplay.from_table(results)
    assert len(display.ax_) >= 3
    assert len(display.methods_) == len(results["rows"])


def test_reliability_display():
    display = ReliabilityDisplay.from_estimator(Classifier(), ["text"] * 4, H, n_bins=2)
    assert len(display.ax_) == 4
    assert [ax.get_title().split("\n")[0] for ax in display.ax_] == ["all labels", "joy", "anger", "sadness"]
    joy = display.ax_[1].lines[1]
    np.testing.assert_allclose(joy.get_xdata(), [(0.4 + 0.2 + 0.1) / 3, 0.9])
    np.testing.assert_allclose(joy.get_ydata(), [2 / 9, 1])
    assert [t.get_text() for t in display.ax_[1].texts] == ["3", "1"]
    assert display.curves[0].counts.sum() == 12
    lone = ReliabilityDisplay.from_predictions(H, P, pooled=False, sort=False, labels=LABELS)
    assert [ax.get_title().split("\n")[0] for ax in lone.ax_] == LABELS
    # A label may be called as the first panel is.
    named = ReliabilityDisplay.from_predictions(H, P, labels=["all labels", "joy", "sadness"])
    assert [ax.get_title().split("\n")[0] for ax in named.ax_] == ["all labels", "joy", "all labels", "sadness"]


def test_rare_labels_show_their_corner():
    target = np.zeros((100, 1))
    target[0] = 1
    ax = ReliabilityDisplay.from_predictions(target, np.full((100, 1), 0.03)).ax_
    assert ax.get_xlim() == (0, 0.05)
    assert "base rate 1.0 %, ECE 2.0 %" in ax.get_title()


def test_estimators_without_label_names():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 2)), pd.DataFrame(rng.integers(0, 2, (40, 3)), columns=LABELS)
    chain = ClassifierChain(LogisticRegression()).fit(X, Y)
    assert set(ReliabilityDisplay.from_estimator(chain, X, Y).labels) == {"all labels", *LABELS}
    display = DistributionDisplay.from_estimator(chain, X[:2], Y[:2].to_numpy())
    assert display.labels == ["label0", "label1", "label2"]
    assert display.texts is None


CURVES = {"words": [[3.0, 2.5, 2.0], [2.8, 2.3, np.nan]], "probe": [2.9, 2.9, 2.1], "late": [np.nan, 3, 2.9]}


def test_annotation_curves():
    """Means leave out what was not tried; a method pays from where it stays better than all constants."""
    display = AnnotationCurveDisplay([10, 100, 1000], CURVES, constants={"zero-shot": 2.6, "base rate": 2.7}).plot()
    np.testing.assert_allclose(display.means_["words"], [2.9, 2.4, 2.0])
    np.testing.assert_allclose(display.means_["late"], [np.nan, 3, 2.9])
    assert display.pays_from_ == {"words": 100, "probe": 1000, "late": None}
    ax = display.ax_
    drawn = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(drawn["words"].get_xydata(), [[10, 2.9], [100, 2.4], [1000, 2]])
    np.testing.assert_allclose(drawn["late"].get_xydata(), [[100, 3], [1000, 2.9]])
    assert set(drawn["base rate"].get_ydata()) == {2.7} and drawn["base rate"].get_ls() != drawn["zero-shot"].get_ls()
    assert ax.get_xscale() == "log" and ax.get_ylabel() == "NLL (lower is better)"
    assert len(ax.collections) == 1, "a band only where there are several draws"
    names = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    assert names == ["late", "base rate", "zero-shot", "probe", "words"], "as the curves end"


def test_bands_of_annotation_curves_are_intervals_of_the_mean():
    draws = np.array([[2.0, 1.0], [2.4, 1.2], [2.3, 1.7]])
    display = AnnotationCurveDisplay([10, 100], {"words": draws}, confidence_level=0.9).plot()
    found = display.ax_.collections[0].get_paths()[0].vertices
    for x, values in zip([10, 100], draws.T, strict=True):
        expected = student_interval(values, 0.9)
        ends = found[np.isclose(found[:, 0], x), 1]
        np.testing.assert_allclose([ends.min(), ends.max()], expected)
    assert len(AnnotationCurveDisplay([10, 100], {"words": draws[:1]}).plot().ax_.collections) == 0


def student_interval(values, level):
    return t.interval(level, len(values) - 1, loc=values.mean(), scale=sem(values))


def test_higher_may_be_better_and_0_documents_have_a_place():
    display = AnnotationCurveDisplay(
        [0, 50, 200], {"a": [0.2, 0.4, 0.6]}, metric="example_f1", constants={"base rate": 0.3}
    ).plot()
    assert display.pays_from_ == {"a": 50}
    assert display.ax_.get_ylabel() == "example-F1 (higher is better)"
    places = display.ax_.transData.transform([(size, 0.3) for size in (0, 50, 200)])[:, 0]
    left, right = display.ax_.get_window_extent().intervalx
    assert left < places[0] < places[1] < places[2] < right
    assert tick_names(display.ax_.xaxis) == ["0", "50", "200"]
    assert AnnotationCurveDisplay([50], {"a": [0.2]}).plot().pays_from_ == {"a": None}, (
        "there is nothing to compare with"
    )


@pytest.mark.parametrize(
    ("sizes", "scores", "message"),
    [
        ([10, 10], CURVES, "rising whole numbers of documents, 0 or more"),
        ([-1, 10], CURVES, "rising whole numbers"),
        ([0.5, 1], CURVES, "rising whole numbers"),
        ([], CURVES, "rising whole numbers"),
        ([10, 100], CURVES, r"scores\['words'\] of shape \(draws, 2\), a column a size, but got shape \(2, 3\)"),
    ],
)
def test_annotation_curves_that_do_not_fit(sizes, scores, message):
    with pytest.raises(ValueError, match=message):
        AnnotationCurveDisplay(sizes, scores).plot()


def test_annotation_curves_from_estimators():
    """Each draw tests on the same documents at all sizes, and larger fitting sets hold the smaller ones."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = pd.DataFrame(1 / (1 + np.exp(-X)), columns=LABELS)
    seen = []

    class Seen(LinearProbe):
        def fit(self, X, y):
            seen.append({tuple(row) for row in X})
            return super().fit(X, y)

        def predict_proba(self, X):
            seen.append({tuple(row) for row in X})
            return super().predict_proba(X)

    probe, plain = (kind(n_components=None, C=1.0) for kind in (Seen, LinearProbe))
    args = {"train_sizes": [10, 40], "cv": 2}
    display = AnnotationCurveDisplay.from_estimators({"probe": probe}, X, y, **args, constants={"base rate": 9})
    assert display.scores["probe"].shape == (2, 2) and display.pays_from_ == {"probe": 10}
    for small, tested, large, again in (seen[:4], seen[4:]):
        assert len(small) == 10 and len(large) == 40 and small < large
        assert tested == again and len(tested) == 15 and not tested & large
    assert seen[1] != seen[5] and not hasattr(probe, "labels_")
    expected = nll(y.iloc[:4], Seen(n_components=None, C=1.0).fit(X[4:], y.iloc[4:]).predict_proba(X[:4]))
    one = [(np.arange(4, 60), np.arange(4))]
    display = AnnotationCurveDisplay.from_estimators({"probe": probe}, X, y[LABELS[::-1]], train_sizes=[56], cv=one)
    np.testing.assert_allclose(display.scores["probe"], [[expected]], rtol=1e-3)
    hard = (y > 0.5).astype(int)
    soft = AnnotationCurveDisplay.from_estimators({"probe": plain}, X, hard, distribution=y, **args)
    same = AnnotationCurveDisplay.from_estimators({"probe": plain}, X, y, **args)
    np.testing.assert_allclose(soft.scores["probe"], same.scores["probe"])
    other = AnnotationCurveDisplay.from_estimators({"probe": plain}, X, y, **args, random_state=1)
    assert (other.scores["probe"] != same.scores["probe"]).all()
    f1 = AnnotationCurveDisplay.from_estimators({"probe": probe}, X, y, **args, metric="example_f1")
    assert (f1.scores["probe"] > 0.5).all()
    with pytest.raises(ValueError, match="Got train_sizes up to 46 but expected 45 at most"):
        AnnotationCurveDisplay.from_estimators({"probe": probe}, X, y, train_sizes=[46])
    with pytest.raises(ValueError, match="Got metric='mse' but expected one of 'nll', 'l1', 'example_f1'"):
        AnnotationCurveDisplay.from_estimators({"probe": probe}, X, y, metric="mse")


DRAW = {
    "steps": (2, lambda ax: StepsDisplay.from_predictions(STEPS[0], proba=P[0], ax=ax)),
    "spikiness": (2, lambda ax: SpikinessDisplay.from_predictions(STEPS, ax=ax)),
    "distribution": (4, lambda ax: DistributionDisplay.from_predictions(H, P, ax=ax)),
    "comparison": (2, lambda ax: MethodComparisonDisplay.from_table(TABLE, ax=ax)),
    "reliability": (4, lambda ax: ReliabilityDisplay.from_predictions(H, P, ax=ax)),
}


@pytest.mark.parametrize(("n", "draw"), DRAW.values(), ids=DRAW)
def test_axes_given(n, draw):
    figure, axes = plt.subplots(1, n)
    display = draw(axes)
    assert display.figure_ is figure
    assert list(display.ax_) == list(axes)
    assert all(ax.has_data() for ax in axes)
    assert not figure.texts and not figure.legends
    assert len(plt.get_fignums()) == 1
    again = display.plot()
    assert again is display
    assert display.figure_ is not figure
    display.figure_.canvas.draw()
    with pytest.raises(ValueError, match=f"Got {n + 1} axes in ax but expected {n}, one for each panel"):
        draw(plt.subplots(1, n + 1)[1])
    with pytest.raises(ValueError, match=f"Got 1 axes in ax but expected {n}"):
        draw(plt.subplots()[1])
    with pytest.raises(TypeError, match="Got Figure in ax"):
        draw(figure)


def test_one_panel_takes_and_gives_one_axes():
    _, ax = plt.subplots()
    assert StepsDisplay.from_predictions(STEPS[1], ax=ax).ax_ is ax
    assert DistributionDisplay.from_predictions(H[:1], P[:1], ax=plt.subplots()[1]).ax_ is not ax


LONG = "a label whose name is a whole sentence about what the writer may have felt"


def simulated(n_labels, n_steps):
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(n_labels + 1), (1, n_steps))
    rows[..., -1] = 0
    names = [f"label number {k}" for k in range(n_labels - 1)]
    return rows / rows.sum(axis=2, keepdims=True), [*names, LONG], rng.random((2, n_labels)), rng.random((2, n_labels))


@pytest.mark.parametrize("n_labels", [3, 7, in_campaigns(28)])
@pytest.mark.parametrize("n_steps", [in_campaigns(1), 3, in_campaigns(28)])
def test_nothing_is_cut_and_no_names_overlap(n_labels, n_steps):
    steps, names, target, proba = simulated(n_labels, min(n_labels, n_steps))
    displays = [
        StepsDisplay.from_predictions(
            steps[0], labels=names, proba=proba[0], y_true=target[0], text="Moved away " * 60
        ),
        SpikinessDisplay.from_predictions(steps),
        DistributionDisplay.from_predictions(target, proba, labels=names),
        ReliabilityDisplay.from_predictions(target, proba, labels=names),
        MethodComparisonDisplay.from_table({"method": names, "nll": proba[0], "nll_std": target[0]}),
        AnnotationCurveDisplay([0, 20, 50, 100, 200, 400, 800], {name: np.arange(7.0) for name in names}).plot(),
    ]
    for display in displays:
        figure = display.figure_
        figure.canvas.draw()
        tight, size = figure.get_tightbbox(), figure.get_size_inches()
        assert tight.x0 >= -0.02 and tight.y0 >= -0.02, type(display)
        assert tight.x1 <= size[0] + 0.02 and tight.y1 <= size[1] + 0.02, type(display)
        for ax in figure.axes:
            boxes = [t.get_window_extent() for t in ax.get_yticklabels() if t.get_text()]
            assert all(a.y0 >= b.y1 or a.y1 <= b.y0 for a, b in zip(boxes, boxes[1:], strict=False)), type(display)
            low, high = ax.get_xlim()
            shown = [t for t in ax.get_xticklabels() if t.get_text() and low <= t.get_position()[0] <= high]
            boxes = [t.get_window_extent() for t in shown]
            assert all(a.x1 <= b.x0 + 1 for a, b in zip(boxes, boxes[1:], strict=False)), type(display)


def test_dollar_signs_are_no_formula():
    display = StepsDisplay.from_predictions(STEPS[0], labels=["$a_b$", "b", "c"], text="It cost $5 or $6_.")
    display.figure_.canvas.draw()
    assert all(r"\$" in t for t in tick_names(display.ax_.yaxis) if "a" in t)


CALLS = {
    **{name: draw for name, (_, draw) in DRAW.items()},
    "scores": lambda ax: MethodComparisonDisplay.from_predictions(H, {"model": P}, ax=ax),
    "plot": lambda ax: DistributionDisplay(H, P, labels=LABELS).plot(ax),
    "curves": lambda ax: AnnotationCurveDisplay([10], {"model": [1.0]}).plot(ax),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_missing_matplotlib(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        call(None)


def test_missing_matplotlib_is_told_before_anything_is_decoded(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answers, classifier = Answers(), Classifier()
    for call in (
        lambda: StepsDisplay.from_estimator(answers, "first"),
        lambda: SpikinessDisplay.from_estimator(answers, ["first"]),
        lambda: DistributionDisplay.from_estimator(classifier, ["a"], H[:1]),
        lambda: ReliabilityDisplay.from_estimator(classifier, ["a"], H[:1]),
        lambda: MethodComparisonDisplay.from_estimator(None, ["a"], H[:1]),
        lambda: AnnotationCurveDisplay.from_estimators({"a": classifier}, ["a"], H[:1]),
    ):
        with pytest.raises(ImportError, match="Display needs matplotlib"):
            call()
    assert not answers.asked and not classifier.asked


def test_importing_displays_and_tables_loads_nothing_heavy():
    code = "import sys, skmlmc.analysis, skmlmc.plots; sys.exit(bool({'matplotlib', 'llama_cpp'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_column_labels():
    assert column_labels(None, 2, "y") == ["label0", "label1"]
    assert column_labels(np.array(["a", "b"]), 2, "y") == ["a", "b"]
    for wrong in ([1, 2], {"a", "b"}, "ab", 2, []):
        with pytest.raises(TypeError, match="a sequence of str"):
            check_both(H[:, :2], P[:, :2], wrong)
    with pytest.raises(ValueError, match="'a' comes twice"):
        column_labels(["a", "a"], 2, "y")


def test_from_fitted_estimators(tiny_model):
    texts = ["first text", "second, longer text", "third", "fourth"]
    clf = GGUFClassifier(tiny_model, labels=LABELS, threshold=[0.2, 0.3, 0.4], none_label="empty").fit()
    extractor = StepwiseExtractor(tiny_model, labels=LABELS, none_label="empty").fit()
    steps = extractor.transform(texts)
    display = StepsDisplay.from_estimator(clf, texts[1], y=H[1])
    np.testing.assert_array_equal(display.steps, steps[1])
    np.testing.assert_array_equal(display.proba, clf.predict_proba(texts[1:2])[0])
    np.testing.assert_array_equal(display.threshold, [0.2, 0.3, 0.4])
    assert (display.labels, display.none_label, display.text) == (LABELS, "empty", texts[1])
    single = GGUFClassifier(tiny_model, labels=LABELS, method="compare_to_none", multi_label=False).fit()
    assert StepsDisplay.from_estimator(single, texts[0]).threshold is None
    tops = SpikinessDisplay.from_estimator(clf, texts).tops
    np.testing.assert_array_equal(tops["top1"], step_values(steps)["top1"])
    np.testing.assert_array_equal(DistributionDisplay.from_estimator(clf, texts, H).y_pred, clf.predict_proba(texts))
    assert set(ReliabilityDisplay.from_estimator(clf, texts, H).labels) == {"all labels", *LABELS}
    for other in (
        UnaryExtractor(tiny_model, labels=LABELS).fit(),
        GGUFClassifier(tiny_model, labels=LABELS, method="binary_breakdown").fit(),
    ):
        with pytest.raises(TypeError, match="answers in steps"):
            SpikinessDisplay.from_estimator(other, texts)
    compared = MethodComparisonDisplay.from_estimator(clf, texts, H, methods=["compare_to_none"], cv=2)
    assert set(compared.methods_) == {"constant base rate", "compare_to_none"}
    clear_models()

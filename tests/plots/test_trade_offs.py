"""Displays of thresholds and of abstaining: their arithmetic by hand, what they draw, and what they refuse."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline

from skmlmc import GGUFClassifier, LinearProbe, MaxOverGenerations, StepwiseExtractor
from skmlmc.calibrate import SelectiveClassifier, ThresholdTuner
from skmlmc.metrics import example_f1, nll
from skmlmc.plots import RiskCoverageDisplay, ThresholdDisplay
from skmlmc.plots._selective import risk_coverage

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

LABELS = ["anger", "joy", "sadness"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
H = RNG.binomial(5, 1 / (1 + np.exp(1 - 2 * X))) / 5
PROBA = 1 / (1 + np.exp(1 - X - RNG.normal(size=X.shape)))
TEXTS = [f"text {k} {'word ' * (k % 4)}" for k in range(12)]


def drawn(display):
    """Draw the figure as a file would be, and return all its texts."""
    display.figure_.canvas.draw()
    return " ".join(t.get_text() for t in display.figure_.findobj(matplotlib.text.Text))


values = st.integers(0, 4).map(float)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=5))
def test_risk_is_the_mean_loss_over_all_orders_of_ties(pairs):
    losses, unsure = map(np.array, zip(*pairs, strict=True))
    orders = [order for order in permutations(range(len(losses))) if (np.diff(unsure[list(order)]) >= 0).all()]
    slow = [np.mean([losses[list(order[:k])].mean() for order in orders]) for k in range(1, len(losses) + 1)]
    curve = risk_coverage(losses, unsure)
    assert_allclose(curve.risk, slow)
    assert curve.area == pytest.approx(np.mean(slow)) and curve.coverage[-1] == 1


@pytest.mark.parametrize("risk", ["nll", "l1", "example_f1"])
def test_risk_coverage(risk):
    display = RiskCoverageDisplay.from_predictions(H, PROBA, risk=risk, thresholds=0.3)
    assert list(display.curves) == ["entropy", "threshold_distance", "random", "oracle"]
    areas = {name: curve.area for name, curve in display.curves.items()}
    whole = {"nll": nll(H, PROBA), "l1": abs(H - PROBA).sum(axis=1).mean()}
    whole["example_f1"] = 1 - example_f1(H, PROBA >= 0.3)
    assert [curve.risk[-1] for curve in display.curves.values()] == pytest.approx([whole[risk]] * 4)
    assert areas["oracle"] <= min(areas.values()) and areas["random"] == pytest.approx(whole[risk])
    text = drawn(display)
    assert f"entropy (area {areas['entropy']:.3f})" in text and "documents answered (%)" in text
    lines = dict(zip(display.curves, display.ax_.get_lines(), strict=True))
    assert_allclose(lines["entropy"].get_ydata(), display.curves["entropy"].risk)


def test_a_point_of_the_curve_is_what_the_classifier_answers():
    fitted = LinearProbe(None).fit(X, H)
    clf = SelectiveClassifier(fitted, cv="prefit", coverage=0.7, criterion="threshold_distance").fit(X)
    display = RiskCoverageDisplay.from_estimator(clf, X, H, criteria=["threshold_distance"])
    curve = display.curves["threshold_distance"]
    assert 1 - curve.risk[np.searchsorted(curve.coverage, clf.coverage_)] == pytest.approx(clf.score(X, H))


def test_what_a_model_says_beside_its_probabilities(tiny_model, decoded):
    Y = RNG.integers(0, 2, (12, 3))
    pipe = make_pipeline(StepwiseExtractor(tiny_model, labels=LABELS), MaxOverGenerations()).fit(TEXTS)
    decoded()
    pipe.predict_proba(TEXTS)
    spent = decoded()
    display = RiskCoverageDisplay.from_estimator(pipe, TEXTS, Y, criteria=["label_mass", "entropy"])
    assert decoded() == spent and list(display.curves) == ["label_mass", "entropy", "random", "oracle"]
    several = GGUFClassifier(tiny_model, labels=LABELS, n_label_orders=2).fit()
    assert "disagreement" in RiskCoverageDisplay.from_estimator(several, TEXTS, Y, criteria=["disagreement"]).curves
    with pytest.raises(ValueError, match="Got criteria='disagreement' with"):
        RiskCoverageDisplay.from_estimator(pipe, TEXTS, Y, criteria=["disagreement"])


def test_thresholds_of_a_tuner():
    tuner = ThresholdTuner(LinearProbe(None), cv=3).fit(X, pd.DataFrame(H, columns=LABELS))
    display = ThresholdDisplay.from_estimator(tuner)
    assert len(display.ax_) == 4 and set(LABELS) <= set(drawn(display).split())
    titles = [panel.get_title() for panel in display.ax_]
    assert f"from {tuner.common_threshold_:.2f}" in titles[0]
    for panel in display.ax_[1:]:
        k = LABELS.index(panel.get_title().split("\n")[0])
        marks = [line.get_xdata()[0] for line in panel.get_lines() if line.get_label() == "chosen"]
        assert marks == [tuner.thresholds_[k]]
        (f1,) = (line for line in panel.get_lines() if line.get_label() == "F1")
        assert_allclose(f1.get_ydata(), tuner.cv_results_["label_f1"][:, k])
    best = [tuner.cv_results_["label_f1"][:, LABELS.index(title.split("\n")[0])].max() for title in titles[1:]]
    assert best == sorted(best, reverse=True)
    unsorted = ThresholdDisplay.from_estimator(tuner, sort=False)
    assert [panel.get_title().split("\n")[0] for panel in unsorted.ax_] == ["all labels", *LABELS]


def test_thresholds_of_any_classifier():
    table = pd.DataFrame(H > 0.5, columns=LABELS).astype(int)
    hard = MultiOutputClassifier(LogisticRegression()).fit(X, table)
    assert ThresholdDisplay.from_estimator(hard, X, table).thresholds.tolist() == [0.5] * 3
    tuner = ThresholdTuner(hard, cv="prefit").fit(X, table)
    turned = table[LABELS[::-1]]
    display = ThresholdDisplay.from_estimator(tuner, X, turned)
    at = dict(zip(display.labels, display.thresholds, strict=True))
    assert at == dict(zip(tuner.labels_, tuner.thresholds_, strict=True))
    known = ThresholdDisplay.from_predictions(
        H, PROBA, thresholds={"anger": 0.1, "joy": 0.2, "sadness": 0.3}, labels=LABELS
    )
    assert known.thresholds.tolist() == [0.1, 0.2, 0.3] and known.common is None
    own = plt.subplots(1, 4)[1]
    assert ThresholdDisplay.from_predictions(H, PROBA, ax=own).figure_ is own[0].figure
    where = np.flatnonzero(known.curves["threshold"] == 0.5)
    assert known.curves["example_f1"][where] == pytest.approx(example_f1(H, PROBA >= 0.5))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: ThresholdDisplay.from_estimator(LinearProbe()), "Got no X: expected a ThresholdTuner"),
        (lambda: ThresholdDisplay.from_estimator(ThresholdTuner(LinearProbe())), "not fitted yet"),
        (lambda: ThresholdDisplay.from_predictions(H, PROBA, thresholds=2), "threshold=2 but expected"),
        (lambda: ThresholdDisplay.from_predictions(H, PROBA, ax=plt.subplots(1, 2)[1]), "expected 4, one for each"),
        (lambda: RiskCoverageDisplay.from_predictions(H, PROBA, risk="f1"), "risk='f1' but expected"),
        (lambda: RiskCoverageDisplay.from_predictions(H, PROBA, {"mine": [1, 2]}), "'mine' has shape"),
        (lambda: RiskCoverageDisplay.from_predictions(H, PROBA, {"mine": [np.nan] * 60}), "and NaN"),
        (
            lambda: RiskCoverageDisplay.from_estimator(LinearProbe(), X, H, criteria="entropy"),
            "expected a list",
        ),
        (lambda: RiskCoverageDisplay.from_estimator(LinearProbe(), X, H, criteria=["label_mass"]), "does not say it"),
    ],
)
def test_what_is_refused(draw, message):
    with pytest.raises((TypeError, ValueError), match=message):
        draw()

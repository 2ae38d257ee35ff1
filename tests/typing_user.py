"""A user's script, for a type checker: never run, but checked in its strictest mode as the README's code is used.

Where a public function or method loses its annotations, a call here is untyped; where it returns ``Any`` instead of
what it promises, ``assert_type`` fails.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import assert_type

import skmlmc
from skmlmc import (
    BradleyTerry,
    CompareToNone,
    ContextualCalibration,
    EmbeddingExtractor,
    GGUFClassifier,
    HardPredictions,
    HiddenStateExtractor,
    LinearProbe,
    MarginalExtractor,
    MaxOverGenerations,
    PairwiseExtractor,
    PriorCorrection,
    PromptTemplate,
    QuestionTemplate,
    ScalingAligner,
    StepwiseExtractor,
    UnaryBreakdown,
    UnaryExtractor,
    compare_methods,
)
from skmlmc.align import bradley_terry_scores, compare_to_none, generated_labels, label_sets, max_over_generations
from skmlmc.analysis import second_ranked, step_shape
from skmlmc.datasets import annotator_distribution, fetch_goemotions, make_boxes, paper_split
from skmlmc.metrics import entropy_correlation, example_f1, l1_distance, nll, nll_scorer, scorers
from skmlmc.plots import (
    AnnotationCurveDisplay,
    DistributionDisplay,
    MethodComparisonDisplay,
    ReliabilityDisplay,
    SpikinessDisplay,
    StepsDisplay,
)
from skmlmc.streaming import predict_chunks, read_chunks

assert_type(skmlmc.__version__, str)

texts: list[str] = ["I miss her so much.", "We won!!!"]
labels = ["anger", "joy", "sadness"]
H = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def classify(model: Path | None) -> None:
    """The front door, with one value for each parameter."""
    clf = GGUFClassifier(
        model,
        labels=labels,
        descriptions={"joy": "happy, delighted"},
        method="max_over_generations",
        aligner="platt",
        n_label_orders=2,
        content_free=("N/A", ""),
        shots=10,
        demonstrations=[("We won!!!", ["joy"])],
        prompt=PromptTemplate(answer_format="list"),
        label_order=labels[::-1],
        max_labels=2,
        threshold={"anger": 0.5, "joy": 0.4, "sadness": 0.5},
        batch_size=16,
        truncation="end",
        lora=[("adapter.gguf", 0.5)],
        memory=tempfile.mkdtemp(),
        random_state=np.random.RandomState(0),
    )
    assert_type(clf.fit(texts, H), GGUFClassifier)
    assert_type(clf.fit(texts, H, distribution=H), GGUFClassifier)
    assert_type(clf.fit(texts, H, [1, 2], distribution=H), GGUFClassifier)
    assert_type(clf.fit().predict_proba(texts), np.ndarray)
    print(clf.diagnose(texts).proba, StepwiseExtractor(labels=labels).fit().diagnose(texts).label_mass)
    assert_type(clf.predict(texts), np.ndarray)
    assert_type(clf.score(texts, H), float)
    assert_type(clf.classes_, np.ndarray)
    asked = {"answer_words": ("yes", "no")}
    GGUFClassifier(labels=labels, method="unary_breakdown", prompt=QuestionTemplate(), method_params=asked)
    GGUFClassifier(
        labels=labels, aligner=PriorCorrection({"anger": 0.1, "joy": 0.2, "sadness": 0.1}), n_label_orders="auto"
    )
    GGUFClassifier("hf:owner/repo/file.gguf", labels={"joy": "happiness", "anger": "rage"}, threshold=[0.5, 0.5])


def classify_one_label() -> None:
    """A single-label task: class names in, class names out."""
    y = ["sadness", "joy"]
    clf = GGUFClassifier(labels={"joy": "joy", "sadness": "grief"}, multi_label=False, method="auto").fit(texts, y)
    assert_type(clf, GGUFClassifier)
    assert_type(clf.predict(texts), np.ndarray)
    assert_type(clf.score(texts, y), float)
    assert_type(clf.classes_, np.ndarray)
    assert_type(GGUFClassifier(multi_label=False).fit(texts, np.array([0, 1])).predict_proba(texts), np.ndarray)
    steps = StepwiseExtractor(labels=["sadness", "joy"]).fit(texts, y).transform(texts)
    assert_type(CompareToNone(multi_label=False).fit(steps, y).predict(steps), np.ndarray)


def extract_and_align() -> None:
    """Extractors, aligners and the functions on arrays below them."""
    steps = StepwiseExtractor(labels=labels, shots=2).fit(texts, H).transform(texts)
    assert_type(steps, np.ndarray)
    hidden = HiddenStateExtractor(labels=labels, layer=0.5, pooling="mean").fit().transform(texts)
    assert_type(EmbeddingExtractor("model.gguf", pooling="cls", normalize=False).fit().transform(texts), np.ndarray)
    unary = UnaryExtractor(labels=labels, prompt=QuestionTemplate(), answer_words=("yes", "no")).fit()
    assert_type(unary, UnaryExtractor)
    pairs = PairwiseExtractor(labels=np.array(labels), both_orders=False).fit().transform(texts)
    marginal = MarginalExtractor(labels=labels, min_probability=0.01).fit()
    assert_type(marginal.predict_proba(texts), np.ndarray)
    assert_type(ContextualCalibration(StepwiseExtractor(labels=labels)).fit().transform(texts), np.ndarray)
    assert_type(unary.get_feature_names_out(), np.ndarray)

    assert_type(MaxOverGenerations().fit(steps).predict_proba(steps), np.ndarray)
    assert_type(CompareToNone(multi_label=False).fit(steps), CompareToNone)
    assert_type(HardPredictions(eps=1e-6).fit(steps).transform(steps), np.ndarray)
    assert_type(BradleyTerry(outcome="hard", l2=0.1).fit(pairs).predict(pairs), np.ndarray)
    assert_type(UnaryBreakdown().fit(unary.transform(texts)), UnaryBreakdown)
    assert_type(ScalingAligner("beta", C=1.0).fit(steps, H, sample_weight=[1, 2]), ScalingAligner)
    assert_type(LinearProbe(0.5, random_state=0).fit(hidden, H).predict_proba(hidden), np.ndarray)
    assert_type(max_over_generations(steps), np.ndarray)
    assert_type(compare_to_none(steps), np.ndarray)
    assert_type(generated_labels(steps), np.ndarray)
    assert_type(label_sets(steps), np.ndarray)
    assert_type(bradley_terry_scores(pairs), np.ndarray)


def score(clf: GGUFClassifier, steps: np.ndarray) -> dict[str, Any]:
    """Metrics, scorers, tables and data."""
    proba = clf.predict_proba(texts)
    assert_type(nll(H, proba), float)
    assert_type(l1_distance(H, proba), float)
    assert_type(example_f1(H, proba, sample_weight=[1, 2]), float)
    assert_type(entropy_correlation(H, proba), float)
    assert_type(scorers(), dict[str, Any])
    print(nll_scorer(clf, texts, H), step_shape(steps), second_ranked(steps, as_frame=True))
    print(annotator_distribution([{"ann": ["joy"], "bob": []}], labels=labels).soft, make_boxes(), fetch_goemotions())
    train, test = paper_split(H, n_test=1)
    assert_type(train, np.ndarray)
    table: dict[str, Any] = compare_methods(texts, H, ["unary_breakdown", "linear_probe"], estimator=clf, cv=2)
    return table


def draw(clf: GGUFClassifier, steps: np.ndarray) -> None:
    """Displays."""
    display = StepsDisplay.from_predictions(steps[0], labels=labels, text=texts[0])
    assert_type(display, StepsDisplay)
    assert_type(display.plot(sort=False), StepsDisplay)
    assert_type(SpikinessDisplay.from_estimator(clf, texts), SpikinessDisplay)
    assert_type(DistributionDisplay.from_estimator(clf, texts, H), DistributionDisplay)
    assert_type(ReliabilityDisplay.from_predictions(H, H, labels=labels, n_bins=3), ReliabilityDisplay)
    assert_type(MethodComparisonDisplay.from_predictions(H, {"mine": H}), MethodComparisonDisplay)
    assert_type(AnnotationCurveDisplay([10], {"mine": [0.5]}).plot(), AnnotationCurveDisplay)


def stream(clf: GGUFClassifier) -> Iterator[np.ndarray]:
    """Chunks."""
    for part in predict_chunks(clf, [texts, texts], "folder"):
        assert_type(part, np.ndarray)
    yield from read_chunks("folder")
    skmlmc.clear_models()

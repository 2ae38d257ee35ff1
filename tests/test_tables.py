"""Every way in which a table comes in, times every kind of table: right numbers under right names, or a clear error."""

import re
import warnings
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
from campaigns import sampled
from ecosystem_data import LABELS, TEXTS, H, N, Y, classifier, extractor, label_pipeline
from inside import labelled
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array, dok_array
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import make_pipeline

from skmlmc import (
    BradleyTerry,
    CompareToNone,
    HardPredictions,
    LinearProbe,
    MaxOverGenerations,
    PairwiseExtractor,
    ScalingAligner,
    UnaryBreakdown,
    UnaryExtractor,
    compare_methods,
)
from skmlmc.align import max_over_generations
from skmlmc.analysis import accuracy_by_step, multilabel_share, probe_own_labels
from skmlmc.datasets import annotator_distribution, paper_split
from skmlmc.metrics import (
    entropy_correlation,
    entropy_correlation_scorer,
    example_f1,
    l1_distance,
    manhattan_distance,
    manhattan_scorer,
    nll,
    scorers,
)
from skmlmc.plots import (
    DistributionDisplay,
    MethodComparisonDisplay,
    ReliabilityDisplay,
    SpikinessDisplay,
    StepsDisplay,
)
from skmlmc.streaming import predict_chunks, read_chunks

# Said of every table y in another order than labels: see test_scikit_learns_own_scorers_go_by_place.
pytestmark = pytest.mark.filterwarnings("ignore:The columns of y are")
OTHER = ["sadness", "joy", "anger"]
STRANGERS = {"joy": "mirth", "anger": "anger", "sadness": "grief"}
P = np.random.default_rng(1).uniform(0.02, 0.98, (N, 3))


def frame(values):
    return pd.DataFrame(np.asarray(values, dtype=float), columns=LABELS)


def levels(values, *names):
    return frame(values)[OTHER].set_axis(pd.MultiIndex.from_arrays(names), axis=1)


def missing(values):
    return frame(values)[OTHER].astype("Float64").where(np.arange(len(values))[:, None] + np.zeros(3) != 0)


def arrow(values, names=OTHER):
    return pytest.importorskip("pyarrow").table({name: frame(values)[name].to_numpy() for name in names})


def dask(values):
    return pytest.importorskip("dask.dataframe").from_pandas(frame(values)[OTHER], npartitions=1)


# What is to be expected of a kind: its columns have names; or their place alone counts; or they have the labels in one
# level of which nothing but the labels says so; or names that are no labels, or not all of them; or an error.
NAMES, PLACE, LEVELS, STRANGE, FEWER = "names", "place", "levels", "strange", "fewer"
KINDS = {
    "numpy": (np.array, PLACE),
    "list": (lambda values: np.asarray(values).tolist(), PLACE),
    "pandas without names": (pd.DataFrame, PLACE),
    "sparse": (csr_array, PLACE),
    "sparse dictionary of keys": (dok_array, PLACE),
    "pandas": (frame, NAMES),
    "pandas permuted": (lambda values: frame(values)[OTHER], NAMES),
    "pandas, other index": (lambda values: frame(values)[OTHER].set_axis(range(len(values), 0, -1)), NAMES),
    "pandas MultiIndex": (lambda values: levels(values, ["v"] * 3, OTHER), NAMES),
    "pandas MultiIndex, labels first": (lambda values: levels(values, OTHER, [0] * 3), NAMES),
    "pandas MultiIndex, two vary": (lambda values: levels(values, ["a", "b", "c"], OTHER), LEVELS),
    "pandas categories as columns": (
        lambda values: frame(values)[OTHER].set_axis(pd.CategoricalIndex(OTHER), axis=1),
        NAMES,
    ),
    "pandas nullable": (lambda values: frame(values)[OTHER].astype("Float64"), NAMES),
    "polars": (lambda values: pl.DataFrame(frame(values).to_dict("list")), NAMES),
    "polars permuted": (lambda values: pl.DataFrame(frame(values)[OTHER].to_dict("list")), NAMES),
    "pyarrow": (lambda values: arrow(values, LABELS), NAMES),
    "pyarrow permuted": (arrow, NAMES),
    "labelled": (lambda values: labelled(np.asarray(values)[:, [2, 0, 1]], None, OTHER, None), NAMES),
    "pandas, strangers": (lambda values: frame(values)[OTHER].rename(columns=STRANGERS), STRANGE),
    "polars, strangers": (
        lambda values: pl.DataFrame(frame(values)[OTHER].rename(columns=STRANGERS).to_dict("list")),
        STRANGE,
    ),
    "pandas, one column less": (lambda values: frame(values)[["sadness", "joy"]], FEWER),
    "masked": (lambda values: np.ma.masked_array(values, mask=np.asarray(values) > 0.9), "masked array"),
    "nothing masked": (np.ma.array, "masked array"),
    "masked rows": (lambda values: [np.ma.masked_array(row, mask=[1, 0, 0]) for row in values], "masked array"),
    "pandas nullable, missing": (missing, "NaN"),
    "polars, missing": (lambda values: pl.from_pandas(missing(values)), "NaN"),
    "pandas, one name twice": (
        lambda values: frame(values).set_axis(["joy", "anger", "joy"], axis=1),
        "'joy' comes twice",
    ),
    "pandas, numbers permuted": (lambda values: pd.DataFrame(values)[[2, 0, 1]], "column names .* all str"),
    "pandas, names and numbers": (
        lambda values: frame(values).set_axis(["joy", 1, 2], axis=1),
        "column names .* all str",
    ),
    "pandas MultiIndex, nobody knows": (lambda values: levels(values, [*"abc"], [*"xyz"]), "several levels"),
    "rows of mappings": (lambda values: frame(values).to_dict("records"), "mappings"),
    "rows of Series": (lambda values: [row for _, row in frame(values)[OTHER].iterrows()], "rows with names"),
    "rows of tuples with names": (lambda values: list(frame(values)[OTHER].itertuples(index=False)), "rows with names"),
    "rows of structs": (lambda values: pl.from_pandas(frame(values)[OTHER]).to_struct(), "rows with names"),
    "mapping of columns": (lambda values: frame(values).to_dict("list"), "mappings"),
    "dask": (dask, r"in memory: call \.compute"),
    "polars, lazy": (lambda values: pl.LazyFrame(frame(values).to_dict("list")), r"in memory: call .*\.collect"),
}


class Way(NamedTuple):
    """A way in: what it makes of a table, from label to numbers, and of which numbers the table is made."""

    run: Any
    values: np.ndarray = H
    knows: bool = True  # which labels there must be, so that one of several levels of columns can be told
    free: bool = False  # to have other labels
    place: str = ""  # the error where columns have no names
    sparse: str = ""  # the error where the table is sparse


class Names(dict):
    """Numbers by label."""

    def __init__(self, labels, values):
        super().__init__(zip(labels, np.asarray(values).T, strict=True))


def fitted_aligner(aligner):
    return lambda table, _: Names(*(lambda a: (a.labels_, a.predict_proba(table)))(aligner().fit(table, frame(H))))


def predicting(aligner):
    return lambda table, _: Names(LABELS, aligner().fit(frame(P), frame(H)).predict_proba(table))


def transformed(aligner):
    def run(table, _):
        out = aligner().fit(frame(P), frame(H)).set_output(transform="pandas").transform(table)
        return Names(out.columns, out)

    return run


def y_of(aligner):
    def run(table, _):
        fitted = aligner().fit(frame(P), table)
        return Names(fitted.labels_, fitted.predict_proba(P))

    return run


def shown(display, labels=None):
    labels = display.labels if labels is None else labels
    return {**Names(labels, display.y_true), **{f"{k} pred": v for k, v in Names(labels, display.y_pred).items()}}


def reliability(display):
    curves = dict(zip(display.labels, display.curves, strict=True))
    return {name: [*curve.prob_pred, *curve.prob_true] for name, curve in curves.items()}


def scores(row):
    return {name: row[name] for name in ("nll", "l1", "example_f1")}


def shown_labels(extractor):
    """Which demonstrations have a label."""
    shown = sorted(extractor.demonstrations_)
    return Names(extractor.labels_, [[label in labels for label in extractor.labels_] for _, labels in shown])


def named(classifier, X=TEXTS):
    return Names(classifier.labels_, classifier.predict_proba(X))


def steps_display(table, tools):
    display = StepsDisplay.from_predictions(tools.steps[[0]], y_true=table, proba=frame(P)[:1])
    return Names(display.labels, [display.y_true])


def compared(table, tools):
    methods = {"ours": tools.clf, "other order": tools.other}
    scores, proba = compare_methods(TEXTS, table, methods, cv=2, return_proba=True)
    found = {name: scores[name] for name in ("nll", "l1", "example_f1")}
    for row, values in proba.items():
        found |= {f"{row} {label}": numbers for label, numbers in Names(values.labels, values).items()}
    return found


def base_rates(proba):
    assert proba["a"].labels == proba["constant base rate"].labels
    return Names(proba["a"].labels, proba["constant base rate"])


METRICS = {f.__name__: f for f in (nll, l1_distance, example_f1, manhattan_distance, entropy_correlation)}
SCORERS = {**scorers(), "manhattan": manhattan_scorer, "entropy_correlation": entropy_correlation_scorer}
ALIGNERS = {
    "UnaryBreakdown": UnaryBreakdown,
    "platt": ScalingAligner,
    "isotonic": lambda: ScalingAligner("isotonic"),
    "matrix": lambda: ScalingAligner("matrix", C=1.0),
    "LinearProbe": lambda: LinearProbe(n_components=None, C=1.0),
}
DENSE = "[Ss]parse data was passed"
WAYS = {
    "classifier.fit, y": Way(lambda t, k: named(classifier(k.model, aligner="platt").fit(TEXTS, t))),
    "classifier.fit, distribution": Way(
        lambda t, k: named(classifier(k.model, aligner="platt").fit(TEXTS, Y, distribution=t))
    ),
    "classifier.fit, labels from y": Way(
        lambda t, k: shown_labels(classifier(k.model, labels=None, shots=6, random_state=0).fit(TEXTS, t)),
        knows=False,
        free=True,
        place="Got labels=None",
    ),
    "extractor.fit, y": Way(
        lambda t, k: {"": extractor(k.model, shots=4, random_state=0).fit(TEXTS, t).demonstrations_}
    ),
    "extractor.fit, distribution": Way(
        lambda t, k: {"": extractor(k.model, shots=4, random_state=0).fit(TEXTS, Y, distribution=t).demonstrations_}
    ),
    "pipeline.fit, y": Way(lambda t, k: named(label_pipeline(k.model, ScalingAligner()).fit(TEXTS, t)[-1], k.steps)),
    "classifier.score": Way(lambda t, k: {"": k.clf.score(TEXTS, t)}),
    "compare_methods": Way(compared, place="same order of labels"),
    "compare_methods, labels from y": Way(
        lambda t, k: base_rates(compare_methods(TEXTS, t, {"a": k.unnamed}, cv=2, return_proba=True)[1]),
        knows=False,
        free=True,
        place="Got labels=None",
    ),
    "accuracy_by_step": Way(lambda t, k: accuracy_by_step(k.steps, t, min_labels=1)),
    "probe_own_labels": Way(lambda t, k: probe_own_labels(P, k.steps, t, cv=2, probe=LinearProbe(C=1.0))),
    "multilabel_share": Way(
        lambda t, k: multilabel_share(extractor(k.model), TEXTS, t, shares=[0.5], shots=4, random_state=0)
    ),
    "paper_split": Way(lambda t, k: {"": paper_split(t, n_test=6, random_state=0)[0]}, knows=False, free=True),
    "StepsDisplay, y_true": Way(steps_display, H[:1]),
    "DistributionDisplay, y_true": Way(
        lambda t, k: shown(DistributionDisplay.from_predictions(t, frame(P[:5]))), H[:5]
    ),
    "DistributionDisplay, y_pred": Way(
        lambda t, k: shown(DistributionDisplay.from_predictions(frame(H[:5]), t)), P[:5]
    ),
    "DistributionDisplay, labels": Way(
        lambda t, k: shown(DistributionDisplay.from_predictions(t, P[:5], labels=LABELS)), H[:5]
    ),
    "DistributionDisplay, estimator": Way(
        lambda t, k: shown(DistributionDisplay.from_estimator(k.clf, TEXTS[:5], t)), H[:5]
    ),
    "ReliabilityDisplay, y_true": Way(lambda t, k: reliability(ReliabilityDisplay.from_predictions(t, frame(P)))),
    "ReliabilityDisplay, y_pred": Way(lambda t, k: reliability(ReliabilityDisplay.from_predictions(frame(H), t)), P),
    "ReliabilityDisplay, estimator": Way(lambda t, k: reliability(ReliabilityDisplay.from_estimator(k.pipe, TEXTS, t))),
    "MethodComparisonDisplay, y_true": Way(
        lambda t, k: scores(MethodComparisonDisplay.from_predictions(t, {"a": frame(P), "b": frame(P)[OTHER]}).rows[1]),
        knows=False,
        place="y_true has no names",
    ),
    "MethodComparisonDisplay, y_pred": Way(
        lambda t, k: scores(MethodComparisonDisplay.from_predictions(frame(H), {"a": t}).rows[0]), P
    ),
}
for name, metric in METRICS.items():
    WAYS[f"{name}, y_true"] = Way(lambda t, k, f=metric: {"": f(t, frame(P))})
    WAYS[f"{name}, y_pred"] = Way(lambda t, k, f=metric: {"": f(frame(H), t)}, P)
for name, scorer in SCORERS.items():
    WAYS[f"scorer {name}"] = Way(lambda t, k, f=scorer: {"": f(k.clf, TEXTS, t)})
    WAYS[f"scorer {name} of a pipeline"] = Way(lambda t, k, f=scorer: {"": f(k.pipe, TEXTS, t)})
for name, make in ALIGNERS.items():
    WAYS[f"{name}.predict_proba, X"] = Way(predicting(make), P, sparse=DENSE)
    WAYS[f"{name}.transform, X"] = Way(transformed(make), P, sparse=DENSE)
    features = name in ("matrix", "LinearProbe")  # the columns of X are no labels
    WAYS[f"{name}.fit, X"] = Way(fitted_aligner(make), P, knows=not features, free=features, sparse=DENSE)
    WAYS[f"{name}.fit, y"] = Way(y_of(make), free=features)
    WAYS[f"{name}.score, y"] = Way(lambda t, k, f=make: {"": f().fit(frame(P), frame(H)).score(P, t)})
for name, make in {"MaxOverGenerations": MaxOverGenerations, "BradleyTerry": BradleyTerry}.items():
    WAYS[f"{name}.fit, y"] = Way(
        lambda t, k, f=make: Names((a := f().fit(k.arrays[f], t)).labels_, a.predict_proba(k.arrays[f]))
    )


@pytest.fixture(scope="module")
def tools(tiny_model):
    aligner = ScalingAligner(threshold={"joy": 0.4, "anger": 0.5, "sadness": 0.6})
    unary = make_pipeline(extractor(tiny_model, UnaryExtractor), aligner)
    steps = extractor(tiny_model).fit().transform(TEXTS)
    return SimpleNamespace(
        model=tiny_model,
        clf=classifier(tiny_model, method="unary_breakdown").fit(),
        other=classifier(tiny_model, method="unary_breakdown", labels=OTHER, aligner="platt"),
        unnamed=classifier(tiny_model, method="unary_breakdown", labels=None),
        pipe=unary.fit(TEXTS, frame(H)[OTHER]),
        steps=steps,
        arrays={
            MaxOverGenerations: steps,
            BradleyTerry: extractor(tiny_model, PairwiseExtractor).fit().transform(TEXTS),
        },
    )


@pytest.fixture(scope="module")
def reference(tools):
    """What each way makes of a plain DataFrame in the order of the labels, or an array of it."""
    known = {}

    def of(name):
        if name not in known:
            way = WAYS[name]
            known[name] = way.run(frame(way.values), tools)
        return known[name]

    return of


def expected_error(way, kind):
    """The message of the error that is due; None for numbers."""
    expected = KINDS[kind][1]
    if expected == PLACE:
        return way.sparse if "sparse" in kind and way.sparse else way.place or None
    if expected == LEVELS:
        return None if way.knows else "several levels"
    if expected in (STRANGE, FEWER):
        return None if way.free else "missing: |the same labels as columns|Expected all methods|one a label|columns"
    return None if expected == NAMES else expected


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize(("name", "kind"), sampled([(name, kind) for name in WAYS for kind in KINDS], 3))
def test_right_numbers_under_right_names_or_an_error(name, kind, tools, reference):
    way, (make, expected) = WAYS[name], KINDS[kind]
    table, message = make(way.values), expected_error(way, kind)
    if message is None and expected == FEWER:
        return fewer_labels(way, table, tools)
    if message is not None:
        with pytest.raises((TypeError, ValueError), match=message):
            way.run(table, tools)
        return None
    got, right = way.run(table, tools), reference(name)
    if expected == STRANGE:
        back = {other: label for label, other in STRANGERS.items()}
        got = {back.get(label, label): numbers for label, numbers in got.items()}
    if set(got) == {"label0", "label1", "label2"}:
        assert expected == PLACE
        got = dict(zip(LABELS, got.values(), strict=True))
    assert set(got) == set(right)
    for label in right:
        same_numbers(got[label], right[label])


def fewer_labels(way, table, tools):
    """A label that is missing is in no result; or the other side has it, and an error says so."""
    if way.values is P:  # features, of which there may be any number
        assert way.run(table, tools)
        return
    try:
        assert not {"anger", "label2"} & set(way.run(table, tools))
    except ValueError as error:
        assert re.search("column", str(error))


def same_numbers(got, right):
    if isinstance(right, (list, tuple)) and right and isinstance(right[0], (str, tuple)):
        assert list(got) == list(right)
    else:
        np.testing.assert_allclose(np.asarray(got, dtype=float), np.asarray(right, dtype=float), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_the_order_of_columns_matters(tools, reference):
    """The same numbers with their columns changed about, and no names, give others: no test above is idle."""
    idle = []
    for name, way in WAYS.items():
        if not way.place:
            got = way.run(np.asarray(way.values)[:, [2, 0, 1]], tools)
            right = reference(name)
            try:
                for (_, mine), label in zip(got.items(), right, strict=True):
                    same_numbers(mine, right[label])
            except AssertionError:
                continue
            idle.append(name)
    # Means over labels do not know which is which; a zero-shot aligner reads nothing but names from y.
    symmetric = {"paper_split", "probe_own_labels", "matrix.fit, X", "LinearProbe.fit, X"}
    symmetric |= {"UnaryBreakdown.fit, y", "MaxOverGenerations.fit, y", "BradleyTerry.fit, y"}
    assert {name for name in idle if "entropy" not in name} == symmetric


@pytest.mark.parametrize(
    "kind", [kind for kind, (_, expected) in KINDS.items() if expected in (NAMES, PLACE) and "sparse" not in kind]
)
@pytest.mark.parametrize("what", ["classifier", "pipeline"])
def test_cross_validation(what, kind, tools):
    estimator = {"classifier": classifier(tools.model, aligner="platt"), "pipeline": tools.pipe}[what]
    found = [
        cross_validate(estimator, TEXTS, y, cv=KFold(2), scoring=SCORERS, error_score="raise")
        for y in (KINDS[kind][0](H), H)
    ]
    for name in SCORERS:
        np.testing.assert_allclose(found[0][f"test_{name}"], found[1][f"test_{name}"], rtol=1e-9)


def test_scikit_learn_refuses_sparse_targets_itself(tools):
    with pytest.raises(ValueError, match="'y' parameter of cross_validate must be an array-like"):
        cross_validate(tools.clf, TEXTS, csr_array(H))


MASKED = {
    "texts": lambda k: k.clf.predict(np.ma.array(TEXTS)),
    "texts of fit": lambda k: clone(k.clf).fit(np.ma.array(TEXTS), H),
    "chunks": lambda k: list(predict_chunks(k.clf, [np.ma.array(TEXTS)])),
    "steps": lambda k: MaxOverGenerations().fit(np.ma.array(k.steps)),
    "steps later": lambda k: MaxOverGenerations().fit(k.steps).predict(np.ma.array(k.steps)),
    "pairs": lambda k: BradleyTerry().fit(np.ma.array(k.arrays[BradleyTerry])),
    "steps of a function": lambda k: max_over_generations(np.ma.array(k.steps)),
    "steps of a table": lambda k: accuracy_by_step(np.ma.array(k.steps), H),
    "steps of a display": lambda k: StepsDisplay.from_predictions(np.ma.array(k.steps[0])),
    "steps of all": lambda k: SpikinessDisplay.from_predictions(np.ma.array(k.steps)),
    "hidden states": lambda k: probe_own_labels(np.ma.array(P), k.steps, H),
    "sample_weight of fit": lambda k: ScalingAligner().fit(P, H, sample_weight=np.ma.array(np.ones(N))),
    "sample_weight of score": lambda k: k.clf.score(TEXTS, H, sample_weight=np.ma.array(np.ones(N))),
    "sample_weight of a metric": lambda k: nll(H, P, sample_weight=np.ma.array(np.ones(N))),
    "threshold": lambda k: UnaryBreakdown(threshold=np.ma.array([0.5, 0.5, 0.5])).fit(P),
    "annotations": lambda k: annotator_distribution(np.ma.array(np.ones((2, 2, 2)))),
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_arrays_are_refused_everywhere(name, tools):
    with pytest.raises(TypeError, match="masked array"):
        MASKED[name](tools)


def test_columns_of_a_distribution_without_names_are_those_of_y(tools):
    """They take the place of the numbers in `y`, so the columns are its own, whatever the order of the labels."""
    y, given = frame(Y)[OTHER], frame(H)[OTHER].to_numpy()
    ways = {
        "classifier": lambda y, h: classifier(tools.model, aligner="platt").fit(TEXTS, y, distribution=h),
        "pipeline": lambda y, h: label_pipeline(tools.model, ScalingAligner()).fit(TEXTS, y, **distribution(h)),
        "shots": lambda y, h: classifier(tools.model, shots=4, random_state=0).fit(TEXTS, y, distribution=h),
    }

    def distribution(h):
        return {f"{step}__distribution": h for step in ("stepwiseextractor", "scalingaligner")}

    def proba(fitted):
        return Names(getattr(fitted, "labels_", LABELS), fitted.predict_proba(TEXTS))

    for name, fit in ways.items():
        expected = proba(fit(Y, H))
        for h in (given, given.tolist(), csr_array(given)):
            got = proba(fit(y, h))
            for label in LABELS:
                np.testing.assert_allclose(got[label], expected[label], rtol=1e-9, err_msg=name)
    with pytest.raises(ValueError, match="Expected distribution to have 3 columns, those of y"):
        classifier(tools.model).fit(TEXTS, y, distribution=H[:, :2])


def test_an_extractors_array_in_another_order(tools):
    """Its labels are found by name, with what the model wrote; others are refused."""
    order = [2, 0, 1]
    answers = extractor(tools.model).fit().transform(TEXTS)
    where = np.append(np.argsort([*order, 3]), -1)
    turned = labelled(np.asarray(answers)[..., [*order, 3]], "steps", OTHER, answers, where[answers.written])
    pairs = tools.arrays[BradleyTerry]
    turned_pairs = labelled(np.asarray(pairs)[:, [*order, 3]][:, :, [*order, 3]], "pairs", OTHER, pairs)
    for aligner, right, other in (
        (MaxOverGenerations(), answers, turned),
        (HardPredictions(), answers, turned),
        (CompareToNone(), answers, turned),
        (ScalingAligner(), answers, turned),
        (ScalingAligner("matrix", C=1.0), answers, turned),
        (BradleyTerry(), pairs, turned_pairs),
    ):
        fitted = aligner.fit(right, frame(H))
        np.testing.assert_allclose(fitted.predict_proba(other), fitted.predict_proba(right), rtol=1e-9)
        assert fitted.transform(other).labels == LABELS
        strangers = labelled(np.asarray(other), other.kind, ["joy", "anger", "fear"], other)
        with pytest.raises(ValueError, match=r"missing: \['sadness'\], unexpected: \['fear'\]"):
            fitted.predict_proba(strangers)
        if not hasattr(fitted, "coef_"):  # whose columns are features
            with pytest.raises(ValueError, match="the same labels as columns"):
                clone(aligner).fit(strangers, frame(H))


@pytest.mark.parametrize("make", ALIGNERS.values(), ids=ALIGNERS)
def test_what_scikit_learn_keeps_of_columns(make):
    aligner = make().fit(frame(P)[OTHER], frame(H))
    assert aligner.n_features_in_ == 3
    assert aligner.feature_names_in_.dtype == object and list(aligner.feature_names_in_) == OTHER
    assert list(aligner.labels_) == (LABELS if hasattr(aligner, "coef_") else OTHER)  # whose columns are features
    with pytest.warns(UserWarning, match="X does not have valid feature names, but"):
        in_place = aligner.predict_proba(P[:, [2, 0, 1]])
    np.testing.assert_array_equal(in_place, aligner.predict_proba(frame(P)))
    with pytest.raises(ValueError, match="X has 2 features, but .* is expecting 3 features as input"):
        clone(aligner).fit(P, H).predict_proba(P[:, :2])
    assert not hasattr(aligner.fit(P, H), "feature_names_in_")


def test_features_with_names_where_fit_had_none():
    for make in (ALIGNERS["matrix"], ALIGNERS["LinearProbe"]):
        with pytest.warns(UserWarning, match="X has feature names, but .* was fitted without feature names"):
            make().fit(P, H).predict_proba(frame(P))


def test_a_threshold_for_each_label_by_the_index_of_a_series(tools):
    by_name = {"joy": 0.1, "anger": 0.5, "sadness": 0.9}
    expected = UnaryBreakdown(by_name).fit(frame(P)).predict(frame(P))
    series = pd.Series(by_name)[OTHER]
    np.testing.assert_array_equal(UnaryBreakdown(series).fit(frame(P)).predict(frame(P)), expected)
    with pytest.raises(ValueError, match=r"missing: \['sadness'\]"):
        UnaryBreakdown(series.rename({"sadness": "grief"})).fit(frame(P))
    display = StepsDisplay.from_predictions(tools.steps[[0]], y_true=frame(H)[OTHER].iloc[0])
    np.testing.assert_array_equal(display.y_true, H[0])


def test_labels_that_contradict_the_arrays_own(tools):
    for call in (
        lambda: StepsDisplay.from_predictions(tools.steps[[0]], labels=OTHER),
        lambda: accuracy_by_step(tools.steps, H, labels=OTHER),
    ):
        with pytest.raises(ValueError, match=r"labels=.* for the columns of steps, but they are"):
            call()


STREAMED = {
    "list": list,
    "numpy": np.array,
    "pandas": lambda texts: pd.Series(texts, index=range(len(texts), 0, -1)),
    "polars": pl.Series,
    "pyarrow": lambda texts: pytest.importorskip("pyarrow").array(texts),
}


@pytest.mark.parametrize("kind", STREAMED)
@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_streaming(kind, output, tools, tmp_path):
    """Rows and columns are those of one call, whatever the container of the chunks and of the output."""
    pipe = clone(tools.pipe).set_output(transform=output).fit(TEXTS, frame(H)[OTHER])
    chunks = [STREAMED[kind](TEXTS[:3]), STREAMED[kind](TEXTS[3:])]
    expected = tools.pipe.predict_proba(TEXTS)
    for method in ("predict_proba", "transform"):
        found = list(predict_chunks(pipe, chunks, tmp_path / method, method=method))
        np.testing.assert_array_equal(np.concatenate(found), expected)
        np.testing.assert_array_equal(np.concatenate(list(read_chunks(tmp_path / method))), expected)
    frames = pd.DataFrame({"text": TEXTS[:3]})
    with pytest.raises(ValueError, match=r"Select the column of texts, e\.g\. X\['text'\]"):
        next(predict_chunks(pipe, [frames]))


def test_labels_that_only_count():
    """Labels may be called label0 and label1, as those are that nobody named: both sides have the same names then."""
    names = ["label0", "label1", "label2"]
    known, counted = P.copy(), labelled(P, "unary", names, None)
    target = pd.DataFrame(H, columns=names)
    other = target[names[::-1]]
    fitted = UnaryBreakdown().fit(counted, other)
    assert fitted.labels_.tolist() == names
    assert_array_equal(fitted.predict_proba(pd.DataFrame(known, columns=names)[names[::-1]]), known)
    assert_array_equal(fitted.predict_proba(labelled(known[:, ::-1], "unary", names[::-1], None)), known)
    assert fitted.score(counted, other) == fitted.score(counted, target)
    for scorer in SCORERS.values():
        assert scorer(fitted, counted, other) == scorer(fitted, counted, target)
    displays = [ReliabilityDisplay.from_estimator(fitted, counted, table) for table in (target, other)]
    assert reliability(displays[0]) == reliability(displays[1])
    assert shown_alike(*(DistributionDisplay.from_estimator(fitted, known[:5], t[:5]) for t in (target, other)))


def shown_alike(one, two):
    one, two = shown(one), shown(two)
    return one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)


def test_a_score_by_place_where_fit_had_no_names():
    fitted = UnaryBreakdown().fit(P)
    assert fitted.score(P, frame(H)) == fitted.score(P, H)
    with pytest.raises(ValueError, match="same labels"):
        fitted.score(P, H[:, :2])


@pytest.mark.filterwarnings("default:The columns of y are")
def test_scikit_learns_own_scorers_go_by_place(tools):
    clf = classifier(tools.model)
    with pytest.warns(UserWarning, match="columns of y are .* scikit-learn's own metrics and scorers go by place"):
        clf.fit(TEXTS, frame(Y)[OTHER])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.set_params(labels=OTHER, label_order=LABELS).fit(TEXTS, frame(Y)[OTHER])
        clf.set_params(labels=LABELS).fit(TEXTS, Y)
    assert clf.labels_.tolist() == LABELS

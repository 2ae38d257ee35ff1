"""pandas, polars and pyarrow as input and output, and text columns beside others."""

import pickle
from collections import deque

import numpy as np
import pandas as pd
import polars as pl
import pytest
from campaigns import sampled
from ecosystem_data import LABELS, TEXTS, H, N, Y, classifier, extractor, label_pipeline, same
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from versions import NEW_SKLEARN

from skmlmc import (
    BradleyTerry,
    ContextualCalibration,
    HiddenStateExtractor,
    MarginalExtractor,
    MaxOverGenerations,
    PairwiseExtractor,
    ScalingAligner,
    StepwiseExtractor,
    UnaryBreakdown,
    UnaryExtractor,
)
from skmlmc.metrics import scorers

pa = pytest.importorskip("pyarrow", reason="comes with the extra 'ecosystem'")
MISSING = [*TEXTS[:5], None, *TEXTS[6:]]
StringDType = getattr(getattr(np, "dtypes", None), "StringDType", None)  # numpy 2

COLUMNS = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "numpy objects": lambda texts: np.array(texts, dtype=object),
    "numpy str": np.array,
    "pandas": pd.Series,
    "pandas, reversed index": lambda texts: pd.Series(texts, index=range(len(texts), 0, -1)),
    "pandas, one index for all": lambda texts: pd.Series(texts, index=[7] * len(texts)),
    "pandas objects": lambda texts: pd.Series(texts, dtype=object),
    "pandas string": lambda texts: pd.Series(texts, dtype="string"),
    "pandas string on pyarrow": lambda texts: pd.Series(texts, dtype="string[pyarrow]"),
    "pandas on pyarrow": lambda texts: pd.Series(texts, dtype=pd.ArrowDtype(pa.string())),
    "pandas on pyarrow, large": lambda texts: pd.Series(texts, dtype=pd.ArrowDtype(pa.large_string())),
    "pandas categories": lambda texts: pd.Series(texts, dtype="category"),
    "pandas array": lambda texts: pd.Series(texts, dtype="string").array,
    "pandas Categorical": pd.Categorical,
    "pandas Index": pd.Index,
    "polars": pl.Series,
    "polars categories": lambda texts: pl.Series(texts, dtype=pl.Categorical),
    "polars Enum": lambda texts: pl.Series(texts, dtype=pl.Enum(sorted({t for t in texts if t is not None}))),
    "pyarrow": pa.array,
    "pyarrow chunks": lambda texts: pa.chunked_array([texts[:3], texts[3:]]),
    "pyarrow dictionary": lambda texts: pa.array(texts).dictionary_encode(),
}
if StringDType is not None:
    COLUMNS["numpy StringDType"] = lambda texts: np.array(texts, dtype=StringDType(na_object=None))

FRAME = pd.DataFrame(Y, columns=LABELS)
TARGETS = {
    "array": Y,
    "list": Y.tolist(),
    "tuple": tuple(map(tuple, Y.tolist())),
    "float16": Y.astype(np.float16),
    "sparse array": sparse.csr_array(Y),
    "sparse matrix": sparse.csc_matrix(Y),
}
NAMED_TARGETS = {
    "pandas": FRAME,
    "pandas bool": FRAME.astype(bool),
    "pandas nullable bool": FRAME.astype("boolean"),
    "pandas nullable int": FRAME.astype("Int8"),
    "pandas nullable float": FRAME.astype("Float32"),
    "pandas on pyarrow": FRAME.astype("int64[pyarrow]"),
    "pandas bool on pyarrow": FRAME.astype(bool).astype("bool[pyarrow]"),
    "pandas categories": FRAME.astype("category"),
    "pandas sparse": pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(Y), columns=LABELS),
    "pandas, other index": FRAME.set_axis(range(N, 0, -1)),
    "pandas, categorical columns": FRAME.set_axis(pd.CategoricalIndex(LABELS), axis=1),
    "pandas, other order": FRAME[["sadness", "joy", "anger"]],
    "polars": pl.DataFrame(FRAME.to_dict("list")),
    "polars bool": pl.DataFrame(FRAME.astype(bool).to_dict("list")),
    "polars, other order": pl.DataFrame(FRAME.to_dict("list"))[["anger", "sadness", "joy"]],
    "pyarrow": pa.table(FRAME.to_dict("list")),
    "pyarrow, other order": pa.table(FRAME.to_dict("list")).select(["anger", "sadness", "joy"]),
}
ALL_TARGETS = TARGETS | NAMED_TARGETS
ROW_MISSING = {
    "pandas": FRAME.astype(float).where(FRAME.index.to_numpy()[:, None] + np.zeros((1, 3)) != 4),
    "pandas nullable": FRAME.astype("Int8").where(FRAME.index.to_numpy()[:, None] + np.zeros((1, 3)) != 4),
    "pandas on pyarrow": FRAME.astype("int64[pyarrow]").where(FRAME.index.to_numpy()[:, None] + np.zeros((1, 3)) != 4),
    "polars": pl.DataFrame({name: [v if i != 4 else None for i, v in enumerate(FRAME[name])] for name in LABELS}),
    "pyarrow": pa.table({name: [v if i != 4 else None for i, v in enumerate(FRAME[name])] for name in LABELS}),
}


@pytest.fixture(scope="module")
def expected(tiny_model):
    """Few-shot probabilities from lists and arrays."""
    return classifier(tiny_model, shots=3, random_state=0).fit(TEXTS, Y).predict_proba(TEXTS)


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_texts(tiny_model, expected, column):
    clf = classifier(tiny_model, shots=3, random_state=0).fit(column(TEXTS), Y)
    assert same(clf.predict_proba(column(TEXTS)), expected)
    assert all(type(text) is str for text, _ in clf.demonstrations_)


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in ("numpy str", "pandas Index")])
def test_a_missing_text_is_named(tiny_model, name):
    clf = classifier(tiny_model).fit()
    with pytest.raises(TypeError, match=r"element 5 is .*Drop missing texts or replace them with ''"):
        clf.predict_proba(COLUMNS[name](MISSING))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame({"words": TEXTS}), r"got a DataFrame\. Select the column of texts, e\.g\. X\['words'\]"),
        (pl.DataFrame({"words": TEXTS}), r"got a DataFrame\. Select the column of texts, e\.g\. X\['words'\]"),
        (pa.table({"words": TEXTS}), r"got a Table\. Select the column of texts, e\.g\. X\['words'\]"),
        (pl.LazyFrame({"words": TEXTS}), "got LazyFrame"),
        (pl.col("words"), "got Expr"),
        (pd.Series(TEXTS).groupby(pd.Series(TEXTS)), "got SeriesGroupBy"),
        (np.array(TEXTS)[:, None], r"X\[:, 0\]"),
        (pd.Series(range(3)), "element 0 is 0 of type int"),
        (pl.Series([b"We won"]), "element 0 is b'We won' of type bytes"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_other_things_are_refused(tiny_model, X, message):
    with pytest.raises((TypeError, ValueError), match=message):
        classifier(tiny_model).fit().predict_proba(X)


@pytest.mark.filterwarnings("ignore:The columns of y are")
@pytest.mark.parametrize("y", sampled(map(pytest.param, ALL_TARGETS.values()), 3), ids=ALL_TARGETS)
def test_targets(tiny_model, expected, y):
    clf = classifier(tiny_model, shots=3, random_state=0).fit(TEXTS, y)
    assert same(clf.predict_proba(TEXTS), expected)
    assert clf.score(TEXTS, y) == clf.score(TEXTS, Y)
    aligned = classifier(tiny_model, aligner="platt").fit(TEXTS, y).predict_proba(TEXTS)
    assert same(aligned, classifier(tiny_model, aligner="platt").fit(TEXTS, Y).predict_proba(TEXTS))


@pytest.mark.parametrize("y", NAMED_TARGETS.values(), ids=NAMED_TARGETS)
def test_columns_name_the_labels(tiny_model, y):
    clf = classifier(tiny_model, labels=None).fit(TEXTS, y)
    names = list(y.column_names) if isinstance(y, pa.Table) else list(y.columns)
    assert list(clf.labels_) == names
    assert all(type(name) is str for name in clf.labels_)


@pytest.mark.parametrize("y", ROW_MISSING.values(), ids=ROW_MISSING)
def test_a_missing_target_is_named(tiny_model, y):
    with pytest.raises(ValueError, match="row 4, column 'joy'"):
        classifier(tiny_model, aligner="platt").fit(TEXTS, y)


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize("targets", [Y, H], ids=["indicator", "soft"])
def test_cross_validation_of_frames(tiny_model, library, targets):
    texts, y = library.Series(TEXTS), library.DataFrame(dict(zip(LABELS, targets.T, strict=True)))
    params = {"shots": 3, "random_state": 0, "aligner": "platt"}
    frames, arrays = (
        cross_validate(classifier(tiny_model, labels=labels, **params), *data, cv=3, scoring=scorers())
        for labels, data in ((None, (texts, y)), (LABELS, (TEXTS, targets)))
    )
    for name in scorers():
        assert same(frames[f"test_{name}"], arrays[f"test_{name}"])


TWO_DIMENSIONAL = {
    "UnaryExtractor": (UnaryExtractor, LABELS),
    "MarginalExtractor": (MarginalExtractor, LABELS),
    "HiddenStateExtractor": (HiddenStateExtractor, [f"hidden{k}" for k in range(32)]),
}


@pytest.mark.parametrize("output", ["pandas", "polars"])
@pytest.mark.parametrize("name", [*TWO_DIMENSIONAL, "ContextualCalibration", "pipeline"])
@pytest.mark.parametrize("how", ["set_output", "config"])
def test_frames_out(tiny_model, output, name, how):
    if name in TWO_DIMENSIONAL:
        cls, columns = TWO_DIMENSIONAL[name]
        make = lambda: extractor(tiny_model, cls)  # noqa: E731
    else:
        columns = LABELS
        make = {
            "ContextualCalibration": lambda: ContextualCalibration(extractor(tiny_model, UnaryExtractor)),
            "pipeline": lambda: label_pipeline(tiny_model),
        }[name]
    array = make().fit(TEXTS, FRAME).transform(TEXTS)
    X = pd.Series(TEXTS, index=range(50, 50 + N))
    with config_context(transform_output=output if how == "config" else "default"):
        transformer = make().set_output(transform=output) if how == "set_output" else make()
        frame = transformer.fit(X, FRAME).transform(X)
    assert isinstance(frame, pd.DataFrame if output == "pandas" else pl.DataFrame)
    assert list(frame.columns) == columns == list(transformer.get_feature_names_out())
    assert same(frame.to_numpy(), array)
    if output == "pandas":
        assert list(frame.index) == list(X.index)


def pairs_pipeline(model):
    return make_pipeline(extractor(model, PairwiseExtractor), BradleyTerry())


def calibrated_pipeline(model):
    return make_pipeline(ContextualCalibration(extractor(model)), MaxOverGenerations())


@pytest.mark.parametrize("how", sampled(["set_output", "config", "cached"]))
@pytest.mark.parametrize("build", [label_pipeline, pairs_pipeline, calibrated_pipeline])
def test_rows_of_a_shuffled_frame_stay_together(tiny_model, tmp_path, build, how):
    """pandas joins columns by index; the array between the pipeline's steps has none of its own."""
    order = np.random.default_rng(1).permutation(N)
    data = pd.DataFrame({"text": TEXTS, "number": range(N)}).iloc[order]
    pipeline = build(tiny_model).set_params(memory=str(tmp_path) if how == "cached" else None)
    columns = ColumnTransformer(
        [
            ("llm", pipeline, "text"),
            ("words", extractor(tiny_model, UnaryExtractor), "text"),
            ("rest", "passthrough", [1]),
        ]
    )
    expected = columns.fit(data).transform(data)
    with config_context(transform_output="pandas" if how == "config" else "default"):
        for _ in range(2):  # fitted anew, and read from the pipeline's cache
            columns = clone(columns) if how == "config" else clone(columns).set_output(transform="pandas")
            fitted = columns.fit_transform(data)
            frame = columns.transform(data)
            assert same(fitted.to_numpy(), expected)
            assert same(frame.to_numpy(), expected)
            assert list(frame.index) == list(order)
    assert list(expected[:, -1]) == list(order)


@pytest.mark.parametrize("cls", [StepwiseExtractor, PairwiseExtractor])
def test_arrays_that_remember_an_index(tiny_model, cls):
    transformer, index = extractor(tiny_model, cls).fit(), range(50, 50 + N)
    plain, indexed = transformer.transform(pd.Series(TEXTS)), transformer.transform(pd.Series(TEXTS, index=index))
    assert plain.index is None and plain.labels == LABELS
    assert cls(tiny_model).fit(TEXTS, FRAME).transform(TEXTS).labels == LABELS
    for array in (indexed, pickle.loads(pickle.dumps(indexed))):
        assert isinstance(array, np.ndarray)
        assert list(array.index) == list(index) and array.labels == LABELS
        assert same(array, plain)
        assert list(array.copy().index) == list(index) and list(array[1:3].index) == [51, 52]
        assert array[1:3, ...].labels == array.copy().labels == LABELS
        for computed in (array[0], array[:, 0], array[:, [0], [0]], array + 1, np.nanmax(array, axis=1)):
            assert type(computed) is np.ndarray, "names belong to rows"
        assert isinstance(array.sum(), np.floating)
        assert same(array[3], plain[3])


@pytest.mark.parametrize("make", [StepwiseExtractor, PairwiseExtractor])
@pytest.mark.parametrize("wrapped", [False, True])
def test_three_dimensions_stay_arrays_and_have_names(tiny_model, make, wrapped):
    def build():
        return ContextualCalibration(extractor(tiny_model, make)) if wrapped else extractor(tiny_model, make)

    expected = build().fit(TEXTS).transform(TEXTS)
    transformer = build().set_output(transform="pandas").fit(TEXTS)
    got = transformer.set_output(transform="polars").transform(TEXTS)
    assert isinstance(got, np.ndarray)
    assert same(got, expected)
    assert list(transformer.get_feature_names_out()) == [*LABELS, "none"]
    assert len(transformer.get_feature_names_out()) == got.shape[-1]


def test_an_output_that_was_set_is_set_after_fit_too(tiny_model):
    transformer = ContextualCalibration(extractor(tiny_model, UnaryExtractor)).fit(TEXTS)
    assert isinstance(transformer.transform(TEXTS), np.ndarray)
    assert isinstance(transformer.set_output(transform="pandas").transform(TEXTS), pd.DataFrame)
    assert isinstance(transformer.set_output(transform="default").transform(TEXTS), np.ndarray)


TABLES = {
    "pandas": pd.DataFrame({"length": [len(t) for t in TEXTS], "text": TEXTS}, index=range(7, 7 + N)),
    "pandas on pyarrow": pd.DataFrame(
        {"length": [len(t) for t in TEXTS], "text": pd.Series(TEXTS, dtype=pd.ArrowDtype(pa.string()))}
    ),
    "polars": pl.DataFrame({"length": [len(t) for t in TEXTS], "text": TEXTS}),
    "numpy": np.array([[len(t) for t in TEXTS], TEXTS], dtype=object).T,
}


@pytest.mark.parametrize("output", sampled(["default", "pandas", "polars"]))
@pytest.mark.parametrize("key", ["text", 1, lambda table: "text"], ids=["name", "index", "callable"])
@pytest.mark.parametrize("table", TABLES)
def test_a_column_of_texts(tiny_model, table, key, output):
    if table == "numpy" and key != 1:
        key = -1  # an array has no names
    data, rest = TABLES[table], [0] if table == "numpy" else ["length"]
    columns = ColumnTransformer([("llm", label_pipeline(tiny_model), key), ("rest", "passthrough", rest)])
    X = columns.set_output(transform=output).fit_transform(data, FRAME)
    values = np.asarray(X)
    assert same(values[:, :3].astype(float), label_pipeline(tiny_model).fit(TEXTS).transform(TEXTS))
    assert list(values[:, 3]) == [len(text) for text in TEXTS]
    if output != "default":
        assert list(X.columns)[:3] == [f"llm__{label}" for label in LABELS]
    assert same(np.asarray(columns.transform(data)).astype(float), values.astype(float))


def test_a_list_of_one_column_says_what_to_select(tiny_model):
    columns = ColumnTransformer([("llm", label_pipeline(tiny_model), ["text"])])
    with pytest.raises(ValueError, match=r"Select the column of texts, e\.g\. X\['text'\]"):
        columns.fit(TABLES["pandas"])


def test_steps_alone_are_no_columns(tiny_model):
    for union in (
        ColumnTransformer([("llm", extractor(tiny_model), "text")]),
        make_pipeline(FunctionTransformer(lambda data: data["text"]), FeatureUnion([("llm", extractor(tiny_model))])),
    ):
        with pytest.raises(ValueError, match="2D|3 dimensions"):
            union.fit_transform(TABLES["pandas"])


@pytest.mark.parametrize("table", ["pandas", "polars"])
def test_a_pipeline_on_a_table(tiny_model, table):
    data = TABLES[table]
    columns = ColumnTransformer(
        [("llm", label_pipeline(tiny_model), "text"), ("tfidf", TfidfVectorizer(), "text")], sparse_threshold=0
    )
    model = make_pipeline(columns, OneVsRestClassifier(LogisticRegression()))
    result = cross_validate(model, data, Y, cv=3, scoring=scorers(), error_score="raise")
    assert np.isfinite(result["test_nll"]).all()
    bare = make_pipeline(FunctionTransformer(lambda data: data["text"]), classifier(tiny_model)).fit(data)
    assert same(bare.predict_proba(data), classifier(tiny_model).fit().predict_proba(TEXTS))


@pytest.mark.parametrize("output", ["pandas", "polars"] if NEW_SKLEARN else ["pandas"])
def test_nested_unions_keep_the_labels_names(tiny_model, output):
    inner = FeatureUnion(
        [
            ("pairs", make_pipeline(extractor(tiny_model, PairwiseExtractor), BradleyTerry())),
            ("steps", label_pipeline(tiny_model)),
            ("words", extractor(tiny_model, UnaryExtractor)),
        ]
    )
    prior = make_pipeline(ContextualCalibration(extractor(tiny_model, UnaryExtractor)), UnaryBreakdown())
    union = FeatureUnion([("all", inner), ("prior", prior)])
    expected = [f"all__{part}__{label}" for part in ("pairs", "steps", "words") for label in LABELS]
    expected += [f"prior__{label}" for label in LABELS]
    frame = union.set_output(transform=output).fit(TEXTS, FRAME).transform(TEXTS)
    assert list(frame.columns) == expected
    assert list(union.get_feature_names_out()) == expected
    aligned = make_pipeline(union, ScalingAligner("matrix", C=1.0)).fit(TEXTS, FRAME * 1.0)
    assert list(aligned[-1].feature_names_in_) == expected
    assert aligned.predict_proba(TEXTS).shape == (N, 3)

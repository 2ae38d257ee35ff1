import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skmlmc.datasets import annotator_distribution

ROWS = [
    ("b", "ann", ["joy", "love"]),
    ("b", "bob", ["joy"]),
    ("a", "ann", []),
    ("b", "eve", []),
    ("a", "dan", ["love"]),
]
anytime = settings(deadline=None)
LABELS = ["anger", "joy", "love"]
answers = st.lists(st.sampled_from(LABELS), unique=True)
documents = st.lists(st.dictionaries(st.sampled_from("abcde"), answers, min_size=1), min_size=1, max_size=6)


def long_table(mappings):
    return [(f"doc{i}", who, answer) for i, answers in enumerate(mappings) for who, answer in answers.items()]


def cube(mappings):
    """The slow obvious way to an array: NaN everywhere, then one number after the other."""
    values = np.full((len(mappings), 5, len(LABELS)), np.nan)
    for i, given_ in enumerate(mappings):
        for who, answer in given_.items():
            for k, label in enumerate(LABELS):
                values[i, "abcde".index(who), k] = label in answer
    return values


def test_a_long_table_by_hand():
    found = annotator_distribution(ROWS)
    assert found.labels == ["joy", "love"]
    assert found.documents == ["b", "a"]  # in order of first appearance
    assert_allclose(found.soft, [[2 / 3, 1 / 3], [0, 1 / 2]])
    assert_array_equal(found.majority, [[1, 0], [0, 0]])  # a half is no majority
    assert_array_equal(found.n_annotators, [3, 2])
    # joy: 2 of 3 pairs of b differ, none of a; Krippendorff weights documents by their annotators.
    assert_allclose(found.disagreement[0], (3 * 2 / 3 + 2 * 0) / 5)
    assert_allclose(found.agreement[0], 1 - (2 / 5) / (2 * 2 * 3 / (5 * 4)))


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_give_what_rows_give(frame):
    table = frame({"who": [r[1] for r in ROWS], "what": [r[2] for r in ROWS], "doc": [r[0] for r in ROWS]})
    found = annotator_distribution(table, ["love", "joy"], columns=("doc", "who", "what"))
    expected = annotator_distribution(ROWS, ["love", "joy"])
    assert found.documents == expected.documents
    assert found.labels == ["love", "joy"]
    assert_array_equal(found.soft, expected.soft)


COLUMNS = ["text", "rater", "emotion"]


def tidy(mappings):
    """One row a document, annotator and label; an empty answer is a row of its own."""
    return [
        (f"doc{i}", who, label)
        for i, given_ in enumerate(mappings)
        for who, answer in given_.items()
        for label in answer or ["none"]
    ]


def as_table(kind, rows, names=COLUMNS):
    columns = {name: [row[k] for row in rows] for k, name in enumerate(names)} | {"more": [0.5] * len(rows)}
    return {
        "rows": lambda: rows,
        "records": lambda: [dict(zip(names, row, strict=True)) for row in rows],
        "mapping": lambda: columns,
        "pandas": lambda: pd.DataFrame(columns)[["more", *reversed(names)]],
        "pandas categories": lambda: pd.DataFrame(columns, index=[7] * len(rows)).astype({names[2]: "category"}),
        "polars": lambda: pl.DataFrame(columns),
        "pyarrow": lambda: pytest.importorskip("pyarrow").table(columns),
    }[kind]()


@pytest.mark.parametrize("kind", ["rows", "records", "mapping", "pandas", "pandas categories", "polars", "pyarrow"])
@anytime
@given(mappings=documents, random=st.randoms())
def test_a_tidy_table_gives_what_mappings_give(kind, mappings, random):
    expected = annotator_distribution(mappings, LABELS)
    rows = tidy(mappings)
    # The rows of an answer need not stand together, and a label that comes twice counts once.
    later = rows + random.sample(rows, len(rows) // 2)
    later = sorted(later, key=lambda row: (row[0], random.random()))
    for given_ in (rows, later):
        table = as_table(kind, given_)
        found = annotator_distribution(table, LABELS, columns=COLUMNS, tidy=True, none_label="none")
        assert_array_equal(found.soft, expected.soft)
        assert_array_equal(found.n_annotators, expected.n_annotators)
        assert found.documents == [f"doc{i}" for i in range(len(mappings))]


def test_names_of_a_tidy_tables_columns():
    rows = [("d", 1, "joy"), ("d", 1, "anger"), ("d", 2, "joy")]
    by_default = pd.DataFrame(rows, columns=["document", "annotator", "label"])
    assert annotator_distribution(by_default, tidy=True).labels == ["anger", "joy"]
    assert_array_equal(annotator_distribution(by_default, tidy=True).soft, [[0.5, 1]])
    assert annotator_distribution(by_default, ["joy", "anger"], tidy=True).labels == ["joy", "anger"]
    with pytest.raises(ValueError, match=r"no \['label'\] among .*'labels'.*columns=\(document"):
        annotator_distribution(by_default.rename(columns={"label": "labels"}), tidy=True)
    with pytest.raises(ValueError, match="one column 'label', but it has 2"):
        annotator_distribution(pd.concat([by_default, by_default[["label"]]], axis=1), tidy=True)
    with pytest.raises(ValueError, match=r"Row 1: expected a mapping with the keys"):
        annotator_distribution([{"document": 1, "annotator": 1, "label": "joy"}, {"document": 1}], tidy=True)


@pytest.mark.parametrize("kind", ["rows", "records", "mapping", "pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_answer_is_not_an_empty_one(kind, missing):
    rows = [("d", "ann", "joy"), ("d", "bob", missing), ("e", "ann", "joy")]
    if kind in ("polars", "pyarrow") and missing is not None:
        rows[1] = ("d", "bob", None)
    message = r"Row 1: annotator 'bob' of document 'd' has no label.*dropna\(subset=\['emotion'\]\).*none_label='none'"
    with pytest.raises(ValueError, match=message):
        annotator_distribution(as_table(kind, rows), columns=COLUMNS, tidy=True)
    left_out = annotator_distribution(as_table(kind, [rows[0], rows[2]]), columns=COLUMNS, tidy=True)
    assert_array_equal(left_out.soft, [[1], [1]])
    rows[1] = ("d", "bob", "none")
    empty = annotator_distribution(as_table(kind, rows), columns=COLUMNS, tidy=True, none_label="none")
    assert empty.labels == ["joy"]
    assert_array_equal(empty.soft, [[0.5], [1]])


def test_the_word_for_an_empty_answer():
    found = annotator_distribution([{"ann": "neutral", "bob": ["joy"]}, {"ann": []}], none_label="neutral")
    assert found.labels == ["joy"]
    assert_array_equal(found.soft, [[0.5], [0]])
    assert annotator_distribution([{"ann": "neutral"}]).labels == ["neutral"]  # a label like any other
    with pytest.raises(ValueError, match="Document 0, annotator 'ann': expected 'neutral', .* to stand alone"):
        annotator_distribution([{"ann": ["neutral", "joy"]}], none_label="neutral")
    with pytest.raises(ValueError, match="Row 0: expected 'none', .* to stand alone"):
        annotator_distribution([("d", 1, "none"), ("d", 1, "joy")], tidy=True, none_label="none")
    for word in ("", "joy", 3):
        with pytest.raises(ValueError, match="none_label="):
            annotator_distribution([{"ann": ["joy"]}], ["joy"], none_label=word)


def test_rows_of_the_other_form_are_told_apart():
    with pytest.raises(ValueError, match="answers twice .* tidy=True"):
        annotator_distribution([("d", 1, "joy"), ("d", 1, "anger")])
    with pytest.raises(TypeError, match="Row 0: expected one label, a str, .* tidy=False"):
        annotator_distribution([("d", 1, ["joy"])], tidy=True)
    with pytest.raises(TypeError, match="masked array as annotations"):
        annotator_distribution(np.ma.masked_array(np.ones((2, 2, 2)), mask=True))


@pytest.mark.parametrize("kind", ["mapping", "pyarrow"])
def test_tables_with_a_collection_in_each_row(kind):
    found = annotator_distribution(as_table(kind, ROWS), columns=COLUMNS)
    assert_array_equal(found.soft, annotator_distribution(ROWS).soft)


def test_one_label_may_be_a_str_and_a_collection_a_set():
    found = annotator_distribution([("d", 1, "joy"), ("d", 2, {"joy", "love"}), ("d", 3, np.array(["love"]))])
    assert_allclose(found.soft, [[2 / 3, 2 / 3]])


def test_krippendorff_on_his_own_example():
    # "Computing Krippendorff's Alpha-Reliability" (2011), part A: binary data, two observers, no gaps; alpha 0.095.
    meg, owen = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    found = annotator_distribution(np.array([meg, owen], dtype=float).T[:, :, None])
    assert found.agreement[0] == pytest.approx(0.095, abs=5e-4)
    assert found.disagreement[0] == pytest.approx(0.4)


def slow_alpha(mappings, label):
    """Alpha by counting pairs of answers one by one."""
    values = [[label in answer for answer in given_.values()] for given_ in mappings if len(given_) > 1]
    n = sum(map(len, values))
    differ = sum((v[i] != v[j]) / (len(v) - 1) for v in values for i in range(len(v)) for j in range(len(v)) if i != j)
    pooled = [x for v in values for x in v]
    chance = sum(pooled[i] != pooled[j] for i in range(n) for j in range(n) if i != j)
    return (differ / n if n else np.nan), (1 - (n - 1) * differ / chance if chance else np.nan)


@anytime
@given(documents)
def test_agreement_is_that_of_pairs_counted_one_by_one(mappings):
    found = annotator_distribution(mappings, LABELS)
    slow = np.array([slow_alpha(mappings, label) for label in LABELS])
    assert_allclose(found.disagreement, slow[:, 0], atol=1e-12)
    assert_allclose(found.agreement, slow[:, 1], atol=1e-12)


@anytime
@given(documents)
def test_three_forms_of_the_same_answers_agree(mappings):
    by_mapping, by_row, by_array = (annotator_distribution(f(mappings), LABELS) for f in (list, long_table, cube))
    for found in (by_row, by_array):
        for key in ("soft", "majority", "n_annotators", "disagreement", "agreement"):
            assert_array_equal(found[key], by_mapping[key])
    assert by_row.documents == [f"doc{i}" for i in range(len(mappings))]
    assert by_array.documents == by_mapping.documents == list(range(len(mappings)))


@anytime
@given(documents, st.randoms())
def test_aggregation_keeps_its_promises(mappings, random):
    found = annotator_distribution(mappings, LABELS)
    for i, given_ in enumerate(mappings):
        shares = [sum(label in answer for answer in given_.values()) / len(given_) for label in LABELS]
        assert_allclose(found.soft[i], shares)
        assert_array_equal(found.majority[i], [share > 0.5 for share in shares])
    # The order of annotators says nothing, and doubling every answer changes no share.
    rows = long_table(mappings)
    order = sorted(rows, key=lambda row: (row[0], random.random()))
    assert_array_equal(annotator_distribution(order, LABELS).soft, found.soft)
    twice = rows + [(document, who + "'", answer) for document, who, answer in rows]
    assert_array_equal(annotator_distribution(twice, LABELS).soft, found.soft)


def test_missing_annotators_are_no_zeros():
    values = np.array([[[1.0, 0], [np.nan, np.nan]], [[1, 1], [0, 0]]])
    found = annotator_distribution(values)
    assert_array_equal(found.soft, [[1, 0], [0.5, 0.5]])
    assert found.labels == ["label0", "label1"]
    whole = values[1:].astype(int)
    assert_array_equal(annotator_distribution(whole).soft, annotator_distribution(whole.astype(bool)).soft)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([("d", "a", ["joy"]), ("d", "a", [])], r"Row 1: annotator 'a' answers twice on document 'd', first in row 0"),
        ([("d", "a", ["joy"]), ("d", "b")], r"Row 1: expected \(document, annotator, labels\)"),
        ([("d", "a", ["joy"]), 3], r"Row 1: expected \(document, annotator, labels\), but got 3"),
        ([("d", "a", ["joy"]), ("d", None, [])], "Row 1: expected the id of an annotator, but got None"),
        ([(float("nan"), "a", ["joy"])], "Row 0: expected the id of a document, but got nan"),
        ([("d", ["a"], ["joy"])], r"Row 0: expected the id of an annotator, but got \['a'\]"),
        ([("d", "a", ["joy"]), ("d", "b", ["jooy"])], "Row 1: unknown label 'jooy'; expected one of 'joy', 'love'"),
        ([{"a": ["joy"]}, {"b": ["hate"]}], "Document 1, annotator 'b': unknown label 'hate'"),
        ([{"a": ["joy"]}, {}], "Document 1 has no annotators"),
        ([], "0 sample"),
        (np.array([[[np.nan, np.nan]]]), "Document 0 has no annotators"),
        (np.array([[[1, np.nan]]]), "Document 0, annotator 0: expected 0 and 1"),
        (np.array([[[1, 0.5]]]), "Document 0, annotator 0: expected 0 and 1"),
        (np.zeros((1, 2, 3)), "2 labels"),
        (pd.DataFrame({"document": [1], "rater": [1], "labels": [[]]}), r"no \['annotator'\] among"),
    ],
)
def test_bad_answers_are_named(annotations, message):
    with pytest.raises(ValueError, match=message):
        annotator_distribution(annotations, ["joy", "love"])


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([("d", "a", None)], "Row 0: expected a collection of labels.*Leave out the rows of annotators"),
        ([("d", "a", 3)], "Row 0: expected a collection of labels"),
        ([("d", "a", ["joy", 3])], "Row 0: .* the label 3"),
        ([("d", "a", "")], "Row 0: .* the label ''"),
        ([{"a": ["joy"]}, ["joy"]], "Document 1: expected a mapping"),
        ([{"a": 7}], "Document 0, annotator 'a': expected a collection"),
        ("joy", "Expected annotations to be a table"),
        (np.array([[["joy"]]]), "Expected an array of 0, 1 and NaN"),
    ],
)
def test_answers_of_a_wrong_type_are_named(annotations, message):
    with pytest.raises(TypeError, match=message):
        annotator_distribution(annotations)


def test_bad_labels_are_named():
    with pytest.raises(ValueError, match="'joy' comes twice"):
        annotator_distribution(ROWS, ["joy", "joy"])
    with pytest.raises(TypeError, match="expected a sequence of label names"):
        annotator_distribution(ROWS, "joy")
    with pytest.raises(ValueError, match="Pass labels="):
        annotator_distribution([("d", "a", [])])
    with pytest.raises(ValueError, match="the names of document, annotator and labels"):
        annotator_distribution(pd.DataFrame({"document": [1]}), columns="document")

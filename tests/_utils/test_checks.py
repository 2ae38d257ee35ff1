import re
from enum import Enum

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skmlmc._utils.arrays import check_pairs, check_proba, check_sample_weight, check_steps, check_targets
from skmlmc._utils.checks import (
    check_choice,
    check_labels,
    check_positive,
    check_positive_int,
    check_texts,
    check_threshold,
)

NAN = np.nan


class Word(str, Enum):  # noqa: UP042
    JOY = "joy"


@pytest.mark.parametrize(
    "X",
    [
        ["a", "", "é 😀"],
        ("a", "", "é 😀"),
        np.array(["a", "", "é 😀"]),
        np.array(["a", "", "é 😀"], dtype=object),
        pd.Series(["a", "", "é 😀"], index=[7, 7, 3]),
        pd.Series(["a", "", "é 😀"], dtype="string"),
        pd.Series(["a", "", "é 😀"], dtype="category"),
        pd.Index(["a", "", "é 😀"]),
        pl.Series(["a", "", "é 😀"]),
    ],
    ids=lambda X: type(X).__name__,
)
def test_texts_of_every_container(X):
    texts = check_texts(X)
    assert texts == ["a", "", "é 😀"]
    assert {type(text) for text in texts} == {str}


def test_texts_are_plain_str():
    texts = check_texts([np.str_("a"), Word.JOY])
    assert texts == ["a", "joy"]
    assert {type(text) for text in texts} == {str}


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a text", TypeError, r"but got a single str\. Put it in a list: \[X\]"),
        (b"a text", TypeError, "single bytes"),
        (None, TypeError, "got NoneType"),
        (NAN, TypeError, "got float"),
        (np.array("a"), TypeError, r"got ndarray of shape \(\)"),
        ({"a", "b"}, TypeError, "got set.*in the order of the documents"),
        ({"a": 1}, TypeError, "got dict"),
        ((text for text in "ab"), TypeError, "got generator"),
        (sp.csr_array([[1, 0]]), ValueError, r"shape \(1, 2\)"),
        (np.array([["a"], ["b"]]), ValueError, r"shape \(2, 1\)\. Select the column of texts, e\.g\. X\[:, 0\]"),
        (pd.DataFrame({"post": ["a"], "n": [1]}), ValueError, r"got a DataFrame.*X\['post'\]"),
        (pl.DataFrame({"post": ["a"]}), ValueError, r"got a DataFrame.*X\['post'\]"),
        (pd.DataFrame(), ValueError, "got a DataFrame"),
        ([], ValueError, r"Found array with 0 sample\(s\)"),
        (["a", None], TypeError, "element 1 is None of type NoneType. Drop missing texts"),
        (["a", NAN], TypeError, "element 1 is nan of type float. Drop missing texts"),
        (pd.Series(["a", pd.NA], dtype="string"), TypeError, "element 1 is <NA> of type NAType. Drop missing texts"),
        (pl.Series(["a", None]), TypeError, "element 1 is None"),
        (["a", b"b"], TypeError, "element 1 is b'b' of type bytes. Convert it to str"),
        (["a", "b", 3], TypeError, "element 2 is 3 of type int"),
        ([["a"], ["b"]], TypeError, r"element 0 is \['a'\] of type list"),
        (["fine", "a\ud800"], ValueError, r"element 1 has '\\ud800' at character 1"),
    ],
)
def test_texts_refused(X, error, message):
    with pytest.raises(error, match=message):
        check_texts(X)


def test_texts_message_has_the_name():
    with pytest.raises(TypeError, match="Expected demonstrations to be a list"):
        check_texts(None, name="demonstrations")


@pytest.mark.parametrize(
    "labels", [["joy", "anger"], ("joy", "anger"), np.array(["joy", "anger"]), pd.Series(["joy", "anger"])]
)
def test_labels_from_a_sequence(labels):
    checked = check_labels(labels)
    assert list(checked.items()) == [("joy", "joy"), ("anger", "anger")]
    assert {type(word) for pair in checked.items() for word in pair} == {str}


def test_labels_from_a_mapping_keep_order_and_wording():
    labels = {"z": "the last letter", "a": "the first letter"}
    checked = check_labels(labels)
    assert list(checked.items()) == list(labels.items())
    assert checked is not labels


def test_names_that_differ_in_case_need_different_wordings():
    assert check_labels({"US": "the country", "us": "we"}) == {"US": "the country", "us": "we"}
    with pytest.raises(ValueError, match="'us' comes twice"):
        check_labels(["US", "us"])


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, TypeError, "got labels=None"),
        ("joy", TypeError, r"got labels='joy'\. Write e\.g\. labels=\["),
        ({"joy", "anger"}, TypeError, "got labels={"),
        (np.array([["joy"], ["anger"]]), TypeError, "sequence"),
        ([], ValueError, r"but got 0: \[\]"),
        (["joy"], ValueError, r"but got 1: \['joy'\]"),
        (["joy", 3], TypeError, "name 1 is 3"),
        ({"joy": "joy", "anger": 3}, TypeError, "wording 1 is 3"),
        ({1: "joy", 2: "anger"}, TypeError, "name 0 is 1"),
        (["joy", " \n"], ValueError, "name 1 is"),
        ({"joy": "joy", "anger": ""}, ValueError, "wording 1 is ''"),
        (["joy", "anger", "joy"], ValueError, "'joy' comes twice"),
        (["joy", "Joy "], ValueError, "'joy' comes twice"),
        ({"joy": "glad", "bliss": "Glad"}, ValueError, "'glad' comes twice"),
        (["joy", "None"], ValueError, "name 1, 'None', is the same as none_label='none'"),
        ({"joy": "joy", "neutral": "NONE"}, ValueError, "wording 1, 'NONE'"),
    ],
)
def test_labels_refused(labels, error, message):
    with pytest.raises(error, match=message):
        check_labels(labels)


@pytest.mark.parametrize("none_label", ["", "  ", None, 3, b"none"])
def test_none_label_refused(none_label):
    with pytest.raises(ValueError, match=re.escape(f"Got none_label={none_label!r}")):
        check_labels(["joy", "anger"], none_label=none_label)


def test_another_none_label_frees_none():
    assert list(check_labels(["none", "anger"], none_label="nothing")) == ["none", "anger"]
    with pytest.raises(ValueError, match="none_label='ANGER '"):
        check_labels(["joy", "anger"], none_label="ANGER ")


Y = np.array([[1, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize(
    "y",
    [
        Y,
        Y.astype(bool),
        Y.astype(np.uint8),
        Y.astype(np.float32),
        Y.astype(object),
        Y.tolist(),
        tuple(map(tuple, Y)),
        [np.array(row) for row in Y],
        sp.csr_matrix(Y),
        sp.csc_array(Y),
        pd.DataFrame(Y),  # columns 0, 1, 2 are no names
    ],
    ids=lambda y: type(y).__name__,
)
def test_targets_without_names(y):
    values, names = check_targets(y, labels=["a", "b", "c"], n_samples=2)
    assert_array_equal(values, Y)
    assert values.dtype == np.float64
    assert names is None


@pytest.mark.parametrize(
    "y",
    [
        pd.DataFrame(Y, columns=["a", "b", "c"]),
        pd.DataFrame(Y, columns=["a", "b", "c"]).astype("boolean"),
        pd.DataFrame(Y, columns=["a", "b", "c"]).astype("Float64"),
        pd.DataFrame({"a": [True, False], "b": [0.0, 0.0], "c": [1, 1]}),
        pl.DataFrame(Y, schema=["a", "b", "c"], orient="row"),
        pl.DataFrame({"a": [True, False], "b": [False, False], "c": [True, True]}),
    ],
    ids=lambda y: type(y).__module__,
)
def test_targets_with_names(y):
    values, names = check_targets(y)
    assert_array_equal(values, Y)
    assert values.dtype == np.float64
    assert names == ["a", "b", "c"]
    values, names = check_targets(y, labels=["c", "a", "b"])
    assert_array_equal(values, Y[:, [2, 0, 1]])
    assert names == ["c", "a", "b"]


def test_targets_do_not_change_y():
    y = np.array([[0.0, 1.0 + 1e-9]])
    values, _ = check_targets(y)
    assert values[0, 1] == 1  # rounding of a weighted mean is no error
    assert y[0, 1] > 1
    assert not np.shares_memory(values, y)


def test_soft_targets_stay_soft():
    assert_array_equal(check_targets([[0.25, 1 / 3]])[0], [[0.25, 1 / 3]])


@pytest.mark.parametrize(
    "y",
    [
        [["joy"], ["joy", "anger"]],
        [[], ["joy"]],
        [{"joy"}, set()],
        [frozenset()],
        [("joy",), ()],
        [np.array(["joy"]), np.array([])],
        pd.Series([["joy"], []]),
        np.array([["joy"], ["joy", "anger"]], dtype=object),
    ],
    ids=repr,
)
def test_label_sets_name_the_binarizer(y):
    with pytest.raises(ValueError, match="got sets of label names.*MultiLabelBinarizer"):
        check_targets(y)


@pytest.mark.parametrize("y", [[0, 1, 1], np.array([0.5, 1]), pd.Series([0, 1]), ["joy", "anger"], []])
def test_flat_targets_say_how_to_make_two_dimensions(y):
    with pytest.raises(
        ValueError, match=r"shape \(n, L\).*got a 1-D y.*multi_label=False.*get_dummies.*MultiLabelBinarizer"
    ):
        check_targets(y)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (None, TypeError, "got None"),
        ("joy", TypeError, "got 'joy'"),
        ({"joy": [0, 1]}, TypeError, "got {'joy'"),
        ([[0, NAN], [1, 1]], ValueError, "Input y contains NaN, first in row 0, column 1"),
        ([[0, 1], [1, None]], ValueError, "contains NaN, first in row 1, column 1"),
        (pd.DataFrame({"a": [1, NAN]}), ValueError, "contains NaN, first in row 1, column 'a'"),
        (pd.DataFrame({"a": pd.array([1, None], "Int64")}), ValueError, "contains NaN, first in row 1, column 'a'"),
        (pl.DataFrame({"a": [True, None]}), ValueError, "contains NaN, first in row 1, column 'a'"),
        ([[0, pd.NA]], TypeError, "no number"),
        ([[0, 1], [1]], ValueError, "rows of different lengths"),
        (np.array([["0", "1"]]), TypeError, "holds <U1"),
        (np.array([["0", 1]], dtype=object), TypeError, "holds str"),
        (pd.DataFrame({"a": ["x"]}), TypeError, "holds str"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), TypeError, "holds datetime64"),
        (np.ones((2, 2), dtype=complex), ValueError, "Complex data not supported"),
        (np.ones((2, 2, 2)), ValueError, r"3 dimensions: shape \(2, 2, 2\)"),
        (np.empty((0, 2)), ValueError, r"Found array with 0 sample\(s\)"),
        (np.empty((2, 0)), ValueError, "at least one column, but got 0"),
        (pd.DataFrame([[1, 0]], columns=["a", "a"]), ValueError, "'a' comes twice"),
        (pd.DataFrame([[1, 0]], columns=["a", 2]), TypeError, r"to be all str, but got \['a', 2\]"),
    ],
)
def test_targets_refused(y, error, message):
    with pytest.raises(error, match=message):
        check_targets(y)


@pytest.mark.parametrize(
    ("y", "where"),
    [
        ([[0, 1], [2, 0]], "row 1, column 0 is 2"),
        ([[0, -0.5]], "row 0, column 1 is -0.5"),
        ([[0, np.inf]], "row 0, column 1 is inf"),
        ([[0, 1.001]], "row 0, column 1 is 1.001"),
        (pd.DataFrame({"joy": [0.5], "anger": [3]}), "row 0, column 'anger' is 3"),
    ],
)
def test_targets_out_of_range_name_the_cause(y, where):
    with pytest.raises(ValueError, match=re.escape(where)) as caught:
        check_targets(y)
    assert "cross_val_predict(method='predict_proba')" in str(caught.value)
    assert "`distribution=`" in str(caught.value)
    with pytest.raises(ValueError, match=re.escape(where)) as caught:
        check_proba(y)
    assert "cross_val_predict" not in str(caught.value)


def test_targets_shape_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples: expected y to have 3 rows.*got 2"):
        check_targets(Y, n_samples=3)
    with pytest.raises(ValueError, match=r"Expected y to have 2 columns.*\['a', 'b'\].*got 3"):
        check_targets(Y, labels=["a", "b"])
    with pytest.raises(ValueError, match="Expected H to have 2 columns"):
        check_targets(Y, labels=["a", "b"], name="H")


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_target_columns_must_be_the_labels(frame):
    with pytest.raises(ValueError, match=r"missing: \['b'\], unexpected: \['c', 'd'\]"):
        check_targets(frame({"a": [1], "c": [0], "d": [0]}), labels=["a", "b"])


def test_threshold():
    labels = ["a", "b", "c"]
    assert check_threshold(0.5, labels) == 0.5
    assert check_threshold(np.float32(0.25), labels) == 0.25
    assert check_threshold(1, labels) == 1.0
    assert isinstance(check_threshold(1, labels), float)
    for threshold in ([0.1, 0, 1], (0.1, 0, 1), np.array([0.1, 0, 1]), pd.Series([0.1, 0, 1])):
        assert_array_equal(check_threshold(threshold, labels), [0.1, 0, 1])
    assert_array_equal(check_threshold({"c": 1, "a": 0.1, "b": 0}, labels), [0.1, 0, 1])


@pytest.mark.parametrize(
    ("threshold", "error", "message"),
    [
        (1.5, ValueError, "Got threshold=1.5 but expected a number in"),
        (NAN, ValueError, "nan is outside"),
        (None, TypeError, "Got threshold=None"),
        (True, TypeError, "Got threshold=True"),
        ("0.5", TypeError, "Got threshold='0.5'"),
        ([0.5], ValueError, "threshold of 1 numbers but expected a number in"),
        ([0.5, "x"], TypeError, "'x' is no number"),
        ([0.5, 2], ValueError, "2 is outside"),
        ([[0.5, 0.5]], ValueError, "threshold of 1"),
        (np.full((1, 2), 0.5), TypeError, "Got threshold=array"),
        ({"a": 0.5}, ValueError, r"missing: \['b'\], unexpected: \[\]"),
        ({"a": 0.5, "b": 0.5, "c": 0.5}, ValueError, r"missing: \[\], unexpected: \['c'\]"),
        ({"a": 0.5, "b": None}, TypeError, "None is no number"),
    ],
)
def test_threshold_refused(threshold, error, message):
    with pytest.raises(error, match=message):
        check_threshold(threshold, ["a", "b"])


STEPS = np.array([[[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], [[0.0, 0.0, 1.0], [NAN, NAN, NAN]]])


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def test_precise_steps_are_checked_precisely():
    off = changed(STEPS, (0, 0, 0), 0.5003)
    check_steps(off.astype(np.float16))  # as close to 1 as half precision comes
    with pytest.raises(ValueError, match="sum to 1"):
        check_steps(off)
    with pytest.raises(ValueError, match="sum to 1"):
        check_steps(off.astype(np.float32))


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        (STEPS[:, 0], ValueError, r"shape \(n, R, L \+ 1\).*StepwiseExtractor gives, but got shape \(2, 3\)"),
        (STEPS[:, :, :2], ValueError, r"at least two labels and none.*got shape \(2, 2, 2\)"),
        (STEPS[:, :0], ValueError, "but got shape"),
        (STEPS[:0], ValueError, r"Found array with 0 sample\(s\)"),
        (None, TypeError, "got NoneType"),
        ([["a text"]], TypeError, "Expected steps"),
        (sp.csr_array([[0.5, 0.5]]), TypeError, "Expected steps"),
        ([[[0.5, 0.5], [1]]], TypeError, "Expected steps"),
        (STEPS.astype(complex), TypeError, "3 dimensions of dtype complex128"),
        (changed(STEPS, (1, 0), NAN), ValueError, "a first step for every document.*document 1, step 0"),
        (changed(STEPS, (0, 1, 2), NAN), ValueError, "wholly numbers or wholly NaN.*document 0, step 1"),
        (changed(STEPS, (1, 1, 2), 1), ValueError, "wholly numbers or wholly NaN.*document 1, step 1"),
        (changed(STEPS, (0, 0), [1.2, -0.2, 0]), ValueError, "probabilities in .*document 0, step 0"),
        (changed(STEPS, (0, 1), [0.1, 0.2, 0.6]), ValueError, "sum to 1.*document 0, step 1"),
        (changed(STEPS, (0, 1), [np.inf, 0, 0]), ValueError, "probabilities in"),
    ],
)
def test_steps_refused(steps, error, message):
    with pytest.raises(error, match=message):
        check_steps(steps)


def test_steps_after_a_missing_one_refused():
    row = [0.5, 0.3, 0.2]
    check_steps([[row, [NAN] * 3, [NAN] * 3]])
    with pytest.raises(ValueError, match="one after another.*document 0"):
        check_steps([[row, [NAN] * 3, row]])


PAIRS = np.array([[[0.5, 0.7, 0.9], [0.3, 0.5, 0.8], [0.1, 0.2, 0.5]]])


def test_pairs():
    given = changed(PAIRS, (0, [0, 1, 2], [0, 1, 2]), [NAN, 7, 0])
    pairs = check_pairs(given)
    assert_array_equal(pairs, PAIRS)  # whatever stood on the diagonal
    assert np.isnan(given[0, 0, 0])
    assert_array_equal(check_pairs(PAIRS.astype(np.float32)), PAIRS.astype(np.float32).astype(float))


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        (PAIRS[0], ValueError, r"shape \(n, L \+ 1, L \+ 1\).*PairwiseExtractor gives, but got shape \(3, 3\)"),
        (PAIRS[:, :2], ValueError, r"but got \(1, 2, 3\)"),
        (PAIRS[:, :2, :2], ValueError, "at least two labels"),
        (PAIRS[:0], ValueError, r"Found array with 0 sample\(s\)"),
        ("pairs", TypeError, "Expected pairs"),
        (changed(PAIRS, (0, 0, 2), NAN), ValueError, r"in \[0, 1\].*document 0 p\[0, 2\] is nan and p\[2, 0\] is 0.1"),
        (changed(changed(PAIRS, (0, 0, 1), 1.5), (0, 1, 0), -0.5), ValueError, r"probabilities in \[0, 1\]"),
        (changed(PAIRS, (0, 0, 1), 0.71), ValueError, r"p\[a, b\] \+ p\[b, a\] = 1.*p\[0, 1\] is 0.71"),
    ],
)
def test_pairs_refused(pairs, error, message):
    with pytest.raises(error, match=message):
        check_pairs(pairs)


def test_sample_weight():
    assert_array_equal(check_sample_weight(None, 3), [1, 1, 1])
    assert_array_equal(check_sample_weight([0, 2, 1], 3), [0, 2, 1])
    assert_array_equal(check_sample_weight(pd.Series([1, 2], index=[5, 4]), 2), [1, 2])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 1], r"shape \(3,\), one number a document, but got \(2,\)"),
        ([[1, 1, 1]], r"got \(1, 3\)"),
        (1.0, r"got \(\)"),
        ([1, -1, 1], "nowhere negative"),
        ([0, 0, 0], "not all zero"),
        ([1, NAN, 1], "finite"),
    ],
)
def test_sample_weight_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        check_sample_weight(weights, 3)


def test_positive_int():
    assert check_positive_int(np.int64(3), "batch_size") == 3
    assert type(check_positive_int(np.int64(3), "batch_size")) is int
    for value in (0, -1, 1.0, True, np.True_, "1", None, NAN):
        with pytest.raises(ValueError, match=re.escape(f"Got batch_size={value!r} but expected a positive integer.")):
            check_positive_int(value, "batch_size")


def test_positive():
    assert check_positive(3, "l2") == 3.0
    for value in (0, -1, NAN, np.inf, True, "1", None):
        with pytest.raises(ValueError, match=re.escape(f"Got l2={value!r} but expected a finite number above 0.")):
            check_positive(value, "l2")
    assert check_positive(0.4, "eps", upper=0.5) == 0.4
    with pytest.raises(ValueError, match="Got eps=0.5 but expected a number between 0 and 0.5, both excluded"):
        check_positive(0.5, "eps", upper=0.5)


def test_choice():
    assert check_choice("hard", "outcome", ("soft", "hard")) == "hard"
    assert check_choice(np.str_("hard"), "outcome", ("soft", "hard")) == "hard"
    assert check_choice(np.False_, "multi_label", (True, False)) is False
    assert check_choice(None, "truncation", (None, "end")) is None
    for value in ("firm", None, 3, ["soft"], np.array(["soft", "hard"])):
        with pytest.raises(ValueError, match=r"Got outcome=.* but expected one of 'soft', 'hard'\."):
            check_choice(value, "outcome", ("soft", "hard"))
    with pytest.raises(ValueError, match="Got multi_label=1 but expected one of True, False"):
        check_choice(1, "multi_label", (True, False))


@pytest.mark.parametrize(
    ("twin", "points"),
    [
        ("cafe\u0301", "U+0063 U+0061 U+0066 U+0065 U+0301"),
        ("caf\u00e9\u200b", "U+0063 U+0061 U+0066 U+00E9 U+200B"),
        ("caf\u00e9\ufeff", "U+FEFF"),
        ("caf\u034f\u00e9", "U+034F"),
        ("caf\u00e9\ufe0f", "U+FE0F"),
        ("ca\u3164f\u00e9", "U+3164"),
    ],
)
def test_labels_that_nobody_can_tell_apart(twin, points):
    message = "two names look like 'caf\u00e9': U\\+0063 U\\+0061 U\\+0066 U\\+00E9 and .*" + points.replace("+", "\\+")
    with pytest.raises(ValueError, match=message):
        check_labels(["caf\u00e9", twin, "bar"])
    with pytest.raises(ValueError, match="two wordings look like"):
        check_labels({"a": "caf\u00e9", "b": twin})


def test_labels_with_other_spaces():
    with pytest.raises(ValueError, match="look like 'red wine': .*U\\+0020.* and .*U\\+00A0"):
        check_labels(["red wine", "red\u00a0wine"])
    alike_but_other = ["resume", "r\u00e9sum\u00e9", "\u0440esume"]  # the last one begins with a Cyrillic letter
    assert list(check_labels(alike_but_other)) == alike_but_other

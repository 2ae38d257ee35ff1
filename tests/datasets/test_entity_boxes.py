import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from skmlmc.datasets import load_boxes, make_boxes


def replay(text, max_per_box):
    """Read a text as a person does, sentence after sentence, and return what is in the box asked about."""
    start, *operations, question = re.split(r"(?<=[.?]) ", text)
    boxes = {}
    for part in re.split(r", (?=Box)", start.rstrip(".")):
        number, rest = re.fullmatch(r"Box (\d+) (.*)", part).groups()
        boxes[number] = set() if rest == "is empty" else set(re.findall(r"the (\w+)", rest))
    assert sum(map(len, boxes.values())) == len(set().union(*boxes.values()))
    for operation in operations:
        verb, name = re.match(r"(Move|Remove|Put) the (\w+)", operation).groups()
        numbers = re.findall(r"Box (\d+)", operation)
        assert len(numbers) == len(set(numbers))  # no move from a box to itself
        if verb in ("Move", "Remove"):
            boxes[numbers.pop(0)].remove(name)  # KeyError if it is not there
        else:
            assert not any(name in contents for contents in boxes.values())
        if numbers:
            boxes[numbers[0]].add(name)
        assert max(map(len, boxes.values())) <= max_per_box
    return boxes[re.fullmatch(r"What does Box (\d+) contain\?", question)[1]], len(operations)


@given(
    st.fixed_dictionaries(
        {
            "n_samples": st.integers(1, 4),
            "n_boxes": st.integers(2, 5),
            "n_objects": st.integers(2, 30),
            "n_operations": st.integers(0, 8),
            "max_per_box": st.integers(1, 4),
            "random_state": st.integers(0, 2**32 - 1),
        }
    )
)
def test_the_target_is_what_a_reader_finds(parameters):
    bunch = make_boxes(**parameters)
    assert bunch.target.shape == (parameters["n_samples"], parameters["n_objects"])
    for text, row in zip(bunch.data, bunch.target, strict=True):
        contents, n_operations = replay(text, parameters["max_per_box"])
        assert {name for name, one in zip(bunch.target_names, row, strict=True) if one} == contents
        assert n_operations == parameters["n_operations"]


def test_a_seed_gives_the_same_items():
    first, again, other = (make_boxes(5, random_state=seed) for seed in (3, 3, 4))
    assert first.data == again.data
    assert_array_equal(first.target, again.target)
    assert first.data != other.data
    X, y = make_boxes(5, random_state=3, return_X_y=True)
    assert X == first.data
    frame = make_boxes(5, random_state=3, as_frame=True).frame
    assert list(frame.columns) == ["text", *first.target_names]


def test_items_have_none_one_and_several_labels():
    sizes = np.bincount(np.minimum(make_boxes(300, random_state=0).target.sum(axis=1), 2))
    assert (sizes > 40).all()


@pytest.mark.parametrize(
    "wrong",
    [{"n_samples": 0}, {"n_boxes": 1}, {"n_objects": 31}, {"n_objects": 2.5}, {"n_operations": -1}, {"max_per_box": 0}],
)
def test_numbers_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=f"Got {next(iter(wrong))}=.* but expected a"):
        make_boxes(**wrong)


START = "Box 0 contains the key and the cup, Box 1 is empty. Move the cup from Box 0 to Box 1. "
LINES = [
    {
        "sentence": START + "Box 0 contains the key.",
        "sentence_masked": START + "Box 0 <extra_id_0> .",
        "masked_content": "<extra_id_0> contains the key",
        "sample_id": 4,
        "numops": 1,
    },
    {"sentence_masked": "Box 2 <extra_id_0> .", "masked_content": "<extra_id_0> is empty", "sample_id": 4},
    {"sentence_masked": "Box 0 contains <extra_id_0> .", "masked_content": "<extra_id_0> the key and the red cup"},
    {"sentence_masked": "Box 0 contains <extra_id_0> .", "masked_content": "<extra_id_0> nothing"},
]


def test_boxes_by_hand(tmp_path):
    file = tmp_path / "test-t5.jsonl"
    file.write_text("\n".join(map(json.dumps, LINES)))
    bunch = load_boxes(file)
    assert bunch.data == [START + "Box 0", "Box 2", "Box 0 contains", "Box 0 contains"]
    assert bunch.target_names == ["key", "red cup"]
    assert_array_equal(bunch.target, [[1, 0], [0, 0], [1, 1], [0, 0]])
    assert bunch.ids == ["4:1", "4:2", ":3", ":4"]
    assert_array_equal(bunch.n_operations, [1, -1, -1, -1])
    assert_array_equal(load_boxes(file, ["red cup", "ball", "key"]).target[2], [1, 0, 1])
    X, y = load_boxes(file, return_X_y=True)
    assert X == bunch.data


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"sentence_masked": "Box 2 is empty.", "masked_content": "<extra_id_0> is empty"}',
        '{"sentence_masked": "Box 2 <extra_id_0> .", "masked_content": "<extra_id_0> contains keys"}',
        '{"sentence_masked": "Box 2 <extra_id_0> .", "masked_content": "<extra_id_0> contains the ball"}',
        '{"sentence_masked": "Box 2 <extra_id_0> .", "masked_content": "<extra_id_0> nothing", "numops": "x"}',
    ],
)
def test_malformed_boxes_are_named(tmp_path, line):
    file = tmp_path / "test-t5.jsonl"
    file.write_text(json.dumps(LINES[0]) + "\n" + line)
    with pytest.raises(ValueError, match="test-t5.jsonl, line 2: expected"):
        load_boxes(file, ["key"])

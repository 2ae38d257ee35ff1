"""Classes of single-label tasks: how they are told to a prompt."""

from numpy.testing import assert_array_equal

from skmlmc._utils.classes import find_classes


def test_targets_in_the_order_of_the_prompt():
    classes = find_classes(["b", "a", "c"], ["c", "b", "a"])
    assert classes.targets().labels == ["c", "b", "a"]
    assert_array_equal(classes.targets(), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert find_classes(None, ["b", "a"]).targets() is None

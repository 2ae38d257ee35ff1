import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

from skmlmc.datasets import paper_split

CELLS = np.array([[0, 0, 0], [0, 1 / 3, 0], [1, 0, 0], [2 / 3, 0, 1 / 3], [1, 1, 0], [1, 2 / 3, 1 / 3]])


def cells(H):
    """Count documents by number of labels (rows) and disagreement (columns), one after the other."""
    counts = np.zeros((3, 2), dtype=int)
    for row in H:
        n_labels = sum(share > 0.5 for share in row)
        counts[min(n_labels, 2), int(any(0 < share < 1 for share in row))] += 1
    return counts


def test_a_row_with_too_few_is_filled_from_all_others_with_a_warning():
    H = np.repeat(CELLS, [50, 50, 50, 50, 2, 3], axis=0)
    with pytest.warns(UserWarning, match=r"Too few documents with several labels \(5 of 20\)"):
        test, rest = paper_split(H, n_test=60, random_state=0)
    found = cells(H[test])
    assert found.sum() == 60 and found[2].tolist() == [2, 3] and (found[:2] >= 10).all()
    assert_array_equal(np.sort(np.concatenate([test, rest])), np.arange(len(H)))


def test_single_label_tasks_are_balanced_over_agreement():
    H = np.repeat([[0, 1, 0], [2 / 3, 1 / 3, 0]], [300, 100], axis=0)
    with pytest.warns(UserWarning, match=r"no label \(0 of 20\), several labels \(0 of 20\)"):
        test, _ = paper_split(H, n_test=60, random_state=0)
    assert_array_equal(cells(H[test]), [[0, 0], [30, 30], [0, 0]])


def test_a_seed_gives_the_same_split_and_another_one_another():
    H = np.repeat(CELLS, 20, axis=0)
    first, again, other = (paper_split(H, n_test=30, random_state=seed) for seed in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        assert_array_equal(a, b)
    assert set(first[0]) != set(other[0])
    # Both are in random order, so that the head of the rest is a sample.
    assert not np.array_equal(first[1], np.sort(first[1]))
    assert len(set(map(tuple, H[first[1][:40]]))) == 6
    assert not np.array_equal(first[0], np.sort(first[0]))


def test_frames_are_taken():
    H = np.repeat(CELLS, 5, axis=0)
    test, _ = paper_split(pd.DataFrame(H, columns=["joy", "love", "fear"]), n_test=6, random_state=0)
    assert_array_equal(test, paper_split(H, n_test=6, random_state=0)[0])


@given(
    st.integers(2, 60).flatmap(lambda n: arrays(float, (n, 3), elements=st.sampled_from([0, 1 / 3, 2 / 3, 1]))),
    st.data(),
)
def test_the_split_keeps_its_promises(H, data):
    n_test = data.draw(st.integers(1, len(H) - 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        test, rest = paper_split(H, n_test=n_test, random_state=data.draw(st.integers(0, 99)))
    assert len(test) == n_test
    assert_array_equal(np.sort(np.concatenate([test, rest])), np.arange(len(H)))
    wanted = [n_test // 3 + (row < n_test % 3) for row in range(3)]
    there, taken = cells(H), cells(H[test])
    assert bool(caught) == bool((there.sum(axis=1) < wanted).any())
    for row in range(3):
        assert taken[row].sum() >= min(wanted[row], there[row].sum())
        if not caught:
            assert taken[row].sum() == wanted[row]
            # As even as the row allows.
            half = [wanted[row] - wanted[row] // 2, wanted[row] // 2]
            short = max(half[0] - there[row, 0], half[1] - there[row, 1], 0)
            assert (taken[row] >= np.minimum(half, there[row])).all() and short >= abs(taken[row] - half).max()


@pytest.mark.parametrize(
    ("H", "n_test", "message"),
    [
        (CELLS, 6, "Got n_test=6 but expected fewer than the 6 documents"),
        (CELLS, 0, "Got n_test=0 but expected a positive integer"),
        (CELLS * 2, 2, r"\[0, 1\]"),
    ],
)
def test_bad_input_is_named(H, n_test, message):
    with pytest.raises(ValueError, match=message):
        paper_split(H, n_test=n_test)

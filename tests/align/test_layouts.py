"""The same numbers in another memory layout, container or type give the same results, bit for bit.

Nothing but this promise holds that: sums, BLAS and vectorised functions go another way through another layout and end
in other last bits. Users meet it with a saved and loaded array, a slice or another library's frame. The calls that are
compared give BLAS the same numbers in the same shapes, one thread each, so that only the layout could tell them apart.
"""

from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from scipy.special import expit
from sklearn.base import clone

from skmlmc import align, metrics
from skmlmc.calibrate import LinearProbe, ScalingAligner

N, L = 40, 3
KINDS = ("platt", "temperature", "beta", "isotonic", "matrix")


def strided(array):
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 7, dtype=array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def mapped(array, folder):
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def unaligned(array):
    return np.frombuffer(b"x" + array.tobytes(), dtype=array.dtype, offset=1).reshape(array.shape)


def frame_or_array(frame):
    return lambda array, _: frame(array) if array.ndim == 2 else array


LAYOUTS = {
    "fortran": lambda array, _: np.asfortranarray(array),
    "fortran memmap": lambda array, folder: mapped(np.asfortranarray(array), folder),
    "read-only memmap": mapped,
    "reversed": lambda array, _: np.ascontiguousarray(array[::-1])[::-1],
    "reversed columns": lambda array, _: np.ascontiguousarray(array[..., ::-1])[..., ::-1],
    "strided": lambda array, _: strided(array),
    "unaligned": lambda array, _: unaligned(array),
    "float32": lambda array, _: array.astype(np.float32),
    "other byte order": lambda array, _: array.astype(array.dtype.newbyteorder()),
    "list": lambda array, _: array.tolist(),
    "pandas": frame_or_array(pd.DataFrame),
    "polars": frame_or_array(lambda array: pl.DataFrame(array, schema=[f"c{k}" for k in range(array.shape[1])])),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def numbers(*shape, seed=0):
    """Numbers that float32 holds too."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32).astype(float)


def distributions(*shape, seed=0):
    """Distributions in steps of 1 / 1024, which sum to 1 in every type and order."""
    return np.random.default_rng(seed).multinomial(1024, np.full(shape[-1], 1 / shape[-1]), size=shape[:-1]) / 1024


STEPS = distributions(N, 2, L + 1)
STEPS[::3, 1] = np.nan
PAIRS = np.triu(expit(numbers(N, L + 1, L + 1)).astype(np.float16).astype(float), 1)
PAIRS += np.tril(1 - PAIRS.transpose(0, 2, 1), -1)
HIDDEN, PROBA, H = numbers(N, 12), distributions(N, L), distributions(N, L, seed=1)
WEIGHTS = np.arange(N) % 5 / 2

FITTED = [
    *(ScalingAligner(kind, C=1.0) for kind in KINDS),
    *(ScalingAligner(kind, C=1.0, multi_label=False) for kind in ("platt", "isotonic", "matrix")),
    *(ScalingAligner(kind, shared=True) for kind in ("beta", "isotonic")),
    LinearProbe(0.5, cv=2, random_state=0),
    LinearProbe(0.5, C=0.1, multi_label=False, random_state=0),
    LinearProbe(None, C=0.1, scale=False),
    LinearProbe(3, C=0.1, scale=False, random_state=0),
]


@cache
def in_the_usual_layout(estimator):
    X = HIDDEN if isinstance(estimator, LinearProbe) else PROBA
    fitted = clone(estimator).fit(X, H, sample_weight=WEIGHTS)
    return X, fitted, fitted.score(X, H, sample_weight=WEIGHTS)


@every_layout
@pytest.mark.parametrize("estimator", FITTED, ids=repr)
def test_fitted_estimators(estimator, layout, tmp_path):
    X, expected, score = in_the_usual_layout(estimator)
    given, y, weights = (layout(part, tmp_path) for part in (X, H, WEIGHTS))
    fitted = clone(estimator).fit(given, y, sample_weight=weights)
    assert_array_equal(fitted.predict_proba(given), expected.predict_proba(X))
    assert_array_equal(fitted.predict_proba(layout(X[:1], tmp_path)), expected.predict_proba(X[:1]))
    assert fitted.score(given, y, sample_weight=weights) == score
    if hasattr(expected, "coef_"):
        assert_array_equal(fitted.coef_, expected.coef_)


@pytest.mark.parametrize("estimator", [FITTED[0], FITTED[4], *FITTED[-4:]], ids=repr)
def test_documents_and_columns_taken_from_larger_arrays(estimator):
    X = HIDDEN if isinstance(estimator, LinearProbe) else PROBA
    expected = clone(estimator).fit(X, None, distribution=H).predict_proba(X)
    large = np.asfortranarray(np.hstack([X, X]).repeat(2, axis=0))
    fitted = clone(estimator).fit(large[::2, : X.shape[1]], None, distribution=np.asfortranarray(H))
    assert_array_equal(fitted.predict_proba(large[::2, : X.shape[1]]), expected)
    assert_array_equal(fitted.predict_proba(X[0][None]), fitted.predict_proba(X[:1]))  # a row of stride 0


def test_targets_put_in_the_order_of_the_columns():
    names, order = ["a", "b", "c"], [2, 0, 1]
    X, y = pd.DataFrame(PROBA, columns=names), pd.DataFrame(H, columns=names)
    for kind in KINDS[:-1]:
        expected = ScalingAligner(kind).fit(X, y).predict_proba(X)
        assert_array_equal(ScalingAligner(kind).fit(X, y[[names[k] for k in order]]).predict_proba(X), expected)


def test_splits_given_as_slices_or_masks():
    rows = np.arange(N)
    indices = [(rows[::2], rows[1::2]), (rows[1::2], rows[::2])]
    slices = [(slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))]
    masks = [(rows % 2 == 0, rows % 2 == 1), (rows % 2 == 1, rows % 2 == 0)]
    expected = LinearProbe(0.5, cv=indices, random_state=0).fit(HIDDEN, H)
    for cv in (slices, masks):
        fitted = LinearProbe(0.5, cv=cv, random_state=0).fit(HIDDEN, H)
        assert_array_equal(fitted.cv_results_["nll"], expected.cv_results_["nll"])


ZERO_SHOT = [
    *(cls(multi_label=m) for cls in (align.CompareToNone, align.HardPredictions) for m in (True, False)),
    align.MaxOverGenerations(),
    *(align.BradleyTerry(o, multi_label=m) for o in ("soft", "hard") for m in (True, False)),
    *(align.UnaryBreakdown(multi_label=m) for m in (True, False)),
]


@every_layout
@pytest.mark.parametrize("aligner", ZERO_SHOT, ids=repr)
def test_zero_shot_aligners(aligner, layout, tmp_path):
    X = {align.BradleyTerry: PAIRS, align.UnaryBreakdown: PROBA}.get(type(aligner), STEPS)
    given, before = layout(X, tmp_path), X.copy()
    assert_array_equal(clone(aligner).fit(given).predict_proba(given), clone(aligner).fit(X).predict_proba(X))
    assert_array_equal(X, before)


@every_layout
def test_functions(layout, tmp_path):
    for name in align.__all__:
        if name.islower():
            function, X = getattr(align, name), PAIRS if name == "bradley_terry_scores" else STEPS
            assert_array_equal(function(layout(X, tmp_path)), function(X), err_msg=name)


@every_layout
def test_metrics(layout, tmp_path):
    for name in metrics.__all__:
        metric = getattr(metrics, name)
        if not name.endswith(("scorer", "scorers")):
            weights = {} if name == "entropy_correlation" else {"sample_weight": WEIGHTS}
            given = {key: layout(value, tmp_path) for key, value in weights.items()}
            assert metric(layout(H, tmp_path), layout(PROBA, tmp_path), **given) == metric(H, PROBA, **weights), name

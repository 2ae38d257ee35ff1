"""Whatever stands in a parameter: fit refuses it by its name, or all methods work. Nobody meets it while predicting."""

import re
from copy import copy

import numpy as np
import pytest
from ecosystem_data import LABELS, TEXTS, H, extractor
from sklearn.utils import get_tags
from text_estimators import answer, public_estimators

from skmlmc import (
    BradleyTerry,
    ContextualCalibration,
    EmbeddingExtractor,
    GGUFClassifier,
    LinearProbe,
    PairwiseExtractor,
    ScalingAligner,
    StepwiseExtractor,
    UnaryExtractor,
    compare_methods,
)

VALUES = [None, "", 0, -1, [], 1.5, object(), np.nan, True, ("a", None), [("a", None)], {}, b"x", np.array([1, 2])]
# What a message may call a parameter beside its name.
ALSO = {"labels": "label", "prompt": "instruction", "demonstrations": "shots"}
FURTHER = [GGUFClassifier(method="linear_probe", method_params={"C": 1.0}), ScalingAligner("matrix"), LinearProbe(cv=3)]


def each_parameter():
    for estimator in [*public_estimators(), *FURTHER]:
        for name in estimator.get_params(deep=False):
            yield pytest.param(estimator, name, id=f"{type(estimator).__name__}-{name}")


@pytest.fixture(scope="module")
def arrays(tiny_model):
    """What aligners take."""
    return {
        cls: np.asarray(extractor(tiny_model, cls).fit().transform(TEXTS))
        for cls in (PairwiseExtractor, StepwiseExtractor, UnaryExtractor)
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "name"), list(each_parameter()))
def test_fit_refuses_it_or_all_works(estimator, name, arrays, tiny_model, tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimator, tags, X = copy(estimator), get_tags(estimator).input_tags, TEXTS
    if not tags.string:
        three = PairwiseExtractor if isinstance(estimator, BradleyTerry) else StepwiseExtractor
        X = arrays[three if tags.three_d_array else UnaryExtractor]
    elif isinstance(estimator, EmbeddingExtractor):
        estimator.set_params(model=tiny_encoder, n_threads=1)
    elif not isinstance(estimator, ContextualCalibration):
        estimator.set_params(model=tiny_model, labels=LABELS, n_threads=1)
    elif name != "extractor":
        estimator.extractor = extractor(tiny_model)
    # The model that is installed is slow, and as many processes as processors are not what is tried here.
    slow = {"model": 1, "n_jobs": 4}.get(name, 0)
    for value in VALUES[slow:]:
        setattr(estimator, name, value)
        try:
            estimator.fit(X, H)
        except (ValueError, TypeError, FileNotFoundError) as error:
            assert re.search(f"{name}|{ALSO.get(name, name)}", str(error)), f"{name}={value!r}: {error}"
            continue
        assert len(answer(estimator, X[:2])) == 2, f"{name}={value!r}"


@pytest.mark.parametrize("cv", [0, 1, -1, [], "five", ("a", None), 1.5, {}, [([], [0])], [([99], [0])]], ids=str)
def test_splits_that_cannot_be(cv, tiny_model, decoded):
    decoded()
    with pytest.raises(ValueError, match=r"Got cv=.* but expected a number of parts from 2 to the 20 documents"):
        compare_methods(
            TEXTS, H, estimator=GGUFClassifier(tiny_model, labels=LABELS), methods=["compare_to_none"], cv=cv
        )
    with pytest.raises(ValueError, match=r"Got cv="):
        LinearProbe(cv=cv).fit(np.random.default_rng(0).random((20, 4)), H)
    assert decoded() == 0

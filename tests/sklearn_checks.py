"""scikit-learn's own checks of estimators, without those that it would skip."""

import warnings
from inspect import signature

import pytest
from campaigns import sampled
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

# scikit-learn below 1.8 knows no strict expected failures.
STRICT = {"xfail_strict": True} if "xfail_strict" in signature(parametrize_with_checks).parameters else {}


def parametrize_with_applicable_checks(estimators, **kwargs):
    """As ``parametrize_with_checks``, without checks that can only be skipped; a default run tries every sixth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        mark = parametrize_with_checks(estimators, **STRICT, **kwargs)
        names, checks = mark.args
        checks = list(checks)  # scikit-learn below 1.8 makes them, and warns, late
    applicable = [c for c in checks if _applies(*getattr(c, "values", c))]
    return pytest.mark.parametrize(names, sampled(applicable, 6), **mark.kwargs)


def _applies(estimator, check):
    name = check.func.__name__
    if name.endswith("decision_function"):
        return hasattr(estimator, "decision_function")
    # Needs a variable that scipy reads while it is imported, and numbers that most of our estimators refuse:
    # test_calibrate has one of its own.
    return name != "check_array_api_input"

"""The public estimators, and those among them that take documents, whichever there are."""

from sklearn.base import BaseEstimator
from sklearn.utils import get_tags

import skmlmc


def public_estimators():
    """Classes of all public estimators."""
    exported = [getattr(skmlmc, name) for name in skmlmc.__all__]
    return [cls for cls in exported if isinstance(cls, type) and issubclass(cls, BaseEstimator)]


def text_estimators():
    """Classes of the public estimators that take documents."""
    return [cls for cls in public_estimators() if get_tags(cls()).input_tags.string]


def answer(estimator, X):
    """Probabilities of a classifier, features of an extractor."""
    return (estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.transform)(X)

"""The public estimators, and those among them that ask a model about documents, whichever there are."""

import inspect

from sklearn.base import BaseEstimator

import skmlmc


def public_estimators():
    """One instance of every public estimator, with as few parameters as it takes."""
    exported = [getattr(skmlmc, name) for name in skmlmc.__all__]
    return [_build(cls) for cls in exported if isinstance(cls, type) and issubclass(cls, BaseEstimator)]


def _build(cls):
    required = [p.name for p in inspect.signature(cls).parameters.values() if p.default is p.empty]
    values = {
        "extractor": skmlmc.StepwiseExtractor(),
        "estimator": skmlmc.LinearProbe(),
        "estimators": [("probe", skmlmc.LinearProbe())],
    }
    return cls(**{name: values[name] for name in required})


def text_estimators():
    """Classes of the public estimators that ask a model which labels documents have."""
    return [type(estimator) for estimator in public_estimators() if is_prompted(estimator)]


def is_prompted(estimator):
    """Whether an estimator asks a model which labels documents have."""
    return {"model", "labels"} <= {*estimator.get_params(deep=False)}


def answer(estimator, X):
    """Probabilities of a classifier, features of an extractor."""
    return (estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.transform)(X)

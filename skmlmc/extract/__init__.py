"""Extractors: from texts to what a model answers, as arrays."""

from .._utils.docs import publish
from ._contextual import ContextualCalibration
from ._marginal import MarginalOverGenerations
from ._questions import PairwiseExtractor, UnaryExtractor
from ._steps import HiddenStateExtractor, StepwiseExtractor

__all__ = [
    "ContextualCalibration",
    "HiddenStateExtractor",
    "MarginalOverGenerations",
    "PairwiseExtractor",
    "StepwiseExtractor",
    "UnaryExtractor",
]

publish(__name__, globals())

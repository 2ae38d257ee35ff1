"""Extractors: from texts to what a model answers, as arrays."""

from .._utils.docs import publish
from ._contextual import ContextualCalibration
from ._embedding import EmbeddingExtractor
from ._marginal import MarginalExtractor
from ._questions import PairwiseExtractor, UnaryExtractor
from ._steps import HiddenStateExtractor, StepwiseExtractor

__all__ = [
    "ContextualCalibration",
    "EmbeddingExtractor",
    "HiddenStateExtractor",
    "MarginalExtractor",
    "PairwiseExtractor",
    "StepwiseExtractor",
    "UnaryExtractor",
]

publish(__name__, globals())

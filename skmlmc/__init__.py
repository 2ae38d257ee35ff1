"""Multi-label text classification with local GGUF language models, as scikit-learn estimators."""

from ._models.identity import locate_model
from ._models.loaded import clear_models
from ._version import __version__ as __version__
from .align import BradleyTerry, CompareToNone, HardPredictions, MaxOverGenerations, PriorCorrection, UnaryBreakdown
from .calibrate import LinearProbe, ScalingAligner, SelectiveClassifier, SoftStackingClassifier, ThresholdTuner
from .classifier import GGUFClassifier
from .comparison import compare_methods
from .extract import (
    ContextualCalibration,
    EmbeddingExtractor,
    HiddenStateExtractor,
    MarginalExtractor,
    PairwiseExtractor,
    StepwiseExtractor,
    UnaryExtractor,
)
from .prompts import Chunks, PromptTemplate, QuestionTemplate

__all__ = [
    "BradleyTerry",
    "Chunks",
    "CompareToNone",
    "ContextualCalibration",
    "EmbeddingExtractor",
    "GGUFClassifier",
    "HardPredictions",
    "HiddenStateExtractor",
    "LinearProbe",
    "MarginalExtractor",
    "MaxOverGenerations",
    "PairwiseExtractor",
    "PriorCorrection",
    "PromptTemplate",
    "QuestionTemplate",
    "ScalingAligner",
    "SelectiveClassifier",
    "SoftStackingClassifier",
    "StepwiseExtractor",
    "ThresholdTuner",
    "UnaryBreakdown",
    "UnaryExtractor",
    "clear_models",
    "compare_methods",
    "locate_model",
]

# Everything else says the public module that it stands in; these two stand in private ones.
clear_models.__module__ = locate_model.__module__ = __name__

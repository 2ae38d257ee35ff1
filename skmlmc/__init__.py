"""Multi-label text classification with local GGUF language models, as scikit-learn estimators."""

from ._models import clear_models
from .align import BradleyTerry, CompareToNone, HardPredictions, MaxOverGenerations, UnaryBreakdown
from .breakdown import PairwiseExtractor, UnaryExtractor
from .calibrate import LinearProbe, ScalingAligner
from .classifier import GGUFClassifier
from .extract import HiddenStateExtractor, StepwiseExtractor
from .prompts import PromptTemplate, QuestionTemplate

__version__ = "0.1.0"
__all__ = [
    "BradleyTerry",
    "CompareToNone",
    "GGUFClassifier",
    "HardPredictions",
    "HiddenStateExtractor",
    "LinearProbe",
    "MaxOverGenerations",
    "PairwiseExtractor",
    "PromptTemplate",
    "QuestionTemplate",
    "ScalingAligner",
    "StepwiseExtractor",
    "UnaryBreakdown",
    "UnaryExtractor",
    "clear_models",
]

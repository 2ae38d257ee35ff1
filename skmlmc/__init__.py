"""Multi-label text classification with local GGUF language models, as scikit-learn estimators."""

from ._identity import locate_model
from ._models import clear_models
from .align import BradleyTerry, CompareToNone, HardPredictions, MaxOverGenerations, UnaryBreakdown
from .breakdown import PairwiseExtractor, UnaryExtractor
from .calibrate import LinearProbe, ScalingAligner
from .classifier import GGUFClassifier
from .comparison import compare_methods
from .contextual import ContextualCalibration
from .extract import HiddenStateExtractor, StepwiseExtractor
from .marginal import MarginalOverGenerations
from .prompts import PromptTemplate, QuestionTemplate

__version__ = "0.1.0"
__all__ = [
    "BradleyTerry",
    "CompareToNone",
    "ContextualCalibration",
    "GGUFClassifier",
    "HardPredictions",
    "HiddenStateExtractor",
    "LinearProbe",
    "MarginalOverGenerations",
    "MaxOverGenerations",
    "PairwiseExtractor",
    "PromptTemplate",
    "QuestionTemplate",
    "ScalingAligner",
    "StepwiseExtractor",
    "UnaryBreakdown",
    "UnaryExtractor",
    "clear_models",
    "compare_methods",
    "locate_model",
]

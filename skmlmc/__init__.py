"""Multi-label text classification with local GGUF language models, as scikit-learn estimators."""

from ._models import clear_models
from .align import BradleyTerry, CompareToNone, HardPredictions, MaxOverGenerations
from .classifier import GGUFClassifier
from .extract import StepwiseExtractor
from .prompts import PromptTemplate

__version__ = "0.1.0"
__all__ = [
    "BradleyTerry",
    "CompareToNone",
    "GGUFClassifier",
    "HardPredictions",
    "MaxOverGenerations",
    "PromptTemplate",
    "StepwiseExtractor",
    "clear_models",
]

"""What annotators' shares teach: alignment of probabilities, probes, stacks, thresholds, and when to abstain."""

from ._utils.docs import publish
from .align._fitted import LinearProbe, ScalingAligner
from .align._selective import SelectiveClassifier
from .align._stacking import SoftStackingClassifier
from .align._thresholds import ThresholdTuner
from .base import diagnose

__all__ = [
    "LinearProbe",
    "ScalingAligner",
    "SelectiveClassifier",
    "SoftStackingClassifier",
    "ThresholdTuner",
    "diagnose",
]

publish(__name__, globals())

"""Alignment fitted on annotators' shares: scaling of probabilities, a probe on hidden states; code in align._fitted."""

from ._utils.docs import publish
from .align._fitted import LinearProbe, ScalingAligner
from .align._stacking import SoftStackingClassifier

__all__ = [
    "LinearProbe",
    "ScalingAligner",
    "SoftStackingClassifier",
]

publish(__name__, globals())

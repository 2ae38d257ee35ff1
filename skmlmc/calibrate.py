"""Alignment fitted on annotators' shares: scaling of label probabilities, and a probe on hidden states."""

from ._utils.docs import publish
from .align._fitted import LinearProbe, ScalingAligner

__all__ = [
    "LinearProbe",
    "ScalingAligner",
]

publish(__name__, globals())

"""Alignment fitted on annotators' shares: scaling of probabilities, a probe on hidden states; code in align._fitted."""

from ._utils.docs import publish
from .align._fitted import LinearProbe, ScalingAligner

__all__ = [
    "LinearProbe",
    "ScalingAligner",
]

publish(__name__, globals())

"""Displays: figures of answers, of annotators beside a model, of methods, and of what thresholds and abstaining gain.

They follow scikit-learn's convention: ``SomeDisplay.from_estimator(...)`` or ``SomeDisplay.from_predictions(...)``
draws and returns a Display, whose ``plot(ax=None)`` draws again; ``ax_`` and ``figure_`` hold what was drawn.
matplotlib is needed (``pip install matplotlib``), and imported only when something is drawn.
"""

from .._utils.docs import publish
from ._comparison import MethodComparisonDisplay
from ._curves import AnnotationCurveDisplay
from ._distribution import DistributionDisplay
from ._reliability import ReliabilityDisplay
from ._selective import RiskCoverageDisplay
from ._spikiness import SpikinessDisplay
from ._steps import StepsDisplay
from ._thresholds import ThresholdDisplay

__all__ = [
    "AnnotationCurveDisplay",
    "DistributionDisplay",
    "MethodComparisonDisplay",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "SpikinessDisplay",
    "StepsDisplay",
    "ThresholdDisplay",
]

publish(__name__, globals())

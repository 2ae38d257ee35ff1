"""Displays: figures of how a model answers, of annotators beside a model, and of methods beside each other.

They follow scikit-learn's convention: ``SomeDisplay.from_estimator(...)`` or ``SomeDisplay.from_predictions(...)``
draws and returns a Display, whose ``plot(ax=None)`` draws again; ``ax_`` and ``figure_`` hold what was drawn.
matplotlib is needed (``pip install matplotlib``), and imported only when something is drawn.
"""

from .._utils.docs import publish
from ._comparison import MethodComparisonDisplay
from ._curves import AnnotationCurveDisplay
from ._distribution import DistributionDisplay
from ._reliability import ReliabilityDisplay
from ._spikiness import SpikinessDisplay
from ._steps import StepsDisplay

__all__ = [
    "AnnotationCurveDisplay",
    "DistributionDisplay",
    "MethodComparisonDisplay",
    "ReliabilityDisplay",
    "SpikinessDisplay",
    "StepsDisplay",
]

publish(__name__, globals())

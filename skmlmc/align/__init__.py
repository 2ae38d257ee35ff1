"""Read-outs: from what a model answers to label probabilities; zero-shot here, fitted ones in `skmlmc.calibrate`.

The methods of the paper's section 5 that read a model's answers, as functions on arrays and as estimators. Estimators
need no training, but ``fit`` all the same, to learn how many labels there are and what they are called.

All aligners, those of `skmlmc.calibrate` too, match columns that have names, a table's or those that an extractor's
array knows, with the ones of ``fit`` by name, in any order, where scikit-learn's own estimators would refuse another
order. Missing and unknown names are refused. Without names the place counts, with scikit-learn's warning where ``fit``
had some.
"""

from .._utils.docs import publish
from ._functions import (
    bradley_terry_scores,
    compare_to_none,
    generated_labels,
    hard_predictions,
    label_sets,
    max_over_generations,
)
from ._zero_shot import (
    BradleyTerry,
    CompareToNone,
    HardPredictions,
    MaxOverGenerations,
    PriorCorrection,
    UnaryBreakdown,
    ZeroShotAligner,
)

__all__ = [
    "BradleyTerry",
    "CompareToNone",
    "HardPredictions",
    "MaxOverGenerations",
    "PriorCorrection",
    "UnaryBreakdown",
    "ZeroShotAligner",
    "bradley_terry_scores",
    "compare_to_none",
    "generated_labels",
    "hard_predictions",
    "label_sets",
    "max_over_generations",
]

publish(__name__, globals())

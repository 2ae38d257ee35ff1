"""Data sets with annotators: aggregation of answers, loaders, an entity-tracking generator, the paper's split.

Loaders follow scikit-learn: ``fetch_*`` download once into the data home and check what came, ``load_*`` read files
that you have, and all return a Bunch with texts, targets, label names, annotators' answers and a description. Loaders
stand in `_abuse`, `_disagreement`, `_posts` and `_entity_boxes` by theme; `_reading`, `_fetching` and `_annotators` are
their tools.
"""

from .._utils.docs import publish
from ._abuse import fetch_hatexplain
from ._annotators import annotator_distribution
from ._disagreement import fetch_convabuse, fetch_hs_brexit, load_lewidi
from ._entity_boxes import load_boxes, make_boxes
from ._posts import fetch_goemotions, fetch_mfrc, fetch_stackoverflow_emotions, load_semeval2018
from ._reading import load_annotations
from ._split import paper_split

__all__ = [
    "annotator_distribution",
    "fetch_convabuse",
    "fetch_goemotions",
    "fetch_hatexplain",
    "fetch_hs_brexit",
    "fetch_mfrc",
    "fetch_stackoverflow_emotions",
    "load_annotations",
    "load_boxes",
    "load_lewidi",
    "load_semeval2018",
    "make_boxes",
    "paper_split",
]

publish(__name__, globals())

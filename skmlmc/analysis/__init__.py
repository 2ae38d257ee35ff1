"""How a model answers: tables of what its step distributions, hidden states and attention look like.

Each function returns a tidy table, one row an observation: a dict of columns, or a pandas DataFrame with
``as_frame=True``. They measure the findings of Ma et al., "Large Language Models Do Multi-Label Classification
Differently", EMNLP 2025, section 4, on any model and documents.

=================== =============================================================== =========
function            question                                                        paper
=================== =============================================================== =========
step_shape          how sure is the model at each step, and at the last one         spikiness
step_values         the same, a row a document and step                             spikiness
second_ranked       is the label ranked second the next one, or does it never come  Table 4
early_probability   which probability has a label one step before it comes          Table 4
accuracy_by_step    is the first label right more often than the second             Figure 5
answer_lengths      how many labels do answers have                                 Figure 6
multilabel_share    do demonstrations with several labels make answers with several Figure 6
probe_own_labels    what does the hidden state of the first label know              Figure 7
attention_to_labels do later labels look at the document or at earlier labels       Table 6
answer_order        do answers follow the alphabet or the prompt                    Table 7
=================== =============================================================== =========
"""

from __future__ import annotations

from .._utils.docs import publish
from ._answers import accuracy_by_step, answer_lengths, answer_order
from ._attention import attention_to_labels
from ._demonstrations import multilabel_share
from ._next_label import early_probability, second_ranked
from ._probing import probe_own_labels
from ._spikiness import step_shape, step_values

__all__ = [
    "accuracy_by_step",
    "answer_lengths",
    "answer_order",
    "attention_to_labels",
    "early_probability",
    "multilabel_share",
    "probe_own_labels",
    "second_ranked",
    "step_shape",
    "step_values",
]

publish(__name__, globals())

"""Fine-tuning: a language model learns to answer as annotators do, and becomes a classifier like the others.

Training needs the packages of ``skmlmc[finetune]``, which are imported when it begins.
"""

from .._utils.docs import publish
from ._estimator import FinetunedClassifier, answer_log_probability

__all__ = ["FinetunedClassifier", "answer_log_probability"]

publish(__name__, globals())

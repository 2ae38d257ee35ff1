"""Prompt templates, chat templates of models, answer formats, and the choice of demonstrations."""

from .._utils.docs import publish
from ._chunks import CHUNK_POOLINGS, Chunks
from ._demonstrations import (
    DEMONSTRATION_CHOICES,
    choose_demonstrations,
    pair_demonstrations,
    unary_demonstrations,
)
from ._templates import (
    ANSWER_FORMATS,
    DEMONSTRATION,
    INSTRUCTION,
    MODES,
    PAIR_INSTRUCTION,
    PAIR_QUESTION,
    UNARY_INSTRUCTION,
    UNARY_QUESTION,
    PromptTemplate,
    QuestionTemplate,
    render_answer,
)

__all__ = [
    "ANSWER_FORMATS",
    "CHUNK_POOLINGS",
    "Chunks",
    "DEMONSTRATION",
    "DEMONSTRATION_CHOICES",
    "INSTRUCTION",
    "MODES",
    "PAIR_INSTRUCTION",
    "PAIR_QUESTION",
    "PromptTemplate",
    "QuestionTemplate",
    "UNARY_INSTRUCTION",
    "UNARY_QUESTION",
    "choose_demonstrations",
    "pair_demonstrations",
    "render_answer",
    "unary_demonstrations",
]

publish(__name__, globals())

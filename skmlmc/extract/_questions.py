"""Extractors that break the task down into questions: about each label, or about each pair of labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._inference.tasks import QuestionsTask
from .._utils.checks import check_encodes
from .._utils.labelled import label
from .._utils.typing import Demonstrations, FilePath, Labels, Lora, Names, RandomState
from ..base import LabelColumnsMixin
from ..prompts._templates import (
    PromptTemplate,
    QuestionTemplate,
    check_question,
    pair_demonstrations,
    unary_demonstrations,
)
from ._base import Extractor, ThreeDimensionalMixin
from ._prompted import documented


@documented
class UnaryExtractor(LabelColumnsMixin, Extractor, auto_wrap_output_keys=("transform",)):  # type: ignore[call-arg]
    """Unary breakdown: for each label the model's word on whether it fits.

    The document stands before the question, so it is decoded once and each label adds only the tokens of its own
    question.

    Parameters
    ----------
    {engine_parameters}
    prompt : QuestionTemplate, PromptTemplate, str or None, default=None
        The question, an instruction for the default one, or a `PromptTemplate` whose wording and mode are used.
    answer_words : (str, str), default=("reasonable", "unreasonable")
        The words for "fits" and "does not fit".

    Attributes
    ----------
    {engine_attributes}
    questions_ : list of (str, str, str)
        Text, label and answer of each demonstration: half of them show a label that was given, half one that was not.

    Notes
    -----
    Ma et al., EMNLP 2025, section 5: P is the softmax over the two answer words. For single-label tasks take the
    softmax over the labels (``GGUFClassifier(method="unary_breakdown", multi_label=False)``).

    Examples
    --------
    >>> from skmlmc import UnaryExtractor
    >>> UnaryExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"]).shape  # doctest: +SKIP
    (1, 2)
    """

    def __init__(
        self,
        model: FilePath | None = None,
        *,
        labels: Labels | None = None,
        shots: int = 0,
        demonstrations: Demonstrations = "multilabel",
        prompt: QuestionTemplate | PromptTemplate | str | None = None,
        answer_words: Sequence[str] = ("reasonable", "unreasonable"),
        none_label: str = "none",
        label_order: Names | None = None,
        batch_size: int = 1,
        truncation: str | None = None,
        n_ctx: int = 4096,
        n_threads: int | None = None,
        n_jobs: int | None = None,
        kv_dtype: str = "float16",
        lora: Lora | None = None,
        memory: Any = None,
        verbose: int = 0,
        random_state: RandomState | None = None,
    ) -> None:
        self.model = model
        self.labels = labels
        self.shots = shots
        self.demonstrations = demonstrations
        self.prompt = prompt
        self.answer_words = answer_words
        self.none_label = none_label
        self.label_order = label_order
        self.batch_size = batch_size
        self.truncation = truncation
        self.n_ctx = n_ctx
        self.n_threads = n_threads
        self.n_jobs = n_jobs
        self.kv_dtype = kv_dtype
        self.lora = lora
        self.memory = memory
        self.verbose = verbose
        self.random_state = random_state

    def transform(self, X: Any) -> np.ndarray:
        """Ask about every label.

        Parameters
        ----------
        X : sequence of str of length n
            Documents.

        Returns
        -------
        ndarray of shape (n, L), float64
            Probability that the label fits.

        Raises
        ------
        ValueError, TypeError
            A document is no str or does not fit the context; nothing was decoded.
        """
        return label(np.array(self._run(X, self._task())), "unary", self.labels_, X)

    def _check_parameters(self):
        check_question(self.prompt, ("label",))
        check_answer_words(self.answer_words)

    def _after_fit(self):
        self._asked = unary_demonstrations(self._numbered_demonstrations(), len(self.labels_), self.random_state)
        words = check_answer_words(self.answer_words)
        self.questions_ = [(text, str(self.labels_[k]), words[not given]) for text, k, given in self._asked]

    def _task(self):
        check_is_fitted(self)
        template = check_question(self.prompt, ("label",))
        questions = tuple((k,) for k in range(len(self.labels_)))
        shown = tuple((text, (k,), given) for text, k, given in self._asked)
        answers = check_answer_words(self.answer_words)
        return QuestionsTask(template, self._words(), self._order(), questions, shown, answers)


@documented
class PairwiseExtractor(ThreeDimensionalMixin, Extractor, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Binary breakdown: for each pair of labels the model's word on which fits better.

    The empty answer is one more player. The document stands before the question and is decoded once.

    Parameters
    ----------
    {engine_parameters}
    prompt : QuestionTemplate, PromptTemplate, str or None, default=None
        The question, an instruction for the default one, or a `PromptTemplate` whose wording and mode are used.
    answer_words : (str, str), default=("a", "b")
        The words for "the first" and "the second".
    both_orders : bool, default=True
        Ask each pair in both orders and average, which takes out the model's preference for a position, at twice the
        cost: (L + 1) L questions instead of half as many.

    Attributes
    ----------
    {engine_attributes}
    questions_ : list of (str, str, str, str)
        Text, first and second label and answer of each demonstration.

    See Also
    --------
    BradleyTerry : Turns pairs into label probabilities.

    Notes
    -----
    Ma et al., EMNLP 2025, section 5.

    Examples
    --------
    >>> from skmlmc import PairwiseExtractor
    >>> PairwiseExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"]).shape  # doctest: +SKIP
    (1, 3, 3)
    """

    def __init__(
        self,
        model: FilePath | None = None,
        *,
        labels: Labels | None = None,
        shots: int = 0,
        demonstrations: Demonstrations = "multilabel",
        prompt: QuestionTemplate | PromptTemplate | str | None = None,
        answer_words: Sequence[str] = ("a", "b"),
        both_orders: bool = True,
        none_label: str = "none",
        label_order: Names | None = None,
        batch_size: int = 1,
        truncation: str | None = None,
        n_ctx: int = 4096,
        n_threads: int | None = None,
        n_jobs: int | None = None,
        kv_dtype: str = "float16",
        lora: Lora | None = None,
        memory: Any = None,
        verbose: int = 0,
        random_state: RandomState | None = None,
    ) -> None:
        self.model = model
        self.labels = labels
        self.shots = shots
        self.demonstrations = demonstrations
        self.prompt = prompt
        self.answer_words = answer_words
        self.both_orders = both_orders
        self.none_label = none_label
        self.label_order = label_order
        self.batch_size = batch_size
        self.truncation = truncation
        self.n_ctx = n_ctx
        self.n_threads = n_threads
        self.n_jobs = n_jobs
        self.kv_dtype = kv_dtype
        self.lora = lora
        self.memory = memory
        self.verbose = verbose
        self.random_state = random_state

    def transform(self, X: Any) -> np.ndarray:
        """Ask about every pair.

        Parameters
        ----------
        X : sequence of str of length n
            Documents.

        Returns
        -------
        ndarray of shape (n, L + 1, L + 1), float64
            ``pairs[i, a, b]``: probability that a fits document i better than b; ``pairs[i, a, b] + pairs[i, b, a]``
            is 1 and the diagonal 0.5. The last player is the empty answer.

        Raises
        ------
        ValueError, TypeError
            A document is no str or does not fit the context; nothing was decoded.
        """
        first = np.array(self._run(X, self._task()))
        a, b = np.array(self._questions()).T
        n = len(self.labels_) + 1
        total, count = np.zeros((len(first), n, n)), np.zeros((n, n))
        for rows, columns, p in ((a, b, first), (b, a, 1 - first)):
            total[:, rows, columns] += p
            count[rows, columns] += 1
        pairs = np.full((len(first), n, n), 0.5)
        asked = count > 0
        pairs[:, asked] = total[:, asked] / count[asked]
        return label(pairs, "pairs", self.labels_, X)

    def _questions(self):
        n = len(self.labels_) + 1
        return [(a, b) for a, b in permutations(range(n), 2) if self.both_orders or a < b]

    def _check_parameters(self):
        check_question(self.prompt, ("first", "second"))
        check_answer_words(self.answer_words)

    def _after_fit(self):
        self._asked = pair_demonstrations(self._numbered_demonstrations(), len(self.labels_), self.random_state)
        names, words = [*self.labels_, self.none_label], check_answer_words(self.answer_words)
        self.questions_ = [(text, names[a], names[b], words[not first]) for text, a, b, first in self._asked]

    def _task(self):
        check_is_fitted(self)
        template = check_question(self.prompt, ("first", "second"))
        shown = tuple((text, (a, b), first) for text, a, b, first in self._asked)
        answers = check_answer_words(self.answer_words)
        return QuestionsTask(template, self._words(), self._order(), tuple(self._questions()), shown, answers)


def check_answer_words(words) -> tuple[str, str]:
    """Return the two answer words, or raise ValueError."""
    given = tuple(words) if isinstance(words, (tuple, list)) else ()
    if len(given) != 2 or not all(isinstance(w, str) and w.strip() for w in given) or given[0] == given[1]:
        raise ValueError(f"Got answer_words={words!r} but expected two different words, such as ('yes', 'no').")
    for i, word in enumerate(given):
        check_encodes(word, "answer_words", f"word {i}")
    return given

"""Extractors that break the task down into questions: about each label, or about each pair of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._inference.tasks import QuestionsTask
from .._utils.checks import check_choice, check_encodes
from .._utils.labelled import labelled
from .._utils.typing import Demonstrations, FilePath, Labels, Lora, Names, RandomState
from ..base import LabelColumnsMixin
from ..prompts._chunks import Truncation
from ..prompts._demonstrations import pair_demonstrations, unary_demonstrations
from ..prompts._nearest import is_nearest
from ..prompts._templates import PromptTemplate, QuestionTemplate, check_question
from ._base import Extractor, ThreeDimensionalMixin, documented_extractor, keep_parameters


class QuestionsExtractor(Extractor, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """What the extractors share that ask a document several questions, each with two answers."""

    answer_words: Sequence[str]
    _fields: tuple[str, ...]  # what a question names

    def _questions(self):
        """Return the numbers of the labels that each question names."""
        raise NotImplementedError

    def _draw(self, demonstrations):
        """Turn demonstrations into questions: text, numbers of the labels, whether the first answer is right."""
        raise NotImplementedError

    def _check_parameters(self):
        if is_nearest(self.demonstrations):
            raise ValueError(
                f"Got demonstrations={self.demonstrations!r:.80} for questions, whose prompt is the same for all "
                'documents: expected demonstrations that are the same too, such as "multilabel", or an extractor that '
                "lets the model write its answer."
            )
        check_question(self.prompt, self._fields)
        check_answer_words(self.answer_words)

    def _after_fit(self):
        names, answers = [*self.labels_, self.none_label], check_answer_words(self.answer_words)
        drawn = self._draw(self._numbered_demonstrations())
        self._asked = [(text, tuple(question), right) for text, *question, right in drawn]
        self.questions_ = [(text, *(names[k] for k in named), answers[not right]) for text, named, right in self._asked]

    def _task(self):
        check_is_fitted(self)
        template, answers = check_question(self.prompt, self._fields), check_answer_words(self.answer_words)
        questions = tuple(self._questions())
        asked = (template, self._words(), self._order(), questions, tuple(self._asked), answers)
        return QuestionsTask(*asked, self._descriptions)


@documented_extractor
class UnaryExtractor(LabelColumnsMixin, QuestionsExtractor, auto_wrap_output_keys=("transform",)):  # type: ignore[call-arg]
    """Unary breakdown: for each label the model's word on whether it fits.

    For when a question a label can be afforded: the document stands before the question, so it is decoded once and
    each label adds only the tokens of its own question. Each label is judged on its own, and small models say yes, or
    no, to nearly all of them; `ContextualCalibration` or a fitted aligner behind it takes that out.

    Parameters
    ----------
    {engine_parameters}
    {question_prompt}
    answer_words : (str, str), default=("reasonable", "unreasonable")
        The words for "fits" and "does not fit".

    Attributes
    ----------
    {engine_attributes}
    questions_ : list of (str, str, str)
        Text, label and answer of each demonstration: half of them show a label that was given, half one that was not.

    Notes
    -----
    Unary breakdown: {paper}, section 5. P is the softmax over the two answer words. For single-label tasks take the
    softmax over the labels (``GGUFClassifier(method="unary_breakdown", multi_label=False)``).

    Examples
    --------
    >>> from skmlmc import UnaryExtractor
    >>> UnaryExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"]).shape
    (1, 2)
    """

    def __init__(
        self,
        model: FilePath | None = None,
        *,
        labels: Labels | None = None,
        descriptions: Mapping[str, str] | None = None,
        shots: int = 0,
        demonstrations: Demonstrations = "multilabel",
        prompt: QuestionTemplate | PromptTemplate | str | None = None,
        answer_words: Sequence[str] = ("reasonable", "unreasonable"),
        none_label: str = "none",
        label_order: Names | None = None,
        batch_size: int = 1,
        truncation: Truncation = None,
        n_ctx: int = 4096,
        n_threads: int | None = None,
        n_jobs: int | None = None,
        kv_dtype: str = "float16",
        lora: Lora | None = None,
        memory: Any = None,
        verbose: int = 0,
        random_state: RandomState | None = None,
    ) -> None:
        keep_parameters(self, locals())

    def transform(self, X: Any) -> np.ndarray:
        """Ask about every label.

        {documents}

        Returns
        -------
        ndarray of shape (n, L), float64
            Probability that the label fits.

        {document_errors}
        """
        return self.diagnose(X).unary

    def diagnose(self, X: Any) -> Bunch:
        """Ask about every label; the same as ``transform``, in the form that all extractors share.

        {documents}

        Returns
        -------
        Bunch
            unary : ndarray of shape (n, L), float64
                What ``transform`` returns.

        {document_errors}
        """
        pieces, found = self._run_pieces(X, self._task())
        return Bunch(unary=labelled(pieces.pool(np.array(found)), "unary", self.labels_, X))

    _fields = ("label",)

    def _questions(self):
        return [(k,) for k in range(len(self.labels_))]

    def _draw(self, demonstrations):
        return unary_demonstrations(demonstrations, len(self.labels_), self.random_state)


@documented_extractor
class PairwiseExtractor(ThreeDimensionalMixin, QuestionsExtractor, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Binary breakdown: for each pair of labels the model's word on which fits better.

    The empty answer is one more player. The document stands before the question and is decoded once, but the number of
    questions grows with the square of the labels: for comparison, or for few labels.

    Parameters
    ----------
    {engine_parameters}
    {question_prompt}
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
    Binary breakdown: {paper}, section 5.

    Examples
    --------
    >>> from skmlmc import PairwiseExtractor
    >>> PairwiseExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"]).shape
    (1, 3, 3)
    """

    def __init__(
        self,
        model: FilePath | None = None,
        *,
        labels: Labels | None = None,
        descriptions: Mapping[str, str] | None = None,
        shots: int = 0,
        demonstrations: Demonstrations = "multilabel",
        prompt: QuestionTemplate | PromptTemplate | str | None = None,
        answer_words: Sequence[str] = ("a", "b"),
        both_orders: bool = True,
        none_label: str = "none",
        label_order: Names | None = None,
        batch_size: int = 1,
        truncation: Truncation = None,
        n_ctx: int = 4096,
        n_threads: int | None = None,
        n_jobs: int | None = None,
        kv_dtype: str = "float16",
        lora: Lora | None = None,
        memory: Any = None,
        verbose: int = 0,
        random_state: RandomState | None = None,
    ) -> None:
        keep_parameters(self, locals())

    def transform(self, X: Any) -> np.ndarray:
        """Ask about every pair.

        {documents}

        Returns
        -------
        ndarray of shape (n, L + 1, L + 1), float64
            ``pairs[i, a, b]``: probability that a fits document i better than b; ``pairs[i, a, b] + pairs[i, b, a]``
            is 1 and the diagonal 0.5. The last player is the empty answer.

        {document_errors}
        """
        return self.diagnose(X).pairs

    def diagnose(self, X: Any) -> Bunch:
        """Ask about every pair, and say how much the place in the question counts; decodes what ``transform`` does.

        {documents}

        Returns
        -------
        Bunch
            pairs : ndarray of shape (n, L + 1, L + 1), float64
                What ``transform`` returns.
            first_named : ndarray of shape (n,)
                Mean probability that the one named first fits better: 0.5 where the place does not count. NaN with
                ``both_orders=False``, which cannot tell the place from the labels.

        {document_errors}
        """
        first = np.array(self._run(X, self._task()))
        named = first.mean(axis=1) if self.both_orders else np.full(len(first), np.nan)
        return Bunch(pairs=labelled(self._to_pairs(first), "pairs", self.labels_, X), first_named=named)

    def _to_pairs(self, first):
        a, b = np.array(self._questions()).T
        n = len(self.labels_) + 1
        total, count = np.zeros((len(first), n, n)), np.zeros((n, n))
        for rows, columns, p in ((a, b, first), (b, a, 1 - first)):
            total[:, rows, columns] += p
            count[rows, columns] += 1
        pairs = np.full((len(first), n, n), 0.5)
        asked = count > 0
        pairs[:, asked] = total[:, asked] / count[asked]
        return pairs

    _fields = ("first", "second")

    def _check_parameters(self):
        super()._check_parameters()
        check_choice(self.both_orders, "both_orders", (True, False))

    def _questions(self):
        n = len(self.labels_) + 1
        return [(a, b) for a, b in permutations(range(n), 2) if self.both_orders or a < b]

    def _draw(self, demonstrations):
        return pair_demonstrations(demonstrations, len(self.labels_), self.random_state)


def check_answer_words(words) -> tuple[str, str]:
    """Return the two answer words, or raise ValueError."""
    given = tuple(words) if isinstance(words, (tuple, list)) else ()
    if len(given) != 2 or not all(isinstance(w, str) and w.strip() for w in given) or given[0] == given[1]:
        raise ValueError(f"Got answer_words={words!r} but expected two different words, such as ('yes', 'no').")
    for i, word in enumerate(given):
        check_encodes(word, "answer_words", f"word {i}")
    return given

"""The probability that a label stands in the answer at all, over all answers the model may give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._inference.tasks import BeamTask
from .._utils.checks import check_positive, check_positive_int, check_threshold
from .._utils.labelled import labelled
from .._utils.typing import Demonstrations, FilePath, Labels, Lora, Names, RandomState, Threshold
from ..base import LabelColumnsMixin, LabelProbabilityMixin
from ..prompts._chunks import Truncation
from ..prompts._templates import PromptTemplate
from ._base import documented_extractor, keep_parameters
from ._steps import WrittenAnswerExtractor


@documented_extractor
class MarginalExtractor(
    LabelColumnsMixin,
    LabelProbabilityMixin,
    WrittenAnswerExtractor,
    auto_wrap_output_keys=("transform",),  # type: ignore[call-arg]
):
    """Probability that each label stands in the model's answer at all, over all answers the model may give.

    Follows every label sequence whose probability stays above a bound, where `MaxOverGenerations` reads the greedy
    one alone: what the model itself believes, and no method of the paper. On small models not better aligned with
    people for it. An answer costs as many branches as stay above the bound: where ``diagnose(X).mass`` is far below 1,
    lower it or raise `max_labels`.

    Parameters
    ----------
    {engine_parameters}
    {answer_prompt}
    max_labels : int, default=3
        Most labels of an answer that is followed; longer ones count as not followed to their end.
    {label_tokens}
    min_probability : float, default=0.002
        Answers in progress below it are not followed.
    {threshold}

    Attributes
    ----------
    {engine_attributes}

    Examples
    --------
    >>> from skmlmc import MarginalExtractor
    >>> MarginalExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"]).shape
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
        prompt: PromptTemplate | str | None = None,
        none_label: str = "none",
        label_order: Names | None = None,
        max_labels: int = 3,
        label_tokens: str = "first",
        min_probability: float = 0.002,
        threshold: Threshold = 0.5,
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
        """Follow the answers.

        {documents}

        Returns
        -------
        ndarray of shape (n, L), float64
            Probability that the answer holds each label.

        {document_errors}
        """
        return self.diagnose(X).unary

    def diagnose(self, X: Any) -> Bunch:
        """Follow the answers, and say how much of what the model may write they are; decodes what ``transform`` does.

        {documents}

        Returns
        -------
        Bunch
            unary : ndarray of shape (n, L), float64
                What ``transform`` returns: lower bounds, exact where `mass` is 1.
            mass : ndarray of shape (n,)
                Probability of the answers that were followed to their end, among all that are made of labels. What is
                missing to 1 are answers with more labels than `max_labels`, and those that fell below
                `min_probability` on the way. Words that are no labels are left out of both: see
                `StepwiseExtractor.diagnose` for their part.

        {document_errors}
        """
        pieces, marginals = self._run_pieces(X, self._task())
        unary = labelled(pieces.pool(np.array([m.labels for m in marginals])), "unary", self.labels_, X)
        return Bunch(unary=unary, mass=pieces.pool(np.array([m.mass for m in marginals]), "mean"))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Follow the answers: the same as ``transform``.

        {documents}

        Returns
        -------
        ndarray of shape (n, L), float64
            Probability that the answer holds each label.
        """
        return np.asarray(self.diagnose(X).unary)

    def _check_parameters(self):
        super()._check_parameters()
        check_positive_int(self.max_labels, "max_labels")  # None is no choice here
        check_positive(self.min_probability, "min_probability", upper=1)

    def _after_fit(self):
        super()._after_fit()
        check_threshold(self.threshold, self.labels_)

    def _task(self, kind=BeamTask, **more):
        return super()._task(kind, min_probability=self.min_probability, **more)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False  # scikit-learn's classifiers require one
        return tags

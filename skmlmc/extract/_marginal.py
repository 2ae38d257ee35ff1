"""The probability that a label stands in the answer at all, over all answers the model may give."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._inference.tasks import BeamTask
from .._utils.checks import check_positive, check_positive_int, check_threshold
from .._utils.labelled import label
from .._utils.typing import Demonstrations, FilePath, Labels, Lora, Names, RandomState, Threshold
from ..base import LabelColumnsMixin, LabelProbabilityMixin
from ..prompts._templates import PromptTemplate, check_prompt, check_words
from ._base import Extractor
from ._prompted import documented, text_tags


@documented
class MarginalExtractor(
    LabelColumnsMixin,
    LabelProbabilityMixin,
    Extractor,
    auto_wrap_output_keys=("transform",),  # type: ignore[call-arg]
):
    """Probability that each label stands in the model's answer at all, over all answers the model may give.

    Follows every label sequence whose probability stays above a bound, where `MaxOverGenerations` reads the greedy
    one alone. What the model itself believes; on small models not better aligned with people for it.

    Parameters
    ----------
    {engine_parameters}
    prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one, with ``{labels}`` where the list of labels goes.
    max_labels : int, default=3
        Most labels of an answer that is followed; longer ones count as not followed to their end.
    min_probability : float, default=0.002
        Answers in progress below it are not followed.
    threshold : float, array-like of shape (L,) or mapping of str to float, default=0.5
        Probability from which ``predict`` gives a label.

    Attributes
    ----------
    {engine_attributes}
    mass_ : ndarray of shape (n,)
        After ``transform``: probability of the answers that were followed to their end. The probabilities are lower
        bounds, exact where it is 1.

    Examples
    --------
    >>> from skmlmc import MarginalExtractor
    >>> MarginalExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"]).shape  # doctest: +SKIP
    (1, 2)
    """

    def __init__(
        self,
        model: FilePath | None = None,
        *,
        labels: Labels | None = None,
        shots: int = 0,
        demonstrations: Demonstrations = "multilabel",
        prompt: PromptTemplate | str | None = None,
        none_label: str = "none",
        label_order: Names | None = None,
        max_labels: int = 3,
        min_probability: float = 0.002,
        threshold: Threshold = 0.5,
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
        self.none_label = none_label
        self.label_order = label_order
        self.max_labels = max_labels
        self.min_probability = min_probability
        self.threshold = threshold
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
        """Follow the answers.

        Parameters
        ----------
        X : sequence of str of length n
            Documents.

        Returns
        -------
        ndarray of shape (n, L), float64
            Probability that the answer holds each label.

        Raises
        ------
        ValueError, TypeError
            A document is no str or does not fit the context; nothing was decoded.
        """
        marginals = self._run(X, self._task())
        self.mass_ = np.array([m.mass for m in marginals])
        return label(np.array([m.labels for m in marginals]), "unary", self.labels_, X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Follow the answers: the same as ``transform``.

        Parameters
        ----------
        X : sequence of str of length n
            Documents.

        Returns
        -------
        ndarray of shape (n, L), float64
            Probability that the answer holds each label.
        """
        return np.array([m.labels for m in self._run(X, self._task())])

    def _check_parameters(self):
        check_prompt(self.prompt)
        check_positive_int(self.max_labels, "max_labels")
        check_positive(self.min_probability, "min_probability", upper=1)

    def _after_fit(self):
        check_words(check_prompt(self.prompt).answer_format, self._words())
        check_threshold(self.threshold, self.labels_)

    def _task(self):
        check_is_fitted(self)
        shown = tuple(self._numbered_demonstrations())
        limits: dict[str, Any] = {"max_labels": min(self.max_labels, len(self.labels_))}
        limits["min_probability"] = self.min_probability
        return BeamTask(check_prompt(self.prompt), self._words(), self._order(), shown, **limits)

    def __sklearn_tags__(self):
        return text_tags(super().__sklearn_tags__())  # again: scikit-learn's classifiers require a target

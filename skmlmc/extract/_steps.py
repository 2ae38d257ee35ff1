"""Extractors of the model's answer: step distributions, and hidden states read along with them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._inference.tasks import StepsTask
from .._utils.checks import check_choice, check_positive_int
from .._utils.labelled import label
from .._utils.typing import Demonstrations, FilePath, Labels, Lora, Names, RandomState
from ..prompts._templates import PromptTemplate, check_prompt, check_words
from ._base import Extractor, ThreeDimensionalMixin
from ._prompted import documented

LOW_LABEL_MASS = 0.1


@documented
class StepwiseExtractor(ThreeDimensionalMixin, Extractor, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Distribution over the labels at each step of the model's answer.

    The model reads instruction, demonstrations and document and writes its answer label by label, constrained to
    the labels. Every time it is about to start a label, its probabilities of all labels and of "none" are kept.

    Parameters
    ----------
    {engine_parameters}
    prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one, with ``{labels}`` where the list of labels goes.
    max_labels : int or None, default=None
        Most labels of an answer; None: all of them.

    Attributes
    ----------
    {engine_attributes}
    label_mass_ : ndarray of shape (n,)
        After ``transform``: probability of all label tokens together at the first step of each document. Where it is
        low the prompt does not fit the model, and a warning says so.

    Notes
    -----
    Step distributions: Ma et al., EMNLP 2025, section 3, with exact probabilities over the labels' token trie. The
    transformed array has three dimensions, so ``set_output`` has no effect.

    Examples
    --------
    >>> from skmlmc import StepwiseExtractor
    >>> steps = StepwiseExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"])  # doctest: +SKIP
    >>> steps.shape  # doctest: +SKIP
    (1, 2, 3)
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
        max_labels: int | None = None,
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
        """Let the model answer.

        Parameters
        ----------
        X : sequence of str of length n
            Documents.

        Returns
        -------
        ndarray of shape (n, R, L + 1), float64
            ``steps[i, r, l]``: probability of label l at step r of document i; the last column is the empty answer.
            R is `max_labels`, or L. Steps that did not happen are NaN.

        Raises
        ------
        ValueError, TypeError
            A document is no str or does not fit the context; nothing was decoded.
        """
        answers = self._run(X, self._task())
        steps = np.full((len(answers), self._n_steps(), len(self.labels_) + 1), np.nan)
        written = np.full(steps.shape[:2], -1)
        for row, said, answer in zip(steps, written, answers, strict=True):
            row[: len(answer.steps)] = answer.steps
            said[: len(answer.written)] = answer.written
        self.label_mass_ = np.array([answer.label_mass for answer in answers])
        _warn_of_low_mass(self.label_mass_)
        return label(steps, "steps", self.labels_, X, written)

    def _check_parameters(self):
        check_prompt(self.prompt)
        if self.max_labels is not None:
            check_positive_int(self.max_labels, "max_labels")

    def _after_fit(self):
        check_words(check_prompt(self.prompt).answer_format, self._words())

    def _n_steps(self):
        return min(self.max_labels or len(self.labels_), len(self.labels_))

    def _task(self, hidden=None):
        check_is_fitted(self)
        demonstrations = tuple(self._numbered_demonstrations())
        return StepsTask(
            check_prompt(self.prompt), self._words(), self._order(), demonstrations, self._n_steps(), hidden
        )


@documented
class HiddenStateExtractor(StepwiseExtractor, auto_wrap_output_keys=("transform",)):  # type: ignore[call-arg]
    """Hidden state of the model where it predicts the first label, or its mean over the document.

    Read in the same pass as the step distributions and, with the default layer, kept in the same cache entry.

    Parameters
    ----------
    {engine_parameters}
    layer : int, float or None, default=None
        After which block the state is read. None: after the last one, normalised (the paper's). A float in (0, 1): at
        that part of the depth; blocks in the middle say more about the document, the last ones more about the next
        word.
    pooling : {"last", "mean"}, default="last"
        "last": at the token where the first label is predicted. "mean": over the document and what leads over to the
        answer; needs a `layer` before the last one.
    prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one, with ``{labels}`` where the list of labels goes.
    max_labels : int or None, default=None
        Most labels of the answer that is written along. 1 saves the rest of the answer where only hidden states are
        wanted; the default shares the cache entry of `StepwiseExtractor`.

    Attributes
    ----------
    {engine_attributes}
    n_features_out_ : int
        After ``transform``: d, the model's width.

    See Also
    --------
    LinearProbe : The estimator that belongs behind it.

    Notes
    -----
    Linear probe: Ma et al., EMNLP 2025, section 5.

    Examples
    --------
    >>> from skmlmc import HiddenStateExtractor
    >>> HiddenStateExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"]).shape  # doctest: +SKIP
    (1, 576)
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
        max_labels: int | None = None,
        layer: float | None = None,
        pooling: str = "last",
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
        super().__init__(
            model,
            labels=labels,
            shots=shots,
            demonstrations=demonstrations,
            prompt=prompt,
            none_label=none_label,
            label_order=label_order,
            max_labels=max_labels,
            batch_size=batch_size,
            truncation=truncation,
            n_ctx=n_ctx,
            n_threads=n_threads,
            n_jobs=n_jobs,
            kv_dtype=kv_dtype,
            lora=lora,
            memory=memory,
            verbose=verbose,
            random_state=random_state,
        )
        self.layer = layer
        self.pooling = pooling

    def _check_parameters(self):
        super()._check_parameters()
        layer, real = self.layer, isinstance(self.layer, (float, np.floating))
        whole = isinstance(layer, (int, np.integer)) and not isinstance(layer, bool)
        if not (layer is None or whole or (real and 0 < layer < 1)):
            raise ValueError(f"Got layer={layer!r} but expected None, a block's number, or a float between 0 and 1.")
        check_choice(self.pooling, "pooling", ("last", "mean"))
        if layer is None and self.pooling == "mean":
            raise ValueError(
                "Got pooling='mean' with layer=None, but the last layer is computed at one token only: "
                "choose a layer before it, such as layer=0.5."
            )

    def transform(self, X: Any) -> np.ndarray:
        """Read the hidden states.

        Parameters
        ----------
        X : sequence of str of length n
            Documents.

        Returns
        -------
        ndarray of shape (n, d), float32
            Hidden states; d is the model's width.

        Raises
        ------
        ValueError, TypeError
            A document is no str or does not fit the context; nothing was decoded.
        """
        answers = self._run(X, self._task(hidden=(self.layer, self.pooling)))
        hidden = np.array([answer.hidden for answer in answers])
        self.n_features_out_ = hidden.shape[1]
        return hidden

    set_output = TransformerMixin.set_output

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns, known after the first ``transform``.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's convention.

        Returns
        -------
        ndarray of shape (d,), object
            "hidden0", "hidden1", ...
        """
        check_is_fitted(self, "n_features_out_")
        return np.array([f"hidden{k}" for k in range(self.n_features_out_)], dtype=object)


def _warn_of_low_mass(label_mass):
    median = float(np.median(label_mass))
    if median < LOW_LABEL_MASS:
        warnings.warn(
            f"The label tokens hold only {median:.2g} of the probability at the first step (median): the model would "
            "rather write something else, so the prompt does not fit it. Try demonstrations (shots=10), another "
            "prompt, another answer_format, or a larger model.",
            UserWarning,
            stacklevel=3,
        )

"""Extractors of the model's answer: step distributions, and hidden states read along with them."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ._base import LabelProbabilityMixin
from ._extractor import Extractor, ThreeDimensionalMixin
from ._prompted import documented
from ._tasks import BeamTask, StepsTask
from ._validation import check_positive, check_positive_int, check_threshold
from .prompts import check_prompt, check_words

LOW_LABEL_MASS = 0.1


@documented
class StepwiseExtractor(ThreeDimensionalMixin, Extractor, auto_wrap_output_keys=None):
    """Distribution over the labels at each step of the model's answer.

    The model reads instruction, demonstrations and document and writes its answer label by label, constrained to
    the labels. Every time it is about to start a label, its probabilities of all labels and of "none" are kept.

    Parameters
    ----------
    {engine_parameters}
    prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one.
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
        model=None,
        *,
        labels=None,
        shots=0,
        demonstrations="multilabel",
        prompt=None,
        none_label="none",
        label_order=None,
        max_labels=None,
        batch_size=1,
        truncation=None,
        n_ctx=4096,
        n_threads=None,
        kv_dtype="float16",
        lora=None,
        memory=None,
        verbose=0,
        random_state=None,
    ):
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
        self.kv_dtype = kv_dtype
        self.lora = lora
        self.memory = memory
        self.verbose = verbose
        self.random_state = random_state

    def transform(self, X):
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
        for row, answer in zip(steps, answers, strict=True):
            row[: len(answer.steps)] = answer.steps
        self.label_mass_ = np.array([answer.label_mass for answer in answers])
        _warn_of_low_mass(self.label_mass_)
        return steps

    def get_feature_names_out(self, input_features=None):
        """Names along the last axis: the labels and the empty answer.

        They let pipelines name their columns inside ``ColumnTransformer`` and ``FeatureUnion``.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's convention.

        Returns
        -------
        ndarray of shape (L + 1,), object
            Label names, then `none_label`.
        """
        check_is_fitted(self)
        return np.array([*self.labels_, self.none_label], dtype=object)

    def _check_parameters(self):
        check_prompt(self.prompt)
        if self.max_labels is not None:
            check_positive_int(self.max_labels, "max_labels")

    def _after_fit(self):
        check_words(check_prompt(self.prompt).answer_format, self._words())

    def _n_steps(self):
        return min(self.max_labels or len(self.labels_), len(self.labels_))

    def _task(self, hidden=False):
        check_is_fitted(self)
        demonstrations = tuple(self._numbered_demonstrations())
        return StepsTask(
            check_prompt(self.prompt), self._words(), self._order(), demonstrations, self._n_steps(), hidden
        )


@documented
class HiddenStateExtractor(StepwiseExtractor, auto_wrap_output_keys=("transform",)):
    """Hidden state of the model where it predicts the first label.

    The last layer's state after the whole prompt and document, read in the same pass as the step distributions, and
    kept in the same cache entry.

    Parameters
    ----------
    {engine_parameters}
    prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one.
    max_labels : int or None, default=None
        Most labels of the answer that is written along. 1 saves the rest of the answer where only hidden states are
        wanted; the default shares the cache entry of `StepwiseExtractor`.

    Attributes
    ----------
    {engine_attributes}

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

    def transform(self, X):
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
        answers = self._run(X, self._task(hidden=True))
        hidden = np.array([answer.hidden for answer in answers])
        self.n_features_out_ = hidden.shape[1]
        return hidden

    set_output = TransformerMixin.set_output

    def get_feature_names_out(self, input_features=None):
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


@documented
class MarginalOverGenerations(LabelProbabilityMixin, Extractor, auto_wrap_output_keys=("transform",)):
    """Probability that each label stands in the model's answer at all, over all answers the model may give.

    Follows every label sequence whose probability stays above a bound, where `MaxOverGenerations` reads the greedy
    one alone. What the model itself believes; on small models not better aligned with people for it.

    Parameters
    ----------
    {engine_parameters}
    prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one.
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
    >>> from skmlmc import MarginalOverGenerations
    >>> MarginalOverGenerations(labels=["anger", "joy"]).fit().transform(["We won!!!"]).shape  # doctest: +SKIP
    (1, 2)
    """

    def __init__(
        self,
        model=None,
        *,
        labels=None,
        shots=0,
        demonstrations="multilabel",
        prompt=None,
        none_label="none",
        label_order=None,
        max_labels=3,
        min_probability=0.002,
        threshold=0.5,
        batch_size=1,
        truncation=None,
        n_ctx=4096,
        n_threads=None,
        kv_dtype="float16",
        lora=None,
        memory=None,
        verbose=0,
        random_state=None,
    ):
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
        self.kv_dtype = kv_dtype
        self.lora = lora
        self.memory = memory
        self.verbose = verbose
        self.random_state = random_state

    def transform(self, X):
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
        return np.array([m.labels for m in marginals])

    def predict_proba(self, X):
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
        check_is_fitted(self)
        marginals = self._run(X, self._task())
        return np.array([m.labels for m in marginals])

    def get_feature_names_out(self, input_features=None):
        """Names of the output columns: the labels.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's convention.

        Returns
        -------
        ndarray of shape (L,), object
            Label names.
        """
        check_is_fitted(self)
        return np.asarray(self.labels_, dtype=object)

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
        limits = {"max_labels": min(self.max_labels, len(self.labels_)), "min_probability": self.min_probability}
        return BeamTask(check_prompt(self.prompt), self._words(), self._order(), shown, **limits)


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

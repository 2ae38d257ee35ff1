"""The front door: one estimator from texts to label probabilities."""

from __future__ import annotations

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ._base import LabelProbabilityMixin
from ._prompted import PromptedMixin, documented, text_tags
from ._validation import check_choice, check_threshold
from .align import CompareToNone, HardPredictions, MaxOverGenerations
from .extract import StepwiseExtractor

METHODS = {
    "max_over_generations": (StepwiseExtractor, MaxOverGenerations),
    "compare_to_none": (StepwiseExtractor, CompareToNone),
    "hard_predictions": (StepwiseExtractor, HardPredictions),
}


@documented
class GGUFClassifier(PromptedMixin, LabelProbabilityMixin, BaseEstimator):
    """Multi-label text classifier that asks a local GGUF language model.

    ``fit`` learns nothing from the data but its label names and, with ``shots``, the demonstrations in the prompt.

    Parameters
    ----------
    {engine_parameters}
    method : {"max_over_generations", "compare_to_none", "hard_predictions"}, default="max_over_generations"
        Read-out of the label probabilities (section 5 of the paper).
    prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one.
    max_labels : int or None, default=None
        Most labels of an answer; None: all of them.
    threshold : float, array-like of shape (L,) or mapping of str to float, default=0.5
        Probability from which ``predict`` gives a label.

    Attributes
    ----------
    {engine_attributes}
    classes_ : list of L ndarrays
        ``[array([0, 1]), ...]``, as scikit-learn's multi-label estimators have it.
    extractor_ : estimator
        The fitted extractor: its ``transform`` gives what the read-out starts from.
    aligner_ : estimator
        The fitted read-out.

    See Also
    --------
    StepwiseExtractor : The step distributions alone.
    MaxOverGenerations : The default read-out.

    Notes
    -----
    Methods and protocol: Ma et al., "Large Language Models Do Multi-Label Classification Differently", EMNLP 2025.

    Examples
    --------
    >>> from skmlmc import GGUFClassifier
    >>> clf = GGUFClassifier(labels=["anger", "joy", "sadness"]).fit()  # doctest: +SKIP
    >>> clf.predict_proba(["I miss her so much.", "We won!!!"]).shape  # doctest: +SKIP
    (2, 3)
    """

    def __init__(
        self,
        model=None,
        *,
        labels=None,
        method="max_over_generations",
        shots=0,
        demonstrations="multilabel",
        prompt=None,
        none_label="none",
        label_order=None,
        max_labels=None,
        threshold=0.5,
        batch_size=1,
        truncation=None,
        n_ctx=4096,
        n_threads=None,
        kv_dtype="float16",
        memory=None,
        verbose=0,
        random_state=None,
    ):
        self.model = model
        self.labels = labels
        self.method = method
        self.shots = shots
        self.demonstrations = demonstrations
        self.prompt = prompt
        self.none_label = none_label
        self.label_order = label_order
        self.max_labels = max_labels
        self.threshold = threshold
        self.batch_size = batch_size
        self.truncation = truncation
        self.n_ctx = n_ctx
        self.n_threads = n_threads
        self.kv_dtype = kv_dtype
        self.memory = memory
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X=None, y=None, *, distribution=None):
        """Check everything and draw the demonstrations; zero-shot classifiers need no data.

        Parameters
        ----------
        X : sequence of str of length n, default=None
            Documents; needed where demonstrations are drawn.
        y : array-like of shape (n, L) or DataFrame, default=None
            0/1 indicator, or soft targets in [0, 1] (the proportion of annotators who gave the label).
        distribution : array-like of shape (n, L) or DataFrame, default=None
            Soft targets as metadata, used instead of `y`. They survive ``cross_val_predict``, which re-encodes a
            two-dimensional soft `y` as ranks.

        Returns
        -------
        GGUFClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            Something is wrong with a parameter or the data; nothing was decoded.
        """
        extractor_class, aligner_class = METHODS[check_choice(self.method, "method", tuple(METHODS))]
        targets = y if distribution is None else distribution
        extractor = extractor_class(**self._shared_params(extractor_class)).fit(X, targets)
        check_threshold(self.threshold, extractor.labels_)
        self.extractor_, self.labels_ = extractor, extractor.labels_
        self.demonstrations_ = extractor.demonstrations_
        self.aligner_ = aligner_class()
        return self

    def predict_proba(self, X):
        """Probability of each label.

        Parameters
        ----------
        X : sequence of str of length n
            Documents.

        Returns
        -------
        ndarray of shape (n, L), float64
            Each column in [0, 1] on its own; columns as in ``labels_``.

        Raises
        ------
        ValueError, TypeError
            A document is no str or does not fit the context; nothing was decoded.
        """
        check_is_fitted(self)
        return self.aligner_.fit_transform(self.extractor_.transform(X))

    def _shared_params(self, cls):
        return {name: getattr(self, name) for name in cls._get_param_names() if hasattr(self, name)}

    def __sklearn_is_fitted__(self):
        return hasattr(self, "aligner_")

    def __sklearn_tags__(self):
        return text_tags(super().__sklearn_tags__())

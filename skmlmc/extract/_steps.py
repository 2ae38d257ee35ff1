"""Extractors of the model's answer: step distributions, and hidden states where it would begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._engine.context import Hidden
from .._inference.report import beginning_mass
from .._inference.tasks import DocumentsTask, StatesTask, StepsTask
from .._models.files import hidden_widths
from .._models.identity import find_files, fitted_with
from .._utils.arrays import as_list
from .._utils.checks import check_choice, check_positive_int
from .._utils.labelled import labelled
from .._utils.typing import Demonstrations, FilePath, Labels, Layers, Lora, Names, RandomState
from .._utils.warning import warn
from ..prompts._chunks import Truncation
from ..prompts._nearest import is_drawn
from ..prompts._templates import PromptTemplate, check_prompt, check_words
from ._base import Extractor, ThreeDimensionalMixin, documented_extractor, keep_parameters

LOW_LABEL_MASS, LOW_BEGINNING_MASS = 0.1, 0.01
LABEL_TOKENS = ("first", "whole")


class WrittenAnswerExtractor(Extractor, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """What the extractors share that let the model write an answer label by label."""

    max_labels: int | None
    label_tokens: str

    def _check_parameters(self):
        check_prompt(self.prompt)
        check_choice(self.label_tokens, "label_tokens", LABEL_TOKENS)
        if self.max_labels is not None:
            check_positive_int(self.max_labels, "max_labels")

    def _after_fit(self):
        check_words(check_prompt(self.prompt).answer_format, self._words())

    def _n_steps(self):
        return min(self.max_labels or len(self.labels_), len(self.labels_))

    def _task(self, kind=StepsTask, **more):
        check_is_fitted(self)
        shown = tuple(self._numbered_demonstrations())
        asked = (check_prompt(self.prompt), self._words(), self._order(), shown, self._n_steps())
        beside = 0 if self.retriever_ is None else self.shots
        told = {"descriptions": self._descriptions, "n_beside": beside}
        return kind(*asked, whole=self.label_tokens == "whole", **told, **more)

    def _sample_task(self):
        """Return the task of a document that nothing is near to."""
        task = self._task()
        return replace(task, demonstrations=(*task.demonstrations, *self._pool[: task.n_beside]), n_beside=0)

    document_criteria = ("label_mass",)  # what ``diagnose`` tells of how sure each document is

    def _describe(self, X, answers):
        """Return answers as named arrays, and what tells whether the prompt fits the model."""
        steps = np.full((len(answers), self._n_steps(), len(self.labels_) + 1), np.nan)
        written = np.full(steps.shape[:2], -1)
        for row, said, answer in zip(steps, written, answers, strict=True):
            row[: len(answer.steps)] = answer.steps
            said[: len(answer.written)] = answer.written
        return {
            "steps": labelled(steps, "steps", self.labels_, X, written),
            "written": written,
            "label_mass": np.array([answer.label_mass for answer in answers]),
            "beginning_mass": beginning_mass(self._sample_task(), self._options(), fitted_with(self)),
        }


@documented_extractor
class StepwiseExtractor(ThreeDimensionalMixin, WrittenAnswerExtractor, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Distribution over the labels at each step of the model's answer.

    The model reads instruction, demonstrations and document and writes its answer label by label, constrained to
    the labels. Every time it is about to start a label, its probabilities of all labels and of "none" are kept. The
    place to start: one answer a document serves `MaxOverGenerations`, `CompareToNone` and `HardPredictions`. Without
    demonstrations small models hardly look at the document: give ``shots``, and read ``prompt_text`` when answers are
    odd.

    Parameters
    ----------
    {engine_parameters}
    {answer_prompt}
    max_labels : int or None, default=None
        Most labels of an answer; None: all of them.
    {label_tokens}

    Attributes
    ----------
    {engine_attributes}

    Notes
    -----
    Step distributions: {paper}, section 3, with exact probabilities over the labels' token trie. The transformed array
    has three dimensions, so ``set_output`` has no effect.

    Examples
    --------
    >>> from skmlmc import StepwiseExtractor
    >>> StepwiseExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"]).shape
    (1, 2, 3)
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
        max_labels: int | None = None,
        label_tokens: str = "first",
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
        """Let the model answer.

        {documents}

        Returns
        -------
        ndarray of shape (n, R, L + 1), float64
            ``steps[i, r, l]``: probability of label l at step r of document i; the last column is the empty answer.
            R is `max_labels`, or L. Steps that did not happen are NaN.

        {document_errors}
        """
        found = self.diagnose(X)
        _warn_of_low_mass(found.label_mass, found.beginning_mass)
        return found.steps

    def diagnose(self, X: Any) -> Bunch:
        """Let the model answer, and say how well the prompt fits the model; decodes what ``transform`` does.

        {documents}

        Returns
        -------
        Bunch
            {answer_fields}

        {document_errors}
        """
        return Bunch(**self._describe(X, self._run(X, self._task())))


@documented_extractor
class HiddenStateExtractor(WrittenAnswerExtractor, auto_wrap_output_keys=("transform",)):  # type: ignore[call-arg]
    """Hidden state of the model where it predicts the first label, or its mean over the document.

    Features for `LinearProbe`, or for any estimator of vectors, where there are some hundreds of annotated documents;
    ``layer=0.5, pooling="mean"`` usually says more about a document than the default, which is the paper's. The network
    is computed up to the deepest layer that is read and no further, for the prompt too, and no answer is written: the
    middle costs half. The numbers mean nothing by themselves, and those of another model, layer or prompt nothing to
    what was fitted on these.

    Parameters
    ----------
    {engine_parameters}
    read : {"prompt", "document"}, default="prompt"
        What the model reads. "document": the document alone, without instruction and demonstrations; labels may be left
        out, and one cache serves all tasks.
    layer : int, float, None or list of them, default=None
        After which block the state is read. None: after the last one, normalised (the paper's). A float in (0, 1): at
        that part of the depth; blocks in the middle say more about the document, the last ones more about the next
        word. A list: after each of these blocks, in one pass; the states follow one another in the columns.
    pooling : {"last", "mean"} or list of them, default="last"
        "last": at the token where the first label is predicted, or at the line break behind a document that is read
        alone. "mean": over the document and what leads over to the answer; needs layers before the last one. A list:
        one for each layer, which may then come twice.
    {answer_prompt}
    max_labels : int or None, default=None
        As for `StepwiseExtractor`, for the answer that ``diagnose`` adds; hidden states do not depend on it.
    label_tokens : {"first", "whole"}, default="first"
        Likewise.

    Attributes
    ----------
    {engine_attributes}
    n_features_out_ : int
        d, the model's width as its file says; times the number of its residual streams where it has several and `layer`
        is before the last one. Of a list of layers the sum.
    widths_ : list of int
        The same of each layer.

    See Also
    --------
    LinearProbe : The estimator that belongs behind it.

    Notes
    -----
    Linear probe: {paper}, section 5.

    Examples
    --------
    >>> from skmlmc import HiddenStateExtractor
    >>> hidden = HiddenStateExtractor(labels=["anger", "joy"]).fit().transform(["We won!!!"])
    >>> hidden.ndim, hidden.dtype
    (2, dtype('float32'))

    Of several layers each has columns of its own.

    >>> middle_and_last = HiddenStateExtractor(labels=["anger", "joy"], layer=[0.5, None]).fit()
    >>> middle_and_last.transform(["We won!!!"]).shape == (1, 2 * hidden.shape[1])
    True

    Features of texts for any task, from any model that generates text:

    >>> features = HiddenStateExtractor(read="document", layer=0.5, pooling="mean").fit_transform(["We won!!!"])
    >>> features.shape == hidden.shape
    True
    """

    def __init__(
        self,
        model: FilePath | None = None,
        *,
        labels: Labels | None = None,
        descriptions: Mapping[str, str] | None = None,
        read: str = "prompt",
        shots: int = 0,
        demonstrations: Demonstrations = "multilabel",
        prompt: PromptTemplate | str | None = None,
        none_label: str = "none",
        label_order: Names | None = None,
        max_labels: int | None = None,
        label_tokens: str = "first",
        layer: Layers | None = None,
        pooling: str | Sequence[str] = "last",
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

    def _check_parameters(self):
        super()._check_parameters()
        check_poolings(self.pooling, check_layers(self.layer))
        if check_choice(self.read, "read", ("prompt", "document")) == "prompt":
            return
        defaults = {"shots": 0, "prompt": None, "descriptions": None}
        given = {name: getattr(self, name) for name, value in defaults.items() if getattr(self, name) is not value}
        if not is_drawn(self.demonstrations) and as_list(self.demonstrations) != []:
            given["demonstrations"] = self.demonstrations
        if given:
            told = ", ".join(f"{name}={value!r:.80}" for name, value in given.items())
            raise ValueError(
                f'Got {told} with read="document", which has no prompt. Expected read="prompt", or none of them.'
            )

    @property
    def _alone(self):
        """Whether documents are read without a prompt, and no labels are known."""
        return self.read == "document" and self.labels is None

    def _fit_prompt(self, X, y, distribution):
        # Whatever y is, a number to predict perhaps, it says nothing to what reads documents alone.
        super()._fit_prompt(X, *((None, None) if self._alone else (y, distribution)))

    def _find_wordings(self, y, distribution, classes):
        return {} if self._alone else super()._find_wordings(y, distribution, classes)

    def learns_from_documents(self) -> bool:
        """Whether what becomes of a document may depend on those in ``fit``, as for the other extractors.

        Returns
        -------
        bool
            False for documents that are read alone.
        """
        return self.read == "prompt" and super().learns_from_documents()

    def _after_fit(self):
        super()._after_fit()
        found = find_files(self.model, self.lora, fitted_with(self))
        last = hidden_widths(found.path, (None,))[0][0]
        states = hidden_widths(found.path, check_layers(self.layer))
        poolings = check_poolings(self.pooling, states)
        read = [(block, pooling) for (block, _), pooling in zip(states, poolings, strict=True)]
        if self.retriever_ is not None and "mean" in poolings:
            raise ValueError(
                f"Got pooling={self.pooling!r} with demonstrations that are nearest to each document, which the mean "
                'would be over too. Expected pooling="last", or demonstrations that are the same for all.'
            )
        if (last, "mean") in read:
            raise ValueError(
                f"Got pooling={self.pooling!r} with layer={self.layer!r}, but the last layer is computed at one token "
                "only: choose a layer before it for the mean, such as layer=0.5."
            )
        if len(set(read)) < len(read):
            raise ValueError(
                f"Got layer={self.layer!r}, which of this model are the blocks {[block for block, _ in read]}, with "
                f"pooling={self.pooling!r}: expected each of them once."
            )
        self._names = [f"layer{block}" if isinstance(self.pooling, str) else f"layer{block}_{p}" for block, p in read]
        self.widths_ = [width for _, width in states]
        self.n_features_out_ = sum(self.widths_)

    def transform(self, X: Any) -> np.ndarray:
        """Read the hidden states.

        {documents}

        Returns
        -------
        ndarray of shape (n, d), float32
            Hidden states; d is the model's width, times the number of layers.

        {document_errors}
        """
        return self._read_states(X)

    def diagnose(self, X: Any) -> Bunch:
        """Read the hidden states, and let the model answer too, in a second pass that ``transform`` does without.

        With `memory` the answers are those that `StepwiseExtractor` keeps, and are kept for it.

        {documents}

        Returns
        -------
        Bunch
            hidden : ndarray of shape (n, d), float32
                What ``transform`` returns.

            {answer_fields}

        {document_errors}
        """
        answers = self._run(X, self._task())  # before the states: it has the less room for documents, and says so first
        return Bunch(hidden=self._read_states(X), **self._describe(X, answers))

    def _read_states(self, X):
        pieces, states = self._run_pieces(X, self._transform_task())
        return labelled(pieces.pool(np.array(states), "mean"), "hidden", None, X)

    def _task(self, *args, **more):
        task = super()._task(*args, **more)
        if not len(self.labels_):
            raise ValueError(
                "Got labels=None, which is enough to read documents but not to let the model answer: expected labels, "
                "such as labels=['joy', 'anger']."
            )
        return task

    def _transform_task(self):
        check_is_fitted(self)
        layers = check_layers(self.layer)
        tap = Hidden(layers, check_poolings(self.pooling, layers))
        return DocumentsTask(tap) if self.read == "document" else StatesTask(self._task(), tap)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns.

        {ignored_names}

        Returns
        -------
        ndarray of shape (d,), object
            "hidden0", "hidden1", ...; of a list of layers with the number of the block, "layer6_hidden0" and so on, of
            a list of poolings "layer6_mean_hidden0".
        """
        check_is_fitted(self)
        before = [f"{name}_" if as_list(self.layer) is not None else "" for name in self._names]
        widths = zip(before, self.widths_, strict=True)
        return np.array([f"{name}hidden{k}" for name, width in widths for k in range(width)], dtype=object)


def check_layer(layer: Any) -> None:
    """Raise ValueError where `layer` is no layer, as `HiddenStateExtractor` takes each of them."""
    real = isinstance(layer, (float, np.floating)) and 0 < layer < 1
    whole = isinstance(layer, (int, np.integer)) and not isinstance(layer, bool)
    if not (layer is None or whole or real):
        raise ValueError(f"Got layer={layer!r} but expected None, a block's number, or a float between 0 and 1.")


def check_layers(layer: Any) -> tuple[int | float | None, ...]:
    """Return the layers that `HiddenStateExtractor` is to read, of one or a list; ValueError where some are none."""
    layers = as_list(layer)
    if layers is not None and not layers:
        raise ValueError(f"Got layer={layer!r} but expected a layer, or a list of one or more.")
    layers = [layer] if layers is None else layers
    for each in layers:
        check_layer(each)
    return tuple(each.item() if isinstance(each, np.generic) else each for each in layers)


def check_poolings(pooling: Any, layers: Sequence[Any]) -> tuple[str, ...]:
    """Return the pooling of each layer that `HiddenStateExtractor` is to read, of one for all or a list."""
    poolings = as_list(pooling)
    if poolings is None:
        return (check_choice(pooling, "pooling", ("last", "mean")),) * len(layers)
    if len(poolings) != len(layers):
        raise ValueError(f"Got pooling={pooling!r} but expected one for all layers, or {len(layers)}, one a layer.")
    return tuple(check_choice(each, "pooling", ("last", "mean")) for each in poolings)


def _warn_of_low_mass(label_mass, beginning_mass):
    if beginning_mass < LOW_BEGINNING_MASS:
        warn(
            f"The answer's beginning has a probability of only {beginning_mass:.2g}: the model would rather write "
            "something else first, such as a thought or an apology, and is made to answer. Show it the form of the "
            'answer with demonstrations (shots=10), say it in the instruction, or choose answer_format="list".',
        )
    median = float(np.median(label_mass))
    if median < LOW_LABEL_MASS:
        warn(
            f"The label tokens hold only {median:.2g} of the probability at the first step (median): the model would "
            "rather write something else, so the prompt does not fit it. Try demonstrations (shots=10), another "
            "prompt, another answer_format, or a larger model.",
        )

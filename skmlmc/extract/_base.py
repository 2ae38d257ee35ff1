"""What all extractors share: fit, run, tags."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._inference.run import prompt_text, run
from .._models.identity import fitted_with
from .._utils.checks import check_texts
from .._utils.typing import Self
from ._prompted import PromptedMixin, text_tags


class Extractor(PromptedMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """What the extractors share; a subclass checks its own parameters and makes the task."""

    __metadata_request__fit = {"distribution": True}  # unless refused, as splitters request groups

    def fit(self, X: Any = None, y: Any = None, *, distribution: Any = None) -> Self:
        """Check everything and draw the demonstrations; nothing is decoded.

        Parameters
        ----------
        X : sequence of str of length n, default=None
            Documents; needed where demonstrations are drawn.
        y : array-like of shape (n, L) or DataFrame, default=None
            0/1 indicator or soft targets in [0, 1], which count through their majority.
        distribution : array-like of shape (n, L) or DataFrame, default=None
            Soft targets that take the place of the numbers in `y`, for tools that only pass indicators on as `y`.
            scikit-learn's metadata routing hands it through; ``set_fit_request(distribution=False)`` refuses it.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        ValueError, TypeError
            A parameter, the labels or the data are not as expected; the message says what is.
        FileNotFoundError
            There is no such model file, or no model at all.
        """
        try:
            self._check_parameters()
            self._fit_prompt(X, y, distribution)
            self._after_fit()
        except BaseException:
            self.__dict__.pop("labels_", None)  # half fitted is not fitted
            raise
        return self

    def _check_parameters(self):
        """Check what only this class has."""

    def _after_fit(self):
        """Draw what only this class needs."""

    def _run(self, X, task):
        return run(task, check_texts(X), self._options(), fitted_with(self))

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
            are several), with the names of control tokens. Nothing is decoded.

        Raises
        ------
        ValueError, TypeError
            The document is no str; the model file is another one than in ``fit``.
        """
        check_is_fitted(self)
        (text,) = check_texts([document])
        return prompt_text(self._task(), text, self._options(), fitted_with(self))

    def __sklearn_is_fitted__(self):
        return hasattr(self, "labels_")

    def __sklearn_tags__(self):
        return text_tags(super().__sklearn_tags__())


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

        Returns
        -------
        self : object
            Itself.
        """
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
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

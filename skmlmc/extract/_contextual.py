"""Contextual calibration: divide by what the model answers to documents without content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._utils.arrays import is_frame, lay_out
from .._utils.checks import check_texts
from .._utils.labelled import kind_of, relabel
from .._utils.typing import Self
from ..base import fits_or_forgets
from ._base import LIVE_PARAMETERS, TextEstimatorMixin, documented_extractor

CONTENT_FREE = ("N/A", "[MASK]", "")


def divide_by_prior(probabilities: np.ndarray, prior: np.ndarray, steps: bool) -> np.ndarray:
    """Divide probabilities by the content-free ones and normalise again; NaN stays NaN.

    Step distributions (n, R, L + 1) are divided by that of the first step (L + 1,), probabilities of two-way answers,
    (n, L) or (n, K, K), by those of the same answers.

    Examples
    --------
    >>> divide_by_prior(np.array([[[0.6, 0.2, 0.2]]]), np.array([0.6, 0.2, 0.2]), True).round(3)
    array([[[0.333, 0.333, 0.333]]])
    >>> divide_by_prior(np.array([[0.5, 0.8]]), np.array([0.5, 0.8]), False).round(3)
    array([[0.5, 0.5]])
    """
    tiny = np.finfo(float).tiny
    if steps:
        ratio = probabilities / np.maximum(prior, tiny)
        return ratio / ratio.sum(axis=-1, keepdims=True)
    yes = probabilities / np.maximum(prior, tiny)
    no = (1 - probabilities) / np.maximum(1 - prior, tiny)
    return yes / (yes + no)


@documented_extractor
class ContextualCalibration(TextEstimatorMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Take the prompt's own preference for some labels out of an extractor's probabilities; zero-shot.

    The extractor answers a few documents without content; what it says there is the prompt's doing, not the
    document's, and every probability is divided by it and normalised again. For when there are no annotated documents
    to fit an aligner on. A label that the prompt makes very unlikely is raised by a large factor, its noise too: look
    at ``prior_`` when probabilities are odd.

    Parameters
    ----------
    extractor : StepwiseExtractor, UnaryExtractor or PairwiseExtractor
        The extractor; a clone of it is fitted.
    content_free : sequence of str, default=("N/A", "[MASK]", "")
        Documents without content; their answers are averaged.

    Attributes
    ----------
    extractor_ : estimator
        The fitted extractor.
    prior_ : ndarray of shape (L + 1,), (L,) or (K, K)
        Content-free probabilities: those of the first step, of each label, or of each pair.
    labels_ : ndarray of shape (L,), object
        Label names.

    Notes
    -----
    Zhao et al., "Calibrate Before Use: Improving Few-Shot Performance of Language Models", ICML 2021, section 5, with a
    diagonal matrix and no bias. The first step's prior is used at every step.

    Examples
    --------
    >>> from skmlmc import ContextualCalibration, StepwiseExtractor
    >>> ContextualCalibration(StepwiseExtractor(labels=["anger", "joy"])).fit().prior_.shape
    (3,)
    """

    def __init__(self, extractor: Any, content_free: Sequence[str] = CONTENT_FREE) -> None:
        self.extractor = extractor
        self.content_free = content_free

    def set_params(self, **params: Any) -> Self:
        """Set parameters; where the model lies, and how it is run, counts at once for the fitted extractor too.

        Parameters
        ----------
        **params : dict
            Parameters, those of the extractor as ``extractor__...``.

        {returns_itself}
        """
        super().set_params(**params)
        if hasattr(self, "extractor_"):
            live = {name: params[f"extractor__{name}"] for name in LIVE_PARAMETERS if f"extractor__{name}" in params}
            self.extractor_.set_params(**live)
        return self

    @fits_or_forgets
    def fit(self, X: Any = None, y: Any = None, *, distribution: Any = None) -> Self:
        """Fit the extractor and let it answer the documents without content.

        {fit_data}

        {returns_itself}

        Raises
        ------
        TypeError, ValueError
            What the extractor raises; `content_free` is no sequence of str.
        """
        texts = check_texts(self.content_free, name="content_free")
        if isinstance(self.extractor, type) or not (
            hasattr(self.extractor, "fit") and hasattr(self.extractor, "transform")
        ):
            raise TypeError(
                f"Got extractor={self.extractor!r:.80} but expected an extractor such as StepwiseExtractor(labels=...)."
            )
        extractor = clone(self.extractor).fit(X, y, distribution=distribution)
        made = extractor.transform(texts)
        answers = lay_out(made)
        self.prior_ = (answers[:, 0] if kind_of(made) == "steps" else answers).mean(axis=0)
        self.extractor_, self.labels_ = extractor, extractor.labels_
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Extract and divide.

        {documents}

        Returns
        -------
        ndarray, or DataFrame as the extractor gives it
            As the extractor gives them, calibrated.
        """
        check_is_fitted(self)
        answers = self.extractor_.transform(X)
        return _in_the_form_of(answers, self._divide(answers))

    def diagnose(self, X: Any) -> Bunch:
        """Extract and divide, and say what the extractor says of the documents; decodes what ``transform`` does.

        {documents}

        Returns
        -------
        Bunch
            What the extractor's ``diagnose`` returns, its first array calibrated, and

            uncalibrated : ndarray
                that array as the extractor gave it.
        """
        check_is_fitted(self)
        found = self.extractor_.diagnose(X)
        name = next(iter(found))
        given = found[name]
        return Bunch(**{**found, name: relabel(self._divide(given), given)}, uncalibrated=given)

    def _divide(self, answers):
        return divide_by_prior(lay_out(answers), self.prior_, kind_of(answers) == "steps")

    def set_output(self, *, transform=None):
        """Set the container of `transform`: that of the extractor, which has one where its output has columns.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            The container; None changes nothing.

        {returns_itself}
        """
        for extractor in (self.extractor, getattr(self, "extractor_", None)):
            if extractor is not None:
                extractor.set_output(transform=transform)
        return self

    def get_feature_names_out(self, input_features=None):
        """Names of the extractor's output.

        {ignored_names}

        Returns
        -------
        ndarray, object
            Names along the last axis.
        """
        check_is_fitted(self)
        return self.extractor_.get_feature_names_out(input_features)


def _in_the_form_of(answers, values):
    """Return an array as a DataFrame where `answers` is one, with the same index."""
    if not is_frame(answers):
        return relabel(values, answers)
    if hasattr(answers, "index"):
        return type(answers)(values, index=answers.index, columns=answers.columns)
    return type(answers)(values, schema=answers.columns)

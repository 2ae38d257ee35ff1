"""Estimators of zero-shot alignment: from what a model answers to label probabilities, without training data."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._utils.arrays import check_kind, check_label_names, check_pairs, check_proba, check_sample_weight, check_steps
from .._utils.checks import check_choice, check_positive, check_threshold
from .._utils.labelled import relabel, written_of
from .._utils.typing import Self, Threshold
from ..base import AlignerMixin, documented_aligner, fits_or_forgets
from . import _arithmetic as arithmetic
from ._columns import learn_classes, learn_columns, match_columns


@documented_aligner
class ZeroShotAligner(AlignerMixin, BaseEstimator):
    """Base class of the aligners that need no training, for read-outs of your own.

    A subclass has ``__init__`` with `threshold` (and `multi_label`, where it has a single-label form), and computes
    ``_align(X)``: checked probabilities in, an array of shape (n, L) out. It is then a transformer and a classifier.
    `X` may be the caller's own array: compute new arrays instead of writing into it.

    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from skmlmc.align import ZeroShotAligner
    >>> class MeanOverGenerations(ZeroShotAligner):
    ...     def __init__(self, threshold=0.5):
    ...         self.threshold = threshold
    ...
    ...     def _align(self, X):
    ...         return np.nanmean(X[:, :, :-1], axis=1)
    >>> steps = [[[0.7, 0.2, 0.1], [0.1, 0.4, 0.5]]]  # one document, two steps, two labels and none
    >>> MeanOverGenerations().fit(steps).predict_proba(steps)
    array([[0.4, 0.3]])
    """

    # What X holds: "steps", "pairs" or "unary".
    _kind = "steps"

    @fits_or_forgets
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the input and learn the names of the labels; nothing is fitted.

        Parameters
        ----------
        X : array-like of shape (n, R, L + 1), or (n, L + 1, L + 1) for pairs
            Probabilities with none last.
        y : array-like of shape (n, L) or (n,), default=None
            Only the column names of a table are read. An extractor's output knows its labels itself: those of `y` are
            then the same, in any order. With ``multi_label=False`` the class of each document: ``predict`` then gives
            classes.

        Returns
        -------
        self : object
            The aligner.

        Raises
        ------
        TypeError, ValueError
            If `X`, the shape of `y` or a parameter is not as expected.
        """
        self._align(self._learn_labels(X, y)[:1])  # checks the other parameters
        return self

    def _learn_labels(self, X, y):
        """Return what `X` holds, checked; its labels are known then."""
        X, known = learn_columns(self, X, y, are_labels=True)
        y, X, known = learn_classes(self, y, X, known, are_labels=True)
        X = self._check(X)
        labels = check_label_names(y, n_labels=self._n_labels(X), n_samples=len(X), known=known)
        check_threshold(self.threshold, labels)
        if self._kind == "unary":
            self.n_features_in_ = len(labels)
        self.labels_ = np.array(labels, dtype=object)
        self.n_labels_ = len(labels)
        return X

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the label probabilities.

        Parameters
        ----------
        X : array-like of shape (n, R, L + 1), or (n, L + 1, L + 1) for pairs
            Probabilities with none last, for the labels of ``fit``. Where `X` names its labels, they are found by name.

        Returns
        -------
        ndarray of shape (n, L)
            Probability of each label.

        {not_fitted}
        """
        check_is_fitted(self)
        X = self._check(match_columns(self, X, self.labels_))
        if self._n_labels(X) != self.n_labels_:
            features = f"X has {X.shape[-1]} features, but {type(self).__name__} is expecting {self.n_labels_} features"
            raise ValueError(
                f"{f'{features} as input. ' if self._kind == 'unary' else ''}Expected probabilities for the "
                f"{self.n_labels_} labels of fit, but got them for {self._n_labels(X)}. Use the same labels, in the "
                "same order."
            )
        return self._align(X)

    def learns_from_documents(self) -> bool:
        """Whether what becomes of a document may depend on those in ``fit``.

        Returns
        -------
        bool
            False: ``fit`` learns the labels alone.
        """
        return False

    def _check(self, X):
        if self._kind == "unary":
            check_kind(X, "unary")
            return check_proba(X, name="X")[0]
        return check_pairs(X) if self._kind == "pairs" else relabel(check_steps(X), X)

    def _n_labels(self, X):
        return X.shape[-1] - (self._kind != "unary")  # the last column of steps and pairs is none

    def _is_multi_label(self):
        return check_choice(self.multi_label, "multi_label", (True, False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.input_tags.three_d_array = self._kind != "unary"
        tags.input_tags.two_d_array = self._kind == "unary"
        return tags


@documented_aligner
class CompareToNone(ZeroShotAligner):
    """Compare each label's probability at the first step with that of none.

    Reads the first step only, so it is cheap (``max_labels=1``), and a good start for `ScalingAligner`. Most of a first
    step's mass lies on one label: those that would be said second come out low.
    {section5}, baseline "compare-to-none"; the arithmetic is ``compare_to_none``.

    Parameters
    ----------
    {threshold}
    {multi_label}

    {attributes}

    Examples
    --------
    >>> from skmlmc.align import CompareToNone
    >>> steps = [[[0.6, 0.3, 0.1]], [[0.2, 0.1, 0.7]]]
    >>> aligner = CompareToNone().fit(steps)
    >>> aligner.predict_proba(steps).round(2)
    array([[0.86, 0.75],
           [0.22, 0.13]])
    >>> aligner.predict(steps)
    array([[1, 1],
           [0, 0]])
    """

    def __init__(self, threshold: Threshold = 0.5, multi_label: bool = True) -> None:
        self.threshold = threshold
        self.multi_label = multi_label

    def _align(self, X):
        return arithmetic.compare_to_none(X, self._is_multi_label())


@documented_aligner
class HardPredictions(ZeroShotAligner):
    """Take the model's answer at its word: 1 - eps for the labels it generated, eps for the others.

    For label sets as the model would write them. As probabilities they are the worst there are: every label on which
    annotators differ costs about ``-ln(eps)`` in `skmlmc.metrics.nll`.
    {section5}, baseline "hard predictions"; the arithmetic is ``hard_predictions``.

    Parameters
    ----------
    eps : float, default=1e-8
        Probability of the labels that were not generated, in (0, 0.5).
    {threshold}
    multi_label : bool, default=True
        False for single-label tasks: the first label generated counts, or the most probable one if that is none.

    {attributes}

    Examples
    --------
    >>> from skmlmc.align import HardPredictions
    >>> steps = [[[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]]
    >>> HardPredictions(eps=0.01).fit(steps).predict_proba(steps)
    array([[0.99, 0.01]])
    """

    def __init__(self, eps: float = 1e-8, threshold: Threshold = 0.5, multi_label: bool = True) -> None:
        self.eps = eps
        self.threshold = threshold
        self.multi_label = multi_label

    def _align(self, X):
        eps = check_positive(self.eps, "eps", upper=0.5)
        return arithmetic.hard_predictions(X, eps, self._is_multi_label(), written_of(X))


@documented_aligner
class MaxOverGenerations(ZeroShotAligner):
    """Take each label's largest probability over the steps of the answer.

    The usual read-out of answers written label by label, for multi-label tasks only. Probabilities are near 0 or 1, as
    the model is sure of each step: fit a `ScalingAligner` behind it where annotators' shares are wanted.
    {section5}, "max-over-generations"; the arithmetic is ``max_over_generations``.

    Parameters
    ----------
    {threshold}

    {attributes}

    Examples
    --------
    >>> import pandas as pd
    >>> from skmlmc.align import MaxOverGenerations
    >>> steps = [[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]]
    >>> aligner = MaxOverGenerations().fit(steps, pd.DataFrame({"joy": [1], "anger": [0]}))
    >>> aligner.set_output(transform="pandas").transform(steps)
       joy  anger
    0  0.6    0.8
    """

    def __init__(self, threshold: Threshold = 0.5) -> None:
        self.threshold = threshold

    def _align(self, X):
        return arithmetic.max_over_generations(X)


@documented_aligner
class BradleyTerry(ZeroShotAligner):
    """Fit a Bradley-Terry model to each document's pairwise probabilities and compare each label with none.

    ``sigmoid(s(l) - s(none))`` of the scores, or in single-label tasks the softmax of the labels' scores. For the
    questions of `PairwiseExtractor`, whose number grows with the square of the labels. Ask them in both orders, as is
    the default there: a model's preference for the first of two cancels out.
    Bradley and Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 39, 1952;
    {section5}, "binary breakdown"; the arithmetic is ``bradley_terry_scores``.

    Parameters
    ----------
    outcome : {"soft", "hard"}, default="soft"
        Use the pairwise probabilities, or round them to won and lost; 0.5 stays a draw.
    l2 : float, default=0.01
        Strength of the penalty ``l2 * sum(s**2)``, above 0; without it a player who always wins has no finite score.
    {threshold}
    {multi_label}

    {attributes}

    Examples
    --------
    >>> from skmlmc.align import BradleyTerry
    >>> pairs = [[[0.5, 0.7, 0.9], [0.3, 0.5, 0.8], [0.1, 0.2, 0.5]]]
    >>> BradleyTerry().fit(pairs).predict_proba(pairs).round(2)
    array([[0.89, 0.79]])
    """

    _kind = "pairs"

    def __init__(
        self, outcome: str = "soft", l2: float = 0.01, threshold: Threshold = 0.5, multi_label: bool = True
    ) -> None:
        self.outcome = outcome
        self.l2 = l2
        self.threshold = threshold
        self.multi_label = multi_label

    def _align(self, X):
        multi_label, l2 = self._is_multi_label(), check_positive(self.l2, "l2")
        if check_choice(self.outcome, "outcome", ("soft", "hard")) == "hard":
            X = 0.5 + np.sign(X - X.transpose(0, 2, 1)) / 2  # of the difference, so that both directions agree
        scores = arithmetic.bradley_terry_scores(X, l2)
        return expit(scores[:, :-1] - scores[:, -1:]) if multi_label else softmax(scores[:, :-1], axis=1)


@documented_aligner
class UnaryBreakdown(ZeroShotAligner):
    """Take the model's word on each label as it is, or compare the labels in single-label tasks.

    The probabilities of `UnaryExtractor`, or with ``multi_label=False`` the softmax over the labels of their log-odds.
    Small models tend to say yes, or no, to everything: see `ContextualCalibration` and `ScalingAligner`.
    {section5}, "unary breakdown".

    Parameters
    ----------
    {threshold}
    {multi_label}

    {attributes}
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,), object
        Column names of `X`, where it is a table. Later ones are matched with them, in any order.

    Examples
    --------
    >>> from skmlmc.align import UnaryBreakdown
    >>> UnaryBreakdown(multi_label=False).fit_transform([[0.8, 0.5]]).round(2)
    array([[0.8, 0.2]])
    """

    _kind = "unary"

    def __init__(self, threshold: Threshold = 0.5, multi_label: bool = True) -> None:
        self.threshold = threshold
        self.multi_label = multi_label

    def _align(self, X):
        if self._is_multi_label():
            return X
        tiny = np.finfo(float).tiny
        return softmax(np.log(np.maximum(X, tiny)) - np.log(np.maximum(1 - X, tiny)), axis=1)


@documented_aligner
class PriorCorrection(ZeroShotAligner):
    """Correct how often each label comes up, from documents that nobody annotated.

    A prompt makes some labels come up too often and others too seldom, whatever the documents. ``fit`` sees how
    probable each label is over many of them, and finds by how much its log-odds are to be moved, the same in all. Needs
    no annotators: for where `ScalingAligner` has nothing to learn from. The documents of ``fit`` must be like those to
    predict. Where it is known roughly how often labels are given, say so with `prior`: without it rare labels are
    raised to the level of frequent ones.

    Parameters
    ----------
    prior : float, array-like of shape (L,), mapping of label to float or None, default=None
        The share of documents that have each label, strictly between 0 and 1, as the user knows or guesses it; with
        ``multi_label=False`` shares sum to 1. The mean probability over the documents of ``fit`` becomes just that.
        None: nobody knows, and all labels come up equally often, together as often as the model says.
    {threshold}
    {multi_label}

    {attributes}
    offsets_ : ndarray of shape (L,)
        What is added to the log-odds of each label, or to its log-probability with ``multi_label=False``.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,), object
        Column names of `X`, where it is a table. Later ones are matched with them, in any order.

    See Also
    --------
    ContextualCalibration : Takes out what the model answers to documents without content.
    ScalingAligner : Learns from annotators.

    Notes
    -----
    Zhou et al., "Batch Calibration: Rethinking Calibration for In-Context Learning and Prompt Engineering", ICLR 2024,
    where the prior is the same for all labels; with a prior the same shift of odds as in Saerens et al., "Adjusting the
    Outputs of a Classifier to New a Priori Probabilities: A Simple Procedure", Neural Computation 14, 2002.

    Examples
    --------
    >>> from skmlmc.align import PriorCorrection
    >>> proba = [[0.9, 0.3], [0.8, 0.1], [0.6, 0.2]]
    >>> corrected = PriorCorrection(prior=[0.2, 0.3]).fit_transform(proba)
    >>> corrected.mean(axis=0).round(3)
    array([0.2, 0.3])

    Behind a classifier, from texts alone:

    >>> from skmlmc import GGUFClassifier
    >>> clf = GGUFClassifier(labels=labels, aligner=PriorCorrection()).fit(texts)
    >>> clf.predict_proba(texts).shape
    (20, 3)
    """

    _kind = "unary"

    def __init__(self, prior: Threshold | None = None, threshold: Threshold = 0.5, multi_label: bool = True) -> None:
        self.prior = prior
        self.threshold = threshold
        self.multi_label = multi_label

    @fits_or_forgets
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find how far each label is to be moved.

        Parameters
        ----------
        X : array-like of shape (n, L)
            Label probabilities of documents, at least two.
        y : array-like of shape (n, L) or (n,), default=None
            Only names are read, as by the other read-outs; what it says of the documents is not used.
        sample_weight : array-like of shape (n,), default=None
            Weights, in documents.

        Returns
        -------
        self : object
            The aligner.

        Raises
        ------
        TypeError, ValueError
            If an input or a parameter is not as expected.
        """
        X = self._learn_labels(X, y)
        multi_label, prior, w = self._is_multi_label(), self._check_prior(), check_sample_weight(sample_weight, len(X))
        if (used := w > 0).sum() < 2:
            raise ValueError(
                f"Got n_samples={used.sum()} but expected at least 2 documents, of which a mean says how probable a "
                "label is. Give more documents."
            )
        logits, w = arithmetic.to_logits(X[used], multi_label), w[used]
        if prior is None:
            mean = np.average(arithmetic.to_proba(logits, multi_label).mean(axis=1), weights=w)
            prior = np.full(len(self.labels_), mean)
        self.offsets_ = arithmetic.prior_offsets(logits, prior, w, multi_label)
        return self

    def learns_from_documents(self) -> bool:
        """Whether what becomes of a document may depend on those in ``fit``.

        Returns
        -------
        bool
            True.
        """
        return True

    def _check_prior(self):
        """Return the prior of each label (L,), None where nobody knows it."""
        if self.prior is None:
            return None
        n = len(self.labels_)
        prior = np.broadcast_to(check_threshold(self.prior, self.labels_, "prior", inside=True), n)
        if not self._is_multi_label() and abs(prior.sum() - 1) > 1e-6:
            raise ValueError(
                f"Got prior={self.prior!r:.80}, of which the labels' shares sum to {prior.sum():g}. With "
                "multi_label=False expected them to sum to 1."
            )
        return prior

    def _align(self, X):
        multi_label = self._is_multi_label()
        return arithmetic.to_proba(arithmetic.to_logits(X, multi_label) + self.offsets_, multi_label)

"""A classifier that answers the documents it is surest of, and leaves the others to somebody else."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr, logit
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._utils.arrays import check_sample_weight, check_targets, default_names, majority, names_of
from .._utils.checks import check_choice, check_threshold, is_number
from .._utils.typing import Self
from .._utils.warning import warn
from ..base import diagnose, documented_aligner, find_threshold, fits_or_forgets, label_columns
from ..metrics import example_f1, output_labels, wrapped
from ._stacking import Columns, in_order
from ._thresholds import WrapperMixin

OF_PROBABILITIES = ("entropy", "threshold_distance")
OF_DIAGNOSES = ("label_mass", "disagreement")
CRITERIA = OF_PROBABILITIES + OF_DIAGNOSES


def uncertainty_of(criterion: str, proba: np.ndarray, thresholds: Any = 0.5, found: Any = None) -> np.ndarray:
    """Return how unsure a classifier is of each document (n,), by one of `CRITERIA`; `found` is its diagnosis.

    Examples
    --------
    >>> uncertainty_of("threshold_distance", np.array([[0.5, 0.9], [0.1, 0.9]])).round(1)
    array([-0. , -2.2])
    """
    if criterion == "entropy":
        return (entr(proba) + entr(1 - proba)).sum(axis=1).round(10)
    if criterion == "threshold_distance":
        odds, at = (logit(np.clip(p, 1e-8, 1 - 1e-8)) for p in (proba, np.asarray(thresholds)))
        return -abs(odds - at).min(axis=1).round(10)
    return -found[criterion] if criterion == "label_mass" else found[criterion]


def thresholds_of(estimator: Any, labels: Any) -> np.ndarray:
    """Return the thresholds of a fitted classifier, one a label, in the order of `labels`."""
    threshold, known = find_threshold(estimator), output_labels(estimator, list(labels))
    names = list(labels) if known is None else known
    values = np.broadcast_to(check_threshold(threshold, names), len(names))
    return values if known is None else values[[names.index(label) for label in labels]]


def check_criterion(criterion: Any, estimator: Any, name: str = "criterion") -> str:
    """Return the criterion, or raise ValueError where there is no such one, or the estimator does not give it."""
    check_choice(criterion, name, CRITERIA)
    if criterion in OF_PROBABILITIES or criterion in _diagnosed(estimator):
        return criterion
    steps = 'one that answers in steps, such as GGUFClassifier(method="max_over_generations")'
    wanted = steps if criterion == "label_mass" else "a GGUFClassifier with n_label_orders=2 or more"
    raise ValueError(
        f"Got {name}={criterion!r} with {estimator!r:.200}, which does not say it. Expected {wanted}, or one of "
        f"{OF_PROBABILITIES}, which any classifier gives."
    )


def _diagnosed(estimator):
    """Return the criteria that an estimator's ``diagnose``, or that of what is inside, tells of documents."""
    found: set[str] = set()
    while estimator is not None:
        for part in (estimator, *(step for _, step in getattr(estimator, "steps", ()))):
            found.update(getattr(getattr(part, "extractor", part), "document_criteria", ()))
        estimator = wrapped(estimator)
    return found


@documented_aligner
class SelectiveClassifier(WrapperMixin, BaseEstimator):
    """Answer the documents that a classifier is surest of, and name the others.

    For work that people and a model share: at a `coverage` of 0.8 a fifth of the documents is left to people. With
    labels from 0.5 "entropy" found most of the wrong answers, with learned thresholds now it, now "threshold_distance"
    (``benchmarks/results/thresholds.md``). Behind the stack both tell more than chance; of aligned answers of small
    models none of the four does so reliably (``benchmarks/results/selective.md``). Draw
    `skmlmc.plots.RiskCoverageDisplay` before you trust one.

    ==================== ===========================================================================================
    criterion            a document is unsure where
    ==================== ===========================================================================================
    "entropy"            probabilities are far from 0 and 1, summed over labels
    "threshold_distance" the log-odds of some label are near its threshold, so that the label set may change
    "label_mass"         the model would rather write something that is no label
    "disagreement"       read-outs with other orders of the labels in the prompt differ (``n_label_orders``)
    ==================== ===========================================================================================

    Parameters
    ----------
    estimator : estimator
        Any multi-label classifier with ``predict_proba``. The last two scores need one that asks a language model, or
        a pipeline with one; no document is decoded twice for them.
    coverage : float, default=0.8
        Share of the documents to answer, in (0, 1].
    criterion : {"entropy", "threshold_distance", "label_mass", "disagreement"}, default="entropy"
        What makes a document unsure.
    cv : int, splitter or "prefit", default=5
        As of `ThresholdTuner`: documents that were held out say which uncertainty is usual.

    Attributes
    ----------
    labels_ : ndarray of shape (L,), object
        Label names.
    estimator_ : estimator
        Fitted on all documents.
    cutoff_ : float
        The largest uncertainty that is answered.
    coverage_ : float
        Share of the documents of ``fit`` that are answered; above `coverage` where several are just as unsure.

    See Also
    --------
    skmlmc.plots.RiskCoverageDisplay : What is gained by leaving documents out.

    Notes
    -----
    How much the model would rather begin its answer with something else, `beginning_mass`, is a number of the prompt,
    the same for all documents, and so no criterion. Coverage holds for documents like those of ``fit``.

    Examples
    --------
    >>> import numpy as np
    >>> from skmlmc.calibrate import LinearProbe, SelectiveClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> clf = SelectiveClassifier(LinearProbe(None), coverage=0.75).fit(X, (X > 0).astype(int))
    >>> clf.abstains([[0, 0.1], [3, 3]])
    array([ True, False])
    >>> clf.predict([[0, 0.1], [3, 3]])
    array([[-1, -1],
           [ 1,  1]])
    """

    def __init__(self, estimator: Any, *, coverage: float = 0.8, criterion: str = "entropy", cv: Any = 5) -> None:
        self.estimator = estimator
        self.coverage = coverage
        self.criterion = criterion
        self.cv = cv

    @fits_or_forgets
    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, distribution: Any = None, groups: Any = None
    ) -> Self:
        """Fit the estimator, and learn which uncertainty is usual for documents that it was not fitted on.

        Parameters
        ----------
        X : sequence of length n
            What the estimator takes.
        y : array-like of shape (n, L), default=None
            Indicators or soft targets in [0, 1]; may be left out where the estimator needs none, a zero-shot classifier
            or one that is fitted already.
        sample_weight : array-like of shape (n,), default=None
            Weights, in documents.
        distribution : array-like of shape (n, L), default=None
            Soft targets that take the place of the numbers in `y`.
        groups : array-like of shape (n,), default=None
            Documents of one group are held out together.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        TypeError, ValueError
            If an input or a parameter is not as expected; nothing was fitted or decoded.
        """
        if not is_number(self.coverage) or not 0 < self.coverage <= 1:
            raise ValueError(
                f"Got coverage={self.coverage!r} but expected the share of documents to answer, a number in (0, 1]."
            )
        if hasattr(self.estimator, "predict_proba"):
            check_criterion(self.criterion, self.estimator)
        given, why = (y, sample_weight, distribution, groups), "only several labels leave room for -1"

        def read(columns, fitted, X):
            found = self._look(fitted, X, columns)
            return np.column_stack([found.uncertainty, found.proba])

        held_out, _ = self._hold_out(X, given, why, read, optional=True, extra=1)
        seen = np.flatnonzero(~np.isnan(held_out[:, 0]))
        w = check_sample_weight(sample_weight, len(held_out))[seen]
        self.cutoff_, self.coverage_ = _cut(held_out[seen, 0], w, self.coverage)
        return self

    def _look(self, estimator, X, columns, everything=False):
        """Return probabilities of documents and how unsure they are, from one pass, and what else that takes."""
        asked = everything or self.criterion in OF_DIAGNOSES
        found = diagnose(estimator, X) if asked else Bunch(proba=np.asarray(label_columns(estimator, X)))
        n_labels = found.proba.shape[1]
        columns = columns or Columns(n_labels, None, None)
        found.proba = in_order("estimator", estimator, found.proba, columns)
        names = columns.labels or output_labels(estimator) or default_names(n_labels)
        found.thresholds = thresholds_of(estimator, names)
        found.uncertainty = uncertainty_of(self.criterion, found.proba, found.thresholds, found)
        return found

    def diagnose(self, X: Any) -> Bunch:
        """Return the probabilities of documents, how unsure each is, and what the estimator's ``diagnose`` says.

        Parameters
        ----------
        X : sequence of length n
            What the estimator takes.

        Returns
        -------
        Bunch
            As of ``skmlmc.calibrate.diagnose``, and

            uncertainty : ndarray of shape (n,)
                By the criterion; more is less sure.
            abstains : ndarray of shape (n,), bool
                Whether it is above the cutoff.
            thresholds : ndarray of shape (L,)
                From where on labels are given.
        """
        return self._answer(X, everything=True)

    def _answer(self, X, everything=False):
        check_is_fitted(self)
        found = self._look(self.estimator_, X, self._columns(), everything)
        return Bunch(**{**found, "abstains": found.uncertainty > self.cutoff_})

    def uncertainty(self, X: Any) -> np.ndarray:
        """Return how unsure the estimator is of each document, by the criterion.

        Parameters
        ----------
        X : sequence of length n
            What the estimator takes.

        Returns
        -------
        ndarray of shape (n,)
            More is less sure.
        """
        return self._answer(X).uncertainty

    def abstains(self, X: Any) -> np.ndarray:
        """Return which documents are left to somebody else.

        Parameters
        ----------
        X : sequence of length n
            What the estimator takes.

        Returns
        -------
        ndarray of shape (n,), bool
            True where the uncertainty is above the cutoff.
        """
        return self._answer(X).abstains

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label sets of the documents that are sure enough.

        Parameters
        ----------
        X : sequence of length n
            What the estimator takes.

        Returns
        -------
        ndarray of shape (n, L), int
            1 where a probability reaches the estimator's threshold; rows of -1 where it abstains. What it would have
            said there is in ``predict_proba``.
        """
        found = self._answer(X)
        sets = (found.proba >= found.thresholds).astype(int)
        sets[found.abstains] = -1
        return sets

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean example-F1 of the documents that are answered.

        Parameters
        ----------
        X : sequence of length n
            What the estimator takes.
        y : array-like of shape (n, L)
            Indicators or soft targets in [0, 1], which count through their majority.
        sample_weight : array-like of shape (n,), default=None
            Weights of the documents.

        Returns
        -------
        float
            In [0, 1]; NaN with a warning where no document is answered.
        """
        sets = self.predict(X)
        y, _ = check_targets(y, labels=output_labels(self, names_of(y, list(self.labels_))), n_samples=len(sets))
        w, answered = check_sample_weight(sample_weight, len(sets)), sets[:, 0] >= 0
        if not w[answered].any():
            warn("The score is NaN: the classifier abstains on all documents.", UndefinedMetricWarning)
            return float("nan")
        return example_f1(majority(y[answered]), sets[answered], sample_weight=w[answered])

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coverage_")


def _cut(values, w, coverage):
    """Return the least uncertainty up to which so large a share of the documents is answered, and that share."""
    order = np.argsort(values, kind="stable")
    shares = np.cumsum(w[order]) / w.sum()
    cutoff = values[order[np.flatnonzero(shares >= coverage - 1e-9)[0]]]
    return float(cutoff), float(w[values <= cutoff].sum() / w.sum())

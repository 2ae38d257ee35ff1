"""What every estimator that yields label probabilities has in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.base import ClassifierMixin, TransformerMixin
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.metrics import accuracy_score
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from . import _version
from ._utils.arrays import check_targets, default_names, largest, majority, names_of
from ._utils.checks import check_threshold
from ._utils.classes import as_targets, class_vector, holds_classes
from ._utils.docs import documented
from ._utils.labelled import restore_names
from ._utils.warning import warn
from .metrics import example_f1, output_labels, wrapped

__all__ = ["AlignerMixin", "LabelColumnsMixin", "LabelProbabilityMixin", "VersionedMixin", "fits_or_forgets"]

documented_aligner = documented(
    parameters="""Parameters
    ----------
    X : array-like
        What ``predict_proba`` takes.""",
    threshold="""threshold : float, array-like of shape (L,) or mapping of label to float, default=0.5
        Probability from which ``predict`` gives a label.""",
    multi_label="""multi_label : bool, default=True
        False for single-label tasks: probabilities of a document sum to 1 and ``predict`` gives the largest.""",
    attributes="""Attributes
    ----------
    labels_ : ndarray of shape (L,), object
        Label names: those of the array from an extractor, else the columns of a DataFrame `y`, else "label0", ...
    n_labels_ : int
        Number of labels.
    classes_ : ndarray of shape (L, 2) or (L,)
        ``[0, 1]`` for each label; the classes themselves where `y` was one-dimensional.""",
    not_fitted="""Raises
    ------
    sklearn.exceptions.NotFittedError
        If ``fit`` was not called.
    TypeError, ValueError
        If `X` is not as expected, or was made for other labels or of another width than in ``fit``.""",
)


Fit = TypeVar("Fit", bound=Callable[..., Any])


def fits_or_forgets(fit: Fit) -> Fit:
    """Let a ``fit`` leave nothing where it fails, of an earlier one neither: half fitted is not fitted.

    Examples
    --------
    >>> class Mean:
    ...     @fits_or_forgets
    ...     def fit(self, X):
    ...         self.n_ = len(X)
    ...         self.mean_ = sum(X) / self.n_
    ...         return self
    >>> estimator = Mean().fit([1, 3])
    >>> try:
    ...     estimator.fit([])
    ... except ZeroDivisionError:
    ...     vars(estimator)
    {}
    """

    @wraps(fit)
    def fit_or_forget(self, *args, **kwargs):
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            _forget(self)
            raise

    return cast(Fit, fit_or_forget)


def _forget(estimator):
    """Delete fitted attributes, which scikit-learn knows by the underscore at their end."""
    for name in [name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")]:
        delattr(estimator, name)


class VersionedMixin:
    """Save the package's version with the state, and warn where another version loads it, as scikit-learn does.

    Default prompts belong to the code, not to the state: another version may ask the model something else.
    """

    def __getstate__(self):
        return dict(super().__getstate__(), _skmlmc_version=_version.__version__)  # type: ignore[misc]

    def __setstate__(self, state):
        state = dict(state)
        saved = state.pop("_skmlmc_version", "unknown")
        if saved != _version.__version__:
            warn(
                InconsistentVersionWarning(
                    estimator_name=f"skmlmc.{type(self).__name__}",
                    current_sklearn_version=_version.__version__,
                    original_sklearn_version=saved,
                ),
            )
        super().__setstate__(state)  # type: ignore[misc]


def label_columns(classifier: Any, X: Any) -> np.ndarray:
    """Return a fitted multi-label classifier's probabilities (n, L), whichever of scikit-learn's two layouts it has.

    ``MultiOutputClassifier``, trees and neighbours list arrays (n, n_classes), one a label. 0 for untrained labels.
    """
    proba = classifier.predict_proba(X)
    if not isinstance(proba, list):
        return proba
    return np.column_stack([p @ (np.asarray(c) == 1) for p, c in zip(proba, classifier.classes_, strict=True)])


def diagnose(estimator: Any, X: Any) -> Bunch:
    """Return a fitted classifier's label probabilities, and what is known of how each document came to them.

    One pass from texts to probabilities: what ``predict_proba`` decodes, and nothing twice.

    Parameters
    ----------
    estimator : estimator
        A `GGUFClassifier`, a pipeline with one or with an extractor in it, a search, or any other classifier.
    X : sequence of length n
        What it takes.

    Returns
    -------
    Bunch
        What the ``diagnose`` of the classifier, or of the pipeline's steps, returns, such as the `label_mass` of each
        document, and

        proba : ndarray of shape (n, L)
            what ``predict_proba`` returns, an array also where that is a list.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skmlmc import MaxOverGenerations, StepwiseExtractor
    >>> from skmlmc.calibrate import diagnose
    >>> pipe = make_pipeline(StepwiseExtractor(labels=labels), MaxOverGenerations()).fit(texts)
    >>> found = diagnose(pipe, texts[:2])
    >>> found.proba.shape, found.label_mass.shape
    ((2, 3), (2,))
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    if not hasattr(estimator, "steps"):
        if hasattr(estimator, "diagnose"):
            return estimator.diagnose(X)
        return Bunch(proba=label_columns(estimator, X))
    found = Bunch()
    *steps, (_, last) = estimator.steps
    for _, step in steps:
        if hasattr(step, "diagnose"):
            told = step.diagnose(X)
            found.update(told)
            X = next(iter(told.values()))
        elif step is not None and not isinstance(step, str):
            X = step.transform(X)
    return Bunch(**{**found, **diagnose(last, X)})


def find_threshold(estimator: Any) -> Any:
    """Return the threshold of an estimator's predictions, of each label one where it has learned them.

    None where it takes the largest probability, 0.5 where nobody says. Of pipelines, searches and wrappers it is that
    of what is inside.
    """
    while not (hasattr(estimator, "threshold") or hasattr(estimator, "thresholds_")):
        inner = getattr(estimator, "best_estimator_", wrapped(estimator))
        if inner is None:
            return 0.5
        estimator = getattr(estimator, "estimator_", inner)
    if not getattr(estimator, "multi_label", True):
        return None
    threshold = getattr(estimator, "threshold", "tune")
    return learned_thresholds(estimator) if isinstance(threshold, str) else threshold


def learned_thresholds(estimator: Any) -> np.ndarray:
    """Return the thresholds that ``fit`` has learned; ValueError where "tune" was set since, or something else."""
    threshold = getattr(estimator, "threshold", "tune")
    if threshold != "tune" or not hasattr(estimator, "thresholds_"):
        raise ValueError(
            f'Got threshold={threshold!r} but expected a number or, before fit, "tune": call fit(texts, Y) again, '
            "which learns the thresholds."
        )
    return estimator.thresholds_


@documented_aligner
class LabelProbabilityMixin(ClassifierMixin):
    """Predictions, score and label names for estimators whose ``predict_proba`` is ``(n, L)``.

    A subclass has ``threshold`` and, where single-label tasks make sense, ``multi_label``; ``fit`` sets ``labels_``,
    and ``_classes`` where the task has classes: an array that is sorted as its columns are.
    """

    _classes: np.ndarray | None = None

    @property
    def classes_(self) -> np.ndarray:
        """Classes of each label, ``[0, 1]``: ndarray of shape (L, 2); of a single-label task the classes (L,)."""
        check_is_fitted(self)
        if self._classes is not None:
            return self._classes
        # scikit-learn's own multi-label estimators have a list of these rows; cross_val_predict asks for a shape.
        return np.tile([0, 1], (len(self.labels_), 1))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label sets of `X`, or its classes.

        {parameters}

        Returns
        -------
        ndarray of shape (n, L), int
            1 where a probability reaches the threshold; with ``multi_label=False``, at a row's largest one only. Where
            ``fit`` got a one-dimensional `y` (n,): the most probable class.
        """
        return self._label_sets(self.predict_proba(X))

    def _label_sets(self, proba):
        """Return what `predict` makes of probabilities."""
        if self._classes is not None:
            return self._classes[proba.argmax(axis=1)]
        if not getattr(self, "multi_label", True):
            return largest(proba)
        # What has learned thresholds has no parameter, or its value is "tune".
        threshold = getattr(self, "threshold", "tune")
        if isinstance(threshold, str):
            return (proba >= learned_thresholds(self)).astype(int)
        return (proba >= check_threshold(threshold, self.labels_)).astype(int)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean example-F1 of the predictions, or accuracy; soft targets count through their majority.

        {parameters}
        y : array-like of shape (n, L) or (n,)
            Indicator or soft targets in [0, 1]; in a single-label task with classes, those of the documents.
        sample_weight : array-like of shape (n,), default=None
            Weights of the documents.

        Returns
        -------
        float
            Mean example-F1, in [0, 1]. A document without a majority for any label has the empty set. Of classes the
            accuracy.
        """
        pred = self.predict(X)
        if self._classes is not None:
            if holds_classes(y, column=True):
                return accuracy_score(class_vector(y), pred, sample_weight=sample_weight)
            pred = (pred[:, None] == self._classes).astype(int)
        y = as_targets(self, y)
        labels = output_labels(self, names_of(y, list(self.labels_)))
        y, _ = check_targets(y, labels=labels, n_samples=len(pred))
        return example_f1(majority(y), pred, sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        single = isinstance(multi_label := getattr(self, "multi_label", True), (bool, np.bool_)) and not multi_label
        tags.classifier_tags.multi_class = tags.target_tags.single_output = single
        tags.classifier_tags.multi_label = tags.target_tags.multi_output = not single
        return tags


class LabelColumnsMixin:
    """For outputs with a column a label."""

    labels_: Any

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns: the labels.

        Parameters
        ----------
        input_features : sequence of str, default=None
            Names along the input's last axis, as of an extractor in a pipeline: labels, perhaps the empty answer last.

        Returns
        -------
        ndarray of shape (L,), object
            Label names: those of the columns of `y` or of `labels`, else of `input_features`, else "label0", ...
        """
        check_is_fitted(self)
        names, n = np.array(self.labels_, dtype=object), len(self.labels_)
        if input_features is not None and len(input_features) in (n, n + 1) and list(names) == default_names(n):
            return np.asarray(input_features, dtype=object)[:n]
        return names


class _ProbabilityTransformer(TransformerMixin):
    """``transform`` is ``predict_proba``, in the container that ``set_output`` asks for.

    A class of its own, since scikit-learn wraps ``transform`` class by class: `AlignerMixin` needs what is wrapped.
    """

    def transform(self, X):
        return self.predict_proba(X)


@documented_aligner
class AlignerMixin(VersionedMixin, LabelColumnsMixin, LabelProbabilityMixin, _ProbabilityTransformer):
    """An aligner: probability arrays in, label probabilities out; both a transformer and a final estimator."""

    def transform(self, X: Any) -> np.ndarray:
        """Return the label probabilities, the same as ``predict_proba``.

        {parameters}

        Returns
        -------
        ndarray of shape (n, L)
            Probability of each label, each column in [0, 1] on its own.
        """
        return restore_names(super().transform(X), X, self.labels_)

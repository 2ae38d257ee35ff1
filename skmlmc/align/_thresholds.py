"""Decision thresholds that are learned from held-out probabilities: one for all labels, or one a label."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import Bunch, get_tags
from sklearn.utils.validation import check_is_fitted

from .._utils.arrays import default_names, majority
from .._utils.checks import check_choice, check_positive, is_number
from .._utils.classes import holds_classes
from .._utils.typing import Self
from .._utils.warning import warn
from ..base import (
    LabelColumnsMixin,
    LabelProbabilityMixin,
    VersionedMixin,
    diagnose,
    documented_aligner,
    fits_or_forgets,
)
from ..metrics import gives_several, output_labels
from ._stacking import Columns, columns_of, fit_on, hold_out, in_order, learns_from_documents, make_task

OBJECTIVES = ("example_f1", "macro_f1", "micro_f1", "precision", "recall")
ROUNDS = 20  # of going through all labels; two or three are enough to stand still
SHRINKAGE = 5.0


class Goal(NamedTuple):
    """What thresholds are chosen for: an F1, or the most recall at a given precision, or the other way round."""

    objective: str
    target: float | None = None

    def value(self, hits: np.ndarray, given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Return how good counts are: hits among the labels that are given, and those that are wanted.

        Where a precision or recall is to be reached, values are above 1 where it is.
        """
        precision, recall = _ratio(hits, given), _ratio(hits, wanted)
        if self.target is None:
            return _ratio(2 * hits, given + wanted)
        held, other = (precision, recall) if self.objective == "precision" else (recall, precision)
        return np.where(held >= self.target - 1e-12, 1 + other, held)


EXAMPLE_F1 = Goal("example_f1")


def _ratio(a, b):
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=np.asarray(b) > 0)


def check_goal(objective: Any, target: Any) -> Goal:
    """Return the objective, or raise ValueError where `target` does not belong to it."""
    check_choice(objective, "objective", OBJECTIVES)
    given = objective in ("precision", "recall")
    if given and (not is_number(target) or not 0 < target <= 1):
        raise ValueError(f"Got target={target!r} but expected the {objective} to reach, a number in (0, 1].")
    if not given and target is not None:
        raise ValueError(
            f"Got target={target!r} with objective={objective!r}, which is made as large as possible. Expected None, "
            'or the objective "precision" or "recall".'
        )
    return Goal(objective, float(target) if given else None)


def sweep(p: np.ndarray, *amounts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return every threshold that makes a difference, rising, and the sum of each amount over what reaches it.

    Thresholds lie halfway between neighbours among the probabilities, 0 and 1.

    Examples
    --------
    >>> thresholds, hits = sweep(np.array([0.2, 0.6, 0.6]), np.array([0.0, 1.0, 1.0]))
    >>> thresholds.round(2).tolist(), hits.tolist()
    ([0.1, 0.4, 0.8], [2.0, 2.0, 0.0])
    """
    values, places = np.unique(p, return_inverse=True)
    below, above = np.concatenate([[0.0], values]), np.concatenate([values, [1.0]])
    thresholds = (below + above) / 2
    thresholds = np.where(thresholds > below, thresholds, above)  # of neighbours so near that nothing lies between
    thresholds[0] = values[0] / 2
    sums = [np.bincount(places.ravel(), weights=a.ravel(), minlength=len(values)) for a in amounts]
    sums = [np.append(s[::-1].cumsum()[::-1], 0.0) for s in sums]
    end = len(thresholds) - (values[-1] >= 1)  # a probability of 1 reaches every threshold
    return thresholds[:end], *(s[:end] for s in sums)


def _best(thresholds, values):
    """Return the threshold of the largest value, of equal ones the nearest to 0.5, and that value."""
    largest = np.flatnonzero(values >= values.max() - 1e-9)
    k = largest[abs(thresholds[largest] - 0.5).argmin()]
    return float(thresholds[k]), float(values[k])


def _jumps(P, Y, weights):
    """Return by how much the F1 of a row changes with each label that is given, the most probable first.

    `weights` are those of the entries of a row. Sums over rows and over all entries that reach a threshold give, with
    the F1 of nothing given, that of the threshold.
    """
    order = np.argsort(-P, axis=1, kind="stable")
    w = np.broadcast_to(weights, P.shape)
    hits, given = (np.cumsum(np.take_along_axis(a, order, axis=1), axis=1) for a in (Y * w, w))
    wanted = (Y * w).sum(axis=1, keepdims=True)
    empty = (wanted == 0).astype(float)
    f1 = np.hstack([empty, _ratio(2 * hits, given + wanted)])
    jumps = np.empty(P.shape)
    np.put_along_axis(jumps, order, np.diff(f1, axis=1), axis=1)
    return jumps, empty[:, 0]


def common_threshold(P: np.ndarray, Y: np.ndarray, w: np.ndarray, goal: Goal) -> tuple[float, float]:
    """Return the threshold for all labels that does best for a goal, and its value; the best of all there are."""
    if goal.objective == "example_f1":
        jumps, nothing = _jumps(P, Y, np.ones(P.shape[1]))
        thresholds, gained = sweep(P, jumps * w[:, None])
        return _best(thresholds, (w @ nothing + gained) / w.sum())
    if goal.objective == "macro_f1":
        some = (Y * w[:, None]).any(axis=0)
        jumps, _ = _jumps(P.T, Y.T, w)
        thresholds, gained = sweep(P, jumps.T * some)
        return _best(thresholds, gained / max(some.sum(), 1))
    weights = np.broadcast_to(w[:, None], P.shape)
    thresholds, hits, given = sweep(P, Y * weights, weights)
    return _best(thresholds, goal.value(hits, given, hits[0]))


def label_thresholds(P: np.ndarray, Y: np.ndarray, w: np.ndarray, goal: Goal, start: float) -> tuple[np.ndarray, list]:
    """Return the best threshold of each label, and its value, of labels that are judged each for itself.

    Of example-F1 and micro-F1, which join labels, it is the best while all others stay, from one for all on.
    """
    if goal.objective in ("macro_f1", "precision", "recall"):
        swept = (sweep(p, y * w, w) for p, y in zip(P.T, Y.T, strict=True))
        alone = [_best(thresholds, goal.value(hits, n, hits[0])) for thresholds, hits, n in swept]
        return np.array([t for t, _ in alone]), [value for _, value in alone]
    found, before = np.full(P.shape[1], start), None
    for _ in range(ROUNDS):
        if (found == before).all():
            break
        before = found.copy()
        for k in range(P.shape[1]):
            thresholds, values = _with_others(P, Y, w, found <= P, k, goal)
            now = min(np.searchsorted(np.unique(P[:, k]), found[k]), len(values) - 1)  # which gives the same labels
            best, value = _best(thresholds, values)
            found[k] = best if value > values[now] + 1e-9 else found[k]
    return found, []


def _with_others(P, Y, w, given, k, goal):
    """Return the thresholds of one label, and the F1 with each beside what is given of the others."""
    rest = np.delete(given, k, axis=1)
    hits, sizes = (rest & np.delete(Y, k, axis=1)).sum(axis=1), rest.sum(axis=1) + Y.sum(axis=1)
    if goal.objective == "micro_f1":
        thresholds, more, n_more = sweep(P[:, k], Y[:, k] * w, w)
        return thresholds, _ratio(2 * (w @ hits + more), w @ sizes + n_more)
    without = np.where(sizes == 0, 1.0, _ratio(2 * hits, sizes))
    thresholds, gained = sweep(P[:, k], w * (2 * (hits + Y[:, k]) / (sizes + 1) - without))
    return thresholds, (w @ without + gained) / w.sum()


def shrink(own: np.ndarray, common: float, Y: np.ndarray, w: np.ndarray, shrinkage: float) -> np.ndarray:
    """Draw the thresholds of labels that few documents have, or few lack, towards the common one, in log-odds."""
    n = np.minimum(w @ Y, w @ ~Y)
    share = n / (n + shrinkage) if shrinkage else np.ones(len(own))
    near, far = (logit(np.clip(t, 1e-8, 1 - 1e-8)) for t in (own, common))
    return np.where(share == 1, own, expit(share * near + (1 - share) * far))


def learn_thresholds(P, Y, w, goal=EXAMPLE_F1, per_label=True, shrinkage=SHRINKAGE, labels=None):
    """Return the thresholds of labels, and that for all labels, from held-out probabilities and label sets.

    With `labels`, a warning names those of which no threshold reaches the precision or recall that is wanted.
    """
    Y = Y.astype(bool)
    common, value = common_threshold(P, Y, w, goal)
    thresholds, values, names, some = np.full(P.shape[1], common), [value], ["all labels together"], [True]
    if per_label:
        own, values = label_thresholds(P, Y, w, goal, common)
        thresholds, names, some = shrink(own, common, Y, w, shrinkage), labels, Y.any(axis=0)
    if goal.target is not None and labels is not None:
        short = [str(n) for n, value, has in zip(names, values, some, strict=True) if has and value < 1]
        if short:
            warn(
                f"No threshold reaches a {goal.objective} of {goal.target:g} for {short}; the nearest is taken. Give a "
                "lower target, or more documents."
            )
    return thresholds, common


def threshold_curves(P: np.ndarray, Y: np.ndarray, w: np.ndarray, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Return what thresholds are worth: (m,) of all labels with one threshold, (m, L) of each label for itself."""
    Y = Y.astype(bool)
    given = np.array([P >= t for t in thresholds], dtype=bool)
    wanted, hits, sizes = w @ Y, np.tensordot(given & Y, w, (1, 0)), np.tensordot(given, w, (1, 0))
    both, either = (given & Y).sum(axis=2), given.sum(axis=2) + Y.sum(axis=1)
    label_f1, some = _ratio(2 * hits, sizes + wanted), wanted > 0
    total = hits.sum(axis=1), sizes.sum(axis=1), wanted.sum()
    return {
        "threshold": thresholds,
        "example_f1": np.average(np.where(either == 0, 1.0, _ratio(2 * both, either)), axis=1, weights=w),
        "macro_f1": label_f1[:, some].mean(axis=1) if some.any() else np.zeros(len(thresholds)),
        "micro_f1": _ratio(2 * total[0], total[1] + total[2]),
        "precision": _ratio(total[0], total[1]),
        "recall": _ratio(total[0], total[2]),
        "label_precision": _ratio(hits, sizes),
        "label_recall": _ratio(hits, wanted),
        "label_f1": label_f1,
    }


def grid(P: np.ndarray) -> np.ndarray:
    """Return about a hundred thresholds to draw curves at: even ones, and some where many probabilities lie."""
    return np.unique(np.concatenate([np.linspace(0, 1, 51), np.quantile(P, np.linspace(0, 1, 51)), [0.5]]))


def check_wrapped(estimator: Any, y: Any, what: str) -> None:
    """Raise TypeError or ValueError where an estimator, or targets, are not of several labels; nothing was fitted."""
    if isinstance(estimator, type) or not (hasattr(estimator, "fit") and hasattr(estimator, "predict_proba")):
        raise TypeError(
            f"Got estimator={estimator!r:.200} but expected a multi-label classifier with fit and predict_proba."
        )
    if gives_several(estimator) is False or (y is not None and holds_classes(y)):
        got = "the class of each document as y" if gives_several(estimator) is not False else "multi_label=False"
        raise ValueError(
            f"Got {got}, but {what}. Expected a classifier with multi_label=True as estimator and y of shape (n, L); "
            "for two classes there is sklearn.model_selection.TunedThresholdClassifierCV."
        )


class WrapperMixin(VersionedMixin, LabelColumnsMixin, LabelProbabilityMixin, MetaEstimatorMixin):
    """What wraps a multi-label classifier and leaves its probabilities as they are."""

    __metadata_request__fit = {"distribution": True}  # unless refused, as splitters request groups
    estimator: Any
    estimator_: Any
    cv: Any
    _names: list[str] | None = None

    def _hold_out(self, X, given, why, read, optional=False, extra=0):
        """Fit the estimator; return what `read` makes of each document and one that did not see it, and what was given.

        What learns nothing from documents, and what is fitted already, sees each of them once. `given` is what
        ``fit`` got beside documents; without targets, where these are `optional`, no task is returned. `read` has
        `extra` columns beside those of labels.
        """
        check_wrapped(self.estimator, given[0], why)
        prefit = isinstance(self.cv, str) and self.cv == "prefit"
        learns = not prefit and learns_from_documents(self.estimator)
        task: Any = None
        if given[0] is not None or given[2] is not None:
            task = make_task(X, *given, cv=self.cv if learns else "prefit")
        elif learns or not optional:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None. Give indicators or soft "
                "targets of shape (n, L)."
            )
        if prefit:
            check_is_fitted(self.estimator)
            self.estimator_ = self.estimator
        elif task is None:
            self.estimator_ = clone(self.estimator).fit(X, None)
        else:
            known = task if learns else task._replace(w=None)  # who learns nothing may not take weights
            self.estimator_ = fit_on("estimator", clone(self.estimator), X, known, np.arange(len(task.H)))
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        read = partial(read, task and task.columns)
        found = hold_out("estimator", self.estimator, X, task, read) if learns else read(self.estimator_, X)
        self._names = task and task.columns.labels
        names = self._names or output_labels(self.estimator_) or default_names(found.shape[1] - extra)
        self.labels_ = np.array(names, dtype=object)
        return found, task

    def _columns(self):
        return Columns(len(self.labels_), self._names, None)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the estimator's label probabilities, as they are.

        Parameters
        ----------
        X : sequence of length n
            What the estimator takes.

        Returns
        -------
        ndarray of shape (n, L)
            Probability of each label.
        """
        check_is_fitted(self)
        return columns_of("estimator", self.estimator_, X, self._columns())

    def diagnose(self, X: Any) -> Bunch:
        """Return the probabilities, and what the estimator's ``diagnose`` says beside them.

        Parameters
        ----------
        X : sequence of length n
            What the estimator takes.

        Returns
        -------
        Bunch
            As of ``skmlmc.calibrate.diagnose``.
        """
        check_is_fitted(self)
        found = diagnose(self.estimator_, X)
        return Bunch(**{**found, "proba": in_order("estimator", self.estimator_, found.proba, self._columns())})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if hasattr(self.estimator, "fit") and not isinstance(self.estimator, type):
            tags.input_tags = get_tags(self.estimator).input_tags
        return tags


@documented_aligner
class ThresholdTuner(WrapperMixin, BaseEstimator):
    """Learn from held-out probabilities from where on a classifier gives a label.

    What scikit-learn's ``TunedThresholdClassifierCV`` does for two classes, for several labels and soft targets. Where
    annotators disagree, well aligned probabilities of rare labels hardly reach 0.5 and ``predict`` finds nothing: a
    threshold of 0.2 may then be right for F1. Documents to predict must have labels as often as those in ``fit``:
    where they do not, a learned threshold can be worse than 0.5. Probabilities stay as they are.

    Parameters
    ----------
    estimator : estimator
        Any multi-label classifier with ``predict_proba``: a `GGUFClassifier`, a pipeline, a `SoftStackingClassifier`,
        scikit-learn's ``OneVsRestClassifier`` or ``MultiOutputClassifier`` (for 0/1 targets).
    objective : {"example_f1", "macro_f1", "micro_f1", "precision", "recall"}, default="example_f1"
        What is made as large as possible: the mean F1 of a document (as `skmlmc.metrics.example_f1`), the mean F1 of a
        label over those that some document has, the F1 of all decisions together; or with "precision" the recall, and
        with "recall" the precision, while the one that is named reaches `target`, on the documents of ``fit``: of each
        label, with ``per_label=False`` of all decisions together.
    target : float, default=None
        The precision or recall to reach.
    per_label : bool, default=True
        One threshold a label, or one for all.
    shrinkage : float, default=5.0
        How strongly the thresholds of rare labels are drawn towards the common one, in documents: of a label with n
        documents (or n without it, where these are fewer) the log-odds of the threshold are ``n / (n + shrinkage)`` of
        its own best and the rest of the common one. 0: not at all; a precision or recall is then reached for each.
    cv : int, splitter or "prefit", default=5
        Which documents are held out; an int shuffles them, with ``groups`` such that no group is divided. What learns
        nothing from documents, a zero-shot classifier or one in a ``FrozenEstimator``, predicts all of them once
        instead. "prefit": `estimator` is fitted already, on other documents than these.

    Attributes
    ----------
    labels_ : ndarray of shape (L,), object
        Label names: the columns of `y`, else those of the estimator, else "label0", "label1", ...
    thresholds_ : ndarray of shape (L,)
        Probability from which each label is given.
    common_threshold_ : float
        The best for all labels.
    estimator_ : estimator
        Fitted on all documents.
    cv_results_ : dict of str to ndarray
        What thresholds are worth on the held-out probabilities, to be drawn by ``ThresholdDisplay.from_estimator``:
        "threshold" of shape (m,), "example_f1", "macro_f1", "micro_f1", "precision" and "recall" of that threshold for
        all labels (m,), "label_precision", "label_recall" and "label_f1" of shape (m, L).

    See Also
    --------
    skmlmc.plots.ThresholdDisplay : Draws the trade-off.
    SelectiveClassifier : Leaves documents to a human.

    Notes
    -----
    Soft targets count through their majority. The common threshold is the best of all for its objective; thresholds
    of labels are found one after another, each the best while the others stay, until none changes.

    Examples
    --------
    >>> import numpy as np
    >>> from skmlmc.calibrate import LinearProbe, ThresholdTuner
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> Y = (X + rng.normal(size=(200, 2)) > [1.5, 0]).astype(int)
    >>> tuner = ThresholdTuner(LinearProbe(None)).fit(X, Y)
    >>> tuner.thresholds_.shape, bool(tuner.thresholds_[0] < 0.5)
    ((2,), True)
    >>> tuner.predict(X[:3]).shape
    (3, 2)
    """

    def __init__(
        self,
        estimator: Any,
        *,
        objective: str = "example_f1",
        target: float | None = None,
        per_label: bool = True,
        shrinkage: float = SHRINKAGE,
        cv: Any = 5,
    ) -> None:
        self.estimator = estimator
        self.objective = objective
        self.target = target
        self.per_label = per_label
        self.shrinkage = shrinkage
        self.cv = cv

    @fits_or_forgets
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, distribution: Any = None, groups: Any = None) -> Self:
        """Fit the estimator, and learn thresholds from what it says of documents that it was not fitted on.

        Parameters
        ----------
        X : sequence of length n
            What the estimator takes.
        y : array-like of shape (n, L)
            Indicators or soft targets in [0, 1].
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
            If an input or a parameter is not as expected; nothing was fitted.
        """
        goal = check_goal(self.objective, self.target)
        check_choice(self.per_label, "per_label", (True, False))
        if not is_number(self.shrinkage) or self.shrinkage != 0:
            check_positive(self.shrinkage, "shrinkage")
        given, why = (y, sample_weight, distribution, groups), "the most probable of them is predicted anyway"

        def read(columns, fitted, X):
            return columns_of("estimator", fitted, X, columns)

        proba, task = self._hold_out(X, given, why, read)
        rows = np.flatnonzero(~np.isnan(proba[:, 0]) & (task.weights(np.arange(len(proba))) > 0))
        P, Y, w = proba[rows], majority(task.H[rows]), task.weights(rows)
        found = learn_thresholds(P, Y, w, goal, self.per_label, float(self.shrinkage), self.labels_)
        self.thresholds_, self.common_threshold_ = found
        self.cv_results_ = threshold_curves(P, Y, w, grid(P))
        return self

    def __sklearn_is_fitted__(self):
        return hasattr(self, "cv_results_")

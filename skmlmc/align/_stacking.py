"""Several classifiers combined into one, by few and shrunk weights that are fitted on held-out probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing as take_rows
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import _BaseComposition  # what makes name__parameter work in all of scikit-learn's
from sklearn.utils.validation import check_consistent_length, check_is_fitted, has_fit_parameter
from threadpoolctl import threadpool_limits

from .._utils.arrays import check_sample_weight, default_names, lay_out
from .._utils.checks import check_choice, check_positive, check_threshold, shuffled_splits
from .._utils.classes import expand, find_classes, holds_classes
from .._utils.labelled import labelled
from .._utils.typing import Self, Threshold
from ..base import (
    LabelColumnsMixin,
    LabelProbabilityMixin,
    VersionedMixin,
    documented_aligner,
    fits_or_forgets,
    label_columns,
)
from ..metrics import output_labels
from ._arithmetic import (
    C_GRID,
    Fold,
    apply_stack,
    choose_strength,
    fit_stack,
    row_nll,
    to_logits,
    to_proba,
)
from ._fitted import LinearProbe, check_fit_targets


class Columns(NamedTuple):
    """What columns of probabilities are: labels, where the targets have names, or classes."""

    n_labels: int
    labels: list[str] | None
    classes: np.ndarray | None


class Task(NamedTuple):
    """What members are fitted on: soft targets, what a member's ``fit`` gets of them, weights, and what is held out."""

    H: np.ndarray
    y: Any
    w: np.ndarray | None
    columns: Columns
    splits: list[tuple[np.ndarray, np.ndarray]]
    multi_label: bool
    groups: np.ndarray | None = None

    def weights(self, rows):
        """Weights of documents, ones where none were given."""
        return np.ones(len(rows)) if self.w is None else self.w[rows]


@documented_aligner
class SoftStackingClassifier(VersionedMixin, LabelColumnsMixin, LabelProbabilityMixin, _BaseComposition):
    """Combine classifiers into one that is closer to the annotators than each of them.

    What scikit-learn's ``StackingClassifier`` does for one label a document, for several and for soft targets. Each
    member says its probabilities of documents that it was not fitted on; one weight a member, the same for all labels,
    none negative and all drawn towards the same, and an offset a label are fitted to them by penalised likelihood.
    A handful of numbers can be learned from 50 documents, and with few of them the members are simply averaged. A
    stack of one member recalibrates it.

    With ``multi_label=True`` the log-odds of label l are ``b_l + sum_m w_m (z_ml - b_l) + offset_l``, where ``z_ml``
    are those of member m and ``b_l`` those of the label's base rate. In a single-label task these are
    log-probabilities, and softmax makes rows sum to 1.

    Parameters
    ----------
    estimators : list of (str, estimator)
        The members and their names. Each is a classifier with ``predict_proba``, or a transformer, such as a
        `HiddenStateExtractor`, before which a `LinearProbe` is put; of several layers each has a probe and a weight of
        its own. All are fitted on what ``fit`` gets, texts or features.
    cv : int or splitter, default=5
        Which documents are held out. An int shuffles the documents and cuts them into so many parts, with ``groups``
        such that no group is divided.
    penalty : float, default=1.0
        How strongly weights are drawn towards ``1 / n_members``, in documents; probes on several layers of one member
        share that.
    {threshold}
    {multi_label}

    Attributes
    ----------
    labels_ : ndarray of shape (L,), object
        Label names: the columns of `y`, else those of the members, else "label0", "label1", ...
    estimators_ : list of estimators
        The members, fitted on all documents; transformers without their probes.
    heads_ : list of list of (slice, LinearProbe)
        The probes behind each member and the columns that they read; an empty list behind a classifier.
    views_ : list of str
        What each weight belongs to: the name of a member, with ``[k]`` behind it for the k-th of several probes.
    weights_ : ndarray of shape (n_views,)
        Weights, 0 or more.
    offsets_ : ndarray of shape (L,)
        Offsets of the labels.
    base_rates_ : ndarray of shape (L,)
        Mean targets, smoothed by half a document.
    nll_ : ndarray of shape (n_views,)
        Negative log-likelihood a document of each view's held-out probabilities, to compare them.

    See Also
    --------
    LinearProbe : A member of the stack.
    ScalingAligner : One classifier's probabilities, aligned.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.pipeline import make_pipeline
    >>> from skmlmc.calibrate import LinearProbe, SoftStackingClassifier
    >>> def words(**settings):
    ...     return make_pipeline(TfidfVectorizer(**settings), LinearProbe(n_components=None, scale=False))
    >>> texts = ["so glad", "so sad", "glad again", "sad and gone", "what joy", "I miss you"] * 5
    >>> Y = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 0.5]] * 5)
    >>> stack = SoftStackingClassifier([("words", words()), ("letters", words(analyzer="char_wb", ngram_range=(2, 3)))])
    >>> stack.fit(texts, Y).predict_proba(["glad"]).shape
    (1, 2)
    """

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        *,
        cv: Any = 5,
        penalty: float = 1.0,
        threshold: Threshold = 0.5,
        multi_label: bool = True,
    ) -> None:
        self.estimators = estimators
        self.cv = cv
        self.penalty = penalty
        self.threshold = threshold
        self.multi_label = multi_label

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, with `deep` those of the members too, as ``name__parameter``.

        Parameters
        ----------
        deep : bool, default=True
            Whether the members' parameters are among them.

        Returns
        -------
        dict of str to object
            Parameters by name.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of members as ``name__parameter``, or a member by its name.

        Parameters
        ----------
        **params : dict
            Parameters by name.

        Returns
        -------
        self : object
            The stack.
        """
        return self._set_params("estimators", **params)

    @fits_or_forgets
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, distribution: Any = None, groups: Any = None) -> Self:
        """Fit the members, and how they are combined.

        Parameters
        ----------
        X : sequence of length n
            Documents, or whatever the members take.
        y : array-like of shape (n, L) or (n,)
            Indicators or soft targets in [0, 1]; with ``multi_label=False`` rows sum to 1, or the class of each
            document.
        sample_weight : array-like of shape (n,), default=None
            Weights, in documents.
        distribution : array-like of shape (n, L), default=None
            Soft targets that take the place of the numbers in `y`.
        groups : array-like of shape (n,), default=None
            Documents of one group are held out together.

        Returns
        -------
        self : object
            The fitted stack.

        Raises
        ------
        TypeError, ValueError
            If an input or a parameter is not as expected; nothing was fitted.
        """
        members = self._check_members()
        task = self._make_task(X, y, sample_weight, distribution, groups)
        self.estimators_, self.heads_, self.views_, held_out = [], [], [], []
        shares: list[float] = []
        with threadpool_limits(limits=1, user_api="blas"):
            for name, member in members:
                fitted, heads, views = _cross_fit(name, clone(member), X, task)
                self.estimators_.append(fitted)
                self.heads_.append(heads)
                self.views_ += [name] if len(views) == 1 else [f"{name}[{k}]" for k in range(len(views))]
                held_out += views
                shares += [1 / len(members) / len(views)] * len(views)
            self._combine(held_out, np.array(shares), task)
        self._name_labels()
        return self

    def _name_labels(self):
        """Take the labels of the members where `y` has no names; ValueError where their orders differ."""
        known = [
            (name, labels)
            for (name, _), member, heads in zip(self.estimators, self.estimators_, self.heads_, strict=True)
            if not heads and (labels := output_labels(member)) is not None
        ]
        if self._names is not None or self._classes is not None or not known:
            return
        for name, labels in known[1:]:
            if labels != known[0][1]:
                raise ValueError(
                    f"Expected the same order of labels of all members, {known[0][1]}, as y has no names, but {name!r} "
                    f"has {labels}. Give y as a table whose columns are the labels."
                )
        self.labels_ = np.array(known[0][1], dtype=object)

    def _check_members(self):
        check_choice(self.multi_label, "multi_label", (True, False))
        check_positive(self.penalty, "penalty")
        pairs = self.estimators
        if not isinstance(pairs, (list, tuple)) or not pairs or not all(_is_pair(pair) for pair in pairs):
            raise ValueError(
                f"Got estimators={pairs!r:.200} but expected a list of pairs of a name and a classifier or a "
                "transformer, such as [('words', make_pipeline(TfidfVectorizer(), LinearProbe()))]."
            )
        self._validate_names([name for name, _ in pairs])
        return pairs

    def _make_task(self, X, y, sample_weight, distribution, groups):
        """Check the targets and find what is held out."""
        classes = find_classes(y) if not self.multi_label and y is not None and holds_classes(y, column=True) else None
        self._classes = None if classes is None else classes.values
        given = (X, y, sample_weight, distribution, groups)
        task = make_task(*given, cv=self.cv, multi_label=self.multi_label, classes=classes)
        self._names = task.columns.labels
        self.labels_ = np.array(self._names or default_names(task.H.shape[1]), dtype=object)
        check_threshold(self.threshold, self.labels_)
        return task

    def _columns(self):
        return Columns(len(self.labels_), self._names, self._classes)

    def _combine(self, held_out, shares, task):
        """Fit weights and offsets to probabilities of documents that were held out at least once."""
        rows = np.flatnonzero(~np.isnan(held_out[0][:, 0]))
        views, H, w = [view[rows] for view in held_out], task.H[rows], task.weights(rows)
        found = fit_stack(views, H, w, float(self.penalty), self.multi_label, shares)
        self.base_rates_, self.weights_, self.offsets_ = found
        losses = [row_nll(to_logits(view, self.multi_label), H, self.multi_label) for view in views]
        self.nll_ = np.array([np.average(loss, weights=w) for loss in losses])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the label probabilities.

        Parameters
        ----------
        X : sequence of length n
            Documents, or whatever the members take.

        Returns
        -------
        ndarray of shape (n, L)
            Probability of each label, strictly between 0 and 1; with ``multi_label=False`` rows sum to 1.

        {not_fitted}
        """
        check_is_fitted(self)
        views: list[np.ndarray] = []
        for (name, _), member, heads in zip(self.estimators, self.estimators_, self.heads_, strict=True):
            if not heads:
                views.append(columns_of(name, member, X, self._columns()))
                continue
            features = np.asarray(X) if member is None else _array(member.transform(X))
            views += [head.predict_proba(features[:, columns]) for columns, head in heads]
        logits = apply_stack(views, self.base_rates_, self.weights_, self.offsets_, self.multi_label)
        return to_proba(logits, self.multi_label)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "nll_")


def make_task(X, y, sample_weight, distribution, groups, *, cv, multi_label=True, classes=None):
    """Check targets, weights and groups, and cut the documents as `cv` says; ``cv="prefit"`` holds nothing out."""
    targets = y if classes is None else classes.targets()
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    H, names = check_fit_targets(targets, distribution, n, multi_label)
    if classes is not None and distribution is None:
        for_members = classes.values[classes.codes]
    else:
        hard = ((H == 0) | (H == 1)).all()
        for_members = labelled(H.astype(int) if hard else H, None, names, None)
    w = None if sample_weight is None else check_sample_weight(sample_weight, n)
    if groups is not None:
        check_consistent_length(X, groups)
        groups = np.asarray(groups)
    columns = Columns(H.shape[1], names, None if classes is None else classes.values)
    splits = [] if isinstance(cv, str) and cv == "prefit" else shuffled_splits(cv, H, H, groups)
    return Task(H, for_members, w, columns, splits, multi_label, groups)


def _is_pair(pair):
    return (
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and isinstance(pair[0], str)
        and not isinstance(pair[1], type)
        and hasattr(pair[1], "fit")
        and (hasattr(pair[1], "predict_proba") or hasattr(pair[1], "transform"))
    )


def _cross_fit(name, member, X, task):
    """Fit a member; returns it, the probes behind it with their columns, and held-out probabilities, one array a view.

    Probes are fitted here, so that one search for the penalty gives the held-out probabilities too, and the documents
    go through what learns nothing from them once.
    """
    front, probe = _divide(member, task)
    if probe is None:

        def read(fitted, X):
            return columns_of(name, fitted, X, task.columns)

        fitted = fit_on(name, member, X, task, np.arange(len(task.H)))
        return fitted, [], [hold_out(name, member, X, task, read)]
    if probe.multi_label != task.multi_label:
        raise ValueError(
            f"Got multi_label={task.multi_label}, but {name!r} has a probe with multi_label={probe.multi_label}: "
            "expected the same for both."
        )
    features, sides = _features(front, X, task)
    found = [_fit_probe(clone(probe), columns, features, sides, task) for columns in _blocks(front, features)]
    heads, views = zip(*found, strict=True)
    return front, list(heads), list(views)


def _divide(member, task):
    """Return what makes features, None for none, and the probe behind it, None where a member is another classifier."""
    last = member.steps[-1][1] if isinstance(member, Pipeline) else member
    if isinstance(last, LinearProbe):
        return (member[:-1] if isinstance(member, Pipeline) and len(member) > 1 else None), last
    if hasattr(last, "predict_proba"):
        return None, None
    return member, LinearProbe(multi_label=task.multi_label, random_state=0)


def _features(front, X, task):
    """Fit what makes features; return those of all documents, and of the two sides of each split.

    What learns nothing from documents makes them once.
    """
    if front is None:
        features = np.asarray(X)
        return features, [(features[train], features[test]) for train, test in task.splits]
    learns, sides = learns_from_documents(front), []
    for train, test in task.splits if learns else ():
        fitted = clone(front).fit(take_rows(X, train), take_rows(task.y, train))
        sides.append(tuple(_array(fitted.transform(take_rows(X, rows))) for rows in (train, test)))
    features = _array(front.fit(X, task.y).transform(X))
    return features, sides if learns else [(features[train], features[test]) for train, test in task.splits]


def _array(features):
    return features.toarray() if issparse(features) else np.asarray(features)


def learns_from_documents(estimator: Any) -> bool:
    """Return whether what an estimator, or a step of a pipeline, makes of a document may depend on those in ``fit``."""
    if isinstance(estimator, FrozenEstimator):
        return False
    if isinstance(estimator, Pipeline):
        steps = [part for _, part in estimator.steps if part is not None and not isinstance(part, str)]
        return any(map(learns_from_documents, steps))
    learns = getattr(estimator, "learns_from_documents", None)
    return learns() if callable(learns) else get_tags(estimator).requires_fit


def _blocks(front, features):
    """Return the columns of each probe: those of each layer where a step has several, else all."""
    last = front.steps[-1][1] if isinstance(front, Pipeline) else front
    widths = getattr(last, "widths_", None)
    widths = [features.shape[1]] if widths is None or sum(widths) != features.shape[1] else widths
    ends = np.cumsum(widths).tolist()
    return [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]


def _fit_probe(probe, columns, features, sides, task):
    """Return columns and the probe on them, fitted on all documents, and its held-out probabilities."""
    features = lay_out(features[:, columns])
    probe._check_parameters()
    folds = []
    for (train, test), parts in zip(task.splits, sides, strict=True):
        F, F_test = (lay_out(part[:, columns]) for part in parts)
        made = probe._fit_features(F, task.weights(train))
        known = [task.H[train], task.weights(train), made.transform(F_test), task.H[test], task.weights(test)]
        folds.append(Fold(made.transform(F), *known))
    C, _, logits = choose_strength(folds, task.multi_label, C_GRID if probe.C is None else [probe.C])
    weights = {} if task.w is None else {"sample_weight": task.w}
    probe.set_params(C=C).fit(features, task.y, **weights)
    return (columns, probe), _gather(task, [to_proba(Z, task.multi_label) for Z in logits])


def hold_out(name: str, member: Any, X: Any, task: Task, read: Any) -> np.ndarray:
    """Return what `read` makes of a fitted classifier and the documents that it was not fitted on, a row each.

    It is the mean where several splits hold a document out, and NaN where none does.
    """
    found = []
    for train, test in task.splits:
        fitted = fit_on(name, clone(member), take_rows(X, train), task, train)
        found.append(read(fitted, take_rows(X, test)))
    return _gather(task, found)


def _gather(task, found):
    """Return what was held out (n, k) of the splits, the mean of several and NaN for a document of none."""
    total, times = np.zeros((len(task.H), found[0].shape[1])), np.zeros((len(task.H), 1))
    for (_, test), values in zip(task.splits, found, strict=True):
        total[test] += values
        times[test] += 1
    with np.errstate(invalid="ignore"):
        return total / times


def fit_on(name: str, member: Any, X: Any, task: Task, rows: np.ndarray) -> Any:
    """Fit a classifier on some documents, with their weights, and their groups where its ``fit`` takes some."""
    y, more = take_rows(task.y, rows), {}
    step = f"{member.steps[-1][0]}__" if isinstance(member, Pipeline) else ""
    last = member.steps[-1][1] if step else member
    if task.groups is not None and has_fit_parameter(last, "groups"):
        more[f"{step}groups"] = task.groups[rows]
    if task.w is None:
        return member.fit(X, y, **more)
    if not has_fit_parameter(last, "sample_weight"):
        raise TypeError(
            f"Got sample_weight, but the fit of {name!r}, a {type(last).__name__}, takes none. Leave one of them out."
        )
    return member.fit(X, y, **{f"{step}sample_weight": task.w[rows]}, **more)


def columns_of(name: str, member: Any, X: Any, columns: Columns) -> np.ndarray:
    """Return a fitted classifier's probabilities with a column for each label, or class, in their order.

    Columns are found by name where the targets have names, else by place.
    """
    return in_order(name, member, np.asarray(label_columns(member, X)), columns)


def in_order(name: str, member: Any, proba: np.ndarray, columns: Columns) -> np.ndarray:
    """As ``columns_of``, of probabilities that are known."""
    if columns.classes is not None:
        found, known = np.asarray(member.classes_).tolist(), np.asarray(columns.classes).tolist()
        return expand(proba, [known.index(value) for value in found], len(known))
    names = output_labels(member, columns.labels)
    labels = columns.labels or names
    if proba.shape[1:] != (columns.n_labels,) or sorted(names or labels or ()) != sorted(labels or ()):
        got = names if proba.shape[1:] == (columns.n_labels,) else f"shape {proba.shape}"
        wanted = columns.labels or f"{columns.n_labels} labels"
        raise ValueError(f"Expected {name!r} to give probabilities of {wanted}, those of y, but got {got}.")
    return proba if names is None or labels is None else lay_out(proba[:, [names.index(name) for name in labels]])

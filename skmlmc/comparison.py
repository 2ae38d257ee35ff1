"""Which method for this task: one call, one table, on the user's own documents."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length

from ._models.files import resolve_model
from ._models.loaded import load_model
from ._utils.arrays import check_targets, largest, majority, to_frame
from ._utils.checks import check_labels, check_splits, check_texts
from ._utils.classes import class_vector, expand, find_classes, holds_classes
from ._utils.labelled import labelled, labels_of
from .align._thresholds import learn_thresholds
from .base import LabelProbabilityMixin, label_columns
from .classifier import ALIGNERS, METHODS, GGUFClassifier
from .extract._base import PromptedMixin
from .metrics import example_f1, gives_several, l1_distance, nll, output_labels

__all__ = ["compare_methods"]

BASE_RATE = "constant base rate"
TIMED_DOCUMENTS = 16
COLUMNS = ("nll", "l1", "example_f1", "example_f1_tuned")
DEFAULT = ("compare_to_none", "hard_predictions", "max_over_generations", "unary_breakdown")


def compare_methods(
    X: Any,
    y: Any,
    methods: Sequence[str] | Mapping[str, Any] | None = None,
    *,
    cv: Any = None,
    estimator: GGUFClassifier | None = None,
    as_frame: bool = False,
    return_proba: bool = False,
) -> Any:
    """Cross-validate several methods on the same documents and time each.

    The first thing to do with annotated documents: which method, at what cost, and whether any is better than a
    constant, which zero-shot methods of small models often are not. Differences between rows that are smaller than
    their standard deviations over folds say little.

    Parameters
    ----------
    X : sequence of str of length n
        Documents.
    y : array-like of shape (n, L) or (n,), or DataFrame
        Indicator or soft targets in [0, 1]; of a single-label task the class of each document. The columns of a table
        name the labels, and every method's probabilities are put into their order; an array has the order of the
        methods' `labels`, which must then be the same.
    methods : sequence of str, mapping of str to str or estimator, or None, default=None
        Methods of `GGUFClassifier`, with a fitted alignment as in ``"max_over_generations+platt"``. A mapping names
        the rows; its values are such methods or any multi-label classifiers of texts with ``predict_proba``. They are
        fitted on `y` as it is: classifiers of scikit-learn take indicators, a `LinearProbe` behind features soft
        targets too. Probabilities are found by the names that a fitted classifier has in ``labels_``; one that has
        none, as those of scikit-learn, gives them in the order of the targets that it was fitted on. None: compare to
        none, hard predictions, max over generations (not of classes) and unary breakdown.
    cv : int, splitter or None, default=None
        As in `sklearn.model_selection.cross_validate`; None: five folds.
    estimator : GGUFClassifier or None, default=None
        Where the methods take model, labels, shots and all else from. Give it ``memory=``, so that methods and folds
        share what was decoded; with shots every fold has demonstrations, and so a prompt, of its own.
    as_frame : bool, default=False
        Return a pandas DataFrame.
    return_proba : bool, default=False
        Return the held-out probabilities too, for displays and tests of one's own. `cv` must then be a partition: every
        document held out once.

    Returns
    -------
    table : dict of str to list, or DataFrame
        A row a method, the constant base rate of the training folds first: ``method``, the mean over folds of ``nll``,
        ``l1``, ``example_f1`` (of classes the accuracy), at each method's own threshold, and ``example_f1_tuned`` (of
        several labels) at thresholds a label that are learned from what the other folds held out, as `ThresholdTuner`
        does, without asking a model again; NaN where there is one fold. Their standard deviations ``..._std``;
        ``documents_per_second`` and ``tokens_per_document``, which were measured on up to 16 documents without a cache
        after the prompt was decoded (NaN for classifiers that are no `GGUFClassifier`).
    proba : dict of str to ndarray of shape (n, L)
        Probabilities of every document, by name of the row, from the fold that held it out, in the order of the
        columns of `y`: what ``MethodComparisonDisplay.from_predictions`` and the other displays take. They know their
        labels. Only with ``return_proba=True``.

    Raises
    ------
    ValueError, TypeError
        An unknown method, documents and targets that do not fit each other, methods for other labels than those of
        `y`, or ``return_proba`` without a partition; nothing was decoded. A classifier whose ``labels_`` turn out to be
        others when it is fitted.

    Examples
    --------
    >>> from skmlmc import GGUFClassifier, compare_methods
    >>> classifier = GGUFClassifier(labels=labels, memory="cache")
    >>> table = compare_methods(texts, Y, ["compare_to_none", "linear_probe"], estimator=classifier, cv=2)
    >>> table["method"]
    ['constant base rate', 'compare_to_none', 'linear_probe']
    """
    texts = check_texts(X)
    classes = holds_classes(y, column=True)
    rows = _estimators(methods, estimator, classes)
    single = classes or _one_label(rows)
    find = _find_classes if classes else _name_columns
    y, H, values = find(y, rows, len(texts))
    folds = check_splits(cv, texts, y if classes else majority(H), classifier=classes)
    if return_proba:
        _check_partition(folds, len(texts))
    runs = {BASE_RATE: _base_rate(H, folds, single)}
    runs.update((name, _cross_validate(name, row, texts, y, H, values, folds, single)) for name, row in rows.items())
    if not single:
        for name, run in runs.items():
            _score_tuned(run, np.asarray(H), folds, fixed=name == BASE_RATE)
    table = to_frame(_table(runs), as_frame)
    if not return_proba:
        return table
    return table, {name: labelled(run.proba, "unary", labels_of(H), None) for name, run in runs.items()}


def _one_label(rows):
    """Return whether the classifiers give one label a document, of a table of targets; ValueError where some do."""
    tasks = {name: several for name, row in rows.items() if (several := gives_several(row)) is not None}
    if len(set(tasks.values())) > 1:
        raise ValueError(f"Expected the same multi_label of all methods, since scores depend on it, but got {tasks}.")
    return not all(tasks.values())


def _find_classes(y, rows, n_samples):
    """Return the class of each document, indicators that know the sorted classes' names, and the classes."""
    y = class_vector(y)
    check_consistent_length(y, range(n_samples))
    labels = next((row.labels for row in rows.values() if isinstance(row, GGUFClassifier) and row.labels), None)
    classes = find_classes(y, labels, asked=False)
    H = np.eye(len(classes.values))[classes.codes]
    return y, labelled(H, None, list(classes.wordings), None), classes.values


def _name_columns(y, rows, n_samples):
    """Return the targets twice, as an array that knows its labels where `y` or the classifiers say them, and None."""
    stated = {name: labels for name, row in rows.items() if (labels := _stated_labels(row)) is not None}
    first = next(iter(stated.values()), None)
    H, names = check_targets(y, n_samples=n_samples, known=first)
    wanted = names or first or []
    for name, labels in stated.items():
        if sorted(labels) != sorted(wanted) or (names is None and labels != first):
            expected = f"the labels of y, {names}" if names else f"the same order of labels, {first}, as y has no names"
            raise ValueError(
                f"Expected all methods to have {expected}, but {name!r} has {labels}. Give y as a DataFrame whose "
                "columns are the labels, and methods for just these."
            )
    H, _ = check_targets(H, labels=wanted or None)  # which has as many columns
    H = labelled(H, None, wanted or None, None)
    return H, H, None


def _stated_labels(estimator):
    """Return the label names that an estimator, or a part of a pipeline, was given as `labels`; None without any."""
    parts = [part for _, part in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    for part in parts:
        part = getattr(part, "extractor", part)  # what ContextualCalibration wraps
        if isinstance(part, PromptedMixin) and part.labels is not None:
            return list(check_labels(part.labels, part.none_label))
    return None


@dataclass
class _Run:
    """What cross-validation found of one method."""

    proba: np.ndarray
    scores: list[tuple[float, ...]] = field(default_factory=list)
    folds: list[np.ndarray] = field(default_factory=list)
    timing: tuple[float, float] = (np.nan, np.nan)


def _base_rate(H, folds, single):
    run = _Run(np.full(H.shape, np.nan))
    for train, test in folds:
        run.proba[test] = H[train].mean(axis=0)
        sets = largest(run.proba[test]) if single else (run.proba[test] >= 0.5).astype(int)
        run.folds.append(run.proba[test])
        run.scores.append(_scores(H[test], run.proba[test], sets, single))
    return run


def _cross_validate(name, estimator, texts, y, H, values, folds, single):
    run = _Run(np.full(H.shape, np.nan))
    for train, test in folds:
        fitted = clone(estimator).fit([texts[i] for i in train], y[train])
        held_out = [texts[i] for i in test]
        if values is not None:
            run.proba[test] = _class_columns(name, fitted, held_out, values.tolist())
            sets = largest(run.proba[test])
        else:
            run.proba[test], sets = _label_columns(name, fitted, held_out, H)
        run.folds.append(run.proba[test])
        run.scores.append(_scores(np.asarray(H[test]), run.proba[test], sets, single))
    run.timing = _time(fitted, held_out)
    return run


def _score_tuned(run, H, folds, fixed):
    """Add the example-F1 at thresholds that are learned without the fold: from what other folds held out.

    Nothing is predicted again for that. The base rate, `fixed`, is the same for the documents that it was made of.
    """
    for k, (train, test) in enumerate(folds):
        others = [rows for j, (_, rows) in enumerate(folds) if j != k]
        rows = train if fixed else np.setdiff1d(np.concatenate(others) if others else [], test).astype(int)
        score = np.nan
        if len(rows):
            known = np.tile(H[train].mean(axis=0), (len(rows), 1)) if fixed else run.proba[rows]
            thresholds, _ = learn_thresholds(known, majority(H[rows]), np.ones(len(rows)))
            score = example_f1(majority(H[test]), run.folds[k] >= thresholds)
        run.scores[k] = (*run.scores[k], score)


def _label_columns(name, fitted, held_out, H):
    """Return a classifier's probabilities and label sets, columns as in the targets."""
    proba = label_columns(fitted, held_out)
    # The same as predict, which would ask the model again.
    ours = getattr(type(fitted), "predict", None) is LabelProbabilityMixin.predict
    sets = fitted._label_sets(proba) if ours else fitted.predict(held_out)
    columns = _columns_of_targets(name, fitted, H)
    return proba[:, columns], np.asarray(sets)[:, columns]


def _class_columns(name, fitted, held_out, wanted):
    """Return a classifier's probabilities, columns as in the targets; 0 for classes that it was not fitted with."""
    proba, found = fitted.predict_proba(held_out), np.asarray(fitted.classes_).tolist()
    if np.shape(proba) != (len(held_out), len(found)) or not set(found) <= set(wanted):
        raise ValueError(f"Expected {name!r} to give probabilities of the classes {wanted}, but got {found}.")
    return expand(np.asarray(proba), [wanted.index(value) for value in found], len(wanted))


def _columns_of_targets(name, fitted, H):
    """Return where a fitted classifier has each column of the targets: by name, in their order where it has none."""
    targets = labels_of(H)
    labels = output_labels(fitted, targets)
    if labels is None or targets is None:
        return list(range(H.shape[1]))
    if sorted(labels) != sorted(targets):
        raise ValueError(f"Expected {name!r} to give probabilities of {targets}, the labels of y, but got {labels}.")
    return [labels.index(label) for label in targets]


def _table(runs):
    table: dict[str, list] = {"method": list(runs)}
    values = np.array([run.scores for run in runs.values()])
    for k, column in enumerate(COLUMNS[: values.shape[2]]):
        table[column] = values[:, :, k].mean(axis=1).tolist()
        table[f"{column}_std"] = values[:, :, k].std(axis=1).tolist()
    timings = zip(*(run.timing for run in runs.values()), strict=True)
    table["documents_per_second"], table["tokens_per_document"] = (list(t) for t in timings)
    return table


def _check_partition(folds, n):
    times = np.bincount(np.concatenate([test for _, test in folds]), minlength=n)
    wrong = np.flatnonzero(times != 1)
    if len(wrong):
        raise ValueError(
            "With return_proba=True expected cv to hold every document out once, but it does so "
            f"{times[wrong[0]]} times with document {wrong[0]}. Use a splitter such as KFold, or return_proba=False."
        )


def _estimators(methods, estimator, single):
    base = GGUFClassifier(multi_label=not single) if estimator is None else estimator
    if not isinstance(base, GGUFClassifier):
        raise TypeError(f"Got estimator={base!r} but expected a GGUFClassifier; other classifiers go into methods.")
    if single and base.multi_label:
        raise ValueError(
            "Got the class of each document as y, but the estimator has multi_label=True. Expected "
            "GGUFClassifier(multi_label=False), or a table y with a column a label."
        )
    if methods is None:
        methods = [name for name in DEFAULT if base.multi_label or name != "max_over_generations"]
    named = methods if isinstance(methods, Mapping) else {str(m): m for m in methods}
    if not named:
        raise ValueError("Got no methods but expected at least one, such as methods=['max_over_generations'].")
    return {name: _estimator(method, base) for name, method in named.items()}


def _estimator(method, base):
    if not isinstance(method, str):
        if not hasattr(method, "predict_proba"):
            raise TypeError(f"Got the method {method!r} but expected a name or a classifier with predict_proba.")
        return clone(method)
    name, _, aligner = method.partition("+")
    if name not in METHODS or (aligner and aligner not in ALIGNERS):
        raise ValueError(
            f"Got the method {method!r} but expected one of {tuple(METHODS)}, alone or with one of {ALIGNERS} behind a "
            "plus sign."
        )
    return clone(base).set_params(method=name, **({"aligner": aligner} if aligner else {}))


def _scores(H, proba, sets, single):
    return nll(H, proba, multi_label=not single), l1_distance(H, proba), example_f1(majority(H), sets)


def _time(fitted, texts):
    """Documents a second and tokens a document of a fitted classifier, without its cache and beside the prompt."""
    if not isinstance(fitted, GGUFClassifier):
        return np.nan, np.nan
    uncached = deepcopy(fitted).set_params(memory=None, n_jobs=1)
    model = load_model(resolve_model(fitted.model))
    timed = list(dict.fromkeys(texts))[:TIMED_DOCUMENTS]
    uncached.predict_proba(timed[:1])
    before, start = model.decoded, time.perf_counter()
    uncached.predict_proba(timed)
    seconds = time.perf_counter() - start
    return len(timed) / seconds, (model.decoded - before) / len(timed)

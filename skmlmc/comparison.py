"""Which method for this task: one call, one table, on the user's own documents."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from ._models.files import resolve_model
from ._models.loaded import load_model
from ._utils.arrays import check_targets, majority, to_frame
from ._utils.checks import check_splits, check_texts
from .base import LabelProbabilityMixin, label_columns
from .classifier import ALIGNERS, METHODS, GGUFClassifier
from .metrics import example_f1, l1_distance, nll

__all__ = ["compare_methods"]

BASE_RATE = "constant base rate"
TIMED_DOCUMENTS = 16
COLUMNS = ("nll", "l1", "example_f1")


def compare_methods(
    X: Any,
    y: Any,
    methods: Sequence[str] | Mapping[str, Any] = (
        "compare_to_none",
        "hard_predictions",
        "max_over_generations",
        "unary_breakdown",
    ),
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
    y : array-like of shape (n, L) or DataFrame
        Indicator or soft targets in [0, 1].
    methods : sequence of str, or mapping of str to str or estimator
        Methods of `GGUFClassifier`, with a fitted alignment as in ``"max_over_generations+platt"``. A mapping names
        the rows; its values are such methods or any multi-label classifiers of texts with ``predict_proba``. They are
        fitted on `y` as it is: classifiers of scikit-learn take indicators, a `LinearProbe` behind features soft
        targets too.
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
        ``l1`` and ``example_f1`` and their standard deviations ``..._std``, ``documents_per_second`` and
        ``tokens_per_document``, which were measured on up to 16 documents without a cache after the prompt was decoded
        (NaN for classifiers that are no `GGUFClassifier`).
    proba : dict of str to ndarray of shape (n, L)
        Probabilities of every document, by name of the row, from the fold that held it out: what
        ``MethodComparisonDisplay.from_predictions`` and the other displays take. Only with ``return_proba=True``.

    Raises
    ------
    ValueError, TypeError
        An unknown method, documents and targets that do not fit each other, or ``return_proba`` without a partition;
        nothing was decoded.

    Examples
    --------
    >>> from skmlmc import GGUFClassifier, compare_methods
    >>> classifier = GGUFClassifier(labels=labels, memory="cache")
    >>> table = compare_methods(texts, Y, ["compare_to_none", "linear_probe"], estimator=classifier, cv=2)
    >>> table["method"]
    ['constant base rate', 'compare_to_none', 'linear_probe']
    """
    texts = check_texts(X)
    rows = _estimators(methods, estimator)
    names = next((e.labels for e in rows.values() if isinstance(e, GGUFClassifier) and e.labels is not None), None)
    H, found = check_targets(y, labels=None if names is None else list(names), n_samples=len(texts))
    if names is None and found is not None:
        rows = {n: e.set_params(labels=found) if isinstance(e, GGUFClassifier) else e for n, e in rows.items()}
    folds = check_splits(cv, texts, majority(H))
    if return_proba:
        _check_partition(folds, len(texts))
    runs = {BASE_RATE: _base_rate(H, folds)}
    runs.update((name, _cross_validate(row, texts, H, folds)) for name, row in rows.items())
    table = to_frame(_table(runs), as_frame)
    return (table, {name: run.proba for name, run in runs.items()}) if return_proba else table


@dataclass
class _Run:
    """What cross-validation found of one method."""

    proba: np.ndarray
    scores: list[tuple[float, float, float]] = field(default_factory=list)
    timing: tuple[float, float] = (np.nan, np.nan)


def _base_rate(H, folds):
    run = _Run(np.full(H.shape, np.nan))
    for train, test in folds:
        run.proba[test] = H[train].mean(axis=0)
        run.scores.append(_scores(H[test], run.proba[test], (run.proba[test] >= 0.5).astype(int)))
    return run


def _cross_validate(estimator, texts, H, folds):
    run = _Run(np.full(H.shape, np.nan))
    for train, test in folds:
        fitted = clone(estimator).fit([texts[i] for i in train], H[train])
        held_out = [texts[i] for i in test]
        run.proba[test] = proba = label_columns(fitted, held_out)
        # The same as predict, which would ask the model again.
        ours = getattr(type(fitted), "predict", None) is LabelProbabilityMixin.predict
        run.scores.append(_scores(H[test], proba, fitted._label_sets(proba) if ours else fitted.predict(held_out)))
    run.timing = _time(fitted, held_out)
    return run


def _table(runs):
    table: dict[str, list] = {"method": list(runs)}
    values = np.array([run.scores for run in runs.values()])
    for k, column in enumerate(COLUMNS):
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


def _estimators(methods, estimator):
    base = GGUFClassifier() if estimator is None else estimator
    if not isinstance(base, GGUFClassifier):
        raise TypeError(f"Got estimator={base!r} but expected a GGUFClassifier; other classifiers go into methods.")
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


def _scores(H, proba, sets):
    return nll(H, proba), l1_distance(H, proba), example_f1(majority(H), sets)


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

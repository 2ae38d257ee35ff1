"""Scores of label probabilities on test documents, with bootstrap intervals; thresholds of fitted methods."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import KFold

from skmlmc.metrics import entropy_correlation, example_f1, l1_distance, nll

TITLES = {"nll": "NLL", "l1": "L1", "example_f1": "F1"}  # of what each document has
METRICS = (*TITLES, "entropy_correlation")
THRESHOLDS = np.linspace(0.05, 0.6, 12)
N_RESAMPLES = 1000


def majority_sets(H):
    """Label sets of the majority."""
    return (H > 0.5).astype(int)


def label_sets(proba, threshold, single):
    """Predicted label sets: above the threshold, or the largest for single-label tasks."""
    return np.eye(proba.shape[1], dtype=int)[proba.argmax(axis=1)] if single else (proba >= threshold).astype(int)


def best_threshold(H, proba):
    """One threshold for all labels, chosen by example-F1."""
    scores = [example_f1(majority_sets(H), label_sets(proba, t, False)) for t in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmax(scores))])


def resample(statistic, n, n_resamples=N_RESAMPLES):
    """Bootstrap a statistic of documents, given as rows: its 95 % interval, None where it is not defined."""
    rng = np.random.default_rng(0)
    values = np.array([statistic(rng.integers(n, size=n)) for _ in range(n_resamples)], float)
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    return [round(float(q), 4) for q in np.quantile(values, [0.025, 0.975])]


def each_score(H, proba, threshold=0.5, single=False):
    """Score each document: arrays of NLL, L1 and example-F1."""
    y, sets = majority_sets(H), label_sets(proba, threshold, single)
    rows = [[i] for i in range(len(H))]
    return {
        "nll": np.array([nll(H[i], proba[i], multi_label=not single) for i in rows]),
        "l1": np.array([l1_distance(H[i], proba[i]) for i in rows]),
        "example_f1": np.array([example_f1(y[i], sets[i]) for i in rows]),
    }


def compare(H, proba, reference, single=False):
    """Score probabilities beside others of the same documents: means, and paired intervals of the differences."""
    own, other = (each_score(H, each, single=single) for each in (proba, reference))
    found = {name: round(float(values.mean()), 4) for name, values in own.items()}
    for name in own:
        difference = own[name] - other[name]
        found[f"{name}_difference"] = resample(lambda rows, d=difference: d[rows].mean(), len(H))
    return found


def better_and_worse(rows, metric):
    """Count the rows whose difference, as `compare` finds it, lies wholly on the better side, and on the worse one."""
    sign = -1 if metric == "example_f1" else 1
    bounds = [sorted(sign * bound for bound in row[f"{metric}_difference"]) for row in rows]
    return sum(high < 0 for _, high in bounds), sum(low > 0 for low, _ in bounds)


def tally(rows, metric):
    """Say how many rows are better and worse than their reference, and their mean."""
    better, worse = better_and_worse(rows, metric)
    return f"{better} / {worse} ({np.mean([row[metric] for row in rows]):.3f})"


def score(H, proba, threshold=0.5, single=False):
    """Score probabilities: each metric's mean over documents, or correlation, with its interval."""
    multi, each = not single, each_score(H, proba, threshold, single)

    def correlation(rows):
        return entropy_correlation(H[rows], proba[rows], multi_label=multi)

    found = {k: (v.mean(), resample(lambda rows, v=v: v[rows].mean(), len(H))) for k, v in each.items()}
    with warnings.catch_warnings():
        # Not defined where all entropies are equal, as those of a constant are: NaN, which the tables write as a dash.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        found["entropy_correlation"] = correlation(np.arange(len(H))), resample(correlation, len(H))
    scores = {}
    for name, (value, interval) in found.items():
        scores[name] = None if np.isnan(value) else round(float(value), 4)
        scores[f"{name}_interval"] = interval
    return scores


def fit_and_predict(estimator, X, H, X_test):
    """Fit on documents and predict others.

    Returns
    -------
    proba : ndarray of shape (n_test, L)
        Of the other documents.
    held_out : ndarray of shape (n, L)
        Of the fitting documents, out of fold.
    """
    held_out = np.empty(H.shape)
    for train, test in KFold(5, shuffle=True, random_state=0).split(X):
        held_out[test] = clone(estimator).fit(X[train], H[train]).predict_proba(X[test])
    return clone(estimator).fit(X, H).predict_proba(X_test), held_out

"""Arithmetic of benchmarks.findings: one number a finding, and whether it keeps to its rule."""

from __future__ import annotations

import numpy as np

from skmlmc import analysis

ENOUGH = 20


def judge(value, interval, border, n, at_most=False):
    """Say whether a number of `n` observations keeps to its rule: at least `border`, or at most."""
    if n < ENOUGH:
        return f"too few (n = {n})"
    if np.isnan(value):
        return "not defined"
    low, high = (value, value) if interval is None else interval
    keeps, breaks = (high <= border, low > border) if at_most else (low >= border, high < border)
    return "holds" if keeps else "does not hold" if breaks else "unclear"


def column(found, name, **where):
    """Values of a table's column in the rows where other columns have given values."""
    rows = range(len(found[name]))
    return [found[name][i] for i in rows if all(found[k][i] == v for k, v in where.items())]


def top_probability(steps, chosen):
    """Mean of the largest probability over the steps that `chosen` picks from the table of values."""
    values = {name: np.array(column) for name, column in analysis.step_values(steps).items()}
    top = values["top1"][chosen(values)]
    return top.mean() if len(top) else np.nan


def last_against_intermediate(steps):
    """Difference of the largest probability between last and intermediate steps, without its sign."""
    last, other = (
        top_probability(steps, lambda v, p=position: v["position"] == p) for position in ("last", "intermediate")
    )
    return abs(last - other)


def second_ranked(steps, name):
    """Read a share of Table 4."""
    return analysis.second_ranked(steps, by_step=False)[name][0]


def first_minus_second(steps, H):
    """Accuracy of the label generated first minus that of the second, over answers with two or more."""
    accuracy = analysis.accuracy_by_step(steps, H)["accuracy"]
    return accuracy[0] - accuracy[1] if len(accuracy) > 1 else np.nan


def share_in_order(steps, labels, order, prompt):
    """Share of the answers that follow an order."""
    return column(analysis.answer_order(steps, labels, prompt), "share", order=order)[0]


def attention_ratio(looks, documents):
    """Attention to an earlier label's token over that to a token of the input, over the labels of `documents`."""
    means = [
        np.concatenate([looks[target].get(i, np.empty(0)) for i in documents]) for target in ("earlier labels", "input")
    ]
    return means[0].mean() / means[1].mean() if len(means[0]) else np.nan


def draw_demonstrations(several, shots, share):
    """Draw documents, a share of them with several labels, as far as there are such, in random order."""
    rng = np.random.default_rng(0)
    many, few = (rng.permutation(np.flatnonzero(group)) for group in (several, ~several))
    n = min(round(share * shots), len(many))
    return rng.permutation(np.concatenate([many[:n], few[: shots - n]]))


class OfRows:
    """A statistic of documents' rows, and how many documents there are."""

    def __init__(self, statistic, n):
        self.statistic, self.n = statistic, n

    def __call__(self, rows):
        """Return the statistic of these rows."""
        return self.statistic(rows)


def means_by_target(found):
    """Average a table of attention over the labels that look."""
    targets = sorted(set(found["target"]))
    table = {"target": targets, "labels": [len(column(found, "tokens", target=target)) for target in targets]}
    for name in ("tokens", "attention", "per_token"):
        table[name] = [float(np.nanmean(column(found, name, target=target))) for target in targets]
    return table

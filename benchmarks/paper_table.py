"""The paper's Table 2 on any data set with annotators: every method's NLL, L1, example-F1 and entropy correlation.

    python -m benchmarks.paper_table --data stackoverflow_emotions --model model.gguf --name SmolLM2-135M

Data come from the package's loaders, or with --file from JSON lines. Rows are saved one by one and answers are kept in
a cache, so a run that was stopped goes on where it was. Writes paper-DATA-NAME.json, .md and .png to --out. With
--encoder all-MiniLM-L6-v2.gguf there is a row of that embedding model.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import numpy as np
from scipy.special import expit, logit
from sklearn.pipeline import make_pipeline

from benchmarks import _baselines as baselines
from benchmarks import _paper as paper
from benchmarks._bench import (
    Bench,
    command_of,
    make_parser,
    read_json,
    settings_of,
    stem,
    table,
    write_json,
    write_page,
)
from benchmarks._scores import METRICS, best_threshold, fit_and_predict, score
from skmlmc import BradleyTerry, GGUFClassifier, HiddenStateExtractor, LinearProbe, PairwiseExtractor, ScalingAligner

BASE_RATE = "constant base rate"
MIDDLE = "linear probe, middle layer, mean over tokens"
PROBES = {
    "linear probe, last layer, last token (the paper's)": {},
    MIDDLE: {"layer": 0.5, "pooling": "mean"},
}
STEPS = {
    "compare-to-none": "compare_to_none",
    "hard predictions": "hard_predictions",
    "max-over-generations": "max_over_generations",
    "marginal-over-generations": "marginal_over_generations",
    "unary breakdown": "unary_breakdown",
}
NOT_SINGLE = ("max-over-generations", "marginal-over-generations")
ALIGNERS = ("platt", "matrix")


def main(argv=None):
    parser = make_parser("paper_table", __doc__)
    parser.add_argument("--pairs", type=int, default=300, help="test documents that binary breakdown is asked about")
    parser.add_argument("--both-orders", action="store_true", help="ask binary breakdown both orders of every pair")
    parser.add_argument("--more", action="store_true", help="more variants, and alignment behind costlier methods")
    parser.add_argument("--align-fit", type=int, default=450, help="with --more: documents to align those on")
    args = parser.parse_args(argv)
    bench = PaperTable(args)
    result = {"command": command_of(parser, args), **bench.facts(), "settings": settings_of(args), "rows": []}
    path = args.out / f"{stem('paper', args)}.json"
    before = read_json(path)
    done = {row["method"]: row for row in before.get("rows", []) if before["settings"] == result["settings"]}
    for name, method in bench.methods().items():
        row = done.get(name) or bench.row(name, method)
        result["rows"].append(row)
        write_json(path, {**result, "rows": [*result["rows"], *(r for m, r in done.items() if m not in names(result))]})
        print(f"{name}: {', '.join(f'{metric} {row[metric]}' for metric in METRICS)}; {row['seconds']} s", flush=True)
    write_json(path, result)
    write_page(path, markdown(result, bench))
    draw(result, path.with_suffix(".png"))


def names(result):
    return [row["method"] for row in result["rows"]]


class PaperTable(Bench):
    """The rows of the table; a method gives probabilities of test documents, a threshold, and what else to say."""

    def __init__(self, args):
        super().__init__(args)
        self.X, self.H = np.array(self.test.texts, object), self.test.H
        self.X_fit, self.H_fit = np.array(self.fit.texts, object), self.fit.H

    def methods(self):
        """Name each row, with a function that computes it."""
        rows = {BASE_RATE: partial(self.supervised, baselines.BaseRate())}
        rows["TF-IDF + logistic regression"] = partial(self.supervised, baselines.tfidf(self.single))
        if self.args.encoder is None:
            self.notes.append("No encoder row: --encoder names no embedding model.")
        else:
            rows[f"encoder ({self.args.encoder.stem}) + logistic regression"] = self.encoder
        for name, params in PROBES.items():
            rows[name] = partial(self.probe, **params)
        asked = {name: method for name, method in STEPS.items() if not (self.single and name in NOT_SINGLE)}
        for name, method in asked.items():
            rows[name] = partial(self.asked, method=method)
        rows["binary breakdown"] = self.pairs
        aligned = "compare-to-none" if self.single else "max-over-generations"
        for kind in ALIGNERS:
            rows[f"{aligned} + {kind}"] = partial(self.aligned, STEPS[aligned], kind)
        return {**rows, **self.variants(asked)} if self.args.more else rows

    def variants(self, asked):
        """More rows: alignment behind other methods, label orders, contextual calibration, probe with TF-IDF."""
        rows = {}
        costly = [name for name in ("marginal-over-generations", "unary breakdown") if name in asked]
        for name in costly:
            for kind in ALIGNERS:
                rows[f"{name} + {kind}"] = partial(self.aligned, asked[name], kind, self.args.align_fit)
        name = "compare-to-none" if self.single else "max-over-generations"
        rows[f"{name}, 4 label orders"] = partial(self.asked, method=STEPS[name], n_label_orders=4)
        content_free = ("N/A", "[MASK]", "")
        rows[f"{name}, contextual"] = partial(self.asked, method=STEPS[name], content_free=content_free)
        rows["linear probe, middle layer, and TF-IDF, mean log-odds"] = self.probe_and_words
        return rows

    def row(self, name, method):
        """Compute one row."""
        start = time.perf_counter()
        proba, threshold, more = method()
        scores = score(self.H[: len(proba)], proba, threshold, self.single)
        threshold = None if self.single else round(threshold, 3)
        return {"method": name, **scores, "threshold": threshold, **more, "seconds": round(time.perf_counter() - start)}

    def supervised(self, estimator, X=None, X_test=None, n=None):
        """Fit an estimator on the fitting documents."""
        X, X_test = (self.X_fit, self.X) if X is None else (X, X_test)
        return self.fitted(*fit_and_predict(estimator, X[:n], self.H_fit[:n], X_test))

    def fitted(self, proba, held_out):
        """Choose the threshold on out-of-fold predictions of the fitting documents."""
        n = len(held_out)
        return proba, 0.5 if self.single else best_threshold(self.H_fit[:n], held_out), {"fitted_on": n}

    def encoder(self):
        """Embed documents and fit on that."""
        encoder = baselines.encoder(self.args.encoder).fit()
        embedded = (np.asarray(encoder.transform(X)) for X in (self.X_fit, self.X))
        return self.supervised(baselines.encoder_head(self.single), *embedded)

    def probe(self, **params):
        """Fit on hidden states."""
        return self.supervised(self.linear_probe(), *self.hidden(**params))

    def linear_probe(self):
        """Make the paper's probe."""
        return LinearProbe(multi_label=not self.single, random_state=0)

    def hidden(self, **params):
        """Return the hidden states of fitting and test documents."""
        extractor = self.make(HiddenStateExtractor, **params).fit()
        return [extractor.transform(list(X)) for X in (self.X_fit, self.X)]

    def asked(self, **params):
        """Ask the model without fitting anything."""
        return self.make(GGUFClassifier, **params).fit().predict_proba(list(self.X)), 0.5, {}

    def aligned(self, method, kind, n=None):
        """Ask the model, and fit an alignment behind it."""
        clf = self.make(GGUFClassifier, method=method).fit()
        known, proba = clf.predict_proba(list(self.X_fit[:n])), clf.predict_proba(list(self.X))
        return self.supervised(ScalingAligner(kind, multi_label=not self.single), known, proba, n)

    def pairs(self):
        """Ask about pairs of labels; most costly, so the documents may be fewer."""
        both = self.args.both_orders
        extractor = self.make(PairwiseExtractor, both_orders=both)
        pipe = make_pipeline(extractor, BradleyTerry(multi_label=not self.single))
        asked = list(self.X[: self.args.pairs])
        more = {"orders": 2 if both else 1, "documents": len(asked)}
        return pipe.fit(asked[:1]).predict_proba(asked), 0.5, more

    def probe_and_words(self):
        """Average the log-odds of two fitted rows."""
        hidden, hidden_test = self.hidden(**PROBES[MIDDLE])
        probe = fit_and_predict(self.linear_probe(), hidden, self.H_fit, hidden_test)
        words = fit_and_predict(baselines.tfidf(self.single), self.X_fit, self.H_fit, self.X)
        return self.fitted(*(self.mean_log_odds(a, b) for a, b in zip(probe, words, strict=True)))

    def mean_log_odds(self, a, b):
        """Average two arrays of probabilities."""
        mixed = expit((logit(a.clip(1e-4, 1 - 1e-4)) + logit(b.clip(1e-4, 1 - 1e-4))) / 2)
        return mixed / mixed.sum(axis=1, keepdims=True) if self.single else mixed


def markdown(result, bench):
    """Write the table, with the command that makes it on top and the paper's numbers beside ours."""
    columns = paper.columns_for(bench.source.paper)
    header = ["method", "NLL", "L1", "F1", "entropy correlation", "fitted on"]
    header += [f"paper: {data}, Llama 3 {size}" for data, size in columns]
    rows = []
    for row in result["rows"]:
        n = row.get("documents", result["n_test"])
        limited = f", the first {n} documents" if n < result["n_test"] else ""
        cells = [row["method"] + limited, *(number(row, metric) for metric in METRICS)]
        known = paper_method(row["method"])
        rows.append([*cells, str(row.get("fitted_on", "-")), *(paper.cell(column, known) for column in columns)])
    return [
        f"# {result['model']} on {result['data']}",
        "",
        f"    {result['command']}",
        "",
        about(result, bench),
        "",
        *table(header, rows),
        "",
        f"![Metrics of all methods]({stem('paper', bench.args)}.png)",
    ]


def about(result, bench):
    """Say in words what was measured."""
    labels = ", ".join(result["labels"])
    asked = "both orders" if bench.args.both_orders else "one order"
    f1 = (
        "F1 is of the largest label, which for these single-label targets is the accuracy."
        if bench.single
        else "F1 of fitted rows: one threshold for all labels, chosen on out-of-fold predictions of the fitting "
        "documents; elsewhere 0.5."
    )
    same = (
        "The paper's columns (NLL / L1 / F1) are about the same data, with much larger models."
        if bench.source.same
        else "The paper's columns (NLL / L1 / F1) are about other data and much larger models: for context only."
    )
    parts = [
        f"{result['n_test']} test and {result['n_fit']} fitting documents; labels: {labels}.",
        *result["notes"],
        f"{result['shots']} demonstrations, mode {result['mode']!r}; binary breakdown asks {asked} of each pair.",
        "NLL and L1: lower is better; F1 and entropy correlation (Spearman's, over documents): higher is better. In "
        "brackets: 95 % bootstrap intervals over documents.",
        f1,
        same,
        f"{result['machine']}, {result['date']}.",
    ]
    return " ".join(parts)


def number(row, metric):
    """Write a value with its interval."""
    if row[metric] is None:
        return "-"
    bounds = row[f"{metric}_interval"]
    return f"{row[metric]:.2f}" + ("" if bounds is None else f" [{bounds[0]:.2f}, {bounds[1]:.2f}]")


def paper_method(name):
    """Name of a row in the paper's table, where it has one."""
    if name.startswith("encoder"):
        return "encoder"
    return "linear probe" if name.endswith("(the paper's)") else name


def draw(result, path):
    """Draw the table."""
    from skmlmc.plots import MethodComparisonDisplay

    display = MethodComparisonDisplay.from_table(result, metrics=list(METRICS))
    display.figure_.suptitle(f"{result['model']} on {result['data']}, {result['n_test']} documents", weight="bold")
    display.figure_.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])

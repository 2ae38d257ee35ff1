"""Every method on documents with annotators: NLL, L1, example-F1, speed.

    python -m benchmarks.methods --data annotations.jsonl --model model.gguf --name SmolLM2-135M --out results

Needs pandas-free scikit-learn only. Runs that were stopped go on where they were: the cache is in OUT/cache.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import numpy as np
from scipy.special import expit, logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from benchmarks._data import STACKOVERFLOW_LABELS, balanced_split, read_annotations
from skmlmc import GGUFClassifier, HiddenStateExtractor, LinearProbe, PromptTemplate, ScalingAligner
from skmlmc._models import load_model, resolve_model
from skmlmc.metrics import example_f1, l1_distance, nll

ZERO_SHOT = [
    "compare_to_none",
    "hard_predictions",
    "max_over_generations",
    "marginal_over_generations",
    "unary_breakdown",
    "binary_breakdown",
]
SHARED_STEPS = ZERO_SHOT[:3]
PROBES = {
    "linear_probe, last layer (the paper's)": {},
    "linear_probe, middle layer, mean": {"layer": 0.5, "pooling": "mean", "max_labels": 1},
}
VARIANTS = {
    "max_over_generations, 4 label orders": {"method": "max_over_generations", "n_label_orders": 4},
    "max_over_generations, contextual": {"method": "max_over_generations", "content_free": ("N/A", "[MASK]", "")},
}
THRESHOLDS = np.linspace(0.05, 0.6, 12)


def soft_logistic(X, H, C):
    """Fit a logistic regression for each label; a soft target p is a row of weight p for 1 and 1 - p for 0."""
    from scipy.sparse import vstack

    rows, n = vstack([X, X]), X.shape[0]
    models = []
    for p in H.T:
        weight = np.concatenate([p, 1 - p])
        keep = weight > 0
        target = np.repeat([1, 0], n)[keep]
        models.append(LogisticRegression(C=C, max_iter=1000).fit(rows[keep], target, weight[keep]))
    return lambda Z: np.column_stack([m.predict_proba(Z)[:, 1] for m in models])


def tfidf(fit_texts, H, test_texts):
    """TF-IDF with logistic regression, C chosen by cross-validated NLL, and its out-of-fold probabilities."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    X = vectorizer.fit_transform(fit_texts)
    best = (np.inf, None, None)
    for C in (0.1, 0.3, 1.0, 3.0, 10.0):
        held_out = np.empty(H.shape)
        for train, test in KFold(5, shuffle=True, random_state=0).split(H):
            held_out[test] = soft_logistic(X[train], H[train], C)(X[test])
        best = min(best, (nll(H, held_out), C, held_out), key=lambda b: b[0])
    return soft_logistic(X, H, best[1])(vectorizer.transform(test_texts)), best[2]


def mean_log_odds(a, b):
    """Average two probability arrays in log-odds."""
    return expit((logit(np.clip(a, 1e-4, 1 - 1e-4)) + logit(np.clip(b, 1e-4, 1 - 1e-4))) / 2)


def best_thresholds(H, proba):
    """One threshold for all labels, chosen on fitting documents by example-F1."""
    scores = [example_f1((H > 0.5).astype(int), (proba >= t).astype(int)) for t in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmax(scores))])


def interval(values, rng):
    """Bootstrap interval of a mean, 95 %."""
    means = rng.choice(values, (1000, len(values))).mean(axis=1)
    return [round(float(q), 4) for q in np.quantile(means, [0.025, 0.975])]


def row(name, H, proba, threshold=0.5, **more):
    """Score one method on the test documents, each metric with its bootstrap interval."""
    rng = np.random.default_rng(0)
    y, sets = (H > 0.5).astype(int), (proba >= threshold).astype(int)
    each = {
        "nll": [nll(H[[i]], proba[[i]]) for i in range(len(H))],
        "l1": [l1_distance(H[[i]], proba[[i]]) for i in range(len(H))],
        "example_f1": [example_f1(y[[i]], sets[[i]]) for i in range(len(H))],
    }
    scores = {k: round(float(np.mean(v)), 4) for k, v in each.items()}
    bounds = {f"{k}_interval": interval(np.array(v), rng) for k, v in each.items()}
    return {"method": name, **scores, **bounds, "threshold": round(threshold, 3), **more}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="lines of {text, annotations}")
    parser.add_argument("--model", default=None)
    parser.add_argument("--name", default="model", help="what the tables call the model")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--fit", type=int, default=2000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[800, 2000], help="documents to fit the probes on")
    parser.add_argument("--mode", default="plain", choices=["auto", "plain", "chat"])
    parser.add_argument(
        "--breakdown-fit", type=int, default=450, help="documents to align the costly methods on (pairs: a third)"
    )
    parser.add_argument("--batch-size", type=int, default=1)
    return parser.parse_args()


class Bench:
    """One model on one data set."""

    def __init__(self, args):
        self.args, self.rows = args, []
        self.texts, self.H = read_annotations(args.data, STACKOVERFLOW_LABELS)
        self.test, self.rest = balanced_split(self.H, n_test=args.test, n_fit=args.fit)
        self.X, self.Y = [self.texts[i] for i in self.test], self.H[self.test]
        self.model = load_model(resolve_model(args.model))

    def fitting(self, n=None):
        """Return the documents to fit on and their proportions."""
        rows = self.rest[:n]
        return [self.texts[i] for i in rows], self.H[rows]

    def classifier(self, **params):
        """Make a classifier with the benchmark's settings."""
        prompt = PromptTemplate(wording="emotions", mode=self.args.mode)
        shared = {"labels": STACKOVERFLOW_LABELS, "shots": self.args.shots, "random_state": 0, "prompt": prompt}
        more = {"memory": self.args.out / "cache", "batch_size": self.args.batch_size, "verbose": 1}
        return GGUFClassifier(self.args.model, **shared, **more, **params)

    def add(self, name, proba, threshold=0.5, **more):
        """Score, keep and print one row."""
        self.rows.append(row(name, self.Y, proba, threshold, **more))
        print({k: v for k, v in self.rows[-1].items() if "interval" not in k}, flush=True)

    def constant(self):
        """Score the base rate of the fitting documents."""
        H = self.fitting()[1]
        known = np.tile(H.mean(axis=0), (len(H), 1))
        self.add("constant base rate", np.tile(H.mean(axis=0), (len(self.X), 1)), best_thresholds(H, known))

    def supervised(self, n):
        """Compare TF-IDF with linear probes on hidden states, all fitted on the same `n` documents."""
        texts, H = self.fitting()
        clf = self.classifier(method="linear_probe")
        shared = {k: v for k, v in clf.get_params().items() if k in HiddenStateExtractor().get_params()}
        extractor = HiddenStateExtractor(**shared).fit(texts, H)
        shown = {text for text, _ in extractor.demonstrations_}
        keep = [i for i, text in enumerate(texts) if text not in shown][:n]
        documents, H = [texts[i] for i in keep], H[keep]
        words, words_held_out = tfidf(documents, H, self.X)
        self.add("TF-IDF + logistic regression", words, best_thresholds(H, words_held_out), fitted_on=len(H))
        for name, params in PROBES.items():
            extractor = HiddenStateExtractor(**{**shared, **params}).fit(texts, self.fitting()[1])
            hidden, held_out = extractor.transform(documents), np.empty(H.shape)
            for train, test in KFold(5, shuffle=True, random_state=0).split(H):
                held_out[test] = LinearProbe(random_state=0).fit(hidden[train], H[train]).predict_proba(hidden[test])
            probe = LinearProbe(random_state=0).fit(hidden, H).predict_proba(extractor.transform(self.X))
            self.add(name, probe, best_thresholds(H, held_out), fitted_on=len(H))
        both, both_held_out = mean_log_odds(words, probe), mean_log_odds(words_held_out, held_out)
        self.add(f"{name} and TF-IDF, mean log-odds", both, best_thresholds(H, both_held_out), fitted_on=len(H))

    def method(self, name, fit=None, **params):
        """One method as it is and, where it is fitted on nothing, with alignment behind it."""
        texts, H = self.fitting(fit)
        clf = self.classifier(**params).fit(*self.fitting())
        before, calls, start = self.model.decoded, self.model.calls, time.perf_counter()
        proba = clf.predict_proba(self.X)
        seconds, tokens = time.perf_counter() - start, self.model.decoded - before
        decoded = self.model.calls > calls + len(self.X) // 2
        cost = {"documents_per_second": round(len(self.X) / seconds, 2), "tokens_per_document": tokens // len(self.X)}
        self.add(name, proba, **(cost if decoded else {}))
        shown = {text for text, _ in clf.demonstrations_}
        keep = [i for i, text in enumerate(texts) if text not in shown]
        known, H = clf.predict_proba([texts[i] for i in keep]), H[keep]
        for kind in ("platt", "matrix"):
            aligner = ScalingAligner(kind).fit(known, H)
            threshold = best_thresholds(H, aligner.predict_proba(known))
            self.add(f"{name} + {kind}", aligner.predict_proba(proba), threshold, fitted_on=len(H))

    def save(self):
        """Write JSON and Markdown."""
        args, out = self.args, self.args.out
        what = {"model": args.name, "data": Path(args.data).parent.name, "date": str(date.today())}
        machine = {"machine": f"{platform.machine()}, {platform.system()}", "n_test": len(self.X), "shots": args.shots}
        out.mkdir(parents=True, exist_ok=True)
        result = {**what, **machine, "mode": args.mode, "batch_size": args.batch_size, "rows": self.rows}
        (out / f"methods-{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")
        command = f"python -m benchmarks.methods --data {what['data']}/{Path(args.data).name} --model MODEL.gguf"
        sizes = " ".join(str(n) for n in args.sizes)
        lines = [
            f"# {args.name} on {what['data']}",
            "",
            f"    {command} --name {args.name} --sizes {sizes} --breakdown-fit {args.breakdown_fit}",
            "",
            f"{len(self.X)} test documents, a third each with none, one and several labels; {args.shots} "
            f"demonstrations, mode {args.mode!r}, batch_size {args.batch_size}; {machine['machine']}, {what['date']}. "
            "95 % bootstrap intervals over documents. F1 of fitted rows: one threshold for all labels, chosen on the "
            "fitting documents; elsewhere 0.5.",
            "",
            "| method | NLL | L1 | F1 | fitted on |",
            "|---|---|---|---|---|",
        ]
        for r in self.rows:
            bounds = {k: r[f"{k}_interval"] for k in ("nll", "l1", "example_f1")}
            cells = [f"{r[k]:.2f} [{low:.2f}, {high:.2f}]" for k, (low, high) in bounds.items()]
            lines.append(f"| {r['method']} | {' | '.join(cells)} | {r.get('fitted_on', '-')} |")
        (out / f"methods-{args.name}.md").write_text("\n".join(lines) + "\n")


def main():
    args = parse()
    bench = Bench(args)
    bench.constant()
    for n in args.sizes:
        bench.supervised(n)
    bench.save()
    for method in ZERO_SHOT:
        # A document costs about 10 times as many tokens in questions about pairs, so fewer are asked.
        few = {"binary_breakdown": args.breakdown_fit // 3}
        fit = max(args.sizes) if method in SHARED_STEPS else few.get(method, args.breakdown_fit)
        bench.method(method, fit, method=method)
        bench.save()
    for name, params in VARIANTS.items():
        clf = bench.classifier(**params).fit(*bench.fitting())
        bench.add(name, clf.predict_proba(bench.X))
    bench.save()


if __name__ == "__main__":
    main()

"""The shared tasks on disagreement (Le-Wi-Di) on their own sets and scores, without and with a language model.

    python -m benchmarks.lewidi --model model.gguf --name SmolLM2-135M --train HS-Brexit_train.json HS-Brexit_dev.json \
        --test HS-Brexit_test.json

Files are those of the tasks, https://le-wi-di.github.io. Fits on --train, at most --fit documents drawn from it, scores
on --test. Writes lewidi-TEST-NAME.json and .md to --out; hidden states are kept in a cache.
"""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path

import numpy as np
from sklearn.pipeline import make_pipeline

from benchmarks import _baselines as baselines
from benchmarks._bench import command_of, machine, make_timing_parser, table, write_json, write_page
from benchmarks._scores import resample
from skmlmc import EmbeddingExtractor, GGUFClassifier
from skmlmc.datasets import load_lewidi
from skmlmc.metrics import example_f1, manhattan_distance, nll, wasserstein_distance

SCORES = {
    "cross-entropy": lambda H, P, several: nll(H, P, eps=1e-12, multi_label=several),
    "Manhattan": lambda H, P, several: manhattan_distance(H, P, multi_label=several),
    "Wasserstein": lambda H, P, several: wasserstein_distance(H, P),
    "F1": lambda H, P, several: example_f1(H, P),
}
PUBLISHED = {"HS-Brexit_test": "An entry of 2023 is reported with a cross-entropy of 0.58 on these documents."}


def main(argv=None):
    parser = make_timing_parser("lewidi", __doc__)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=None, help="embedding model in GGUF form, for two more rows")
    parser.add_argument("--fit", type=int, default=1000, help="documents to fit on, at most")
    parser.add_argument("--n-test", type=int, default=1000, help="documents to score on, at most")
    parser.add_argument("--n-jobs", type=int, default=1, help="processes")
    args = parser.parse_args(argv)
    train, test = load_lewidi(args.train), load_lewidi(args.test)
    if train.target_names != test.target_names:
        parser.error(f"--train has the labels {train.target_names} but --test has {test.target_names}")
    X, H = draw(train, args.fit)
    X_test, H_test = draw(test, args.n_test)
    several = train.multi_label
    rows = [{"method": "the annotators themselves", **scores(H_test, H_test, several)}]
    for name, estimator in methods(args, train.target_names, several).items():
        rows.append({"method": name, **scores(H_test, estimator.fit(X, H).predict_proba(X_test), several)})
        print(rows[-1], flush=True)
    result = {
        "command": command_of(parser, args),
        "model": args.name,
        "data": args.test.stem,
        "labels": train.target_names,
        "n_fit": len(X),
        "n_test": len(X_test),
        "machine": f"{machine()}, {date.today()}",
        "rows": rows,
    }
    path = args.out / f"lewidi-{args.test.stem}-{args.name}.json"
    write_json(path, result)
    write_page(path, markdown(result))


def draw(bunch, most):
    """Draw texts and targets, at most so many."""
    rows = np.random.default_rng(0).permutation(len(bunch.data))[:most]
    return np.array(bunch.data, object)[rows], bunch.target[rows]


def methods(args, labels, several):
    """Name each row, with the estimator."""
    shared = {
        "model": None if args.model is None else os.fspath(args.model),
        "labels": labels,
        "multi_label": several,
        "truncation": "end",
        "n_jobs": args.n_jobs,
        "memory": os.fspath(args.out / "cache"),
        "random_state": 0,
    }
    probe = {"layer": 0.5, "pooling": "mean", "method_params": {"read": "document"}}
    found = {
        "constant base rate": baselines.BaseRate(),
        "TF-IDF + logistic regression": baselines.tfidf(not several),
        "linear probe": GGUFClassifier(method="linear_probe", **probe, **shared),
        "stack": GGUFClassifier(method="stack", **shared),
    }
    if args.encoder is not None:
        encoder = EmbeddingExtractor(os.fspath(args.encoder), memory=shared["memory"], truncation="end")
        found["encoder + logistic regression"] = make_pipeline(encoder, baselines.encoder_head(not several))
        both = {"method": "stack", "method_params": {"encoder": encoder}}
        found["stack with the encoder"] = GGUFClassifier(**both, **shared)
    return found


def scores(H, P, several):
    """Score all documents, with an interval over documents; the Wasserstein distance of longer scales only."""
    found = {}
    for name, score in SCORES.items():
        if name == "Wasserstein" and (several or H.shape[1] == 2):
            continue
        each = np.array([score(H[[i]], np.asarray(P)[[i]], several) for i in range(len(H))])
        found[name] = (round(float(each.mean()), 4), resample(lambda rows, each=each: each[rows].mean(), len(each)))
    return found


def markdown(result):
    """Write the page."""
    shown = [name for name in SCORES if name in result["rows"][0]]
    rows = []
    for row in result["rows"]:
        cells = [f"{row[name][0]:.3f} [{row[name][1][0]:.2f}, {row[name][1][1]:.2f}]" for name in shown]
        rows.append([row["method"], *cells])
    published = PUBLISHED.get(result["data"], "")
    return [
        f"# {result['model']} on {result['data']}",
        "",
        f"    {result['command']}",
        "",
        f"{result['n_fit']} fitting and {result['n_test']} test documents; labels: {', '.join(result['labels'])}. "
        "Cross-entropy, with probabilities clipped at 1e-12 as the tasks do, and distances: lower is better; no method "
        "can be below the annotators' own cross-entropy. F1 between label sets, without a label where none has a "
        f"majority, threshold 0.5: higher is better. In brackets: 95 % bootstrap intervals over documents. "
        f"{published + ' ' if published else ''}{result['machine']}.",
        "",
        *table(["method", *shown], rows),
    ]


if __name__ == "__main__":
    main(sys.argv[1:])

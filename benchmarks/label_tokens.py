"""What makes a label's probability: its tokens up to where labels part, or all of them. Scores and cost, side by side.

    python -m benchmarks.label_tokens --data hatexplain_targets --model model.gguf --name SmolLM2-135M

Each method is scored with ``label_tokens="first"`` and "whole" on the same documents; differences come with bootstrap
intervals over documents. `--label-wordings` names a JSON file that maps labels to wordings of several words, such as
those in benchmarks/wordings. Writes label_tokens-DATA-NAME.json and .md to --out.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

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
from benchmarks._scores import each_score, resample
from skmlmc import GGUFClassifier, StepwiseExtractor, clear_models

METHODS = ("max_over_generations", "compare_to_none", "marginal_over_generations")
FORMS = ("first", "whole")


def main(argv=None):
    parser = make_parser("label_tokens", __doc__)
    parser.add_argument("--label-wordings", type=Path, default=None, help="JSON file: label -> wording")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="methods of GGUFClassifier to score")
    parser.add_argument("--timed", type=int, default=20, help="documents that the cost is measured on")
    args = parser.parse_args(argv)
    bench = Bench(args)
    if args.label_wordings:
        wordings = read_json(args.label_wordings)
        bench.labels = {name: wordings[name] for name in bench.labels}  # in the order of the data's columns
    texts, H = list(bench.test.texts), bench.test.H
    result = {"command": command_of(parser, args), **bench.facts(), "settings": settings_of(args)}
    result["cost"] = cost(bench, texts[: args.timed])
    result["rows"] = [row(bench, method, texts, H) for method in args.methods]
    path = args.out / f"{stem('label_tokens', args)}.json"
    write_json(path, result)
    write_page(path, markdown(result))


def row(bench, method, texts, H):
    """Score one method in both forms, and their differences on the same documents."""
    scores = {}
    for form in FORMS:
        proba = bench.make(GGUFClassifier, method=method, label_tokens=form).fit().predict_proba(texts)
        scores[form] = each_score(H, proba)
    found = {"method": method}
    for metric in scores["first"]:
        first, whole = (scores[form][metric] for form in FORMS)
        found[metric] = [round(float(values.mean()), 4) for values in (first, whole)]
        found[f"{metric}_difference"] = resample(lambda rows, d=whole - first: d[rows].mean(), len(H))
    print(found, flush=True)
    return found


def cost(bench, texts):
    """Seconds of a processor for a document in both forms, in turns; prompt and threads are there, no cache."""
    extractors = [
        bench.make(StepwiseExtractor, label_tokens=form, memory=None, n_jobs=1, n_threads=1).fit() for form in FORMS
    ]
    seconds = {form: [] for form in FORMS}
    for _ in range(3):
        for form, extractor in zip(FORMS, extractors, strict=True):
            extractor.transform(texts[:1])
            start = time.process_time()  # other programs may be at work
            extractor.transform(texts)
            seconds[form].append((time.process_time() - start) / len(texts))
    clear_models()
    return {form: round(float(np.median(values)), 4) for form, values in seconds.items()}


def markdown(result):
    """Write the table, with the command that makes it on top."""
    first, whole = (result["cost"][form] for form in FORMS)
    rows = []
    for found in result["rows"]:
        cells = [found["method"]]
        for metric in ("nll", "l1", "example_f1"):
            low, high = found[f"{metric}_difference"]
            cells += [*(f"{value:.3f}" for value in found[metric]), f"{low:+.3f} to {high:+.3f}"]
        rows.append(cells)
    header = ["method"]
    for metric in ("NLL", "L1", "F1"):
        header += [f"{metric} first", f"{metric} whole", "difference, 95 %"]
    return [
        f"# First tokens or whole labels: {result['model']} on {result['data']}",
        "",
        f"    {result['command']}",
        "",
        f"{result['n_test']} documents, {len(result['labels'])} labels, {result['shots']} demonstrations, "
        f"{result['mode']} layout; {result['machine']}, {result['date']}.",
        f"Seconds of a processor for a document: first {first}, whole {whole} ({whole / first:.2f} times).",
        "",
        *table(header, rows),
    ]


if __name__ == "__main__":
    sys.exit(main())

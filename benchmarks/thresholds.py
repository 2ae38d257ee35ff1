"""What learned thresholds are worth, and which uncertainty finds the documents that are wrong; no language model.

    python -m benchmarks.thresholds --data stackoverflow_emotions

TF-IDF with a logistic regression a label, on draws of documents as frequent as they come, and on a test set that is
balanced as the paper's is, whose base rates are others than those that thresholds were learned at. Probabilities are
predicted once for each draw, by cross-validation and on the test documents, and all rows are made of them. Writes
thresholds-DATA.json and .md to --out; with --report one page of all of them, thresholds.md.
"""

from __future__ import annotations

import warnings
from datetime import date
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from benchmarks import _baselines as baselines
from benchmarks._bench import machine, new_parser, read_json, table, write_json
from benchmarks._data import load
from skmlmc import SelectiveClassifier, ThresholdTuner, UnaryBreakdown
from skmlmc.align._selective import uncertainty_of
from skmlmc.datasets import paper_split
from skmlmc.metrics import document_losses, example_f1
from skmlmc.plots._selective import risk_coverage

DRAWS = 3
VARIANTS = {
    "0.5": None,
    "common": {"per_label": False},
    "a label": {},
    "a label, not shrunk": {"shrinkage": 0},
    "a label, for macro-F1": {"objective": "macro_f1"},
}
CRITERIA = ("entropy", "threshold_distance")
HEADER = ("documents", "test set", *VARIANTS)
RISK_HEADER = ("documents", "labels from", "random", *CRITERIA, "oracle", "F1 of all", "F1 at coverage 0.8")


def parse(options=None):
    parser = new_parser("thresholds", __doc__)
    parser.add_argument("--data", nargs="+", required=True, help="names of data sets; the pages' titles with --file")
    parser.add_argument("--file", type=Path, nargs="+", default=None, help="lines of {id, text, annotations} to read")
    parser.add_argument("--data-home", type=Path, default=None, help="scikit-learn's folder of data sets")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 800], help="documents to fit on")
    parser.add_argument("--test", type=int, default=800, help="most test documents of a draw")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--report", action="store_true", help="write the page over all data sets alone")
    return parser.parse_args(options)


def main(argv=None):
    args = parse(argv)
    if args.report:
        lines = [line for name in args.data for line in page(read_json(args.out / f"thresholds-{name}.json"))]
        (args.out / "thresholds.md").write_text("\n".join([*INTRODUCTION, *lines]) + "\n", encoding="utf-8")
        return
    (name,) = args.data
    documents = load(name, args.file, args.data_home)
    rows, risks = [], []
    for size in args.sizes:
        for balanced in (False, True):
            found = [measure(*predict(documents, size, args, balanced, seed)) for seed in range(DRAWS)]
            mean = {key: float(np.mean([draw[key] for draw in found])) for key in found[0]}
            rows.append({"size": size, "balanced": balanced, **{key: mean[key] for key in VARIANTS}})
            if not balanced:
                risks.append({"size": size, **{key: value for key, value in mean.items() if key not in VARIANTS}})
    shape = {"documents": len(documents.texts), "labels": len(documents.labels)}
    shape |= {"machine": machine(), "date": str(date.today())}
    write_json(args.out / f"thresholds-{name}.json", {"data": name, **shape, "rows": rows, "risks": risks})


def predict(documents, size, args, balanced, seed):
    """Return probabilities and targets: of the fitting documents, each held out once, and of the test documents."""
    rng = np.random.default_rng(seed)
    if balanced:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some kinds of documents are rare
            test, rest = paper_split(documents.H, n_test=min(args.test, 300), random_state=seed)
    else:
        order = rng.permutation(len(documents.texts))
        n = min(args.test, len(order) - max(args.sizes))
        test, rest = order[:n], order[n:]
    fit, test = documents.take(rest[:size]), documents.take(test)
    model, held_out = baselines.tfidf(False).set_params(linearprobe__cv=3), np.empty(fit.H.shape)
    for train, out in KFold(5, shuffle=True, random_state=0).split(fit.texts):
        part, others = fit.take(train), fit.take(out)
        held_out[out] = clone(model).fit(part.texts, part.H).predict_proba(others.texts)
    proba = clone(model).fit(fit.texts, fit.H).predict_proba(test.texts)
    return held_out, fit.H, proba, test.H


def known(proba):
    """Return a fitted classifier that passes probabilities on."""
    return make_pipeline(FunctionTransformer(), UnaryBreakdown()).fit(proba)


def measure(held_out, H, proba, target):
    """Return example-F1 with each kind of thresholds, and of two of them what abstaining gains."""
    found = {}
    for name, params in VARIANTS.items():
        tuner = None if params is None else ThresholdTuner(known(held_out), cv="prefit", **params).fit(held_out, H)
        thresholds = 0.5 if tuner is None else tuner.thresholds_
        found[name] = example_f1(target, proba >= thresholds)
        if name not in ("0.5", "a label"):
            continue
        inner = known(held_out) if tuner is None else tuner
        losses = document_losses("example_f1", target, (proba >= thresholds).astype(float))
        unsure = {criterion: uncertainty_of(criterion, proba, thresholds) for criterion in CRITERIA}
        for key, values in {**unsure, "random": np.zeros(len(losses)), "oracle": losses}.items():
            found[f"{name}/{key}"] = risk_coverage(losses, values).area
        for criterion in CRITERIA:
            clf = SelectiveClassifier(inner, cv="prefit", criterion=criterion).fit(held_out)
            found[f"{name}/{criterion} F1"] = clf.score(proba, target)
            found[f"{name}/{criterion} coverage"] = float(1 - clf.abstains(proba).mean())
    return found


INTRODUCTION = """# Learned thresholds and abstaining, without a language model

Example-F1 of TF-IDF with a logistic regression a label (`LinearProbe` on soft targets, its penalty chosen by
cross-validation), mean over 3 draws. Thresholds are those of `ThresholdTuner` on probabilities that were held out.
"As drawn": test documents as they come, like those that were fitted on. "Balanced": 300 of `paper_split`, with more
labels a document. The second table of each data set has the area under the curve of risk (1 - example-F1) by coverage,
less is better, and the F1 of what is answered and the coverage reached on the test documents with
`SelectiveClassifier(coverage=0.8)`, by entropy / by distance to thresholds. Each data set is measured by
`python -m benchmarks.thresholds --data NAME`.

Learned thresholds gain where 0.5 leaves out labels that people gave, also on the balanced test set; where most
documents have no label they change little, and on other base rates can lose a little. Thresholds for macro-F1 cost
example-F1. Which documents are wrong: with labels from 0.5 entropy finds more of them, with learned thresholds now
entropy, now the distance to these; all are far from the oracle. Coverage is within five points of what was asked. How
strongly rare labels are shrunk was chosen on other draws of the same data, where it
moved F1 by at most 0.003.""".splitlines()


def page(found):
    """Return the two tables of a data set."""
    rows = [
        (str(row["size"]), "balanced" if row["balanced"] else "as drawn", *(f"{row[key]:.3f}" for key in VARIANTS))
        for row in found["rows"]
    ]
    risks = []
    for row in found["risks"]:
        for name in ("0.5", "a label"):
            areas = [f"{row[f'{name}/{key}']:.3f}" for key in ("random", *CRITERIA, "oracle")]
            parts = [(row[f"{name}/{key} F1"], row[f"{name}/{key} coverage"]) for key in CRITERIA]
            kept = " / ".join(f"{f1:.3f} ({coverage:.2f})" for f1, coverage in parts)
            risks.append((str(row["size"]), name, *areas, f"{1 - row[f'{name}/random']:.3f}", kept))
    title = f"## {found['data']} ({found['documents']} documents, {found['labels']} labels)"
    facts = f"{found['machine']}, {found['date']}."
    return ["", title, "", facts, "", *table(HEADER, rows), "", *table(RISK_HEADER, risks)]


if __name__ == "__main__":
    main()

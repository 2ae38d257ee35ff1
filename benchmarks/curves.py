"""How many documents must be annotated before which method pays: every method by the number of fitting documents.

    python -m benchmarks.curves --data stackoverflow_emotions --model model.gguf --name SmolLM2-135M --encoder e.gguf

Data come from the package's loaders, or with --file from JSON lines. Draws of fitting documents share none, so there
are as many as the data allow, three at most. Rows are saved one by one, and hidden states and answers are kept in a
cache, so a run that was stopped goes on where it was. Writes curves-DATA-NAME.json, .md and .png to --out; with
--report the tables over all runs in --out instead, curves.md.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from benchmarks import _baselines as baselines
from benchmarks._bench import (
    Bench,
    command_of,
    given,
    make_parser,
    read_json,
    read_runs,
    settings_of,
    stem,
    table,
    write_json,
    write_page,
    wrote_report,
)
from benchmarks._scores import TITLES, best_threshold, each_score, fit_and_predict, resample
from skmlmc import GGUFClassifier, ScalingAligner

DRAWS = 3
ZERO_SHOT, FEW_SHOT = "max-over-generations", "max-over-generations, 10 demonstrations"
ALIGNED = {"demonstrations + platt": "platt", "demonstrations + matrix": "matrix"}
BASE_RATE, WORDS, ENCODER = "base rate", "TF-IDF + logistic regression", "encoder + logistic regression"
PROBE, STACK, WITH_ENCODER = "probe", "stack", "stack with the encoder"
RIVALS = {STACK: (WORDS, PROBE), WITH_ENCODER: (WORDS, ENCODER, STACK)}
METRICS = tuple(TITLES)
CELLS = ("sizes", "answers", "fit", "f1")  # they say which rows there are, not what is in one
SHORT = {WORDS: "TF-IDF", ENCODER: "encoder"}


def main(argv=None):
    if wrote_report(argv, "curves", report):
        return
    parser = make_parser("curves", __doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 100, 200, 400, 800])
    parser.add_argument(
        "--answers", type=int, default=400, help="documents that are answered to align on; 0: no answers"
    )
    parser.add_argument("--f1", type=int, nargs="+", default=[50, 200, 800], help="sizes at which F1 is computed")
    args = parser.parse_args(argv)
    bench, path = Curves(args), args.out / f"{stem('curves', args)}.json"
    kept = (args.cache or args.out / "cache") / path.name  # each document's scores: megabytes
    before, same = read_json(kept), given(settings_of(args), *CELLS)
    done = {key(row): row for row in before.get("rows", []) if given(before["settings"], *CELLS) == same}
    rows = []
    for name, size, draw in bench.cells():
        row = done.get((None, name, size, draw))
        if row is None or (bench.with_f1(name, size, draw) and "example_f1" not in row):
            row = bench.row(name, size, draw)
        done[key(row)] = row
        rows.append(row)
        write_json(kept, {"settings": same, "rows": list(done.values())})
        print(f"{size} {name}, draw {draw}: NLL {np.mean(row['nll']):.3f}, {row['seconds']:.1f} s", flush=True)
    result = {"command": command_of(parser, args), **bench.facts(), "settings": settings_of(args), **summary(rows)}
    write_json(path, result)
    write_page(path, markdown(result, path))
    draw_curves(result, path.with_suffix(".png"))


class Curves(Bench):
    """Rows of the table: one method, fitted on one draw of so many documents, on the test documents."""

    def __init__(self, args):
        super().__init__(args)
        self.texts = np.array([*self.test.texts, *self.fit.texts], object)
        self.H = np.concatenate([self.test.H, self.fit.H])
        self.n_test = len(self.test.texts)
        self.kept = os.fspath(args.cache or args.out / "cache")

    def cells(self):
        """Every method, size and draw; what is fitted on nothing once."""
        n, sizes = len(self.fit.texts), sorted(self.args.sizes)
        if self.args.answers:
            yield from ((name, 0, 0) for name in (ZERO_SHOT, FEW_SHOT))
        for size in (size for size in sizes if size <= n):
            for draw in range(min(DRAWS, n // size)):
                for name in self.methods():
                    yield name, size, draw
                if (draw + 1) * size <= self.args.answers:
                    yield from ((name, size, draw) for name in ALIGNED)

    def methods(self):
        """Name each method that reads texts, with the estimator."""
        states = {"demonstrations": "multilabel", "prompt": None}
        middle = {"layer": 0.5, "pooling": "mean", "method_params": {"read": "document"}}
        found = {
            BASE_RATE: baselines.BaseRate(),
            WORDS: baselines.tfidf(self.single),
            PROBE: self.make(GGUFClassifier, method="linear_probe", **states, **middle),
            STACK: self.make(GGUFClassifier, method="stack", **states),
        }
        if self.args.encoder is not None:
            encoder = baselines.encoder(self.args.encoder, self.kept)
            found[ENCODER] = make_pipeline(encoder, baselines.encoder_head(self.single))
            more = {"method_params": {"encoder": encoder}}
            found[WITH_ENCODER] = self.make(GGUFClassifier, method="stack", **states, **more)
        return found

    def row(self, name, size, draw):
        """Compute one row: each document's scores, so that methods can be compared document by document."""
        start, test = time.perf_counter(), slice(self.n_test)
        rows = self.n_test + size * draw + np.arange(size)
        if name in (ZERO_SHOT, FEW_SHOT):
            proba, threshold = self.answered(name, test), None
        else:
            answered = name in ALIGNED
            X = self.answered(FEW_SHOT, slice(self.n_test + self.args.answers)) if answered else self.texts
            kind = ALIGNED.get(name)
            estimator = ScalingAligner(kind, multi_label=not self.single) if answered else self.methods()[name]
            with_f1 = self.with_f1(name, size, draw)
            proba, threshold = self.fitted(estimator, X[rows], self.H[rows], X[test], with_f1)
        return {
            "method": name,
            "size": size,
            "draw": draw,
            **self.scores(proba, threshold),
            "seconds": round(time.perf_counter() - start, 2),
        }

    def with_f1(self, name, size, draw):
        """Whether a row has F1: its threshold takes several more fits."""
        return size > 0 and draw == 0 and size in self.args.f1

    def fitted(self, estimator, X, H, X_test, with_f1):
        """Fit and predict; the threshold of F1 is chosen on out-of-fold predictions of the fitting documents."""
        if not with_f1:
            return clone(estimator).fit(X, H).predict_proba(X_test), None
        proba, held_out = fit_and_predict(estimator, X, H, X_test)
        return proba, 0.5 if self.single else best_threshold(H, held_out)

    def answered(self, name, rows):
        """Probabilities that the model's answers give, with the demonstrations or without."""
        shown = self.demonstrations if name == FEW_SHOT else []
        clf = self.make(GGUFClassifier, demonstrations=shown).fit()
        return clf.predict_proba(list(self.texts[rows]))

    def scores(self, proba, threshold):
        """Score each test document; without a threshold there is no F1."""
        each = each_score(self.test.H, proba, 0.5 if threshold is None else threshold, self.single)
        names = [name for name in each if name != "example_f1" or threshold is not None]
        return {name: [round(float(value), 4) for value in each[name]] for name in names}


def summary(rows):
    """Average the documents' scores: each method's mean of each draw, and differences with paired intervals."""
    scores = {}  # (metric, method, size) to (draws, n_test)
    for row in rows:
        for metric in (metric for metric in METRICS if metric in row):
            scores.setdefault((metric, row["method"], row["size"]), []).append(row[metric])
    scores = {where: np.array(values) for where, values in scores.items()}
    means = [
        {"metric": metric, "method": method, "size": size, "draws": [round(float(x), 4) for x in values.mean(axis=1)]}
        for (metric, method, size), values in scores.items()
    ]
    paired = []
    for (metric, method, size), values in scores.items():
        for rival in RIVALS.get(method, ()):
            if (metric, rival, size) in scores:
                each = (values - scores[metric, rival, size]).mean(axis=0)
                low, high = resample(lambda chosen, each=each: each[chosen].mean(), len(each))
                found = {"metric": metric, "method": method, "minus": rival, "size": size}
                paired.append({**found, "difference": round(float(each.mean()), 4), "low": low, "high": high})
    return {"means": means, "paired": paired}


def mean_of(result, metric, method, size):
    """Mean over draws, None where there is none."""
    found = [row["draws"] for row in result["means"] if key(row) == (metric, method, size)]
    return float(np.mean(found[0])) if found else None


def key(row):
    """Say what a row is about."""
    return row.get("metric"), row["method"], row["size"], *([row["draw"]] if "draw" in row else [])


def markdown(result, path):
    """Write the tables of one run, with the command that makes it on top."""
    sizes = sorted({row["size"] for row in result["means"]})
    methods = list(dict.fromkeys(row["method"] for row in result["means"]))
    lines = [f"# Fitting documents and methods: {result['model']} on {result['data']}", ""]
    lines += [f"    {result['command']}", "", about(result)]
    for metric, title in TITLES.items():
        cells = {name: [mean_of(result, metric, name, size) for size in sizes] for name in methods}
        written = [[name, *("" if v is None else f"{v:.2f}" for v in values)] for name, values in cells.items()]
        lines += ["", f"## {title}", "", *table(["method", *map(str, sizes)], [row for row in written if any(row[1:])])]
    lines += ["", "## NLL of the stacks minus that of others", ""]
    rows = [[method, rival] for method, rivals in RIVALS.items() for rival in rivals]
    rows = [[*row, *(interval(result, "nll", *row, size) for size in sizes)] for row in rows]
    lines += table(["method", "minus", *map(str, sizes)], [row for row in rows if any(row[2:])])
    return [*lines, "", f"![NLL by the number of fitting documents]({path.with_suffix('.png').name})"]


def about(result):
    """Say in words what was measured."""
    return (
        f"{result['n_test']} test documents; labels: {', '.join(result['labels'])}. {' '.join(result['notes'])} "
        f"Columns: documents to fit on; means over the test documents and over {DRAWS} draws that share no fitting "
        "document, fewer where the data end. Answers with demonstrations, aligned or not, have those beside the "
        "documents counted. F1 is of the first draw, with one threshold chosen on out-of-fold predictions of the "
        f"fitting documents; 95 % bootstrap intervals over test documents. {result['machine']}, {result['date']}."
    )


def interval(result, metric, method, rival, size):
    """Write a difference, empty where there is none."""
    wanted = {"metric": metric, "method": method, "minus": rival, "size": size}
    found = [row for row in result["paired"] if wanted.items() <= row.items()]
    return f"{found[0]['difference']:+.3f} [{found[0]['low']:+.3f}, {found[0]['high']:+.3f}]" if found else ""


def report(folder):
    """Write one table over all runs: the stacks against the best of their rivals on the test documents."""
    runs = read_runs(folder, "curves")
    lines = ["# The stack against what it is made of", "", "    python -m benchmarks.curves --report", ""]
    lines += [
        "The stack's mean minus that of the rival that does best on these very test documents, with paired 95 % "
        "intervals, by the number of fitting documents. Below zero is better for NLL and L1, above for F1.",
    ]
    sizes = sorted({row["size"] for run in runs for row in run["paired"]})
    for method, rivals in RIVALS.items():
        rows = [
            [run["data"], run["model"], title, *(against_best(run, metric, method, size) for size in sizes)]
            for metric, title in TITLES.items()
            for run in runs
        ]
        names = ", ".join(SHORT.get(name, name) for name in rivals)
        lines += ["", f"## {method}: against the best of {names}", ""]
        lines += table(["data", "model", "metric", *map(str, sizes)], [row for row in rows if any(row[3:])])
    return lines


def against_best(run, metric, method, size):
    """Write the difference to the best rival, and which that is."""
    means = {rival: mean_of(run, metric, rival, size) for rival in RIVALS[method]}
    means = {rival: value for rival, value in means.items() if value is not None}
    if not means or mean_of(run, metric, method, size) is None:
        return ""
    best = (max if metric == "example_f1" else min)(means, key=means.get)
    return f"{interval(run, metric, method, best, size)} {SHORT.get(best, best)}"


def draw_curves(result, path):
    """Draw NLL by the number of fitting documents; what is fitted on none is a line."""
    from skmlmc.plots import AnnotationCurveDisplay

    rows = [row for row in result["means"] if row["metric"] == "nll"]
    sizes = sorted({row["size"] for row in rows} - {0})
    scores, constants = {}, {}
    for row in rows:
        if row["size"] == 0:
            constants[row["method"]] = float(np.mean(row["draws"]))
            continue
        drawn = scores.setdefault(row["method"], np.full((DRAWS, len(sizes)), np.nan))
        drawn[: len(row["draws"]), sizes.index(row["size"])] = row["draws"]
    display = AnnotationCurveDisplay(sizes, scores, metric="nll", constants=constants, confidence_level=None).plot()
    display.figure_.suptitle(f"{result['model']} on {result['data']}", weight="bold")
    display.figure_.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])

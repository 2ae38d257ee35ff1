"""Demonstrations nearest to each document, beside fixed ones and none: what they gain, and what they cost.

    python -m benchmarks.nearest --data stackoverflow_emotions --model model.gguf --name SmolLM2-135M --test 150

The default read-out is scored on the same test documents. Fixed demonstrations are the benchmarks' own ("multilabel",
or "balanced" for classes); the nearest are found among the --fit documents, by TF-IDF, by the model's hidden states of
the document alone, and with --encoder by an embedding model. Differences to the fixed ones have paired bootstrap
intervals over documents. Writes nearest-DATA-NAME.json and .md to --out; with --report one page over all, nearest.md.
"""

from __future__ import annotations

import os
import sys

from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from benchmarks._bench import (
    Bench,
    command_of,
    compared_cells,
    make_parser,
    price,
    read_runs,
    settings_of,
    stem,
    table,
    write_json,
    write_page,
    wrote_report,
)
from benchmarks._scores import TITLES, compare, tally
from skmlmc import EmbeddingExtractor, GGUFClassifier, HiddenStateExtractor

FIXED = "fixed"


def main(argv=None):
    if wrote_report(argv, "nearest", report):
        return
    parser = make_parser("nearest", __doc__)
    parser.add_argument("--timed", type=int, default=10, help="documents to take the time of")
    args = parser.parse_args(argv)
    bench = Nearest(args)
    result = {"command": command_of(parser, args), **bench.facts(), "settings": settings_of(args), "rows": bench.rows()}
    path = args.out / f"{stem('nearest', args)}.json"
    write_json(path, result)
    write_page(path, markdown(result))


class Nearest(Bench):
    """Rows of the table, each a choice of demonstrations."""

    def choices(self):
        """Return `demonstrations` of each row, the one compared with first."""
        hidden = {"labels": None, "prompt": None, "demonstrations": [], "layer": 0.5, "pooling": "mean"}
        fronts = {"nearest hidden states": self.make(HiddenStateExtractor, read="document", **hidden)}
        if self.args.encoder is not None:
            fronts["nearest embeddings"] = self.make(EmbeddingExtractor, model=os.fspath(self.args.encoder))
        near = {name: make_pipeline(front, NearestNeighbors(metric="cosine")) for name, front in fronts.items()}
        return {FIXED: self.demonstrations, "none": [], "nearest by TF-IDF": "nearest", **near}

    def rows(self):
        """Score every choice."""
        texts, rows, first = list(self.test.texts), [], None
        for name, demonstrations in self.choices().items():
            clf = self.make(GGUFClassifier, demonstrations=demonstrations, shots=self.args.shots)
            clf.fit(list(self.fit.texts), self.fit.H)
            proba = clf.predict_proba(texts)
            first = proba if first is None else first
            timed = clone(clf).fit(list(self.fit.texts), self.fit.H)
            paid = price(timed, texts[: self.args.timed])
            rows.append({"shown": name, **compare(self.test.H, proba, first, self.single), **paid})
            print(rows[-1], flush=True)
        return rows


def markdown(result):
    """Write the table, with the command that makes it on top."""
    header = ["demonstrations", *(c for title in TITLES.values() for c in (title, "minus fixed"))]
    header += ["a second", "tokens"]
    rows = []
    for row in result["rows"]:
        rows.append([row["shown"], *compared_cells(row), f"{row['a_second']:.2f}", f"{row['tokens']:.0f}"])
    return [
        f"# Demonstrations near the document: {result['model']} on {result['data']}",
        "",
        f"    {result['command']}",
        "",
        f"{result['n_test']} documents, the default read-out, {result['shots']} demonstrations; the nearest of "
        f"{result['n_fit']} documents. Differences to fixed ones, 95 % intervals over documents. Documents a second, "
        f"and tokens of each, on {result['settings']['timed']} of them. {result['machine']}, {result['date']}.",
        "",
        *table(header, rows),
    ]


def report(folder):
    """Count over all runs how often a choice is better and worse than fixed demonstrations beyond the interval."""
    runs = read_runs(folder, "nearest")
    names = dict.fromkeys(row["shown"] for run in runs for row in run["rows"])
    cells = []
    for name in names:
        found = [(row, run["rows"][0]) for run in runs for row in run["rows"] if row["shown"] == name]
        costs = [(first["a_second"] / row["a_second"], row["tokens"] / first["tokens"]) for row, first in found]
        times = [f"{sum(each) / len(each):.1f}" for each in zip(*costs, strict=True)]
        rows = [row for row, _ in found]
        cells.append([name, *(tally(rows, metric) for metric in TITLES), *times])
    return [
        "# Demonstrations near the document, over data sets and models",
        "",
        "    python -m benchmarks.nearest --report",
        "",
        "In how many runs a choice is better / worse than fixed demonstrations beyond the 95 % interval of the "
        "difference over documents, with the mean of the metric over runs, and how many times as long it takes: "
        + ", ".join(f"{run['data']} with {run['model']} ({run['n_test']})" for run in runs)
        + ".",
        "",
        *table(["demonstrations", *TITLES.values(), "times as long", "times the tokens"], cells),
    ]


if __name__ == "__main__":
    main(sys.argv[1:])

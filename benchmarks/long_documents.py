"""Long documents: cut, or read in chunks whose probabilities are pooled. Which pooling is right, by measurement.

    python -m benchmarks.long_documents --data stackoverflow_emotions --model model.gguf --name SmolLM2-135M

Joins --parts annotated documents to a long one, as paragraphs. What its annotators would have said is not known, so two
targets stand for it: "any", 1 - prod(1 - share), the share of annotators who gave the label to at least one part if
they did so independently, and "max", the largest share of a part. Chunks have --size tokens, and a document that is cut
has as many. "whole" reads all of it at once. Rows come as the model says and, with --fit-joined, behind a Platt
alignment fitted on as many documents joined of others. Differences to truncation="end" have paired bootstrap intervals
over documents. Writes long_documents-DATA-NAME.json and .md to --out; with --report one page, long_documents.md.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
from sklearn.base import clone

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
from skmlmc import Chunks, GGUFClassifier, ScalingAligner

TARGETS = {"any": lambda shares: 1 - np.prod(1 - shares, axis=1), "max": lambda shares: shares.max(axis=1)}
POOLINGS = ("max", "mean", "noisy_or", "log_odds")
AROUND = 16  # tokens around a document in the prompt, at most


def parse(argv=None):
    parser = make_parser("long_documents", __doc__)
    parser.add_argument("--parts", type=int, default=4, help="documents that are joined to one")
    parser.add_argument("--size", type=int, default=64, help="tokens of a chunk, and of a document that is cut")
    parser.add_argument("--joined", type=int, default=150, help="joined documents to test on")
    parser.add_argument("--fit-joined", type=int, default=150, help="joined documents to align on; 0: no alignment")
    parser.add_argument("--timed", type=int, default=10, help="documents to take the time of")
    return parser, parser.parse_args(argv)


def main(argv=None):
    if wrote_report(argv, "long_documents", report):
        return
    parser, args = parse(argv)
    bench = LongDocuments(args)
    bench.need_several_labels()
    result = {"command": command_of(parser, args), **bench.facts(), "settings": settings_of(args)}
    result |= {"n_test": args.joined, "rows": bench.rows()}
    path = args.out / f"{stem('long_documents', args)}.json"
    write_json(path, result)
    write_page(path, markdown(result))


def join(documents, n, parts, seed):
    """Return `n` texts of so many documents each, drawn anew for each, and their shares (n, parts, L)."""
    rng = np.random.default_rng(seed)
    rows = np.array([rng.permutation(len(documents.texts))[:parts] for _ in range(n)])
    return ["\n\n".join(documents.texts[i] for i in each) for each in rows], documents.H[rows]


class LongDocuments(Bench):
    """Rows of the table: what is done with documents that are too long, before and behind an alignment."""

    def ways(self):
        """Return parameters of the classifier for each way to read a long document, the one compared with first."""
        size = self.args.size
        short = self.make(GGUFClassifier, truncation=None).fit().model_report()
        n_ctx = short.n_prompt + short.n_answer + size + AROUND
        ways = {side: {"truncation": side, "n_ctx": n_ctx} for side in ("end", "start")}
        ways["whole"] = {"truncation": None}
        ways |= {f"chunks, {how}": {"truncation": Chunks(size, pooling=how)} for how in POOLINGS}
        ways["chunks that overlap, max"] = {"truncation": Chunks(size, size // 4)}
        return ways

    def rows(self):
        """Score every way."""
        args = self.args
        texts, shares = join(self.test, args.joined, args.parts, 0)
        others, known = join(self.fit, args.fit_joined, args.parts, 1) if args.fit_joined else ([], None)
        found, rows = {}, []
        for name, params in self.ways().items():
            clf = self.make(GGUFClassifier, **params).fit()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*documents were cut")
                proba, held = clf.predict_proba(texts), clf.predict_proba(others) if others else None
                paid = price(clone(clf).fit(), texts[: args.timed])
            for target, pool in TARGETS.items():
                said = {False: proba}
                if others:
                    said[True] = ScalingAligner().fit(held, pool(known)).predict_proba(proba)
                for aligned, each in said.items():
                    first = found.setdefault((target, aligned), each)
                    scores = compare(pool(shares), each, first)
                    rows.append({"target": target, "aligned": aligned, "way": name, **scores, **paid})
            print(name, paid, flush=True)
        return sorted(rows, key=lambda row: (row["target"], row["aligned"]))


def markdown(result):
    """Write the table, with the command that makes it on top."""
    args = result["settings"]
    header = [
        "target",
        "aligned",
        "read",
        *(c for title in TITLES.values() for c in (title, "minus end's")),
        "a second",
        "tokens",
    ]
    rows = []
    for row in result["rows"]:
        cells = [row["target"], "yes" if row["aligned"] else "no", row["way"], *compared_cells(row)]
        rows.append([*cells, f"{row['a_second']:.2f}", f"{row['tokens']:.0f}"])
    return [
        f"# Long documents: {result['model']} on {result['data']}",
        "",
        f"    {result['command']}",
        "",
        f"{result['n_test']} documents of {args['parts']} joined ones each; chunks of {args['size']} tokens, and as "
        "many where a document is cut. Targets: any, 1 - prod(1 - share of a part); max, the largest share of a part. "
        f'Aligned: Platt, fitted on {args["fit_joined"]} documents joined of others. Differences to truncation="end", '
        f"95 % intervals over documents. Documents a second, and tokens, on {args['timed']} of them. "
        f"{result['machine']}, {result['date']}.",
        "",
        *table(header, rows),
    ]


def report(folder):
    """Count over all runs how often a way is better and worse than cutting the end beyond the interval."""
    runs = read_runs(folder, "long_documents")
    lines = [
        "# Long documents, over data sets and models",
        "",
        "    python -m benchmarks.long_documents --report",
        "",
        "In how many runs a way to read long documents is better / worse than cutting the end off, beyond the 95 % "
        "interval of the difference over documents, with the mean of the metric over runs: "
        + ", ".join(f"{run['data']} with {run['model']} ({run['n_test']})" for run in runs)
        + ".",
        "",
    ]
    kinds = {(row["target"], row["aligned"], row["way"]): None for run in runs for row in run["rows"]}
    cells = []
    for kind in sorted(kinds, key=lambda kind: kind[:2]):
        same = [row for run in runs for row in run["rows"] if (row["target"], row["aligned"], row["way"]) == kind]
        cells.append([kind[0], "yes" if kind[1] else "no", kind[2], *(tally(same, name) for name in TITLES)])
    return [*lines, *table(["target", "aligned", "read", *TITLES.values()], cells)]


if __name__ == "__main__":
    main(sys.argv[1:])

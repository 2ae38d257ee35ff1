"""What each option of the estimators is worth on documents with annotators: the same classifier with it and without.

    python -m benchmarks.options --data stackoverflow_emotions --model model.gguf --name SmolLM2-135M --natural

Each row of `options` is a pair of settings. Both are scored on the same documents; differences, with the option minus
without, come with bootstrap intervals over documents, and beside them stands how many documents a second one processor
answers. The `--fit` others are what classifiers see in `fit`: a prior of theirs fits test documents that are drawn as
they come (--natural), not balanced ones. Rows are saved one by one, and answers kept in a cache. Writes
options-DATA-NAME.json and .md to --out; with --report one page over all runs in --out instead, options.md.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._bench import (
    Bench,
    command_of,
    in_turns,
    interval,
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
from benchmarks._scores import TITLES, better_and_worse, each_score, resample
from skmlmc import GGUFClassifier, PriorCorrection, QuestionTemplate
from skmlmc.prompts._templates import UNARY_INSTRUCTION, UNARY_QUESTION

DESCRIPTIONS = Path(__file__).parent / "wordings" / "descriptions.json"
CONTENT_FREE = ("N/A", "[MASK]", "")


@dataclass(frozen=True)
class Option:
    """A row: parameters of `GGUFClassifier` that both have, and those that one has and the other has not."""

    on: dict[str, Any]
    both: dict[str, Any] = field(default_factory=dict)

    def settings(self):
        """Parameters without the option and with it."""
        return self.both, {**self.both, **self.on}


def options(bench):
    """Rows by name; another option is another line here."""
    told, wording = bench.descriptions, {"wording": bench.args.wording or bench.source.wording, "mode": bench.args.mode}
    asked = {"method": "unary_breakdown"}
    meaning = " ".join(f"{name}: {text}.".replace("{", "{{").replace("}", "}}") for name, text in told.items())
    listed = QuestionTemplate(f"{UNARY_INSTRUCTION} {meaning}", UNARY_QUESTION, **wording)
    rates = bench.base_rates
    single = {"multi_label": not bench.single}
    prior = PriorCorrection(rates / rates.sum() if bench.single else rates, **single)
    return {
        "descriptions": Option({"descriptions": told}),
        "descriptions, a question a label": Option({"descriptions": told}, asked),
        "descriptions, a question a label, told once": Option({"prompt": listed}, asked),
        "content_free": Option({"content_free": CONTENT_FREE}),
        "PriorCorrection, no prior": Option({"aligner": PriorCorrection(**single)}),
        "PriorCorrection, base rates of other documents": Option({"aligner": prior}),
        "PriorCorrection, base rates, a question a label": Option({"aligner": prior}, asked),
        "n_label_orders, auto": Option({"n_label_orders": "auto"}),
    }


def main(argv=None):
    if wrote_report(argv, "options", report):
        return
    parser = make_parser("options", __doc__)
    parser.add_argument("--descriptions", type=Path, default=DESCRIPTIONS, help="JSON file: data -> label -> text")
    parser.add_argument("--only", nargs="+", default=None, help="names of rows; default: all")
    parser.add_argument("--timed", type=int, default=12, help="documents that the speed is measured on")
    parser.set_defaults(test=150, fit=100)
    args = parser.parse_args(argv)
    bench, path = Options(args), args.out / f"{stem('options', args)}.json"
    settings = {k: v for k, v in settings_of(args).items() if k != "only"}
    before = read_json(path)
    done = {row["option"]: row for row in before.get("rows", []) if before["settings"] == settings}
    result = {"command": command_of(parser, args), **bench.facts(), "settings": settings}
    parts = {"test": bench.test, "fit": bench.fit}
    result |= {f"labels_{name}": float(part.H.sum(axis=1).mean()) for name, part in parts.items()}
    result["constant"] = bench.constant()
    for name, option in options(bench).items():
        if name not in done and (args.only is None or name in args.only):
            done[name] = bench.row(name, option)
            print(done[name], flush=True)
        result["rows"] = [done[row] for row in options(bench) if row in done]
        write_json(path, result)
    write_page(path, markdown(result))


class Options(Bench):
    """Rows of the table, each an option on and off."""

    def __init__(self, args):
        super().__init__(args)
        self.descriptions = read_json(args.descriptions).get(args.data, {})
        self.base_rates = self.fit.H.mean(axis=0).clip(0.005, 0.995)
        if set(self.descriptions) != set(self.labels):
            raise SystemExit(f"{args.descriptions}: expected under {args.data!r} a text for each of {self.labels}.")

    def row(self, name, option):
        """Score and time one option, on and off."""
        test, fitted = self.test, [self.classifier(params) for params in option.settings()]
        scores = [each_score(test.H, clf.predict_proba(test.texts), single=self.single) for clf in fitted]
        found = {"option": name, "n_test": len(test.texts), "label_orders": len(fitted[1].extractors_)}
        found["speed"] = self.speeds(fitted, test.texts)
        for metric in TITLES:
            off, on = (each[metric] for each in scores)
            found[metric] = [round(float(each.mean()), 4) for each in (off, on)]
            found[f"{metric}_difference"] = resample(lambda rows, d=on - off: d[rows].mean(), len(test.texts))
        return found

    def constant(self):
        """Score a model that gives every document the base rates of the others: what any option has to beat."""
        proba = np.tile(self.base_rates, (len(self.test.H), 1))
        scores = each_score(self.test.H, proba, single=self.single)
        return {metric: round(float(scores[metric].mean()), 4) for metric in TITLES}

    def classifier(self, params):
        """Return a classifier with some parameters, fitted on the documents that are not tested.

        Targets are handed on too, for what needs them; nothing of what stands in the table now looks at them.
        """
        return self.make(GGUFClassifier, **params).fit(list(self.fit.texts), self.fit.H)

    def speeds(self, fitted, texts):
        """Documents a second of a processor, in turns: prompt and threads are there, no cache."""
        alone = [deepcopy(clf).set_params(memory=None, n_jobs=1, n_threads=1).predict_proba for clf in fitted]
        return in_turns(alone, texts[: self.args.timed + 1])


def constant_of(run):
    """Write what a constant scores."""
    scores = ", ".join(f"{title} {run['constant'][metric]:.3f}" for metric, title in TITLES.items())
    return f"The base rates of the others, given to every document: {scores}."


def cells_of(row):
    """Write the cells of a row: each metric without and with the option and their difference, and both speeds."""
    cells = []
    for metric in TITLES:
        off, on = row[metric]
        cells += [f"{off:.3f}", f"{on:.3f}", interval(row[f"{metric}_difference"])]
    off, on = row["speed"]
    return [*cells, f"{off:.2f}", f"{on:.2f}"]


HEADER = [cell for title in TITLES.values() for cell in (f"{title} off", "on", "on minus off, 95 %")]
HEADER += ["documents/s off", "on"]


def markdown(result):
    """Write the table, with the command that makes it on top."""
    orders = [row["label_orders"] for row in result["rows"] if row["label_orders"] > 1]
    told = [f'`n_label_orders="auto"` took {n}.' for n in orders]
    return [
        f"# Options on and off: {result['model']} on {result['data']}",
        "",
        f"    {result['command']}",
        "",
        f"{result['n_test']} documents, {len(result['labels'])} labels, {result['shots']} demonstrations, "
        f"{result['mode']} layout, {result['n_fit']} other documents to fit on; {result['labels_test']:.2f} labels a "
        f"test document, {result['labels_fit']:.2f} one of the others. Documents a second of one processor. "
        f"{result['machine']}, {result['date']}.",
        constant_of(result),
        *told,
        *(f"\n{note}" for note in result["notes"]),
        "",
        *table(["option", *HEADER], [[row["option"], *cells_of(row)] for row in result["rows"]]),
    ]


def report(folder):
    """Write one table an option over all runs, with how often it is better and worse beyond the interval."""
    runs = read_runs(folder, "options")
    names = list(dict.fromkeys(row["option"] for run in runs for row in run["rows"]))
    lines = [
        "# Options on and off, over data sets and models",
        "",
        "    python -m benchmarks.options --report",
        "",
        "Differences are with the option minus without, 95 % intervals over documents; NLL and L1 are better where "
        "they are lower. Documents a second of one processor. Each run has its own page.",
        "",
        *(f"* {run['data']}, {run['model']}. {constant_of(run)}" for run in runs),
    ]
    for name in names:
        found = [(run, row) for run in runs for row in run["rows"] if row["option"] == name]
        counts = {metric: better_and_worse([row for _, row in found], metric) for metric in TITLES}
        counts = ["{} {} / {}".format(title, *counts[metric]) for metric, title in TITLES.items()]
        rows = [[run["data"], run["model"], str(row["n_test"]), *cells_of(row)] for run, row in found]
        lines += ["", f"## {name}", "", f"Better / worse of {len(found)} runs: {', '.join(counts)}.", ""]
        lines += table(["data", "model", "documents", *HEADER], rows)
    return lines


if __name__ == "__main__":
    main(sys.argv[1:])

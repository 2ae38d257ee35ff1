"""What benchmarks with a model share: options, prompts and demonstrations, estimators, results that can go on."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import time
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks._data import SOURCES, Source, load, split
from benchmarks._scores import TITLES, majority_sets
from skmlmc import PromptTemplate
from skmlmc._models.files import resolve_model
from skmlmc._models.loaded import load_model
from skmlmc.prompts import choose_demonstrations

SINGLE = (
    "Classify the following inputs into exactly one of the following {wording} per input: {labels}. Output exactly one "
    "of these {wording} and no others."
)
IDS = "one a line; the paper's lists are in the folder prob_distr_ids of its authors' code"
# How many processes or threads work, and where files lie, changes no result.
NO_RESULT = ("out", "cache", "n_jobs", "data_home")


def new_parser(name, description):
    """Return a parser without options for the benchmark of that name."""
    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(f"python -m benchmarks.{name}", description=description, formatter_class=form)


def make_timing_parser(name, description):
    """Return a parser of the options that benchmarks have which time a model and need no data."""
    parser = new_parser(name, description)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--name", default="model", help="what the tables call the model")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser


def make_parser(name, description):
    """Return a parser of the options that all benchmarks with a model and data have."""
    parser = new_parser(name, description)
    parser.add_argument("--data", required=True, help=f"one of {', '.join(SOURCES)}; any name with --file")
    parser.add_argument("--model", type=Path, default=None, help="GGUF file; default: the embedded model")
    parser.add_argument("--name", default="model", help="what the tables call the model")
    parser.add_argument("--data-home", type=Path, default=None, help="scikit-learn's folder of data sets")
    parser.add_argument("--file", type=Path, nargs="+", default=None, help="lines of {id, text, annotations} to read")
    parser.add_argument("--test-ids", type=Path, default=None, help="file of the ids of the test documents, " + IDS)
    parser.add_argument(
        "--natural",
        action="store_const",
        const=True,
        help="draw test documents as they come, not balanced",
    )
    parser.add_argument("--labels", type=int, default=None, help="keep so many labels, the most frequent ones")
    parser.add_argument("--wording", default=None, help="what the labels are, such as emotions")
    parser.add_argument("--mode", default="plain", choices=["auto", "plain", "chat"])
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--test", type=int, default=300, help="test documents, where there are no ids")
    parser.add_argument("--fit", type=int, default=800, help="documents to fit on")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--cache", type=Path, default=None, help="folder of the answers; default: OUT/cache")
    parser.add_argument("--n-jobs", type=int, default=2, help="processes")
    parser.add_argument("--encoder", type=Path, default=None, help="embedding model to compare with, a GGUF file")
    return parser


def command_of(parser, args):
    """Write the command that gives the same results, with names of files in place of their paths."""
    words = [parser.prog]
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        if action.dest in ("help", *NO_RESULT) or value == action.default:
            continue
        option = action.option_strings[-1]
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [option, *(shlex.quote(short(v) if isinstance(v, Path) else str(v)) for v in values)]
    return " ".join(words)


def machine():
    """Say what this machine is."""
    return f"{platform.machine()}, {platform.system()}, {os.cpu_count()} processors"


def short(path):
    """Name a file, annotated documents with their folder: the names are the same in all of them."""
    return f"{path.resolve().parent.name}/{path.name}" if path.suffix in (".jsonl", ".txt") else path.name


def settings_of(args):
    """Return what decides the results; rows of a run with other settings are not kept."""
    named = {k: v for k, v in vars(args).items() if k not in NO_RESULT}
    return json.loads(json.dumps(named, default=short))


def given(settings, *but):
    """Return the settings that decide what is in a row; options that nobody used may be new ones."""
    return {name: value for name, value in settings.items() if name not in but and value is not None}


class Bench:
    """One model on one data set: documents, prompt, demonstrations, and the estimators' parameters."""

    def __init__(self, args):
        self.args, self.source = args, SOURCES.get(args.data, Source())
        self.single = self.source.single
        documents = load(args.data, args.file, args.data_home, args.labels)
        self.labels = documents.labels
        how = {"test_ids": args.test_ids, "reserved": args.shots, "natural": bool(args.natural)}
        self.test, self.rest = split(documents, args.test, **how)
        self.notes = list(self.test.notes)
        # Drawn from all that are not tested: documents with several labels are few in some data.
        shown = self._choose(self.rest)
        self.demonstrations = [(self.rest.texts[i], self._names(self.rest.H[i])) for i in shown]
        texts = {text for text, _ in self.demonstrations}
        self.fit = self.rest.take([i for i, text in enumerate(self.rest.texts) if text not in texts][: args.fit])

    def need_several_labels(self):
        """End the benchmark where documents have one class each."""
        if self.single:
            raise SystemExit(
                f"Got --data {self.args.data}, whose documents have one class each: expected several labels."
            )

    def _choose(self, documents):
        Y = majority_sets(documents.H)
        if not self.single:
            return choose_demonstrations(Y, self.args.shots, "multilabel", 0)
        # A post without a majority has no right class to show.
        decided = np.flatnonzero(Y.any(axis=1))
        return decided[choose_demonstrations(Y[decided], self.args.shots, "balanced", 0)]

    def _names(self, h):
        return [name for name, value in zip(self.labels, h, strict=True) if value > 0.5]

    def make(self, estimator, **params):
        """Make an estimator with those of the benchmark's settings that it has; it needs no data to be fitted."""
        wording = self.args.wording or self.source.wording
        instruction = {"instruction": SINGLE} if self.single else {}
        shared = {
            "model": None if self.args.model is None else os.fspath(self.args.model),
            "labels": self.labels,
            "demonstrations": self.demonstrations,
            "prompt": PromptTemplate(**instruction, wording=wording, mode=self.args.mode),
            "multi_label": not self.single,
            "max_labels": 1 if self.single else None,
            "truncation": "end",
            "n_jobs": self.args.n_jobs,
            "memory": os.fspath(self.args.cache or self.args.out / "cache"),
            "random_state": 0,
        }
        known = estimator().get_params()
        return estimator(**{k: v for k, v in {**shared, **params}.items() if k in known})

    def facts(self):
        """Say what the run was."""
        return {
            "model": self.args.name,
            "data": self.args.data + (", as it comes" if self.args.natural else ""),
            "labels": self.labels,
            "date": str(date.today()),
            "machine": machine(),
            "n_test": len(self.test.texts),
            "n_fit": len(self.fit.texts),
            "shots": self.args.shots,
            "mode": self.args.mode,
            "notes": self.notes,
        }


def price(fitted, texts):
    """Measure what documents cost without a cache, beside the prompt: so many a second, and the tokens of each."""
    alone, model = fitted.set_params(memory=None, n_jobs=1), load_model(resolve_model(fitted.model))
    alone.predict_proba(texts[:1])
    start, before = time.perf_counter(), model.decoded
    alone.predict_proba(texts)
    seconds = time.perf_counter() - start
    return {"a_second": round(len(texts) / seconds, 3), "tokens": round((model.decoded - before) / len(texts), 1)}


def in_turns(calls, texts, rounds=2):
    """Measure how many documents a second of one processor each call answers, in turns; the first is not counted."""
    timed, seconds = list(dict.fromkeys(texts))[1:], [0.0] * len(calls)
    for _ in range(rounds):
        for k, call in enumerate(calls):
            call(texts[:1])  # the prompt and threads are there
            start = time.process_time()  # other programs may be at work
            call(timed)
            seconds[k] += time.process_time() - start
    return [round(rounds * len(timed) / spent, 3) for spent in seconds]


def stem(kind, args):
    """Name of the result files, without ending."""
    return f"{kind}-{args.data}-{args.name}" + ("-natural" if args.natural else "")


def write_json(path, content):
    """Write a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def read_json(path):
    """Return the content of a JSON file, an empty object where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def table(header, rows):
    """Write a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def write_page(path, lines):
    """Write the lines of a Markdown page beside the JSON file of that path."""
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_runs(folder, kind):
    """Read the results of all runs of a benchmark, in the order of their names."""
    return [read_json(path) for path in sorted(folder.glob(f"{kind}-*.json"))]


def interval(bounds):
    """Write an interval of differences; a dash where it is not defined."""
    return "{:+.3f} to {:+.3f}".format(*bounds) if bounds else "-"


def compared_cells(row):
    """Write the cells of a row of `compare`: each metric, and the interval of the difference."""
    return [cell for name in TITLES for cell in (f"{row[name]:.3f}", interval(row[f"{name}_difference"]))]


def wrote_report(argv, name, report):
    """Whether --report is asked for; then the page over all runs in --out, whose lines `report` gives, is written."""
    if not argv or "--report" not in argv:
        return False
    folder = Path(argv[argv.index("--out") + 1]) if "--out" in argv else Path("benchmarks/results")
    write_page(folder / name, report(folder))
    return True

"""What fine-tuning on annotators brings: both kinds of targets, all read-outs of an answer, by the number of documents.

    python -m benchmarks.finetune --data stackoverflow_emotions --model model.gguf --name SmolLM2-135M

The prompt is the list of labels, without demonstrations. Fitting documents of a smaller size are among those of a
larger one. Needs the extra packages of skmlmc[finetune]. Every cell of the table, a size with a kind of targets, is
saved when it is done, and adapters and answers are kept in a cache, so a run that was stopped goes on where it was;
training itself goes on from its last checkpoint. Data as for benchmarks.paper_table. Writes finetune-DATA-NAME.json and
.md to --out, and each document's probabilities to the cache.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

import numpy as np
from scipy.special import expit, logit
from sklearn.model_selection import KFold

from benchmarks import _baselines as baselines
from benchmarks._bench import (
    Bench,
    command_of,
    given,
    make_parser,
    read_json,
    settings_of,
    stem,
    table,
    write_json,
    write_page,
)
from benchmarks._scores import TITLES, best_threshold, each_score, fit_and_predict, resample
from skmlmc import GGUFClassifier, SoftStackingClassifier, StepwiseExtractor
from skmlmc.analysis import early_probability, step_values
from skmlmc.finetune import FinetunedClassifier

MEMBER = "member"  # of a stack: fine-tuned once more for each of its folds
TARGETS = ("annotators", "majority", "preference", MEMBER)
READOUTS = {
    "hard": "hard_predictions",
    "max": "max_over_generations",
    "marginal": "marginal_over_generations",
    "compare-to-none": "compare_to_none",
}
NOT_SINGLE = ("max", "marginal")  # have no single-label form
BEFORE, BASE_RATE, WORDS = "the model as it came", "base rate", "TF-IDF + logistic regression"
STACK, TOGETHER = "stack", "mean of the log-odds with the stack's"
RIVALS = (BASE_RATE, WORDS, STACK)
HEADER = ("fitted on", "targets", "read-out")
# They say which cells there are, not what is in one; other runs' cells are kept.
CELLS = ("sizes", "targets", "device")


def main(argv=None):
    parser = make_parser("finetune", __doc__)
    sizes = {"default": [0, 50, 200, 800], "help": "numbers of fitting documents; 0: the model as it came"}
    parser.add_argument("--sizes", type=int, nargs="+", **sizes)
    parser.add_argument("--targets", nargs="+", default=["annotators", "majority"], choices=TARGETS)
    parser.add_argument("--device", default=None, help="where torch trains; default: the processor")
    args = parser.parse_args(argv)
    bench, path = Finetune(args), args.out / f"{stem('finetune', args)}.json"
    settings, kept = given(settings_of(args), *CELLS), read_json(path)
    cells = kept.get("cells", {}) if given(kept.get("settings", {}), *CELLS) == settings else {}
    for size, kind in bench.cells():
        name = f"{size} {kind}"
        if name not in cells:
            cells[name] = bench.cell(size, kind)
        cells[name]["rows"] = bench.scored(size, kind, cells[name]["rows"])  # rivals may have come since
        print(name, {r: round(row["nll"], 3) for r, row in cells[name]["rows"].items()}, flush=True)
        result = {"command": command_of(parser, args), **bench.facts(), "settings": settings, "cells": cells}
        write_json(path, result)
        write_page(path, markdown(result, bench))


class Finetune(Bench):
    """The cells of the table: what was fitted on so many documents, on the test documents."""

    def __init__(self, args):
        super().__init__(args)
        self.X, self.H = list(self.test.texts), self.test.H
        self.prompt = replace(self.make(GGUFClassifier).prompt, instruction="{labels}")
        self.folder = args.cache or args.out / "cache"

    def cells(self):
        """Name each size and kind of targets: of each size first what is fitted without a model."""
        for size in self.args.sizes:
            if size == 0:
                yield 0, BEFORE
            elif size <= len(self.fit.texts):
                for kind in (*RIVALS, *self.args.targets):
                    yield size, kind

    def readouts(self):
        """Name the methods that read a written answer."""
        return {name: m for name, m in READOUTS.items() if not (self.single and name in NOT_SINGLE)}

    def classifier(self, **params):
        """Make a classifier with the short prompt."""
        return self.make(GGUFClassifier, demonstrations=[], prompt=self.prompt, **params)

    def cell(self, size, kind):
        """Compute one cell."""
        start, fit = time.perf_counter(), self.fit.take(range(size))
        if kind in RIVALS:
            estimator = self.rival(kind)
            proba, held_out = fit_and_predict(estimator, np.array(fit.texts, object), fit.H, np.array(self.X, object))
            threshold = 0.5 if self.single else best_threshold(fit.H, held_out)
            found, facts = {kind: (proba, threshold)}, {}
        elif kind == MEMBER:
            found, facts = self.member(fit), {}
        else:
            lora, facts = (None, {}) if kind == BEFORE else self.tuned(fit, kind)
            made = {name: self.classifier(method=m, lora=lora).fit() for name, m in self.readouts().items()}
            found = {name: (clf.predict_proba(self.X), 0.5) for name, clf in made.items()}
            facts |= self.shape(lora)
        self.keep(size, kind, found)
        rows = self.scored(size, kind, {})
        return {"rows": rows, **facts, "seconds": round(time.perf_counter() - start)}

    def rival(self, kind):
        """Make what is fitted on the same documents without training a model."""
        if kind == STACK:
            return self.make(GGUFClassifier, method="stack", demonstrations="multilabel", prompt=None)
        return baselines.BaseRate() if kind == BASE_RATE else baselines.tfidf(self.single)

    def scored(self, size, kind, rows):
        """Score the probabilities that were kept of a cell, beside its rivals'; `rows` where none were."""
        if not self.probabilities(size, kind).exists():
            return rows
        with np.load(self.probabilities(size, kind)) as kept:
            thresholds = kept["thresholds"].tolist()
            found = {name: (kept[name], t) for name, t in zip(kept.files, thresholds, strict=False)}
        beside = self.probabilities(size, STACK)
        if size and kind not in (*RIVALS, MEMBER) and beside.exists():
            found[TOGETHER] = self.together(found["compare-to-none" if self.single else "marginal"][0], beside), 0.5
        return {name: self.scores(proba, threshold, size) for name, (proba, threshold) in found.items()}

    def together(self, proba, beside):
        """Average the log-odds of a read-out and of the stack, with equal weights: nothing is fitted."""
        both = np.stack([proba, np.load(beside)[STACK]]).clip(1e-4, 1 - 1e-4)
        if self.single:
            mixed = np.exp(np.log(both).mean(axis=0))
            return mixed / mixed.sum(axis=1, keepdims=True)
        return expit(logit(both).mean(axis=0))

    def tuned(self, fit, kind):
        """Train an adapter; returns its path and how it went."""
        start = time.perf_counter()
        clf = self.classifier(method=next(iter(self.readouts().values())))
        made = self.trainer(clf, targets=kind).fit(fit.texts, fit.H, annotations=fit.annotations)
        history = [(step, round(loss, 4)) for step, loss in made.history_]
        facts = {"history": history, "step": made.step_, "training_seconds": round(time.perf_counter() - start)}
        return made.adapter_, facts

    def trainer(self, clf, **params):
        """Make the estimator that trains."""
        params = {"folder": self.folder / "adapters", "device": self.args.device or "cpu", "verbose": 1, **params}
        return FinetunedClassifier(clf, **params)

    def member(self, fit):
        """Stack the fine-tuned model with the stack, both fitted anew for each of three folds."""
        clf = self.classifier(method=READOUTS["compare-to-none" if self.single else "marginal"])
        members, cv = [(STACK, self.rival(STACK)), ("tuned", self.trainer(clf))], KFold(3, shuffle=True, random_state=0)
        both = SoftStackingClassifier(members, cv=cv, multi_label=not self.single)
        return {MEMBER: (both.fit(np.array(fit.texts, object), fit.H).predict_proba(self.X), 0.5)}

    def shape(self, lora):
        """Say how sure the model is at the first step, and how an answer's next label ranked before."""
        extractor = self.make(StepwiseExtractor, demonstrations=[], prompt=self.prompt, lora=lora)
        steps = extractor.fit().diagnose(self.X).steps
        values = {name: np.array(column) for name, column in step_values(steps).items()}
        first = values["step"] == 1
        shape = {name: round(float(values[name][first].mean()), 4) for name in ("top1", "spikiness", "entropy")}
        if steps.shape[1] > 1 and (values["position"] == "intermediate").any():
            found = early_probability(steps, by_step=False)
            shape |= {"transitions": int(found["transitions"][0]), "rank": round(float(found["rank"][0]), 3)}
        shape["labels"] = round(float((values["label"] < len(self.labels)).sum() / len(self.X)), 3)
        return {"shape": shape}

    def keep(self, size, kind, found):
        """Save each document's probabilities, and read those of rivals, for comparisons document by document."""
        self.probabilities(size, kind).parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: proba for name, (proba, _) in found.items()}
        np.savez(self.probabilities(size, kind), **arrays, thresholds=[t for _, t in found.values()])

    def probabilities(self, size, kind):
        """Path of the probabilities of a cell."""
        return self.folder / stem("finetune", self.args) / f"{size}-{kind.split()[0]}.npz"

    def scores(self, proba, threshold, size):
        """Return means with intervals, and differences from those fitted on as many documents without a model."""
        mine = each_score(self.H, proba, threshold, self.single)
        row = {"threshold": round(float(threshold), 3)}
        for metric, values in mine.items():
            row[metric] = round(float(values.mean()), 4)
            row[f"{metric}_interval"] = self.interval(values)
        for rival in RIVALS:
            path = self.probabilities(size, rival)
            if path.exists():
                kept = np.load(path)
                theirs = each_score(self.H, kept[rival], kept["thresholds"][0], self.single)
                for metric, values in mine.items():
                    apart = values - theirs[metric]
                    row[f"{metric} minus {rival}"] = [round(float(apart.mean()), 4), *self.interval(apart)]
        return row

    def interval(self, values):
        """Bootstrap a mean over documents."""
        return resample(lambda rows: values[rows].mean(), len(values))


def markdown(result, bench):
    """Write the tables, with the command that makes them on top."""
    f1 = (
        "F1 is of the largest label: the accuracy."
        if bench.single
        else "F1: of rows without a read-out with a threshold chosen on out-of-fold predictions, elsewhere with 0.5."
    )
    about = [
        f"{result['n_test']} test documents; labels: {', '.join(result['labels'])}.",
        *result["notes"],
        "The prompt is the list of labels, without demonstrations. Of the fitting documents a tenth is held out to "
        "find out when to stop; test documents have no part in anything. NLL and L1: lower is better. In brackets: "
        "95 % bootstrap intervals over documents, of differences document by document.",
        f1,
        f"{result['machine']}, {result['date']}.",
    ]
    return [
        f"# Fine-tuned on annotators: {result['model']} on {result['data']}",
        "",
        f"    {result['command']}",
        "",
        " ".join(about),
        "",
        *table(
            ["fitted on", "targets", "read-out", *TITLES.values(), *(f"NLL minus {r}" for r in RIVALS)], rows(result)
        ),
        "",
        "How sure the model is where its answer begins, the mean over documents of the largest probability, of the "
        "difference to the second (spikiness) and of the entropy in nats; how many labels it writes; and the mean rank "
        "of the next label among those left one step before it is written (in how many steps).",
        "",
        *table(
            ["fitted on", "targets", "largest", "spikiness", "entropy", "labels", "rank", "training", "held-out NLL"],
            shapes(result),
        ),
    ]


def rows(result):
    """Rows of the first table."""
    found = []
    for cell, content in result["cells"].items():
        size, kind = cell.split(" ", 1)
        for readout, row in content["rows"].items():
            numbers = [f"{row[m]:.2f} [{row[f'{m}_interval'][0]:.2f}, {row[f'{m}_interval'][1]:.2f}]" for m in TITLES]
            apart = [row.get(f"nll minus {rival}") for rival in RIVALS]
            apart = ["-" if d is None or kind in RIVALS else f"{d[0]:+.2f} [{d[1]:+.2f}, {d[2]:+.2f}]" for d in apart]
            found.append([size, kind, "-" if readout == kind else readout, *numbers, *apart])
    return sorted(found, key=lambda row: int(row[0]))


def shapes(result):
    """Rows of the second table."""
    found = []
    for cell, content in result["cells"].items():
        if "shape" in content:
            size, kind = cell.split(" ", 1)
            shape, history = content["shape"], content.get("history")
            rank = f"{shape['rank']:.2f} ({shape['transitions']})" if "rank" in shape else "-"
            numbers = [f"{shape[name]:.2f}" for name in ("top1", "spikiness", "entropy", "labels")]
            training = f"{content['training_seconds']} s, {history[-1][0]} steps" if history else "-"
            held_out = f"{history[0][1]:.2f} to {dict(history)[content['step']]:.2f}" if history else "-"
            held_out += f" after {content['step']}" if history else ""
            found.append([size, kind, *numbers, rank, training, held_out])
    return sorted(found, key=lambda row: int(row[0]))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main(sys.argv[1:])

"""Thresholds that are learned, and which uncertainty finds the documents that a language model gets wrong.

    python -m benchmarks.selective --data stackoverflow_emotions --model model.gguf --name SmolLM2-135M --natural

Two classifiers are fitted on the --fit documents: the default read-out, averaged over --orders orders of the labels,
behind a Platt alignment ("platt"), and `method="stack"`. Labels are those of probabilities from 0.5 on, or from
thresholds that `ThresholdTuner` learned on the same documents, held out. Areas are those under the curve of risk
(1 - example-F1) by coverage, on the test documents; `SelectiveClassifier(coverage=0.8)` learns on the fitting documents
where to abstain. Intervals are of the bootstrap over test documents, paired. Writes selective-DATA-NAME.json and .md to
--out; with --report one page over all runs, selective.md.
"""

from __future__ import annotations

import sys
from copy import deepcopy

import numpy as np
from sklearn.base import clone

from benchmarks._bench import (
    Bench,
    command_of,
    in_turns,
    interval,
    make_parser,
    read_runs,
    settings_of,
    stem,
    table,
    write_json,
    write_page,
    wrote_report,
)
from benchmarks._scores import TITLES, better_and_worse, each_score, majority_sets, resample
from skmlmc import GGUFClassifier, SelectiveClassifier, ThresholdTuner
from skmlmc.align._selective import CRITERIA, OF_PROBABILITIES
from skmlmc.metrics import document_losses
from skmlmc.plots._selective import risk_coverage

COVERAGE, CV = 0.8, 3


def main(argv=None):
    if wrote_report(argv, "selective", report):
        return
    parser = make_parser("selective", __doc__)
    parser.add_argument("--orders", type=int, default=4, help="orders of the labels that are averaged over")
    parser.add_argument("--timed", type=int, default=4, help="documents to take the time of")
    parser.set_defaults(test=150, fit=200)
    args = parser.parse_args(argv)
    bench = Selective(args)
    bench.need_several_labels()
    result = {"command": command_of(parser, args), **bench.facts(), "settings": settings_of(args), "rows": bench.rows()}
    path = args.out / f"{stem('selective', args)}.json"
    write_json(path, result)
    write_page(path, markdown(result))


class Selective(Bench):
    """Rows of the table, each a classifier with thresholds learned or not."""

    def rows(self):
        """Score all of them."""
        kinds = {
            "platt": (self.make(GGUFClassifier, aligner="platt", n_label_orders=self.args.orders), CRITERIA),
            "stack": (self.make(GGUFClassifier, method="stack"), OF_PROBABILITIES),
        }
        rows = []
        for name, (clf, criteria) in kinds.items():
            plain, losses = self.measure(clf, criteria)
            tuned, others = self.measure(ThresholdTuner(clf, cv=CV), criteria)
            change = losses - others  # of F1, which is 1 - loss
            tuned["example_f1_difference"] = resample(lambda rows, d=change: d[rows].mean(), len(change))
            speeds = self.speeds(clf)
            for row, learned in ((plain, False), (tuned, True)):
                rows.append({"classifier": name, "learned": learned, **row, "speed": speeds})
                print(rows[-1], flush=True)
        return rows

    def fitted(self, clf):
        """Return a copy of a classifier that is fitted on the documents which are not tested."""
        return clone(clf).fit(list(self.fit.texts), self.fit.H)

    def measure(self, clf, criteria):
        """Score a classifier, and what abstaining by each criterion gains; its losses too."""
        H, found = self.test.H, {"criteria": {}}
        for criterion in criteria:
            said = self.fitted(SelectiveClassifier(clf, coverage=COVERAGE, criterion=criterion, cv=CV))
            said = said.diagnose(list(self.test.texts))
            losses = document_losses("example_f1", H, (said.proba >= said.thresholds).astype(float))
            found["criteria"][criterion] = abstaining(losses, said.uncertainty, ~said.abstains)
        scores = each_score(H, said.proba)
        found |= {name: round(float(scores[name].mean()), 4) for name in ("nll", "l1")}
        found |= {"example_f1": round(float(1 - losses.mean()), 4)}
        found |= {"oracle": round(risk_coverage(losses, losses).area, 4)}
        return found, losses

    def speeds(self, clf):
        """Documents a second of one processor: of the classifier, with learned thresholds, and abstaining too."""
        alone = deepcopy(self.fitted(clf)).set_params(memory=None, n_jobs=1, n_threads=1)
        texts, y = list(self.test.texts)[: self.args.timed + 1], majority_sets(self.test.H)[: self.args.timed + 1]
        tuner = ThresholdTuner(alone, cv="prefit").fit(texts, y)
        selective = SelectiveClassifier(tuner, cv="prefit").fit(texts)
        return in_turns([alone.predict, tuner.predict, selective.predict], texts)


def abstaining(losses, uncertainty, answered):
    """Return the area under risk by coverage, beside chance, and the F1 of what is answered, beside that of all."""

    def beside_chance(rows):
        return risk_coverage(losses[rows], uncertainty[rows]).area - losses[rows].mean()

    def gain(rows):
        kept = answered[rows]
        return losses[rows].mean() - losses[rows][kept].mean() if kept.any() else np.nan

    answers = answered.any()
    return {
        "area": round(risk_coverage(losses, uncertainty).area, 4),
        "area_difference": resample(beside_chance, len(losses)),
        "coverage": round(float(answered.mean()), 4),
        "gain": round(float(losses.mean() - losses[answered].mean()), 4) if answers else None,
        "gain_interval": resample(gain, len(losses)) if answers else None,
    }


def cells_of(plain, tuned):
    """Write what learned thresholds change: F1 without, with, the difference; what they leave alone; the speeds."""
    speeds = [f"{speed:.2f}" for speed in plain["speed"]]
    scores = [f"{plain['example_f1']:.3f}", f"{tuned['example_f1']:.3f}", interval(tuned["example_f1_difference"])]
    return [*scores, f"{plain['nll']:.3f}", f"{plain['l1']:.3f}", *speeds]


HEADER = ["F1 at 0.5", "learned", "learned minus 0.5, 95 %", TITLES["nll"], TITLES["l1"]]
HEADER += ["documents/s", "learned", "abstaining too"]
RISKS = ["labels from", "criterion", "area", "minus chance, 95 %", "oracle", "coverage", "gain in F1", "95 %"]


def risks_of(row):
    """Write a row for each criterion."""
    for name, found in row["criteria"].items():
        cells = ["learned" if row["learned"] else "0.5", name, f"{found['area']:.3f}"]
        cells += [interval(found["area_difference"]), f"{row['oracle']:.3f}", f"{found['coverage']:.2f}"]
        gain = "-" if found["gain"] is None else f"{found['gain']:+.3f}"
        yield [*cells, gain, interval(found["gain_interval"])]


def pairs(result):
    """Pair the rows of each classifier: at 0.5, and with learned thresholds."""
    rows = result["rows"]
    return list(zip(rows[::2], rows[1::2], strict=True))


def markdown(result):
    """Write the tables, with the command that makes them on top."""
    risks = [[row["classifier"], *cells] for row in result["rows"] for cells in risks_of(row)]
    return [
        f"# Learned thresholds and abstaining: {result['model']} on {result['data']}",
        "",
        f"    {result['command']}",
        "",
        f"{result['n_test']} documents, {len(result['labels'])} labels, {result['shots']} demonstrations, "
        f"{result['settings']['orders']} orders of the labels, {result['n_fit']} documents to fit on. Documents a "
        f"second of one processor. {result['machine']}, {result['date']}.",
        *(f"\n{note}" for note in result["notes"]),
        "",
        *table(["classifier", *HEADER], [[a["classifier"], *cells_of(a, b)] for a, b in pairs(result)]),
        "",
        f"Risk is 1 - F1; the area is its mean over all coverages, less is better. Gain: F1 of what is answered at "
        f"coverage={COVERAGE} minus F1 of all.",
        "",
        *table(["classifier", *RISKS], risks),
    ]


def report(folder):
    """Write what learned thresholds change in each run, and how often a criterion tells more than chance."""
    runs = read_runs(folder, "selective")
    learned = [(run, a, b) for run in runs for a, b in pairs(run)]
    rows = [[run["data"], run["model"], a["classifier"], *cells_of(a, b)] for run, a, b in learned]
    better, worse = better_and_worse([b for _, _, b in learned], "example_f1")
    lines = [
        "# Learned thresholds and abstaining, over data sets and models",
        "",
        "    python -m benchmarks.selective --report",
        "",
        "Each run has its own page, which says what the columns mean. Thresholds change labels alone, no probability. "
        f"Learned ones are better / worse than 0.5 in {better} / {worse} of {len(learned)} rows, beyond the paired "
        "95 % interval of the difference over documents.",
        "",
        *table(["data", "model", "classifier", *HEADER], rows),
        "",
        "How often the area under risk by coverage is below / above chance beyond the 95 % interval, its mean over "
        f"runs, and how often F1 of what is answered at coverage={COVERAGE} is above / below that of all, with the "
        "mean gain and coverage. Only rows whose labels and documents are the same can be compared: platt with platt.",
        "",
    ]
    counts = []
    for kind in dict.fromkeys((row["classifier"], row["learned"]) for run in runs for row in run["rows"]):
        rows = [row for run in runs for row in run["rows"] if (row["classifier"], row["learned"]) == kind]
        ends = [
            f"{np.mean([1 - row['example_f1'] for row in rows]):.3f}",
            f"{np.mean([r['oracle'] for r in rows]):.3f}",
        ]
        for name in rows[0]["criteria"]:
            counts.append([kind[0], "learned" if kind[1] else "0.5", name, *counted(rows, name), *ends])
    header = ["classifier", "labels from", "criterion", "below / above chance", "area", "gains / loses", "gain"]
    return [*lines, *table([*header, "coverage", "area of chance", "of the oracle"], counts)]


def counted(rows, criterion):
    """Count over runs how often a criterion tells more than chance, and how often abstaining by it gains."""
    found = [row["criteria"][criterion] for row in rows]
    gains = [each["gain_interval"] for each in found if each["gain_interval"]]
    area, coverage = (np.mean([each[key] for each in found]) for key in ("area", "coverage"))
    gain = np.mean([each["gain"] for each in found if each["gain"] is not None] or [np.nan])
    tells = "{} / {}".format(*better_and_worse(found, "area"))
    gained = f"{sum(low > 0 for low, _ in gains)} / {sum(high < 0 for _, high in gains)}"
    return tells, f"{area:.3f}", gained, f"{gain:+.3f}", f"{coverage:.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])

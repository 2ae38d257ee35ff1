"""Findings of the paper's section 4 on a model and data set, with the paper's numbers beside, and whether they hold.

    python -m benchmarks.findings --data stackoverflow_emotions --model model.gguf --name SmolLM2-135M

Each finding is a number with a rule, so nobody judges by eye: it holds where the whole 95 % bootstrap interval over
documents keeps to the rule, does not hold where none of it does, and is unclear between; fewer than 20 answers are too
few to say. Small models often answer with one label; --several 1 makes them give more. Writes findings-DATA-NAME.json,
.md and .png to --out. Answers are kept in the cache, shared with benchmarks.paper_table.
"""

from __future__ import annotations

import sys
from functools import cached_property

import numpy as np

from benchmarks import _findings_figure as figure
from benchmarks._bench import Bench, command_of, make_parser, settings_of, stem, table, write_json, write_page
from benchmarks._data import SOURCES
from benchmarks._scores import majority_sets, resample
from benchmarks._statistics import (
    ENOUGH,
    OfRows,
    attention_ratio,
    column,
    draw_demonstrations,
    first_minus_second,
    judge,
    last_against_intermediate,
    means_by_target,
    second_ranked,
    share_in_order,
    top_probability,
)
from skmlmc import HiddenStateExtractor, StepwiseExtractor, analysis

N_RESAMPLES = 300
PAPER_SHARE = 0.5
SHARES = (0.0, 0.5, 1.0)
# Nearer to ten times than to once, on a logarithmic scale.
ORDER_OF_MAGNITUDE = 10**0.5
TITLES = {
    "step_shape": "How sure the model is at each step (spikiness, stopping)",
    "second_ranked": "The label ranked second (Table 4)",
    "early_probability": "A label's probability one step before it comes",
    "accuracy_by_step": "Right labels by step, answers of two or more (Figure 5)",
    "answer_lengths": "Labels in an answer",
    "multilabel_share": "Answers and demonstrations with several labels (Figure 6)",
    "answer_order": "Order of the answers by order of the labels in the prompt (Table 7)",
    "probe_own_labels": "Linear probes on the hidden state of the first label (Figure 7)",
    "attention_to_labels": "Attention of later labels (Table 6)",
}


def main(argv=None):
    parser = make_parser("findings", __doc__)
    parser.add_argument("--sweep", type=int, default=60, help="documents of Figure 6, asked with every prompt")
    parser.add_argument("--orders", type=int, default=100, help="documents of Table 7, asked with every order")
    parser.add_argument("--attention", type=int, default=60, help="documents of Table 6")
    parser.add_argument(
        "--several", type=float, default=PAPER_SHARE, help="share of demonstrations with several labels"
    )
    args = parser.parse_args(argv)
    if args.data in SOURCES and SOURCES[args.data].single:
        parser.error(f"--data {args.data} is a single-label task; the findings are about answers of several labels")
    study = Findings(args)
    result = {"command": command_of(parser, args), **study.facts(), "settings": settings_of(args)}
    result["findings"], result["tables"] = study.findings(), study.tables
    path = args.out / f"{file_name(args)}.json"
    write_json(path, plain(result))
    write_page(path, markdown(result, args))
    figure.draw(result, study.steps, path.with_suffix(".png"))
    for found in result["findings"]:
        print(f"{found['finding']}: {found['value']}: {found['verdict']}")


def file_name(args):
    """Name of the result files, without ending."""
    return stem("findings", args) + ("" if args.several == PAPER_SHARE else f"-several-{args.several:g}")


class Findings(Bench):
    """What the findings are about, measured."""

    def __init__(self, args):
        super().__init__(args)
        self.X, self.H = self.test.texts, self.test.H
        self.tables = {}

    def _choose(self, documents):
        if self.args.several == PAPER_SHARE:
            return super()._choose(documents)
        several = majority_sets(documents.H).sum(axis=1) > 1
        return draw_demonstrations(several, self.args.shots, self.args.several)

    @cached_property
    def steps(self):
        """Step distributions of the test documents."""
        return self.make(StepwiseExtractor).fit().transform(self.X)

    def findings(self):
        """Measure everything."""
        parts = (self.shapes, self.ranking, self.accuracy, self.sweep, self.orders, self.probes, self.attention)
        return [found for part in parts for found in part()]

    def state(self, finding, paper, rule, value, border, n, *, at_most=False, interval=None):
        """Judge a finding of `n` observations; a `value` that is a function of rows is resampled for its interval."""
        if callable(value):
            rows, statistic = value.n, value
            value, interval = statistic(np.arange(rows)), resample(statistic, rows, N_RESAMPLES)
        return {
            "finding": finding,
            "paper": paper,
            "value": None if np.isnan(value) else round(float(value), 4),
            "interval": interval,
            "n": int(n),
            "rule": rule,
            "verdict": judge(value, interval, border, n, at_most),
        }

    def of_steps(self, statistic):
        """Make a statistic of the steps one of documents' rows."""
        return OfRows(lambda rows: statistic(self.steps[rows]), len(self.steps))

    def shapes(self):
        """Spikiness, sequential spikiness, stopping."""
        self.tables["step_shape"] = analysis.step_shape(self.steps)
        first, later = (
            self.of_steps(lambda steps, c=chosen: top_probability(steps, c))
            for chosen in (lambda v: v["step"] == 1, lambda v: v["step"] > 1)
        )
        counts = (~np.isnan(self.steps[:, :, 0])).sum(axis=0)
        spiky = "at least 0.8"
        yield self.state(
            "Spikiness: mean largest probability at the first step",
            "nearly all mass (figure)",
            spiky,
            first,
            0.8,
            sum(counts[:1]),
        )
        yield self.state(
            "Sequential spikiness: the same at later steps",
            "spikes again at each step (figure)",
            spiky,
            later,
            0.8,
            sum(counts[1:]),
        )
        stopping = self.of_steps(last_against_intermediate)
        yield self.state(
            "Stopping: last steps look like intermediate ones (difference of the mean largest probability)",
            "alike (figure)",
            "at most 0.1",
            stopping,
            0.1,
            (counts[:-1] > 0).any() * sum(counts[1:]),
            at_most=True,
        )

    def ranking(self):
        """Table 4."""
        self.tables["second_ranked"] = analysis.second_ranked(self.steps)
        self.tables["early_probability"] = analysis.early_probability(self.steps)
        n = sum(self.tables["second_ranked"]["transitions"])
        yield self.state(
            "Relative ranking: the label ranked second is not the next one",
            "48.1-69.2 % (SemEval), 22.2-49.8 % (GoEmotions)",
            "at least 0.222, the paper's lowest",
            self.of_steps(lambda steps: second_ranked(steps, "not_next")),
            0.222,
            n,
        )
        yield self.state(
            "Relative ranking: where it is not next, it never comes",
            "78.4-90.4 % (SemEval), 91.3-99.3 % (GoEmotions), 89.9-100 % (MFRC), 56.8-86.1 % (Boxes)",
            "at least 0.5: mostly",
            self.of_steps(lambda steps: second_ranked(steps, "never_generated")),
            0.5,
            n,
        )

    def accuracy(self):
        """Figure 5."""
        self.tables["accuracy_by_step"] = analysis.accuracy_by_step(self.steps, self.H)
        self.tables["answer_lengths"] = analysis.answer_lengths(self.steps)
        difference = OfRows(lambda rows: first_minus_second(self.steps[rows], self.H[rows]), len(self.steps))
        yield self.state(
            "The first label is right more often than the second (difference of their accuracies)",
            "above 0 (Figure 5)",
            "at least 0",
            difference,
            0.0,
            max(self.tables["accuracy_by_step"]["documents"], default=0),
        )

    def sweep(self):
        """Figure 6, on fewer documents."""
        found = analysis.multilabel_share(
            self.make(StepwiseExtractor),
            self.rest.texts,
            self.rest.H,
            self.X[: self.args.sweep],
            shares=SHARES,
            shots=self.args.shots,
            random_state=0,
        )
        self.tables["multilabel_share"] = found
        low, high = found["share_of_answers"][0], found["share_of_answers"][-1]
        error = 1.96 * np.sqrt((low * (1 - low) + high * (1 - high)) / found["documents"][0])
        yield self.state(
            "Answers with several labels follow such demonstrations (share with all of them minus share with none)",
            "above 0, about in proportion (Figure 6)",
            "at least 0.1",
            high - low,
            0.1,
            found["documents"][0],
            interval=[round(float(high - low + sign * error), 4) for sign in (-1, 1)],
        )

    def orders(self):
        """Table 7, on fewer documents."""
        n, names = self.args.orders, self.labels
        random = [names[k] for k in np.random.default_rng(0).permutation(len(names))]
        prompts = {
            "alphabetical": names,
            "random": random,
            "reverse": names[::-1],
        }
        steps, rows = {}, []
        for name, order in prompts.items():
            steps[name] = self.make(StepwiseExtractor, label_order=order).fit().transform(self.X[:n])
            found = analysis.answer_order(steps[name], names, order)
            shares = dict(zip(found["order"], found["share"], strict=True))
            rows.append((name, found["answers"][0], shares["alphabetical"], shares["prompt"], found["by_chance"][0]))
        columns = ("prompt order", "answers", "alphabetical", "as the prompt", "by chance")
        self.tables["answer_order"] = {name: [row[k] for row in rows] for k, name in enumerate(columns)}

        def share(prompt, order, chosen):
            return share_in_order(steps[prompt][chosen], names, order, prompts[prompt])

        n = len(steps["reverse"])
        answers = min(self.tables["answer_order"]["answers"][k] for k in (0, 2))
        yield from self.order_findings(share, n, answers)

    def order_findings(self, share, n, answers):
        """Say whether answers follow the prompt."""
        yield self.state(
            "Label order: an alphabetical prompt makes answers alphabetical (share, minus that with a reverse prompt)",
            "0.964 - 0.159 = 0.805",
            "at least 0.1",
            OfRows(lambda r: share("alphabetical", "alphabetical", r) - share("reverse", "alphabetical", r), n),
            0.1,
            answers,
        )
        yield self.state(
            "Label order: a reverse prompt makes answers reverse (share, minus that of alphabetical ones)",
            "0.719 - 0.159 = 0.560",
            "at least 0.1",
            OfRows(lambda r: share("reverse", "prompt", r) - share("reverse", "alphabetical", r), n),
            0.1,
            answers,
        )

    def probes(self):
        """Figure 7."""
        hidden = self.make(HiddenStateExtractor).fit().transform(self.X)
        found = analysis.probe_own_labels(hidden, self.steps, self.H)
        self.tables["probe_own_labels"] = found
        gold, own, later = (column(found, "auc", target=target)[0] for target in ("gold", "pred", "pred 2+"))
        for what, auc in (("gold labels", gold), ("the model's own labels", own)):
            name = f"Probes on the first label's hidden state know {what} (AUC)"
            yield self.state(name, "well (Figure 7)", "at least 0.7", auc, 0.7, len(hidden))
        yield self.state(
            "Probes know later labels worse than all own ones (difference of the AUCs)",
            "later ones badly (Figure 7)",
            "at least 0.05",
            own - later,
            0.05,
            column(found, "positives", target="pred 2+")[0],
        )

    def attention(self):
        """Table 6, on fewer documents."""
        texts = self.X[: self.args.attention]
        extractor = self.make(StepwiseExtractor).fit()
        found = analysis.attention_to_labels(extractor, texts)
        self.tables["attention_to_labels"] = means_by_target(found)
        looks = {target: {} for target in set(found["target"])}
        for document, target, value in zip(found["document"], found["target"], found["per_token"], strict=True):
            looks[target].setdefault(document, []).append(value)
        ratio = OfRows(lambda rows: attention_ratio(looks, rows) if looks else np.nan, len(texts))
        yield self.state(
            "Attention of later labels: a token of an earlier label over one of the input (ratio)",
            "about ten times (Table 6)",
            "at least 3.16, nearer to ten times than to once",
            ratio,
            ORDER_OF_MAGNITUDE,
            sum(len(values) for values in looks.get("input", {}).values()),
        )


def plain(value):
    """Replace NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def markdown(result, args):
    """Write the findings, then the tables behind them."""
    rows = [
        (
            f["finding"],
            f["paper"],
            written(f["value"]) + bounds(f["interval"]),
            str(f["n"]),
            f["rule"],
            f"**{f['verdict']}**",
        )
        for f in result["findings"]
    ]
    lines = [
        f"# How {result['model']} answers {result['data']}: findings of the paper's section 4",
        "",
        f"    {result['command']}",
        "",
        about(result, args),
        "",
        *table(["finding", "paper", "here", "n", "rule", "verdict"], rows),
        "",
        f"![Figures of the findings]({file_name(args)}.png)",
        *(["", words] if (words := figure.not_drawn(result["tables"])) else []),
    ]
    for name, found in result["tables"].items():
        values = zip(*([written(v) for v in column] for column in found.values()), strict=True)
        lines += ["", f"## {TITLES[name]}", "", *table(list(found), list(values))]
    return lines


def about(result, args):
    """Say in words what was measured."""
    parts = [
        f"{result['n_test']} documents; labels: {', '.join(result['labels'])}.",
        *result["notes"],
        f"{result['shots']} demonstrations, {args.several:.0%} of them with several labels as far as there are such "
        f"(the paper: half), mode {result['mode']!r}. Figure 6 on {args.sweep} documents, Table 7 on {args.orders}, "
        f"Table 6 on {args.attention}.",
        "In brackets: 95 % bootstrap intervals over documents (Figure 6: normal approximation; probes: none). A "
        "finding holds where the whole interval keeps to the rule, does not hold where none of it does, and is unclear "
        f"between; with n below {ENOUGH} nothing is said. The paper's models have 8 to 70 billion parameters.",
        f"{result['machine']}, {result['date']}.",
    ]
    return " ".join(parts)


def bounds(interval):
    """Write an interval."""
    return "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"


def written(value):
    """Write a cell."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main(sys.argv[1:])

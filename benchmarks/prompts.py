"""Which form of prompt: mode, answer format and instruction, with and without demonstrations, on the same documents.

    python -m benchmarks.prompts --data stackoverflow_emotions --model model.gguf --name SmolLM2-135M --test 100

The default read-out is scored; differences to the default form come with paired bootstrap intervals over documents.
Rows are saved one by one, and answers kept in a cache. Writes prompts-DATA-NAME.json and .md to --out; with --report
the table over all runs in --out instead, prompts.md.
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np

from benchmarks._bench import (
    SINGLE,
    Bench,
    command_of,
    compared_cells,
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
from benchmarks._scores import TITLES, better_and_worse, compare
from skmlmc import GGUFClassifier, PromptTemplate
from skmlmc._models.files import resolve_model
from skmlmc._models.loaded import load_vocabulary

MODES, FORMATS = ("chat", "plain"), ("json", "list")
INSTRUCTIONS = {"the default": None, "short": "Which of these {wording} fit the text? {labels}", "labels": "{labels}"}


def main(argv=None):
    if wrote_report(argv, "prompts", report):
        return
    parser = make_parser("prompts", __doc__)
    args = parser.parse_args(argv)
    bench = Prompts(args)
    path = args.out / f"{stem('prompts', args)}.json"
    result = {"command": command_of(parser, args), **bench.facts(), "settings": settings_of(args), "rows": []}
    before = read_json(path)
    done = {form(row): row for row in before.get("rows", []) if before["settings"] == result["settings"]}
    for shots, instruction, mode, answer_format in bench.forms():
        known = done.get((shots, instruction, mode, answer_format))
        result["rows"].append(known or bench.row(shots, instruction, mode, answer_format))
        write_json(path, result)
        print(result["rows"][-1], flush=True)
    write_page(path, markdown(result))


def form(row):
    """Say what a row is about."""
    return row["shots"], row["instruction"], row["mode"], row["format"]


class Prompts(Bench):
    """Rows of the table, each a form of the prompt."""

    def __init__(self, args):
        super().__init__(args)
        chat = load_vocabulary(resolve_model(self.make(GGUFClassifier).model)).chat_template
        self.modes = MODES if chat else ("plain",)

    def forms(self):
        """Every form, the default one first; other instructions in plain text alone."""
        for shots in (0, self.args.shots):
            yield from ((shots, "the default", *how) for how in product(self.modes, FORMATS))
            yield from ((shots, name, "plain", "json") for name in INSTRUCTIONS if name != "the default")

    def row(self, shots, instruction, mode, answer_format):
        """Score one form."""
        usual = "the default", self.modes[0], FORMATS[0]
        found, default = (self.answers(shots, *how) for how in ((instruction, mode, answer_format), usual))
        return {
            "shots": shots,
            "instruction": instruction,
            "mode": mode,
            "format": answer_format,
            "beginning_mass": float(found.beginning_mass),
            "label_mass": float(np.median(found.label_mass)),
            **compare(self.test.H, found.proba, default.proba, self.single),
        }

    def answers(self, shots, instruction, mode, answer_format):
        """Ask for the test documents' answers, or find them in the cache."""
        wording = {"wording": self.args.wording or self.source.wording, "mode": mode, "answer_format": answer_format}
        text = INSTRUCTIONS[instruction] or (SINGLE if self.single else None)
        prompt = PromptTemplate(**wording, **({} if text is None else {"instruction": text}))
        clf = self.make(GGUFClassifier, prompt=prompt, demonstrations=self.demonstrations if shots else []).fit()
        return clf.diagnose(list(self.test.texts))


def markdown(result):
    """Write the table, with the command that makes it on top."""
    header = ["demonstrations", "instruction", "mode", "format", "beginning", "labels"]
    header += [cell for title in TITLES.values() for cell in (title, "minus the default's")]
    rows = []
    for row in result["rows"]:
        cells = [str(row["shots"]), row["instruction"], row["mode"], row["format"]]
        cells += [f"{row['beginning_mass']:.1g}", f"{row['label_mass']:.2g}"]
        rows.append([*cells, *compared_cells(row)])
    return [
        f"# Forms of the prompt: {result['model']} on {result['data']}",
        "",
        f"    {result['command']}",
        "",
        f"{result['n_test']} documents, the default read-out. Beginning: probability that the model begins its answer "
        "by itself as the format has it; labels: median probability of the labels' tokens at the first step. "
        "Differences to the first row with as many demonstrations, 95 % intervals over documents. "
        f"{result['machine']}, {result['date']}.",
        "",
        *table(header, rows),
    ]


def report(folder):
    """Count over all runs how often a form is better and worse than the default beyond the interval."""
    runs = read_runs(folder, "prompts")
    forms = {}
    for row in (row for run in runs for row in run["rows"]):
        forms.setdefault(form(row), []).append(row)
    runs_said = ", ".join(f"{run['data']} with {run['model']} ({run['n_test']})" for run in runs)
    rows = [
        [str(shots), *rest, *("{} / {}".format(*better_and_worse(found, name)) for name in TITLES)]
        for (shots, *rest), found in forms.items()
    ]
    return [
        "# Forms of the prompt, over data sets and models",
        "",
        "    python -m benchmarks.prompts --report",
        "",
        f"In how many of {len(runs)} runs a form is better / worse than the default (JSON, chat where the model has a "
        f"template) beyond the 95 % interval of the difference over documents: {runs_said}.",
        "",
        *table(["demonstrations", "instruction", "mode", "format", *TITLES.values()], rows),
    ]


if __name__ == "__main__":
    main(sys.argv[1:])

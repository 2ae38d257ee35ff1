"""Which findings of the paper's section 4 hold where: one page over the results of benchmarks.findings.

    python -m benchmarks.findings_report

Reads findings-*.json in --out and writes findings.md there: a table of verdicts for each kind of demonstrations.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from benchmarks._bench import new_parser, read_json, table
from benchmarks.findings import PAPER_SHARE, written

WORDS = {"holds": "**holds**", "does not hold": "no"}


def main(argv=None):
    parser = new_parser("findings_report", __doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    results = [read_json(path) | {"page": path.stem} for path in sorted(args.out.glob("findings-*.json"))]
    if not results:
        parser.error(f"--out {args.out} holds no findings-*.json; python -m benchmarks.findings writes them")
    (args.out / "findings.md").write_text("\n".join(report(results)) + "\n", encoding="utf-8")


def report(results):
    """Write the page: a section for each share of demonstrations with several labels, the most first."""
    lines = [
        "# Findings of the paper's section 4, over data sets and models",
        "",
        "    python -m benchmarks.findings_report",
        "",
        "Each finding is a number with a rule, in the pages that the columns name. It holds where the whole 95 % "
        "interval keeps to the rule, does not (no) where none of it does, and is unclear between. A dash: nothing is "
        "said, since fewer than 20 answers have the labels that it is about, or all answers are alike. Small models "
        "often answer with one label after demonstrations of which half have several, as the paper's do; so they are "
        "asked with demonstrations that all have several too.",
    ]
    shares = sorted({result["settings"]["several"] for result in results}, reverse=True)
    for share in shares:
        chosen = [result for result in results if result["settings"]["several"] == share]
        note = ", the paper's" if share == PAPER_SHARE else ""
        lines += ["", f"## {share:.0%} of the demonstrations have several labels{note}", "", *verdicts(chosen)]
    return lines


def verdicts(results):
    """Write a table: a row a finding, how often it holds, and a column a data set and model."""
    heads = [f"[{r['data']}, {r['model']}]({r['page']}.md) ({r['n_test']})" for r in results]
    rows = []
    for k, one in enumerate(results[0]["findings"]):
        found = [result["findings"][k] for result in results]
        counts = Counter(f["verdict"] for f in found)
        judged = sum(n for verdict, n in counts.items() if said(verdict))
        rows.append([one["finding"], f"{counts['holds']} of {judged}", *map(cell, found)])
    return table(["finding", "holds in", *heads], rows)


def said(verdict):
    """Whether it is a verdict at all."""
    return verdict in ("holds", "does not hold", "unclear")


def cell(found):
    """Write one verdict with its number."""
    verdict = found["verdict"]
    return f"{WORDS.get(verdict, verdict)}, {written(found['value'])}" if said(verdict) else "-"


if __name__ == "__main__":
    main(sys.argv[1:])

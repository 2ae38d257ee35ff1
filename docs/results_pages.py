"""Write the results' pages: those of benchmarks/results as they are, and a table of all of them.

The handbook's build calls this. Each page there begins with its title and the command that made it; machine and date
stand in its text or in the JSON file beside it. A new page is found by itself.
"""

import json
import re
import shutil
import subprocess
from typing import NamedTuple

# Kinds of pages by how their names begin, in the order of the table; others follow under the last title.
KINDS = {
    "paper": "Methods beside each other, as in the paper",
    "curves": "How many documents must be annotated",
    "lewidi": "On the test sets of shared tasks",
    "finetune": "Fine-tuning",
    "findings": "How models answer",
    "label_tokens": "What a label's probability is read from",
    "prompts": "Forms of the prompt",
    "options": "Options on and off",
    "nearest": "Demonstrations near the document",
    "long_documents": "Long documents",
    "selective": "Thresholds and abstaining",
    "thresholds": "Thresholds and abstaining",
    "speed": "Speed",
    "first-answer": "Speed",
    "scaling": "Speed",
    "cores": "Speed",
    "busy": "Speed",
    "tuning": "Speed",
    "architectures": "Models",
    "models": "Models",
}
OTHERS = "Others"
DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")
MACHINE = re.compile(r"\b(?:x86_64|aarch64|arm64)[^.;|\n]*?(?:processors?|threads?|Linux|GPU[^.;,\n]*)(?=[,.; ])")


class Page(NamedTuple):
    """What the table says of a page."""

    name: str
    title: str
    command: str
    machine: str
    date: str
    figure: bool


def kind_of(name):
    """Title of the group that a page belongs to; the longest beginning counts."""
    found = [begin for begin in KINDS if name == begin or re.match(rf"{begin}[-_]", name)]
    return KINDS[max(found, key=len)] if found else OTHERS


def committed(path):
    """Date of the last change of a file, where the repository has its history; else nothing."""
    run = subprocess.run(
        ["git", "log", "-1", "--format=%cs", "--", path.name], cwd=path.parent, capture_output=True, text=True
    )
    return run.stdout.strip() if run.returncode == 0 else ""


def machines_of_runs(path):
    """Return the machines of the runs that a page over several sums up: their files' names begin with its name."""
    runs = [json.loads(run.read_text(encoding="utf-8")) for run in sorted(path.parent.glob(f"{path.stem}-*.json"))]
    return "; ".join(dict.fromkeys(str(run["machine"]) for run in runs if "machine" in run))


def read_page(path):
    """Return what is known of a page, from its text, the JSON file of the same name, and the repository's history."""
    text = path.read_text(encoding="utf-8")
    beside = path.with_suffix(".json")
    known = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    command = re.search(r"^    (python -m .+)$|`(python -m [^`]+)`", text, re.M)
    machine = str(known.get("machine", "")) or next(iter(MACHINE.findall(text)), "") or machines_of_runs(path)
    dates = DATE.findall(str(known.get("date", "")) + machine) or DATE.findall(text) or [committed(path)]
    return Page(
        path.stem,
        text.splitlines()[0].lstrip("# "),
        (command[1] or command[2]) if command else str(known.get("command", "")),
        DATE.sub("", machine).rstrip(", "),
        max(dates),
        path.with_suffix(".png").is_file(),
    )


def page_text(path):
    """Return a page's text for the handbook: its command as a block of its own, its figure at the end."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^    (python -m .+)$", r"```sh\n\1\n```", text, flags=re.M)
    figure = path.with_suffix(".png").name
    if path.with_suffix(".png").is_file() and f"]({figure})" not in text:
        text += f"\n![{text.splitlines()[0].lstrip('# ')}]({figure})\n"
    return f"---\nhtml_theme.sidebar_secondary.remove: true\n---\n{text}"


def table(pages):
    """Return the lines of one group's table."""
    lines = ["| page | command | machine | date |", "| --- | --- | --- | --- |"]
    for page in pages:
        command = f"`{page.command}`" if page.command else ""
        picture = " (with a figure)" if page.figure else ""
        lines.append(f"| [{page.title}]({page.name}.md){picture} | {command} | {page.machine} | {page.date} |")
    return [*lines, ""]


def index(pages):
    """Return the text of the page that lists all others."""
    lines = [
        "---\nhtml_theme.sidebar_secondary.remove: true\n---",
        "# Results",
        "",
        "What was measured, as the commands beside it wrote it. Click on a column's head to sort a table by it.",
        "Each page begins with its command; the data come from their owners through the loaders of `skmlmc.datasets`.",
        "Where a page sums up others, the machine is theirs, and its date that of its last change.",
        "",
    ]
    groups = {}
    for page in pages:
        groups.setdefault(kind_of(page.name), []).append(page)
    titles = list(dict.fromkeys([*KINDS.values(), OTHERS]))
    for title in sorted(groups, key=titles.index):
        lines += [f"## {title}", "", *table(groups[title])]
    names = "\n".join(page.name for page in pages)
    return "\n".join([*lines, "```{toctree}", ":hidden:", ":maxdepth: 1", "", names, "```", ""])


def write(source, folder):
    """Write all pages, with their figures; what the source no longer has goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    paths = sorted(source.glob("*.md"))
    for path in paths:
        (folder / path.name).write_text(page_text(path), encoding="utf-8")
    for path in source.glob("*.png"):
        shutil.copy(path, folder)
    (folder / "index.md").write_text(index([read_page(path) for path in paths]), encoding="utf-8")

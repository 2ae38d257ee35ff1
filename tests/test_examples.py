"""The gallery: scripts in sphinx-gallery's form, all in the order of the handbook, run by the checks."""

import ast
import csv
import re
from pathlib import Path

import numpy as np
import pytest

from skmlmc.datasets import annotator_distribution

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
NAMES = [path.name for path in EXAMPLES]
MOST_LINES = 120


@pytest.fixture(params=EXAMPLES, ids=NAMES)
def source(request):
    return request.param.read_text(encoding="utf-8")


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


def test_begins_with_a_title(source):
    title, line, blank, *text = ast.get_docstring(ast.parse(source)).splitlines()
    assert title and line == "=" * len(title) and not blank and text


def test_cells_are_comments_and_headings_fit(source):
    cells = re.findall(r"^# %%\n((?:#.*\n)*)", source, re.MULTILINE)
    assert len(cells) >= 3 and source.count("%%") == len(cells)
    for cell in cells:
        lines = [line[2:] for line in cell.splitlines()]
        assert lines, "a cell begins with text"
        marks = [i for i, line in enumerate(lines) if re.fullmatch(r"([-=~])\1{2,}", line)]
        for i in marks:
            assert len(lines[i]) == len(lines[i - 1]), lines[i - 1]
            assert i == 1 or not lines[i - 2], f"a blank line goes before {lines[i - 1]!r}"


def test_shows_figures_once_and_last(source):
    *_, last = ast.parse(source).body
    assert ast.unparse(last) == "plt.show()" and source.count("plt.show()") == 1


def test_runs_anywhere(source):
    """Sphinx-gallery sets no ``__file__``; a reader's folder gets no files and the reader needs no network."""
    for word in ("__file__", "savefig", "hf:", "fetch_"):
        assert word not in source
    assert "memory=tempfile.mkdtemp()" in source or '"memory": tempfile.mkdtemp()' in source


def test_is_short(source):
    assert source.count("\n") <= MOST_LINES


def test_the_handbook_orders_every_example():
    conf = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    order = ast.literal_eval(re.search(r"^EXAMPLES = (\[.*?^\])", conf, re.M | re.S)[1])
    assert sorted(order) == NAMES


def test_the_checks_run_every_example():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    conf = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    assert re.search(r"^make -C docs clean\ntimeout \w+ make -C docs html$", script, re.M)
    (pattern,) = re.findall(r'"filename_pattern": r"(.+?)"', conf)
    assert [name for name in NAMES if re.search(pattern, name)] == NAMES
    assert '"abort_on_example_error": True' in conf and '"plot_gallery": "True"' in conf


def test_the_annotations_add_up_to_the_messages():
    with open(ROOT / "examples" / "messages.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with open(ROOT / "examples" / "annotations.csv", newline="", encoding="utf-8") as file:
        answers = [(int(r["message"]), r["reader"], r["labels"]) for r in csv.DictReader(file)]
    found = annotator_distribution([(i, who, labels.split("; ") if labels else []) for i, who, labels in answers])
    assert found.labels == header[1:] and found.documents == list(range(len(rows)))
    np.testing.assert_allclose(3 * found.soft, np.array([row[1:] for row in rows], dtype=float))

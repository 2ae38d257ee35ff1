"""The page about the package's rooms shows what is there."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DRAW = runpy.run_path(str(ROOT / "docs" / "draw_rooms.py"))


def test_the_picture_is_that_of_the_imports():
    assert DRAW["page_with"](DRAW["draw"](), PAGE) == PAGE, "run python docs/draw_rooms.py"


def test_the_page_is_short():
    assert PAGE.count("\n") <= 120


@pytest.mark.parametrize(("path", "name"), sorted(set(re.findall(r"`([\w./]*/[\w./]*)`(?: `([\w.]+)`)?", PAGE))))
def test_what_the_page_names_is_there(path, name):
    assert (ROOT / path).exists()
    for part in filter(None, name.split(".")):
        assert re.search(rf"\b{part}\b", (ROOT / path).read_text(encoding="utf-8"))

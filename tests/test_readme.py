"""Python code of the README and the handbook runs as written, on the embedded model or, by default, a tiny one."""

import re
import textwrap
from pathlib import Path

import pytest
from campaigns import in_campaigns

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/models.md")}
PYTHON = re.compile(r"^ *```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
BLOCKS = {name: [textwrap.dedent(code) for code in PYTHON.findall(page)] for name, page in PAGES.items()}
# What a block needs beyond this repository stands in its first line, for the reader and for this test.
NEEDS = ("# needs a GGUF file of your own", "# needs access to the Hugging Face hub")
RUNNABLE = {name: [code for code in blocks if not code.startswith("# needs ")] for name, blocks in BLOCKS.items()}


def test_blocks_left_out_say_why():
    left_out = {code.splitlines()[0] for name in PAGES for code in BLOCKS[name] if code not in RUNNABLE[name]}
    assert left_out == set(NEEDS)
    assert all(len(blocks) >= 4 for blocks in RUNNABLE.values())


@pytest.mark.parametrize(("page", "code"), [(name, code) for name in PAGES for code in BLOCKS[name]])
def test_block_is_python(page, code):
    assert compile(code, page, "exec")


MODELS = [
    "tiny_chat_model",
    in_campaigns(pytest.param("embedded_model", marks=pytest.mark.model)),
]


def names_after(page):
    """Run the blocks of a page, and return the names that they leave."""
    names = {}
    for code in RUNNABLE[page]:
        exec(compile(code, page, "exec"), names)
    return names


@pytest.fixture(params=MODELS)
def _at_the_root(request, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SKMLMC_MODEL", request.getfixturevalue(request.param))


@pytest.mark.usefixtures("_at_the_root")
def test_blocks_run():
    names = names_after("README.md")
    assert names["proba"].shape == (16, 6)
    assert names["steps"].ndim == 3 and names["steps"].shape[2] == 7
    assert names["search"].best_score_ < 0


@pytest.mark.usefixtures("_at_the_root")
def test_blocks_of_the_handbook_run():
    assert names_after("docs/models.md")["proba"].shape == (1, 3)


LINK = re.compile(r"\]\(((?!https?:|#)[^)]+)\)")


@pytest.mark.parametrize(("page", "path"), [(name, path) for name in PAGES for path in LINK.findall(PAGES[name])])
def test_linked_files_exist(page, path):
    assert (ROOT / page).parent.joinpath(path.partition("#")[0]).is_file()

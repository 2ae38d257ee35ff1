"""The README's Python code runs as written, in order, on the embedded model or, by default, a tiny one."""

import re
import textwrap
from pathlib import Path

import pytest
from campaigns import in_campaigns

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(code) for code in re.findall(r"^ *```python\n(.*?)^ *```$", README, re.DOTALL | re.MULTILINE)]
# What a block needs beyond this repository stands in its first line, for the reader and for this test.
NEEDS = ("# needs a GGUF file of your own", "# needs access to the Hugging Face hub")
RUNNABLE = [code for code in BLOCKS if not code.startswith("# needs ")]


def test_blocks_left_out_say_why():
    assert {code.splitlines()[0] for code in BLOCKS if code not in RUNNABLE} == set(NEEDS)
    assert len(RUNNABLE) >= 5


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_block_is_python(code):
    assert compile(code, "README.md", "exec")


MODELS = [
    "tiny_chat_model",
    in_campaigns(pytest.param("embedded_model", marks=pytest.mark.model)),
]


@pytest.mark.parametrize("model", MODELS)
def test_blocks_run(model, request, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SKMLMC_MODEL", request.getfixturevalue(model))
    names = {}
    for code in RUNNABLE:
        exec(compile(code, "README.md", "exec"), names)
    assert names["proba"].shape == (16, 6)
    assert names["steps"].ndim == 3 and names["steps"].shape[2] == 7
    assert names["search"].best_score_ < 0


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!https?:|#)[^)]+)\)", README))
def test_linked_files_exist(path):
    assert (ROOT / path).is_file()

"""The rules of the house, read off the source: rooms stand in one order, and functions fit a screen."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skmlmc"
FILES = {path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}

# A room imports only from rooms before it; what stands before _engine needs no model.
ROOMS = (
    "_version _utils metrics base align calibrate datasets prompts _engine _cache _models _inference extract "
    "classifier finetune comparison streaming analysis plots __init__"
).split()


def room_of(path):
    return path.with_suffix("").parts[0]


def imported(path):
    """Dotted names of all modules that a file imports, wherever the import stands; those of this package absolute."""
    folder = ("skmlmc", *path.parent.parts)
    for node in ast.walk(FILES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) - node.level + 1] if node.level else ()
            module = ".".join((*start, *filter(None, [node.module])))
            yield from [module] if module != "skmlmc" else (f"skmlmc.{alias.name}" for alias in node.names)


def body_lines(function):
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_every_file_stands_in_a_room():
    assert {room_of(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", sorted(FILES), ids=str)
def test_imports_come_from_rooms_before(path):
    own = room_of(path)
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("skmlmc.")}
    late = [room for room in rooms - {own} if ROOMS.index(room) > ROOMS.index(own)]
    assert late == [], f"{path} imports from {late}, which come later in {ROOMS}"


def test_only_the_engine_knows_llama_cpp():
    knows = {room_of(path) for path in FILES if any(name.split(".")[0] == "llama_cpp" for name in imported(path))}
    assert knows <= {"_engine"}


def test_warnings_are_raised_in_one_place():
    """The place that finds the user's line for them."""
    texts = {path: (PACKAGE / path).read_text(encoding="utf-8") for path in FILES}
    assert [path.as_posix() for path, text in texts.items() if "warnings.warn(" in text] == ["_utils/warning.py"]


@pytest.mark.parametrize("path", sorted(FILES), ids=str)
def test_functions_fit_a_screen(path):
    functions = [n for n in ast.walk(FILES[path]) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {f.name: n for f in functions if (n := body_lines(f)) > 45} == {}


def test_importing_the_package_loads_nothing_heavy():
    # A count of seconds would fail on a busy machine. What costs seconds is a library that scikit-learn does not load,
    # so none may come with the package but the light tqdm.
    code = """
import sys
import sklearn.metrics, sklearn.model_selection, sklearn.pipeline
before = set(sys.modules)
import skmlmc
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - sys.stdlib_module_names))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    # "_loss" is how scikit-learn 1.7 names a compiled part of itself.
    assert set(run.stdout.split()) - {"tqdm", "sklearn", "scipy", "_loss"} == {"skmlmc"}


# Files that look into rooms other than their own folder's, by private names.
LOOK_INSIDE = {
    "inside.py": "what no user sees but is promised: tokens decoded, entries kept. The other tests ask here",
    "toy.py": "stands in for the engine in tests of several rooms, with the engine's own forest",
    "test_faults.py": "breaks the engine, the cache and model files in mid-call, and forges entries of the cache",
    "_inference/test_workers.py": "counts what the caller loads, and hands a worker another fingerprint",
    "_inference/test_compiled.py": "compares tokens with those of a layout's whole text, for real vocabularies",
    "analysis/test_attention.py": "checks what is counted at each token, which the tables only show in sum",
    "prompts/test_prompts.py": "layouts are made to become tokens: only these show a seam",
}


def private_rooms(path):
    """Rooms whose private modules or names a test imports, its own folder's left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        module = node.module if isinstance(node, ast.ImportFrom) else None
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        for parts in ([*(module or "").split("."), *name.split(".")] for name in names):
            inside = [part for part in parts if part]
            if inside[0] == "skmlmc" and inside[1:2] != [path.parent.name] and any(p[0] == "_" for p in inside[1:]):
                yield inside[1]


def test_few_tests_look_inside_other_rooms():
    tests = Path(__file__).parent
    found = {path.relative_to(tests).as_posix() for path in tests.rglob("*.py") if [*private_rooms(path)]}
    assert found == set(LOOK_INSIDE) and len(found) < 8

"""The rules of the house, read off the source: who may import whom, and how long things may grow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skmlmc"
MODULES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.glob("*.py"))}

# Room -> what it may import of this package; leaves first. A room knows nothing of those below it in this table, and
# the arithmetic (metrics, align, calibrate) reaches no engine on any way.
MAY_IMPORT = {
    "_arrays": set(),
    "_batch": set(),
    "_capacity": set(),
    "_labelled": set(),
    "_docs": set(),
    "_tap": set(),
    "_typing": set(),
    "_prefix": set(),
    "_records": set(),
    "_sqlite_file": set(),
    "_versions": set(),
    "_vocabulary": set(),
    "_workers": set(),
    "_validation": {"_arrays"},
    "_answers": {"_prefix"},
    "_cache": {"_records", "_sqlite_file"},
    "_settings": set(),
    "_engine": {"_batch", "_capacity", "_prefix", "_settings", "_tap", "_vocabulary"},
    "_gguf_header": set(),
    "_gguf_checks": {"_gguf_header"},
    "_models": {"_engine", "_gguf_checks", "_vocabulary"},
    "_identity": {"_models"},
    "_beam": {"_answers", "_prefix"},
    "_questions": {"_answers", "_prefix"},
    "_watch": {"_gguf_checks", "_identity", "_models"},
    "_run": {"_cache", "_engine", "_identity", "_models", "_prefix", "_settings", "_validation", "_watch", "_workers"},
    "_steps": {"_answers", "_prefix"},
    "metrics": {"_validation"},
    "_base": {"_arrays", "_labelled", "_validation", "_versions", "metrics"},
    "_alignment": {"_validation"},
    "align": {"_alignment", "_base", "_labelled", "_typing", "_validation"},
    "_scaling": set(),
    "_fitted": {"_arrays", "_base", "_labelled", "_scaling", "_typing", "_validation"},
    "calibrate": {"_fitted", "_scaling", "_typing", "_validation", "align"},
    "prompts": {"_validation"},
    "_chat_template": set(),
    "_layout": {"_answers", "_chat_template", "prompts"},
    "_tasks": {"_beam", "_layout", "_questions", "_records", "_steps", "prompts"},
    "_prompted": {"_docs", "_identity", "_run", "_validation", "_versions", "prompts"},
    "_extractor": {"_identity", "_labelled", "_prompted", "_run", "_typing", "_validation"},
    "extract": {"_extractor", "_prompted", "_tasks", "_typing", "_validation", "prompts"},
    "marginal": {"_base", "_extractor", "_prompted", "_tasks", "_typing", "_validation", "prompts"},
    "breakdown": {"_base", "_extractor", "_prompted", "_tasks", "_typing", "_validation", "prompts"},
    "contextual": {"_labelled", "_prompted", "_typing", "_validation", "_versions"},
    "classifier": {
        "_base",
        "_prompted",
        "_typing",
        "_validation",
        "align",
        "breakdown",
        "calibrate",
        "contextual",
        "extract",
        "marginal",
        "prompts",
    },
    "comparison": {"_base", "_models", "_validation", "classifier", "metrics"},
    "streaming": {"_identity", "_prompted", "_validation"},
    "_step_statistics": {"_alignment", "_validation"},
    "_answer_statistics": {"_alignment", "_step_statistics", "_validation"},
    "_probing": {"_alignment", "_answer_statistics", "_step_statistics", "_validation", "calibrate"},
    "_attention": {
        "_alignment",
        "_identity",
        "_prefix",
        "_records",
        "_run",
        "_step_statistics",
        "_tasks",
        "_validation",
        "extract",
    },
    "analysis": {"_answer_statistics", "_attention", "_probing", "_step_statistics"},
    "_canvas": set(),
    "_method_table": {"_validation", "metrics"},
    "_plotting": {"_alignment", "_arrays", "_base", "_validation", "metrics"},
    "_plot_distribution": {"_arrays", "_canvas", "_plotting", "_typing", "_validation", "metrics"},
    "_plot_reliability": {"_canvas", "_plotting", "_typing"},
    "_plot_spikiness": {"_canvas", "_plotting", "_step_statistics", "_typing", "_validation"},
    "_plot_steps": {"_canvas", "_plotting", "_typing", "_validation"},
    "plots": {
        "_canvas",
        "_method_table",
        "_plot_distribution",
        "_plot_reliability",
        "_plot_spikiness",
        "_plot_steps",
        "_typing",
        "classifier",
        "comparison",
    },
    "_annotators": {"_arrays", "_validation"},
    "_fetch": {"_docs"},
    "_corpora": {"_annotators", "_arrays"},
    "_corpora_reddit": {"_annotators", "_corpora", "_fetch", "_validation"},
    "_corpora_posts": {"_corpora", "_fetch"},
    "_corpora_abuse": {"_corpora", "_fetch", "_validation"},
    "_boxes": {"_annotators", "_corpora", "_validation"},
    "_splits": {"_validation"},
    "datasets": {
        "_annotators",
        "_boxes",
        "_corpora",
        "_corpora_abuse",
        "_corpora_posts",
        "_corpora_reddit",
        "_splits",
    },
}
ARITHMETIC = [
    "_prefix",
    "_cache",
    "metrics",
    "align",
    "calibrate",
    "_step_statistics",
    "_answer_statistics",
    "_probing",
    "_plotting",
    "_method_table",
    "datasets",
]


def imported(tree):
    """Dotted names of all modules that a module imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            if node.module == "skmlmc":
                yield from (f"skmlmc.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, "the package is flat: nothing lies two levels up"
            yield from [f"skmlmc.{node.module}"] if node.module else (f"skmlmc.{alias.name}" for alias in node.names)


def rooms_of(tree):
    """Names of this package's modules that a module imports."""
    names = (name.split(".") for name in imported(tree))
    return {name[1] for name in names if name[0] == "skmlmc" and len(name) > 1 and name[1] in MODULES}


def body_lines(function):
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_every_module_is_in_the_table():
    missing = set(MODULES) - {"__init__"} - set(MAY_IMPORT)
    assert not missing, f"say in MAY_IMPORT what these modules may import: {sorted(missing)}"


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"__init__"}))
def test_imports_stay_within_the_table(name):
    assert rooms_of(MODULES[name]) <= MAY_IMPORT[name]


@pytest.mark.parametrize("name", sorted(MAY_IMPORT))
def test_the_table_allows_no_more_than_is_used(name):
    assert MAY_IMPORT[name] <= rooms_of(MODULES[name])


def test_the_table_points_one_way():
    known = set()
    for name, needs in MAY_IMPORT.items():
        assert needs <= known, f"{name} may import {sorted(needs - known)}, which come later"
        known.add(name)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_reaches_no_engine(name):
    reached, left = set(), {name}
    while left:
        reached |= left
        left = set().union(*(MAY_IMPORT[room] for room in left)) - reached
    assert "_engine" not in reached


def test_only_the_engine_knows_llama_cpp():
    knows = {name for name, tree in MODULES.items() if any(m.split(".")[0] == "llama_cpp" for m in imported(tree))}
    assert knows <= {"_engine"}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_grows_too_long(name):
    n_lines = (PACKAGE / f"{name}.py").read_text(encoding="utf-8").count("\n")
    assert n_lines <= 420
    functions = [n for n in ast.walk(MODULES[name]) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
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


@pytest.mark.parametrize("library", ["llama_cpp", "matplotlib", "jinja2", "huggingface_hub"])
def test_importing_the_package_does_not_load(library):
    code = f"import sys, skmlmc; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0

"""Annotations: a strict user's script and the package itself pass mypy, and ``py.typed`` says that they count."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    cache = tmp_path_factory.mktemp("mypy")

    def run(*args):
        command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), "--no-error-summary", *args]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)

    return run


@pytest.mark.campaign
def test_the_package_passes(check):
    run = check()
    assert (run.returncode, run.stdout) == (0, ""), run.stdout + run.stderr


def test_a_strict_user_passes(check):
    # Silent: as for an installed package, errors inside it are not the user's.
    run = check("--strict", "--follow-imports=silent", "tests/typing_user.py")
    assert (run.returncode, run.stdout) == (0, ""), run.stdout + run.stderr


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("GGUFClassifier(shots='ten')", "arg-type"),
        ("GGUFClassifier().predict_proba(['a']).no_such_attribute", "attr-defined"),
        ("nll([[1]], [[1]], weight=1)", "call-arg"),
    ],
)
def test_a_mistake_is_found(check, tmp_path, line, error):
    script = tmp_path / "script.py"
    script.write_text(f"from skmlmc import GGUFClassifier\nfrom skmlmc.metrics import nll\n\n{line}\n")
    run = check("--strict", "--follow-imports=silent", str(script))
    assert run.returncode == 1 and f"[{error}]" in run.stdout


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "skmlmc" / "py.typed").is_file()

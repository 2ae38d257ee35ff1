"""What pyproject.toml promises about versions, and what the checks of the repository make of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CHECKS = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def oldest(*extras):
    command = [sys.executable, str(ROOT / ".ci" / "oldest.py"), *extras]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_every_dependency_has_a_lower_bound_and_no_upper_one():
    assert [
        re.sub(r"\[.*?\]|>=", lambda m: "==" if m[0] == ">=" else "", r) for r in PROJECT["dependencies"]
    ] == oldest()


def test_constraints_of_extras():
    assert set(oldest("test")) >= {*oldest(), "pandas==2.0", "dask==2024.1"}
    assert len(oldest("test", "demo")) == len({line.partition("==")[0] for line in oldest("test", "demo")})


def test_one_list_of_pythons():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={named[0]}" == f">={PYPROJECT['tool']['mypy']['python_version']}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + named[0].replace(".", "")
    assert re.search(r"^for minor in (.*); do$", CHECKS, re.M)[1].split() == named


def test_the_limits_of_the_checks_leave_them_time():
    pythons = 2  # those not tested whole
    minutes = 0
    for line in CHECKS.splitlines():
        times = pythons if "$other" in line else 1
        minutes += times * sum(map(int, re.findall(r"\btimeout (\d+)m ", line)))
    assert 60 < minutes < 90


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:tests|examples|\.ci)/[\w/]+\.py\b", CHECKS))))
def test_what_the_checks_run_is_there(path):
    assert (ROOT / path).is_file()


def test_importing_warns_of_nothing():
    code = "import skmlmc, skmlmc.analysis, skmlmc.datasets, skmlmc.streaming, skmlmc.plots"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stderr) == (0, "")

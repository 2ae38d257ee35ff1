"""How long llama.cpp's threads wait for each other is set while its library is loaded, unless the user has done so."""

import os
import re
import subprocess
import sys

import pytest

CODE = "import skmlmc._engine.model, os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"


def spins(**own):
    """Return how often GNU's OpenMP looks before a thread sleeps, and what the environment says afterwards."""
    env = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    env |= {"OMP_DISPLAY_ENV": "VERBOSE", **own}
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=env)
    found = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", run.stderr)
    if not found:
        pytest.skip("llama.cpp was not built with GNU's OpenMP")
    return found[-1], run.stdout.split()


def test_waits_are_short():
    assert spins() == ("1000", ["None", "None"])


def test_own_settings_are_kept():
    assert spins(GOMP_SPINCOUNT="77") == ("77", ["77", "None"])
    assert spins(OMP_WAIT_POLICY="active")[0] not in ("1000", "77")

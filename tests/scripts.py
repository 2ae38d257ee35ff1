"""Python code in a process of its own, for signals, forks and what else must not reach the tests' process."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


# A job in the background ignores interrupts, and so does what it starts.
PROLOGUE = """
import os, signal, sys
import numpy as np
from skmlmc import StepwiseExtractor
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.append("tests")
"""


def run_script(code, *args, timeout=60):
    code = PROLOGUE + textwrap.dedent(code)
    ignore = ["-W", "ignore"]
    return subprocess.run(
        [sys.executable, *ignore, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=timeout,
    )

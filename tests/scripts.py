"""Python code in a process of its own, for signals, forks and what else must not reach the tests' process."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_script(code, *args, timeout=60):
    code = "import sys, os\nimport numpy as np\nfrom skmlmc import StepwiseExtractor\n" + textwrap.dedent(code)
    ignore = ["-W", "ignore"]
    return subprocess.run(
        [sys.executable, *ignore, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=timeout,
    )

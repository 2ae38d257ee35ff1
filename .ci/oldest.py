"""Print pip constraints for the oldest versions that pyproject.toml allows.

    python .ci/oldest.py [EXTRA ...] > constraints.txt

One line a library, for the package's own dependencies and those of the extras that are named. What has no lower bound
is left to pip.
"""

import re
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pip brings the same parser with it
    from pip._vendor import tomli as tomllib

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def oldest(extras):
    """Yield ``name==version`` for every requirement with a lower bound."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *(r for extra in extras for r in project["optional-dependencies"][extra])]
    for requirement in requirements:
        if found := re.match(r"([\w.-]+)(?:\[[\w,.-]+\])?\s*>=\s*([\w.]+)", requirement):
            yield f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    print(*dict.fromkeys(oldest(sys.argv[1:])), sep="\n")

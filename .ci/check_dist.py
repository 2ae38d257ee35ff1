"""Check a built wheel and source distribution: exactly the files that belong there, and sound metadata.

python .ci/check_dist.py dist
"""

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def tracked(*paths):
    """Return the files of the repository, relative to its root."""
    run = subprocess.run(["git", "ls-files", "-z", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split("\0")) - {""}


def difference(what, found, expected):
    """Say what is missing and what is too much."""
    return [f"{what} lacks {name}" for name in sorted(expected - found)] + [
        f"{what} should not hold {name}" for name in sorted(found - expected)
    ]


def check_wheel(path):
    """Say what is wrong: the package and its metadata should be there, nothing else."""
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        (folder,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        about = {f"{folder}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt")}
        metadata = message_from_bytes(wheel.read(f"{folder}/METADATA"))
        kind = message_from_bytes(wheel.read(f"{folder}/WHEEL"))
    wrong = difference("the wheel", names, tracked("skmlmc") | about)
    for name, expected in (("Name", "skmlmc"), ("License-Expression", "BSD-3-Clause"), ("Requires-Python", ">=3.10")):
        if metadata[name] != expected:
            wrong.append(f"{name} is {metadata[name]!r}, expected {expected!r}")
    links = {link.partition(",")[0] for link in metadata.get_all("Project-URL", [])}
    wrong += difference("the metadata", links, {"Homepage", "Documentation", "Source", "Changelog", "Issues"})
    if not metadata.get_payload().startswith("# skmlmc"):
        wrong.append("the description is not the README")
    if kind["Tag"] != "py3-none-any":
        wrong.append(f"the wheel's tag is {kind['Tag']!r}, expected 'py3-none-any'")
    return wrong


def check_sdist(path):
    """Say what is wrong: it should be the repository, so that its tests run where it is unpacked."""
    with tarfile.open(path) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    made = {name for name in names if name.startswith("skmlmc.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    return difference("the source distribution", names - made, tracked())


def main(folder):
    """Check what one build left in a folder; exit with the list of what is wrong."""
    (wheel,), (sdist,) = Path(folder).glob("*.whl"), Path(folder).glob("*.tar.gz")
    wrong = check_wheel(wheel) + check_sdist(sdist)
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{wheel.name}: {wheel.stat().st_size} bytes; {sdist.name}: {sdist.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])

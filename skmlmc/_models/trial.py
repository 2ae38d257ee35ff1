"""A trial run of each model file, once, in a process of its own: llama.cpp ends the process at many a damaged file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from multiprocessing.spawn import get_executable
from pathlib import Path

from .._utils.warning import warn
from .._version import __version__
from .files import embedder, file_state
from .identity import model_fingerprint
from .soundness import WHAT_TO_DO, part_paths

SWITCH = "SKMLMC_TRIAL"
OFF = ("0", "off", "no", "false")
# What a trial may take of the processor and on the clock, and how much more for each byte of the file: some ten times
# what a sound one needs.
CPU_SECONDS, CPU_BYTES_A_SECOND = 20, 50_000_000
SECONDS, BYTES_A_SECOND = 120, 10_000_000

_passed: set[tuple] = set()  # states of files


def check_by_trial(path: Path) -> None:
    """Raise ValueError where loading a model file, or decoding with it, ends the process or never ends.

    What passes is remembered by this process, and in the user's cache folder by content, build and processor.
    """
    state = file_state(path)
    if state in _passed or os.environ.get(SWITCH, "").lower() in OFF:
        return
    mark = _mark(path)
    if mark is None or not os.path.exists(mark):
        if not _run(path) or file_state(path) != state:  # another file meanwhile
            return
        with suppress(OSError):  # a folder that cannot be written: other processes try again
            if mark is not None:
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
    _passed.add(state)


def _mark(path):
    """Path of the empty file that says that a model passed, or None where there is no folder for it."""
    from .._engine.model import build

    content = (__version__, *build(), platform.machine(), model_fingerprint(path).hex())
    name = hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()
    with suppress(RuntimeError):  # nobody's home
        return _cache_folder() / "sound-models" / name
    return None


def _cache_folder():
    home = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(home):
        return Path(home) / "skmlmc"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "skmlmc" / "Cache"
    if not Path.home().is_absolute():
        raise RuntimeError("nobody's home")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "skmlmc"


def _run(path):
    """Whether a trial passed; False where none was possible, or where llama.cpp refuses the file by itself."""
    from .._engine.trial import BEGUN, REFUSED, SOUND

    n_bytes = sum(os.path.getsize(part) for part in part_paths(path))
    seconds, limit = CPU_SECONDS + n_bytes // CPU_BYTES_A_SECOND, SECONDS + n_bytes // BYTES_A_SECOND
    try:
        told = {"path": os.path.abspath(path), "n_bytes": n_bytes, "seconds": seconds}
        ended = _start({**told, "embeds": embedder(path) is not None}, limit)
    except subprocess.TimeoutExpired:
        raise _error(path, f"was not done after {limit} seconds") from None
    except OSError as error:
        _warn_of_no_trial(str(error))
        return False
    said, complaints = ended.stdout.decode(errors="replace").split(), ended.stderr.decode(errors="replace")
    if BEGUN not in said:
        _warn_of_no_trial((complaints.strip().splitlines() or ["it said nothing"])[-1])
        return False
    if said[-1] not in (SOUND, REFUSED):
        raise _error(path, _how_it_ended(ended.returncode, complaints, seconds))
    return said[-1] == SOUND


def _start(told, limit):
    """Run the script of the trial until it ends; OSError where there is no interpreter to run it."""
    from .._engine import model, trial

    executable = os.fsdecode(get_executable() or "")
    if getattr(sys, "frozen", False) or not re.search("python|pypy", Path(executable).name.lower()):
        raise OSError(f"{executable!r} is no Python (multiprocessing.set_executable names another one)")
    paths = [place for place in sys.path if isinstance(place, str)]
    told |= {"paths": paths, "llama_cpp": str(Path(model.C.__file__).parent)}
    return subprocess.run(
        [executable, "-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", trial.__file__],
        input=json.dumps(told).encode(),
        capture_output=True,
        timeout=limit,
        env={**os.environ, "GGML_NO_BACKTRACE": "1", "OPENBLAS_NUM_THREADS": "1"},
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


@cache
def _warn_of_no_trial(why):
    warn(
        f"Model files are loaded without a trial run in another process, which could not be started: {why}. A damaged "
        f"file may end this process. {SWITCH}=off in the environment says that this is known.",
        RuntimeWarning,
    )


def _how_it_ended(code, complaints, seconds):
    """Say how a trial ended: llama.cpp's last words and the signal."""
    if code == -getattr(signal, "SIGXCPU", 0):
        return f"was not done after {seconds} seconds of the processor"
    lines = [re.sub(r"\S*[/\\]", "", line).strip() for line in complaints.splitlines() if line.strip()]
    words = [line for line in lines if re.search("ASSERT|error|what\\(\\)|abort", line, re.IGNORECASE)] or lines
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"exit code {code}"
    memory = ", as the system does where memory runs out" if name == "SIGKILL" else ""
    return f"ended its process: {words[-1]} ({name})" if words else f"ended its process: {name}{memory}"


def _error(path, what):
    return ValueError(
        f"A trial run of {str(path)!r} with llama.cpp {what}. Expected a sound file of a model that this version of "
        f"llama-cpp-python can run: {WHAT_TO_DO[0].lower()}{WHAT_TO_DO[1:-1]}, or upgrade llama-cpp-python. With "
        f"{SWITCH}=off in the environment it is loaded all the same, and may end the process."
    )

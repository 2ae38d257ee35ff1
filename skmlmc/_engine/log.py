"""What llama.cpp says: kept for error messages, shown where it is asked for, and left to others where it is theirs.

llama.cpp has one log for a whole process, with one callback. Whoever set it before, another library or llama_cpp
itself, goes on being called.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_void_p, cast

import llama_cpp as C  # noqa: N812
from llama_cpp._logger import llama_log_callback as llama_cpps

_lines: deque[str] = deque(maxlen=30)
_echo = False
_here = threading.local()  # `own`: in a call of this package; `passing`: handing a line on
_earlier = llama_cpps, c_void_p()  # callback and its data


def _address(callback):
    return cast(callback, c_void_p).value


@C.llama_log_callback
def _on_line(level, text, _):
    own = getattr(_here, "own", False)
    if own:
        line = text.decode(errors="replace")
        _lines.append(line)
        if _echo:
            print(line, end="", file=sys.stderr, flush=True)
    # llama_cpp's own prints whatever it gets until it is told not to: of this package's lines it gets none.
    callback, data = _earlier
    if getattr(_here, "passing", False) or (own and _address(callback) == _address(llama_cpps)):
        return
    _here.passing = True  # should it hand lines on to whom it has found, this one
    try:
        callback(level, text, data)
    finally:
        _here.passing = False


def begin() -> None:
    """Forget the lines so far, and listen from now on; another's callback is called through."""
    global _earlier
    _lines.clear()
    callback, data = C.llama_log_callback(), c_void_p()
    C.llama_log_get(byref(callback), byref(data))
    if callback and _address(callback) != _address(_on_line):
        _earlier = callback, data
    C.llama_log_set(_on_line, c_void_p())


def show_log(on: bool) -> None:
    """Write what llama.cpp says in this package's calls to stderr, or keep it silent."""
    global _echo
    _echo = bool(on)


@contextmanager
def own() -> Iterator[None]:
    """Take what llama.cpp says in this thread meanwhile for this package's."""
    before, _here.own = getattr(_here, "own", False), True
    try:
        yield
    finally:
        _here.own = before


def last_error() -> str:
    """Return llama.cpp's own reason for a failure, the first of the lines since `begin` that sounds like one."""
    lines = [line.strip() for line in _lines if "error" in line.lower() or "failed" in line.lower()]
    return (lines[0] + ".") if lines else "it gave no reason."

"""What llama.cpp says: kept for error messages, shown where it is asked for, and left to others where it is theirs.

llama.cpp has one log for a whole process, with one callback. Whoever set it before, another library or llama_cpp
itself, goes on being called. The trial of model files imports this without the rest of llama_cpp.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_void_p, cast

from .library import C

_lines: deque[str] = deque(maxlen=30)
_echo = False
_here = threading.local()  # `own`: in a call of this package; `passing`: handing a line on


def _address(callback):
    return cast(callback, c_void_p).value


def _current():
    """Return the callback that is set, and its data."""
    callback, data = C.llama_log_callback(), c_void_p()
    C.llama_log_get(byref(callback), byref(data))
    return callback, data


def _find_default():
    """Return the callback of llama.cpp that is there as long as nobody sets one."""
    now = _current()
    C.llama_log_set(C.llama_log_callback(), c_void_p())
    default, _ = _current()
    C.llama_log_set(*now)
    return default


_default = _find_default()
_earlier = _default, c_void_p()


def _only_prints(callback):
    """Whether a callback is one that prints whatever it gets: llama.cpp's, or llama_cpp's until it is told not to."""
    theirs = getattr(sys.modules.get("llama_cpp._logger"), "llama_log_callback", _default)
    return _address(callback) in (_address(_default), _address(theirs))


@C.llama_log_callback
def _on_line(level, text, _):
    own = getattr(_here, "own", False)
    if own:
        line = text.decode(errors="replace")
        _lines.append(line)
        if _echo:
            print(line, end="", file=sys.stderr, flush=True)
    callback, data = _earlier
    if getattr(_here, "passing", False) or (own and _only_prints(callback)):
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
    callback, data = _current()
    if _address(callback) != _address(_on_line):
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

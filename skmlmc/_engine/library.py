"""llama.cpp's library, loaded so that its threads do not wait for each other in vain for long."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from ctypes import CDLL

# How often a thread of GNU's OpenMP looks whether the others have come before it goes to sleep, at each of some
# thousand barriers of a call. By default 300,000 times, some milliseconds: for nothing where another program has the
# processor of the others. Milliseconds of a call with two threads, SmolLM2, two processors (busy: four programs and now
# and then others, a few calls each, so only their order of magnitude counts):
#     looks                              0    100    300   1000   300,000   one thread
#     16 tokens, idle                   90     62     56     54        58          103
#     2 tokens, idle                    55     15     14     15        14           21
#     30 tokens, busy                    -    385    652    448    45,959  1,000-1,900
#     3 tokens, busy                     -     95    131    358    29,879      130-270
SPINS = "1000"


@contextmanager
def short_waits() -> Generator[None, None, None]:
    """Let GNU's OpenMP, if it is loaded meanwhile, wait briefly, unless the environment says how it should wait."""
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]  # other programs that are started from here choose for themselves


def _has_openmp():
    with suppress(OSError, AttributeError):
        return CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY) is not None
    return False


_had_openmp = _has_openmp()
with short_waits():
    import llama_cpp as C  # noqa: N812

# Whether llama.cpp's threads wait briefly: not where another library, such as PyTorch, had loaded OpenMP before.
WAITS_BRIEFLY = _has_openmp() and not _had_openmp and not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys()

__all__ = ["WAITS_BRIEFLY", "C"]

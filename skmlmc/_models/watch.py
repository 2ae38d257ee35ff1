"""The files that a call works with: their content, and whether they change under it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .files import file_state
from .identity import Fingerprints, fingerprints
from .soundness import part_paths


def adapter_states(adapters: Sequence[tuple[Path, float]]) -> tuple[tuple[tuple, float], ...]:
    """State of each adapter file (see `file_state`) with its scale: changes when the file is replaced."""
    return tuple((file_state(adapter), scale) for adapter, scale in adapters)


class Watch:
    """See to it that all results of a call come from one content of the model and its adapters.

    A file that another one took the place of, as downloads do it, stays whole for whoever has loaded it. One that is
    written over changes the weights in memory too.

    Parameters
    ----------
    path : pathlib.Path
        The model file.
    adapters : sequence of (pathlib.Path, float)
        As `resolve_lora` gives them.
    content : Fingerprints
        Of these files, when the call began.
    """

    def __init__(self, path: Path, adapters: Sequence[tuple[Path, float]], content: Fingerprints):
        self._path, self._adapters, self._content = path, adapters, content
        self._files = [*part_paths(path), *(adapter for adapter, _ in adapters)]
        self._seen: list[tuple[int, ...]] = []

    def check(self) -> None:
        """Check the files: at the first call, when they are loaded, their content; later whether it was written over.

        Raises
        ------
        RuntimeError
            The files have another content than when the call began.
        """
        now = [_state(file) for file in self._files]
        if now == self._seen:
            return
        if any(a[:2] != b[:2] for a, b in zip(now, self._seen, strict=False)):
            self._files = now = []  # others took their place, and what is loaded stays as it is
        elif fingerprints(self._path, self._adapters) != self._content:
            raise RuntimeError(
                f"The model file {str(self._path)!r}, or one of its adapters, was changed while it was in use: "
                "expected the content that it had when this call began. Call again to use the new file, and replace "
                "files by renaming, never by writing over them. What was answered before is in the cache where "
                "memory= is set."
            )
        self._seen = now


def _state(file):
    """Which file is at a path, then what tells that it was changed; zeros where there is none any more."""
    try:
        stat = os.stat(file)
    except FileNotFoundError:
        return 0, 0
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

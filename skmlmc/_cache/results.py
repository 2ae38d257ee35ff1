"""Per-document results in one SQLite file, keyed by everything they depend on.

A cache makes work faster and must never make it fail: a damaged or foreign file is set aside, a full disk or a
read-only folder ends writing, and either is told with one warning. Values are raw arrays, never pickles.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import joblib
import numpy as np

from .._utils.warning import warn
from .database import DATABASE_ERRORS, connect, folder_lock, identity, is_damage, read_rows, set_aside, write_rows
from .records import DamagedEntryError, decode_entry, encode_entry, result_key

__all__ = ["FILE_NAME", "DamagedEntryError", "ResultCache", "open_cache", "result_key"]

T = TypeVar("T")

FILE_NAME = "skmlmc.sqlite"
_LARGEST_ENTRY = 500_000_000  # bytes; SQLite refuses values above 1e9

# Every cache lets go of its file before a fork. SQLite's locks do not survive one, but its memory of holding them
# does, and would spoil even a new connection of the child.
_CACHES: weakref.WeakSet[ResultCache] = weakref.WeakSet()
_FORK_LOCK = threading.Lock()
_FORKING: list[ResultCache] = []
_ABANDONED: list[sqlite3.Connection] = []


class ResultCache:
    """Arrays by key in ``<folder>/skmlmc.sqlite``; safe between threads and processes.

    No method raises because of the file: what cannot be read counts as missing and what cannot be written is
    dropped, with a `UserWarning` that says so. Once it is closed, every use is a `ValueError`. A cache is true in a
    boolean context even when it is empty.

    Parameters
    ----------
    folder : str
        Folder of the file, created when missing.

    Attributes
    ----------
    path : str
        The file.
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)
        self.path = os.path.join(self._folder, FILE_NAME)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._file: tuple[int, int] | None = None
        self._writable = self._readable = True
        self._closed = False
        self._notes: list[str] = []
        with _FORK_LOCK:
            _CACHES.add(self)
        try:
            with self._session():
                self._ensure_open()
        except BaseException:  # a warning that the caller turned into an exception
            self.close()
            raise

    def get_many(
        self,
        keys: Iterable[bytes],
        read: Callable[[dict[str, np.ndarray]], Any] = dict,
        largest: int = _LARGEST_ENTRY,
    ) -> dict[bytes, Any]:
        """Return what `read` makes of the arrays under each key of `result_key`; missing and damaged ones are absent.

        A `DamagedEntryError` from `read` says that they cannot be: a checksum shows what broke by itself, not what
        somebody wrote there on purpose. An entry of more than `largest` bytes counts as damaged without being loaded.
        """
        wanted = list(dict.fromkeys(keys))
        rows: dict[bytes, object] = {}
        with self._session():
            self._run(lambda connection: read_rows(connection, wanted, rows, largest), None)
        found, damaged = {}, 0
        for key in wanted:
            if key in rows:
                try:
                    found[key] = read(decode_entry(key, rows[key]))
                except DamagedEntryError:
                    damaged += 1
        if damaged:
            warn(
                f"{damaged} of {len(rows)} entries read from {self.path} were damaged: expected what was written under "
                f"their keys, got something else. Their results are computed again and overwritten; if this comes "
                f"back, check the disk.",
            )
        return found

    def put_many(self, items: Mapping[bytes, Mapping[str, np.ndarray]]) -> None:
        """Keep results, all of them or none, replacing those that are there.

        Each key has arrays of bool, integers or floats of at most 64 bits, by name (at most 255 bytes); other dtypes
        are a TypeError. Results above 500 MB are not kept.
        """
        rows = [(key, encode_entry(key, arrays)) for key, arrays in items.items()]
        kept = [row for row in rows if len(row[1]) <= _LARGEST_ENTRY]
        with self._session():
            if len(kept) < len(rows):
                self._notes.append(
                    f"Expected results of at most {_LARGEST_ENTRY} bytes for {self.path}. Got {len(rows) - len(kept)} "
                    f"larger ones: they are not kept and will be computed again."
                )
            if kept:
                self._run(lambda connection: write_rows(connection, kept), None, writes=True)

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it; a second call does nothing."""
        with self._lock:
            self._closed = True
            connection = self._connection
            if connection is not None and self._pid == os.getpid() and self._writable:
                # Best effort: whoever still uses the file folds the log in later.
                with contextlib.suppress(*DATABASE_ERRORS):
                    connection.execute("PRAGMA busy_timeout=0")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._disconnect()

    def __len__(self) -> int:
        with self._session():
            return self._run(lambda connection: connection.execute("SELECT count(*) FROM results").fetchone()[0], 0)

    def __bool__(self) -> bool:
        return True  # else `if cache` would mean "if it has entries"

    def __enter__(self) -> ResultCache:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"A ResultCache cannot be pickled or copied, for it holds an open file ({self.path}). "
            f"Expected its folder instead: pass that and call open_cache where it is needed."
        )

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        """Hold the lock; warn only after it is released, for a warning may be turned into an exception."""
        with self._lock:
            if self._closed:
                raise ValueError(f"Expected an open cache. Got one that is closed: {self.path}. Call open_cache again.")
            yield
            notes, self._notes = self._notes, []
        for note in notes:
            warn(note)

    def _run(self, work: Callable[[sqlite3.Connection], T], default: T, *, writes: bool = False) -> T:
        """Run `work` on the connection; a file found damaged is replaced once, other trouble gives `default`."""
        for attempt in range(2):
            connection = self._ensure_open()
            if connection is None or (writes and not self._writable):
                break
            try:
                return work(connection)
            except DATABASE_ERRORS as error:
                damaged = is_damage(error)
                if not (damaged and attempt == 0 and self._replace(error)):
                    self._degrade(error, readable=writes and not damaged)
                    break
        return default

    def _ensure_open(self) -> sqlite3.Connection | None:
        """Return a connection of this process to the file that is at `path` now; None when there can be none."""
        if self._connection is not None and (self._pid != os.getpid() or self._file != identity(self.path)):
            self._disconnect()
        if self._connection is None and self._readable:
            self._open()
        return self._connection

    def _open(self) -> None:
        """Connect for writing, else for reading."""
        trouble: list[Exception] = []
        if self._writable:
            try:
                os.makedirs(self._folder, exist_ok=True)
                with folder_lock(self._folder):
                    self._open_or_replace()
                return
            except (OSError, *DATABASE_ERRORS) as error:
                trouble.append(error)
        # Without write permission SQLite cannot make the files it shares with other processes; "immutable" needs none.
        for option in ("mode=ro", "immutable=1"):
            try:
                self._adopt(connect(self.path, option))
                break
            except (OSError, *DATABASE_ERRORS) as error:
                trouble.append(error)
        if self._writable or self._connection is None:
            self._degrade(trouble[0], readable=self._connection is not None)

    def _open_or_replace(self) -> None:
        try:
            self._adopt(connect(self.path))
        except DATABASE_ERRORS as error:
            if not is_damage(error):
                raise
            self._note_replaced(error, set_aside(self.path))
            self._adopt(connect(self.path))

    def _adopt(self, connection: sqlite3.Connection) -> None:
        self._connection, self._pid, self._file = connection, os.getpid(), identity(self.path)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            with contextlib.suppress(*DATABASE_ERRORS):  # nothing is pending, so nothing is lost
                connection.close()
        elif connection is not None:
            # SQLite here thinks it holds its parent's locks, so closing could delete the log that the parent
            # still writes. Keep the connection, unused, for good.
            _ABANDONED.append(connection)

    def _replace(self, error: Exception) -> bool:
        """Set the damaged file aside; False when that cannot be done."""
        if not self._writable:
            return False
        self._disconnect()
        try:
            with folder_lock(self._folder):
                if identity(self.path) == self._file:  # else another process was faster
                    self._note_replaced(error, set_aside(self.path))
        except OSError:
            return False
        return True

    def _note_replaced(self, error: Exception, target: str) -> None:
        self._notes.append(
            f"Expected a result cache of this version of skmlmc in {self.path}. Got: {error}. The file was set aside "
            f"as {target} and a fresh one started, so results are computed again. Delete the former if nobody needs it."
        )

    def _degrade(self, error: Exception, *, readable: bool) -> None:
        """Go on without writing, and without reading too unless `readable`."""
        self._writable, self._readable = False, readable
        if not readable:
            self._disconnect()
        self._notes.append(
            f"Expected a result cache that can be {'written' if readable else 'read and written'} in {self.path}. "
            f"Got: {error}. New results are computed but not kept"
            f"{', known ones are still read' if readable else ''}. Free space or repair the folder's permissions, or "
            f"choose another folder with `memory`."
        )


def open_cache(memory: str | os.PathLike[str] | joblib.Memory | None) -> ResultCache | None:
    """Open the cache that a `memory` parameter asks for.

    A folder (``~`` is expanded; created when missing) or a `joblib.Memory` whose ``location`` is it; None where there
    is none. Anything else is a TypeError, and a name that no folder can have, empty or with NUL in it, a ValueError.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skmlmc._cache.results import open_cache, result_key
    >>> key = result_key("a prompt", "a document")
    >>> with tempfile.TemporaryDirectory() as folder, open_cache(folder) as cache:
    ...     cache.put_many({key: {"steps": np.array([0.25, 0.75])}})
    ...     cache.get_many([key])[key]["steps"]
    array([0.25, 0.75])
    """
    folder = cache_folder(memory)
    return None if folder is None else ResultCache(folder)


def cache_folder(memory: Any) -> str | None:
    """Return the folder that a `memory` parameter names, None for none; opens nothing. Errors as of `open_cache`."""
    location = memory.location if isinstance(memory, joblib.Memory) else memory
    if location is None:
        return None
    if not isinstance(location, (str, os.PathLike)):
        raise TypeError(
            f"Expected `memory` to be None, a folder (str or path) or a joblib.Memory. Got {type(location).__name__}."
        )
    folder = os.path.expanduser(os.fsdecode(location))
    if not folder or "\0" in folder:
        raise ValueError(f"Expected the name of a folder as `memory`. Got {folder!r}. Use None for no cache.")
    return folder


def _before_fork() -> None:
    _FORK_LOCK.acquire()
    for cache in list(_CACHES):
        cache._lock.acquire()
        _FORKING.append(cache)
        cache._disconnect()


def _after_fork() -> None:
    while _FORKING:
        _FORKING.pop()._lock.release()
    _FORK_LOCK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)

"""The cache's SQLite file: its schema, opening, reading and writing it, telling a damaged one and setting it aside.

The file may come from anybody, and a database can hold more than rows: triggers, views, and a journal that makes SQLite
delete whatever file it names. So what is not exactly ours is set aside before SQLite acts on it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows, where a file that is in use cannot be renamed anyway
    fcntl = None  # type: ignore[assignment]

# sqlite3 decodes SQLite's messages, and those on a damaged schema quote whatever bytes are in it.
DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)

_APPLICATION_ID = 0x736B6D6C  # "skml"
_SCHEMA_VERSION = 1
# A rowid table on purpose: random keys then sort the small index only, which is faster than WITHOUT ROWID.
_SCHEMA = "CREATE TABLE results (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)"
# All that may stand in the schema: the table, the index of its primary key, and what ANALYZE leaves.
_OURS = (b"table", b"results", b"results", _SCHEMA.encode())
_MAY_BE_THERE = {
    _OURS,
    (b"index", b"sqlite_autoindex_results_1", b"results", None),
    (b"table", b"sqlite_stat1", b"sqlite_stat1", b"CREATE TABLE sqlite_stat1(tbl,idx,stat)"),
    (b"table", b"sqlite_stat4", b"sqlite_stat4", b"CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)"),
}
_SIDE_FILES = ("-wal", "-shm", "-journal")
_TIMEOUT = 60.0  # seconds to wait for another process
_CHUNK = 500  # placeholders a query; SQLite may be built with a limit of 999


@contextlib.contextmanager
def folder_lock(folder: str) -> Iterator[None]:
    """Let one process at a time open, create or set aside the file.

    The lock is on the folder itself, so that no lock file stays behind. Where it cannot be had we go on without:
    the worst that can happen is that results are computed again.
    """
    descriptor = None
    try:
        with contextlib.suppress(OSError):
            if fcntl is not None:
                descriptor = os.open(folder, os.O_RDONLY)
                deadline = time.monotonic() + _TIMEOUT
                while time.monotonic() < deadline:
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(0.01)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def identity(path: str) -> tuple[int, int] | None:
    """Which file is at `path` now; None when there is none."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return status.st_dev, status.st_ino
    return None


def set_aside(path: str) -> str:
    """Rename the file and what SQLite keeps beside it; return the new name."""
    for number in itertools.count(1):
        target = f"{path}.damaged-{number}"
        if not any(os.path.lexists(target + suffix) for suffix in ("", *_SIDE_FILES)):
            break
    os.rename(path, target)
    for suffix in _SIDE_FILES:
        if os.path.lexists(path + suffix):
            os.rename(path + suffix, target + suffix)
    return target


def is_damage(error: Exception) -> bool:
    """Whether `error` says that the file itself is wrong, not the disk, a lock or a permission."""
    if isinstance(error, sqlite3.OperationalError):
        # Our few statements always fit our schema, so these mean another one.
        return any(words in str(error) for words in ("no such", "columns but", "unsupported file format"))
    # sqlite3 gives SQLITE_CORRUPT and SQLITE_NOTADB as its plain DatabaseError.
    return type(error) is sqlite3.DatabaseError or isinstance(error, (sqlite3.IntegrityError, UnicodeDecodeError))


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Whether the schema is in place; False for an empty database, DatabaseError for anybody else's."""
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    found = set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))
    if (application, version, found) == (0, 0, set()):
        return False
    if (application, version) != (_APPLICATION_ID, _SCHEMA_VERSION) or _OURS not in found or found - _MAY_BE_THERE:
        raise sqlite3.DatabaseError(
            f"database of another program or version (application_id={application}, user_version={version}, "
            f"{len(found - _MAY_BE_THERE)} foreign tables, views or triggers instead of {_APPLICATION_ID}, "
            f"{_SCHEMA_VERSION}, 0)"
        )
    return True


def _check_files(path: str) -> None:
    """Refuse what is no regular file (a pipe would block for ever), or has something beside it that we never write.

    SQLite would roll a journal back, and one that names a "super-journal" has it delete the file of that name.
    """
    for suffix in ("", *_SIDE_FILES):
        try:
            plain = stat.S_ISREG(os.lstat(path + suffix).st_mode)
        except FileNotFoundError:
            continue
        if not suffix and not plain:
            raise OSError(f"{path} is no regular file but a link, pipe, folder or device")
        if suffix == "-journal" or not plain:
            raise sqlite3.DatabaseError(f"{path}{suffix} lies beside it, which this package does not write")


def _restrict(connection: sqlite3.Connection) -> None:
    """Take from a connection what a cache does not need and a forged file could use, as far as Python lets us."""
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
    if sys.version_info >= (3, 11):
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute("PRAGMA mmap_size=0")  # a file cut short by another process must not end this one


def connect(path: str, option: str = "mode=rwc") -> sqlite3.Connection:
    """Connect to our database; with "mode=rwc" create it when missing, other options are for reading."""
    writable = option == "mode=rwc"
    _check_files(path)
    connection = sqlite3.connect(
        f"{pathlib.Path(path).as_uri()}?{option}",
        uri=True,
        timeout=_TIMEOUT if writable else 1.0,  # who reads only has waited before, or meets no lock
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.text_factory = bytes  # a damaged file may hold text that is no UTF-8
        _restrict(connection)
        ours = _is_ours(connection)
        if writable:
            if not ours:
                # Else a crash in the next line could leave a journal file. It fails where another process was faster.
                with contextlib.suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode=MEMORY")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            if not ours:
                _create(connection)
        elif not ours:
            raise sqlite3.DatabaseError("empty database")
    except BaseException:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection) -> None:
    with _transaction(connection):
        if not _is_ours(connection):  # another process may have been faster
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
            connection.execute(_SCHEMA)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        # The error that is already on its way says more than a rollback that fails too.
        with contextlib.suppress(*DATABASE_ERRORS):
            connection.rollback()
        raise


def read_rows(connection: sqlite3.Connection, keys: list[bytes], found: dict[bytes, object], largest: int) -> None:
    """Add the values of `keys` that are there to `found`, which keeps those read before an error.

    None stands for a value that is no blob or has more than `largest` bytes. It is not loaded: a few pages in a circle
    can claim to be a gigabyte.
    """
    value = "CASE WHEN typeof(value) = 'blob' AND length(value) <= ? THEN value END"
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        sql = f"SELECT key, {value} FROM results WHERE key IN ({marks})"
        found.update(connection.execute(sql, [largest, *chunk]))


def write_rows(connection: sqlite3.Connection, rows: list[tuple[bytes, bytes]]) -> None:
    """Write all `rows` in one transaction."""
    with _transaction(connection):
        connection.executemany("INSERT OR REPLACE INTO results VALUES (?, ?)", rows)

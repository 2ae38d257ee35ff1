from __future__ import annotations

import contextlib
import copy
import ctypes
import itertools
import os
import pathlib
import pickle
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import joblib
import numpy as np
import pytest
from campaigns import at_most
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skmlmc._cache import database, records, results
from skmlmc._cache.results import FILE_NAME, DamagedEntryError, ResultCache, open_cache, result_key


def entries(n, start=0):
    return {result_key("document", i): {"steps": np.full((2, 3), float(i))} for i in range(start, start + n)}


def assert_same(found, items):
    assert found.keys() == items.keys()
    for key, arrays in items.items():
        assert found[key].keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[key][name], array)


def fill(folder, n=200):
    """Write n entries, close, and return the file and the entries."""
    items = entries(n)
    with open_cache(folder) as cache:
        cache.put_many(items)
    return pathlib.Path(folder) / FILE_NAME, items


def assert_works(folder, items):
    """The cache of `folder` reads and writes without a warning."""
    with open_cache(folder) as cache:
        cache.put_many(items)
    with open_cache(folder) as cache:
        assert_same(cache.get_many(items), items)


def names(folder):
    return sorted(os.listdir(folder))


def run_script(code, *args, **options):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True, **options
    )


class TestResultKey:
    def test_is_stable(self):
        # Known digests: a change of the encoding would silently turn every user's cache cold.
        key = result_key("a", b"b", 1, 1.5, True, None, (2, [3]), {"x": np.arange(3, dtype="<i4")})
        assert key.hex() == "4ce54c9c368a9bf6635c38213206b2ed387718a132de6b5646dd15227cf4e0e4"

    @pytest.mark.parametrize(
        "different",
        [
            [("ab", "c"), ("a", "bc")],
            [("a",), ("a", ""), (b"a",)],
            [(), (None,), (0,), (False,), (0.0,), (-0.0,), (1,), (1.0,), (True,), ("1",)],
            [((1, 2),), ([1, 2],), (1, 2), ([],), ({},)],
            [([1], [2]), ([1, 2], [])],
            [({"a": 1, "b": 2},), ({"a": 2, "b": 1},), ({"a": "b"},), (["a", "b"],)],
            [(127,), (-129,), (255,), (-1,)],
            [("\ud800\udc00",), ("\U00010000",)],
            [(np.zeros(2),), (np.zeros((2, 1)),), (np.zeros(2, "f4"),), (np.zeros(2, "i4"),), ([0.0, 0.0],)],
            [(np.array(["a", "b"]),), (np.array(["ab", ""]),)],
            [(np.arange(4).reshape(2, 2),), (np.arange(4).reshape(2, 2).T,)],
        ],
    )
    def test_differs(self, different):
        assert len({result_key(*parts) for parts in different}) == len(different)

    @pytest.mark.parametrize(
        "one, other",
        [
            (({"a": 1, "b": {"c": 2, "d": 3}},), ({"b": {"d": 3, "c": 2}, "a": 1},)),
            ((np.arange(6.0).reshape(2, 3),), (np.asfortranarray(np.arange(6.0).reshape(2, 3)),)),
            ((np.arange(3, dtype="<i4"),), (np.arange(3, dtype=">i4"),)),
            ((np.float64(0.5), np.int64(3), np.bool_(True), np.str_("x")), (0.5, 3, True, "x")),
        ],
    )
    def test_same(self, one, other):
        assert result_key(*one) == result_key(*other)

    @pytest.mark.parametrize(
        "part", ["\ud800 alone", "", "\0", pytest.param(10**5000, id="huge"), -(2**63), float("nan"), float("inf"), b""]
    )
    def test_takes_what_is_odd(self, part):
        assert len(result_key(part)) == 32
        assert result_key(part) == result_key(part)

    @pytest.mark.parametrize(
        "part, kind",
        [
            (object(), "object"),
            ({1, 2}, "set"),
            (1j, "complex"),
            (np.longdouble(1), "longdouble|float128"),  # as numpy 2 and 1 call it
            (np.array([None]), "dtype object"),
            (np.zeros(2, "c16"), "dtype complex128"),
            (np.ma.masked_array([1.0], [True]), "MaskedArray|array of dtype"),
            (pathlib.Path("x"), "Path"),
        ],
    )
    def test_refuses(self, part, kind):
        with pytest.raises(TypeError, match=f"expected str, bytes.*Got .*({kind}).*convert"):
            result_key("x", [{"deep": part}])

    PARTS = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text(),
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )

    @given(PARTS, PARTS)
    @at_most(100)
    def test_equal_keys_mean_equal_parts(self, one, other):
        def typed(part):
            if isinstance(part, (list, tuple)):
                return type(part), [typed(item) for item in part]
            if isinstance(part, dict):
                return dict, {name: typed(item) for name, item in part.items()}
            return type(part), repr(part)

        assert (result_key(one) == result_key(other)) == (typed(one) == typed(other))


DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
ANY_ARRAY = hnp.arrays(
    st.sampled_from(DTYPES).map(np.dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
)
ANY_ARRAYS = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=20), ANY_ARRAY, max_size=3)


class TestEntry:
    @given(ANY_ARRAYS)
    @at_most(100)
    def test_round_trip(self, arrays):
        key = result_key("x")
        decoded = records.decode_entry(key, records.encode_entry(key, arrays))
        assert list(decoded) == list(arrays)
        for name, array in arrays.items():
            assert decoded[name].dtype == array.dtype
            assert decoded[name].shape == array.shape
            assert decoded[name].tobytes() == array.tobytes()
            assert decoded[name].flags.writeable and decoded[name].flags.aligned and decoded[name].flags.c_contiguous

    def test_byte_order_and_layout_do_not_matter(self):
        array = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
        (decoded,) = records.decode_entry(b"k", records.encode_entry(b"k", {"a": array})).values()
        assert decoded.dtype == np.float32 and decoded.dtype.isnative
        np.testing.assert_array_equal(decoded, array)

    @pytest.mark.parametrize("array", [np.array([None]), np.zeros(2, "c8"), np.array(["a"]), np.zeros(2, "i4,f4")])
    def test_refuses_other_dtypes(self, array, tmp_path):
        with open_cache(tmp_path) as cache:
            with pytest.raises(TypeError, match=r"expected arrays of bool.*Got dtype .* for 'steps': convert"):
                cache.put_many({b"k": {"steps": array}})
            assert len(cache) == 0

    @given(st.binary(max_size=200))
    @at_most(300)
    def test_arbitrary_bytes(self, data):
        for value in (data, records._MAGIC + data):
            with pytest.raises(records.DamagedEntryError):
                records.decode_entry(b"k", value)
        with contextlib.suppress(records.DamagedEntryError):  # past the checksum: any error but this one fails
            assert all(array.nbytes <= len(data) for array in records._decode_arrays(data).values())

    @given(ANY_ARRAYS, st.data())
    @at_most(100)
    def test_damaged_bodies(self, arrays, data):
        body = bytearray(records._encode_arrays(arrays))
        for _ in range(data.draw(st.integers(1, 4))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(records.DamagedEntryError):
            decoded = records._decode_arrays(bytes(body))
            assert sum(array.nbytes for array in decoded.values()) <= len(body)

    @pytest.mark.parametrize(
        "shape", [(2**62,), (2**63,), (2**64 - 1,), (2**32, 2**32), (0, 2**64 - 1), (2**40, 2**40, 0), (1,) * 70]
    )
    def test_huge_shapes_allocate_nothing(self, shape):
        body = struct.pack("<H", 1) + records._ARRAY_HEADER.pack(1, b"<f8", len(shape)) + b"a"
        body += struct.pack(f"<{len(shape)}Q", *shape) + bytes(8)
        with pytest.raises(records.DamagedEntryError):
            records._decode_arrays(body)

    def test_every_truncation_and_flip_is_noticed(self):
        value = records.encode_entry(b"k", {"a": np.arange(3, dtype="i2"), "b": np.float32(1)})
        broken = [value[:size] for size in range(len(value))] + [value + b"\0"]
        for position, bit in itertools.product(range(len(value)), range(8)):
            flipped = bytearray(value)
            flipped[position] ^= 1 << bit
            broken.append(bytes(flipped))
        for other in broken + [None, 3, "text"]:
            with pytest.raises(records.DamagedEntryError):
                records.decode_entry(b"k", other)
        with pytest.raises(records.DamagedEntryError):
            records.decode_entry(b"another key", value)


class TestOpen:
    def test_none(self):
        assert open_cache(None) is None
        assert open_cache(joblib.Memory(location=None)) is None

    @pytest.mark.parametrize("kind", [str, pathlib.Path, lambda folder: joblib.Memory(str(folder), verbose=0)])
    def test_folder(self, kind, tmp_path):
        folder = tmp_path / "new" / "with a space, ? # % and ü"
        with open_cache(kind(folder)) as cache:
            assert isinstance(cache, ResultCache)
            assert cache.path == str(folder / FILE_NAME)
        assert (folder / FILE_NAME).stat().st_size > 0

    def test_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        with open_cache("~/cache") as cache:
            assert cache.path == str(tmp_path / "cache" / FILE_NAME)

    def test_relative_folder_outlives_chdir(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with open_cache("cache") as cache:
            monkeypatch.chdir("/")
            cache._disconnect()
            cache.put_many(entries(1))
            assert len(cache) == 1
        assert names(tmp_path) == ["cache"]

    @pytest.mark.parametrize("memory", [1, True, b"x", ["x"], object(), sqlite3])
    def test_refuses_other_types(self, memory):
        with pytest.raises(TypeError, match=r"Expected `memory` to be None, a folder.*joblib.Memory. Got "):
            open_cache(memory)

    @pytest.mark.parametrize("memory", ["", "a\0b"])
    def test_refuses_no_name(self, memory):
        with pytest.raises(ValueError, match="Expected the name of a folder as `memory`. Got "):
            open_cache(memory)

    def test_takes_from_sqlite_what_a_forged_file_could_use(self, tmp_path):
        with open_cache(tmp_path) as cache:
            got = [
                next(cache._connection.execute(f"PRAGMA {name}"), (None,))[0]
                for name in ("trusted_schema", "cell_size_check", "mmap_size", "journal_mode")
            ]
            assert got[:2] == [0, 1] and not got[2] and got[3] == b"wal"
            with pytest.raises(sqlite3.Error):
                cache._connection.execute("SELECT load_extension('x')")
            if sys.version_info >= (3, 11):
                with pytest.raises(sqlite3.OperationalError, match="too many attached"):
                    cache._connection.execute("ATTACH ':memory:' AS other")
            if sys.version_info >= (3, 12):
                assert cache._connection.getconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE)

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux which files are created")
    def test_creation_writes_no_journal(self, tmp_path):
        """One that a crash left behind would count as forged."""
        libc = ctypes.CDLL(None, use_errno=True)
        events = libc.inotify_init()
        assert libc.inotify_add_watch(events, os.fsencode(tmp_path), 0x100) > 0  # IN_CREATE
        with open_cache(tmp_path) as cache:
            cache.put_many(entries(3))
        told = os.read(events, 100_000)
        os.close(events)
        assert f"{FILE_NAME}-wal".encode() in told and b"-journal" not in told

    def test_one_file(self, tmp_path):
        fill(tmp_path)
        assert names(tmp_path) == [FILE_NAME]

    def test_no_pickle_no_copy(self, tmp_path):
        with open_cache(tmp_path) as cache:
            for act in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="cannot be pickled or copied.*call open_cache"):
                    act(cache)

    def test_closed(self, tmp_path):
        cache = open_cache(tmp_path)
        cache.close()
        cache.close()
        for use in (lambda: cache.get_many([]), lambda: cache.put_many({}), lambda: len(cache)):
            with pytest.raises(ValueError, match="Expected an open cache. Got one that is closed"):
                use()


class TestUse:
    def test_round_trip(self, tmp_path):
        items = {b"k" * 32: {"steps": np.eye(3), "mass": np.float32(0.5), "none": np.zeros((0, 2))}, **entries(3)}
        with open_cache(tmp_path) as cache:
            assert cache.get_many(items) == {}
            assert len(cache) == 0 and cache
            cache.put_many(items)
            assert_same(cache.get_many([*items, result_key("absent")]), items)
            assert len(cache) == 4
        with open_cache(tmp_path) as cache:
            assert_same(cache.get_many(items), items)

    def test_nothing(self, tmp_path):
        with open_cache(tmp_path) as cache:
            cache.put_many({})
            assert cache.get_many([]) == {}
            cache.put_many({b"k": {}})
            assert cache.get_many(iter([b"k", b"k"])) == {b"k": {}}

    def test_replaces(self, tmp_path):
        with open_cache(tmp_path) as cache:
            cache.put_many({b"k": {"a": np.zeros(1)}})
            cache.put_many({b"k": {"b": np.ones(2)}})
            assert_same(cache.get_many([b"k"]), {b"k": {"b": np.ones(2)}})
            assert len(cache) == 1

    def test_more_keys_than_placeholders(self, tmp_path):
        items = entries(1201)
        with open_cache(tmp_path) as cache:
            cache.put_many(items)
            assert_same(cache.get_many(list(items) + [result_key(i) for i in range(900)]), items)

    def test_all_or_nothing(self, tmp_path):
        class InterruptError(Exception):
            pass

        def rows():
            yield (b"k", b"value")
            raise InterruptError

        with open_cache(tmp_path) as cache:
            with pytest.raises(InterruptError):
                database.write_rows(cache._connection, rows())
            assert len(cache) == 0
            cache.put_many(entries(1))
            assert len(cache) == 1

    def test_reads_what_the_caller_makes_of_it(self, tmp_path):
        items = entries(4)

        def read(arrays):
            if arrays["steps"][0, 0] == 2:
                raise DamagedEntryError("not this one")
            return arrays["steps"].sum()

        with open_cache(tmp_path) as cache:
            cache.put_many(items)
            with pytest.warns(UserWarning, match="^1 of 4 entries read from "):
                assert list(cache.get_many(items, read).values()) == [0, 6, 18]

    def test_does_not_load_what_is_larger_than_asked(self, tmp_path):
        small, large = entries(3), {b"large": {"a": np.zeros(1000)}}
        with open_cache(tmp_path) as cache:
            cache.put_many({**small, **large})
            with pytest.warns(UserWarning, match="^1 of 4 entries read from "):
                assert_same(cache.get_many([*small, b"large"], largest=8000), small)
            assert_same(cache.get_many([b"large"], largest=8100), large)

    def test_too_large(self, tmp_path, monkeypatch):
        monkeypatch.setattr(results, "_LARGEST_ENTRY", 1000)
        small = entries(1)
        with open_cache(tmp_path) as cache:
            with pytest.warns(UserWarning, match="at most 1000 bytes for .* Got 1 larger ones"):
                cache.put_many({**small, b"large": {"a": np.zeros(1000)}})
            assert_same(cache.get_many([*small, b"large"]), small)

    def test_threads(self, tmp_path):
        failures = []

        def work(number):
            try:
                for start in range(0, 200, 20):
                    items = entries(20, 1000 * number + start)
                    cache.put_many(items)
                    assert_same(cache.get_many(items), items)
            except BaseException as error:
                failures.append(error)

        with open_cache(tmp_path) as cache:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failures
            assert len(cache) == 800

    def test_speed(self, tmp_path):
        items = {result_key(i): {"steps": np.full(50, i / 7)} for i in range(10_000)}
        with open_cache(tmp_path) as cache:
            cache.put_many(items)
            times = []
            for _ in range(3):
                start = time.process_time()  # other programs may be at work
                found = cache.get_many(items)
                times.append(time.process_time() - start)
        assert len(found) == 10_000
        assert min(times) < 1.0  # a tenth of that on an idle laptop


@contextlib.contextmanager
def tells_replaced(folder, number=1):
    with pytest.warns(UserWarning, match="Expected a result cache of this version") as told:
        yield
    assert len(told) == 1
    assert str(pathlib.Path(folder) / FILE_NAME) in str(told[0].message)
    assert f"{FILE_NAME}.damaged-{number} and a fresh one" in str(told[0].message)
    assert told[0].filename == __file__


def foreign_text(path):
    path.write_bytes(b"This is no database.\n" * 1000)


def foreign_database(path):
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE results (key, value)")
        other.execute("INSERT INTO results VALUES ('x', 'precious')")


def foreign_wal_database(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        with other:
            other.execute("CREATE TABLE mine (x)")


def other_application(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA application_id=7")


def _altered(sql):
    def damage(path):
        fill(path.parent)
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute(sql)

    return damage


def truncated(path):
    fill(path.parent)
    os.truncate(path, path.stat().st_size // 2)


def header_lost(path):
    fill(path.parent)
    with open(path, "r+b") as file:
        file.write(bytes(100))


def schema_no_utf8(path):
    fill(path.parent)
    data = path.read_bytes()
    start = data.index(b"CREATE TABLE results")
    path.write_bytes(data[:start] + b"CREATE \xf5\xf6BLE" + data[start + 12 :])


DAMAGES = {
    "schema-no-utf8": schema_no_utf8,
    "text": foreign_text,
    "database": foreign_database,
    "wal-database": foreign_wal_database,
    "application": other_application,
    "version": _altered("PRAGMA user_version=2"),
    "table-added": _altered("CREATE TABLE more (x)"),
    "table-lost": _altered("DROP TABLE results"),
    "trigger": _altered("CREATE TRIGGER t AFTER INSERT ON results BEGIN DELETE FROM results; END"),
    "truncated": truncated,
    "header-lost": header_lost,
}


def overwrite_pages(path):
    """Keep the first page, spoil all others."""
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


class TestDamagedFile:
    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
    def test_at_open(self, damage, tmp_path):
        path = tmp_path / FILE_NAME
        damage(path)
        before = path.read_bytes()
        items = entries(5)
        with tells_replaced(tmp_path), open_cache(tmp_path) as cache:
            assert cache.get_many(items) == {}
            cache.put_many(items)
            assert_same(cache.get_many(items), items)
        assert (tmp_path / f"{FILE_NAME}.damaged-1").read_bytes() == before
        assert_works(tmp_path, items)

    def test_names_count_up(self, tmp_path):
        for number in (1, 2, 3):
            foreign_text(tmp_path / FILE_NAME)
            with tells_replaced(tmp_path, number), open_cache(tmp_path):
                pass
        assert names(tmp_path) == [FILE_NAME, *(f"{FILE_NAME}.damaged-{number}" for number in (1, 2, 3))]

    def test_side_files_go_too(self, tmp_path):
        foreign_text(tmp_path / FILE_NAME)
        for suffix in ("-wal", "-shm", "-journal"):
            (tmp_path / (FILE_NAME + suffix)).write_text(suffix)
        # By hand, for SQLite deletes side files that make no sense to it when it opens the file.
        target = database.set_aside(str(tmp_path / FILE_NAME))
        assert target == str(tmp_path / f"{FILE_NAME}.damaged-1")
        assert names(tmp_path) == sorted(
            f"{FILE_NAME}.damaged-1{suffix}" for suffix in ("", "-wal", "-shm", "-journal")
        )
        assert (tmp_path / f"{FILE_NAME}.damaged-1-journal").read_text() == "-journal"

    def test_empty_file_is_no_damage(self, tmp_path):
        (tmp_path / FILE_NAME).touch()
        (tmp_path / (FILE_NAME + "-wal")).write_bytes(b"left behind" * 1000)
        assert_works(tmp_path, entries(3))

    def test_analyze_and_vacuum_are_no_damage(self, tmp_path):
        path, items = fill(tmp_path)
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("ANALYZE")
            other.execute("VACUUM")
        assert_works(tmp_path, items)

    @pytest.mark.parametrize("use", ["get", "put", "len"])
    def test_malformed_after_open(self, use, tmp_path):
        path, items = fill(tmp_path, 2000)
        overwrite_pages(path)
        new = entries(300, 5000)
        with open_cache(tmp_path) as cache:
            with tells_replaced(tmp_path):
                if use == "get":
                    assert cache.get_many(items) == {}
                elif use == "put":
                    cache.put_many(new)
                else:
                    assert len(cache) == 0
            assert (use == "put") == (len(cache) == 300)
            cache.put_many(new)
            assert_same(cache.get_many(new), new)
        assert_works(tmp_path, new)

    def test_what_was_read_before_the_damage_is_kept(self, tmp_path, monkeypatch):
        _, items = fill(tmp_path, 700)
        real = results.read_rows

        def once_malformed(connection, keys, found, largest):
            monkeypatch.setattr(results, "read_rows", real)
            real(connection, keys[:500], found, largest)
            raise sqlite3.DatabaseError("database disk image is malformed")

        monkeypatch.setattr(results, "read_rows", once_malformed)
        with open_cache(tmp_path) as cache, tells_replaced(tmp_path):
            assert len(cache.get_many(items)) == 500

    @pytest.mark.parametrize("sql", ["DROP TABLE results", "ALTER TABLE results ADD COLUMN more"])
    def test_schema_changed_while_open(self, sql, tmp_path):
        path, items = fill(tmp_path)
        with open_cache(tmp_path) as cache:
            with contextlib.closing(sqlite3.connect(path)) as other, other:
                other.execute(sql)
            with tells_replaced(tmp_path):
                cache.put_many(items)
            assert_same(cache.get_many(items), items)

    @pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(2, 8))])
    def test_random_damage_never_raises_or_lies(self, seed, tmp_path):
        path, items = fill(tmp_path, 300)
        clean = path.read_bytes()
        random = np.random.default_rng(seed)
        for _ in range(6):
            for name in names(tmp_path):
                (tmp_path / name).unlink()
            data = bytearray(clean)
            size = [100, len(data)][random.integers(2)]
            for position in random.integers(size, size=random.integers(1, 40)):
                data[position] = random.integers(256)
            path.write_bytes(data[: random.integers(len(data))] if random.random() < 0.2 else data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                with open_cache(tmp_path) as cache:
                    for _ in range(2):
                        found = cache.get_many(items)
                        assert_same(found, {key: items[key] for key in found})
                        cache.put_many(items)
                        len(cache)

    def test_deleted_while_open(self, tmp_path):
        path, items = fill(tmp_path)
        with open_cache(tmp_path) as cache:
            for name in names(tmp_path):
                (tmp_path / name).unlink()
            assert cache.get_many(items) == {}
            cache.put_many(items)
        assert_works(tmp_path, items)

    def test_folder_deleted_while_open(self, tmp_path):
        folder = tmp_path / "cache"
        with open_cache(folder) as cache:
            for name in names(folder):
                (folder / name).unlink()
            folder.rmdir()
            cache.put_many(entries(2))
        assert_works(folder, entries(2))

    def test_set_aside_by_another_process(self, tmp_path):
        items, late = entries(5), entries(5, 100)
        with open_cache(tmp_path) as mine, open_cache(tmp_path) as other:
            mine.put_many(items)
            os_error = sqlite3.DatabaseError("database disk image is malformed")
            assert other._replace(os_error)
            other._notes.clear()
            other.put_many(late)
            # `mine` still has the old file; it neither deletes the fresh log nor sets the fresh file aside.
            assert mine._replace(os_error)
            assert os.path.getsize(other.path + "-wal") > 0
            mine.put_many(items)
            assert len(other) == len(mine) == 10
        with open_cache(tmp_path) as cache:
            assert_same(cache.get_many({**items, **late}), {**items, **late})
        assert names(tmp_path)[:2] == [FILE_NAME, f"{FILE_NAME}.damaged-1"]

    def test_closing_a_moved_file_leaves_the_fresh_log_alone(self, tmp_path):
        old = open_cache(tmp_path)
        old.put_many(entries(5))
        database.set_aside(old.path)
        with open_cache(tmp_path) as fresh:
            fresh.put_many(entries(3))
            old.close()
            assert os.path.getsize(fresh.path + "-wal") > 0
            with open_cache(tmp_path) as third:
                assert_same(third.get_many(entries(5)), entries(3))

    def test_warning_as_error_leaves_nothing_open(self, tmp_path):
        foreign_text(tmp_path / FILE_NAME)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="set aside"):
                open_cache(tmp_path)
        assert names(tmp_path) == [FILE_NAME, f"{FILE_NAME}.damaged-1"]  # no -wal: the connection is closed
        assert_works(tmp_path, entries(3))


def _change(path, sql, *args):
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute(sql, *args)


class TestDamagedEntries:
    @pytest.mark.parametrize(
        "sql, damaged",
        [
            ("UPDATE results SET value = substr(value, 1, 40) WHERE rowid IN (3, 4)", [2, 3]),
            ("UPDATE results SET value = x'' WHERE rowid = 1", [0]),
            ("UPDATE results SET value = 'text' WHERE rowid = 1", [0]),
            ("UPDATE results SET value = CAST(x'ff80' AS TEXT) WHERE rowid = 1", [0]),
            ("UPDATE results SET value = 12 WHERE rowid = 1", [0]),
            ("UPDATE results SET value = (SELECT value FROM results WHERE rowid = 2) WHERE rowid = 1", [0]),
            ("UPDATE results SET value = CAST(value || x'00' AS BLOB) WHERE rowid < 6", [0, 1, 2, 3, 4]),
        ],
    )
    def test_count_as_missing(self, sql, damaged, tmp_path):
        path, items = fill(tmp_path, 20)
        _change(path, sql)
        keys = list(items)
        good = {key: items[key] for i, key in enumerate(keys) if i not in damaged}
        with open_cache(tmp_path) as cache:
            with pytest.warns(UserWarning, match=f"^{len(damaged)} of 20 entries read from ") as told:
                found = cache.get_many(items)
            assert_same(found, good)
            assert len(told) == 1 and str(path) in str(told[0].message) and told[0].filename == __file__
            cache.put_many({key: items[key] for key in items.keys() - found.keys()})
            assert_same(cache.get_many(items), items)
            assert len(cache) == 20


@contextlib.contextmanager
def tells_degraded(folder, what):
    with pytest.warns(UserWarning, match=f"Expected a result cache that can be {what} in ") as told:
        yield
    assert len(told) == 1
    assert str(folder) in str(told[0].message) and "choose another folder" in str(told[0].message)


@contextlib.contextmanager
def unprivileged(folder):
    """Make `folder` read-only; root, whom permissions do not bind, becomes nobody meanwhile."""
    os.chmod(folder, 0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        os.chmod(folder, 0o755)


@pytest.fixture
def open_folder():
    """A folder that everybody can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


class TestNoWriting:
    def test_disk_full(self, tmp_path):
        _, items = fill(tmp_path)
        with open_cache(tmp_path) as cache:
            cache._connection.execute("PRAGMA max_page_count=40")
            new = entries(3000, 1000)
            with tells_degraded(tmp_path, "written"):
                cache.put_many(new)
            assert_same(cache.get_many(items), items)
            assert cache.get_many(new) == {}
            cache.put_many(new)  # told once
            assert len(cache) == 200
        assert_works(tmp_path, {**items, **new})

    @pytest.mark.parametrize("message", ["database or disk is full", "disk I/O error", "database is locked"])
    @pytest.mark.parametrize("use", ["get_many", "put_many", "__len__"])
    def test_trouble_at_use(self, use, message, tmp_path, monkeypatch):
        _, items = fill(tmp_path)
        what = "written" if use == "put_many" else "read and written"

        def fail(*args):
            raise sqlite3.OperationalError(message)

        with open_cache(tmp_path) as cache:
            with monkeypatch.context() as patch, tells_degraded(tmp_path, what):
                patch.setattr(results, "read_rows", fail)
                patch.setattr(results, "write_rows", fail)
                if use == "get_many":
                    assert cache.get_many(items) == {}
                elif use == "put_many":
                    cache.put_many(items)
                else:
                    patch.setattr(cache, "_run", lambda work, default: ResultCache._run(cache, fail, default))
                    assert len(cache) == 0
            assert_same(cache.get_many(items), items if use == "put_many" else {})
            cache.put_many(entries(9, 900))
            assert len(cache) == (200 if use == "put_many" else 0)
        assert_works(tmp_path, items)

    def test_full_at_creation(self, tmp_path, monkeypatch):
        def fail(connection):
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(database, "_create", fail)
        with tells_degraded(tmp_path, "read and written"), open_cache(tmp_path) as cache:
            cache.put_many(entries(1))
            assert cache.get_many(entries(1)) == {}
            assert len(cache) == 0

    @pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
    @pytest.mark.parametrize("log_left", [False, True])
    def test_read_only_folder(self, open_folder, log_left):
        path, items = fill(open_folder)
        new = entries(5, 900)
        with contextlib.ExitStack() as stack:
            if log_left:  # a writer with a log of its own
                writer = stack.enter_context(open_cache(open_folder))
                writer.put_many(new)
            with unprivileged(open_folder):
                cache = stack.enter_context(contextlib.closing(self.open_read_only(open_folder)))
                assert_same(cache.get_many(items), items)
                assert len(cache) >= 200
        assert_works(open_folder, {**items, **new})

    @staticmethod
    def open_read_only(folder):
        with tells_degraded(folder, "written"):
            cache = open_cache(folder)
            cache.put_many(entries(3, 700))  # an existing file may open well and only refuse this
        return cache

    @pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
    def test_read_only_and_empty_or_damaged(self, open_folder):
        with unprivileged(open_folder), tells_degraded(open_folder, "read and written"):
            with open_cache(open_folder) as cache:
                cache.put_many(entries(1))
        foreign_text(open_folder / FILE_NAME)
        with unprivileged(open_folder), tells_degraded(open_folder, "read and written"):
            with open_cache(open_folder) as cache:
                assert cache.get_many(entries(1)) == {}
        assert names(open_folder) == [FILE_NAME]

    @pytest.mark.parametrize("when", ["open", "use"])
    def test_damaged_and_cannot_be_set_aside(self, when, tmp_path, monkeypatch):
        def fail(path):
            raise PermissionError(13, "Permission denied")

        path, items = fill(tmp_path, 2000)
        if when == "open":
            foreign_text(path)
        else:
            overwrite_pages(path)
        before = path.read_bytes()
        monkeypatch.setattr(results, "set_aside", fail)
        with tells_degraded(tmp_path, "read and written"), open_cache(tmp_path) as cache:
            assert cache.get_many(items) == {}
            cache.put_many(items)
            assert cache.get_many(items) == {}
        assert path.read_bytes() == before

    def test_damaged_again_at_once(self, tmp_path, monkeypatch):
        def fail(*args):
            raise sqlite3.DatabaseError("database disk image is malformed")

        _, items = fill(tmp_path)
        monkeypatch.setattr(results, "read_rows", fail)
        with open_cache(tmp_path) as cache:
            with pytest.warns(UserWarning) as told:
                assert cache.get_many(items) == {}
            assert [str(item.message).split(" in ")[0][:42] for item in told] == [
                "Expected a result cache of this version of",
                "Expected a result cache that can be read a",
            ]
            assert cache.get_many(items) == {}

    @pytest.mark.parametrize("depth", [0, 1])
    def test_folder_is_a_file(self, depth, tmp_path):
        file = tmp_path / "file"
        file.write_text("mine")
        with tells_degraded(file, "read and written"), open_cache(file / "deeper" if depth else file) as cache:
            cache.put_many(entries(1))
            assert cache.get_many(entries(1)) == {}
        assert file.read_text() == "mine"

    def test_file_is_a_folder(self, tmp_path):
        (tmp_path / FILE_NAME).mkdir()
        with tells_degraded(tmp_path, "read and written"), open_cache(tmp_path) as cache:
            cache.put_many(entries(1))

    def test_locked_file(self, tmp_path, monkeypatch):
        _, items = fill(tmp_path)
        monkeypatch.setattr(database, "_TIMEOUT", 0.1)
        with open_cache(tmp_path) as cache, open_cache(tmp_path) as other:
            other._connection.execute("BEGIN IMMEDIATE")
            with tells_degraded(tmp_path, "written"):
                cache.put_many(entries(5, 900))
            assert_same(cache.get_many(items), items)
            other._connection.execute("ROLLBACK")

    def test_waits_for_a_lock(self, tmp_path):
        with open_cache(tmp_path) as cache, open_cache(tmp_path) as other:
            other._connection.execute("BEGIN IMMEDIATE")
            timer = threading.Timer(0.3, other._connection.execute, ["COMMIT"])
            timer.start()
            cache.put_many(entries(5))
            timer.join()
            assert len(cache) == 5

    def test_interrupt_gets_through(self, tmp_path, monkeypatch):
        def interrupt(*args):
            raise KeyboardInterrupt

        with open_cache(tmp_path) as cache:
            with monkeypatch.context() as patch:
                patch.setattr(results, "write_rows", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    cache.put_many(entries(1))
            cache.put_many(entries(1))
            assert len(cache) == 1

    def test_folder_lock_never_given_up(self, tmp_path, monkeypatch):
        monkeypatch.setattr(database, "_TIMEOUT", 0.05)
        with database.folder_lock(tmp_path):
            assert_works(tmp_path, entries(3))

    def test_without_flock(self, tmp_path, monkeypatch):
        monkeypatch.setattr(database, "fcntl", None)
        foreign_text(tmp_path / FILE_NAME)
        with tells_replaced(tmp_path), open_cache(tmp_path) as cache:
            cache.put_many(entries(1))


WRITER = """
import sys
import numpy as np
from skmlmc._cache.results import open_cache, result_key

folder, number, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open_cache(folder) as cache:
    for batch in range(batches):
        items = {result_key(number, batch, i): {"a": np.full(30, batch, dtype=float)} for i in range(20)}
        cache.put_many(items)
        assert len(cache.get_many(items)) == 20
        print(batch, flush=True)
"""

FORK = """
import os, sys
import numpy as np
from skmlmc._cache.results import open_cache, result_key

def put(cache, name):
    cache.put_many({result_key(name, i): {"a": np.zeros(50)} for i in range(100)})

cache = open_cache(sys.argv[1])
put(cache, "before")
to_child, to_parent = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    assert len(cache) == 100
    put(cache, "child, parent open")
    os.write(to_parent[1], b"x")
    os.read(to_child[0], 1)
    put(cache, "child, parent closed")
    os._exit(0)
os.read(to_parent[0], 1)
put(cache, "parent")
cache.close()  # must see that the child still has the log open
os.write(to_child[1], b"x")
assert os.waitpid(pid, 0)[1] == 0
with open_cache(sys.argv[1]) as cache:
    print(len(cache))
"""


class TestProcesses:
    def test_two_writers_that_both_find_a_damaged_file(self, tmp_path):
        foreign_text(tmp_path / FILE_NAME)
        script = "import warnings; warnings.simplefilter('ignore')\n" + WRITER
        writers = [run_script(script, tmp_path, number, 15) for number in range(2)]
        for writer in writers:
            writer.communicate(timeout=60)
            assert writer.returncode == 0
        with open_cache(tmp_path) as cache:
            assert len(cache) == 2 * 15 * 20
            keys = [result_key(n, batch, i) for n in range(2) for batch in range(15) for i in range(20)]
            assert len(cache.get_many(keys)) == len(keys)
        # One of them set the file aside; the other did not do so again with the fresh one.
        assert names(tmp_path) == [FILE_NAME, f"{FILE_NAME}.damaged-1"]

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
    def test_kill_loses_nothing_committed(self, tmp_path):
        writer = run_script(WRITER, tmp_path, 0, 100_000)
        told = [int(writer.stdout.readline()) for _ in range(60)][-1]
        writer.send_signal(signal.SIGKILL)
        told = max([told, *map(int, writer.communicate(timeout=60)[0].split("\n")[:-1])])
        assert writer.returncode == -signal.SIGKILL
        with open_cache(tmp_path) as cache:
            keys = [result_key(0, batch, i) for batch in range(told + 1) for i in range(20)]
            assert len(cache.get_many(keys)) == len(keys)
            assert len(cache) % 20 == 0  # whole batches only
            cache.put_many(entries(3))
        assert names(tmp_path) == [FILE_NAME]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_forked_child(self, tmp_path):
        parent = run_script(FORK, tmp_path)
        assert parent.communicate(timeout=60)[0] == "400\n"
        assert parent.returncode == 0
        assert names(tmp_path) == [FILE_NAME]

    def test_hooks_around_a_fork(self, tmp_path):
        with open_cache(tmp_path) as cache:
            cache.put_many(entries(3))
            results._before_fork()
            assert cache._connection is None
            reader = threading.Thread(target=cache.get_many, args=(entries(3),))
            reader.start()
            reader.join(0.05)
            assert reader.is_alive()  # no thread opens the file again before the fork is over
            results._after_fork()
            reader.join()
            assert_same(cache.get_many(entries(3)), entries(3))

    def test_connection_of_another_process_is_not_used(self, tmp_path, monkeypatch):
        # A fork that Python does not see, from C, does not run the hooks.
        monkeypatch.setattr(results, "_ABANDONED", [])
        with open_cache(tmp_path) as cache:
            cache.put_many(entries(3))
            old = cache._connection
            cache._pid += 1
            assert_same(cache.get_many(entries(3)), entries(3))
            assert cache._connection is not old
            assert results._ABANDONED == [old]
        old.close()

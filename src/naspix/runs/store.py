"""The store of a run: one SQLite file, ``run.sqlite``, in the run's folder.

Three tables: ``header`` (what was asked for, versions, what was found for all items), ``batches``
(which items are done, which could not be computed, seconds and machine) and ``records`` (a row an
item and setting). A batch is one transaction with a checksum over its rows, so that a kill at any
moment leaves whole batches, and a damaged file is noticed: what still has its checksum is kept, the
rest is computed anew. One process writes, under a lock; others may read meanwhile. The journal is
SQLite's rollback journal, since runs lie on network file systems too. Lists of numbers are blobs.
"""

import contextlib
import hashlib
import json
import math
import os
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from naspix.errors import InputError, NaspixError, NaspixWarning, OutputError
from naspix.files import written
from naspix.machine import versions

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA = 2
STORE, _LOCK = "run.sqlite", ".lock"
_PATIENCE = 60.0  # seconds that a reader or writer waits for the other

Kind = Literal["int", "float", "text", "bool", "bytes", "float32s", "float64s", "uint8s"]
Row = Mapping[str, Any]
_NUMPY = {"float32s": np.float32, "float64s": np.float64, "uint8s": np.uint8}
_AFFINITY = {"int": "INTEGER", "bool": "INTEGER", "float": "REAL", "text": "TEXT"}
_TABLES = """
CREATE TABLE header (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum BLOB NOT NULL);
CREATE TABLE batches (
    start INTEGER PRIMARY KEY, stop INTEGER NOT NULL, about TEXT NOT NULL, checksum BLOB NOT NULL
);
"""


class Span(NamedTuple):
    """Items ``start`` to ``stop - 1`` of a list: computed, written and lost as one."""

    start: int
    stop: int


@dataclass(frozen=True)
class Failure:
    """An item that could not be computed.

    Attributes:
        index: Its place in the list.
        item: What it is called.
        reason: A sentence.
    """

    index: int
    item: str
    reason: str


@dataclass(frozen=True, eq=False)
class Part:
    """What a batch of items left.

    Attributes:
        span: Which items.
        rows: Records, one an item and setting, all with the same columns.
        columns: Name -> kind of each column; numbers that are NaN are kept as missing.
        failed: Items without records.
        seconds: Step -> time it took.
        machine: What computed it: processor, versions, threads.
    """

    span: Span
    rows: Sequence[Row]
    columns: Mapping[str, Kind]
    failed: tuple[Failure, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    machine: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run as it lies on disk; what is read is what is there at that moment.

    Attributes:
        folder: Where.
        kind: What kind of run wrote it.
        settings: What was asked for, plain values.
        header: All that holds for the whole run: ``kind``, ``settings``, ``naspix``, ``created``,
            ``versions``, and ``found``, what was decided at the beginning for all items.
    """

    folder: Path
    kind: str
    settings: Mapping[str, Any]
    header: Mapping[str, Any]

    def records(self, columns: Sequence[str] | None = None) -> "DataFrame":
        """All records in the order of the items; lists of numbers as arrays.

        Args:
            columns: Only these.

        Raises:
            InputError: If there are none yet, or some are damaged.
        """
        self._check()
        with _reading(self.folder) as connection:
            found = _frame(connection, columns, "ORDER BY _batch, _row")
        if not len(found):
            raise InputError(f"{self.folder} has no records yet")
        return found

    def batches(self, columns: Sequence[str] | None = None) -> "Iterator[DataFrame]":
        """The records of one batch after the other, so that memory holds only one.

        Args:
            columns: Only these.

        Raises:
            InputError: If some are damaged.
        """
        self._check()
        with _reading(self.folder) as connection:
            for span in _spans(connection):
                where = f"WHERE _batch = {span.start} ORDER BY _row"
                yield _frame(connection, columns, where)

    @property
    def failures(self) -> list[Failure]:
        """The items that could not be computed, in order."""
        return [Failure(**each) for about in self._about() for each in about["failed"]]

    @property
    def seconds(self) -> dict[str, float]:
        """Step -> time it took in all."""
        total: Counter[str] = Counter()
        for about in self._about():
            total.update(about["seconds"])
        return dict(total)

    @property
    def machines(self) -> list[Mapping[str, object]]:
        """What computed the batches, each machine once."""
        found = {json.dumps(about["machine"], sort_keys=True): about for about in self._about()}
        return [about["machine"] for about in found.values() if about["machine"]]

    @property
    def spans(self) -> list[Span]:
        """The batches that are done, in order."""
        with _reading(self.folder) as connection:
            return _spans(connection)

    @property
    def n_items(self) -> int:
        """How many items are done, failed ones included."""
        return sum(span.stop - span.start for span in self.spans)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write all records as a parquet file.

        Raises:
            OutputError: It cannot be written.
        """
        from naspix.files import write_whole

        with written(Path(path)), write_whole(Path(path)) as file:
            self.records().to_parquet(file, index=False)

    def _about(self) -> list[dict[str, Any]]:
        self._check()
        with _reading(self.folder) as connection:
            rows = connection.execute("SELECT about FROM batches ORDER BY start").fetchall()
        return [json.loads(about) for (about,) in rows]

    def _check(self) -> None:
        """Raise unless every batch has its checksum; each state of the file is read once."""
        path = self.folder / STORE
        status = path.stat()
        if not _is_whole(path, status.st_mtime_ns, status.st_size):
            raise InputError(
                f"{path} is damaged; run the same command again: what is whole is kept, the rest "
                "is computed anew"
            )


class OpenRun:
    """A run that this process alone writes to; made by `open_run`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection

    @property
    def run(self) -> Run:
        """What is on disk now."""
        return read_run(self.folder)

    def find(self, name: str, look: Callable[[], Any]) -> Any:
        """What was found when the run began, looked for now if it just begins.

        Args:
            name: Of what is to be found.
            look: Finds it; plain values, since they are kept as JSON.
        """
        found = _header(self._connection)["found"]
        if name not in found:
            found = {**found, name: look()}
            with self._writing():
                _put(self._connection, "found", found)
        return json.loads(json.dumps(found[name]))

    def pending(self, n_items: int, batch_size: int) -> list[Span]:
        """The batches that are still to be computed: what lacks of every ``batch_size`` items.

        Args:
            n_items: Length of the list.
            batch_size: Items a batch, at most.
        """
        done = {item for span in _spans(self._connection) for item in range(*span)}
        spans: list[Span] = []
        for start in range(0, n_items, batch_size):
            for item in range(start, min(start + batch_size, n_items)):
                if item in done:
                    continue
                if spans and spans[-1].stop == item and spans[-1].start >= start:
                    spans[-1] = Span(spans[-1].start, item + 1)
                else:
                    spans.append(Span(item, item + 1))
        return spans

    def add(self, part: Part) -> None:
        """Keep a part: once this returns, a kill does not lose it.

        Raises:
            OutputError: If it cannot be written.
        """
        columns = dict(part.columns)
        rows = [
            [_encoded(row.get(name), kind) for name, kind in columns.items()] for row in part.rows
        ]
        about = json.dumps(
            {
                "failed": [asdict(failure) for failure in part.failed],
                "seconds": dict(part.seconds),
                "machine": dict(part.machine),
            }
        )
        with self._writing():
            before = _columns(self._connection)
            if not before:
                _create_records(self._connection, columns)
                _put(self._connection, "columns", columns)
            _insert(self._connection, part.span, about, list(columns), rows)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction: all of it, or nothing."""
        with _in_words(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


@contextlib.contextmanager
def open_run(
    folder: str | os.PathLike[str],
    *,
    kind: str,
    settings: Mapping[str, Any],
    growing: Sequence[str] = (),
) -> Iterator[OpenRun]:
    """Begin a run in a folder, or continue the one that is there.

    Args:
        folder: Made if it is not there.
        kind: What kind of run, such as ``"wsol"``.
        settings: Plain values: what a record depends on.
        growing: Settings that are numbers of items and may be larger, or None for all, than before.

    Raises:
        InputError: If the folder holds a run with other settings, of another kind or format, and
            that left more than its settings.
        OutputError: If another process writes to it, or writing is not possible.

    Warns:
        NaspixWarning: The run was begun by another version, or its file was damaged.
    """
    folder = Path(folder)
    settings = json.loads(json.dumps(settings))  # as it will be read
    _refuse_former(folder)
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), contextlib.ExitStack() as stack:
        _set_aside_damage(folder)
        with _in_words(folder):
            connection = _connect(folder / STORE)
            stack.callback(connection.close)
            opened = OpenRun(folder, connection)
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                with opened._writing():
                    _begin(connection, kind, settings)
        before = read_run(folder)
        try:
            _check_same(before, kind, settings, growing)
        except InputError:
            if not _is_blank(folder, before):
                raise
            with opened._writing():  # it stopped before it left anything
                connection.execute("DELETE FROM header")
                _put_header(connection, kind, settings)
        else:
            _warn_of_versions(before)
            with opened._writing():
                _put(connection, "settings", settings)
        with opened._writing():
            since = datetime.now(UTC).isoformat(" ", "seconds")
            _put(connection, "holder", f"process {os.getpid()}, since {since}")
        yield opened


def read_run(folder: str | os.PathLike[str]) -> Run:
    """A run's settings, and its records when they are asked for.

    Raises:
        InputError: If the folder holds no run, one of another format, or a damaged one.
    """
    folder = Path(folder)
    _refuse_former(folder)
    path = folder / STORE
    if not path.is_file() or not path.stat().st_size:
        raise InputError(f"{folder} is no run: it has no {STORE}")
    with _reading(folder) as connection:
        header = _header(connection)
    if header["schema"] != SCHEMA:
        raise InputError(
            f"{folder} was written by naspix {header['naspix']} in schema {header['schema']}, "
            f"which this version (schema {SCHEMA}) does not read; use that version, or another "
            "folder"
        )
    return Run(folder, header["kind"], header["settings"], header)


def is_run(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a run."""
    return (Path(folder) / STORE).is_file()


# ------------------------------------------------------------------------------- the file


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection]:
    with _in_words(folder), contextlib.closing(_connect(folder / STORE, read_only=True)) as opened:
        yield opened


@contextlib.contextmanager
def _in_words(folder: Path) -> Iterator[None]:
    """SQLite's errors as sentences."""
    path = folder / STORE
    try:
        yield
    except sqlite3.OperationalError as error:
        words = str(error)
        reasons = {
            "full": "the disk is full; free some space or choose another folder with --output",
            "readonly": "writing there is not allowed; choose another folder with --output",
            "unable to open": "it cannot be opened; choose another folder with --output",
            "locked": "another process holds it; wait for it, or give another --output",
            "disk I/O": "the disk reports an error; choose another folder with --output",
        }
        reason = next((said for word, said in reasons.items() if word in words), None)
        if reason is None:
            raise InputError(_damage(path, words)) from None
        raise OutputError(f"cannot write {path}: {reason}") from None
    except (sqlite3.DatabaseError, UnicodeDecodeError, json.JSONDecodeError, KeyError) as error:
        raise InputError(_damage(path, str(error))) from None


def _damage(path: Path, reason: str) -> str:
    return (
        f"{path} is damaged ({reason.rstrip('.')}); run the same command again: what is whole is "
        "kept, the rest is computed anew"
    )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder inside the block; the lock of a process that has died is nobody's.

    Raises:
        OutputError: If another process holds it, or nothing can be written there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    with written(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = "another process"
            with contextlib.suppress(NaspixError, FileNotFoundError):
                holder = read_run(folder).header.get("holder", holder)
            raise OutputError(
                f"{folder} is in use by {holder}; wait for it, or give another --output"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _begin(connection: sqlite3.Connection, kind: str, settings: Mapping[str, Any]) -> None:
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)
    _put_header(connection, kind, settings)


def _put_header(connection: sqlite3.Connection, kind: str, settings: Mapping[str, Any]) -> None:
    known = versions()
    values = {
        "schema": SCHEMA,
        "kind": kind,
        "naspix": known.get("naspix", ""),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": known,
        "settings": settings,
        "found": {},
    }
    for name, value in values.items():
        _put(connection, name, value)


def _put(connection: sqlite3.Connection, name: str, value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    connection.execute(
        "INSERT OR REPLACE INTO header VALUES (?, ?, ?)", (name, text, _checksum([[name, text]]))
    )


def _header(connection: sqlite3.Connection) -> dict[str, Any]:
    header = {}
    for name, value, checksum in connection.execute("SELECT name, value, checksum FROM header"):
        if _checksum([[name, value]]) != checksum:
            raise sqlite3.DatabaseError("its header has another checksum")
        header[name] = json.loads(value)
    missing = {"schema", "kind", "naspix", "settings", "found", "versions", "created"} - set(header)
    if missing:
        raise sqlite3.DatabaseError("its header is not whole")
    return header


def _columns(connection: sqlite3.Connection) -> dict[str, Kind]:
    columns: dict[str, Kind] = _header(connection).get("columns", {})
    return columns


def _frame(
    connection: sqlite3.Connection, columns: Sequence[str] | None, clause: str
) -> "DataFrame":
    import pandas as pd

    kinds = _columns(connection)
    wanted = list(kinds) if columns is None else list(columns)
    query = f"SELECT {_quoted(wanted)} FROM records {clause}" if kinds else "SELECT 1 WHERE 0"
    rows = connection.execute(query).fetchall()
    return pd.DataFrame(
        {
            name: _decoded([row[place] for row in rows], kinds.get(name, "text"))
            for place, name in enumerate(wanted)
        }
    )


def _spans(connection: sqlite3.Connection) -> list[Span]:
    rows = connection.execute("SELECT start, stop FROM batches ORDER BY start").fetchall()
    return [Span(*row) for row in rows]


def _create_records(connection: sqlite3.Connection, columns: Mapping[str, Kind]) -> None:
    declared = [f'"{name}" {_AFFINITY.get(kind, "BLOB")}' for name, kind in columns.items()]
    connection.execute(
        "CREATE TABLE records (_batch INTEGER NOT NULL, _row INTEGER NOT NULL, "
        f"{', '.join(declared)})"
    )


def _insert(
    connection: sqlite3.Connection,
    span: Span,
    about: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> None:
    # numbered, since rows come in no certain order from a damaged file
    numbered = [(number, *row) for number, row in enumerate(rows)]
    checksum = _checksum([[*span, about], *numbered])
    connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (*span, about, checksum))
    if columns:
        marks = ", ".join("?" * (len(columns) + 2))
        connection.executemany(
            f"INSERT INTO records (_batch, _row, {_quoted(columns)}) VALUES ({marks})",
            [(span.start, *row) for row in numbered],
        )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _checksum(rows: Sequence[Sequence[object]]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        for value in row:
            data = value if isinstance(value, bytes) else repr(value).encode()
            digest.update(type(value).__name__.encode() + len(data).to_bytes(8, "little") + data)
    return digest.digest()


def _encoded(value: Any, kind: Kind) -> object:
    """A value as SQLite keeps it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if kind in _NUMPY:
        return np.ascontiguousarray(value, dtype=_NUMPY[kind]).tobytes()
    plain: dict[str, Callable[[Any], object]] = {
        "int": int, "bool": int, "float": float, "text": str, "bytes": bytes,
    }  # fmt: skip
    return plain[kind](value)


def _decoded(values: list[Any], kind: Kind) -> Any:
    """A column as pandas has it; missing floats are NaN, all else that is missing None."""
    import pandas as pd

    if kind in _NUMPY:
        return [None if v is None else np.frombuffer(v, _NUMPY[kind]) for v in values]
    if kind == "float":
        return np.array([math.nan if v is None else v for v in values], np.float64)
    if kind == "bool":
        return [None if v is None else bool(v) for v in values]
    if kind == "int" and None not in values:
        return np.array(values, np.int64)
    return pd.Series(values, dtype=object)  # which keeps None, and whole numbers beside it


# ------------------------------------------------------------------------------- damage


@lru_cache(maxsize=64)
def _is_whole(path: Path, modified: int, size: int) -> bool:
    try:
        with contextlib.closing(_connect(path, read_only=True)) as connection:
            names = list(_columns(connection))
            spans = _spans(connection)
            return all(_whole_batch(connection, span, names) is not None for span in spans) and (
                _n_rows_of(connection, names) == 0
            )
    except (sqlite3.DatabaseError, ValueError, KeyError, TypeError):
        return False


def _n_rows_of(connection: sqlite3.Connection, names: Sequence[str]) -> int:
    """How many records belong to no batch."""
    if not names:
        return 0
    count = "SELECT count(*) FROM records WHERE _batch NOT IN (SELECT start FROM batches)"
    return int(connection.execute(count).fetchone()[0])


def _whole_batch(
    connection: sqlite3.Connection, span: Span, names: Sequence[str]
) -> tuple[str, list[tuple[object, ...]]] | None:
    """What a batch left, if its checksum holds."""
    about, checksum = connection.execute(
        "SELECT about, checksum FROM batches WHERE start = ?", (span.start,)
    ).fetchone()
    rows: list[tuple[object, ...]] = []
    if names:
        rows = connection.execute(
            f"SELECT _row, {_quoted(names)} FROM records WHERE _batch = ? ORDER BY _row",
            (span.start,),
        ).fetchall()
    return (about, rows) if _checksum([[*span, about], *rows]) == checksum else None


def _set_aside_damage(folder: Path) -> None:
    """Keep a damaged file under another name, and what is whole of it in a new one.

    Warns:
        NaspixWarning: There was damage.
    """
    path = folder / STORE
    if not path.is_file() or not path.stat().st_size:
        return
    status = path.stat()
    if _is_whole(path, status.st_mtime_ns, status.st_size):
        return
    number = 1 + len(list(folder.glob("damaged-*.sqlite")))
    damaged = folder / f"damaged-{number}.sqlite"
    with written(folder):
        path.replace(damaged)
        journal = path.with_name(f"{STORE}-journal")
        if journal.exists():
            journal.replace(damaged.with_name(f"{damaged.name}-journal"))
    n_kept = _copy_whole(damaged, path)
    warnings.warn(
        f"{path} was damaged; it is {damaged.name} now, {n_kept} of its batches are kept and the "
        "others are computed again",
        NaspixWarning,
        stacklevel=5,
    )


def _copy_whole(damaged: Path, path: Path) -> int:
    """Copy the header, and each batch that has its checksum; return how many."""
    n_kept = 0
    try:
        with contextlib.closing(_connect(damaged)) as old:
            header = _header(old)
            names = list(_columns(old))
            spans = _spans(old)
            with contextlib.closing(_connect(path)) as new:
                new.execute("BEGIN IMMEDIATE")
                for statement in filter(str.strip, _TABLES.split(";")):
                    new.execute(statement)
                for name, value in header.items():
                    _put(new, name, value)
                if names:
                    _create_records(new, header["columns"])
                for span in spans:
                    with contextlib.suppress(sqlite3.DatabaseError, TypeError, ValueError):
                        found = _whole_batch(old, span, names)
                        if found is not None:
                            _insert(new, span, found[0], names, [row[1:] for row in found[1]])
                            n_kept += 1
                new.execute("COMMIT")
    except (sqlite3.DatabaseError, ValueError, KeyError, TypeError):
        path.unlink(missing_ok=True)  # nothing can be trusted: all is computed again
        return 0
    return n_kept


# ------------------------------------------------------------------------------- settings


def _refuse_former(folder: Path) -> None:
    if (folder / "run.json").is_file() and (folder / "records").is_dir():
        raise InputError(
            f"{folder} holds a run of naspix 0.1, in a format that this version does not read; "
            "use naspix 0.1 for it, or give another --output"
        )


def _is_blank(folder: Path, run: Run) -> bool:
    """Whether a run stopped before it left anything, for its settings could not be met, say."""
    others = [child for child in folder.iterdir() if child.name not in (STORE, _LOCK)]
    return not run.n_items and all(child.is_dir() and not any(child.iterdir()) for child in others)


def _check_same(run: Run, kind: str, settings: Mapping[str, Any], growing: Sequence[str]) -> None:
    if run.kind != kind:
        raise InputError(f"{run.folder} holds a run of {run.kind}, not of {kind}; give another")
    before, now = dict(_flat(run.settings)), dict(_flat(settings))
    for name in growing:
        was, wanted = before.get(name), now.get(name)
        if was is not None and (wanted is None or wanted >= was):
            before[name] = wanted
    different = [
        f"{name} was {_shown(before.get(name))} and is now {_shown(now.get(name))}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    if different:
        raise InputError(
            f"{run.folder} holds a run with other settings: {'; '.join(different)}; give the "
            "former settings to continue it, or another --output"
        )


def _flat(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _flat(value, f"{name}.{key}".lstrip("."))
    else:
        yield name, settings


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def _warn_of_versions(run: Run) -> None:
    before, now = run.header["versions"], versions()
    changed = [
        f"{name} {before.get(name)} then, {version} now"
        for name, version in now.items()
        if before.get(name) != version
    ]
    if changed:
        warnings.warn(
            f"{run.folder} was begun with other versions ({'; '.join(changed)}); each batch says "
            "which made it",
            NaspixWarning,
            stacklevel=4,
        )

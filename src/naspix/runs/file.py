"""The SQLite file of a run: its tables, its checksums, and what is done about damage.

Three tables: ``header`` (name and value as JSON), ``batches`` (which items are done, what is said
about them) and ``records`` (a row an item and setting, numbered in its batch). Every header entry
and every batch carries a checksum. The journal is SQLite's rollback journal, since runs lie on
network file systems too. Lists of numbers are blobs.
"""

import contextlib
import hashlib
import json
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from naspix.errors import InputError, NaspixWarning, OutputError
from naspix.files import written
from naspix.machine import versions

SCHEMA = 2
STORE = "run.sqlite"
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


@dataclass(frozen=True, order=True)
class Span:
    """Items ``start`` to ``stop - 1`` of a list: computed, written and lost as one.

    Attributes:
        start: The first item; a span unpacks as start and stop.
        stop: Behind the last.
        parts: Which of the things that are asked of an item, where a run names several; all of
            them if empty.
    """

    start: int
    stop: int
    parts: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[int]:
        return iter((self.start, self.stop))


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file, made if it is not there unless it is only read."""
    # a reader must be able to write: whoever comes next undoes what a killed writer began
    uri = f"{path.absolute().as_uri()}?mode={'rw' if read_only else 'rwc'}"
    connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """The file for reading, inside the block; damage as a sentence."""
    with in_words(folder), contextlib.closing(connect(folder / STORE, read_only=True)) as opened:
        yield opened


@contextlib.contextmanager
def in_words(folder: Path) -> Iterator[None]:
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


def begin(connection: sqlite3.Connection, kind: str, settings: Mapping[str, Any]) -> None:
    """Make the tables and the header of a new run."""
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)
    put_header(connection, kind, settings)


def put_header(connection: sqlite3.Connection, kind: str, settings: Mapping[str, Any]) -> None:
    """Write everything that a header begins with."""
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
        put(connection, name, value)


def put(connection: sqlite3.Connection, name: str, value: object) -> None:
    """Write one entry of the header, with its checksum."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    connection.execute(
        "INSERT OR REPLACE INTO header VALUES (?, ?, ?)", (name, text, _checksum([[name, text]]))
    )


def read_header(connection: sqlite3.Connection) -> dict[str, Any]:
    """All entries of the header.

    Raises:
        sqlite3.DatabaseError: An entry is damaged or missing.
    """
    header = {}
    for name, value, checksum in connection.execute("SELECT name, value, checksum FROM header"):
        if _checksum([[name, value]]) != checksum:
            raise sqlite3.DatabaseError("its header has another checksum")
        header[name] = json.loads(value)
    missing = {"schema", "kind", "naspix", "settings", "found", "versions", "created"} - set(header)
    if missing:
        raise sqlite3.DatabaseError("its header is not whole")
    return header


def read_columns(connection: sqlite3.Connection) -> dict[str, Kind]:
    """Name and kind of each column of the records; nothing before the first batch."""
    columns: dict[str, Kind] = read_header(connection).get("columns", {})
    return columns


def read_records(
    connection: sqlite3.Connection, columns: Sequence[str] | None, clause: str
) -> dict[str, Any]:
    """Chosen columns of the records that a clause selects."""
    kinds = read_columns(connection)
    wanted = list(kinds) if columns is None else list(columns)
    query = f"SELECT {_quoted(wanted)} FROM records {clause}" if kinds else "SELECT 1 WHERE 0"
    rows = connection.execute(query).fetchall()
    return {
        name: _decoded([row[place] for row in rows], kinds.get(name, "text"))
        for place, name in enumerate(wanted)
    }


def read_spans(connection: sqlite3.Connection) -> list[Span]:
    """The batches that are done, in order."""
    rows = connection.execute("SELECT start, stop FROM batches ORDER BY start").fetchall()
    return [Span(*row) for row in rows]


def parts_of_batches(connection: sqlite3.Connection) -> dict[Span, set[str] | None]:
    """Which parts each batch has, in order; None where the run names none."""
    named = read_header(connection)["found"].get("parts")
    query = "SELECT start, stop, about FROM batches ORDER BY start"
    return {
        Span(start, stop): None if named is None else set(json.loads(about).get("parts", named))
        for start, stop, about in connection.execute(query)
    }


def in_ranges(items: Sequence[int]) -> list[list[int]]:
    """Items as ranges ``[start, stop]`` of consecutive ones, in their order.

    Example:
        >>> in_ranges([5, 0, 1, 2])
        [[5, 6], [0, 3]]
    """
    ranges: list[list[int]] = []
    for item in items:
        if ranges and ranges[-1][1] == item:
            ranges[-1][1] = item + 1
        else:
            ranges.append([item, item + 1])
    return ranges


def create_records(connection: sqlite3.Connection, columns: Mapping[str, Kind]) -> None:
    """Make the table of records."""
    declared = [f'"{name}" {_AFFINITY.get(kind, "BLOB")}' for name, kind in columns.items()]
    connection.execute(
        "CREATE TABLE records (_batch INTEGER NOT NULL, _row INTEGER NOT NULL, "
        f"{', '.join(declared)})"
    )
    connection.execute("CREATE INDEX rows_of_batches ON records (_batch)")


def insert(
    connection: sqlite3.Connection,
    span: Span,
    about: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> None:
    """Write a batch and its rows, as SQLite keeps them, in place of what that batch had."""
    # numbered, since rows come in no certain order from a damaged file
    numbered = [(number, *row) for number, row in enumerate(rows)]
    checksum = _checksum([[*span, about], *numbered])
    connection.execute("DELETE FROM batches WHERE start = ?", (span.start,))
    connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (*span, about, checksum))
    if columns:
        connection.execute("DELETE FROM records WHERE _batch = ?", (span.start,))
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


def encoded(value: Any, kind: Kind) -> object:
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


@lru_cache(maxsize=64)
def is_whole(path: Path, modified: int, size: int) -> bool:
    """Whether every batch has its checksum; looked up once for each state of the file."""
    try:
        with contextlib.closing(connect(path, read_only=True)) as connection:
            connection.execute("BEGIN")  # one moment of the file, while another process may write
            names = list(read_columns(connection))
            spans = read_spans(connection)
            return all(whole_batch(connection, span, names) is not None for span in spans) and (
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


def whole_batch(
    connection: sqlite3.Connection, span: Span, names: Sequence[str]
) -> tuple[str, list[tuple[object, ...]]] | None:
    """What a batch left, if it is there and its checksum holds."""
    found = connection.execute(
        "SELECT about, checksum FROM batches WHERE start = ? AND stop = ?", (*span,)
    ).fetchone()
    if found is None:
        return None
    about, checksum = found
    rows: list[tuple[object, ...]] = []
    if names:
        rows = connection.execute(
            f"SELECT _row, {_quoted(names)} FROM records WHERE _batch = ? ORDER BY _row",
            (span.start,),
        ).fetchall()
    return (about, rows) if _checksum([[*span, about], *rows]) == checksum else None


def set_aside_damage(folder: Path) -> None:
    """Keep a damaged file under another name, and what is whole of it in a new one.

    Warns:
        NaspixWarning: There was damage.
    """
    path = folder / STORE
    if not path.is_file() or not path.stat().st_size:
        return
    status = path.stat()
    if is_whole(path, status.st_mtime_ns, status.st_size):
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
        with contextlib.closing(connect(damaged)) as old:
            header = read_header(old)
            names = list(read_columns(old))
            spans = read_spans(old)
            with contextlib.closing(connect(path)) as new:
                new.execute("BEGIN IMMEDIATE")
                for statement in filter(str.strip, _TABLES.split(";")):
                    new.execute(statement)
                for name, value in header.items():
                    put(new, name, value)
                if names:
                    create_records(new, header["columns"])
                for span in spans:
                    with contextlib.suppress(sqlite3.DatabaseError, TypeError, ValueError):
                        found = whole_batch(old, span, names)
                        if found is not None:
                            insert(new, span, found[0], names, [row[1:] for row in found[1]])
                            n_kept += 1
                new.execute("COMMIT")
    except (sqlite3.DatabaseError, ValueError, KeyError, TypeError):
        path.unlink(missing_ok=True)  # nothing can be trusted: all is computed again
        return 0
    return n_kept

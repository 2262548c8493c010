"""The store of a run: one SQLite file, ``run.sqlite``, in the run's folder.

A run is begun in an empty folder, continued with the same settings, else refused. A batch is one
transaction with a checksum over its rows, so that a kill at any moment leaves whole batches, and a
damaged file is noticed: what still has its checksum is kept, the rest is computed anew. One process
writes, under a lock; others may read meanwhile. `file.py` has the file itself.
"""

import contextlib
import json
import os
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naspix.errors import InputError, NaspixError, NaspixWarning, OutputError
from naspix.files import written
from naspix.machine import versions
from naspix.runs.file import (
    SCHEMA,
    STORE,
    Kind,
    Row,
    Span,
    begin,
    connect,
    create_records,
    encoded,
    in_words,
    insert,
    is_whole,
    put,
    put_header,
    read_columns,
    read_header,
    read_records,
    read_spans,
    reading,
    set_aside_damage,
)

if TYPE_CHECKING:
    from pandas import DataFrame

_LOCK = ".lock"


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
        import pandas as pd

        self._check()
        with reading(self.folder) as connection:
            found = pd.DataFrame(read_records(connection, columns, "ORDER BY _batch, _row"))
        if not len(found):
            raise InputError(f"{self.folder} has no records yet")
        return found

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Records as plain values, one after the other; memory holds a batch of them.

        Args:
            columns: Only these.

        Raises:
            InputError: If some are damaged.
        """
        self._check()
        with reading(self.folder) as connection:
            for span in read_spans(connection):
                where = f"WHERE _batch = {span.start} ORDER BY _row"
                found = read_records(connection, columns, where)
                yield from (
                    dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)
                )

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
        with reading(self.folder) as connection:
            return read_spans(connection)

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
        with reading(self.folder) as connection:
            rows = connection.execute("SELECT about FROM batches ORDER BY start").fetchall()
        return [json.loads(about) for (about,) in rows]

    @property
    def state(self) -> tuple[Path, int, int]:
        """What changes when the file does: what was computed of one state need not be again."""
        status = (self.folder / STORE).stat()
        return self.folder, status.st_mtime_ns, status.st_size

    def _check(self) -> None:
        """Raise unless every batch has its checksum; each state of the file is read once."""
        path = self.folder / STORE
        if not is_whole(path, *self.state[1:]):
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
        found = read_header(self._connection)["found"]
        if name not in found:
            found = {**found, name: look()}
            with self._writing():
                put(self._connection, "found", found)
        return json.loads(json.dumps(found[name]))

    def pending(self, n_items: int, batch_size: int) -> list[Span]:
        """The batches that are still to be computed: what lacks of every ``batch_size`` items.

        Args:
            n_items: Length of the list.
            batch_size: Items a batch, at most.
        """
        done = {item for span in read_spans(self._connection) for item in range(*span)}
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
            [encoded(row.get(name), kind) for name, kind in columns.items()] for row in part.rows
        ]
        about = json.dumps(
            {
                "failed": [asdict(failure) for failure in part.failed],
                "seconds": dict(part.seconds),
                "machine": dict(part.machine),
            }
        )
        with self._writing():
            before = read_columns(self._connection)
            if not before:
                create_records(self._connection, columns)
                put(self._connection, "columns", columns)
            insert(self._connection, part.span, about, list(columns), rows)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction: all of it, or nothing."""
        with in_words(self.folder):
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
    free: Sequence[str] = (),
) -> Iterator[OpenRun]:
    """Begin a run in a folder, or continue the one that is there.

    Args:
        folder: Made if it is not there.
        kind: What kind of run, such as ``"wsol"``.
        settings: Plain values: what a record depends on.
        growing: Settings that are numbers of items and may be larger, or None for all, than before.
        free: Settings that may differ, since no record depends on them.

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
        set_aside_damage(folder)
        with in_words(folder):
            connection = connect(folder / STORE)
            stack.callback(connection.close)
            opened = OpenRun(folder, connection)
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                with opened._writing():
                    begin(connection, kind, settings)
        before = read_run(folder)
        try:
            _check_same(before, kind, settings, growing, free)
        except InputError:
            if not _is_blank(folder, before):
                raise
            with opened._writing():  # it stopped before it left anything
                connection.execute("DELETE FROM header")
                put_header(connection, kind, settings)
        else:
            _warn_of_versions(before)
            with opened._writing():
                put(connection, "settings", settings)
        with opened._writing():
            now = datetime.now(UTC)
            since = f"{now.day} {now:%B %Y, %H:%M} UTC"
            put(connection, "holder", f"process {os.getpid()} (since {since})")
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
    with reading(folder) as connection:
        header = read_header(connection)
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


def _check_same(
    run: Run, kind: str, settings: Mapping[str, Any], growing: Sequence[str], free: Sequence[str]
) -> None:
    if run.kind != kind:
        raise InputError(
            f"{run.folder} holds a run of {run.kind}, not of {kind}; give another --output"
        )
    before, now = dict(_flat(run.settings)), dict(_flat(settings))
    for name in growing:
        was, wanted = before.get(name), now.get(name)
        if was is not None and (wanted is None or wanted >= was):
            before[name] = wanted
    for name in free:
        before[name] = now.get(name)
    different = [
        f"other {name.rpartition('.')[0].replace('data', 'pictures in the data set')}"
        if name.endswith("_sha256")
        else f"{name} was {_shown(before.get(name))} and is now {_shown(now.get(name))}"
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

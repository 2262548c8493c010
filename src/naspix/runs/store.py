"""The store of a run: one SQLite file, ``run.sqlite``, in the run's folder.

A run is begun in an empty folder, continued with the same settings, else refused. Where a run names
the parts that are asked of an item (a method and segmenter, say), others may be asked later: what
lacks of each batch is computed and put into it, and what was asked last is shown. A batch is one
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
    STORE,
    Kind,
    Row,
    Span,
    begin,
    connect,
    create_records,
    encoded,
    in_ranges,
    in_words,
    insert,
    parts_of_batches,
    put,
    put_header,
    read_columns,
    read_header,
    set_aside_damage,
    whole_batch,
)
from naspix.runs.run import Failure, Run, read_run, refuse_former

if TYPE_CHECKING:
    pass

_LOCK = ".lock"

Joined = Callable[["Run", Mapping[str, Any]], tuple[Mapping[str, Any], Sequence[str]]]


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

    def find_more(self, name: str, more: Mapping[str, Any]) -> Any:
        """Add entries to what was found when the run began, and return all of it."""
        found = read_header(self._connection)["found"]
        found[name] = {**found.get(name, {}), **more}
        with self._writing():
            put(self._connection, "found", found)
        return found[name]

    def show(
        self, items: Sequence[int], parts: Mapping[str, Sequence[str]], by: Sequence[str] = ()
    ) -> None:
        """Keep what is asked for, so that this is what is read: other records stay unseen.

        Args:
            items: Which, in the order in which they are read.
            parts: Name of a part -> what its records have in some columns.
            by: These columns. Without any, an item has one part at a time: another one that is
                computed takes its place.
        """
        asked = {"items": in_ranges(items), "parts": {**parts}, "by": list(by)}
        with self._writing():
            put(self._connection, "shown", asked)

    def pending(
        self, items: Sequence[int], batch_size: int, parts: Sequence[str] = ()
    ) -> list[Span]:
        """The batches that are still to be computed: what lacks of every ``batch_size`` items.

        Args:
            items: Which are asked for.
            batch_size: Items a batch, at most; what lacks of batches of former runs is asked for
                in these.
            parts: What is asked of each item, by name.
        """
        asked, done, spans = set(items), set[int](), list[Span]()
        replaced = self._replaces
        for span, of_batch in parts_of_batches(self._connection).items():
            lacking = () if of_batch is None else tuple(one for one in parts if one not in of_batch)
            if lacking and replaced:
                continue
            done.update(range(*span))
            if lacking and not asked.isdisjoint(range(*span)):
                spans.append(Span(span.start, span.stop, lacking))
        fresh: list[Span] = []
        for item in sorted(asked - done):
            if fresh and fresh[-1].stop == item and item % batch_size:
                fresh[-1] = Span(fresh[-1].start, item + 1, tuple(parts))
            else:
                fresh.append(Span(item, item + 1, tuple(parts)))
        return sorted([*spans, *fresh])

    @property
    def _replaces(self) -> bool:
        """Whether an item has one part at a time."""
        shown = read_header(self._connection).get("shown")
        return shown is not None and not shown["by"]

    def add(self, part: Part) -> None:
        """Keep a part: once this returns, a kill does not lose it.

        Raises:
            OutputError: If it cannot be written.
        """
        columns = dict(part.columns)
        rows = [
            [encoded(row.get(name), kind) for name, kind in columns.items()] for row in part.rows
        ]
        about: dict[str, Any] = {
            "failed": [asdict(failure) for failure in part.failed],
            "seconds": dict(part.seconds),
            "machine": dict(part.machine),
        }
        if part.span.parts:
            about["parts"] = list(part.span.parts)
            about["failed"] = [{**one, "parts": about["parts"]} for one in about["failed"]]
        with self._writing():
            before = read_columns(self._connection)
            if not before:
                create_records(self._connection, columns)
                put(self._connection, "columns", columns)
            if self._replaces:
                self._insert_each(part, about, rows)
                return
            if before and part.span.parts:
                rows, about = self._merged(part.span, list(columns), rows, about)
            insert(self._connection, part.span, json.dumps(about), list(columns), rows)

    def _insert_each(self, part: Part, about: dict[str, Any], rows: list[list[Any]]) -> None:
        """Write every item as a batch of its own, so that each can be replaced."""
        for item in range(*part.span):
            its = {**about, "failed": [one for one in about["failed"] if one["index"] == item]}
            if item > part.span.start:
                its["seconds"] = {}  # those of all stand beside the first
            its_rows = [
                values for row, values in zip(part.rows, rows, strict=True) if row["index"] == item
            ]
            span = Span(item, item + 1)
            insert(self._connection, span, json.dumps(its), list(part.columns), its_rows)

    def _merged(
        self, span: Span, columns: list[str], rows: list[list[Any]], about: dict[str, Any]
    ) -> tuple[list[list[Any]], dict[str, Any]]:
        """A batch with what it had before; what is computed now counts."""
        parts = parts_of_batches(self._connection).get(Span(*span))
        former = None if parts is None else whole_batch(self._connection, span, columns)
        if former is None:
            return rows, about
        shown = read_header(self._connection)["shown"]
        keys = [columns.index(name) for name in ("index", *shown["by"])]
        several = [*(list(row[1:]) for row in former[1]), *rows]  # the first value is a number
        unique = {tuple(row[at] for at in keys): row for row in several}
        before = json.loads(former[0])
        earlier = [*before.get("earlier", ()), before["machine"]]
        seconds = Counter(before["seconds"])
        seconds.update(about["seconds"])
        return sorted(unique.values(), key=lambda row: row[keys[0]]), {
            "failed": [*before["failed"], *about["failed"]],
            "seconds": dict(seconds),
            "machine": about["machine"],
            "earlier": [one for one in earlier if one != about["machine"]],
            "parts": [*dict.fromkeys([*(parts or ()), *about["parts"]])],
        }

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
    joined: Joined | None = None,
) -> Iterator[OpenRun]:
    """Begin a run in a folder, or continue the one that is there.

    Args:
        folder: Made if it is not there.
        kind: What kind of run, such as ``"wsol"``.
        settings: Plain values: what a record depends on.
        growing: Settings that are numbers of items and may be larger, or None for all, than before.
        free: Settings that may differ, since no record depends on them, and all below them.
        joined: Told the run that is there and the settings; returns those to be kept, and more that
            may differ.

    Raises:
        InputError: If the folder holds a run with other settings, of another kind or format, and
            that left more than its settings.
        OutputError: If another process writes to it, or writing is not possible.

    Warns:
        NaspixWarning: The run was begun by another version, or its file was damaged.
    """
    folder = Path(folder)
    settings = json.loads(json.dumps(settings))  # as it will be read
    refuse_former(folder)
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
            if joined is not None and before.kind == kind:
                settings, more = joined(before, settings)
                free = [*free, *more]
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
    different = differences(run, settings, growing=growing, free=free)
    if different:
        raise InputError(
            f"{run.folder} holds a run with other settings: {'; '.join(different)}; give the "
            "former settings to continue it, or another --output"
        )


def differences(
    run: Run, settings: Mapping[str, Any], *, growing: Sequence[str] = (), free: Sequence[str] = ()
) -> list[str]:
    """In what settings differ from a run's, a few words each; arguments are those of `open_run`."""
    before, now = dict(_flat(run.settings)), dict(_flat(settings))
    for name in growing:
        was, wanted = before.get(name), now.get(name)
        if was is not None and (wanted is None or wanted >= was):
            before[name] = wanted
    for name in {*before, *now}:
        if any(name == one or name.startswith(f"{one}.") for one in free):
            before[name] = now.get(name)
    return [
        f"other {name.rpartition('.')[0].replace('data', 'pictures in the data set')}"
        if name.endswith("_sha256")
        else f"{name} was {_shown(before.get(name))} and is now {_shown(now.get(name))}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]


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

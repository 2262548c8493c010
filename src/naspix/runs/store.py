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
import math
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
    whole_batch,
)

if TYPE_CHECKING:
    from pandas import DataFrame

_LOCK = ".lock"

Joined = Callable[["Run", Mapping[str, Any]], tuple[Mapping[str, Any], Sequence[str]]]


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
        shown = self._shown
        wanted = None if columns is None or not shown else [*columns, "index", *shown["by"]]
        with reading(self.folder) as connection:
            query = list(dict.fromkeys(wanted)) if wanted else columns
            found = pd.DataFrame(read_records(connection, query, "ORDER BY _batch, _row"))
        if shown and len(found):
            place = {tuple(one): at for at, one in enumerate(shown["parts"].values())}
            rank = [place.get(one) for one in zip(*(found[by] for by in shown["by"]), strict=True)]
            kept = found["index"].isin(self._items() - {one.index for one in self.failures})
            found = found.assign(_rank=rank)[kept & pd.Series(rank, dtype=object).notna()]
            found = found.sort_values(["index", "_rank"], kind="stable", ignore_index=True)
            found = found[list(columns or found.columns[:-1])]
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
        wanted = set(self._shown.get("parts", ()))
        found = {
            each["index"]: Failure(each["index"], each["item"], each["reason"])
            for about in self._about()
            for each in about["failed"]
            if not wanted or not each.get("parts") or wanted & set(each["parts"])
        }
        n_items = self._shown.get("n_items", math.inf)
        return [one for index, one in sorted(found.items()) if index < n_items]

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
        found: dict[str, Mapping[str, object]] = {}
        for about in self._about():
            for machine in (*about.get("earlier", ()), about["machine"]):
                found[json.dumps(machine, sort_keys=True)] = machine
        return [machine for machine in found.values() if machine]

    @property
    def spans(self) -> list[Span]:
        """The batches that are done, in order."""
        with reading(self.folder) as connection:
            return read_spans(connection)

    @property
    def n_items(self) -> int:
        """How many items are done, failed ones included; of those that were asked for last."""
        return len(self._items())

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
    def _shown(self) -> Mapping[str, Any]:
        """What was asked for last, where the run names its parts."""
        shown: Mapping[str, Any] = self.header.get("shown", {})
        return shown

    def _items(self) -> set[int]:
        """Items of which all that was asked for last is there."""
        wanted = set(self._shown.get("parts", ()))
        n_items = self._shown.get("n_items", math.inf)
        with reading(self.folder) as connection:
            done = _parts_of_batches(connection)
        return {
            item
            for span, parts in done.items()
            if parts is None or wanted <= parts
            for item in range(*span)
            if item < n_items
        }

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

    def find_more(self, name: str, more: Mapping[str, Any]) -> Any:
        """Add entries to what was found when the run began, and return all of it."""
        found = read_header(self._connection)["found"]
        found[name] = {**found.get(name, {}), **more}
        with self._writing():
            put(self._connection, "found", found)
        return found[name]

    def show(self, n_items: int, parts: Mapping[str, Sequence[str]], by: Sequence[str]) -> None:
        """Keep what is asked for, so that this is what is read: other records stay unseen.

        Args:
            n_items: Length of the list.
            parts: Name of a part -> what its records have in some columns.
            by: These columns.
        """
        asked = {"n_items": n_items, "parts": {**parts}, "by": list(by)}
        with self._writing():
            put(self._connection, "shown", asked)

    def pending(self, n_items: int, batch_size: int, parts: Sequence[str] = ()) -> list[Span]:
        """The batches that are still to be computed: what lacks of every ``batch_size`` items.

        Args:
            n_items: Length of the list.
            batch_size: Items a batch, at most; what lacks of batches of former runs is asked for
                in these.
            parts: What is asked of each item, by name.
        """
        batches = _parts_of_batches(self._connection)
        done = {item for span in batches for item in range(*span)}
        lacking = [
            Span(span.start, span.stop, tuple(one for one in parts if one not in of_batch))
            for span, of_batch in batches.items()
            if of_batch is not None and span.start < n_items
        ]
        spans: list[Span] = []
        for start in range(0, n_items, batch_size):
            for item in range(start, min(start + batch_size, n_items)):
                if item in done:
                    continue
                if spans and spans[-1].stop == item and spans[-1].start >= start:
                    spans[-1] = Span(spans[-1].start, item + 1, tuple(parts))
                else:
                    spans.append(Span(item, item + 1, tuple(parts)))
        return sorted([*spans, *(span for span in lacking if span.parts)])

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
            elif part.span.parts:
                rows, about = self._merged(part.span, list(columns), rows, about)
            insert(self._connection, part.span, json.dumps(about), list(columns), rows)

    def _merged(
        self, span: Span, columns: list[str], rows: list[list[Any]], about: dict[str, Any]
    ) -> tuple[list[list[Any]], dict[str, Any]]:
        """A batch with what it had before; what is computed now counts."""
        parts = _parts_of_batches(self._connection).get(Span(*span))
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


def _parts_of_batches(connection: sqlite3.Connection) -> dict[Span, set[str] | None]:
    """Which parts each batch has, in order; None where the run names none."""
    named = read_header(connection)["found"].get("parts")
    query = "SELECT start, stop, about FROM batches ORDER BY start"
    return {
        Span(start, stop): None if named is None else set(json.loads(about).get("parts", named))
        for start, stop, about in connection.execute(query)
    }


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
    for name in {*before, *now}:
        if any(name == one or name.startswith(f"{one}.") for one in free):
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

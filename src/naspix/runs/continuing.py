"""Writing a run: begun in an empty folder, continued with the same settings, else refused.

Whoever is killed, at whatever moment, leaves whole parts, and the same command computes what is
missing. One process writes, under a lock; small parts are merged as they come, so that a run of a
million items is not a million files.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from naspix.errors import InputError, NaspixWarning
from naspix.files import write_whole, written
from naspix.runs.lock import locked
from naspix.runs.parts import Part, Span, check_whole, parts_in, span_of
from naspix.runs.store import DAMAGED, HEADER, LOCK, RECORDS, SCHEMA, Run, read_run

MERGED = 64  # parts become one file


class OpenRun:
    """A run that this process alone writes to; made by `open_run`.

    Args:
        run: What is on disk.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._header = dict(run.header)
        self._found: dict[str, Any] = dict(run.header["found"])
        self._done: set[Span] = set()
        self._batch_size, self._n_items = 0, 0

    def find(self, name: str, look: Callable[[], Any]) -> Any:
        """What was found when the run began, looked for now if it just begins.

        Args:
            name: Of what is to be found.
            look: Finds it; plain values, since they are kept as JSON.
        """
        if name not in self._found:
            self._found[name] = look()
            self._header["found"] = self._found
            _write_header(self.run.folder, self._header)
            self._found = json.loads(json.dumps(self._found))
        return self._found[name]

    def pending(self, n_items: int, batch_size: int) -> list[Span]:
        """The batches that are still to be computed.

        Batches are the same however often a run was interrupted, so that a number does not depend
        on it. Parts that cannot be read, and the short last batch of a run that was to be shorter,
        are computed anew.

        Args:
            n_items: Length of the list.
            batch_size: Items a batch.

        Warns:
            NaspixWarning: Parts were damaged.
        """
        self._batch_size, self._n_items = batch_size, n_items
        batches = [
            Span(start, min(start + batch_size, n_items)) for start in range(0, n_items, batch_size)
        ]
        self._set_aside_damaged()
        self._done = {
            batch for batch in batches for part in [self._part_over(batch)] if part is not None
        }
        self._remove_leftovers(wanted=set(batches))
        return [batch for batch in batches if batch not in self._done]

    def add(self, span: Span, encoded: bytes) -> None:
        """Keep a part: once this returns, a kill does not lose it.

        Args:
            span: Its items.
            encoded: What ``Part.encode`` made.

        Raises:
            OutputError: If it cannot be written.
        """
        with written(self._records), write_whole(self._records / span.file_name) as file:
            file.write(encoded)
            file.flush()
            os.fsync(file.fileno())
        self._done.add(span)
        self._merge_around(span)

    @property
    def _records(self) -> Path:
        return self.run.folder / RECORDS

    @property
    def _merged_items(self) -> int:
        return self._batch_size * MERGED

    def _is_merged(self, span: Span) -> bool:
        return span.start % self._merged_items == 0 and span.stop - span.start == self._merged_items

    def _part_over(self, batch: Span) -> Path | None:
        """The file that has a batch's records."""
        start = batch.start - batch.start % self._merged_items
        for span in (Span(start, start + self._merged_items), batch):
            file = self._records / span.file_name
            if span.covers(batch) and file.exists():
                return file
        return None

    def _remove_leftovers(self, wanted: set[Span]) -> None:
        """What a kill left half written or merged and not removed; a shorter run's last part."""
        kept = parts_in(self._records)
        for file in self._records.iterdir():
            span = span_of(file.name)
            half_written = file.name.startswith(".") and file.suffix == ".part"
            merged = span is not None and (span not in kept)
            other = span is not None and span not in wanted and not self._is_merged(span)
            if half_written or merged or other:
                file.unlink()

    def _set_aside_damaged(self) -> None:
        damaged = []
        for file in parts_in(self._records).values():
            try:
                check_whole(file)
            except InputError:
                (self.run.folder / DAMAGED).mkdir(exist_ok=True)
                file.replace(self.run.folder / DAMAGED / file.name)
                damaged.append(file.name)
        if damaged:
            warnings.warn(
                f"{', '.join(damaged)} in {self._records} cannot be read; moved to {DAMAGED}/, "
                "and computed again",
                NaspixWarning,
                stacklevel=4,
            )

    def _merge_around(self, span: Span) -> None:
        """Make one file of many small ones, once all of a block are there."""
        start = span.start - span.start % self._merged_items
        block = [
            Span(first, first + self._batch_size)
            for first in range(start, start + self._merged_items, self._batch_size)
        ]
        if not self._done.issuperset(block):
            return
        files = [self._records / each.file_name for each in block]
        if not all(file.exists() for file in files):  # merged by an earlier run
            return
        merged = Part.merged([Part.read(file) for file in files])
        with written(self._records), write_whole(self._records / merged.span.file_name) as file:
            file.write(merged.encode())
            file.flush()
            os.fsync(file.fileno())
        for each in files:
            each.unlink()


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
        InputError: If the folder holds a run with other settings, of another kind or schema, and
            that left more than its settings.
        OutputError: If another process writes to it, or writing is not possible.

    Warns:
        NaspixWarning: The run was begun by another version.
    """
    folder = Path(folder)
    settings = json.loads(json.dumps(settings))  # as it will be read
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK):
        header = _header_to_go_on_with(folder, kind, settings, growing)
        with written(folder):
            (folder / RECORDS).mkdir(exist_ok=True)
        _write_header(folder, header)
        yield OpenRun(read_run(folder))


def _header_to_go_on_with(
    folder: Path, kind: str, settings: Mapping[str, Any], growing: Sequence[str]
) -> dict[str, Any]:
    """The header of the run that is there, or a new one."""
    if not (folder / HEADER).exists():
        _refuse_foreign(folder)
        return _new_header(kind, settings)
    run = read_run(folder)
    try:
        _check_same(run, kind, settings, growing)
    except InputError:
        if _is_blank(folder):
            return _new_header(kind, settings)
        raise
    _warn_of_versions(run)
    return {**run.header, "settings": settings}


def _is_blank(folder: Path) -> bool:
    """Whether a run stopped before it left anything, for its settings could not be met, say."""
    own = (HEADER, LOCK, RECORDS)
    others = [child for child in folder.iterdir() if child.name not in own]
    empty = all(child.is_dir() and not any(child.iterdir()) for child in others)
    return empty and not parts_in(folder / RECORDS)


def _refuse_foreign(folder: Path) -> None:
    if (folder / RECORDS).exists():
        raise InputError(
            f"{folder} has {RECORDS}/ but no {HEADER}, which says what they are; give another "
            "--output"
        )


def _new_header(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    from naspix.report import RunRecord

    versions = RunRecord(settings={}).versions
    return {
        "schema": SCHEMA,
        "kind": kind,
        "naspix": versions.get("naspix", ""),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": dict(versions),
        "settings": settings,
        "found": {},
    }


def _write_header(folder: Path, header: Mapping[str, Any]) -> None:
    text = json.dumps(header, indent=1, ensure_ascii=False, allow_nan=False)
    with written(folder), write_whole(folder / HEADER) as file:
        file.write(text.encode())


def _check_same(run: Run, kind: str, settings: Mapping[str, Any], growing: Sequence[str]) -> None:
    if run.kind != kind:
        raise InputError(f"{run.folder} holds a run of {run.kind}, not of {kind}; give another")
    before, now = dict(_flat(run.settings)), dict(_flat(settings))
    for name in growing:
        if _grows(before.get(name), now.get(name)):
            before[name] = now.get(name)
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


def _grows(before: Any, now: Any) -> bool:
    return before is not None and (now is None or now >= before)


def _flat(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _flat(value, f"{name}.{key}".lstrip("."))
    else:
        yield name, settings


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def _warn_of_versions(run: Run) -> None:
    before = run.header.get("versions", {})
    now = _new_header(run.kind, {})["versions"]
    changed = [
        f"{name} {before.get(name)} then, {version} now"
        for name, version in now.items()
        if before.get(name) != version
    ]
    if changed:
        warnings.warn(
            f"{run.folder} was begun with other versions ({'; '.join(changed)}); each part says "
            "which made it",
            NaspixWarning,
            stacklevel=5,
        )

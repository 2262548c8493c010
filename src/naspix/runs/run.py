"""A run as it lies on disk: its settings, what is shown of its records, what failed.

What is read is what is there at that moment, be the run finished or not. Where a run names the
parts that are asked of an item, what was asked last is shown: the items that have all of it.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naspix.errors import InputError
from naspix.files import written
from naspix.runs.file import (
    SCHEMA,
    STORE,
    Span,
    is_whole,
    parts_of_batches,
    read_columns,
    read_header,
    read_records,
    read_spans,
    reading,
    whole_batch,
)

if TYPE_CHECKING:
    from pandas import DataFrame


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
        if shown and shown["by"] and len(found):
            place = {tuple(one): at for at, one in enumerate(shown["parts"].values())}
            rank = [place.get(one) for one in zip(*(found[by] for by in shown["by"]), strict=True)]
            kept = found["index"].isin({*self._items()} - {one.index for one in self.failures})
            found = found.assign(_rank=rank)[kept & pd.Series(rank, dtype=object).notna()]
            found = found.sort_values(["index", "_rank"], kind="stable", ignore_index=True)
            found = found[list(columns or found.columns[:-1])]
        if not len(found):
            raise InputError(f"{self.folder} has no records yet")
        return found

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Records as plain values, one after the other; memory holds a batch of them.

        Where each item is a batch, these are the items that were asked for, in that order.

        Args:
            columns: Only these.

        Raises:
            InputError: If some are damaged.
        """
        self._check()
        shown = self._shown
        each = self._items() if shown and not shown["by"] else None
        with reading(self.folder) as connection:
            spans = read_spans(connection)
            for start in [span.start for span in spans] if each is None else each:
                where = f"WHERE _batch = {start} ORDER BY _row"
                found = read_records(connection, columns, where)
                yield from (
                    dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)
                )

    def rows_of(self, item: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Records of an item that is a batch of its own, whatever was asked for; none if damaged.

        Args:
            item: Its number.
            columns: Only these.
        """
        with reading(self.folder) as connection:
            kinds = read_columns(connection)
            found = whole_batch(connection, Span(item, item + 1), list(kinds))
        places = [(name, 1 + list(kinds).index(name)) for name in columns if name in kinds]
        return [{name: row[at] for name, at in places} for row in (found[1] if found else ())]

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
        return [one for index, one in sorted(found.items()) if self._is_asked(index)]

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

    @property
    def is_finished(self) -> bool:
        """Whether all that was asked for last is there, where the run names what is asked for."""
        n_asked = sum(stop - start for start, stop in self._shown.get("items", ()))
        return bool(n_asked) and n_asked == self.n_items

    def _is_asked(self, item: int) -> bool:
        ranges = self._shown.get("items")
        return ranges is None or any(start <= item < stop for start, stop in ranges)

    def _items(self) -> list[int]:
        """Items of which all that was asked for last is there, in the order asked."""
        wanted = set(self._shown.get("parts", ()))
        with reading(self.folder) as connection:
            batches = parts_of_batches(connection)
        done = {
            item: None
            for span, parts in batches.items()
            if parts is None or wanted <= parts
            for item in range(*span)
        }
        ranges = self._shown.get("items")
        if ranges is None:
            return list(done)
        return [item for start, stop in ranges for item in range(start, stop) if item in done]

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


def read_run(folder: str | os.PathLike[str]) -> Run:
    """A run's settings, and its records when they are asked for.

    Raises:
        InputError: If the folder holds no run, one of another format, or a damaged one.
    """
    folder = Path(folder)
    refuse_former(folder)
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


def refuse_former(folder: Path) -> None:
    """Raise if a folder holds a run in the format of naspix 0.1."""
    if (folder / "run.json").is_file() and (folder / "records").is_dir():
        raise InputError(
            f"{folder} holds a run of naspix 0.1, in a format that this version does not read; "
            "use naspix 0.1 for it, or give another --output"
        )

"""Records on disk: a part is what one batch of items left, a parquet file that is whole or absent.

A part's name says which items of the run's list it covers, so that a folder's listing tells what is
done. Besides its records (one row an item and setting) a part carries, in the parquet metadata, the
items that could not be computed, the seconds each step took, and the machine and versions.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from naspix.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = b"naspix"
_NAME = re.compile(r"(\d{9})-(\d{9})\.parquet")


class Span(NamedTuple):
    """Items ``start`` to ``stop - 1`` of a list: computed, written and lost as one."""

    start: int
    stop: int

    @property
    def file_name(self) -> str:
        """The name of the part that covers it."""
        return f"{self.start:09d}-{self.stop:09d}.parquet"

    def covers(self, other: "Span") -> bool:
        """Whether all of the other's items are among these."""
        return self.start <= other.start and other.stop <= self.stop


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
        records: One row an item and setting.
        failed: Items without records.
        seconds: Step -> time it took.
        machines: What computed it: processor, versions, threads.
    """

    span: Span
    records: "pa.Table"
    failed: tuple[Failure, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    machines: tuple[Mapping[str, object], ...] = ()

    def encode(self) -> bytes:
        """The parquet file, with a checksum for every page."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        about = {
            "failed": [asdict(failure) for failure in self.failed],
            "seconds": dict(self.seconds),
            "machines": [dict(machine) for machine in self.machines],
        }
        table = self.records.replace_schema_metadata({_KEY: json.dumps(about).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        return bytes(sink.getvalue().to_pybytes())

    @classmethod
    def read(cls, path: Path, columns: Sequence[str] | None = None) -> "Part":
        """Read a part's file.

        Args:
            path: Its name says which items it covers.
            columns: Only these.

        Raises:
            InputError: If the file is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        span = span_of(path.name)
        assert span is not None, path
        try:
            with path.open("rb") as file:
                table = pq.ParquetFile(file, page_checksum_verification=True).read(
                    columns=None if columns is None else list(columns)
                )
                about = json.loads(table.schema.metadata[_KEY])
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(_damage(path, error)) from None
        return cls(span, table.replace_schema_metadata(None), *_about(about))

    @classmethod
    def merged(cls, parts: Sequence["Part"]) -> "Part":
        """Several parts that follow each other as one."""
        import pyarrow as pa

        seconds: Counter[str] = Counter()
        for part in parts:
            seconds.update(part.seconds)
        machines = {json.dumps(m, sort_keys=True): m for part in parts for m in part.machines}
        return cls(
            Span(parts[0].span.start, parts[-1].span.stop),
            pa.concat_tables([part.records for part in parts]),
            tuple(failure for part in parts for failure in part.failed),
            dict(seconds),
            tuple(machines.values()),
        )


def span_of(file_name: str) -> Span | None:
    """Which items a file covers, None if it is no part.

    Example:
        >>> span_of("000000008-000000016.parquet")
        Span(start=8, stop=16)
    """
    match = _NAME.fullmatch(file_name)
    return Span(int(match[1]), int(match[2])) if match else None


def parts_in(folder: Path) -> dict[Span, Path]:
    """The parts of a folder in order, without those that a larger one covers."""
    if not folder.is_dir():
        return {}
    found = {span: folder / name for name in os.listdir(folder) if (span := span_of(name))}
    kept: dict[Span, Path] = {}
    last: Span | None = None
    for span in sorted(found, key=lambda span: (span.start, -span.stop)):
        if last is None or not last.covers(span):
            kept[span] = found[span]
            last = span
    return kept


def check_whole(path: Path) -> None:
    """Raise unless the file's end, where parquet says what is in it, can be read.

    Raises:
        InputError: If it cannot.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if _KEY not in (pq.read_metadata(path).metadata or {}):
            raise ValueError("it says nothing about its run")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(_damage(path, error)) from None


@cache
def this_machine(threads: int) -> Mapping[str, object]:
    """Processor, system and versions: what records depend on besides their settings."""
    from naspix.runs.machine import describe_machine

    described = describe_machine(threads)
    return {name: described[name] for name in described if name not in ("load", "date")}


def _damage(path: Path, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return f"{path} is damaged ({reason}); run the same command again to compute its images anew"


def _about(about: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return (
        tuple(Failure(**failure) for failure in about["failed"]),
        about["seconds"],
        tuple(about["machines"]),
    )

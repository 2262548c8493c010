"""A run as it lies in its folder: ``run.json`` (settings, versions) and ``records/`` (parts).

    run.json   {"schema": 1, "kind": "wsol", "naspix": "0.1.0", "created": ..., "versions": {...},
                "settings": {...}, "found": {what was decided at the beginning, for all items}}
    records/   000000000-000000008.parquet ..., see `parts.py`
    damaged/   parts that could not be read, set aside

Reading needs no lock and may be done while another process writes (`continuing.py`). Tables and
pictures are functions of what is read here.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naspix.errors import InputError
from naspix.runs.parts import Failure, Part, parts_in

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 1
HEADER, RECORDS, DAMAGED, LOCK = "run.json", "records", "damaged", ".lock"
_READ_TRIES = 5  # while another process merges parts


@dataclass(frozen=True)
class Run:
    """A run as it lies on disk.

    Attributes:
        folder: Where.
        kind: What kind of run wrote it.
        settings: What was asked for, plain values.
        header: All of ``run.json``.
    """

    folder: Path
    kind: str
    settings: Mapping[str, Any]
    header: Mapping[str, Any]

    def records(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """All records in the order of the items.

        Args:
            columns: Only these.

        Raises:
            InputError: If there are none yet, or a part is damaged.
        """
        import pyarrow as pa

        parts = self.parts(columns)
        if not parts:
            raise InputError(f"{self.folder} has no records yet")
        return pa.concat_tables([part.records for part in parts])

    @property
    def failures(self) -> list[Failure]:
        """The items that could not be computed, in order."""
        return [failure for part in self.parts([]) for failure in part.failed]

    @property
    def seconds(self) -> dict[str, float]:
        """Step -> time it took in all."""
        total: Counter[str] = Counter()
        for part in self.parts([]):
            total.update(part.seconds)
        return dict(total)

    @property
    def n_items(self) -> int:
        """How many items are done, failed ones included."""
        return sum(span.stop - span.start for span in parts_in(self.folder / RECORDS))

    @property
    def machines(self) -> list[Mapping[str, object]]:
        """What computed the parts, each once."""
        parts = self.parts([])
        return list(Part.merged(parts).machines) if parts else []

    def parts(self, columns: Sequence[str] | None = None) -> list[Part]:
        """The parts in order.

        Args:
            columns: Only these.

        Raises:
            InputError: If one is damaged.
        """
        for _ in range(_READ_TRIES):
            with contextlib.suppress(FileNotFoundError):  # merged meanwhile
                files = parts_in(self.folder / RECORDS).values()
                return [Part.read(file, columns) for file in files]
        raise InputError(f"{self.folder} changes while it is read; try again")


def read_run(folder: str | os.PathLike[str]) -> Run:
    """A run's settings, and its records when they are asked for.

    Raises:
        InputError: If the folder holds no run, or one of another schema.
    """
    path = Path(folder) / HEADER
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        schema, kind, settings, _ = (
            header[name] for name in ("schema", "kind", "settings", "found")
        )
    except FileNotFoundError:
        raise InputError(f"{folder} is no run: it has no {HEADER}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged; remove the folder or give another") from None
    if schema != SCHEMA:
        raise InputError(
            f"{folder} was written by naspix {header.get('naspix')} in schema {schema}, which "
            f"this version (schema {SCHEMA}) does not read; use that version, or another folder"
        )
    return Run(Path(folder), kind, settings, header)

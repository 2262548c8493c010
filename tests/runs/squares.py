"""A worker whose items are numbers, with faults to order: what engines are tried on."""

import os
import signal
import sqlite3
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from naspix.errors import DeviceError, InputError, OutputError
from naspix.runs import (
    STORE,
    Engine,
    Failure,
    InProcess,
    Kind,
    Part,
    Span,
    carry_out,
    open_run,
    read_run,
)

SETTINGS = {"power": 2, "limit": None, "nested": {"a": 1}}
COLUMNS: dict[str, Kind] = {"index": "int", "setting": "text", "value": "float", "list": "float32s"}


@dataclass(frozen=True)
class Squares:
    """Item -> its root and its square; 13 cannot be computed.

    Attributes:
        seconds: What an item takes.
        dies_at: Kill the process at this item,
        died: once, if there is a file to remember it by.
        fails_at: Raise at this item.
    """

    seconds: float = 0.0
    dies_at: int = -1
    died: Path | None = None
    fails_at: int = -1

    def __call__(self, span: Span, following: Span | None) -> Part:
        rows = []
        for index in range(*span):
            time.sleep(self.seconds)
            if index == self.fails_at:
                raise DeviceError("the device is on fire")
            if index == self.dies_at and not (self.died and self.died.exists()):
                if self.died:
                    self.died.touch()
                os._exit(9)
            if index != 13:
                rows.append(
                    {"index": index, "setting": "root", "value": index**0.5, "list": [index, 1.0]}
                )
                rows.append(
                    {"index": index, "setting": "square", "value": float(index**2), "list": None}
                )
        failed = (Failure(13, "item 13", "bad luck"),) if 13 in range(*span) else ()
        return Part(span, rows, COLUMNS, failed, {"thinking": 1.0}, {"processor": "a brain"})


def compute(
    folder: Path,
    n_items: int = 20,
    batch_size: int = 3,
    engine: Engine | None = None,
    worker: Squares | None = None,
) -> None:
    """Begin or continue a run of squares."""
    with open_run(folder, kind="squares", settings=SETTINGS, growing=["limit"]) as run:
        carry_out(
            run,
            partial(same, worker or Squares()),
            n_items=n_items,
            batch_size=batch_size,
            engine=engine or InProcess(),
        )


def hold(folder: Path, begun: Connection) -> None:
    """Open a run and do nothing."""
    with open_run(folder, kind="squares", settings=SETTINGS):
        begun.send("begun")
        time.sleep(60)


def same(worker: Squares) -> Squares:
    return worker


def n_done(folder: Path) -> int:
    """How many batches a run has kept by now, while others may write it."""
    try:
        return len(read_run(folder).spans)
    except (InputError, OutputError):  # not begun yet
        return 0


def die_in_the_middle_of_writing(folder: Path) -> None:
    """Change every record, and end by a signal before that is committed."""
    connection = sqlite3.connect(folder / STORE, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")  # pages go to the disk before the end
    connection.execute("BEGIN IMMEDIATE")
    for _ in range(5):
        connection.execute("INSERT INTO records SELECT * FROM records")
    os.kill(os.getpid(), signal.SIGKILL)


def compute_with_little_room(folder: Path) -> None:
    """As on a disk that is full after 30 kB."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
    try:
        compute(folder, n_items=200)
    except OutputError:
        raise SystemExit(3) from None

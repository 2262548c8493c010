"""Work on many items that can be stopped and continued: its results, and who computes them."""

from naspix.runs.engines import (
    Engine,
    InProcess,
    MakeWorker,
    Processes,
    Ray,
    Worker,
    carry_out,
    limit_threads,
    make_engine,
    share_of_cores,
)
from naspix.runs.file import STORE, Kind, Row, Span
from naspix.runs.run import Failure, Run, is_run, read_run
from naspix.runs.store import OpenRun, Part, differences, locked, open_run

__all__ = [
    "STORE",
    "Engine",
    "Failure",
    "InProcess",
    "Kind",
    "MakeWorker",
    "OpenRun",
    "Part",
    "Processes",
    "Ray",
    "Row",
    "Run",
    "Span",
    "Worker",
    "carry_out",
    "differences",
    "is_run",
    "limit_threads",
    "locked",
    "make_engine",
    "open_run",
    "read_run",
    "share_of_cores",
]

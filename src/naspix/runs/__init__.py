"""Work on many items that can be stopped and continued: its results, and who computes them."""

from naspix.runs.continuing import OpenRun, open_run
from naspix.runs.engine import (
    Engine,
    InProcess,
    MakeWorker,
    Processes,
    Worker,
    carry_out,
    check_workers,
    limit_threads,
    share_of_cores,
)
from naspix.runs.parts import Failure, Part, Span
from naspix.runs.ray_engine import Ray
from naspix.runs.store import Run, read_run

__all__ = [
    "Engine",
    "Failure",
    "InProcess",
    "MakeWorker",
    "OpenRun",
    "Part",
    "Processes",
    "Ray",
    "Run",
    "Span",
    "Worker",
    "carry_out",
    "check_workers",
    "limit_threads",
    "open_run",
    "read_run",
    "share_of_cores",
]

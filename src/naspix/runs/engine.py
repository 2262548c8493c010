"""Work items in, records out: what runs an experiment, whoever does the work.

A *worker* is made once in each process and turns a span of items into a ``Part``. An *engine* has
workers compute spans and yields the parts, encoded, in whatever order they are done. Spans do not
depend on the engine, so neither does what is computed. `ray_engine.py` has the engine for many
machines.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from naspix.errors import DeviceError, InputError
from naspix.runs.continuing import OpenRun
from naspix.runs.parts import Part, Span

_MOST_DEATHS = 3  # of workers, without a part between them
_QUEUED = 2  # spans a worker has ahead of it


@runtime_checkable
class Worker(Protocol):
    """Computes items; made once in each process."""

    def __call__(self, span: Span, following: Span | None) -> Part:
        """Compute a span; the following one, if known, may be read meanwhile."""
        ...


MakeWorker = Callable[[], Worker]


@runtime_checkable
class Engine(Protocol):
    """Has workers compute spans; anything that can be called like this will do."""

    def __call__(
        self, make_worker: MakeWorker, spans: Sequence[Span]
    ) -> Iterator[tuple[Span, bytes]]:
        """Yield each span with its encoded part as it is done, in any order."""
        ...


def carry_out(
    run: OpenRun,
    make_worker: MakeWorker,
    *,
    n_items: int,
    batch_size: int,
    engine: Engine,
    progress: Callable[[int], None] = lambda n_items: None,
) -> None:
    """Compute what a run still lacks, keeping each part as it comes.

    Args:
        run: Where parts are kept.
        make_worker: Makes a worker; picklable for engines of several processes.
        n_items: How many items there are.
        batch_size: How many are computed, written, and at worst lost, at once.
        engine: Who does the work.
        progress: Told how many items are done more, first those of former runs.
    """
    pending = run.pending(n_items, batch_size)
    progress(n_items - sum(span.stop - span.start for span in pending))
    if not pending:
        return
    with contextlib.closing(engine(make_worker, pending)) as parts:  # type: ignore[type-var]
        for span, encoded in parts:
            run.add(span, encoded)
            progress(span.stop - span.start)


@final
@dataclass(frozen=True)
class InProcess:
    """The engine that computes in this process, one span after the other."""

    def __call__(
        self, make_worker: MakeWorker, spans: Sequence[Span]
    ) -> Iterator[tuple[Span, bytes]]:
        """Yield each span with its encoded part, in order."""
        worker = make_worker()
        for span, following in zip(spans, [*spans[1:], None], strict=True):
            yield span, worker(span, following).encode()


@final
@dataclass(frozen=True, kw_only=True)
class Processes:
    """The engine of several processes on this machine.

    A process that dies (memory, mostly) is replaced, and its spans computed again.

    Attributes:
        workers: How many processes; each holds the network.
        threads: How many threads each may use; 0 shares the cores among them.
    """

    workers: int = 2
    threads: int = 0

    def __post_init__(self) -> None:
        check_workers(self.workers, self.threads)

    def __call__(
        self, make_worker: MakeWorker, spans: Sequence[Span]
    ) -> Iterator[tuple[Span, bytes]]:
        """Yield each span with its encoded part as it is done.

        Raises:
            DeviceError: If workers die again and again.
        """
        left = dict.fromkeys(spans)
        deaths = 0
        while left:
            try:
                for span, encoded in self._pass(make_worker, list(left)):
                    del left[span]
                    deaths = 0
                    yield span, encoded
            except BrokenProcessPool:
                deaths += 1
                if deaths == _MOST_DEATHS:
                    raise DeviceError(
                        f"a worker process died {deaths} times in a row, most likely for lack of "
                        "memory; give fewer --workers or a smaller --batch-size"
                    ) from None

    def _pass(self, make_worker: MakeWorker, spans: Sequence[Span]) -> Iterator[tuple[Span, bytes]]:
        """One pool's life."""
        others = set(multiprocessing.active_children())
        n_workers = min(self.workers, len(spans))
        pool = ProcessPoolExecutor(
            n_workers,
            multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(make_worker, self.threads or share_of_cores(n_workers)),
        )
        waiting = list(reversed(spans))
        running: dict[Future[bytes], Span] = {}
        try:
            while waiting or running:
                while waiting and len(running) < n_workers * _QUEUED:
                    span = waiting.pop()
                    running[pool.submit(_compute, span)] = span
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        finally:
            for child in set(multiprocessing.active_children()) - others:
                if waiting or running:
                    child.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


def check_workers(workers: int, threads: int) -> None:
    """Refuse numbers that no engine can work with.

    Raises:
        InputError: If there is no worker, or fewer than no threads.
    """
    if workers < 1:
        raise InputError(f"--workers is at least 1, not {workers}")
    if threads < 0:
        raise InputError(f"--threads is 0 or more, not {threads}")


def begun_worker(make_worker: MakeWorker, threads: int) -> Worker:
    """A worker in a process that is its own, with its share of the threads."""
    from naspix.models import keep_freed_memory

    keep_freed_memory()
    limit_threads(threads)
    return make_worker()


def share_of_cores(n_workers: int) -> int:
    """Threads for each of several processes, so that they do not take each other's cores."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (usable or 1) // n_workers)


def limit_threads(threads: int) -> None:
    """Let torch and OpenCV use this many threads in this process."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


_worker: Worker | None = None  # of this process, in a pool


def _begin(make_worker: MakeWorker, threads: int) -> None:
    """What a pool's process does first."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to talk about
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    _worker = begun_worker(make_worker, threads)


def _die_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _compute(span: Span) -> bytes:
    assert _worker is not None
    return _worker(span, None).encode()

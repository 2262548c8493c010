"""Who computes: this process, several processes of this machine, or a Ray cluster.

A *worker* is made once in each process and turns a span of items into a ``Part``. An *engine* has
workers compute spans and yields the parts in whatever order they are done. Spans do not depend on
the engine, so neither does what is computed; what a dying worker had is computed again.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from naspix.errors import DeviceError, InputError, MissingExtraError, NaspixError
from naspix.runs.file import Span
from naspix.runs.store import OpenRun, Part

_MOST_DEATHS = 3  # of workers, without a part between them
_QUEUED = 2  # spans a worker has ahead of it
_PATIENCE = 10.0  # seconds to find out whether a Ray cluster answers


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

    def __call__(self, make_worker: MakeWorker, spans: Sequence[Span]) -> Iterator[Part]:
        """Yield each span's part as it is done, in any order."""
        ...


def carry_out(
    run: OpenRun,
    make_worker: MakeWorker,
    *,
    n_items: int,
    batch_size: int,
    engine: Engine | None = None,
    parts: Sequence[str] = (),
    items: Sequence[int] | None = None,
    progress: Callable[[int], None] = lambda n_items: None,
    keep: Callable[[Part], Part] = lambda part: part,
) -> None:
    """Compute what a run still lacks, keeping each part as it comes.

    Args:
        run: Where parts are kept.
        make_worker: Makes a worker; picklable for engines of several processes.
        n_items: How many items there are.
        batch_size: How many are computed, written, and at worst lost, at once.
        engine: Who does the work; this process by default.
        parts: What is asked of each item, by name, where more may be asked later.
        items: Which of them are asked for; all by default.
        progress: Told how many items are done more, first those of former runs.
        keep: Told of each part before it is kept, by the process that writes; returns what is kept.
    """
    items = range(n_items) if items is None else items
    pending = run.pending(items, batch_size, parts)

    def n_of(span: Span) -> int:
        """Items that count: a batch of a former run may reach further than is asked now."""
        return min(span.stop, n_items) - span.start

    progress(len(items) - sum(map(n_of, pending)))
    if not pending:
        return
    with contextlib.closing((engine or InProcess())(make_worker, pending)) as computed:  # type: ignore[type-var]
        for part in computed:
            run.add(keep(part))
            progress(n_of(part.span))


def make_engine(
    name: str = "local",
    *,
    workers: int = 1,
    threads: int = 0,
    gpus: float = 0,
    address: str | None = None,
) -> Engine:
    """Who computes, by words of a command line.

    Args:
        name: ``"local"`` or ``"ray"``.
        workers: Processes, or Ray's actors.
        threads: Threads of each; 0 shares the cores among them.
        gpus: GPUs of each of Ray's actors.
        address: A Ray cluster to join.

    Raises:
        InputError: An address or GPUs are given for another engine than Ray.

    Example:
        >>> make_engine(workers=2)
        Processes(workers=2, threads=0)
    """
    if name == "ray":
        return Ray(workers=workers, threads=threads, gpus=gpus, address=address)
    for option, given in (("--ray-address", address is not None), ("--gpus", gpus != 0)):
        if given:
            raise InputError(f"{option} is for --engine ray")
    if workers != 1:
        return Processes(workers=workers, threads=threads)
    return InProcess(threads=threads)


@final
@dataclass(frozen=True, kw_only=True)
class InProcess:
    """The engine that computes in this process, one span after the other.

    Attributes:
        threads: How many threads it may use; 0 leaves that as it is.
    """

    threads: int = 0

    def __post_init__(self) -> None:
        _check_workers(1, self.threads)

    def __call__(self, make_worker: MakeWorker, spans: Sequence[Span]) -> Iterator[Part]:
        """Yield each span's part, in order."""
        if self.threads:
            limit_threads(self.threads)
        worker = make_worker()
        for span, following in zip(spans, [*spans[1:], None], strict=True):
            yield worker(span, following)


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
        _check_workers(self.workers, self.threads)

    def __call__(self, make_worker: MakeWorker, spans: Sequence[Span]) -> Iterator[Part]:
        """Yield each span's part as it is done.

        Raises:
            DeviceError: If workers die again and again.
        """
        left = dict.fromkeys(spans)
        deaths = 0
        while left:
            try:
                for part in self._pass(make_worker, list(left)):
                    del left[part.span]
                    deaths = 0
                    yield part
            except BrokenProcessPool:
                deaths += 1
                if deaths == _MOST_DEATHS:
                    raise DeviceError(
                        f"a worker process died {deaths} times in a row, most likely for lack of "
                        "memory; give fewer --workers or a smaller --batch-size"
                    ) from None

    def _pass(self, make_worker: MakeWorker, spans: Sequence[Span]) -> Iterator[Part]:
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
        running: set[Future[Part]] = set()
        try:
            while waiting or running:
                while waiting and len(running) < n_workers * _QUEUED:
                    running.add(pool.submit(_compute, waiting.pop()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for child in set(multiprocessing.active_children()) - others:
                if waiting or running:
                    child.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


@final
@dataclass(frozen=True, kw_only=True)
class Ray:
    """The engine on a Ray cluster, begun on this machine if none is to be joined.

    Attributes:
        workers: How many actors; each holds the network.
        threads: Threads each may use; 0 shares this machine's cores among them.
        gpus: GPUs each is given, which may be a share of one.
        address: A running cluster, such as ``"auto"`` or ``"ray://head:10001"``.
    """

    workers: int = 2
    threads: int = 0
    gpus: float | int = 0
    address: str | None = None

    def __post_init__(self) -> None:
        _check_workers(self.workers, self.threads)
        if self.gpus < 0:
            raise InputError(f"--gpus is 0 or more, not {self.gpus:g}")

    def __call__(self, make_worker: MakeWorker, spans: Sequence[Span]) -> Iterator[Part]:
        """Yield each span's part as it is done.

        Raises:
            MissingExtraError: Ray is not installed.
            DeviceError: The cluster cannot be reached, or Ray gives up.
        """
        ray = _imported_ray()
        threads = self.threads or share_of_cores(self.workers)
        with _connected(ray, self.address, n_cpus=self.workers * threads):
            items = [
                {"start": one.start, "stop": one.stop, "parts": json.dumps(one.parts)}
                for one in spans
            ]
            computed = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                _Actor,
                fn_constructor_args=(make_worker, threads),
                batch_size=1,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(
                    size=min(self.workers, len(items)), max_tasks_in_flight_per_actor=_QUEUED
                ),
                num_cpus=threads,
                num_gpus=self.gpus or None,
            )
            try:
                for batch in computed.iter_batches(batch_size=None, batch_format="numpy"):
                    for answer in map(pickle.loads, batch["answer"]):  # our own actors' bytes
                        if isinstance(answer, NaspixError):
                            raise answer
                        yield answer
            except ray.exceptions.RayError as error:
                raise DeviceError(f"Ray gave up: {_last_line(error)}") from None


class _Actor:
    """A worker in a process of Ray's."""

    def __init__(self, make_worker: MakeWorker, threads: int) -> None:
        self._worker = _begun_worker(make_worker, threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        try:
            parts = tuple(json.loads(str(batch["parts"][0])))
            span = Span(int(batch["start"][0]), int(batch["stop"][0]), parts)
            answer: Part | NaspixError = self._worker(span, None)
        except NaspixError as error:  # told here, or Ray would wrap it in pages of its own
            answer = error
        return {"answer": [pickle.dumps(answer)]}


# ------------------------------------------------------------------------ processes and threads


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


def _check_workers(workers: int, threads: int) -> None:
    if workers < 1:
        raise InputError(f"--workers is at least 1, not {workers}")
    if threads < 0:
        raise InputError(f"--threads is 0 or more, not {threads}")


def _begun_worker(make_worker: MakeWorker, threads: int) -> Worker:
    """A worker in a process that is its own, with its share of the threads."""
    from naspix.models import keep_freed_memory

    keep_freed_memory()
    limit_threads(threads)
    return make_worker()


_worker: Worker | None = None  # of this process, in a pool


def _begin(make_worker: MakeWorker, threads: int) -> None:
    """What a pool's process does first."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to talk about
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    _worker = _begun_worker(make_worker, threads)


def _die_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _compute(span: Span) -> Part:
    assert _worker is not None
    return _worker(span, None)


# ------------------------------------------------------------------------------------------ Ray


def _imported_ray() -> Any:
    for name, value in {
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError(
            "--engine ray needs Ray; install it with pip install '.[ray]' in the folder of naspix"
        ) from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str | None, *, n_cpus: int) -> Iterator[None]:
    """A cluster for the ``with`` block; one that was there before is left running."""
    if ray.is_initialized():
        _quiet(ray)
        yield
        return
    silent: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        _knock(address)
        if address is None:
            ray.init(num_cpus=n_cpus, include_dashboard=False, **silent)
        else:
            ray.init(address=address, **silent)
    except (OSError, RuntimeError, ValueError) as error:
        raise DeviceError(
            f"the Ray cluster {address or 'on this machine'} cannot be reached: {_last_line(error)}"
        ) from None
    try:
        _quiet(ray)
        yield
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Find out in seconds whether anybody answers; Ray itself asks again and again for minutes."""
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


def _quiet(ray: Any) -> None:
    """No progress bars and no talk of Ray's beside ours."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[-1] if lines else type(error).__name__).rstrip(".")

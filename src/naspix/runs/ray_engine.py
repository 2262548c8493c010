"""The engine of many machines: Ray Data has actors compute spans and brings the parts back.

Each actor holds the model. Ray restarts actors, as often as it takes, and repeats spans that are
lost with a worker or a machine; parts stream to this process, which alone writes them. The data
set's folder, and files of weights, must be where every machine finds them by the same path.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from naspix import errors
from naspix.errors import DeviceError, InputError, MissingExtraError, NaspixError
from naspix.runs.engine import (
    MakeWorker,
    Worker,
    begun_worker,
    check_workers,
    share_of_cores,
)
from naspix.runs.parts import Span

_QUEUED = 2  # spans an actor has ahead of it
_PATIENCE = 10.0  # seconds for a cluster to answer
_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_QUIET = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


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
        check_workers(self.workers, self.threads)
        if self.gpus < 0:
            raise InputError(f"--gpus is 0 or more, not {self.gpus:g}")

    def __call__(
        self, make_worker: MakeWorker, spans: Sequence[Span]
    ) -> Iterator[tuple[Span, bytes]]:
        """Yield each span with its encoded part as it is done.

        Raises:
            MissingExtraError: Ray is not installed.
            DeviceError: The cluster cannot be reached, or Ray gives up.
        """
        ray = _imported()
        threads = self.threads or share_of_cores(self.workers)
        with _connected(ray, self.address, n_cpus=self.workers * threads):
            items = [{"start": span.start, "stop": span.stop} for span in spans]
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
                    yield from _parts(batch)
            except ray.exceptions.RayError as error:
                raise DeviceError(f"Ray gave up: {_reason(error)}") from None


class _Actor:
    """A worker in a process of Ray's."""

    def __init__(self, make_worker: MakeWorker, threads: int) -> None:
        self._worker: Worker = begun_worker(make_worker, threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        span = Span(int(batch["start"][0]), int(batch["stop"][0]))
        part, kind, reason = b"", "", ""
        try:
            part = self._worker(span, None).encode()
        except NaspixError as error:  # told here, or Ray would wrap it in pages of its own
            kind, reason = type(error).__name__, str(error)
        return {
            "start": [span.start],
            "stop": [span.stop],
            "part": [part],
            "error": [kind],
            "reason": [reason],
        }


def _parts(batch: dict[str, Any]) -> Iterator[tuple[Span, bytes]]:
    columns = (batch[name] for name in ("start", "stop", "part", "error", "reason"))
    for start, stop, part, error, reason in zip(*columns, strict=True):
        if error:
            kind: type[NaspixError] = getattr(errors, str(error), NaspixError)
            raise kind(str(reason))
        yield Span(int(start), int(stop)), bytes(part)


def _imported() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError(
            "--engine ray needs Ray; install it with pip install 'naspix[ray]'"
        ) from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str | None, *, n_cpus: int) -> Iterator[None]:
    """A cluster for the ``with`` block; one that was there before is left running."""
    if ray.is_initialized():
        _quiet(ray)
        yield
        return
    try:
        _knock(address)
        if address is None:
            ray.init(num_cpus=n_cpus, include_dashboard=False, **_SILENT)
        else:
            ray.init(address=address, **_SILENT)
    except (OSError, RuntimeError, ValueError) as error:
        raise DeviceError(
            f"the Ray cluster {address or 'on this machine'} cannot be reached: {_reason(error)}"
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


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[-1] if lines else type(error).__name__).rstrip(".")

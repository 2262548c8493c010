"""Work that a visitor waits for: queued, under way with its progress, done, or cancelled.

A ``Job`` runs a function in a thread of its own when it is its turn (``turns.py``). Its progress is
counted where every saliency method passes: at the classifier's forward. There it also lets the
others in, and ends if it was cancelled.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from naspix.app.turns import LeftError, Ticket, Turns
from naspix.errors import NaspixError
from naspix.models import Classifier

LEFT_AFTER = 15.0  # seconds without a question about a job, after which its visitor has left
_GLANCE = 0.1  # seconds between two looks whether work is still wanted

_current = threading.local()


class BusyError(NaspixError):
    """Too many are waiting."""


class Job:
    """One request of one visitor.

    Attributes:
        ticket: Its place in line.
        doing: What it is, in words, while it runs.
        result: Becomes its value, or its error.
        heard: When somebody last asked about it, by ``time.monotonic``.
        number: By which its visitor asks about it.
    """

    def __init__(self, lane: str, doing: str, turns: Turns) -> None:
        self.ticket = Ticket(lane)
        self.doing = doing
        self.result: Future[dict[str, Any]] = Future()
        self.heard = time.monotonic()
        self.number = ""
        self._turns = turns
        self._passed, self._expected = 0, 0
        self._since: float | None = None

    def expect(self, n_images: int, doing: str = "") -> None:
        """Say how many images will pass the network, so that there is a bar; 0 for unknown."""
        self._passed, self._expected = 0, n_images
        self.doing = doing or self.doing

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1, where that is known."""
        if self._since is None or not self._expected:
            return None
        return min(1.0, self._passed / self._expected)

    @property
    def note(self) -> str:
        """Where it stands, in words."""
        if self._since is None:
            ahead = self._turns.ahead_of(self.ticket)
            if ahead:
                return f"waiting: {ahead} {'computation' if ahead == 1 else 'computations'} ahead"
        return self.doing

    @property
    def seconds(self) -> float:
        """For how long it has been under way."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def cancel(self) -> None:
        """It is not wanted any more."""
        self._turns.cancel(self.ticket)

    def wait_for(self, done: threading.Event) -> None:
        """Let others in until something is done that needs no turn.

        Raises:
            LeftError: it is not wanted any more.
        """
        with self._turns.aside(self.ticket):
            while not done.wait(_GLANCE) and not self.ticket.cancelled.is_set():
                self._cancel_if_left()

    def run(self, work: "Callable[[Job], dict[str, Any]]") -> None:
        """Wait for the turn, work, and keep the outcome."""
        try:
            with self._turns.take(self.ticket):
                self._since = time.monotonic()
                _current.job = self
                try:
                    value = work(self)
                finally:
                    _current.job = None
        except BaseException as error:  # told to whoever waits for the result
            self.result.set_exception(error)
        else:
            self.result.set_result(value)

    def passing(self, n_images: int) -> None:
        """Count images that pass the network; here others are let in."""
        self._cancel_if_left()
        self._turns.let_others_in(self.ticket)
        self._passed += n_images

    def _cancel_if_left(self) -> None:
        if time.monotonic() - self.heard > LEFT_AFTER:
            self.cancel()


class Workshop:
    """Runs jobs, at most so many waiting at once.

    Args:
        most_waiting: Further ones are refused.
    """

    def __init__(self, *, most_waiting: int = 64) -> None:
        self.turns = Turns()
        self._most_waiting = most_waiting
        self._jobs: set[Job] = set()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(most_waiting, thread_name_prefix="naspix-app")

    def submit(self, lane: str, doing: str, work: Callable[[Job], dict[str, Any]]) -> Job:
        """Line up work.

        Raises:
            BusyError: too many are waiting.
        """
        self.drop_left()
        job = Job(lane, doing, self.turns)
        with self._lock:
            if len(self._jobs) >= self._most_waiting:
                raise BusyError(
                    f"{len(self._jobs)} computations are waiting already; try again in a minute"
                )
            self._jobs.add(job)
        self.turns.line_up(job.ticket)
        job.result.add_done_callback(lambda _: self._forget(job))
        self._threads.submit(job.run, work)
        return job

    @property
    def n_jobs(self) -> int:
        """How many are waiting or under way."""
        with self._lock:
            return len(self._jobs)

    def drop_left(self) -> None:
        """Cancel jobs that nobody has asked about for a while."""
        limit = time.monotonic() - LEFT_AFTER
        with self._lock:
            left = [job for job in self._jobs if job.heard < limit]
        for job in left:
            job.cancel()

    def close(self) -> None:
        """Cancel everything and let the threads end."""
        with self._lock:
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._jobs.discard(job)


@contextmanager
def counted(model: Classifier) -> Iterator[None]:
    """Let the classifier's forwards count for the job of the thread they run in."""

    def count(_: object, arguments: tuple[Any, ...]) -> None:
        job: Job | None = getattr(_current, "job", None)
        if job is not None and arguments and isinstance(arguments[0], Tensor):
            job.passing(len(arguments[0]))

    handle = model.register_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


__all__ = ["BusyError", "Job", "LeftError", "Workshop", "counted"]

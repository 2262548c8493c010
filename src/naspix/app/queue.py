"""One computation at a time on the device: whose turn it is, and what is not wanted any more.

A job belongs to a lane, which is named like a path: an address, a visitor there, a page of the
visitor's with its quick requests or its long ones. Addresses are served round robin, so are the
visitors of an address and the lanes of a visitor: however many jobs one of them has, every other
one is served once before its next. Each has so many places in line at most. Long work is counted at
the classifier's forward. There it also lets others in, and ends if it was cancelled or if nobody
has asked about it for a while.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate, count
from typing import Any

from torch import Tensor

from naspix.errors import NaspixError
from naspix.models import Classifier

Answer = dict[str, Any]

LEFT_AFTER = 15.0  # seconds without a question about a job, after which its visitor has left
_SLICE = 0.05  # seconds of a turn in which nobody else is let in
_GLANCE = 0.1  # seconds between two looks whether work is still wanted

_current = threading.local()


class BusyError(NaspixError):
    """Too many are waiting."""


class UnwantedError(Exception):
    """The work is not wanted any more: cancelled, or its visitor has left."""


class Job:
    """One request of one visitor, waiting or under way.

    Attributes:
        lane: Whose it is, as ``"address/visitor/page"``.
        doing: What it is, in words, while it runs.
        number: By which its visitor asks about it.
        result: Becomes its value, or its error.
        heard: When somebody last asked about it, by ``time.monotonic``.
        cancelled: Set when it is not wanted any more.
    """

    def __init__(self, lane: str, doing: str = "") -> None:
        self.lane, self.doing, self.number = lane, doing, ""
        self.result: Future[Answer] = Future()
        self.heard = time.monotonic()
        self.cancelled = threading.Event()
        self.began: float | None = None
        self.n_passed, self._n_expected = 0, 0
        self.owners = [*accumulate(lane.split("/"), "{}/{}".format)]  # from the address to the lane
        self.turn = threading.Event()  # it is served, or need not wait any more
        self.served_since = 0.0
        self.is_ahead = False  # all other work comes first
        self.goes_on = False  # it was served, let others in, and waits for its next turn

    def expect(self, n_images: int, doing: str = "") -> None:
        """Say how many images will pass the network, so that there is a bar; 0 for unknown."""
        self.n_passed, self._n_expected = 0, n_images
        self.doing = doing or self.doing

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1, where that is known."""
        if self.began is None or not self._n_expected:
            return None
        return min(1.0, self.n_passed / self._n_expected)


class Queue:
    """Runs jobs one at a time, and takes so many at most.

    Args:
        most_jobs: Further ones are refused.
        most_of_address: Further ones of one address are.
        most_of_visitor: Further ones of one visitor are.

    Example:
        >>> queue = Queue()
        >>> queue.submit("Ada", "adding", lambda job: {"sum": 1 + 1}).result.result()
        {'sum': 2}
        >>> queue.close()
    """

    def __init__(
        self, *, most_jobs: int = 128, most_of_address: int = 96, most_of_visitor: int = 12
    ) -> None:
        self._most_jobs, self._most_of = most_jobs, (most_of_address, most_of_visitor)
        self._jobs: set[Job] = set()
        self._waiting: list[Job] = []
        self._last: dict[str, int] = {}  # when an owner was served last, or came
        self._ticks = count()
        self._served: Job | None = None
        self._idle_since = time.monotonic()
        self._lock = threading.RLock()
        self._threads = ThreadPoolExecutor(most_jobs, thread_name_prefix="naspix-app")

    def submit(
        self, lane: str, doing: str, work: Callable[[Job], Answer], *, is_ahead: bool = False
    ) -> Job:
        """Line up work.

        Args:
            lane: Whose it is.
            doing: What it is, in words.
            work: Does it.
            is_ahead: Whether all other work comes first.

        Raises:
            BusyError: too many are waiting.
        """
        job, now = Job(lane, doing), time.monotonic()
        job.is_ahead = is_ahead
        with self._lock:
            for other in self._jobs:
                if now - other.heard > LEFT_AFTER:
                    self.cancel(other)
            if len(self._jobs) >= self._most_jobs:
                raise BusyError(
                    f"{len(self._jobs)} computations are waiting already; try again in a minute"
                )
            for owner, most in zip(job.owners, self._most_of, strict=False):
                if sum(owner in other.owners for other in self._jobs) >= most:
                    raise BusyError(
                        f"{most} computations from here are waiting already; try again when one "
                        "of them is done"
                    )
            self._jobs.add(job)
            self.line_up(job)
        self._threads.submit(self._run, job, work)
        return job

    @property
    def n_jobs(self) -> int:
        """How many are waiting or under way."""
        with self._lock:
            return len(self._jobs)

    @property
    def idle_for(self) -> float:
        """For how many seconds nobody has been served or has waited."""
        with self._lock:
            busy = self._served is not None or self._waiting
            return 0.0 if busy else time.monotonic() - self._idle_since

    def ahead_of(self, job: Job) -> int:
        """How many will be served before this job, the one being served among them."""
        with self._lock:
            if job not in self._waiting:
                return 0
            waiting, last, ahead = [*self._waiting], {**self._last}, 0
            first = self._served
            while first is not job:
                if first is not None:
                    ahead += 1
                    last.update(dict.fromkeys(first.owners, next(self._ticks)))
                first = _longest_ago(waiting, last)
                waiting.remove(first)
            return ahead

    def standing(self, job: Job) -> Answer:
        """Where a job stands: in words, its share that is done, and for how long it has run."""
        note, seconds = job.doing, 0.0
        if job.began is not None:
            seconds = time.monotonic() - job.began
        elif ahead := self.ahead_of(job):
            note = f"waiting: {ahead} {'computation' if ahead == 1 else 'computations'} ahead"
        return {"job": job.number, "note": note, "share": job.share, "seconds": round(seconds, 1)}

    def cancel(self, job: Job) -> None:
        """Stop waiting, or working, at the next possible moment."""
        with self._lock:
            job.cancelled.set()
            # work under way waits on, cancelled or not: it ends inside its own block
            if job in self._waiting and not job.goes_on:
                self._waiting.remove(job)
                self._forget_owners(job)
                job.turn.set()

    def close(self) -> None:
        """Cancel everything and let the threads end."""
        with self._lock:
            for job in self._jobs:
                self.cancel(job)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ----------------------------------------------------------------- turns

    def line_up(self, job: Job) -> None:
        """Take a place in line; ``take`` does it where it was not done."""
        with self._lock:
            for owner in job.owners:
                self._last.setdefault(owner, next(self._ticks))
            # a lane's requests are answered in their order: one that goes on is the first of them
            self._waiting.insert(0 if job.goes_on else len(self._waiting), job)
            self._serve_next()

    @contextmanager
    def take(self, job: Job) -> Iterator[None]:
        """Wait for the turn, and keep it inside the block.

        Raises:
            UnwantedError: the job was cancelled meanwhile.
        """
        self._begin(job)
        try:
            yield
        finally:
            self._end(job)

    @contextmanager
    def aside(self, job: Job) -> Iterator[None]:
        """Give the turn up while the block waits for what needs none, and take the next after it.

        Raises:
            UnwantedError: the job was cancelled meanwhile.
        """
        self._end(job)
        try:
            yield
        finally:
            job.goes_on = True
            self._begin(job)
            job.goes_on = False
        if job.cancelled.is_set():
            raise UnwantedError

    def wait_for(self, done: threading.Event, job: Job) -> None:
        """Let others in until something is done that needs no turn.

        Raises:
            UnwantedError: the job is not wanted any more.
        """
        with self.aside(job):
            while not done.wait(_GLANCE) and not job.cancelled.is_set():
                self._cancel_if_left(job)

    def let_others_in(self, job: Job) -> None:
        """Hand the turn on to whoever waits, and wait for the next.

        Raises:
            UnwantedError: the job was cancelled.
        """
        if job.cancelled.is_set():
            raise UnwantedError
        if self._waiting:
            with self.aside(job):
                pass

    @contextmanager
    def counting(self, model: Classifier) -> Iterator[None]:
        """Let the classifier's forwards count for the job of the thread they run in."""

        def count(_: object, arguments: tuple[Any, ...]) -> None:
            job: Job | None = getattr(_current, "job", None)
            if job is not None and arguments and isinstance(arguments[0], Tensor):
                self._cancel_if_left(job)
                if job.cancelled.is_set() or (
                    job.is_ahead or time.monotonic() - job.served_since > _SLICE
                ):
                    self.let_others_in(job)
                job.n_passed += len(arguments[0])

        handle = model.register_forward_pre_hook(count)
        try:
            yield
        finally:
            handle.remove()

    def _run(self, job: Job, work: Callable[[Job], Answer]) -> None:
        """Wait for the turn, work, and keep the outcome."""
        try:
            with self.take(job):
                job.began = time.monotonic()
                _current.job = job
                try:
                    value = work(job)
                finally:
                    _current.job = None
        except BaseException as error:  # told to whoever waits for the result
            self._forget(job)
            job.result.set_exception(error)
        else:
            self._forget(job)
            job.result.set_result(value)

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._jobs.discard(job)

    def _cancel_if_left(self, job: Job) -> None:
        if time.monotonic() - job.heard > LEFT_AFTER:
            self.cancel(job)

    def _begin(self, job: Job) -> None:
        with self._lock:
            if job.cancelled.is_set() and not job.goes_on:
                self._end(job)  # it may have been served before it came here
                raise UnwantedError
            if self._served is not job and job not in self._waiting:
                self.line_up(job)
        job.turn.wait()
        with self._lock:
            job.turn.clear()
            if self._served is not job:
                raise UnwantedError

    def _end(self, job: Job) -> None:
        with self._lock:
            if self._served is job:
                self._served, self._idle_since = None, time.monotonic()
                self._last.update(dict.fromkeys(job.owners, next(self._ticks)))
                self._forget_owners(job)
                self._serve_next()

    def _serve_next(self) -> None:
        if self._served is None and self._waiting:
            job = self._served = _longest_ago(self._waiting, self._last)
            self._waiting.remove(job)
            job.served_since = time.monotonic()
            job.turn.set()

    def _forget_owners(self, job: Job) -> None:
        """Those that have nothing in line any more: who comes back is a newcomer."""
        present = {owner for one in self._waiting for owner in one.owners}
        for owner in set(job.owners) - present:
            self._last.pop(owner, None)


def _longest_ago(waiting: Iterable[Job], last: Mapping[str, int]) -> Job:
    """Of the address that was served longest ago, the visitor and the lane that were; in order.

    What is computed ahead comes after all others.
    """
    return min(waiting, key=lambda job: (job.is_ahead, [last[owner] for owner in job.owners]))

"""One computation at a time on the device: whose turn it is, and what is not wanted any more.

A job belongs to a lane: a visitor's quick requests are one, its long ones another. Lanes are served
round robin: however many jobs a lane holds, every other lane is served once before its next. Long
work is counted at the classifier's forward. There it also lets others in, and ends if it was
cancelled or if nobody has asked about it for a while.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from naspix.errors import NaspixError
from naspix.models import Classifier

Answer = dict[str, Any]

LEFT_AFTER = 15.0  # seconds without a question about a job, after which its visitor has left
_GLANCE = 0.1  # seconds between two looks whether work is still wanted

_current = threading.local()


class BusyError(NaspixError):
    """Too many are waiting."""


class UnwantedError(Exception):
    """The work is not wanted any more: cancelled, or its visitor has left."""


class Job:
    """One request of one visitor, waiting or under way.

    Attributes:
        lane: Whose it is.
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

    Example:
        >>> queue = Queue()
        >>> queue.submit("Ada", "adding", lambda job: {"sum": 1 + 1}).result.result()
        {'sum': 2}
        >>> queue.close()
    """

    def __init__(self, *, most_jobs: int = 64) -> None:
        self._most_jobs = most_jobs
        self._jobs: set[Job] = set()
        self._lanes: OrderedDict[str, deque[Job]] = OrderedDict()
        self._served: Job | None = None
        self._idle_since = time.monotonic()
        self._changed = threading.Condition()
        self._threads = ThreadPoolExecutor(most_jobs, thread_name_prefix="naspix-app")

    def submit(self, lane: str, doing: str, work: Callable[[Job], Answer]) -> Job:
        """Line up work.

        Raises:
            BusyError: too many are waiting.
        """
        job, now = Job(lane, doing), time.monotonic()
        with self._changed:
            for other in self._jobs:
                if now - other.heard > LEFT_AFTER:
                    self.cancel(other)
            if len(self._jobs) >= self._most_jobs:
                raise BusyError(
                    f"{len(self._jobs)} computations are waiting already; try again in a minute"
                )
            self._jobs.add(job)
            self.line_up(job)
        self._threads.submit(self._run, job, work)
        return job

    @property
    def n_jobs(self) -> int:
        """How many are waiting or under way."""
        with self._changed:
            return len(self._jobs)

    @property
    def idle_for(self) -> float:
        """For how many seconds nobody has been served or has waited."""
        with self._changed:
            busy = self._served is not None or self._lanes
            return 0.0 if busy else time.monotonic() - self._idle_since

    def ahead_of(self, job: Job) -> int:
        """How many will be served before this job, the one being served among them."""
        with self._changed:
            own = self._lanes.get(job.lane, deque())
            if job not in own:
                return 0
            place = own.index(job)
            ahead, later = place, False
            for lane, waiting in self._lanes.items():
                if lane == job.lane:
                    later = True
                else:
                    ahead += min(len(waiting), place if later else place + 1)
            return ahead + (self._served is not None)

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
        with self._changed:
            job.cancelled.set()
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel everything and let the threads end."""
        with self._changed:
            for job in self._jobs:
                self.cancel(job)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ----------------------------------------------------------------- turns

    def line_up(self, job: Job) -> None:
        """Take a place at the end of the lane; ``take`` does it where it was not done."""
        with self._changed:
            self._lanes.setdefault(job.lane, deque()).append(job)

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
            self._begin(job, to_keep=True)
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
        with self._changed:
            nobody = not self._lanes
        if not nobody:
            with self.aside(job):
                pass

    @contextmanager
    def counting(self, model: Classifier) -> Iterator[None]:
        """Let the classifier's forwards count for the job of the thread they run in."""

        def count(_: object, arguments: tuple[Any, ...]) -> None:
            job: Job | None = getattr(_current, "job", None)
            if job is not None and arguments and isinstance(arguments[0], Tensor):
                self._cancel_if_left(job)
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
        with self._changed:
            self._jobs.discard(job)

    def _cancel_if_left(self, job: Job) -> None:
        if time.monotonic() - job.heard > LEFT_AFTER:
            self.cancel(job)

    def _begin(self, job: Job, *, to_keep: bool = False) -> None:
        with self._changed:
            if job not in self._lanes.get(job.lane, ()):
                self.line_up(job)
            # work under way waits on, cancelled or not: it ends inside its own block
            self._changed.wait_for(
                lambda: self._is_next(job) or (job.cancelled.is_set() and not to_keep)
            )
            waiting, is_next = self._lanes[job.lane], self._is_next(job)
            waiting.remove(job)
            if not waiting:
                del self._lanes[job.lane]
            elif is_next:
                self._lanes.move_to_end(job.lane)  # everybody else first
            if job.cancelled.is_set() and not to_keep:
                self._changed.notify_all()
                raise UnwantedError
            self._served = job

    def _end(self, job: Job) -> None:
        with self._changed:
            if self._served is job:
                self._served = None
                self._idle_since = time.monotonic()
            self._changed.notify_all()

    def _is_next(self, job: Job) -> bool:
        if self._served is not None or not self._lanes:
            return False
        return next(iter(self._lanes.values()))[0] is job

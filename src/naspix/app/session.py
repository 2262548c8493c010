"""Who visits, and what is kept for them: sessions, bounded in number and forgotten when silent.

A ``Backend`` has what every visitor shares: the networks, the queue, Ward's trees. Work is lined up
for a session; its answer is plain values that fit JSON: ``{"ok": true, ...}``, or ``{"ok": false,
"sentence": ...}``. It names what it belongs to (the session, the photo and the cut) and its place
among the session's answers, so that a page shows none that does not fit.
"""

import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Literal

from naspix.app.group import Group
from naspix.app.networks import Networks
from naspix.app.photos import Limits
from naspix.app.queue import Answer, Job, Queue, UnwantedError
from naspix.app.study import Study
from naspix.app.trees import TreeBuilder, give_back, keep_little
from naspix.errors import InputError, NaspixError

_SILENT = 300.0  # seconds after which a page has no claim on its place
# how long work takes; "ahead" is what nobody has asked for yet, which yields to everything else
Pace = Literal["quick", "long", "ahead"]


class Session:
    """One page that is open somewhere.

    Attributes:
        token: Names it, so that a page tells it from one that was forgotten.
        lane: Who asks, for the queue: address, visitor, page.
        study: Its photo.
        group: Photos of one class that it has put together.
        jobs: Its work under way, by number.
        heard: When it last asked, by ``time.monotonic``.
    """

    def __init__(self, lane: str) -> None:
        self.token, self.lane = secrets.token_hex(8), lane
        self.study: Study | None = None
        self.group: Group | None = None
        self.jobs: dict[str, Job] = {}
        self.heard = time.monotonic()
        self._n_jobs = self._n_answers = 0

    @property
    def address(self) -> str:
        """From where it asks."""
        return self.lane.split("/")[0]

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost with it."""
        return self.study is None and self.group is None and not self.jobs

    def answer(self, values: Answer) -> Answer:
        """Values with the names of what they belong to."""
        self._n_answers += 1
        study = self.study
        return {
            "ok": True,
            **values,
            "belongs": {
                "session": self.token,
                "place": self._n_answers,
                "photo": study and study.token,
                "cut": study and study.n_cuts,
            },
        }

    def add(self, job: Job) -> None:
        """Remember work, and forget what is done."""
        self.jobs = {number: one for number, one in self.jobs.items() if not one.result.done()}
        self._n_jobs += 1
        job.number = str(self._n_jobs)
        self.jobs[job.number] = job

    def job(self, number: str) -> Job:
        """Work under way; it was asked about.

        Raises:
            InputError: there is none of this number.
        """
        if number not in self.jobs:
            raise InputError("this work is over or was cancelled; ask again")
        self.jobs[number].heard = time.monotonic()
        return self.jobs[number]


class Backend:
    """What answers visitors, whatever carries their requests.

    Args:
        networks: Those on offer.
        limits: Of uploads.
        most_sessions: Beyond this one is forgotten.
        forget_after: Seconds of silence after which a session is forgotten.

    Attributes:
        queue: Runs one computation at a time.
        reading: Reads one photo at a time, beside the computations.
        trees: Builds Ward's trees.
        given: A photo that is there when a page opens.
    """

    def __init__(
        self,
        networks: Networks,
        *,
        limits: Limits | None = None,
        most_sessions: int = 128,
        forget_after: float = 3600.0,
    ) -> None:
        self.networks, self.limits = networks, limits or Limits()
        keep_little()
        self.queue = Queue()
        self.reading = Queue()
        self.trees = TreeBuilder(lambda: self.queue.idle_for)
        self.given: Study | None = None
        networks.watch = self.queue.counting
        self._most_sessions, self._forget_after = most_sessions, forget_after
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def session(self, key: str, address: str = "") -> Session:
        """The session of this key, new or known.

        Where there are too many, the one gives way that was silent for longest, if that is some
        minutes; else one of the address that has most, an empty one first.

        Args:
            key: Visitor and page.
            address: From where it asks now.
        """
        now, lane = time.monotonic(), f"{address}/{key}"
        with self._lock:
            session = self._sessions.setdefault(key, Session(lane))
            session.heard, session.lane = now, lane
            self._sessions.move_to_end(key)
            gone = [
                other
                for other, one in self._sessions.items()
                if one.heard < now - self._forget_after
            ]
            others = [other for other in self._sessions if other != key and other not in gone]
            oldest = others[0] if others else key
            if len(others) < self._most_sessions:
                pass
            elif self._sessions[oldest].heard < now - _SILENT:
                gone.append(oldest)
            else:
                counts = Counter(self._sessions[other].address for other in others)
                counts[address] += 1
                address = counts.most_common(1)[0][0]
                own = [one for one in others if self._sessions[one].address == address]
                gone.append(min(own or others, key=lambda one: not self._sessions[one].is_empty))
        for other in gone:
            self.forget(other)
        return session

    @property
    def n_sessions(self) -> int:
        """How many are remembered."""
        return len(self._sessions)

    def forget(self, key: str) -> None:
        """Drop what is remembered of a session, and end its work."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            for job in session.jobs.values():
                self.queue.cancel(job)
            session.study = session.group = None
            give_back()

    def submit(
        self,
        session: Session,
        doing: str,
        work: Callable[[Job], Answer],
        *,
        pace: Pace = "quick",
    ) -> Job:
        """Line up work for a session; of what is not quick it has one at a time, the last.

        Raises:
            BusyError: too many are waiting.
        """
        lane = f"{session.lane} {pace}"
        if pace != "quick":
            for job in session.jobs.values():
                if job.lane == lane:
                    self.queue.cancel(job)
        job = self.queue.submit(
            lane, doing, lambda job: session.answer(work(job)), is_ahead=pace == "ahead"
        )
        session.add(job)
        return job

    def close(self) -> None:
        """Stop all work and leave the networks as they came."""
        self.queue.close()
        self.reading.close()
        self.trees.close()
        self.networks.close()


def refusal(error: BaseException) -> Answer:
    """An error as an answer: naspix's own sentences, and no innards of anything else."""
    if isinstance(error, UnwantedError | CancelledError):
        return {"ok": False, "cancelled": True, "sentence": "cancelled"}
    if isinstance(error, NaspixError):
        return {"ok": False, "sentence": str(error)}
    return {
        "ok": False,
        "sentence": f"this should not have happened ({type(error).__name__}); try another photo",
    }

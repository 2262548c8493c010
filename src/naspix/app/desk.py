"""Who visits, what they ask, what they are answered: the explorer without its page.

A request is a JSON object with a visitor's key, an action and its arguments; so is the answer:
``{"ok": true, ...}``, or ``{"ok": false, "sentence": ...}``. Work that takes longer is answered by
a job to follow. Visitors are bounded in number, each keeps one photo, the silent are forgotten.
"""

import math
import re
import threading
import time
from collections import OrderedDict
from concurrent.futures import CancelledError

from naspix.app.actions import AT_ONCE, WORK, Answer, House, Visitor
from naspix.app.jobs import Job, LeftError, Workshop
from naspix.app.networks import Shelf
from naspix.app.trees import Nursery
from naspix.app.uploads import Limits
from naspix.errors import InputError, NaspixError, UnknownNameError

_KEY = re.compile(r"[A-Za-z0-9-]{16,64}")


class Desk:
    """Answers requests.

    Args:
        shelf: The networks.
        limits: Of uploads.
        most_visitors: Beyond this the one that was silent for longest is forgotten.
        forget_after: Seconds of silence after which a visitor is forgotten.
    """

    def __init__(
        self,
        shelf: Shelf,
        *,
        limits: Limits | None = None,
        most_visitors: int = 64,
        forget_after: float = 3600.0,
    ) -> None:
        self.workshop = Workshop()
        nursery = Nursery(lambda: self.workshop.turns.idle_for)
        self.house = House(shelf, limits or Limits(), nursery)
        self._most_visitors, self._forget_after = most_visitors, forget_after
        self._visitors: OrderedDict[str, Visitor] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, request: object) -> "Answer | Job":
        """Answer at once, or line up a job.

        Args:
            request: ``{"key": ..., "action": ..., **arguments}``.
        """
        try:
            if not isinstance(request, dict):
                raise InputError("a request is a JSON object")
            key, action = request.get("key"), str(request.get("action"))
            if not isinstance(key, str) or not _KEY.fullmatch(key):
                raise InputError("a request carries the page's key")
            visitor = self._visitor(key)
            if action in AT_ONCE:
                return {"ok": True, **AT_ONCE[action](self.house, visitor, request)}
            if action == "leave":
                self.forget(key)
                return {"ok": True}
            if action == "follow":
                return self._followed(visitor, request)
            return self._lined_up(key, visitor, action, request)
        except Exception as error:
            return refusal(error)

    def wait(self, job: Job, timeout: float | None = None) -> Answer:
        """The job's answer, or where it stands after so many seconds."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            job.heard = time.monotonic()
            try:
                return {"ok": True, **job.result.result(max(0.0, min(1.0, end - job.heard)))}
            except TimeoutError:
                if job.heard >= end:
                    return standing(job)
            except (Exception, CancelledError) as error:
                return refusal(error)

    @property
    def n_visitors(self) -> int:
        """How many are remembered."""
        return len(self._visitors)

    def close(self) -> None:
        """Stop all work and leave the networks as they came."""
        self.workshop.close()
        self.house.nursery.close()
        self.house.shelf.close()

    # ----------------------------------------------------------------- visitors

    def _visitor(self, key: str) -> Visitor:
        now = time.monotonic()
        with self._lock:
            visitor = self._visitors.setdefault(key, Visitor())
            visitor.heard = now
            self._visitors.move_to_end(key)
            gone = [
                other
                for i, (other, one) in enumerate(self._visitors.items())
                if one.heard < now - self._forget_after
                or i < len(self._visitors) - self._most_visitors
            ]
            forgotten = [self._visitors.pop(other) for other in gone]
        for one in forgotten:
            one.drop()
        return visitor

    def forget(self, key: str) -> None:
        """Drop what is remembered of a visitor, and end its work."""
        with self._lock:
            visitor = self._visitors.pop(key, None)
        if visitor is not None:
            visitor.drop()

    # ----------------------------------------------------------------- work

    def _lined_up(self, key: str, visitor: Visitor, action: str, request: Answer) -> Job:
        if action not in WORK:
            raise UnknownNameError.among("action", action, [*WORK, *AT_ONCE, "follow", "leave"])
        work, doing, long = WORK[action]
        if long:
            for job in visitor.jobs.values():
                if job.ticket.lane.endswith("long"):
                    job.cancel()
        visitor.jobs = {n: job for n, job in visitor.jobs.items() if not job.result.done()}
        lane = f"{key} {'long' if long else 'quick'}"

        def told(job: Job) -> Answer:
            return {**work(self.house, visitor, request, job), "told": time.time()}

        job = self.workshop.submit(lane, doing, told)
        visitor.n_jobs += 1
        job.number = str(visitor.n_jobs)
        visitor.jobs[job.number] = job
        return job

    def _followed(self, visitor: Visitor, request: Answer) -> "Answer | Job":
        job = visitor.jobs.get(str(request.get("job")))
        if job is None:
            raise InputError("this work is over or was cancelled; ask again")
        job.heard = time.monotonic()
        return job


def standing(job: Job) -> Answer:
    """Where a job stands."""
    return {
        "ok": True,
        "job": job.number,
        "note": job.note,
        "share": job.share,
        "seconds": round(job.seconds, 1),
    }


def refusal(error: BaseException) -> Answer:
    """An error as an answer: naspix's own sentences, and no innards of anything else."""
    if isinstance(error, LeftError | CancelledError):
        return {"ok": False, "cancelled": True, "sentence": "cancelled"}
    if isinstance(error, NaspixError):
        return {"ok": False, "sentence": str(error)}
    return {
        "ok": False,
        "sentence": f"this should not have happened ({type(error).__name__}); try another photo",
    }

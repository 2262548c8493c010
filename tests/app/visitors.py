"""Visitors of a backend, without a server."""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from naspix.app import Backend
from naspix.app.actions import ACTIONS
from naspix.app.queue import BusyError, Job
from naspix.app.session import refusal

Ask = Callable[..., dict[str, Any]]


def lined_up(backend: Backend, key: str, action: str, content: bytes = b"", **fields: Any) -> Job:
    """Line up a request, as the server does."""
    request = ACTIONS[action](**fields)
    if content:
        request.attach(content)
    session = backend.session(key)
    return backend.submit(
        session,
        request.doing,
        lambda job: request.answer(backend, session, job),
        pace=request.pace,
    )


def outcome(backend: Backend, job: Job, timeout: float = 60) -> dict[str, Any]:
    """The job's answer, or where it stands after so many seconds; it is asked about meanwhile."""
    end = time.monotonic() + timeout
    while True:
        job.heard = time.monotonic()
        try:
            return job.result.result(max(0.0, min(1.0, end - job.heard)))
        except TimeoutError:
            if job.heard >= end:
                return {"ok": True, **backend.queue.standing(job)}
        except (Exception, CancelledError) as error:
            return refusal(error)


def visitor_of(backend: Backend, key: str = "") -> Ask:
    """What asks, as the page does: requests of one session, jobs waited for."""
    key = key or secrets.token_hex(16)

    def ask(action: str, content: bytes = b"", **fields: Any) -> dict[str, Any]:
        try:
            job = lined_up(backend, key, action, content, **fields)
        except BusyError as error:
            return refusal(error)
        return outcome(backend, job)

    return ask

"""Visitors of a desk, without a page."""

import secrets
from collections.abc import Callable
from typing import Any

from naspix.app import Desk
from naspix.app.jobs import Job

Ask = Callable[..., dict[str, Any]]


def visitor_of(desk: Desk, key: str | None = None) -> Ask:
    """What asks, as the page does: requests with one key, jobs waited for."""
    key = key or secrets.token_hex(16)

    def ask(action: str, **arguments: object) -> dict[str, Any]:
        answer = desk.ask({"key": key, "action": action, **arguments})
        return desk.wait(answer, timeout=60) if isinstance(answer, Job) else answer

    return ask

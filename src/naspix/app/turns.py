"""Whose turn it is on the device: one computation at a time, lanes served round robin.

A lane is one visitor's line of requests (quick ones and long ones have a lane each). However many
requests a lane holds, every other lane is served once before its next. Long work lets the others
in between its forward passes, and ends there when nobody wants it any more. No network is known.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class LeftError(Exception):
    """The work is not wanted any more: cancelled, or its visitor has left."""


@dataclass(eq=False)
class Ticket:
    """A place in line.

    Attributes:
        lane: Whose it is.
        cancelled: Set when the work is not wanted any more.
    """

    lane: str
    cancelled: threading.Event = field(default_factory=threading.Event)


class Turns:
    """Serves one ticket at a time.

    Example:
        >>> turns, ticket = Turns(), Ticket("Ada")
        >>> with turns.take(ticket):
        ...     turns.ahead_of(ticket)
        0
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lanes: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._served: Ticket | None = None
        self._idle_since = time.monotonic()

    def line_up(self, ticket: Ticket) -> None:
        """Take a place at the end of the lane; ``take`` does it where it was not done."""
        with self._changed:
            self._lanes.setdefault(ticket.lane, deque()).append(ticket)

    def ahead_of(self, ticket: Ticket) -> int:
        """How many will be served before this ticket, the one being served among them."""
        with self._changed:
            if self._served is ticket:
                return 0
            own = self._lanes.get(ticket.lane, deque())
            if ticket not in own:
                return 0
            place = own.index(ticket)
            ahead, later = place, False
            for lane, waiting in self._lanes.items():
                if lane == ticket.lane:
                    later = True
                else:
                    ahead += min(len(waiting), place if later else place + 1)
            return ahead + (self._served is not None)

    @property
    def idle_for(self) -> float:
        """For how many seconds nobody has been served or has waited."""
        with self._changed:
            busy = self._served is not None or self._lanes
            return 0.0 if busy else time.monotonic() - self._idle_since

    @contextmanager
    def take(self, ticket: Ticket) -> Iterator[None]:
        """Wait for the turn, and keep it inside the block.

        Raises:
            LeftError: the ticket was cancelled meanwhile.
        """
        self._begin(ticket)
        try:
            yield
        finally:
            self._end(ticket)

    @contextmanager
    def aside(self, ticket: Ticket) -> Iterator[None]:
        """Give the turn up while the block waits for what needs none, and take the next after it.

        Raises:
            LeftError: the ticket was cancelled meanwhile.
        """
        self._end(ticket)
        try:
            yield
        finally:
            self._begin(ticket, to_keep=True)
        if ticket.cancelled.is_set():
            raise LeftError

    def let_others_in(self, ticket: Ticket) -> None:
        """Hand the turn on to whoever waits, and wait for the next.

        Raises:
            LeftError: the ticket was cancelled.
        """
        if ticket.cancelled.is_set():
            raise LeftError
        with self._changed:
            if not any(self._lanes.values()):
                return
        with self.aside(ticket):
            pass

    def cancel(self, ticket: Ticket) -> None:
        """Stop waiting, or working, at the next possible moment."""
        with self._changed:
            ticket.cancelled.set()
            self._changed.notify_all()

    def _begin(self, ticket: Ticket, *, to_keep: bool = False) -> None:
        with self._changed:
            if ticket not in self._lanes.get(ticket.lane, ()):
                self._lanes.setdefault(ticket.lane, deque()).append(ticket)
            # work under way waits on, cancelled or not: it ends inside its own block
            self._changed.wait_for(
                lambda: self._is_next(ticket) or (ticket.cancelled.is_set() and not to_keep)
            )
            waiting, is_next = self._lanes[ticket.lane], self._is_next(ticket)
            waiting.remove(ticket)
            if not waiting:
                del self._lanes[ticket.lane]
            elif is_next:
                self._lanes.move_to_end(ticket.lane)  # everybody else first
            if ticket.cancelled.is_set() and not to_keep:
                self._changed.notify_all()
                raise LeftError
            self._served = ticket

    def _end(self, ticket: Ticket) -> None:
        with self._changed:
            if self._served is ticket:
                self._served = None
                self._idle_since = time.monotonic()
            self._changed.notify_all()

    def _is_next(self, ticket: Ticket) -> bool:
        if self._served is not None or not self._lanes:
            return False
        return next(iter(self._lanes.values()))[0] is ticket

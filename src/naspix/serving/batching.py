"""Requests that wait pass the network together: one thread computes, a batch at a time.

The network runs in that thread alone, and no other computes with several: OpenMP, by which torch
computes on a CPU, keeps threads for each thread that asks it, and once these are more than the
processors it lets them sleep between any two operations, which makes a small network half as fast.

Items of one kind are answered by one call. What nobody waits for any more is dropped before its
turn, and ends at the network's next forward where a batch has nobody left.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from naspix.errors import NaspixError
from naspix.models import Classifier

_WEIGHT_OF_THE_LAST = 0.2  # in the mean time that an item takes


class FullError(NaspixError):
    """Too many are waiting; ``seconds`` says when to ask again."""

    def __init__(self, n_waiting: int, seconds: int) -> None:
        super().__init__(f"{n_waiting} requests are waiting already; ask again in {seconds} s")
        self.seconds = seconds


class GoneError(Exception):
    """Nobody waits for this any more."""


@dataclass(eq=False)
class Waiting:
    """One request on its way.

    Attributes:
        kind: Items of equal kinds are answered together.
        item: What is asked.
        answers: Items to their answers, in order.
        result: Becomes the answer, or the error.
        gone: Set when nobody waits for it any more.
    """

    kind: Hashable
    item: Any
    answers: Callable[[Sequence[Any]], Sequence[Any]]
    result: Future[Any] = field(default_factory=Future)
    gone: threading.Event = field(default_factory=threading.Event)


class Batcher:
    """Answers requests in the order in which they come, those that wait in common batches.

    Args:
        most_waiting: Further ones are refused.
        most_together: The largest batch.
        told: Told the size of each batch and the seconds it took.

    Example:
        >>> batcher = Batcher()
        >>> batcher.submit("squares", 3, lambda several: [x**2 for x in several]).result.result()
        9
        >>> batcher.close()
    """

    def __init__(
        self,
        *,
        most_waiting: int = 64,
        most_together: int = 8,
        told: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self._most_waiting, self._most_together, self._told = most_waiting, most_together, told
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._computing: list[Waiting] = []
        self._seconds_an_item = 0.1
        self._closed = False
        self._n_threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._work, name="naspix-batches", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @property
    def works(self) -> bool:
        """Whether batches are answered."""
        return self._thread.is_alive()

    def full(self) -> FullError:
        """The refusal of one more request, with a guess of when there is room."""
        n_ahead = len(self._waiting) + len(self._computing)
        return FullError(len(self._waiting), max(1, round(n_ahead * self._seconds_an_item)))

    def submit(
        self, kind: Hashable, item: Any, answers: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> Waiting:
        """Line up a request.

        Args:
            kind: Items of equal kinds are answered together, by the first one's ``answers``.
            item: What is asked.
            answers: Items to their answers, in order.

        Raises:
            FullError: Too many are waiting.
        """
        one = Waiting(kind, item, answers)
        with self._changed:
            self._drop_gone()
            if len(self._waiting) >= self._most_waiting:
                n_ahead = len(self._waiting) + len(self._computing)
                raise FullError(len(self._waiting), max(1, round(n_ahead * self._seconds_an_item)))
            self._waiting.append(one)
            self._changed.notify_all()
        return one

    @contextmanager
    def watching(self, model: Classifier) -> Iterator[None]:
        """End a batch at the classifier's forward where nobody waits for it any more."""

        def look(*_: object) -> None:
            ours = threading.current_thread() is self._thread
            if ours and self._computing and all(one.gone.is_set() for one in self._computing):
                raise GoneError

        handle = model.register_forward_pre_hook(look)
        try:
            yield
        finally:
            handle.remove()

    def close(self) -> None:
        """Take nothing more, and end what is under way at the next forward."""
        with self._changed:
            self._closed = True
            for one in (*self._waiting, *self._computing):
                one.gone.set()
            self._changed.notify_all()
        self._thread.join(5)

    def _work(self) -> None:
        torch.set_num_threads(self._n_threads)  # of this thread
        while True:
            with self._changed:
                self._computing = []
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                batch = self._computing = self._next()
            if batch:
                began = time.monotonic()
                self._answer(batch)
                seconds = time.monotonic() - began
                self._told(len(batch), seconds)
                self._seconds_an_item += _WEIGHT_OF_THE_LAST * (
                    seconds / len(batch) - self._seconds_an_item
                )

    def _next(self) -> list[Waiting]:
        """The one that waits for longest, with others of its kind."""
        self._drop_gone()
        if not self._waiting:
            return []
        kind = self._waiting[0].kind
        batch = [one for one in self._waiting if one.kind == kind][: self._most_together]
        for one in batch:
            self._waiting.remove(one)
        return batch

    def _drop_gone(self) -> None:
        for one in [one for one in self._waiting if one.gone.is_set()]:
            self._waiting.remove(one)
            _refuse(one, GoneError())

    def _answer(self, batch: list[Waiting]) -> None:
        """Answer a batch; where it fails, each alone, so that one does not spoil the others'."""
        try:
            answers = batch[0].answers([one.item for one in batch])
        except Exception as error:
            if len(batch) == 1 or isinstance(error, GoneError):
                for one in batch:
                    _refuse(one, error)
                return
            for one in batch:
                self._computing = [one]
                self._answer([one])
            return
        for one, answer in zip(batch, answers, strict=True):
            if one.result.set_running_or_notify_cancel():
                one.result.set_result(answer)


def _refuse(one: Waiting, error: Exception) -> None:
    with suppress(Exception):  # whoever waited may have cancelled it meanwhile
        one.result.set_exception(error)

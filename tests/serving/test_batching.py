"""Requests that wait are answered together, each its own answer, and none that nobody wants."""

import threading
import time

import pytest

import naspix
from naspix.errors import InputError
from naspix.serving.batching import Batcher, FullError, GoneError


class Asked:
    """Answers squares, one batch at a time, once it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.let = threading.Event()

    def __call__(self, items: list[int]) -> list[int]:
        assert self.let.wait(10)
        if any(item < 0 for item in items):
            raise InputError("a number is negative")
        self.batches.append(items)
        return [item**2 for item in items]


@pytest.fixture
def batcher():  # type: ignore[no-untyped-def]
    batcher = Batcher(most_waiting=12, most_together=4)
    yield batcher
    batcher.close()


def test_those_that_wait_go_together_by_kind_and_in_order(batcher: Batcher) -> None:
    ask = Asked()
    first = batcher.submit("a", 1, ask)
    while batcher.n_waiting:
        time.sleep(0.001)
    others = [batcher.submit("ab"[number % 2], number, ask) for number in range(2, 12)]
    ask.let.set()
    assert first.result.result(5) == 1
    assert [one.result.result(5) for one in others] == [number**2 for number in range(2, 12)]
    assert ask.batches == [[1], [2, 4, 6, 8], [3, 5, 7, 9], [10], [11]]


def test_one_that_fails_does_not_spoil_the_others(batcher: Batcher) -> None:
    ask = Asked()
    batcher.submit("a", 1, ask)
    several = [batcher.submit("a", number, ask) for number in (2, -1, 3)]
    ask.let.set()
    assert several[0].result.result(5) == 4
    assert several[2].result.result(5) == 9
    with pytest.raises(InputError, match="negative"):
        several[1].result.result(5)


def test_a_full_queue_says_when_to_come_again(batcher: Batcher) -> None:
    ask = Asked()
    batcher.submit("a", 0, ask)
    while batcher.n_waiting:
        time.sleep(0.001)
    waiting = [batcher.submit("a", number, ask) for number in range(12)]
    with pytest.raises(FullError, match="12 requests are waiting") as refused:
        batcher.submit("a", 12, ask)
    assert refused.value.seconds >= 1
    waiting[3].gone.set()  # whose place is free again
    last = batcher.submit("a", 12, ask)
    ask.let.set()
    assert last.result.result(5) == 144
    with pytest.raises(GoneError):
        waiting[3].result.result(5)
    assert not any(3 in batch for batch in ask.batches)


def test_work_that_nobody_waits_for_ends_at_the_next_forward(batcher: Batcher) -> None:
    import torch

    model = naspix.load_model("efficientnet_lite0")
    n_passed = []

    def ask(items: list[int]) -> list[int]:
        for _ in range(1000):
            model(torch.zeros(1, 3, 32, 32))
            n_passed.append(1)
        return items

    with batcher.watching(model):
        one = batcher.submit("a", 1, ask)
        while len(n_passed) < 3:
            time.sleep(0.01)
        one.gone.set()
        with pytest.raises(GoneError):
            one.result.result(10)
        assert len(n_passed) < 1000
        model(torch.zeros(1, 3, 32, 32))  # another thread's forward is not ended
    assert batcher.submit("b", 3, Asked.__call__.__get__(_open())).result.result(5) == 9


def _open() -> Asked:
    ask = Asked()
    ask.let.set()
    return ask

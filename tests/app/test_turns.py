"""Turns: one at a time, lanes served round robin, places told, cancelled work gone."""

import threading
import time

import pytest

from naspix.app.turns import LeftError, Ticket, Turns


def _served(turns: Turns, tickets: list[Ticket]) -> list[str]:
    """Line tickets up behind one that is being served; the order in which they are served."""
    order: list[str] = []
    first, done = Ticket("first"), threading.Event()

    def hold() -> None:
        with turns.take(first):
            done.wait(10)

    def work(ticket: Ticket) -> None:
        with turns.take(ticket):
            order.append(ticket.lane)

    holder = threading.Thread(target=hold)
    holder.start()
    _until(lambda: turns.ahead_of(first) == 0)
    for ticket in tickets:
        turns.line_up(ticket)
    threads = [threading.Thread(target=work, args=[ticket]) for ticket in tickets]
    for thread in threads:
        thread.start()
    done.set()
    for thread in [holder, *threads]:
        thread.join(10)
        assert not thread.is_alive()
    return order


def _until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_lanes_are_served_in_turn_however_much_one_asks():
    tickets = [Ticket(lane) for lane in "aaaaabbc"]
    assert "".join(_served(Turns(), tickets)) == "abcabaaa"


def test_places_in_line_are_those_in_which_tickets_are_served():
    turns, tickets = Turns(), [Ticket(lane) for lane in "aaabbc"]
    for ticket in tickets:
        turns.line_up(ticket)
    assert [turns.ahead_of(ticket) for ticket in tickets] == [0, 3, 5, 1, 4, 2]


def test_never_two_at_once():
    turns, inside, most = Turns(), [0], [0]

    def work(lane: str) -> None:
        for _ in range(20):
            with turns.take(Ticket(lane)):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=work, args=[f"{i}"]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1]


def test_cancelled_while_waiting():
    turns, ticket = Turns(), Ticket("b")
    left: list[bool] = []

    def wait() -> None:
        try:
            with turns.take(ticket):
                left.append(False)
        except LeftError:
            left.append(True)

    with turns.take(Ticket("a")):
        waiting = threading.Thread(target=wait)
        waiting.start()
        _until(lambda: turns.ahead_of(ticket) == 1)
        turns.cancel(ticket)
        waiting.join(10)
    assert left == [True]
    with turns.take(Ticket("c")):  # and the device is free
        pass


def test_long_work_lets_others_in_and_goes_on():
    turns, long, order = Turns(), Ticket("long"), []

    def quick() -> None:
        with turns.take(Ticket("quick")):
            order.append("quick")

    with turns.take(long):
        turns.let_others_in(long)  # nobody is there: nothing happens
        thread = threading.Thread(target=quick)
        thread.start()
        time.sleep(0.05)
        assert order == []
        turns.let_others_in(long)
        order.append("long")
    thread.join(10)
    assert order == ["quick", "long"]


def test_long_work_ends_when_it_is_cancelled():
    turns, ticket = Turns(), Ticket("a")

    def work() -> None:
        with turns.take(ticket):
            turns.cancel(ticket)
            turns.let_others_in(ticket)

    with pytest.raises(LeftError):
        work()
    with turns.take(Ticket("b")):
        assert turns.ahead_of(ticket) == 0  # it is not in line any more


def test_who_steps_aside_lets_others_in_and_has_a_turn_again():
    turns, waiting, order = Turns(), Ticket("waiting"), []
    with turns.take(waiting):
        with turns.aside(waiting):
            time.sleep(0.01)
            assert turns.idle_for >= 0.01
            with turns.take(Ticket("other")):
                order.append("other")
                assert turns.idle_for == 0
        order.append("waiting")
        assert turns.idle_for == 0
    assert order == ["other", "waiting"]
    assert turns.idle_for > 0


def test_who_is_cancelled_while_aside_ends():
    turns, ticket = Turns(), Ticket("a")

    def work() -> None:
        with turns.take(ticket), turns.aside(ticket):
            turns.cancel(ticket)

    with pytest.raises(LeftError):
        work()
    assert turns.idle_for > 0

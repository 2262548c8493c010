"""The queue: one at a time, lanes served round robin, places told, cancelled work gone."""

import threading
import time

import pytest

from naspix.app.queue import BusyError, Job, Queue, UnwantedError


def _served(queue: Queue, jobs: list[Job]) -> list[str]:
    """Line jobs up behind one that is being served; the order in which they are served."""
    order: list[str] = []
    first, done = Job("first"), threading.Event()

    def hold() -> None:
        with queue.take(first):
            done.wait(10)

    def work(job: Job) -> None:
        with queue.take(job):
            order.append(job.lane)

    holder = threading.Thread(target=hold)
    holder.start()
    _until(lambda: queue.ahead_of(first) == 0)
    for job in jobs:
        queue.line_up(job)
    threads = [threading.Thread(target=work, args=[job]) for job in jobs]
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
    jobs = [Job(lane) for lane in "aaaaabbc"]
    assert "".join(_served(Queue(), jobs)) == "abcabaaa"


def test_addresses_are_served_in_turn_however_many_visitors_one_has():
    jobs = [Job(lane) for lane in ("evil/1/a", "evil/2/a", "evil/2/b", "evil/3/a", "good/1/a")]
    served = ["evil/1/a", "good/1/a", "evil/2/a", "evil/3/a", "evil/2/b"]
    assert _served(Queue(), jobs) == served


def test_what_is_computed_ahead_comes_after_everything_else():
    queue, order = Queue(), []

    def work(job: Job) -> dict:
        for _ in range(2):
            queue.let_others_in(job)
            order.append(job.doing)
        return {}

    with queue.take(Job("somebody")):
        jobs = [queue.submit("a/b/ahead", "ahead", work, is_ahead=True)]
        jobs += [queue.submit(f"a/{i}/c", f"{i}", work) for i in range(2)]
    for job in jobs:
        job.result.result(10)
    assert order[-2:] == ["ahead"] * 2
    queue.close()


def test_nobody_takes_all_places():
    queue, done = Queue(most_jobs=10, most_of_address=4, most_of_visitor=2), threading.Event()
    waits = lambda job: {"": done.wait(10)}  # noqa: E731
    for lane in ("evil/1/a", "evil/1/b", "evil/2/a", "evil/3/a"):
        queue.submit(lane, "", waits)
    for lane in ("evil/1/c", "evil/4/a"):
        with pytest.raises(BusyError, match="waiting already"):
            queue.submit(lane, "", waits)
    others = [queue.submit(lane, "", waits) for lane in ("good/1/a", "good/1/b", "good/2/a")]
    done.set()
    assert [job.result.result(10) for job in others] == [{"": True}] * 3
    queue.close()


def test_a_lanes_requests_are_answered_in_their_order():
    queue, order = Queue(), []

    def work(job: Job) -> dict:
        for _ in range(3):
            queue.let_others_in(job)
            order.append(job.doing)
        return {}

    with queue.take(Job("somebody")):
        jobs = [queue.submit("a/b/c", doing, work) for doing in ("first", "second")]
        jobs.append(queue.submit("a/b/other", "aside", work))
    for job in jobs:
        job.result.result(10)
    assert [one for one in order if one != "aside"] == ["first"] * 3 + ["second"] * 3
    assert order[-1] != "aside"  # which was let in between
    queue.close()


def test_places_in_line_are_those_in_which_jobs_are_served():
    queue, jobs = Queue(), [Job(lane) for lane in "aaabbc"]
    for job in jobs:
        queue.line_up(job)
    assert [queue.ahead_of(job) for job in jobs] == [0, 3, 5, 1, 4, 2]


def test_never_two_at_once():
    queue, inside, most = Queue(), [0], [0]

    def work(lane: str) -> None:
        for _ in range(20):
            with queue.take(Job(lane)):
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
    queue, job = Queue(), Job("b")
    left: list[bool] = []

    def wait() -> None:
        try:
            with queue.take(job):
                left.append(False)
        except UnwantedError:
            left.append(True)

    with queue.take(Job("a")):
        waiting = threading.Thread(target=wait)
        waiting.start()
        _until(lambda: queue.ahead_of(job) == 1)
        queue.cancel(job)
        waiting.join(10)
    assert left == [True]
    with queue.take(Job("c")):  # and the device is free
        pass


def test_long_work_lets_others_in_and_goes_on():
    queue, long, order = Queue(), Job("long"), []

    def quick() -> None:
        with queue.take(Job("quick")):
            order.append("quick")

    with queue.take(long):
        queue.let_others_in(long)  # nobody is there: nothing happens
        thread = threading.Thread(target=quick)
        thread.start()
        time.sleep(0.05)
        assert order == []
        queue.let_others_in(long)
        order.append("long")
    thread.join(10)
    assert order == ["quick", "long"]


def test_long_work_ends_when_it_is_cancelled():
    queue, job = Queue(), Job("a")

    def work() -> None:
        with queue.take(job):
            queue.cancel(job)
            queue.let_others_in(job)

    with pytest.raises(UnwantedError):
        work()
    with queue.take(Job("b")):
        assert queue.ahead_of(job) == 0  # it is not in line any more


def test_who_steps_aside_lets_others_in_and_has_a_turn_again():
    queue, waiting, order = Queue(), Job("waiting"), []
    with queue.take(waiting):
        with queue.aside(waiting):
            time.sleep(0.01)
            assert queue.idle_for >= 0.01
            with queue.take(Job("other")):
                order.append("other")
                assert queue.idle_for == 0
        order.append("waiting")
        assert queue.idle_for == 0
    assert order == ["other", "waiting"]
    assert queue.idle_for > 0


def test_who_is_cancelled_while_aside_ends():
    queue, job = Queue(), Job("a")

    def work() -> None:
        with queue.take(job), queue.aside(job):
            queue.cancel(job)

    with pytest.raises(UnwantedError):
        work()
    assert queue.idle_for > 0

"""Sessions: visitors do not meet, are bounded and forgotten; their work is told, and ends."""

import secrets
import threading
import time

import pytest
from visitors import lined_up, outcome, visitor_of

from naspix.app import Backend, Networks
from naspix.app.photos import SAMPLES
from naspix.app.queue import Job
from naspix.errors import InputError


def test_visitors_do_not_meet(backend):
    names = [*SAMPLES] * 2
    visitors = [visitor_of(backend) for _ in names]
    states = [ask("sample", name=name) for ask, name in zip(visitors, names, strict=True)]
    failed: list[str] = []

    def click(number: int) -> None:
        ask, state = visitors[number], states[number]
        for k in range(4):
            scores = ask("toggle", number=k % state["regions"]["n"])["scores"]
            befores = [(bar["index"], bar["before"]) for bar in scores["bars"][:5]]
            if befores != [(bar["index"], bar["before"]) for bar in state["scores"]["bars"]]:
                failed.append(names[number])
        if ask("hello")["photo"]["token"] != state["photo"]["token"]:
            failed.append(names[number])

    threads = [threading.Thread(target=click, args=[i]) for i in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def test_visitors_are_bounded_and_forgotten(model):
    backend = Backend(Networks({"net": lambda: model}), most_sessions=2, forget_after=1000)
    first = visitor_of(backend)
    first("sample", name="chelsea")
    for _ in range(3):
        backend.session(secrets.token_hex(16))  # without a photo: these give way first
    assert backend.n_sessions == 2
    assert first("toggle", number=0)["ok"]
    for _ in range(2):
        visitor_of(backend)("sample", name="coffee")
    assert "choose it again" in first("toggle", number=0)["sentence"]
    backend._forget_after = -1.0
    backend.session(secrets.token_hex(16))
    assert backend.n_sessions <= 1
    backend.close()


def test_who_opens_many_pages_throws_nobody_else_out(model):
    backend = Backend(Networks({"net": lambda: model}), most_sessions=6)
    kept = {f"visitor-{i}": f"address-{i}" for i in range(3)}
    for key, address in kept.items():
        backend.session(key, address)
    for i in range(20):
        backend.session(f"attacker-{i}", "evil")
    assert backend.n_sessions == 6
    assert kept.keys() <= backend._sessions.keys()
    backend._sessions["visitor-0"].heard -= 600  # but a team takes the places of those who left
    backend._sessions.move_to_end("visitor-0", last=False)
    backend.session("another", "evil")
    assert "visitor-0" not in backend._sessions
    assert {"visitor-1", "visitor-2", "attacker-19"} <= backend._sessions.keys()
    backend.close()


def test_leaving_frees_the_photo(backend):
    key = secrets.token_hex(16)
    ask = visitor_of(backend, key)
    ask("sample", name="coffee")
    backend.forget(key)
    assert key not in backend._sessions


def test_long_work_tells_its_progress_lets_others_in_and_is_cancelled(backend):
    key, other = secrets.token_hex(16), visitor_of(backend)
    ask = visitor_of(backend, key)
    ask("sample", name="chelsea")
    other("sample", name="coffee")
    job = lined_up(backend, key, "compare", methods=["rise"])
    end = time.monotonic() + 30
    while not (standing := outcome(backend, job, 0.05)).get("share"):
        assert time.monotonic() < end
    assert standing["note"] == "RISE"
    assert 0 < standing["share"] < 0.5
    assert other("toggle", number=1)["ok"]  # while RISE goes on
    assert not job.result.done()
    backend.queue.cancel(job)
    answer = outcome(backend, job, 10)
    assert answer["cancelled"]
    assert backend.queue.n_jobs == 0


def test_a_visitor_that_is_silent_is_taken_to_have_left(backend, monkeypatch):
    key = secrets.token_hex(16)
    ask = visitor_of(backend, key)
    ask("sample", name="chelsea")
    monkeypatch.setattr("naspix.app.queue.LEFT_AFTER", 0.2)
    job = lined_up(backend, key, "compare", methods=["rise"])
    end = time.monotonic() + 20
    while not job.result.done():  # nobody asks about it
        assert time.monotonic() < end
        time.sleep(0.05)
    assert outcome(backend, job)["cancelled"]


def test_the_place_in_line_is_told(backend):
    key, ask = secrets.token_hex(16), visitor_of(backend)
    with backend.queue.take(Job("somebody")):
        other = lined_up(backend, secrets.token_hex(16), "hello")
        job = lined_up(backend, key, "hello")
        told = outcome(backend, job, 0.05)
        assert told["note"] == "waiting: 2 computations ahead"
        assert told["share"] is None
        assert backend.session(key).job(told["job"]) is job
        with pytest.raises(InputError, match="over"):
            backend.session(key).job("7")
    assert outcome(backend, other, 20)["ok"]
    assert outcome(backend, job, 20)["samples"]
    assert ask("hello")["ok"]


def test_too_many_are_refused(model):
    backend = Backend(Networks({"net": lambda: model}))
    backend.queue._most_jobs = 0
    assert "try again" in visitor_of(backend)("sample", name="chelsea")["sentence"]
    backend.close()


def test_innards_of_other_errors_stay_inside(backend, ask, monkeypatch):
    def fail(*_: object) -> None:
        raise KeyError("/secret/path")

    monkeypatch.setattr("naspix.app.actions.sample_image", fail)
    sentence = ask("sample", name="chelsea")["sentence"]
    assert "secret" not in sentence
    assert "KeyError" in sentence


def test_the_network_is_left_as_it_came(model):
    hooks = len(model._forward_pre_hooks)
    backend = Backend(Networks({"net": lambda: model}))
    visitor_of(backend)("sample", name="chelsea")
    assert len(model._forward_pre_hooks) == hooks + 1
    backend.close()
    assert len(model._forward_pre_hooks) == hooks

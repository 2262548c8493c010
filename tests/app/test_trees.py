"""Trees grown ahead: one at a time, in quiet moments, wanted ones first, abandoned ones never."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from visitors import visitor_of

from naspix.app import Desk, Shelf
from naspix.app.jobs import Job
from naspix.app.regions import Cut, Cutter
from naspix.app.trees import Nursery
from naspix.segmentation import NAS

LEVELS = (3, 4)


class Slow(Cutter):
    """Grows when it is told to."""

    def grow(self, levels):
        started.append(self)
        assert may_grow.wait(20)
        super().grow(levels)


started: list[Cutter] = []
may_grow = threading.Event()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    started.clear()
    may_grow.clear()
    nursery = Nursery(lambda: 9.0)
    yield nursery
    may_grow.set()
    nursery.close()


def _cutter(model, kind=Cutter) -> Cutter:
    cutter = kind(model, torch.rand(1, 3, 32, 32))
    cutter.prepare(LEVELS)
    return cutter


def _until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def _has_tree(cutter) -> bool:
    return cutter.has_tree(Cut("ward", 2, LEVELS))


def test_a_planned_tree_is_there_before_it_is_asked_for(model, nursery):
    cutter = _cutter(model)
    nursery.plan(cutter, LEVELS)
    _until(lambda: _has_tree(cutter))
    _until(lambda: nursery.n_planned == 0)


def test_nothing_grows_unasked_while_the_device_is_used(model):
    idle_for = [0.1]  # between two clicks
    nursery = Nursery(lambda: idle_for[0])
    planned, wanted = _cutter(model), _cutter(model)
    nursery.plan(planned, LEVELS)
    assert nursery.want(wanted, LEVELS).wait(20)  # but what somebody waits for
    assert _has_tree(wanted)
    time.sleep(0.5)
    assert not _has_tree(planned)
    idle_for[0] = 1.0
    _until(lambda: _has_tree(planned))
    nursery.close()


def test_wanted_trees_come_first_and_only_one_grows_at_a_time(model, nursery):
    first, planned, wanted = (_cutter(model, Slow) for _ in range(3))
    nursery.want(first, LEVELS)
    _until(lambda: started)
    nursery.plan(planned, LEVELS)
    done = nursery.want(wanted, LEVELS)
    time.sleep(0.4)
    assert started == [first]
    may_grow.set()
    assert done.wait(20)
    assert started[:2] == [first, wanted]


def test_a_tree_that_is_growing_is_waited_for_not_grown_again(model, nursery):
    cutter = _cutter(model, Slow)
    nursery.plan(cutter, LEVELS)
    _until(lambda: started)
    done = nursery.want(cutter, LEVELS)
    assert not done.is_set()
    may_grow.set()
    assert done.wait(20)
    assert _has_tree(cutter)
    assert len(started) == 1


def test_a_photo_that_is_not_looked_at_any_more_has_no_tree(model, nursery):
    busy, left = _cutter(model, Slow), _cutter(model, Slow)
    nursery.want(busy, LEVELS)
    _until(lambda: started)
    nursery.plan(left, LEVELS)
    assert nursery.n_planned == 2
    del left
    gc.collect()
    assert nursery.n_planned == 1
    may_grow.set()
    _until(lambda: nursery.n_planned == 0)
    assert len(started) == 1


def test_only_the_last_choice_of_levels_is_grown(model, nursery):
    busy, cutter = _cutter(model, Slow), _cutter(model, Slow)
    nursery.want(busy, LEVELS)
    _until(lambda: started)
    for level in (2, 3, 4):
        cutter.prepare((level,))
        nursery.plan(cutter, (level,))
    assert nursery.n_planned == 2
    may_grow.set()
    _until(lambda: cutter.has_tree(Cut("ward", 2, (4,))))


def test_a_closed_nursery_lets_everybody_go(model, nursery):
    nursery.want(_cutter(model, Slow), LEVELS)
    other = _cutter(model)
    done = nursery.want(other, LEVELS)
    nursery.close()
    assert done.wait(5)
    assert nursery.want(other, LEVELS).is_set()
    assert not _has_tree(other)


def test_the_tree_is_there_when_the_slider_is_moved(model, monkeypatch):
    desk = Desk(Shelf({"net": lambda: model}))
    ask = visitor_of(desk)
    ask("sample", name="chelsea")
    assert desk.house.nursery.n_planned == 1
    _until(lambda: desk.house.nursery.n_planned == 0)
    monkeypatch.setattr(NAS, "segment", None)  # nothing is clustered any more
    for k in (2, 7, 40):
        regions = ask("segment", algorithm="ward", n_clusters=k)["regions"]
        assert regions["n_clusters"] == k
        assert regions["seconds"] < 0.5
    desk.close()


_SCRIPT = """
import threading
import torch
import naspix
from naspix.app.regions import Cutter
from naspix.app.trees import Nursery
model = naspix.load_model("efficientnet_lite0")
cutters = [Cutter(model, torch.rand(1, 3, 96, 96)) for _ in range(20)]
nursery, growing = Nursery(lambda: 9.0), threading.Event()
Cutter.grow = (lambda grow: lambda *given: (growing.set(), grow(*given)))(Cutter.grow)
def visit():
    for cutter in cutters:
        cutter.prepare((3, 4))
        nursery.plan(cutter, (3, 4))
threading.Thread(target=visit, daemon=True).start()  # as the web server's threads are
growing.wait()
"""


def test_a_program_ends_while_a_tree_grows():
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stderr) == (0, "")


def test_others_are_served_while_somebody_waits_for_a_tree(model, monkeypatch):
    started.clear()
    may_grow.clear()
    monkeypatch.setattr("naspix.app.study.Cutter", Slow)
    desk = Desk(Shelf({"net": lambda: model}))
    key, other = "a" * 16, visitor_of(desk)
    visitor_of(desk, key)("sample", name="chelsea")
    other("sample", name="coffee")
    job = desk.ask({"key": key, "action": "segment", "algorithm": "ward", "n_clusters": 7})
    assert isinstance(job, Job)
    _until(lambda: started)
    assert "tree" in desk.wait(job, timeout=0.2)["note"]
    assert other("toggle", number=1)["ok"]
    assert not job.result.done()
    assert visitor_of(desk, key)("cancel")["ok"]  # and who does not want it any more is let go
    assert desk.wait(job, timeout=10)["cancelled"]
    job = desk.ask({"key": key, "action": "segment", "algorithm": "ward", "n_clusters": 7})
    may_grow.set()
    assert desk.wait(job, timeout=60)["regions"]["n_clusters"] == 7
    desk.close()


def test_the_photo_that_a_visitor_left_is_not_cut(model, monkeypatch):
    started.clear()
    may_grow.clear()
    monkeypatch.setattr("naspix.app.study.Cutter", Slow)
    desk = Desk(Shelf({"net": lambda: model}))
    key, ask = "b" * 16, visitor_of(desk, "b" * 16)
    token = ask("sample", name="chelsea")["photo"]["token"]
    asked = {"key": key, "action": "segment", "algorithm": "ward", "token": token}
    job = desk.ask(asked)
    _until(lambda: started)
    ask("sample", name="coffee")
    may_grow.set()
    assert "another photo" in desk.wait(job, timeout=60)["sentence"]
    desk.close()

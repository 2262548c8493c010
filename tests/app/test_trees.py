"""Trees built ahead: one at a time, in quiet moments, wanted ones first, abandoned ones never."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from visitors import lined_up, outcome, visitor_of

from naspix.app import Backend, Networks
from naspix.app.regions import Cutter
from naspix.app.trees import TreeBuilder
from naspix.segmentation import NAS

LEVELS = (3, 4)


class Slow(Cutter):
    """Builds when it is told to."""

    def build_tree(self, levels):
        started.append(self)
        assert may_build.wait(20)
        super().build_tree(levels)


started: list[Cutter] = []
may_build = threading.Event()


@pytest.fixture
def builder() -> Iterator[TreeBuilder]:
    started.clear()
    may_build.clear()
    builder = TreeBuilder(lambda: 9.0)
    yield builder
    may_build.set()
    builder.close()


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
    return cutter.has_tree(LEVELS)


def test_a_planned_tree_is_there_before_it_is_asked_for(model, builder):
    cutter = _cutter(model)
    builder.plan(cutter, LEVELS)
    _until(lambda: _has_tree(cutter))
    _until(lambda: builder.n_planned == 0)


def test_nothing_is_built_unasked_while_the_device_is_used(model):
    idle_for = [0.1]  # between two clicks
    builder = TreeBuilder(lambda: idle_for[0])
    planned, wanted = _cutter(model), _cutter(model)
    builder.plan(planned, LEVELS)
    assert builder.plan(wanted, LEVELS, wanted=True).wait(20)  # but what somebody waits for
    assert _has_tree(wanted)
    time.sleep(0.5)
    assert not _has_tree(planned)
    idle_for[0] = 3.0
    _until(lambda: _has_tree(planned))
    builder.close()


def test_wanted_trees_come_first_and_only_one_is_built_at_a_time(model, builder):
    first, planned, wanted = (_cutter(model, Slow) for _ in range(3))
    builder.plan(first, LEVELS, wanted=True)
    _until(lambda: started)
    builder.plan(planned, LEVELS)
    done = builder.plan(wanted, LEVELS, wanted=True)
    time.sleep(0.4)
    assert started == [first]
    may_build.set()
    assert done.wait(20)
    assert started[:2] == [first, wanted]


def test_a_tree_under_way_is_waited_for_not_built_again(model, builder):
    cutter = _cutter(model, Slow)
    builder.plan(cutter, LEVELS)
    _until(lambda: started)
    done = builder.plan(cutter, LEVELS, wanted=True)
    assert not done.is_set()
    may_build.set()
    assert done.wait(20)
    assert _has_tree(cutter)
    assert len(started) == 1


def test_a_photo_that_is_not_looked_at_any_more_has_no_tree(model, builder):
    busy, left = _cutter(model, Slow), _cutter(model, Slow)
    builder.plan(busy, LEVELS, wanted=True)
    _until(lambda: started)
    builder.plan(left, LEVELS)
    assert builder.n_planned == 2
    del left
    gc.collect()
    assert builder.n_planned == 1
    may_build.set()
    _until(lambda: builder.n_planned == 0)
    assert len(started) == 1


def test_only_the_last_choice_of_levels_is_built(model, builder):
    busy, cutter = _cutter(model, Slow), _cutter(model, Slow)
    builder.plan(busy, LEVELS, wanted=True)
    _until(lambda: started)
    for level in (2, 3, 4):
        cutter.prepare((level,))
        builder.plan(cutter, (level,))
    assert builder.n_planned == 2
    may_build.set()
    _until(lambda: cutter.has_tree((4,)))


def test_a_closed_builder_lets_everybody_go(model, builder):
    builder.plan(_cutter(model, Slow), LEVELS, wanted=True)
    other = _cutter(model)
    done = builder.plan(other, LEVELS, wanted=True)
    builder.close()
    assert done.wait(5)
    assert builder.plan(other, LEVELS, wanted=True).is_set()
    assert not _has_tree(other)


def test_the_tree_is_there_when_the_slider_is_moved(model, monkeypatch):
    backend = Backend(Networks({"net": lambda: model}))
    ask = visitor_of(backend)
    ask("sample", name="chelsea")
    assert backend.trees.n_planned == 1
    _until(lambda: backend.trees.n_planned == 0)
    monkeypatch.setattr(NAS, "segment", None)  # nothing is clustered any more
    for k in (2, 7, 40):
        regions = ask("segment", algorithm="ward", n_clusters=k)["regions"]
        assert regions["n_clusters"] == k
        assert regions["seconds"] < 0.5
    backend.close()


_SCRIPT = """
import threading
import torch
import naspix
from naspix.app.regions import Cutter
from naspix.app.trees import TreeBuilder
model = naspix.load_model("efficientnet_lite0")
cutters = [Cutter(model, torch.rand(1, 3, 96, 96)) for _ in range(20)]
builder, building = TreeBuilder(lambda: 9.0), threading.Event()
build = Cutter.build_tree
Cutter.build_tree = lambda *given: (building.set(), build(*given))
def visit():
    for cutter in cutters:
        cutter.prepare((3, 4))
        builder.plan(cutter, (3, 4))
threading.Thread(target=visit, daemon=True).start()  # as the web server's threads are
building.wait()
"""


def test_a_program_ends_while_a_tree_is_built():
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stderr) == (0, "")


def test_others_are_served_while_somebody_waits_for_a_tree(model, monkeypatch):
    started.clear()
    may_build.clear()
    monkeypatch.setattr("naspix.app.study.Cutter", Slow)
    backend = Backend(Networks({"net": lambda: model}))
    key, other = "a" * 16, visitor_of(backend)
    visitor_of(backend, key)("sample", name="chelsea")
    other("sample", name="coffee")
    job = lined_up(backend, key, "segment", algorithm="ward", n_clusters=7)
    _until(lambda: started)
    assert "tree" in outcome(backend, job, 0.2)["note"]
    assert other("toggle", number=1)["ok"]
    assert not job.result.done()
    backend.queue.cancel(job)  # and who does not want it any more is let go
    assert outcome(backend, job, 10)["cancelled"]
    job = lined_up(backend, key, "segment", algorithm="ward", n_clusters=7)
    may_build.set()
    assert outcome(backend, job, 60)["regions"]["n_clusters"] == 7
    backend.close()


def test_the_photo_that_a_visitor_left_is_not_cut(model, monkeypatch):
    started.clear()
    may_build.clear()
    monkeypatch.setattr("naspix.app.study.Cutter", Slow)
    backend = Backend(Networks({"net": lambda: model}))
    key, ask = "b" * 16, visitor_of(backend, "b" * 16)
    token = ask("sample", name="chelsea")["photo"]["token"]
    job = lined_up(backend, key, "segment", algorithm="ward", photo=token)
    _until(lambda: started)
    ask("sample", name="coffee")
    may_build.set()
    assert "another photo" in outcome(backend, job, 60)["sentence"]
    backend.close()

"""The benchmark: its arithmetic on a clock of our own, and every section on tiny pictures."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from naspix.errors import InputError, NaspixError
from naspix.machine import describe_machine
from naspix.paper import bench, processes
from naspix.paper.bench import SECTIONS, dense_kmeans, dense_points, inertia
from naspix.paper.timing import (
    RESNET18,
    Plan,
    Record,
    Timing,
    find_photos,
    interleaved,
    limited_threads,
    photos_at,
    usual_photos,
)

KEYS = {
    "section", "name", "network", "levels", "n_clusters", "size", "threads", "n_photos",
    "median_ms", "quartiles_ms", "n_calls", "against", "against_median_ms",
    "against_quartiles_ms", "ratio", "figure", "unit", "goal", "goal_is_at_least", "met", "note",
}  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Plan:
    few = usual_photos()[:2]
    return replace(Plan(few, threads=1, sizes=(32, 64)).quick(), n_processes=1)


def test_medians_and_ratios_on_a_clock_of_our_own():
    ticks = itertools.count()  # each call takes one tick, but "slow" looks at the clock as well
    seconds = lambda: float(next(ticks))  # noqa: E731  (a clock is a callable)
    times = interleaved(
        {"fast": lambda _: None, "slow": lambda _: [seconds() for _ in range(3)]},
        ["a", "b"],
        rounds=2,
        clock=seconds,
    )
    assert times["fast"] == Timing(1000.0, (1000.0, 1000.0), 4)
    assert times["slow"].median_ms == 4000.0
    record = Record(section="nas", name="it", goal=3.9, note="so").of(times, "slow", "fast")
    assert record.figure == record.ratio == 4.0
    assert record.met is False
    assert replace(record, at_least=True).met is True
    assert replace(record, goal=None).met is None
    assert times["slow"].scaled(2).median_ms == 8000.0


def test_threads_are_set_back():
    before = torch.get_num_threads()
    with limited_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_usual_photos_are_real_and_enough():
    photos = usual_photos()
    assert len(photos) >= 24
    assert len({photo.tobytes() for photo in photos}) == len(photos)
    assert all(photo.std() > 10 for photo in photos)
    assert len(find_photos(None)) >= 24


def test_the_rivals_features_are_the_segmenters():
    photo = photos_at(usual_photos()[:1], 32)[0]
    nas = RESNET18.segmenter()
    points = dense_points(nas.model.activations(photo.batch, nas.levels), 32)
    assert points.shape == (32 * 32, 128 + 256 + 512)
    norms = points.square().sum(1)
    expected = sum(1 / (1 + channels) ** 2 for channels in (128, 256, 512))
    torch.testing.assert_close(norms, torch.full_like(norms, expected))
    labels = torch.from_numpy(dense_kmeans(points, 5))
    assert 0 < inertia(points, labels) < inertia(points, torch.zeros_like(labels))


@pytest.mark.parametrize("section", ["nas", "inertia", "variants", "film", "whole", "ward", "cuda"])
def test_every_section_gives_records(plan, section, monkeypatch):
    if section in ("variants", "whole"):  # large networks and frames: one small photo will do
        plan = replace(plan, sources=plan.sources[:1], sizes=(32,))
        small = {name: (network, {32: 1.0}) for name, (network, _) in bench._VARIANTS.items()}
        monkeypatch.setattr(bench, "_VARIANTS", {**small, "DINOv2": small["ten clusters"]})
        monkeypatch.setattr(bench, "_DINOV2", bench.RESNET18)
        monkeypatch.setattr(bench, "_DINOV2_SIZE", 32)
    records = SECTIONS[section](plan)
    assert records
    for record in records:
        values = record.to_dict()
        assert set(values) == KEYS
        assert record.section == section
        json.dumps(values)
        left_out = "left out" in record.note
        assert (record.figure is None) == left_out
        assert left_out or record.figure > 0


def test_memory_is_measured_in_a_process_of_its_own(plan):
    (record,) = processes.memory(plan)
    assert 0 < record.figure < 500
    assert record.unit == "MB"
    with pytest.raises(NaspixError, match=r"has failed: .*ZeroDivisionError"):
        processes.output_of((*processes.PYTHON, "1 / 0"), plan)


def test_what_cannot_be_measured_is_refused():
    photos = [np.zeros((40, 40, 3), np.uint8)]
    with pytest.raises(InputError, match="at least one photo"):
        Plan([])
    with pytest.raises(InputError, match="size 8 is too small"):
        Plan(photos, sizes=(8,))
    with pytest.raises(InputError, match="threads is 0"):
        Plan(photos, threads=0)


def test_the_machine_is_described():
    machine = describe_machine(2)
    assert machine["threads"] == 2
    assert machine["torch"] == torch.__version__.split("+")[0] or machine["torch"]
    assert machine["processor"]

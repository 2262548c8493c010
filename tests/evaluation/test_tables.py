"""The script that writes figures into the documentation: what from, and where to."""

import importlib.util
from pathlib import Path

import pytest

from naspix.paper.timing import Case, Record, Timing

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tables.py"
MACHINE = {
    "date": "2026-01-02", "system": "Linux", "processor": "Some CPU", "cores": 2, "threads": 2,
    "clustering": "compiled", "cuda_device": None,
    "python": "3.11", "torch": "2", "scikit-image": "0", "scikit-learn": "1",
    "scipy": "1", "numpy": "2", "naspix": "0",
}  # fmt: skip


@pytest.fixture
def tables():
    spec = importlib.util.spec_from_file_location("tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def records():
    case = Case("resnet18", (2, 3, 4), 5, 96, 2, 24)
    fast, slow = Timing(2.0, (1.9, 2.1), 72), Timing(5.0, (4.9, 5.1), 72)
    times = {"NAS": fast, "NAS, tol=0": slow, "SLIC": slow}
    of = Record(section="nas", name="NAS", case=case, goal=0.5).of(times, "NAS", "SLIC")
    missed = Record(section="nas", name="NAS, tol=0", case=case, goal=0.8)
    missed = missed.of(times, "NAS, tol=0", "SLIC")
    absent = Record(section="nas", name="NAS", case=case, against="OpenCV SLIC", note="left out")
    return [record.to_dict() for record in (of, missed, absent)]


def test_every_record_is_a_row_with_its_goal_and_whether_it_is_met(tables, records):
    text = tables.figures(MACHINE, records)
    start = "| NAS | resnet18 2-4 K=5 | 96 | 2 | 2.00 | SLIC | 5.00 | 0.40 x | at most 0.5 | met |"
    assert start in text
    assert "1.00 x | at most 0.8 | **not met** |" in text
    assert "| OpenCV SLIC |  | not measured |" in text
    assert "NAS: left out." in text


def test_the_short_table_has_what_was_measured_and_on_what(tables, records):
    text = tables.speed_table(MACHINE, records)
    assert "| NAS, given the activations | 2.00 ms against 5.00 ms: **0.40 x** |" in text
    assert "OpenCV" not in text
    assert "Some CPU, 2 cores, no GPU, 2 threads" in text
    assert "24 photos" in text


def test_only_what_lies_between_the_marks_is_replaced(tables, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures -->\nold\n<!-- end figures -->\nb\n")
    for text in ("one", "two"):
        tables._between(page, "figures", text)
    assert page.read_text() == "a\n<!-- figures -->\n\ntwo\n\n<!-- end figures -->\nb\n"
    with pytest.raises(SystemExit, match="needs one"):
        tables._between(page, "speed table", "x")

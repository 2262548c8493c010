import multiprocessing
import time
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal
from squares import Squares, compute, n_done

from naspix.errors import DeviceError, InputError
from naspix.runs import Processes, read_run, share_of_cores


def test_two_processes_give_the_same_as_one(tmp_path: Path) -> None:
    compute(tmp_path / "one")
    compute(tmp_path / "two", engine=Processes(workers=2))
    one, two = read_run(tmp_path / "one"), read_run(tmp_path / "two")
    assert_frame_equal(two.records(), one.records(), check_exact=True)
    assert two.failures == one.failures
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    compute(tmp_path / "one")
    dying = Squares(dies_at=7, died=tmp_path / "died")
    compute(tmp_path / "two", engine=Processes(workers=2), worker=dying)
    assert (tmp_path / "died").exists()
    two, one = read_run(tmp_path / "two"), read_run(tmp_path / "one")
    assert_frame_equal(two.records(), one.records(), check_exact=True)


def test_a_worker_that_dies_always_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="died 3 times in a row"):
        compute(tmp_path / "run", engine=Processes(workers=1), worker=Squares(dies_at=7))
    assert read_run(tmp_path / "run").n_items == 6, "what was finished is kept"


def test_an_error_in_a_worker_is_raised_here_and_keeps_what_is_done(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="the device is on fire"):
        compute(tmp_path, engine=Processes(workers=1), worker=Squares(fails_at=10))
    assert read_run(tmp_path).n_items >= 6
    assert not multiprocessing.active_children()


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    parent = context.Process(
        target=compute,
        args=(tmp_path, 400, 1),
        kwargs={"engine": Processes(workers=2), "worker": Squares(seconds=0.05)},
    )
    parent.start()
    deadline = time.monotonic() + 60
    while not n_done(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = _children(parent.pid)
    assert children
    parent.kill()
    parent.join()
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_alive, children))


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="--workers is at least 1, not 0"):
        Processes(workers=0)
    with pytest.raises(InputError, match="--threads is 0 or more, not -1"):
        Processes(threads=-1)
    assert share_of_cores(1000) == 1


def _children(pid: int | None) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        pytest.skip("no /proc to look for processes")
    return [int(c) for t in tasks.iterdir() for c in (t / "children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"

"""Ray for real: a cluster of two workers on this machine."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from squares import Squares, compute

from naspix.errors import DeviceError, InputError, MissingExtraError
from naspix.experiments.ray_engine import Ray
from naspix.experiments.store import read_run

TWO = Ray(workers=2, threads=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'naspix[ray]'")
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}  # where workers find `squares`
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": paths},
    )
    yield
    ray.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.usefixtures("cluster")
class TestOnACluster:
    def test_two_actors_give_the_same_as_one_process(self, tmp_path: Path) -> None:
        compute(tmp_path / "one")
        compute(tmp_path / "ray", engine=TWO)
        one, ray = read_run(tmp_path / "one"), read_run(tmp_path / "ray")
        assert ray.records() == one.records()
        assert ray.failures == one.failures

    def test_a_worker_that_dies_loses_nothing(self, tmp_path: Path) -> None:
        compute(tmp_path / "one")
        dying = Squares(dies_at=7, died=tmp_path / "died")
        compute(tmp_path / "ray", engine=TWO, worker=dying)
        assert (tmp_path / "died").exists()
        assert read_run(tmp_path / "ray").records() == read_run(tmp_path / "one").records()

    def test_an_error_is_raised_here_and_the_run_continued(self, tmp_path: Path) -> None:
        compute(tmp_path / "one")
        with pytest.raises(DeviceError, match="the device is on fire"):
            compute(tmp_path / "ray", engine=TWO, worker=Squares(fails_at=19, seconds=0.05))
        done = read_run(tmp_path / "ray").n_items
        assert 0 < done < 20
        compute(tmp_path / "ray", engine=TWO)
        assert read_run(tmp_path / "ray").records() == read_run(tmp_path / "one").records()


def test_without_ray_it_is_said_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'naspix\[ray\]'"):
        compute(tmp_path, engine=TWO)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_cluster_that_cannot_be_reached_is_said(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.shutdown()
    with pytest.raises(DeviceError, match="the Ray cluster auto cannot be reached"):
        compute(tmp_path, engine=Ray(workers=1, address="auto"))


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="--workers is at least 1, not 0"):
        Ray(workers=0)
    with pytest.raises(InputError, match="--threads is 0 or more, not -1"):
        Ray(threads=-1)

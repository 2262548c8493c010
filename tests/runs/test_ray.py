"""Ray for real: a cluster of two workers on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal
from small_data import voc
from squares import Squares, compute, n_done
from tiny_evaluation import run

from naspix.cli import main
from naspix.errors import DeviceError, InputError, MissingExtraError
from naspix.evaluation.tables import text_table
from naspix.paper.experiment import subruns
from naspix.paper.localisation import LocalisationTable
from naspix.runs import Ray, Run, read_run

TWO = Ray(workers=2, threads=1)
PATHS = {"PYTHONPATH": os.pathsep.join(sys.path)}  # where workers find `squares`
N_PICTURES = 40
DRIVER = """
import sys
from pathlib import Path
from naspix.runs import Ray
from tiny_evaluation import run
engine = Ray(workers=2, threads=1, gpus=0.5, address=sys.argv[2])
run(Path(sys.argv[1]), int(sys.argv[3]), engine)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two workers, and of a GPU that it only believes to have."""
    ray = pytest.importorskip(
        "ray", reason="Ray is not installed: pip install '.[ray]' in the folder of naspix"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATHS["PYTHONPATH"])
        context = ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.usefixtures("cluster")
class TestOnACluster:
    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
    def test_a_driver_killed_twice_gives_the_same_table(self, tmp_path: Path, cluster: str) -> None:
        """By an evaluation of a network, whose actors share a GPU."""
        killed = tmp_path / "killed"
        done = [_drive(killed, cluster, kill_after=1), _drive(killed, cluster, kill_after=2)]
        done.append(_drive(killed, cluster, kill_after=None))
        run(tmp_path / "at once", N_PICTURES)
        whole, pieces = read_run(tmp_path / "at once"), read_run(killed)
        assert_frame_equal(pieces.records(), whole.records(), check_exact=True)
        assert pieces.failures == whole.failures
        assert text_table({"": pieces}) == text_table({"": whole})
        assert 1 <= done[0] < done[1] <= done[2] == N_PICTURES // 2

    def test_a_worker_that_dies_loses_nothing(self, tmp_path: Path) -> None:
        compute(tmp_path / "one")
        dying = Squares(dies_at=7, died=tmp_path / "died")
        compute(tmp_path / "ray", engine=TWO, worker=dying)
        assert (tmp_path / "died").exists()
        ray, one = read_run(tmp_path / "ray"), read_run(tmp_path / "one")
        assert_frame_equal(ray.records(), one.records(), check_exact=True)

    def test_an_error_is_raised_here_and_the_run_continued(self, tmp_path: Path) -> None:
        compute(tmp_path / "one")
        with pytest.raises(DeviceError, match="the device is on fire"):
            compute(tmp_path / "ray", engine=TWO, worker=Squares(fails_at=19, seconds=0.05))
        done = read_run(tmp_path / "ray").n_items
        assert 0 < done < 20
        compute(tmp_path / "ray", engine=TWO)
        ray, one = read_run(tmp_path / "ray"), read_run(tmp_path / "one")
        assert_frame_equal(ray.records(), one.records(), check_exact=True)

    def test_a_table_and_a_figure_of_the_paper_are_those_of_one_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the command; five photos are two batches, and the figure's are one each."""
        one_method = replace(LocalisationTable.question, methods=("grad_cam_plus_plus",))
        monkeypatch.setattr(LocalisationTable, "question", one_method)
        voc(tmp_path / "photos", n=5)
        for name, n, given in (("table3", 5, "--boxes"), ("figure7", 2, "--images")):
            command = ["reproduce", name, given, str(tmp_path / "photos"), "--limit", str(n)]
            command += ["--quick", "--device", "cpu", "--threads", "1", "--output"]
            ray = ["--engine", "ray", "--workers", "2", "--gpus", "0.5"]
            assert main([*command, str(tmp_path / "one")]) == 0
            assert main([*command, str(tmp_path / "ray"), *ray]) == 0
            one, two = (read_run(tmp_path / engine / name) for engine in ("one", "ray"))
            for each, other in [(one, two), *zip(subs(one), subs(two), strict=True)]:
                assert each.n_items == other.n_items
                if each.n_items:
                    assert_frame_equal(each.records(), other.records(), check_exact=True)
            tables = [file.read_bytes() for file in sorted(one.folder.glob("*.csv"))]
            assert tables
            assert tables == [file.read_bytes() for file in sorted(two.folder.glob("*.csv"))]


def subs(run: Run) -> list[Run]:
    """The evaluations below an experiment."""
    return list(subruns(run).values())


def _drive(folder: Path, address: str, kill_after: int | None) -> int:
    """Evaluate in a process of its own on the cluster, ended once it has added so many parts."""
    command = [sys.executable, "-c", DRIVER, str(folder), address, str(N_PICTURES)]
    before, deadline = n_done(folder), time.monotonic() + 300
    process = subprocess.Popen(command, env={**os.environ, **PATHS}, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        added = n_done(folder) - before
        if time.monotonic() > deadline or (kill_after is not None and added >= kill_after):
            process.kill()
        time.sleep(0.002)
    assert process.wait() == (0 if kill_after is None else -signal.SIGKILL)
    return n_done(folder)


def test_without_ray_it_is_said_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install '.\[ray\]'"):
        compute(tmp_path, engine=TWO)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("address", ["auto", "127.0.0.1:{}", "ray://127.0.0.1:{}", "127.0.0.1:x"])
def test_a_cluster_that_cannot_be_reached_is_said(tmp_path: Path, address: str) -> None:
    ray = pytest.importorskip("ray")
    ray.shutdown()
    with socket.socket() as nobody:  # has the port, and does not listen
        nobody.bind(("127.0.0.1", 0))
        address = address.format(nobody.getsockname()[1])
        with pytest.raises(DeviceError, match=f"the Ray cluster {address} cannot be reached: ."):
            compute(tmp_path, engine=Ray(workers=1, address=address))
    compute(tmp_path)
    assert read_run(tmp_path).n_items == 20, "the same folder serves another engine"


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="--workers is at least 1, not 0"):
        Ray(workers=0)
    with pytest.raises(InputError, match="--threads is 0 or more, not -1"):
        Ray(threads=-1)
    with pytest.raises(InputError, match=r"--gpus is 0 or more, not -0.5"):
        Ray(gpus=-0.5)

"""A running evaluation is killed at random moments, and nothing is lost."""

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal
from squares import n_done
from tiny_evaluation import run

from naspix.evaluation.scores import scores_of
from naspix.evaluation.tables import text_table
from naspix.runs import Processes, read_run

N_PICTURES, N_KILLS = 40, 20

# processes that need not import torch again
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["naspix.evaluation", "naspix.saliency", "pandas"])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_twenty_kills_give_the_same_table(tmp_path: Path) -> None:
    run(tmp_path / "at once", N_PICTURES)
    killed = tmp_path / "killed"
    progress = []
    for seed in range(N_KILLS):
        _kill_at_random(killed, seed)
        progress.append(n_done(killed))
    run(killed, N_PICTURES)
    whole, pieces = read_run(tmp_path / "at once"), read_run(killed)
    assert_frame_equal(pieces.records(), whole.records(), check_exact=True)
    assert pieces.failures == whole.failures
    assert [failure.item for failure in whole.failures] == ["blob-5"]
    assert scores_of(pieces) == scores_of(whole)
    assert text_table({"": pieces}) == text_table({"": whole})
    assert not [file for file in killed.iterdir() if "journal" in file.name]
    assert progress == sorted(progress), "what was finished is kept"
    assert len(set(progress)) > 3, "the kills came at different moments"


def _kill_at_random(folder: Path, seed: int) -> None:
    """Continue a run in a process of its own, which a signal ends at a random moment."""
    draw = random.Random(seed)
    wanted = n_done(folder) + draw.randrange(3)
    process = FORKS.Process(target=run, args=(folder, N_PICTURES))
    process.start()
    while process.is_alive() and n_done(folder) < wanted:
        time.sleep(0.001)
    time.sleep(draw.uniform(0, 0.05))  # into the next one, or before the first
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)


def test_two_processes_give_the_same_table_as_one(tmp_path: Path) -> None:
    run(tmp_path / "one", 12)
    run(tmp_path / "two", 12, Processes(workers=2, threads=1))
    one, two = read_run(tmp_path / "one"), read_run(tmp_path / "two")
    assert_frame_equal(two.records(), one.records(), check_exact=True)
    assert text_table({"": two}) == text_table({"": one})

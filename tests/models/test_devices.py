"""Freed memory stays with a process that wants it."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from naspix.models import keep_freed_memory
kept = {call}
def n_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
before = n_faults()
for _ in range(20):
    torch.ones(2**24)  # 64 MB, freed at once
print(int(kept), n_faults() - before)
"""


def test_pages_are_not_fetched_anew_for_each_tensor() -> None:
    """Twenty tensors touch twenty times their pages, or mostly those of the one before."""
    handed_back, kept = (
        subprocess.run(
            [sys.executable, "-c", PROGRAM.format(call=call)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for call in ("False", "keep_freed_memory()")
    )
    if kept[0] == "0":
        pytest.skip("this C library has no such switch")
    # the heap takes a few fresh pages until a block has its place
    assert int(kept[1]) < int(handed_back[1]) / 2

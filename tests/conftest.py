"""What every test stands on: checked shapes, fixed randomness, one thread, and the optional data.

naspix's annotations name shapes (``Float[Tensor, "B C H W"]``). The import hook below makes
beartype check every one of them while tests run, so it has to come before naspix is imported.
"""
# ruff: noqa: E402  (the variables below are read when numpy and torch are imported)

import os

# One thread a process: the suite may run in several processes, and small tensors gain nothing.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import contextlib
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import torch

assert "naspix" not in sys.modules, "the import hook has to come before naspix"
# An int will do for a float (PEP 484's tower). ``Self`` is left unchecked: beartype knows it
# only where it decorates a class, and the hook decorates methods. The checker is given as source
# code, in which ``beartype`` is imported.
jaxtyping.install_import_hook(
    "naspix",
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True, "
    "hint_overrides=beartype.FrozenDict({__import__('typing').Self: object})))",
)

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)
# The same examples in every clone: a user's test run is never red by chance. The random search is
# for those who look for faults: ``NASPIX_HYPOTHESIS=search pytest``.
hypothesis.settings.register_profile(
    "naspix",
    deadline=None,  # the first call of a function may load a library
    max_examples=15,
    derandomize=True,
)
hypothesis.settings.register_profile("search", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("NASPIX_HYPOTHESIS", "naspix"))


def pytest_configure(config: pytest.Config) -> None:
    """Let the doctests collected from ``src`` run in the naspix that is installed.

    pytest takes a module that is already imported instead of importing its file again. Where
    naspix is installed as a copy, not as a link to ``src``, there would be two of every module
    otherwise: two error classes of one name, and half of the coverage lost.
    """
    asked_for = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    if not any(path == ROOT or path.is_relative_to(ROOT / "src") for path in asked_for):
        return
    naspix = import_module("naspix")
    for module in pkgutil.walk_packages(naspix.__path__, "naspix."):
        with contextlib.suppress(ImportError, SyntaxError):  # pytest reports it when collecting
            import_module(module.name)


@pytest.fixture(autouse=True)
def _fixed_randomness() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos beside the project; where it is absent, the test is skipped."""
    folder = Path(os.environ.get("NASPIX_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the photos in {folder} (or in the folder NASPIX_SHARED_DATA names)")
    return folder

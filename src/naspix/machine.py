"""What figures and records depend on besides their settings: processor, versions, threads."""

import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from naspix.native import describe_route

_LIBRARIES = ("naspix", "torch", "torchvision", "timm", "numpy", "scikit-image", "pillow")
_FOR_SPEED = ("torch", "scikit-image", "scikit-learn", "scipy", "numpy", "naspix")
_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")  # they change how threads wait


def versions() -> dict[str, str]:
    """Python's and the libraries' versions, those that are installed.

    Example:
        >>> "torch" in versions()
        True
    """
    known = {library: _version(library) for library in _LIBRARIES}
    found = {library: number for library, number in known.items() if number is not None}
    return {"python": platform.python_version(), **found}


def describe_machine(threads: int) -> dict[str, object]:
    """What figures depend on: processor, libraries, threads, and the date.

    Args:
        threads: Threads the benchmark allows each library.
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "variables": {k: v for k, v in os.environ.items() if k.startswith(_VARIABLES)},
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{library: _version(library) for library in _FOR_SPEED},
        "clustering": describe_route(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def this_machine(threads: int) -> Mapping[str, object]:
    """Processor, system and versions: what results depend on besides their settings."""
    described = describe_machine(threads)
    return {name: described[name] for name in described if name not in ("load", "date")}


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and cpu_info.is_file():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None

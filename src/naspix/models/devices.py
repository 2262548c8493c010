"""Where networks run: which device is meant, whether it is there, and memory freed on a CPU."""

import ctypes
import sys

import torch
from torch import Tensor

from naspix.errors import DeviceError

# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30  # blocks and free ends of the heap, in bytes, up to which memory is kept


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device meant; ``"auto"`` is a GPU where there is one, None is the CPU.

    Raises:
        DeviceError: If the device is absent, or no device at all.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if device is None:
        return torch.device("cpu")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise DeviceError(
            f"there is no device {str(device)!r}; give 'cpu', 'cuda', 'cuda:1' or 'auto'"
        ) from None
    if place.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (place.index or 0) >= count:
            there = (
                f"PyTorch finds {count} here, from cuda:0" if count else "PyTorch finds none here"
            )
            raise DeviceError(f"there is no CUDA device {str(device)!r}: {there}; use 'cpu'")
    elif place.type != "cpu":
        try:
            torch.empty(1, device=place)
        except (RuntimeError, NotImplementedError, AssertionError):
            raise DeviceError(
                f"there is no device {str(device)!r}: PyTorch finds none here; use 'cpu'"
            ) from None
    return place


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next tensors: networks run faster on a CPU.

    A network's activations are large and live for a moment. By default glibc asks the system for
    each of them and gives it back, and the system fills every page with zeros anew: up to half of a
    network's time on a CPU.

    Measured with the default network on two cores: 1.5 times as fast forwards of 32 photos, 1.7
    times as fast with the backward. The process stays as large as it ever was until it ends, so
    this is for programs of their own, such as the ``naspix`` command, which calls it; a library
    does not decide this for the program it is part of.

    Returns:
        Whether it has an effect: with glibc, so on most Linux systems, and not elsewhere.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # another C library
        return False
    return bool(set_option(_MMAP_THRESHOLD, _KEPT)) and bool(set_option(_TRIM_THRESHOLD, _KEPT))


def in_float64(values: Tensor) -> Tensor:
    """The values in float64: where they are, or on the CPU where their device has none (MPS).

    Example:
        >>> in_float64(torch.ones(1)).dtype
        torch.float64
    """
    return values.cpu().double() if values.device.type == "mps" else values.double()

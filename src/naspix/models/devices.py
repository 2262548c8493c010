"""Which device is meant, and whether it is there."""

import torch

from naspix.errors import DeviceError


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

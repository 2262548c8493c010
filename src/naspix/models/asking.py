"""Asking a network without changing it: unwrapped, in eval mode, its logits picked out.

`ask` runs the network and turns its failures into one sentence; `pick_logits` finds the logits
`(B, n_classes)` in whatever it returned. Standardising and names are `classifier.py`'s business,
hooks are `activations.py`'s.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from naspix.errors import DeviceError, ModelError, NaspixError
from naspix.models.activations import first_tensor

Logits = str | int | Callable[[object], Tensor]


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `DataParallel`, `DistributedDataParallel` and compiled wrappers."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


_modes: dict[int, tuple[int, list[nn.Module]]] = {}
_modes_lock = threading.Lock()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; after it, every submodule has its own training flag again.

    Blocks may overlap, in one thread or several: the last to end restores what the first found.
    """
    key = id(network)
    with _modes_lock:
        depth, training = _modes.get(key, (0, []))
        if depth == 0:
            training = [module for module in network.modules() if module.training]
            for module in training:
                module.training = False
        _modes[key] = depth + 1, training
    try:
        yield
    finally:
        with _modes_lock:
            depth, training = _modes.pop(key)
            if depth > 1:
                _modes[key] = depth - 1, training
            else:
                for module in training:
                    module.training = True


def ask(network: nn.Module, standardized: Tensor, name: str) -> object:
    """The network's own answer in eval mode, its failures as one sentence.

    Raises:
        ModelError: If the network fails on these images.
        DeviceError: If memory runs out.
    """
    with evaluating(network):
        try:
            return network(standardized)
        except NaspixError:
            raise
        except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
            size = " x ".join(map(str, standardized.shape))
            if _is_out_of_memory(error):
                raise DeviceError(
                    f"memory of {standardized.device} ran out on a batch of {size}; "
                    "use a smaller batch size"
                ) from None
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"{name} fails on images of {size}, which may not be the size or the number of "
                f"channels that it was made for: {reason}"
            ) from error


def pick_logits(
    output: object, logits: Logits | None, *, batch: int, name: str
) -> Float[Tensor, "B n_classes"]:
    """The logits in what a network returned, float32 unless they are float64.

    Args:
        output: A tensor, or what holds one first, or under ``logits``.
        logits: Key, position or function that picks them; None looks in the usual places.
        batch: How many images went in.
        name: The network's name in an error.

    Raises:
        ModelError: If there are none.

    Example:
        >>> pick_logits({"logits": torch.zeros(2, 5)}, None, batch=2, name="net").shape
        torch.Size([2, 5])
    """
    picked = _pick(output, logits)
    if picked is None or picked.ndim == 0 or picked.shape[0] != batch:
        what = type(output).__name__ if picked is None else f"shape {tuple(picked.shape)}"
        raise ModelError(
            f"no logits (B, n_classes) are found in what {name} returns ({what}); "
            "tell wrap_model which by logits="
        )
    rows = picked.flatten(1) if picked.ndim > 1 else picked[:, None]
    if picked.ndim > 2 and rows.shape[1] != picked.shape[1]:
        raise ModelError(
            f"{name} returns {tuple(picked.shape)}, not logits (B, n_classes); "
            "pick or make them by wrap_model's logits="
        )
    return rows if rows.dtype == torch.float64 else rows.float()


def _pick(output: object, logits: Logits | None) -> Tensor | None:
    if callable(logits):
        picked: object = logits(output)
    elif logits is not None:
        try:
            picked = output[logits]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            picked = getattr(output, logits, None) if isinstance(logits, str) else None
    elif isinstance(output, Tensor):
        picked = output
    elif isinstance(getattr(output, "logits", None), Tensor):
        picked = output.logits  # type: ignore[attr-defined]
    elif isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        picked = output["logits"]
    else:
        picked = first_tensor(output)
    return picked if isinstance(picked, Tensor) else None


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

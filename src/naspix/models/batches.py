"""Much to ask a network: a batch at a time, and in smaller batches where memory ends.

In: a function of a slice. Out: what it returned for each, in order. No tensor is looked at.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from naspix.errors import DeviceError

_Result = TypeVar("_Result")


# enough for a CPU, which more do not make faster while they take memory and the time to fetch it
_ON_A_CPU, _ON_A_CPU_WITH_GRADIENTS = 8, 4
_ON_A_GPU = 32


def batch_size_on(device: torch.device, batch_size: int | None, *, backwards: bool = False) -> int:
    """How many images are to pass a network at once.

    Args:
        device: Where the network is.
        batch_size: As many as the caller wants; None for what suits the device.
        backwards: Whether activations are kept for a backward pass.

    Example:
        >>> batch_size_on(torch.device("cpu"), None), batch_size_on(torch.device("cpu"), 64)
        (8, 64)
    """
    if batch_size is not None:
        return batch_size
    if device.type != "cpu":
        return _ON_A_GPU
    return _ON_A_CPU_WITH_GRADIENTS if backwards else _ON_A_CPU


def in_batches(
    compute: Callable[[slice], _Result], total: int, batch_size: int
) -> Iterator[_Result]:
    """Compute ``total`` things a batch at a time, in order; where memory ends, in smaller batches.

    Args:
        compute: What to do with the things of one slice of ``range(total)``; done again with half
            of the slice where memory ran out.
        total: How many there are.
        batch_size: How many at once to begin with.

    Raises:
        DeviceError: memory is too small even for one.

    Example:
        >>> list(in_batches(lambda part: part.stop - part.start, 5, 2))
        [2, 2, 1]
    """
    start = 0
    while start < total:

        def attempt(size: int, start: int = start) -> tuple[int, _Result]:
            return size, compute(slice(start, start + size))

        batch_size, result = halving(attempt, min(batch_size, total - start))
        start += batch_size
        yield result


def halving(compute: Callable[[int], _Result], batch_size: int) -> _Result:
    """``compute(batch_size)``, begun again with half of the batch each time that memory ran out.

    Raises:
        DeviceError: memory is too small even for a batch of one.
    """
    while True:
        try:
            return compute(batch_size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if batch_size <= 1:
                raise DeviceError(
                    "memory ran out on a single image; use smaller images or a smaller network"
                ) from None
        # outside the handler, whose traceback holds the batch that did not fit
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        batch_size //= 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: in torch, or in a forward, where ``Classifier`` says so."""
    words = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in words
        or (isinstance(error, DeviceError) and "memory" in words)
    )

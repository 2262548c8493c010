"""Times of several contenders in one run, taken in turns, so that a slow minute slows them all.

In: callables and what they are called with. Out: seconds, and what sums them up: medians and
quartiles. Threads are set for every library that has threads of its own, and set back afterwards.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

Item = TypeVar("Item")
Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """What many calls of one contender took.

    Attributes:
        median_ms: In milliseconds.
        quartiles_ms: The lower and the upper quartile.
        n_calls: How many calls there were.
    """

    median_ms: float
    quartiles_ms: tuple[float, float]
    n_calls: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Sum up the seconds that calls took.

        Example:
            >>> Timing.of([0.001, 0.002, 0.006]).median_ms
            2.0
        """
        lower, median, upper = (1e3 * float(q) for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
        return cls(median, (lower, upper), len(seconds))

    def scaled(self, factor: float) -> "Timing":
        """What it would be if every call took so many times as long."""
        lower, upper = self.quartiles_ms
        return Timing(self.median_ms * factor, (lower * factor, upper * factor), self.n_calls)


def interleaved(
    contenders: Mapping[str, Callable[[Item], object]],
    items: Sequence[Item],
    *,
    rounds: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time contenders on the same items, one item after the other and all contenders on each.

    Each is called once before, untimed. Who begins changes from item to item, so that none always
    works in the caches that another has left.

    Args:
        contenders: What is timed, by name.
        items: What each is called with, such as photos.
        rounds: How often all of it is done.
        clock: Tells seconds.

    Example:
        >>> ticks = iter([0, 1, 1, 3])
        >>> once = interleaved({"a": id, "b": id}, ["item"], clock=lambda: next(ticks))
        >>> once["a"].median_ms, once["b"].median_ms
        (1000.0, 2000.0)
    """
    names = list(contenders)
    for name in names:
        contenders[name](items[0])
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn, item in enumerate(item for _ in range(rounds) for item in items):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = clock()
            contenders[name](item)
            seconds[name].append(clock() - start)
    return {name: Timing.of(of_one) for name, of_one in seconds.items()}


@contextmanager
def limited_threads(n_threads: int) -> Iterator[None]:
    """Let torch, OpenCV, BLAS and OpenMP use so many threads, and as many as before afterwards."""
    import cv2
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch_before, opencv_before = torch.get_num_threads(), cv2.getNumThreads()
    with threadpool_limits(n_threads):
        try:
            torch.set_num_threads(n_threads)
            cv2.setNumThreads(n_threads)
            yield
        finally:
            torch.set_num_threads(torch_before)
            cv2.setNumThreads(opencv_before)

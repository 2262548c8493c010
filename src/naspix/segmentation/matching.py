"""Choose a segmenter's parameter so that it returns about as many superpixels as wanted (figure 1).

In: a family of segmenters along one parameter, images, a number. Out: a ``Match``: the segmenter,
and the number it reached. Counts are only roughly monotone in the parameter, so the best one met is
taken.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from naspix.errors import InputError
from naspix.segmentation.segmentation import Segmentation

_TRIALS = 20
_CLOSE_ENOUGH = 0.01  # of the number wanted

Segmenter = Callable[[Tensor], Segmentation]


@dataclass(frozen=True)
class Match:
    """A segmenter whose parameter was chosen to give a number of superpixels; itself a segmenter.

    Attributes:
        segmenter: The chosen one.
        n_superpixels: How many it reached, mean over the images it was chosen on.
        wanted: How many were asked for.
    """

    segmenter: Segmenter
    n_superpixels: float
    wanted: float

    def __call__(self, images: Tensor) -> Segmentation:
        """Segment images with the chosen parameter.

        Args:
            images: ``(B, C, H, W)`` in [0, 1].
        """
        return self.segmenter(images)


def bisect(
    family: Callable[[float], Segmenter],
    images: Tensor,
    wanted: float | int,
    *,
    between: tuple[float | int, float | int],
    whole: bool = False,
) -> Match:
    """Search a parameter by bisection of its logarithm, for a mean number of superpixels.

    Args:
        family: The segmenter with a value of the parameter.
        images: ``(B, C, H, W)`` in [0, 1].
        wanted: Mean number of superpixels an image.
        between: The parameter's value with the fewest superpixels, and that with the most.
        whole: Whether the parameter is a whole number.

    Raises:
        InputError: If less than one superpixel is wanted.

    Example:
        >>> import torch
        >>> from naspix.segmentation import Grid
        >>> images = torch.rand(1, 3, 32, 32)
        >>> bisect(lambda n: Grid(n_segments=int(n)), images, 16, between=(1, 1024), whole=True)
        Match(segmenter=Grid(n_segments=14), n_superpixels=16.0, wanted=16.0)
    """
    wanted = float(wanted)
    if not wanted >= 1:
        raise InputError(f"n_superpixels is {wanted:g}; at least one is needed")
    few, many = (math.log(end) for end in between)
    best: Match | None = None
    tried: set[float] = set()
    for _ in range(_TRIALS):
        value = math.exp((few + many) / 2)
        value = float(round(value)) if whole else float(f"{value:.4g}")
        if value in tried:
            break
        tried.add(value)
        segmenter = family(value)
        reached = float(segmenter(images).n_superpixels.cpu().double().mean())
        if best is None or abs(reached - wanted) < abs(best.n_superpixels - wanted):
            best = Match(segmenter, reached, wanted)
        if abs(reached - wanted) <= _CLOSE_ENOUGH * wanted:
            break
        if reached < wanted:
            few = math.log(value)
        else:
            many = math.log(value)
    assert best is not None  # the first trial sets it
    return best

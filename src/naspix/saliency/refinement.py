"""The integral of gradients along a path, with steps added where they are missing.

A path from a baseline to an image is asked for scores and gradients at places in [0, 1]. Between
two places the gradients must add up to what the score gained; where they do not, there is more to
see. Networks of ReLUs bend at few places, so that a few steps there do what many do everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_FIRST = 32  # intervals to begin with: as wide as two neighbours may look alike by chance

# places (n,) in [0, 1] -> scores there (n,), in double precision, and gradients there (n, C, H, W)
Ask = Callable[[Float[Tensor, " n"]], tuple[Float[Tensor, " n"], Float[Tensor, "n C H W"]]]


@dataclass(frozen=True, eq=False)
class RefinedIntegral:
    """An integral of gradients from the path's start to its end.

    Attributes:
        values: ``(C, H, W)``: the integral times the way that each pixel has gone.
        missing: How far their sum is from what the score gained, in its units.
        n_places: How many were asked for.
    """

    values: Float[Tensor, "C H W"]
    missing: float
    n_places: int


def refined_integral(
    ask: Ask,
    way: Float[Tensor, "C H W"],
    *,
    allowed: float,
    max_places: int,
    batch_size: int,
) -> RefinedIntegral:
    """Integrate by trapezoids, halving those whose gradients miss most of the score's gain.

    All gradients are kept until the end, for their weights are known only then:
    ``max_places`` times the size of the image.

    Args:
        ask: Scores and gradients at places on the path.
        way: ``(C, H, W)``, image minus baseline.
        allowed: Halving ends when no more than this is missing.
        max_places: Or when so many places were asked for; at least 3.
        batch_size: How many places are asked for at once.

    Example:
        >>> def ask(places):
        ...     return places.double() ** 2, 2 * places.float().reshape(-1, 1, 1, 1)
        >>> found = refined_integral(
        ...     ask, torch.ones(1, 1, 1), allowed=0.01, max_places=9, batch_size=4
        ... )
        >>> found.values
        tensor([[[1.]]])
    """
    start = min(_FIRST + 1, max_places)
    places = torch.linspace(0, 1, start, dtype=torch.float64, device=way.device)
    parts = [ask(part) for part in places.split(batch_size)]
    scores, gradients = torch.cat([part[0] for part in parts]), [part[1] for part in parts]
    slopes = torch.cat([_slopes(part, way) for part in gradients])
    while True:
        # places stay in the order in which they were asked for, as their gradients do
        along, order = places.sort()
        widths, gained = along.diff(), scores[order].diff()
        missing = (slopes[order][1:] + slopes[order][:-1]) / 2 * widths - gained
        n_more = min(batch_size, max_places - len(places), len(missing))
        if float(missing.sum().abs()) <= allowed or n_more == 0:
            break
        worst = missing.abs().topk(n_more).indices
        middles = (along[worst] + along[worst + 1]) / 2
        new_scores, new = ask(middles)
        places, scores = torch.cat([places, middles]), torch.cat([scores, new_scores])
        slopes = torch.cat([slopes, _slopes(new, way)])
        gradients.append(new)
    # of each place half of the interval before it and half of that behind it
    weights = torch.zeros_like(places)
    weights[order[:-1]] += widths / 2
    weights[order[1:]] += widths / 2
    integral = torch.zeros_like(way)
    shares = weights.to(way).split([len(part) for part in gradients])
    for share, part in zip(shares, gradients, strict=True):
        integral += torch.tensordot(share, part, dims=1)
    return RefinedIntegral(integral * way, float(missing.sum().abs()), len(places))


def _slopes(
    gradients: Float[Tensor, "n C H W"], way: Float[Tensor, "C H W"]
) -> Float[Tensor, " n"]:
    """How steeply the score rises along the path."""
    return (gradients.double() * way.double()).sum((1, 2, 3))

"""In which order an image is hidden: pixels by their saliency, or whole superpixels by their mean.

Saliency (B, H, W) in, and labels where superpixels are hidden; out comes at which step each pixel
goes. Nothing depends on how a sort treats equal values: ties are broken by a seed, or by area.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from naspix.errors import InputError

Ties = Literal["seed", "area"]


@dataclass(frozen=True, eq=False)
class HidingOrder:
    """At which step each pixel is hidden.

    Attributes:
        step: ``(B, H, W)``, from 1: a pixel is hidden at that step and at all later ones.
        n_steps: ``(B,)``, the last step of each image, at which all of it is hidden.
    """

    step: Int64[Tensor, "B H W"]
    n_steps: Int64[Tensor, " B"]

    @property
    def fraction(self) -> Float[Tensor, "B points"]:
        """The share of the pixels hidden after each step, from 0; 1 beyond an image's last."""
        points = int(self.n_steps.max()) + 1
        rows = [torch.bincount(each.flatten(), minlength=points) for each in self.step]
        hidden = torch.stack(rows).cumsum(1)
        return hidden.double() / self.step[0].numel()

    @property
    def reverse(self) -> "HidingOrder":
        """The last step first."""
        return HidingOrder(1 + self.n_steps[:, None, None] - self.step, self.n_steps)


def order_pixels(heat: Float[Tensor, "B H W"], steps: int, seed: int) -> HidingOrder:
    """Hide pixels of the lowest saliency first, about as many at each step.

    Pixels of equal saliency go in an order drawn by the seed, the same for all images.

    Args:
        heat: Saliency.
        steps: How many; after step s, ``round(s * pixels / steps)`` pixels are hidden, never fewer
            than one more.
        seed: For ties.

    Raises:
        InputError: Saliency that is not finite, or more steps than pixels.

    Example:
        >>> order_pixels(torch.tensor([[[0.1, 0.9, 0.5, 0.2]]]), steps=2, seed=0).step
        tensor([[[1, 2, 2, 1]]])
    """
    _check_finite(heat)
    n_images, n_pixels = len(heat), heat[0].numel()
    if not 1 <= steps <= n_pixels:
        raise InputError(f"steps is {steps}; it must be from 1 to the {n_pixels} pixels of a map")
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(n_pixels)).to(heat.device)
    by_value = heat.flatten(1)[:, shuffled].argsort(dim=1, stable=True)
    ends = (torch.arange(1, steps + 1, dtype=torch.float64) * n_pixels / steps).round().long()
    step_of_place = 1 + torch.searchsorted(ends, torch.arange(n_pixels), right=True)
    step = torch.empty(n_images, n_pixels, dtype=torch.int64, device=heat.device)
    step.scatter_(1, shuffled[by_value], step_of_place.to(heat.device).expand(n_images, -1))
    return HidingOrder(step.view(heat.shape), torch.full((n_images,), steps))


def order_superpixels(
    heat: Float[Tensor, "B H W"], superpixels: Integer[Tensor, "B H W"], ties: Ties, seed: int
) -> HidingOrder:
    """Hide one whole superpixel at each step, that of the lowest mean saliency first.

    Args:
        heat: Saliency, pooled or not.
        superpixels: Any integers; equal ones of an image are hidden together.
        ties: Among superpixels of equal mean: ``"seed"`` draws their order, ``"area"`` lets the
            smaller go first and draws only between those of one size. What is drawn depends on the
            order in which superpixels appear row by row, not on their labels.
        seed: For ties.

    Raises:
        InputError: Saliency that is not finite, labels of another shape, or an unknown rule.

    Example:
        >>> heat, labels = torch.tensor([[[0.1, 0.3, 0.9]]]), torch.tensor([[[7, 7, 3]]])
        >>> order_superpixels(heat, labels, "seed", 0).step
        tensor([[[1, 1, 2]]])
    """
    _check_finite(heat)
    if ties not in get_args(Ties):
        raise InputError(f"ties is one of {', '.join(get_args(Ties))}, not {ties!r}")
    if superpixels.shape != heat.shape:
        raise InputError(
            f"superpixels are of shape {tuple(superpixels.shape)}, the saliency maps of "
            f"{tuple(heat.shape)}; both must be the same"
        )
    steps, counts = [], []
    for values, labels in zip(heat, numbered(superpixels), strict=True):
        areas = torch.bincount(labels.flatten())
        sums = torch.zeros(len(areas), dtype=torch.float64)
        sums.index_add_(0, labels.flatten(), values.flatten().cpu().double())
        means = sums / areas
        # compared in float32, or rounding in the sums would decide between equal ones
        means = (means / means.abs().max().clamp(min=1e-300)).float()
        drawn = np.random.default_rng(seed).permutation(len(areas))
        keys = [drawn, areas.numpy(), means.numpy()] if ties == "area" else [drawn, means.numpy()]
        place = np.empty(len(areas), np.int64)
        place[np.lexsort(keys)] = np.arange(1, len(areas) + 1)
        steps.append(torch.from_numpy(place)[labels])
        counts.append(len(areas))
    return HidingOrder(torch.stack(steps).to(heat.device), torch.tensor(counts))


def numbered(superpixels: Integer[Tensor, "B H W"]) -> Int64[Tensor, "B H W"]:
    """Labels from 0 without gaps in each image, in raster order of first pixels, on the CPU.

    Example:
        >>> numbered(torch.tensor([[[7, 7, 3]]]))
        tensor([[[0, 0, 1]]])
    """
    maps = []
    for labels in superpixels.cpu().numpy():
        _, first, index = np.unique(labels, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        maps.append(torch.from_numpy(rank[index.reshape(labels.shape)]))
    return torch.stack(maps)


def _check_finite(heat: Float[Tensor, "B H W"]) -> None:
    finite = torch.isfinite(heat).flatten(1).all(1)
    if not bool(finite.all()):
        wrong = int((~finite).nonzero()[0])
        raise InputError(
            f"saliency map {wrong} of the batch has values that are not finite (NaN or infinite); "
            "leave it out, or set them to 0"
        )

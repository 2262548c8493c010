"""Does the saliency lie on the object: the pointing game, honest about ties, and energy inside.

Maps (B, H, W) and boxes or masks in the maps' frame in, one number from 0 to 1 an image out.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from naspix.errors import InputError
from naspix.metrics.boxes import Boxes, inside_boxes
from naspix.models.devices import in_float64


def pointing_game(maps: Tensor, where: Boxes) -> Float[Tensor, " B"]:
    """The share of the most salient pixels that lie on the object.

    With a single maximum this is the usual hit or miss. Where many pixels are tied, as in a pooled
    map, each counts alike: a large superpixel that touches the object wins nothing for free. A
    constant map gets the object's share of the image, what pointing blindly gets on average.

    Args:
        maps: ``(B, H, W)`` floating, finite.
        where: The object: boxes as for `MaxBoxAccV2`, or masks ``(B, H, W)`` of bool.

    Raises:
        InputError: Shapes that do not fit, or maps that are not finite.

    Source:
        Zhang et al., "Top-down neural attention by excitation backprop", 2018, without their
        margin of 15 pixels; counting ties by their share is naspix's.

    Example:
        >>> heat = torch.tensor([[[0.0, 1.0, 1.0, 1.0]]])
        >>> pointing_game(heat, torch.tensor([[0, 0, 1, 0]]))
        tensor([0.3333], dtype=torch.float64)
    """
    inside = _inside(maps, where)
    highest = maps == maps.amax((1, 2), keepdim=True)
    return (highest & inside).sum((1, 2)).cpu().double() / highest.sum((1, 2)).cpu()


def energy_inside(maps: Tensor, where: Boxes) -> Float[Tensor, " B"]:
    """The share of the positive saliency that lies on the object; NaN where none is positive.

    Args:
        maps: ``(B, H, W)`` floating, finite; negative values count as zero.
        where: The object: boxes as for `MaxBoxAccV2`, or masks ``(B, H, W)`` of bool.

    Raises:
        InputError: Shapes that do not fit, or maps that are not finite.

    Source:
        Wang et al., "Score-CAM", 2020, the energy-based pointing game.

    Example:
        >>> energy_inside(torch.tensor([[[1.0, 2.0, -5.0, 1.0]]]), torch.tensor([[0, 0, 1, 0]]))
        tensor([0.7500], dtype=torch.float64)
    """
    inside = _inside(maps, where)
    energy = in_float64(maps.detach()).clamp(min=0)
    return (energy * inside.to(energy.device)).sum((1, 2)) / energy.sum((1, 2))


def _inside(maps: Tensor, where: Boxes) -> Bool[Tensor, "B H W"]:
    if maps.ndim != 3 or not maps.is_floating_point():
        raise InputError(
            f"maps are floating (B, H, W), not {maps.dtype} of shape {tuple(maps.shape)}"
        )
    if not bool(torch.isfinite(maps).all()):
        raise InputError("maps have values that are not finite (NaN or infinite); set them to 0")
    if isinstance(where, Tensor) and where.dtype == torch.bool:
        if where.shape != maps.shape:
            raise InputError(
                f"maps are of shape {tuple(maps.shape)} but masks of {tuple(where.shape)}"
            )
        return where.to(maps.device)
    size = (maps.shape[-2], maps.shape[-1])
    return inside_boxes(where, len(maps), size).to(maps.device)

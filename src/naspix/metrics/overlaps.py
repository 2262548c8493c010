"""How far a map's boxes overlap the true ones, at every threshold: what MaxBoxAccV2 counts.

Maps (B, H, W) and boxes in their frame in, one small record an image out, of which the share of
localised images follows for any threshold and any IoU. No metric is kept here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from naspix.errors import InputError
from naspix.metrics.boxes import (
    Boxes,
    all_contour_boxes,
    box_areas,
    box_ious,
    boxes_at_cuts,
    checked_boxes,
    eight_bit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THRESHOLDS = np.arange(0, 1, 0.001)

_LARGE = 0.2  # of the true box


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The best IoU of a map's boxes with a true one, at every cut that changes something.

    All that an image adds to `MaxBoxAccV2`, for any IoU wanted: small enough to be kept.

    Attributes:
        top: The highest value of the map in 8 bits, of which thresholds are shares.
        cut: The values that occur, ascending; a pooled map has one a superpixel at most.
        iou: For each of them, the best IoU of the boxes around what lies above it.
    """

    top: int
    cut: UInt8[np.ndarray, " n"]
    iou: Float[np.ndarray, " n"]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the best IoU over the thresholds.

        Args:
            ax: Where to draw; on a figure of its own by default.
        """
        from naspix import plots

        curves = {"best IoU": self.at_thresholds()}
        return plots.draw_curves(THRESHOLDS, curves, ax, xlabel="threshold", ylabel="IoU")

    def __repr__(self) -> str:
        best = float(self.iou.max()) if len(self.iou) else 0.0
        return f"Overlaps({len(self.cut)} cuts, best IoU {best:.3f})"

    def at_thresholds(self) -> Float[np.ndarray, " thresholds"]:
        """The best IoU at each of the thousand thresholds."""
        wanted = (THRESHOLDS * self.top).astype(np.int64)
        place = np.searchsorted(self.cut, wanted, side="right") - 1
        return np.where(place < 0, 0.0, self.iou[place])


def overlaps(maps: Tensor, boxes: Boxes) -> list[Overlaps]:
    """What each image adds to `MaxBoxAccV2`.

    Args:
        maps: ``(B, H, W)`` floating.
        boxes: As for ``MaxBoxAccV2.update``.

    Raises:
        InputError: As ``MaxBoxAccV2.update``.

    Example:
        >>> heat = torch.zeros(1, 32, 32)
        >>> heat[0, 8:16, 8:16] = 1
        >>> overlaps(heat, torch.tensor([[8, 8, 16, 16]]))[0].iou.tolist()
        [1.0, 0.0]
    """
    arrays = checked_maps(maps)
    truths = checked_boxes(boxes, len(arrays))
    return [
        overlaps_of(eight_bit(array), truth) for array, truth in zip(arrays, truths, strict=True)
    ]


def overlaps_of(
    image: UInt8[np.ndarray, "H W"],
    truths: Integer[np.ndarray, "n 4"],
    *,
    largest_only: bool = False,
) -> Overlaps:
    """The overlaps of one map in 8 bits."""
    cuts = np.flatnonzero(np.bincount(image.ravel(), minlength=256))
    boxes, index = (boxes_at_cuts if largest_only else all_contour_boxes)(image, cuts)
    best = np.zeros(len(cuts))
    areas = box_areas(boxes)
    for truth in truths:
        shares = areas / box_areas(truth)
        # no IoU is above the share of areas: small boxes are looked at where no large one is good
        for few in (shares >= _LARGE, shares < _LARGE):
            chosen = np.flatnonzero(few & (shares > best[index]))
            found = box_ious(boxes[chosen], truth[None])[:, 0]
            np.maximum.at(best, index[chosen], found)
    return Overlaps(int(image.max()), cuts.astype(np.uint8), best)


def checked_maps(maps: Tensor) -> Float[np.ndarray, "B H W"]:
    """The maps as arrays, or an error that says what they are instead."""
    if maps.ndim != 3 or not maps.is_floating_point() or maps.numel() == 0:
        raise InputError(
            f"maps are floating (B, H, W) with pixels, not {maps.dtype} of shape "
            f"{tuple(maps.shape)}"
        )
    maps = maps.detach().cpu()
    return (maps if maps.dtype == torch.float64 else maps.float()).numpy()

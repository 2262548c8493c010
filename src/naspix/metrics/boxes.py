"""Boxes as wsolevaluation has them: scaled with truncation, whole pixels, areas with plus one.

A box is ``(left, top, right, bottom)`` in pixels of its map, and the right and bottom pixels belong
to it. Here also: which pixels lie in some box, and the boxes of a thresholded map's contours.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Integer, Shaped, UInt8
from torch import Tensor

from naspix.errors import InputError
from naspix.metrics.nesting import MAX_PIXELS, nested_boxes
from naspix.models.devices import in_float64

# so few levels, as pooled maps have, are faster cut one by one
_FEW_LEVELS = 64

# boxes of a batch: for each image (n, 4), or one tensor (B, 4) or (B, n, 4)
Boxes = Tensor | Sequence[Tensor]


def scale_boxes(
    boxes: Shaped[Tensor, "*n 4"], size: tuple[int, int], new_size: tuple[int, int]
) -> Int64[Tensor, "*n 4"]:
    """Boxes of an image as those of its resized map, truncated to whole pixels.

    A box may reach beyond the right and bottom edges, as published ones do; what lies there counts
    in its area.

    Args:
        boxes: ``(left, top, right, bottom)`` in pixels of the image.
        size: Height and width of the image.
        new_size: Height and width of the map.

    Raises:
        InputError: A box with no area, inverted, with negative coordinates, or outside the image.

    Source:
        Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", 2020, and
        the authors' code, ``resize_bbox``.

    Example:
        >>> scale_boxes(torch.tensor([[10, 20, 333, 400]]), (500, 400), (224, 224))
        tensor([[  5,   8, 186, 179]])
    """
    if boxes.shape[-1:] != (4,):
        raise InputError(f"boxes have four numbers each, but the shape is {tuple(boxes.shape)}")
    values = in_float64(boxes)
    for left, top, right, bottom in values.reshape(-1, 4).tolist():
        text = f"the box ({left:g}, {top:g}, {right:g}, {bottom:g})"
        if not (right > left and bottom > top):
            raise InputError(
                f"{text} has no area; boxes are (left, top, right, bottom), so right and bottom "
                "must be the larger"
            )
        if left < 0 or top < 0:
            raise InputError(f"{text} has negative coordinates; clip it to the image")
        if left >= size[1] or top >= size[0]:
            raise InputError(f"{text} lies outside the image of {size[0]} x {size[1]} pixels")
    old = values.new_tensor([size[1], size[0]] * 2)
    new = values.new_tensor([new_size[1], new_size[0]] * 2)
    return (values * new / old).long()


def checked_boxes(boxes: Boxes, n_images: int) -> list[Integer[np.ndarray, "n 4"]]:
    """The boxes of each image, or an error that names the image."""
    each = list(boxes)
    if len(each) != n_images:
        raise InputError(f"there are maps of {n_images} images but boxes of {len(each)}")
    arrays = []
    for i, some in enumerate(each):
        array = torch.as_tensor(some).detach().cpu().numpy()
        array = array[None] if array.ndim == 1 and array.size else array
        if array.size == 0:
            raise InputError(f"image {i} of the batch has no box; leave it out")
        if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iu":
            raise InputError(
                f"the boxes of image {i} are {array.dtype} of shape {array.shape}, not whole "
                "numbers (n, 4) in the map's frame, as scale_boxes makes them"
            )
        array = array.astype(np.int64)
        if (array < 0).any() or (array[:, 2:] < array[:, :2]).any():
            raise InputError(
                f"image {i} of the batch has a box that is inverted or has negative coordinates: "
                f"{array.tolist()}"
            )
        arrays.append(array)
    return arrays


def inside_boxes(boxes: Boxes, n_images: int, size: tuple[int, int]) -> Bool[Tensor, "B H W"]:
    """Which pixels lie in a box; its right and bottom pixels do.

    Example:
        >>> inside_boxes(torch.tensor([[0, 0, 1, 0]]), 1, (2, 3)).int()
        tensor([[[1, 1, 0],
                 [0, 0, 0]]], dtype=torch.int32)
    """
    masks = torch.zeros(n_images, *size, dtype=torch.bool)
    for mask, some in zip(masks, checked_boxes(boxes, n_images), strict=True):
        for left, top, right, bottom in some.tolist():
            mask[top : bottom + 1, left : right + 1] = True
    return masks


def eight_bit(saliency: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """The map as wsolevaluation thresholds it: scaled min-max, times 255, truncated.

    A constant map, and one with values that are not finite, becomes zero everywhere.
    """
    values = saliency.astype(np.float64)
    low, high = values.min(), values.max()
    if not np.isfinite(high - low) or low == high:
        return np.zeros(values.shape, np.uint8)
    values -= low
    values /= values.max()
    values *= 255
    return values.astype(np.uint8)


def contour_boxes(
    image: UInt8[np.ndarray, "H W"], cut: int, *, largest_only: bool = False
) -> Int64[np.ndarray, "n 4"]:
    """Boxes of all contours, also those of holes, of what is above the cut.

    The right and bottom sides lie one pixel outside, but within the map: the reference's choice.
    Without any contour the box is ``(0, 0, 0, 0)``.
    """
    _, mask = cv2.threshold(image, cut, 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.zeros((1, 4), np.int64)
    if largest_only:
        contours = (max(contours, key=cv2.contourArea),)
    boxes = np.array([cv2.boundingRect(contour) for contour in contours], np.int64)
    boxes[:, 2:] += boxes[:, :2]
    np.minimum(boxes[:, 2:], (image.shape[1] - 1, image.shape[0] - 1), out=boxes[:, 2:])
    return boxes


def all_contour_boxes(
    image: UInt8[np.ndarray, "H W"], levels: Int64[np.ndarray, " levels"]
) -> tuple[Int64[np.ndarray, "n 4"], Int64[np.ndarray, " n"]]:
    """What `contour_boxes` returns at each of the map's levels, found at once.

    A region's contour has its box; a hole's runs along the pixels around it, one further out.

    Args:
        image: The map.
        levels: Its distinct values, ascending.

    Returns:
        Boxes, and for each the index of the level above which the map is cut.
    """
    if len(levels) <= _FEW_LEVELS or image.size > MAX_PIXELS:
        return boxes_at_cuts(image, levels, largest_only=False)
    n_levels, (height, width) = len(levels), image.shape
    ranks = np.zeros(256, np.uint8)
    ranks[levels] = np.arange(n_levels)
    ranked = cv2.LUT(image, ranks)
    regions = nested_boxes(ranked, n_levels, corners=True)
    hollows = nested_boxes((n_levels - 1 - ranked).astype(np.uint8), n_levels, corners=False)
    left, top, right, bottom = hollows.sides
    # a hollow that reaches the border is open, not a hole
    closed = (left > 0) & (top > 0) & (right < width - 1) & (bottom < height - 1)
    offsets = (-1, -1, 1, 1)
    sides = [
        np.concatenate([outer, inner[closed] + offset])
        for outer, inner, offset in zip(regions.sides, hollows.sides, offsets, strict=True)
    ]
    boxes = np.stack(sides, 1).astype(np.int64)
    boxes[:, 2:] += 1
    np.minimum(boxes[:, 2:], (width - 1, height - 1), out=boxes[:, 2:])
    cut = np.concatenate([regions.level - 1, n_levels - 1 - hollows.level[closed]])
    nothing = np.zeros((1, 4), np.int64)  # what is above the highest level
    real = cut >= 0
    return np.concatenate([boxes[real], nothing]), np.append(cut[real], n_levels - 1)


def boxes_at_cuts(
    image: UInt8[np.ndarray, "H W"],
    levels: Int64[np.ndarray, " levels"],
    *,
    largest_only: bool = True,
) -> tuple[Int64[np.ndarray, "n 4"], Int64[np.ndarray, " n"]]:
    """What `contour_boxes` returns at each level, and for each box the level's index."""
    each = [contour_boxes(image, level, largest_only=largest_only) for level in levels.tolist()]
    return np.concatenate(each), np.repeat(np.arange(len(each)), [len(some) for some in each])


def box_areas(boxes: Int64[np.ndarray, "*n 4"]) -> Int64[np.ndarray, "*n"]:
    """Pixels of each box, those on its sides included.

    Example:
        >>> int(box_areas(np.array([0, 0, 1, 2])))
        6
    """
    return np.asarray((boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1))


def box_ious(
    boxes: Int64[np.ndarray, "n 4"], others: Int64[np.ndarray, "m 4"]
) -> Float[np.ndarray, "n m"]:
    """Intersection over union, the pixels on all sides included.

    Example:
        >>> box_ious(np.array([[0, 0, 1, 1]]), np.array([[1, 0, 2, 1]])).round(3)
        array([[0.333]])
    """
    a, b = boxes[:, None], others[None]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]) + 1
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]) + 1
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    return np.asarray(overlap / (box_areas(a) + box_areas(b) - overlap))

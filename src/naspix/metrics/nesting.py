"""The boxes of all connected regions above all levels of a map at once, without cutting it.

A map of few levels (H, W) in, boxes out: what a contour at each threshold would give. Every pixel
climbs to a peak; peaks join where the saddle between them is (a maximum spanning tree over peaks);
each keeps, for every level, the box of what belongs to it. Exact: boxes are those of the regions.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Int16, Int32, Int64, Integer, UInt8

MAX_PIXELS = 2**16

_FAR = 32000  # beyond any coordinate: the box of nothing
_SQUARE = np.ones((3, 3), np.uint8)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))

# of pixels, row by row
Flat = Integer[np.ndarray, " pixels"]


@dataclass(frozen=True, eq=False)
class NestedBoxes:
    """Boxes of regions at levels.

    Attributes:
        sides: Left, top, right and bottom, each ``(n,)``; all four pixels belong to the box.
        level: ``(n,)``: each is a region of the pixels of at least this level.
    """

    sides: tuple[Int32[np.ndarray, " n"], ...]
    level: Int64[np.ndarray, " n"]


def nested_boxes(image: UInt8[np.ndarray, "H W"], n_levels: int, *, corners: bool) -> NestedBoxes:
    """The boxes of the connected regions of ``image >= level``, for every level.

    Args:
        image: Levels from 0 to ``n_levels - 1``; at most ``MAX_PIXELS`` pixels.
        n_levels: How many.
        corners: Whether pixels that share only a corner are connected.

    Example:
        >>> found = nested_boxes(np.array([[2, 0, 1, 1]], np.uint8), 3, corners=True)
        >>> for level, *sides in sorted(zip(found.level.tolist(), *map(list, found.sides))):
        ...     print(level, [int(side) for side in sides])
        0 [0, 0, 3, 0]
        1 [0, 0, 0, 0]
        1 [2, 0, 3, 0]
        2 [0, 0, 0, 0]
    """
    peak, n_peaks = _climb(image, corners)
    table = _boxes_of_peaks(image, peak, n_peaks, n_levels)
    joined = np.full(n_peaks, n_levels)
    if n_peaks > 1:
        _join(table, joined, *_saddles(image, peak, n_peaks, n_levels, corners))
    standing = (table[:, 0] < _FAR) & (np.arange(n_levels) < joined[:, None])
    index, at = np.divmod(np.flatnonzero(standing), n_levels)
    left, top, right, bottom = table[index, :, at].T.astype(np.int32)
    return NestedBoxes((left, top, -right, -bottom), n_levels - 1 - at)


def _climb(
    image: UInt8[np.ndarray, "H W"], corners: bool
) -> tuple[Int32[np.ndarray, " pixels"], int]:
    """The number of the peak that each pixel reaches by going to its highest neighbour.

    Of equal levels the later pixel is the higher one, so that every climb ends.
    """
    n_pixels = image.size
    # level and place in one number; read as floats these bits have the same order, and OpenCV
    # finds the highest neighbour of floats only
    keys = image.astype(np.int32) << 16
    keys += np.arange(n_pixels, dtype=np.int32).reshape(image.shape) + (1 << 24)
    highest = cv2.dilate(keys.view(np.float32), _SQUARE if corners else _CROSS).view(np.int32)
    upwards = (highest.ravel() & 0xFFFF).astype(np.intp)
    while True:
        further = upwards.take(upwards)
        if np.array_equal(further, upwards):
            break
        upwards = further
    peaks = np.flatnonzero(upwards == np.arange(n_pixels))
    number = np.empty(n_pixels, np.int32)
    number[peaks] = np.arange(len(peaks), dtype=np.int32)
    return number.take(upwards), len(peaks)


def _boxes_of_peaks(
    image: UInt8[np.ndarray, "H W"], peak: Flat, n_peaks: int, n_levels: int
) -> Int16[np.ndarray, "peaks 4 levels"]:
    """For each peak the box of its pixels of at least each level, the highest level first.

    Right and bottom are negative, so that boxes join by their minimum.
    """
    height, width = image.shape
    table = np.full((n_peaks, 4, n_levels), _FAR, np.int16)
    flat = table.reshape(-1)
    place = peak.astype(np.intp) * (4 * n_levels) + (n_levels - 1 - image.ravel().astype(np.intp))
    rows = np.repeat(np.arange(height, dtype=np.int16), width)
    # where several pixels write to one place the last remains: the largest, or the smallest
    flat[3 * n_levels :][place] = -rows
    flat[n_levels:][place[::-1]] = rows[::-1]
    place = place.reshape(image.shape).T.ravel()
    columns = np.repeat(np.arange(width, dtype=np.int16), height)
    flat[2 * n_levels :][place] = -columns
    flat[place[::-1]] = columns[::-1]
    return np.minimum.accumulate(table, axis=2, out=table)


def _saddles(
    image: UInt8[np.ndarray, "H W"], peak: Flat, n_peaks: int, n_levels: int, corners: bool
) -> tuple[list[int], list[int], list[int]]:
    """Pairs of neighbouring peaks and the highest level on which they touch, highest first."""
    width = image.shape[1]
    levels = image.ravel()
    codes = []
    # to the right, down, and both ways down across corners; the second number is the column from
    # which the step would leave the image
    steps = [(1, width - 1), (width, -1)] + [(width + 1, width - 1), (width - 1, 0)] * corners
    for step, edge in steps:
        near = np.flatnonzero(peak[:-step] != peak[step:])
        near = near[near % width != edge]
        one, other = peak.take(near), peak.take(near + step)
        level = np.minimum(levels.take(near), levels.take(near + step))
        pair = np.minimum(one, other).astype(np.int64) * n_peaks + np.maximum(one, other)
        codes.append(pair * n_levels + level)
    code = np.sort(np.concatenate(codes))
    pair = code // n_levels
    code = code[np.append(pair[1:] != pair[:-1], True)]
    pair, level = np.divmod(code, n_levels)
    order = np.argsort(-level, kind="stable")
    return (
        (pair[order] // n_peaks).tolist(),
        (pair[order] % n_peaks).tolist(),
        level[order].tolist(),
    )


def _join(
    table: Int16[np.ndarray, "peaks 4 levels"],
    joined: Int64[np.ndarray, " peaks"],
    ones: list[int],
    others: list[int],
    levels: list[int],
) -> None:
    """Let peaks join at their saddles: below, one holds the boxes of both, the other has none."""
    n_levels = table.shape[2]
    above = list(range(len(table)))
    for one, other, level in zip(ones, others, levels, strict=True):
        while above[one] != one:
            above[one] = one = above[above[one]]
        while above[other] != other:
            above[other] = other = above[above[other]]
        if one == other:
            continue
        above[other] = one
        depth = n_levels - 1 - level
        joined[other] = depth
        below = table[one, :, depth:]
        np.minimum(below, table[other, :, depth:], out=below)

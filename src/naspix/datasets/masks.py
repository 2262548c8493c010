"""COCO's polygons and run lengths as masks.

A pixel belongs to a polygon if its centre lies inside. Run lengths go down the columns; compressed
ones are COCO's own base-32 text.
Source: the format's description at cocodataset.org, and ``maskApi.c`` beside it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from naspix.errors import InputError


def union_mask(shapes: Sequence[object], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Which pixels any of the shapes covers.

    Args:
        shapes: What COCO has under ``segmentation``: a list of polygons, or a dictionary of size
            and run lengths.
        size: Height and width of the picture.

    Raises:
        InputError: If a shape is neither, or of another size.

    Example:
        >>> union_mask([[[1, 0, 3, 0, 3, 2, 1, 2]]], (2, 4)).astype(int)
        array([[0, 1, 1, 0],
               [0, 1, 1, 0]])
        >>> union_mask([{"size": [2, 4], "counts": [2, 4, 2]}], (2, 4)).astype(int)
        array([[0, 1, 1, 0],
               [0, 1, 1, 0]])
    """
    mask = np.zeros(size, dtype=bool)
    for shape in shapes:
        if isinstance(shape, Mapping):
            mask |= _of_run_lengths(shape, size)
        elif isinstance(shape, Sequence) and not isinstance(shape, str):
            for polygon in shape:
                _fill(mask, polygon)
        else:
            raise InputError(f"a mask is {type(shape).__name__}, no polygons and no run lengths")
    return mask


def _fill(mask: Bool[np.ndarray, "H W"], polygon: object) -> None:
    from skimage.draw import polygon as inside

    try:
        points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    except (ValueError, TypeError):
        points = np.zeros((0, 2))
    if len(points) < 3 or not np.isfinite(points).all():
        raise InputError("a polygon has fewer than three points, or points that are no numbers")
    rows, columns = inside(points[:, 1] - 0.5, points[:, 0] - 0.5, mask.shape)
    mask[rows, columns] = True


def _of_run_lengths(code: Mapping[str, Any], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    if "counts" not in code or list(code.get("size", ())) != list(size):
        raise InputError(
            f"run lengths are of the size {code.get('size')}, but the picture is {list(size)}"
        )
    counts = code["counts"]
    lengths = _decompressed(counts) if isinstance(counts, str | bytes) else list(counts)
    total = size[0] * size[1]
    if any(not isinstance(n, int) or n < 0 for n in lengths) or sum(lengths) > total:
        raise InputError(f"run lengths do not add up to the picture's {total} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    runs = np.repeat(values, lengths)
    flat = np.zeros(total, dtype=bool)
    flat[: runs.size] = runs
    return flat.reshape(size, order="F")


def _decompressed(text: str | bytes) -> list[int]:
    """Numbers of five bits a character, lowest first, each a difference to the last but one."""
    codes = text.encode() if isinstance(text, str) else text
    lengths: list[int] = []
    number = shift = 0
    for code in codes:
        bits = code - 48
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:  # more to come
            continue
        if bits & 16:  # negative
            number -= 1 << shift
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = shift = 0
    if shift:
        raise InputError("compressed run lengths end within a number")
    return lengths

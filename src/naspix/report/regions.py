"""Superpixels on the page: which count, where their numbers stand, and how few say half of it.

A superpixel below a thousandth of the frame is a fragment: it is counted, but has no number on the
picture and no row. Numbers are the superpixels' labels, as in ``results.json``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from naspix.report.record import PhotoExplanation
from naspix.superpixelify import RankedSuperpixel

_LEAST_SHARE = 0.001  # of the frame; below it a superpixel is a fragment
_TOLERANCE = 0.75  # pixels by which a drawn outline may be off
_NAMED = 6  # regions that a sentence lists


def without_fragments(ranking: Sequence[RankedSuperpixel], n_pixels: int) -> list[RankedSuperpixel]:
    """The superpixels that are no fragments, in their order."""
    return [one for one in ranking if one.area >= _LEAST_SHARE * n_pixels]


@dataclass(frozen=True)
class Half:
    """The most salient regions that together hold half of what speaks for the class.

    Attributes:
        labels: Their numbers, the most salient first; none where nothing speaks for it.
        share: The part of the frame that they cover.
    """

    labels: tuple[int, ...]
    share: float


def half_of(regions: Iterable[tuple[int, int, float]], n_pixels: int) -> Half:
    """The most salient regions with half of the positive saliency, fragments left aside.

    Args:
        regions: Label, area and mean saliency of each, the most salient first.
        n_pixels: Of the frame.

    Example:
        >>> half_of([(3, 10, 2.0), (0, 50, 0.2), (1, 40, -1.0)], 100)
        Half(labels=(3,), share=0.1)
    """
    speaking = [
        (label, area, area * mean)
        for label, area, mean in regions
        if mean > 0 and area >= _LEAST_SHARE * n_pixels
    ]
    wanted, held, labels, covered = sum(mass for *_, mass in speaking) / 2, 0.0, [], 0
    for label, area, mass in speaking:
        if held >= wanted:
            break
        held, covered = held + mass, covered + area
        labels.append(label)
    return Half(tuple(labels), covered / n_pixels)


def half_of_photo(photo: PhotoExplanation) -> Half:
    """The same of a photo, by its first method and segmenter."""
    ranking, n_pixels = next(iter(photo.ranking.values())), photo.image[..., 0].size
    return half_of([(one.label, one.area, one.saliency) for one in ranking], n_pixels)


def in_a_sentence(photo: PhotoExplanation) -> str:
    """What the network sees in a photo, and in how little of it half of that lies."""
    first, target = photo.predictions[0], photo.target
    if first.is_probability:
        said = f"The network sees \u201c{first.name}\u201d in this photo ({first.shown()})"
        if target.name != first.name:
            said += f", and was asked about \u201c{target.name}\u201d ({target.shown()})"
        said += "."
    else:
        said = f"The network gives this photo {target.shown()} for \u201c{target.name}\u201d."
    (method, _), ranking = next(iter(photo.ranking.items()))
    n_regions = len(without_fragments(ranking, photo.image.shape[0] * photo.image.shape[1]))
    half, by = half_of_photo(photo), photo.title(method)
    if not half.labels:
        return f"{said} By {by}, no region speaks for it."
    n, names = len(half.labels), [str(label) for label in half.labels[:_NAMED]]
    names += ["others"] if n > _NAMED else []
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return (
        f"{said} By {by}, half of what speaks for it lies in {n} of {n_regions} regions, "
        f"{half.share:.0%} of the picture: number {listed}."
    )


def outlines(
    superpixels: Int[np.ndarray, "H W"], ranking: Sequence[RankedSuperpixel], n_rows: int
) -> list[dict[str, Any]]:
    """Outline and place of the number of each superpixel that is no fragment.

    Args:
        superpixels: Labels of the frame.
        ranking: Knows their boxes.
        n_rows: How many of them have a row in a table.

    Returns:
        For each ``label``, ``path`` (of an SVG in pixels of the frame), ``x`` and ``y``: the pixel
        that is farthest from the edge; and whether it ``has_row``.
    """
    import cv2

    found = []
    for place, one in enumerate(without_fragments(ranking, superpixels.size)):
        left, top, right, bottom = one.box
        mask = (superpixels[top:bottom, left:right] == one.label).astype(np.uint8)
        framed = np.pad(mask, 1)
        depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        lines, _ = cv2.findContours(framed, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        path = ""
        for line in lines:
            corners = cv2.approxPolyDP(line, _TOLERANCE, True)[:, 0] + (left - 0.5, top - 0.5)
            path += "M" + "L".join(f"{a:g} {b:g}" for a, b in corners.tolist()) + "Z"
        middle = {"x": int(x) + left - 0.5, "y": int(y) + top - 0.5}
        found.append({"label": one.label, "path": path, **middle, "has_row": place < n_rows})
    return found

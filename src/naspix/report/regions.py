"""Superpixels on the page: which count, where their numbers stand, and how few say half of it.

A superpixel below a thousandth of the frame is a fragment: it is counted, but has no number on the
picture and no row. Numbers are the superpixels' labels, as in ``results.json``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from naspix.metrics import RegionSet
from naspix.report.record import PhotoExplanation
from naspix.superpixelify import RankedSuperpixel

LEAST_SHARE = 0.001  # of the frame; below it a superpixel is a fragment
_TOLERANCE = 0.75  # pixels by which a drawn outline may be off
_NAMED = 6  # regions that a sentence lists


def without_fragments(ranking: Sequence[RankedSuperpixel], n_pixels: int) -> list[RankedSuperpixel]:
    """The superpixels that are no fragments, in their order."""
    return [one for one in ranking if one.area >= LEAST_SHARE * n_pixels]


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
        if mean > 0 and area >= LEAST_SHARE * n_pixels
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
    return (
        f"{said} By {by}, half of what speaks for it lies in {len(half.labels)} of {n_regions} "
        f"regions, {half.share:.0%} of the picture: number {_listed(half.labels)}."
    )


def _listed(labels: Sequence[int]) -> str:
    """Numbers as a sentence has them, the first few."""
    names = [str(label) for label in labels[:_NAMED]]
    names += ["others"] if len(labels) > _NAMED else []
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sets_in_words(photo: PhotoExplanation) -> str:
    """Which few regions keep the class, and without which few it changes; by the first method."""
    if not photo.deciding:
        return ""
    sets, target = next(iter(photo.deciding.values())), photo.target
    enough, needed = sets.sufficient, sets.necessary
    if enough is None:
        return (
            f"The network does not see \u201c{target.name}\u201d in the whole photo, so what that "
            "needs was not searched."
        )
    if enough.superpixels:
        verb = "keeps" if len(enough.superpixels) == 1 else "keep"
        said = (
            f"{_these(enough)} alone {verb} \u201c{target.name}\u201d ({enough.probability:.0%})."
        )
    else:
        said = (
            f"With everything hidden the network still keeps \u201c{target.name}\u201d "
            f"({enough.probability:.0%})."
        )
    if needed is None:
        return f"{said} No region is needed for it."
    said += f" Without {_these(needed).lower()} it falls from {target.shown(0)} to "
    likeliest = f", and \u201c{needed.category}\u201d is the likeliest"
    other = needed.category != target.name
    return f"{said}{needed.probability:.0%}{likeliest if other else ''}."


def _these(found: RegionSet) -> str:
    """The regions of a set and their share, as a sentence begins."""
    noun = "Region" if len(found.superpixels) == 1 else "Regions"
    return f"{noun} {_listed(found.superpixels)} ({found.share:.0%} of the picture)"


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

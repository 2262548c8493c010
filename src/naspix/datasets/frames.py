"""Which frame annotations lie in: a picture as its file stores it, or turned as its EXIF says.

Cameras store pictures as the sensor saw them, with a tag that says how to turn them. Some tools for
drawing boxes turn them first and some do not; the size that an annotation declares tells.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

from naspix.datasets.boxes import scale_to
from naspix.errors import NaspixWarning
from naspix.images import orientation

QUARTER_TURNS = (5, 6, 7, 8)  # after which height and width have changed places


@dataclass(frozen=True)
class Frame:
    """How a picture is read.

    Attributes:
        upright: Whether it is turned as its EXIF says.
        problems: A sentence where that is not sure.
    """

    upright: bool
    problems: tuple[str, ...] = ()


def find_frame(file: Path, drawn_on: tuple[int, int] | None, *, exif: bool, drawn: bool) -> Frame:
    """The frame that annotations of a picture lie in.

    Args:
        file: The picture.
        drawn_on: Height and width that the annotations declare, if they do.
        exif: Whether EXIF counts at all.
        drawn: Whether there is anything drawn on it.

    Returns:
        The frame whose size is declared. Where both have it (a square, half a turn, a mirror), or
        none is declared or neither fits, the upright one.

    Warns:
        NaspixWarning: That is so, and something is drawn: boxes may lie elsewhere.
    """
    if not exif:
        return Frame(upright=False)
    turn, (height, width) = orientation(file)
    if turn == 1 or not drawn:
        return Frame(upright=True)
    if turn in QUARTER_TURNS and drawn_on is not None and min(drawn_on) > 0:
        sizes = {False: (height, width), True: (width, height)}
        same = [upright for upright, size in sizes.items() if size == drawn_on]
        alike = same or [up for up, size in sizes.items() if scale_to(size, drawn_on) is not None]
        if len(alike) == 1:
            return Frame(upright=alike[0])
    warnings.warn(
        "there are pictures that EXIF turns, and annotations that do not tell whether they were "
        "drawn before or after; they are taken for after, and exif=False reads all as stored",
        NaspixWarning,
        stacklevel=3,
    )
    problem = "its EXIF turns it, and nothing tells whether boxes were drawn before or after that"
    return Frame(True, (problem,))

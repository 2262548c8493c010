"""How a photo is fitted into an image of a network's size, and where that lies in the photo.

Sizes in, plain numbers out; `reading.py` scales pixels by it, and what was found in the image is
brought back into the photo's own frame.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

_SAME_SHAPE = 0.02  # relative difference of the ratios of sides

Resize = Literal["crop", "squash", "pad"]


@dataclass(frozen=True)
class Fit:
    """A photo scaled, and the window of it that is the image.

    Attributes:
        size: Height and width of the image.
        scaled: Height and width of the scaled photo.
        corner: Top and left of the image in the scaled photo; negative where that is padded.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    corner: tuple[int, int]

    def in_photo(
        self, labels: Int64[np.ndarray, "h w"], photo: tuple[int, int]
    ) -> Int64[np.ndarray, "H W"]:
        """Labels of the image in the photo's frame, by the nearest pixel; -1 outside of the image.

        Args:
            labels: From 0, of ``size``.
            photo: Height and width of the photo.

        Example:
            >>> fit(photo=(2, 4), size=(2, 2), resize="crop").in_photo(np.eye(2, dtype=int), (2, 4))
            array([[-1,  1,  0, -1],
                   [-1,  0,  1, -1]])
        """
        places = []
        for side, scaled, corner, n in zip(photo, self.scaled, self.corner, self.size, strict=True):
            at = np.floor((np.arange(side) + 0.5) * scaled / side).astype(np.int64) - corner
            places.append(np.where((at >= 0) & (at < n), at, n))
        framed = np.pad(labels, ((0, 1), (0, 1)), constant_values=-1)
        found: np.ndarray = framed[places[0][:, None], places[1]]
        return found

    def told(self, photo: tuple[int, int]) -> str:
        """What of a photo the image shows, in words; sizes are widths and heights.

        Args:
            photo: Height and width of the photo.

        Example:
            >>> fit((300, 451), (224, 224), "crop").told((300, 451))
            'the middle 301 x 300 of 451 x 300 pixels, at 224 x 224'
        """
        whole, image, scaled = (f"{w} x {h}" for h, w in (photo, self.size, self.scaled))
        if self.scaled == photo == self.size:
            return f"all of its {whole} pixels, as they are"
        if min(self.corner) < 0:
            return f"all of its {whole} pixels, as {scaled} in the middle of {image}"
        if self.scaled == self.size:
            same = abs(photo[0] * self.size[1] / (photo[1] * self.size[0]) - 1) < _SAME_SHAPE
            return f"all of its {whole} pixels, {'at' if same else 'squashed into'} {image}"
        height, width = (
            round(n * side / length)
            for n, side, length in zip(self.size, photo, self.scaled, strict=True)
        )
        return f"the middle {width} x {height} of {whole} pixels, at {image}"


def fit(
    photo: tuple[int, int], size: tuple[int, int], resize: Resize | None, crop_pct: float = 1.0
) -> Fit:
    """How a photo becomes an image; arguments are those of `read_images`.

    Args:
        photo: Its height and width.
        size: Those of the image.
        resize: The way; None leaves the photo as it is.
        crop_pct: The share of the scaled photo's side that a cropped middle takes.
    """
    if resize is None:
        return Fit(photo, photo, (0, 0))
    if resize == "squash":
        return Fit(size, size, (0, 0))
    height, width = photo
    if resize == "pad":
        scale = min(size[0] / height, size[1] / width)
        inner = (
            min(size[0], max(1, round(height * scale))),
            min(size[1], max(1, round(width * scale))),
        )
        return Fit(size, inner, (-((size[0] - inner[0]) // 2), -((size[1] - inner[1]) // 2)))
    wanted = (math.floor(size[0] / crop_pct), math.floor(size[1] / crop_pct))
    scale = max(wanted[0] / height, wanted[1] / width)
    scaled = max(wanted[0], int(height * scale)), max(wanted[1], int(width * scale))
    return Fit(size, scaled, (round((scaled[0] - size[0]) / 2), round((scaled[1] - size[1]) / 2)))

"""Real photos as square pictures of any size, in the forms that the contenders take.

Without files, 25 crops of five photos in scikit-image's wheel, so that nothing is downloaded.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from naspix.models import expand_paths, read_images

_CROP = 0.7  # of the shorter side
_MOST_PHOTOS = 24


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo at one size.

    Attributes:
        batch: ``(1, 3, H, W)`` in [0, 1], for networks.
        pixels: ``(H, W, 3)`` in [0, 1], for scikit-image.
        lab: ``(H, W, 3)`` in OpenCV's 8-bit CIELAB, for its SLIC.
    """

    batch: Float[Tensor, "1 3 H W"]
    pixels: Float64[np.ndarray, "H W 3"]
    lab: UInt8[np.ndarray, "H W 3"]


def photos_at(sources: Iterable[Path | NDArray[np.uint8]], size: int) -> list[Photo]:
    """Read photos, cropped to the middle square and resized.

    Args:
        sources: Files, or arrays ``(H, W, 3)``.
        size: Side in pixels.

    Example:
        >>> photos_at([np.zeros((50, 40, 3), np.uint8)], 32)[0].pixels.shape
        (32, 32, 3)
    """
    import cv2

    photos = []
    for source in sources:
        batch = read_images(source, (size, size), interpolation="bicubic")
        pixels = np.rint(batch[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        lab = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB), dtype=np.uint8)
        photos.append(Photo(batch, pixels / 255.0, lab))
    return photos


def find_photos(folder: Path | None) -> list[Path | NDArray[np.uint8]]:
    """The photos of a folder, 24 spread over it where there are more; without one, the usual crops.

    Raises:
        InputError: If there is no image in the folder.
    """
    if folder is None:
        return list(usual_photos())
    files = expand_paths([folder])
    n = min(len(files), _MOST_PHOTOS)
    return [files[i * len(files) // n] for i in range(n)]


def usual_photos() -> list[NDArray[np.uint8]]:
    """25 square crops, the four corners and the middle of five photos of everyday things."""
    from skimage import data

    whole = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    motorcycle, *_ = data.stereo_motorcycle()
    crops = []
    for photo in (*whole, motorcycle):
        side = int(_CROP * min(photo.shape[:2]))
        down, right = photo.shape[0] - side, photo.shape[1] - side
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        crops += [np.ascontiguousarray(photo[y : y + side, x : x + side]) for y, x in corners]
    return crops


def save_photo(photo: Path | NDArray[np.uint8], path: Path) -> None:
    """Write a photo, in the middle square of 512 pixels, as a file."""
    pixels = photos_at([photo], 512)[0].pixels
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)


def stacked(photos: Iterable[Photo]) -> Float[Tensor, "B 3 H W"]:
    """The photos as one batch."""
    return torch.cat([photo.batch for photo in photos])

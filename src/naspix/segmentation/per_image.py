"""From a function of one numpy image to a segmenter of batches: what all baselines stand on.

In: images ``(B, C, H, W)`` in [0, 1] and a function that labels one ``(H, W, C)`` array. Out: a
``Segmentation`` on the images' device. Here too: the checks of parameters that are numbers.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from naspix.errors import InputError
from naspix.images import check_images
from naspix.segmentation.segmentation import Segmentation

ChannelLast = Float[np.ndarray, "H W C"]
LabelMap = Int[np.ndarray, "H W"]


def segment_each(
    images: Tensor,
    labels_of: Callable[[ChannelLast], LabelMap],
    *,
    source: str,
    n_segments: int = 1,
) -> Segmentation:
    """Segment each image by itself, channels last as scikit-image wants them."""
    if n_segments > count_pixels(images):
        raise InputError(
            f"n_segments is {n_segments}, more than the {count_pixels(images)} pixels of an image"
        )
    arrays = images.detach().float().cpu().permute(0, 2, 3, 1).contiguous().numpy()
    labels = np.stack([labels_of(image).astype(np.int64, copy=False) for image in arrays])
    return Segmentation(torch.from_numpy(labels).to(images.device), source=source)


def three_channels(image: ChannelLast) -> Float[np.ndarray, "H W _"]:
    """Return a grey image as a colour image, others as they are."""
    return np.repeat(image, 3 if image.shape[2] == 1 else 1, axis=2)


def count_pixels(images: Tensor) -> int:
    """Return the number of pixels of one image, once the images are known to be images."""
    check_images(images)
    return images.shape[-2] * images.shape[-1]


def require_positive(**values: float | int) -> None:
    """Raise ``InputError`` unless each of these parameters is more than zero."""
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"{name} is {value}; it must be more than 0")


def require_not_negative(**values: float | int) -> None:
    """Raise ``InputError`` unless each of these parameters is at least zero."""
    for name, value in values.items():
        if not value >= 0:
            raise InputError(f"{name} is {value}; it must not be negative")

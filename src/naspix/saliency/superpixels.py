"""Superpixels for methods that work on regions: a segmenter's, or SLIC's where none is given.

Images (B, C, H, W) in [0, 1] -> labels (B, H, W) int64, from 0 without gaps in each image. Methods
know segmenters only as callables whose result has ``superpixels``.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError

# as many as ``naspix.SLIC`` makes by default
N_SEGMENTS = 50
_COMPACTNESS = 10.0


@runtime_checkable
class Superpixels(Protocol):
    """What a segmenter returns, as far as methods look."""

    @property
    def superpixels(self) -> Tensor:
        """Labels ``(B, H, W)``."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Anything that cuts images into superpixels."""

    def __call__(self, images: Tensor, /) -> Superpixels:
        """Return the superpixels of ``images`` ``(B, C, H, W)``."""
        ...


def superpixels_of(
    method: object, segmenter: Segmenter | None, images: Float[Tensor, "B C H W"]
) -> Int64[Tensor, "B H W"]:
    """The superpixels of the images, numbered from 0 without gaps in each.

    Args:
        method: Who asks, for errors.
        segmenter: Any; None is SLIC on the colours.
        images: Values in [0, 1].

    Raises:
        InputError: superpixels of another shape than the images, or not integers.
    """
    if segmenter is None:
        arrays = images.detach().float().permute(0, 2, 3, 1).cpu().numpy()
        labels = torch.from_numpy(np.stack([slic_labels(array) for array in arrays]))
    else:
        labels = segmenter(images).superpixels
    expected = (len(images), *images.shape[-2:])
    if tuple(labels.shape) != expected or labels.is_floating_point():
        raise InputError(
            f"{type(method).__name__}: the segmenter's superpixels are {labels.dtype} of shape "
            f"{tuple(labels.shape)}, not integers of shape {expected}"
        )
    consecutive = [torch.unique(each, return_inverse=True)[1] for each in labels]
    return torch.stack(consecutive).to(images.device)


def slic_labels(
    array: Float[np.ndarray, "H W C"],
    n_segments: int = N_SEGMENTS,
    *,
    lab: bool = False,
) -> Int64[np.ndarray, "H W"]:
    """SLIC's labels from 0.

    Args:
        array: Colours in [0, 1]; three channels are compared in Lab.
        n_segments: About how many.
        lab: The array is in Lab already, or has channels on the scale of its lightness, 0 to 100.
    """
    from skimage.segmentation import slic

    convert = not lab and array.shape[2] == 3
    # scikit-image weighs position against values that it has scaled to [0, 1], then made Lab
    spread = 1.0 if convert else max(float(np.ptp(array)) * (1 if lab else 100), 1e-6)
    labels = slic(
        array,
        n_segments=min(n_segments, array.shape[0] * array.shape[1]),
        compactness=_COMPACTNESS / spread,
        start_label=0,
        channel_axis=-1,
        convert2lab=convert,
    )
    return np.asarray(labels).astype(np.int64)

"""What NAS is timed beside: other superpixels, and Algorithm 1 with its matrix.

Each is called as its own library offers it.
"""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from naspix.paper.timing import (
    N_SEGMENTS,
    Photo,
)

_OPENCV_ROUNDS = 10  # as many as scikit-image's SLIC runs at most


def slic(photo: Photo) -> NDArray[np.int64]:
    """scikit-image's own SLIC, about 20 superpixels, without this library's checks around it."""
    from skimage.segmentation import slic

    return np.asarray(slic(photo.pixels, n_segments=N_SEGMENTS, start_label=0), dtype=np.int64)


def felzenszwalb(photo: Photo) -> NDArray[np.int64]:
    """scikit-image's own Felzenszwalb at a scale that suits photos."""
    from skimage.segmentation import felzenszwalb

    labels = felzenszwalb(photo.pixels, scale=100, sigma=0.8, min_size=20)
    return np.asarray(labels, dtype=np.int64)


def opencv_slic() -> Callable[[Photo], object] | None:
    """OpenCV's SLIC, or None where OpenCV came without its contrib modules.

    The conversion to CIELAB and the joining of stray pixels are left out, in OpenCV's favour.
    """
    import cv2

    ximgproc = getattr(cv2, "ximgproc", None)
    if ximgproc is None:
        return None

    def segment(photo: Photo) -> object:
        lab = photo.lab
        size = max(1, round(math.sqrt(lab.shape[0] * lab.shape[1] / N_SEGMENTS)))
        segmenter = ximgproc.createSuperpixelSLIC(lab, algorithm=ximgproc.SLIC, region_size=size)
        segmenter.iterate(_OPENCV_ROUNDS)
        return segmenter.getLabels()

    return segment


def dense_points(
    activations: Sequence[Float[Tensor, "1 _ _ _"]], size: int
) -> Float[Tensor, "n_pixels D"]:
    """Lines 5 to 12 of Algorithm 1 as they stand: one row a pixel, one column a channel."""
    parts = []
    for activation in activations:
        upsampled = functional.interpolate(
            activation, size=(size, size), mode="bicubic", align_corners=False
        )
        norms = upsampled.norm(dim=1, keepdim=True).clamp_min(1e-12)
        parts.append(upsampled / norms / (1 + activation.shape[1]))
    return torch.cat(parts, dim=1)[0].flatten(1).T.contiguous()


def dense_kmeans(
    points: Float[Tensor, "n_pixels D"], n_clusters: int, seed: int = 0
) -> NDArray[np.int32]:
    """Line 13 by scikit-learn, from one start."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    fitted = KMeans(n_clusters, n_init=1, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # tiny pictures: fewer distinct points
        return np.asarray(fitted.fit(points.numpy()).labels_)


def inertia(points: Float[Tensor, "n_pixels D"], labels: Integer[Tensor, " n_pixels"]) -> float:
    """The sum of squared distances of points from the means of their clusters.

    Example:
        >>> inertia(torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 1]))
        2.0
    """
    total = 0.0
    for label in labels.unique():
        group = points[labels == label]
        mean = group.mean(0, dtype=torch.float64).to(group.dtype)
        total += float((group - mean).square().sum(dtype=torch.float64))
    return total

"""Algorithm 1 of the paper, line by line, with the matrix it names. Slow on purpose."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional


def literal_features(
    activations: list[Tensor],
    size: tuple[int, int],
    *,
    normalize: bool = True,
    weight: bool = True,
) -> Tensor:
    """Lines 5 to 12: the dense features, ``(B, D, H, W)``."""
    parts = []
    for activation in activations:
        upsampled = functional.interpolate(
            activation, size=size, mode="bicubic", align_corners=False
        )
        if normalize:  # line 10; a vector of zeros stays one
            norms = upsampled.norm(dim=1, keepdim=True)
            upsampled = torch.where(norms > 0, upsampled / norms, torch.zeros_like(upsampled))
        if weight:  # line 11
            upsampled = upsampled / (1 + activation.shape[1])
        parts.append(upsampled)
    return torch.cat(parts, dim=1)


def points_of(features: Tensor) -> np.ndarray:
    """One image's dense features as the matrix ``(HW, D)``."""
    return features[0].flatten(1).T.numpy()


def literal_kmeans(points: np.ndarray, centers: np.ndarray) -> KMeans:
    """Line 13 by scikit-learn, from given centres to the fixed point."""
    fitted = KMeans(len(centers), init=centers, n_init=1, tol=0, max_iter=1000, algorithm="lloyd")
    return fitted.fit(points)


def inertia(points: np.ndarray, labels: np.ndarray) -> float:
    """The sum of squared distances from the means of the clusters."""
    groups = [points[labels == label] for label in np.unique(labels)]
    return float(sum(((group - group.mean(0)) ** 2).sum() for group in groups))

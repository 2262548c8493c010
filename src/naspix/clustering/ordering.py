"""The canonical order of cluster labels: by size, so that colours stay put over K, runs and cuts.

In: any int64 label maps. Out: the same partitions with labels ``0..K-1``, the largest cluster
    first.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor


def canonical_ranks(sizes: Sequence[int], first_pixels: Sequence[int]) -> list[int]:
    """Return the canonical label of each cluster: by size, largest first, ties by first pixel.

    Args:
        sizes: Number of pixels of each cluster; empty ones come last.
        first_pixels: Row-major index of the first pixel of each cluster, to break ties.

    Example:
        >>> canonical_ranks([3, 5, 3], [1, 0, 2])
        [1, 0, 2]
    """
    order = sorted(range(len(sizes)), key=lambda k: (-sizes[k], first_pixels[k]))
    ranks = [0] * len(sizes)
    for rank, cluster in enumerate(order):
        ranks[cluster] = rank
    return ranks


def canonical_order(clusters: Int64[Tensor, "B H W"]) -> Int64[Tensor, "B H W"]:
    """Rename the clusters of every image by size: 0 is the largest, ties go by first pixel.

    Args:
        clusters: Label maps; labels need not be consecutive.

    Example:
        >>> canonical_order(torch.tensor([[[7, 7, 2], [2, 2, 9]]]))
        tensor([[[1, 1, 0], [0, 0, 2]]])
    """
    renamed = torch.empty_like(clusters)
    for index, labels in enumerate(clusters.flatten(1)):
        _, dense, sizes = labels.unique(return_inverse=True, return_counts=True)
        positions = torch.arange(len(labels), device=labels.device)
        first_pixels = torch.full_like(sizes, len(labels))
        first_pixels.scatter_reduce_(0, dense, positions, reduce="amin")
        ranks = canonical_ranks(sizes.tolist(), first_pixels.tolist())
        renamed[index] = torch.tensor(ranks, device=labels.device)[dense].view(clusters.shape[1:])
    return renamed

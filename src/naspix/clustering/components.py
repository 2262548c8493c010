"""Clusters to superpixels: the connected components of every cluster (Algorithm 1, last step).

Label maps ``(B, H, W)`` in, label maps ``(B, H, W)`` int64 out, on the same device. The labelling
is scikit-image's single pass over all clusters at once; fragments smaller than ``min_size`` may be
merged into the neighbour that is nearest in feature space, which the paper does not do.
"""

import heapq
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures
from naspix.errors import InputError
from naspix.native import label_components, why_not

_MASKS_AT_ONCE = 64  # superpixels whose masks are held together while their features are summed


def superpixels_from_clusters(
    clusters: Integer[Tensor, "B H W"],
    *,
    connectivity: Literal[4, 8] = 4,
    min_size: int = 0,
    features: UpsampledFeatures | None = None,
) -> Int64[Tensor, "B H W"]:
    """Number the connected components of equal label in every image.

    The clusters stay as they are: where fragments are merged, a superpixel may hold a few pixels of
    another cluster than its own.

    Args:
        clusters: Non-negative labels, one map per image.
        connectivity: 4 joins pixels that share a side, 8 also those that share a corner.
        min_size: Superpixels of fewer pixels are merged, the smallest first, into the side
            neighbour whose mean feature is nearest; 0 and 1 merge nothing.
        features: What the mean features are taken from; only needed where something is merged.

    Returns:
        Ids from 0 without gaps in each image, in raster order of each superpixel's first pixel.

    Raises:
        InputError: If a label is negative, ``connectivity`` is neither 4 nor 8, ``min_size`` is
            negative, or fragments are to be merged without (fitting) features.

    Example:
        >>> clusters = torch.tensor([[[0, 1, 0], [1, 0, 0]]])
        >>> superpixels_from_clusters(clusters)
        tensor([[[0, 1, 2], [3, 2, 2]]])
        >>> superpixels_from_clusters(clusters, connectivity=8)
        tensor([[[0, 1, 0], [1, 0, 0]]])
    """
    if connectivity not in (4, 8):
        raise InputError(f"connectivity is {connectivity}; it must be 4 (sides) or 8 (corners too)")
    if min_size < 0:
        raise InputError(f"min_size is {min_size}; give a number of pixels, 0 to merge nothing")
    labels = clusters.detach().to("cpu", torch.int64).contiguous()
    if labels.numel() and int(labels.min()) < 0:
        raise InputError(f"clusters hold the label {int(labels.min())}; labels count from 0")
    if labels.numel() and why_not() is None:
        superpixels = label_components(labels, corners=connectivity == 8).numpy()
    else:
        superpixels = _components(labels.numpy(), connectivity)
    if min_size > 1:
        if features is None:
            raise InputError("min_size merges by features; pass features= or leave min_size at 0")
        if (features.batch_size, *features.size) != superpixels.shape:
            raise InputError(
                f"features are of {features.batch_size} images of size {tuple(features.size)}, "
                f"clusters of {len(superpixels)} of size {superpixels.shape[1:]}; both must be the "
                "same"
            )
        for b, ids in enumerate(superpixels):
            superpixels[b] = _merge_fragments(ids, min_size, features.image(b))
    return torch.from_numpy(superpixels).to(clusters.device)


def _components(
    maps: Int64[np.ndarray, "B H W"], connectivity: Literal[4, 8]
) -> Int64[np.ndarray, "B H W"]:
    """The same by scikit-image."""
    from skimage.measure import label  # here, so that importing naspix stays fast

    orthogonal_steps = 1 if connectivity == 4 else 2  # scikit-image's word for the same
    superpixels = np.empty(maps.shape, np.int64)
    for image, out in zip(maps, superpixels, strict=True):
        np.subtract(label(image, -1, connectivity=orthogonal_steps), 1, out=out)
    return superpixels


def touching_pairs(labels: Integer[np.ndarray, "H W"]) -> Int64[np.ndarray, "n 2"]:
    """List the pairs of labels that share a pixel side, each once, the smaller label first.

    Example:
        >>> touching_pairs(np.array([[0, 1], [2, 1]])).tolist()
        [[0, 1], [0, 2], [1, 2]]
    """
    across = np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()])
    down = np.stack([labels[:-1].ravel(), labels[1:].ravel()])
    pairs = np.concatenate([across, down], axis=1)
    pairs = np.sort(pairs[:, pairs[0] != pairs[1]], axis=0).astype(np.int64)
    base = int(labels.max(initial=0)) + 1
    codes = np.unique(pairs[0] * base + pairs[1])
    return np.stack([codes // base, codes % base], axis=1)


def _merge_fragments(
    ids: Int64[np.ndarray, "H W"], min_size: int, features: UpsampledFeatures
) -> Int64[np.ndarray, "H W"]:
    """Merge superpixels below ``min_size``, smallest first, and number the rest anew."""
    sizes = np.bincount(ids.ravel())
    small = [(int(size), i) for i, size in enumerate(sizes) if size < min_size]
    if not small:
        return ids
    sums = _feature_sums(ids, len(sizes), features)
    neighbours: list[set[int]] = [set() for _ in sizes]
    for i, j in touching_pairs(ids).tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    home = np.arange(len(sizes))
    heapq.heapify(small)
    while small:
        size, i = heapq.heappop(small)
        if home[i] != i or size != sizes[i] or not neighbours[i]:
            continue  # merged already, grown since it was queued, or the only one left
        near = np.array(sorted(neighbours[i]))
        means = sums[near] / sizes[near, None]
        j = int(near[np.square(means - sums[i] / size).sum(1).argmin()])
        home[home == i] = j
        sums[j] += sums[i]
        sizes[j] += size
        for other in neighbours[i]:
            neighbours[other].discard(i)
            neighbours[other].add(j)
        neighbours[j] |= neighbours[i]
        neighbours[j].discard(j)
        if sizes[j] < min_size:
            heapq.heappush(small, (int(sizes[j]), j))
    return _numbered_by_first_pixel(home[ids])


def _feature_sums(
    ids: Int64[np.ndarray, "H W"], n: int, features: UpsampledFeatures
) -> Float[np.ndarray, "n D"]:
    """Sum the features over each superpixel, some masks at a time to spare memory."""
    level = features.levels[0]
    labels = torch.from_numpy(ids).to(level.device)
    sums = []
    for start in range(0, n, _MASKS_AT_ONCE):
        chosen = torch.arange(start, min(start + _MASKS_AT_ONCE, n), device=level.device)
        masks = (labels == chosen[:, None, None]).to(level.dtype)
        sums.append(features.cluster_sums(masks[None])[0])
    return torch.cat(sums).cpu().double().numpy()


def _numbered_by_first_pixel(labels: Int64[np.ndarray, "H W"]) -> Int64[np.ndarray, "H W"]:
    """Number labels from 0 in the raster order of their first pixels."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(labels.shape)]

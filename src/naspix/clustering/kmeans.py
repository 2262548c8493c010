"""k-means on upsampled features (line 13 of Algorithm 1), at the resolution of the activations.

A centre is a mean of features, so it is ``sum_q r(q) X_q`` for some coefficients ``r`` over the
cells ``q`` of the activations. Lloyd's iterations keep what the assignment needs of it: the map
``X^T X r`` (one number a cell) and ``-|c|^2 / 2``. Starts are drawn on large tiles of pixels,
several at once; Lloyd's iterations then run on smaller tiles, and the last ones, on every pixel,
decide.

In: :class:`~naspix.clustering.features.UpsampledFeatures`. Out: label maps ``(B, H, W)``.
"""

import math
import warnings

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.lloyd import Centers, lloyd
from naspix.clustering.ordering import canonical_ranks
from naspix.clustering.starts import best_start
from naspix.errors import InputError, NaspixWarning

_MOST_TILES = 4096  # where k-means starts, however many clusters
_TILES_ACROSS = 9.5  # at least so many, on the geometric mean of both axes
_SMALL_ENOUGH = 8  # tiles of so many pixels across need no smaller ones between them and the frame
_LEAST_TILE_TOL = 0.002  # share of tiles that may change in the last step on them
_STRIDE = 2.75  # over-relaxation towards a strict stop: about a third fewer steps
_STRIDE_BELOW = 0.005  # with a looser ``tol`` it saves nothing
_CHUNK_BYTES = 4 << 30  # three (B, K, H, W) tensors are held at a time


def kmeans(
    features: UpsampledFeatures,
    n_clusters: int,
    *,
    n_init: int = 8,
    max_iter: int = 300,
    tol: float | int = 0.01,
    seed: int = 0,
    init: Float[Tensor, "_ _ _"] | None = None,
) -> Int64[Tensor, "B H W"]:
    """Cluster the pixels of every image by k-means.

    Maximises ``sum_p max_k (<phi(p), c_k> - |c_k|^2 / 2)``, which is minimising the inertia. An
    exact tie goes to the first cluster; a cluster left empty is re-seeded at the pixel farthest
    from its centre. Labels are in canonical order: 0 is the largest cluster.

    Args:
        features: The features of a batch of images; each image is clustered on its own.
        n_clusters: K, at most the number of pixels. Where an image has fewer distinct features, it
            gets fewer clusters, with a warning.
        n_init: Number of k-means++ starts, of which the best on large tiles of pixels is kept.
        max_iter: Most steps on the full frame.
        tol: Share of the pixels that may still change cluster in the last step; 0 runs to the fixed
            point.
        seed: Of the starts. The same for every image of the batch, so that an image's labels do not
            depend on its neighbours.
        init: Centres to begin with in place of k-means++; Lloyd's iterations then run on the full
            frame alone, exactly as scikit-learn's do.

    Raises:
        InputError: If a number is out of its range.

    Source:
        Algorithm 1, line 13. Greedy k-means++: Arthur and Vassilvitskii (2007), with the local
        trials of scikit-learn; iterations: Lloyd (1982).

    Example:
        >>> activations = [torch.rand(1, 8, 6, 6, generator=torch.Generator().manual_seed(0))]
        >>> clusters = kmeans(UpsampledFeatures(activations, (24, 24)), 3)
        >>> clusters.shape, clusters.unique()
        (torch.Size([1, 24, 24]), tensor([0, 1, 2]))
    """
    _check_arguments(features, n_clusters, n_init, max_iter, tol, init)
    images_at_once = _images_at_once(features, n_clusters)
    labels, n_found = [], []
    for start in range(0, features.batch_size, images_at_once):
        with torch.inference_mode():  # which spares each of many small operations some time
            chunk = features.images(start, start + images_at_once)
            if init is None:
                stride = _STRIDE if tol < _STRIDE_BELOW else 1.0
                centers = _coarse_to_fine(chunk, n_clusters, n_init, seed, tol, stride)
            else:
                stride = 1.0
                centers = Centers.at(chunk, init[start : start + images_at_once])
            membership, _ = lloyd(chunk, centers, tol=tol, max_iter=max_iter, stride=stride)
            chunk_labels, chunk_found = _canonical_labels(membership)
        labels.append(chunk_labels.long())
        n_found += chunk_found
    if min(n_found) < n_clusters:
        warnings.warn(
            f"{sum(n < n_clusters for n in n_found)} of {len(n_found)} images have fewer distinct "
            f"features than n_clusters={n_clusters} and got fewer clusters, down to {min(n_found)}",
            NaspixWarning,
            stacklevel=2,
        )
    return torch.cat(labels) if len(labels) > 1 else labels[0]


def _images_at_once(features: UpsampledFeatures, n_clusters: int) -> int:
    """Return how many images are iterated together: on a GPU many, on a CPU one.

    A batch that leaves a CPU's cache is slower than image by image.
    """
    if features.levels[0].device.type == "cpu":
        return 1
    return max(1, _CHUNK_BYTES // (3 * 4 * n_clusters * features.n_pixels))


def _coarse_to_fine(
    features: UpsampledFeatures,
    n_clusters: int,
    n_init: int,
    seed: int,
    tol: float | int,
    stride: float,
) -> Centers:
    """Return centres that iterations on larger and smaller tiles brought near a fixed point."""
    large, *small = _tile_sides(features.size, n_clusters)
    centers = best_start(features.tiles(large), n_clusters, n_init, seed)
    for side in small:
        tiles = features.tiles(side)
        tile_tol = max(_LEAST_TILE_TOL, 2 * tol)
        _, centers = lloyd(tiles, centers, tol=tile_tol, max_iter=50, stride=stride)
    return centers


def _tile_sides(size: tuple[int, int], n_clusters: int) -> list[int]:
    """Return the sides of the tiles, falling: 8 pixels at 96 x 96, 16 and 4 at 224 x 224.

    Powers of two, so that small tiles make up large ones. There are some hundred large tiles, and
    seven for each cluster where the frame has them (fewer for thousands of clusters, since all
    pairs of tiles are multiplied).
    """
    n_needed = min(7 * n_clusters, max(_MOST_TILES, 2 * n_clusters))
    n_across = max(_TILES_ACROSS, math.sqrt(n_needed))
    exponent = int(math.log2(max(1.0, math.sqrt(size[0] * size[1]) / n_across)))
    large, small = 2**exponent, 2 ** ((exponent + 1) // 2)
    return [large, small] if large > _SMALL_ENOUGH else [large]


def _canonical_labels(
    membership: Float[Tensor, "B K H W"],
) -> tuple[Float[Tensor, "B H W"], list[int]]:
    """Return the label of every pixel, clusters in canonical order, and each image's clusters."""
    flat = membership.flatten(2)
    ranks, n_found = [], []
    for image, sizes in zip(flat, flat.sum(2).long().tolist(), strict=True):
        first_pixels = [0] * len(sizes)
        if len(set(sizes)) < len(sizes):
            first_pixels = image.argmax(1).tolist()
        ranks.append(canonical_ranks(sizes, first_pixels))
        n_found.append(sum(size > 0 for size in sizes))
    weights = torch.tensor(ranks, dtype=flat.dtype, device=flat.device)[:, None]  # (B, 1, K)
    return (weights @ flat).view(len(flat), *membership.shape[2:]), n_found


def _check_arguments(
    features: UpsampledFeatures,
    n_clusters: int,
    n_init: int,
    max_iter: int,
    tol: float | int,
    init: Tensor | None,
) -> None:
    if not 1 <= n_clusters <= features.n_pixels:
        raise InputError(
            f"n_clusters is {n_clusters}; choose 1 to {features.n_pixels}, the number of pixels"
        )
    if n_init < 1 or max_iter < 1 or not 0 <= tol < 1:
        raise InputError(
            f"n_init={n_init}, max_iter={max_iter} and tol={tol}: the first two are at least 1 and "
            "tol is a share of the pixels, 0 up to but not 1"
        )
    if init is not None and init.shape != (features.batch_size, n_clusters, features.n_dims):
        raise InputError(
            f"init has shape {tuple(init.shape)}; give (B, K, D) = "
            f"({features.batch_size}, {n_clusters}, {features.n_dims})"
        )

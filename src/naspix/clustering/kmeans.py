"""k-means on upsampled features (line 13 of Algorithm 1), at the resolution of the activations.

A centre is a mean of features, so it is ``sum_q r(q) X_q`` for some coefficients ``r`` over the
cells ``q`` of the activations. Lloyd's iterations keep what the assignment needs of it: the map
``X^T X r`` (one number a cell) and ``-|c|^2 / 2``. Starts are drawn on a coarse grid of pixels,
several at once; Lloyd's iterations then run on finer and finer grids, and the last ones, on every
pixel, decide.

In: :class:`~naspix.clustering.features.UpsampledFeatures`. Out: label maps ``(B, H, W)``.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.ordering import canonical_ranks
from naspix.errors import InputError, NaspixWarning

_MOST_START_PIXELS = 4096  # on the coarsest grid, however many clusters
_START_STEPS = 4  # on the coarsest grid, for each start
_MIDDLE_TOL = 0.01  # share of pixels that may change in the last step on the grid between
_INDISTINCT = 1e-6  # squared distance, as a share of |phi|^2, that float32 cannot tell from zero
_CHUNK_BYTES = 4 << 30  # three (B, K, H, W) tensors are held at a time


def kmeans(
    features: UpsampledFeatures,
    n_clusters: int,
    *,
    n_init: int = 4,
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
        n_init: Number of k-means++ starts, of which the best on a coarse grid of pixels is kept.
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
    labels = []
    for start in range(0, features.batch_size, images_at_once):
        chunk = features.images(start, start + images_at_once)
        if init is None:
            centers = _coarse_to_fine(chunk, n_clusters, n_init, seed)
        else:
            centers = _Centers.at(chunk, init[start : start + images_at_once])
        membership, _ = _lloyd(chunk, centers, tol=tol, max_iter=max_iter)
        labels.append(_canonical_labels(membership))
    n_found = [int(image.max()) + 1 for image in labels for image in image]
    if min(n_found) < n_clusters:
        warnings.warn(
            f"{sum(n < n_clusters for n in n_found)} of {len(n_found)} images have fewer distinct "
            f"features than n_clusters={n_clusters} and got fewer clusters, down to {min(n_found)}",
            NaspixWarning,
            stacklevel=2,
        )
    return torch.cat(labels)


def _images_at_once(features: UpsampledFeatures, n_clusters: int) -> int:
    """Return how many images are iterated together: on a GPU many, on a CPU one.

    A batch that leaves a CPU's cache is slower than image by image.
    """
    if features.levels[0].device.type == "cpu":
        return 1
    return max(1, _CHUNK_BYTES // (3 * 4 * n_clusters * features.n_pixels))


@dataclass(frozen=True, eq=False)
class _Centers:
    """What an assignment needs of K centres: it scores ``<phi(p), c> - |c|^2 / 2``."""

    maps: Tensor  # (B, K, N): <X_q, c> at every cell q of every level
    offset: Tensor  # (B, K, 1, 1): -|c|^2 / 2, or minus infinity for a centre that is given up

    @classmethod
    def at(cls, features: UpsampledFeatures, vectors: Tensor) -> "_Centers":
        """The centres that these vectors ``(B, K, D)`` are."""
        offset = vectors.square().sum(2)[:, :, None, None] * -0.5
        return cls(features.project(vectors), offset)

    @classmethod
    def mean(
        cls,
        features: UpsampledFeatures,
        sums: Tensor,
        sizes: Tensor,
        *,
        before: "_Centers | None" = None,
        stride: float = 1.0,
    ) -> "_Centers":
        """The means of clusters, from sums (as coefficients) and sizes ``(B, K)``.

        With a stride of s, the centres lie s times as far from those before as the means do.
        """
        coefficients = sums.div_(sizes.clamp_min(1)[:, :, None])
        maps = features.correlate(coefficients)
        half_norms = torch.linalg.vecdot(coefficients, maps).mul_(0.5)  # |c|^2 / 2
        if before is not None and stride != 1.0:
            crossed = torch.linalg.vecdot(coefficients, before.maps)  # <c, c before>
            half_norms.mul_(stride**2).add_(crossed, alpha=stride * (1 - stride))
            half_norms.sub_(before.offset[:, :, 0, 0], alpha=(1 - stride) ** 2)
            maps = torch.lerp(before.maps, maps, stride)
        offset = half_norms.neg_().masked_fill_(sizes == 0, -torch.inf)
        return cls(maps, offset[:, :, None, None])

    def unless(self, settled: Sequence[bool], others: "_Centers") -> "_Centers":
        """These centres, but the others for the images that are settled."""
        keep = torch.tensor(settled, device=self.offset.device)[:, None, None]
        return _Centers(
            torch.where(keep, others.maps, self.maps),
            torch.where(keep[..., None], others.offset, self.offset),
        )


def _coarse_to_fine(
    features: UpsampledFeatures, n_clusters: int, n_init: int, seed: int
) -> _Centers:
    """Return centres that iterations on coarser grids have brought close to a fixed point."""
    *middle, coarsest = _grid_steps(features.size, n_clusters)
    centers = _best_start(features.every(coarsest), n_clusters, n_init, seed)
    for step in reversed(middle):
        _, centers = _lloyd(features.every(step), centers, tol=_MIDDLE_TOL, max_iter=20)
    return centers


def _grid_steps(size: tuple[int, int], n_clusters: int) -> list[int]:
    """Return the distances in pixels of the coarser grids, rising: 4, 12 at 96 x 96 and K = 5.

    The coarsest grid has about as many pixels as the frame has rows, and eight for each cluster
    where the frame has them (fewer for thousands of clusters, since all its pairs are multiplied).
    """
    side = min(size)
    n_needed = min(8 * n_clusters, max(_MOST_START_PIXELS, 2 * n_clusters))
    coarsest = min(1.2 * math.sqrt(side), math.sqrt(size[0] * size[1] / n_needed))
    coarsest = max(1, int(coarsest + 0.5) if coarsest > 1.5 else int(coarsest))
    middle = math.ceil(math.sqrt(coarsest))
    return [middle, coarsest] if 1 < middle < coarsest else [coarsest]


def _best_start(grid: UpsampledFeatures, n_clusters: int, n_init: int, seed: int) -> _Centers:
    """Run k-means from several k-means++ starts on a coarse grid and return the best one's centres.

    The grid is so coarse that the inner products of all pairs of its pixels are one small matrix,
    and all starts of all images are iterated together on it.
    """
    products = grid.pixel_products()  # (B, P, P)
    seeds = _plus_plus(products, n_clusters, n_init, seed)  # (B, S, K)
    images = torch.arange(len(products), device=products.device)[:, None, None]
    half_norms = products.diagonal(dim1=1, dim2=2) / 2
    scores = products[images, seeds] - half_norms[images, seeds][..., None]  # (B, S, K, P)
    membership, sizes = _first_best(scores, dim=2)
    for _ in range(_START_STEPS):
        means = membership / sizes.clamp_min_(1)[..., None]
        scores = (means.flatten(1, 2) @ products).view_as(means)  # <phi(p), c>
        half_norms = (means * scores).sum(3, keepdim=True) / 2  # |c|^2 / 2
        membership, sizes = _first_best(scores.sub_(half_norms), dim=2)
    explained = (2 * half_norms[..., 0] * sizes).sum(2)  # sum of n_k |c_k|^2, (B, S)
    best = explained.argmax(1, keepdim=True)
    chosen = membership[images[..., 0], best][:, 0].unflatten(2, grid.size)
    return _Centers.mean(grid, grid.collect(chosen), sizes[images[..., 0], best][:, 0])


def _plus_plus(
    products: Float[Tensor, "B P P"], n_clusters: int, n_init: int, seed: int
) -> Int64[Tensor, "B S K"]:
    """Draw greedy k-means++ seeds from the inner products of all pairs of pixels.

    Each next seed is the best of a few pixels drawn with probability proportional to their squared
    distance from the seeds before. All images use the same random numbers.
    """
    n_images, n_pixels, _ = products.shape
    n_trials = 2 + int(math.log(n_clusters))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(n_clusters, n_init, n_trials, generator=generator, dtype=torch.float64)
    draws = draws.to(products.device, products.dtype)
    images = torch.arange(n_images, device=products.device)[:, None, None]
    own = products.diagonal(dim1=1, dim2=2)
    distances = (own[:, :, None] + own[:, None, :] - 2 * products).clamp_min_(0)

    first = (draws[0, :, 0] * n_pixels).long().expand(n_images, n_init)
    seeds = [first]
    closest = distances[images[..., 0], first]  # (B, S, P), to the nearest seed
    for k in range(1, n_clusters):
        cumulated = closest.cumsum(2)
        targets = draws[k] * cumulated[:, :, -1:]  # (B, S, trials)
        candidates = torch.searchsorted(cumulated, targets).clamp_max_(n_pixels - 1)
        with_candidate = torch.minimum(closest[:, :, None], distances[images, candidates])
        best = with_candidate.sum(3).argmin(2, keepdim=True)  # (B, S, 1)
        seeds.append(candidates.gather(2, best)[:, :, 0])
        closest = torch.minimum(closest, distances[images[..., 0], seeds[-1]])
    return torch.stack(seeds, dim=2)


def _lloyd(
    features: UpsampledFeatures,
    centers: _Centers,
    *,
    tol: float | int,
    max_iter: int,
    stride: float = 1.0,
) -> tuple[Float[Tensor, "B K H W"], _Centers]:
    """Iterate until at most ``tol`` of each image's pixels change cluster in a step.

    Returns:
        The membership, one 1 among K a pixel, and the centres it was assigned to.
    """
    shape = (features.batch_size, centers.offset.shape[1], *features.size)
    scores, scratch, previous = (centers.offset.new_empty(shape) for _ in range(3))
    settled = [False] * features.batch_size
    for step in range(max_iter):
        features.expand(centers.maps, offset=centers.offset, out=scores, scratch=scratch)
        membership, sizes = _first_best(scores, dim=1)
        kept = membership
        reseeded = [False] * features.batch_size
        if not bool(sizes.all()):
            membership, sizes, reseeded = _reseed(features, centers, kept, sizes)
        if step > 0:
            n_kept = torch.bmm(kept.view(len(kept), 1, -1), previous.view(len(kept), -1, 1))
            settled = [
                done or (n >= (1 - tol) * features.n_pixels and not moved)
                for done, n, moved in zip(settled, n_kept.flatten().tolist(), reseeded, strict=True)
            ]
        if all(settled) or step == max_iter - 1:
            break
        sums = features.collect(membership, scratch=scratch)
        moved = _Centers.mean(
            features, sums, sizes, before=centers, stride=1.0 if any(reseeded) else stride
        )
        centers = moved.unless(settled, centers) if any(settled) else moved
        scores, previous = previous, kept
    return kept, centers


def _reseed(
    features: UpsampledFeatures, centers: _Centers, membership: Tensor, sizes: Tensor
) -> tuple[Tensor, Tensor, list[bool]]:
    """Give each empty cluster the pixel farthest from its centre, for the next means.

    Where no pixel is distinct from its centre the cluster stays empty and is given up.

    Returns:
        The membership and sizes with the moved pixels, and for each image whether one was moved.
    """
    scores = features.expand(centers.maps, offset=centers.offset)
    norms = features.squared_norms().flatten(1)
    distances = norms - 2 * scores.amax(1).flatten(1)  # to the nearest centre
    membership = membership.clone()
    pixels_of = membership.flatten(2)  # a view: writing to it writes to membership
    reseeded = []
    for image in range(len(sizes)):
        empty = (sizes[image] == 0).nonzero()[:, 0]
        farthest = distances[image].topk(len(empty))
        distinct = farthest.values > _INDISTINCT * norms[image].max()
        for cluster, pixel in zip(empty[distinct], farthest.indices[distinct], strict=True):
            pixels_of[image, :, pixel] = 0
            pixels_of[image, cluster, pixel] = 1
        reseeded.append(bool(distinct.any()))
    return membership, membership.sum((2, 3)), reseeded


def _first_best(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Overwrite scores by 1 where they are the first greatest along ``dim``, 0 elsewhere.

    ``argmax`` over an outer axis is some hundred times slower on a CPU than this comparison.

    Returns:
        The membership, and the number of pixels of each cluster: summed over what follows ``dim``.
    """
    best = scores.amax(dim, keepdim=True)
    n_pixels = best.numel()
    membership = scores.eq_(best)
    sizes = membership.flatten(dim + 1).sum(-1)
    if float(sizes.sum()) != n_pixels:  # an exact tie: the first cluster keeps the pixel
        membership.mul_(membership.cumsum(dim) == 1)
        sizes = membership.flatten(dim + 1).sum(-1)
    return membership, sizes


def _canonical_labels(membership: Float[Tensor, "B K H W"]) -> Int64[Tensor, "B H W"]:
    """Return the label of every pixel, clusters in canonical order."""
    flat = membership.flatten(2)
    ranks = []
    for image, sizes in zip(flat, flat.sum(2).long().tolist(), strict=True):
        first_pixels = [0] * len(sizes)
        if len(set(sizes)) < len(sizes):
            first_pixels = image.argmax(1).tolist()
        ranks.append(canonical_ranks(sizes, first_pixels))
    weights = torch.tensor(ranks, dtype=flat.dtype, device=flat.device)[:, None]  # (B, 1, K)
    return (weights @ flat).view(len(flat), *membership.shape[2:]).long()


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

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
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.ordering import canonical_ranks
from naspix.clustering.starts import best_start, first_best, uniform_numbers
from naspix.errors import InputError, NaspixWarning
from naspix.native import cluster_images, route

_MOST_TILES = 4096  # where k-means starts, however many clusters
_TILES_ACROSS = 9.5  # at least so many, on the geometric mean of both axes
_SMALL_ENOUGH = 8  # tiles of so many pixels across need no smaller ones between them and the frame
_LEAST_TILE_TOL = 0.002  # share of tiles that may change in the last step on them
_MOST_TILE_STEPS = 50
_STRIDE = 2.75  # over-relaxation towards a strict stop: about a third fewer steps
_STRIDE_BELOW = 0.005  # with a looser ``tol`` it saves nothing
_PLAIN_SHARE = 0.0003  # share of pixels that change, below which steps are plain
_LAST_LONG_STEP = 60  # later ones are plain, so that the iteration ends
_INDISTINCT = 1e-6  # squared distance, as a share of |phi|^2, that float32 cannot tell from zero
_CHUNK_BYTES = 4 << 30  # three (B, K, H, W) tensors are held at a time


@dataclass(frozen=True, eq=False)
class Centers:
    """What an assignment needs of K centres: it scores ``<phi(p), c> - |c|^2 / 2``."""

    products: Tensor  # (B, K, N): <X_q, c> at every cell q of every level
    offset: Tensor  # (B, K, 1, 1): -|c|^2 / 2, or minus infinity for a centre that is given up

    @classmethod
    def at(cls, features: UpsampledFeatures, vectors: Tensor) -> "Centers":
        """The centres that these vectors ``(B, K, D)`` are."""
        offset = vectors.square().sum(2)[:, :, None, None] * -0.5
        return cls(features.products_with(vectors), offset)

    @classmethod
    def mean(cls, features: UpsampledFeatures, sums: Tensor, sizes: Tensor) -> "Centers":
        """The means of clusters, from sums (as coefficients) and sizes ``(B, K)``."""
        return cls.beyond(None, features, sums, sizes, [1.0] * len(sizes))

    @classmethod
    def beyond(
        cls,
        before: "Centers | None",
        features: UpsampledFeatures,
        sums: Tensor,
        sizes: Tensor,
        strides: Sequence[float],
    ) -> "Centers":
        """The centres that lie ``stride`` times as far from those before as the means do."""
        empty = sizes == 0 if _any_empty(sizes) else None
        if empty is not None:
            sizes = sizes.clamp_min(1)
        coefficients = sums.div_(sizes[:, :, None])
        products = features.products_of(coefficients)
        offset = torch.linalg.vecdot(coefficients, products).mul_(-0.5)  # -|c|^2 / 2
        if before is not None and any(stride != 1.0 for stride in strides):
            stride = sizes.new_tensor(strides)[:, None]  # (B, 1)
            crossed = torch.linalg.vecdot(coefficients, before.products)  # <c, c before>
            offset = (
                stride.square() * offset
                - stride * (1 - stride) * crossed
                + (1 - stride).square() * before.offset[:, :, 0, 0]
            )
            products = torch.lerp(before.products, products, stride[:, :, None])
        if empty is not None:
            offset.masked_fill_(empty, -torch.inf)
        return cls(products, offset[:, :, None, None])

    def unless(self, settled: Sequence[bool], others: "Centers") -> "Centers":
        """These centres, but the others for the images that are settled."""
        keep = torch.tensor(settled, device=self.offset.device)[:, None, None]
        return Centers(
            torch.where(keep, others.products, self.products),
            torch.where(keep[..., None], others.offset, self.offset),
        )


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
    if route(*features.levels, *features.scales, *(() if init is None else (init,))):
        labels, left = _compiled(features, n_clusters, n_init, max_iter, tol, seed, init)
    else:
        device = features.levels[0].device
        labels = torch.empty(features.batch_size, *features.size, dtype=torch.int64, device=device)
        left = list(range(features.batch_size))
    images_at_once = _images_at_once(features, n_clusters)
    n_found = [n_clusters] * features.batch_size
    for start in range(0, len(left), images_at_once):
        images = left[start : start + images_at_once]
        part = slice(images[0], images[-1] + 1)  # one image, or all of a batch
        with torch.inference_mode():  # which spares each of many small operations some time
            chunk = features.images(part.start, part.stop)
            if init is None:
                centers = _coarse_to_fine(chunk, n_clusters, n_init, seed, tol)
                stride = _stride_towards(tol)
            else:
                centers, stride = Centers.at(chunk, init[part]), 1.0
            membership, _ = lloyd(chunk, centers, tol=tol, max_iter=max_iter, stride=stride)
            labels[part], n_found[part] = _canonical_labels(membership)
    if min(n_found) < n_clusters:
        warnings.warn(
            f"{sum(n < n_clusters for n in n_found)} of {len(n_found)} images have fewer distinct "
            f"features than n_clusters={n_clusters} and got fewer clusters, down to {min(n_found)}",
            NaspixWarning,
            stacklevel=2,
        )
    return labels


def _compiled(
    features: UpsampledFeatures,
    n_clusters: int,
    n_init: int,
    max_iter: int,
    tol: float | int,
    seed: int,
    init: Tensor | None,
) -> tuple[Int64[Tensor, "B H W"], list[int]]:
    """The same by the compiled part: labels, and the images where a cluster was left empty."""
    sides = [] if init is not None else _tile_sides(features.size, n_clusters)
    large, small, *_ = [*sides, 0, 0]
    draws = None
    if init is None:
        level = features.levels[0]
        draws = uniform_numbers(n_clusters, n_init, seed, level.dtype, level.device)
    return cluster_images(
        features.compiled_levels(sides),
        n_clusters,
        tiles=(large, small),
        draws=draws,
        init=init,
        tol=tol,
        tile_tol=_tile_tol(tol),
        max_iter=max_iter,
        tile_max_iter=_MOST_TILE_STEPS,
        long_stride=1.0 if init is not None else _stride_towards(tol),
    )


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
) -> Centers:
    """Return centres that iterations on larger and smaller tiles brought near a fixed point."""
    large, *small = _tile_sides(features.size, n_clusters)
    tiles = features.tiles(large)
    membership, sizes = best_start(tiles, n_clusters, n_init, seed)
    centers = Centers.mean(tiles, tiles.collect(membership), sizes)
    for side in small:
        _, centers = lloyd(
            features.tiles(side),
            centers,
            tol=_tile_tol(tol),
            max_iter=_MOST_TILE_STEPS,
            stride=_stride_towards(tol),
        )
    return centers


def _tile_tol(tol: float | int) -> float:
    """Return the share of small tiles that may change in the last step on them."""
    return max(_LEAST_TILE_TOL, 2 * tol)


def _stride_towards(tol: float | int) -> float:
    """Return how far a long step goes: over-relaxation pays towards a strict stop only."""
    return _STRIDE if tol < _STRIDE_BELOW else 1.0


def _tile_sides(size: tuple[int, int], n_clusters: int) -> list[int]:
    """Return the sides of the tiles, falling: 8 pixels at 96 x 96, 16 and 4 at 224 x 224.

    Powers of two, so that small tiles make up large ones. There are some hundred large tiles, and
    seven for each cluster where the frame has them (fewer for thousands of clusters, since all
    pairs of tiles are multiplied).
    """
    most = max(_MOST_TILES, 2 * n_clusters)
    n_across = max(_TILES_ACROSS, math.sqrt(min(7 * n_clusters, most)))
    exponent = int(math.log2(max(1.0, math.sqrt(size[0] * size[1]) / n_across)))
    n_tiles, n_larger = (
        math.prod(-(-n // side) for n in size) for side in (1 << exponent, 2 << exponent)
    )
    if n_tiles > most and n_larger >= 2 * n_clusters:
        exponent += 1
    large, small = 2**exponent, 2 ** ((exponent + 1) // 2)
    return [large, small] if large > _SMALL_ENOUGH else [large]


def lloyd(
    features: UpsampledFeatures,
    centers: Centers,
    *,
    tol: float | int,
    max_iter: int,
    stride: float = 1.0,
) -> tuple[Float[Tensor, "B K H W"], Centers]:
    """Iterate until at most ``tol`` of each image's pixels change cluster in a step.

    With a stride above 1, every other step goes that much farther than to the means while many
    pixels change; the last steps are plain ones, so that the fixed point is Lloyd's.

    Returns:
        The membership, one 1 among K a pixel, and the centres it was assigned to.
    """
    shape = (features.batch_size, centers.offset.shape[1], *features.size)
    scores, scratch, previous = (centers.offset.new_empty(shape) for _ in range(3))
    n_pixels = features.n_pixels
    strides = [1.0] * features.batch_size
    settled = [False] * features.batch_size
    step = 0
    while True:
        features.expand(centers.products, offset=centers.offset, out=scores, scratch=scratch)
        membership, sizes = first_best(scores, dim=1)
        kept = membership
        reseeded = [False] * features.batch_size
        if _any_empty(sizes):
            membership, sizes, reseeded = _reseed(features, centers, kept, sizes)
        if step > 0:
            n_kept = torch.bmm(kept.view(len(kept), 1, -1), previous.view(len(kept), -1, 1))
            for i, n in enumerate(n_kept.flatten().tolist()):
                changed = n_pixels - int(n)
                plain = strides[i] == 1.0 or tol >= _PLAIN_SHARE
                settled[i] |= changed <= tol * n_pixels and plain and not reseeded[i]
                far = changed > _PLAIN_SHARE * n_pixels and step <= _LAST_LONG_STEP
                strides[i] = stride if far and strides[i] == 1.0 and not reseeded[i] else 1.0
        step += 1
        if all(settled) or step == max_iter:
            return kept, centers
        sums = features.collect(membership, scratch=scratch)
        moved = Centers.beyond(centers, features, sums, sizes, strides)
        centers = moved.unless(settled, centers) if any(settled) else moved
        scores, previous = previous, kept


def _reseed(
    features: UpsampledFeatures, centers: Centers, membership: Tensor, sizes: Tensor
) -> tuple[Tensor, Tensor, list[bool]]:
    """Give each empty cluster the pixel farthest from its centre, for the next means.

    Where no pixel is distinct from its centre the cluster stays empty and is given up.

    Returns:
        The membership and sizes with the moved pixels, and for each image whether one was moved.
    """
    scores = features.expand(centers.products, offset=centers.offset)
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


def _any_empty(sizes: Tensor) -> bool:
    return 0.0 in sizes.flatten().tolist()


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

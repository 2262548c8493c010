"""Lloyd's iterations on upsampled features, every image of a batch at its own pace.

Centres are kept as what an assignment needs of them, at the resolution of the activations: the map
``X^T X r`` (one number a cell) and ``-|c|^2 / 2``, where ``r`` are the centre's coefficients.
In: features and centres. Out: memberships ``(B, K, H, W)``, one 1 among K a pixel, and centres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures

_PLAIN_SHARE = 0.0003  # share of pixels that change, below which steps are plain
_LAST_LONG_STEP = 60  # later ones are plain, so that the iteration ends
_INDISTINCT = 1e-6  # squared distance, as a share of |phi|^2, that float32 cannot tell from zero


@dataclass(frozen=True, eq=False)
class Centers:
    """What an assignment needs of K centres: it scores ``<phi(p), c> - |c|^2 / 2``."""

    maps: Tensor  # (B, K, N): <X_q, c> at every cell q of every level
    offset: Tensor  # (B, K, 1, 1): -|c|^2 / 2, or minus infinity for a centre that is given up

    @classmethod
    def at(cls, features: UpsampledFeatures, vectors: Tensor) -> "Centers":
        """The centres that these vectors ``(B, K, D)`` are."""
        offset = vectors.square().sum(2)[:, :, None, None] * -0.5
        return cls(features.project(vectors), offset)

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
        maps = features.correlate(coefficients)
        offset = torch.linalg.vecdot(coefficients, maps).mul_(-0.5)  # -|c|^2 / 2
        if before is not None and any(stride != 1.0 for stride in strides):
            stride = sizes.new_tensor(strides)[:, None]  # (B, 1)
            crossed = torch.linalg.vecdot(coefficients, before.maps)  # <c, c before>
            offset = (
                stride.square() * offset
                - stride * (1 - stride) * crossed
                + (1 - stride).square() * before.offset[:, :, 0, 0]
            )
            maps = torch.lerp(before.maps, maps, stride[:, :, None])
        if empty is not None:
            offset.masked_fill_(empty, -torch.inf)
        return cls(maps, offset[:, :, None, None])

    def unless(self, settled: Sequence[bool], others: "Centers") -> "Centers":
        """These centres, but the others for the images that are settled."""
        keep = torch.tensor(settled, device=self.offset.device)[:, None, None]
        return Centers(
            torch.where(keep, others.maps, self.maps),
            torch.where(keep[..., None], others.offset, self.offset),
        )


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
        features.expand(centers.maps, offset=centers.offset, out=scores, scratch=scratch)
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


def first_best(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Overwrite scores by 1 where they are the first greatest along ``dim``, 0 elsewhere.

    ``argmax`` over an outer axis is some hundred times slower on a CPU than this comparison.

    Returns:
        The membership, and the number of pixels of each cluster: summed over what follows ``dim``.
    """
    best = scores.amax(dim, keepdim=True)
    n_pixels = best.numel()
    membership = scores.eq_(best)
    sizes = membership.flatten(dim + 1).sum(-1)
    if sum(sizes.flatten().tolist()) != n_pixels:  # an exact tie: the first cluster keeps the pixel
        membership.mul_(membership.cumsum(dim) == 1)
        sizes = membership.flatten(dim + 1).sum(-1)
    return membership, sizes


def _any_empty(sizes: Tensor) -> bool:
    return 0.0 in sizes.flatten().tolist()

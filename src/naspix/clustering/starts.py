"""Where k-means begins: the best of several greedy k-means++ starts on large tiles of pixels.

In: :class:`~naspix.clustering.features.UpsampledFeatures` over tiles. Out: the clusters of tiles.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures

_START_STEPS = 6  # for each start; more save less on the full frame than they cost
_MOST_OF_STARTS = 1 << 26  # numbers, one for each start, cluster and tile, that are held at once


def best_start(
    tiles: UpsampledFeatures, n_clusters: int, n_init: int, seed: int
) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B K"]]:
    """Run k-means from several k-means++ starts on a few tiles.

    The tiles are so few that the inner products of all pairs are one small matrix, and all starts
    of all images are iterated together on it, or as many as memory allows.

    Returns:
        The clusters of the best start: one 1 among K a tile, and the number of tiles of each.
    """
    products = tiles.pixel_products()  # (B, P, P)
    seeds = _plus_plus(products, n_clusters, n_init, seed)  # (B, S, K)
    n_images, n_pixels, _ = products.shape
    images = torch.arange(n_images, device=products.device)
    scored = products.sub(products.diagonal(dim1=1, dim2=2)[:, None], alpha=0.5).mT
    few_cells = 2 * tiles.n_cells < n_pixels  # the way through the cells is shorter
    n_at_once = max(1, _MOST_OF_STARTS // (n_images * n_clusters * n_pixels))
    chosen = products.new_empty(n_images, n_clusters, n_pixels)
    chosen_sizes = products.new_empty(n_images, n_clusters)
    most = products.new_full((n_images,), -torch.inf)
    for some in seeds.split(n_at_once, dim=1):
        membership, sizes = first_best(_rows_of(scored, some), dim=2)  # <phi(p), c> - |c|^2 / 2
        for _ in range(_START_STEPS):
            means = membership.div_(sizes.clamp_min_(1)[..., None])
            flat = means.view(n_images, -1, n_pixels)
            if few_cells:
                coefficients = tiles.collect(flat.unflatten(2, tiles.size))
                inner = tiles.expand(tiles.products_of(coefficients)).view_as(means)
            else:
                inner = torch.bmm(flat, products).view_as(means)
            norms = torch.linalg.vecdot(means, inner)  # |c|^2, (B, S, K)
            membership, sizes = first_best(inner.sub_(norms[..., None], alpha=0.5), dim=2)
        gains, best = torch.linalg.vecdot(norms, sizes).max(1)  # the sum of n_k |c_k|^2
        better = gains > most
        most = torch.where(better, gains, most)
        chosen[better] = membership[images, best][better]
        chosen_sizes[better] = sizes[images, best][better]
    return chosen.unflatten(2, tiles.size), chosen_sizes


def _plus_plus(
    products: Float[Tensor, "B P P"], n_clusters: int, n_init: int, seed: int
) -> Int64[Tensor, "B S K"]:
    """Draw greedy k-means++ seeds from the inner products of all pairs of pixels.

    Each next seed is the best of a few pixels drawn with probability proportional to their squared
    distance from the seeds before. All images use the same random numbers.
    """
    n_images, n_pixels, _ = products.shape
    draws = uniform_numbers(n_clusters, n_init, seed, products.dtype, products.device)
    own = products.diagonal(dim1=1, dim2=2)
    distances = (own[:, :, None] + own[:, None]).sub_(products, alpha=2).clamp_min_(0)

    first = (draws[0, :, :1] * n_pixels).long()  # (S, 1)
    seeds = [first.expand(n_images, -1, -1)]
    closest = _rows_of(distances, seeds[0])  # (B, S, 1, P), to the nearest seed
    for uniform in draws[1:]:
        cumulated = closest[:, :, 0].cumsum(2)
        targets = uniform * cumulated[:, :, -1:]  # (B, S, trials), at most the last sum
        candidates = torch.searchsorted(cumulated, targets)
        with_candidate = torch.minimum(closest, _rows_of(distances, candidates))
        best = with_candidate.sum(3).argmin(2, keepdim=True)  # (B, S, 1)
        seeds.append(candidates.gather(2, best))
        closest = _rows_of(with_candidate.flatten(0, 1), best.flatten(0, 1)[:, None])
        closest = closest.view(n_images, n_init, 1, n_pixels)
    return torch.cat(seeds, dim=2)


def _rows_of(
    matrices: Float[Tensor, "B P Q"], indices: Int64[Tensor, "B S T"]
) -> Float[Tensor, "B S T Q"]:
    """Return ``matrices[b, indices[b, s, t]]``."""
    n_images, n_rows, n_columns = matrices.shape
    if n_images > 1:
        first_rows = torch.arange(0, n_images * n_rows, n_rows, device=indices.device)
        indices = indices + first_rows[:, None, None]
    rows = matrices.reshape(-1, n_columns).index_select(0, indices.reshape(-1))
    return rows.view(*indices.shape, n_columns)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def uniform_numbers(
    n_clusters: int, n_init: int, seed: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "K S trials"]:
    """Return the random numbers of a seed, kept for the next image."""
    n_trials = 2 + int(math.log(n_clusters))
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(n_clusters, n_init, n_trials, generator=generator, dtype=torch.float64)
    return numbers.to(device, dtype)


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

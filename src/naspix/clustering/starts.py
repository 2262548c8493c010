"""Where k-means begins: greedy k-means++ and a few iterations, on large tiles of pixels.

They are so few that the inner products of all pairs are one small matrix, so several starts of all
images are drawn and iterated together on it.
In: features of the tiles. Out: the centres of the best start.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.lloyd import Centers, first_best

_START_STEPS = 10  # for each start: nothing is cheaper than a step here


def best_start(tiles: UpsampledFeatures, n_clusters: int, n_init: int, seed: int) -> Centers:
    """Run k-means from several k-means++ starts on a few tiles and return the best one's centres.

    The tiles are so few that the inner products of all pairs are one small matrix, and all starts
    of all images are iterated together on it.
    """
    products = tiles.pixel_products()  # (B, P, P)
    seeds = _plus_plus(products, n_clusters, n_init, seed)  # (B, S, K)
    images = torch.arange(len(products), device=products.device)[:, None, None]
    half_norms = products.diagonal(dim1=1, dim2=2) / 2
    scores = products[images, seeds] - half_norms[images, seeds][..., None]  # (B, S, K, P)
    membership, sizes = first_best(scores, dim=2)
    for _ in range(_START_STEPS):
        means = membership / sizes.clamp_min_(1)[..., None]
        scores = (means.flatten(1, 2) @ products).view_as(means)  # <phi(p), c>
        half_norms = (means * scores).sum(3, keepdim=True) / 2  # |c|^2 / 2
        membership, sizes = first_best(scores.sub_(half_norms), dim=2)
    explained = (2 * half_norms[..., 0] * sizes).sum(2)  # sum of n_k |c_k|^2, (B, S)
    best = explained.argmax(1, keepdim=True)
    chosen = membership[images[..., 0], best][:, 0].unflatten(2, tiles.size)
    return Centers.mean(tiles, tiles.collect(chosen), sizes[images[..., 0], best][:, 0])


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

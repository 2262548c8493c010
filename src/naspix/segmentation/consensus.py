"""What many segmentations of one image agree on (paper, appendix B and figure 8).

In: segmentations of the same image, over seeds, levels, networks or segmenters. Out: how often each
pixel is a boundary, the mean segmentation, and how much any two agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.segmentation.segmentation import Segmentation


@dataclass(frozen=True, eq=False)
class Consensus:
    """What segmentations of one image have in common.

    Attributes:
        boundary_frequency: The share of the segmentations in which a pixel is a boundary, 0 to 1.
        mean: The segmentation they agree on best.
        cluster_ari: Mean adjusted Rand index over all pairs, of their clusters; 1 means the same
            partition, 0 no more agreement than by chance.
        superpixel_ari: The same of their superpixels.
        n_segmentations: How many there were.
    """

    boundary_frequency: Float[Tensor, "H W"]
    mean: Segmentation
    cluster_ari: float
    superpixel_ari: float
    n_segmentations: int


def consensus(segmentations: Segmentation | Sequence[Segmentation]) -> Consensus:
    """Say what segmentations of one image agree on.

    The mean segmentation is a vote: the one that agrees best with all others (highest mean adjusted
    Rand index of the clusters) is the reference, every other one's clusters are given the
    reference's names so that most pixels agree (Hungarian method), and each pixel goes to the
    cluster most of them name; on a tie to the reference's, or the first. Clusters beyond the
    reference's number do not vote. The number of clusters is at most the reference's.

    Args:
        segmentations: Several segmentations, or one batch of them, all of the same image.

    Raises:
        InputError: If there are fewer than two, or their frames differ.

    Source:
        Dudoit, Fridlyand, "Bagging to improve the accuracy of a clustering procedure", 2003, for
        the vote; Hubert, Arabie, "Comparing partitions", 1985, for the index.

    Example:
        >>> halves = Segmentation(torch.tensor([[[0, 0, 1, 1]]]))
        >>> renamed = Segmentation(torch.tensor([[[1, 1, 0, 0]]]))
        >>> moved = Segmentation(torch.tensor([[[0, 1, 1, 1]]]))
        >>> agreed = consensus([halves, renamed, moved])
        >>> agreed.mean.clusters, agreed.boundary_frequency.round(decimals=2)
        (tensor([[[0, 0, 1, 1]]]), tensor([[0.3300, 0.6700, 0.0000, 0.0000]]))
    """
    if isinstance(segmentations, Segmentation):
        segmentations = [segmentations]
    sizes = {segmentation.size for segmentation in segmentations}
    n = sum(len(segmentation) for segmentation in segmentations)
    if n < 2:
        raise InputError(f"a consensus needs at least two segmentations of an image, got {n}")
    if len(sizes) > 1:
        raise InputError(
            f"the segmentations have different frames {sorted(sizes)}; resize them to one first"
        )
    device = segmentations[0].device
    boundaries = torch.cat([each.boundaries().to(device) for each in segmentations])
    clusters = np.concatenate([each.clusters.cpu().numpy() for each in segmentations])
    superpixels = np.concatenate([each.superpixels.cpu().numpy() for each in segmentations])
    cluster_agreement = _pairwise_ari(clusters)
    reference = int(cluster_agreement.sum(0).argmax())
    mean = torch.from_numpy(_vote(clusters, reference)).to(device)
    pairs = np.triu_indices(n, 1)
    return Consensus(
        boundary_frequency=boundaries.float().mean(0),
        mean=Segmentation(
            mean[None],
            source=f"consensus({n} segmentations)",
            connectivity=segmentations[0].connectivity,
        ),
        cluster_ari=float(cluster_agreement[pairs].mean()),
        superpixel_ari=float(_pairwise_ari(superpixels)[pairs].mean()),
        n_segmentations=n,
    )


def _pairwise_ari(labels: Int64[np.ndarray, "n H W"]) -> Float[np.ndarray, "n n"]:
    """Return the adjusted Rand index of every pair of partitions, 0 on the diagonal."""
    from sklearn.metrics import adjusted_rand_score

    flat = labels.reshape(len(labels), -1)
    agreement = np.zeros((len(flat), len(flat)))
    for i, j in combinations(range(len(flat)), 2):
        agreement[i, j] = agreement[j, i] = adjusted_rand_score(flat[i], flat[j])
    return agreement


def _vote(clusters: Int64[np.ndarray, "n H W"], reference: int) -> Int64[np.ndarray, "H W"]:
    """Return the label of the reference that most partitions give each pixel, in its names."""
    from scipy.optimize import linear_sum_assignment

    named = clusters[reference].ravel()
    n_names = int(named.max()) + 1
    pixels = np.arange(named.size)
    votes = np.zeros((n_names, named.size))
    votes[named, pixels] = 0.5  # so that the reference decides a tie
    for labels in clusters.reshape(len(clusters), -1):
        overlap = np.zeros((int(labels.max()) + 1, n_names))
        np.add.at(overlap, (labels, named), 1)
        own, theirs = linear_sum_assignment(overlap, maximize=True)
        name_of = np.full(len(overlap), -1)
        name_of[own] = theirs
        voted = name_of[labels]
        heard = voted >= 0
        votes[voted[heard], pixels[heard]] += 1
    winners = votes.argmax(0).astype(np.int64)
    return np.asarray(winners.reshape(clusters.shape[1:]))

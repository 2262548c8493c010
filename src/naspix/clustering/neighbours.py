"""The label that most of a pixel's nearest points have: exact, and without the pixels' features.

In: ``UpsampledFeatures``, points in the same space, a label each. Out: ``(B, H, W)`` labels. With
``<phi(p), x> - |x|^2 / 2`` as score, the highest score is the nearest point, and scores are inner
products: the products of points and cells are taken at low resolution and upsampled (DESIGN's
first operation). One row of the frame is scored at a time, so that its scores stay in the cache
until the nearest are picked: first the groups of points with the highest scores, then the points in
these, which reads the scores once instead of sorting them.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.upsampling import upsampling_matrix
from naspix.errors import InputError

_ROWS_AT_ONCE = 8  # upsampled vertically together
_GROUPS_FOR_EACH = 80  # that is wanted: torch.topk is quicker for so many columns than for fewer


def nearest_labels(
    features: UpsampledFeatures,
    points: Float[Tensor, "n D"],
    labels: Int64[Tensor, " n"],
    *,
    n_neighbors: int = 1,
) -> Int64[Tensor, "B H W"]:
    """Give every pixel the label that most of its nearest points have.

    Distances are Euclidean in the space of the features. Where labels are equally frequent among
    the neighbours the smallest wins, as in scikit-learn's ``KNeighborsClassifier``.

    Args:
        features: Of the images whose pixels are labelled.
        points: Vectors of the same channels, on the same device.
        labels: Not negative.
        n_neighbors: k, at most the number of points.

    Raises:
        InputError: If there are fewer points than neighbours, or they have other channels.

    Source:
        Cover, Hart, "Nearest neighbor pattern classification", 1967.

    Example:
        >>> features = UpsampledFeatures([torch.rand(1, 8, 3, 3)], size=(6, 6))
        >>> points = features.at(torch.tensor([[0, 35]]))[0]
        >>> labels = nearest_labels(features, points, torch.tensor([5, 7]))
        >>> labels[0, 0, 0], labels[0, 5, 5]
        (tensor(5), tensor(7))
    """
    if not 1 <= n_neighbors <= len(points):
        raise InputError(
            f"n_neighbors is {n_neighbors}; with {len(points)} points it must be from 1 to "
            f"{len(points)}"
        )
    n_labels = int(labels.max()) + 1
    images = [features.image(b) for b in range(features.batch_size)]
    voted = [
        _most_frequent(labels[_nearest(image, points, n_neighbors)], n_labels) for image in images
    ]
    return torch.stack(voted)


def _nearest(
    features: UpsampledFeatures, points: Float[Tensor, "n D"], k: int
) -> Int64[Tensor, "H W k"]:
    """Return the k nearest points of each pixel of one image, in any order."""
    height, width = features.size
    # into how many layers the points are cut, so that picking k of them takes least time
    depth = max(1, len(points) // (_GROUPS_FOR_EACH * k))
    spare = -len(points) % depth
    n = len(points) + spare
    nearest = torch.empty(height, width, k, dtype=torch.int64, device=points.device)
    scores = points.new_empty(width, n)
    members = torch.arange(0, n, n // depth, device=points.device).view(1, depth, 1)
    for row, (across, cells) in enumerate(_factors(features, points, spare)):
        torch.mm(across, cells, out=scores)
        nearest[row] = _highest(scores, members, k)
    return nearest


def _highest(
    scores: Float[Tensor, "W n"], members: Int64[Tensor, "1 depth 1"], k: int
) -> Int64[Tensor, "W k"]:
    """Return where the k highest scores of each row are, exactly.

    A score among the k highest has no k groups above it, so it lies in one of the k groups with the
    highest maxima.

    Args:
        scores: Of each row.
        members: Where the points of the first group are; the next group's are one further.
        k: How many.
    """
    depth = members.shape[1]
    if depth == 1:
        return scores.topk(k, dim=1, sorted=False).indices
    layers: Tensor = scores.view(len(scores), depth, -1)
    groups = layers.amax(1).topk(k, dim=1, sorted=False).indices
    candidates = (groups[:, None] + members).flatten(1)
    best = scores.gather(1, candidates).topk(k, dim=1, sorted=False).indices
    return candidates.gather(1, best)


def _factors(
    features: UpsampledFeatures, points: Float[Tensor, "n D"], spare: int
) -> Iterator[tuple[Float[Tensor, "W c"], Float[Tensor, "c more"]]]:
    """Yield two matrices for each row of the frame; their product is its scores.

    The second holds every level's products with the points, upsampled vertically to this row; the
    first upsamples horizontally and scales. One more column takes ``|x|^2 / 2`` off. The last
    ``spare`` scores are those of no point, minus infinity.
    """
    (height, width), n = features.size, len(points) + spare
    offsets = pad(points.square().sum(1) / -2, (0, spare), value=-torch.inf).view(1, 1, n)
    points = pad(points, (0, 0, 0, spare))
    levels = []
    channels = [activation.shape[1] for activation in features.levels]
    parts = points.to(features.levels[0].dtype).split(channels, dim=1)
    for activation, scale, part in zip(features.levels, features.scales, parts, strict=True):
        maps = torch.einsum("nc,chw->hwn", part, activation[0]).flatten(1)
        vertical, horizontal = (
            upsampling_matrix(n_cells, n_pixels, activation.dtype, activation.device)
            for n_cells, n_pixels in zip(activation.shape[2:], features.size, strict=True)
        )
        levels.append((vertical, maps, scale[0, :, :, None] * horizontal))
    for start in range(0, height, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        down = [(vertical[rows] @ maps).unflatten(1, (-1, n)) for vertical, maps, _ in levels]
        across = [horizontal[rows] for *_, horizontal in levels]
        n_rows = len(across[0])
        one = across[0].new_ones(n_rows, width, 1)
        yield from zip(
            torch.cat([*across, one], dim=2),
            torch.cat([*down, offsets.expand(n_rows, 1, n)], dim=1),
            strict=True,
        )


def _most_frequent(votes: Int64[Tensor, "H W k"], n_labels: int) -> Int64[Tensor, "H W"]:
    """Return the most frequent label of each pixel, the smallest of equally frequent ones."""
    if votes.shape[2] == 1:
        return votes[..., 0]
    counts = torch.zeros(*votes.shape[:2], n_labels, dtype=torch.int32, device=votes.device)
    counts.scatter_add_(2, votes, torch.ones_like(votes, dtype=torch.int32))
    return counts.argmax(2)  # the first of equals

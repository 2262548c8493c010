"""How far segmentations agree with each other, and saliency methods over superpixels.

In: label maps of one image (over seeds, networks, levels or segmenters), or saliency maps of
several methods with label maps. Out: a value for every pair. The indices are scikit-learn's and
scikit-image's; only the boundary score, which neither has, is computed here. What segmentations
agree *on* is ``naspix.segmentation.consensus``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from naspix.errors import InputError
from naspix.models.devices import in_float64
from naspix.superpixelify import superpixelify

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class SegmentationAgreement:
    """How far each two of n segmentations of one image agree; symmetric matrices.

    Attributes:
        ari: Adjusted Rand index: 1 for the same partition, 0 for no more than chance, possibly a
            little below.
        variation_of_information: In bits: 0 for the same partition, higher is worse, at most the
            sum of both entropies.
        boundary_f: Harmonic mean of the shares of each one's boundary that lie near the other's:
            1 for the same boundaries, 0 for none in common.
        tolerance: How near, in pixels.
    """

    ari: Float[Tensor, "n n"]
    variation_of_information: Float[Tensor, "n n"]
    boundary_f: Float[Tensor, "n n"]
    tolerance: float | int

    def plot(self, ax: "Axes | None" = None, *, names: Sequence[str] = ()) -> "Axes":
        """Draw the adjusted Rand index of every two.

        Args:
            ax: Where to draw; on a figure of its own by default.
            names: Of the segmentations; their numbers by default.
        """
        from naspix import plots

        named = list(names) or [str(i + 1) for i in range(len(self.ari))]
        return plots.draw_matrix(self.ari.cpu().numpy(), named, ax, title="adjusted Rand index")

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {value:.3f}" for name, value in self.means.items())
        return f"SegmentationAgreement({len(self.ari)} segmentations, means: {means})"

    @property
    def means(self) -> dict[str, float]:
        """The mean of each index over all pairs, by name."""
        n = len(self.ari)
        rows, columns = torch.triu_indices(n, n, offset=1)
        return {
            name: float(getattr(self, name)[rows, columns].mean())
            for name in ("ari", "variation_of_information", "boundary_f")
        }


def segmentation_agreement(labels: Tensor, *, tolerance: float | int = 2) -> SegmentationAgreement:
    """Compare every two of several segmentations of one image.

    Label numbers mean nothing: renaming changes no index. Clusters and superpixels may be compared
    alike; superpixels of different segmenters are the fair comparison.

    Args:
        labels: ``(n, H, W)`` integers, ``n`` partitions of the same image, at least two.
        tolerance: Boundaries this many pixels apart, by Euclidean distance, count as the same.

    Returns:
        Float64 matrices ``(n, n)``. Where neither of two segmentations has a boundary their
        boundary score is 1, where one alone has, 0.

    Raises:
        InputError: If there are fewer than two maps, they are not integers, or the tolerance is
            negative.

    Source:
        Hubert, Arabie, "Comparing partitions", 1985; Meila, "Comparing clusterings", 2007; Martin,
        Fowlkes, Malik, "Learning to detect natural image boundaries", 2004, for the boundary score,
        with nearest boundary pixels in place of their one-to-one matching.

    Example:
        >>> halves = torch.tensor([[[0, 0, 1, 1]], [[1, 1, 0, 0]], [[0, 1, 1, 1]]])
        >>> agreement = segmentation_agreement(halves, tolerance=0)
        >>> agreement.ari[0].tolist(), agreement.boundary_f[0].tolist()
        ([1.0, 1.0, 0.0], [1.0, 1.0, 0.0])
    """
    from skimage.metrics import variation_of_information
    from sklearn.metrics import adjusted_rand_score

    if labels.ndim != 3 or labels.is_floating_point() or labels.is_complex():
        raise InputError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give (n, H, W) integers"
        )
    if len(labels) < 2 or not labels[0].numel():
        raise InputError(
            f"the labels have the shape {tuple(labels.shape)}; agreement needs at least two "
            "segmentations (n, H, W) of an image"
        )
    if not tolerance >= 0:
        raise InputError(f"tolerance is {tolerance}; give a number of pixels, at least 0")
    maps = [_numbered(each) for each in labels.cpu().numpy()]
    boundaries = [_boundary(each) for each in maps]
    near = [_within(boundary, tolerance) for boundary in boundaries]
    n = len(maps)
    ari, f_score, information = np.eye(n), np.eye(n), np.zeros((n, n))
    for i, j in combinations(range(n), 2):
        ari[i, j] = ari[j, i] = adjusted_rand_score(maps[i].ravel(), maps[j].ravel())
        # rounding may leave the entropies of equal partitions at -1e-17
        information[i, j] = information[j, i] = max(
            0.0, sum(variation_of_information(maps[i], maps[j]))
        )
        f_score[i, j] = f_score[j, i] = _f_score(boundaries[i], near[i], boundaries[j], near[j])
    return SegmentationAgreement(
        torch.from_numpy(ari),
        torch.from_numpy(information),
        torch.from_numpy(f_score),
        tolerance=tolerance,
    )


def saliency_agreement(saliency: Tensor, labels: Tensor) -> Float[Tensor, "B M M"]:
    """Return how alike methods rank the superpixels: Spearman's correlation of their means.

    Superpixels count alike, whatever their size, and ties share their rank.

    Args:
        saliency: ``(B, M, H, W)``: the maps of M methods for each image.
        labels: ``(B, H, W)`` integers: the superpixels.

    Returns:
        Float64, from -1 (the opposite order) to 1 (the same). A method that gives all superpixels
        of an image one value ranks nothing, and correlates with nothing: NaN in its row and column.

    Raises:
        InputError: If shapes do not fit, or a map is not finite.

    Source:
        Spearman, "The proof and measurement of association between two things", 1904.

    Example:
        >>> maps = torch.tensor([[[[1.0, 2.0, 3.0]], [[9.0, 5.0, 4.0]]]])
        >>> round(float(saliency_agreement(maps, torch.tensor([[[0, 1, 2]]]))[0, 0, 1]), 6)
        -1.0
    """
    if saliency.ndim != 4 or labels.shape != (len(saliency), *saliency.shape[2:]):
        raise InputError(
            f"the saliency has the shape {tuple(saliency.shape)}, the labels "
            f"{tuple(labels.shape)}; give (B, M, H, W), the maps of M methods for each image, and "
            "(B, H, W)"
        )
    # in float32 the means of equal pixels are equal, and share their rank
    pooled = superpixelify(in_float64(saliency.detach()), labels).float().flatten(2).cpu().numpy()
    n_images, n_methods = pooled.shape[:2]
    agreement = np.empty((n_images, n_methods, n_methods))
    for image, numbers in enumerate(labels.flatten(1).cpu().numpy()):
        _, one_pixel_each = np.unique(numbers, return_index=True)
        means = pooled[image][:, one_pixel_each]
        agreement[image] = _correlations(np.stack([_ranks(row) for row in means]))
    return torch.from_numpy(agreement)


def _ranks(values: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """Ranks from 1, equal values sharing their mean; scipy.stats takes half a second to import."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: np.ndarray = (counts.cumsum() - (counts - 1) / 2)[places]
    return means


def _correlations(ranks: Float[np.ndarray, "M R"]) -> Float[np.ndarray, "M M"]:
    """Pearson's correlation of each two rows; NaN where a row is constant."""
    centered = ranks - ranks.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.square(centered).sum(axis=1))
    lengths[lengths == 0] = np.nan
    directions = centered / lengths[:, None]
    return np.asarray(np.clip(directions @ directions.T, -1, 1))


def _numbered(labels: Int[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Labels from 0 without gaps, so that the contingency tables stay small."""
    _, numbers = np.unique(labels, return_inverse=True)
    return np.asarray(numbers.reshape(labels.shape))


def _boundary(labels: Int[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels whose right or lower neighbour has another label, as ``Segmentation.boundaries``."""
    marked = np.zeros(labels.shape, bool)
    marked[:, :-1] = labels[:, 1:] != labels[:, :-1]
    marked[:-1] |= labels[1:] != labels[:-1]
    return marked


def _within(boundary: Bool[np.ndarray, "H W"], tolerance: float | int) -> Bool[np.ndarray, "H W"]:
    """Pixels at most ``tolerance`` from a boundary."""
    from scipy.ndimage import distance_transform_edt

    if not boundary.any():
        return boundary
    return np.asarray(distance_transform_edt(~boundary) <= tolerance)


def _f_score(
    one: Bool[np.ndarray, "H W"],
    near_one: Bool[np.ndarray, "H W"],
    other: Bool[np.ndarray, "H W"],
    near_other: Bool[np.ndarray, "H W"],
) -> float:
    if not one.any() or not other.any():
        return float(one.any() == other.any())
    precision, recall = near_other[one].mean(), near_one[other].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0

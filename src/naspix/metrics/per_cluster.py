"""What each cluster of each image gets from each method: the measurements behind table 1.

In, batch by batch: saliency maps of several methods, with the clusters and superpixels of a class
clustering. Out: sums and weights an image, method and cluster, joined over batches and condensed by
``semantics.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.superpixelify import superpixelify

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Weigh = Literal["superpixels", "area"]


@dataclass(frozen=True, eq=False)
class ClusterSaliency:
    """What each cluster of each image got from each method; measured by ``cluster_saliency``.

    Attributes:
        methods: Names of the M methods.
        sums: Over each cluster's superpixels, of their mean saliency (times their area, where that
            is weighed); maps are scaled to 0..1.
        weights: What the sums are divided by: the number of superpixels, or of pixels. 0 where an
            image lacks a cluster.
        area: The share of the image's pixels.
        blank: Whether a map was constant, or not finite, and so counted as zero.
    """

    methods: tuple[str, ...]
    sums: Float64[Tensor, "B M K"]
    weights: Float64[Tensor, "B K"]
    area: Float64[Tensor, "B K"]
    blank: Bool[Tensor, "B M"]

    def __len__(self) -> int:
        return len(self.sums)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw each cluster's mean saliency over the images that have it, a colour a method.

        Args:
            ax: Where to draw; on a figure of its own by default.
        """
        from naspix import plots

        means = self.means.nanmean(0).tolist()
        clusters = [f"cluster {k}" for k in range(self.sums.shape[2])]
        named = dict(zip(self.methods, means, strict=True))
        return plots.draw_bars(named, clusters, ax, ylabel="mean saliency")

    def __repr__(self) -> str:
        images = "image" if len(self) == 1 else "images"
        methods = ", ".join(self.methods)
        return f"ClusterSaliency({len(self)} {images}, {self.sums.shape[2]} clusters, {methods})"

    @property
    def means(self) -> Float64[Tensor, "B M K"]:
        """The mean saliency of each cluster in each image, 0 to 1; NaN where it is absent."""
        return self.sums / self.weights[:, None]

    @classmethod
    def join(cls, parts: Sequence["ClusterSaliency"]) -> "ClusterSaliency":
        """Put the measurements of several batches together.

        Raises:
            InputError: If there are none, or their methods or clusters differ.
        """
        if not parts:
            raise InputError("no batch was measured; there is nothing to join")
        if len({(part.methods, part.sums.shape[2]) for part in parts}) > 1:
            raise InputError("the batches were measured with different methods or clusters")
        return cls(
            parts[0].methods,
            torch.cat([part.sums for part in parts]),
            torch.cat([part.weights for part in parts]),
            torch.cat([part.area for part in parts]),
            torch.cat([part.blank for part in parts]),
        )


def cluster_saliency(
    saliency: Mapping[str, Tensor],
    clusters: Int64[Tensor, "B H W"],
    superpixels: Int64[Tensor, "B H W"],
    *,
    n_clusters: int,
    weigh: Weigh = "superpixels",
) -> ClusterSaliency:
    """Measure how much saliency falls on each cluster of each image.

    Every map is scaled so that its lowest pixel is 0 and its highest 1, then averaged over each
    superpixel. A map that is constant or holds values that are not finite counts as zero
    everywhere, and as blank.

    Args:
        saliency: A ``(B, H, W)`` map of each method.
        clusters: Of a class clustering.
        superpixels: Ids from 0; each belongs to the cluster of its first pixel.
        n_clusters: K; no cluster is higher.
        weigh: Whether superpixels count alike, as in the paper, or by their number of pixels.

    Raises:
        InputError: If shapes do not fit, or a cluster is not below K.

    Source:
        Table 1.

    Example:
        >>> heat = torch.tensor([[[0.0, 2.0, 8.0, 8.0]]])
        >>> clusters, superpixels = torch.tensor([[[0, 0, 1, 0]]]), torch.tensor([[[0, 0, 1, 2]]])
        >>> measured = cluster_saliency({"cam": heat}, clusters, superpixels, n_clusters=2)
        >>> measured.means[0, 0]
        tensor([0.5625, 1.0000], dtype=torch.float64)
    """
    _check(saliency, clusters, superpixels, n_clusters)
    maps = torch.stack([heat.detach().cpu().double() for heat in saliency.values()], dim=1)
    scaled, blank = scale_maps(maps)
    pooled = superpixelify(scaled, superpixels.cpu()).flatten(2)
    n_pixels = pooled.shape[2]
    sums = torch.zeros(*pooled.shape[:2], n_clusters, dtype=torch.float64)
    weights = torch.zeros(len(pooled), n_clusters, dtype=torch.float64)
    area = torch.zeros_like(weights)
    of_images = zip(clusters.flatten(1).cpu(), superpixels.flatten(1).cpu(), strict=True)
    for b, (labels, ids) in enumerate(of_images):
        _, first, sizes = np.unique(ids.numpy(), return_index=True, return_counts=True)
        owner = labels[torch.from_numpy(first)]
        areas = torch.from_numpy(sizes).double()
        each = torch.ones_like(areas) if weigh == "superpixels" else areas
        values = pooled[b][:, torch.from_numpy(first)]
        sums[b].index_add_(1, owner, values * each)
        weights[b].index_add_(0, owner, each)
        area[b].index_add_(0, owner, areas / n_pixels)
    return ClusterSaliency(tuple(saliency), sums, weights, area, blank)


def scale_maps(
    maps: Float[Tensor, "B M H W"],
) -> tuple[Float[Tensor, "B M H W"], Bool[Tensor, "B M"]]:
    """Scale every map to 0..1; say which were constant or not finite, and are now zero.

    Example:
        >>> scaled, blank = scale_maps(torch.tensor([[[[-1.0, 3.0]], [[2.0, 2.0]]]]))
        >>> scaled.tolist(), blank.tolist()
        ([[[[0.0, 1.0]], [[0.0, 0.0]]]], [[False, True]])
    """
    finite = maps.isfinite().flatten(2).all(2)
    usable = torch.where(finite[..., None, None], maps, 0)
    low, high = usable.flatten(2).amin(2), usable.flatten(2).amax(2)
    blank = ~finite | (high <= low)
    width = torch.where(blank, 1, high - low)[..., None, None]
    return (usable - low[..., None, None]) / width, blank


def _check(
    saliency: Mapping[str, Tensor], clusters: Tensor, superpixels: Tensor, n_clusters: int
) -> None:
    if not saliency:
        raise InputError("no saliency maps are given; give at least one method's")
    for method, heat in saliency.items():
        if heat.shape != clusters.shape or clusters.shape != superpixels.shape:
            raise InputError(
                f"the maps of {method} have the shape {tuple(heat.shape)}, the clusters "
                f"{tuple(clusters.shape)} and the superpixels {tuple(superpixels.shape)}; all must "
                "be the same (B, H, W)"
            )
    if clusters.numel() and not 0 <= int(clusters.min()) <= int(clusters.max()) < n_clusters:
        raise InputError(
            f"the clusters are {int(clusters.min())} to {int(clusters.max())}; with n_clusters = "
            f"{n_clusters} they must be 0 to {n_clusters - 1}"
        )

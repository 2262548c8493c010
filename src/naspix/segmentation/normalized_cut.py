"""Normalized cuts over SLIC regions, by scikit-image: a segmentation NAS is compared with.

In: images ``(B, C, H, W)`` in [0, 1]. Out: a ``Segmentation`` whose clusters are the parts that
remain, from 0, and whose superpixels are their connected components.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from torch import Tensor

from naspix.segmentation.baselines import SLIC
from naspix.segmentation.matching import Match, bisect
from naspix.segmentation.per_image import (
    ChannelLast,
    LabelMap,
    count_pixels,
    require_positive,
    segment_each,
    three_channels,
)
from naspix.segmentation.segmentation import Segmentation

_LEAST_SIMILARITY = 1e-4  # of neighbours in the graph: with zeros its eigenvectors are not found


@final
@dataclass(frozen=True, kw_only=True)
class NormalizedCut:
    """Cut the graph of SLIC regions where similarity is weak: larger regions of one colour.

    Args:
        n_regions: How many SLIC regions to begin with; the most that can remain.
        compactness: Of those regions, see ``SLIC``.
        sigma: How fast similarity falls with the squared difference of mean colours in [0, 1];
            lower tells more colours apart.
        threshold: A part is cut in two while that costs less than this, from 0 to 2; higher gives
            more and smaller regions.
        seed: Of the eigenvalue solver's start.

    Source:
        Shi, Malik, "Normalized cuts and image segmentation", 2000;
        ``skimage.graph.cut_normalized``.

    Example:
        >>> import torch
        >>> NormalizedCut(n_regions=20)(torch.rand(1, 3, 32, 32)).clusters.shape
        torch.Size([1, 32, 32])
    """

    n_regions: int = 200
    compactness: float | int = 20.0
    sigma: float | int = 0.01
    threshold: float | int = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(n_regions=self.n_regions, compactness=self.compactness)
        require_positive(sigma=self.sigma, threshold=self.threshold)

    def __call__(self, images: Tensor) -> Segmentation:
        """Segment images ``(B, C, H, W)`` in [0, 1]."""
        from skimage.graph import cut_normalized, rag_mean_color

        n_regions = min(self.n_regions, count_pixels(images))
        slic = SLIC(n_segments=n_regions, compactness=self.compactness)
        regions = iter(slic(images).clusters.cpu().numpy())

        def labels(image: ChannelLast) -> LabelMap:
            start = next(regions)
            if start.max() == 0:
                return np.asarray(start)  # one region, nothing to cut
            colours = three_channels(image)[..., :3].astype(np.float64)
            graph = rag_mean_color(colours, start, mode="similarity", sigma=self.sigma)
            for _, _, edge in graph.edges(data=True):
                edge["weight"] = max(edge["weight"], _LEAST_SIMILARITY)
            parts = cut_normalized(start, graph, thresh=self.threshold, rng=self.seed)
            _, consecutive = np.unique(parts, return_inverse=True)
            return consecutive.reshape(parts.shape)

        return segment_each(images, labels, source=repr(self))

    def match(self, images: Tensor, n_superpixels: float | int) -> Match:
        """Choose ``threshold`` for a mean number of superpixels an image."""
        return bisect(
            lambda threshold: replace(self, threshold=threshold),
            images,
            n_superpixels,
            between=(1e-4, 2.0),
        )

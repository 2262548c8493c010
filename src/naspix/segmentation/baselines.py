"""The segmentations NAS is compared with (paper, section 4), by scikit-image, under one contract.

In: images ``(B, C, H, W)`` in [0, 1], of one channel, three or more. Out: a ``Segmentation`` whose
clusters are the method's own labels from 0, and whose superpixels are their connected components.
Each is a frozen dataclass; ``match`` chooses its main parameter for a number of superpixels.
"""

import warnings
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from torch import Tensor

from naspix.errors import InputError
from naspix.segmentation.matching import Match, bisect
from naspix.segmentation.per_image import (
    ChannelLast,
    LabelMap,
    count_pixels,
    require_not_negative,
    require_positive,
    segment_each,
    three_channels,
)
from naspix.segmentation.segmentation import Segmentation


@final
@dataclass(frozen=True, kw_only=True)
class SLIC:
    """k-means on colour and position: compact superpixels of similar size that follow edges.

    Args:
        n_segments: About how many superpixels.
        compactness: Weight of position against colour: 0.1 follows every edge, 100 makes squares;
            10 is usual for photos.
        sigma: Width in pixels of a Gaussian blur before, against noise and texture; 0 for none.
        max_num_iter: The most rounds of k-means.

    Source:
        Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", 2012;
        ``skimage.segmentation.slic``.

    Example:
        >>> import torch
        >>> SLIC(n_segments=16)(torch.zeros(1, 3, 32, 32)).n_superpixels
        tensor([16])
    """

    n_segments: int = 50
    compactness: float | int = 10.0
    sigma: float | int = 0.0
    max_num_iter: int = 10

    def __post_init__(self) -> None:
        require_positive(n_segments=self.n_segments, compactness=self.compactness)
        require_positive(max_num_iter=self.max_num_iter)
        require_not_negative(sigma=self.sigma)

    def __call__(self, images: Tensor) -> Segmentation:
        """Segment images ``(B, C, H, W)`` in [0, 1]."""
        from skimage.segmentation import slic

        def labels(image: ChannelLast) -> LabelMap:
            return np.asarray(
                slic(
                    image,
                    n_segments=self.n_segments,
                    compactness=self.compactness,
                    sigma=self.sigma,
                    max_num_iter=self.max_num_iter,
                    start_label=0,
                    channel_axis=-1,
                )
            )

        return segment_each(images, labels, source=repr(self), n_segments=self.n_segments)

    def match(self, images: Tensor, n_superpixels: float | int) -> Match:
        """Choose ``n_segments`` for a mean number of superpixels an image."""
        return bisect(
            lambda n: replace(self, n_segments=int(n)),
            images,
            n_superpixels,
            between=(1, count_pixels(images)),
            whole=True,
        )


@final
@dataclass(frozen=True, kw_only=True)
class Felzenszwalb:
    """Merge pixels across weak edges of a graph: regions of very different sizes, true to edges.

    Args:
        scale: How much contrast a border needs; higher gives fewer and larger regions.
        sigma: Width in pixels of the Gaussian blur before; higher ignores finer texture.
        min_size: Regions of fewer pixels are merged into a neighbour.

    Source:
        Felzenszwalb, Huttenlocher, "Efficient graph-based image segmentation", 2004;
        ``skimage.segmentation.felzenszwalb``. It joins pixels by corners too, so that one of its
        regions may be several superpixels.

    Example:
        >>> import torch
        >>> Felzenszwalb(scale=100)(torch.zeros(1, 3, 16, 16)).n_superpixels
        tensor([1])
    """

    scale: float | int = 100.0
    sigma: float | int = 0.8
    min_size: int = 20

    def __post_init__(self) -> None:
        require_positive(scale=self.scale)
        require_not_negative(sigma=self.sigma, min_size=self.min_size)

    def __call__(self, images: Tensor) -> Segmentation:
        """Segment images ``(B, C, H, W)`` in [0, 1]."""
        from skimage.segmentation import felzenszwalb

        def labels(image: ChannelLast) -> LabelMap:
            with warnings.catch_warnings():
                # channels are meant where there are more than three
                warnings.filterwarnings("ignore", "Got image with third dimension")
                regions = felzenszwalb(
                    image,
                    scale=self.scale,
                    sigma=self.sigma,
                    min_size=self.min_size,
                    channel_axis=-1,
                )
            return np.asarray(regions)

        return segment_each(images, labels, source=repr(self))

    def match(self, images: Tensor, n_superpixels: float | int) -> Match:
        """Choose ``scale`` for a mean number of superpixels an image."""
        return bisect(
            lambda scale: replace(self, scale=scale),
            images,
            n_superpixels,
            between=(1e5, 1e-2),
        )


@final
@dataclass(frozen=True, kw_only=True)
class Quickshift:
    """Climb to the nearest denser pixel in colour and position: ragged regions, true to colour.

    Args:
        kernel_size: Width in pixels over which density is judged; higher gives fewer regions, and
            takes time with its square.
        max_dist: How far a pixel may climb at once; higher gives fewer and larger regions.
        ratio: Weight of colour against position, from 0 to 1.
        sigma: Width in pixels of a Gaussian blur before; without it (0) texture leaves regions in
            many pieces.
        seed: Of the noise that breaks ties.

    Source:
        Vedaldi, Soatto, "Quick shift and kernel methods for mode seeking", 2008;
        ``skimage.segmentation.quickshift``.

    Example:
        >>> import torch
        >>> Quickshift()(torch.rand(1, 3, 16, 16)).clusters.shape
        torch.Size([1, 16, 16])
    """

    kernel_size: float | int = 3.0
    max_dist: float | int = 6.0
    ratio: float | int = 0.5
    sigma: float | int = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(max_dist=self.max_dist)
        require_not_negative(sigma=self.sigma, ratio=self.ratio)
        if not self.kernel_size >= 1:
            raise InputError(f"kernel_size is {self.kernel_size}; it must be at least 1 pixel")

    def __call__(self, images: Tensor) -> Segmentation:
        """Segment images ``(B, C, H, W)`` in [0, 1]."""
        from skimage.segmentation import quickshift

        def labels(image: ChannelLast) -> LabelMap:
            colours = three_channels(image)
            return np.asarray(
                quickshift(
                    colours,
                    kernel_size=self.kernel_size,
                    max_dist=self.max_dist,
                    ratio=self.ratio,
                    sigma=self.sigma,
                    convert2lab=colours.shape[2] == 3,
                    rng=self.seed,
                    channel_axis=-1,
                )
            )

        return segment_each(images, labels, source=repr(self))

    def match(self, images: Tensor, n_superpixels: float | int) -> Match:
        """Choose ``kernel_size``, and ``max_dist`` in step, for a mean number of superpixels."""
        reach = self.max_dist / self.kernel_size
        return bisect(
            lambda kernel: replace(self, kernel_size=kernel, max_dist=reach * kernel),
            images,
            n_superpixels,
            between=(15.0, 1.0),
        )


@final
@dataclass(frozen=True, kw_only=True)
class Watershed:
    """Flood the gradient magnitude from a regular grid of seeds: basins between edges.

    Args:
        n_segments: About how many seeds, one superpixel each.
        compactness: Weight of position against the gradient: 0 follows edges however far, 1 makes
            squares.

    Source:
        Neubert, Protzel, "Compact watershed and preemptive SLIC", 2014;
        ``skimage.segmentation.watershed`` on ``skimage.filters.sobel`` of the grey image.

    Example:
        >>> import torch
        >>> Watershed(n_segments=16)(torch.rand(1, 3, 32, 32)).n_superpixels
        tensor([16])
    """

    n_segments: int = 50
    compactness: float | int = 0.001

    def __post_init__(self) -> None:
        require_positive(n_segments=self.n_segments)
        require_not_negative(compactness=self.compactness)

    def __call__(self, images: Tensor) -> Segmentation:
        """Segment images ``(B, C, H, W)`` in [0, 1]."""
        from skimage.color import rgb2gray
        from skimage.filters import sobel
        from skimage.segmentation import watershed

        def labels(image: ChannelLast) -> LabelMap:
            grey = rgb2gray(image) if image.shape[2] == 3 else image.mean(axis=2)
            basins = watershed(sobel(grey), markers=self.n_segments, compactness=self.compactness)
            return np.asarray(basins - 1)

        return segment_each(images, labels, source=repr(self), n_segments=self.n_segments)

    def match(self, images: Tensor, n_superpixels: float | int) -> Match:
        """Choose ``n_segments`` for a mean number of superpixels an image."""
        return bisect(
            lambda n: replace(self, n_segments=int(n)),
            images,
            n_superpixels,
            between=(1, count_pixels(images)),
            whole=True,
        )


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """Equal rectangles, about square: what remains of a segmentation that does not see the image.

    Args:
        n_segments: About how many.

    Example:
        >>> import torch
        >>> Grid(n_segments=2)(torch.rand(1, 3, 2, 4)).superpixels
        tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]])
    """

    n_segments: int = 50

    def __post_init__(self) -> None:
        require_positive(n_segments=self.n_segments)

    def __call__(self, images: Tensor) -> Segmentation:
        """Segment images ``(B, C, H, W)`` in [0, 1]."""

        def labels(image: ChannelLast) -> LabelMap:
            height, width = image.shape[:2]
            rows = min(max(1, round((self.n_segments * height / width) ** 0.5)), height)
            columns = min(max(1, round(self.n_segments / rows)), width)
            rows = min(max(1, round(self.n_segments / columns)), height)
            row_of, column_of = (
                np.arange(height) * rows // height,
                np.arange(width) * columns // width,
            )
            return np.asarray(row_of[:, None] * columns + column_of)

        return segment_each(images, labels, source=repr(self), n_segments=self.n_segments)

    def match(self, images: Tensor, n_superpixels: float | int) -> Match:
        """Choose ``n_segments`` for a mean number of superpixels an image."""
        return bisect(
            lambda n: replace(self, n_segments=int(n)),
            images,
            n_superpixels,
            between=(1, count_pixels(images)),
            whole=True,
        )

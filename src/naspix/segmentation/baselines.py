"""The segmentations NAS is compared with (paper, section 4), by scikit-image, under one contract.

In: images ``(B, C, H, W)`` in [0, 1], of one channel, three or more. Out: a ``Segmentation`` on the
images' device, whose clusters are the method's own labels from 0, and whose superpixels are their
connected components. Each is a frozen dataclass; ``match`` chooses its main parameter for a number
of superpixels.
"""

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from naspix.errors import InputError
from naspix.images import check_images
from naspix.segmentation.matching import Match, bisect
from naspix.segmentation.segmentation import Segmentation

ChannelLast = Float[np.ndarray, "H W C"]
LabelMap = Int[np.ndarray, "H W"]

_LEAST_SIMILARITY = 1e-4  # of regions side by side: with zeros the eigenvectors are not found


class _Baseline(ABC):
    """What all have in common: one image at a time, channels last as scikit-image wants them."""

    _whole: ClassVar[bool] = False  # whether the main parameter is a whole number

    def __call__(self, images: Tensor) -> Segmentation:
        """Segment images ``(B, C, H, W)`` in [0, 1].

        Raises:
            InputError: If they are no images, or have fewer pixels than segments are wanted.
        """
        check_images(images)
        n_pixels = images.shape[-2] * images.shape[-1]
        if self._n_needed() > n_pixels:
            raise InputError(
                f"n_segments is {self._n_needed()}, more than the {n_pixels} pixels of an image"
            )
        arrays = images.detach().float().cpu().permute(0, 2, 3, 1).contiguous().numpy()
        labels = np.stack([self._labels(image).astype(np.int64, copy=False) for image in arrays])
        return Segmentation(torch.from_numpy(labels).to(images.device), source=repr(self))

    def match(self, images: Tensor, n_superpixels: float | int) -> Match:
        """Choose the main parameter for a mean number of superpixels an image.

        It is ``n_segments`` of ``SLIC``, ``Watershed`` and ``Grid``, ``scale`` of ``Felzenszwalb``,
        ``kernel_size`` and in step with it ``max_dist`` of ``Quickshift``, and ``threshold`` of
        ``NormalizedCut``. The other parameters stay as they are.

        Args:
            images: ``(B, C, H, W)`` in [0, 1].
            n_superpixels: The number wanted, at least 1.
        """
        check_images(images)
        between = self._range(images.shape[-2] * images.shape[-1])
        return bisect(self._varied, images, n_superpixels, between=between, whole=self._whole)

    @abstractmethod
    def _labels(self, image: ChannelLast) -> LabelMap:
        """Label one image, from 0."""

    @abstractmethod
    def _varied(self, value: float) -> Self:
        """Return the same with this value of the main parameter."""

    @abstractmethod
    def _range(self, n_pixels: int) -> tuple[float, float]:
        """Return the main parameter's values with the fewest superpixels and with the most."""

    def _n_needed(self) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class _Seeded(_Baseline, ABC):
    """Those that are told about how many superpixels to make."""

    _whole: ClassVar[bool] = True

    n_segments: int = 50

    def __post_init__(self) -> None:
        _require_positive(n_segments=self.n_segments)

    def _varied(self, value: float) -> Self:
        return replace(self, n_segments=int(value))

    def _range(self, n_pixels: int) -> tuple[int, int]:
        return 1, n_pixels

    def _n_needed(self) -> int:
        return self.n_segments


@final
@dataclass(frozen=True, kw_only=True)
class SLIC(_Seeded):
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

    title: ClassVar[str] = "SLIC"

    compactness: float | int = 10.0
    sigma: float | int = 0.0
    max_num_iter: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(compactness=self.compactness, max_num_iter=self.max_num_iter)
        _require_not_negative(sigma=self.sigma)

    def _labels(self, image: ChannelLast) -> LabelMap:
        from skimage.segmentation import slic

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


@final
@dataclass(frozen=True, kw_only=True)
class Felzenszwalb(_Baseline):
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

    title: ClassVar[str] = "Felzenszwalb"

    scale: float | int = 100.0
    sigma: float | int = 0.8
    min_size: int = 20

    def __post_init__(self) -> None:
        _require_positive(scale=self.scale)
        _require_not_negative(sigma=self.sigma, min_size=self.min_size)

    def _labels(self, image: ChannelLast) -> LabelMap:
        from skimage.segmentation import felzenszwalb

        with warnings.catch_warnings():
            # channels are meant where there are more than three
            warnings.filterwarnings("ignore", "Got image with third dimension")
            regions = felzenszwalb(
                image, scale=self.scale, sigma=self.sigma, min_size=self.min_size, channel_axis=-1
            )
        return np.asarray(regions)

    def _varied(self, value: float) -> Self:
        return replace(self, scale=value)

    def _range(self, n_pixels: int) -> tuple[float, float]:
        return 1e5, 1e-2


@final
@dataclass(frozen=True, kw_only=True)
class Quickshift(_Baseline):
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

    title: ClassVar[str] = "Quickshift"

    kernel_size: float | int = 3.0
    max_dist: float | int = 6.0
    ratio: float | int = 0.5
    sigma: float | int = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require_positive(max_dist=self.max_dist)
        _require_not_negative(sigma=self.sigma, ratio=self.ratio)
        if not self.kernel_size >= 1:
            raise InputError(f"kernel_size is {self.kernel_size}; it must be at least 1 pixel")

    def _labels(self, image: ChannelLast) -> LabelMap:
        from skimage.segmentation import quickshift

        colours = _three_channels(image)
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

    def _varied(self, value: float) -> Self:
        reach = self.max_dist / self.kernel_size
        return replace(self, kernel_size=value, max_dist=reach * value)

    def _range(self, n_pixels: int) -> tuple[float, float]:
        return 15.0, 1.0


@final
@dataclass(frozen=True, kw_only=True)
class Watershed(_Seeded):
    """Flood the gradient magnitude from a regular grid of seeds: basins between edges.

    Scikit-image floods from markers, which is not the immersion from all minima of Vincent and
    Soille, 1991 (the paper's reference 25). ``compactness=0`` is its plain form, by edges alone.

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

    title: ClassVar[str] = "Watershed"

    compactness: float | int = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_not_negative(compactness=self.compactness)

    def _labels(self, image: ChannelLast) -> LabelMap:
        from skimage.color import rgb2gray
        from skimage.filters import sobel
        from skimage.segmentation import watershed

        grey = rgb2gray(image) if image.shape[2] == 3 else image.mean(axis=2)
        basins = watershed(sobel(grey), markers=self.n_segments, compactness=self.compactness)
        return np.asarray(basins - 1)


@final
@dataclass(frozen=True, kw_only=True)
class NormalizedCut(_Baseline):
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

    title: ClassVar[str] = "Normalized cut"

    n_regions: int = 200
    compactness: float | int = 20.0
    sigma: float | int = 0.01
    threshold: float | int = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        _require_positive(n_regions=self.n_regions, compactness=self.compactness)
        _require_positive(sigma=self.sigma, threshold=self.threshold)

    def _labels(self, image: ChannelLast) -> LabelMap:
        from skimage.graph import cut_normalized, rag_mean_color

        n_regions = min(self.n_regions, image.shape[0] * image.shape[1])
        start = SLIC(n_segments=n_regions, compactness=self.compactness)._labels(image)
        if start.max() == 0:
            return start  # one region, nothing to cut
        channels = _three_channels(image).astype(np.float64)
        # exp(-d^2 / sigma) over all channels is the product over three at a time
        channels = np.pad(channels, ((0, 0), (0, 0), (0, -channels.shape[2] % 3)))
        sigma = self.sigma * max(image.shape[2], 3) / 3
        graph, *others = (
            rag_mean_color(channels[..., i : i + 3], start, mode="similarity", sigma=sigma)
            for i in range(0, channels.shape[2], 3)
        )
        for one, other, edge in graph.edges(data=True):
            similar = math.prod(another[one][other]["weight"] for another in others)
            edge["weight"] = max(edge["weight"] * similar, _LEAST_SIMILARITY)
        parts = cut_normalized(start, graph, thresh=self.threshold, rng=self.seed)
        _, consecutive = np.unique(parts, return_inverse=True)
        return consecutive.reshape(parts.shape)

    def _varied(self, value: float) -> Self:
        return replace(self, threshold=value)

    def _range(self, n_pixels: int) -> tuple[float, float]:
        return 1e-4, 2.0


@final
@dataclass(frozen=True, kw_only=True)
class Grid(_Seeded):
    """Equal rectangles, about square: what remains of a segmentation that does not see the image.

    Args:
        n_segments: About how many.

    Example:
        >>> import torch
        >>> Grid(n_segments=2)(torch.rand(1, 3, 2, 4)).superpixels
        tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]])
    """

    title: ClassVar[str] = "Grid"

    def _labels(self, image: ChannelLast) -> LabelMap:
        height, width = image.shape[:2]
        rows = min(max(1, round((self.n_segments * height / width) ** 0.5)), height)
        columns = min(max(1, round(self.n_segments / rows)), width)
        rows = min(max(1, round(self.n_segments / columns)), height)
        row_of, column_of = np.arange(height) * rows // height, np.arange(width) * columns // width
        return np.asarray(row_of[:, None] * columns + column_of)


def _three_channels(image: ChannelLast) -> Float[np.ndarray, "H W _"]:
    """Return a grey image as a colour image, others as they are."""
    return np.repeat(image, 3 if image.shape[2] == 1 else 1, axis=2)


def _require_positive(**values: float | int) -> None:
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"{name} is {value}; it must be more than 0")


def _require_not_negative(**values: float | int) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise InputError(f"{name} is {value}; it must not be negative")

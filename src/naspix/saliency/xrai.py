"""XRAI: which regions, of many sizes, gather most of an attribution.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W), constant on regions. The attribution and the
regions are arguments; by default both are the authors': Integrated Gradients from the darkest and
the lightest value, and Felzenszwalb's segments at six scales. How regions grow is
``growing.py``'s business.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor

from naspix.errors import InputError
from naspix.models.batches import in_batches
from naspix.saliency.base import (
    Attribution,
    Classes,
    Image,
    Images,
    Maps,
    OneClass,
    SaliencyMethod,
    Settings,
    check_finite,
    reduce_channels,
)
from naspix.saliency.growing import Pixels, Variant, grow_regions
from naspix.saliency.superpixels import Segmenter, superpixels_of
from naspix.targets import Target, as_given

# the authors' constants
_SCALES = (50, 100, 150, 250, 500, 1200)
_SIGMA = 0.8
_MIN_SIZE = 150
_FRAME = (224, 224)
_DILATION = 5


@dataclass(frozen=True, eq=False)
class XRAIRegions:
    """What XRAI found.

    Attributes:
        map: ``(B, H, W)``, at each pixel the mean attribution that its region brought.
        ranks: ``(B, H, W)``, 1 for the most salient region.
    """

    map: Float[Tensor, "B H W"]
    ranks: Int64[Tensor, "B H W"]


@dataclass(frozen=True)
class XRAI(Attribution):
    """XRAI: the image painted region by region, each time the one of the densest attribution.

    Needs gradients, unless an attribution is given; costs twice ``n_steps`` forwards and backwards
    an image. Signed, in the attribution's units: a region's value is the mean attribution of the
    pixels that it adds.

    Attributes:
        model: The classifier.
        attribution: Any saliency method, ``(images, target) -> (B, H, W)``, or with channels, of
            which the largest value counts. By default Integrated Gradients as the authors compute
            them: a plain mean over ``n_steps`` with both ends, from two images of one value, the
            least and the greatest of the standardised image over all of its channels. The score
            is the logit, as everywhere here; the authors leave it open.
        segmenter: Any segmenter, or several in a tuple, whose superpixels are the regions, taken
            as they are. With NAS, XRAI knows no colour edges. By default the authors' segments:
            Felzenszwalb at six scales on the image at 224 x 224, dilated by five pixels, so that
            they overlap.
        variant: ``"full"`` looks for the densest region after each step, ``"fast"`` sorts once.
        area_threshold: ``"full"`` stops when more than this share is painted; what is left gets
            its mean.
        min_pixels: Regions that would add fewer pixels are passed over.
        n_steps: Steps on the way from each of the two baselines.
        batch_size: How many steps pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Kapishnikov et al.: XRAI: Better Attributions Through Regions, 2019; the constants and the
        order of things are those of the authors' package ``saliency``.

    Example:
        >>> import naspix
        >>> method = XRAI(naspix.load_model("efficientnet_lite0"), n_steps=2)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "XRAI"
    quick: ClassVar[Settings] = {"n_steps": 15}

    _: KW_ONLY
    attribution: Callable[..., Tensor] | SaliencyMethod | None = None
    segmenter: Segmenter | tuple[Segmenter, ...] | None = None
    variant: Variant = "full"
    area_threshold: float = 1.0
    min_pixels: int = 50
    n_steps: int = 100
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("variant", get_args(Variant))
        self._check_counts("min_pixels", "n_steps")
        if not 0 <= self.area_threshold <= 1:
            raise InputError(f"XRAI: area_threshold is from 0 to 1, not {self.area_threshold}")

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count the steps from the two baselines; those of another attribution are not known."""
        return 2 * self.n_steps, 2 * self.n_steps

    def regions(self, images: Images, target: Target = None) -> XRAIRegions:
        """Return the map with the regions' ranks."""
        return self._answer(type(self)._regions, images, target)

    def _attribute(self, images: Images, target: Classes) -> Maps:
        return self._regions(images, target).map

    def _regions(self, images: Images, target: Classes) -> XRAIRegions:
        attributions = self._attributions(images, target)
        check_finite(attributions, self.model)
        grown = [
            grow_regions(
                attribution,
                masks,
                variant=self.variant,
                area_threshold=self.area_threshold,
                min_pixels=self.min_pixels,
            )
            for attribution, masks in zip(
                attributions.detach().cpu().double().numpy(), self._masks(images), strict=True
            )
        ]
        density = torch.from_numpy(np.stack([each.density for each in grown]))
        ranks = torch.from_numpy(np.stack([each.ranks for each in grown]))
        return XRAIRegions(density.to(images), ranks.to(images.device))

    def _attributions(self, images: Images, target: Classes) -> Maps:
        if self.attribution is None:
            values = torch.stack(
                [self._integrated(image, of) for image, of in zip(images, target, strict=True)]
            )
        else:
            values = self.attribution(images, as_given(target))
        expected = (len(images), *images.shape[-2:])
        if values.ndim == 4:
            values = reduce_channels(values, "max")
        if tuple(values.shape) != expected:
            raise InputError(f"the attribution has shape {tuple(values.shape)}, not {expected}")
        return values

    def _integrated(self, image: Image, target: OneClass) -> Float[Tensor, "H W"]:
        """The authors' Integrated Gradients of one image, mean of the two baselines."""
        standardized = self.model.standardize(image[None].detach()).float()
        mean, std = self.model.mean.to(standardized), self.model.std.to(standardized)
        end = standardized * std + mean
        parts = []
        for value in (standardized.amin(), standardized.amax()):
            start = value * std + mean
            gradients = self._mean_gradients(start, end, target)
            parts.append(gradients * (end - start))
        return reduce_channels(torch.stack(parts).mean(0), "max")[0]

    def _mean_gradients(
        self, start: Float[Tensor, "1 C 1 1"], end: Float[Tensor, "1 C H W"], target: OneClass
    ) -> Float[Tensor, "1 C H W"]:
        """The mean of the gradients on the way, both ends counted like the points between."""
        shares = torch.linspace(0, 1, self.n_steps, device=end.device, dtype=torch.float32)
        shares = shares[:, None, None, None]

        def summed(part: slice) -> Tensor:
            points = torch.lerp(start, end, shares[part])
            # convolutions and their gradients are faster in this layout, also on CPUs
            points = points.contiguous(memory_format=torch.channels_last)
            _, gradients = self._pixel_gradients(points, target.expand(len(points), *target.shape))
            return gradients.float().sum(0, keepdim=True)

        total = sum(in_batches(summed, self.n_steps, self._at_once), torch.zeros_like(end))
        return total / self.n_steps

    def _masks(self, images: Images) -> Iterator[list[Pixels]]:
        """The pixels of each region, image by image."""
        if self.segmenter is None:
            arrays = self.model.standardize(images.detach()).float().permute(0, 2, 3, 1).cpu()
            for array in arrays.numpy():
                yield felzenszwalb_masks(array)
            return
        several = self.segmenter if isinstance(self.segmenter, tuple) else (self.segmenter,)
        labels = [superpixels_of(segmenter, images).cpu().numpy() for segmenter in several]
        for maps in zip(*labels, strict=True):
            yield [pixels for each in maps for pixels in _pixels_of_each(each)]


def felzenszwalb_masks(array: Float[np.ndarray, "H W C"]) -> list[Pixels]:
    """The authors' overlapping segments: flat indices of each one's pixels.

    Args:
        array: The standardised image, on any scale.
    """
    from skimage.segmentation import felzenszwalb
    from skimage.transform import resize

    low, high = array.min(), array.max()
    scaled = (array - low) / (high - low if high > low else 1) * 2 - 1
    frame = resize(
        scaled, _FRAME, order=3, mode="constant", preserve_range=True, anti_aliasing=True
    )
    masks = []
    for scale in _SCALES:
        with warnings.catch_warnings():
            # channels are meant where there are more than three
            warnings.filterwarnings("ignore", "Got image with third dimension")
            labels = felzenszwalb(frame, scale=scale, sigma=_SIGMA, min_size=_MIN_SIZE)
        labels = resize(
            labels,
            array.shape[:2],
            order=0,
            mode="constant",
            preserve_range=True,
            anti_aliasing=False,
        ).astype(int)
        masks += _dilated_regions(labels)
    return masks


def _dilated_regions(labels: Int[np.ndarray, "H W"]) -> list[Pixels]:
    """Each label's pixels and all within the dilation's distance, each in its own box."""
    import cv2
    from scipy.ndimage import find_objects

    height, width = labels.shape
    disk = _disk(_DILATION)
    masks = []
    for label, box in enumerate(find_objects(labels + 1)):
        if box is None:  # lost when the labels were made smaller
            continue
        rows, columns = (
            slice(max(0, side.start - _DILATION), min(end, side.stop + _DILATION))
            for side, end in zip(box, (height, width), strict=True)
        )
        region = (labels[rows, columns] == label).astype(np.uint8)
        down, right = np.nonzero(cv2.dilate(region, disk))
        masks.append((down + rows.start) * width + right + columns.start)
    return masks


def _disk(radius: int) -> UInt8[np.ndarray, "side side"]:
    """Pixels within a distance of the middle, as scikit-image's ``disk``."""
    offsets = np.arange(-radius, radius + 1) ** 2
    inside: Bool[np.ndarray, "side side"] = offsets[:, None] + offsets <= radius**2
    return inside.astype(np.uint8)


def _pixels_of_each(labels: Int64[np.ndarray, "H W"]) -> list[Pixels]:
    """The flat indices of each label's pixels."""
    order = labels.ravel().argsort(kind="stable")
    _, counts = np.unique(labels, return_counts=True)
    return np.split(order, counts.cumsum()[:-1])

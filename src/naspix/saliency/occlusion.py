"""Occlusion: how much the score falls when a part of the photo is hidden.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W). Parts are windows, or the superpixels of any
segmenter. Only scores are needed, so any network will do.
"""

import itertools
import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from naspix.errors import InputError
from naspix.saliency.base import Classes, Image, Images, Labels, Maps, OneClass
from naspix.saliency.superpixels import N_SEGMENTS, SuperpixelAttribution


@dataclass(frozen=True)
class Occlusion(SuperpixelAttribution):
    """Occlusion: how much the score falls when a part is hidden.

    Needs scores; costs a forward for each part, by default some 170 windows an image. Signed, in
    units of the logit: parts that speak against the class are negative.

    Attributes:
        model: The classifier.
        segmenter: Hide one superpixel at a time, instead of windows.
        window: Side of the square that is hidden, in pixels; a seventh of the image's shorter side
            by default, 32 at 224.
        stride: Pixels from one window to the next; half the window by default. Where windows
            overlap, a pixel gets the mean of those that hide it.
        batch_size: How many partly hidden images pass the network at once: few on a CPU, many
            on a GPU by default.

    Source:
        Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, 2014, as captum's
        ``Occlusion`` and ``FeatureAblation``. Window and stride are naspix's choice.

    Example:
        >>> import naspix
        >>> method = Occlusion(naspix.load_model("efficientnet_lite0"), window=32)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "Occlusion"

    _: KW_ONLY
    window: int | None = None
    stride: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("window", "stride")
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise InputError(
                f"Occlusion: a stride of {self.stride} passes over pixels between windows of "
                f"{self.window}; it is at most the window"
            )

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count a forward for each part, and one for the whole photo."""
        if self.segmenter is not None:
            return N_SEGMENTS + 1, 0
        return len(self._windows(shape[1], shape[2])) + 1, 0

    def _attribute(self, images: Images, target: Classes) -> Maps:
        if self.segmenter is not None:
            return super()._attribute(images, target)
        hidden = self._windows(*images.shape[-2:])
        heats = [
            self._over_windows(image, of, hidden) for image, of in zip(images, target, strict=True)
        ]
        return torch.stack(heats)

    def _values(self, image: Image, labels: Labels, target: OneClass) -> Float[Tensor, " n"]:
        n = int(labels.max()) + 1
        shown = torch.cat([torch.ones(1, n, dtype=torch.bool), ~torch.eye(n, dtype=torch.bool)])
        scores = self._scores_of_shown(image, labels, target, shown)
        return scores[0] - scores[1:]

    def _over_windows(
        self, image: Image, target: OneClass, windows: list[tuple[slice, slice]]
    ) -> Float[Tensor, "H W"]:
        """The mean fall of the score over the windows that hide each pixel."""

        def masks(part: slice) -> Bool[Tensor, "n H W"]:
            # the first is the whole photo
            some = [None, *windows][part]
            shown = torch.ones(len(some), *image.shape[-2:], dtype=torch.bool)
            for mask, window in zip(shown, some, strict=True):
                if window is not None:
                    mask[window] = False
            return shown.to(self.model.device)

        scores = self._scores_of_masks(image, target, len(windows) + 1, masks)
        total, count = torch.zeros(2, *image.shape[-2:], dtype=torch.float64)
        for window, score in zip(windows, scores[1:], strict=True):
            total[window] += scores[0] - score
            count[window] += 1
        mean: Tensor = total / count
        return mean

    def _windows(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """The rows and columns of each window; the last ones end at the border."""
        shorter = min(height, width)
        window = math.ceil(shorter / 7) if self.window is None else self.window
        if window > shorter:
            raise InputError(
                f"a window of {window} pixels is larger than images of {height} x {width}"
            )
        stride = min(window, max(1, window // 2) if self.stride is None else self.stride)
        rows, columns = (
            [
                slice(start, start + window)
                for start in range(0, math.ceil((side - window) / stride) * stride + 1, stride)
            ]
            for side in (height, width)
        )
        return list(itertools.product(rows, columns))

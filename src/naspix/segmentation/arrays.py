"""From a segmenter of batches to a function of one numpy image, as other libraries want one.

In: an array ``(H, W, 3)``, eight-bit or in [0, 1]. Out: an array ``(H, W)`` of ids from 0 without
gaps. LIME's package, for one, counts ids by position and hides the wrong region where they have
gaps or begin at 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch.nn import functional

from naspix.errors import InputError
from naspix.models import read_image
from naspix.segmentation.segmentation import Segmentation


@final
@dataclass(frozen=True)
class ArraySegmenter:
    """A segmenter that takes one array and returns one.

    Args:
        segmenter: Any callable ``images -> Segmentation``.
        input_size: Height and width to which the picture is scaled before it is segmented; its own
            size if None. The regions always have the picture's own frame.

    Example:
        >>> from naspix.segmentation import Grid
        >>> segment = ArraySegmenter(Grid(n_segments=4))
        >>> segment(np.zeros((2, 2, 3), np.uint8))
        array([[0, 1],
               [2, 3]])
    """

    segmenter: Callable[[torch.Tensor], Segmentation]
    input_size: tuple[int, int] | None = None

    def __call__(self, image: Shaped[np.ndarray, "H W C"]) -> Int64[np.ndarray, "H W"]:
        """Segment one picture.

        Args:
            image: Integers over their type's range (uint8: 0 to 255), or floats in [0, 1].

        Raises:
            InputError: If the array is no such picture.
        """
        pixels = read_image(image)[None]
        frame = (image.shape[0], image.shape[1])
        if self.input_size is not None:
            if len(self.input_size) != 2 or min(self.input_size) < 1:
                raise InputError(f"input_size is {self.input_size}; give (height, width) in pixels")
            pixels = functional.interpolate(
                pixels, self.input_size, mode="bilinear", antialias=True
            ).clamp(0, 1)
        segmentation = self.segmenter(pixels)
        if segmentation.size != frame:
            segmentation = segmentation.resize(frame)
        labels: np.ndarray = segmentation.superpixels[0].cpu().numpy()
        return labels

"""Superpixels for methods that work on regions, and the scores of photos of which some are hidden.

Images (B, C, H, W) in [0, 1] -> labels (B, H, W) int64, from 0 without gaps in each image: a
segmenter's, or SLIC's where none is given. Methods know segmenters only as callables whose result
has ``superpixels``. Hidden means the mean colour of the model's standardisation; the score is the
logit.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from naspix.errors import InputError, ModelError
from naspix.models.batches import in_batches
from naspix.models.finite import why_not_finite
from naspix.saliency.base import Attribution, Classes, Image, Images, Labels, Maps, Need, OneClass

# as many as ``naspix.SLIC`` makes by default
N_SEGMENTS = 50
_COMPACTNESS = 10.0


@runtime_checkable
class Superpixels(Protocol):
    """What a segmenter returns, as far as methods look."""

    @property
    def superpixels(self) -> Tensor:
        """Labels ``(B, H, W)``."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Anything that cuts images into superpixels."""

    def __call__(self, images: Tensor, /) -> Superpixels:
        """Return the superpixels of ``images`` ``(B, C, H, W)``."""
        ...


@dataclass(frozen=True)
class SuperpixelAttribution(Attribution):
    """What methods share that hide superpixels: one value for each, from scores alone.

    Any network will do. Images are explained one by one, partly hidden ones in batches. What is
    random is drawn on the CPU by a generator of the method's own.
    """

    needs: ClassVar[Need] = "scores"

    _: KW_ONLY
    segmenter: Segmenter | None = None

    def _attribute(self, images: Images, target: Classes) -> Maps:
        labels = superpixels_of(self.segmenter, images)
        heats = [
            self._values(image, each, of)[each.cpu()]
            for image, each, of in zip(images, labels, target, strict=True)
        ]
        return torch.stack(heats)

    @abstractmethod
    def _values(self, image: Image, labels: Labels, target: OneClass) -> Float[Tensor, " n"]:
        """The value of each superpixel of one image, on the CPU."""

    def _scores_of_shown(
        self, image: Image, labels: Labels, target: OneClass, shown: Bool[Tensor, "rows n"]
    ) -> Float[Tensor, " rows"]:
        """The logit with the superpixels of each row shown; double precision, on the CPU."""
        labels = labels.to(self.model.device)
        return self._scores_of_masks(
            image, target, len(shown), lambda part: shown[part].to(labels.device)[:, labels]
        )

    @torch.no_grad()
    def _scores_of_masks(
        self,
        image: Image,
        target: OneClass,
        n_masks: int,
        masks: Callable[[slice], Bool[Tensor, "n H W"]],
    ) -> Float[Tensor, " rows"]:
        """The logit with the pixels of each mask shown; double precision, on the CPU.

        Args:
            image: Values in [0, 1].
            target: A class, or a pair.
            n_masks: How many there are.
            masks: Makes some of them, where the model is.
        """
        image, target = image.to(self.model.device), target.to(self.model.device)
        hidden = self.model.mean.to(image)

        def ask(part: slice) -> Tensor:
            points = torch.where(masks(part)[:, None], image, hidden)
            classes = target.expand(len(points), *target.shape)
            return self._target_scores(points, classes).cpu().double()

        scores = torch.cat(list(in_batches(ask, n_masks, self._at_once)))
        if not bool(scores.isfinite().all()):
            raise ModelError(
                "the network's scores are not finite (NaN or infinite); "
                f"{why_not_finite(self.model)}"
            )
        return scores


def superpixels_of(
    segmenter: Segmenter | None, images: Float[Tensor, "B C H W"]
) -> Int64[Tensor, "B H W"]:
    """The superpixels of the images, numbered from 0 without gaps in each.

    Args:
        segmenter: Any; None is SLIC on the colours.
        images: Values in [0, 1].

    Raises:
        InputError: superpixels of another shape than the images, or not integers.
    """
    if segmenter is None:
        arrays = images.detach().float().permute(0, 2, 3, 1).cpu().numpy()
        labels = torch.from_numpy(np.stack([slic_labels(array) for array in arrays]))
    else:
        labels = segmenter(images).superpixels
    expected = (len(images), *images.shape[-2:])
    if tuple(labels.shape) != expected or labels.is_floating_point():
        raise InputError(
            f"the segmenter's superpixels are {labels.dtype} of shape {tuple(labels.shape)}, not "
            f"integers of shape {expected}"
        )
    consecutive = [torch.unique(each, return_inverse=True)[1] for each in labels]
    return torch.stack(consecutive).to(images.device)


def slic_labels(
    array: Float[np.ndarray, "H W C"],
    n_segments: int = N_SEGMENTS,
    *,
    lab: bool = False,
) -> Int64[np.ndarray, "H W"]:
    """SLIC's labels from 0.

    Args:
        array: Colours in [0, 1]; three channels are compared in Lab.
        n_segments: About how many.
        lab: The array is in Lab already, or has channels on the scale of its lightness, 0 to 100.
    """
    from skimage.segmentation import slic

    convert = not lab and array.shape[2] == 3
    # scikit-image weighs position against values that it has scaled to [0, 1], then made Lab
    spread = 1.0 if convert else max(float(np.ptp(array)) * (1 if lab else 100), 1e-6)
    labels = slic(
        array,
        n_segments=min(n_segments, array.shape[0] * array.shape[1]),
        compactness=_COMPACTNESS / spread,
        start_label=0,
        channel_axis=-1,
        convert2lab=convert,
    )
    return np.asarray(labels).astype(np.int64)

"""SWAG: superpixels weighted by average gradients.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W), constant on superpixels: the mean of a gradient
map over each. The superpixels follow colours, gradients, or both; or come from any segmenter.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.saliency.base import Attribution, Classes, Images, Maps, check_finite
from naspix.saliency.gradients import VanillaGradient
from naspix.saliency.superpixels import N_SEGMENTS, Segmenter, slic_labels, superpixels_of
from naspix.superpixelify import superpixelify
from naspix.targets import as_given

Follow = Literal["image+gradients", "image", "gradients"]

_LIGHTEST = 100.0  # in Lab


@dataclass(frozen=True)
class SWAG(Attribution):
    """SWAG: each superpixel weighs the average gradient inside it.

    Needs gradients, unless ``gradients`` does not; costs what ``gradients`` costs, one forward and
    backward an image by default. Sign and range are those of ``gradients``: never negative by
    default.

    Attributes:
        model: The classifier.
        follow: What SLIC compares pixels by: ``"image+gradients"`` joins the gradients to the
            colours as a channel, ``"image"`` and ``"gradients"`` take one of them. The three are
            the paper's.
        segmenter: Any, in place of SLIC; ``follow`` is then without meaning.
        gradients: Any saliency method. naspix's choice is the plain gradient's magnitude, summed
            over channels, as every network has it; ``GuidedBackprop(model)`` is sharper.
        n_segments: About how many superpixels SLIC makes; naspix's choice.
        batch_size: How many images pass the network at once for the plain gradient: few on a CPU,
            many on a GPU by default.

    Source:
        Hartley, Sidorov, Willis, Marshall: SWAG: Superpixels Weighted by Average Gradients for
        Explanations of CNNs, WACV 2021, from its abstract: no code of the authors is known, so
        SLIC's settings, and that the gradient channel spans as much as the lightness does (0 to
        100), are naspix's.

    Example:
        >>> import naspix
        >>> method = SWAG(naspix.load_model("efficientnet_lite0"))
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "SWAG"

    _: KW_ONLY
    follow: Follow = "image+gradients"
    segmenter: Segmenter | None = None
    gradients: Callable[..., Tensor] | None = None
    n_segments: int = N_SEGMENTS
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("follow", get_args(Follow))
        self._check_counts("n_segments")

    def _attribute(self, images: Images, target: Classes) -> Maps:
        gradients = self.gradients or VanillaGradient(
            self.model, reduce="sum_abs", batch_size=self.batch_size
        )
        heat = gradients(images, as_given(target)).detach()
        if heat.shape != images[:, 0].shape:
            raise InputError(
                f"the gradients have shape {tuple(heat.shape)}, not {tuple(images[:, 0].shape)}"
            )
        check_finite(heat, self.model)
        return superpixelify(heat.to(images), self._superpixels(images, heat))

    def _superpixels(self, images: Images, heat: Maps) -> Int64[Tensor, "B H W"]:
        if self.segmenter is not None:
            return superpixels_of(self.segmenter, images)
        colors = images.detach().float().permute(0, 2, 3, 1).cpu().numpy()
        maps = heat.float().cpu().numpy()
        labels = [
            slic_labels(color, self.n_segments)
            if self.follow == "image"
            else slic_labels(_features(color, map_, self.follow), self.n_segments, lab=True)
            for color, map_ in zip(colors, maps, strict=True)
        ]
        return torch.from_numpy(np.stack(labels)).to(images.device)


def _features(
    colors: Float[np.ndarray, "H W C"], heat: Float[np.ndarray, "H W"], follow: Follow
) -> Float[np.ndarray, "H W _"]:
    """What SLIC compares: gradients on the scale of Lab's lightness, and Lab colours with them."""
    from skimage.color import rgb2lab

    spread = heat.max() - heat.min()
    scaled: Float[np.ndarray, "H W 1"] = (
        (heat - heat.min()) / (spread if spread > 0 else 1) * _LIGHTEST
    )[..., None]
    if follow == "gradients":
        return scaled
    lab = rgb2lab(colors) if colors.shape[2] == 3 else colors * _LIGHTEST
    return np.concatenate([lab, scaled], axis=2)

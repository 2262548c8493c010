"""captum: any of its attributions as a saliency method, over superpixels where they may be given.

A ``Classifier`` is a module that takes images in [0, 1], so captum takes it as it is, and
``seg.feature_mask`` is what captum calls ``feature_mask``. What is left to do, this file does: it
turns a captum attribution into ``(images, target) -> (B, H, W)``, so that it stands beside our own
methods in ``naspix.explain``. Nothing is imported: the attribution is given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from naspix.errors import InputError
from naspix.models import Classifier
from naspix.saliency.base import ReduceChannels, gradients_enabled, reduce_channels
from naspix.segmentation import Segmentation


@final
@dataclass(frozen=True)
class CaptumMethod:
    """A captum attribution as a saliency method.

    Args:
        attribute: The bound ``attribute`` of a captum class made with ``model``, or a
            ``functools.partial`` of it that holds further arguments, such as ``n_samples``.
        model: The classifier; images are explained for its predicted class unless told otherwise.
        segmenter: Makes the ``feature_mask``, for attributions that take one. Hidden regions then
            show the network's mean colour, which the network sees as zero. Images go in one by
            one, as not all of captum's attributions keep the images of a batch apart.
        reduce: How the channels become one map; ``"max"`` where all channels carry the same value,
            as they do over a ``feature_mask``.

    Example:
        >>> import naspix
        >>> from captum.attr import Saliency
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> method = CaptumMethod(Saliency(model).attribute, model, reduce="max_abs")
        >>> method(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 64, 64])
    """

    attribute: Callable[..., Any]
    model: Classifier
    segmenter: Callable[[Tensor], Segmentation] | None = None
    reduce: ReduceChannels = "sum"

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: int | Tensor | None = None
    ) -> Float[Tensor, "B H W"]:
        """Return the saliency of ``images`` in [0, 1] for ``target``.

        Raises:
            InputError: If the attribution's result has not the shape of the images.
        """
        images = images.to(self.model.device)
        classes = self.model.resolve_target(images, target)
        if self.segmenter is None:
            return self._reduced(images, {"target": classes})
        masks = self.segmenter(images).feature_mask
        colour = self.model.mean.to(images)
        rows = []
        for index, mask in enumerate(masks):
            image = images[index : index + 1]
            given = {
                "target": classes[index : index + 1],
                "feature_mask": mask[None],
                "baselines": colour.expand_as(image).contiguous(),
            }
            rows.append(self._reduced(image, given))
        return torch.cat(rows)

    def _reduced(
        self, images: Float[Tensor, "B C H W"], given: dict[str, Tensor]
    ) -> Float[Tensor, "B H W"]:
        with gradients_enabled():
            pixels = images.detach().clone()
            if "feature_mask" not in given:  # captum warns where it has to ask for gradients itself
                pixels.requires_grad_()
            attributions = self.attribute(pixels, **given)
        if not isinstance(attributions, Tensor) or attributions.shape != images.shape:
            shape = getattr(attributions, "shape", type(attributions).__name__)
            raise InputError(
                f"captum's attribution returned {shape} instead of the images' "
                f"{tuple(images.shape)}; layer attributions are not maps of the image"
            )
        return reduce_channels(attributions.detach(), self.reduce)

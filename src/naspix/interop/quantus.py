"""Quantus: any saliency method, pooled or not, as the ``explain_func`` of its metrics.

Quantus hands the model over with every call, because some metrics explain a network whose weights
they have just randomised. So methods come as what makes them from a model: the class itself, a
``functools.partial`` of it, a function. The model is a ``Classifier``; ``x_batch`` are images in
[0, 1], not standardised, and so are the baselines that metrics perturb with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from naspix.errors import InputError
from naspix.models import Classifier
from naspix.segmentation import Segmentation
from naspix.superpixelify import superpixelify


@final
@dataclass(frozen=True)
class ExplainFunc:
    """A saliency method as Quantus asks for one.

    Args:
        method: Makes the method from a model, such as ``naspix.saliency.GradCAM``.
        segmenter: Makes the segmenter over whose superpixels the maps are pooled, such as
            ``naspix.NAS``, or ``lambda model: naspix.SLIC()``; maps stay as they are if None.

    Example:
        >>> import naspix
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> explain = ExplainFunc(naspix.saliency.GradCAM, naspix.NAS)
        >>> inputs = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
        >>> explain(model=model, inputs=inputs, targets=np.array([1, 2])).shape
        (2, 1, 64, 64)
    """

    method: Callable[[Classifier], Callable[..., Tensor]]
    segmenter: Callable[[Classifier], Callable[[Tensor], Segmentation]] | None = None

    def __call__(
        self, model: Any, inputs: Any, targets: Any, **_: object
    ) -> Float[np.ndarray, "B 1 H W"]:
        """Explain a batch; what else Quantus passes (device, options of its own) is not needed.

        Args:
            model: A ``Classifier``.
            inputs: ``(B, C, H, W)``, array or tensor. Metrics add noise: values that leave [0, 1]
                are brought back to its ends.
            targets: One class for each.

        Raises:
            InputError: If the model is not one of ours.
        """
        if not isinstance(model, Classifier):
            raise InputError(
                f"ExplainFunc explains a naspix Classifier, not {type(model).__name__}; hand "
                "Quantus what wrap_model or load_model returns"
            )
        images = torch.as_tensor(inputs).to(model.device, torch.float32).clamp(0, 1)
        classes = torch.as_tensor(targets).to(model.device, torch.int64)
        heat = self.method(model)(images, classes)
        if self.segmenter is not None:
            heat = superpixelify(heat, self.segmenter(model)(images).superpixels)
        maps: np.ndarray = heat[:, None].float().cpu().numpy()
        return maps

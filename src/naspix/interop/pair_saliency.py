"""saliency, the package of XRAI's authors (PAIR): NAS regions as its ``segments``.

Its XRAI takes regions as a list of boolean masks and asks the network through a function of
gradients. ``segments`` and ``call_model_function`` are these two; ``AuthorsXRAI`` runs the whole of
it as a saliency method. Arrays on its side are ``(H, W, C)``, standardised as the network gets
them, because its baselines are the array's own least and largest value.
"""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from naspix.errors import InputError
from naspix.interop._libraries import library
from naspix.models import Classifier
from naspix.saliency.base import gradients_enabled
from naspix.segmentation import Segmentation


def segments(segmentation: Segmentation, index: int = 0) -> list[Bool[np.ndarray, "H W"]]:
    """List the superpixels of one image as XRAI's ``segments``.

    Args:
        segmentation: By any segmenter.
        index: Which image.

    Example:
        >>> seg = Segmentation(torch.tensor([[[0, 1]]]))
        >>> [mask.tolist() for mask in segments(seg)]
        [[[True, False]], [[False, True]]]
    """
    return list(segmentation.masks(index).cpu().numpy())


def call_model_function(model: Classifier, target: int) -> Callable[..., dict[str, np.ndarray]]:
    """Make a model into the package's ``call_model_function``.

    It takes standardised pictures ``(B, H, W, C)`` and answers for gradients of the class score,
    and for the score itself, which is all that Integrated Gradients, XRAI, SmoothGrad and Blur IG
    ask.

    Args:
        model: Asked for the logit of ``target``.
        target: The class.

    Example:
        >>> import naspix
        >>> ask = call_model_function(naspix.load_model("efficientnet_lite0"), 281)
        >>> answer = ask(np.zeros((1, 64, 64, 3)), expected_keys=["INPUT_OUTPUT_GRADIENTS"])
        >>> answer["INPUT_OUTPUT_GRADIENTS"].shape
        (1, 64, 64, 3)
    """
    mean, std = model.mean, model.std

    def ask(
        x_value_batch: Any,
        call_model_args: object = None,
        expected_keys: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        unknown = set(expected_keys) - {"INPUT_OUTPUT_GRADIENTS", "OUTPUT_LAYER_VALUES"}
        if unknown:
            raise InputError(f"the model answers for gradients and scores, not {min(unknown)}")
        with gradients_enabled():
            points = torch.as_tensor(np.asarray(x_value_batch), device=model.device)
            x = points.float().permute(0, 3, 1, 2).contiguous().requires_grad_()
            scores = model(x * std.to(x) + mean.to(x))[:, target]
            (gradients,) = torch.autograd.grad(scores.sum(), x)
        return {
            "INPUT_OUTPUT_GRADIENTS": gradients.permute(0, 2, 3, 1).cpu().numpy(),
            "OUTPUT_LAYER_VALUES": scores.detach().cpu().numpy(),
        }

    return ask


@final
@dataclass(frozen=True)
class AuthorsXRAI:
    """XRAI by its authors' package, as a saliency method.

    Our own ``naspix.saliency.XRAI`` gives the same map in a fraction of the time; this one is
    theirs to the letter.

    Args:
        model: Asked for gradients.
        segmenter: Whose superpixels are the regions; their own Felzenszwalb if None.
        variant: ``"full"`` grows region by region, ``"fast"`` sorts once.
        n_steps: Of Integrated Gradients, for each of two baselines.
        batch_size: Steps that pass the network together.

    Source:
        Kapishnikov et al., "XRAI: better attributions through regions", 2019.
    """

    model: Classifier
    segmenter: Callable[[Tensor], Segmentation] | None = None
    _: KW_ONLY
    variant: Literal["full", "fast"] = "full"
    n_steps: int = 100
    batch_size: int = 20

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: int | Tensor | None = None
    ) -> Float[Tensor, "B H W"]:
        """Return the map of ``images`` in [0, 1] for ``target``.

        Raises:
            MissingExtraError: If saliency is not installed.
        """
        core = library("saliency.core", "saliency", "AuthorsXRAI")
        classes = self.model.resolve_target(images, target).tolist()
        segmentation = None if self.segmenter is None else self.segmenter(images)
        arrays = self.model.standardize(images).detach().float().permute(0, 2, 3, 1).cpu().numpy()
        maps = []
        for index, (array, label) in enumerate(zip(arrays, classes, strict=True)):
            result = core.XRAI().GetMaskWithDetails(
                array,
                call_model_function(self.model, label),
                segments=None if segmentation is None else segments(segmentation, index),
                batch_size=self.batch_size,
                extra_parameters=core.XRAIParameters(steps=self.n_steps, algorithm=self.variant),
            )
            maps.append(torch.from_numpy(result.attribution_mask).float())
        return torch.stack(maps).to(images.device)

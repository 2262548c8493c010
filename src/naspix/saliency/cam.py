"""Class activation maps: a layer's maps, weighted by what its gradients say about the class.

Images (B, C, H, W) -> saliency (B, H, W), never negative: the layer's map, upsampled bilinearly to
the images' frame. The score is the logit before the softmax. Any layer with a spatial map will do,
also a transformer's tokens. Maps keep their magnitude; nothing is scaled to 0..1.
"""

import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import interpolate

from naspix.errors import ActivationError, ModelError, NaspixWarning
from naspix.models import Classifier, check_images
from naspix.models.activations import recording
from naspix.models.batches import batch_size_on, in_batches
from naspix.saliency.method import (
    Target,
    check_counts,
    check_finite,
    differentiate,
    gradients_enabled,
    resolve_target,
    target_scores,
)


@dataclass(frozen=True)
class GradCAM:
    """Grad-CAM: each channel of a layer weighs its mean gradient.

    Needs gradients and a layer with a spatial map; costs one forward and one backward an image.
    Never negative.

    Attributes:
        model: The classifier.
        layer: A level's number or a module's name; the deepest level by default.
        batch_size: How many images pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Selvaraju et al.: Grad-CAM, 2017.

    Example:
        >>> import naspix
        >>> method = GradCAM(naspix.load_model("efficientnet_lite0"))
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    model: Classifier
    _: KW_ONLY
    layer: int | str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, batch_size=self.batch_size)

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return how relevant each pixel is for the class.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range, or a layer that does not exist.
            ActivationError: the layer has no spatial map.
            ModelError: the class's score does not depend on the layer.

        Warns:
            NaspixWarning: the gradients are zero everywhere on the layer's map.
        """
        return _class_activation(self, images, target, lambda maps, g: g.mean((2, 3)))


@dataclass(frozen=True)
class GradCAMPlusPlus:
    """Grad-CAM++: each channel weighs its positive gradients, each by how much it alone explains.

    Needs gradients and a layer with a spatial map; costs one forward and one backward an image.
    Never negative. With the gradient g at a position and the layer's activation A, the paper's
    coefficient g² / (2g² + sum(A) g³) is 1 / (2 + g sum(A)): written so, it cannot underflow where
    gradients are small. pytorch-grad-cam adds 1e-6 to the denominator, which hides gradients below
    1e-3; torchcam 0.5.0 loses the division and weighs by g² ReLU(g).

    Attributes:
        model: The classifier.
        layer: A level's number or a module's name; the deepest level by default.
        batch_size: How many images pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Chattopadhyay et al.: Grad-CAM++, 2018, equations 10 and 19, for an exponential score.

    Example:
        >>> import naspix
        >>> method = GradCAMPlusPlus(naspix.load_model("efficientnet_lite0"))
        >>> method(torch.rand(1, 3, 64, 64), target=282).shape
        torch.Size([1, 64, 64])
    """

    model: Classifier
    _: KW_ONLY
    layer: int | str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, batch_size=self.batch_size)

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return how relevant each pixel is for the class.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range, or a layer that does not exist.
            ActivationError: the layer has no spatial map.
            ModelError: the class's score does not depend on the layer.

        Warns:
            NaspixWarning: the gradients are zero everywhere on the layer's map.
        """
        return _class_activation(self, images, target, _positive_weights)


def _positive_weights(
    maps: Float[Tensor, "B c h w"], gradients: Float[Tensor, "B c h w"]
) -> Float[Tensor, "B c"]:
    denominators = 2 + gradients * maps.sum((2, 3), keepdim=True)
    shares = torch.where(denominators == 0, 0, 1 / denominators)
    return (shares * gradients.relu()).sum((2, 3))


def _class_activation(
    method: GradCAM | GradCAMPlusPlus,
    images: Float[Tensor, "B C H W"],
    target: Target,
    weigh: Callable[[Tensor, Tensor], Tensor],
) -> Float[Tensor, "B H W"]:
    """The layer's channels, each by its weight, a batch at a time."""
    model = method.model
    check_images(images, model.in_channels)
    classes = resolve_target(method, model, images, target)
    (name,) = model.level_names([len(model.levels) - 1 if method.layer is None else method.layer])

    def compute(part: slice) -> tuple[Tensor, bool]:
        maps, gradients = _maps_and_gradients(method, model, name, images[part], classes[part])
        heat = _weighted(maps, weigh(maps, gradients))
        return _upsampled(heat, images[part]), bool(gradients.any())

    size = batch_size_on(model.device, method.batch_size, backwards=True)
    parts = list(in_batches(compute, len(images), size))
    # the contrast of a class with itself is zero by right
    if classes.ndim == 1 and not any(depends for _, depends in parts):
        warnings.warn(
            f"{type(method).__name__}: the scores' gradients are zero everywhere on layer "
            f"{name!r}, and so is the map (is it a transformer's last layer, of which only the "
            "class token is read, or are the weights untrained?); choose another layer",
            NaspixWarning,
            stacklevel=3,
        )
    return torch.cat([heat for heat, _ in parts])


def _maps_and_gradients(
    method: object,
    model: Classifier,
    name: str,
    images: Float[Tensor, "B C H W"],
    target: Int64[Tensor, "B ..."],
) -> tuple[Float[Tensor, "B c h w"], Float[Tensor, "B c h w"]]:
    """The layer's maps, and the gradients of the classes' scores with respect to them."""
    try:
        with gradients_enabled(), recording(model.network, [name]) as maps:
            # gradients reach the layer through the pixels, so that frozen networks are served too
            scores = target_scores(model, images.clone().requires_grad_(), target.clone())
            # a layer that did not run is refused where the block ends
            gradients = differentiate(method, model, scores, maps[name]) if maps else None
    except ActivationError as error:
        raise ActivationError(f"{type(method).__name__}: {error}") from None
    if gradients is None:
        raise ModelError(
            f"{type(method).__name__}: the class's score does not depend on the output of layer "
            f"{name!r}, or no gradients reach it; choose another layer"
        )
    check_finite(method, gradients)
    return maps[name].detach().float(), gradients.float()


def _weighted(
    maps: Float[Tensor, "B c h w"], weights: Float[Tensor, "B c"]
) -> Float[Tensor, "B h w"]:
    return (maps * weights[:, :, None, None]).sum(1).relu()


def _upsampled(
    saliency: Float[Tensor, "B h w"], images: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B H W"]:
    size = list(images.shape[-2:])
    resized = interpolate(saliency[:, None], size, mode="bilinear", align_corners=False)
    return resized[:, 0].to(images.dtype)

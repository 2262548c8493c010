"""Class activation maps: a layer's maps, weighted by what its gradients say about the class.

Images (B, C, H, W) -> saliency (B, H, W), never negative: the layer's map, upsampled bilinearly to
the images' frame. The score is the logit before the softmax. Any layer with a spatial map will do,
also a transformer's tokens. Maps keep their magnitude; nothing is scaled to 0..1.
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import final

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
class ClassActivationMap(ABC):
    """What CAMs share: a layer's maps, and the gradients of a score with respect to them.

    A method says how channels are weighted. Who has the maps and gradients already, of a forward
    that was run for something else too, asks :meth:`from_gradients`.
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
        check_images(images, self.model.in_channels)
        classes = resolve_target(self, self.model, images, target)
        size = batch_size_on(self.model.device, self.batch_size, backwards=True)
        parts = list(
            in_batches(lambda part: self._ask(images[part], classes[part]), len(images), size)
        )
        maps, gradients = (torch.cat(each) for each in zip(*parts, strict=True))
        return self.from_gradients(maps, gradients, images, classes)

    @property
    def layer_name(self) -> str:
        """The module whose maps are weighted."""
        (name,) = self.model.level_names(
            [len(self.model.levels) - 1 if self.layer is None else self.layer]
        )
        return name

    def from_gradients(
        self,
        maps: Float[Tensor, "B c h w"],
        gradients: Float[Tensor, "B c h w"] | None,
        images: Float[Tensor, "B C H W"],
        classes: Int64[Tensor, "B ..."],
    ) -> Float[Tensor, "B H W"]:
        """The saliency from a layer's maps and the gradients of the classes' scores there.

        Args:
            maps: The layer's.
            gradients: Of the scores with respect to the maps; None where there are none.
            images: Say the frame and the type of the result.
            classes: What was asked about.

        Raises:
            ModelError: There are no gradients, or ones that are not finite.

        Warns:
            NaspixWarning: The gradients are zero everywhere.
        """
        if gradients is None:
            raise ModelError(
                f"{type(self).__name__}: the class's score does not depend on the output of layer "
                f"{self.layer_name!r}, or no gradients reach it; choose another layer"
            )
        check_finite(self, gradients)
        # the contrast of a class with itself is zero by right
        if classes.ndim == 1 and not gradients.any():
            warnings.warn(
                f"{type(self).__name__}: the scores' gradients are zero everywhere on layer "
                f"{self.layer_name!r}, and so is the map (is it a transformer's last layer, of "
                "which only the class token is read, or are the weights untrained?); choose "
                "another layer",
                NaspixWarning,
                stacklevel=3,
            )
        maps, gradients = maps.detach().float(), gradients.float()
        heat = (maps * self._weights(maps, gradients)[:, :, None, None]).sum(1).relu()
        frame = list(images.shape[-2:])
        resized = interpolate(heat[:, None], frame, mode="bilinear", align_corners=False)
        return resized[:, 0].to(images.dtype)

    def _ask(
        self, images: Float[Tensor, "B C H W"], classes: Int64[Tensor, "B ..."]
    ) -> tuple[Float[Tensor, "B c h w"], Float[Tensor, "B c h w"]]:
        """The layer's maps, and the gradients of the classes' scores with respect to them."""
        name = self.layer_name
        try:
            with gradients_enabled(), recording(self.model.network, [name]) as maps:
                # gradients reach the layer through the pixels: frozen networks are served too
                points = images.clone().requires_grad_()
                scores = target_scores(self.model, points, classes.clone())
                # a layer that did not run is refused where the block ends
                gradients = differentiate(self, self.model, scores, maps[name]) if maps else None
        except ActivationError as error:
            raise ActivationError(f"{type(self).__name__}: {error}") from None
        if gradients is None:
            self.from_gradients(maps[name], None, images, classes)  # says so
        assert gradients is not None
        return maps[name].detach(), gradients

    @abstractmethod
    def _weights(
        self, maps: Float[Tensor, "B c h w"], gradients: Float[Tensor, "B c h w"]
    ) -> Float[Tensor, "B c"]:
        """The weight of each channel."""


@final
@dataclass(frozen=True)
class GradCAM(ClassActivationMap):
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

    def _weights(
        self, maps: Float[Tensor, "B c h w"], gradients: Float[Tensor, "B c h w"]
    ) -> Float[Tensor, "B c"]:
        return gradients.mean((2, 3))


@final
@dataclass(frozen=True)
class GradCAMPlusPlus(ClassActivationMap):
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

    def _weights(
        self, maps: Float[Tensor, "B c h w"], gradients: Float[Tensor, "B c h w"]
    ) -> Float[Tensor, "B c"]:
        denominators = 2 + gradients * maps.sum((2, 3), keepdim=True)
        shares = torch.where(denominators == 0, 0, 1 / denominators)
        return (shares * gradients.relu()).sum((2, 3))

"""Class activation maps: a layer's maps, weighted by what its gradients say about the class.

Images (B, C, H, W) -> saliency (B, H, W), never negative: the layer's map, upsampled bilinearly to
the images' frame. The score is the logit before the softmax. Any layer with a spatial map will do,
also a transformer's tokens. Maps keep their magnitude; nothing is scaled to 0..1.
"""

import warnings
from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from naspix.errors import ModelError, NaspixWarning
from naspix.models.activations import recording
from naspix.saliency.base import (
    Attribution,
    Classes,
    Images,
    Maps,
    Need,
    check_finite,
    gradients_enabled,
)


@dataclass(frozen=True)
class ClassActivationMap(Attribution):
    """What CAMs share: a layer's maps, and the gradients of a score with respect to them.

    A method says how channels are weighted. Who has the maps and gradients already, of a forward
    that was run for something else too, asks :meth:`from_gradients`.
    """

    needs: ClassVar[Need] = "a layer's map"

    _: KW_ONLY
    layer: int | str | nn.Module | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layer, nn.Module):  # by name, as the settings are to be told
            (name,) = self.model.level_names([self.layer])
            object.__setattr__(self, "layer", name)

    def _attribute(self, images: Images, target: Classes) -> Maps:
        maps, gradients = self._in_batches(self._maps_and_gradients, images, target)
        return self.from_gradients(maps, gradients, images, target)

    @property
    def layer_name(self) -> str:
        """The module whose maps are weighted."""
        (name,) = self.model.level_names(
            [self.model.deepest_level if self.layer is None else self.layer]
        )
        return name

    def from_gradients(
        self,
        maps: Float[Tensor, "B c h w"],
        gradients: Float[Tensor, "B c h w"] | None,
        images: Images,
        classes: Classes,
    ) -> Maps:
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
        with self._naming_errors():
            check_finite(gradients, self.model)
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
        frame = (images.shape[-2], images.shape[-1])
        seen = self.model.seen_part(frame)
        size = list(frame if seen is None else seen.size)
        resized = interpolate(heat[:, None], size, mode="bilinear", align_corners=False)
        resized = resized if seen is None else seen.fill(resized)
        return resized[:, 0].to(images.dtype)

    def _maps_and_gradients(
        self, images: Images, classes: Classes
    ) -> tuple[Float[Tensor, "B c h w"], Float[Tensor, "B c h w"]]:
        """The layer's maps, and the gradients of the classes' scores with respect to them."""
        name = self.layer_name
        self.model.seen_part((images.shape[2], images.shape[3]))  # before its tokens are read
        with gradients_enabled(), recording(self.model.network, [name]) as maps:
            # gradients reach the layer through the pixels: frozen networks are served too
            points = images.clone().requires_grad_()
            scores = self._target_scores(points, classes.clone())
            # a layer that did not run is refused where the block ends
            gradients = self.differentiate(scores, maps[name]) if maps else None
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
        layer: A level's number or a module or its name; by default the deepest level that
            gradients come to.
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

    title: ClassVar[str] = "Grad-CAM"

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
        layer: A level's number or a module or its name; by default the deepest level that
            gradients come to.
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

    title: ClassVar[str] = "Grad-CAM++"

    def _weights(
        self, maps: Float[Tensor, "B c h w"], gradients: Float[Tensor, "B c h w"]
    ) -> Float[Tensor, "B c"]:
        denominators = 2 + gradients * maps.sum((2, 3), keepdim=True)
        shares = torch.where(denominators == 0, 0, 1 / denominators)
        return (shares * gradients.relu()).sum((2, 3))

"""Saliency from one backward pass: the gradient, times the image, smoothed, guided.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W). The images in [0, 1] are what is
differentiated; standardising is part of the network. The score is the logit before the softmax.
Integrals along a path are ``integrated.py``, layers' maps ``cam.py``.
"""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch

from naspix.errors import InputError
from naspix.saliency.base import (
    ChannelAttribution,
    Classes,
    Images,
    Need,
    ReduceChannels,
    Settings,
    gradients_enabled,
)
from naspix.saliency.guided import check_guided, guided
from naspix.targets import Target


@dataclass(frozen=True)
class PixelGradient(ChannelAttribution):
    """What methods share that ask for the gradient of the class's score at the pixels."""

    def attributions(self, images: Images, target: Target = None) -> Images:
        """Return what the method finds, signed, for each channel of each pixel."""
        return self._answer(type(self)._channels, images, target)

    def _channels(self, images: Images, target: Classes) -> Images:
        return self._in_batches(self._gradient, images, target)

    def _gradient(self, images: Images, target: Classes) -> Images:
        """The gradient for each channel of each pixel, of one batch."""
        return self._pixel_gradients(images, target)[1]


@dataclass(frozen=True)
class VanillaGradient(PixelGradient):
    """The gradient of the class's score: how much a small change of a pixel changes it.

    Needs gradients; costs one forward and one backward an image. Never negative by default: the
    largest magnitude over the channels.

    Attributes:
        model: The classifier.
        reduce: How channels become one map, see ``reduce_channels``; ``"max_abs"`` is the paper's.
        batch_size: How many images pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks, 2013.

    Example:
        >>> import naspix
        >>> method = VanillaGradient(naspix.load_model("efficientnet_lite0"))
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "Gradient"

    _: KW_ONLY
    reduce: ReduceChannels = "max_abs"
    batch_size: int | None = None


@dataclass(frozen=True)
class InputXGradient(PixelGradient):
    """The gradient times the image: what each pixel contributes to first order.

    Needs gradients; costs one forward and one backward an image. Signed: negative pixels speak
    against the class. The image is the one in [0, 1], so that black contributes nothing.

    Attributes:
        model: The classifier.
        reduce: How channels become one map, see ``reduce_channels``; a sum over channels, as
            Quantus and captum's drawing have it, keeps a linear network's score.
        batch_size: How many images pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Shrikumar, Greenside, Kundaje: Not Just a Black Box, 2016.

    Example:
        >>> import naspix
        >>> method = InputXGradient(naspix.load_model("efficientnet_lite0"))
        >>> method(torch.rand(1, 3, 64, 64), target=282).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "Input x gradient"

    _: KW_ONLY
    reduce: ReduceChannels = "sum"
    batch_size: int | None = None

    def _channels(self, images: Images, target: Classes) -> Images:
        return images * super()._channels(images, target)


@dataclass(frozen=True)
class SmoothGrad(PixelGradient):
    """The gradient averaged over noisy copies of the image.

    Needs gradients; costs ``n_samples`` forwards and backwards an image. Never negative by
    default. Every image meets the same noise, drawn from ``seed``, whatever batch it comes in.

    Attributes:
        model: The classifier.
        noise: The noise's standard deviation as a share of the image's own range of values; the
            paper recommends 0.1 to 0.2.
        n_samples: How many noisy copies; the paper sees little change after 50.
        seed: Decides the noise.
        reduce: How channels become one map, see ``reduce_channels``; the sum of magnitudes is how
            the authors' package draws it.
        batch_size: How many noisy copies pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Smilkov et al.: SmoothGrad: removing noise by adding noise, 2017.

    Example:
        >>> import naspix
        >>> method = SmoothGrad(naspix.load_model("efficientnet_lite0"), n_samples=2)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "SmoothGrad"
    quick: ClassVar[Settings] = {"n_samples": 12}

    _: KW_ONLY
    noise: float = 0.15
    n_samples: int = 50
    seed: int = 0
    reduce: ReduceChannels = "sum_abs"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("n_samples")
        if not 0 <= self.noise < float("inf"):
            raise InputError(
                f"SmoothGrad: noise is a share of the image's range, 0 or more, not {self.noise}"
            )

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count one forward and one backward for each noisy copy."""
        return self.n_samples, self.n_samples

    def _channels(self, images: Images, target: Classes) -> Images:
        range_ = images.amax((1, 2, 3)) - images.amin((1, 2, 3))
        sigma = (self.noise * range_)[:, None, None, None]
        generator = torch.Generator().manual_seed(self.seed)
        total = torch.zeros_like(images, memory_format=torch.contiguous_format)
        left = self.n_samples
        while left:
            # several copies of few images, or one copy of many
            copies = min(left, max(1, self._at_once // len(images)))
            # one draw a copy: the sequence does not depend on how many are made at once
            draws = [
                torch.randn(images.shape[1:], generator=generator, dtype=torch.float32)
                for _ in range(copies)
            ]
            noise = torch.stack(draws).to(images)
            noisy = (images + sigma * noise[:, None]).flatten(0, 1)
            repeated = target.repeat(copies, *[1] * (target.ndim - 1))
            gradients = super()._channels(noisy, repeated)
            total += gradients.unflatten(0, (copies, len(images))).sum(0)
            left -= copies
        return total / self.n_samples


@dataclass(frozen=True)
class GuidedBackprop(PixelGradient):
    """The gradient with rectifiers that send only positive gradients down.

    Needs gradients; costs one forward and one backward an image. Never negative by default. Guided
    are ReLU, ReLU6, leaky and smooth rectifiers (SiLU, GELU, Hardswish, ELU, Mish, ...), called as
    modules or as functions; below the rectifier f the gradient g becomes max(0, f'(x) g). Gates and
    attention keep their gradients.

    The map shows the image's edges more than the class, as Adebayo et al. (Sanity Checks for
    Saliency Maps, 2018) found: on the default network and three photos, the signed map's rank
    correlation with itself is 1.00 after the classifier was made random, and 0.86 after everything
    from block 4 up; the plain gradient's is -0.11 and 0.00.

    Attributes:
        model: The classifier.
        reduce: How channels become one map, see ``reduce_channels``; the sum of magnitudes is how
            PAIR's package draws it.
        batch_size: How many images pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Springenberg et al.: Striving for Simplicity: The All Convolutional Net, 2014.

    Example:
        >>> import naspix
        >>> method = GuidedBackprop(naspix.load_model("efficientnet_lite0"))
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "Guided backprop"
    needs: ClassVar[Need] = "guided gradients"

    _: KW_ONLY
    reduce: ReduceChannels = "sum_abs"
    batch_size: int | None = None

    def _gradient(self, images: Images, target: Classes) -> Images:
        with gradients_enabled():
            points = images.clone().requires_grad_()
            with guided(self.model.network):
                scores = self._target_scores(points, target.clone())
            check_guided(self.model.name, self.model.network, scores)
            return self._gradients_of(scores, points)

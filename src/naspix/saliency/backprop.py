"""Saliency from one backward pass: the gradient, times the image, smoothed, guided.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W). The images in [0, 1] are what is
differentiated; standardising is part of the network. The score is the logit before the softmax.
Integrals along a path are ``gradients.py``, layers' maps ``cam.py``.
"""

from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.models import Classifier, check_images
from naspix.models.batches import batch_size_on, in_batches
from naspix.saliency.guided import check_guided, guided
from naspix.saliency.method import (
    ReduceChannels,
    Target,
    check_counts,
    gradients_enabled,
    pixel_gradients,
    reduce_channels,
    resolve_target,
    target_scores,
)


@dataclass(frozen=True)
class VanillaGradient:
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

    model: Classifier
    _: KW_ONLY
    reduce: ReduceChannels = "max_abs"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        _check_settings(self, self.reduce, batch_size=self.batch_size)

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return how sensitive the class's score is to each pixel.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range.
            ModelError: a network without gradients, or gradients that are not finite.
        """
        return reduce_channels(self.attributions(images, target), self.reduce)

    def attributions(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B C H W"]:
        """Return the gradient itself, signed, for each channel of each pixel."""
        classes = _checked_target(self, self.model, images, target)
        return _pixel_gradients(self, self.model, images, classes, self.batch_size)


@dataclass(frozen=True)
class InputXGradient:
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

    model: Classifier
    _: KW_ONLY
    reduce: ReduceChannels = "sum"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        _check_settings(self, self.reduce, batch_size=self.batch_size)

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return the signed contribution of each pixel to the class's score.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range.
            ModelError: a network without gradients, or gradients that are not finite.
        """
        return reduce_channels(self.attributions(images, target), self.reduce)

    def attributions(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B C H W"]:
        """Return the contribution of each channel of each pixel."""
        classes = _checked_target(self, self.model, images, target)
        return images * _pixel_gradients(self, self.model, images, classes, self.batch_size)


@dataclass(frozen=True)
class SmoothGrad:
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

    model: Classifier
    _: KW_ONLY
    noise: float = 0.15
    n_samples: int = 50
    seed: int = 0
    reduce: ReduceChannels = "sum_abs"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        _check_settings(self, self.reduce, batch_size=self.batch_size, n_samples=self.n_samples)
        if not 0 <= self.noise < float("inf"):
            raise InputError(
                f"SmoothGrad: noise is a share of the image's range, 0 or more, not {self.noise}"
            )

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return how sensitive the class's score is to each pixel, averaged over the noise.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range.
            ModelError: a network without gradients, or gradients that are not finite.
        """
        return reduce_channels(self.attributions(images, target), self.reduce)

    def attributions(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B C H W"]:
        """Return the averaged gradient, signed, for each channel of each pixel."""
        classes = _checked_target(self, self.model, images, target)
        range_ = images.amax((1, 2, 3)) - images.amin((1, 2, 3))
        sigma = (self.noise * range_)[:, None, None, None]
        generator = torch.Generator().manual_seed(self.seed)
        total = torch.zeros_like(images, memory_format=torch.contiguous_format)
        batch_size = batch_size_on(self.model.device, self.batch_size, backwards=True)
        left = self.n_samples
        while left:
            # several copies of few images, or one copy of many
            copies = min(left, max(1, batch_size // len(images)))
            # one draw a copy: the sequence does not depend on how many are made at once
            draws = [torch.randn(images.shape[1:], generator=generator) for _ in range(copies)]
            noise = torch.stack(draws).to(images)
            noisy = (images + sigma * noise[:, None]).flatten(0, 1)
            repeated = classes.repeat(copies, *[1] * (classes.ndim - 1))
            gradients = _pixel_gradients(self, self.model, noisy, repeated, batch_size)
            total += gradients.unflatten(0, (copies, len(images))).sum(0)
            left -= copies
        return total / self.n_samples


@dataclass(frozen=True)
class GuidedBackprop:
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

    model: Classifier
    _: KW_ONLY
    reduce: ReduceChannels = "sum_abs"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        _check_settings(self, self.reduce, batch_size=self.batch_size)

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return how each pixel drives the class's score through positive gradients.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range.
            ModelError: a network that cannot be guided everywhere, has no gradients, or ones that
                are not finite.
        """
        return reduce_channels(self.attributions(images, target), self.reduce)

    def attributions(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B C H W"]:
        """Return the guided gradient, signed, for each channel of each pixel."""
        classes = _checked_target(self, self.model, images, target)
        return _pixel_gradients(self, self.model, images, classes, self.batch_size, guide=True)


def _check_settings(method: object, reduce: str, **counts: int | None) -> None:
    check_counts(method, **counts)
    if reduce not in get_args(ReduceChannels):
        raise InputError(
            f"{type(method).__name__}: reduce is one of {', '.join(get_args(ReduceChannels))}, "
            f"not {reduce!r}"
        )


def _checked_target(
    method: object, model: Classifier, images: Float[Tensor, "B C H W"], target: Target
) -> Int64[Tensor, "B ..."]:
    check_images(images, model.in_channels)
    return resolve_target(method, model, images, target)


def _pixel_gradients(
    method: object,
    model: Classifier,
    images: Float[Tensor, "B C H W"],
    classes: Int64[Tensor, "B ..."],
    batch_size: int | None,
    *,
    guide: bool = False,
) -> Float[Tensor, "B C H W"]:
    """The gradients of the classes' scores with respect to the images, a batch at a time."""

    def gradients_of(part: slice) -> Tensor:
        with gradients_enabled():
            # a tensor made under inference_mode cannot be differentiated: copies can
            points = images[part].clone().requires_grad_()
            with guided(model.network) if guide else nullcontext():
                scores = target_scores(model, points, classes[part].clone())
            if guide:
                check_guided(model.name, model.network, scores)
            return pixel_gradients(method, model, scores, points)

    size = batch_size_on(model.device, batch_size, backwards=True)
    return torch.cat(list(in_batches(gradients_of, len(images), size)))

"""Saliency by hiding parts: Occlusion, LIME and KernelSHAP, computed by captum.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W). Hidden means the mean colour of the model's
standardisation; the score is the logit. Parts are windows or the superpixels of any segmenter. Only
scores are needed, so any network will do. Images are explained one by one, parts in batches.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.models import Classifier, check_images
from naspix.models.batches import batch_size_on, halving
from naspix.saliency.method import Target, check_counts, check_finite, resolve_target, target_scores
from naspix.saliency.superpixels import Segmenter, superpixels_of

Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Occlusion:
    """Occlusion: how much the score falls when a part is hidden.

    Needs scores; costs a forward for each part, by default some 170 windows an image. Signed, in
    units of the logit: parts that speak against the class are negative.

    Attributes:
        model: The classifier.
        segmenter: Hide one superpixel at a time, instead of windows.
        window: Side of the square that is hidden, in pixels; a seventh of the image's shorter side
            by default, 32 at 224.
        stride: Pixels from one window to the next; half the window by default. Where windows
            overlap, a pixel gets the mean of those that hide it.
        batch_size: How many partly hidden images pass the network at once: few on a CPU, many
            on a GPU by default.

    Source:
        Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, 2014; captum's
        ``Occlusion`` and ``FeatureAblation``. Window and stride are naspix's choice.

    Example:
        >>> import naspix
        >>> method = Occlusion(naspix.load_model("efficientnet_lite0"), window=32)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    model: Classifier
    _: KW_ONLY
    segmenter: Segmenter | None = None
    window: int | None = None
    stride: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, window=self.window, stride=self.stride, batch_size=self.batch_size)
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise InputError(
                f"Occlusion: a stride of {self.stride} passes over pixels between windows of "
                f"{self.window}; it is at most the window"
            )

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return how much of the score each pixel's part holds.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range, a window larger than the images, or
                superpixels of another shape.
        """
        from captum.attr import FeatureAblation
        from captum.attr import Occlusion as CaptumOcclusion

        if self.segmenter is not None:
            return _over_superpixels(
                self,
                images,
                target,
                lambda mask, score, image, hidden, size: FeatureAblation(score).attribute(
                    image, baselines=hidden, feature_mask=mask, perturbations_per_eval=size
                ),
            )
        window, stride = self._window_and_stride(images)
        channels = images.shape[1]
        return _each(
            self,
            images,
            target,
            lambda score, image, hidden, size: CaptumOcclusion(score).attribute(
                image,
                sliding_window_shapes=(channels, window, window),
                strides=(channels, stride, stride),
                baselines=hidden,
                perturbations_per_eval=size,
            ),
        )

    def _window_and_stride(self, images: Float[Tensor, "B C H W"]) -> tuple[int, int]:
        check_images(images, self.model.in_channels)
        shorter = min(images.shape[-2:])
        window = math.ceil(shorter / 7) if self.window is None else self.window
        if window > shorter:
            raise InputError(
                f"Occlusion: a window of {window} pixels is larger than images of "
                f"{images.shape[-2]} x {images.shape[-1]}"
            )
        stride = max(1, window // 2) if self.stride is None else self.stride
        return window, min(stride, window)


@dataclass(frozen=True)
class LIME:
    """LIME: a linear model of the score, fitted where about half of the superpixels are hidden.

    Needs scores; costs ``n_samples`` forwards an image. Signed: a superpixel's value is its weight
    in the linear model, in units of the logit, somewhat shrunk by the ridge penalty.

    Attributes:
        model: The classifier.
        segmenter: Any; SLIC by default.
        n_samples: Random choices of superpixels; the authors' package takes 1000.
        kernel_width: How fast choices lose weight with their cosine distance to the whole image;
            the authors' 0.25.
        ridge: Penalty on the weights' squares; the authors' 1.
        seed: Of the samples.
        batch_size: How many partly hidden images pass the network at once: few on a CPU, many
            on a GPU by default.

    Source:
        Ribeiro, Singh, Guestrin: "Why Should I Trust You?", 2016, with the settings of the
        authors' ``lime`` package for images; captum's ``Lime``. lime segments by quickshift and
        hides with each superpixel's own mean colour; here hidden means the same as elsewhere.

    Example:
        >>> import naspix
        >>> method = LIME(naspix.load_model("efficientnet_lite0"), n_samples=8)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    model: Classifier
    _: KW_ONLY
    segmenter: Segmenter | None = None
    n_samples: int = 1000
    kernel_width: float = 0.25
    ridge: float = 1.0
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, n_samples=self.n_samples, batch_size=self.batch_size)
        if not self.kernel_width > 0 or self.ridge < 0:
            raise InputError("LIME: kernel_width is above 0, and ridge is not negative")

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return the weight of each pixel's superpixel.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range, or superpixels of another shape.
        """
        from captum._utils.models.linear_model import SkLearnRidge
        from captum.attr import Lime

        def attribute(
            mask: Tensor, score: Score, image: Tensor, hidden: Tensor, size: int
        ) -> Tensor:
            attributions: Tensor = Lime(
                score,
                interpretable_model=SkLearnRidge(alpha=self.ridge),
                similarity_func=self._similarity,
            ).attribute(
                image,
                baselines=hidden,
                feature_mask=mask,
                n_samples=self.n_samples,
                perturbations_per_eval=size,
            )
            return attributions

        return _over_superpixels(self, images, target, attribute, seed=self.seed)

    def _similarity(self, image: Tensor, hidden: Tensor, kept: Tensor, **_: object) -> float:
        """The authors' kernel: the cosine distance between the superpixels kept and all of them."""
        distance = 1 - math.sqrt(float(kept.float().mean()))
        return math.exp(-(distance**2) / (2 * self.kernel_width**2))


@dataclass(frozen=True)
class KernelSHAP:
    """KernelSHAP: Shapley values of superpixels by a weighted linear regression.

    Needs scores; costs ``n_samples`` forwards an image. Signed, in units of the logit: the
    superpixels' values sum to the score's difference to the hidden image. For few superpixels
    ``Shapley`` is exact at less cost.

    Attributes:
        model: The classifier.
        segmenter: Any; SLIC by default.
        n_samples: Random choices of superpixels; the authors' package takes 2048 and two for each
            superpixel.
        seed: Of the samples.
        batch_size: How many partly hidden images pass the network at once: few on a CPU, many
            on a GPU by default.

    Source:
        Lundberg, Lee: A Unified Approach to Interpreting Model Predictions, 2017; captum's
        ``KernelShap``.

    Example:
        >>> import naspix
        >>> method = KernelSHAP(naspix.load_model("efficientnet_lite0"), n_samples=8)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    model: Classifier
    _: KW_ONLY
    segmenter: Segmenter | None = None
    n_samples: int = 2048
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, n_samples=self.n_samples, batch_size=self.batch_size)

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return the Shapley value of each pixel's superpixel.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range, or superpixels of another shape.
        """
        from captum.attr import KernelShap

        def attribute(
            mask: Tensor, score: Score, image: Tensor, hidden: Tensor, size: int
        ) -> Tensor:
            if int(mask.max()) == 0:  # one superpixel: nothing to regress on
                difference = score(image) - score(hidden)
                return difference[:, None, None, None].expand_as(image)
            attributions: Tensor = KernelShap(score).attribute(
                image,
                baselines=hidden,
                feature_mask=mask,
                n_samples=self.n_samples,
                perturbations_per_eval=size,
            )
            return attributions

        return _over_superpixels(self, images, target, attribute, seed=self.seed)


Method = Occlusion | LIME | KernelSHAP


def _over_superpixels(
    method: Method,
    images: Float[Tensor, "B C H W"],
    target: Target,
    attribute: Callable[[Tensor, Score, Tensor, Tensor, int], Tensor],
    seed: int = 0,
) -> Float[Tensor, "B H W"]:
    """Attribute to the superpixels of each image, whose masks captum wants as (1, 1, H, W)."""
    check_images(images, method.model.in_channels)
    classes = resolve_target(method, method.model, images, target)
    masks = superpixels_of(method, method.segmenter, images)[:, None, None].to(method.model.device)
    heats = [
        _attribute_one(method, image, of, partial(attribute, mask), seed)
        for image, of, mask in zip(images, classes, masks, strict=True)
    ]
    return _stacked(method, heats)


def _each(
    method: Method,
    images: Float[Tensor, "B C H W"],
    target: Target,
    attribute: Callable[[Score, Tensor, Tensor, int], Tensor],
) -> Float[Tensor, "B H W"]:
    """Attribute to each image by itself."""
    classes = resolve_target(method, method.model, images, target)
    return _stacked(
        method,
        [
            _attribute_one(method, image, of, attribute, 0)
            for image, of in zip(images, classes, strict=True)
        ],
    )


def _attribute_one(
    method: Method,
    image: Float[Tensor, "C H W"],
    target: Int64[Tensor, "..."],
    attribute: Callable[[Score, Tensor, Tensor, int], Tensor],
    seed: int,
) -> Float[Tensor, "H W"]:
    """One image's map; all channels of a part are hidden together and hold the same value."""

    def score(points: Tensor) -> Tensor:
        return target_scores(method.model, points, target.expand(len(points), *target.shape))

    def attempt(size: int) -> Tensor:
        # begun again from the seed where memory ran out
        with torch.inference_mode(False), torch.no_grad(), _seeded(seed, method.model.device):
            photo = image[None].to(method.model.device, copy=True)
            hidden = method.model.mean.to(photo).expand_as(photo)
            return attribute(score, photo, hidden, size)

    size = batch_size_on(method.model.device, method.batch_size)
    return halving(attempt, size)[0, 0].to(image)


def _stacked(method: Method, heats: list[Tensor]) -> Float[Tensor, "B H W"]:
    result = torch.stack(heats)
    check_finite(method, result)
    return result


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global random state from a seed, as captum draws from it; restored afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield

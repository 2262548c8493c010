"""Saliency from gradients with respect to the pixels: Integrated Gradients.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W). The images in [0, 1] are what is
differentiated; standardising is part of the network. The path integral is captum's; here is what it
starts from and how exact it is. Where that is not exact enough, `refined_integral` goes on.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError, NaspixWarning
from naspix.models import Classifier, check_images
from naspix.models.batches import batch_size_on, halving, in_batches
from naspix.saliency.method import (
    ReduceChannels,
    Target,
    check_counts,
    check_finite,
    gradients_enabled,
    pixel_gradients,
    reduce_channels,
    resolve_target,
    target_scores,
)
from naspix.saliency.refinement import RefinedIntegral, refined_integral

_FEWEST_PLACES = 3  # fewer are no finer than the plain integral

BaselineName = Literal["mean", "black", "white", "blur"]
Baseline = BaselineName | Tensor


@dataclass(frozen=True)
class IntegratedAttributions:
    """What Integrated Gradients found before the channels are reduced.

    Attributes:
        values: ``(B, C, H, W)``; their sum over an image is the score's difference to the baseline,
            up to the completeness error.
        completeness_error: ``(B,)``, how far it is from that, as a share of the difference.
        n_steps: ``(B,)``, the steps each image took.
    """

    values: Float[Tensor, "B C H W"]
    completeness_error: Float[Tensor, " B"]
    n_steps: Int64[Tensor, " B"]


@dataclass(frozen=True, eq=False)
class IntegratedGradients:
    """Integrated Gradients: gradients averaged on the way from a baseline to the image.

    Needs gradients; costs ``n_steps`` forwards and backwards an image and baseline, and more where
    the path bends until the attributions sum to the score's difference within ``tolerance``.
    Signed: negative pixels speak against the class.

    Attributes:
        model: The classifier.
        baseline: The image without information: ``"mean"`` is the mean colour of the model's
            standardisation (zero after it), ``"black"``, ``"white"``, ``"blur"`` the photo blurred
            until only its colours are left; or a tensor that broadcasts to the images; or several
            of these in a tuple, averaged.
        n_steps: Steps of the integral (Gauss-Legendre) to begin with.
        max_steps: Where adding steps ends, with a warning.
        tolerance: The completeness error aimed at, as a share of the score's difference; with 1.0
            it is the plain integral of ``n_steps``.
        reduce: How channels become one map, see ``reduce_channels``; the sum keeps completeness.
        batch_size: How many steps pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, 2017. Summing the channels
        is captum's and Quantus' habit.

    Example:
        >>> import naspix
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> method = IntegratedGradients(model, n_steps=2, tolerance=1.0)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    model: Classifier
    _: KW_ONLY
    baseline: Baseline | tuple[Baseline, ...] = "mean"
    n_steps: int = 50
    max_steps: int = 400
    tolerance: float = 0.01
    reduce: ReduceChannels = "sum"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(
            self, n_steps=self.n_steps, max_steps=self.max_steps, batch_size=self.batch_size
        )
        if self.reduce not in get_args(ReduceChannels):
            raise InputError(
                f"IntegratedGradients: reduce is one of {', '.join(get_args(ReduceChannels))}, "
                f"not {self.reduce!r}"
            )
        if isinstance(self.baseline, tuple) and not self.baseline:
            raise InputError("IntegratedGradients: the tuple of baselines is empty")

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return the signed relevance of each pixel for the class.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range, or a baseline of another shape.
            ModelError: gradients that are not finite.
        """
        return reduce_channels(self.attributions(images, target).values, self.reduce)

    def attributions(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> IntegratedAttributions:
        """Return a value for each channel of each pixel, with the completeness error.

        Warns:
            NaspixWarning: ``max_steps`` were not enough for the ``tolerance``.
        """
        check_images(images, self.model.in_channels)
        classes = resolve_target(self, self.model, images, target)
        baselines = self.baseline if isinstance(self.baseline, tuple) else (self.baseline,)
        parts = [
            self._integrate(images, _baseline_images(name, self.model, images), classes)
            for name in baselines
        ]
        result = IntegratedAttributions(
            values=torch.stack([part.values for part in parts]).mean(0),
            completeness_error=torch.stack([part.completeness_error for part in parts]).amax(0),
            n_steps=torch.stack([part.n_steps for part in parts]).amax(0),
        )
        check_finite(self, result.values)
        _warn_incomplete(result, self.tolerance)
        return result

    def _integrate(
        self,
        images: Float[Tensor, "B C H W"],
        baseline: Float[Tensor, "B C H W"],
        target: Int64[Tensor, "B ..."],
    ) -> IntegratedAttributions:
        """Integrate by Gauss-Legendre, and finer each image that is not exact enough by it."""
        ends = [self._scores(end, target) for end in (images, baseline)]
        difference = _not_too_small(ends[0] - ends[1], ends[0].abs() + ends[1].abs())
        values = self._path_integral(images, baseline, target)
        missing = (values.double().sum((1, 2, 3)) - (ends[0] - ends[1])).abs()
        error = missing / difference
        taken = torch.full_like(target[..., 0] if target.ndim > 1 else target, self.n_steps)
        max_places = self.max_steps - self.n_steps
        if max_places < _FEWEST_PLACES:
            return IntegratedAttributions(values, error.float(), taken)
        for i in torch.nonzero(error > self.tolerance)[:, 0].tolist():
            one = slice(i, i + 1)
            allowed = self.tolerance * float(difference[i])
            refined = self._refined(images[one], baseline[one], target[one], allowed, max_places)
            taken[i] += refined.n_places
            if refined.missing < missing[i]:
                values[i], error[i] = refined.values, refined.missing / difference[i]
        return IntegratedAttributions(values, error.float(), taken)

    @property
    def _at_once(self) -> int:
        return batch_size_on(self.model.device, self.batch_size, backwards=True)

    @torch.no_grad()
    def _scores(
        self, images: Float[Tensor, "B C H W"], target: Int64[Tensor, "B ..."]
    ) -> Float[Tensor, " B"]:
        def ask(part: slice) -> Tensor:
            return target_scores(self.model, images[part], target[part]).double()

        return torch.cat(list(in_batches(ask, len(images), self._at_once)))

    def _path_integral(
        self,
        images: Float[Tensor, "B C H W"],
        baseline: Float[Tensor, "B C H W"],
        target: Int64[Tensor, "B ..."],
    ) -> Float[Tensor, "B C H W"]:
        from captum.attr import IntegratedGradients as CaptumIntegratedGradients

        integrate = CaptumIntegratedGradients(
            lambda points, classes: target_scores(self.model, points, classes),
            multiply_by_inputs=True,
        )
        integrate.gradient_func = self._gradients

        def attempt(size: int) -> Tensor:
            parts: list[Tensor] = []
            with gradients_enabled():
                # a tensor made under inference_mode cannot be differentiated: copies can
                for some, starts, classes in zip(
                    images.split(size), baseline.split(size), target.split(size), strict=True
                ):
                    attributions: Tensor = integrate.attribute(
                        some.clone(),
                        baselines=starts.clone(),
                        additional_forward_args=(classes.clone(),),
                        n_steps=self.n_steps,
                        internal_batch_size=size,
                    )
                    parts.append(attributions.detach().to(images.dtype))
            return torch.cat(parts)

        return halving(attempt, self._at_once)

    def _refined(
        self,
        image: Float[Tensor, "1 C H W"],
        baseline: Float[Tensor, "1 C H W"],
        target: Int64[Tensor, "1 ..."],
        allowed: float,
        max_places: int,
    ) -> RefinedIntegral:
        """The path's integral with steps where they are missing."""
        way = image - baseline

        def ask(
            places: Float[Tensor, " n"],
        ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n C H W"]]:
            with gradients_enabled():
                # what was made under inference_mode cannot be differentiated: copies can
                points = (baseline + places.to(way).reshape(-1, 1, 1, 1) * way).clone()
                points.requires_grad_()
                classes = target.expand(len(places), *target.shape[1:]).clone()
                scores = target_scores(self.model, points, classes)
                gradients = pixel_gradients(self, self.model, scores, points)
            return scores.detach().double(), gradients.detach()

        def attempt(size: int) -> RefinedIntegral:
            return refined_integral(
                ask, way[0], allowed=allowed, max_places=max_places, batch_size=size
            )

        return halving(attempt, self._at_once)

    def _gradients(
        self,
        forward_fn: Callable[..., Tensor],
        inputs: tuple[Tensor, ...],
        target_ind: object = None,
        additional_forward_args: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor]:
        """What captum calls for gradients; its own turns a network without any into a riddle."""
        (points,) = inputs
        scores = forward_fn(points, *additional_forward_args)
        return (pixel_gradients(self, self.model, scores, points),)


def _baseline_images(
    baseline: Baseline, model: Classifier, images: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B C H W"]:
    """The baseline for each image."""
    if isinstance(baseline, Tensor):
        try:
            return baseline.to(images).expand_as(images)
        except RuntimeError:
            raise InputError(
                f"IntegratedGradients: a baseline of shape {tuple(baseline.shape)} does not fit "
                f"images of shape {tuple(images.shape)}"
            ) from None
    if baseline == "mean":
        return model.mean.to(images).expand_as(images)
    if baseline == "black":
        return torch.zeros_like(images)
    if baseline == "white":
        return torch.ones_like(images)
    if baseline == "blur":
        return _blurred(images)
    raise InputError(
        f"IntegratedGradients: baseline is {', '.join(get_args(BaselineName))}, a tensor, or "
        f"several of these in a tuple, not {baseline!r}"
    )


def _blurred(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """A Gaussian blur of a twentieth of the image's width, which leaves no shapes."""
    from torchvision.transforms.v2.functional import gaussian_blur

    shorter = min(images.shape[-2:])
    sigma = max(shorter / 20, 0.5)
    size = min(2 * round(3 * sigma) + 1, 2 * ((shorter - 1) // 2) + 1)
    blurred: Tensor = gaussian_blur(images, [size, size], [sigma, sigma])
    return blurred


def _not_too_small(
    difference: Float[Tensor, " B"], scores: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """The size of the score's difference, where it is more than rounding in float32."""
    return difference.abs().clamp(min=torch.finfo(torch.float64).tiny).maximum(1e-4 * scores)


def _warn_incomplete(result: IntegratedAttributions, tolerance: float) -> None:
    import warnings

    incomplete = result.completeness_error > tolerance
    if bool(incomplete.any()):
        warnings.warn(
            f"Integrated Gradients of {int(incomplete.sum())} of {len(incomplete)} images sum to "
            f"the score's difference only within {float(result.completeness_error.max()):.1%} "
            f"after {int(result.n_steps.max())} steps; raise max_steps",
            NaspixWarning,
            stacklevel=4,
        )

"""Saliency from gradients along a path: Integrated Gradients.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W). The images in [0, 1] are what is
differentiated; standardising is part of the network. A path from a baseline to an image is asked
for scores and gradients at places in [0, 1], first at those of Gauss and Legendre. Between two
places the gradients must add up to what the score gained; where they do not, there is more to see,
and ``refined_integral`` goes on. Networks of ReLUs bend at few places, so that a few steps there do
what many do everywhere.
"""

import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError, NaspixWarning
from naspix.models.batches import halving
from naspix.models.devices import in_float64
from naspix.saliency.base import (
    ChannelAttribution,
    Classes,
    Image,
    Images,
    OneClass,
    ReduceChannels,
    Settings,
)
from naspix.targets import Target

_FEWEST_PLACES = 3  # fewer are no finer than the plain integral
_FIRST = 32  # intervals to begin with: as wide as two neighbours may look alike by chance

BaselineName = Literal["mean", "black", "white", "blur"]
Baseline = BaselineName | Tensor
# places (n,) in [0, 1] -> scores there (n,), in double precision, and gradients there (n, C, H, W)
Ask = Callable[[Float[Tensor, " n"]], tuple[Float[Tensor, " n"], Float[Tensor, "n C H W"]]]


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
class RefinedIntegral:
    """An integral of gradients from the path's start to its end.

    Attributes:
        values: ``(C, H, W)``: the integral times the way that each pixel has gone.
        missing: How far their sum is from what the score gained, in its units.
        n_places: How many were asked for.
    """

    values: Float[Tensor, "C H W"]
    missing: float
    n_places: int


@dataclass(frozen=True, eq=False)
class IntegratedGradients(ChannelAttribution):
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

    title: ClassVar[str] = "Integrated Gradients"
    quick: ClassVar[Settings] = {"n_steps": 20, "tolerance": 0.2}

    _: KW_ONLY
    baseline: Baseline | tuple[Baseline, ...] = "mean"
    n_steps: int = 50
    max_steps: int = 400
    tolerance: float = 0.01
    reduce: ReduceChannels = "sum"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("n_steps", "max_steps")
        if isinstance(self.baseline, tuple) and not self.baseline:
            raise InputError("IntegratedGradients: the tuple of baselines is empty")

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count the first steps and the scores of both ends; not what is added where they miss."""
        return self.n_steps + 2, self.n_steps

    def attributions(self, images: Images, target: Target = None) -> IntegratedAttributions:
        """Return a value for each channel of each pixel, with the completeness error.

        Warns:
            NaspixWarning: ``max_steps`` were not enough for the ``tolerance``.
        """
        return self._answer(type(self)._integrated, images, target)

    def _channels(self, images: Images, target: Classes) -> Images:
        return self._integrated(images, target).values

    def _integrated(self, images: Images, target: Classes) -> IntegratedAttributions:
        baselines = self.baseline if isinstance(self.baseline, tuple) else (self.baseline,)
        parts = [self._from(self._start(name, images), images, target) for name in baselines]
        result = IntegratedAttributions(
            values=torch.stack([part.values for part in parts]).mean(0),
            completeness_error=torch.stack([part.completeness_error for part in parts]).amax(0),
            n_steps=torch.stack([part.n_steps for part in parts]).amax(0),
        )
        incomplete = result.completeness_error > self.tolerance
        if bool(incomplete.any()):
            warnings.warn(
                f"Integrated Gradients of {int(incomplete.sum())} of {len(incomplete)} images sum "
                f"to the score's difference only within "
                f"{float(result.completeness_error.max()):.1%} after {int(result.n_steps.max())} "
                "steps; raise max_steps",
                NaspixWarning,
                stacklevel=6,
            )
        return result

    def _from(self, baseline: Images, images: Images, target: Classes) -> IntegratedAttributions:
        """Integrate by Gauss-Legendre, and finer each image that is not exact enough by it."""
        with torch.no_grad():
            end, start = (
                in_float64(self._in_batches(self._target_scores, each, target))
                for each in (images, baseline)
            )
        # where it is more than rounding in float32
        smallest = (1e-4 * (end.abs() + start.abs())).clamp(min=torch.finfo(torch.float64).tiny)
        difference = (end - start).abs().maximum(smallest)
        found = []
        for i, image in enumerate(images):
            way = image - baseline[i]
            ask = self._path(baseline[i], way, target[i])
            allowed = self.tolerance * float(difference[i])
            found.append(self._exact_enough(ask, way, float(end[i] - start[i]), allowed))
        missing = torch.tensor([each.missing for each in found], dtype=torch.float64)
        return IntegratedAttributions(
            torch.stack([each.values for each in found]),
            (missing.to(difference) / difference).float(),
            torch.tensor([each.n_places for each in found], device=images.device),
        )

    def _exact_enough(self, ask: Ask, way: Image, gained: float, allowed: float) -> RefinedIntegral:
        """One image's integral by Gauss and Legendre, or a finer one where it misses too much."""
        values = halving(lambda size: self._gauss(ask, way, size), self._at_once)
        missing = abs(float(in_float64(values).sum()) - gained)
        max_places = self.max_steps - self.n_steps
        if missing <= allowed or max_places < _FEWEST_PLACES:
            return RefinedIntegral(values, missing, self.n_steps)
        refined = halving(
            lambda size: refined_integral(
                ask, way, allowed=allowed, max_places=max_places, batch_size=size
            ),
            self._at_once,
        )
        n_steps = self.n_steps + refined.n_places
        if refined.missing < missing:
            return RefinedIntegral(refined.values, refined.missing, n_steps)
        return RefinedIntegral(values, missing, n_steps)

    def _path(self, start: Image, way: Image, target: OneClass) -> Ask:
        """The scores and gradients at places on the way from the baseline to one image."""

        def ask(places: Tensor) -> tuple[Tensor, Tensor]:
            points = start + places.to(way).reshape(-1, 1, 1, 1) * way
            classes = target.expand(len(points), *target.shape)
            scores, gradients = self._pixel_gradients(points, classes)
            return scores.cpu().double(), gradients

        return ask

    def _gauss(self, ask: Ask, way: Image, size: int) -> Image:
        """The integral by the places and weights of Gauss and Legendre."""
        places, weights = (
            torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(self.n_steps)
        )
        total = torch.zeros_like(way)
        for some, of in zip(((places + 1) / 2).split(size), (weights / 2).split(size), strict=True):
            gradients = ask(some)[1]
            total += torch.tensordot(of.to(gradients), gradients, dims=1)
        return total * way

    def _start(self, baseline: Baseline, images: Images) -> Images:
        """The baseline of each image."""
        if isinstance(baseline, Tensor):
            try:
                return baseline.to(images).expand_as(images)
            except RuntimeError:
                raise InputError(
                    f"a baseline of shape {tuple(baseline.shape)} does not fit images of shape "
                    f"{tuple(images.shape)}"
                ) from None
        if baseline == "mean":
            return self.model.mean.to(images).expand_as(images)
        if baseline == "black":
            return torch.zeros_like(images)
        if baseline == "white":
            return torch.ones_like(images)
        if baseline == "blur":
            return _blurred(images)
        raise InputError(
            f"baseline is {', '.join(get_args(BaselineName))}, a tensor, or several of these in a "
            f"tuple, not {baseline!r}"
        )


def _blurred(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """A Gaussian blur of a twentieth of the image's width, which leaves no shapes."""
    from torchvision.transforms.v2.functional import gaussian_blur

    shorter = min(images.shape[-2:])
    sigma = max(shorter / 20, 0.5)
    size = min(2 * round(3 * sigma) + 1, 2 * ((shorter - 1) // 2) + 1)
    blurred: Tensor = gaussian_blur(images, [size, size], [sigma, sigma])
    return blurred


def refined_integral(
    ask: Ask,
    way: Float[Tensor, "C H W"],
    *,
    allowed: float,
    max_places: int,
    batch_size: int,
) -> RefinedIntegral:
    """Integrate by trapezoids, halving those whose gradients miss most of the score's gain.

    All gradients are kept until the end, for their weights are known only then:
    ``max_places`` times the size of the image.

    Args:
        ask: Scores and gradients at places on the path.
        way: ``(C, H, W)``, image minus baseline.
        allowed: Halving ends when no more than this is missing.
        max_places: Or when so many places were asked for; at least 3.
        batch_size: How many places are asked for at once.

    Example:
        >>> def ask(places):
        ...     return places.double() ** 2, 2 * places.float().reshape(-1, 1, 1, 1)
        >>> found = refined_integral(
        ...     ask, torch.ones(1, 1, 1), allowed=0.01, max_places=9, batch_size=4
        ... )
        >>> found.values
        tensor([[[1.]]])
    """
    start = min(_FIRST + 1, max_places)
    places = torch.linspace(0, 1, start, dtype=torch.float64)
    parts = [ask(part) for part in places.split(batch_size)]
    scores, gradients = torch.cat([part[0] for part in parts]), [part[1] for part in parts]
    slopes = torch.cat([_slopes(part, way) for part in gradients])
    while True:
        # places stay in the order in which they were asked for, as their gradients do
        along, order = places.sort()
        widths, gained = along.diff(), scores[order].diff()
        missing = (slopes[order][1:] + slopes[order][:-1]) / 2 * widths - gained
        n_more = min(batch_size, max_places - len(places), len(missing))
        if float(missing.sum().abs()) <= allowed or n_more == 0:
            break
        worst = missing.abs().topk(n_more).indices
        middles = (along[worst] + along[worst + 1]) / 2
        new_scores, new = ask(middles)
        places, scores = torch.cat([places, middles]), torch.cat([scores, new_scores])
        slopes = torch.cat([slopes, _slopes(new, way)])
        gradients.append(new)
    # of each place half of the interval before it and half of that behind it
    weights = torch.zeros_like(places)
    weights[order[:-1]] += widths / 2
    weights[order[1:]] += widths / 2
    integral = torch.zeros_like(way)
    shares = weights.to(way).split([len(part) for part in gradients])
    for share, part in zip(shares, gradients, strict=True):
        integral += torch.tensordot(share, part, dims=1)
    return RefinedIntegral(integral * way, float(missing.sum().abs()), len(places))


def _slopes(
    gradients: Float[Tensor, "n C H W"], way: Float[Tensor, "C H W"]
) -> Float[Tensor, " n"]:
    """How steeply the score rises along the path."""
    return (in_float64(gradients) * in_float64(way)).sum((1, 2, 3)).cpu()

"""What every saliency method stands on: checks, the target, batches, gradients, errors' names.

A method is any callable ``(images (B, C, H, W), target) -> saliency (B, H, W)``. Those of this
room are frozen dataclasses on ``Attribution``, whose call does what all have in common; a method
writes ``_attribute`` alone, from images and resolved classes to a map.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import (
    Any,
    ClassVar,
    Literal,
    Protocol,
    Self,
    TypeVar,
    cast,
    final,
    get_args,
    runtime_checkable,
)

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from naspix.errors import InputError, ModelError, NaspixError
from naspix.models import Classifier, as_classifier, check_images
from naspix.models.asking import evaluating
from naspix.models.batches import batch_size_on, in_batches, is_out_of_memory
from naspix.models.finite import why_not_finite
from naspix.models.functions import check_seen_into
from naspix.targets import Number, Target, asks_number, asks_predicted, pick_scores

ReduceChannels = Literal["sum", "abs_sum", "sum_abs", "max_abs", "max"]
# what a method asks of the network; what serves one method of a kind serves all of it
Need = Literal["scores", "gradients", "guided gradients", "relevance", "a layer's map", "attention"]
_NEED_NO_GRADIENTS: tuple[Need, ...] = ("scores", "attention")

Images = Float[Tensor, "B C H W"]  # in [0, 1]
Maps = Float[Tensor, "B H W"]
Classes = Int64[Tensor, "B ..."]  # (B,), or for pairs (B, 2)
Image = Float[Tensor, "C H W"]  # one of them, and what is asked of it
OneClass = Int64[Tensor, "..."]
Labels = Int64[Tensor, "H W"]
Settings = Mapping[str, Any]

_Result = TypeVar("_Result")
_PREDICTED_AT_ONCE = 32


@runtime_checkable
class SaliencyMethod(Protocol):
    """Anything that says how relevant each pixel is for a class."""

    def __call__(self, images: Tensor, target: Target = None) -> Tensor:
        """Return the saliency ``(B, H, W)`` of ``images`` ``(B, C, H, W)`` for ``target``."""
        ...


@dataclass(frozen=True)
class Attribution(ABC):
    """What the methods share: a call that checks, resolves the target and names itself in errors.

    A method writes ``_attribute``, and says what it is called, what it needs and what it costs.

    Attributes:
        title: How people write the method's name.
        needs: What it asks of the network.
        quick: Settings for a first look, with fewer masks, samples and steps than by default.
        asks_class: Whether the map is of a class; else it is the same for every class.
        model: The classifier.
    """

    title: ClassVar[str]
    needs: ClassVar[Need] = "gradients"
    quick: ClassVar[Settings] = {}
    asks_class: ClassVar[bool] = True

    model: Classifier

    @property
    @abstractmethod
    def batch_size(self) -> int | None:  # noqa: D102 - the fields' own documentation would repeat it
        # how many images pass the network at once: a field of each method, its last
        ...

    def __post_init__(self) -> None:
        model = as_classifier(self.model, type(self).__name__)
        object.__setattr__(self, "model", model)
        self._check_counts("batch_size")

    @final
    def __call__(self, images: Images, target: Target = None) -> Maps:
        """Return how relevant each pixel is for the class; the method says in which units.

        Args:
            images: Values in [0, 1].
            target: A class by number or name for all, a list or tensor with one for each image,
                None for the predicted ones; a ``naspix.Contrast`` of these: why the one and not the
                other; or a callable that makes one number an image of what the network returns,
                such as those of ``naspix.targets``.

        Raises:
            InputError: images or classes out of range, settings that do not fit the images, or
                superpixels or maps of another method in another shape than theirs.
            ActivationError: a layer has no spatial map.
            ModelError: the network cannot serve the method, or its scores, gradients or relevance
                are not finite.

        Warns:
            NaspixWarning: the map is zero, or less exact than asked for.
        """
        return self._answer(Attribution._checked_map, images, target)

    def asking(self, number: Number) -> Self:
        """The same method for another score: what a callable makes of the network's output."""
        changed: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Classifier | Attribution):
                changed[each.name] = value.asking(number)
        return replace(self, **changed)

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count the forwards and backwards of one photo, without the one that predicts a class.

        Args:
            shape: The photo's ``(C, H, W)``.
        """
        return 1, 1

    @abstractmethod
    def _attribute(self, images: Images, target: Classes) -> Maps:
        """The map of checked images for ``(B,)`` classes, or ``(B, 2)`` for pairs."""

    def _answer(
        self, ask: Callable[[Any, Tensor, Tensor], _Result], images: Tensor, target: Target
    ) -> _Result:
        """What ``ask`` says of checked images and resolved classes; errors name the method.

        Where a callable is the target, the same method is asked of a model with that one score.
        """
        # eval mode through the backward too: what is checkpointed runs again there
        with self._naming_errors(), evaluating(self.model.network):
            check_images(images, self.model.in_channels)
            if self.needs != "scores":
                check_seen_into(self.model, type(self).__name__, self.needs)
            if target is None and not self.asks_class:
                return ask(self, images, images.new_zeros(len(images)).long())
            if asks_number(target):
                return ask(self.asking(target), images, images.new_zeros(len(images)).long())
            self.model.find_scores(images)
            return ask(self, images, self._resolve(images, target))

    def _checked_map(self, images: Tensor, target: Tensor) -> Tensor:
        heat = self._attribute(images, target)
        expected = (len(images), *images.shape[-2:])
        if tuple(heat.shape) != expected:
            raise InputError(f"the map has shape {tuple(heat.shape)}, not {expected}")
        if not bool(torch.isfinite(heat).all()):
            raise ModelError(
                "the map is not finite (NaN or infinite), as the network's scores or gradients "
                f"are not; {why_not_finite(self.model)}"
            )
        return heat.detach().to(images)

    def _resolve(self, images: Images, target: Target) -> Classes:
        """The class asked about for each image, as given or predicted; two for a pair."""
        logits = None
        if asks_predicted(target):
            # a batch at a time, so that predicting takes no more memory than explaining
            with torch.no_grad():
                parts = in_batches(
                    lambda part: self.model(images[part]), len(images), _PREDICTED_AT_ONCE
                )
                logits = torch.cat(list(parts))
        return self.model.resolve_target(images, target, logits)

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        name = type(self).__name__
        try:
            yield
        except NaspixError as error:
            if str(error).startswith(name):
                raise
            raise type(error)(f"{name}: {error}") from error.__cause__

    @property
    def _at_once(self) -> int:
        """How many images pass the network at once."""
        backwards = self.needs not in _NEED_NO_GRADIENTS
        return batch_size_on(self.model.device, self.batch_size, backwards=backwards)

    def _in_batches(
        self, ask: Callable[[Tensor, Tensor], _Result], images: Tensor, target: Tensor
    ) -> _Result:
        """What ``ask`` says of images and classes, a batch at a time; smaller where memory ends."""
        return joined(
            list(
                in_batches(lambda part: ask(images[part], target[part]), len(images), self._at_once)
            )
        )

    def _target_scores(self, images: Images, target: Classes) -> Float[Tensor, " B"]:
        """The class scores before the softmax, in float32 at least; differences for pairs."""
        scores = pick_scores(self.model(images), target)
        return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores

    def differentiate(
        self, scores: Float[Tensor, " B"], inputs: Tensor, *, retain_graph: bool = False
    ) -> Tensor | None:
        """Return the scores' gradients with respect to ``inputs``; None where they have none.

        Raises:
            ModelError: a step of the network has no backward, or one that fails.
        """
        if not scores.requires_grad:
            return None
        try:
            return torch.autograd.grad(
                scores.sum(), inputs, allow_unused=True, retain_graph=retain_graph
            )[0]
        except (RuntimeError, NotImplementedError) as error:
            if isinstance(error, NaspixError) or is_out_of_memory(error):
                raise
            raise ModelError(
                f"{type(self).__name__}: the backward pass of {self.model.name} fails "
                f"({str(error).splitlines()[0]}); use a method that needs scores only, such as "
                "RISE"
            ) from error

    def _pixel_gradients(
        self, points: Images, target: Classes
    ) -> tuple[Float[Tensor, " B"], Images]:
        """The classes' scores of images, and the gradients with respect to them.

        Raises:
            ModelError: there are none, or ones that are not finite.
        """
        with gradients_enabled():
            # a tensor made under inference_mode cannot be differentiated: copies can
            points = points.clone().requires_grad_()
            scores = self._target_scores(points, target.clone())
            return scores.detach(), self._gradients_of(scores, points)

    def _gradients_of(self, scores: Float[Tensor, " B"], points: Images) -> Images:
        """The gradients of scores with respect to the images they were computed from."""
        gradients = self.differentiate(scores, points)
        if gradients is None:
            raise ModelError(
                f"no gradients reach the pixels through {self.model.name} (is it quantised, or "
                "under no_grad inside?); use a method that needs scores only, such as RISE"
            )
        check_finite(gradients, self.model)
        return gradients

    def _check_counts(self, *names: str, least: int = 1) -> None:
        """Refuse settings that count things below ``least``; None stands for a default."""
        for name in names:
            count = getattr(self, name)
            if count is not None and count < least:
                raise InputError(f"{type(self).__name__}: {name} is at least {least}, not {count}")

    def _check_choice(self, name: str, choices: Sequence[str]) -> None:
        """Refuse a setting that is none of the choices."""
        if getattr(self, name) not in choices:
            raise InputError(
                f"{type(self).__name__}: {name} is one of {', '.join(choices)}, "
                f"not {getattr(self, name)!r}"
            )


@dataclass(frozen=True)
class ChannelAttribution(Attribution):
    """A method that finds a value for each channel of each pixel, and then makes them one map."""

    @property
    @abstractmethod
    def reduce(self) -> ReduceChannels:
        """How channels become one map; a field of each method."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("reduce", get_args(ReduceChannels))

    @final
    def _attribute(self, images: Images, target: Classes) -> Maps:
        return reduce_channels(self._channels(images, target), self.reduce)

    @abstractmethod
    def _channels(self, images: Images, target: Classes) -> Images:
        """The value of each channel of each pixel."""


def target_for(method: object, target: Target) -> Target:
    """What a method is asked about: None where its map is of no class.

    Example:
        >>> from naspix.saliency import AttentionRollout, GradCAM
        >>> target_for(GradCAM, 3), target_for(AttentionRollout, 3)
        (3, None)
    """
    return target if getattr(method, "asks_class", True) else None


@contextmanager
def gradients_enabled() -> Iterator[None]:
    """Let gradients flow although the caller is under ``no_grad`` or ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def reduce_channels(
    attributions: Float[Tensor, "B C H W"], rule: ReduceChannels
) -> Float[Tensor, "B H W"]:
    """One map from one for each colour channel.

    Args:
        attributions: One value for each channel of each pixel.
        rule: ``"sum"`` keeps the sign and the sum, ``"abs_sum"`` is its magnitude (captum's way to
            draw), ``"sum_abs"`` lets no channels cancel (PAIR's way to draw), ``"max_abs"`` is the
            largest magnitude (Simonyan et al. 2013), ``"max"`` the largest value (XRAI).

    Raises:
        InputError: an unknown rule.

    Example:
        >>> values = torch.tensor([3.0, -1.0, -4.0]).view(1, 3, 1, 1)
        >>> [reduce_channels(values, rule).item() for rule in ("sum", "sum_abs", "max_abs", "max")]
        [-2.0, 8.0, 4.0, 3.0]
    """
    if rule == "sum":
        return attributions.sum(1)
    if rule == "abs_sum":
        return attributions.sum(1).abs()
    if rule == "sum_abs":
        return attributions.abs().sum(1)
    if rule == "max_abs":
        return attributions.abs().amax(1)
    if rule == "max":
        return attributions.amax(1)
    raise InputError(f"reduce is one of {', '.join(get_args(ReduceChannels))}, not {rule!r}")


def joined(parts: Sequence[_Result]) -> _Result:
    """The results of batches as one: tensors, or dataclasses of tensors, along their first axis.

    Example:
        >>> joined([torch.tensor([1]), torch.tensor([2, 3])])
        tensor([1, 2, 3])
    """
    first: Any = parts[0]
    whole: Any
    if isinstance(first, Tensor):
        whole = torch.cat(cast("list[Tensor]", parts))
    elif isinstance(first, tuple):
        whole = tuple(map(joined, zip(*cast("list[tuple[Tensor, ...]]", parts), strict=True)))
    else:
        names = [field.name for field in fields(first)]
        whole = type(first)(**{n: joined([getattr(part, n) for part in parts]) for n in names})
    return cast("_Result", whole)


def check_finite(values: Tensor, network: nn.Module) -> None:
    """Refuse gradients that overflowed."""
    if not bool(torch.isfinite(values).all()):
        raise ModelError(
            f"the network's gradients are not finite (NaN or infinite); {why_not_finite(network)}"
        )

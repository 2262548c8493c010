"""What every saliency method shares: contract, target, gradients, one channel.

A method is any callable ``(images (B, C, H, W), target) -> saliency (B, H, W)``; the ones of this
room are frozen dataclasses. No behaviour is inherited: what they share are the functions below.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError, ModelError, NaspixError
from naspix.models import Classifier
from naspix.models.batches import in_batches, is_out_of_memory

# a class for all images, one for each, the predicted ones; or two of these: why one and not other
OneTarget = int | Tensor | None
Target = OneTarget | tuple[OneTarget, OneTarget]
_BATCH = 32
ReduceChannels = Literal["sum", "abs_sum", "sum_abs", "max_abs", "max"]


@runtime_checkable
class SaliencyMethod(Protocol):
    """Anything that says how relevant each pixel is for a class."""

    def __call__(self, images: Tensor, target: Target = None) -> Tensor:
        """Return the saliency ``(B, H, W)`` of ``images`` ``(B, C, H, W)`` for ``target``."""
        ...


def resolve_target(
    method: object, model: Classifier, images: Float[Tensor, "B C H W"], target: Target
) -> Int64[Tensor, "B ..."]:
    """The class asked about for each image, as given or predicted; errors name the method.

    Returns:
        ``(B,)`` classes; for a pair ``(positive, negative)``, which asks why the one and not the
        other, ``(B, 2)``.
    """
    asked = target if isinstance(target, tuple) else (target,)
    logits = _logits(model, images) if any(each is None for each in asked) else None
    try:
        if isinstance(target, tuple) and len(target) != 2:
            raise InputError(
                f"a contrast is a pair of targets, (positive, negative), not {len(target)} of them"
            )
        classes = [model.resolve_target(images, each, logits) for each in asked]
    except InputError as error:
        raise type(error)(f"{type(method).__name__}: {error}") from None
    return torch.stack(classes, 1) if isinstance(target, tuple) else classes[0]


@torch.no_grad()
def _logits(model: Classifier, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B n_classes"]:
    """A batch at a time, so that predicting takes no more memory than explaining."""
    return torch.cat(list(in_batches(lambda part: model(images[part]), len(images), _BATCH)))


@contextmanager
def gradients_enabled() -> Iterator[None]:
    """Let gradients flow although the caller is under ``no_grad`` or ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def target_scores(
    model: Classifier, images: Float[Tensor, "B C H W"], target: Int64[Tensor, "B ..."]
) -> Float[Tensor, " B"]:
    """The class scores before the softmax, in float32 at least; differences for pairs."""
    scores = pick_scores(model(images), target)
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


def pick_scores(
    scores: Float[Tensor, "B n_classes"], target: Int64[Tensor, "B ..."]
) -> Float[Tensor, " B"]:
    """The score of each image's class; for pairs, that of the first less that of the second.

    Example:
        >>> pick_scores(torch.tensor([[1.0, 5.0, 2.0]]), torch.tensor([[1, 2]]))
        tensor([3.])
    """
    if target.ndim == 1:
        return scores.gather(1, target[:, None])[:, 0]
    positive, negative = scores.gather(1, target).unbind(1)
    return positive - negative


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


def differentiate(
    method: object,
    model: Classifier,
    scores: Float[Tensor, " B"],
    inputs: Tensor,
    *,
    retain_graph: bool = False,
) -> Tensor | None:
    """The gradients of the scores with respect to ``inputs``; None where they do not depend on it.

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
            f"{type(method).__name__}: the backward pass of {model.name} fails "
            f"({str(error).splitlines()[0]}); use a method that needs scores only, such as RISE"
        ) from error


def pixel_gradients(
    method: object, model: Classifier, scores: Float[Tensor, " B"], points: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B C H W"]:
    """The gradients of the scores with respect to the images they were computed from.

    Raises:
        ModelError: there are none, or ones that are not finite.
    """
    gradients = differentiate(method, model, scores, points)
    if gradients is None:
        raise ModelError(
            f"{type(method).__name__}: no gradients reach the pixels through {model.name} (is it "
            "quantised, or under no_grad inside?); use a method that needs scores only, such as "
            "RISE"
        )
    check_finite(method, gradients)
    return gradients


def check_counts(method: object, **counts: int | None) -> None:
    """Refuse numbers of things below one, naming the method; None stands for a default."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{type(method).__name__}: {name} is at least 1, not {count}")


def check_finite(method: object, values: Tensor) -> None:
    """Refuse gradients that overflowed, naming the method."""
    if not bool(torch.isfinite(values).all()):
        raise ModelError(
            f"{type(method).__name__}: the network's gradients are not finite (NaN or infinite); "
            "run the network in float32"
        )

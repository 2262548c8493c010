"""How one layer's relevance is shared among its inputs: the rules of LRP.

A rule takes a layer z = W x + b, its input x and the relevance R of z, and returns the relevance of
x (its shape) and what the bias keeps (the shape of z). Each is a sum of shares: with
z = Σ W_k x_k + b for some modified weights and inputs, x_k gets x_k · W_kᵀ (R / z). Notation and
names: Montavon et al.: Layer-Wise Relevance Propagation: An Overview, 2019. ``COMPOSITES`` says
which rule serves which layer; which operations are layers, ``operations.py`` does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

Shares = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Layer:
    """z = ``linear(x, weight)`` + ``bias``, with a bias that broadcasts to z."""

    linear: Callable[[Tensor, Tensor], Tensor]
    weight: Tensor
    bias: Tensor | None = None


# (layer, its input, the relevance of its output, epsilon) -> relevance of the input, of the bias
Rule = Callable[[Layer, Tensor, Tensor, float], Shares]


def stabilized(z: Tensor, epsilon: float) -> Tensor:
    """The denominator moved away from zero; zero itself counts as positive."""
    return z + torch.where(z < 0, -epsilon, epsilon).to(z.dtype)


def shared(
    linear: Callable[[Tensor, Tensor], Tensor],
    parts: Sequence[tuple[Tensor, Tensor]],
    bias: Tensor | None,
    relevance: Tensor,
    epsilon: float,
) -> Shares:
    """Share ``relevance`` among the inputs of z = Σ linear(x_k, W_k) + b, in proportion."""
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x, _ in parts]
        terms = [linear(x, weight) for x, (_, weight) in zip(inputs, parts, strict=True)]
        z = sum(terms[1:], terms[0])
    total = z.detach() if bias is None else z.detach() + bias
    ratio = relevance.to(total.dtype) / stabilized(total, epsilon)
    gradients = torch.autograd.grad(z, inputs, ratio)
    received = [x.detach() * gradient for x, gradient in zip(inputs, gradients, strict=True)]
    return sum(received[1:], received[0]), None if bias is None else bias * ratio


def epsilon_rule(layer: Layer, x: Tensor, relevance: Tensor, epsilon: float) -> Shares:
    """Every contribution counts as it is (Bach et al. 2015)."""
    return shared(layer.linear, [(x, layer.weight)], layer.bias, relevance, epsilon)


def z_plus_rule(layer: Layer, x: Tensor, relevance: Tensor, epsilon: float) -> Shares:
    """Only positive contributions count (Montavon et al. 2017), also of negative inputs."""
    parts = _same_sign(x, layer.weight.clamp(min=0), layer.weight.clamp(max=0))
    return shared(layer.linear, parts, _clamped(layer.bias, min=0), relevance, epsilon)


def alpha2_beta1_rule(layer: Layer, x: Tensor, relevance: Tensor, epsilon: float) -> Shares:
    """Positive contributions count twice, negative ones are taken off once (Bach et al. 2015)."""
    positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    parts = _same_sign(x, positive, negative)
    for_, bias_for = shared(
        layer.linear, parts, _clamped(layer.bias, min=0), 2 * relevance, epsilon
    )
    parts = _same_sign(x, negative, positive)
    against, bias_against = shared(
        layer.linear, parts, _clamped(layer.bias, max=0), relevance, epsilon
    )
    if bias_for is None or bias_against is None:
        return for_ - against, None
    return for_ - against, bias_for - bias_against


def gamma_rule(
    layer: Layer, x: Tensor, relevance: Tensor, epsilon: float, *, gamma: float
) -> Shares:
    """Contributions of the output's own sign count 1 + γ times (Andéol et al. 2021)."""
    positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    more = layer.weight + gamma * positive, layer.weight + gamma * negative
    z = layer.linear(x, layer.weight)
    bias = layer.bias
    z = z if bias is None else z + bias
    for_ = None if bias is None else bias + gamma * bias.clamp(min=0)
    against = None if bias is None else bias + gamma * bias.clamp(max=0)
    above, kept_above = shared(
        layer.linear, _same_sign(x, *more), for_, relevance * (z > 0), epsilon
    )
    below, kept_below = shared(
        layer.linear, _same_sign(x, *more[::-1]), against, relevance * (z < 0), epsilon
    )
    if kept_above is None or kept_below is None:
        return above + below, None
    return above + below, kept_above + kept_below


def flat_rule(layer: Layer, x: Tensor, relevance: Tensor, epsilon: float) -> Shares:
    """All inputs in the receptive field get the same (Lapuschkin et al. 2019)."""
    ones = [(torch.ones_like(x), torch.ones_like(layer.weight))]
    return shared(layer.linear, ones, None, relevance, epsilon)


def z_box_rule(
    layer: Layer, x: Tensor, relevance: Tensor, epsilon: float, *, low: Tensor, high: Tensor
) -> Shares:
    """For inputs between ``low`` and ``high``: distances to the bounds count (Montavon 2017)."""
    parts = [
        (x, layer.weight),
        (low.expand_as(x), -layer.weight.clamp(min=0)),
        (high.expand_as(x), -layer.weight.clamp(max=0)),
    ]
    return shared(layer.linear, parts, None, relevance, epsilon)


def _same_sign(
    x: Tensor, for_positive: Tensor, for_negative: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Positive inputs with their weights, negative ones with theirs, if there are any."""
    parts = [(x.clamp(min=0), for_positive)]
    if bool((x < 0).any()):
        parts.append((x.clamp(max=0), for_negative))
    return parts


def _clamped(
    bias: Tensor | None, *, min: float | None = None, max: float | None = None
) -> Tensor | None:
    return None if bias is None else bias.clamp(min=min, max=max)


@dataclass(frozen=True)
class Composite:
    """Which rule serves which layer: those that see the pixels, convolutions, linear layers.

    Attributes:
        first: For layers that see the pixels, in place of the others; ``"box"`` is ``z_box_rule``
            between black and white as the network sees them.
        convolution: For convolutions.
        linear: For linear layers.
    """

    first: Rule | Literal["box"] | None
    convolution: Rule
    linear: Rule


CompositeName = Literal[
    "auto",
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "gamma",
    "epsilon",
]
_GAMMA, _WEAK_GAMMA = partial(gamma_rule, gamma=0.25), partial(gamma_rule, gamma=0.05)
COMPOSITES: Mapping[str, Composite] = {
    "epsilon_plus": Composite(None, z_plus_rule, epsilon_rule),
    "epsilon_plus_flat": Composite(flat_rule, z_plus_rule, epsilon_rule),
    "epsilon_alpha2_beta1": Composite(None, alpha2_beta1_rule, epsilon_rule),
    "epsilon_alpha2_beta1_flat": Composite(flat_rule, alpha2_beta1_rule, epsilon_rule),
    "epsilon_gamma_box": Composite("box", _GAMMA, epsilon_rule),
    "gamma": Composite(None, _GAMMA, _WEAK_GAMMA),
    "epsilon": Composite(None, epsilon_rule, epsilon_rule),
}

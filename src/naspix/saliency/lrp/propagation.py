"""What one LRP forward remembers, and how a value is recorded with its rule.

A ``Propagation`` holds the composite's rules and gathers what constants take on the way. ``ruled``
and its kin turn a value that was already computed into one whose backward shares out relevance.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from naspix.saliency.lrp.rules import Layer, Rule


@dataclass(frozen=True)
class Propagation:
    """What one forward has to remember.

    Attributes:
        first: The rule of layers that see the pixels; None where it is that of the others.
        convolution: The rule of convolutions.
        linear: The rule of linear layers.
        epsilon: Keeps other denominators from zero.
        n_images: The batch's size.
        absorbed: What constants took (biases, class tokens, ...), ``(B,)`` for each of them.
        pixels: Values that are still the pixels, moved and scaled at most.
        gates: Values of a sigmoid or softmax.
        layers: A layer's output -> the layer, its rule and input, for a batch norm to merge into.
    """

    first: Rule | None
    convolution: Rule
    linear: Rule
    epsilon: float
    n_images: int
    absorbed: list[Tensor] = field(default_factory=list)
    pixels: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)
    gates: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)
    layers: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)

    def absorb(self, relevance: Tensor | None) -> None:
        """Count what a constant took; the images are taken to be in order in the first dimension.

        What has another layout is spread evenly: the batch's total is exact in any case.
        """
        if relevance is None:
            return
        values = relevance.detach().float()
        if values.ndim == 0 or values.shape[0] % self.n_images:
            values = (values.sum() / self.n_images).expand(self.n_images)
        self.absorbed.append(values.reshape(self.n_images, -1).sum(1))


class _Relevance(torch.autograd.Function):
    """A value already computed, whose backward is an LRP rule."""

    @staticmethod
    def forward(ctx: Any, value: list[Tensor], rule: Any, kept: Any, *inputs: Tensor) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward(*kept)
        return value[0]

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        return None, None, None, *ctx.rule(relevance[0], *ctx.saved_tensors)


def ruled(
    value: Tensor,
    inputs: tuple[Tensor, ...],
    rule: Callable[..., tuple[Tensor, ...]],
    kept: tuple[Tensor, ...] = (),
) -> Tensor:
    """``value``, whose relevance goes to ``inputs`` by ``rule(relevance, *kept)``."""
    result: Tensor = _Relevance.apply([value], rule, [k.detach() for k in kept], *inputs)
    return result


def passed(value: Tensor, x: Tensor) -> Tensor:
    """``value``, whose relevance goes on to ``x`` unchanged."""
    shape = x.shape
    return ruled(value, (x,), lambda relevance: (relevance.sum_to_size(shape),))


def layer_output(state: Propagation, value: Tensor, layer: Layer, rule: Rule, x: Tensor) -> Tensor:
    """A layer's output, whose relevance goes to its input and bias by ``rule``."""

    def backward(relevance: Tensor, x: Tensor) -> tuple[Tensor]:
        received, kept = rule(layer, x, relevance, state.epsilon)
        state.absorb(kept)
        return (received,)

    return ruled(value.detach(), (x,), backward, (x,))

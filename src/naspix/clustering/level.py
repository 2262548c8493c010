"""One level of Algorithm 1: an activation, its way to the frame, and its scale at every pixel.

In: an activation ``(B, C, h, w)`` and a frame. Out: what the features of several levels are put
together from. Knows no other level and no cluster.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from naspix.clustering.upsampling import (
    Upsampling,
    gram_and_neighbour_products,
    neighbour_products,
)
from naspix.errors import ActivationError

_FEW_CHANNELS = 32  # up to here upsampling every channel costs no more than the 28 pairs of taps


@dataclass(frozen=True, eq=False)
class Level:
    """One activation and its way to the frame: ``phi(p) = scale(p) * X U[p]``."""

    activation: Tensor  # (B, C, h, w)
    upsampling: Upsampling  # U
    scale: Tensor  # (B, H, W): line 10 (the norm) and line 11 (1 / (1 + C)) of Algorithm 1
    gram: Tensor | None = None  # (B, h * w, h * w): X^T X, where it was asked for

    @classmethod
    def of(
        cls,
        name: str,
        activation: Tensor,
        size: tuple[int, int],
        *,
        normalize: bool,
        weight: bool,
        gram: bool,
    ) -> "Level":
        """Prepare an activation ``(B, C, h, w)`` for the frame ``(H, W)``, with its Gram matrix?

        Raises:
            ActivationError: If it holds values that are not finite, or whose squares are not.
        """
        if activation.dtype not in (torch.float32, torch.float64):
            activation = activation.float()
        activation = activation.contiguous()
        line_11 = 1 / (1 + activation.shape[1]) if weight else 1.0
        cells = (activation.shape[2], activation.shape[3])
        upsampling = Upsampling.between(cells, size, activation.dtype, activation.device)
        products, neighbours = gram_and_neighbour_products(activation) if gram else (None, None)
        norms = _squared_norms(activation, upsampling, neighbours)
        if not math.isfinite(float(norms.sum())):
            raise _not_finite(name, activation)
        if normalize:
            # a vector of zeros has no direction: its feature is zero
            scale = norms.rsqrt_().nan_to_num_(nan=0.0, posinf=0.0).mul_(line_11)
        else:
            scale = torch.full_like(norms, line_11)
        return cls(activation, upsampling, scale, products)

    def images(self, part: slice) -> "Level":
        """The same level of some images of the batch."""
        gram = None if self.gram is None else self.gram[part]
        return Level(self.activation[part], self.upsampling, self.scale[part], gram)

    def tiles(self, side: int) -> "Level":
        """The same level over tiles of pixels: the mean vector, times the mean scale."""
        scale = functional.avg_pool2d(self.scale[:, None], side, ceil_mode=True)[:, 0]
        return Level(self.activation, self.upsampling.tiles(side), scale, self.gram)

    def squared_norms(self, *, normalize: bool, weight: bool) -> Tensor:
        """``|phi(p)|^2``, ``(B, H, W)``: with lines 10 and 11 a constant where it is not zero."""
        if normalize:
            line_11 = 1 / (1 + self.activation.shape[1]) if weight else 1.0
            return (self.scale > 0).to(self.scale.dtype) * line_11**2
        norms = _squared_norms(self.activation, self.upsampling)
        return self.scale.square() * norms

    @cached_property
    def n_cells(self) -> int:
        """``h * w``."""
        return self.activation.shape[2] * self.activation.shape[3]

    @property
    def matrix(self) -> Tensor:
        """The activation as the matrix ``X``, ``(B, C, h * w)``."""
        return self.activation.flatten(2)


def _squared_norms(
    activation: Tensor, upsampling: Upsampling, neighbours: Tensor | None = None
) -> Tensor:
    """Return ``|X U[p]|^2`` at every pixel, ``(B, H, W)``, from products of cells if at hand.

    Few channels are upsampled themselves: as fast, and no digits are lost where they cancel.
    """
    if activation.shape[1] <= _FEW_CHANNELS:
        return upsampling.forward(activation.flatten(2)).square().sum(1)
    if neighbours is None:
        neighbours = neighbour_products(activation)
    return upsampling.squared_norms(neighbours)


def _not_finite(name: str, activation: Tensor) -> ActivationError:
    if bool(torch.isfinite(activation).all()):
        return ActivationError(
            f"the activation of level {name} has values up to {float(activation.abs().max()):.2g}, "
            "whose squares overflow; scale it down"
        )
    return ActivationError(
        f"the activation of level {name} holds NaN or infinite values, as half precision gives "
        "when it overflows; run the network in float32 or bfloat16"
    )

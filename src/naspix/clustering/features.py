"""The features of Algorithm 1 (paper, section 3), answered for without ever building their matrix.

Algorithm 1 upsamples the activations of every level to the frame, divides each pixel's vector by
its norm and by one plus its number of channels, and concatenates the levels: an ``(HW, sum of C)``
matrix. Bicubic upsampling is linear and separable, so everything a clustering asks of that matrix
can be computed at the resolution of the activations instead (``docs/explanation`` has the
derivation).

Three words say how a point of the feature space is held:

* its *vector*, D = sum of C numbers;
* *coefficients*, one number for each of the N = sum of h * w cells of all levels: the vector is
  ``sum_q r(q) X_q``, whatever C is. Every mean of features is such a sum;
* its *products*, N numbers again: the inner product with the vector of every cell, ``X^T c``.

In: activations ``(B, C, h, w)`` of several levels. Out: inner products, sums over clusters,
features at chosen pixels, norms and distances. Knows no network, no image and no cluster label.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from naspix.clustering.upsampling import (
    Upsampling,
    gram_and_neighbour_products,
    neighbour_products,
)
from naspix.errors import ActivationError, InputError
from naspix.native import Level, compute_scales, route

_FEW_CELLS = 256  # up to here the Gram matrix of all cells is small
_SMALL_MATRIX = 1 << 18  # up to here one matrix product beats the separable upsampling
_FEW_CHANNELS = 32  # up to here upsampling every channel costs no more than the 28 pairs of taps


@dataclass(frozen=True, eq=False)
class _Level:
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
    ) -> "_Level":
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
        if route(activation):
            scale, finite = compute_scales(
                activation, upsampling.axes, line_11=line_11, normalize=normalize
            )
            if not finite:
                raise _not_finite(name, activation)
            return cls(activation, upsampling, scale)
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

    def images(self, part: slice) -> "_Level":
        """The same level of some images of the batch."""
        gram = None if self.gram is None else self.gram[part]
        return _Level(self.activation[part], self.upsampling, self.scale[part], gram)

    def tiles(self, side: int) -> "_Level":
        """The same level over tiles of pixels: the mean vector, times the mean scale."""
        scale = functional.avg_pool2d(self.scale[:, None], side, ceil_mode=True)[:, 0]
        return _Level(self.activation, self.upsampling.tiles(side), scale, self.gram)

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


class UpsampledFeatures:
    """The features of all pixels of a batch, held at the resolution of the activations.

    Each level's activation is upsampled to the frame (bicubic, ``align_corners=False``), divided by
    its norm at each pixel (line 10 of Algorithm 1) and by one plus its number of channels (line
    11); the levels are then concatenated. A pixel whose activation is all zero has the zero vector
    as feature.

    Args:
        activations: One tensor ``(B, C, h, w)`` a level, on one device; half precision is taken as
            float32, float64 stays.
        size: The frame ``(H, W)`` in pixels.
        normalize: Whether line 10 is done.
        weight: Whether line 11 is done.
        names: What to call the levels in an error; their numbers by default.
        seen: Rows and columns ``((top, bottom), (left, right))`` of the frame that were seen at
            all; pixels around them have the zero vector. All by default.

    Raises:
        InputError: If the activations do not belong together.
        ActivationError: If an activation holds values that are not finite.

    Source:
        Boubekki, Fadel, Mair, "Leveraging Activations for Superpixel Explanations", Algorithm 1.

    Example:
        >>> activations = [torch.rand(1, 8, 6, 6), torch.rand(1, 16, 3, 3)]
        >>> features = UpsampledFeatures(activations, size=(24, 24))
        >>> centers = features.at(torch.tensor([[0, 300]]))
        >>> centers.shape, features.inner_products(centers).shape
        (torch.Size([1, 2, 24]), torch.Size([1, 2, 24, 24]))
    """

    def __init__(
        self,
        activations: Sequence[Tensor],
        size: tuple[int, int],
        *,
        normalize: bool = True,
        weight: bool = True,
        names: Sequence[str] | None = None,
        seen: tuple[tuple[int, int], tuple[int, int]] | None = None,
    ) -> None:
        self.normalize = normalize
        self.weight = weight
        self.size = (int(size[0]), int(size[1]))
        _check_activations(activations, self.size)
        names = [str(i) for i in range(len(activations))] if names is None else names
        few = sum(maps.shape[2] * maps.shape[3] for maps in activations) <= _FEW_CELLS
        levels = [
            _Level.of(name, maps, self.size, normalize=normalize, weight=weight, gram=few)
            for name, maps in zip(names, activations, strict=True)
        ]
        self._seen: tuple[tuple[float, float], ...] | None = None  # shares of the sides
        if seen is not None:
            (top, bottom), (left, right) = seen
            height, width = self.size
            self._seen = (top / height, bottom / height), (left / width, right / width)
            for level in levels:
                inside = level.scale[:, top:bottom, left:right].clone()
                level.scale.zero_()[:, top:bottom, left:right] = inside
        self._hold(levels, _gram_of(levels))

    def _hold(self, levels: Sequence[_Level], gram: Tensor | None) -> None:
        self.size = (levels[0].scale.shape[1], levels[0].scale.shape[2])
        self._levels = tuple(levels)
        self._gram = gram  # the inner products of all cells of each level, (B, N, N)
        self._rows: Tensor | None = None  # the coefficients of all pixels, (B, N, P)
        if self.n_cells * self.n_pixels <= _SMALL_MATRIX:
            parts = [
                level.upsampling.matrix_transposed * level.scale.flatten(1)[:, None]
                for level in levels
            ]
            self._rows = torch.cat(parts, dim=1)

    def _of_levels(self, levels: Sequence[_Level], gram: Tensor | None) -> Self:
        """Return the same kind of features over other levels."""
        other = copy.copy(self)
        other._hold(levels, gram)
        return other

    @property
    def levels(self) -> tuple[Tensor, ...]:
        """The activations, ``(B, C, h, w)`` each."""
        return tuple(level.activation for level in self._levels)

    @property
    def scales(self) -> tuple[Tensor, ...]:
        """What each level's upsampled vector is multiplied by, ``(B, H, W)`` each."""
        return tuple(level.scale for level in self._levels)

    @property
    def batch_size(self) -> int:
        """Number of images."""
        return self._levels[0].activation.shape[0]

    @property
    def n_dims(self) -> int:
        """Length of a feature vector: the sum of the levels' channels."""
        return sum(level.activation.shape[1] for level in self._levels)

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the frame."""
        return self.size[0] * self.size[1]

    def __repr__(self) -> str:
        shapes = ", ".join("x".join(map(str, level.shape[1:])) for level in self.levels)
        return (
            f"UpsampledFeatures(batch_size={self.batch_size}, size={self.size}, levels=[{shapes}])"
        )

    # the four operations (DESIGN of the method: docs/explanation/algorithm.md)

    def inner_products(self, centers: Float[Tensor, "B K D"]) -> Float[Tensor, "B K H W"]:
        """Return ``<phi(p), center>`` for every pixel and centre: K maps are upsampled, not C."""
        return self.expand(self.products_with(centers))

    def cluster_sums(self, membership: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K D"]:
        """Return ``sum_p membership[k, p] phi(p)``: the adjoint of :meth:`inner_products`."""
        return self.vectors_of(self.collect(membership))

    def at(self, pixels: Int64[Tensor, "B n"]) -> Float[Tensor, "B n D"]:
        """Return the features of the pixels with these row-major indices."""
        return self.vectors_of(self.coefficients_at(pixels))

    def squared_norms(self) -> Float[Tensor, "B H W"]:
        """Return ``|phi(p)|^2``: constant where lines 10 and 11 are done and nothing is zero."""
        total = torch.zeros_like(self._levels[0].scale)
        for level in self._levels:
            total += level.squared_norms(normalize=self.normalize, weight=self.weight)
        return total

    def squared_distances(self, centers: Float[Tensor, "B K D"]) -> Float[Tensor, "B K H W"]:
        """Return ``|phi(p) - center|^2``, at least zero, for every pixel and centre."""
        center_norms = centers.square().sum(2)[:, :, None, None]
        distances = center_norms - 2 * self.inner_products(centers)
        return distances.add_(self.squared_norms()[:, None]).clamp_min_(0)

    def dense(self) -> Float[Tensor, "B D H W"]:
        """Return the whole matrix; for tests and small frames, it is what this class avoids."""
        parts = [
            level.upsampling.forward(level.matrix) * level.scale[:, None] for level in self._levels
        ]
        return torch.cat(parts, dim=1)

    def pixel_products(self) -> Float[Tensor, "B P P"]:
        """Return the inner products of all pairs of pixels; for small frames only."""
        if self._rows is None or self._gram is None:
            phi = self.dense().flatten(2)  # (B, D, P)
            return phi.mT @ phi
        return self.products_of(self._rows.mT) @ self._rows

    def compiled_levels(self, sides: Sequence[int]) -> list[Level]:
        """Return the levels for the compiled part, with tiles of these sides."""
        return [
            Level(
                level.activation,
                level.scale,
                [level.upsampling.axes, *(level.upsampling.tiles(side).axes for side in sides)],
            )
            for level in self._levels
        ]

    # other frames and parts of the batch

    def images(self, start: int, stop: int) -> Self:
        """Return the features of the images ``start`` to ``stop - 1``, as a smaller batch."""
        if start == 0 and stop >= self.batch_size:
            return self
        gram = None if self._gram is None else self._gram[start:stop]
        return self._of_levels([level.images(slice(start, stop)) for level in self._levels], gram)

    def image(self, index: int) -> Self:
        """Return the features of one image, as a batch of one."""
        return self.images(index, index + 1)

    def resized(self, size: tuple[int, int]) -> "UpsampledFeatures":
        """Return the features of the same activations in another frame ``(H, W)``."""
        seen = None
        if self._seen is not None:
            (top, bottom), (left, right) = self._seen
            rows = round(top * size[0]), round(bottom * size[0])
            seen = rows, (round(left * size[1]), round(right * size[1]))
        return UpsampledFeatures(
            self.levels, size, normalize=self.normalize, weight=self.weight, seen=seen
        )

    def tiles(self, side: int) -> Self:
        """Return a smaller frame: one feature a tile of ``side x side`` pixels.

        It is the mean of the upsampled vectors times the mean of their scales, which is close to
        the mean feature where neighbouring pixels are alike.
        """
        return self._of_levels([level.tiles(side) for level in self._levels], self._gram)

    # coefficients and products: what vectors are where there are fewer cells than channels

    @property
    def n_cells(self) -> int:
        """N: the number of cells of all levels, so of coefficients and of products."""
        return sum(level.n_cells for level in self._levels)

    def coefficients_at(self, pixels: Int64[Tensor, "B n"]) -> Float[Tensor, "B n N"]:
        """Return the coefficients of the features of the pixels given."""
        rows, columns = pixels // self.size[1], pixels % self.size[1]
        parts = []
        for level in self._levels:
            vertical, horizontal = level.upsampling.vertical, level.upsampling.horizontal
            outer = vertical[rows][..., :, None] * horizontal[columns][..., None, :]
            scale = level.scale.flatten(1).gather(1, pixels)
            parts.append(outer.flatten(2) * scale[..., None])
        return torch.cat(parts, dim=2)

    def vectors_of(self, coefficients: Float[Tensor, "B K N"]) -> Float[Tensor, "B K D"]:
        """Return the vectors ``sum_q r(q) X_q`` that the coefficients stand for."""
        parts = self._of_each_level(coefficients)
        pairs = zip(parts, self._levels, strict=True)
        return torch.cat([cells @ level.matrix.mT for cells, level in pairs], dim=2)

    def products_with(self, vectors: Float[Tensor, "B K D"]) -> Float[Tensor, "B K N"]:
        """Return the products of vectors: the transpose of :meth:`vectors_of`."""
        if vectors.shape[0] != self.batch_size or vectors.shape[2] != self.n_dims:
            raise InputError(
                f"the centres have shape {tuple(vectors.shape)}; give (B, K, D) with "
                f"B = {self.batch_size} images and D = {self.n_dims} channels over all levels"
            )
        parts = torch.split(vectors, [level.activation.shape[1] for level in self._levels], dim=2)
        pairs = zip(parts, self._levels, strict=True)
        return torch.cat([part @ level.matrix for part, level in pairs], dim=2)

    def products_of(self, coefficients: Float[Tensor, "B K N"]) -> Float[Tensor, "B K N"]:
        """Return the products of the vectors that the coefficients stand for: ``X^T X r``."""
        if self._gram is not None:
            return coefficients @ self._gram
        return self.products_with(self.vectors_of(coefficients))

    def expand(
        self,
        products: Float[Tensor, "B K N"],
        *,
        offset: Float[Tensor, "B K 1 1"] | None = None,
        out: Tensor | None = None,
        scratch: Tensor | None = None,
    ) -> Float[Tensor, "B K H W"]:
        """Return ``sum over levels of scale(p) * up(products)(p)``, plus ``offset`` if given.

        It is the inner product of every pixel's feature with the vector that has these products.

        Args:
            products: Of K vectors.
            offset: A number for each vector.
            out: Where the result goes, ``(B, K, H, W)``.
            scratch: Another tensor of that shape that may be overwritten, to save allocating one.
        """
        total = products.new_empty(*products.shape[:2], *self.size) if out is None else out
        if self._rows is not None:
            flat = total.flatten(2)
            if offset is None:
                torch.bmm(products, self._rows, out=flat)
            else:
                torch.baddbmm(offset[..., 0], products, self._rows, out=flat)
            return total
        base = products.new_zeros(1) if offset is None else offset
        for level, part in zip(self._levels, self._of_each_level(products), strict=True):
            scratch = level.upsampling.forward(part, scratch)
            base = torch.addcmul(base, scratch, level.scale[:, None], out=total)
        return total

    def collect(
        self, weights: Float[Tensor, "B K H W"], *, scratch: Tensor | None = None
    ) -> Float[Tensor, "B K N"]:
        """Return the coefficients of ``sum_p weights[p] phi(p)``: the adjoint of :meth:`expand`.

        Args:
            weights: What each pixel counts in each of the K sums.
            scratch: A tensor like ``weights`` that may be overwritten, to save allocating one.
        """
        if self._rows is not None:
            return weights.flatten(2) @ self._rows.mT
        parts = []
        for level in self._levels:
            scaled = torch.mul(weights, level.scale[:, None], out=scratch)
            parts.append(level.upsampling.adjoint(scaled))
        return torch.cat(parts, dim=2)

    def _of_each_level(self, cells: Tensor) -> tuple[Tensor, ...]:
        return torch.split(cells, [level.n_cells for level in self._levels], dim=2)


def _gram_of(levels: Sequence[_Level]) -> Tensor | None:
    """Return the inner products of all cells of each level, one block a level, where at hand."""
    blocks = [level.gram for level in levels if level.gram is not None]
    if not blocks:
        return None
    n_cells = sum(block.shape[1] for block in blocks)
    gram = blocks[0].new_zeros(len(blocks[0]), n_cells, n_cells)
    end = 0
    for block in blocks:
        part = slice(end, end := end + block.shape[1])
        gram[:, part, part] = block
    return gram


def _check_activations(activations: Sequence[Tensor], size: tuple[int, int]) -> None:
    if not activations:
        raise InputError("no activations were given; give one (B, C, h, w) tensor a level")
    if min(size) < 1:
        raise InputError(f"the frame is {size[0]} x {size[1]} pixels; it needs at least 1 x 1")
    first = activations[0]
    for index, maps in enumerate(activations):
        if maps.ndim != 4 or min(maps.shape) < 1 or not maps.is_floating_point():
            raise InputError(
                f"activation {index} is {maps.dtype} of shape {tuple(maps.shape)}; "
                "give a floating-point tensor (B, C, h, w)"
            )
        if maps.shape[0] != first.shape[0] or maps.device != first.device:
            raise InputError(
                f"activation {index} holds {maps.shape[0]} images on {maps.device}, activation 0 "
                f"{first.shape[0]} on {first.device}; give all levels of the same batch"
            )


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
        "when it overflows, or weights that are not finite"
    )

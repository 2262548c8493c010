"""The features of Algorithm 1 (paper, section 3), answered for without ever building their matrix.

Algorithm 1 upsamples the activations of every level to the frame, divides each pixel's vector by its
norm and by one plus its number of channels, and concatenates the levels: an ``(HW, sum of C)`` matrix.
Bicubic upsampling is linear and separable, so everything a clustering asks of that matrix can be
computed at the resolution of the activations instead (``docs/explanation`` has the derivation).

In: activations ``(B, C, h, w)`` of several levels. Out: inner products, sums over clusters, features at
chosen pixels, norms and distances. Knows no network, no image and no cluster label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from naspix.errors import ActivationError, InputError

_REACH = 3  # a bicubic kernel has four taps, so two taps of one pixel lie at most three cells apart
_FEW_CHANNELS = 32  # up to here upsampling every channel costs no more than the 28 pairs of taps


@lru_cache(maxsize=256)
def upsampling_matrix(
    n_cells: int, n_pixels: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "n_pixels n_cells"]:
    """Return bicubic upsampling along one axis as a matrix.

    It is what ``torch.nn.functional.interpolate`` (bicubic, ``align_corners=False``) does to the unit
    vectors in the same precision, so it is the same map by construction, down to which taps are zero;
    each row has at most four non-zeros and sums to 1.

    Args:
        n_cells: Length of the axis in the activation.
        n_pixels: Length of the axis in the frame; may be smaller than ``n_cells``.
        dtype: Floating type of the result.
        device: Device of the result.

    Example:
        >>> upsampling_matrix(2, 4, torch.float32, torch.device("cpu")).sum(1)
        tensor([1., 1., 1., 1.])
    """
    unit_vectors = torch.eye(n_cells, dtype=dtype).view(1, n_cells, n_cells, 1)
    columns = functional.interpolate(unit_vectors, size=(n_pixels, 1), mode="bicubic")
    return columns[0, :, :, 0].T.contiguous().to(device)


@lru_cache(maxsize=256)
def _row_pair_weights(
    n_cells: int, n_pixels: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "n_pixels 4*n_cells"]:
    """Return ``V[p, q] V[p, q + d]`` for the offsets ``d = 0..3``; those with ``d > 0`` count twice."""
    matrix = upsampling_matrix(n_cells, n_pixels, dtype, torch.device("cpu")).double()
    padded = functional.pad(matrix, (0, _REACH))
    pairs = [matrix * padded[:, d : d + n_cells] * (1 if d == 0 else 2) for d in range(_REACH + 1)]
    return torch.cat(pairs, dim=1).to(device=device, dtype=dtype)


@lru_cache(maxsize=256)
def _column_pair_weights(
    n_cells: int, n_pixels: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "7*n_cells n_pixels"]:
    """Return ``V[p, q] V[p, q + d]`` for the offsets ``d = -3..3``, transposed."""
    matrix = upsampling_matrix(n_cells, n_pixels, dtype, torch.device("cpu")).double()
    padded = functional.pad(matrix, (_REACH, _REACH))
    pairs = [matrix * padded[:, d : d + n_cells] for d in range(2 * _REACH + 1)]
    return torch.cat(pairs, dim=1).T.to(device=device, dtype=dtype).contiguous()


def _neighbour_products(activation: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 4*h 7*w"]:
    """Return ``<X_q, X_(q + d)>`` for the offsets ``d`` in ``0..3`` rows by ``-3..3`` columns.

    Positions beyond the border count as zero. One batched matrix product per row of the activation:
    the row against itself and the three rows below it, all columns at once; the wanted pairs are a
    band of that product.
    """
    n_images, n_channels, height, width = activation.shape
    padded_width = width + 2 * _REACH
    padded = functional.pad(activation, (_REACH, _REACH, 0, _REACH))
    rows = activation.permute(0, 2, 3, 1)  # (B, h, w, C)
    strips = padded.as_strided(  # (B, h, C, 4 rows of the padded width), overlapping
        (n_images, height, n_channels, (_REACH + 1) * padded_width),
        (padded.stride(0), padded_width, padded.stride(1), 1),
    )
    products = (rows @ strips).contiguous()  # (B, h, w, 4 * padded width)
    band = products.as_strided(
        (n_images, _REACH + 1, height, 2 * _REACH + 1, width),
        (
            products.stride(0),
            padded_width,
            products.stride(1),
            1,
            products.stride(2) + 1,  # one cell to the right, in both factors
        ),
    )
    return band.reshape(n_images, (_REACH + 1) * height, (2 * _REACH + 1) * width)


def _squared_norms(
    activation: Float[Tensor, "B C h w"], size: tuple[int, int]
) -> Float[Tensor, "B H W"]:
    """Return the squared norm of the upsampled activation at every pixel of the frame.

    ``|X U[p]|^2 = sum_d (V_y * shift(V_y, d_y)) D_d (V_x * shift(V_x, d_x))^T``: 28 upsamplings of one
    channel, done as two matrix products, in place of upsampling all C channels. Few channels are
    upsampled themselves, which is as fast and loses no digits where they cancel.
    """
    kind = (activation.dtype, activation.device)
    if activation.shape[1] <= _FEW_CHANNELS:
        rows = upsampling_matrix(activation.shape[2], size[0], *kind) @ activation
        columns = upsampling_matrix(activation.shape[3], size[1], *kind)
        return (rows @ columns.T).square().sum(1)
    vertical = _row_pair_weights(activation.shape[2], size[0], *kind)
    horizontal = _column_pair_weights(activation.shape[3], size[1], *kind)
    return vertical @ _neighbour_products(activation) @ horizontal


@dataclass(frozen=True, eq=False)
class _Level:
    """One activation and its bicubic upsampling: ``phi(p) = scale(p) * X U[p]``, ``U = V_y (x) V_x``."""

    activation: Tensor  # (B, C, h, w)
    vertical: Tensor  # V_y, (H, h)
    horizontal: Tensor  # V_x, (W, w)
    scale: Tensor  # (B, H, W): line 10 (the norm) and line 11 (1 / (1 + C)) of Algorithm 1

    @property
    def n_cells(self) -> int:
        return self.activation.shape[2] * self.activation.shape[3]

    @property
    def matrix(self) -> Tensor:
        """The activation as the matrix ``X``, ``(B, C, h * w)``."""
        return self.activation.flatten(2)

    def upsample(self, maps: Tensor, out: Tensor | None = None) -> Tensor:
        """``(B, K, h * w)`` -> ``(B, K, H, W)``, without the scale."""
        height, width = self.activation.shape[2:]
        rows = self.vertical @ maps.unflatten(2, (height, width))
        shape = (*rows.shape[:3], self.horizontal.shape[0])
        if out is None:
            out = rows.new_empty(shape)
        torch.mm(rows.view(-1, width), self.horizontal.T, out=out.view(-1, shape[3]))
        return out

    def downsample(self, weights: Tensor, scratch: Tensor | None = None) -> Tensor:
        """The adjoint of :meth:`upsample` after the scale: ``(B, K, H, W)`` -> ``(B, K, h * w)``."""
        scaled = torch.mul(weights, self.scale[:, None], out=scratch)
        rows = self.vertical.T @ scaled
        return (rows.view(-1, rows.shape[3]) @ self.horizontal).view(*rows.shape[:2], -1)


class UpsampledFeatures:
    """The feature ``phi(p)`` of every pixel of a batch of images, held at the activations' resolution.

    Each level's activation is upsampled to the frame (bicubic, ``align_corners=False``), divided by its
    norm at each pixel (line 10 of Algorithm 1) and by one plus its number of channels (line 11); the
    levels are then concatenated. A pixel whose activation is all zero has the zero vector as feature.

    Args:
        activations: One tensor ``(B, C, h, w)`` a level, on one device; half precision is taken as
            float32, float64 stays.
        size: The frame ``(H, W)`` in pixels.
        normalize: Whether line 10 is done.
        weight: Whether line 11 is done.
        names: What to call the levels in an error; their numbers by default.

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
        activations: Sequence[Float[Tensor, "B _ _ _"]],
        size: tuple[int, int],
        *,
        normalize: bool = True,
        weight: bool = True,
        names: Sequence[str] | None = None,
    ) -> None:
        self.normalize = normalize
        self.weight = weight
        self.size = (int(size[0]), int(size[1]))
        _check_activations(activations, self.size)
        names = [str(i) for i in range(len(activations))] if names is None else names
        self._levels = tuple(
            self._level(name, maps) for name, maps in zip(names, activations, strict=True)
        )

    def _level(self, name: str, activation: Tensor) -> _Level:
        if activation.dtype not in (torch.float32, torch.float64):
            activation = activation.float()
        activation = activation.contiguous()
        n_channels = activation.shape[1]
        kind = (activation.dtype, activation.device)
        line_11 = 1 / (1 + n_channels) if self.weight else 1.0
        norms = _squared_norms(activation, self.size)
        if not bool(torch.isfinite(norms.sum())):
            raise _not_finite(name, activation)
        if self.normalize:
            scale = line_11 * norms.clamp_min(0).rsqrt()
            scale.masked_fill_(norms <= 0, 0)
        else:
            scale = torch.full_like(norms, line_11)
        return _Level(
            activation,
            upsampling_matrix(activation.shape[2], self.size[0], *kind),
            upsampling_matrix(activation.shape[3], self.size[1], *kind),
            scale,
        )

    def _of_levels(self, levels: Sequence[_Level]) -> Self:
        """Return the same kind of features over other levels."""
        other = object.__new__(type(self))
        other.normalize, other.weight = self.normalize, self.weight
        other.size = (levels[0].vertical.shape[0], levels[0].horizontal.shape[0])
        other._levels = tuple(levels)
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
        return self.expand(self.project(centers))

    def cluster_sums(self, membership: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K D"]:
        """Return ``sum_p membership[k, p] phi(p)``: the adjoint of :meth:`inner_products`."""
        parts = [
            cells @ level.matrix.mT
            for cells, level in zip(self.collect(membership), self._levels, strict=True)
        ]
        return torch.cat(parts, dim=2)

    def at(self, pixels: Int64[Tensor, "B n"]) -> Float[Tensor, "B n D"]:
        """Return the features of the pixels with these row-major indices."""
        parts = [
            cells @ level.matrix.mT
            for cells, level in zip(self.coefficients_at(pixels), self._levels, strict=True)
        ]
        return torch.cat(parts, dim=2)

    def squared_norms(self) -> Float[Tensor, "B H W"]:
        """Return ``|phi(p)|^2``: constant where lines 10 and 11 are done and nothing is zero."""
        total = torch.zeros_like(self._levels[0].scale)
        for level in self._levels:
            if self.normalize:
                line_11 = 1 / (1 + level.activation.shape[1]) if self.weight else 1.0
                total += (level.scale > 0).to(total.dtype) * line_11**2
            else:
                total += level.scale.square() * _squared_norms(level.activation, self.size)
        return total

    def squared_distances(self, centers: Float[Tensor, "B K D"]) -> Float[Tensor, "B K H W"]:
        """Return ``|phi(p) - center|^2``, at least zero, for every pixel and centre."""
        center_norms = centers.square().sum(2)[:, :, None, None]
        distances = center_norms - 2 * self.inner_products(centers)
        return distances.add_(self.squared_norms()[:, None]).clamp_min_(0)

    def dense(self) -> Float[Tensor, "B D H W"]:
        """Return the whole matrix; for tests and small frames only, it is what this class avoids."""
        parts = [level.upsample(level.matrix) * level.scale[:, None] for level in self._levels]
        return torch.cat(parts, dim=1)

    # other frames and parts of the batch

    def images(self, start: int, stop: int) -> Self:
        """Return the features of the images ``start`` to ``stop - 1``, as a smaller batch."""
        part = slice(start, stop)
        return self._of_levels(
            [
                _Level(level.activation[part], level.vertical, level.horizontal, level.scale[part])
                for level in self._levels
            ]
        )

    def image(self, index: int) -> Self:
        """Return the features of one image, as a batch of one."""
        return self.images(index, index + 1)

    def resized(self, size: tuple[int, int]) -> "UpsampledFeatures":
        """Return the features of the same activations in another frame ``(H, W)``."""
        return UpsampledFeatures(self.levels, size, normalize=self.normalize, weight=self.weight)

    def every(self, step: int) -> Self:
        """Return the features of every ``step``-th pixel, in rows and in columns, as a smaller frame."""
        rows, columns = (slice(min(step // 2, length - 1), None, step) for length in self.size)
        return self._of_levels(
            [
                _Level(
                    level.activation,
                    level.vertical[rows].contiguous(),
                    level.horizontal[columns].contiguous(),
                    level.scale[:, rows, columns].contiguous(),
                )
                for level in self._levels
            ]
        )

    # coefficients: a weighted sum of features is sum_q r(q) X_q for some r over the low-resolution
    # cells q, so k-means keeps r (h * w numbers a level) in place of the centre itself

    def coefficients_at(self, pixels: Int64[Tensor, "B n"]) -> list[Float[Tensor, "B n cells"]]:
        """Return, a level, the ``r`` with ``phi(p) = sum_q r(q) X_q`` for the pixels given."""
        rows, columns = pixels // self.size[1], pixels % self.size[1]
        parts = []
        for level in self._levels:
            outer = level.vertical[rows][..., :, None] * level.horizontal[columns][..., None, :]
            scale = level.scale.flatten(1).gather(1, pixels)
            parts.append(outer.flatten(2) * scale[..., None])
        return parts

    def collect(
        self, weights: Float[Tensor, "B K H W"], *, scratch: Tensor | None = None
    ) -> list[Float[Tensor, "B K cells"]]:
        """Return, a level, the ``r`` with ``sum_p weights[p] phi(p) = sum_q r(q) X_q``.

        Args:
            weights: What each pixel counts in each of the K sums.
            scratch: A tensor like ``weights`` that may be overwritten, to save allocating one.
        """
        return [level.downsample(weights, scratch) for level in self._levels]

    def project(self, vectors: Float[Tensor, "B K D"]) -> list[Float[Tensor, "B K cells"]]:
        """Return, a level, the inner products of the vectors with every cell of the activation."""
        parts = self._split(vectors)
        return [part @ level.matrix for part, level in zip(parts, self._levels, strict=True)]

    def correlate(
        self, coefficients: Sequence[Float[Tensor, "B K cells"]]
    ) -> list[Float[Tensor, "B K cells"]]:
        """Return, a level, ``X^T X r``: the inner product of each cell's vector with ``sum_q r(q) X_q``."""
        return [
            (cells @ level.matrix.mT) @ level.matrix
            for cells, level in zip(coefficients, self._levels, strict=True)
        ]

    def expand(
        self,
        maps: Sequence[Float[Tensor, "B K cells"]],
        *,
        offset: Float[Tensor, "B K 1 1"] | None = None,
        out: Tensor | None = None,
        scratch: Tensor | None = None,
    ) -> Float[Tensor, "B K H W"]:
        """Return ``sum over levels of scale(p) * up(maps)(p)``, plus ``offset`` if one is given.

        The adjoint of :meth:`collect`. With ``maps = correlate(r)`` it is the inner product of every
        pixel's feature with the vector that ``r`` stands for.

        Args:
            maps: One a level.
            offset: A number for each map.
            out: Where the result goes, ``(B, K, H, W)``.
            scratch: Another tensor of that shape that may be overwritten, to save allocating one.
        """
        first, *others = zip(self._levels, maps, strict=True)
        level, level_maps = first
        if offset is None:
            offset = level_maps.new_zeros(1)
        upsampled = level.upsample(level_maps, scratch)
        total = torch.addcmul(offset, upsampled, level.scale[:, None], out=out)
        for level, level_maps in others:
            total.addcmul_(level.upsample(level_maps, upsampled), level.scale[:, None])
        return total

    def _split(self, vectors: Tensor) -> tuple[Tensor, ...]:
        if vectors.shape[0] != self.batch_size or vectors.shape[2] != self.n_dims:
            raise InputError(
                f"the centres have shape {tuple(vectors.shape)}; give (B, K, D) with "
                f"B = {self.batch_size} images and D = {self.n_dims} channels over all levels"
            )
        return vectors.split([level.activation.shape[1] for level in self._levels], dim=2)


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
                f"activation {index} holds {maps.shape[0]} images on {maps.device} and activation 0 "
                f"{first.shape[0]} on {first.device}; give all levels of the same batch"
            )


def _not_finite(name: str, activation: Tensor) -> ActivationError:
    if bool(torch.isfinite(activation).all()):
        return ActivationError(
            f"the activation of level {name} has values up to {float(activation.abs().max()):.2g}, whose "
            "squares overflow; scale it down"
        )
    return ActivationError(
        f"the activation of level {name} holds NaN or infinite values, as half precision gives when it "
        "overflows; run the network in float32 or bfloat16"
    )

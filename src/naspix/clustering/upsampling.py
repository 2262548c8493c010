"""Bicubic upsampling as a linear map, its adjoint, and the norms of what it upsamples.

Upsampling ``h x w`` cells to ``H x W`` pixels is ``U = V_y (x) V_x`` with ``V_y`` of ``H x h`` and
at most four non-zeros a row (line 9 of Algorithm 1: bicubic, ``align_corners=False``). Maps and
pixels are flattened row-major, ``(B, K, h * w)`` and ``(B, K, H, W)``. Knows nothing of levels and
clusters.
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from naspix.native import Axis

# what is kept for reuse must be an ordinary tensor, wherever it was first asked for
_ordinary = torch.inference_mode(mode=False)

_REACH = 3  # a bicubic kernel has four taps, so two taps of one pixel lie at most three cells apart


@lru_cache(maxsize=256)
@_ordinary
def upsampling_matrix(
    n_cells: int, n_pixels: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "n_pixels n_cells"]:
    """Return bicubic upsampling along one axis as a matrix.

    It is what ``torch.nn.functional.interpolate`` (bicubic, ``align_corners=False``) does to the
    unit vectors in the same precision, so it is the same map by construction, down to which taps
    are zero; each row has at most four non-zeros and sums to 1.

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
    return columns[0, :, :, 0].T.clone(memory_format=torch.contiguous_format).to(device)


@dataclass(frozen=True, eq=False)
class Upsampling:
    """The map from ``h x w`` cells to the pixels of a frame, or to tiles of them.

    Attributes:
        vertical: ``V_y``, ``(H, h)``.
        horizontal: ``V_x``, ``(W, w)``.
    """

    vertical: Float[Tensor, "H h"]
    horizontal: Float[Tensor, "W w"]
    _tilings: dict[int, "Upsampling"] = field(default_factory=dict, repr=False)

    @classmethod
    @lru_cache(maxsize=64)
    def between(
        cls,
        cells: tuple[int, int],
        size: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> "Upsampling":
        """Return the map from ``cells = (h, w)`` to the frame ``(H, W)``; it is kept for reuse."""
        return cls(
            upsampling_matrix(cells[0], size[0], dtype, device),
            upsampling_matrix(cells[1], size[1], dtype, device),
        )

    @cached_property
    @_ordinary
    def vertical_transposed(self) -> Float[Tensor, "h H"]:
        """``V_y^T``, in memory in that order."""
        return self.vertical.T.contiguous()

    @cached_property
    @_ordinary
    def horizontal_transposed(self) -> Float[Tensor, "w W"]:
        """``V_x^T``, in memory in that order."""
        return self.horizontal.T.contiguous()

    @cached_property
    @_ordinary
    def matrix_transposed(self) -> Float[Tensor, "cells pixels"]:
        """``U^T`` written out; for small frames only."""
        return torch.kron(self.vertical, self.horizontal).T.contiguous()

    @cached_property
    def axes(self) -> tuple[Axis, Axis]:
        """Both matrices, prepared for the compiled part."""
        return Axis.of(self.vertical), Axis.of(self.horizontal)

    @_ordinary
    def tiles(self, side: int) -> "Upsampling":
        """Return the map to the means over tiles of ``side x side`` pixels; it is kept for reuse.

        Tiles at the lower and the right border are smaller where the frame ends.
        """
        if side not in self._tilings:
            vertical, horizontal = (
                torch.stack([rows.mean(0) for rows in matrix.split(side)])
                for matrix in (self.vertical, self.horizontal)
            )
            self._tilings[side] = Upsampling(vertical, horizontal)
        return self._tilings[side]

    def forward(
        self, maps: Float[Tensor, "B K cells"], out: Tensor | None = None
    ) -> Float[Tensor, "B K H W"]:
        """Upsample ``K`` maps of each image, first down the columns, then along the rows."""
        n_images, n_maps, _ = maps.shape
        (n_rows, height), (n_columns, width) = self.vertical.shape, self.horizontal.shape
        if out is None:
            out = maps.new_empty(n_images, n_maps, n_rows, n_columns)
        many = n_images * n_maps
        rows = torch.bmm(self.vertical.expand(many, -1, -1), maps.reshape(many, height, width))
        torch.mm(rows.reshape(-1, width), self.horizontal_transposed, out=out.view(-1, n_columns))
        return out

    def adjoint(self, pixels: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K cells"]:
        """Apply the transpose of :meth:`forward`."""
        n_images, n_maps, n_rows, n_columns = pixels.shape
        many = n_images * n_maps
        vertical = self.vertical_transposed.expand(many, -1, -1)
        rows = torch.bmm(vertical, pixels.reshape(many, n_rows, n_columns))
        return torch.mm(rows.reshape(-1, n_columns), self.horizontal).view(n_images, n_maps, -1)

    def squared_norms(self, neighbours: Float[Tensor, "B bh bw"]) -> Float[Tensor, "B H W"]:
        """Return the squared norm of an upsampled activation at every pixel.

        ``|X U[p]|^2 = sum_d (V_y * shift(V_y, d_y)) D_d (V_x * shift(V_x, d_x))^T`` with
        ``D_d(q) = <X_q, X_(q + d)>``: 28 upsamplings of one channel, done as two matrix products,
        in place of upsampling all C channels.

        Args:
            neighbours: ``D``, from :func:`neighbour_products`.
        """
        return self._row_pairs @ neighbours @ self._column_pairs

    @cached_property
    @_ordinary
    def _row_pairs(self) -> Tensor:
        """``V_y[p, q] V_y[p, q + d]``, ``d = 0..3``, ``(H, 4 * h)``; ``d > 0`` counts twice."""
        matrix = self.vertical.cpu().double()
        n_cells = matrix.shape[1]
        padded = functional.pad(matrix, (0, _REACH))
        pairs = [
            matrix * padded[:, d : d + n_cells] * (1 if d == 0 else 2) for d in range(_REACH + 1)
        ]
        return torch.cat(pairs, dim=1).to(self.vertical)

    @cached_property
    @_ordinary
    def _column_pairs(self) -> Tensor:
        """``V_x[p, q] V_x[p, q + d]`` for ``d = -3..3``, transposed: ``(7 * w, W)``."""
        matrix = self.horizontal.cpu().double()
        n_cells = matrix.shape[1]
        padded = functional.pad(matrix, (_REACH, _REACH))
        pairs = [matrix * padded[:, d : d + n_cells] for d in range(2 * _REACH + 1)]
        return torch.cat(pairs, dim=1).T.to(self.horizontal).contiguous()


def neighbour_products(activation: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 4*h 7*w"]:
    """Return ``<X_q, X_(q + d)>`` for the offsets ``d`` in ``0..3`` rows by ``-3..3`` columns.

    Positions beyond the border count as zero. One batched matrix product: each row of the
    activation against itself and the three rows below it, all columns at once; the wanted pairs
    are a band of it.
    """
    n_images, n_channels, height, width = activation.shape
    padded_width = width + 2 * _REACH
    padded = functional.pad(activation, (_REACH, _REACH, 0, _REACH))
    strips = padded.as_strided(  # (B, h, C, 4 rows of the padded width), overlapping
        (n_images, height, n_channels, (_REACH + 1) * padded_width),
        (padded.stride(0), padded_width, padded.stride(1), 1),
    )
    products = (activation.permute(0, 2, 3, 1) @ strips).contiguous()  # (B, h, w, ...)
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


def gram_and_neighbour_products(
    activation: Float[Tensor, "B C h w"],
) -> tuple[Float[Tensor, "B n n"], Float[Tensor, "B 4*h 7*w"]]:
    """Return the inner products of all pairs of cells, and those of neighbours among them.

    The latter are :func:`neighbour_products`, but beyond the border they are whatever lies in
    memory there, a product of other cells: :meth:`Upsampling.squared_norms` counts it zero times.
    """
    n_images, _, height, width = activation.shape
    n_cells = height * width
    spare = _REACH * (width + 1)  # how far the first and the last cells' neighbours reach outside
    memory = activation.new_zeros(n_images * n_cells**2 + 2 * spare)
    gram = memory[spare:-spare].view(n_images, n_cells, n_cells)
    matrix = activation.flatten(2)
    torch.bmm(matrix.mT, matrix, out=gram)
    band = memory.as_strided(
        (n_images, _REACH + 1, height, 2 * _REACH + 1, width),
        (n_cells**2, width, n_cells * width + width, 1, n_cells + 1),
        spare - _REACH,
    )
    return gram, band.reshape(n_images, (_REACH + 1) * height, (2 * _REACH + 1) * width)

"""A module's output as a map `(B, C, h, w)`: channels last, or a sequence of tokens.

Pure geometry: which readings of a shape are possible, the likeliest first, and how one is read and
written. Class and register tokens are those that are no patch of the image; they may stand
anywhere, and patches in any order. A shape tells neither: unless it has one reading only,
`tokens.py` shows which is right by changing the image. Knows no hooks.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from naspix.errors import ActivationError

PREFIX_TOKEN = re.compile(
    r"(?:^|\.)cls$|(?:^|[._])"
    r"(?:cls|class|reg|register|dist|distill|distillation|storage)_?(?:tok|token|tokens|embedding)$"
)
_MOST_EXTRA_TOKENS = 16
_MOST_READINGS = 6


@dataclass(frozen=True)
class Layout:
    """How one output is read as a map, and a map is written back.

    ``grid`` is the `(h, w)` of a token sequence; None for four-dimensional outputs. Its patches are
    row by row after ``prefix`` other tokens, unless ``order`` says for each cell, row by row, which
    token it is. ``step`` is the side `(y, x)` of a cell in pixels.
    """

    channels_last: bool = False
    prefix: int = 0
    grid: tuple[int, int] | None = None
    order: tuple[int, ...] | None = None
    step: tuple[float, float] = field(default=(0, 0), compare=False)

    def read(self, output: Tensor) -> Tensor:
        """The output as `(B, C, h, w)`: a view of it, unless tokens have an order of their own."""
        if self.grid is not None:
            if self.order is None:
                cells = self.grid[0] * self.grid[1]
                tokens = output[:, self.prefix : self.prefix + cells]
            else:
                tokens = output[:, list(self.order)]
            tokens = tokens.transpose(1, 2)
            return tokens.view(*tokens.shape[:2], *self.grid)
        return output.permute(0, 3, 1, 2) if self.channels_last else output

    def write(self, maps: Tensor, output: Tensor) -> Tensor:
        """A tensor shaped as ``output``, with ``maps`` in the place of its map."""
        if self.grid is not None:
            tokens = maps.flatten(2).transpose(1, 2)
            if self.order is not None:
                places = torch.tensor(self.order, device=output.device)
                return output.index_copy(1, places, tokens)
            after = output[:, self.prefix + tokens.shape[1] :]
            parts = [output[:, : self.prefix], tokens, after]
            return torch.cat(parts, 1) if tokens.shape[1] < output.shape[1] else tokens
        return maps.permute(0, 2, 3, 1) if self.channels_last else maps

    def cells(self, output: Tensor) -> Tensor:
        """All vectors of the output, `(B, N, D)`: every token, or each place of the map."""
        return output if self.grid is not None else self.read(output).flatten(2).transpose(1, 2)

    def size(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width of the map that an output of this shape is read as."""
        if self.grid is not None:
            return self.grid
        return (shape[1], shape[2]) if self.channels_last else (shape[2], shape[3])

    def ordered(self, order: Sequence[int]) -> "Layout":
        """This reading with a token for each cell, as a run of tokens where they are one."""
        first = order[0]
        if list(order) == list(range(first, first + len(order))):
            return replace(self, prefix=first, order=None)
        return replace(self, prefix=min(order), order=tuple(order))


@dataclass(frozen=True)
class TokenHints:
    """What a network says about its own tokens, which is where looking begins.

    ``prefix`` counts the class and register tokens it declares, ``patch`` is its patch size
    `(h, w)` if it has one.
    """

    prefix: int = 0
    patch: tuple[int, int] | None = None

    @classmethod
    def of(cls, network: nn.Module) -> "TokenHints":
        """Read the hints from a network's attributes and parameter names."""
        prefix: int | None = None
        patch: tuple[int, int] | None = None
        for module in network.modules():
            declared = getattr(module, "num_prefix_tokens", None)
            if prefix is None and isinstance(declared, int):
                prefix = declared
            if patch is None:
                patch = _pair(getattr(module, "patch_size", None)) or _patch_of(module)
        if prefix is None:
            prefix = sum(
                parameter.shape[-2] if parameter.ndim >= 2 else 1
                for name, parameter in network.named_parameters()
                if PREFIX_TOKEN.search(name)
            )
        return cls(prefix, patch)


def _patch_of(module: nn.Module) -> tuple[int, int] | None:
    """The patch size of a convolution whose windows lie side by side."""
    if not isinstance(module, nn.Conv2d) or module.kernel_size != module.stride:
        return None
    height, width = module.kernel_size
    return (height, width) if height * width > 1 else None


def _pair(value: object) -> tuple[int, int] | None:
    match value:
        case bool():
            return None
        case int() if value > 0:
            return value, value
        case (int(height), int(width)) if height > 0 and width > 0:
            return height, width
    return None


def readings(
    shape: Sequence[int], batch: int, frame: tuple[int, int], hints: TokenHints
) -> tuple[Layout, ...]:
    """How an output of this shape could be a map of images of this frame, the likeliest first.

    Args:
        shape: The output's shape.
        batch: How many images went in.
        frame: Their height and width.
        hints: What the network says about its tokens.

    Raises:
        ActivationError: If the output is no map in any reading.

    Example:
        >>> readings((1, 24, 7, 7), 1, (224, 224), TokenHints())[0].channels_last
        False
        >>> readings((1, 197, 384), 1, (224, 224), TokenHints(prefix=1))[0].grid
        (14, 14)
    """
    size = " x ".join(map(str, shape))
    if len(shape) not in (3, 4) or shape[0] != batch:
        raise ActivationError(
            f"has no spatial map: its output is {size} for a batch of {batch}; choose a module "
            "whose output is (B, C, h, w) or (B, tokens, D)"
        )
    if len(shape) == 4:
        first, last = (shape[2], shape[3]), (shape[1], shape[2])
        found = [
            Layout(channels_last=cells is last, step=(frame[0] / cells[0], frame[1] / cells[1]))
            for cells in (first, last)
            if 0 not in cells and covers(cells, frame)
        ]
        return tuple(found) or (Layout(),)
    found = []
    for grid, step in _token_grids(shape[1], frame, hints):
        prefix = shape[1] - grid[0] * grid[1]
        found.append(Layout(prefix=prefix, grid=grid, step=step))
    if not found:
        besides = f" besides {hints.prefix} class or register tokens" if hints.prefix else ""
        raise ActivationError(
            f"has {shape[1]} tokens, which{besides} fit no grid over images of {frame[0]} x "
            f"{frame[1]} pixels; give images of the size the network was made for, declare its "
            "extra tokens by a num_prefix_tokens attribute, or choose another level"
        )
    return tuple(found)


def covers(size: tuple[int, int], frame: tuple[int, int], slack: int = 1) -> bool:
    """Whether one stride makes the frame into a map of this size, give or take ``slack`` cells.

    Example:
        >>> covers((7, 10), (224, 320)), covers((7, 7), (224, 320))
        (True, False)
    """
    least = max(side / (cells + slack) for cells, side in zip(size, frame, strict=True))
    most = min(side / max(cells - slack, 0.5) for cells, side in zip(size, frame, strict=True))
    return least <= most


_Grid = tuple[tuple[int, int], tuple[float, float]]  # (h, w), and a cell's side in pixels


@lru_cache(maxsize=256)
def _token_grids(n_tokens: int, frame: tuple[int, int], hints: TokenHints) -> tuple[_Grid, ...]:
    """Grids that a sequence can be beside a few tokens that are no patches."""
    found: dict[tuple[int, int], tuple[float, float]] = {}
    patched = dict(_patch_grids(frame, hints.patch))
    declared = tuple(dict.fromkeys((hints.prefix, 0)))
    for extras in (declared, range(1, _MOST_EXTRA_TOKENS + 1)):  # undeclared ones at last
        for k in extras:
            for grid, step in patched.items():
                if grid[0] * grid[1] == n_tokens - k:
                    found.setdefault(grid, step)
        for k in extras:
            for grid, step in _stride_grids(n_tokens - k, frame):
                found.setdefault(grid, step)
        if found:
            break
    return tuple(found.items())[:_MOST_READINGS]


def _patch_grids(frame: tuple[int, int], patch: tuple[int, int] | None) -> Iterator[_Grid]:
    """The grid of patches, and of patches merged two by two, up to four times over."""
    if patch is None:
        return
    exact = frame[0] // patch[0], frame[1] // patch[1]
    padded = -(-frame[0] // patch[0]), -(-frame[1] // patch[1])
    for h, w in (exact, padded):
        y, x = float(patch[0]), float(patch[1])
        for _ in range(5):
            if h * w > 0:
                yield (h, w), (y, x)
            h, w, y, x = -(-h // 2), -(-w // 2), 2 * y, 2 * x


def _stride_grids(n: int, frame: tuple[int, int]) -> Iterator[_Grid]:
    """All grids of ``n > 1`` cells that some whole stride makes of the frame."""
    if n <= 1:
        return
    height, width = frame
    # those that leave no rest come first: 14 cells of 224 pixels are of 16, although 15 do as well
    strides = sorted(range(1, max(frame) + 1), key=lambda s: height % s + width % s)
    for stride in strides:
        for h, w in (
            (height // stride, width // stride),
            (-(-height // stride), -(-width // stride)),
        ):
            if h * w == n:
                yield (h, w), (float(stride), float(stride))

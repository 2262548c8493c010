"""A module's output as a map `(B, C, h, w)`: channels last, or a sequence of tokens.

Tokens `(B, N, D)` become a grid `(B, D, h, w)` after dropping class and register tokens, which
stand in front. Which tokens those are is read from the network (``num_prefix_tokens``,
``cls_token`` and its like); which grid it is, from its patch size or from the frame of the images.
Nothing is guessed: where no grid, or more than one, fits, the error says so. Knows no hooks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from naspix.errors import ActivationError

PREFIX_TOKEN = re.compile(
    r"(?:^|\.)cls$|(?:^|[._])"
    r"(?:cls|class|reg|register|dist|distill|distillation|storage)_?(?:tok|token|tokens|embedding)$"
)


@dataclass(frozen=True)
class Layout:
    """How one output is read as a map, and a map is written back.

    ``grid`` is the `(h, w)` of a token sequence and ``prefix`` the number of tokens before it; for
    four-dimensional outputs ``grid`` is None.
    """

    channels_last: bool = False
    prefix: int = 0
    grid: tuple[int, int] | None = None

    def read(self, output: Tensor) -> Tensor:
        """The output as `(B, C, h, w)`: a view of it."""
        if self.grid is not None:
            tokens = output[:, self.prefix :].transpose(1, 2)
            return tokens.view(*tokens.shape[:2], *self.grid)
        return output.permute(0, 3, 1, 2) if self.channels_last else output

    def write(self, maps: Tensor, output: Tensor) -> Tensor:
        """A tensor shaped as ``output``, with ``maps`` in the place of its map."""
        if self.grid is not None:
            tokens = maps.flatten(2).transpose(1, 2)
            return torch.cat([output[:, : self.prefix], tokens], 1) if self.prefix else tokens
        return maps.permute(0, 2, 3, 1) if self.channels_last else maps


@dataclass(frozen=True)
class TokenHints:
    """What a network says about its own tokens.

    ``prefix`` counts the class and register tokens it declares, ``patch`` is its patch size
    `(h, w)` if it has one, ``channels_last`` whether it declares its maps to be so.
    """

    prefix: int = 0
    patch: tuple[int, int] | None = None
    channels_last: bool = False

    @classmethod
    def of(cls, network: nn.Module) -> "TokenHints":
        """Read the hints from a network's attributes and parameter names."""
        prefix: int | None = None
        patch: tuple[int, int] | None = None
        channels_last = False
        for module in network.modules():
            declared = getattr(module, "num_prefix_tokens", None)
            if prefix is None and isinstance(declared, int):
                prefix = declared
            if patch is None:
                patch = _pair(getattr(module, "patch_size", None)) or _patch_of(module)
            channels_last = channels_last or getattr(module, "output_fmt", None) == "NHWC"
        if prefix is None:
            prefix = sum(
                parameter.shape[-2] if parameter.ndim >= 2 else 1
                for name, parameter in network.named_parameters()
                if PREFIX_TOKEN.search(name)
            )
        return cls(prefix, patch, channels_last)


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


def find_layout(
    shape: Sequence[int], batch: int, frame: tuple[int, int], hints: TokenHints
) -> Layout:
    """Tell how an output of this shape is a map of images of height and width ``frame``.

    Args:
        shape: The output's shape.
        batch: How many images went in.
        frame: Their height and width.
        hints: What the network says about its tokens.

    Raises:
        ActivationError: If the output has no spatial map, or more than one reading.

    Example:
        >>> find_layout((1, 197, 384), 1, (224, 224), TokenHints(prefix=1))
        Layout(channels_last=False, prefix=1, grid=(14, 14))
    """
    size = " x ".join(map(str, shape))
    if len(shape) not in (3, 4) or shape[0] != batch:
        raise ActivationError(
            f"has no spatial map: its output is {size} for a batch of {batch}; choose a module "
            "whose output is (B, C, h, w) or (B, tokens, D)"
        )
    if len(shape) == 4:
        first = covers((shape[2], shape[3]), frame)
        last = covers((shape[1], shape[2]), frame)
        return Layout(channels_last=last and (hints.channels_last or not first))
    return _token_layout(shape[1], frame, hints)


def covers(size: tuple[int, int], frame: tuple[int, int], slack: int = 1) -> bool:
    """Whether one stride makes the frame into a map of this size, give or take ``slack`` cells.

    Example:
        >>> covers((7, 10), (224, 320)), covers((7, 7), (224, 320))
        (True, False)
    """
    least = max(side / (cells + slack) for cells, side in zip(size, frame, strict=True))
    most = min(side / max(cells - slack, 0.5) for cells, side in zip(size, frame, strict=True))
    return least <= most


def _token_layout(n_tokens: int, frame: tuple[int, int], hints: TokenHints) -> Layout:
    for prefix in dict.fromkeys((hints.prefix, 0)):
        grid = _patch_grid(n_tokens - prefix, frame, hints.patch)
        if grid is not None:
            return Layout(prefix=prefix, grid=grid)
    found = [
        Layout(prefix=prefix, grid=grid)
        for prefix in dict.fromkeys((hints.prefix, 0))
        for grid in _stride_grids(n_tokens - prefix, frame)
    ]
    if len(found) == 1:
        return found[0]
    besides = f" besides {hints.prefix} class or register tokens" if hints.prefix else ""
    pixels = f"images of {frame[0]} x {frame[1]} pixels"
    if not found:
        raise ActivationError(
            f"has {n_tokens} tokens, which{besides} fit no grid over {pixels}; give images of the "
            "size the network was made for, declare its extra tokens by a num_prefix_tokens "
            "attribute, or choose another level"
        )
    grids = " or ".join(f"{h} x {w}" for h, w in dict.fromkeys(x.grid for x in found if x.grid))
    raise ActivationError(
        f"has {n_tokens} tokens, which fit {pixels} as {grids}{besides}; images of another size, "
        "or num_prefix_tokens and patch_size attributes, would tell which"
    )


@lru_cache(maxsize=256)
def _patch_grid(
    n: int, frame: tuple[int, int], patch: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The grid of ``n`` patches, or of patches merged two by two, up to four times over."""
    if patch is None or n < 1:
        return None
    height, width = (-(-side // step) for side, step in zip(frame, patch, strict=True))
    exact = frame[0] // patch[0], frame[1] // patch[1]
    for grid in (exact, (height, width)):
        h, w = grid
        for _ in range(5):
            if h * w == n:
                return h, w
            h, w = -(-h // 2), -(-w // 2)
    return None


@lru_cache(maxsize=256)
def _stride_grids(n: int, frame: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """All grids of ``n > 1`` cells that some whole stride makes of the frame."""
    if n <= 1:
        return ()
    height, width = frame
    strides = range(1, max(frame) + 1)
    below = [(height // s, width // s) for s in strides]
    above = [(-(-height // s), -(-width // s)) for s in strides]
    return tuple(dict.fromkeys(grid for grid in below + above if grid[0] * grid[1] == n))

"""Which part of an image a network sees, where it crops its images itself: one place decides.

A backward pass on noise shows which pixels the scores depend on. Where rows above or columns to the
left do not count, other noise in all pixels around has to leave the scores as they are. (What is
cut off below and to the right alone cannot be told from what strides leave over.) Maps are then
laid over the seen part. Around it they are zero, and so are saliency and features: nothing there
has a say in the scores, and it is like no cell of the map, so that all of it is one cluster.
A warning says so, once for each size of images.
"""

import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from naspix.errors import NaspixError, NaspixWarning
from naspix.models.asking import evaluating
from naspix.models.outputs import first_tensor
from naspix.models.randomness import own_random_numbers

# of a side, above or to the left: only below and to the right may be what strides leave over
_LEAST_UNSEEN = 1 / 32
_FINEST = 4  # as many cells are made of one, where only parts of cells fit around


@dataclass(frozen=True)
class SeenPart:
    """The smallest rectangle of pixels that scores depend on, in a frame ``(H, W)``."""

    frame: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Its height and width in pixels."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def __str__(self) -> str:
        share = self.size[0] * self.size[1] / (self.frame[0] * self.frame[1])
        return (
            f"rows {self.rows[0]} to {self.rows[1]} and columns {self.columns[0]} to "
            f"{self.columns[1]} of {self.frame[0]} x {self.frame[1]} pixels ({share:.0%})"
        )

    def place(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
        """Maps of the seen part as maps of the frame, zero around it, to an eighth of a cell.

        Example:
            >>> SeenPart((8, 8), (2, 6), (0, 8)).place(torch.ones(1, 1, 2, 1))[0, 0].flatten()
            tensor([0., 1., 1., 0.])
        """
        for axis, (start, stop) in ((2, self.rows), (3, self.columns)):
            cell = (stop - start) / maps.shape[axis]
            around = [start / cell, (self.frame[axis - 2] - stop) / cell]
            parts = next(
                parts
                for parts in range(1, _FINEST + 1)
                if all(abs(round(n * parts) / parts - n) <= 1 / (2 * _FINEST) for n in around)
            )
            maps = maps.repeat_interleave(parts, axis)
            before, behind = (round(n * parts) for n in around)
            maps = pad(maps, (0, 0, before, behind) if axis == 2 else (before, behind))
        return maps

    def fill(self, pixels: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
        """Images whose seen part is these pixels."""
        (top, bottom), (left, right) = self.rows, self.columns
        return pad(pixels, (left, self.frame[1] - right, top, self.frame[0] - bottom))

    def cut(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        """The seen part of images."""
        return images[:, :, slice(*self.rows), slice(*self.columns)]


_found: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, int], SeenPart | None]] = (
    weakref.WeakKeyDictionary()
)


def known_part(network: nn.Module, frame: tuple[int, int]) -> SeenPart | None:
    """What was found for a network and frame; None where nothing was, or all is seen."""
    return _found.get(network, {}).get(frame)


def crops(network: nn.Module) -> bool:
    """Whether it was found to crop its images, of any size; it is not run for this."""
    return any(part is not None for part in _found.get(network, {}).values())


def find_part(
    network: nn.Module,
    frame: tuple[int, int],
    run: Callable[[Tensor], object],
    example: Callable[[], Float[Tensor, "1 C H W"]],
) -> SeenPart | None:
    """Which part of its images a network sees; None if all, or if it cannot be told.

    Args:
        network: The user's module.
        frame: The images' height and width.
        run: Asks it.
        example: Makes an image that it runs on, of which shape, type and device count.

    Warns:
        NaspixWarning: It sees a part only; when that is found.
    """
    parts = _found.setdefault(network, {})
    if frame not in parts:
        try:
            parts[frame] = _look(network, run, example())
        except (NaspixError, RuntimeError):  # said by the passes that ask for maps or gradients
            parts[frame] = None
        if parts[frame] is not None:
            warnings.warn(
                f"{type(network).__name__} crops its images, and sees only {parts[frame]}; the "
                "rest has no say in its scores: saliency is zero there, and it is one cluster",
                NaspixWarning,
                stacklevel=3,
            )
    return parts[frame]


def _look(
    network: nn.Module, run: Callable[[Tensor], object], like: Float[Tensor, "1 C H W"]
) -> SeenPart | None:
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        made = torch.randn(like.shape, generator=generator, dtype=torch.float32)
        return made.to(like.device, like.dtype)

    frame = (like.shape[2], like.shape[3])
    with torch.inference_mode(False), own_random_numbers(), evaluating(network):
        with torch.enable_grad():
            image = noise().requires_grad_()
            scores = first_tensor(run(image))
            if scores is None or not scores.requires_grad:
                return None
            signs = torch.randn(scores.shape, generator=generator, dtype=torch.float32)
            total = (scores * signs.to(scores)).sum()
            (gradient,) = torch.autograd.grad(total, image, allow_unused=True)
        if gradient is None or not bool(gradient.any()):
            return None
        counts = (gradient != 0).any(1)[0]  # what is not finite counts
        rows, columns = (
            (int(some[0]), int(some[-1]) + 1)
            for some in (counts.any(axis).nonzero().flatten() for axis in (1, 0))
        )
        if rows[0] < _LEAST_UNSEEN * frame[0] and columns[0] < _LEAST_UNSEEN * frame[1]:
            return None
        part = SeenPart(frame, rows, columns)
        # gradients may be zero by chance where all rectifiers are
        with torch.no_grad():
            same = [image.detach() if i == 0 else noise() * 2 for i in range(4)]
            for other in same[1:]:
                slices = (..., slice(*part.rows), slice(*part.columns))
                other[slices] = image.detach()[slices]
            answers = [first_tensor(run(each)) for each in same]
    first = answers[0]
    alike = all(a is not None and first is not None and torch.allclose(a, first) for a in answers)
    return part if alike else None

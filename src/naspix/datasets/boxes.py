"""Boxes as files have them, brought into the picture they lie on; bad ones are left out and named.

People and tools draw boxes beyond the picture, from right to left, with no area, or on a copy of
another size. None of that may end in a wrong score, nor stop the pictures that are sound.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

_ROUNDING = 0.01  # of a side: how far copies of other sizes may be from the same shape


@dataclass(frozen=True, eq=False)
class FittedBoxes:
    """Boxes inside a picture.

    Attributes:
        boxes: `(n, 4)`, see `Sample`.
        labels: The class of each.
        problems: A sentence for each box that was cut or left out.
    """

    boxes: Float32[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    problems: tuple[str, ...]


def fitted_boxes(
    boxes: Sequence[tuple[float, float, float, float]],
    labels: Sequence[int],
    size: tuple[int, int],
    drawn_on: tuple[int, int] | None = None,
) -> FittedBoxes:
    """Boxes in the frame of the picture that is there.

    Args:
        boxes: Left, top, right and bottom edge.
        labels: The class of each.
        size: Height and width of the picture.
        drawn_on: Height and width of the picture they were drawn on, if the file says so. A copy
            at another scale has its boxes scaled; on a picture of another shape they mean nothing.

    Example:
        >>> found = fitted_boxes([(0, 0, 50, 20), (9, 9, 4, 20)], [0, 0], (40, 40))
        >>> found.boxes
        tensor([[ 0.,  0., 40., 20.]])
        >>> found.problems[1]
        'the box from (9, 9) to (4, 20) has no area and is left out'
    """
    kept, of_class, problems = [], [], []
    scale = scale_to(size, drawn_on)
    if scale is None and boxes and drawn_on is not None:
        number, them = (
            ("1 box was", "it is") if len(boxes) == 1 else (f"{len(boxes)} boxes were", "they are")
        )
        problems.append(
            f"{number} drawn on {_size(drawn_on)} pixels, but the picture has {_size(size)}, so "
            f"{them} left out"
        )
    elif scale is not None:
        for box, label in zip(boxes, labels, strict=True):
            inside, problem = _cut(box, size, scale)
            if inside is not None:
                kept.append(inside)
                of_class.append(label)
            if problem:
                problems.append(f"the box from {_corners(box)} {problem}")
    return FittedBoxes(
        torch.tensor(kept, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(of_class, dtype=torch.int64),
        tuple(problems),
    )


def scale_to(size: tuple[int, int], drawn_on: tuple[int, int] | None) -> tuple[float, float] | None:
    """What x and y are multiplied with to get from one size to another; None if shapes differ."""
    if drawn_on is None or min(drawn_on) <= 0:  # tools that do not know write zeros
        return 1.0, 1.0
    down, across = size[0] / drawn_on[0], size[1] / drawn_on[1]
    rounding = max(_ROUNDING, 1 / min(*size, *drawn_on))
    if abs(down / across - 1) > rounding:
        return None
    return across, down


def _cut(
    box: tuple[float, float, float, float], size: tuple[int, int], scale: tuple[float, float]
) -> tuple[tuple[float, float, float, float] | None, str]:
    """The part of a box inside the picture, if there is any, and what was wrong with it."""
    height, width = size
    if not all(abs(side) < float("inf") for side in box):
        return None, "is not made of numbers and is left out"
    if box[2] <= box[0] or box[3] <= box[1]:
        return None, "has no area and is left out"
    x0, x1 = (min(max(x * scale[0], 0.0), width) for x in (box[0], box[2]))
    y0, y1 = (min(max(y * scale[1], 0.0), height) for y in (box[1], box[3]))
    if x1 <= x0 or y1 <= y0:
        return None, f"lies outside the picture of {_size(size)} and is left out"
    reach = max(-box[0], -box[1], box[2] - width / scale[0], box[3] - height / scale[1])
    outside = reach > 1  # one pixel is a matter of counting from 0 or from 1
    return (x0, y0, x1, y1), f"reaches outside the picture of {_size(size)} and is cut" * outside


def _corners(box: tuple[float, float, float, float]) -> str:
    return "({:g}, {:g}) to ({:g}, {:g})".format(*box)


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"

"""What every data set hands out: one picture at its own size, and what people have said about it.

One frame for all formats. Boxes are ``x0, y0, x1, y1`` in pixels of the picture, measured at the
edges: the picture reaches from 0 to its width, a box covers the pixels from ``x0`` up to but not
including ``x1``, and its width is ``x1 - x0``. How each format counts, its reader says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One picture of a data set.

    Attributes:
        id: Names it within its data set.
        image: `(3, H, W)`, RGB in [0, 1], at its own size.
        label: Its class; None if it has none, or boxes of several classes.
        boxes: `(n, 4)`: left, top, right and bottom edge in pixels, inside the picture, in the
            order of the file. There may be none.
        box_labels: The class of each box.
        mask: `(H, W)`, true on the objects; None where nobody has drawn any.
        problems: What was wrong with its annotations and what was done about it, a sentence each.
    """

    id: str
    image: Float32[Tensor, "3 H W"]
    label: int | None = None
    boxes: Float32[Tensor, "n 4"] = field(default_factory=lambda: torch.zeros(0, 4))
    box_labels: Int64[Tensor, " n"] = field(default_factory=lambda: torch.zeros(0).long())
    mask: Bool[Tensor, "H W"] | None = None
    problems: tuple[str, ...] = ()


@runtime_checkable
class Dataset(Protocol):
    """Pictures in one fixed order; nothing is decoded before it is asked for."""

    @property
    def ids(self) -> tuple[str, ...]:
        """What names each picture, without repetition."""
        ...

    @property
    def labels(self) -> tuple[int | None, ...]:
        """The class of each picture; None where it has none or several."""
        ...

    @property
    def categories(self) -> tuple[str, ...]:
        """The classes' names, in the order of their numbers."""
        ...

    def __len__(self) -> int:
        """How many pictures there are."""
        ...

    def __getitem__(self, index: int, /) -> Sample:
        """Read one picture; negative indices count from the end.

        Raises:
            ImageError: Naming the picture that is missing or damaged.
            DatasetError: Naming the file about it that is.
        """
        ...


def position(index: int, length: int) -> int:
    """An index that may count from the end as one that does not.

    Raises:
        IndexError: As a list would, so that iterating ends.
    """
    if not -length <= index < length:
        raise IndexError(f"there is no item {index} in a data set of {length}")
    return index % length


def only_one(labels: Sequence[int]) -> int | None:
    """The class that all boxes of a picture share, if they do."""
    return labels[0] if len(set(labels)) == 1 else None

"""Numbers that are asked about: what a callable makes of a network's output, one for each image.

Any callable will do. Those here are frozen dataclasses for what people ask for most. Gradient
methods differentiate the number; methods and metrics that only look at scores take it as it is,
without a softmax. In: what the network returns for a batch. Out: ``(B,)``.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard, TypeVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from naspix.errors import InputError, ModelError, NaspixError, NaspixWarning
from naspix.targets.classes import find_class

Number = Callable[[object], Tensor]

_Asked = TypeVar("_Asked")
_LEAST_OVERLAP = 0.5  # of a detection with the box that is asked about


@final
@dataclass(frozen=True)
class ClassScore:
    """A class's score, as the network returns it.

    Attributes:
        category: The class, by number, or by name where the model has names.

    Example:
        >>> ClassScore(2)(torch.tensor([[1.0, 5.0, 3.0]]))
        tensor([3.])
    """

    category: int | str

    @property
    def name(self) -> str:
        """What it is called in records and pages."""
        return f"score of {_class(self.category)}"

    def __call__(self, output: object) -> Float[Tensor, " B"]:
        """The score of each image."""
        return _column(_tensor(output, "logits", self.name), self.category, self.name)


@final
@dataclass(frozen=True)
class Regression:
    """One of the numbers that a network returns for an image.

    Attributes:
        index: Which of them, counted from 0.

    Example:
        >>> Regression()(torch.tensor([[0.5], [2.0]]))
        tensor([0.5000, 2.0000])
    """

    index: int = 0

    @property
    def name(self) -> str:
        """What it is called in records and pages."""
        return f"value {self.index}"

    def __call__(self, output: object) -> Float[Tensor, " B"]:
        """The number of each image."""
        values = _tensor(output, "logits", self.name)
        return _column(values if values.ndim > 1 else values[:, None], self.index, self.name)


@final
@dataclass(frozen=True, eq=False)
class Similarity:
    """How like another image's or text's embedding the image's is: the cosine of their angle.

    Attributes:
        embedding: ``(D,)``, the other's.
        name: What it is called in records and pages.

    Example:
        >>> Similarity(torch.tensor([0.0, 2.0]))(torch.tensor([[0.0, 3.0], [1.0, 0.0]]))
        tensor([1., 0.])
    """

    embedding: Float[Tensor, " D"]
    name: str = "similarity"

    def __call__(self, output: object) -> Float[Tensor, " B"]:
        """The similarity of each image."""
        own = _tensor(output, "image_embeds", self.name).flatten(1)
        other = self.embedding.flatten().to(own)
        if own.shape[1] != len(other):
            raise InputError(
                f"{self.name}: the network embeds images in {own.shape[1]} numbers, but the "
                f"embedding to compare with has {len(other)}"
            )
        return functional.cosine_similarity(own, other[None])


@final
@dataclass(frozen=True, eq=False)
class Region:
    """One class's mean score over some pixels, of a network that scores every pixel.

    Attributes:
        mask: ``(H, W)``, the pixels, in the frame of the images.
        category: The class, by number, or by name where the model has names.

    Example:
        >>> scores = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> Region(torch.tensor([[True, False], [True, False]]), 0)(scores)
        tensor([2.])
    """

    mask: Bool[Tensor, "H W"]
    category: int | str

    @property
    def name(self) -> str:
        """What it is called in records and pages."""
        return f"{_class(self.category)} in a region"

    def __call__(self, output: object) -> Float[Tensor, " B"]:
        """The mean of each image."""
        scores = _tensor(output, "out", self.name)
        if scores.ndim != 4:
            raise InputError(
                f"{self.name}: the network returns {tuple(scores.shape)}, not scores of every "
                "pixel (B, n_classes, h, w)"
            )
        mask = torch.as_tensor(self.mask).to(scores.device, scores.dtype)
        if mask.ndim != 2 or not bool((mask > 0).any()):
            raise InputError(f"{self.name}: the mask must be (H, W) with at least one pixel in it")
        # the share of each cell of the output that the mask covers
        share = functional.adaptive_avg_pool2d(
            (mask > 0).to(mask)[None, None], (scores.shape[2], scores.shape[3])
        )
        of_class = _column(scores, self.category, self.name)
        return (of_class * share[0]).sum((1, 2)) / share.sum()


@final
@dataclass(frozen=True, eq=False)
class Detection:
    """A class's score for the detection that overlaps a box most, of a detector like torchvision's.

    0, with a warning, where none overlaps it with an IoU of 0.5 or more.

    Attributes:
        box: Left, top, right and bottom, in pixels of the images.
        category: The class, by number, or by name where the model has names.

    Example:
        >>> found = {"boxes": torch.tensor([[0.0, 0, 8, 8]]), "labels": torch.tensor([3]),
        ...          "scores": torch.tensor([0.75])}
        >>> Detection((0, 0, 8, 9), 3)([found])
        tensor([0.7500])
    """

    box: tuple[float, float, float, float]
    category: int | str

    @property
    def name(self) -> str:
        """What it is called in records and pages."""
        return f"{_class(self.category)} in a box"

    def __call__(self, output: object) -> Float[Tensor, " B"]:
        """The score of each image."""
        keys = ("boxes", "labels", "scores")
        if not isinstance(output, Sequence) or not all(
            isinstance(one, Mapping) and all(key in one for key in keys) for one in output
        ):
            raise InputError(
                f"{self.name}: the network does not return detections, a dictionary of boxes, "
                "labels and scores for each image"
            )
        return torch.stack([self._score(one) for one in output])

    def _score(self, found: Mapping[str, Tensor]) -> Tensor:
        from torchvision.ops import box_iou

        boxes, scores = found["boxes"], found["scores"]
        asked = boxes.new_tensor(self.box)[None]
        overlaps = box_iou(boxes, asked)[:, 0] * (found["labels"] == self.category)
        if len(boxes) == 0 or float(overlaps.detach().max()) < _LEAST_OVERLAP:
            warnings.warn(
                f"{self.name}: no detection of it overlaps the box by half, so its score is 0",
                NaspixWarning,
                stacklevel=2,
            )
            return scores.sum() * 0
        return scores[overlaps.argmax()]


def asks_number(target: object) -> TypeGuard[Number]:
    """Whether a target is a callable that makes a number of the network's output."""
    return callable(target) and not isinstance(target, Tensor)


def name_of(number: Number) -> str:
    """What a number is called: its ``name``, else that of its function or class."""
    name = getattr(number, "name", None) or getattr(number, "__name__", "")
    if isinstance(name, str) and name and name != "<lambda>":
        return name
    return "a number" if inspect.isfunction(number) else type(number).__name__


def with_class_numbers(number: _Asked, names: Sequence[str] | None, model: str) -> _Asked:
    """The same with its class by number where it is given by name.

    Raises:
        InputError: The classes have no names.
        UnknownNameError: There is no class of that name.
    """
    category = getattr(number, "category", None)
    if not isinstance(category, str) or not isinstance(number, ClassScore | Region | Detection):
        return number
    return replace(number, category=find_class(category, len(names or ()), names, model))


def one_each(number: Number, output: object, n_images: int) -> Float[Tensor, " B"]:
    """What a number makes of an output, if it is one for each image.

    Raises:
        ModelError: It is something else, or fails.
    """
    try:
        found: object = number(output)
    except NaspixError:
        raise
    except (TypeError, AttributeError, LookupError, ValueError) as error:
        raise ModelError(
            f"the target {name_of(number)!r} cannot be computed of what the network returns "
            f"({type(output).__name__}): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, Tensor) or found.shape not in ((n_images,), (n_images, 1)):
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ModelError(
            f"the target {name_of(number)!r} makes {what} of the output for {n_images} images; it "
            "should be a tensor with one number for each"
        )
    return found.reshape(n_images)


def _class(category: int | str) -> str:
    return category if isinstance(category, str) else f"class {category}"


def _tensor(output: object, key: str, name: str) -> Tensor:
    """The tensor meant: the output, its entry of that name or called ``logits``, else its first."""
    if isinstance(output, Tensor):
        return output
    entries = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    for one in (key, "logits", "pooler_output"):
        if isinstance(entries.get(one), Tensor):
            return entries[one]  # type: ignore[no-any-return]
    several = output if isinstance(output, Sequence) else entries.values()
    first = next((one for one in several if isinstance(one, Tensor)), None)
    if first is None:
        raise InputError(f"{name}: there is no tensor in what the network returns")
    return first


def _column(scores: Tensor, index: int | str, name: str) -> Tensor:
    if isinstance(index, str):
        raise InputError(f"{name}: give the class by number, for its name is not known here")
    if not 0 <= index < scores.shape[1]:
        raise InputError(f"{name}: the network returns {scores.shape[1]} numbers, from 0")
    return scores[:, index]

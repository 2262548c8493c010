"""Classes that are asked about: by number or name, one against another, several at once.

`resolve` makes classes' numbers of what is given, for methods and metrics alike. A number that is
no class's (`numbers.py`) makes another model, whose only score it is: its class is 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TypeVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError, UnknownNameError

# of sequences only lists are taken; tuples are refused in a sentence
OneTarget = int | str | Tensor | Sequence[object] | None

_Target = TypeVar("_Target")


@final
@dataclass(frozen=True)
class Contrast:
    """Why the one class and not the other: the score of the first less that of the second.

    Attributes:
        positive: A class by number or name, one for each image, or None for the predicted ones.
        negative: The same for the class it is held against.

    Example:
        >>> Contrast("tiger cat", "tabby")
        Contrast(positive='tiger cat', negative='tabby')
    """

    positive: OneTarget
    negative: OneTarget


@final
@dataclass(frozen=True, init=False)
class Each:
    """Several classes of each image at once: an entry for each image and class, in this order.

    Attributes:
        classes: Classes by number or name, or contrasts.

    Example:
        >>> Each("dog", "ball").classes
        ('dog', 'ball')
    """

    classes: tuple[int | str | Contrast | None, ...]

    def __init__(self, *classes: int | str | Contrast | None) -> None:
        if not classes:
            raise InputError("Each needs at least one class")
        given: tuple[object, ...] = classes
        for one in given:
            if isinstance(one, bool) or not isinstance(one, int | str | Contrast | None):
                raise InputError(
                    f"Each takes classes by number or name, and contrasts, not {one!r}"
                )
        object.__setattr__(self, "classes", classes)

    def __repr__(self) -> str:
        return f"Each({', '.join(map(repr, self.classes))})"


Target = OneTarget | Contrast | Each | Callable[..., Tensor]


def find_class(target: object, n_classes: int, names: Sequence[str] | None, model: str) -> int:
    """The number of a class that is given by its number, as a word too, or by its name.

    Args:
        target: A number or a name, upper or lower case.
        n_classes: How many classes there are.
        names: The classes' names, if they are known.
        model: What an error calls the network.

    Raises:
        InputError: There is no class of that number, or several have that name.
        UnknownNameError: There is no class of that name; with the names most like it.

    Example:
        >>> find_class("Dog", 2, ("cat", "dog"), "net")
        1
    """
    if not isinstance(target, str):
        if isinstance(target, bool) or not isinstance(target, Integral):
            raise InputError(f"a target must be a class, by number or name; {target!r} is not")
        return _checked(int(target), n_classes, model)
    known = names or ()
    named = [index for index, name in enumerate(known) if name == target] or [
        index for index, name in enumerate(known) if name.casefold() == target.casefold()
    ]
    is_number = target.strip().lstrip("-").isdecimal()
    if is_number and (not named or named == [int(target)]):
        return _checked(int(target), n_classes, model)
    if is_number or len(named) > 1:
        both = sorted({*named, *([int(target)] if is_number else [])})
        raise InputError(
            f"{target!r} may be class {' or class '.join(map(str, both))} of {model}; give the "
            "number (in Python, not as a word)"
        )
    if not named:
        if not known:
            raise InputError(
                f"the classes of {model} have no names, so there is none called {target!r}; give "
                f"a number from 0 to {n_classes - 1}, or its categories"
            )
        raise UnknownNameError.among("class", target, known)
    return named[0]


def resolve(
    target: Target,
    n_images: int,
    predicted: Int64[Tensor, " B"] | None,
    n_classes: int,
    names: Sequence[str] | None = None,
    model: str = "the model",
) -> Int64[Tensor, "B ..."]:
    """The class asked about for each image, ``(B,)``; two, ``(B, 2)``, for a contrast.

    Args:
        target: What is asked about.
        n_images: How many images there are.
        predicted: Their likeliest classes; needed where `asks_predicted` says so.
        n_classes: How many classes there are.
        names: The classes' names, if they are known.
        model: What an error calls the network.

    Raises:
        InputError: A target is no class, or there are not as many as images.
    """
    if isinstance(target, Contrast):
        ends = (target.positive, target.negative)
        both = [resolve(end, n_images, predicted, n_classes, names, model) for end in ends]
        if any(end.ndim > 1 for end in both):
            raise InputError("a contrast is of two classes, not of other contrasts")
        return torch.stack(both, 1)
    _refuse_others(target)
    if target is None:
        assert predicted is not None  # the caller looked
        return predicted.clone()
    if isinstance(target, str):
        target = find_class(target, n_classes, names, model)
    elif isinstance(target, list):
        if len(target) != n_images:
            raise InputError(_not_as_many(n_images, (len(target),)))
        found = []
        for index, one in enumerate(target):
            if one is None:
                assert predicted is not None
                found.append(int(predicted[index]))
            else:
                plain = one.item() if isinstance(one, Tensor) and one.ndim == 0 else one
                found.append(find_class(plain, n_classes, names, model))
        return torch.tensor(found, dtype=torch.int64)
    classes = torch.as_tensor(target)
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise InputError(f"a target must be a whole number, a class; {target!r} is not")
    if classes.ndim > 1 or (classes.ndim == 1 and len(classes) != n_images):
        raise InputError(_not_as_many(n_images, tuple(classes.shape)))
    for one in classes.flatten().tolist():
        _checked(one, n_classes, model)
    return classes.to(torch.int64).expand(n_images).clone()


def asks_predicted(target: Target) -> bool:
    """Whether the predicted classes have to be known to `resolve` a target."""
    if isinstance(target, Contrast):
        return asks_predicted(target.positive) or asks_predicted(target.negative)
    return target is None or (isinstance(target, list) and any(one is None for one in target))


def check_length(target: Target, n_images: int) -> None:
    """Refuse a target with entries for another number of images.

    Raises:
        InputError: There are not as many as images.
    """
    if isinstance(target, Contrast):
        check_length(target.positive, n_images)
        check_length(target.negative, n_images)
        return
    many = isinstance(target, list) or (isinstance(target, Tensor) and target.ndim == 1)
    if many and len(target) != n_images:  # type: ignore[arg-type]
        raise InputError(_not_as_many(n_images, (len(target),)))  # type: ignore[arg-type]


def part_of(target: _Target, part: slice) -> _Target:
    """The target of some of the images: entries of lists, tensors and arrays, else the same."""
    if isinstance(target, Contrast):
        return type(target)(part_of(target.positive, part), part_of(target.negative, part))
    if isinstance(target, list) or (not isinstance(target, int | str) and _has_entries(target)):
        return target[part]  # type: ignore[index, no-any-return]
    return target


def pick_scores(
    scores: Float[Tensor, "B n_classes"], target: Int64[Tensor, "B ..."]
) -> Float[Tensor, " B"]:
    """The score of each image's class; for pairs, that of the first less that of the second.

    Example:
        >>> pick_scores(torch.tensor([[1.0, 5.0, 2.0]]), torch.tensor([[1, 2]]))
        tensor([3.])
    """
    if target.ndim == 1:
        return scores.gather(1, target[:, None])[:, 0]
    positive, negative = scores.gather(1, target).unbind(1)
    return positive - negative


def as_given(classes: Int64[Tensor, "B ..."]) -> Tensor | Contrast:
    """Resolved classes as a target again: pairs as a contrast."""
    return classes if classes.ndim == 1 else Contrast(classes[:, 0], classes[:, 1])


def _refuse_others(target: object) -> None:
    if isinstance(target, tuple):
        raise InputError(
            f"the tuple {target!r} may mean a class for each image or a contrast: give a list for "
            "the one, and naspix.Contrast(positive, negative) for the other"
        )
    if isinstance(target, Each):
        raise InputError(
            "several classes at once (Each) are asked of naspix.explain; methods and metrics take "
            "a class for each image"
        )
    if callable(target) and not isinstance(target, Tensor):
        raise InputError(
            "a callable target asks about the network's output and stands alone: not in a contrast "
            "or a list"
        )


def _has_entries(target: object) -> bool:
    return getattr(target, "ndim", 0) > 0


def _checked(index: int, n_classes: int, model: str) -> int:
    if not 0 <= index < n_classes:
        many = f"{n_classes} classes, from 0 to {n_classes - 1}" if n_classes > 1 else "one: 0"
        raise InputError(f"there is no class {index}: {model} has {many}")
    return index


def _not_as_many(n_images: int, shape: tuple[int, ...]) -> str:
    return (
        f"there must be one target, or one for each of the {n_images} images, but the shape given "
        f"is {shape}"
    )

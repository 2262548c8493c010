"""Where in a network's answer its scores lie, and which of its steps made them.

A network returns a tensor, a tuple, a dictionary or an object with several; their entries are
looked at before one is taken. In: what it returned. Out: rows, one an image.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from naspix.errors import ModelError
from naspix.models.devices import in_float64

Logits = str | int | Callable[[object], Tensor]
Path = tuple[str | int, ...]

# steps that can end in any number: what they make lies in [0, 1] by chance alone
FREE_STEPS = (
    "Addmm",
    "Mm",
    "Bmm",
    "Baddbmm",
    "Linear",
    "MkldnnLinear",
    "Convolution",
    "Relu",
    "Gelu",
    "Silu",
    "LeakyRelu",
    "Hardswish",
    "NativeBatchNorm",
    "CudnnBatchNorm",
    "NativeLayerNorm",
)
# steps behind which one has to look for them
_PASSING = (
    "View",
    "UnsafeView",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Select",
    "Slice",
    "Clone",
    "ToCopy",
    "Alias",
    "Expand",
    "Permute",
    "Transpose",
    "TBackward",
    "Index",
    "Cat",
    "Stack",
    "Mean",
    "Sum",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "AdaptiveAvgPool",
    "AvgPool",
    "AsStrided",
    "Split",
)


def rows_of(
    answer: object, logits: Logits | None, path: Path = (), *, batch: int, name: str
) -> Float[Tensor, "B n"]:
    """The rows, one an image, in what a network returned; float32 unless they are float64.

    Args:
        answer: A tensor, or what holds one.
        logits: Key, position or function that picks it; None goes by ``path``.
        path: Keys and positions that lead to it.
        batch: How many images went in.
        name: The network's name in an error.

    Raises:
        ModelError: If there are none.

    Example:
        >>> rows_of({"a": torch.zeros(2, 5)}, "a", batch=2, name="net").shape
        torch.Size([2, 5])
    """
    picked: object = answer
    if callable(logits):
        picked = logits(answer)
    else:
        for key in path if logits is None else (logits,):
            picked = _entry(picked, key)
    return as_rows(picked, batch, name, whole=answer)


def pick_logits(
    answer: object, logits: Logits | None, *, batch: int, name: str
) -> Float[Tensor, "B n_classes"]:
    """The rows in what a network returned, where its entries tell which they are.

    Raises:
        ModelError: If there are none, or several may be them.

    Example:
        >>> pick_logits({"logits": torch.zeros(2, 5)}, None, batch=2, name="net").shape
        torch.Size([2, 5])
    """
    path = () if logits is not None else find_path(answer, batch, None, name)
    return rows_of(answer, logits, path, batch=batch, name=name)


def find_path(answer: object, batch: int, n_names: int | None, name: str) -> Path:
    """The way to the scores in an answer; its entries are looked at before one is taken.

    Of entries that are rows, one an image: those called logits; those as wide as there are names;
    those that are no softmax or sigmoid of another; those of which no other is made. The first of
    what is left, if all are equally wide.
    """
    if isinstance(answer, Tensor):
        return ()
    named = _entry(answer, "logits")
    if isinstance(named, Tensor):
        return ("logits",)
    entries = list(_entries(answer))
    found = [(path, one) for path, one in entries if _isas_rows(one, batch)]
    if not found:
        found = [(path, one) for path, one in entries if one.shape[:1] == (batch,)][:1]
    if n_names is not None:
        widths = {n_names, 1} if n_names <= 2 else {n_names}
        found = [each for each in found if each[1][0].numel() in widths] or found
    tensors = [one for _, one in found]
    found = [each for each in found if not any(_made_of(each[1], one) for one in tensors)] or found
    if len(found) > 1:
        tensors = [one for _, one in found]
        last = [each for each in found if not any(_comes_from(one, each[1]) for one in tensors)]
        found = last or found
    if not found:
        return ()
    if len({one[0].numel() for _, one in found}) > 1:
        several = " and ".join(
            f"{'.'.join(map(str, path))} of {one[0].numel()}" for path, one in found
        )
        raise ModelError(
            f"{name} returns several tensors that may be its logits ({several} numbers an image); "
            "tell wrap_model which by logits="
        )
    return found[0][0]


def as_rows(picked: object, batch: int, name: str, *, whole: object = None) -> Tensor:
    """A tensor with one row an image; anything else is refused, by what came as a whole."""
    if isinstance(whole, list | tuple) and whole and isinstance(whole[0], Mapping):
        raise ModelError(
            f"{name} returns detections ({', '.join(map(str, whole[0]))}) for each image and no "
            "scores of classes; make one number a class of them, such as its highest score, by "
            "wrap_model's logits=, and ask with a method that needs scores only, such as RISE"
        )
    if not isinstance(picked, Tensor) or picked.ndim == 0 or picked.shape[0] != batch:
        found = isinstance(picked, Tensor)
        what = f"shape {tuple(picked.shape)}" if found else type(whole).__name__  # type: ignore[attr-defined]
        raise ModelError(
            f"no logits (B, n_classes) are found in what {name} returns ({what}); "
            "tell wrap_model which by logits="
        )
    rows = picked.flatten(1) if picked.ndim > 1 else picked[:, None]
    if picked.ndim > 2 and rows.shape[1] != picked.shape[1]:
        raise ModelError(
            f"{name} returns {tuple(picked.shape)}, not logits (B, n_classes); "
            "pick or make them by wrap_model's logits="
        )
    return rows if rows.dtype == torch.float64 else rows.float()


def _entry(answer: object, key: str | int) -> object:
    try:
        return answer[key]  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        return getattr(answer, key, None) if isinstance(key, str) else None


def _entries(answer: object, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Tensors with an axis in tuples, lists, dictionaries and data classes, in order."""
    if isinstance(answer, Tensor):
        if answer.ndim:
            yield path, answer
    elif isinstance(answer, Mapping):
        for key, each in answer.items():
            yield from _entries(each, (*path, key))
    elif isinstance(answer, tuple | list):
        for index, each in enumerate(answer):
            yield from _entries(each, (*path, index))
    elif hasattr(answer, "__dict__"):
        for key, each in vars(answer).items():
            if isinstance(each, Tensor):
                yield from _entries(each, (*path, key))


def _isas_rows(tensor: Tensor, batch: int) -> bool:
    rows = tensor.ndim >= 2 and tensor.shape[0] == batch
    return rows and tensor.is_floating_point() and tensor[0].numel() == tensor.shape[1]


def _made_of(one: Tensor, other: Tensor) -> bool:
    """Whether one is the softmax, its logarithm, or the sigmoid of another."""
    if one is other or one.shape != other.shape:
        return False
    one, other = in_float64(one.detach().flatten(1)), in_float64(other.detach().flatten(1))
    if torch.allclose(one, other):
        return False
    makers = (other.softmax(1), other.log_softmax(1), other.sigmoid())
    return any(torch.allclose(one, made, atol=1e-4) for made in makers)


def _comes_from(one: Tensor, other: Tensor) -> bool:
    """Whether one is computed from another, as the gradient shows."""
    if one is other or not (one.requires_grad and other.requires_grad):
        return False
    gradient = torch.autograd.grad(one.sum(), other, retain_graph=True, allow_unused=True)[0]
    # of two equally wide, only what a layer makes of the other: else the first is as good
    layered = one.shape != other.shape or is_made_by(FREE_STEPS, one.grad_fn, stop=other.grad_fn)
    return gradient is not None and layered


def is_made_by(kinds: tuple[str, ...], step: Any, stop: Any = None) -> bool:
    """Whether the last step before what only rearranges and averages is one of these kinds."""
    todo, seen = [step], {stop}
    while todo:
        one = todo.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        kind = type(one).__name__
        if kind.startswith(kinds):
            return True
        if kind.startswith(_PASSING):
            todo += [following for following, _ in one.next_functions]
    return False

"""Weights from files into networks: state dictionaries as people save them, checked before use.

Reads ``.pth``/``.pt`` (tensors only, no code is run) and ``.safetensors``, unwraps what training
scripts wrap around them, and fits them strictly; a head of another class count makes a network with
that many classes. Builds nothing by itself and downloads nothing: that is `recipes.py`.
"""

import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from naspix.errors import WeightsError

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
_PREFIXES = ("module.", "model.", "_orig_mod.", "network.", "net.", "backbone.", "encoder.")


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a weights file by name, on the CPU.

    Raises:
        WeightsError: If there is no such file, or it holds no state dictionary.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"there is no weights file {str(file)!r}")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"the weights file {str(file)!r} is damaged or holds more than tensors, and code in it "
            "is not run; save model.state_dict() and give that"
        ) from None
    except Exception as error:  # torch, zip and safetensors each raise their own
        # a KeyError of torch's says nothing to anyone
        reason = "" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise WeightsError(
            f"the weights file {str(file)!r} cannot be read: "
            f"{reason or 'it is not in a format that PyTorch or safetensors write'}"
        ) from None
    state = _unwrapped(content)
    if not state:
        raise WeightsError(
            f"the weights file {str(file)!r} holds no tensors by name; save model.state_dict()"
        )
    return state


def fitted(
    build: Callable[[int | None], nn.Module],
    state: Mapping[str, Tensor],
    what: str,
    *,
    in_order: bool = False,
) -> tuple[nn.Module, bool]:
    """Build a network with these weights.

    Args:
        build: Makes the network with so many classes, None for its usual number.
        state: Tensors by name, which may carry one of the usual prefixes.
        what: Names file and network in an error.
        in_order: Tensors none of whose names is the network's are taken by their order instead.

    Returns:
        The network, and whether it has its usual number of classes.

    Raises:
        WeightsError: If the weights do not fit, with the first tensors that do not.
    """
    network = build(None)
    names = list(network.state_dict())
    state = _without_prefix(state, names)
    if in_order and len(state) == len(names) and not state.keys() & set(names):
        state = dict(zip(names, state.values(), strict=True))
    n_classes = _other_class_count(network.state_dict(), state)
    if n_classes is not None:
        network = build(n_classes)
    _check_fit(network.state_dict(), state, what)
    network.load_state_dict(state, strict=False)
    return network, n_classes is None


def _unwrapped(content: object) -> dict[str, Tensor]:
    """The innermost dictionary of tensors."""
    while isinstance(content, Mapping):
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        content = inner[0]
    return {}


def _without_prefix(state: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """The tensors under the prefix that makes the most names match."""
    best = dict(state)
    stripped = [best]
    for _ in range(3):  # module.model.x, and the like
        stripped = [
            {
                key.removeprefix(prefix): value
                for key, value in names.items()
                if key.startswith(prefix)
            }
            for names in stripped
            for prefix in _PREFIXES
            if any(key.startswith(prefix) for key in names)
        ]
        best = max([best, *stripped], key=lambda names: len(names.keys() & set(wanted)))
    return best


def _other_class_count(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> int | None:
    """The given class count, if the only tensors of another shape are those of the head(s)."""
    shapes = [(wanted[name].shape, given[name].shape) for name in wanted.keys() & given.keys()]
    changed = [(usual, other) for usual, other in shapes if usual != other]
    counts = {(usual[:1], other[:1]) for usual, other in changed}
    if len(counts) != 1 or any(usual[1:] != other[1:] for usual, other in changed):
        return None
    return int(changed[0][1][0])


def _check_fit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    missing = [
        name
        for name in wanted
        if name not in given and not name.endswith("num_batches_tracked")  # absent in old files
    ]
    unexpected = [name for name in given if name not in wanted]
    reshaped = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    problems = [
        f"{len(names)} {kind} ({_first(names)})"
        for names, kind in (
            (missing, "missing"),
            (unexpected, "not known to the network"),
            (reshaped, "of another shape"),
        )
        if names
    ]
    if problems:
        raise WeightsError(f"{what} do not fit; of their tensors, " + ", ".join(problems))


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

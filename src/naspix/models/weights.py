"""Weights into networks: names as training wraps them, checked strictly before use.

A head of another class count makes a network with that many classes. Builds nothing by itself, that
is `recipes.py`; reads no file, that is `checkpoints.py`.
"""

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from naspix.errors import NaspixWarning, WeightsError

# What wrappers put into the names of what is below them.
_WRAPPED = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Heads of Inception and GoogLeNet that only training asks.
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")


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
        state: Tensors by name, which may carry a prefix, as wrappers and Lightning give them one.
            A head may be the only layer with weights in a sequence; one that only training asks
            may be missing.
        what: Names file and network in an error.
        in_order: Tensors none of whose names is the network's are taken by their order instead.

    Returns:
        The network, and whether it has its usual number of classes.

    Raises:
        WeightsError: If the weights do not fit, with the first tensors that do not.

    Warns:
        NaspixWarning: A head is taken out of a sequence whose other layers are not known.
    """
    network = build(None)
    names = list(network.state_dict())
    state = _without_prefix(state, set(names), what)
    if in_order and len(state) == len(names) and not state.keys() & set(names):
        state = dict(zip(names, state.values(), strict=True))
    state = _out_of_sequences(state, names, what)
    n_classes = _other_class_count(_judged(network, network.state_dict()), state)
    if n_classes is not None:
        network = build(n_classes)
    wanted = network.state_dict()
    _check_fit(_judged(network, wanted), _judged(network, state), what)
    fitting = {k: v for k, v in state.items() if k in wanted and v.shape == wanted[k].shape}
    network.load_state_dict(fitting, strict=False)
    return network, n_classes is None


def _judged(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What has to fit: all but heads that only training asks."""
    spared = _AUXILIARY if hasattr(network, "aux_logits") else ()
    return {name: tensor for name, tensor in state.items() if not name.startswith(spared)}


def _without_prefix(
    state: Mapping[str, Tensor], wanted: set[str], what: str
) -> Mapping[str, Tensor]:
    """The tensors under the prefix that makes the most names match."""
    state = {_WRAPPED.sub("", name): tensor for name, tensor in state.items()}
    matches: Counter[str] = Counter({"": len(state.keys() & wanted)})
    for name in state:
        for dot in re.finditer(r"\.", name):
            if name[dot.end() :] in wanted:
                matches[name[: dot.end()]] += 1
    most = max(matches.values())
    best = [prefix for prefix, count in matches.items() if count == most]
    if "" in best:
        return state
    if len(best) > 1 and most == len(wanted):
        several = " and ".join(repr(prefix.removesuffix(".")) for prefix in best)
        raise WeightsError(f"{what} are those of several networks: {several}; save one of them")
    return {
        name.removeprefix(best[0]): tensor
        for name, tensor in state.items()
        if name.startswith(best[0])
    }


def _out_of_sequences(
    state: Mapping[str, Tensor], names: Iterable[str], what: str
) -> Mapping[str, Tensor]:
    """A layer that is saved as the only one with weights in a sequence under its own name.

    Such as ``fc.1.weight`` of ``Sequential(Dropout, Linear)`` for ``fc.weight``, and the other way.
    """
    names = list(names)
    missing, unknown = set(names) - state.keys(), state.keys() - set(names)
    short = {name: re.sub(r"\.\d+(?=\.\w+$)", "", name) for name in missing | unknown}
    alike = Counter(short[name] for name in unknown)
    asked = Counter(short[name] for name in missing)
    renamed = {
        theirs: ours
        for ours in missing
        for theirs in unknown
        if short[ours] == short[theirs]
        and (short[ours] == ours or short[theirs] == theirs)
        and alike[short[ours]] == asked[short[ours]] == 1
    }
    if not renamed:
        return state
    theirs, ours = min(renamed.items())
    warnings.warn(
        f"{what}: {theirs.rpartition('.')[0]} is taken for the network's "
        f"{ours.rpartition('.')[0]}; layers without weights beside it, other than dropout, are not "
        "in the file and are left out",
        NaspixWarning,
        stacklevel=4,
    )
    return {renamed.get(name, name): tensor for name, tensor in state.items()}


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
        channels = _other_channels(wanted, given)
        hint = (
            f"; it was trained on images of {channels} channel{'s' * (channels != 1)}: build it so "
            "in a function of yours, and name that as --model FILE.py:FUNCTION"
            if channels and not missing and not unexpected
            else ""
        )
        raise WeightsError(f"{what} do not fit; of their tensors, " + ", ".join(problems) + hint)


def _other_channels(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> int | None:
    """How many channels the images had, if the first convolution takes others than is usual."""
    first = next((name for name, tensor in wanted.items() if tensor.ndim == 4), None)
    if first is None or first not in given or given[first].ndim != 4:
        return None
    usual, other = wanted[first].shape, given[first].shape
    differs = usual[1] != other[1] and usual[:1] + usual[2:] == other[:1] + other[2:]
    return int(other[1]) if differs else None


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def weights_digest(network: object) -> str:
    """What tells whether a network still has the same weights: a hash of all of them."""
    digest = hashlib.blake2b(digest_size=8)
    state: dict[str, Any] = getattr(network, "state_dict", dict)()
    for name, tensor in state.items():
        digest.update(name.encode())
        if isinstance(tensor, Tensor):
            values = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

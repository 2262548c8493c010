"""Operations as the network calls them: their names, and the layer that is calling.

What guided backpropagation, LRP and the diagnosis stand on: a ``TorchFunctionMode`` sees every
operation of a forward, whether a module or a function asks for it, so that no module is ever
touched. Nothing here changes what an operation computes.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_ALIASES = {
    "multiply": "mul",
    "divide": "div",
    "truediv": "div",
    "true_divide": "div",
    "subtract": "sub",
    "radd": "add",
    "rmul": "mul",
    "mm": "matmul",
    "bmm": "matmul",
    "concat": "cat",
    "concatenate": "cat",
}
_IN_PLACE_OPERATORS = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div"}

# activations that let large values pass: the family of the rectifier
RECTIFIERS = frozenset(
    [
        "relu",
        "relu6",
        "hardtanh",
        "leaky_relu",
        "rrelu",
        "prelu",
        "elu",
        "selu",
        "celu",
        "threshold",
        "softplus",
        "silu",
        "gelu",
        "hardswish",
        "mish",
    ]
)


def operation(func: Callable[..., Any], kwargs: dict[str, Any]) -> tuple[str, bool]:
    """The operation's one name, and whether it writes over its first argument.

    Example:
        >>> operation(torch.Tensor.__iadd__, {}), operation(torch.Tensor.relu_, {})
        (('add', True), ('relu', True))
        >>> operation(torch.nn.functional.silu, {"inplace": True})
        ('silu', True)
    """
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":  # a property, such as ``.T``
        return f"{getattr(func.__self__, '__name__', '')} property", False  # type: ignore[attr-defined]
    if name.startswith("__"):
        name = name.strip("_")
        if name in _IN_PLACE_OPERATORS:
            return _IN_PLACE_OPERATORS[name], True
        return _ALIASES.get(name, name), False
    in_place = name.endswith("_") or bool(kwargs.get("inplace"))
    name = name.strip("_")
    return _ALIASES.get(name, name), in_place


def first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the operation is about: its first argument, or the one called ``input``."""
    return args[0] if args else kwargs.get("input")


def with_first(
    value: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments but for the first."""
    return ((value, *args[1:]), kwargs) if args else (args, {**kwargs, "input": value})


def on_path(value: object) -> bool:
    """Whether a value depends on what gradients are asked for."""
    return isinstance(value, Tensor) and value.requires_grad


def calling_layer(network: nn.Module) -> str:
    """The module of ``network`` whose forward is running, for errors: ``"layer 'features.3'"``."""
    name = running_module({id(module): name for name, module in network.named_modules()})
    if name is None:
        return "the network"
    return f"layer {name!r}" if name else "the network's own forward"


def running_module(names: Mapping[int, str]) -> str | None:
    """The name of the innermost module whose forward is running.

    Args:
        names: ``id(module)`` -> its name, for each module of the network.
    """
    frame = inspect.currentframe()
    while frame is not None:
        name = names.get(id(frame.f_locals.get("self")))
        if name is not None:
            return name
        frame = frame.f_back
    return None


def graph_nodes(output: Tensor) -> Iterator[torch.autograd.graph.Node]:
    """Every step of the backward pass from ``output``, each once."""
    seen: set[torch.autograd.graph.Node] = set()
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(before for before, _ in node.next_functions)


def is_custom(step: object) -> bool:
    """Whether a step of the backward pass is somebody's own ``torch.autograd.Function``."""
    return isinstance(step, torch.autograd.function.BackwardCFunction)


def scripted_layer(network: nn.Module) -> str | None:
    """A module that TorchScript runs, where no operation can be seen."""
    return next(
        (
            name or type(network).__name__
            for name, module in network.named_modules()
            if isinstance(module, torch.jit.ScriptModule)
        ),
        None,
    )

"""Guided backpropagation: rectifiers that send only positive gradients down.

A forward inside ``guided(network)`` gives the network's own values; the backward from them is
guided at every rectifier, called as a module or as a function, in place or not. The network is not
touched. Saturating activations (sigmoid, tanh) and gates keep their gradients.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from naspix.errors import ModelError
from naspix.saliency.operations import (
    RECTIFIERS,
    calling_layer,
    first_argument,
    graph_nodes,
    is_custom,
    on_path,
    operation,
    scripted_layer,
    with_first,
)

# what autograd calls the rectifiers' steps
_RECTIFIER_STEPS = frozenset(
    f"{name}Backward"
    for name in [
        "Relu",
        "Hardtanh",
        "LeakyRelu",
        "RreluWithNoise",
        "PreluKernel",
        "Elu",
        "Threshold",
        "Softplus",
        "Silu",
        "Gelu",
        "Hardswish",
        "Mish",
    ]
)
_CURVED_STEPS = frozenset(
    f"{name}Backward" for name in ["Tanh", "Sigmoid", "Hardsigmoid", "Softmax"]
)


class _PositiveGradients(torch.autograd.Function):
    """The identity, which lets only positive gradients back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, copied: bool) -> Tensor:
        ctx.set_materialize_grads(False)  # no gradient is not one of zeros
        return values.clone() if copied else values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        (gradient,) = gradients
        return None if gradient is None else gradient.clamp(min=0), None


class guided(TorchFunctionMode):
    """Guide the backward of every rectifier called inside the block.

    The positive-gradient rule: below a rectifier f, the gradient is max(0, f'(x) g), which for
    ReLU is the paper's rule, and is what its authors' rule becomes for smooth rectifiers.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        # sigmoid(scale x) -> (x, scale), and scale x -> (x, scale): SiLU and quick GELU by hand
        self._gates: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._scaled: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        name, in_place = operation(func, kwargs)
        values = first_argument(args, kwargs)
        if name in RECTIFIERS or _is_clamp_at_zero(name, args, kwargs):
            if on_path(values):
                return _rectify(func, values, in_place, args, kwargs)
        elif name == "erf" and on_path(values):
            raise ModelError(
                f"GuidedBackprop: {calling_layer(self._network)} writes GELU out by erf, where it "
                "cannot be guided; let it call torch.nn.functional.gelu"
            )
        elif name == "mul" and not in_place and len(args) == 2:
            return self._product(func, args, kwargs)
        result = func(*args, **kwargs)
        if name == "sigmoid" and not in_place and on_path(values):
            self._gates[result] = self._scaled.get(values, (values, 1.0))
        return result

    def _product(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        for values, gate in (args, args[::-1]):
            if isinstance(gate, int | float) and on_path(values):
                result = func(*args, **kwargs)
                self._scaled[result] = (values, gate)
                return result
            if on_path(gate):
                gated, scale = self._gates.get(gate, (None, 1.0))
                if gated is values:
                    values = _PositiveGradients.apply(values, False)
                    return values * torch.sigmoid(scale * values)
        return func(*args, **kwargs)


def check_guided(model_name: str, network: nn.Module, scores: Tensor) -> None:
    """Refuse a backward that is not guided everywhere.

    Raises:
        ModelError: a rectifier was called where Python cannot see it, or there is none.
    """
    n_guided = 0
    curved = False
    for step in graph_nodes(scores):
        name = step.name().rstrip("0123456789")
        if name == "_PositiveGradientsBackward":
            n_guided += 1
            continue
        curved |= name in _CURVED_STEPS
        if is_custom(step) or (name in _RECTIFIER_STEPS and not _comes_from_guide(step)):
            hidden = name.removesuffix("Backward")
        elif name == "DifferentiableGraphBackward":
            hidden = "TorchScript"
        else:
            continue
        scripted = scripted_layer(network)
        where = f"layer {scripted!r} is scripted and" if scripted else "it"
        raise ModelError(
            f"GuidedBackprop cannot guide {model_name}: {where} computes {hidden} where its "
            "gradient cannot be changed; use the network's Python form, or VanillaGradient"
        )
    if curved and not n_guided:
        raise ModelError(
            f"GuidedBackprop cannot guide {model_name}: it has no rectifier (ReLU, SiLU, GELU, "
            "...), so that this would be the plain gradient; use VanillaGradient"
        )


def _rectify(
    func: Callable[..., Any],
    values: Tensor,
    in_place: bool,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Tensor:
    args, kwargs = with_first(_PositiveGradients.apply(values, in_place), args, kwargs)
    result: Tensor = func(*args, **kwargs)
    # in place, whoever else holds the tensor sees the rectified values too
    return values.copy_(result) if in_place else result


def _is_clamp_at_zero(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if name not in ("clamp", "clamp_min", "clip"):
        return False
    lower = kwargs.get("min", args[1] if len(args) > 1 else None)
    return isinstance(lower, int | float) and lower == 0


def _comes_from_guide(step: torch.autograd.graph.Node) -> bool:
    before = step.next_functions[0][0] if step.next_functions else None
    return before is not None and before.name() == "_PositiveGradientsBackward"

"""A forward whose backward propagates relevance instead of gradients.

Inside ``propagating(...)`` a network computes its own values, but every operation that depends on
the pixels is recorded with an LRP rule as its backward. Operations are seen as functions, not as
modules, so that ``x + shortcut``, functional activations and fused layers are like any others, and
no module is touched. What has no rule is recorded as such, and ``check_ruled`` refuses a network in
which relevance would pass it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from naspix.errors import ModelError
from naspix.saliency.lrp import operations as rules
from naspix.saliency.lrp.propagation import Propagation
from naspix.saliency.operations import (
    calling_layer,
    first_argument,
    graph_nodes,
    is_custom,
    on_path,
    operation,
    scripted_layer,
    with_first,
)

_GATES = frozenset({"sigmoid", "hardsigmoid", "softmax"})
_AFFINE = frozenset({"add", "sub", "mul", "div"})


class _NoRule(torch.autograd.Function):
    """The identity, at which relevance has to stop."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, where: str) -> Tensor:
        ctx.where = where
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        raise ModelError(f"LRP: {ctx.where}")


class propagating(TorchFunctionMode):
    """Record LRP rules for every operation inside the block that depends on ``pixels``."""

    def __init__(self, network: nn.Module, pixels: Tensor, state: Propagation) -> None:
        super().__init__()
        self._network = network
        self._state = state
        state.pixels[pixels] = True

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
        # parameters are constants: what needs a gradient from here on depends on the pixels
        args, kwargs = _constant(args), {name: _constant(value) for name, value in kwargs.items()}
        if not any(map(on_path, _tensors(args, kwargs))):
            return func(*args, **kwargs)
        name, in_place = operation(func, kwargs)
        if _is_routing(name) or not in_place:
            result = self._propagate(func, name, args, kwargs)
            self._remember(name, args, kwargs, result)
            return result
        values = first_argument(args, kwargs)
        args, kwargs = with_first(values.clone(), args, kwargs)
        result = self._propagate(func, name, args, kwargs)
        for marks in (self._state.layers, self._state.gates, self._state.pixels):
            marks.pop(values, None)
        # whoever else holds the tensor sees the new values too
        return values.copy_(result)

    def _propagate(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The operation's own result, with its rule."""
        if name == "multi_head_attention_forward":
            with self:  # by its parts
                result = rules.multi_head_attention(*args, **kwargs)
        else:
            rule = rules.OPERATIONS.get(name)
            if rule is None or (rule in rules.OF_ONE and not _only_first_on_path(args, kwargs)):
                result = NotImplemented
            else:
                result = rule(self._state, func, args, kwargs)
        return self._without_rule(func, name, args, kwargs) if result is NotImplemented else result

    def _without_rule(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        where = f"{calling_layer(self._network)} uses {name!r}"

        def stopped(value: Any) -> Any:
            return _NoRule.apply(value, where) if on_path(value) else value

        result = func(*args, **kwargs)
        return type(result)(map(stopped, result)) if isinstance(result, tuple) else stopped(result)

    def _remember(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        """Which values are still the pixels, and which are gates."""
        state = self._state
        inputs = [values for values in _tensors(args, kwargs) if on_path(values)]
        routing = _is_routing(name)
        pixels = (routing or name in _AFFINE) and all(x in state.pixels for x in inputs)
        gates = name in _GATES or (routing and all(x in state.gates for x in inputs))
        for values in result if isinstance(result, tuple | list) else (result,):
            if on_path(values) and pixels:
                state.pixels[values] = True
            if on_path(values) and gates:
                state.gates[values] = True


def _is_routing(name: str) -> bool:
    """Whether the operation only moves values, or puts them together."""
    return rules.OPERATIONS.get(name) in (rules.routing, rules.joining)


def check_ruled(model_name: str, network: nn.Module, logits: Tensor) -> None:
    """Refuse a network in which relevance would pass something without a rule.

    Raises:
        ModelError: naming the layer and its operation.
    """
    scripted = scripted_layer(network)
    if scripted:
        raise ModelError(
            f"LRP cannot see into layer {scripted!r} of {model_name}, which is scripted; use the "
            "network's Python form"
        )
    if not logits.requires_grad:
        raise ModelError(
            f"LRP: the logits of {model_name} do not depend on the pixels (is it quantised, or "
            "under no_grad inside?); use a method that needs scores only, such as RISE"
        )
    for where in unruled(logits):
        raise ModelError(
            f"LRP cannot explain {model_name}: {where}, for which there is no rule; use "
            "IntegratedGradients"
        )


def unruled(logits: Tensor) -> Iterator[str]:
    """What relevance would pass without a rule, as ``"layer 'x' uses 'fft'"``; deepest first."""
    for step in graph_nodes(logits):
        if step.name() == "_NoRuleBackward":
            yield step.where  # type: ignore[attr-defined]
        elif is_custom(step) and step.name() != "_RelevanceBackward":
            own = step.name().removesuffix("Backward")
            yield f"the network has its own autograd function {own}"


def _constant(value: Any) -> Any:
    if isinstance(value, nn.Parameter):
        return value.detach()
    return type(value)(map(_constant, value)) if type(value) in (tuple, list) else value


def _tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    for value in (*args, *kwargs.values()):
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, Tensor):
                yield part


def _only_first_on_path(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return sum(map(on_path, _tensors(args, kwargs))) == 1 and on_path(first_argument(args, kwargs))

"""Which rule each operation of a network gets: residuals, products, norms, attention.

Every function here computes the operation's own value and records how relevance passes it. Sums,
means and residuals share it in proportion (Bach et al. 2015). In a product with a gate (sigmoid,
softmax) all of it goes to the signal (Arras et al. 2017); for attention this is the conservative
propagation of Ali et al. (XAI for Transformers, 2022), as is holding a normalisation's deviation
fixed. Other products give half to each factor (Achtibat et al.: AttnLRP, 2024).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from naspix.saliency.lrp.propagation import Propagation, layer_output, passed, ruled
from naspix.saliency.lrp.rules import Layer, epsilon_rule, shared, stabilized
from naspix.saliency.operations import (
    RECTIFIERS,
    first_argument,
    on_path,
    operation,
    with_first,
)

Arguments = tuple[Any, ...]
Options = dict[str, Any]


def routing(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """What only moves values, copies them or chooses among them takes relevance back."""
    return func(*args, **options)


def joining(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """Constants among what is put together (class tokens) are counted in what they take."""
    watched = []
    for values in args[0]:
        if not on_path(values) and values.is_floating_point():
            values = values.detach().clone().requires_grad_()
            values.register_hook(state.absorb)
        watched.append(values)
    return func(watched, *args[1:], **options)


def dropout(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """Dropout that is off does nothing."""
    if options.get("training") is not False:
        return NotImplemented
    return first_argument(args, options)


def activation(state: Propagation, func: Any, args: Arguments, options: Options) -> Tensor:
    """Relevance passes an activation unchanged."""
    return passed(_value(func, args, options), first_argument(args, options))


def linear_map(state: Propagation, func: Any, args: Arguments, options: Options) -> Tensor:
    """Means, sums and interpolation share relevance in proportion."""

    def again(x: Tensor, _: Tensor) -> Tensor:
        new_args, new_options = with_first(x, args, options)
        result: Tensor = func(*new_args, **new_options)
        return result

    x = first_argument(args, options)
    args, options = with_first(x.detach(), args, options)
    this = Layer(again, x.new_zeros(0))
    return layer_output(state, again(x.detach(), x), this, epsilon_rule, x)


def layer(state: Propagation, func: Any, args: Arguments, options: Options) -> Tensor:
    """A convolution or linear layer has the composite's rule."""
    name, _ = operation(func, options)
    given = _given("input weight bias", args, options)
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    others = {
        key: value for key, value in options.items() if key not in ("input", "weight", "bias")
    }

    def apply(x: Tensor, weight: Tensor) -> Tensor:
        result: Tensor = func(x, weight, None, *args[3:], **others)
        return result

    if bias is not None and name != "linear":
        bias = bias.view(-1, *[1] * (weight.ndim - 2))
    usual = state.linear if name == "linear" else state.convolution
    rule = (x in state.pixels and state.first) or usual
    this = Layer(apply, weight, bias)
    result = layer_output(state, _value(func, args, options), this, rule, x)
    # output channels are the second dimension of a transposed convolution's weight, in groups
    if "transpose" not in name:
        state.layers[result] = (this, rule, x)
    return result


def batch_norm(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """Merged into the layer that it follows; relevance passes one that follows none unchanged."""
    names = "input running_mean running_var weight bias training momentum eps"
    given = _given(names, args, options)
    x, mean, variance = given["input"], given["running_mean"], given["running_var"]
    if given.get("training") or mean is None:
        return NotImplemented
    value = _value(func, args, options)
    if x not in state.layers:
        return passed(value, x)
    merged, rule, before = state.layers[x]
    with torch.no_grad():
        scale = (variance + given.get("eps", 1e-5)).rsqrt()
        scale = scale if given.get("weight") is None else scale * given["weight"]
        shift = -mean * scale if given.get("bias") is None else given["bias"] - mean * scale
        trailing = [1] * (merged.weight.ndim - 2)
        scale, shift = scale.view(-1, *trailing), shift.view(-1, *trailing)
        bias = shift if merged.bias is None else shift + merged.bias * scale
        weight = merged.weight * scale.unsqueeze(1)
    return layer_output(state, value, Layer(merged.linear, weight, bias), rule, before)


def layer_norm(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """Linear with the deviation held fixed."""
    given = _given("input normalized_shape weight bias eps", args, options)
    axes = tuple(range(-len(given["normalized_shape"]), 0))
    x, eps = given["input"], given.get("eps", 1e-5)
    scale = (x.detach().var(axes, correction=0, keepdim=True) + eps).rsqrt()

    def centred(x: Tensor, weight: Tensor) -> Tensor:
        standardised: Tensor = (x - x.mean(axes, keepdim=True)) * scale
        return standardised * weight

    return _normalization(state, func, args, options, centred, given)


def rms_norm(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """Linear with the root mean square held fixed."""
    given = _given("input normalized_shape weight eps", args, options)
    axes = tuple(range(-len(given["normalized_shape"]), 0))
    x, eps = given["input"], given.get("eps")
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    scale = (x.detach().square().mean(axes, keepdim=True) + eps).rsqrt()
    return _normalization(state, func, args, options, lambda x, weight: x * scale * weight, given)


def group_norm(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """Linear with the deviation held fixed."""
    given = _given("input num_groups weight bias eps", args, options)
    x, eps = given["input"], given.get("eps", 1e-5)
    trailing = [1] * (x.ndim - 2)
    for name in ("weight", "bias"):
        if given.get(name) is not None:
            given[name] = given[name].view(-1, *trailing)

    def grouped(x: Tensor) -> Tensor:
        groups: Tensor = x.flatten(1).unflatten(1, (given["num_groups"], -1))
        return groups

    scale = (grouped(x.detach()).var(2, correction=0, keepdim=True) + eps).rsqrt()

    def centred(x: Tensor, weight: Tensor) -> Tensor:
        groups = grouped(x)
        standardised: Tensor = (groups - groups.mean(2, keepdim=True)) * scale
        return standardised.view(x.shape) * weight

    return _normalization(state, func, args, options, centred, given)


def addition(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """A + alpha b."""
    if len(args) != 2 or set(options) - {"alpha"}:
        return NotImplemented
    return _sum(state, args[0], args[1], 1, options.get("alpha", 1))


def subtraction(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """A - alpha b, or with its operands the other way round (``rsub``)."""
    if len(args) != 2 or set(options) - {"alpha"}:
        return NotImplemented
    alpha = options.get("alpha", 1)
    if func.__name__.strip("_") == "rsub":
        return _sum(state, args[0], args[1], -alpha, 1)
    return _sum(state, args[0], args[1], 1, -alpha)


def product(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """All relevance goes to the signal, none to constants and gates; otherwise half to each."""
    if len(args) != 2 or options:
        return NotImplemented
    signals = _signals(state, args)
    with torch.no_grad():
        value = args[0] * args[1]
    shapes = [x.shape for x in signals]

    def rule(relevance: Tensor) -> tuple[Tensor, ...]:
        return tuple((relevance / len(shapes)).sum_to_size(shape) for shape in shapes)

    return ruled(value, tuple(signals), rule)


def quotient(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """What something is divided by normalises it, and takes no relevance."""
    if len(args) != 2 or options or not on_path(args[0]):
        return NotImplemented
    with torch.no_grad():
        value = args[0] / args[1]
    return passed(value, args[0])


def bilinear(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """Matrix products, also by einsum: linear in the signal, the other factor held fixed."""
    is_factor = [isinstance(value, Tensor) for value in args]
    if sum(is_factor) != 2 or len(args) > 3 or options:
        return NotImplemented
    factors = [value for value in args if isinstance(value, Tensor)]
    others = args[: is_factor.index(True)]
    signals = _signals(state, factors)
    places = [i for i, value in enumerate(factors) if any(value is signal for signal in signals)]
    epsilon = state.epsilon

    def rule(relevance: Tensor, *factors: Tensor) -> tuple[Tensor, ...]:
        def at(place: int) -> Callable[[Tensor, Tensor], Tensor]:
            def linear(x: Tensor, fixed: Tensor) -> Tensor:
                result: Tensor = func(*others, *((fixed, x) if place else (x, fixed)))
                return result

            return linear

        return tuple(
            shared(
                at(place),
                [(factors[place], factors[1 - place])],
                None,
                relevance / len(places),
                epsilon,
            )[0]
            for place in places
        )

    receiving = tuple(factors[place] for place in places)
    return ruled(_value(func, args, {}), receiving, rule, tuple(factors))


def attention(state: Propagation, func: Any, args: Arguments, options: Options) -> Any:
    """The weights held fixed, attention is linear in the values."""
    given = _given("query key value", args, options)
    others = {key: value for key, value in options.items() if key not in ("query", "key", "value")}
    dropout = others.get("dropout_p", args[4] if len(args) > 4 else 0.0)
    query, key, values = given["query"], given["key"], given["value"]
    if dropout or not on_path(values):
        return NotImplemented
    epsilon = state.epsilon

    def rule(relevance: Tensor, query: Tensor, key: Tensor, values: Tensor) -> tuple[Tensor]:
        def mixed(values: Tensor, _: Tensor) -> Tensor:
            result: Tensor = func(query, key, values, *args[3:], **others)
            return result

        return (shared(mixed, [(values, values)], None, relevance, epsilon)[0],)

    return ruled(_value(func, args, options), (values,), rule, (query, key, values))


def multi_head_attention(
    query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any
) -> Any:
    """``torch.nn.functional.multi_head_attention_forward`` by its parts, each with its own rule.

    Called with the parts watched. What no vision transformer asks for (masks, added keys, dropout)
    is not implemented.
    """
    _, n_heads, weight, bias, key_bias, value_bias, zero, dropout, out_weight, out_bias = args
    unusual = ("key_padding_mask", "attn_mask", "static_k", "static_v")
    if (
        query.ndim != 3
        or key_bias is not None
        or value_bias is not None
        or zero
        or (dropout and options.get("training", True))
        or any(options.get(name) is not None for name in unusual)
    ):
        return NotImplemented
    if options.get("use_separate_proj_weight"):
        weights = [options[f"{letter}_proj_weight"] for letter in "qkv"]
    else:
        weights = weight.chunk(3)
    biases = [None] * 3 if bias is None else bias.chunk(3)
    heads = []
    for x, w, b in zip((query, key, value), weights, biases, strict=True):
        projected = F.linear(x.transpose(0, 1), w, b)  # (B, L, D)
        heads.append(projected.unflatten(-1, (n_heads, -1)).transpose(1, 2))
    mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    result = F.linear(mixed, out_weight, out_bias).transpose(0, 1)
    if not options.get("need_weights", True):
        return result, None
    with torch.no_grad():
        scores = heads[0] @ heads[1].transpose(-2, -1) / heads[0].shape[-1] ** 0.5
        shares = scores.softmax(-1)
    return result, shares.mean(1) if options.get("average_attn_weights", True) else shares


def _normalization(
    state: Propagation,
    func: Any,
    args: Arguments,
    options: Options,
    linear: Callable[[Tensor, Tensor], Tensor],
    given: Options,
) -> Tensor:
    x, weight = given["input"], given.get("weight")
    weight = x.new_ones(()) if weight is None else weight
    this = Layer(linear, weight, given.get("bias"))
    return layer_output(state, _value(func, args, options), this, epsilon_rule, x)


def _signals(state: Propagation, factors: Any) -> list[Tensor]:
    """The factors of a product that relevance goes to."""
    signals = [x for x in factors if on_path(x)]
    open_ = [x for x in signals if x not in state.gates]
    return open_ if len(open_) == 1 else signals


def _sum(state: Propagation, a: Any, b: Any, weight_a: float, weight_b: float) -> Tensor:
    """weight_a a + weight_b b: in proportion; standardising the pixels changes nothing."""
    terms = [a, b]
    inputs = tuple(x for x in terms if on_path(x))
    with torch.no_grad():
        value = _scaled(a, weight_a) + _scaled(b, weight_b)
    if len(inputs) == 1 and inputs[0] in state.pixels:
        return passed(value, inputs[0])
    is_input = [on_path(x) for x in terms]
    is_tensor = [isinstance(x, Tensor) for x in terms]
    numbers = [x for x in terms if not isinstance(x, Tensor)]
    shapes = [x.shape if isinstance(x, Tensor) else None for x in terms]

    def rule(relevance: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        kept, given = iter(tensors), iter(numbers)
        values = [next(kept) if here else next(given) for here in is_tensor]
        parts = [_scaled(values[0], weight_a), _scaled(values[1], weight_b)]
        ratio = relevance / stabilized(parts[0] + parts[1], state.epsilon)
        shares = []
        for part, shape, is_input_ in zip(parts, shapes, is_input, strict=True):
            if is_input_ and shape is not None:
                shares.append((part * ratio).sum_to_size(shape))
            else:
                state.absorb(part * ratio)
        return tuple(shares)

    return ruled(value, inputs, rule, tuple(x for x in terms if isinstance(x, Tensor)))


def _scaled(x: Any, weight: float) -> Any:
    return x if weight == 1 else x * weight


def _given(names: str, args: Arguments, options: Options) -> Options:
    """The arguments by name."""
    return dict(zip(names.split(), args, strict=False)) | options


def _value(func: Any, args: Arguments, options: Options) -> Tensor:
    """The operation's own value, as a constant."""
    with torch.no_grad():
        value: Tensor = func(*args, **options)
    return value


Operation = Callable[[Propagation, Any, Arguments, Options], Any]
# what depends on the pixels by their first argument alone, or has no rule
OF_ONE: tuple[Operation, ...] = (activation, linear_map, layer, dropout)
_DIMENSIONS = (1, 2, 3)
_ROUTING = """view view_as reshape reshape_as flatten unflatten permute transpose swapaxes swapdims
    movedim moveaxis t adjoint squeeze unsqueeze contiguous clone to float double half bfloat16 type
    type_as expand expand_as repeat tile repeat_interleave split chunk tensor_split unbind iter
    select getitem setitem narrow index_select gather take_along_dim roll flip rot90 pad unfold copy
    where masked_fill channel_shuffle pixel_shuffle pixel_unshuffle amax max max_pool1d max_pool2d
    max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d cpu cuda
    detach""".split()  # noqa: SIM905 -- a list to read
# which rule each operation gets, by its name; what is not here has none
OPERATIONS: Mapping[str, Operation] = {
    **dict.fromkeys(_ROUTING, routing),
    **dict.fromkeys([f"{name} property" for name in ("T", "mT", "H", "mH")], routing),
    **dict.fromkeys(("cat", "stack"), joining),
    **dict.fromkeys(RECTIFIERS, activation),
    **dict.fromkeys(("tanh", "sigmoid", "hardsigmoid", "logsigmoid"), activation),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "neg"), activation),
    "normalize": activation,  # division by a norm, which takes no relevance
    **dict.fromkeys(("mean", "sum", "interpolate", "upsample"), linear_map),
    **dict.fromkeys([f"avg_pool{n}d" for n in _DIMENSIONS], linear_map),
    **dict.fromkeys([f"adaptive_avg_pool{n}d" for n in _DIMENSIONS], linear_map),
    **dict.fromkeys([f"conv{n}d" for n in _DIMENSIONS], layer),
    **dict.fromkeys([f"conv_transpose{n}d" for n in _DIMENSIONS], layer),
    "linear": layer,
    **dict.fromkeys([f"dropout{n}d" for n in _DIMENSIONS], dropout),
    **dict.fromkeys(("dropout", "alpha_dropout", "feature_alpha_dropout"), dropout),
    "add": addition,
    "sub": subtraction,
    "rsub": subtraction,
    "mul": product,
    "div": quotient,
    "matmul": bilinear,
    "einsum": bilinear,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "rms_norm": rms_norm,
    "scaled_dot_product_attention": attention,
}

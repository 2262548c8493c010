"""What a network is made of that tools stumble over: found by one forward and one backward.

A forward pass of two images is watched module by module (hooks) and operation by operation (a
``TorchFunctionMode``), so that what is called as a function is seen too. Which saliency methods
serve the network is not known here. The network is left as it came.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from naspix.errors import NaspixError
from naspix.models import Classifier
from naspix.models.activations import ModuleCall, tracing
from naspix.models.functions import Function
from naspix.saliency.operations import (
    RECTIFIERS,
    first_argument,
    on_path,
    operation,
    running_module,
)

_ACTIVATIONS = RECTIFIERS | {"sigmoid", "hardsigmoid", "tanh", "softmax", "log_softmax"}
_DROPOUTS = frozenset(
    {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}
)
_WRITES_IN_PLACE = frozenset({"setitem", "fill", "copy"})


@dataclass(frozen=True)
class LayerOperation:
    """An operation, and the module in whose forward it is called (empty: the network's own)."""

    layer: str
    operation: str

    def __str__(self) -> str:
        return f"{self.layer or 'the network'} ({self.operation})"


@dataclass(frozen=True)
class LevelDiagnosis:
    """What one level puts out.

    Attributes:
        level: Its number.
        module: Its module's name.
        shape: ``(C, h, w)`` of its map; None if it has none.
        layout: ``"map"``, ``"channels last"`` or ``"tokens"``.
        prefix_tokens: How many class and register tokens stand before the grid.
        problem: Why it has no map; empty where it has.
    """

    level: int
    module: str
    shape: tuple[int, int, int] | None
    layout: str
    prefix_tokens: int = 0
    problem: str = ""


@dataclass(frozen=True)
class NetworkDiagnosis:
    """What one forward and one backward tell about a network.

    Attributes:
        name: The classifier's.
        input_size: ``(C, H, W)`` of the images it was asked on.
        n_classes: How many scores an image has.
        scores: What they mean, and how that was found out.
        n_parameters: All of them.
        n_frozen: Those that ask for no gradient.
        dtype: What the network computes in.
        device: Where.
        wrappers: What wraps it or parts of it: DataParallel and compiled wrappers. Around the
            whole network they were taken off.
        levels: What each level puts out.
        in_place: Operations that write over what a layer has handed on.
        reused: Module -> how often it runs in one forward, where that is more than once.
        functional: Activations that no hook sees: functions called by a layer that does more.
        idle: Modules with parameters that did not run.
        opaque: What cannot be seen into: scripted or quantised modules, a function.
        batch_statistics: Norms that depend on the other images of the batch, also in eval mode.
        random: Operations that draw random numbers, also in eval mode.
        gradients: Why gradients cannot be had; empty where they can.
        member: Of an ensemble, the member that the levels are of, and how many there are.
        seen: Which part of the images the network sees, where it crops them itself; else empty.
    """

    name: str
    input_size: tuple[int, int, int]
    n_classes: int
    n_parameters: int
    n_frozen: int
    dtype: str
    device: str
    scores: str = ""
    wrappers: tuple[str, ...] = ()
    levels: tuple[LevelDiagnosis, ...] = ()
    in_place: tuple[LayerOperation, ...] = ()
    reused: Mapping[str, int] = field(default_factory=dict)
    functional: tuple[LayerOperation, ...] = ()
    idle: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    batch_statistics: tuple[str, ...] = ()
    random: tuple[LayerOperation, ...] = ()
    gradients: str = ""
    member: str = ""
    seen: str = ""


def diagnose_network(model: Classifier, images: Float[Tensor, "B C H W"]) -> NetworkDiagnosis:
    """Watch one forward and one backward of a few images.

    Args:
        model: The classifier.
        images: Two are enough; with one alone, what mixes images is harder to see.

    Raises:
        ModelError: The network fails on the images.
    """
    network = model.network
    names = {module: name for name, module in network.named_modules()}
    watch = _Watch({id(module): name for module, name in names.items()})
    calls: list[ModuleCall] = []
    model.find_scores(images)
    if not isinstance(network, torch.jit.ScriptModule):
        with torch.no_grad(), tracing(network):  # looks for tokens unwatched
            model(images)
    with torch.inference_mode(False), torch.enable_grad():
        points = images.clone().requires_grad_()
        if isinstance(network, torch.jit.ScriptModule):
            logits = model(points)
        else:
            with tracing(network) as calls, watch:
                logits = model(points)
        gradients = _gradient_problem(logits, points)
    counts = Counter(names[call.module] for call in calls)
    parameters = list(network.parameters())
    return NetworkDiagnosis(
        name=model.name,
        input_size=(int(images.shape[1]), int(images.shape[2]), int(images.shape[3])),
        n_classes=int(logits.shape[1]),
        n_parameters=sum(parameter.numel() for parameter in parameters),
        n_frozen=sum(p.numel() for p in parameters if not p.requires_grad),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        scores=str(model.scores),
        wrappers=tuple(_wrappers(model)),
        levels=tuple(_levels(model, {names[call.module]: call for call in calls})),
        in_place=tuple(watch.in_place),
        reused={name: count for name, count in counts.items() if count > 1 and name},
        functional=tuple(
            one for one in watch.activations if not _is_activation(network, one.layer)
        ),
        idle=tuple(_idle(network, counts)) if calls else (),
        opaque=tuple(_opaque(network)),
        batch_statistics=tuple(
            name
            for name, module in network.named_modules()
            if isinstance(module, nn.modules.batchnorm._NormBase)
            and module.running_mean is None
            and not isinstance(module, nn.modules.instancenorm._InstanceNorm)
        ),
        random=tuple(watch.random),
        gradients=gradients,
        member=_member(model, counts),
        seen=str(model.seen_part((images.shape[2], images.shape[3])) or ""),
    )


class _Watch(TorchFunctionMode):
    """Notes which layer calls which operation; changes nothing. Each pair is noted once."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names
        self.in_place: dict[LayerOperation, None] = {}
        self.activations: dict[LayerOperation, None] = {}
        self.random: dict[LayerOperation, None] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name, in_place = operation(func, kwargs)
        values = first_argument(args, kwargs)
        if in_place or name in _WRITES_IN_PLACE:
            # what was made for this purpose, such as an empty tensor to be filled, is not spoilt
            self._note(self.in_place, name, on_path(values))
        if name in _ACTIVATIONS:
            self._note(self.activations, name, on_path(values))
        if _is_random(name, args, kwargs):
            self._note(self.random, name, True)
        return func(*args, **kwargs)

    def _note(self, noted: dict[LayerOperation, None], name: str, wanted: bool) -> None:
        if wanted:
            noted[LayerOperation(running_module(self._names) or "", name)] = None


def _is_random(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if name in _DROPOUTS:
        share = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        return bool(kwargs.get("training", args[2] if len(args) > 2 else True)) and share > 0
    return name in ("rand_like", "randn_like", "randint_like", "bernoulli", "normal", "multinomial")


def _gradient_problem(logits: Tensor, points: Tensor) -> str:
    """Why the scores' gradients with respect to the pixels cannot be had."""
    gradients: Tensor | None = None
    if logits.requires_grad:
        try:
            gradients = torch.autograd.grad(logits.amax(1).sum(), points, allow_unused=True)[0]
        except (RuntimeError, NotImplementedError) as error:
            return f"the backward fails: {str(error).splitlines()[0]}"
    if gradients is None:
        return "no gradients reach the pixels (is it quantised, or under no_grad inside?)"
    if not bool(torch.isfinite(gradients).all()):
        return "gradients are not finite (NaN or infinite)"
    if not bool(gradients.any()):
        return "gradients are zero everywhere (are the weights untrained?)"
    return ""


def _levels(model: Classifier, calls: Mapping[str, ModuleCall]) -> Iterator[LevelDiagnosis]:
    """Each level by its last call."""
    try:
        names = model.levels
    except NaspixError as error:
        yield LevelDiagnosis(0, "", None, "", problem=str(error))
        return
    for level, name in enumerate(names):
        call = calls.get(name)
        if call is None:
            yield LevelDiagnosis(level, name, None, "", problem="it did not run")
        elif call.layout is None:
            yield LevelDiagnosis(level, name, None, "", problem=call.problem)
        else:
            layout = "channels last" if call.layout.channels_last else "map"
            yield LevelDiagnosis(
                level,
                name,
                call.shape,
                "tokens" if call.layout.grid is not None else layout,
                call.layout.prefix,
            )


def _member(model: Classifier, counts: Mapping[str, int]) -> str:
    """Which of several equal modules beside each other the levels are all of."""
    try:
        levels = model.levels
    except NaspixError:
        return ""
    modules = dict(model.network.named_modules())
    path = levels[0]
    while len(levels) > 1 and path:
        parent, _, _ = path.rpartition(".")
        if all(level.startswith(f"{path}.") for level in levels) and path in modules:
            children = [
                f"{parent}.{name}".lstrip(".") for name, _ in modules[parent].named_children()
            ]
            members = [
                name
                for name in children
                if type(modules[name]) is type(modules[path]) and counts.get(name)
            ]
            if path in members and len(members) > 1:
                return f"{path}, one of {len(members)} members ({', '.join(members)})"
        path = parent
    return ""


def _wrappers(model: Classifier) -> Iterator[str]:
    if model.wrapper is not None:
        yield f"{model.wrapper} around the network"
    for name, module in model.network.named_modules():
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            yield f"{type(module).__name__} at {name or 'the network'}"
        elif isinstance(getattr(module, "_orig_mod", None), nn.Module):
            yield f"a compiled module at {name or 'the network'}"


def _is_activation(network: nn.Module, name: str) -> bool:
    """Whether a module's output is its activation's, so that a hook on it sees it."""
    try:
        module = network.get_submodule(name)
    except AttributeError:
        return False
    if isinstance(module, nn.MultiheadAttention):
        return False
    known = type(module).__module__ == "torch.nn.modules.activation"
    bare = next(module.children(), None) is None and next(module.parameters(), None) is None
    return bool(name) and (known or bare)


def _idle(network: nn.Module, counts: Mapping[str, int]) -> Iterator[str]:
    """The outermost modules with parameters of which nothing ran."""

    def ran(path: str) -> bool:
        return any(name == path or name.startswith(f"{path}.") for name in counts)

    found: list[str] = []
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{path}.") for path in found)
        if name and not inside and next(module.parameters(), None) is not None and not ran(name):
            found.append(name)
            yield name


def _opaque(network: nn.Module) -> Iterator[str]:
    """The outermost modules into which Python cannot see."""
    found: list[str] = []
    for name, module in network.named_modules():
        here = name or "the network"
        if any(name.startswith(f"{path}.") for path in found):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            kind = "scripted"
        elif ".quantized" in type(module).__module__:
            kind = "quantised"
        elif isinstance(module, Function):
            kind = "a function that returns scores alone"
        else:
            continue
        found.append(name)
        yield f"{here} ({kind})"

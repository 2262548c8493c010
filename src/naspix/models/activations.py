"""All hooks: what chosen modules put out while a network runs, as maps `(B, C, h, w)`.

Two context managers, and no other place in naspix hooks a network of the user's to read it. Both
leave no hook behind, and hear only the thread that opened them. An output is recorded as it is when
the module hands it over: whatever overwrites it afterwards (an in-place ReLU, ``x += y``) meets a
copy. How outputs become maps is decided by one function, `_Reader.layout`: by their shape where it
has one reading (`grids.py`), else by looking which token answers to which part of the image
(`tokens.py`), once a network and size of images.
"""

import copy
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from naspix.errors import ActivationError
from naspix.models.asking import evaluating
from naspix.models.grids import Layout, covers
from naspix.models.outputs import first_tensor
from naspix.models.seen import SeenPart, known_part
from naspix.models.tokens import Layouts


class ModuleCall(NamedTuple):
    """One call of one module.

    ``shape`` is the `(C, h, w)` of an output that can be read as a map, ``layout`` how, ``problem``
    why another cannot. ``size`` is the map's `(h, w)` if it covers the images, None otherwise.
    ``own`` is False where the map can be no level: a dropout only passes it on (attention weights,
    as a rule), or a dictionary holds more tensors beside it, from which the network may go on
    instead. ``varies`` is False where a batch's first two images have the same output.
    ``n_tokens`` counts all tokens of a sequence, those that are no patches too; 0 of other maps.
    """

    module: nn.Module
    size: tuple[int, int] | None
    shape: tuple[int, int, int] | None = None
    layout: Layout | None = None
    problem: str = ""
    own: bool = True
    varies: bool = True
    n_tokens: int = 0


class _ReachedError(BaseException):
    """Ends a forward pass that has nothing more to tell; no ``except Exception`` holds it up."""


@contextmanager
def recording(
    network: nn.Module,
    names: Sequence[str],
    *,
    detach: bool = False,
    stop_after: Mapping[str, int] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of modules while ``network`` runs inside the ``with`` block.

    The dictionary is filled by the forward pass, with one map `(B, C, h, w)` for each name. A
    module that runs more than once in a pass is recorded at its last call. Unless ``detach`` is
    set, the network goes on from the recorded map itself, so gradients with respect to it can be
    asked for.

    Args:
        network: Any module that gets its images `(B, C, H, W)` as the first argument.
        names: Module names, as in ``network.named_modules()``.
        detach: Record copies without gradients, float32 for half precision.
        stop_after: How often each module is to run before the pass is cut short. The pass is left
            by an exception that this context manager swallows, so what follows the network's call
            in the block does not run. None lets it finish.

    Raises:
        ActivationError: If a module's output has no spatial map, or the pass never reached it.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        >>> with recording(network, ["0"]) as maps:
        ...     logits = network(torch.zeros(1, 3, 8, 8))
        >>> maps["0"].shape
        torch.Size([1, 4, 8, 8])
    """
    _check_readable(network)
    modules = {name: network.get_submodule(name) for name in dict.fromkeys(names)}
    for name, module in modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            raise ActivationError(
                f"level {name!r} is scripted, and runs outside of Python; choose another level, or "
                "give the module it was compiled from"
            )
    maps: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def hook(name: str) -> _Hook:
        def record(reader: _Reader, module: nn.Module, output: object) -> object:
            tensor = first_tensor(output)
            try:
                layout = reader.layout(module, tensor)
            except ActivationError as error:
                raise ActivationError(f"level {name!r} {error}") from None
            assert tensor is not None  # else there is no layout
            calls[name] += 1
            done = stop_after is not None and all(
                calls[wanted] >= stop_after.get(wanted, 1) for wanted in modules
            )
            if detach:
                maps[name] = _detached(layout.read(tensor), copied=not done)
            else:
                maps[name] = layout.read(tensor)
            if done:
                raise _ReachedError
            if detach:
                return None
            new = layout.write(maps[name], tensor).clone()
            return _mapped(output, lambda one: new if one is tensor else one)

        return record

    hooks = [(module, hook(name)) for name, module in modules.items()]
    with suppress(_ReachedError), _hooked(network, hooks):
        yield maps
    missing = [name for name in modules if name not in maps]
    if missing:
        raise ActivationError(
            f"level {missing[0]!r} is not reached by the network's forward pass; choose a module "
            "that runs on every image"
        )


@contextmanager
def tracing(network: nn.Module) -> Iterator[list[ModuleCall]]:
    """List every module call inside the ``with`` block, in the order in which the calls end.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Flatten())
        >>> with tracing(network) as calls:
        ...     _ = network(torch.zeros(2, 3, 8, 8))
        >>> [(type(call.module).__name__, call.size) for call in calls]
        [('Conv2d', (4, 4)), ('Flatten', None), ('Sequential', None)]
    """
    _check_readable(network)
    calls: list[ModuleCall] = []

    def record(reader: _Reader, module: nn.Module, output: object) -> None:
        tensor = first_tensor(output)
        try:
            layout = reader.layout(module, tensor)
        except ActivationError as error:
            calls.append(ModuleCall(module, None, problem=str(error)))
            return
        assert tensor is not None
        channels, height, width = layout.read(tensor).shape[1:]
        fits = covers((height, width), reader.frame, slack=2)
        calls.append(
            ModuleCall(
                module,
                (int(height), int(width)) if fits else None,
                (int(channels), int(height), int(width)),
                layout,
                own=_is_own(module, output),
                varies=len(tensor) < 2 or not torch.equal(tensor[0], tensor[1]),
                n_tokens=0 if layout.grid is None else tensor.shape[1],
            )
        )

    heard = (  # TorchScript takes no hooks
        module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule)
    )
    with _hooked(network, [(module, record) for module in heard]):
        yield calls


def _check_readable(network: nn.Module) -> None:
    if isinstance(network, torch.jit.ScriptModule):
        raise ActivationError(
            "activations of a TorchScript network cannot be recorded, since it runs outside of "
            "Python; give the module it was compiled from, or ask without them: a segmenter such "
            "as SLIC, and a method that needs scores only, such as RISE"
        )


# what is called with the reader, a module and its output; not None takes the output's place
_Hook = Callable[["_Reader", nn.Module, object], object]


@contextmanager
def _hooked(network: nn.Module, hooks: Iterable[tuple[nn.Module, _Hook]]) -> Iterator[None]:
    """Let hooks hear this thread's forward passes inside the ``with`` block, and leave none."""
    reader = _Reader(network)
    thread = threading.get_ident()

    def here(hook: _Hook) -> Any:
        def hear(module: nn.Module, args: object, output: object) -> object:
            if reader.looking or threading.get_ident() != thread:
                return None
            return hook(reader, module, output)

        return hear

    handles = [reader.watch_frame(thread)]
    try:
        handles += [module.register_forward_hook(here(hook)) for module, hook in hooks]
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Reader:
    """Reads outputs of one network as maps; sees the images' frame as they come in."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._names: dict[nn.Module, str] = {}
        self._given: tuple[tuple[object, ...], dict[str, object], Tensor] | None = None
        self.looking = False
        self.frame = (0, 0)  # of what the network sees
        self._seen: SeenPart | None = None

    def watch_frame(self, thread: int) -> torch.utils.hooks.RemovableHandle:
        def look(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            if self.looking or threading.get_ident() != thread:
                return
            images = next((one for one in _tensors_in([args, kwargs]) if one.ndim == 4), None)
            if images is not None:
                self._given = args, kwargs, images
                frame = (images.shape[2], images.shape[3])
                self._seen = known_part(self._network, frame)
                self.frame = frame if self._seen is None else self._seen.size

        return self._network.register_forward_pre_hook(look, with_kwargs=True)

    def layout(self, module: nn.Module, tensor: Tensor | None) -> Layout:
        """How a module's output is read as a map.

        Raises:
            ActivationError: It is no map, or it cannot be told which; as what is said of a level.
        """
        if tensor is None:
            raise ActivationError("has no spatial map: its output is no tensor")
        if self._given is None:
            raise ActivationError(
                "cannot be laid over the images: the network was not given images (B, C, H, W)"
            )
        if tensor.is_quantized:
            raise ActivationError(
                f"is quantised ({str(tensor.dtype).removeprefix('torch.')}): give the network in "
                "floating point"
            )
        if not self._names:
            self._names = {module: name for name, module in self._network.named_modules()}
        seen = self._given[2] if self._seen is None else self._seen.cut(self._given[2])
        return Layouts.of(self._network).find(
            self._network, self._names[module], tensor, seen, self._run
        )

    def _run(self, images: Tensor) -> None:
        """Let the network see other images than those at hand; nothing of it is recorded."""
        assert self._given is not None  # else there is no frame
        if self._seen is not None:
            images = self._seen.fill(images)
        args, kwargs, given = self._given
        own = torch.arange(len(images), device=images.device) % len(given)

        def fitting(one: Tensor) -> Tensor:
            """What goes with the images, for as many as there are now."""
            if one is given:
                return images
            return one[own.to(one.device)] if one.ndim and len(one) == len(given) else one

        args, kwargs = _mapped([args, kwargs], fitting)
        self.looking = True
        try:
            with evaluating(self._network):
                self._network(*args, **kwargs)
        finally:
            self.looking = False


def _is_own(module: nn.Module, output: object) -> bool:
    if isinstance(output, Mapping):
        return sum(isinstance(value, Tensor) for value in output.values()) == 1
    return not isinstance(module, nn.modules.dropout._DropoutNd)


def _detached(maps: Tensor, *, copied: bool) -> Tensor:
    maps = maps.detach()
    if maps.dtype in (torch.float16, torch.bfloat16):
        return maps.to(torch.float32, memory_format=torch.contiguous_format)
    if copied:
        return maps.clone(memory_format=torch.contiguous_format)
    return maps.contiguous()


def _tensors_in(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | Mapping):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(one)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with each tensor changed in it; the objects that hold them are not."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        values = [_mapped(one, change) for one in value]
        return type(value)(*values) if hasattr(value, "_fields") else type(value)(values)
    if isinstance(value, Mapping):
        changed: Any = copy.copy(value)
        for key, one in value.items():
            changed[key] = _mapped(one, change)
        return changed
    return value

"""Random numbers of its own for a network that draws some, whatever else the process draws.

Seeding or restoring the process' generators would change what other threads draw meanwhile.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class own_random_numbers(TorchDispatchMode):
    """Inside the ``with`` block this thread's operations draw from generators made for it.

    The process' generators are neither read nor moved.

    Example:
        >>> before = torch.get_rng_state()
        >>> with own_random_numbers():
        ...     _ = torch.rand(3), torch.nn.functional.dropout(torch.ones(3))
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        device = kwargs.get("device")
        if device is None:
            given = (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
            device = next((leaf.device for leaf in given), torch.device("cpu"))
        generator = self._generator(torch.device(device))
        if func is torch.ops.aten.native_dropout.default:
            values, share, training = args
            kept = torch.rand(values.shape, generator=generator, device=device) >= share
            scale = 1 / (1 - share) if share < 1 else 0.0
            return (values * kept * scale, kept) if training else (values, torch.ones_like(kept))
        drawing = _with_generator(func)
        if drawing is None or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        return drawing(*args, **{**kwargs, "generator": generator})

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def _with_generator(func: Any) -> Callable[..., Any] | None:
    """The form of an operation that takes a generator; None if there is none."""
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return func  # type: ignore[no-any-return]
    name = func._overloadname
    # torch's names: randint.low -> randint.low_generator, randint_like.low_dtype ->
    # randint_like.low_generator_dtype, rand.default -> rand.generator
    for other in (
        "generator" if name == "default" else f"{name}_generator",
        name.replace("_dtype", "_generator_dtype"),
    ):
        if other in func.overloadpacket.overloads() and other != name:
            return getattr(func.overloadpacket, other)  # type: ignore[no-any-return]
    return None

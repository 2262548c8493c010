"""How a network is asked: eval mode, nothing compiled, failures as one sentence; then as it was."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from naspix.errors import DeviceError, ModelError, NaspixError
from naspix.models.batches import is_out_of_memory
from naspix.models.functions import Forward

# what modules are meanwhile: in eval mode, as they are written (hooks hear no compiled module), and
# not checkpointed by timm's and transformers' switches (a backward would run them again, unheard)
_ASIDE: dict[str, object] = {
    "training": False,
    "_compiled_call_impl": None,
    "grad_checkpointing": False,
    "gradient_checkpointing": False,
}
_modes: dict[int, tuple[int, list[tuple[nn.Module, str, object]]]] = {}
_modes_lock = threading.Lock()


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `DataParallel`, `DistributedDataParallel` and compiled wrappers."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; after it, every submodule has its own training flag again.

    Modules that were compiled in place or are checkpointed run as they are written meanwhile.
    Blocks may overlap, in one thread or several: the last to end restores what the first found.
    """
    key = id(network)
    with _modes_lock:
        depth, before = _modes.get(key, (0, []))
        if depth == 0:
            before = [
                (module, name, value)
                for module in network.modules()
                for name in _ASIDE
                if (value := getattr(module, name, None))
            ]
            for module, name, _ in before:
                setattr(module, name, _ASIDE[name])
        _modes[key] = depth + 1, before
    try:
        yield
    finally:
        with _modes_lock:
            depth, before = _modes.pop(key)
            if depth > 1:
                _modes[key] = depth - 1, before
            else:
                for module, name, value in before:
                    setattr(module, name, value)


def ask(
    network: nn.Module, standardized: Tensor, name: str, forward: Forward | None = None
) -> object:
    """The network's own answer in eval mode, its failures as one sentence.

    Args:
        network: What is asked.
        standardized: Images as it wants them.
        name: What to call it in errors.
        forward: Calls the network with more than the images; None calls it with them alone.

    Raises:
        ModelError: If the network fails on these images.
        DeviceError: If memory runs out.
    """
    if any(parameter.is_meta for parameter in network.parameters()):
        raise ModelError(
            f"{name} has weights on torch's meta device, which are none: load some into it with "
            "load_state_dict(..., assign=True)"
        )
    with evaluating(network):
        try:
            return network(standardized) if forward is None else forward(network, standardized)
        except NaspixError:
            raise
        except Exception as error:
            size = " x ".join(map(str, standardized.shape))
            if is_out_of_memory(error):
                raise DeviceError(
                    f"memory of {standardized.device} ran out on a batch of {size}; "
                    "use a smaller batch size"
                ) from None
            kind = type(error).__name__
            reason = (str(error) or kind).splitlines()[0]
            if not isinstance(error, RuntimeError | ValueError | AssertionError) and str(error):
                reason = f"{kind}: {reason}"
            if "Guard failed" in reason:
                reason += (
                    "; it was exported for one shape of images: export it with dynamic_shapes for "
                    "the batch, or give wrap_model forward=, which asks about as many at a time as "
                    "it takes"
                )
            raise ModelError(
                f"{name} fails on images of {size}, which may not be the size or the number of "
                f"channels that it was made for: {reason}"
            ) from error

"""What a first look at a network tells: which modules run, its levels, where gradients come to.

A forward pass of two images that differ shows which modules run and which of their outputs depend
on the pixels; a rule for a family's levels holds only if it bears it out. A backward pass shows
which levels gradients come to. Each is taken once a model.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile

import torch
from torch import Tensor, nn

from naspix.errors import ModelError
from naspix.models.activations import recording, tracing
from naspix.models.asking import evaluating
from naspix.models.levels import block_levels, family_levels, traced_levels
from naspix.models.randomness import own_random_numbers


@dataclass(frozen=True)
class Trace:
    """What a look at a network tells.

    Attributes:
        counts: Module -> how often it runs in a pass.
        levels: The network's levels, shallow first; empty if there are none.
        quantised: Whether modules put out quantised numbers, which are no levels.
    """

    counts: Mapping[str, int]
    levels: tuple[str, ...]
    quantised: bool = False


def trace_network(network: nn.Module, run: Callable[[Tensor], object], images: Tensor) -> Trace:
    """Let the network run once on images that differ, and see which modules are its levels.

    Args:
        network: The user's module.
        run: Asks it.
        images: Two or more.

    Raises:
        ModelError: The network fails, or is TorchScript.
    """
    with own_random_numbers(), torch.no_grad(), tracing(network) as calls:
        run(images)
    counts = Counter(call.module for call in calls)
    last = {call.module: call for call in calls}
    modules = dict(network.named_modules(remove_duplicate=False))
    names = {module: name for name, module in network.named_modules()}

    def depends(name: str) -> bool:
        call = last.get(modules[name]) if name in modules else None
        return call is not None and call.varies

    def borne_out(levels: Sequence[str]) -> tuple[str, ...]:
        """Those that can be read, if all depend on the images and most can be read."""
        found = tuple(name for name in levels if depends(name) and last[modules[name]].layout)
        return found if all(map(depends, levels)) and 2 * len(found) > len(levels) else ()

    chosen = next(filter(None, map(borne_out, family_levels(network))), None)
    if chosen is None:
        # what runs before all weights hands the photo on: crops, stubs of quantisation
        weighted = dropwhile(lambda call: next(call.module.parameters(), None) is None, calls)
        maps = [
            (names[call.module], call.size)
            for call in list(weighted) or calls
            if call.own and call.varies
        ]
        tokens = any(call.layout is not None and call.layout.grid is not None for call in calls)
        chosen = block_levels(maps, modules) if tokens else traced_levels(maps)
    return Trace(
        {name: counts.get(module, 0) for name, module in modules.items()},
        chosen,
        quantised=any("quantised" in call.problem for call in calls),
    )


def no_levels(trace: Trace, network: nn.Module, name: str) -> ModelError:
    """What is said of a network without levels.

    Args:
        trace: Of the network.
        network: The user's module.
        name: What to call it.
    """
    if trace.quantised:
        return ModelError(
            f"{name} is quantised, and has no maps of numbers to be levels; give it in floating "
            "point"
        )
    modules = dict(network.named_modules(remove_duplicate=False))
    called = (modules[each] for each, n in trace.counts.items() if each and n)
    if all(next(each.parameters(), None) is None for each in called):  # as of torch.export
        return ModelError(
            f"no module with weights inside {name} is called, so that activations cannot be "
            "recorded; give the module that it was exported from, or ask without them: a segmenter "
            "such as SLIC, and a method that needs scores, such as RISE"
        )
    return ModelError(
        f"no module of {name} puts out a map (B, C, h, w) to be a level; name some with levels="
    )


def differentiate_levels(
    network: nn.Module,
    score: Callable[[Tensor], Tensor],
    levels: Sequence[str],
    images: Tensor,
) -> tuple[str, ...]:
    """The levels that scores' gradients come to.

    Args:
        network: The user's module.
        score: Its scores of images.
        levels: Modules' names.
        images: One of noise is enough.
    """
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            own_random_numbers(),
            evaluating(network),
            recording(network, levels) as maps,
        ):
            points = images.clone().requires_grad_()
            scores = score(points)
            signs = torch.linspace(-1, 2, scores.shape[1]).to(scores)  # no class cancels another
            found = torch.autograd.grad(
                (scores * signs).sum(), list(maps.values()), allow_unused=True
            )
    except (ModelError, RuntimeError):  # said by the methods that need gradients
        return ()
    return tuple(
        name
        for name, gradient in zip(maps, found, strict=True)
        if gradient is not None and bool(gradient.any())
    )

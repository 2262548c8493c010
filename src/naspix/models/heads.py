"""The layer that puts out a network's scores: found by watching it run, made for other classes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from naspix.errors import ModelError


def head_of(network: nn.Module, run: Callable[[], object], scores: Tensor) -> str:
    """The name of the linear layer whose output is a network's scores; empty if there is none.

    Args:
        network: The user's module.
        run: Asks it about some images, in eval mode.
        scores: What it makes of them, ``(B, n)``.
    """
    found = ""
    names = {module: name for name, module in network.named_modules()}

    def hear(module: nn.Module, _: Any, output: object) -> None:
        nonlocal found
        if isinstance(output, Tensor) and output.numel() == scores.numel():
            same = torch.allclose(output.detach().reshape(scores.shape).to(scores), scores)
            found = names[module] if same else found

    layers = [one for one in network.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    handles = [one.register_forward_hook(hear) for one in layers]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def replace_head(network: nn.Module, head: str, n_classes: int) -> None:
    """Put a layer for so many classes, freshly drawn, in the place of a network's head.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
        >>> replace_head(net, "1", 3)
        >>> net[1].weight.shape
        torch.Size([3, 4])
    """
    parent, _, last = head.rpartition(".")
    layer: Any = network.get_submodule(head)
    bias = layer.bias is not None
    new: nn.Module
    if isinstance(layer, nn.Linear):
        new = nn.Linear(layer.in_features, n_classes, bias)
    elif layer.groups == 1:
        new = nn.Conv2d(
            layer.in_channels, n_classes, layer.kernel_size, layer.stride, layer.padding, bias=bias
        )
    else:
        raise ModelError(f"the head {head!r} is a grouped convolution; give it one that is not")
    setattr(network.get_submodule(parent), last, new.to(layer.weight))

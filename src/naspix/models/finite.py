"""Why a network's numbers are not finite: its weights, half precision, or an overflow."""

import torch
from torch import nn


@torch.no_grad()
def why_not_finite(network: object) -> str:
    """What to do about scores, gradients or activations that are NaN or infinite.

    Args:
        network: A module, whose weights are looked at; of anything else nothing is known.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> _ = layer.weight.data.fill_(float("nan"))
        >>> why_not_finite(layer)
        "the network's weights are not finite themselves ('weight'); load others"
    """
    if not isinstance(network, nn.Module):
        return "run the network in float32, or look at its weights"
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            name = name.removeprefix("network.")  # a Classifier's
            return f"the network's weights are not finite themselves ({name!r}); load others"
    halves = (torch.float16, torch.bfloat16)
    if any(tensor.dtype in halves for tensor in tensors.values()) or torch.is_autocast_enabled():
        return "run the network in float32"
    return "its numbers overflow on these images"

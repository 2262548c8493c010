"""Networks that are asked in another way: a function that returns scores, or a call of one's own.

A function (ONNX Runtime, a service, a model of another library) becomes a module that nobody sees
into: it has scores and neither activations nor gradients.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from naspix.errors import ModelError

Forward = Callable[[nn.Module, Tensor], object]  # how to call a network that takes more than images


class Function(nn.Module):
    """A function from images to scores, as a network without modules, weights or gradients.

    Args:
        function: Takes `(B, C, H, W)` and returns what a network may return, of tensors, arrays or
            nested lists of numbers.
    """

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> object:
        """What the function returns of the images, arrays as tensors."""
        with torch.no_grad():
            return _as_tensors(self.function(images.detach()))


def check_seen_into(model: Any, who: str, what: str) -> None:
    """Refuse a function where more than its scores are needed.

    Args:
        model: The classifier.
        who: Asks.
        what: Needs what, such as activations.

    Raises:
        ModelError: With what works in its place.
    """
    if isinstance(model.network, Function):
        raise ModelError(
            f"{who} needs {what}, but {model.name} is a function that returns scores alone; "
            'explain(model, images, method="rise", segmenter="slic") works, and so do LIME, '
            "Shapley values, occlusion, all metrics and regions of your own"
        )


def _as_tensors(answer: object) -> object:
    if isinstance(answer, np.ndarray | np.number):
        return torch.as_tensor(np.ascontiguousarray(answer))
    if isinstance(answer, Mapping):
        return {key: _as_tensors(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple) and answer:
        try:
            numbers = np.asarray(answer)
        except ValueError:  # rows of several lengths
            numbers = np.asarray(None)
        if not any(isinstance(one, Tensor | np.ndarray) for one in answer) and numbers.dtype != "O":
            return torch.as_tensor(numbers, dtype=torch.float32)
        return tuple(map(_as_tensors, answer))
    return answer

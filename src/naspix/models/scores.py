"""What a network's answer says of each class: the logits in whatever it returned.

The one place that decides what scores are; who asks the network is ``classifier.py``.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from naspix.errors import ModelError
from naspix.models.activations import first_tensor

Logits = str | int | Callable[[object], Tensor]


def pick_logits(
    output: object, logits: Logits | None, *, batch: int, name: str
) -> Float[Tensor, "B n_classes"]:
    """The logits in what a network returned, float32 unless they are float64.

    Args:
        output: A tensor, or what holds one first, or under ``logits``.
        logits: Key, position or function that picks them; None looks in the usual places.
        batch: How many images went in.
        name: The network's name in an error.

    Raises:
        ModelError: If there are none.

    Example:
        >>> pick_logits({"logits": torch.zeros(2, 5)}, None, batch=2, name="net").shape
        torch.Size([2, 5])
    """
    picked = _pick(output, logits)
    if picked is None or picked.ndim == 0 or picked.shape[0] != batch:
        what = type(output).__name__ if picked is None else f"shape {tuple(picked.shape)}"
        raise ModelError(
            f"no logits (B, n_classes) are found in what {name} returns ({what}); "
            "tell wrap_model which by logits="
        )
    rows = picked.flatten(1) if picked.ndim > 1 else picked[:, None]
    if picked.ndim > 2 and rows.shape[1] != picked.shape[1]:
        raise ModelError(
            f"{name} returns {tuple(picked.shape)}, not logits (B, n_classes); "
            "pick or make them by wrap_model's logits="
        )
    return rows if rows.dtype == torch.float64 else rows.float()


def _pick(output: object, logits: Logits | None) -> Tensor | None:
    if callable(logits):
        picked: object = logits(output)
    elif logits is not None:
        try:
            picked = output[logits]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            picked = getattr(output, logits, None) if isinstance(logits, str) else None
    elif isinstance(output, Tensor):
        picked = output
    elif isinstance(getattr(output, "logits", None), Tensor):
        picked = output.logits  # type: ignore[attr-defined]
    elif isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        picked = output["logits"]
    else:
        picked = first_tensor(output)
    return picked if isinstance(picked, Tensor) else None

"""How far a run has got, after every epoch, in one file that is whole or as it was before.

``last.safetensors`` holds the weights and the optimizer's tensors; its header holds, as JSON, the
history of epochs and the loss scale of mixed precision. No pickle: reading runs no code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from naspix.errors import WeightsError
from naspix.files import write_whole

LAST = "last.safetensors"

_WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"


@dataclass(frozen=True)
class Epoch:
    """A line of the log.

    Attributes:
        epoch: From 1.
        lr: Learning rate of its last step.
        train_loss: Mean over the pictures learned from, as augmented, while learning.
        train_accuracy: Share of them that were right, likewise.
        val_loss: Mean over the validation split after the epoch.
        val_accuracy: Share of it that was right.
        seconds: What it took.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """More is better: accuracy, and among equals the smaller loss."""
        return self.val_accuracy, -self.val_loss


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a run stands.

    Attributes:
        weights: Of the network, by name.
        optimizer: Tensors of each parameter, by its place: ``"0/exp_avg"``.
        history: The epochs so far.
        scale: State of the loss scaler; empty without one.
    """

    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    history: tuple[Epoch, ...]
    scale: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``last.safetensors``."""
        from safetensors.torch import save

        tensors = {_WEIGHTS + name: tensor for name, tensor in self.weights.items()}
        tensors |= {_OPTIMIZER + name: tensor for name, tensor in self.optimizer.items()}
        content = {k: tensor.detach().cpu().contiguous().clone() for k, tensor in tensors.items()}
        state = {"history": [asdict(epoch) for epoch in self.history], "scale": dict(self.scale)}
        with write_whole(folder / LAST, durable=True) as file:
            file.write(save(content, {"state": json.dumps(state)}))

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint | None":
        """Read ``last.safetensors``; None if there is none.

        Raises:
            WeightsError: If it is damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = folder / LAST
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            history = tuple(Epoch(**epoch) for epoch in state["history"])
            scale = dict(state["scale"])
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            raise WeightsError(
                f"the checkpoint {str(path)!r} is damaged ({error}); remove it to begin anew"
            ) from None
        return cls(_below(_WEIGHTS, tensors), _below(_OPTIMIZER, tensors), history, scale)

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
        """Put weights and the optimizer's state back where they were.

        Raises:
            WeightsError: If they are of another network.
        """
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError:
            raise WeightsError(
                f"the checkpoint in {str(path)!r} is of another network or other classes; give "
                "another --output"
            ) from None
        plain = optimizer.state_dict()
        plain["state"] = {}
        for name, tensor in self.optimizer.items():
            place, _, key = name.partition("/")
            plain["state"].setdefault(int(place), {})[key] = tensor
        optimizer.load_state_dict(plain)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of each parameter, flat."""
    state = optimizer.state_dict()["state"]
    return {f"{place}/{k}": value for place, part in state.items() for k, value in part.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

"""`Finetuning`: what a run is asked for, from the command line to the record in its folder."""

import os
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from naspix.errors import InputError
from naspix.models import DEFAULT_MODEL

Precision = Literal["auto", "32", "16", "bf16"]

_LR, _LR_OF_HEAD = 1e-4, 3e-3
_EPOCHS, _EPOCHS_OF_HEAD = 30, 100


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """Settings of a run.

    AdamW, its rate rising over the first twentieth of the steps and falling along a cosine; random
    crops of 30 % to 100 % of the picture and mirroring; the epoch with the highest accuracy on the
    validation split is kept, among equals the one with the lower loss.

    Args:
        model: A name as for `naspix.load_model`.
        weights: Where to begin: ``"default"``, a file, or None for random ones.
        freeze: Only the head learns; all else, batch statistics too, stays as it is.
        augment: Whether pictures are cropped and mirrored at random; None is yes, and no for a head
            alone, whose features are then computed once.
        epochs: At most so many; None is 30, and 100 for a head on features computed once.
        batch_size: Pictures a step, over all devices.
        lr: The highest learning rate; None is 1e-4, and 3e-3 for a head alone.
        weight_decay: Of AdamW.
        label_smoothing: Share of the target that goes to all classes alike, in [0, 1).
        patience: The run stops when for so many epochs neither accuracy nor loss of the validation
            split has been better.
        precision: ``"32"``, ``"16"`` (on GPUs only) or ``"bf16"`` for mixed precision; ``"auto"``
            is 32 on a CPU, on a GPU bf16 where it knows it, else 16.
        seed: Of everything random.
        device: As for `naspix.load_model`; ``"auto"`` is a GPU where there is one.
        devices: How many, in a process each.
        workers: Processes that read pictures for each device; None is none on a CPU, up to eight
            on a GPU.
    """

    model: str = DEFAULT_MODEL
    weights: str | None = "default"
    freeze: bool = False
    augment: bool | None = None
    epochs: int | None = None
    batch_size: int = 32
    lr: float | None = None
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    patience: int = 10
    precision: Precision = "auto"
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    workers: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "devices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be 1 or more, not {value}")
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise InputError(f"the learning rate must be positive, not {self.lr}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing lies in [0, 1), not {self.label_smoothing}")

    def decided(self, device: torch.device) -> "Finetuning":
        """With a value for everything that was left open.

        Args:
            device: What it runs on.

        Raises:
            InputError: If the device does not compute in this precision.
        """
        on_gpu = device.type == "cuda"
        precision = self.precision
        if precision == "16" and device.type == "cpu":
            raise InputError("a CPU does not mix in 16 bits; give --precision bf16, or 32")
        if precision == "auto":
            mixed: Precision = "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "16"
            precision = mixed if on_gpu else "32"
        augment = not self.freeze if self.augment is None else self.augment
        once = self.freeze and not augment
        workers = min(8, os.cpu_count() or 1) if on_gpu else 0
        return replace(
            self,
            augment=augment,
            epochs=self.epochs or (_EPOCHS_OF_HEAD if once else _EPOCHS),
            lr=self.lr or (_LR_OF_HEAD if self.freeze else _LR),
            precision=precision,
            workers=workers if self.workers is None else self.workers,
        )

    def to_plain(self) -> dict[str, Any]:
        """All that the result depends on; where it is computed is not among it."""
        places = ("device", "devices", "workers")
        return {key: value for key, value in asdict(self).items() if key not in places}

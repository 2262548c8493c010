"""`Finetuning`: a named network learns the classes of a data set, and leaves a folder to load.

The folder holds the best weights (``model.safetensors``, ``model.json``: `naspix.load_model` takes
the folder), the last state (``last.safetensors``), the settings, the log and the result. Whoever is
killed, at any moment, goes on from the last whole epoch; on a CPU with the very result of a run
that was not.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from naspix.errors import (
    DatasetError,
    DeviceError,
    InputError,
    MissingExtraError,
    NaspixError,
)
from naspix.files import written
from naspix.models import DEFAULT_MODEL, resolve_device
from naspix.models.loading import read_model, save_model
from naspix.models.recipes import with_classes
from naspix.runs import locked
from naspix.training.checkpoint import Checkpoint, Epoch
from naspix.training.log import draw_log, write_log
from naspix.training.loop import Learning, Loop
from naspix.training.run_folder import (
    RESULT,
    SCHEMA,
    SETTINGS,
    Result,
    best_epoch,
    is_begun,
    outcome,
    read_json,
    read_result,
    write_json,
)
from naspix.training.splits import Splits, broken_ids

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Precision = Literal["auto", "32", "16", "bf16"]
Step = Callable[[str, int, int, tuple[Epoch, ...]], None]
"""Told what is being done, how much of it, of how much at most, and the epochs so far."""

_PRECISIONS = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
_LR, _LR_OF_HEAD = 1e-4, 3e-3
_REDRAW = 30.0  # seconds between two pictures of the log
_EPOCHS, _EPOCHS_OF_HEAD = 30, 100


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """Settings of a run; called with splits and a folder, it learns.

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

    def __call__(
        self,
        splits: Splits,
        output: str | os.PathLike[str],
        *,
        step: Step = lambda doing, done, total, history: None,
    ) -> Result:
        """Learn, or go on from where the folder's run stopped.

        Args:
            splits: As `open_splits` makes them.
            output: The run's folder; made if it is not there.
            step: Told of every batch.

        Raises:
            MissingExtraError: If Lightning is not installed.
            InputError: If the folder holds a run with other settings or data.
            WeightsError: If weights or a checkpoint cannot be read, or are of another network.
            ModelError: If the loss is not finite.
            OutputError: If the folder cannot be written, or another process is at it.
            DeviceError: If memory runs out, or another of the run's own processes has ended.
        """
        folder = Path(output)
        fabric = self._launched()
        with written(folder):
            folder.mkdir(parents=True, exist_ok=True)
        alone = locked(folder) if fabric.global_rank == 0 else contextlib.nullcontext()
        with alone, _together(fabric.world_size):
            return self._run(fabric, splits, folder, step)

    def _run(self, fabric: "Fabric", splits: Splits, folder: Path, step: Step) -> Result:
        """Begin the folder's run, or go on with it."""
        settings = self._settings(splits, fabric)
        if not is_begun(folder, settings) and fabric.global_rank == 0:
            left_out = broken_ids(splits)
            _check_left(splits.without(frozenset(left_out)), left_out)
            write_json(folder / SETTINGS, {**settings, "left_out": left_out})
        fabric.barrier()
        left_out = read_json(folder / SETTINGS)["left_out"]
        if not (folder / RESULT).is_file():
            self._learn(fabric, splits.without(frozenset(left_out)), folder, step)
        return read_result(folder, left_out)

    def _learn(
        self,
        fabric: "Fabric",
        splits: Splits,
        folder: Path,
        step: Step,
    ) -> None:
        made = with_classes(
            self.model, len(splits.categories), weights=self.weights, seed=self.seed
        )
        description = replace(made.recipe.description, categories=splits.categories)
        history: tuple[Epoch, ...] = ()

        def told(doing: str, done: int, total: int) -> None:
            step(doing, done, total, history)

        loop = Loop(fabric, made, description, self._learning(), told)
        begun = Checkpoint.load(folder)
        if begun is not None:
            loop.continue_from(begun, folder)
            history = begun.history
        drawn = 0.0
        while not self._is_over(history):
            epoch = self._one_epoch(loop, splits, len(history))
            history = (*history, epoch)
            if fabric.global_rank == 0:
                with written(folder):
                    if best_epoch(history) is epoch:
                        save_model(folder, description, loop.network.state_dict())
                    loop.checkpoint(history).save(folder)  # after the best weights, never before
                    write_log(folder, history)
                    if time.monotonic() - drawn > _REDRAW:
                        draw_log(folder, history)
                        drawn = time.monotonic()
            fabric.barrier()
        loop.network.load_state_dict(read_model(folder)[1].state_dict())
        test = None if splits.test is None else loop.validate(splits.test)
        if fabric.global_rank == 0:
            with written(folder):
                write_log(folder, history)  # anew, if it was killed before
                draw_log(folder, history)
            write_json(folder / RESULT, outcome(history, test))
        fabric.barrier()

    def _one_epoch(self, loop: Loop, splits: Splits, number: int) -> Epoch:
        start = time.perf_counter()
        train_loss, train_accuracy, lr = loop.learn(splits.train, number)
        val_loss, val_accuracy = loop.validate(splits.val)
        return Epoch(
            epoch=number + 1,
            lr=lr,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=time.perf_counter() - start,
        )

    def _is_over(self, history: tuple[Epoch, ...]) -> bool:
        if not history:
            return False
        last = max(best_epoch(history).epoch, min(history, key=lambda one: one.val_loss).epoch)
        return len(history) >= self._n_epochs or len(history) - last >= self.patience

    @property
    def _augments(self) -> bool:
        return not self.freeze if self.augment is None else self.augment

    @property
    def _n_epochs(self) -> int:
        once = self.freeze and not self._augments
        return self.epochs or (_EPOCHS_OF_HEAD if once else _EPOCHS)

    def _launched(self) -> "Fabric":
        try:
            from lightning.fabric import Fabric
        except ImportError:
            raise MissingExtraError(
                "fine-tuning needs Lightning; install it with pip install 'naspix[train]'"
            ) from None
        place = resolve_device(self.device)
        there = torch.cuda.device_count() if place.type == "cuda" else self.devices
        if self.devices > there:
            raise InputError(f"there are {there} CUDA devices, not {self.devices}")
        devices: Any = self.devices
        if place.index is not None and self.devices == 1:
            devices = [place.index]
        fabric = Fabric(
            accelerator="gpu" if place.type == "cuda" else place.type,
            devices=devices,
            precision=_PRECISIONS[self._resolved_precision(place)],  # type: ignore[arg-type]
        )
        fabric.launch()
        return fabric

    def _resolved_precision(self, place: torch.device) -> str:
        if self.precision == "16" and place.type == "cpu":
            raise InputError("a CPU does not mix in 16 bits; give --precision bf16, or 32")
        if self.precision != "auto":
            return self.precision
        if place.type != "cuda":
            return "32"
        return "bf16" if torch.cuda.is_bf16_supported() else "16"

    def _learning(self) -> Learning:
        on_gpu = resolve_device(self.device).type == "cuda"
        workers = min(8, os.cpu_count() or 1) if on_gpu else 0
        return Learning(
            epochs=self._n_epochs,
            batch_size=self.batch_size,
            lr=self.lr or (_LR_OF_HEAD if self.freeze else _LR),
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            freeze=self.freeze,
            augment=self._augments,
            seed=self.seed,
            workers=workers if self.workers is None else self.workers,
        )

    def _settings(self, splits: Splits, fabric: "Fabric") -> dict[str, Any]:
        """All that the result depends on; where it is computed is not among it."""
        what = asdict(replace(self, device="", devices=1, workers=None))
        for place in ("device", "devices", "workers"):
            del what[place]
        what["precision"] = self._resolved_precision(fabric.device)
        learning = self._learning()
        what |= {"lr": learning.lr, "epochs": learning.epochs, "augment": learning.augment}
        parts = {"train": splits.train, "val": splits.val, "test": splits.test}
        return {
            "schema": SCHEMA,
            **what,
            "classes": list(splits.categories),
            "pictures": {k: 0 if view is None else len(view) for k, view in parts.items()},
            "fingerprint": _fingerprint(splits),
        }


@contextlib.contextmanager
def _together(n_processes: int) -> Iterator[None]:
    """Say in a sentence that another process of the run has ended, for whatever reason."""
    try:
        yield
    except RuntimeError as error:
        of_company = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if n_processes == 1 or isinstance(error, NaspixError) or not of_company:
            raise
        raise DeviceError(
            "another of this run's processes has ended; the same command goes on after the last "
            "epoch that was finished"
        ) from None


def _check_left(splits: Splits, left_out: dict[str, str]) -> None:
    """Whether enough remains without the pictures that cannot be read."""
    for name, view in (("learn from", splits.train), ("validate with", splits.val)):
        absent = set(range(len(splits.categories))) - set(view.labels)
        if not len(view) or (absent and name == "learn from"):
            which = splits.categories[min(absent)] if absent else "any class"
            raise DatasetError(
                f"no picture of {which!r} is left to {name}, since {len(left_out)} cannot be read, "
                f"such as {next(iter(left_out), '?')!r}"
            )


def _fingerprint(splits: Splits) -> str:
    """Changes with the pictures' names, classes and split."""
    views = [splits.train, splits.val, *([splits.test] if splits.test else [])]
    content = [[list(view.ids), list(view.labels)] for view in views]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

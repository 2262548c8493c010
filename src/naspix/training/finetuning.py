"""`finetune`: a named network learns the classes of a data set, and leaves a folder to load.

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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from naspix.errors import (
    DatasetError,
    DeviceError,
    InputError,
    MissingExtraError,
    NaspixError,
)
from naspix.files import written
from naspix.models import resolve_device
from naspix.models.own_models import own_recipe
from naspix.models.own_network import absolute_name, names_own_code
from naspix.models.recipes import is_known, with_classes
from naspix.models.saved import read_saved, save_model
from naspix.runs import locked
from naspix.training.loop import Loop
from naspix.training.run_folder import (
    RESULT,
    SCHEMA,
    SETTINGS,
    Epoch,
    Result,
    best_epoch,
    draw_log,
    is_begun,
    read_json,
    read_result,
    write_json,
    write_log,
    write_result,
)
from naspix.training.settings import Finetuning
from naspix.training.splits import Splits, broken_ids, open_splits

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Step = Callable[[str, int, int, tuple[Epoch, ...]], None]
"""Told what is being done, how much of it, of how much at most, and the epochs so far."""

_PRECISIONS = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
_REDRAW = 30.0  # seconds between two pictures of the log


def finetune(
    data: Splits | str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: Finetuning | None = None,
    *,
    step: Step = lambda doing, done, total, history: None,
) -> Result:
    """Teach a network the classes of a data set, or go on from where the folder's run stopped.

    Args:
        data: Splits as `naspix.training.open_splits` makes them; or a folder with a folder of
            pictures for each class, or folders ``train``, ``val`` and ``test`` with such folders.
        output: The run's folder; made if it is not there. `naspix.load_model` takes it afterwards.
        settings: What is asked.
        step: Told of every batch.

    Returns:
        The epoch that is kept, all epochs, and what the test split says.

    Raises:
        MissingExtraError: If Lightning is not installed.
        DatasetError: If the folder of pictures is of another kind, or a class has too few.
        InputError: If the run's folder holds a run with other settings or data.
        WeightsError: If weights or a checkpoint cannot be read, or are of another network.
        ModelError: If the loss is not finite.
        OutputError: If the folder cannot be written, or another process is at it.
        DeviceError: If memory runs out, or another of the run's own processes has ended.

    Example:
        >>> finetune("my-pictures", "run", Finetuning(freeze=True))  # doctest: +SKIP
    """
    settings, folder = settings or Finetuning(), Path(output)
    splits = data if isinstance(data, Splits) else open_splits("folder", data, seed=settings.seed)
    device = resolve_device(settings.device)
    settings = replace(settings.decided(device), model=absolute_name(settings.model))
    fabric = _launched(settings, device)
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    alone = locked(folder) if fabric.global_rank == 0 else contextlib.nullcontext()
    with alone, _together(fabric.world_size):
        record = _record(settings, splits)
        if not is_begun(folder, record) and fabric.global_rank == 0:
            left_out = broken_ids(splits)
            _check_left(splits.without(frozenset(left_out)), left_out)
            write_json(folder / SETTINGS, {**record, "left_out": left_out})
        fabric.barrier()
        left_out = read_json(folder / SETTINGS)["left_out"]
        if not (folder / RESULT).is_file():
            _learn(fabric, splits.without(frozenset(left_out)), folder, settings, step)
        return read_result(folder, left_out)


def _launched(settings: Finetuning, device: torch.device) -> "Fabric":
    try:
        from lightning.fabric import Fabric
    except ImportError:
        raise MissingExtraError(
            "fine-tuning needs Lightning; install it with pip install '.[train]' in the folder of "
            "naspix"
        ) from None
    there = torch.cuda.device_count() if device.type == "cuda" else settings.devices
    if settings.devices > there:
        raise InputError(f"there are {there} CUDA devices, not {settings.devices}")
    one_of_them = device.index is not None and settings.devices == 1
    fabric = Fabric(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index] if one_of_them else settings.devices,
        precision=_PRECISIONS[settings.precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _learn(
    fabric: "Fabric", splits: Splits, folder: Path, settings: Finetuning, step: Step
) -> None:
    """Epochs until the run is over, and its result."""
    known = is_known(settings.model) or not names_own_code(settings.model)
    made = with_classes(
        settings.model if known else own_recipe(settings.model),
        len(splits.categories),
        weights=settings.weights,
        seed=settings.seed,
    )
    description = replace(made.recipe.description, categories=splits.categories, output="softmax")
    history: tuple[Epoch, ...] = ()

    def told(doing: str, done: int, total: int) -> None:
        step(doing, done, total, history)

    loop = Loop(fabric, made, description, settings, told)
    history = loop.restore(folder)
    drawn = 0.0
    while not _is_over(history, loop.n_epochs, settings.patience):
        start = time.perf_counter()
        train_loss, train_accuracy, lr = loop.learn(splits.train, len(history))
        val_loss, val_accuracy = loop.validate(splits.val)
        epoch = Epoch(
            epoch=len(history) + 1,
            lr=lr,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=time.perf_counter() - start,
        )
        history = (*history, epoch)
        if fabric.global_rank == 0:
            with written(folder):
                if best_epoch(history) is epoch:
                    save_model(folder, description, loop.network.state_dict())
                loop.save(folder, history)  # after the best weights, never before
                write_log(folder, history)
                if time.monotonic() - drawn > _REDRAW:
                    draw_log(folder, history)
                    drawn = time.monotonic()
        fabric.barrier()
    loop.network.load_state_dict(read_saved(folder)[1])
    test = None if splits.test is None else loop.validate(splits.test)
    if fabric.global_rank == 0:
        with written(folder):
            write_log(folder, history)  # anew, if it was killed before
            draw_log(folder, history)
        write_result(folder, history, test)
    fabric.barrier()


def _is_over(history: tuple[Epoch, ...], n_epochs: int, patience: int) -> bool:
    if not history:
        return False
    last = max(best_epoch(history).epoch, min(history, key=lambda one: one.val_loss).epoch)
    return len(history) >= n_epochs or len(history) - last >= patience


def _record(settings: Finetuning, splits: Splits) -> dict[str, Any]:
    """All that the result depends on; the fingerprint changes with pictures, classes and split."""
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    listed = [[list(view.ids), list(view.labels)] for view in parts.values() if view]
    return {
        "schema": SCHEMA,
        **settings.to_plain(),
        "classes": list(splits.categories),
        "pictures": {name: 0 if view is None else len(view) for name, view in parts.items()},
        "fingerprint": hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16],
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

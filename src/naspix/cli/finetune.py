"""``naspix finetune``: a network learns a data set's classes; the folder it leaves is a model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from naspix import progress
from naspix.cli import talk
from naspix.cli.options import Json

if TYPE_CHECKING:
    from naspix.training.run_folder import Epoch, Result


def finetune(
    *,
    dataset: Annotated[
        Literal["stl10", "cub", "folder"],
        Parameter(help="folder: one for each class, or train, val and test with those in them."),
    ] = "folder",
    root: Annotated[Path, Parameter(help="Where the data set is.")],
    output: Annotated[
        Path, Parameter(alias="-o", help="Folder of the run; --model takes it afterwards.")
    ],
    model: Annotated[
        str,
        Parameter(
            alias="-m",
            help="A network's name, as `naspix models` lists them, or FILE.py:FUNCTION of yours.",
        ),
    ] = "efficientnet_lite0",
    weights: Annotated[
        str, Parameter(help='"default", "none" for random ones, or a file of that network.')
    ] = "default",
    freeze: Annotated[
        bool, Parameter(negative=(), help="Learn a new head only, and leave the rest as it is.")
    ] = False,
    augment: Annotated[
        bool | None,
        Parameter(help="Crop and mirror at random; without --freeze, yes.", show_default=False),
    ] = None,
    epochs: Annotated[
        int | None, Parameter(help="At most so many; 30, or 100 for a head.", show_default=False)
    ] = None,
    patience: Annotated[
        int, Parameter(help="Stop after so many epochs without a better one.")
    ] = 10,
    batch_size: Annotated[int, Parameter(help="Pictures a step, over all devices.")] = 32,
    lr: Annotated[
        float | None,
        Parameter(help="Highest learning rate; 1e-4, or 3e-3 for a head.", show_default=False),
    ] = None,
    weight_decay: Annotated[float, Parameter(help="Of AdamW.")] = 0.01,
    label_smoothing: Annotated[float, Parameter(help="From 0 to less than 1.")] = 0.0,
    val_share: Annotated[
        float, Parameter(help="Of each class, where there is no split to validate with.")
    ] = 0.2,
    precision: Annotated[
        Literal["auto", "32", "16", "bf16"],
        Parameter(help="Mixed where not 32, 16 on GPUs only; auto: mixed on GPUs."),
    ] = "auto",
    seed: Annotated[int, Parameter(help="Of everything random.")] = 0,
    device: Annotated[str, Parameter(help='"auto", cpu, cuda, cuda:1.')] = "auto",
    devices: Annotated[int, Parameter(help="How many, in a process each.")] = 1,
    workers: Annotated[
        int | None,
        Parameter(help="Processes that read pictures for each device.", show_default=False),
    ] = None,
    json: Json = False,
) -> int:
    """Teach a network the classes of a data set, and keep the epoch that validates best.

    Interrupted or killed, the same command goes on from the last epoch that was finished. The
    output folder holds the model, the log as csv and png, and the settings.
    """
    import json as encoder
    from dataclasses import asdict

    from naspix.models import keep_freed_memory
    from naspix.training import Finetuning, open_splits
    from naspix.training import finetune as learn

    keep_freed_memory()
    settings = Finetuning(
        model=model,
        weights=None if weights.lower() == "none" else weights,
        freeze=freeze,
        augment=augment,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        patience=patience,
        precision=precision,
        seed=seed,
        device=device,
        devices=devices,
        workers=workers,
    )
    splits = open_splits(dataset, root, val_share=val_share, seed=seed)
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if first:
        _announce(splits.notes, len(splits.categories), len(splits.train), len(splits.val))
    with progress.progress_of_items(hidden=not first) as bar:
        told = -1

        def step(doing: str, done: int, total: int, history: "tuple[Epoch, ...]") -> None:
            nonlocal told
            bar(doing, done, total)
            if first and told < 0 and history:
                talk.say(f"going on after epoch {len(history)}")
            elif first and len(history) > told >= 0:
                talk.say(_line(history[-1]))
            told = len(history)

        result = learn(splits, output, settings, step=step)
    if not first:
        return 0
    if told < 0:
        talk.say("this run was finished already")
    else:
        for epoch in result.history[told:]:
            talk.say(_line(epoch))
    for id_, reason in list(result.left_out.items())[:10]:
        talk.say(f"left out {id_}: {reason}")
    print(encoder.dumps(asdict(result)) if json else "\n".join(_summary(result)))  # noqa: T201 - a result
    return 0


def _announce(notes: tuple[str, ...], n_classes: int, n_train: int, n_val: int) -> None:
    for note in notes:
        talk.say(note)
    talk.say(f"{n_classes} classes, {n_train} pictures to learn from, {n_val} to validate with")


def _line(epoch: "Epoch") -> str:
    return (
        f"epoch {epoch.epoch}: loss {epoch.train_loss:.3f}, validation {epoch.val_loss:.3f}, "
        f"{epoch.val_accuracy:.1%} right, {epoch.seconds:.0f} s"
    )


def _summary(result: "Result") -> list[str]:
    best, last = result.best, result.history[-1]
    lines = [
        f"{result.folder}: epoch {best.epoch} of {last.epoch} is kept, {best.val_accuracy:.1%} of "
        "the validation pictures are right"
    ]
    if result.test_accuracy is not None:
        lines.append(f"{result.test_accuracy:.1%} of the test pictures are right")
    if result.left_out:
        lines.append(f"{len(result.left_out)} pictures could not be read and are left out")
    return lines

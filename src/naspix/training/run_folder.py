"""The files of a run's folder beside its model: settings, last state, log, and the result.

Each is written whole or not at all; settings and state are read back, and compared with what is
asked for, by whoever goes on. ``last.safetensors`` holds the weights and the optimizer's tensors;
its header holds, as JSON, the history of epochs and the loss scale of mixed precision. No pickle:
reading runs no code.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from naspix.errors import InputError, OutputError, WeightsError
from naspix.files import write_whole, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "naspix-finetuning/1"
SETTINGS, RESULT, LAST = "settings.json", "result.json", "last.safetensors"
LOG, PICTURE = "log.csv", "log.png"

_TRAIN, _VAL, _BEST = "#7f8c9b", "#0b6e99", "#c0392b"


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


@dataclass(frozen=True)
class Result:
    """What a run has come to.

    Attributes:
        folder: `naspix.load_model` takes it.
        best: The epoch whose weights are kept.
        history: All epochs.
        test_loss: Of the kept weights on the test split; None without one.
        test_accuracy: Likewise, the share that is right.
        left_out: Pictures that could not be read, with the reason.
    """

    folder: str
    best: Epoch
    history: tuple[Epoch, ...]
    test_loss: float | None
    test_accuracy: float | None
    left_out: dict[str, str]


def best_epoch(history: tuple[Epoch, ...]) -> Epoch:
    """The first with the highest validation accuracy, and among equals with the smallest loss."""
    return max(history, key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss))


def is_begun(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether this very run is in a folder already.

    Raises:
        InputError: If it is another, with what differs.
    """
    if not (folder / SETTINGS).is_file():
        return False
    found = read_json(folder / SETTINGS)
    if found.get("schema") != SCHEMA:
        raise InputError(
            f"the run in {str(folder)!r} is of the form {found.get('schema')!r}, not {SCHEMA}; "
            "give another --output"
        )
    differing = [key for key in settings if found.get(key) != settings[key]]
    if differing:
        raise InputError(
            f"the run in {str(folder)!r} was begun with {_difference(found, settings, differing)}; "
            "give another --output, or the same settings to go on with it"
        )
    return True


def _difference(found: dict[str, Any], wanted: dict[str, Any], keys: list[str]) -> str:
    """The settings that differ, in words."""
    said = []
    for key in keys:
        before, now = found.get(key), wanted[key]
        if key == "classes":
            before = before if isinstance(before, list) else []
            said.append(f"other classes ({len(before)}, not {len(now)})")
        elif key == "fingerprint":
            said += [] if {"classes", "pictures"} & set(keys) else ["other pictures"]
        elif key == "pictures":
            said.append(f"other numbers of pictures ({before}, not {now})")
        else:
            said.append(f"{key} {before!r}, not {now!r}")
    return ", ".join(said)


def write_result(
    folder: Path, history: tuple[Epoch, ...], test: tuple[float, float] | None
) -> None:
    """Write what a finished run leaves, given loss and accuracy on its test split."""
    content = {
        "schema": SCHEMA,
        "best": asdict(best_epoch(history)),
        "history": [asdict(epoch) for epoch in history],
        "test_loss": test and test[0],
        "test_accuracy": test and test[1],
    }
    write_json(folder / RESULT, content)


def read_result(folder: Path, left_out: dict[str, str]) -> Result:
    """What `write_result` wrote, as a run hands it back."""
    found = read_json(folder / RESULT)
    return Result(
        folder=str(folder),
        best=Epoch(**found["best"]),
        history=tuple(Epoch(**epoch) for epoch in found["history"]),
        test_loss=found["test_loss"],
        test_accuracy=found["test_accuracy"],
        left_out=left_out,
    )


def read_json(path: Path) -> dict[str, Any]:
    """What a file of the run holds.

    Raises:
        OutputError: If it cannot be read.
    """
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{str(path)!r} of the run cannot be read ({error}); give another --output"
        ) from None
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file of the run, whole or not at all."""
    with written(path.parent), write_whole(path, durable=True) as file:
        file.write(f"{json.dumps(content, indent=1, ensure_ascii=False)}\n".encode())


def save_state(
    folder: Path,
    tensors: Mapping[str, Tensor],
    history: tuple[Epoch, ...],
    scale: Mapping[str, Any],
) -> None:
    """Write ``last.safetensors``: how far a run has got.

    Args:
        folder: Of the run.
        tensors: Of the network and its optimizer.
        history: The epochs so far.
        scale: State of the loss scaler; empty without one.
    """
    from safetensors.torch import save

    content = {k: tensor.detach().cpu().contiguous().clone() for k, tensor in tensors.items()}
    state = {"history": [asdict(epoch) for epoch in history], "scale": dict(scale)}
    with write_whole(folder / LAST, durable=True) as file:
        file.write(save(content, {"state": json.dumps(state)}))


def read_state(
    folder: Path,
) -> tuple[dict[str, Tensor], tuple[Epoch, ...], dict[str, Any]] | None:
    """What `save_state` was given; None if there is nothing yet.

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
        return tensors, history, dict(state["scale"])
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"the checkpoint {str(path)!r} is damaged ({error}); remove it to begin anew"
        ) from None


def write_log(folder: Path, history: tuple[Epoch, ...]) -> None:
    """Write ``log.csv`` anew, a line an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [one.name for one in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(epoch).items()}
        for epoch in history
    )
    with write_whole(folder / LOG, durable=True) as file:
        file.write(text.getvalue().encode())


def draw_log(folder: Path, history: tuple[Epoch, ...]) -> None:
    """Draw ``log.png`` anew."""
    with write_whole(folder / PICTURE, durable=True) as file:
        _log_figure(history).savefig(file, format="png")


def _log_figure(history: tuple[Epoch, ...]) -> "Figure":
    """Loss and accuracy over the epochs, the best one marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    epochs, best = [one.epoch for one in history], best_epoch(history)
    marker = "o" if len(epochs) == 1 else None
    panels = figure.subplots(1, 2)
    for ax, name in zip(panels, ("loss", "accuracy"), strict=True):
        for split, color, label in (("train", _TRAIN, "learning"), ("val", _VAL, "validation")):
            values = [getattr(one, f"{split}_{name}") for one in history]
            ax.plot(epochs, values, color=color, marker=marker, label=label)
        value = getattr(best, f"val_{name}")
        ax.plot(best.epoch, value, "o", color=_BEST, zorder=3, label=f"best: epoch {best.epoch}")
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="0.9")
    loss, accuracy = panels
    loss.set(title="Loss", ylim=(0, None))
    accuracy.set(title="Right", ylim=(0, 1))
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    accuracy.legend(frameon=False, loc="lower right")
    return figure

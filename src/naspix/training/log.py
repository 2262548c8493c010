"""The log of a run: ``log.csv``, a line an epoch, and ``log.png`` of the same."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from naspix.files import write_whole
from naspix.training.checkpoint import Epoch

LOG, PICTURE = "log.csv", "log.png"

_TRAIN, _VAL, _BEST = "#7f8c9b", "#0b6e99", "#c0392b"


def write_log(folder: Path, history: Sequence[Epoch]) -> None:
    """Write ``log.csv`` anew."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [one.name for one in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(epoch).items()}
        for epoch in history
    )
    with write_whole(folder / LOG, durable=True) as file:
        file.write(text.getvalue().encode())


def draw_log(folder: Path, history: Sequence[Epoch]) -> None:
    """Draw ``log.png`` anew."""
    with write_whole(folder / PICTURE, durable=True) as file:
        log_figure(history).savefig(file, format="png")


def log_figure(history: Sequence[Epoch]) -> Figure:
    """Loss and accuracy over the epochs, the best one marked."""
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    epochs = [one.epoch for one in history]
    _draw(loss, epochs, [one.train_loss for one in history], [one.val_loss for one in history])
    loss.set(title="Loss", ylim=(0, None))
    _draw(
        accuracy,
        epochs,
        [one.train_accuracy for one in history],
        [one.val_accuracy for one in history],
    )
    accuracy.set(title="Right", ylim=(0, 1))
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    best = max(history, key=lambda one: one.rank)
    for ax, value in ((loss, best.val_loss), (accuracy, best.val_accuracy)):
        ax.plot(best.epoch, value, "o", color=_BEST, zorder=3, label=f"best: epoch {best.epoch}")
    accuracy.legend(frameon=False, loc="lower right")
    return figure


def _draw(ax: Axes, epochs: list[int], train: list[float], val: list[float]) -> None:
    marker = "o" if len(epochs) == 1 else None
    ax.plot(epochs, train, color=_TRAIN, marker=marker, label="learning")
    ax.plot(epochs, val, color=_VAL, marker=marker, label="validation")
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.9")

"""An evaluation's curves: LeRF's mean curves (figure 6), localisation over thresholds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from naspix.experiments.evaluation.explaining import RAW
from naspix.experiments.evaluation.scores import IOUS, by_setting, overlaps_in
from naspix.experiments.evaluation.tables import title_of
from naspix.experiments.store import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = np.linspace(0, 1, 101)
_COLOURS = ("#5b6570", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_COLUMNS = 3

Lines = Mapping[tuple[str, str], Float64[np.ndarray, "lines points"]]


def curves_figure(run: Run) -> "Figure | None":
    """Draw a run's curves, a panel a method; None for runs without any."""
    if run.kind == "lerf":
        words = "Score of the class over the hidden share, mean over pictures, least relevant first"
        return _draw(mean_curves(run), POINTS, ("hidden share", "score"), words)
    if run.kind == "wsol":
        words = "Share of objects found at IoU 30, 50 and 70 over the threshold"
        thresholds = np.arange(0, 1, 0.001)
        return _draw(localization_curves(run), thresholds, ("threshold", "found"), words)
    return None


def mean_curves(run: Run) -> Lines:
    """Each setting's LeRF curve, mean over the pictures that have one, at 101 hidden shares."""
    frame = run.records(["index", "method", "segmenter", "auc", "fraction", "score"]).to_pandas()
    frame = frame[frame["auc"].notna()]
    return {
        setting: np.mean(
            [
                np.interp(POINTS, fraction, score)
                for fraction, score in zip(group["fraction"], group["score"], strict=True)
            ],
            axis=0,
        )[None]
        for setting, group in by_setting(frame)
    }


def localization_curves(run: Run) -> Lines:
    """Each setting's share of objects found over the threshold, a line for each IoU."""
    frame = run.records(["index", "method", "segmenter", "top", "cut", "iou"]).to_pandas()
    found = {}
    for setting, group in by_setting(frame):
        overlaps = overlaps_in(group)
        found[setting] = np.stack([(overlaps >= iou).mean(0) for iou in IOUS])
    return found


def _draw(
    lines: Lines, x: Float64[np.ndarray, " points"], labels: tuple[str, str], words: str
) -> "Figure | None":
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(method for method, _ in lines))
    segmenters = list(dict.fromkeys(segmenter for _, segmenter in lines))
    if not methods:
        return None
    n_rows = -(-len(methods) // _COLUMNS)
    n_columns = min(_COLUMNS, len(methods))
    figure = Figure(figsize=(3.4 * n_columns, 2.6 * n_rows), layout="constrained", label=words)
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat[len(methods) :]:
        panel.set_visible(False)
    for method, panel in zip(methods, panels.flat, strict=False):
        panel.set_title(title_of(method), fontsize=10)
        for segmenter, colour in zip(segmenters, _cycled(len(segmenters)), strict=True):
            several = lines.get((method, segmenter))
            if several is None:
                continue
            name = "raw" if segmenter == RAW else f"+{title_of(segmenter)}"
            for place, line in enumerate(several):
                style = ("-", "--", ":")[place % 3]
                label = name if place == 0 else None
                panel.plot(x, line, style, color=colour, lw=1.4, label=label)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    for panel in panels[:, 0]:
        panel.set_ylabel(labels[1], fontsize=9)
    for panel in panels.flat[max(0, len(methods) - n_columns) : len(methods)]:  # nothing below
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(labels[0], fontsize=9)
    handles, names = panels[0, 0].get_legend_handles_labels()
    for panel in panels.flat[1 : len(methods)]:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            if name not in names:
                handles.append(handle)
                names.append(name)
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9)
    return figure


def _cycled(n: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(n)]

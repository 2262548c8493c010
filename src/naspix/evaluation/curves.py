"""An evaluation's curves: LeRF's mean curves (figure 6), localisation over thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from naspix.evaluation.scores import IOUS, by_setting, overlaps_in
from naspix.evaluation.tables import title_of
from naspix.metrics.overlaps import THRESHOLDS
from naspix.pipeline import RAW
from naspix.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

POINTS = np.linspace(0, 1, 101)
_SCALED = "score, 1 with nothing hidden"
_COLOURS = ("#5b6570", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_COLUMNS = 3

Lines = Mapping[tuple[str, str], Float64[np.ndarray, "lines points"]]


@dataclass(frozen=True, eq=False)
class _Line:
    """A segmenter's curve in a panel.

    Attributes:
        y: At each x.
        band: Its lower and upper end; None for none.
        best: Where a dot marks the highest point; None for no dot.
    """

    y: Float64[np.ndarray, " points"]
    band: tuple[Float64[np.ndarray, " points"], Float64[np.ndarray, " points"]] | None = None
    best: int | None = None


Panels = Mapping[str, Mapping[str, _Line]]


def curves_figure(run: Run) -> "Figure | None":
    """Draw a run's curves; None for runs without any.

    LeRF has a panel a method, localisation one for each method and IoU, with a dot at the best
    threshold.
    """
    if run.kind == "lerf":
        words = (
            "Score of the class over the hidden share of the picture, mean over pictures with its "
            "95 % band, least relevant first"
        )
        return _draw(_lerf_panels(run), POINTS, ("hidden share of the picture", _SCALED), words)
    if run.kind == "wsol":
        words = (
            "Share of objects found at IoU 30, 50 and 70 over the threshold; a dot marks the best"
        )
        labels = ("threshold, share of the map's maximum", "objects found, %")
        return _draw(_localization_panels(run), THRESHOLDS, labels, words)
    return None


def mean_curves(run: Run) -> Lines:
    """Each setting's LeRF curve, mean over the pictures that have one, at 101 hidden shares."""
    return {setting: curves.mean(0)[None] for setting, curves in _lerf_curves(run).items()}


def localization_curves(run: Run) -> Lines:
    """Each setting's share of objects found over the threshold, a line for each IoU."""
    frame = run.records(["index", "method", "segmenter", "top", "cut", "iou"])
    found = {}
    for setting, group in by_setting(frame):
        overlaps = overlaps_in(group)
        found[setting] = np.stack([(overlaps >= iou).mean(0) for iou in IOUS])
    return found


def _lerf_curves(run: Run) -> Lines:
    """Each setting's LeRF curves, a row a picture that has one, at 101 hidden shares."""
    frame = run.records(["index", "method", "segmenter", "auc", "fraction", "score"])
    frame = frame[frame["auc"].notna()]
    return {setting: _at_points(group) for setting, group in by_setting(frame)}


def _at_points(group: "DataFrame") -> Float64[np.ndarray, "pictures points"]:
    pairs = zip(group["fraction"], group["score"], strict=True)
    return np.stack([np.interp(POINTS, fraction, score) for fraction, score in pairs])


def _lerf_panels(run: Run) -> Panels:
    from scipy.stats import t

    panels: dict[str, dict[str, _Line]] = {}
    for (method, segmenter), curves in _lerf_curves(run).items():
        n, mean = len(curves), curves.mean(0)
        band = None
        if n > 1:
            reach = curves.std(0, ddof=1) * float(t.ppf(0.975, n - 1)) / n**0.5
            band = (mean - reach, mean + reach)
        panels.setdefault(title_of(method), {})[segmenter] = _Line(mean, band)
    return panels


def _localization_panels(run: Run) -> Panels:
    panels: dict[str, dict[str, _Line]] = {}
    for (method, segmenter), lines in localization_curves(run).items():
        for iou, line in zip(IOUS, lines, strict=True):
            title = f"{title_of(method)}, IoU {100 * iou:.0f}"
            panels.setdefault(title, {})[segmenter] = _Line(100 * line, best=int(line.argmax()))
    return panels


def _draw(
    panels: Panels, x: Float64[np.ndarray, " points"], labels: tuple[str, str], words: str
) -> "Figure | None":
    from matplotlib.figure import Figure

    segmenters = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    if not panels:
        return None
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(segmenters)}
    n_rows, n_columns = -(-len(panels) // _COLUMNS), min(_COLUMNS, len(panels))
    size = (3.4 * n_columns, 2.6 * n_rows + 0.4)
    figure = Figure(figsize=size, layout="constrained", label=words)
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for spare in grid.flat[len(panels) :]:
        spare.set_visible(False)
    for (title, lines), panel in zip(panels.items(), grid.flat, strict=False):
        _draw_panel(panel, title, x, {colours[name]: line for name, line in lines.items()})
    for panel in grid[:, 0]:
        panel.set_ylabel(labels[1], fontsize=9)
    for panel in grid.flat[max(0, len(panels) - n_columns) : len(panels)]:  # nothing below
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(labels[0], fontsize=9)
    names = ["raw" if name == RAW else f"+{title_of(name)}" for name in segmenters]
    handles = [grid[0, 0].plot([], [], color=colours[name], lw=1.6)[0] for name in segmenters]
    # no more than fit beside each other
    n_beside = min(len(names), 2 * n_columns)
    figure.legend(
        handles, names, loc="outside lower center", ncols=n_beside, fontsize=9, frameon=False
    )
    return figure


def _draw_panel(
    panel: "Axes", title: str, x: Float64[np.ndarray, " points"], lines: Mapping[str, _Line]
) -> None:
    panel.set_title(title, fontsize=10)
    for colour, line in lines.items():
        if line.band is not None:
            panel.fill_between(x, *line.band, color=colour, alpha=0.12, lw=0)
        panel.plot(x, line.y, color=colour, lw=1.4)
        if line.best is not None:
            panel.plot(x[line.best], line.y[line.best], "o", color=colour, ms=4)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)

"""Curves from arrays: scores while an image is hidden (figure 6), accuracy over thresholds.

Each curve is a line, with its confidence band where there is one; matplotlib only, no pyplot.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from naspix.plots.colours import cluster_colours
from naspix.plots.figures import NotebookFigure

# low and high ends of a band
Band = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]


def draw_curves(
    x: Float[np.ndarray, " points"],
    curves: Mapping[str, Float[np.ndarray, " points"]],
    ax: Axes | None = None,
    *,
    bands: Mapping[str, Band] | None = None,
    xlabel: str = "share of the pixels hidden",
    ylabel: str = "score",
) -> Axes:
    """Draw curves over one axis, each with its band.

    Args:
        x: What the curves run over, from 0 to 1.
        curves: Name -> values; drawn in this order.
        ax: Where to draw; on a figure of its own by default.
        bands: Name -> its band's low and high ends, such as ``MeanCurve.low`` and ``high``.
        xlabel: Below the axis.
        ylabel: Beside the axis.

    Example:
        >>> x = np.linspace(0, 1, 5)
        >>> ax = draw_curves(x, {"nas": 1 - x**2}, bands={"nas": (0.9 - x**2, 1.1 - x**2)})
        >>> ax.get_xlabel()
        'share of the pixels hidden'
    """
    if ax is None:
        ax = NotebookFigure(5.0, 3.4).subplots()
    for (name, values), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        ax.plot(x, values, color=colour, label=name, linewidth=1.6)
        if bands is not None and name in bands:
            ax.fill_between(x, *bands[name], color=colour, alpha=0.18, linewidth=0)
    return _dressed(ax, xlabel, ylabel)


def draw_accuracy(
    threshold: Float[np.ndarray, " thresholds"],
    accuracy: Float[np.ndarray, "n_ious thresholds"],
    ious: Sequence[float],
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of images localised over the thresholds, the best of each IoU marked.

    Args:
        threshold: ``LocalizationCurve.threshold``.
        accuracy: ``LocalizationCurve.accuracy``.
        ious: ``LocalizationCurve.ious``.
        ax: Where to draw; on a figure of its own by default.

    Example:
        >>> ax = draw_accuracy(np.linspace(0, 1, 5), np.eye(2, 5), (0.5, 0.7))
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['IoU 50', 'IoU 70']
    """
    curves = {f"IoU {100 * iou:g}": row for iou, row in zip(ious, accuracy, strict=True)}
    ax = draw_curves(threshold, curves, ax, xlabel="threshold", ylabel="images localised")
    for row, colour in zip(accuracy, _colours(len(accuracy)), strict=True):
        best = int(row.argmax())
        ax.plot(threshold[best], row[best], "o", color=colour, markersize=5)
    return ax


def _colours(n: int) -> list[tuple[float, ...]]:
    return [tuple(colour / 255) for colour in cluster_colours(n)]


def _dressed(ax: Axes, xlabel: str, ylabel: str) -> Axes:
    ax.set_xlim(0, 1)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(frameon=False, fontsize=9)
    return ax

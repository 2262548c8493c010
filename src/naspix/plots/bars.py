"""Bars with intervals in groups, and matrices with their numbers; matplotlib only, no pyplot."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from naspix.plots.colours import cluster_colours
from naspix.plots.figures import NotebookFigure

_WIDTH = 0.8  # of a group


def draw_bars(
    bars: Mapping[str, Sequence[float]],
    groups: Sequence[str],
    ax: Axes | None = None,
    *,
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    ylabel: str = "",
) -> Axes:
    """Draw bars side by side in groups.

    Args:
        bars: What a colour means -> a value for each group.
        groups: Names below the axis.
        ax: Where to draw; on a figure of its own by default.
        intervals: The same -> low and high ends for each group.
        ylabel: Beside the axis.

    Example:
        >>> ax = draw_bars({"NAS": [0.2, 0.4], "SLIC": [0.1, 0.3]}, ["cat", "dog"])
        >>> len(ax.patches)
        4
    """
    if ax is None:
        ax = NotebookFigure(max(4.0, 0.5 * len(bars) * len(groups)), 3.2).subplots()
    places, width = np.arange(len(groups)), _WIDTH / len(bars)
    colours = cluster_colours(len(bars)) / 255
    for number, (name, values) in enumerate(bars.items()):
        at = places + (number + 0.5) * width - _WIDTH / 2
        ax.bar(at, values, width, color=tuple(colours[number]), label=name)
        if intervals is not None and name in intervals:
            low, high = np.array(intervals[name], np.float64).T
            ax.vlines(at, low, high, color="#222", linewidth=1.2)
    ax.set_xticks(places, groups, fontsize=9)
    ax.set_ylabel(ylabel)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if len(bars) > 1:
        ax.legend(frameon=False, fontsize=9)
    return ax


def draw_matrix(
    values: Float[np.ndarray, "n n"],
    names: Sequence[str],
    ax: Axes | None = None,
    *,
    title: str = "",
) -> Axes:
    """Draw a square matrix of values from -1 to 1, or 0 to 1, each with its number.

    Args:
        values: NaN is left empty.
        names: Of rows and columns.
        ax: Where to draw; on a figure of its own by default.
        title: Above.

    Example:
        >>> ax = draw_matrix(np.eye(2), ["one", "two"])
        >>> [text.get_text() for text in ax.texts]
        ['1.00', '0.00', '0.00', '1.00']
    """
    n = len(names)
    if ax is None:
        ax = NotebookFigure(1.6 + 0.5 * n, 1.3 + 0.45 * n).subplots()
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1.4)
    for row, column in np.ndindex(n, n):
        if np.isfinite(values[row, column]):
            text = f"{values[row, column]:.2f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=8)
    ax.set_xticks(range(n), names, fontsize=8, rotation=45, ha="right")
    ax.set_yticks(range(n), names, fontsize=8)
    ax.set_title(title, fontsize=9)
    return ax

"""Rates as bars, a panel a condition, so that orders of magnitude can be seen."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from naspix.plots.colours import cluster_colours
from naspix.plots.figures import NotebookFigure

_LETTERS = 8.5


def draw_rates(panels: Mapping[str, Mapping[str, float]], *, xlabel: str = "a second") -> Figure:
    """Draw bars on logarithmic axes, side by side; what begins alike has one colour.

    Args:
        panels: Panel's name -> bar's name -> rate, larger than 0.
        xlabel: Below the axes.

    Example:
        >>> figure = draw_rates({"CPU": {"NAS, a": 100.0, "NAS, b": 50.0, "SLIC": 200.0}})
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['100', '50', '200']
    """
    names = list(dict.fromkeys(name for bars in panels.values() for name in bars))
    kinds = list(dict.fromkeys(name.split(",")[0] for name in names))
    colours = cluster_colours(len(kinds)) / 255
    longest = max(map(len, names))
    figure = NotebookFigure(0.075 * longest + 2.3 * len(panels), 0.7 + 0.24 * len(names))
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (title, bars) in zip(axes, panels.items(), strict=True):
        for place, name in enumerate(names):
            if name in bars:
                colour = colours[kinds.index(name.split(",")[0])]
                ax.barh(place, bars[name], height=0.7, color=colour)
                ax.annotate(
                    f"{bars[name]:.0f}" if bars[name] >= 10 else f"{bars[name]:.2g}",
                    (bars[name], place),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=_LETTERS - 1,
                )
        ax.set_xscale("log")
        ax.set_xlim(min(bars.values()) / 2, max(bars.values()) * 3)
        ax.set_title(title, fontsize=_LETTERS)
        ax.set_xlabel(xlabel, fontsize=_LETTERS)
        ax.tick_params(labelsize=_LETTERS - 1)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure

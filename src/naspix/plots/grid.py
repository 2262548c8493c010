"""A grid of pictures with names beside its rows and above its columns, as papers print them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from naspix.plots.figures import NotebookFigure

_SIZE = 1.55  # inches a picture is wide
_LETTERS = 8.5


def grid_figure(
    pictures: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str],
    rows: Sequence[str] = (),
    *,
    notes: Sequence[Sequence[str]] = (),
    title: str = "",
    width: float = _SIZE,
) -> Figure:
    """Draw pictures of one shape in rows and columns.

    Args:
        pictures: For each row a picture ``(y, x, 3)`` a column; None leaves a place empty.
        columns: Names above the columns.
        rows: Names beside the rows.
        notes: A few words below each picture.
        title: Above everything.
        width: Of a picture, in inches.

    Example:
        >>> white = np.full((4, 6, 3), 255, np.uint8)
        >>> figure = grid_figure([[white, white], [white, None]], ["one", "two"], ["a", "b"])
        >>> [text.get_text() for text in (figure.axes[0].title, figure.axes[2].yaxis.label)]
        ['one', 'b']
    """
    shape = next(each.shape for row in pictures for each in row if each is not None)
    height = width * shape[0] / shape[1]
    figure = NotebookFigure(
        len(columns) * (width + 0.05) + (0.22 if rows else 0.02),
        len(pictures) * (height + (0.2 if notes else 0.05)) + 0.22 + (0.28 if title else 0),
    )
    axes = figure.subplots(len(pictures), len(columns), squeeze=False)
    for down, (row, places) in enumerate(zip(pictures, axes, strict=True)):
        for across, (picture, ax) in enumerate(zip(row, places, strict=True)):
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set_visible(False)
            if picture is not None:
                ax.imshow(picture)
            if down == 0:
                ax.set_title(columns[across], fontsize=_LETTERS, pad=3)
            if across == 0 and rows:
                ax.set_ylabel(rows[down], fontsize=_LETTERS, labelpad=3)
            if notes and notes[down][across]:
                ax.set_xlabel(notes[down][across], fontsize=_LETTERS - 1.5, labelpad=2)
    if title:
        figure.suptitle(title, fontsize=_LETTERS + 1)
    return figure

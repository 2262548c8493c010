"""Arrays -> matplotlib axes and figures: what a notebook shows and a paper prints.

The figures are made without pyplot, so they work in threads and without a screen, and need no
closing. ``explanation_figure`` has the layout of the paper's figure 5.
"""

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from naspix.plots.colours import Scale, saliency_scale, unit_scale
from naspix.plots.pictures import (
    ORDER_COLOURS,
    boundary_picture,
    cluster_picture,
    order_picture,
    overlay_picture,
    photo_picture,
    saliency_picture,
)

if TYPE_CHECKING:
    from matplotlib.colorbar import Colorbar

_PANEL = 2.3  # inches a photo is wide
_TITLE_SIZE = 10
_COLUMNS = 6  # methods beside each other


class NotebookFigure(Figure):
    """A figure that a notebook shows although pyplot does not know it."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=110, layout="compressed")
        FigureCanvasAgg(self)

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        data = base64.b64encode(buffer.getvalue()).decode()
        return f'<img alt="figure" style="max-width:100%" src="data:image/png;base64,{data}">'


def figure_bytes(
    figure: Figure, kind: str, *, dpi: float | None = None, title: str | None = None
) -> bytes:
    """A figure as a file's content: the same figure, the same bytes; letters stay letters.

    Args:
        figure: To be written.
        kind: ``"svg"``, ``"pdf"`` or ``"png"``.
        dpi: Dots an inch; the figure's own by default.
        title: That a pdf has.
    """
    from matplotlib import rc_context

    content = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "Title": title}}.get(kind)
    with rc_context({"svg.hashsalt": "naspix", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(
            content, format=kind, dpi=dpi or "figure", bbox_inches="tight", metadata=metadata
        )
    return content.getvalue()


def draw_photo(image: Float[np.ndarray, "H W C"], ax: Axes | None = None) -> Axes:
    """Draw the photo.

    Args:
        image: Values in [0, 1].
        ax: Where to draw; on a figure of its own by default.
    """
    return _show(photo_picture(image), ax)


def draw_segmentation(
    image: Float[np.ndarray, "H W C"],
    clusters: Int[np.ndarray, "H W"],
    superpixels: Int[np.ndarray, "H W"],
    ax: Axes | None = None,
) -> Axes:
    """Draw the clusters' colours over the photo, with the superpixels' boundaries.

    Args:
        image: Values in [0, 1].
        clusters: Numbers from 0.
        superpixels: Their boundaries are drawn.
        ax: Where to draw; on a figure of its own by default.

    Example:
        >>> halves = np.array([[0, 1], [0, 1]])
        >>> ax = draw_segmentation(np.ones((2, 2, 3)), halves, halves)
    """
    return _show(cluster_picture(image, clusters, superpixels, zoom=_zoom(image)), ax)


def draw_saliency(
    saliency: Float[np.ndarray, "H W"],
    ax: Axes | None = None,
    *,
    scale: Scale | None = None,
    bar: bool = True,
) -> Axes:
    """Draw a saliency map.

    Args:
        saliency: Higher is more relevant; a map with negative values gets diverging colours.
        ax: Where to draw; on a figure of its own by default.
        scale: The colours; by default the map fills them.
        bar: Whether a colour bar is drawn beside it.
    """
    scale = saliency_scale(saliency) if scale is None else scale
    ax = _show(saliency_picture(saliency, scale), ax)
    if bar:
        _add_bar(ax, scale)
    return ax


def draw_overlay(
    image: Float[np.ndarray, "H W C"],
    saliency: Float[np.ndarray, "H W"],
    ax: Axes | None = None,
    *,
    scale: Scale | None = None,
    opacity: float = 0.6,
) -> Axes:
    """Draw a saliency map over the photo in grey.

    Args:
        image: Values in [0, 1].
        saliency: In the same frame as the image.
        ax: Where to draw; on a figure of its own by default.
        scale: The colours; by default the map fills them.
        opacity: That of the most salient pixels.
    """
    scale = saliency_scale(saliency) if scale is None else scale
    return _show(overlay_picture(image, saliency, scale, opacity=opacity), ax)


def draw_order(order: Int[np.ndarray, "H W"], ax: Axes | None = None) -> Axes:
    """Draw the order in which superpixels are hidden, blue first and red last.

    Args:
        order: At each pixel the step at which its superpixel is hidden, from 0.
        ax: Where to draw; on a figure of its own by default.
    """
    return _show(order_picture(order, zoom=max(1, round(448 / max(order.shape)))), ax)


def segmentation_figure(
    image: Float[np.ndarray, "H W C"],
    clusters: Int[np.ndarray, "H W"],
    superpixels: Int[np.ndarray, "H W"],
    title: str = "",
) -> Figure:
    """The photo with its superpixels' boundaries, and the clusters, side by side."""
    height = _PANEL * image.shape[0] / image.shape[1]
    figure = NotebookFigure(2 * _PANEL, height + 0.35 + (0.3 if title else 0))
    left, right = figure.subplots(1, 2)
    _show(boundary_picture(image, superpixels, zoom=_zoom(image)), left)
    draw_segmentation(image, clusters, superpixels, right)
    left.set_title(_counted(len(np.unique(superpixels)), "superpixel"), fontsize=_TITLE_SIZE)
    right.set_title(_counted(len(np.unique(clusters)), "cluster"), fontsize=_TITLE_SIZE)
    if title:
        figure.suptitle(title, fontsize=_TITLE_SIZE + 1)
    return figure


def explanation_figure(
    image: Float[np.ndarray, "H W C"],
    segmentations: Mapping[str, tuple[Int[np.ndarray, "H W"], Int[np.ndarray, "H W"]]],
    raw: Mapping[str, Float[np.ndarray, "H W"]],
    pooled: Mapping[tuple[str, str], Float[np.ndarray, "H W"]],
    title: str = "",
    *,
    orders: Mapping[str, Int[np.ndarray, "H W"]] | None = None,
    scale: Literal["unit", "own"] = "unit",
) -> Figure:
    """Draw one photo's explanation as the paper's figure 5 does.

    A row for each segmenter, a column for each method. The first row is the photo and the methods'
    maps as they are, each further row one segmenter's clusters and the same maps pooled over its
    superpixels. More than six methods continue in further rows. One method alone is also laid over
    the photo.

    Args:
        image: Values in [0, 1].
        segmentations: Segmenter's name -> clusters and superpixels.
        raw: Method's name -> its saliency map.
        pooled: ``(method, segmenter)`` -> the map pooled.
        title: Stands above everything.
        orders: Segmenter's name -> at each pixel the step, from 0, at which its superpixel is
            hidden: a last column, blue hidden first and red last.
        scale: ``"unit"`` brings every map to 0 to 1 by its least and largest value, so that all
            share their colours; ``"own"`` leaves maps that may be negative zero in the middle.

    Example:
        >>> halves, heat = np.array([[0, 1], [0, 1]]), np.eye(2)
        >>> figure = explanation_figure(
        ...     np.ones((2, 2, 3)), {"nas": (halves, halves)}, {"cam": heat}, {("cam", "nas"): heat}
        ... )
        >>> len(figure.axes)
        7
    """
    orders = orders or {}
    methods = list(raw)
    blocks = [methods[i : i + _COLUMNS] for i in range(0, len(methods), _COLUMNS)]
    overlaid = len(methods) == 1
    height = 1 + len(segmentations)
    n_rows = height * len(blocks)
    n_columns = 1 + len(blocks[0]) + overlaid + bool(orders)
    scales = {
        key: _scale_of(heat, scale, signed=bool(raw[_method_of(key)].min() < 0), pooled=pooled_one)
        for maps, pooled_one in ((raw, False), (pooled, True))
        for key, heat in maps.items()
    }
    kinds = sorted({one.signed for one in scales.values()})
    figure = NotebookFigure(
        n_columns * (_PANEL + 0.08) + 0.72 * (len(kinds) + bool(orders)),
        n_rows * (_PANEL * image.shape[0] / image.shape[1] + 0.27) + (0.35 if title else 0.05),
    )
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for top, block in enumerate(blocks):
        rows = axes[height * top : height * (top + 1)]
        _title(draw_photo(image, rows[0, 0]), "photo")
        for row, (segmenter, (clusters, superpixels)) in zip(
            rows[1:], segmentations.items(), strict=True
        ):
            ax = draw_segmentation(image, clusters, superpixels, row[0])
            _title(ax, f"{segmenter}: {_counted(len(np.unique(superpixels)), 'superpixel')}")
        for column, method in enumerate(block, start=1):
            maps: list[tuple[str, str | tuple[str, str], np.ndarray]] = [("", method, raw[method])]
            maps += [(f" over {s}", (method, s), pooled[method, s]) for s in segmentations]
            for row, (over, key, heat) in zip(rows, maps, strict=True):
                ax = draw_saliency(heat, row[column], scale=scales[key], bar=False)
                _title(ax, method + over)
                if overlaid:
                    over_photo = draw_overlay(image, heat, row[column + 1], scale=scales[key])
                    _title(over_photo, "over the photo")
    for row, segmenter in zip(axes[1:height], segmentations, strict=True):
        if segmenter in orders:
            _title(draw_order(orders[segmenter], row[-1]), f"order over {segmenter}")
    for kind in kinds:
        bar = _add_bar(list(axes[:, -1]), Scale(0.0, 1.0, kind))
        bar.set_label("relative saliency", fontsize=_TITLE_SIZE - 1)
    if orders:
        _add_order_bar(list(axes[:, -1]))
    if title:
        figure.suptitle(title, fontsize=_TITLE_SIZE + 1)
    return figure


def _method_of(key: str | tuple[str, str]) -> str:
    return key if isinstance(key, str) else key[0]


def _scale_of(heat: Float[np.ndarray, "H W"], kind: str, *, signed: bool, pooled: bool) -> Scale:
    outliers = 0.01 if pooled else 0.005
    if kind == "unit":
        # tiny superpixels must not leave a pooled map black; of a raw map's pixels both ends go
        return unit_scale(heat, outliers=outliers)
    return saliency_scale(heat, signed=signed, outliers=outliers)


def _show(picture: np.ndarray, ax: Axes | None) -> Axes:
    if ax is None:
        figure = NotebookFigure(1.5 * _PANEL, 1.5 * _PANEL * picture.shape[0] / picture.shape[1])
        ax = figure.subplots()
    ax.imshow(picture)
    ax.set_axis_off()
    return ax


def _add_bar(axes: Axes | list[Axes], scale: Scale) -> "Colorbar":
    """A bar from 0 (or -1) to 1, the ends of the scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    first = axes[0] if isinstance(axes, list) else axes
    colours = ScalarMappable(Normalize(-1 if scale.signed else 0, 1), scale.colormap)
    bar = first.figure.colorbar(colours, ax=axes, fraction=0.06, pad=0.03, aspect=30)
    ticks = [-1, 0, 1] if scale.signed else [0, 0.5, 1]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.ax.tick_params(labelsize=_TITLE_SIZE - 2)
    return bar


def _add_order_bar(axes: list[Axes]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(0, 1), ORDER_COLOURS)
    bar = axes[0].figure.colorbar(colours, ax=axes, fraction=0.06, pad=0.03, aspect=30)
    bar.set_ticks([0, 1], labels=["first", "last"])
    bar.set_label("hidden", fontsize=_TITLE_SIZE - 1)
    bar.ax.tick_params(labelsize=_TITLE_SIZE - 2)


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, fontsize=_TITLE_SIZE, pad=3)


def _zoom(image: Float[np.ndarray, "H W C"]) -> int:
    """Boundaries on a small photo want finer lines than its pixels."""
    return max(1, round(448 / int(max(image.shape[:2]))))


def _counted(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"

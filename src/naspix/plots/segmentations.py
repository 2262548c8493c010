"""How a batch of segmentations looks: a matplotlib figure, and a strip of pictures for notebooks.

In: label maps ``(B, H, W)``, and the photos where there are any. Out: a figure, or HTML that needs
nothing from elsewhere.
"""

import base64
import html
import io

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from naspix.plots.figures import NotebookFigure, draw_photo, draw_segmentation
from naspix.plots.pictures import cluster_picture

_SHOWN_IMAGES = 6  # in a notebook, of a larger batch
_THUMBNAIL_SIDE = 160  # pixels
_PANEL = 2.4  # inches a panel is wide


def batch_figure(
    clusters: Int[np.ndarray, "B H W"],
    superpixels: Int[np.ndarray, "B H W"],
    photos: Float[np.ndarray, "B H W C"] | None = None,
) -> Figure:
    """Draw a row for each image: the photo where there is one, and its clusters and superpixels.

    Args:
        clusters: Numbers from 0.
        superpixels: Their boundaries are drawn.
        photos: Values in [0, 1]; white lies below the clusters without them.

    Example:
        >>> halves = np.array([[[0, 1], [0, 1]]])
        >>> len(batch_figure(halves, halves, np.ones((1, 2, 2, 3))).axes)
        2
    """
    n_images, height, width = clusters.shape
    n_columns = 1 if photos is None else 2
    figure = NotebookFigure(n_columns * _PANEL, n_images * (_PANEL * height / width + 0.3))
    below = np.ones((*clusters.shape, 3), np.float32) if photos is None else photos
    for b, row in enumerate(figure.subplots(n_images, n_columns, squeeze=False)):
        if photos is not None:
            draw_photo(photos[b], row[0])
        draw_segmentation(below[b], clusters[b], superpixels[b], row[-1])
        row[-1].set_title(_counts(clusters[b], superpixels[b]), fontsize=9)
    return figure


def batch_html(
    clusters: Int[np.ndarray, "B H W"], superpixels: Int[np.ndarray, "B H W"], source: str
) -> str:
    """Return a strip of thumbnails, clusters in colour and superpixels outlined, with counts.

    Args:
        clusters: Numbers from 0.
        superpixels: Their boundaries are drawn.
        source: What made them.
    """
    shown = min(len(clusters), _SHOWN_IMAGES)
    cells = [
        "<figure style='display:inline-block;margin:0 12px 8px 0;text-align:center'>"
        f"<img alt='clusters of image {b}' style='border-radius:4px' "
        f"src='data:image/png;base64,{_thumbnail(clusters[b], superpixels[b])}'>"
        "<figcaption style='font-size:85%;opacity:.8'>"
        f"{_counts(clusters[b], superpixels[b])}</figcaption></figure>"
        for b in range(shown)
    ]
    hidden = len(clusters) - shown
    more = f"<div style='opacity:.7'>and {hidden} more</div>" if hidden else ""
    height, width = clusters.shape[1:]
    made_by = f" by <code>{html.escape(source)}</code>" if source else ""
    return (
        "<div style='font-family:system-ui,sans-serif'>"
        f"<div style='margin-bottom:6px'><b>Segmentation</b>{made_by}, "
        f"{height}&thinsp;&times;&thinsp;{width} pixels</div>{''.join(cells)}{more}</div>"
    )


def _counts(clusters: Int[np.ndarray, "H W"], superpixels: Int[np.ndarray, "H W"]) -> str:
    n_clusters, n_superpixels = len(np.unique(clusters)), len(np.unique(superpixels))
    return (
        f"{n_clusters} cluster{'s' if n_clusters != 1 else ''}, "
        f"{n_superpixels} superpixel{'s' if n_superpixels != 1 else ''}"
    )


def _thumbnail(clusters: Int[np.ndarray, "H W"], superpixels: Int[np.ndarray, "H W"]) -> str:
    """Return a PNG in base64: clusters in colour, superpixels outlined in white."""
    from PIL import Image

    blank = np.ones((*clusters.shape, 3))
    zoom = max(1, round(_THUMBNAIL_SIDE / max(clusters.shape)))
    picture = Image.fromarray(cluster_picture(blank, clusters, superpixels, opacity=0.9, zoom=zoom))
    picture.thumbnail((2 * _THUMBNAIL_SIDE, 2 * _THUMBNAIL_SIDE))
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()

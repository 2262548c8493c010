"""How a segmentation looks: a matplotlib figure, and a strip of pictures for notebooks.

In: a ``Segmentation``, and its images where there are any. Out: a figure, or HTML that needs
nothing from elsewhere. Colours and drawing are those of ``naspix.plots``, imported when needed.
"""

import base64
import html as markup
import io
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from naspix.segmentation.segmentation import Segmentation

_SHOWN_IMAGES = 6  # in a notebook, of a larger batch
_THUMBNAIL_SIDE = 160  # pixels
_PANEL = 2.4  # inches a panel is wide


def figure(segmentation: "Segmentation", images: Tensor | None) -> "Figure":
    """Draw a row of panels for each image; see ``Segmentation.plot``."""
    from naspix.plots import draw_photo, draw_segmentation
    from naspix.plots.figures import NotebookFigure

    n_images, (height, width) = len(segmentation), segmentation.size
    photos = _photos(segmentation, images)
    n_columns = 1 if images is None else 2
    drawn = NotebookFigure(n_columns * _PANEL, n_images * (_PANEL * height / width + 0.3))
    axes = drawn.subplots(n_images, n_columns, squeeze=False)
    clusters = segmentation.clusters.cpu().numpy()
    superpixels = segmentation.superpixels.cpu().numpy()
    for b, row in enumerate(axes):
        if images is not None:
            draw_photo(photos[b], row[0])
        draw_segmentation(photos[b], clusters[b], superpixels[b], row[-1])
        row[-1].set_title(_counts(segmentation, b), fontsize=9)
    return drawn


def html(segmentation: "Segmentation") -> str:
    """Return a strip of thumbnails, clusters in colour and superpixels outlined, with counts."""
    shown = min(len(segmentation), _SHOWN_IMAGES)
    clusters = segmentation.clusters[:shown].cpu().numpy()
    superpixels = segmentation.superpixels[:shown].cpu().numpy()
    cells = [
        "<figure style='display:inline-block;margin:0 12px 8px 0;text-align:center'>"
        f"<img alt='clusters of image {b}' style='border-radius:4px' "
        f"src='data:image/png;base64,{_thumbnail(clusters[b], superpixels[b])}'>"
        f"<figcaption style='font-size:85%;opacity:.8'>{_counts(segmentation, b)}</figcaption>"
        "</figure>"
        for b in range(shown)
    ]
    hidden = len(segmentation) - shown
    more = f"<div style='opacity:.7'>and {hidden} more</div>" if hidden else ""
    height, width = segmentation.size
    source = markup.escape(segmentation.source)
    made_by = f" by <code>{source}</code>" if source else ""
    return (
        "<div style='font-family:system-ui,sans-serif'>"
        f"<div style='margin-bottom:6px'><b>Segmentation</b>{made_by}, "
        f"{height}&thinsp;&times;&thinsp;{width} pixels</div>{''.join(cells)}{more}</div>"
    )


def _photos(segmentation: "Segmentation", images: Tensor | None) -> Float[np.ndarray, "B H W C"]:
    """Return what lies below the clusters: the images, or white."""
    shape = (len(segmentation), *segmentation.size)
    if images is None:
        return np.ones((*shape, 3), np.float32)
    if images.ndim != 4 or (images.shape[0], *images.shape[2:]) != shape:
        raise InputError(
            f"images have the shape {tuple(images.shape)}, the segmentation is of {shape[0]} "
            f"images of {shape[1]}x{shape[2]} pixels; give the images that were segmented"
        )
    return np.asarray(images.detach().float().cpu().permute(0, 2, 3, 1).numpy())


def _counts(segmentation: "Segmentation", index: int) -> str:
    n_clusters = int(segmentation.n_clusters[index])
    n_superpixels = int(segmentation.n_superpixels[index])
    return (
        f"{n_clusters} cluster{'s' if n_clusters != 1 else ''}, "
        f"{n_superpixels} superpixel{'s' if n_superpixels != 1 else ''}"
    )


def _thumbnail(clusters: Int64[np.ndarray, "H W"], superpixels: Int64[np.ndarray, "H W"]) -> str:
    """Return a PNG in base64: clusters in colour, superpixels outlined in white."""
    from PIL import Image

    from naspix.plots import cluster_picture

    blank = np.ones((*clusters.shape, 3))
    zoom = max(1, round(_THUMBNAIL_SIDE / max(clusters.shape)))
    picture = Image.fromarray(cluster_picture(blank, clusters, superpixels, opacity=0.9, zoom=zoom))
    picture.thumbnail((2 * _THUMBNAIL_SIDE, 2 * _THUMBNAIL_SIDE))
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()

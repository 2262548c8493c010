"""How a segmentation looks: a matplotlib figure, and a small table with pictures for notebooks.

In: a ``Segmentation``. Out: a figure or HTML that needs nothing from elsewhere.
"""

import base64
import html as markup
import io
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from naspix.segmentation.storage import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from naspix.segmentation.segmentation import Segmentation

_SHOWN_IMAGES = 6  # in a notebook, of a larger batch
_THUMBNAIL_SIDE = 160  # pixels


def figure(segmentation: "Segmentation", images: Tensor | None) -> "Figure":
    """Draw a row of axes for each image; see ``Segmentation.plot``."""
    raise NotImplementedError


def html(segmentation: "Segmentation") -> str:
    """Return a strip of thumbnails, clusters in colour and superpixels outlined, with counts."""
    cells = []
    shown = range(min(len(segmentation), _SHOWN_IMAGES))
    clusters = segmentation.clusters.cpu().numpy()
    outlines = segmentation.boundaries().cpu().numpy()
    n_clusters, n_superpixels = segmentation.n_clusters, segmentation.n_superpixels
    for b in shown:
        picture = _thumbnail(clusters[b], outlines[b])
        cells.append(
            "<figure style='display:inline-block;margin:0 12px 8px 0;text-align:center'>"
            f"<img alt='clusters of image {b}' style='image-rendering:pixelated;border-radius:4px' "
            f"src='data:image/png;base64,{picture}'>"
            f"<figcaption style='font-size:85%;opacity:.8'>{int(n_clusters[b])} clusters, "
            f"{int(n_superpixels[b])} superpixels</figcaption></figure>"
        )
    hidden = len(segmentation) - len(shown)
    more = f"<div style='opacity:.7'>and {hidden} more</div>" if hidden else ""
    height, width = segmentation.size
    made_by = (
        f" by <code>{markup.escape(segmentation.source)}</code>" if segmentation.source else ""
    )
    return (
        "<div style='font-family:system-ui,sans-serif'>"
        f"<div style='margin-bottom:6px'><b>Segmentation</b>{made_by}, "
        f"{height}&thinsp;&times;&thinsp;{width} pixels</div>{''.join(cells)}{more}</div>"
    )


def _thumbnail(clusters: Int64[np.ndarray, "H W"], outlines: np.ndarray) -> str:
    """Return a PNG in base64: clusters in colour, superpixels outlined in white."""
    from PIL import Image

    colors = palette(int(clusters.max()) + 1)[clusters]
    colors[outlines] = 255
    image = Image.fromarray(colors)
    scale = _THUMBNAIL_SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    content = io.BytesIO()
    image.resize(size, way).save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()

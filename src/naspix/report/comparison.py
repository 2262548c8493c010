"""Several methods side by side: for each its map as it is, and pooled over each segmenter.

In: a ``PhotoExplanation``. Out: a card a method, of small pictures on one scale from 0 to 1, so
that fifteen methods over several segmenters fit on a page and into its bytes. The folder's PNG
files keep each map's own scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from naspix import plots
from naspix.report.gallery import CaptionedPicture
from naspix.report.record import PhotoExplanation

_SIDE = 160  # pixels a picture has at least; smaller photos are drawn larger by a whole factor


@dataclass(frozen=True)
class Card:
    """One method's pictures.

    Attributes:
        title: How people write the method's name.
        pictures: As it is first, then over each segmenter.
    """

    title: str
    pictures: tuple[CaptionedPicture, ...]


def comparison(photo: PhotoExplanation) -> Iterator[Card]:
    """List the cards of one photo, in the order of its methods."""
    side = max(photo.image.shape[:2])
    zoom = max(1, -(-_SIDE // side))
    for method, raw in photo.raw.items():
        title = photo.title(method)
        pictures = [_picture(title, "as it is", raw, zoom, pooled=False)]
        pictures += [
            _picture(
                title,
                f"over {photo.title(segmenter)}",
                photo.pooled[method, segmenter],
                zoom,
                pooled=True,
            )
            for segmenter in photo.segmentations
        ]
        yield Card(title, tuple(pictures))


def _picture(
    title: str, how: str, heat: Float[np.ndarray, "H W"], zoom: int, *, pooled: bool
) -> CaptionedPicture:
    scale = plots.unit_scale(heat, outliers=0.01 if pooled else 0.005)
    return CaptionedPicture(
        kind="",
        caption=how,
        description=(
            f"Saliency of {title}, {how}, from {_short(float(heat.min()))} to "
            f"{_short(float(heat.max()))}"
        ),
        draw=partial(plots.saliency_picture, heat, scale, zoom=zoom),
        flat=pooled,
        note=f"{_short(float(heat.min()))} to {_short(float(heat.max()))}",
    )


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}")

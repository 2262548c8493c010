"""Which pictures are shown of a photo, in which order, with which words.

In: a ``PhotoExplanation``. Out: captioned pictures, each made when it is asked for, so that neither
the folder's PNG files nor the page hold more than one at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, UInt8

from naspix import plots
from naspix.plots import Scale
from naspix.report.record import PhotoExplanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# pixels that a picture has at least; smaller photos are drawn larger by a whole factor
_SIDE, _SMALL_SIDE = 448, 160


@dataclass(frozen=True)
class CaptionedPicture:
    """A picture and what it says.

    Attributes:
        kind: Names its file, such as ``"pooled-grad_cam-nas"``.
        caption: A few words below it.
        description: For people who do not see it.
        draw: Makes the pixels.
        scale: What its colours mean, if they mean saliency.
        flat: Whether it has few colours.
        group: Pictures of one group stand together.
        note: Smaller, after the caption.
    """

    kind: str
    caption: str
    description: str
    draw: Callable[[], UInt8[np.ndarray, "H W 3"]]
    scale: Scale | None = None
    flat: bool = False
    group: str = ""
    note: str = ""


def gallery(photo: PhotoExplanation) -> Iterator[CaptionedPicture]:
    """List the pictures of one photo.

    The photo; with each segmenter's boundaries and clusters, and the greedy order where it was
    asked for; each method's raw map; and the map pooled over each segmenter's superpixels, alone
    and over the photo; and what suffices and is needed, where that was asked for.
    """
    image = photo.image
    zoom = max(1, -(-_SIDE // max(image.shape[:2]))) if max(image.shape[:2]) < _SIDE else 1
    yield CaptionedPicture(
        "photo",
        "Photo",
        f"The photo {photo.name}",
        lambda: plots.photo_picture(image, zoom=zoom),
    )
    for segmenter, (clusters, superpixels) in photo.segmentations.items():
        yield from _segmentation_pictures(photo, segmenter, clusters, superpixels, zoom)
    for method, raw in photo.raw.items():
        title = photo.title(method)
        scale = plots.saliency_scale(raw, outliers=0.005)
        yield CaptionedPicture(
            f"raw-{method}",
            f"{title}, as it is",
            f"Saliency map of {title} for {photo.target.name}",
            partial(plots.saliency_picture, raw, scale, zoom=zoom),
            scale,
            group=title,
        )
        for segmenter in photo.segmentations:
            pooled = photo.pooled[method, segmenter]
            yield from _pooled_pictures(photo, method, segmenter, pooled, scale.signed, zoom)
            yield from _deciding_pictures(photo, method, segmenter, zoom)


def _segmentation_pictures(
    photo: PhotoExplanation,
    segmenter: str,
    clusters: np.ndarray,
    superpixels: np.ndarray,
    zoom: int,
) -> Iterator[CaptionedPicture]:
    title = photo.title(segmenter)
    n_superpixels, n_clusters = len(np.unique(superpixels)), len(np.unique(clusters))
    yield CaptionedPicture(
        f"boundaries-{segmenter}",
        f"{title}: {_counted(n_superpixels, 'superpixel')}",
        f"The photo with the boundaries of {_counted(n_superpixels, 'superpixel')} by {title}",
        lambda: plots.boundary_picture(photo.image, superpixels, zoom=zoom),
    )
    # a segmenter that knows no clusters gives its superpixels for them: nothing new to see
    if not np.array_equal(clusters, superpixels):
        yield CaptionedPicture(
            f"clusters-{segmenter}",
            f"{title}: {_counted(n_clusters, 'cluster')}",
            f"The {_counted(n_clusters, 'cluster')} by {title} in colours over the photo",
            lambda: plots.cluster_picture(photo.image, clusters, superpixels, zoom=zoom),
        )
    if segmenter in photo.orders:
        yield CaptionedPicture(
            f"order-{segmenter}",
            f"{title}: greedy order, blue hidden first, red last",
            f"The superpixels by {title} in the order in which the greedy search hides them",
            lambda: plots.order_picture(photo.orders[segmenter], zoom=zoom),
            flat=True,
        )


def _pooled_pictures(
    photo: PhotoExplanation,
    method: str,
    segmenter: str,
    pooled: np.ndarray,
    signed: bool,
    zoom: int,
) -> Iterator[CaptionedPicture]:
    over = f"{photo.title(method)} over {photo.title(segmenter)}"
    scale = plots.saliency_scale(pooled, signed=signed, outliers=0.01)
    yield CaptionedPicture(
        f"pooled-{method}-{segmenter}",
        over,
        f"Mean saliency of each superpixel: {over}",
        lambda: plots.saliency_picture(pooled, scale, zoom=zoom),
        scale,
        flat=True,
        group=photo.title(method),
    )
    yield CaptionedPicture(
        f"overlay-{method}-{segmenter}",
        f"{over}, on the photo",
        f"Mean saliency of each superpixel laid over the photo: {over}",
        lambda: plots.overlay_picture(photo.image, pooled, scale, zoom=zoom),
        scale,
        group=photo.title(method),
    )


def _deciding_pictures(
    photo: PhotoExplanation, method: str, segmenter: str, zoom: int
) -> Iterator[CaptionedPicture]:
    """The photo with the sufficient set alone, and without the necessary one."""
    sets = photo.deciding.get((method, segmenter))
    shown = () if sets is None else (("sufficient", sets.sufficient), ("necessary", sets.necessary))
    for kind, found in shown:
        if found is None:
            continue
        alone = kind == "sufficient"
        inside = np.isin(photo.segmentations[segmenter][1], found.superpixels)
        says = f"{photo.target.name} {found.probability:.0%}"
        if not alone and found.category != photo.target.name:
            says = f"{found.category}; {says}"
        words = f"{'Only' if alone else 'Without'} {_counted(len(found.superpixels), 'superpixel')}"
        yield CaptionedPicture(
            f"{kind}-{method}-{segmenter}",
            f"{words}: {says}",
            f"The photo {words[0].lower()}{words[1:]}, {found.share:.0%} of the picture: {says}",
            partial(plots.highlight_picture, photo.image, inside if alone else ~inside, zoom=zoom),
            group=photo.title(method),
        )


def _counted(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def photo_figure(photo: PhotoExplanation, scale: Literal["unit", "own"] = "unit") -> "Figure":
    """The photo's maps as the paper's figure 5: rows of segmenters, columns of methods.

    Args:
        photo: What is shown.
        scale: As in ``Explanation.plot``.
    """
    first, target = photo.predictions[0], photo.target
    title = f"{first.name} ({first.shown(0)})"
    if target.name != first.name:
        title += f", explained for {target.name} ({target.shown(0)})"
    return plots.explanation_figure(
        photo.image,
        {photo.title(name): maps for name, maps in photo.segmentations.items()},
        {photo.title(name): heat for name, heat in photo.raw.items()},
        {(photo.title(m), photo.title(s)): heat for (m, s), heat in photo.pooled.items()},
        title=title,
        orders={photo.title(name): order for name, order in photo.orders.items()},
        scale=scale,
    )


def cards(photo: PhotoExplanation) -> Iterator[tuple[str, list[CaptionedPicture]]]:
    """Several methods side by side: each method's title, with its small pictures on one scale.

    The map as it is first, then over each segmenter, from 0 to 1, so that fifteen methods over
    several segmenters fit on a page and into its bytes. The folder's PNG files keep each map's own
    scale.
    """
    zoom = max(1, -(-_SMALL_SIDE // max(photo.image.shape[:2])))
    for method, raw in photo.raw.items():
        title = photo.title(method)
        pictures = [_small_picture(title, "as it is", raw, zoom, pooled=False)]
        pictures += [
            _small_picture(
                title,
                f"over {photo.title(segmenter)}",
                photo.pooled[method, segmenter],
                zoom,
                pooled=True,
            )
            for segmenter in photo.segmentations
        ]
        yield title, pictures


def _small_picture(
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

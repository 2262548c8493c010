"""Arrays -> RGB pixels (H, W, 3) uint8: the photo, its segmentation, its saliency.

What PNG files and the report are made of. Pure functions of the arrays; only the strip beside a
saliency map (its colour bar) is drawn by matplotlib, once for each height.
"""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from naspix.plots.colours import Scale, cluster_colours

Picture = UInt8[np.ndarray, "y x 3"]

ORDER_COLOURS = "coolwarm"  # matplotlib's, blue to red
_LINE_COLOUR = (0, 20, 80)  # nearly black, on pale photos of any colour


def photo_picture(image: Float[np.ndarray, "H W C"], *, zoom: int = 1) -> Picture:
    """The photo itself; one channel is shown grey, of more than three the first three.

    Args:
        image: Values in [0, 1].
        zoom: How many pixels of the picture one pixel of the photo is wide.
    """
    rgb = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    picture: Picture = np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8)
    if zoom == 1:
        return picture
    from PIL import Image

    height, width = picture.shape[:2]
    larger = Image.fromarray(picture).resize(
        (zoom * width, zoom * height), Image.Resampling.BICUBIC
    )
    return np.asarray(larger)


def boundary_picture(
    image: Float[np.ndarray, "H W C"], superpixels: Int[np.ndarray, "H W"], *, zoom: int = 1
) -> Picture:
    """The photo with the superpixels' boundaries, a light line with dark edges.

    Example:
        >>> boundary_picture(np.zeros((2, 3, 3)), np.array([[0, 0, 1], [0, 0, 1]])).shape
        (2, 3, 3)
    """
    return _draw_boundaries(photo_picture(image, zoom=zoom), _zoomed(superpixels, zoom))


def cluster_picture(
    image: Float[np.ndarray, "H W C"],
    clusters: Int[np.ndarray, "H W"],
    superpixels: Int[np.ndarray, "H W"],
    *,
    opacity: float = 0.65,
    zoom: int = 1,
) -> Picture:
    """The clusters' colours laid over the photo, with the superpixels' boundaries.

    Args:
        image: Values in [0, 1].
        clusters: Numbers from 0; each has its colour.
        superpixels: Their boundaries are drawn.
        opacity: 1 hides the photo.
        zoom: As in :func:`photo_picture`.
    """
    colours = cluster_colours(int(clusters.max()) + 1)[_zoomed(clusters, zoom)]
    photo = photo_picture(image, zoom=zoom)
    grey = photo.mean(axis=-1, keepdims=True)
    return _draw_boundaries(_blend(grey, colours, opacity), _zoomed(superpixels, zoom))


def highlight_picture(
    image: Float[np.ndarray, "H W C"], mask: Bool[np.ndarray, "H W"], *, zoom: int = 1
) -> Picture:
    """The photo as it is inside a mask, grey and dim outside, the mask's boundary drawn.

    Args:
        image: Values in [0, 1].
        mask: What is shown.
        zoom: As in :func:`photo_picture`.

    Example:
        >>> white = np.ones((2, 4, 3))
        >>> highlight_picture(white, np.array([[True, True, False, False]] * 2))[0, [0, 3], 0]
        array([255,  89], dtype=uint8)
    """
    photo = photo_picture(image, zoom=zoom)
    dim = np.repeat(0.35 * photo.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    shown = _zoomed(mask, zoom)
    return _draw_boundaries(np.where(shown[..., None], photo, dim), shown.astype(np.int64))


def frequency_picture(
    image: Float[np.ndarray, "H W C"], frequency: Float[np.ndarray, "H W"], *, zoom: int = 1
) -> Picture:
    """Lines over the pale photo, the darker the more often a pixel is one; enlarged, a bit wider.

    Args:
        image: Values in [0, 1].
        frequency: From 0 to 1.
        zoom: As in :func:`photo_picture`.

    Example:
        >>> white = np.ones((1, 3, 3))
        >>> frequency_picture(white, np.array([[0.0, 0.5, 1.0]]))[0, :, 0].tolist()
        [255, 128, 0]
    """
    from scipy.ndimage import grey_dilation

    pale = 255 - 0.45 * (255 - photo_picture(image, zoom=zoom).astype(np.float64))
    share = grey_dilation(_zoomed(frequency, zoom), (zoom + zoom // 2,) * 2)[..., None]
    drawn: Picture = np.round((1 - share) * pale + share * np.array(_LINE_COLOUR)).astype(np.uint8)
    return drawn


def saliency_picture(saliency: Float[np.ndarray, "H W"], scale: Scale, *, zoom: int = 1) -> Picture:
    """The saliency map in the colours of its scale."""
    from matplotlib import colormaps

    rgba = colormaps[scale.colormap](_zoomed(scale.position(saliency), zoom), bytes=True)
    return np.ascontiguousarray(rgba[..., :3])


def order_picture(order: Int[np.ndarray, "H W"], *, zoom: int = 1) -> Picture:
    """The order in which superpixels are hidden: blue first, red last.

    Args:
        order: At each pixel the step at which its superpixel is hidden, from 0.
        zoom: As in :func:`photo_picture`.

    Example:
        >>> first, *_, last = order_picture(np.array([[0, 0, 0, 1, 1, 1]]))[0].tolist()
        >>> first[2] > first[0], last[0] > last[2]
        (True, True)
    """
    from matplotlib import colormaps

    steps = order.astype(np.float64) / max(1, int(order.max()))
    rgba = colormaps[ORDER_COLOURS](_zoomed(steps, zoom), bytes=True)
    return _draw_boundaries(np.ascontiguousarray(rgba[..., :3]), _zoomed(order, zoom))


def overlay_picture(
    image: Float[np.ndarray, "H W C"],
    saliency: Float[np.ndarray, "H W"],
    scale: Scale,
    *,
    opacity: float = 0.6,
    zoom: int = 1,
) -> Picture:
    """The saliency map over the photo in grey; the more salient, the more colour.

    Args:
        image: Values in [0, 1].
        saliency: In the same frame as the image.
        scale: The colours; a signed scale leaves values near zero transparent.
        opacity: That of the most salient pixels.
        zoom: As in :func:`photo_picture`.
    """
    photo = photo_picture(image, zoom=zoom)
    grey = photo.mean(axis=-1, keepdims=True)
    position = _zoomed(scale.position(saliency), zoom)
    strength = np.abs(2 * position - 1) if scale.signed else position
    share = opacity * (0.25 + 0.75 * strength)[..., None]
    return _blend(grey, saliency_picture(saliency, scale, zoom=zoom), share)


def with_colour_bar(picture: Picture, scale: Scale) -> UInt8[np.ndarray, "y wider 3"]:
    """The picture with the bar of its scale on the right; 1 is the scale's upper end."""
    return np.concatenate([picture, _colour_bar(len(picture), scale.signed)], axis=1)


def _zoomed(array: np.ndarray, zoom: int) -> np.ndarray:
    return array if zoom == 1 else array.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _blend(
    below: Shaped[np.ndarray, "y x c"],
    above: Picture,
    opacity: float | Float[np.ndarray, "y x 1"],
) -> Picture:
    return np.round((1 - opacity) * below + opacity * above).astype(np.uint8)


def _edges(labels: Int[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels whose right or lower neighbour has another label."""
    edges = np.zeros(labels.shape, dtype=bool)
    edges[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    edges[:-1] |= labels[1:] != labels[:-1]
    return edges


def _draw_boundaries(picture: Picture, labels: Int[np.ndarray, "H W"]) -> Picture:
    """A white line, visible on white by the dark line along it."""
    line = _edges(labels)
    rim = np.zeros_like(line)
    rim[1:] |= line[:-1]
    rim[:, 1:] |= line[:, :-1]
    drawn = picture.copy()
    drawn[rim & ~line] = drawn[rim & ~line] // 3
    drawn[line] = 255
    return drawn


@cache
def _colour_bar(height: int, signed: bool) -> Picture:
    """A white strip with the colours from low to high and three ticks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    dots = 100
    points = max(6.0, min(14.0, height / 30))
    width = round(dots / 72 * points * 4.2)
    figure = Figure(figsize=(width / dots, height / dots), dpi=dots)
    canvas = FigureCanvasAgg(figure)
    pad = 0.75 * points * dots / 72 / height
    axes = figure.add_axes((0.12, pad, 0.24, 1 - 2 * pad))
    norm = Normalize(-1 if signed else 0, 1)
    bar = Colorbar(axes, ScalarMappable(norm, Scale(0.0, 1.0, signed).colormap))
    ticks = [-1, 0, 1] if signed else [0, 0.5, 1]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.ax.tick_params(labelsize=points, length=points / 3, width=points / 14, pad=points / 5)
    bar.outline.set_linewidth(points / 14)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]

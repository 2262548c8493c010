"""How a frame of an explained film looks: regions, the pooled map, and the classes' curve below.

Arrays in, arrays of eight bits out; `written` makes an H.264 film of them that browsers play.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8

from naspix import plots
from naspix.errors import MissingExtraError
from naspix.plots import Scale

Picture = UInt8[np.ndarray, "y x 3"]

_SIDE = 448  # pixels that each of the two pictures has at least
_STRIP = 160  # height of the curve


class Strip:
    """The classes' probabilities over the film, drawn once, with a line at the frame.

    Args:
        curves: Class -> its probability in each frame, 0 to 1.
        seconds: Of the frames.
        width: In pixels.
        are_probabilities: Whether they are; else the axis is free.
    """

    def __init__(
        self,
        curves: Mapping[str, Float[np.ndarray, " F"]],
        seconds: Sequence[float],
        width: int,
        *,
        are_probabilities: bool = True,
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width / 100, _STRIP / 100), dpi=100, facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.06, 0.18, 0.68, 0.74))
        for name, values in curves.items():
            axes.plot(seconds, values, label=name, linewidth=1.6)
        axes.set_xlim(seconds[0], max(seconds[-1], seconds[0] + 1e-3))
        if are_probabilities:
            axes.set_ylim(0, 1)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, frameon=False)
        canvas.draw()
        self._picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        ends = axes.transData.transform([(at, 0) for at in seconds])
        box = axes.get_window_extent()
        self._columns = np.clip(ends[:, 0].round().astype(int), 0, width - 2)
        self._rows = slice(int(_STRIP - box.y1), int(_STRIP - box.y0))

    def at(self, frame: int) -> Picture:
        """The curve with a line at a frame."""
        picture = self._picture.copy()
        column = self._columns[frame]
        picture[self._rows, column : column + 2] = (20, 20, 20)
        return picture


def width_of(size: tuple[int, int]) -> int:
    """How wide a drawn frame is, for images of this height and width."""
    return 2 * _zoom(size) * size[1]


def frame_picture(
    image: Float[np.ndarray, "H W C"],
    superpixels: Int64[np.ndarray, "H W"],
    pooled: Float[np.ndarray, "H W"],
    scale: Scale,
    strip: UInt8[np.ndarray, "rows x 3"],
) -> Picture:
    """Boundaries beside the pooled map on the photo, the curve below."""
    zoom = _zoom(superpixels.shape)
    regions = plots.boundary_picture(image, superpixels, zoom=zoom)
    heat = plots.overlay_picture(image, pooled, scale, zoom=zoom)
    picture = np.concatenate([np.concatenate([regions, heat], axis=1), strip])
    return picture[: len(picture) // 2 * 2]  # H.264 wants even sides


def _zoom(size: tuple[int, ...]) -> int:
    return max(1, -(-_SIDE // max(size[:2])))


@contextmanager
def written(path: Path, rate: float) -> Iterator[Any]:
    """A film to be written: call what is yielded with one picture after the other.

    Raises:
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingExtraError(
            "films are written by PyAV; install it with pip install '.[video]' in the folder of "
            "naspix"
        ) from None
    codec = "libx264" if "libx264" in av.codecs_available else "libvpx-vp9"
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"

        def add(picture: Picture) -> None:
            if not stream.codec_context.is_open:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))

        yield add
        container.mux(stream.encode())

"""Photos that come in: samples to begin with, and what a stranger sends, read or refused.

Bytes in, a ``Picture`` out: the image ``(1, C, H, W)`` in [0, 1] that the network gets, and the
photo as people see it. What it is, its content tells. Nothing is written to the disk, and the name
that a photo came with is text for people, never a path. The samples are scikit-image's, which come
in its wheel.
"""

import io
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from naspix.errors import ImageError, NaspixError
from naspix.images import MAX_PIXELS, Resize, read_eight_bit
from naspix.images.decoding import MODES, opened
from naspix.models import Classifier
from naspix.plots import photo_picture
from naspix.report.pages import data_url

if TYPE_CHECKING:
    from PIL.Image import Image

# name in skimage.data -> what is seen
SAMPLES: Mapping[str, str] = {
    "chelsea": "a tabby cat",
    "coffee": "a cup of espresso",
    "rocket": "a rocket at its launch",
    "astronaut": "an astronaut in her suit",
}
_SIDE = 160  # pixels of a thumbnail

# PIL's names of formats whose decoders are built in and in wide use
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_LONGEST_NAME = 80
_LONGEST_SIDE = 1600  # pixels of a photo as it is shown

Fitting = Resize | Literal["model"]


@dataclass(frozen=True)
class Limits:
    """How large a photo may be.

    Attributes:
        n_bytes: Of the file.
        n_pixels: Of the picture.
    """

    n_bytes: int = 20_000_000
    n_pixels: int = 40_000_000


@dataclass(frozen=True)
class Picture:
    """A photo, for the network and for people.

    Attributes:
        images: ``(1, C, H, W)`` in [0, 1], as the network gets it.
        name: What it is called.
        loading: The Python line that gives the images.
        fitting: How it was fitted into the network's size, as for ``load_images``.
        shown: As it came, upright and at most 1,600 pixels a side, as a data URL.
        size: Its width and height.
        frame: Where the image lies in it: left, top, width and height as shares of the photo.
        told: The same in words.
    """

    images: Float[Tensor, "1 C H W"]
    name: str
    loading: str
    fitting: Fitting
    shown: str
    size: tuple[int, int]
    frame: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    told: str = ""


def picture_of(
    source: Any,
    model: Classifier,
    *,
    name: str,
    code: str,
    note: str = "",
    fitting: Fitting = "model",
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Fit a photo for the network, and keep it as it came for people.

    Args:
        source: What ``load_images`` takes, or a tensor ``(1, C, H, W)``, which is taken as it is.
        model: Says size and channels.
        name: What it is called.
        code: The Python expression for the source.
        note: A comment on it.
        fitting: How it is fitted.
        max_pixels: Larger photos are refused.

    Example:
        >>> import naspix
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> wide = np.zeros((100, 400, 3), np.uint8)
        >>> picture = picture_of(wide, model, name="wide", code="wide")
        >>> picture.told
        'the middle 88 x 88 of 400 x 100 pixels, at 224 x 224'
        >>> picture.frame
        (0.390625, 0.0625, 0.21875, 0.875)
        >>> picture_of(wide, model, name="wide", code="wide", fitting="squash").frame
        (0.0, 0.0, 1.0, 1.0)
    """
    if isinstance(source, Tensor) and source.ndim == 4:
        images, fit, loading = source.to(model.device), None, f"images = {code}"
    else:
        resize = "" if fitting == "model" else f", resize={fitting!r}"
        loading = f"images = model.load_images([{code}]{resize})"
        images = model.load_images([source], fitting, max_pixels=max_pixels)
        fit = model.fitting((1, 1), fitting)
    loading += f"  # {note}" if note else ""
    if fit is None or model.in_channels not in MODES:  # what people see is what the network gets
        values = images[0].permute(1, 2, 0).float().cpu().numpy()
        shown, size = png_url(photo_picture(values)), (images.shape[3], images.shape[2])
        return Picture(images, name, loading, fitting, shown, size)
    whole = read_eight_bit([source], max_pixels=max_pixels)[0]
    fit = model.fitting((whole.height, whole.width), fitting)
    assert fit is not None
    frame = [
        number / side
        for pair in (fit.corner, fit.size)
        for number, side in zip(reversed(pair), reversed(fit.scaled), strict=True)
    ]
    told, size = fit.told((whole.height, whole.width)), whole.size
    whole.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), reducing_gap=2)
    shown = data_url(np.asarray(whole), lossless=False)
    left, top, width, height = frame
    return Picture(images, name, loading, fitting, shown, size, (left, top, width, height), told)


def sample_image(name: str) -> UInt8[np.ndarray, "H W 3"]:
    """A photo by its name.

    Example:
        >>> sample_image("chelsea").shape
        (300, 451, 3)
    """
    import skimage.data

    image: UInt8[np.ndarray, "H W 3"] = getattr(skimage.data, name)()
    return image


@cache
def sample_thumbnails() -> list[dict[str, str]]:
    """Name, description and a small square picture as a data URL, for each."""
    from PIL import Image, ImageOps

    found = []
    for name, what in SAMPLES.items():
        picture = np.asarray(ImageOps.fit(Image.fromarray(sample_image(name)), (_SIDE, _SIDE)))
        found.append({"name": name, "what": what, "picture": data_url(picture, lossless=False)})
    return found


def read_upload(
    content: bytes,
    model: Classifier,
    limits: Limits | None = None,
    *,
    name: str = "photo",
    fitting: Fitting = "model",
) -> Picture:
    """Read a photo that was sent.

    Args:
        content: The file, as it was sent.
        model: Says size and channels.
        limits: How large it may be.
        name: What it is called.
        fitting: How it is fitted.

    Raises:
        ImageError: what is wrong with it, in a sentence.

    Example:
        >>> import naspix
        >>> read_upload(b"GIF89a", naspix.load_model("efficientnet_lite0"), name="a.gif")
        Traceback (most recent call last):
        naspix.errors.ImageError: a.gif cannot be read as a picture; it is damaged or cut short
    """
    limits = limits or Limits()
    with uploaded(content, limits, name) as picture:
        return picture_of(
            picture,
            model,
            name=name,
            code=repr(name),
            note="the photo that you sent: keep it beside this file",
            fitting=fitting,
            max_pixels=limits.n_pixels,
        )


@contextmanager
def uploaded(content: bytes, limits: Limits, name: str) -> "Iterator[Image]":
    """A photo that was sent, opened; what is wrong with it, also inside the block, in a sentence.

    Raises:
        ImageError: It is empty, too large, damaged or none.
    """
    if not content:
        raise ImageError(f"{name} is empty (zero bytes)")
    if len(content) > limits.n_bytes:
        raise ImageError(
            f"{name} has {len(content) / 1e6:.1f} MB, more than is taken "
            f"({limits.n_bytes / 1e6:.3g} MB); send a smaller one"
        )
    width = height = 0
    try:
        with opened(io.BytesIO(content), FORMATS) as picture:
            width, height = picture.size
            yield picture
    except NaspixError as error:
        if "too large" in str(error):
            raise ImageError(
                f"{name} has {width} x {height} pixels, more than are read "
                f"({limits.n_pixels / 1e6:.3g} million); scale it down"
            ) from None
        raise ImageError(_unreadable(content, name)) from None
    except Exception:  # whatever a hostile file makes a decoder raise
        raise ImageError(_unreadable(content, name)) from None


def png(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Pixels as the content of a PNG file; made fast rather than as small as can be."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def png_url(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """Pixels as a data URL."""
    return data_url(png(pixels))


def shown_name(name: object) -> str:
    r"""The name of an upload as a short piece of text without control characters.

    Example:
        >>> shown_name("../../etc/pass\x00wd\u202egnp.exe")
        'passwdgnp.exe'
    """
    text = str(name).replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in text if unicodedata.category(c)[0] != "C").strip()
    return kept[:_LONGEST_NAME] or "photo"


def _unreadable(content: bytes, name: str) -> str:
    starts = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
    if content.startswith(starts) or content[4:8] == b"ftyp":
        return f"{name} cannot be read as a picture; it is damaged or cut short"
    return f"{name} is no picture in a format that is read here ({', '.join(FORMATS)})"

"""Photos that come in: samples to begin with, and what a stranger sends, read or refused.

Bytes in, an image ``(1, C, H, W)`` in [0, 1] out. What it is, its content tells. Nothing is written
to the disk, and the name that a photo came with is text for people, never a path. The samples are
scikit-image's, which come in its wheel.
"""

import io
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from naspix.errors import ImageError, NaspixError
from naspix.images.decoding import opened
from naspix.models import Classifier
from naspix.report.pages import data_url

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


@dataclass(frozen=True)
class Limits:
    """How large a photo may be.

    Attributes:
        n_bytes: Of the file.
        n_pixels: Of the picture.
    """

    n_bytes: int = 20_000_000
    n_pixels: int = 40_000_000


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
    content: bytes, model: Classifier, limits: Limits | None = None, *, name: str = "photo"
) -> Float[Tensor, "1 C H W"]:
    """Read a photo as the network wants it.

    Args:
        content: The file, as it was sent.
        model: Says size and channels.
        limits: How large it may be.
        name: What to call it in an error.

    Raises:
        ImageError: what is wrong with it, in a sentence.

    Example:
        >>> import naspix
        >>> read_upload(b"GIF89a", naspix.load_model("efficientnet_lite0"), name="a.gif")
        Traceback (most recent call last):
        naspix.errors.ImageError: a.gif cannot be read as a picture; it is damaged or cut short
    """
    limits = limits or Limits()
    if not content:
        raise ImageError(f"{name} is empty (zero bytes)")
    if len(content) > limits.n_bytes:
        raise ImageError(
            f"{name} has {len(content) / 1e6:.1f} MB, more than this explorer takes "
            f"({limits.n_bytes / 1e6:.3g} MB); send a smaller one"
        )
    try:
        with opened(io.BytesIO(content), FORMATS) as picture:
            width, height = picture.size
            images: Tensor = model.load_images([picture], max_pixels=limits.n_pixels)
    except NaspixError as error:
        if "too large" in str(error):
            raise ImageError(
                f"{name} has {width} x {height} pixels, more than this explorer reads "
                f"({limits.n_pixels / 1e6:.3g} million); scale it down"
            ) from None
        raise ImageError(_unreadable(content, name)) from None
    except Exception:  # whatever a hostile file makes a decoder raise
        raise ImageError(_unreadable(content, name)) from None
    return images


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

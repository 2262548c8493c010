"""What a stranger sends as a photo: measured, told by its content, decoded, or refused.

Bytes in, an image ``(1, C, H, W)`` in [0, 1] out. Nothing is written to the disk, and the name a
photo came with is text for people, never a path.
"""

import base64
import binascii
import io
import unicodedata
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from naspix.errors import ImageError, NaspixError
from naspix.images.decoding import opened
from naspix.models import Classifier

# PIL's names of formats whose decoders are built in and in wide use
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Limits:
    """How large a photo may be.

    Attributes:
        n_bytes: Of the file.
        n_pixels: Of the picture; a side may have three times the square root of it at most.
    """

    n_bytes: int = 20_000_000
    n_pixels: int = 40_000_000


def decoded_base64(text: object, limits: Limits) -> bytes:
    """The file that a page sent as base64.

    Raises:
        ImageError: too large, empty, or not base64.
    """
    if not isinstance(text, str):
        raise ImageError("no photo came with the request; choose one")
    if len(text) > limits.n_bytes * 4 // 3 + 4:
        raise ImageError(_too_large(len(text) * 3 // 4, limits))
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("the photo arrived damaged; send it again") from None
    return content


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
        raise ImageError(_too_large(len(content), limits, name))
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


def _too_large(n_bytes: int, limits: Limits, name: str = "the photo") -> str:
    return (
        f"{name} has {n_bytes / 1e6:.1f} MB, more than this explorer takes "
        f"({limits.n_bytes / 1e6:.3g} MB); send a smaller one"
    )

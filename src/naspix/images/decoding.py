"""One picture from anywhere: a file, a PIL image, an array or a tensor, brought to RGB or grey.

What comes out is an eight-bit PIL image where that loses nothing, else a tensor `(C, H, W)` in
[0, 1]. EXIF orientation is applied, transparency is laid over white, of an animated file the first
frame is taken. Sizes are left alone: `reading.py` fits them.

One rule says which number is white (`_white`): arrays, tensors and PIL images go by their type,
whatever its byte order; what a file holds in more bits than it needs goes by its values, and a
warning says so.
"""

import contextlib
import io
import math
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from naspix.errors import ImageError, NaspixError, NaspixWarning

Source = str | os.PathLike[str] | io.IOBase | Image.Image | NDArray[Any] | Tensor

MODES = {1: "L", 3: "RGB"}  # PIL's names for one and three channels
TOLERANCE = 1e-3  # beyond [0, 1]: what rounding and interpolation leave behind

ORIENTATION = 0x0112  # EXIF's tag
_BOMB_LOCK = threading.Lock()
_HEIC = ("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1")  # brands of its header


def decoded(
    source: Source,
    channels: int,
    max_pixels: int,
    *,
    exif: bool = True,
    bands: Sequence[int] | None = None,
) -> Image.Image | Tensor:
    """An eight-bit PIL image of mode L or RGB where that loses nothing, else a tensor in [0, 1].

    Bands of an array, or of a tensor, are taken as they are, in the order given.
    """
    if bands is not None or channels not in MODES:
        return _from_bands(source, channels, bands)
    if isinstance(source, Tensor):
        return _from_tensor(source, channels)
    if isinstance(source, np.ndarray):
        return _from_array(source, channels)
    name = "the PIL image" if isinstance(source, Image.Image) else "the open file"
    if isinstance(source, str | os.PathLike):
        name = repr(str(source))
        _check_file(Path(source), name)
    elif not (isinstance(source, Image.Image) or hasattr(source, "read")):
        raise ImageError(f"{type(source).__name__} is not an image, a path, or a list of them")
    try:
        if isinstance(source, Image.Image):
            _check_size(source, max_pixels, name)
            return _from_pil(source, channels, name, exif=exif)
        with opened(source) as picture:
            _check_size(picture, max_pixels, name)
            return _from_pil(picture, channels, name, exif=exif)
    except (NaspixError, NaspixWarning):
        raise
    except UnidentifiedImageError:
        if _is_heic(source):
            raise ImageError(
                f"{name} is a HEIC picture, as phones take them, which pillow-heif reads: "
                "pip install pillow-heif, or convert it to JPEG"
            ) from None
        raise ImageError(f"{name} is not an image in a format that can be read") from None
    except Exception as error:  # a damaged file may make its decoder raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ImageError(f"{name} cannot be read as an image: {reason}") from None


def _from_bands(source: Source, channels: int, bands: Sequence[int] | None) -> Tensor:
    """Some bands, or all, of an array `(H, W, bands)` or a tensor `(bands, H, W)`."""
    if not isinstance(source, Tensor | np.ndarray) or source.ndim != 3 or 0 in source.shape:
        what = (
            f"{type(source).__name__} {tuple(source.shape)}"
            if isinstance(source, Tensor | np.ndarray)
            else f"{str(source)!r}"
            if isinstance(source, str | os.PathLike)
            else type(source).__name__
        )
        raise ImageError(
            f"bands are read of arrays (H, W, bands) and tensors (bands, H, W), which {what} is "
            "not; read the file with the library that knows it, such as tifffile or rasterio"
        )
    n_bands = source.shape[0 if isinstance(source, Tensor) else 2]
    chosen = list(range(n_bands) if bands is None else bands)
    if not all(0 <= band < n_bands for band in chosen):
        raise ImageError(f"channels={chosen} names bands that are none of the {n_bands} given")
    if len(chosen) != channels:
        kind = "a tensor (bands, H, W)" if isinstance(source, Tensor) else "an array (H, W, bands)"
        raise ImageError(
            f"the model takes {channels} channels, but {len(chosen)} bands of {kind} of shape "
            f"{tuple(source.shape)} are given; choose {channels} with channels="
        )
    if isinstance(source, Tensor) and source.is_floating_point():
        return _check_unit(source[chosen].detach().float(), "the tensor")
    array = source.permute(1, 2, 0).cpu().numpy() if isinstance(source, Tensor) else source
    array = array.astype(array.dtype.newbyteorder("="), copy=False)[..., chosen]
    scaled = _unit_range(array, "the array", file=False, layout="")
    return torch.from_numpy(np.ascontiguousarray(scaled)).permute(2, 0, 1).contiguous()


def _check_file(path: Path, name: str) -> None:
    if path.is_dir():
        raise ImageError(f"{name} is a folder, not an image; name the files in it")
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        raise ImageError(f"there is no image file {name}") from None
    if path.is_file() and size == 0:
        raise ImageError(f"the file {name} is empty (zero bytes)")


def opened(
    source: str | os.PathLike[str] | io.IOBase, formats: tuple[str, ...] | None = None
) -> Image.Image:
    """Open without PIL's own limit, since ``max_pixels`` takes its place; any or some formats.

    HEIC, the format of phones, is among them where pillow-heif is installed.
    """
    if formats is None and _is_heic(source):
        with contextlib.suppress(ImportError):
            import pillow_heif  # type: ignore[import-not-found, unused-ignore]

            pillow_heif.register_heif_opener()
    with _BOMB_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(cast(IO[bytes], source), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def orientation(file: str | os.PathLike[str]) -> tuple[int, tuple[int, int]]:
    """How a file's EXIF says it is to be turned, 1 for not at all; and its height and width so far.

    A file that cannot be read is not turned; reading it says what is wrong.
    """
    try:
        with opened(file) as picture:
            turn = picture.getexif().get(ORIENTATION, 1)
            return (turn if turn in range(1, 9) else 1), (picture.height, picture.width)
    except Exception:  # a damaged file may make its decoder raise anything
        return 1, (0, 0)


def _is_heic(source: object) -> bool:
    """Whether a file or an open stream, which is left where it stands, begins as HEIC does."""
    try:
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as file:
                header = file.read(12)
        else:
            stream = cast(IO[bytes], source)
            place = stream.tell()
            header = stream.read(12)
            stream.seek(place)
        return header[4:8] == b"ftyp" and header[8:12].decode("latin-1") in _HEIC
    except (AttributeError, TypeError, OSError, ValueError):
        return False


def _check_size(picture: Image.Image, max_pixels: int, name: str) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} is {width} x {height} pixels, too large for the limit of {max_pixels} pixels; "
            f"scale it down, or raise max_pixels (--max-pixels) to {width * height}"
        )


def _from_pil(
    picture: Image.Image, channels: int, name: str, *, exif: bool = True
) -> Image.Image | Tensor:
    if 0 in picture.size:
        raise ImageError(f"{name} has no pixels")
    kind, layout = picture.format, _layout(picture)
    picture = ImageOps.exif_transpose(picture) if exif else picture
    clear = _clear_colour(picture, layout)
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        if kind in ("PPM", "PNG") and picture.mode == "I":  # sixteen bits in thirty-two
            values = values.astype(np.uint16)
        image = _from_array(values, channels, name, file=kind is not None, layout=layout)
        if clear is not None:
            seen = torch.from_numpy(values != clear)
            image = torch.where(seen, cast(Tensor, image), torch.ones(()))
        return image
    if ";16" in layout:  # of which PIL keeps the upper eight bits
        picture = _bright(picture, name)
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or clear is not None:
        if clear is not None:
            picture = picture.copy()
            picture.info["transparency"] = clear
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    if picture.mode == "LAB":  # has no direct way to grey
        picture = picture.convert("RGB")
    return picture.convert(MODES[channels])


def _layout(picture: Image.Image) -> str:
    """How the samples lie in a file that is not yet loaded, such as ``"RGB;16B"``."""
    for tile in getattr(picture, "tile", ()):
        first = tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]
        if isinstance(first, str):
            return first
    return ""


def _clear_colour(picture: Image.Image, layout: str) -> Any:
    """The colour that is transparent, as the pixels have it; PIL leaves it as the file has it."""
    clear = picture.info.get("transparency")
    if isinstance(clear, tuple) and (";16" in layout or max(clear) > 255):
        return tuple(part >> 8 for part in clear)
    if isinstance(clear, int) and layout in ("L;2", "L;4"):
        return clear * {"L;2": 85, "L;4": 17}[layout]
    return clear


def _bright(picture: Image.Image, name: str) -> Image.Image:
    """Colours of sixteen bits that hold twelve, whose upper eight bits are all but black."""
    values = np.array(picture)
    colours = values[..., :3]
    if not 0 < colours.max() < 16 or colours.min() == colours.max():
        return picture
    warnings.warn(
        f"{name} holds 16-bit colours that use 12 bits at most, and is taken as 12-bit",
        NaspixWarning,
        stacklevel=2,
    )
    colours *= 17
    if picture.mode == "RGBA" and values[..., 3].max() < 16:
        values[..., 3] *= 17
    return Image.fromarray(values)


def _from_array(
    array: NDArray[Any],
    channels: int,
    name: str = "the array",
    *,
    file: bool = False,
    layout: str = "",
) -> Image.Image | Tensor:
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise ImageError(f"{name} has masked values; give it filled, with .filled(value)")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        hint = "; move the channels last" if array.ndim == 3 and array.shape[0] in (1, 3) else ""
        raise ImageError(
            f"an array image must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), but {name} has "
            f"the shape {array.shape}{hint}"
        )
    if array.dtype == np.uint8:
        squeezed = array[..., 0] if array.shape[2] == 1 else array
        return _from_pil(Image.fromarray(np.ascontiguousarray(squeezed)), channels, name)
    scaled = _unit_range(array, name, file=file, layout=layout)
    values = torch.from_numpy(np.ascontiguousarray(scaled))
    return _with_channels(values.permute(2, 0, 1), channels)


def _from_tensor(tensor: Tensor, channels: int) -> Image.Image | Tensor:
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4) or 0 in tensor.shape:
        raise ImageError(
            f"a tensor image must be (C, H, W) with 1, 3 or 4 channels, but has the shape "
            f"{tuple(tensor.shape)}"
        )
    if tensor.is_floating_point():
        values = _check_unit(tensor.detach().float(), "the tensor")
        return _with_channels(values, channels)
    return _from_array(tensor.permute(1, 2, 0).cpu().numpy(), channels, "the tensor")


def _unit_range(array: NDArray[Any], name: str, *, file: bool, layout: str) -> NDArray[np.float32]:
    """Values scaled to [0, 1] by what their type says; a file's whole numbers by their values."""
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if np.issubdtype(array.dtype, np.integer):
        white = 4095 if layout == "I;12" else _white(array, name, file=file)
        return (array / np.float32(white)).astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"{name} holds {array.dtype} values; give uint8 or floats in [0, 1]")
    values: NDArray[np.float32] = array.astype(np.float32)
    _check_unit(torch.from_numpy(np.ascontiguousarray(values)), name)
    return values.clip(0, 1)


def _white(array: NDArray[Any], name: str, *, file: bool) -> int:
    """Which whole number is white.

    Of arrays, and of PIL images that were made in memory, the type says it: 255 for bytes and for
    numpy's wider integers, which hold bytes as a rule, 65,535 for uint16. A file has sixteen or
    more bits also for want of something smaller: there the largest value says whether they are
    eight, twelve or sixteen, unless all are the same.

    Raises:
        ImageError: There are values beyond what is white.

    Warns:
        NaspixWarning: Not the type but the values say it, or an array looks as if they should.
    """
    least, most = int(array.min()), int(array.max())
    sixteen = array.dtype == np.uint16
    if array.dtype == np.uint8:
        return 255
    if least < 0 or most > (65535 if sixteen or file else 255):
        raise ImageError(
            f"{name} holds {array.dtype} values from {least} to {most}; "
            "give uint8, uint16, or floats in [0, 1]"
        )
    by_type = 65535 if sixteen else 255
    by_value = 255 if most <= 255 else 4095 if most <= 4095 else 65535
    if sixteen and least == most:
        return by_type
    if file:
        if by_value != by_type or not sixteen:
            warnings.warn(
                f"{name} holds {array.dtype} values from {least} to {most}, so {by_value} is taken "
                "for white",
                NaspixWarning,
                stacklevel=2,
            )
        return by_value
    if sixteen and by_value == 4095:
        warnings.warn(
            f"{name} holds uint16 values up to {most} and is nearly black, since 65535 is white; "
            "if it has 12 bits, divide it by 4095",
            NaspixWarning,
            stacklevel=2,
        )
    return by_type


def _check_unit(values: Tensor, name: str) -> Tensor:
    least, most = map(float, torch.aminmax(values))
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ImageError(f"{name} holds NaN or infinite values; floats must lie in [0, 1]")
    if least < -TOLERANCE or most > 1 + TOLERANCE:
        raise ImageError(f"floats in {name} must lie in [0, 1], but {range_hint(least, most)}")
    return values.clamp(0, 1)


def range_hint(least: float, most: float) -> str:
    """Where values reach that should lie in [0, 1], and what was probably meant."""
    reach = f"reach from {least:.3g} to {most:.3g}"
    if most > 1 + TOLERANCE and least >= -TOLERANCE:
        return f"{reach}; if these are values from 0 to 255, divide them by 255"
    return f"{reach}; the model standardises them itself, so give them as they were before"


def _with_channels(values: Tensor, channels: int) -> Tensor:
    if values.shape[0] == 4:  # over white
        alpha = values[3:]
        values = values[:3] * alpha + (1 - alpha)
    if values.shape[0] == channels:
        return values
    if channels == 3:
        return values.expand(3, -1, -1).contiguous()
    weights = values.new_tensor([0.299, 0.587, 0.114])  # as PIL's mode L
    return torch.einsum("c,chw->hw", weights, values)[None].clamp(0, 1)

"""One picture from anywhere: a file, a PIL image, an array or a tensor, brought to RGB or grey.

What comes out is an eight-bit PIL image where that loses nothing, else a tensor `(C, H, W)` in
[0, 1]. EXIF orientation is applied, transparency is laid over white, of an animated file the first
frame is taken. Sizes are left alone: `reading.py` fits them.
"""

import io
import math
import os
import threading
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from naspix.errors import ImageError, NaspixError

Source = str | os.PathLike[str] | io.IOBase | Image.Image | NDArray[Any] | Tensor

MODES = {1: "L", 3: "RGB"}  # PIL's names for one and three channels
TOLERANCE = 1e-3  # beyond [0, 1]: what rounding and interpolation leave behind

_BOMB_LOCK = threading.Lock()


def decoded(source: Source, channels: int, max_pixels: int) -> Image.Image | Tensor:
    """An eight-bit PIL image of mode L or RGB where that loses nothing, else a tensor in [0, 1]."""
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
            return _from_pil(source, channels, name)
        with opened(source) as picture:
            _check_size(picture, max_pixels, name)
            return _from_pil(picture, channels, name)
    except NaspixError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image in a format that can be read") from None
    except Exception as error:  # a damaged file may make its decoder raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ImageError(f"{name} cannot be read as an image: {reason}") from None


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
    """Open without PIL's own limit, since ``max_pixels`` takes its place; any or some formats."""
    with _BOMB_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(cast(IO[bytes], source), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(picture: Image.Image, max_pixels: int, name: str) -> None:
    width, height = picture.size
    if width * height > max_pixels or max(width, height) > 3 * math.isqrt(max_pixels):
        needed = max(width * height, math.ceil(max(width, height) / 3) ** 2)
        raise ImageError(
            f"{name} is {width} x {height} pixels, too large for the limit of {max_pixels} pixels "
            f"and {3 * math.isqrt(max_pixels)} a side; scale it down, or raise max_pixels "
            f"(--max-pixels) to {needed}"
        )


def _from_pil(picture: Image.Image, channels: int, name: str) -> Image.Image | Tensor:
    if 0 in picture.size:
        raise ImageError(f"{name} has no pixels")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        if picture.mode != "F":  # sixteen bits, which PIL may hold in thirty-two
            values = np.clip(values, 0, 65535).astype(np.uint16)
        return _from_array(values, channels, name)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    if picture.mode == "LAB":  # has no direct way to grey
        picture = picture.convert("RGB")
    return picture.convert(MODES[channels])


def _from_array(
    array: NDArray[Any], channels: int, name: str = "the array"
) -> Image.Image | Tensor:
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
    values = torch.from_numpy(np.ascontiguousarray(_unit_range(array, name)))
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


def _unit_range(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Values scaled to [0, 1] by what their type says."""
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if array.dtype == np.uint16:
        return (array / np.float32(65535)).astype(np.float32)
    if np.issubdtype(array.dtype, np.integer):  # numpy's default integers hold bytes, as a rule
        if array.min() < 0 or array.max() > 255:
            raise ImageError(
                f"{name} holds {array.dtype} values from {array.min()} to {array.max()}; "
                "give uint8, uint16, or floats in [0, 1]"
            )
        return (array / np.float32(255)).astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"{name} holds {array.dtype} values; give uint8 or floats in [0, 1]")
    values: NDArray[np.float32] = array.astype(np.float32)
    _check_unit(torch.from_numpy(np.ascontiguousarray(values)), name)
    return values.clip(0, 1)


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
    weights = torch.tensor([0.299, 0.587, 0.114], device=values.device)  # as PIL's mode L
    return torch.einsum("c,chw->hw", weights, values)[None].clamp(0, 1)

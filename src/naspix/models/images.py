"""Pictures from anywhere as tensors in [0, 1], and the check that a tensor is one.

Files, PIL images, numpy arrays and tensors come in; `(C, H, W)` or `(B, C, H, W)` float32 goes out.
EXIF orientation is applied, transparency is laid over white, of an animation the first frame is
taken. Eight-bit pictures are resized by PIL, as torchvision and timm do when they evaluate. No
model is known here; standardising is `classifier.py`'s business.
"""

import math
import os
import struct
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from naspix.errors import ImageError, InputError, UnknownNameError

Resize = Literal["crop", "squash"]
Source = str | os.PathLike[str] | IO[bytes] | Image.Image | NDArray[Any] | Tensor

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif"),
        *("tif", "tiff", "ppm", "pgm", "pbm", "jp2", "avif"),
    )
)

_MODES = {1: "L", 3: "RGB"}
_TOLERANCE = 1e-3  # beyond [0, 1]: what rounding and interpolation leave behind
_BOMB_LOCK = threading.Lock()


def check_images(images: Tensor, channels: int | None = None) -> None:
    """Raise unless ``images`` is `(B, C, H, W)` float, finite and in [0, 1].

    Args:
        images: What should be a batch of images.
        channels: How many channels they must have; None leaves it open.

    Raises:
        InputError: Saying which of these does not hold.

    Example:
        >>> check_images(torch.full((1, 3, 4, 4), 255.0))
        Traceback (most recent call last):
        naspix.errors.InputError: images must lie in [0, 1], but reach from 255 to 255; if these are
        values from 0 to 255, divide them by 255
    """
    check_shape(images, channels)
    least, most = (float(value) for value in torch.aminmax(images.detach()))
    if not (math.isfinite(least) and math.isfinite(most)):
        raise InputError("images hold NaN or infinite values; they must lie in [0, 1]")
    if least < -_TOLERANCE or most > 1 + _TOLERANCE:
        raise InputError(f"images must lie in [0, 1], but {_range_hint(least, most)}")


def check_shape(images: Tensor, channels: int | None = None) -> None:
    """Raise unless ``images`` is a non-empty float tensor `(B, C, H, W)` of so many channels.

    Raises:
        InputError: Saying which of these does not hold.
    """
    if not isinstance(images, Tensor):
        raise InputError(
            f"images must be a tensor (B, C, H, W), not {type(images).__name__}; "
            "model.load_images makes one of files, PIL images and arrays"
        )
    shape = tuple(images.shape)
    if images.ndim != 4:
        hint = "; add a batch axis with images[None]" if images.ndim == 3 else ""
        raise InputError(f"images must be (B, C, H, W), but the shape given is {shape}{hint}")
    if 0 in shape:
        raise InputError(f"images must not be empty, but the shape given is {shape}")
    if not images.is_floating_point():
        raise InputError(
            f"images must be float in [0, 1], not {_dtype_name(images)}; "
            "convert them with images.float() / 255"
        )
    if channels is not None and shape[1] != channels:
        last = "; move the channels forward with permute(0, 3, 1, 2)" * (shape[3] == channels)
        raise InputError(
            f"the model takes images of {channels} channel{'s' * (channels != 1)}, "
            f"but the shape given is {shape}{last}"
        )


def read_image(
    source: Source, *, channels: int = 3, max_pixels: int = MAX_PIXELS
) -> Float[Tensor, "C H W"]:
    """Read one picture at its own size.

    Args:
        source: A path, an open binary file, a PIL image, an array `(H, W)`, `(H, W, 1)`,
            `(H, W, 3)` or `(H, W, 4)`, or a tensor `(C, H, W)`. Integers span their type's range
            (uint8 0 to 255, uint16 0 to 65535), floats are in [0, 1].
        channels: 3 for RGB, 1 for grey.
        max_pixels: Larger pictures are refused before they are decoded, and so are those with a
            side of more than three times its square root.

    Raises:
        ImageError: Naming the file, if it cannot be read as a picture.

    Example:
        >>> read_image(np.zeros((5, 4, 3), np.uint8)).shape
        torch.Size([3, 5, 4])
    """
    if channels not in _MODES:
        raise InputError(f"pictures are read with 1 or 3 channels, not {channels}")
    picture = _decoded(source, channels, max_pixels)
    return picture if isinstance(picture, Tensor) else _as_tensor(picture)


def read_images(
    sources: Source | Iterable[Source],
    size: tuple[int, int],
    *,
    channels: int = 3,
    resize: Resize | None = "crop",
    crop_pct: float = 1.0,
    interpolation: str = "bilinear",
    max_pixels: int = MAX_PIXELS,
) -> Float[Tensor, "B C H W"]:
    """Read pictures as one batch.

    Args:
        sources: One source as in `read_image` or several; an array or tensor with four axes is a
            batch of its own.
        size: Height and width of the result.
        channels: 3 for RGB, 1 for grey.
        resize: ``"crop"`` scales the picture until it just covers ``size / crop_pct`` and cuts the
            middle out; ``"squash"`` scales height and width apart, so that all of it is seen; None
            keeps the picture as it is, and then all must have one size.
        crop_pct: The share of the scaled picture's side that the middle takes, in (0, 1].
        interpolation: ``"nearest"``, ``"bilinear"``, ``"bicubic"`` or ``"lanczos"``; antialiased.
        max_pixels: As in `read_image`.

    Raises:
        ImageError: If a source cannot be read as a picture.
        InputError: If there are none, or their sizes differ and ``resize`` is None.

    Example:
        >>> read_images(np.zeros((50, 40, 3), np.uint8), (32, 32)).shape
        torch.Size([1, 3, 32, 32])
    """
    if resize is not None and resize not in get_args(Resize):
        raise UnknownNameError.among("way to resize", resize, [*get_args(Resize), "None"])
    if channels not in _MODES:
        raise InputError(
            f"pictures have 1 or 3 channels, and the model takes {channels}; give it a tensor"
        )
    images = []
    for source in _listed(sources):
        picture = _decoded(source, channels, max_pixels)
        if resize is not None:
            picture = _fitted(picture, size, resize, crop_pct, interpolation)
        images.append(picture if isinstance(picture, Tensor) else _as_tensor(picture))
    if not images:
        raise InputError("no images are given; name at least one file, picture or array")
    sizes = {tuple(image.shape[-2:]) for image in images}
    if len(sizes) > 1:
        shown = ", ".join(f"{h} x {w}" for h, w in sorted(sizes)[:3])
        raise InputError(
            f"images of different sizes ({shown}) do not fit one batch; "
            "let them be resized ('crop' or 'squash'), or give them one by one"
        )
    return torch.stack([image.to(images[0].device) for image in images])


def expand_paths(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """List the image files that paths and folders stand for, each once.

    Folders are searched with all their subfolders, in sorted order, for names that end like an
    image's; hidden files are passed over. A file that is named itself is kept whatever its name,
    and if it does not exist: reading it will say so.

    Raises:
        InputError: If a folder holds no image.
    """
    paths: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if not path.is_dir():
            paths[path] = None
            continue
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and file.is_file()
        )
        if not found:
            raise InputError(f"there is no image in the folder {str(path)!r}")
        paths.update(dict.fromkeys(found))
    return list(paths)


def _listed(sources: Source | Iterable[Source]) -> Iterable[Source]:
    if isinstance(sources, Tensor | np.ndarray):
        return list(sources) if sources.ndim == 4 else [sources]
    if isinstance(sources, str | os.PathLike | Image.Image) or hasattr(sources, "read"):
        return [sources]  # type: ignore[list-item]
    if isinstance(sources, Iterable):
        return sources
    raise ImageError(f"{type(sources).__name__} is not an image, a path, or a list of them")


def _decoded(source: Source, channels: int, max_pixels: int) -> Image.Image | Tensor:
    """An eight-bit PIL image of mode L or RGB where that loses nothing, else a tensor in [0, 1]."""
    if isinstance(source, Tensor):
        return _from_tensor(source, channels)
    if isinstance(source, np.ndarray):
        return _from_array(source, channels)
    if isinstance(source, Image.Image):
        return _from_pil(source, channels, max_pixels, "the PIL image")
    name = repr(str(source)) if isinstance(source, str | os.PathLike) else "the open file"
    if isinstance(source, str | os.PathLike):
        _check_file(Path(source), name)
    elif not hasattr(source, "read"):
        raise ImageError(f"{type(source).__name__} is not an image, a path, or a list of them")
    try:
        with _opened(source) as picture:
            return _from_pil(picture, channels, max_pixels, name)
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image in a format that can be read") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name} cannot be read as an image: {_first_line(error)}") from None


def _check_file(path: Path, name: str) -> None:
    if path.is_dir():
        raise ImageError(f"{name} is a folder, not an image; name the files in it")
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        raise ImageError(f"there is no image file {name}") from None
    if path.is_file() and size == 0:
        raise ImageError(f"the file {name} is empty (zero bytes)")


def _opened(source: str | os.PathLike[str] | IO[bytes]) -> Image.Image:
    """Open without PIL's own limit, since ``max_pixels`` takes its place."""
    with _BOMB_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(source)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _from_pil(
    picture: Image.Image, channels: int, max_pixels: int, name: str
) -> Image.Image | Tensor:
    width, height = picture.size
    if width * height > max_pixels or max(width, height) > 3 * math.isqrt(max_pixels):
        raise ImageError(
            f"{name} is {width} x {height} pixels, too large for the limit of {max_pixels} pixels "
            f"and {3 * math.isqrt(max_pixels)} a side; raise max_pixels, or scale it down"
        )
    if width * height == 0:
        raise ImageError(f"{name} has no pixels")
    if getattr(picture, "is_animated", False):
        picture.seek(0)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        if picture.mode != "F":  # sixteen bits, which PIL may hold in thirty-two
            values = np.clip(values, 0, 65535).astype(np.uint16)
        return _from_array(values, channels, name)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    if picture.mode == "LAB":  # has no direct way to grey
        picture = picture.convert("RGB")
    return picture.convert(_MODES[channels])


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
        return _from_pil(
            Image.fromarray(np.ascontiguousarray(squeezed)), channels, array.size, name
        )
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
    least, most = (float(value) for value in torch.aminmax(values))
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ImageError(f"{name} holds NaN or infinite values; floats must lie in [0, 1]")
    if least < -_TOLERANCE or most > 1 + _TOLERANCE:
        raise ImageError(f"floats in {name} must lie in [0, 1], but {_range_hint(least, most)}")
    return values.clamp(0, 1)


def _range_hint(least: float, most: float) -> str:
    reach = f"reach from {least:.3g} to {most:.3g}"
    if most > 1 + _TOLERANCE and least >= -_TOLERANCE:
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
    return torch.tensordot(weights, values, 1)[None].clamp(0, 1)


def _as_tensor(picture: Image.Image) -> Tensor:
    values = torch.from_numpy(np.array(picture))
    values = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
    return values.contiguous().float().div_(255)


def _fitted(
    picture: Image.Image | Tensor,
    size: tuple[int, int],
    resize: Resize,
    crop_pct: float,
    interpolation: str,
) -> Image.Image | Tensor:
    """The picture at ``size``, cropped or squashed."""
    if isinstance(picture, Tensor):
        height, width = picture.shape[-2:]
    else:
        width, height = picture.size
    scaled = size
    if resize == "crop":
        wanted = tuple(math.floor(side / crop_pct) for side in size)
        scale = max(wanted[0] / height, wanted[1] / width)
        scaled = max(wanted[0], int(height * scale)), max(wanted[1], int(width * scale))
    top, left = (round((a - b) / 2) for a, b in zip(scaled, size, strict=True))
    if isinstance(picture, Tensor):
        image = _scaled(picture, scaled, interpolation)
        return image[:, top : top + size[0], left : left + size[1]].contiguous()
    method = getattr(Image.Resampling, interpolation.upper(), Image.Resampling.BICUBIC)
    if picture.size != scaled[::-1]:
        picture = picture.resize(scaled[::-1], method)
    return picture.crop((left, top, left + size[1], top + size[0]))


def _scaled(image: Tensor, size: Sequence[int], interpolation: str) -> Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    if interpolation == "nearest":
        return torch.nn.functional.interpolate(image[None], tuple(size), mode="nearest-exact")[0]
    mode = "bilinear" if interpolation == "bilinear" else "bicubic"
    scaled = torch.nn.functional.interpolate(
        image[None], tuple(size), mode=mode, align_corners=False, antialias=True
    )
    result: Tensor = scaled[0].clamp(0, 1)
    return result


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")

"""Pictures from anywhere as tensors in [0, 1], and the check that a tensor is one.

Files, PIL images, numpy arrays and tensors come in; `(C, H, W)` or `(B, C, H, W)` float32 goes out.
Eight-bit pictures are resized by PIL, as torchvision and timm do when they evaluate. What a source
may be is `decoding.py`'s business; nothing is standardised.
"""

import math
import os
from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from naspix.errors import ImageError, InputError, UnknownNameError
from naspix.images.decoding import MODES, TOLERANCE, Source, decoded, range_hint
from naspix.images.fitting import Resize, fit

MAX_PIXELS = 100_000_000
_MOST_UNASKED = 1024  # pixels a side of a photo whose size becomes the network's
_NARROW = 32  # so much more than is kept would be scaled of a long narrow picture


def check_images(images: object, channels: int | None = None) -> None:
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
    least, most = map(float, torch.aminmax(check_shape(images, channels).detach()))
    if not (math.isfinite(least) and math.isfinite(most)):
        raise InputError("images hold NaN or infinite values; they must lie in [0, 1]")
    if least < -TOLERANCE or most > 1 + TOLERANCE:
        raise InputError(f"images must lie in [0, 1], but {range_hint(least, most)}")


def check_shape(images: object, channels: int | None = None) -> Tensor:
    """Hand ``images`` back if they are a non-empty float tensor `(B, C, H, W)`.

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
        hints = {
            3: "; add a batch axis with images[None]",
            5: "; give a volume or a film slice by slice, as a batch of pictures: images[:, :, i], "
            "or for (B, T, C, H, W) images.flatten(0, 1)",
        }
        hint = hints.get(images.ndim, "")
        raise InputError(f"images must be (B, C, H, W), but the shape given is {shape}{hint}")
    if 0 in shape:
        raise InputError(f"images must not be empty, but the shape given is {shape}")
    if not images.is_floating_point():
        raise InputError(
            f"images must be float in [0, 1], not {str(images.dtype).removeprefix('torch.')}; "
            "convert them with images.float() / 255"
        )
    if channels is not None and shape[1] != channels:
        last = "; move the channels forward with permute(0, 3, 1, 2)" * (shape[3] == channels)
        raise InputError(
            f"the model takes images of {channels} channel{'s' * (channels != 1)}, "
            f"but the shape given is {shape}{last}"
        )
    return images


def read_image(
    source: Source, *, channels: int = 3, max_pixels: int = MAX_PIXELS, exif: bool = True
) -> Float[Tensor, "C H W"]:
    """Read one picture at its own size.

    Args:
        source: A path, an open binary file, a PIL image, an array `(H, W)`, `(H, W, 1)`,
            `(H, W, 3)` or `(H, W, 4)`, or a tensor `(C, H, W)`. Integers span their type's range
            (uint8 0 to 255, uint16 0 to 65535; wider ones hold 0 to 255), floats are in [0, 1]. A
            file of 16 bits or more whose values fit 12 or 8 is taken so, with a warning.
        channels: 3 for RGB, 1 for grey.
        max_pixels: Larger pictures are refused before they are decoded.
        exif: Whether a picture is turned upright as its EXIF says; else it stays as stored.

    Raises:
        ImageError: Naming the file, if it cannot be read as a picture.

    Example:
        >>> read_image(np.zeros((5, 4, 3), np.uint8)).shape
        torch.Size([3, 5, 4])
    """
    if channels not in MODES:
        raise InputError(f"pictures are read with 1 or 3 channels, not {channels}")
    picture = decoded(source, channels, max_pixels, exif=exif)
    return picture if isinstance(picture, Tensor) else _as_tensor(picture)


def read_images(
    sources: Source | Iterable[Source],
    size: tuple[int, int] | None,
    *,
    channels: int = 3,
    resize: Resize | None = "crop",
    crop_pct: float = 1.0,
    interpolation: str = "bilinear",
    fill: Sequence[float] = (0.5,),
    max_pixels: int = MAX_PIXELS,
    exif: bool = True,
    bands: Sequence[int] | None = None,
) -> Float[Tensor, "B C H W"]:
    """Read pictures as one batch.

    Args:
        sources: One source as in `read_image` or several; an array or tensor with four axes is a
            batch of its own.
        size: Height and width of the result; None for those of the first picture, if it is small.
        channels: 3 for RGB, 1 for grey; any number of arrays `(H, W, bands)` and tensors.
        resize: ``"crop"`` scales the picture until it just covers ``size / crop_pct`` and cuts the
            middle out; ``"squash"`` scales height and width apart, so that all of it is seen;
            ``"pad"`` scales it until it just fits and fills the rest with one colour; None keeps
            the picture as it is, and then all must have one size.
        crop_pct: The share of the scaled picture's side that the middle takes, in (0, 1].
        interpolation: ``"nearest"``, ``"bilinear"``, ``"bicubic"`` or ``"lanczos"``; antialiased.
        fill: What ``"pad"`` fills with: a number a channel, or one for all, in [0, 1].
        max_pixels: As in `read_image`.
        exif: As in `read_image`.
        bands: Which bands of arrays and tensors become the channels, in this order; all by default.

    Raises:
        ImageError: If a source cannot be read as a picture, or has not as many channels.
        InputError: If there are none, or their sizes differ and ``resize`` is None; or if no size
            is given and the first picture is large.

    Example:
        >>> read_images(np.zeros((50, 40, 3), np.uint8), (32, 32)).shape
        torch.Size([1, 3, 32, 32])
    """
    if resize is not None and resize not in get_args(Resize):
        raise UnknownNameError.among("way to resize", resize, [*get_args(Resize), "None"])
    images = []
    for source in _listed(sources):
        picture = decoded(source, channels, max_pixels, exif=exif, bands=bands)
        size = size or _first_size(picture, resize)
        if resize == "pad":
            picture = _padded(picture, size, interpolation, fill)
        elif resize is not None:
            picture = _fitted(picture, size, resize, crop_pct, interpolation)
        images.append(picture if isinstance(picture, Tensor) else _as_tensor(picture))
    return as_batch(images)


def read_eight_bit(
    sources: Source | Iterable[Source],
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    exif: bool = True,
) -> list[Image.Image]:
    """Read pictures at their own sizes as PIL images of eight bits, to which others are rounded.

    Args:
        sources: As in `read_images`.
        channels: 3 for RGB, 1 for grey.
        max_pixels: As in `read_image`.
        exif: As in `read_image`.

    Raises:
        ImageError: If a source cannot be read as a picture.
    """
    pictures = []
    for source in _listed(sources):
        picture = decoded(source, channels, max_pixels, exif=exif)
        if isinstance(picture, Tensor):
            values = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            picture = Image.fromarray(values[..., 0] if channels == 1 else values)
        pictures.append(picture)
    return pictures


def as_batch(images: Sequence[Tensor]) -> Float[Tensor, "B C H W"]:
    """Images of one size as one tensor, on the first one's device.

    Raises:
        InputError: If there are none, or their sizes differ.
    """
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


def _listed(sources: Source | Iterable[Source]) -> Iterable[Source]:
    if isinstance(sources, Tensor | np.ndarray):
        return list(sources) if sources.ndim == 4 else [sources]
    if isinstance(sources, str | os.PathLike | Image.Image) or hasattr(sources, "read"):
        return [sources]  # type: ignore[list-item]
    if isinstance(sources, Iterable):
        return sources
    raise ImageError(f"{type(sources).__name__} is not an image, a path, or a list of them")


def _first_size(picture: Image.Image | Tensor, resize: Resize | None) -> tuple[int, int]:
    """The first picture's height and width; refused where they decide for others and are large."""
    height, width = _size_of(picture)
    if resize is not None and max(height, width) > _MOST_UNASKED:
        raise InputError(
            f"nothing says how large the network wants its images, and the first is {height} x "
            f"{width}: give wrap_model their height and width, input_size=(H, W), or resize=None "
            "to take photos at their own size"
        )
    return height, width


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
    fitted = fit(_size_of(picture), size, resize, crop_pct)
    scaled, (top, left) = fitted.scaled, fitted.corner
    method = getattr(Image.Resampling, interpolation.upper(), Image.Resampling.BICUBIC)
    if math.prod(scaled) > _NARROW * math.prod(size):
        return _middle_scaled(picture, scaled, (top, left), size, method)
    if isinstance(picture, Tensor):
        image = _scaled(picture, scaled, interpolation)
        return image[:, top : top + size[0], left : left + size[1]].contiguous()
    if picture.size != scaled[::-1]:
        picture = picture.resize(scaled[::-1], method)
    return picture.crop((left, top, left + size[1], top + size[0]))


def _size_of(picture: Image.Image | Tensor) -> tuple[int, int]:
    """Height and width."""
    if isinstance(picture, Tensor):
        return picture.shape[-2], picture.shape[-1]
    return picture.height, picture.width


def _padded(
    picture: Image.Image | Tensor, size: tuple[int, int], interpolation: str, fill: Sequence[float]
) -> Tensor:
    """The whole picture in the middle of a frame of ``size``."""
    fitted = fit(_size_of(picture), size, "pad")
    inner = fitted.scaled
    scaled = _fitted(picture, inner, "squash", 1.0, interpolation)
    image = scaled if isinstance(scaled, Tensor) else _as_tensor(scaled)
    top, left = -fitted.corner[0], -fitted.corner[1]
    frame = image.new_tensor(fill).view(-1, 1, 1).repeat(image.shape[0] // len(fill), *size)
    frame[:, top : top + inner[0], left : left + inner[1]] = image
    return frame


def _middle_scaled(
    picture: Image.Image | Tensor,
    scaled: Sequence[int],
    corner: tuple[int, int],
    size: tuple[int, int],
    method: Image.Resampling,
) -> Image.Image | Tensor:
    """The same for long narrow pictures: only what is kept is scaled."""
    if isinstance(picture, Tensor):
        channels = [
            _middle_scaled(Image.fromarray(one.cpu().numpy()), scaled, corner, size, method)
            for one in picture
        ]
        return torch.stack([torch.from_numpy(np.array(one)) for one in channels]).clamp(0, 1)
    across, down = (a / b for a, b in zip(picture.size, scaled[::-1], strict=True))
    top, bottom = corner[0] * down, (corner[0] + size[0]) * down
    left, right = corner[1] * across, (corner[1] + size[1]) * across
    return picture.resize(size[::-1], method, (left, top, right, bottom))


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

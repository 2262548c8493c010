"""What a hidden pixel shows: a colour, a blurred image, or the mean of its visible neighbours.

Images (B, C, H, W) in [0, 1] and masks of hidden pixels in, images of the same shape out. Which
baseline is chosen decides how methods rank (Bluecher et al., 2024): say which one was used.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from naspix.errors import InputError, UnknownNameError

Named = Literal["mean", "black", "blurred", "inpainted"]


@runtime_checkable
class HasMeanColour(Protocol):
    """A model that knows the mean colour of its standardisation, as ``naspix.Classifier`` does."""

    @property
    def mean(self) -> Tensor:
        """One value a channel."""
        ...


@dataclass(frozen=True)
class Blurred:
    """Images blurred by a Gaussian: what is hidden loses its details but not its colours.

    Attributes:
        kernel: Side of the window in pixels, odd.
        sigma: Standard deviation in pixels.

    Source:
        Petsiuk, Das, Saenko: RISE, 2018; the authors' code blurs with 11 and 5 for insertion. It
        sees the mean colour beyond the borders, where the image is mirrored here.

    Example:
        >>> Blurred()(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 3, 32, 32])
    """

    _: KW_ONLY
    kernel: int = 11
    sigma: float = 5.0

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0 or not self.sigma > 0:
            raise InputError(
                f"Blurred: kernel is an odd number of pixels and sigma more than 0, not "
                f"{self.kernel} and {self.sigma}"
            )

    def __call__(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the blurred images, mirrored at the borders."""
        from torchvision.transforms.functional import gaussian_blur

        if self.kernel // 2 >= min(images.shape[-2:]):
            raise InputError(
                f"Blurred: a window of {self.kernel} is too large for images of "
                f"{images.shape[-2]} x {images.shape[-1]}"
            )
        blurred: Tensor = gaussian_blur(images, [self.kernel] * 2, [self.sigma] * 2)
        return blurred


@dataclass(frozen=True)
class Inpainted:
    """Hidden pixels filled from the visible ones around them.

    Each begins as the mean of the visible pixels in the smallest block of 2, 4, 8, ... pixels a
    side (from the top left corner) that has some; then every hidden pixel becomes the mean of its
    four neighbours, some times over, which smooths the blocks' edges. Where no pixel is visible,
    the mean colour is shown.

    Attributes:
        sweeps: How many times.

    Source:
        Rong et al.: A Consistent and Efficient Evaluation Strategy for Attribution Methods (ROAD),
        2022, who solve for the fixed point of such sweeps and add noise.

    Example:
        >>> images, hidden = torch.ones(1, 1, 4, 4), torch.eye(4, dtype=torch.bool)[None]
        >>> Inpainted()(images, hidden, torch.zeros(1, 1, 1)).unique()
        tensor([1.])
    """

    _: KW_ONLY
    sweeps: int = 20

    def __post_init__(self) -> None:
        if self.sweeps < 0:
            raise InputError(f"Inpainted: sweeps must not be negative, but is {self.sweeps}")

    def __call__(
        self,
        images: Float[Tensor, "n C H W"],
        hidden: Bool[Tensor, "n H W"],
        empty: Float[Tensor, "#n C #H #W"] | Float[Tensor, "C 1 1"],
    ) -> Float[Tensor, "n C H W"]:
        """Fill what is hidden; ``empty`` is shown where nothing is visible."""
        seen = (~hidden)[:, None].to(images.dtype)
        filled = torch.where(hidden[:, None], _from_blocks(images * seen, seen, empty), images)
        for _ in range(self.sweeps):
            filled = torch.where(hidden[:, None], _neighbours_mean(filled), filled)
        return filled


Baseline = Named | float | Tensor | Blurred | Inpainted | Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Hider:
    """Hides parts of some images.

    Attributes:
        images: ``(B, C, H, W)``.
        shown: What hidden pixels show, ``(B, C, H, W)`` or one colour; with ``inpainting``, what
            they show where nothing is visible.
        inpainting: How hidden pixels are filled from visible ones instead.
    """

    images: Float[Tensor, "B C H W"]
    shown: Float[Tensor, "#B C #H #W"]
    inpainting: Inpainted | None = None

    def __call__(
        self, index: Int64[Tensor, " n"], hidden: Bool[Tensor, "n H W"]
    ) -> Float[Tensor, "n C H W"]:
        """Return image ``index[i]`` with ``hidden[i]`` hidden, for every i."""
        images = self.images[index]
        shown = self.shown if len(self.shown) == 1 else self.shown[index]
        if self.inpainting is not None:
            return self.inpainting(images, hidden, shown)
        return torch.where(hidden[:, None], shown, images)


def hider_of(model: object, images: Float[Tensor, "B C H W"], baseline: Baseline | None) -> Hider:
    """Make what hides parts of these images.

    Args:
        model: Its ``mean``, if it has one, is the mean colour; otherwise each image's own mean is.
        images: Values in [0, 1].
        baseline: A name; one value or one a channel, in [0, 1]; images of the same shape; or a
            function from images to images, such as `Blurred`. None is ``"mean"``.

    Raises:
        InputError: A baseline that does not fit the images.
    """
    colour = _mean_colour(model, images)
    if baseline is None or (baseline == "mean" and isinstance(baseline, str)):
        return Hider(images, colour)
    if isinstance(baseline, Inpainted) or _is(baseline, "inpainted"):
        inpainting = baseline if isinstance(baseline, Inpainted) else Inpainted()
        return Hider(images, colour, inpainting)
    if isinstance(baseline, str):
        return Hider(images, _named(baseline, images))
    if callable(baseline) and not isinstance(baseline, Tensor):
        baseline = baseline(images)
    return Hider(images, _fitting(torch.as_tensor(baseline), images))


def _is(baseline: object, name: Named) -> bool:
    return isinstance(baseline, str) and baseline == name


def _mean_colour(model: object, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "#B C 1 1"]:
    if isinstance(model, HasMeanColour) and isinstance(model.mean, Tensor):
        return _fitting(model.mean, images)
    return images.mean((2, 3), keepdim=True)


def _named(name: str, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "#B C #H #W"]:
    if name == "black":
        return images.new_zeros(1, images.shape[1], 1, 1)
    if name == "blurred":
        return Blurred()(images)
    raise UnknownNameError.among("baseline", name, get_args(Named))


def _fitting(values: Tensor, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "#B C #H #W"]:
    channels = images.shape[1]
    values = values.detach().to(images)
    if values.ndim == 0 or (values.numel() == channels and values.ndim in (1, 3)):
        return values.reshape(1, -1, 1, 1).expand(1, channels, 1, 1)
    shape = tuple(values.shape)
    one_colour_each = shape in {(len(images), channels, 1, 1), (1, channels, 1, 1)}
    if not one_colour_each and shape != tuple(images.shape):
        raise InputError(
            f"the baseline has the shape {shape}; give one value, one for each of the {channels} "
            f"channels, or images of the shape {tuple(images.shape)}"
        )
    return values


def _from_blocks(
    sums: Float[Tensor, "n C H W"], seen: Float[Tensor, "n 1 H W"], empty: Tensor
) -> Float[Tensor, "n C H W"]:
    """The mean of the visible pixels in the smallest block of a power of two that has any."""
    height, width = sums.shape[-2:]
    if height == width == 1:
        return torch.where(seen > 0, sums / seen.clamp(min=1), empty)
    edges = (0, width % 2, 0, height % 2)
    coarse = _from_blocks(
        4 * avg_pool2d(pad(sums, edges), 2), 4 * avg_pool2d(pad(seen, edges), 2), empty
    )
    above = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :height, :width]
    return torch.where(seen > 0, sums / seen.clamp(min=1), above)


def _neighbours_mean(images: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C H W"]:
    """The mean of the four neighbours; a border pixel is its own neighbour beyond the border."""
    framed = pad(images, (1, 1, 1, 1), mode="replicate")
    across = framed[..., 1:-1, :-2] + framed[..., 1:-1, 2:]
    return (across + framed[..., :-2, 1:-1] + framed[..., 2:, 1:-1]) / 4

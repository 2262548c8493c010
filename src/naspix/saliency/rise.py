"""RISE: hide random parts of the image and average the masks, each by the class's probability.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W). Hidden means the mean colour of the model's
standardisation, which is zero after it. All images and classes share one set of masks, made on the
device a round at a time from grids drawn beforehand; no stack of masks is ever held.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from naspix.errors import InputError, NaspixWarning
from naspix.models.batches import in_batches
from naspix.saliency.base import Attribution, Classes, Image, Images, Maps, Need, OneClass, Settings
from naspix.targets import Target, pick_scores

# Masks between two looks at the standard error, whatever the batch size: a batch size must not
# decide where a run ends.
_ROUND = 128


@dataclass(frozen=True, eq=False)
class RISEEstimate:
    """What RISE knows after the masks it has used.

    Attributes:
        map: ``(B, H, W)``, the mean over the masks.
        standard_error: ``(B, H, W)``, how far that mean still is from the one over all masks.
        n_masks: ``(B,)``, how many masks each image took.
    """

    map: Float[Tensor, "B H W"]
    standard_error: Float[Tensor, "B H W"]
    n_masks: Int64[Tensor, " B"]

    @property
    def relative_error(self) -> Float[Tensor, " B"]:
        """The mean standard error as a share of the map's range; infinite for a constant map."""
        spread = self.map.flatten(1).amax(1) - self.map.flatten(1).amin(1)
        return torch.where(spread > 0, self.standard_error.mean((1, 2)) / spread, torch.inf)


@dataclass(frozen=True)
class RandomMasks(Attribution):
    """What RISE and RELAX share: masks that hide random cells, and the image under each."""

    needs: ClassVar[Need] = "scores"

    _: KW_ONLY
    n_masks: int = 2000
    cells: int = 8
    p: float = 0.5
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("n_masks", "cells")
        if not 0 < self.p <= 1:
            raise InputError(f"{type(self).__name__}: p is a probability above 0, not {self.p}")

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count a forward for each mask."""
        return self.n_masks, 0

    def _rounds(self, size: tuple[int, int]) -> Iterator[Float[Tensor, "n H W"]]:
        """All masks, a round at a time, on the model's device."""
        grids, shifts = draw_masks(self.n_masks, self.cells, self.p, size, self.seed)
        device = self.model.device
        for some, by in zip(grids.split(_ROUND), shifts.split(_ROUND), strict=True):
            yield make_masks(some.to(device), by.to(device), size)

    @torch.no_grad()
    def _under_masks(
        self, image: Image, masks: Float[Tensor, "n H W"], ask: Callable[[Images], Tensor]
    ) -> Float[Tensor, "n ..."]:
        """What is answered about the image under each mask."""
        image = image.to(masks)
        hidden = self.model.mean.to(masks)
        parts = in_batches(
            lambda part: ask(torch.lerp(hidden, image, masks[part, None])),
            len(masks),
            self._at_once,
        )
        return torch.cat(list(parts))


@final
@dataclass(frozen=True)
class RISE(RandomMasks):
    """RISE: a pixel matters if the class is likely whenever the pixel is seen.

    Needs probabilities only, so any network will do; costs ``n_masks`` forwards an image. Never
    negative (but for contrasts), at most ``1 / p``; its level says how likely the class is under
    masks anywhere, only differences between pixels say where.

    Attributes:
        model: The classifier.
        n_masks: Masks for an image, with ``until`` at most. The authors' example notebook has
            2000, their paper 4000 for VGG16 and 8000 for ResNet50; which number the paper on NAS
            used is not known.
        cells: Cells on a side of the random grid; fewer hide larger parts.
        p: The probability that a cell is seen.
        seed: Of the masks. The same seed gives the same map in any batch.
        until: Stop an image when its mean standard error is below this share of its map's range;
            None uses all masks.
        batch_size: How many masked images pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Petsiuk, Das, Saenko: RISE, 2018, and the authors' code (``explanations.py``): a grid of
        ``cells`` cells upsampled by skimage's bilinear ``resize`` (mirrored borders) to one cell
        more than the image, a random crop of it, the sum divided by ``n_masks * p``.

    Example:
        >>> import naspix
        >>> method = RISE(naspix.load_model("efficientnet_lite0"), n_masks=16)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "RISE"
    quick: ClassVar[Settings] = {"n_masks": 300}

    _: KW_ONLY
    until: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.until is not None and not self.until > 0:
            raise InputError(f"RISE: until is a share of the map's range above 0, not {self.until}")

    def estimate(self, images: Images, target: Target = None) -> RISEEstimate:
        """Return the map with its standard error.

        Warns:
            NaspixWarning: ``n_masks`` were not enough for ``until``.
        """
        return self._answer(type(self)._estimate, images, target)

    def _attribute(self, images: Images, target: Classes) -> Maps:
        return self._estimate(images, target).map

    def _estimate(self, images: Images, target: Classes) -> RISEEstimate:
        size = (images.shape[-2], images.shape[-1])
        means = _RunningMeans.zeros(len(images), size)
        going = torch.ones(len(images), dtype=torch.bool)
        for masks in self._rounds(size):
            for index in going.nonzero()[:, 0].tolist():
                means.add(index, self._scores(images[index], masks, target[index]), masks)
            if self.until is not None:
                going = means.estimate(self.p, images).relative_error.cpu() > self.until
                if not bool(going.any()):
                    break
        result = means.estimate(self.p, images)
        if self.until is not None and bool(going.any()):
            warnings.warn(
                f"RISE: after {self.n_masks} masks the standard error of {int(going.sum())} of "
                f"{len(going)} maps is still up to {float(result.relative_error.max()):.1%} of the "
                "map's range; raise n_masks",
                NaspixWarning,
                stacklevel=4,
            )
        return result

    def _scores(
        self, image: Image, masks: Float[Tensor, "n H W"], target: OneClass
    ) -> Float[Tensor, " n"]:
        """The class's probability for the image under each mask."""

        def ask(seen: Images) -> Tensor:
            probabilities = self.model.probabilities(seen)
            return pick_scores(probabilities, target.expand(len(seen), *target.shape))

        return self._under_masks(image, masks, ask).to(masks)


def draw_masks(
    n_masks: int, cells: int, p: float, size: tuple[int, int], seed: int
) -> tuple[Bool[Tensor, "n cells cells"], Int64[Tensor, "n 2"]]:
    """What is random in masks: which cells are seen, and where the image lies on the grid.

    Drawn on the CPU, so that a seed means the same on every device.

    Returns:
        Grids, and shifts down and right, below a cell's height and width in pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    grids = torch.rand(n_masks, cells, cells, generator=generator, dtype=torch.float32) < p
    shifts = torch.stack(
        [torch.randint(math.ceil(side / cells), (n_masks,), generator=generator) for side in size],
        1,
    )
    return grids, shifts


def make_masks(
    grids: Bool[Tensor, "n cells cells"],
    shifts: Int64[Tensor, "n 2"],
    size: tuple[int, int],
) -> Float[Tensor, "n H W"]:
    """Grids upsampled to one cell more than the image, shifted, and cut to the image.

    Upsampling is linear and separable, so a mask is ``rows @ grid @ columns.T``: the crop only
    chooses rows, and the upsampled grid is never made.
    """
    cells = grids.shape[-1]
    rows, columns = (
        _upsampling(cells, side, grids.device)[shift[:, None] + _range(side, grids)]
        for side, shift in zip(size, shifts.unbind(1), strict=True)
    )
    return (rows @ grids.float() @ columns.mT).clamp_(0, 1)


def _range(n: int, like: Tensor) -> Int64[Tensor, " n"]:
    return torch.arange(n, device=like.device)


def _upsampling(cells: int, side: int, device: torch.device) -> Float[Tensor, "pixels cells"]:
    """Bilinear weights from cells to pixels, borders mirrored as skimage's ``resize`` does."""
    cell = math.ceil(side / cells)
    places = torch.arange((cells + 1) * cell, device=device, dtype=torch.float32)
    centers = (places + 0.5) * cells
    centers = centers / ((cells + 1) * cell) - 0.5
    last = cells - 1
    mirrored = (last - (last - centers.abs()).abs()).clamp(0, last)
    return (1 - (mirrored[:, None] - _range(cells, mirrored)).abs()).clamp(min=0)


@dataclass(frozen=True, eq=False)
class _RunningMeans:
    """Mean and sum of squared deviations of ``score * mask``, on the CPU in float64.

    Attributes:
        mean: ``(B, H, W)``.
        deviations: ``(B, H, W)``, sums of squares about the mean.
        n: ``(B,)``, masks seen.
    """

    mean: Float[Tensor, "B H W"]
    deviations: Float[Tensor, "B H W"]
    n: Int64[Tensor, " B"]

    @classmethod
    def zeros(cls, n_images: int, size: tuple[int, int]) -> "_RunningMeans":
        mean = torch.zeros(n_images, *size, dtype=torch.float64)
        return cls(mean, torch.zeros_like(mean), torch.zeros(n_images, dtype=torch.int64))

    def add(self, index: int, scores: Float[Tensor, " n"], masks: Float[Tensor, "n H W"]) -> None:
        """Join a round's mean and deviations with those so far (Chan, Golub, LeVeque 1979)."""
        n_new, n_old = len(masks), int(self.n[index])
        rows = masks.flatten(1)
        mean = (scores @ rows / n_new).cpu().double().view_as(self.mean[index])
        squares = (scores.square() @ rows.square()).cpu().double().view_as(mean)
        deviations = (squares - n_new * mean.square()).clamp(min=0)
        n = n_old + n_new
        difference = mean - self.mean[index]
        self.mean[index] += difference * (n_new / n)
        self.deviations[index] += deviations + difference.square() * (n_old * n_new / n)
        self.n[index] = n

    def estimate(self, p: float, like: Tensor) -> RISEEstimate:
        """The map and its standard error; a single mask has none: it is infinite."""
        n = self.n[:, None, None].double()
        variance = torch.where(n > 1, self.deviations / (n - 1), torch.inf)
        return RISEEstimate(
            map=(self.mean / p).to(like),
            standard_error=((variance / n).sqrt() / p).to(like),
            n_masks=self.n.to(like.device, copy=True),
        )

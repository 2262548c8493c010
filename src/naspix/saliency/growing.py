"""XRAI's region growing: an attribution and overlapping masks -> regions painted by their gain.

Attribution (H, W) and the pixels of each mask, numpy -> a density map (H, W) and ranks (H, W), 1
for the most important region. Results are those of the authors' code; time is not: a painted pixel
is taken out of the sums of all masks that hold it, once, so that no mask is ever counted again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from naspix.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Variant = Literal["full", "fast"]
Pixels = Int[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class GrownRegions:
    """What grew out of one attribution.

    Attributes:
        density: ``(H, W)``, at each pixel the mean attribution that its region brought.
        ranks: ``(H, W)``, 1 for the region of highest density.
    """

    density: Float[np.ndarray, "H W"]
    ranks: Int[np.ndarray, "H W"]


def grow_regions(
    attribution: Float[np.ndarray, "H W"],
    masks: Sequence[Pixels],
    *,
    variant: Variant = "full",
    area_threshold: float = 1.0,
    min_pixels: int = 50,
) -> GrownRegions:
    """Paint the image mask by mask, the best first, each with the mean attribution it adds.

    Args:
        attribution: Signed.
        masks: Flat indices of each mask's pixels, in raster order. Masks may overlap, and need not
            cover the image; pixels in none, or left over, get their own mean.
        variant: ``"full"`` chooses anew after each mask, ``"fast"`` sorts the masks once.
        area_threshold: ``"full"`` ends when more than this share of the image is painted.
        min_pixels: Masks that add fewer pixels are passed over.

    Raises:
        InputError: an unknown variant.

    Source:
        Kapishnikov et al.: XRAI, 2019, and the authors' ``saliency.core.XRAI``.

    Example:
        >>> attribution = np.array([[0.0, 1.0, 5.0]])
        >>> masks = [np.array([0, 1]), np.array([1, 2])]
        >>> grow_regions(attribution, masks, min_pixels=1).density
        array([[0., 3., 3.]])
    """
    if variant not in get_args(Variant):
        raise InputError(f"variant is one of {', '.join(get_args(Variant))}, not {variant!r}")
    values = attribution.astype(np.float64).ravel()
    masks = [pixels for pixels in masks if len(pixels)]
    if variant == "full":
        regions = list(_grow(values, masks, area_threshold, min_pixels))
    else:
        regions = list(_paint_sorted(values, masks, min_pixels))
    return _drawn(values, regions, attribution.shape)


def _grow(
    values: Float[np.ndarray, " P"],
    masks: Sequence[Pixels],
    area_threshold: float,
    min_pixels: int,
) -> Iterator[Pixels]:
    """Yield the pixels that each mask adds, always taking the mask of the highest mean."""
    pixels_of = _pixels_of(masks, values.size)
    masks_of = pixels_of.T.tocsr()
    counts = np.diff(pixels_of.indptr)
    sums = pixels_of @ values
    unpainted = np.ones(len(values), dtype=bool)
    n_painted = 0
    while n_painted <= area_threshold * len(values):
        open_ = np.flatnonzero(counts >= min_pixels)
        if not len(open_):
            return
        # the first of equals, as the authors' strict comparison chooses
        best = open_[np.argmax(sums[open_] / counts[open_])]
        pixels = masks[best]
        added = pixels[unpainted[pixels]]
        yield added
        unpainted[added] = False
        n_painted += len(added)
        holding = masks_of[added]
        counts = counts - np.bincount(holding.indices, minlength=len(counts))
        sums = sums - holding.T @ values[added]


def _paint_sorted(
    values: Float[np.ndarray, " P"], masks: Sequence[Pixels], min_pixels: int
) -> Iterator[Pixels]:
    """Yield the pixels that each mask adds, masks in the order of their own means."""
    means = np.array([np.add.reduce(values.take(pixels)) / len(pixels) for pixels in masks])
    unpainted = np.ones(len(values), dtype=bool)
    n_unpainted = len(values)
    for mask in np.argsort(-means, kind="stable"):
        if n_unpainted < min_pixels:  # nor has any mask so many left
            return
        pixels = masks[mask]
        added = pixels[unpainted.take(pixels)]
        if len(added) >= min_pixels:
            yield added
            unpainted[added] = False
            n_unpainted -= len(added)


def _drawn(
    values: Float[np.ndarray, " P"],
    regions: list[Pixels],
    size: tuple[int, ...],
) -> GrownRegions:
    """Each region in its mean, ranked by it; what is left comes last whatever its mean."""
    density, ranks = np.full(len(values), np.nan), np.zeros(len(values), dtype=np.int64)
    gains = np.array([values[pixels].mean() for pixels in regions])
    if regions:
        places = np.empty(len(regions), dtype=np.int64)
        places[np.argsort(-gains, kind="stable")] = np.arange(1, len(regions) + 1)
        painted, areas = np.concatenate(regions), [len(pixels) for pixels in regions]
        density[painted], ranks[painted] = np.repeat(gains, areas), np.repeat(places, areas)
    left = ranks == 0
    if left.any():
        density[left], ranks[left] = values[left].mean(), len(regions) + 1
    return GrownRegions(density.reshape(size), ranks.reshape(size))


def _pixels_of(masks: Sequence[Pixels], n_pixels: int) -> "csr_array":
    """A sparse (masks x pixels) matrix of ones, a row for each mask."""
    from scipy.sparse import csr_array

    starts = np.cumsum([0, *map(len, masks)])
    columns = np.concatenate([np.empty(0, np.int32), *masks], dtype=np.int32, casting="unsafe")
    return csr_array((np.ones(len(columns)), columns, starts), shape=(len(masks), n_pixels))

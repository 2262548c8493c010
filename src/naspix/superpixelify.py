"""The paper's step: (saliency (B, H, W), labels (B, H, W)) -> saliency constant on superpixels.

Any saliency map and any labels will do. Each pixel gets the mean (or sum, maximum, median) of its
superpixel. Sums are accumulated in float64 whatever the maps hold: a superpixel may have 10^5
pixels, where float32 sums lose the digits by which superpixels are ranked. Here also: the ranking
of one photo's superpixels. What a pooled map is worth is measured elsewhere.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from naspix.errors import InputError
from naspix.models.devices import in_float64
from naspix.native import pool_regions, route

Reduce = Literal["mean", "sum", "max", "median"]

# On a CPU the maps are pooled this many values at a time: a larger batch leaves the cache, and then
# takes twice the time a map.
_CACHED_VALUES = 2**18


def superpixelify(
    saliency: Tensor | NDArray[Any], labels: Tensor | NDArray[Any], *, reduce: Reduce = "mean"
) -> Float[Tensor, "B *M H W"]:
    """Give every pixel one value per superpixel, the mean of its saliency there by default.

    Keeps the sum of a map (with ``"mean"``), its dtype and its device, and is idempotent.

    Args:
        saliency: ``(B, H, W)``, or ``(B, M, H, W)`` for M maps of each image; floating, finite; a
            tensor or an array.
        labels: ``(B, h, w)`` integers, any numbers; the same number in two images means two
            superpixels. Another size than the maps' is resized by nearest neighbour.
        reduce: What a superpixel's pixels become: ``"mean"`` is the paper's; with ``"sum"`` larger
            superpixels count for more; an even number of pixels has the mean of the two middle
            ones for ``"median"``.

    Returns:
        The pooled maps, of the shape of ``saliency``.

    Raises:
        InputError: shapes that do not fit, labels that are not integers, values not finite.

    Source:
        The paper, section 4.3.1 ("superpixelification").

    Example:
        >>> heat = torch.tensor([[[0.0, 2.0, 5.0]]])
        >>> superpixelify(heat, torch.tensor([[[7, 7, 3]]]))
        tensor([[[1., 1., 5.]]])
    """
    saliency, labels = _as_tensor(saliency, "saliency"), _as_tensor(labels, "labels")
    _check(saliency, labels, reduce)
    size = (saliency.shape[-2], saliency.shape[-1])
    maps = saliency.reshape(len(saliency), -1, size[0] * size[1])
    labels = _resize_nearest(labels, size).flatten(1)
    if reduce in ("mean", "sum") and route(maps):
        try:
            whole = pool_regions(maps, labels.long().cpu().contiguous(), mean=reduce == "mean")
        except FloatingPointError:
            _check_finite(finite=False)
        if whole is not None:
            return whole.view(saliency.shape)
    regions, n_regions = _number_regions(labels)
    share = len(maps) if maps.is_cuda else max(1, _CACHED_VALUES // maps[0].numel())
    pooled = [
        _pool(maps[start : start + share], regions[start : start + share], n_regions, reduce)
        for start in range(0, len(maps), share)
    ]
    return torch.cat(pooled).view(saliency.shape)


def variance_kept(saliency: Tensor, labels: Tensor) -> Float[Tensor, " B *M"]:
    """Return the share of each map's variance that is left once it is pooled.

    1 for a map that is constant on every superpixel already: the regions follow it. Near 0 for one
    that varies inside the regions only: its pooled map says next to nothing of it.

    Args:
        saliency: As for ``superpixelify``.
        labels: The same.

    Returns:
        Float64 from 0 to 1; NaN for a constant map, which has no variance.

    Raises:
        InputError: As ``superpixelify``.

    Example:
        >>> heat = torch.tensor([[[1.0, 3.0, 6.0, 6.0]]])
        >>> variance_kept(heat, torch.tensor([[[0, 0, 1, 1]]]))
        tensor([0.8889], dtype=torch.float64)
    """
    exact = in_float64(saliency)
    before, after = (
        maps.flatten(-2).var(-1, correction=0)
        for maps in (exact, superpixelify(exact, labels.to(exact.device)))
    )
    varies = before > torch.finfo(torch.float64).eps * exact.flatten(-2).square().mean(-1)
    return torch.where(varies, (after / before).clamp(0, 1), torch.nan)


@dataclass(frozen=True)
class RankedSuperpixel:
    """One superpixel of one photo and its place among the others.

    Attributes:
        rank: 1 for the most salient.
        label: Its number in the label map.
        area: Pixels.
        box: ``(left, top, right, bottom)`` in pixels; right and bottom lie just outside.
        saliency: Mean saliency over its pixels.
    """

    rank: int
    label: int
    area: int
    box: tuple[int, int, int, int]
    saliency: float


def rank_superpixels(saliency: Tensor, labels: Tensor) -> list[RankedSuperpixel]:
    """Order the superpixels of one photo by their mean saliency, highest first.

    Superpixels of equal saliency keep the order of their labels.

    Args:
        saliency: ``(H, W)``, pooled or not.
        labels: ``(H, W)`` integers.

    Example:
        >>> first, _ = rank_superpixels(torch.tensor([[0.0, 2.0, 5.0]]), torch.tensor([[7, 7, 3]]))
        >>> first.label, first.area, first.box, first.saliency
        (3, 1, (2, 0, 3, 1), 5.0)
    """
    _check(saliency[None], labels[None], "mean")
    names, index = np.unique(labels.cpu().numpy(), return_inverse=True)
    index = index.reshape(labels.shape)
    weights = saliency.detach().cpu().double().numpy()
    areas = np.bincount(index.ravel())
    means = np.bincount(index.ravel(), weights.ravel()) / areas
    boxes = _boxes(index, len(names))
    order = np.argsort(-means, kind="stable")
    return [
        RankedSuperpixel(
            rank=place,
            label=int(names[i]),
            area=int(areas[i]),
            box=boxes[i],
            saliency=float(means[i]),
        )
        for place, i in enumerate(order, start=1)
    ]


def _boxes(index: Shaped[np.ndarray, "H W"], n: int) -> list[tuple[int, int, int, int]]:
    from scipy.ndimage import find_objects

    slices = find_objects(index + 1, n)
    return [(x.start, y.start, x.stop, y.stop) for y, x in slices]


def _as_tensor(values: object, name: str) -> Tensor:
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "biuf":
            raise InputError(f"{name} are numbers, not {values.dtype}")
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.ascontiguousarray(native))
    if not isinstance(values, Tensor):
        raise InputError(f"{name} is a tensor or an array, not {type(values).__name__}")
    return values


def _check(saliency: Tensor, labels: Tensor, reduce: str) -> None:
    if reduce not in get_args(Reduce):
        raise InputError(f"reduce is one of {', '.join(get_args(Reduce))}, not {reduce!r}")
    if saliency.ndim not in (3, 4) or not saliency.is_floating_point():
        raise InputError(
            "saliency is a floating tensor (B, H, W) or (B, M, H, W), "
            f"not {saliency.dtype} of shape {tuple(saliency.shape)}"
        )
    if labels.ndim != 3 or labels.is_floating_point() or labels.is_complex():
        raise InputError(
            f"labels are an integer tensor (B, H, W), not {labels.dtype} of shape "
            f"{tuple(labels.shape)}"
        )
    if len(saliency) != len(labels):
        raise InputError(
            f"there are saliency maps of {len(saliency)} images but labels of {len(labels)}"
        )
    if saliency.numel() == 0 or labels.numel() == 0:
        raise InputError("saliency or labels have no pixels")


def _resize_nearest(
    labels: Shaped[Tensor, "B h w"], size: tuple[int, int]
) -> Shaped[Tensor, "B H W"]:
    """Resize labels by nearest neighbour, pixel centres aligned."""
    if labels.shape[-2:] == size:
        return labels
    rows, columns = (
        ((torch.arange(new, device=labels.device) + 0.5) * (old / new)).long().clamp(max=old - 1)
        for new, old in zip(size, labels.shape[-2:], strict=True)
    )
    return labels[:, rows][:, :, columns]


def _number_regions(labels: Shaped[Tensor, "B P"]) -> tuple[Int[Tensor, "B P"], int]:
    """Labels as numbers from 0, below the second result, few enough to allocate."""
    labels = labels.long()
    low, high = (int(bound) for bound in labels.aminmax())
    if high - low < labels.shape[1]:
        return (labels if low == 0 else labels - low), high - low + 1
    names, index = torch.unique(labels, return_inverse=True)
    return index, len(names)


def _check_finite(*, finite: bool) -> None:
    if not finite:
        raise InputError("saliency has values that are not finite (NaN or infinite)")


def _pool(
    maps: Float[Tensor, "B M P"], regions: Int[Tensor, "B P"], n_regions: int, reduce: Reduce
) -> Float[Tensor, "B M P"]:
    if maps.device.type == "mps":  # has no float64
        values = _reduce(maps.cpu(), regions.cpu(), n_regions, reduce).to(maps)
    else:
        values = _reduce(maps, regions, n_regions, reduce).to(maps.dtype)
    return values.gather(2, regions[:, None].expand_as(maps))


def _reduce(
    maps: Float[Tensor, "B M P"], regions: Int[Tensor, "B P"], n_regions: int, reduce: Reduce
) -> Float[Tensor, "B M R"]:
    """One value per map and region; regions without pixels have any value."""
    sums, areas = _sums_and_areas(maps, regions, n_regions)
    _check_finite(finite=bool(torch.isfinite(sums).all()))
    if reduce == "sum":
        return sums
    if reduce == "mean":
        return sums / areas.clamp(min=1)[:, None]
    if reduce == "max":
        pixels = regions[:, None].expand_as(maps)
        return torch.full_like(sums, -torch.inf, dtype=maps.dtype).scatter_reduce(
            2, pixels, maps, "amax"
        )
    return _medians(maps, regions, areas)


def _sums_and_areas(
    maps: Float[Tensor, "B M P"], regions: Int[Tensor, "B P"], n_regions: int
) -> tuple[Float[Tensor, "B M R"], Int[Tensor, "B R"]]:
    """Sum over each region, in float64, and its number of pixels."""
    n_images, n_maps, _ = maps.shape
    pixels = regions[:, None].expand_as(maps)
    sums = torch.zeros(n_images, n_maps, n_regions, dtype=torch.float64, device=maps.device)
    sums.scatter_add_(2, pixels, maps.double())
    offsets = n_regions * torch.arange(n_images, device=maps.device)[:, None]
    areas = torch.bincount((regions + offsets).flatten(), minlength=n_images * n_regions)
    return sums, areas.view(n_images, n_regions)


def _medians(
    maps: Float[Tensor, "B M P"], regions: Int[Tensor, "B P"], areas: Int[Tensor, "B R"]
) -> Float[Tensor, "B M R"]:
    """The middle of each region's sorted values, or the mean of the two middle ones."""
    by_value = maps.argsort(-1)
    pixels = regions[:, None].expand_as(maps)
    by_region = pixels.gather(2, by_value).argsort(stable=True, dim=-1)
    ordered = maps.gather(2, by_value.gather(2, by_region))
    starts = areas.cumsum(1) - areas
    last = maps.shape[2] - 1
    middles = [
        (starts + offset).clamp(0, last)[:, None].expand(-1, maps.shape[1], -1)
        for offset in ((areas - 1).div(2, rounding_mode="floor"), areas // 2)
    ]
    below, above = (ordered.gather(2, middle).double() for middle in middles)
    return (below + above) / 2

"""Saliency by meaning (paper, table 1): how much of it falls on each cluster of a class.

In, batch by batch: saliency maps of several methods, with the clusters and superpixels of a class
clustering; and which predictions are right. Out: for each method the most salient cluster, its mean
saliency and that of the others, for right and wrong predictions, with bootstrap intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.superpixelify import superpixelify

if TYPE_CHECKING:
    from pandas import DataFrame

Weigh = Literal["superpixels", "area"]
Split = Literal["all", "right", "wrong"]
SPLITS: tuple[Split, ...] = ("all", "right", "wrong")
_RESAMPLES_AT_ONCE = 200


@dataclass(frozen=True, eq=False)
class ClusterSaliency:
    """What each cluster of each image got from each method; measured by ``cluster_saliency``.

    Attributes:
        methods: Names of the M methods.
        sums: Over each cluster's superpixels, of their mean saliency (times their area, where that
            is weighed); maps are scaled to 0..1.
        weights: What the sums are divided by: the number of superpixels, or of pixels. 0 where an
            image lacks a cluster.
        area: The share of the image's pixels.
        blank: Whether a map was constant, or not finite, and so counted as zero.
    """

    methods: tuple[str, ...]
    sums: Float64[Tensor, "B M K"]
    weights: Float64[Tensor, "B K"]
    area: Float64[Tensor, "B K"]
    blank: Bool[Tensor, "B M"]

    def __len__(self) -> int:
        return len(self.sums)

    @property
    def means(self) -> Float64[Tensor, "B M K"]:
        """The mean saliency of each cluster in each image, 0 to 1; NaN where it is absent."""
        return self.sums / self.weights[:, None]

    @classmethod
    def join(cls, parts: Sequence["ClusterSaliency"]) -> "ClusterSaliency":
        """Put the measurements of several batches together.

        Raises:
            InputError: If there are none, or their methods or clusters differ.
        """
        if not parts:
            raise InputError("no batch was measured; there is nothing to join")
        if len({(part.methods, part.sums.shape[2]) for part in parts}) > 1:
            raise InputError("the batches were measured with different methods or clusters")
        return cls(
            parts[0].methods,
            torch.cat([part.sums for part in parts]),
            torch.cat([part.weights for part in parts]),
            torch.cat([part.area for part in parts]),
            torch.cat([part.blank for part in parts]),
        )


def cluster_saliency(
    saliency: Mapping[str, Tensor],
    clusters: Int64[Tensor, "B H W"],
    superpixels: Int64[Tensor, "B H W"],
    *,
    n_clusters: int,
    weigh: Weigh = "superpixels",
) -> ClusterSaliency:
    """Measure how much saliency falls on each cluster of each image.

    Every map is scaled so that its lowest pixel is 0 and its highest 1, then averaged over each
    superpixel. A map that is constant or holds values that are not finite counts as zero
    everywhere, and as blank.

    Args:
        saliency: A ``(B, H, W)`` map of each method.
        clusters: Of a class clustering.
        superpixels: Ids from 0; each belongs to the cluster of its first pixel.
        n_clusters: K; no cluster is higher.
        weigh: Whether superpixels count alike, as in the paper, or by their number of pixels.

    Raises:
        InputError: If shapes do not fit, or a cluster is not below K.

    Source:
        Table 1.

    Example:
        >>> heat = torch.tensor([[[0.0, 2.0, 8.0, 8.0]]])
        >>> clusters, superpixels = torch.tensor([[[0, 0, 1, 0]]]), torch.tensor([[[0, 0, 1, 2]]])
        >>> measured = cluster_saliency({"cam": heat}, clusters, superpixels, n_clusters=2)
        >>> measured.means[0, 0]
        tensor([0.5625, 1.0000], dtype=torch.float64)
    """
    _check(saliency, clusters, superpixels, n_clusters)
    maps = torch.stack([heat.detach().double().cpu() for heat in saliency.values()], dim=1)
    scaled, blank = scale_maps(maps)
    pooled = superpixelify(scaled, superpixels.cpu()).flatten(2)
    n_pixels = pooled.shape[2]
    sums = torch.zeros(*pooled.shape[:2], n_clusters, dtype=torch.float64)
    weights = torch.zeros(len(pooled), n_clusters, dtype=torch.float64)
    area = torch.zeros_like(weights)
    of_images = zip(clusters.flatten(1).cpu(), superpixels.flatten(1).cpu(), strict=True)
    for b, (labels, ids) in enumerate(of_images):
        _, first, sizes = np.unique(ids.numpy(), return_index=True, return_counts=True)
        owner = labels[torch.from_numpy(first)]
        areas = torch.from_numpy(sizes).double()
        each = torch.ones_like(areas) if weigh == "superpixels" else areas
        values = pooled[b][:, torch.from_numpy(first)]
        sums[b].index_add_(1, owner, values * each)
        weights[b].index_add_(0, owner, each)
        area[b].index_add_(0, owner, areas / n_pixels)
    return ClusterSaliency(tuple(saliency), sums, weights, area, blank)


def scale_maps(
    maps: Float[Tensor, "B M H W"],
) -> tuple[Float[Tensor, "B M H W"], Bool[Tensor, "B M"]]:
    """Scale every map to 0..1; say which were constant or not finite, and are now zero.

    Example:
        >>> scaled, blank = scale_maps(torch.tensor([[[[-1.0, 3.0]], [[2.0, 2.0]]]]))
        >>> scaled.tolist(), blank.tolist()
        ([[[[0.0, 1.0]], [[0.0, 0.0]]]], [[False, True]])
    """
    finite = maps.isfinite().flatten(2).all(2)
    usable = torch.where(finite[..., None, None], maps, 0)
    low, high = usable.flatten(2).amin(2), usable.flatten(2).amax(2)
    blank = ~finite | (high <= low)
    width = torch.where(blank, 1, high - low)[..., None, None]
    return (usable - low[..., None, None]) / width, blank


@dataclass(frozen=True)
class SaliencyRow:
    """One method over all, the rightly or the wrongly predicted images: a line of table 1.

    Intervals are ``(low, high)``. Everything is NaN, and ``cluster`` -1, where there is no image.

    Attributes:
        method: Its name.
        split: Which images.
        n_images: How many.
        cluster: The chosen cluster: the most salient of this split, unless one was given.
        chosen: Mean saliency of its superpixels, 0 to 1.
        chosen_interval: The same over resampled images.
        others: Mean saliency of all other superpixels.
        others_interval: The same over resampled images.
        stability: The share of the resamples in which the chosen cluster is the most salient.
        n_blank: Maps that were constant or not finite, and count as zero.
    """

    method: str
    split: Split
    n_images: int
    cluster: int
    chosen: float
    chosen_interval: tuple[float, float]
    others: float
    others_interval: tuple[float, float]
    stability: float
    n_blank: int


@dataclass(frozen=True, eq=False)
class SaliencyByCluster:
    """Table 1, and what it is condensed from.

    Attributes:
        rows: One a method and split.
        means: Method and split -> mean saliency of each cluster, NaN where no image has it.
        confidence: Of the intervals.
    """

    rows: tuple[SaliencyRow, ...]
    means: Mapping[tuple[str, Split], Float64[Tensor, " K"]]
    confidence: float | int

    def row(self, method: str, split: Split = "all") -> SaliencyRow:
        """The line of a method and split."""
        for row in self.rows:
            if (row.method, row.split) == (method, split):
                return row
        raise InputError(f"there is no row for {method!r} and {split!r} images")

    def to_pandas(self) -> "DataFrame":
        """The rows as a table; intervals have a column for each end."""
        from pandas import DataFrame

        entries = []
        for row in self.rows:
            entry = dict(vars(row))
            for name in ("chosen", "others"):
                entry[f"{name}_low"], entry[f"{name}_high"] = entry.pop(f"{name}_interval")
            entries.append(entry)
        return DataFrame(entries)


def saliency_by_cluster(
    measured: ClusterSaliency,
    right: Bool[Tensor, " B"],
    *,
    cluster: int | None = None,
    n_resamples: int = 1000,
    confidence: float | int = 0.95,
    seed: int = 0,
) -> SaliencyByCluster:
    """Condense measurements to table 1: the most salient cluster of each method, and the others.

    Means are over the superpixels of all images together. Intervals are percentiles over images
    drawn anew with replacement; the chosen cluster stays the one of the full data.

    Args:
        measured: Of all images, from ``cluster_saliency``.
        right: Whether each image's prediction is right.
        cluster: The cluster to compare with the others; by default each row's most salient one.
        n_resamples: Number of resamples.
        confidence: Of the intervals, between 0 and 1.
        seed: Of the resampling.

    Raises:
        InputError: If ``right`` does not fit, or an argument is out of its range.

    Source:
        Table 1; Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.

    Example:
        >>> heat, labels = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0, 1]]])
        >>> measured = cluster_saliency({"cam": heat}, labels, labels, n_clusters=2)
        >>> row = saliency_by_cluster(measured, torch.tensor([True])).row("cam")
        >>> row.cluster, row.chosen, row.others
        (1, 1.0, 0.0)
    """
    n_clusters = measured.sums.shape[2]
    if right.shape != (len(measured),):
        raise InputError(f"right has the shape {tuple(right.shape)}; {len(measured)} are measured")
    if cluster is not None and not 0 <= cluster < n_clusters:
        raise InputError(f"there is no cluster {cluster}; they are 0 to {n_clusters - 1}")
    if not 0 < confidence < 1 or n_resamples < 1:
        raise InputError(
            f"confidence is {confidence} and n_resamples {n_resamples}; they must be between 0 and "
            "1, and at least 1"
        )
    right = right.cpu()
    chosen_images = {"all": torch.ones_like(right), "right": right, "wrong": ~right}
    rows: list[SaliencyRow] = []
    means = {}
    for split in SPLITS:
        part = chosen_images[split]
        sums, weights = measured.sums[part].numpy(), measured.weights[part].numpy()
        draws = _resampled(sums, weights, n_resamples, seed)
        for m, method in enumerate(measured.methods):
            whole = _ratio(sums[:, m].sum(0), weights.sum(0))
            means[method, split] = torch.from_numpy(whole)
            rows.append(
                _row(
                    method,
                    split,
                    (sums[:, m].sum(0), weights.sum(0)),
                    (draws[0][:, m], draws[1]),
                    cluster=cluster,
                    confidence=confidence,
                    n_images=int(part.sum()),
                    n_blank=int(measured.blank[part, m].sum()),
                )
            )
    order = {method: m for m, method in enumerate(measured.methods)}
    rows.sort(key=lambda row: (order[row.method], SPLITS.index(row.split)))
    return SaliencyByCluster(tuple(rows), means, confidence)


def _row(
    method: str,
    split: Split,
    whole: tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]],
    draws: tuple[Float64[np.ndarray, "R K"], Float64[np.ndarray, "R K"]],
    *,
    cluster: int | None,
    confidence: float | int,
    n_images: int,
    n_blank: int,
) -> SaliencyRow:
    means = _ratio(*whole)
    if np.isnan(means).all():
        nothing = (float("nan"), float("nan"))
        return SaliencyRow(
            method, split, n_images, -1, nothing[0], nothing, nothing[0], nothing, nothing[0],
            n_blank,
        )  # fmt: skip
    chosen = int(np.nanargmax(means)) if cluster is None else cluster
    drawn = _ratio(*draws)
    best = np.where(np.isnan(drawn), -np.inf, drawn).argmax(1)
    others = [_others(*pair, chosen) for pair in (whole, draws)]
    return SaliencyRow(
        method=method,
        split=split,
        n_images=n_images,
        cluster=chosen,
        chosen=float(means[chosen]),
        chosen_interval=_interval(drawn[:, chosen], confidence),
        others=float(others[0][0]),
        others_interval=_interval(others[1][:, 0], confidence),
        stability=float((best == chosen).mean()),
        n_blank=n_blank,
    )


def _resampled(
    sums: Float64[np.ndarray, "B M K"],
    weights: Float64[np.ndarray, "B K"],
    n_resamples: int,
    seed: int,
) -> tuple[Float64[np.ndarray, "R M K"], Float64[np.ndarray, "R K"]]:
    """Sum both over images drawn with replacement, ``n_resamples`` times."""
    n = len(sums)
    if not n:
        return np.zeros((n_resamples, *sums.shape[1:])), np.zeros((n_resamples, sums.shape[2]))
    generator = np.random.default_rng(seed)
    drawn_sums, drawn_weights = [], []
    for start in range(0, n_resamples, _RESAMPLES_AT_ONCE):
        some = min(_RESAMPLES_AT_ONCE, n_resamples - start)
        times = generator.multinomial(n, np.full(n, 1 / n), size=some).astype(np.float64)
        drawn_sums.append(np.tensordot(times, sums, axes=1))
        drawn_weights.append(times @ weights)
    return np.concatenate(drawn_sums), np.concatenate(drawn_weights)


def _ratio(sums: Float64[np.ndarray, "*S"], weights: Float64[np.ndarray, "*S"]) -> np.ndarray:
    """The mean, NaN where nothing was summed."""
    means = np.full(sums.shape, np.nan)
    np.divide(sums, weights, out=means, where=weights > 0)
    return means


def _others(
    sums: Float64[np.ndarray, "*S K"], weights: Float64[np.ndarray, "*S K"], chosen: int
) -> Float64[np.ndarray, "*S 1"]:
    """The mean over all clusters but one."""
    rest = np.arange(sums.shape[-1]) != chosen
    return _ratio(sums[..., rest].sum(-1, keepdims=True), weights[..., rest].sum(-1, keepdims=True))


def _interval(values: Float64[np.ndarray, " R"], confidence: float | int) -> tuple[float, float]:
    """Percentiles of the resamples that have a value."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _check(
    saliency: Mapping[str, Tensor], clusters: Tensor, superpixels: Tensor, n_clusters: int
) -> None:
    if not saliency:
        raise InputError("no saliency maps are given; give at least one method's")
    for method, heat in saliency.items():
        if heat.shape != clusters.shape or clusters.shape != superpixels.shape:
            raise InputError(
                f"the maps of {method} have the shape {tuple(heat.shape)}, the clusters "
                f"{tuple(clusters.shape)} and the superpixels {tuple(superpixels.shape)}; all must "
                "be the same (B, H, W)"
            )
    if clusters.numel() and not 0 <= int(clusters.min()) <= int(clusters.max()) < n_clusters:
        raise InputError(
            f"the clusters are {int(clusters.min())} to {int(clusters.max())}; with n_clusters = "
            f"{n_clusters} they must be 0 to {n_clusters - 1}"
        )

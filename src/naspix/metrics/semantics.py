"""Saliency by meaning (paper, table 1): how much of it falls on each cluster of a class.

In: what ``per_cluster.py`` measured, and which predictions are right. Out: for each method the
most salient cluster, its mean saliency and that of the others, for right and wrong predictions,
with bootstrap intervals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from naspix.errors import InputError
from naspix.metrics.per_cluster import ClusterSaliency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

Split = Literal["all", "right", "wrong"]
SPLITS: tuple[Split, ...] = ("all", "right", "wrong")
_RESAMPLES_AT_ONCE = 200


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

    def plot(self, ax: "Axes | None" = None, *, split: Split = "all") -> "Axes":
        """Draw the most salient cluster of each method beside all others, with intervals.

        Args:
            ax: Where to draw; on a figure of its own by default.
            split: Of which images.
        """
        from naspix import plots

        rows = [row for row in self.rows if row.split == split]
        return plots.draw_bars(
            {
                "most salient": [row.chosen for row in rows],
                "others": [row.others for row in rows],
            },
            [row.method for row in rows],
            ax,
            intervals={
                "most salient": [row.chosen_interval for row in rows],
                "others": [row.others_interval for row in rows],
            },
            ylabel="mean saliency",
        )

    def __repr__(self) -> str:
        told = ", ".join(
            f"{row.method}: cluster {row.cluster} {row.chosen:.2f}, others {row.others:.2f}"
            for row in self.rows
            if row.split == "all"
        )
        return f"SaliencyByCluster({told})"

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
        >>> from naspix.metrics import cluster_saliency
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

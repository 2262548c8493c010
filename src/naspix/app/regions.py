"""The superpixels of one photo: cut as a visitor asks, and described in plain values for a page.

k-means starts from activations at hand; Ward's tree is built once for a choice of levels, at best
before it is asked for (``trees.py``), then every number of clusters is a cut of it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from naspix.models import Classifier
from naspix.plots import Scale, cluster_colours, saliency_picture, saliency_scale
from naspix.report.regions import LEAST_SHARE
from naspix.segmentation import NAS, Segmentation

Algorithm = Literal["kmeans", "ward"]

MOST_CLUSTERS = 40


@dataclass(frozen=True)
class Cut:
    """How a photo is cut.

    Attributes:
        algorithm: k-means, or Ward's linkage.
        n_clusters: From 2 to 40.
        levels: Numbers of the network's levels, in order.
    """

    algorithm: Algorithm = "kmeans"
    n_clusters: int = 5
    levels: tuple[int, ...] = ()


@dataclass
class Cutter:
    """Cuts one photo again and again, keeping what can be used again.

    Attributes:
        model: The classifier.
        images: ``(1, C, H, W)`` in [0, 1].
        activations: Of the levels that were asked for last.
    """

    model: Classifier
    images: Float[Tensor, "1 C H W"]
    activations: dict[tuple[int, ...], list[Tensor]] = field(default_factory=dict)
    _tree: dict[tuple[int, ...], Segmentation] = field(default_factory=dict)

    def has_tree(self, levels: tuple[int, ...]) -> bool:
        """Whether Ward's tree of these levels needs no clustering any more."""
        return levels in self._tree

    def prepare(self, levels: tuple[int, ...]) -> list[Tensor]:
        """Ask the network for its activations at these levels, unless they are at hand."""
        if levels not in self.activations:
            self.activations = {levels: self.model.activations(self.images, levels)}
        return self.activations[levels]

    def build_tree(self, levels: tuple[int, ...]) -> None:
        """Build Ward's tree, in any thread, without the network.

        Nothing happens where there is one, or where other levels were prepared meanwhile.
        """
        activations = self.activations.get(levels)
        if activations is not None and levels not in self._tree:
            self._tree = {levels: self._clustered(Cut("ward", levels=levels), activations)}

    def segmentation(self, cut: Cut) -> tuple[Segmentation, float]:
        """The segmentation, and the seconds it took."""
        start = time.perf_counter()
        if cut.algorithm == "ward":
            if not self.has_tree(cut.levels):
                self.prepare(cut.levels)
                self.build_tree(cut.levels)
            segmentation = self._tree[cut.levels].cut(cut.n_clusters)
        else:
            segmentation = self._clustered(cut, self.prepare(cut.levels))
        segmentation.n_superpixels  # noqa: B018 - the superpixels are found when asked for
        return segmentation, time.perf_counter() - start

    def _clustered(self, cut: Cut, activations: list[Tensor]) -> Segmentation:
        height, width = self.images.shape[2:]
        segmenter = NAS(
            self.model, levels=cut.levels, n_clusters=cut.n_clusters, algorithm=cut.algorithm
        )
        return segmenter.segment(activations, (height, width))


def run_lengths(labels: Int64[np.ndarray, "H W"]) -> list[int]:
    """Labels in raster order as label, length, label, length, ...

    Example:
        >>> run_lengths(np.array([[4, 4], [4, 2]]))
        [4, 3, 2, 1]
    """
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    return np.stack([flat[starts], lengths], axis=1).ravel().tolist()


def described(segmentation: Segmentation, saliency: Float[Tensor, "1 H W"]) -> dict[str, Any]:
    """What a page draws and says of superpixels, in the order of their numbers.

    Args:
        segmentation: Of one image.
        saliency: Averaged over each superpixel, for its rank.
    """
    labels = segmentation.superpixels[0].cpu().numpy()
    clusters = segmentation.clusters[0].cpu().numpy()
    _, first, areas = np.unique(labels, return_index=True, return_counts=True)
    means = mean_saliency(segmentation, saliency)
    scale = pooled_scale(means[labels], signed=bool(saliency.min() < 0))
    heat = saliency_picture(means[None], scale)[0]
    listed = np.where(areas >= LEAST_SHARE * labels.size, means, -np.inf)  # fragments come last
    return {
        "runs": run_lengths(labels),
        "n": len(areas),
        "n_clusters": len(np.unique(clusters)),
        "area": (areas / labels.size).round(6).tolist(),
        "cluster": clusters.ravel()[first].tolist(),
        "saliency": means.tolist(),
        "rank": ranks(listed).tolist(),
        "middle": _middles(labels),
        "colours": hex_colours(cluster_colours(int(clusters.max()) + 1)),
        "heat": hex_colours(heat),
        "scale": told_scale(scale),
    }


def pooled_scale(pooled: Float[np.ndarray, "H W"], *, signed: bool) -> Scale:
    """The scale of a map averaged over superpixels, as in the report and in its pictures.

    Where one huge superpixel would take all of it, the others have their share, too.
    """
    scale = saliency_scale(pooled, signed=signed, outliers=0.01)
    flat = np.abs(pooled) if signed else pooled
    return saliency_scale(pooled, signed=signed) if scale.high <= flat.min() else scale


def told_scale(scale: Scale) -> dict[str, Any]:
    """Both ends of a scale, and the colours between them as CSS has them."""
    from matplotlib import colormaps

    colours = colormaps[scale.colormap](np.linspace(0, 1, 9), bytes=True)
    return {"low": scale.low, "high": scale.high, "colours": hex_colours(colours[:, :3])}


def mean_saliency(
    segmentation: Segmentation, saliency: Float[Tensor, "1 H W"]
) -> Float[np.ndarray, " n"]:
    """The mean over each superpixel, in the order of their numbers."""
    flat = segmentation.superpixels[0].cpu().numpy().ravel()
    values = saliency[0].detach().cpu().double().numpy().ravel()
    means: np.ndarray = np.bincount(flat, values) / np.bincount(flat)
    return means


def ranks(values: Float[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """1 for the highest; equal values in the order of their numbers.

    Example:
        >>> ranks(np.array([0.5, 2.0, 0.5])).tolist()
        [2, 1, 3]
    """
    order = np.argsort(-values, kind="stable")
    places = np.empty(len(values), np.int64)
    places[order] = np.arange(1, len(values) + 1)
    return places


def hex_colours(colours: UInt8[np.ndarray, "n 3"]) -> list[str]:
    """Colours as CSS has them."""
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours.tolist()]


def _middles(labels: Int64[np.ndarray, "H W"]) -> list[Sequence[int]]:
    """For each superpixel its pixel nearest to its centre of mass, as (x, y)."""
    width = labels.shape[1]
    flat = labels.ravel()
    counts = np.bincount(flat)
    y, x = np.divmod(np.arange(flat.size), width)
    distance = np.hypot(
        x - (np.bincount(flat, x) / counts)[flat],
        y - (np.bincount(flat, y) / counts)[flat],
    )
    order = np.lexsort((distance, flat))
    nearest = order[np.concatenate([[0], np.cumsum(counts)[:-1]])]
    return [(int(p % width), int(p // width)) for p in nearest]

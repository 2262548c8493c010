"""The superpixels of one photo: cut as a visitor asks, and described in plain values for a page.

k-means starts from activations at hand; Ward's tree is built once for a choice of levels, at best
before it is asked for (``trees.py``), then every number of clusters is a cut of it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from naspix.errors import InputError, UnknownNameError
from naspix.models import Classifier
from naspix.plots import cluster_colours, saliency_picture, saliency_scale
from naspix.segmentation import NAS, Segmentation

Algorithm = Literal["kmeans", "ward"]

MOST_CLUSTERS = 40


@dataclass(frozen=True)
class Cut:
    """How a photo is cut.

    Attributes:
        algorithm: k-means, or Ward's linkage.
        n_clusters: From 2 to 40.
        levels: Numbers of the network's levels.
    """

    algorithm: Algorithm = "kmeans"
    n_clusters: int = 5
    levels: tuple[int, ...] = ()

    @classmethod
    def parsed(cls, sent: dict[str, Any], model: Classifier) -> "Cut":
        """Read what a page sent.

        Raises:
            InputError: values out of range.
        """
        levels = sent.get("levels") or model.default_levels
        if not isinstance(levels, list | tuple) or not all(type(one) is int for one in levels):
            raise InputError("levels are a list of whole numbers")
        algorithm, n_clusters = sent.get("algorithm", "kmeans"), sent.get("n_clusters", 5)
        if algorithm not in get_args(Algorithm):
            raise UnknownNameError.among("algorithm", algorithm, get_args(Algorithm))
        if type(n_clusters) is not int or not 2 <= n_clusters <= MOST_CLUSTERS:
            raise InputError(f"the number of clusters is from 2 to {MOST_CLUSTERS}")
        model.level_names(levels)
        return cls(algorithm, n_clusters, tuple(sorted(set(levels))))

    def segmenter(self, model: Classifier) -> NAS:
        """The segmenter, as the Python interface has it."""
        return NAS(model, levels=self.levels, n_clusters=self.n_clusters, algorithm=self.algorithm)


@dataclass
class Cutter:
    """Cuts one photo again and again, keeping what can be used again.

    Attributes:
        model: The classifier.
        images: ``(1, C, H, W)`` in [0, 1].
    """

    model: Classifier
    images: Float[Tensor, "1 C H W"]
    _activations: dict[tuple[int, ...], list[Tensor]] = field(default_factory=dict)
    _tree: dict[tuple[int, ...], Segmentation] = field(default_factory=dict)

    def has_tree(self, cut: Cut) -> bool:
        """Whether this cut needs no clustering."""
        return cut.algorithm == "ward" and cut.levels in self._tree

    def prepare(self, levels: tuple[int, ...]) -> None:
        """Ask the network for what its tree of these levels is grown from."""
        self._activations_of(levels)

    def grow(self, levels: tuple[int, ...]) -> None:
        """Build Ward's tree, in any thread, without the network.

        Nothing happens where there is one, or where other levels were prepared meanwhile.
        """
        activations = self._activations.get(levels)
        if activations is not None and levels not in self._tree:
            self._tree = {levels: self._clustered(Cut("ward", levels=levels), activations)}

    def segmentation(self, cut: Cut) -> tuple[Segmentation, float]:
        """The segmentation, and the seconds it took."""
        start = time.perf_counter()
        if cut.algorithm == "ward":
            if cut.levels not in self._tree:
                self.prepare(cut.levels)
                self.grow(cut.levels)
            segmentation = self._tree[cut.levels].cut(cut.n_clusters)
        else:
            segmentation = self._clustered(cut, self._activations_of(cut.levels))
        segmentation.n_superpixels  # noqa: B018 - the superpixels are found when asked for
        return segmentation, time.perf_counter() - start

    def _activations_of(self, levels: tuple[int, ...]) -> list[Tensor]:
        if levels not in self._activations:
            self._activations = {levels: self.model.activations(self.images, levels)}
        return self._activations[levels]

    def _clustered(self, cut: Cut, activations: list[Tensor]) -> Segmentation:
        height, width = self.images.shape[2:]
        return cut.segmenter(self.model).segment(activations, (height, width))


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
    n = int(labels.max()) + 1
    flat = labels.ravel()
    areas = np.bincount(flat, minlength=n)
    first = np.unique(flat, return_index=True)[1]
    means = _means(saliency[0], flat, areas)
    n_clusters = int(clusters.max()) + 1
    scale = saliency_scale(means)
    heat = saliency_picture(means[None], scale)[0]
    return {
        "runs": run_lengths(labels),
        "n": n,
        "n_clusters": len(np.unique(clusters)),
        "area": (areas / flat.size).round(6).tolist(),
        "cluster": clusters.ravel()[first].tolist(),
        "saliency": means.tolist(),
        "rank": ranks(means).tolist(),
        "middle": _middles(labels, n),
        "colours": _hex(cluster_colours(n_clusters)),
        "heat": _hex(heat),
    }


def mean_saliency(
    segmentation: Segmentation, saliency: Float[Tensor, "1 H W"]
) -> Float[np.ndarray, " n"]:
    """The mean over each superpixel, in the order of their numbers."""
    flat = segmentation.superpixels[0].cpu().numpy().ravel()
    return _means(saliency[0], flat, np.bincount(flat))


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


def _hex(colours: UInt8[np.ndarray, "n 3"]) -> list[str]:
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours.tolist()]


def _means(
    saliency: Float[Tensor, "H W"], flat: Int64[np.ndarray, " P"], areas: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    values = saliency.detach().double().cpu().numpy().ravel()
    means: np.ndarray = np.bincount(flat, values, minlength=len(areas)) / areas
    return means


def _middles(labels: Int64[np.ndarray, "H W"], n: int) -> list[Sequence[int]]:
    """For each superpixel its pixel nearest to its centre of mass, as (x, y)."""
    width = labels.shape[1]
    flat = labels.ravel()
    counts = np.bincount(flat, minlength=n)
    y, x = np.divmod(np.arange(flat.size), width)
    distance = np.hypot(
        x - (np.bincount(flat, x, minlength=n) / counts)[flat],
        y - (np.bincount(flat, y, minlength=n) / counts)[flat],
    )
    order = np.lexsort((distance, flat))
    nearest = order[np.concatenate([[0], np.cumsum(counts)[:-1]])]
    return [(int(p % width), int(p // width)) for p in nearest]

"""Regions that keep their numbers from frame to frame of a film.

Features of one frame after the other in; out its clusters, whose numbers last, its superpixels, and
the lasting number of each. A frame's centres start the next one's k-means; where the frame before
says little of a frame, as after a cut, everything begins anew. Memory does not grow with the film.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from naspix.clustering.components import superpixels_from_clusters
from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.kmeans import kmeans

_MOST_GROWTH = 1.5  # of the inertia under the centres of the frame before; beyond it, it is a cut


class Tracker:
    """Clusters frames one after the other; what it needs of a frame is what the next one brings.

    Args:
        n_clusters: K.
        n_init: Number of k-means++ starts, at the first frame and after a cut.
        max_iter: Most k-means steps on the full frame.
        tol: Share of the pixels that may still change cluster in the last step.
        seed: Of the starts.
        connectivity: 4 or 8, how pixels hang together in a superpixel.
        min_size: Superpixels of fewer pixels are merged.
    """

    def __init__(
        self,
        n_clusters: int,
        *,
        n_init: int,
        max_iter: int,
        tol: float | int,
        seed: int,
        connectivity: Literal[4, 8],
        min_size: int,
    ) -> None:
        self._n_clusters, self._n_init, self._seed = n_clusters, n_init, seed
        self._max_iter, self._tol = max_iter, tol
        self._connectivity, self._min_size = connectivity, min_size
        self._centers: Tensor | None = None  # (1, K, D)
        self._inertia = 0.0  # of a pixel, in the frame before
        self._before: tuple[Tensor, Tensor] | None = None  # superpixels and tracks of that frame
        self._n_tracks = 0

    def __call__(
        self, features: UpsampledFeatures
    ) -> tuple[Int64[Tensor, "1 H W"], Int64[Tensor, "1 H W"], Int64[Tensor, " n"]]:
        """The clusters and superpixels of the next frame, and the lasting number of each of these.

        Args:
            features: Of one image.
        """
        before = None if self._centers is None or self._is_cut(features) else self._centers
        clusters = kmeans(
            features,
            self._n_clusters,
            n_init=self._n_init,
            max_iter=self._max_iter,
            tol=self._tol,
            seed=self._seed,
            init=before,
        )
        clusters = self._follow(features, clusters, before)
        superpixels = superpixels_from_clusters(
            clusters,
            connectivity=self._connectivity,
            min_size=self._min_size,
            features=features if self._min_size > 1 else None,
        )
        tracks = self._numbers(superpixels[0], None if before is None else self._before)
        self._before = superpixels[0], tracks
        return clusters, superpixels, tracks

    def _is_cut(self, features: UpsampledFeatures) -> bool:
        """Whether the centres of the frame before do not serve this one, or not its frame."""
        assert self._centers is not None
        if self._before is None or self._before[0].shape != torch.Size(features.size):
            return True
        return self._inertia_of(features) > _MOST_GROWTH * self._inertia

    def _inertia_of(self, features: UpsampledFeatures) -> float:
        """The mean squared distance of a pixel to the nearest of the centres."""
        assert self._centers is not None
        return float(features.squared_distances(self._centers).amin(1).mean())

    def _follow(
        self,
        features: UpsampledFeatures,
        clusters: Int64[Tensor, "1 H W"],
        before: Float[Tensor, "1 K D"] | None,
    ) -> Int64[Tensor, "1 H W"]:
        """The clusters under the numbers that they had, and their centres for the next frame."""
        from scipy.optimize import linear_sum_assignment

        membership = one_hot(clusters, self._n_clusters).movedim(3, 1)
        sizes = membership.sum((2, 3))
        membership = membership.to(features.levels[0].dtype)
        centers = features.cluster_sums(membership) / sizes.clamp(min=1)[..., None]
        if before is not None:
            found = int(clusters.max()) + 1
            distances = torch.cdist(before[0], centers[0, :found]).cpu().numpy()
            olds, news = map(torch.from_numpy, linear_sum_assignment(distances))
            number = torch.empty(found, dtype=torch.int64)
            number[news] = olds
            clusters = number.to(clusters.device)[clusters]
            moved = before.clone()  # a cluster that this frame lacks stays where it was
            moved[0, olds.to(moved.device)] = centers[0, news.to(moved.device)]
            centers = moved
        self._centers = centers.contiguous()
        self._inertia = self._inertia_of(features)
        return clusters

    def _numbers(
        self, superpixels: Int64[Tensor, "H W"], before: tuple[Tensor, Tensor] | None
    ) -> Int64[Tensor, " n"]:
        """Each superpixel's number: that of the one before which it shares most pixels with."""
        from scipy.optimize import linear_sum_assignment

        labels = superpixels.cpu().numpy()
        n = int(labels.max()) + 1
        tracks = np.full(n, -1, np.int64)
        if before is not None:
            former, numbers = before[0].cpu().numpy(), before[1].numpy()
            shared = np.zeros((len(numbers), n), np.int64)
            np.add.at(shared, (former.ravel(), labels.ravel()), 1)
            olds, news = linear_sum_assignment(shared, maximize=True)
            touching = shared[olds, news] > 0
            tracks[news[touching]] = numbers[olds[touching]]
        new = tracks < 0
        tracks[new] = self._n_tracks + np.arange(int(new.sum()))
        self._n_tracks += int(new.sum())
        return torch.from_numpy(tracks)

"""The atlas of a class: for every cluster the photos and patches where it is strongest.

It is made to be looked at by a person, who then says what a cluster is. In: the clusters' centres,
and batches of images with their features and clusters. Out: an ``Atlas`` of a few examples a
cluster, best first; memory does not grow with the number of images.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from naspix.clustering.features import UpsampledFeatures
from naspix.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATCH = 1 / 3  # of the shorter side
PRESENT = 0.005  # of an image's pixels: from here on it counts as having a cluster
_STRIDE = 4  # pixels between the patches that are tried


@dataclass(frozen=True, eq=False)
class Example:
    """A photo in which a cluster is strong.

    Attributes:
        image: Its place among the images, from 0.
        photo: The photo itself.
        mask: Where the cluster is.
        box: The patch where it is strongest: ``(left, top, right, bottom)`` in pixels.
        strength: Mean over the patch of the margin by which the cluster's centre is more similar
            (by cosine) than any other, counting pixels of the cluster only.
    """

    image: int
    photo: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]
    box: tuple[int, int, int, int]
    strength: float

    @property
    def patch(self) -> UInt8[np.ndarray, "h w 3"]:
        """The patch, cut out of the photo."""
        left, top, right, bottom = self.box
        return self.photo[top:bottom, left:right]


@dataclass(frozen=True, eq=False)
class AtlasEntry:
    """One cluster.

    Attributes:
        cluster: Its number.
        name: What a person calls it; empty if nothing is said yet.
        area: The share of all images' pixels.
        frequency: The share of the images that have it (half a percent of their pixels, or more).
        examples: The strongest first.
    """

    cluster: int
    name: str
    area: float
    frequency: float
    examples: tuple[Example, ...]

    @property
    def title(self) -> str:
        """The name, or ``"cluster 3"``."""
        return self.name or f"cluster {self.cluster}"


@dataclass(frozen=True, eq=False)
class Atlas:
    """All clusters of a class, in their order.

    Attributes:
        entries: One a cluster.
        n_images: How many images were looked through.
        source: The clusters' ``repr``.
    """

    entries: tuple[AtlasEntry, ...]
    n_images: int
    source: str

    def plot(self, n_examples: int = 5) -> "Figure":
        """Draw a row for each cluster: its patches above the photos they are from.

        Args:
            n_examples: At most so many a cluster.
        """
        from naspix.plots.figures import NotebookFigure
        from naspix.plots.pictures import highlight_picture

        width = max(1, min(n_examples, max(len(entry.examples) for entry in self.entries)))
        figure = NotebookFigure(1.5 * width, 3.25 * len(self.entries))
        axes = figure.subplots(2 * len(self.entries), width, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        for row, entry in enumerate(self.entries):
            for column, example in enumerate(entry.examples[:width]):
                axes[2 * row, column].imshow(example.patch)
                picture = highlight_picture(example.photo / 255, example.mask)
                axes[2 * row + 1, column].imshow(picture)
            title = f"{entry.title}: in {entry.frequency:.0%} of the images"
            axes[2 * row, 0].set_title(title, loc="left", fontsize=9)
        return figure

    def __repr__(self) -> str:
        return f"Atlas({len(self.entries)} clusters, {self.n_images} images, by {self.source})"


class AtlasMaker:
    """Collects the examples while images come; ``ClassClusters.atlas`` is the short way.

    Args:
        centers: What is shown: the centre of each cluster.
        names: What a person calls the clusters; empty where nothing is said.
        source: What made them.
        n_examples: Photos kept for each cluster.

    Raises:
        InputError: If no examples are wanted.
    """

    def __init__(
        self, centers: Float[Tensor, "K D"], names: Sequence[str], *, source: str, n_examples: int
    ) -> None:
        if n_examples < 1:
            raise InputError(f"n_examples is {n_examples}; at least one is needed")
        self._directions = functional.normalize(centers, dim=1)
        self._names, self._source, self._n_examples = tuple(names), source, n_examples
        self._best: list[list[tuple[float, int, Example]]] = [[] for _ in centers]
        self._area = torch.zeros(len(centers), dtype=torch.float64)
        self._having = torch.zeros(len(centers), dtype=torch.float64)
        self._number = count()
        self.n_images = 0

    @torch.no_grad()
    def add(
        self,
        images: Float[Tensor, "B C H W"],
        features: UpsampledFeatures,
        clusters: Int64[Tensor, "B h w"],
    ) -> None:
        """Look through a batch.

        Args:
            images: Values in [0, 1].
            features: Of every pixel of the clusters' frame.
            clusters: Which cluster every pixel is in.
        """
        margins = self._margins(features, clusters)
        if margins.shape[-2:] != images.shape[-2:]:
            images = functional.interpolate(images, margins.shape[-2:], mode="bilinear")
        for image, labels, margin in zip(images, clusters, margins, strict=True):
            self._look(image, labels, margin)

    def finish(self) -> Atlas:
        """Return the atlas of all images so far.

        Raises:
            InputError: If there were none.
        """
        if not self.n_images:
            raise InputError("there are no images to make an atlas of")
        entries = [
            AtlasEntry(
                cluster=k,
                name=self._names[k],
                area=float(self._area[k]) / self.n_images,
                frequency=float(self._having[k]) / self.n_images,
                examples=tuple(example for *_, example in sorted(best, key=lambda one: -one[0])),
            )
            for k, best in enumerate(self._best)
        ]
        return Atlas(tuple(entries), self.n_images, self._source)

    def _margins(
        self, features: UpsampledFeatures, clusters: Int64[Tensor, "B H W"]
    ) -> Float[Tensor, "B H W"]:
        """How much more similar each pixel is to its own cluster's centre than to any other."""
        centers = self._directions.to(features.levels[0])
        products = features.inner_products(centers.expand(features.batch_size, -1, -1))
        similar = products / features.squared_norms().clamp_min(1e-12).sqrt()[:, None]
        own = similar.gather(1, clusters[:, None])
        similar.scatter_(1, clusters[:, None], -1.0)
        return (own[:, 0] - similar.amax(1)).clamp_min(0)

    def _look(
        self,
        image: Float[Tensor, "C H W"],
        labels: Int64[Tensor, "H W"],
        margin: Float[Tensor, "H W"],
    ) -> None:
        from naspix.plots.pictures import photo_picture

        shares = labels.flatten().bincount(minlength=len(self._area)).cpu().double()
        shares /= labels.numel()
        self._area += shares
        self._having += shares >= PRESENT
        photo = None
        for k, strength, box in _strongest(labels, margin, len(self._area)):
            best = self._best[k]
            if strength <= 0 or (len(best) == self._n_examples and strength <= best[0][0]):
                continue
            if photo is None:
                photo = photo_picture(image.detach().float().permute(1, 2, 0).cpu().numpy())
            mask = (labels == k).cpu().numpy()
            found = (
                strength,
                -next(self._number),
                Example(self.n_images, photo, mask, box, strength),
            )
            if len(best) < self._n_examples:
                heapq.heappush(best, found)
            else:
                heapq.heapreplace(best, found)
        self.n_images += 1


def _strongest(
    labels: Int64[Tensor, "H W"], margin: Float[Tensor, "H W"], n_clusters: int
) -> Iterator[tuple[int, float, tuple[int, int, int, int]]]:
    """Yield for each cluster of an image the mean margin of its best patch, and the patch."""
    side = max(1, round(PATCH * min(labels.shape)))
    stride = min(_STRIDE, side)
    present = labels.unique()
    maps = torch.where(labels == present[:, None, None], margin, 0.0)
    means = functional.avg_pool2d(maps[None], side, stride)[0]
    strengths, places = means.flatten(1).max(1)
    for k, strength, place in zip(
        present.tolist(), strengths.tolist(), places.tolist(), strict=True
    ):
        top, left = stride * (place // means.shape[2]), stride * (place % means.shape[2])
        yield k, strength, (left, top, left + side, top + side)

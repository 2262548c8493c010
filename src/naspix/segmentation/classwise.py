"""Class clustering: one partition shared by all images of a class (paper, figure 4 and table 1).

Ward's linkage clusters a sample of pixels, the same number of every image; the pixels of any image,
seen or not, get the cluster that most of their nearest sampled pixels have. So a cluster means the
same in every image: the head, the grass. In: batches of images of one class. Out: a fitted
``ClassClusters``, itself a segmenter.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from typing import Any, Literal, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.neighbours import nearest_labels
from naspix.clustering.sampling import StratifiedSample
from naspix.clustering.ward import WardTree, ward_of_points
from naspix.errors import InputError
from naspix.models import Classifier
from naspix.segmentation import files
from naspix.segmentation.atlas import Atlas, AtlasMaker
from naspix.segmentation.nas import features_of
from naspix.segmentation.segmentation import Segmentation

_SAVED = (
    "n_clusters",
    "levels",
    "n_samples",
    "n_neighbors",
    "size",
    "seed",
    "normalize",
    "weight",
    "connectivity",
)
_IMAGES_AT_ONCE = 16  # whatever the batches that come

Batches = Tensor | Iterable[Tensor | Sequence[object]]


@final
@dataclass(frozen=True)
class ClassClustering:
    """Find the clusters that the images of a class share.

    Args:
        model: The classifier whose activations are clustered.
        n_clusters: K; cut anew at once by ``ClassClusters.cut``.
        levels: As for ``NAS``; by default the model's own.
        n_samples: Pixels that are clustered and then asked as neighbours, over all images. Time to
            predict grows in proportion, time and memory to fit with the square.
        n_neighbors: Sampled pixels that vote on each pixel.
        size: Frame ``(H, W)`` in pixels in which the regions are made, the images' own by default.
        seed: Of the sample.
        normalize: Whether line 10 of Algorithm 1 is done.
        weight: Whether line 11 is done.
        connectivity: 4 joins pixels that share a side into one superpixel, 8 also those that share
            a corner.

    Raises:
        InputError: If an argument is out of its range.
        UnknownNameError: If a level is not known.

    Source:
        The paper's class-wise segmentation, of all training images. It mentions no sampling,
        without which Ward's linkage would not end, nor how many neighbours vote: both are choices
        made here (docs/explanation/class_clusters.md).

    Example:
        >>> import naspix, torch
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> images = torch.rand(4, 3, 64, 64)
        >>> clusters = ClassClustering(model, n_clusters=3, n_samples=100).fit(images)
        >>> clusters(images[:2]).clusters.shape
        torch.Size([2, 64, 64])
    """

    model: Classifier
    _: KW_ONLY
    n_clusters: int = 10
    levels: Sequence[int | str] = ()
    n_samples: int = 1000
    n_neighbors: int = 5
    size: tuple[int, int] | None = None
    seed: int = 0
    normalize: bool = True
    weight: bool = True
    connectivity: Literal[4, 8] = 4

    def __post_init__(self) -> None:
        levels = tuple(self.levels) or self.model.default_levels
        object.__setattr__(self, "levels", levels)
        self.model.level_names(levels)
        if not 1 <= self.n_clusters <= self.n_samples:
            raise InputError(
                f"n_clusters is {self.n_clusters}; with n_samples = {self.n_samples} it must be "
                f"from 1 to {self.n_samples}"
            )
        if not 1 <= self.n_neighbors <= self.n_samples:
            raise InputError(
                f"n_neighbors is {self.n_neighbors}; with n_samples = {self.n_samples} it must be "
                f"from 1 to {self.n_samples}"
            )
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise InputError(f"size is {self.size}; give (height, width) of at least 1 pixel")

    def fit(self, images: Batches) -> "ClassClusters":
        """Sample the images' pixels, and cluster the sample.

        Args:
            images: ``(B, C, H, W)`` in [0, 1], or batches of such from anywhere: a generator, a
                ``DataLoader``. Of tuples the first entry is taken. Each batch is looked at once
                and forgotten.

        Raises:
            InputError: If there are no images, or fewer pixels than clusters.
        """
        sample = StratifiedSample(self.n_samples, seed=self.seed)
        for batch in _batches(images):
            activations = self.model.activations(batch, self.levels)
            with torch.autocast(self.model.device.type, enabled=False):
                sample.add(self.features(activations, _frame(batch)))
        if not sample.n_images:
            raise InputError("there are no images to fit class clusters to")
        points = sample.points()
        tree = ward_of_points(points)
        if tree.n_leaves < max(self.n_clusters, self.n_neighbors):
            raise InputError(
                f"{sample.n_images} images have {tree.n_leaves} pixels together, too few for "
                f"{self.n_clusters} clusters and {self.n_neighbors} neighbours"
            )
        return ClassClusters(self, points, tree, n_images=sample.n_images)

    def features(self, activations: Sequence[Tensor], size: tuple[int, int]) -> UpsampledFeatures:
        """Return the features of Algorithm 1 in the frame of the clustering.

        Args:
            activations: One ``(B, C, h, w)`` tensor a level, in the order of ``levels``.
            size: The images' frame ``(H, W)``, taken where the clustering has none of its own.
        """
        return features_of(
            self.model,
            self.levels,
            activations,
            self.size or size,
            normalize=self.normalize,
            weight=self.weight,
        )


@final
@dataclass(frozen=True, eq=False, repr=False)
class ClassClusters:
    """What ``ClassClustering.fit`` found; a segmenter whose labels mean the same in every image.

    Cluster 0 has the most sampled pixels.

    Attributes:
        clustering: What was fitted.
        points: The sampled pixels' features, on the CPU.
        tree: Ward's tree over them, as a frame of one row.
        names: What a person calls the clusters; empty where nothing is said.
        n_images: How many images the sample is from.
    """

    clustering: ClassClustering
    points: Float[Tensor, "n D"]
    tree: WardTree
    _: KW_ONLY
    n_images: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = self.names or ("",) * self.n_clusters
        object.__setattr__(self, "names", names)
        if len(names) != self.n_clusters:
            raise InputError(f"{len(names)} names for {self.n_clusters} clusters; give each one")

    @property
    def n_clusters(self) -> int:
        """K."""
        return self.clustering.n_clusters

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """The cluster of each sampled pixel."""
        return self.tree.cut(self.n_clusters)[0]

    @property
    def centers(self) -> Float[Tensor, "K D"]:
        """The mean of each cluster's sampled pixels."""
        labels = self.labels
        sums = self.points.new_zeros(self.n_clusters, self.points.shape[1])
        return sums.index_add_(0, labels, self.points) / labels.bincount()[:, None]

    def __call__(self, images: Float[Tensor, "B C H W"]) -> Segmentation:
        """Segment images ``(B, C, H, W)`` in [0, 1]; a cluster is the same thing in all of them."""
        activations = self.clustering.model.activations(images, self.clustering.levels)
        return self.segment(activations, _frame(images))

    def segment(self, activations: Sequence[Tensor], size: tuple[int, int]) -> Segmentation:
        """Segment from activations already at hand.

        Args:
            activations: One ``(B, C, h, w)`` tensor a level, in the order of the levels.
            size: The images' frame ``(H, W)`` in pixels.

        Raises:
            InputError: If the activations do not belong together, or not to the fitted ones.
        """
        return self._segment(self._features(activations, size))

    def _features(self, activations: Sequence[Tensor], size: tuple[int, int]) -> UpsampledFeatures:
        device = self.clustering.model.device.type
        with torch.autocast(device, enabled=False), torch.no_grad():
            return self.clustering.features(activations, size)

    def _segment(self, features: UpsampledFeatures) -> Segmentation:
        first = features.levels[0]
        with torch.autocast(first.device.type, enabled=False), torch.no_grad():
            clusters = nearest_labels(
                features,
                self.points.to(first),
                self.labels.to(first.device),
                n_neighbors=self.clustering.n_neighbors,
            )
        return Segmentation(clusters, source=repr(self), connectivity=self.clustering.connectivity)

    def cut(self, n_clusters: int) -> "ClassClusters":
        """Cut the same tree into another number of clusters, at once; names are dropped.

        Args:
            n_clusters: From 1 to the number of sampled pixels.
        """
        clustering = replace(self.clustering, n_clusters=n_clusters)
        return ClassClusters(clustering, self.points, self.tree, n_images=self.n_images)

    def named(self, names: Mapping[int, str] | Sequence[str]) -> "ClassClusters":
        """Return the same clusters with other names.

        Args:
            names: One for each cluster, or some by number; the others keep theirs.

        Raises:
            InputError: If there is no such cluster, or not one name for each.
        """
        if isinstance(names, Mapping):
            wrong = [k for k in names if not 0 <= k < self.n_clusters]
            if wrong:
                raise InputError(
                    f"there is no cluster {wrong[0]}; they are 0 to {self.n_clusters - 1}"
                )
            names = [names.get(k, name) for k, name in enumerate(self.names)]
        return replace(self, names=tuple(names))

    def title(self, cluster: int) -> str:
        """The cluster's name, or ``"cluster 3"`` where it has none."""
        return self.names[cluster] or f"cluster {cluster}"

    def atlas(self, images: Batches, *, n_examples: int = 8) -> "Atlas":
        """Show where each cluster is strongest, so that a person can name it.

        Args:
            images: As for ``fit``; the same, or others of the class.
            n_examples: Photos kept for each cluster.
        """
        maker = self.atlas_maker(n_examples=n_examples)
        for batch in _batches(images):
            self.show(batch, maker)
        return maker.finish()

    def atlas_maker(self, *, n_examples: int = 8) -> AtlasMaker:
        """Begin an atlas of these clusters, for ``show``.

        Args:
            n_examples: Photos kept for each cluster.
        """
        return AtlasMaker(self.centers, self.names, source=repr(self), n_examples=n_examples)

    def show(
        self,
        images: Float[Tensor, "B C H W"],
        maker: AtlasMaker,
        *,
        activations: Sequence[Tensor] | None = None,
    ) -> Segmentation:
        """Segment a batch, and let an atlas in the making look through it.

        Args:
            images: Values in [0, 1].
            maker: From ``atlas_maker``.
            activations: Of the clustering's levels, if they are at hand.
        """
        if activations is None:
            activations = self.clustering.model.activations(images, self.clustering.levels)
        features = self._features(activations, _frame(images))
        segmentation = self._segment(features)
        maker.add(images, features, segmentation.clusters)
        return segmentation

    def save(self, path: str | PathLike[str]) -> None:
        """Write all but the network to an ``.npz`` file, without pickle, whole or not at all.

        Raises:
            OutputError: If the file cannot be written.
        """
        described = {
            "model": self.clustering.model.name,
            "settings": {name: getattr(self.clustering, name) for name in _SAVED},
            "names": self.names,
            "n_images": self.n_images,
        }
        files.write_class_clusters(path, described, self.points.numpy(), self.tree.linkage)

    @classmethod
    def load(cls, path: str | PathLike[str], model: Classifier) -> "ClassClusters":
        """Read what ``save`` wrote.

        Args:
            path: The file.
            model: The network it was fitted to: the same architecture with the same weights.

        Raises:
            InputError: If the file is missing, damaged, not such a file, or of another network.
        """
        described, points, tree = files.read_class_clusters(path)
        if described.get("model") != model.name:
            raise InputError(
                f"{path} was fitted to {described.get('model')}, not to {model.name}; load that "
                "model"
            )
        try:
            settings: dict[str, Any] = {name: described["settings"][name] for name in _SAVED}
            if settings["size"] is not None:
                settings["size"] = tuple(settings["size"])
            return cls(
                ClassClustering(model, **settings),
                torch.from_numpy(points),
                tree,
                n_images=int(described["n_images"]),
                names=tuple(map(str, described["names"])),
            )
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} holds no whole class clusters: {error}") from error

    def __repr__(self) -> str:
        return f"{self.clustering!r}.fit({self.n_images} images)"


def _frame(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def _batches(images: Batches) -> Iterator[Tensor]:
    """Yield batches of at most sixteen images, of whatever came."""
    for batch in [images] if isinstance(images, Tensor) else images:
        first = batch if isinstance(batch, Tensor) or not len(batch) else batch[0]
        if not isinstance(first, Tensor) or first.ndim != 4:
            what = (
                f"the shape {tuple(first.shape)}"
                if isinstance(first, Tensor)
                else f"a {type(first).__name__}"
            )
            raise InputError(f"a batch of images is (B, C, H, W) in [0, 1], not {what}")
        yield from first.split(_IMAGES_AT_ONCE)

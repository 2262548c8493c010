"""Saliency by meaning of an evaluation's maps (table 1): shares of class clusters as records.

The clusters that the pictures of a class share are found once, before the first picture, and lie in
the run's folder, one file a class, from where every worker reads them.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

import torch
from torch import Tensor

from naspix.errors import InputError, NaspixError
from naspix.evaluation.evaluator import Framing, Row, rows_of
from naspix.evaluation.explaining import ExplainedBatch, Picture
from naspix.metrics import cluster_saliency
from naspix.models import Classifier
from naspix.segmentation import ClassClustering, ClassClusters

if TYPE_CHECKING:
    import pyarrow as pa

    from naspix.datasets import Dataset

_ON_SHELF = 16  # classes in memory
_AT_ONCE = 16  # pictures that clusters are found by


class Shelf:
    """The clusters of each class, read when they are asked for; the last ones are kept.

    Args:
        folder: Where the files lie.
        model: That they were found with.
    """

    def __init__(self, folder: Path, model: Classifier) -> None:
        self.folder, self._model = folder, model
        self._read: OrderedDict[int, ClassClusters] = OrderedDict()

    def path(self, label: int) -> Path:
        """The file of a class."""
        return self.folder / f"class-{label}.npz"

    def __getitem__(self, label: int) -> ClassClusters:
        """The clusters of a class."""
        if label not in self._read:
            self._read[label] = ClassClusters.load(self.path(label), self._model)
        self._read.move_to_end(label)
        while len(self._read) > _ON_SHELF:
            self._read.popitem(last=False)
        return self._read[label]


@final
@dataclass(frozen=True)
class Semantics:
    """How much saliency falls on each cluster of a picture's class.

    Attributes:
        n_clusters: Of each class.
        n_images: Pictures of a class to find its clusters by, at most.
        n_samples: Pixels of these that are clustered.
        levels: As for NAS; by default the model's own.
        weigh: Whether superpixels count alike, as in the paper, or by area.
        seed: Of the pixels that are sampled.
        shelf: The clusters, once they are found.
    """

    _: KW_ONLY
    n_clusters: int = 10
    n_images: int = 200
    n_samples: int = 1000
    levels: Sequence[int | str] = ()
    weigh: Literal["superpixels", "area"] = "superpixels"
    seed: int = 0
    shelf: Shelf | None = None

    @property
    def needs_boxes(self) -> bool:
        """No picture is left out for lack of boxes."""
        return False

    @property
    def columns(self) -> "Sequence[pa.Field]":
        """Of each cluster: sums, weights, area; and whether the map was blank."""
        import pyarrow as pa

        return [
            pa.field("sums", pa.list_(pa.float64()), nullable=False),
            pa.field("weights", pa.list_(pa.float64()), nullable=False),
            pa.field("area", pa.list_(pa.float64()), nullable=False),
            pa.field("blank", pa.bool_(), nullable=False),
        ]

    def level_names(self, model: Classifier) -> tuple[str, ...]:
        """The levels whose activations it wants of each picture."""
        return model.level_names(self.clustering(model).levels)

    def clustering(self, model: Classifier) -> ClassClustering:
        """What finds the clusters of a class."""
        return ClassClustering(
            model,
            n_clusters=self.n_clusters,
            n_samples=self.n_samples,
            levels=self.levels,
            seed=self.seed,
        )

    def __call__(self, model: Classifier, batch: ExplainedBatch) -> list[Row]:
        """A row an image, method and segmenter.

        Raises:
            InputError: A picture without a label.
        """
        clusters, superpixels = self.regions(model, batch)
        rows: list[Row] = []
        for method, segmenter, heat, own in batch.maps():
            measured = cluster_saliency(
                {method: heat}, clusters, superpixels, n_clusters=self.n_clusters, weigh=self.weigh
            )
            values = [
                {
                    "sums": measured.sums[place, 0].tolist(),
                    "weights": measured.weights[place].tolist(),
                    "area": measured.area[place].tolist(),
                    "blank": bool(measured.blank[place, 0]),
                }
                for place in range(len(batch.pictures))
            ]
            rows += rows_of(batch, method, segmenter, own, values)
        return rows

    def regions(self, model: Classifier, batch: ExplainedBatch) -> tuple[Tensor, Tensor]:
        """Clusters and superpixels of each picture, by its own class.

        Raises:
            InputError: A picture without a label.
        """
        assert self.shelf is not None
        names = self.level_names(model)
        frame = (batch.images.shape[2], batch.images.shape[3])
        found = []
        for place, picture in enumerate(batch.pictures):
            maps = [batch.activations[name][place : place + 1] for name in names]
            found.append(self.shelf[label_of(picture)].segment(maps, frame))
        return (
            torch.cat([each.clusters for each in found]),
            torch.cat([each.superpixels for each in found]),
        )


def label_of(picture: Picture) -> int:
    """The class of a picture.

    Raises:
        InputError: It is not known.
    """
    if picture.label is None:
        raise InputError(f"{picture.id} has no label, by which its class's clusters are found")
    return picture.label


def find_clusters(
    measure: Semantics, dataset: "Dataset", framing: Framing, folder: Path, n_items: int
) -> None:
    """Find the clusters of each class and put them into the folder; those there are kept.

    Args:
        measure: Says how.
        dataset: The pictures.
        framing: How they are read.
        folder: Made if it is not there.
        n_items: Only classes of the first so many pictures.

    Raises:
        InputError: No class of the data set is one of the model's.
    """
    model = framing.model
    folder.mkdir(exist_ok=True)
    shelf = Shelf(folder, model)
    labels = [None if each is None else framing.label_of.get(each) for each in dataset.labels]
    wanted = sorted({label for label in labels[:n_items] if label is not None})
    if not wanted:
        raise InputError(
            f"no picture has a label that {model.name} knows; saliency by meaning wants a data "
            "set with the model's classes"
        )
    for label in wanted:
        if not shelf.path(label).exists():
            places = [i for i, each in enumerate(labels) if each == label][: measure.n_images]
            batches = _batches(dataset, framing, places)
            measure.clustering(model).fit(batches).save(shelf.path(label))


def _batches(dataset: "Dataset", framing: Framing, places: Sequence[int]) -> Iterator[Tensor]:
    """Images of a class, without those that cannot be read."""
    images = []
    for place in places:
        try:
            images.append(framing(place, dataset[place], needs_boxes=False).image)
        except NaspixError:
            continue
        if len(images) == _AT_ONCE:
            yield torch.stack(images).to(framing.model.device)
            images = []
    if images:
        yield torch.stack(images).to(framing.model.device)

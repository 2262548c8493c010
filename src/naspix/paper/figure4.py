"""Figure 4: clusters that the pictures of a class share, beside those of each picture alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from naspix import plots
from naspix.datasets import Dataset
from naspix.errors import InputError, NaspixError
from naspix.evaluation.settings import classes_of
from naspix.files import write_whole, written
from naspix.models import Classifier
from naspix.paper.at_hand import Source
from naspix.paper.cutting import Cut, cut_photos, sentences_on
from naspix.paper.experiment import (
    Conditions,
    Drawing,
    Progress,
    Table,
    Value,
    Verdict,
)
from naspix.paper.kept_cuts import ZOOM, KeptPhoto, cluster_picture, read_photos
from naspix.paper.networks import find_networks, load_network
from naspix.paper.views import labelled_pictures
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run
from naspix.segmentation import NAS, ClassClustering, ClassClusters

_IMAGE, _CLASS = "clusters of the image", "clusters of the class"
_CLASSES, _CHOSEN, _CLUSTERS = "classes", "chosen", "clusters.npz"
_AT_ONCE = 16
_LEAST_SHARE = 0.02  # of a photo, for a cluster that is uncovered


@final
@dataclass(frozen=True)
class Figure4:
    """One class: each photo's own clusters, the class's, and one of these uncovered.

    Attributes:
        n_clusters: K, of each image and of the class.
        n_photos: How many are shown, if no limit is given.
        n_images: Pictures of the class that its clusters are found by, at most.
        n_samples: Pixels of these that are clustered.
    """

    n_clusters: int = 6
    n_photos: int = 5
    n_images: int = 200
    n_samples: int = 1000

    title = "Figure 4: clusters of a class beside clusters of an image"
    items = "photos"
    words = (
        "Clustered one by one, photos have regions that do not correspond; clustered together, a "
        "colour means the same in all photos of the class, so that one can be uncovered in all."
    )
    networks = ("resnet18",)

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Find the clusters of a class, then cut its photos by them and one by one."""
        n_photos = conditions.limit or self.n_photos
        spare = opened.run.folder.parent / _CLASSES
        source = opened.find(
            "labelled", lambda: labelled_pictures(conditions.at_hand, spare).to_plain()
        )
        classes = Source.from_plain(source).open().categories
        networks = opened.find(
            "networks", lambda: find_networks(self.networks, conditions, classes)
        )
        chosen = opened.run.folder / _CHOSEN
        path = opened.run.folder.absolute() / _CLUSTERS
        if "source" not in opened.run.header["found"]:
            name, weights = next(iter(networks["weights"].items()))
            model = load_network(name, weights, conditions.device)
            found = self._of_a_class(Source.from_plain(source), model, conditions)
            found.clusters.save(path)
            _write_photos(chosen, found.photos[:n_photos])
            sentence = f"of {found.name}, from {source['sentence']}"
            opened.find(
                "source", lambda: Source("photos", str(chosen.absolute()), sentence).to_plain()
            )
        cut_photos(
            opened,
            _ByClass(self.networks, str(path), self.n_clusters),
            conditions,
            n_photos=n_photos,
            engine=engine,
            progress=progress,
        )

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """The share of each photo that each cluster of the class covers."""
        photos = read_photos(run)
        rows: list[tuple[Value, ...]] = []
        for cluster in range(self.n_clusters):
            shares = [_share(photo, cluster) for photo in photos]
            rows.append((cluster, *shares))
        columns = ("cluster", *(f"photo {place}" for place in range(1, len(photos) + 1)))
        words = "Share of the photo, 0 to 1, that each cluster of the class covers."
        return [Table("shares", "The clusters of the class", columns, tuple(rows), words)]

    def figures(self, run: Run) -> list[Drawing]:
        """A row a photo: itself, its own clusters, the class's, one of these uncovered."""
        photos = read_photos(run)
        shown = _central(photos, self.n_clusters)
        pictures: list[list[np.ndarray | None]] = []
        for photo in photos:
            own, shared = photo.cut("", _IMAGE), photo.cut("", _CLASS)
            pictures.append(
                [
                    plots.photo_picture(photo.image, zoom=ZOOM),
                    cluster_picture(photo, own.clusters, own.superpixels),
                    cluster_picture(photo, shared.clusters, shared.superpixels),
                    plots.highlight_picture(photo.image, shared.clusters == shown, zoom=ZOOM),
                ]
            )
        columns = ["photo", _IMAGE, _CLASS, f"cluster {shown} uncovered"]
        words = (
            "In the third column a colour means the same in all rows, in the second it does not. "
            f"Cluster {shown} is uncovered: of those that lie in most photos the one most in the "
            "middle of them."
        )
        return [Drawing("figure4", self.title, plots.grid_figure(pictures, columns), words)]

    def verdicts(self, run: Run) -> list[Verdict]:
        """The paper's claims about it are not at hand."""
        return []

    def _of_a_class(
        self, source: Source, model: Classifier, conditions: Conditions
    ) -> "_ClassAtHand":
        """The class of most pictures, of those that the network knows, and its clusters."""
        dataset = source.open()
        label_of = classes_of(dataset, model)
        known = [label for label in dataset.labels if label in label_of]
        if not known:
            some = ", ".join(dataset.categories[:3])
            raise InputError(
                f"none of the classes ({some}) is one of {model.name}'s; give a network that has "
                "learnt them by --model-weights, or --images with a folder for each class, named "
                "as the network calls it"
            )
        label = max(sorted(set(known)), key=known.count)
        photos = _pictures(dataset, label, 24 if conditions.quick else self.n_images)
        clustering = ClassClustering(
            model,
            n_clusters=self.n_clusters,
            n_samples=300 if conditions.quick else self.n_samples,
            seed=conditions.seed,
        )
        batches = (
            model.load_images(list(photos[start : start + _AT_ONCE]))
            for start in range(0, len(photos), _AT_ONCE)
        )
        return _ClassAtHand(dataset.categories[label], photos, clustering.fit(batches))


@dataclass(frozen=True, eq=False)
class _ClassAtHand:
    name: str
    photos: Sequence[np.ndarray]
    clusters: ClassClusters


@final
@dataclass(frozen=True)
class _ByClass:
    """Cuts a photo alone, and by the clusters of its class.

    Attributes:
        networks: The paper's; the first that was found is asked.
        path: Where the clusters of the class lie.
        n_clusters: K of the photo alone.
    """

    networks: tuple[str, ...]
    path: str
    n_clusters: int

    def cuts(
        self,
        image: Float[Tensor, "1 3 H W"],
        networks: Mapping[str, Classifier],
        conditions: Conditions,
    ) -> Iterator[Cut]:
        """Cut one photo in both ways."""
        model = next(iter(networks.values()))
        image = image.to(model.device)
        nas = NAS(model, n_clusters=self.n_clusters, seed=conditions.seed)
        yield Cut("", _IMAGE, nas(image))
        yield Cut("", _CLASS, ClassClusters.load(Path(self.path), model)(image), is_named=True)


def _pictures(dataset: Dataset, label: int, n: int) -> list[np.ndarray]:
    """The first pictures of a class that can be read, eight bits a channel."""
    found: list[np.ndarray] = []
    for place, each in enumerate(dataset.labels):
        if each != label or len(found) == n:
            continue
        try:
            image = dataset[place].image
        except NaspixError:
            continue
        found.append((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    return found


def _write_photos(folder: Path, photos: Sequence[np.ndarray]) -> None:
    from PIL import Image

    with written(folder):
        folder.mkdir(exist_ok=True)
        for place, photo in enumerate(photos):
            with write_whole(folder / f"{place}.png") as file:
                Image.fromarray(photo).save(file, "png")


def _share(photo: KeptPhoto, cluster: int) -> float:
    return float((photo.cut("", _CLASS).clusters == cluster).mean())


def _central(photos: Sequence[KeptPhoto], n_clusters: int) -> int:
    """Of the clusters that lie in most photos the one with most of itself in the middle."""

    def middle(cluster: int) -> tuple[int, float]:
        shares: list[Any] = []
        for photo in photos:
            mask = photo.cut("", _CLASS).clusters == cluster
            if mask.mean() >= _LEAST_SHARE:
                height, width = mask.shape
                inner = mask[height // 4 : -height // 4, width // 4 : -width // 4]
                shares.append(inner.sum() / mask.sum())
        often = 2 * len(shares) > len(photos)
        return int(often), float(np.mean(shares)) if shares else 0.0

    return max(range(n_clusters), key=middle)

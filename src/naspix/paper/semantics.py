"""Table 1 and figure 4: clusters that the pictures of a class share, and the saliency on each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from naspix import plots
from naspix.datasets import Dataset
from naspix.errors import InputError, NaspixError
from naspix.evaluation.scores import meaning_of
from naspix.evaluation.settings import classes_of
from naspix.evaluation.tables import title_of
from naspix.files import write_png, written
from naspix.paper.data import Conditions, Source
from naspix.paper.evaluations import Evaluated, Question, title_of_network
from naspix.paper.experiment import (
    Drawing,
    Experiment,
    Progress,
    Shown,
    Table,
    Value,
    sentences_on,
    subruns,
)
from naspix.paper.networks import find_networks, load_network
from naspix.paper.segmentations import (
    ZOOM,
    Cut,
    Image,
    KeptPhoto,
    Networks,
    cut_photos,
    eight_bit,
    read_photos,
)
from naspix.paper.verdicts import FEWEST
from naspix.pipeline import RAW
from naspix.runs import Engine, OpenRun, Run
from naspix.segmentation import NAS, ClassClustering, ClassClusters

_IMAGE, _CLASS = "clusters of the image", "clusters of the class"
_CHOSEN, _CLUSTERS = "chosen", "clusters.npz"
_AT_ONCE = 16
_LEAST_SHARE = 0.02  # of a photo, for a cluster that is uncovered


@final
@dataclass(frozen=True)
class Table1(Evaluated):
    """The most salient cluster of each class, and the others."""

    title = "Table 1: what the saliency falls on"
    words = (
        "The pictures of a class are clustered together, so that a cluster means the same in all "
        "of them: the head, the grass. For each method the cluster with the highest mean saliency "
        "of its superpixels (maps scaled to 0..1), and the mean of all others; for all "
        "predictions, the right and the wrong ones."
    )
    question = Question(
        "semantics",
        parameters={"semantics": {"n_clusters": 10}},
        quick={"semantics": {"n_clusters": 6, "n_samples": 300}},
        segmenters=(RAW,),
    )
    pictures = "labelled"
    n_quick = 12

    def show(self, run: Run) -> Shown:
        """A table a network: a row for each class, method, and all, right or wrong predictions.

        Figure 4 shows the clusters.
        """
        tables = [_meaning_table(name, each) for name, each in subruns(run).items()]
        return Shown(self.sentences(run), tables)


def _meaning_table(network: str, run: Run) -> Table:
    names = run.header["found"]["categories"]
    rows: list[list[Value]] = []
    marked: set[tuple[int, int]] = set()
    for each in meaning_of(run):
        found = each.row
        if not found.n_images:
            continue
        name = names[each.label] if each.label < len(names) else f"class {each.label}"
        cells = (name, title_of(each.method), found.split, found.n_images, found.cluster)
        if found.n_images >= FEWEST and found.chosen_interval[0] > found.others_interval[1]:
            marked.add((len(rows), len(cells)))
        rows.append([*cells, found.chosen, found.others])
    columns = ("class", "method", "predictions", "pictures", "cluster", "its mean", "the others'")
    words = (
        "Clusters are numbered anew in each class. Bold: the cluster's 95 % interval over at least "
        f"{FEWEST} pictures lies above that of the others."
    )
    title = f"Saliency by cluster, {title_of_network(network)}"
    return Table(f"meaning_{network}", title, columns, rows, words, frozenset(marked))


@final
@dataclass(frozen=True)
class Figure4(Experiment):
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
        folder = opened.run.folder.absolute()
        labelled = Source(
            **opened.find("labelled", lambda: conditions.at_hand.labelled(folder.parent).to_plain())
        )
        categories = labelled.open().categories
        networks = opened.find(
            "networks", lambda: find_networks(self.networks, conditions, categories)
        )
        cut_photos(
            opened,
            conditions,
            partial(self.cuts, folder / _CLUSTERS),
            self.networks,
            look=lambda _: self._of_a_class(labelled, networks, conditions, folder, n_photos),
            n_photos=n_photos,
            engine=engine,
            progress=progress,
        )

    def cuts(
        self, path: Path, image: Image, networks: Networks, conditions: Conditions
    ) -> Iterator[Cut]:
        """Cut one photo alone, and by the clusters of its class.

        Args:
            path: Where these lie.
            image: In [0, 1].
            networks: The first is asked.
            conditions: What is asked.
        """
        model = next(iter(networks.values()))
        image = image.to(model.device)
        nas = NAS(model, n_clusters=self.n_clusters, seed=conditions.seed)
        yield Cut("", _IMAGE, nas(image))
        yield Cut("", _CLASS, ClassClusters.load(path, model)(image), is_named=True)

    def show(self, run: Run) -> Shown:
        """The share of each photo that each cluster of the class covers; a row a photo.

        Itself, its own clusters, the class's, one of these uncovered.
        """
        photos = read_photos(run)
        rows = [
            [cluster, *(float((photo.cuts["", _CLASS].clusters == cluster).mean())
                        for photo in photos)]
            for cluster in range(self.n_clusters)
        ]  # fmt: skip
        columns = ("cluster", *(f"photo {place}" for place in range(1, len(photos) + 1)))
        words = "Share of the photo, 0 to 1, that each cluster of the class covers."
        table = Table("shares", "The clusters of the class", columns, rows, words)
        shown = _central(photos, self.n_clusters)
        pictures = []
        for photo in photos:
            own, shared = photo.cuts["", _IMAGE], photo.cuts["", _CLASS]
            uncovered = shared.clusters == shown
            pictures.append(
                [
                    photo.picture(),
                    photo.coloured(own),
                    photo.coloured(shared),
                    plots.highlight_picture(photo.image, uncovered, zoom=ZOOM),
                ]
            )
        names = ["photo", _IMAGE, _CLASS, f"cluster {shown} uncovered"]
        words = (
            "In the third column a colour means the same in all rows, in the second it does not. "
            f"Cluster {shown} is uncovered: of those that lie in most photos the one most in the "
            "middle of them."
        )
        drawing = Drawing("figure4", self.title, plots.grid_figure(pictures, names), words)
        return Shown(sentences_on(run), [table], [drawing])

    def _of_a_class(
        self,
        source: Source,
        networks: Mapping[str, Any],
        conditions: Conditions,
        folder: Path,
        n_photos: int,
    ) -> Source:
        """Photos of the class that has most pictures, of those that the network knows.

        They and the clusters of the class are written into the folder.
        """
        name, weights = next(iter(networks["weights"].items()))
        model = load_network(name, weights, conditions.device)
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
        clustering.fit(batches).save(folder / _CLUSTERS)
        chosen = folder / _CHOSEN
        with written(chosen):
            chosen.mkdir(exist_ok=True)
            for place, photo in enumerate(photos[:n_photos]):
                write_png(chosen / f"{place}.png", photo)
        sentence = f"of {dataset.categories[label]}, from {source.sentence}"
        return Source("photos", str(chosen), sentence)


def _pictures(dataset: Dataset, label: int, n: int) -> list[np.ndarray]:
    """The first pictures of a class that can be read, eight bits a channel."""
    found: list[np.ndarray] = []
    for place, each in enumerate(dataset.labels):
        if each != label or len(found) == n:
            continue
        try:
            found.append(eight_bit(dataset[place].image))
        except NaspixError:
            continue
    return found


def _central(photos: Sequence[KeptPhoto], n_clusters: int) -> int:
    """Of the clusters that lie in most photos the one with most of itself in the middle."""

    def middle(cluster: int) -> tuple[int, float]:
        shares: list[Any] = []
        for photo in photos:
            mask = photo.cuts["", _CLASS].clusters == cluster
            if mask.mean() >= _LEAST_SHARE:
                height, width = mask.shape
                inner = mask[height // 4 : -height // 4, width // 4 : -width // 4]
                shares.append(inner.sum() / mask.sum())
        often = 2 * len(shares) > len(photos)
        return int(often), float(np.mean(shares)) if shares else 0.0

    return max(range(n_clusters), key=middle)

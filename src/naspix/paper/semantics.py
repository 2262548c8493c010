"""Table 1 and figure 4: clusters that the pictures of a class share, and the saliency on each."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from naspix import plots
from naspix.evaluation.measures import CLASSES, class_file
from naspix.evaluation.scores import by_setting, measured_in
from naspix.evaluation.settings import EvaluationSettings
from naspix.evaluation.tables import title_of
from naspix.files import write_png, written
from naspix.metrics import saliency_by_cluster
from naspix.metrics.per_cluster import ClusterSaliency
from naspix.paper.class_clusters import Fitted, fit_class, pictures_of
from naspix.paper.data import Conditions, Source, load_network
from naspix.paper.evaluations import Evaluated, Question, title_of_network
from naspix.paper.experiment import Drawing, Experiment, Shown, Work, sentences_on, subruns
from naspix.paper.published import Gains, Table, Told, Value, Verdict, published, told
from naspix.paper.segmentations import (
    ZOOM,
    Cut,
    Image,
    KeptPhoto,
    Networks,
    agreement,
    cut_photos,
    named_as,
    read_photos,
)
from naspix.pipeline import RAW
from naspix.runs import Run
from naspix.segmentation import NAS, ClassClusters

_IMAGE, _CLASS = "clusters of the image", "clusters of the class"
_CHOSEN = "chosen"
_SPLITS: tuple[Literal["right", "wrong"], ...] = ("right", "wrong")
_COUNTERPART = 0.5  # IoU with the best cluster of the image, from which there is a counterpart
_PAPERS_CLUSTER = 8  # that the paper follows
_AT_ONCE = 32


def _measured(run: Run) -> Iterator[tuple[str, ClusterSaliency, Bool[Tensor, " B"]]]:
    """Of each method what was measured of the pictures, and which predictions are right."""
    for (method, _), group in by_setting(run.records()):
        right = torch.tensor((group["predicted"] == group["label"]).to_numpy())
        yield method, measured_in(group, method), right


def as_salient_as_in_the_paper(run: Run, cluster: int) -> Told:
    """Whether the followed cluster is the most salient where the paper's table has it so, only.

    Args:
        run: Of saliency by meaning.
        cluster: The followed one, from 0.
    """
    printed = published("table1")
    parts = {}
    for split, (method, measured, right) in product(_SPLITS, list(_measured(run))):
        salient = printed.value((split, title_of(method)), "most salient cluster")
        if salient is None:
            continue
        chosen = right if split == "right" else ~right
        name = f"{title_of(method)}, {split}"
        if not chosen.any():
            parts[name] = Gains(np.array([]))
            continue
        means = (measured.sums[:, 0] / measured.weights)[chosen].numpy()
        others = np.delete(means, cluster, axis=1)
        known = np.isfinite(others).any(0)
        rival = np.full(len(others), np.nan)
        if known.any():
            totals = np.nanmean(others[:, known], axis=0)
            rival = others[:, np.flatnonzero(known)[int(totals.argmax())]]
        apart = means[:, cluster] - rival
        is_most = salient == _PAPERS_CLUSTER
        name += f" ({'most' if is_most else 'not most'})"
        parts[name] = Gains(apart if is_most else -apart)
    words = (
        "Saliency of the followed cluster less that of the most salient other one, turned round "
        "where the paper has another as the most salient."
    )
    return told(parts, words, unit="hundredths")


@final
@dataclass(frozen=True)
class Table1(Evaluated):
    """The most salient cluster of a class, one that is followed, and the others."""

    title = "Table 1: what the saliency falls on"
    words = (
        "The pictures of a class are clustered together, so that a cluster means the same in all "
        "of them: the head, the grass. For each method and for right and wrong predictions: the "
        "cluster with the highest mean saliency of its superpixels, the mean of one cluster that "
        "is the same in all rows, and that of all others. The predicted class is explained; maps "
        "are scaled from 0 to 1, picture by picture; every superpixel counts alike."
    )
    question = Question(
        "semantics", parameters={"semantics": {"n_clusters": 10}}, segmenters=(RAW,)
    )
    pictures = "labelled"
    n_quick = 12
    claims: ClassVar = {"followed": as_salient_as_in_the_paper}

    def prepared(
        self, asked: EvaluationSettings, work: Work, source: Source, network: str, weights: str
    ) -> EvaluationSettings:
        """The pictures of one class, whose clusters are put where the evaluation looks for them."""
        fitted = fit_class(work, source, network, weights)
        work.opened.find(f"fitted {network}", lambda: asdict(fitted))
        folder = work.subfolder(network) / CLASSES
        with written(folder):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fitted.file, folder / class_file(fitted.label))
        return replace(asked, only=fitted.category, skip=fitted.skip)

    def show(self, run: Run) -> Shown:
        """A table a network, in the paper's form: a row for right or wrong predictions, a method.

        Figure 4 shows the clusters.
        """
        tables, sentences = [], self.sentences(run)
        verdicts: list[Verdict] = []
        for name, each in subruns(run).items():
            fitted = Fitted(**run.header["found"][f"fitted {name}"])
            sentences += fitted.sentences
            tables.append(_papers_form(name, each, fitted.category, fitted.cluster))
            verdicts = verdicts or self.verdicts(run, each, fitted.cluster)
        return Shown(sentences, tables, verdicts=verdicts)


def _papers_form(network: str, run: Run, category: str, cluster: int) -> Table:
    found = {
        method: [saliency_by_cluster(measured, right, cluster=each) for each in (None, cluster)]
        for method, measured, right in _measured(run)
    }
    rows: list[list[Value]] = []
    marked: set[tuple[int, int]] = set()
    for split, method in product(_SPLITS, found):
        most, row = (table.row(method, split) for table in found[method])
        if not row.n_images:
            continue
        if most.cluster == cluster:
            marked.add((len(rows), 2))
        values = (row.chosen, row.others, *row.chosen_interval)
        rows.append(
            [split, title_of(method), most.cluster + 1 if most.cluster >= 0 else None,
             *(None if np.isnan(value) else value for value in values), row.n_images]
        )  # fmt: skip
    followed = f"cluster {cluster + 1}"
    columns = (
        *("predictions", "method", "most salient cluster", followed, "other clusters"),
        *(f"{followed} from", "to", "pictures"),
    )
    words = (
        "Mean saliency, 0 to 1, with its 95 % interval over pictures. Bold: it is the most "
        "salient one."
    )
    title = f"Saliency by cluster of {category}, {title_of_network(network)}"
    return Table(f"meaning_{network}", title, columns, rows, words, frozenset(marked))


def consistent(photos: Sequence[KeptPhoto]) -> Told:
    """Whether a photo's own clusters agree with the class's more than with another photo's."""
    gains = []
    for photo, other in zip(photos, [*photos[1:], photos[0]], strict=True):
        own = photo.cuts["", _IMAGE].clusters
        matched, shuffled = (
            agreement(each.cuts["", _CLASS].clusters, own) for each in (photo, other)
        )
        gains.append(matched - shuffled)
    words = (
        "Adjusted Rand index of a photo's own clusters with the class's, less that with the "
        "class's on another photo."
    )
    return told({"agreement": Gains(np.array(gains))}, words, unit="hundredths")


def has_counterpart(photos: Sequence[KeptPhoto], cluster: int) -> Told:
    """Whether the cluster that is uncovered has a counterpart among the clusters of the image.

    Args:
        photos: That were cut both ways.
        cluster: Of the class, from 0.
    """
    gains = []
    for photo in photos:
        mask = photo.cuts["", _CLASS].clusters == cluster
        own = photo.cuts["", _IMAGE].clusters
        ious = [
            float((mask & (own == each)).sum() / (mask | (own == each)).sum())
            for each in range(int(own.max()) + 1)
        ]
        gains.append(max(ious) - _COUNTERPART if mask.any() else np.nan)
    words = "IoU of the cluster with the best of the image's, less 0.5, where a photo has it."
    return told({f"cluster {cluster + 1}": Gains(np.array(gains))}, words, unit="hundredths")


@final
@dataclass(frozen=True)
class Figure4(Experiment):
    """One class: each photo's own clusters, the class's, and one of these uncovered.

    Attributes:
        n_clusters: K of each image; of the class, `class_clusters` knows it.
        n_photos: How many are cut, if no limit is given: as many as claims need.
        n_drawn: How many of them are drawn.
    """

    n_clusters: int = 5
    n_photos: int = 24
    n_drawn: int = 6

    title = "Figure 4: clusters of a class beside clusters of an image"
    items = "photos"
    words = (
        "Clusters of one image alone, by k-means, beside clusters of all pictures of the class: a "
        "colour means the same in all photos of the class, so that one can be uncovered in all."
    )
    networks = ("resnet18",)
    claims: ClassVar = {
        "consistent": lambda photos, cluster: consistent(photos),
        "counterpart": has_counterpart,
    }

    def compute(self, work: Work) -> None:
        """Find the clusters of a class, then cut its photos by them and one by one."""
        conditions = work.conditions
        n_photos = conditions.limit or (self.n_drawn if conditions.quick else self.n_photos)
        labelled = work.source(conditions.at_hand.labelled, "labelled")
        networks = work.networks(self.networks, labelled)
        network = next(iter(networks["weights"].items()))
        fitted = fit_class(work, labelled, *network)
        work.opened.find("fitted", lambda: asdict(fitted))
        cut_photos(
            work,
            partial(self.cuts, Path(fitted.file)),
            self.networks,
            look=lambda _: _of_a_class(work, labelled, fitted, network, n_photos),
            n_photos=n_photos,
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

        Itself, its own clusters in the colours of the class's, these, one of them uncovered.
        """
        photos = read_photos(run)
        fitted = Fitted(**run.header["found"]["fitted"])
        n_clusters = 1 + max(int(photo.cuts["", _CLASS].clusters.max()) for photo in photos)
        rows = [
            [cluster + 1, *(float((photo.cuts["", _CLASS].clusters == cluster).mean())
                            for photo in photos)]
            for cluster in range(n_clusters)
        ]  # fmt: skip
        columns = ("cluster", *(f"photo {place}" for place in range(1, len(photos) + 1)))
        words = "Share of the photo, 0 to 1, that each cluster of the class covers."
        table = Table("shares", "The clusters of the class", columns, rows, words)
        pictures = []
        for photo in photos[: self.n_drawn]:
            own, shared = photo.cuts["", _IMAGE], photo.cuts["", _CLASS]
            uncovered = shared.clusters == fitted.cluster
            pictures.append(
                [
                    photo.picture(),
                    photo.coloured(own, named_as(own.clusters, shared.clusters)),
                    photo.coloured(shared),
                    plots.highlight_picture(photo.image, uncovered, zoom=ZOOM),
                ]
            )
        number = fitted.cluster + 1
        names = ["photo", _IMAGE, _CLASS, f"cluster {number} uncovered"]
        words = (
            "In the third column a colour means the same in all rows; in the second a cluster has "
            "the colour of the class's cluster that it shares most pixels with."
        )
        drawing = Drawing("figure4", self.title, plots.grid_figure(pictures, names), words)
        sentences = [*sentences_on(run), *fitted.sentences]
        return Shown(sentences, [table], [drawing], self.verdicts(run, photos, fitted.cluster))


def _of_a_class(
    work: Work, source: Source, fitted: Fitted, network: tuple[str, str], n_photos: int
) -> Source:
    """Photos of the class that its network knows for what they are, written into the folder.

    Where there are too few, others follow.
    """
    model = load_network(*network, work.conditions.device)
    dataset = source.open()
    label = dataset.categories.index(fitted.category)
    places = [place for place, each in enumerate(dataset.labels) if each == label][fitted.skip :]
    right: list[np.ndarray] = []
    wrong: list[np.ndarray] = []
    for start in range(0, len(places), _AT_ONCE):
        if len(right) >= n_photos:
            break
        photos = pictures_of(dataset, places[start : start + _AT_ONCE])
        with torch.no_grad():
            predicted = model(model.load_images(list(photos))).argmax(1).tolist()
        for photo, answer in zip(photos, predicted, strict=True):
            (right if answer == fitted.label else wrong).append(photo)
    chosen = work.opened.run.folder.absolute() / _CHOSEN
    with written(chosen):
        chosen.mkdir(exist_ok=True)
        for place, photo in enumerate([*right, *wrong][:n_photos]):
            write_png(chosen / f"{place}.png", photo)
    n_right = min(len(right), n_photos)
    sentence = (
        f"of {fitted.category}, {n_right} of them correctly classified, from {source.sentence}"
    )
    return Source("photos", str(chosen), sentence)

"""Figures 1, 3, 7, 8 and 9: segmentations of photos, laid over them."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal, final

import numpy as np
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from naspix import plots
from naspix.models import DEFAULT_MODEL, Classifier
from naspix.paper.data import Conditions
from naspix.paper.experiment import (
    Drawing,
    Experiment,
    Progress,
    Shown,
    Table,
    Value,
    sentences_on,
)
from naspix.paper.networks import PAPERS, TITLES
from naspix.paper.published import published
from naspix.paper.segmentations import (
    ZOOM,
    Cut,
    Image,
    KeptPhoto,
    Networks,
    cut_photos,
    named_as,
    read_photos,
)
from naspix.runs import Engine, OpenRun, Run
from naspix.segmentation import NAS, SLIC, Felzenszwalb, consensus
from naspix.segmentation.matching import Match

Panel = tuple[UInt8[np.ndarray, "y x 3"] | None, str]  # a picture and what stands below it

_ALL = (0, 1, 2, 3, 4)
_OTHERS = ("SLIC", "Felzenszwalb")
# of the mean superpixel's area: smaller specks are merged by Felzenszwalb; the first that will do
_LEAST_SHARES = (1 / 4, 1 / 16, 1 / 64)
_CLOSE = 0.15  # of the number wanted
_WHOLE = "Algorithm 1"
# name -> whether vectors are normalised (line 10), whether levels are weighted (line 11)
_VARIANTS = {
    _WHOLE: (True, True),
    "without line 10": (False, True),
    "without line 11": (True, False),
    "without both": (False, False),
}
_MEAN = "consensus"
_SHOWN = 2  # of the segmentations, beside what they agree on
_WARD, _KMEANS = "Ward", "k-means"


@dataclass(frozen=True)
class Overlays(Experiment):
    """Photos cut in several ways.

    Attributes:
        n_photos: How many photos, if no limit is given; half of them to be quick.
    """

    n_photos: int = 4

    items: ClassVar[str] = "photos"
    networks: ClassVar[tuple[str, ...]] = ("resnet18",)

    @final
    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Cut the photos."""
        cut_photos(
            opened,
            conditions,
            self.cuts,
            self.networks,
            look=conditions.at_hand.photos,
            n_photos=self.n_photos // 2 if conditions.quick else self.n_photos,
            engine=engine,
            progress=progress,
        )

    @abstractmethod
    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterable[Cut]:
        """Cut one photo in every way.

        Args:
            image: In [0, 1].
            networks: Those that were found, by name.
            conditions: What is asked.
        """


@final
@dataclass(frozen=True)
class Figure1(Overlays):
    """Six columns: the photo, NAS in the paper's networks, SLIC and Felzenszwalb.

    Attributes:
        levels: Of NAS in the paper's networks; the default network has its own.
        n_clusters: K.
    """

    levels: tuple[int, ...] = (2, 3, 4)
    n_clusters: int = 5

    title = "Figure 1: what each network tells apart"
    words = (
        "Superpixels of NAS follow what a network has learnt to tell apart; those of SLIC and "
        "Felzenszwalb, matched to them in number, follow the photo's colours."
    )
    networks = PAPERS

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo by each network, then by the others into as many superpixels on average."""
        numbers = []
        for name, model in networks.items():
            levels = _levels(name, model, self.levels)
            nas = NAS(model, levels=levels, n_clusters=self.n_clusters, seed=conditions.seed)
            cut = nas(image.to(model.device))
            numbers.append(int(cut.n_superpixels[0]))
            yield Cut("", TITLES[name], cut)
        wanted = float(np.mean(numbers))
        yield Cut("", "SLIC", SLIC().match(image, wanted)(image))
        yield Cut("", "Felzenszwalb", _match_felzenszwalb(image, wanted)(image))

    def show(self, run: Run) -> Shown:
        """Number of superpixels by photo and column; the photos in rows."""
        photos = read_photos(run)
        columns = photos[0].columns
        table = Table(
            "superpixels",
            "Number of superpixels",
            ("photo", *columns),
            [(photo.id, *(cut.n_superpixels for cut in photo.cuts.values())) for photo in photos],
            "SLIC and Felzenszwalb are matched, photo by photo, to the mean over the networks.",
        )
        panels: list[list[Panel]] = []
        for photo in photos:
            panels.append([(photo.picture(), "")])
            first = next(iter(photo.cuts.values()))
            for (_, column), cut in photo.cuts.items():
                if column in _OTHERS:
                    picture = plots.boundary_picture(photo.image, cut.superpixels, zoom=ZOOM)
                else:
                    picture = photo.coloured(cut, named_as(cut.clusters, first.clusters))
                panels[-1].append((picture, str(cut.n_superpixels)))
        words = (
            "Below each picture its number of superpixels. Colours are clusters, the same where "
            "they lie in the same place of a photo; SLIC and Felzenszwalb have superpixels only."
        )
        drawing = _drawing("figure1", self.title, ["photo", *columns], panels, words)
        return Shown(sentences_on(run), [table], [drawing])


def _match_felzenszwalb(image: Float[Tensor, "1 3 H W"], wanted: float) -> Match:
    """The setting with large regions, unless only smaller ones come near the number."""
    area = image.shape[2] * image.shape[3] / wanted
    matches: list[Match] = []
    for share in _LEAST_SHARES:
        matches.append(Felzenszwalb(min_size=round(share * area)).match(image, wanted))
        if abs(matches[-1].n_superpixels - wanted) <= _CLOSE * wanted:
            break
    return min(matches, key=lambda match: abs(match.n_superpixels - wanted))


@final
@dataclass(frozen=True)
class Figure3(Overlays):
    """Sets of levels by numbers of clusters.

    Attributes:
        level_sets: A column each.
        numbers: Of clusters, a row each.
    """

    level_sets: tuple[tuple[int, ...], ...] = ((0,), (2,), (4,), (0, 2, 4), (2, 3, 4), _ALL)
    numbers: tuple[int, ...] = (2, 5, 10, 20)
    n_photos: int = 2

    title = "Figure 3: levels and numbers of clusters"
    words = (
        "Shallow levels cut along edges and colours, deep ones along objects and their parts; "
        "together they do both. More clusters cut finer."
    )

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo in every way, with one forward pass."""
        model = next(iter(networks.values()))
        activations = model.activations(image.to(model.device), _ALL)
        frame = (image.shape[2], image.shape[3])
        for n_clusters in self.numbers:
            for levels in self.level_sets:
                nas = NAS(model, levels=levels, n_clusters=n_clusters, seed=conditions.seed)
                chosen = [activations[level] for level in levels]
                yield Cut(f"K = {n_clusters}", _named(levels), nas.segment(chosen, frame))

    def show(self, run: Run) -> Shown:
        """Mean number of superpixels for levels and K; a grid for each photo."""
        photos = read_photos(run)
        rows, columns = photos[0].rows, photos[0].columns
        means: list[list[Value]] = [
            [
                row,
                *(_mean([photo.cuts[row, each].n_superpixels for photo in photos])
                  for each in columns),
            ]
            for row in rows
        ]  # fmt: skip
        words = (
            "Below each picture its number of superpixels; boundaries are drawn where there are "
            "not too many. A colour goes from row to row to the cluster that shares most pixels "
            "with it."
        )
        return Shown(
            sentences_on(run),
            [Table("superpixels", "Mean number of superpixels", ("levels", *columns), means)],
            _grids("figure3", self.title, photos, "row", words),
        )


def _named(levels: tuple[int, ...]) -> str:
    if len(levels) == len(_ALL):
        return "levels 0 to 4"
    return f"level{'s' * (len(levels) > 1)} {', '.join(map(str, levels))}"


@final
@dataclass(frozen=True)
class Figure7(Overlays):
    """The algorithm, and without normalising, without weighting, without both (appendix A).

    Attributes:
        levels: Of NAS: all, so that there is much to bring into balance.
        n_clusters: K.
    """

    levels: tuple[int, ...] = _ALL
    n_clusters: int = 5

    title = "Figure 7: without lines 10 and 11"
    words = (
        "Line 10 of Algorithm 1 divides each level's vector at a pixel by its norm, line 11 by one "
        "plus the level's number of channels. Without them the level with the largest numbers, or "
        "the most channels, decides alone."
    )

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo by each variant, with one forward pass."""
        model = next(iter(networks.values()))
        activations = model.activations(image.to(model.device), self.levels)
        for column, (normalize, weight) in _VARIANTS.items():
            nas = NAS(
                model,
                levels=self.levels,
                n_clusters=self.n_clusters,
                seed=conditions.seed,
                normalize=normalize,
                weight=weight,
            )
            yield Cut("", column, nas.segment(activations, (image.shape[2], image.shape[3])))

    def show(self, run: Run) -> Shown:
        """How much of the whole algorithm's partition each variant keeps; a row a photo."""
        from sklearn.metrics import adjusted_rand_score

        photos = read_photos(run)
        agreement: dict[str, list[float]] = {column: [] for column in _VARIANTS}
        panels: list[list[Panel]] = []
        for photo in photos:
            panels.append([(photo.picture(), "")])
            reference = photo.cuts["", _WHOLE].clusters
            for (_, column), cut in photo.cuts.items():
                ari = float(adjusted_rand_score(reference.ravel(), cut.clusters.ravel()))
                agreement[column].append(ari)
                note = f"{cut.n_superpixels} superpixels"
                note += "" if column == _WHOLE else f", ARI {ari:.2f}"
                panels[-1].append((photo.coloured(cut, named_as(cut.clusters, reference)), note))
        rows: list[list[Value]] = [
            [column, _mean(found), min(found), max(found),
             _mean([photo.cuts["", column].n_superpixels for photo in photos])]
            for column, found in agreement.items()
        ]  # fmt: skip
        table = Table(
            "ablation",
            "What is left of the partition",
            ("variant", "mean ARI", "lowest", "highest", "mean number of superpixels"),
            rows,
            "Adjusted Rand index of the clusters with those of the whole algorithm: 1 is the same "
            "partition, 0 no more agreement than by chance.",
        )
        words = (
            "Below each picture its number of superpixels, and how its clusters agree with the "
            "whole algorithm's. A cluster has the colour of the one there that shares most pixels."
        )
        drawing = _drawing("figure7", self.title, ["photo", *_VARIANTS], panels, words)
        return Shown(sentences_on(run), [table], [drawing])


@final
@dataclass(frozen=True)
class Figure8(Overlays):
    """Segmentations that differ in k-means' start only (appendix B).

    Attributes:
        levels: Of NAS in the paper's network; the default network has its own.
        n_clusters: K.
        n_segmentations: How many, each with a seed of its own.
    """

    levels: tuple[int, ...] = (2, 3, 4)
    n_clusters: int = 5
    n_segmentations: int = 10

    title = "Figure 8: ten segmentations and their consensus"
    words = (
        "The same photo cut ten times, k-means started anew with one random start each: how often "
        "each pixel is a boundary, and the partition that the ten agree on."
    )

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo again and again, with one forward pass."""
        name, model = next(iter(networks.items()))
        levels = _levels(name, model, self.levels)
        nas = NAS(model, levels=levels, n_clusters=self.n_clusters, n_init=1)
        activations = model.activations(image.to(model.device), levels)
        found = []
        for number in range(self.n_segmentations):
            seeded = replace(nas, seed=conditions.seed + number)
            found.append(seeded.segment(activations, (image.shape[2], image.shape[3])))
            yield Cut("", str(number + 1), found[-1])
        agreed = consensus(found)
        yield Cut("", _MEAN, agreed.mean, agreed)

    def show(self, run: Run) -> Shown:
        """How much any two agree; a row a photo: two of the ten, the overlay, the consensus."""
        rows: list[list[Value]] = []
        panels: list[list[Panel]] = []
        for photo in read_photos(run):
            *several, mean = photo.cuts.values()
            assert mean.frequency is not None
            numbers = [cut.n_superpixels for cut in several]
            rows.append(
                [photo.id, mean.cluster_ari, mean.superpixel_ari, min(numbers), max(numbers),
                 mean.n_superpixels]
            )  # fmt: skip
            overlay = plots.frequency_picture(photo.image, mean.frequency, zoom=ZOOM)
            panels.append(
                [
                    (photo.picture(), ""),
                    *(
                        (
                            photo.coloured(cut, named_as(cut.clusters, mean.clusters)),
                            f"{cut.n_superpixels} superpixels",
                        )
                        for cut in several[:_SHOWN]
                    ),
                    (overlay, f"ARI {mean.cluster_ari:.2f}"),
                    (photo.coloured(mean), f"{mean.n_superpixels} superpixels"),
                ]
            )
        columns = (
            *("photo", "ARI of clusters", "ARI of superpixels", "fewest superpixels"),
            *("most superpixels", "superpixels of the consensus"),
        )
        words = "Adjusted Rand index, mean over all pairs: 1 is the same partition, 0 chance."
        table = Table("agreement", "How much any two agree", columns, rows, words)
        names = ["photo", "first", "second", f"overlay of {self.n_segmentations}", _MEAN]
        words = (
            "In the overlay a line is the darker the more of the segmentations have a boundary "
            "there; below it the mean adjusted Rand index of their clusters."
        )
        drawing = _drawing("figure8", self.title, names, panels, words)
        return Shown(sentences_on(run), [table], [drawing])


@final
@dataclass(frozen=True)
class Figure9(Overlays):
    """Ward's tree of a photo, cut again and again; k-means beside it, started anew for each K.

    Attributes:
        levels: Of NAS in the paper's network; the default network has its own.
        numbers: Of clusters, a column each.
    """

    levels: tuple[int, ...] = (2, 3, 4)
    numbers: tuple[int, ...] = (2, 3, 5, 8, 12, 20)
    n_photos: int = 2

    title = "Figure 9: Ward's refinements"
    words = (
        "Each cut of Ward's tree into more clusters splits clusters of the one before and moves no "
        "other boundary; k-means starts anew for each number."
    )

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo's tree, and cluster it by k-means, with one forward pass."""
        name, model = next(iter(networks.items()))
        levels = _levels(name, model, self.levels)
        activations = model.activations(image.to(model.device), levels)
        frame = (image.shape[2], image.shape[3])
        tree = NAS(model, levels=levels, algorithm="ward").segment(activations, frame)
        for n_clusters in self.numbers:
            yield Cut(_WARD, f"K = {n_clusters}", tree.cut(n_clusters))
        for n_clusters in self.numbers:
            nas = NAS(model, levels=levels, n_clusters=n_clusters, seed=conditions.seed)
            yield Cut(_KMEANS, f"K = {n_clusters}", nas.segment(activations, frame))

    def show(self, run: Run) -> Shown:
        """Share of pixels in clusters that lie within one of the cut before; a grid a photo."""
        photos = read_photos(run)
        steps = list(pairwise(photos[0].columns))
        shares = {
            row: [
                [
                    _refined(photo.cuts[row, before].clusters, photo.cuts[row, after].clusters)
                    for before, after in steps
                ]
                for photo in photos
            ]
            for row in (_WARD, _KMEANS)
        }
        names = (f"{a.removeprefix('K = ')} to {b.removeprefix('K = ')}" for a, b in steps)
        table = Table(
            "refinement",
            "How far each refines the one before",
            ("algorithm", *names),
            [(row, *map(_mean, zip(*found, strict=True))) for row, found in shares.items()],
            "For each step to more clusters, the share of the pixels whose cluster lies within one "
            "cluster of the step before; 1 is a refinement.",
        )
        words = (
            "Below each picture its number of superpixels. From column to column the largest part "
            "of a cluster keeps its colour, and new parts get new ones."
        )
        ward, kmeans = (
            [share == 1 for each in found for share in each] for found in shares.values()
        )
        why = (
            f"By Ward {sum(ward)} of {len(ward)} steps (pictures: {len(photos)}) are refinements "
            f"to the last pixel, by k-means {sum(kmeans)}."
        )
        return Shown(
            sentences_on(run),
            [table],
            _grids("figure9", self.title, photos, "column", words),
            [published("figure9").claims["refines"].verdict(all(ward), why)],
        )


def _refined(coarse: Int64[np.ndarray, "H W"], fine: Int64[np.ndarray, "H W"]) -> float:
    """Share of the pixels that lie where most of their fine cluster lies.

    Example:
        >>> _refined(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]]))
        0.75
    """
    overlap = np.zeros((int(fine.max()) + 1, int(coarse.max()) + 1), np.int64)
    np.add.at(overlap, (fine.ravel(), coarse.ravel()), 1)
    return float(overlap.max(1).sum() / fine.size)


def _levels(name: str, model: Classifier, levels: tuple[int, ...]) -> tuple[int, ...]:
    """Levels of NAS in one of the paper's networks; the default network has its own."""
    return model.default_levels if name == DEFAULT_MODEL else levels


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _grids(
    name: str,
    title: str,
    photos: Sequence[KeptPhoto],
    colours_go: Literal["row", "column"],
    words: str,
) -> list[Drawing]:
    """A figure a photo: rows by columns, with colours that go from row to row or across."""
    drawings = []
    for number, photo in enumerate(photos, start=1):
        panels: list[list[Panel]] = []
        before: dict[str, np.ndarray] = {}  # clusters as named in the row above, or to the left
        for row in photo.rows:
            panels.append([(None if panels else photo.picture(), "")])
            for column in photo.columns:
                cut = photo.cuts[row, column]
                place = column if colours_go == "row" else row
                clusters = cut.clusters
                if place in before:
                    clusters = named_as(clusters, before[place])
                before[place] = clusters
                panels[-1].append((photo.coloured(cut, clusters), str(cut.n_superpixels)))
        columns = ["photo", *photo.columns]
        one = f"{title}, {photo.id}"
        drawings.append(_drawing(f"{name}-{number}", one, columns, panels, words, photo.rows))
    return drawings


def _drawing(
    name: str,
    title: str,
    columns: Sequence[str],
    panels: Sequence[Sequence[Panel]],
    words: str,
    rows: Sequence[str] = (),
) -> Drawing:
    """A figure of panels in rows and columns."""
    pictures = [[picture for picture, _ in row] for row in panels]
    notes = [[note for _, note in row] for row in panels]
    return Drawing(name, title, plots.grid_figure(pictures, columns, rows, notes=notes), words)

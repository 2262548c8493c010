"""Figures 7, 8 and 9 (appendices A to C): lines 10 and 11, how k-means varies, Ward's tree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, final

import numpy as np
from jaxtyping import Int64

from naspix import plots
from naspix.paper.data import PAPERS, TITLES, Conditions
from naspix.paper.experiment import Drawing
from naspix.paper.published import FEWEST, Gains, Table, Told, Value, told, too_few
from naspix.paper.segmentations import (
    ALL_LEVELS,
    LAST_THREE,
    ZOOM,
    Cut,
    Image,
    KeptPhoto,
    Networks,
    Overlays,
    Panel,
    agreement,
    drawing,
    grids,
    levels_of,
    mean,
    named_as,
)
from naspix.segmentation import NAS, consensus

Photos = Sequence[KeptPhoto]

_WHOLE = "Algorithm 1"
# name -> whether vectors are normalised (line 10), whether levels are weighted (line 11)
_VARIANTS = {
    _WHOLE: (True, True),
    "without line 10": (False, True),
    "without line 11": (True, False),
    "without both": (False, False),
}
_LEVEL_SETS = {"all levels": ALL_LEVELS, "last three": LAST_THREE}
_VIT = TITLES["vit_b_16"]
_STANDS = TITLES["vgg16"]
_FADE = (TITLES["resnet18"], TITLES["resnet50"])
_FADED = 0.5  # adjusted Rand index with the full algorithm, under which a partition has faded
_WARD, _KMEANS, _AGAIN = "Ward", "k-means", "Ward again"


def _kept(photos: Photos, row: str, column: str) -> list[float]:
    """How a variant's clusters agree with the whole algorithm's, of each photo."""
    return [
        agreement(photo.cuts[row, _WHOLE].clusters, photo.cuts[row, column].clusters)
        for photo in photos
    ]


def vgg_stands(photos: Photos) -> Told:
    """Whether VGG16 keeps its partition without line 10, line 11, and both."""
    parts = {
        f"{row}, {column}": Gains(np.array(_kept(photos, row, column)) - _FADED)
        for row in photos[0].rows
        for column in _VARIANTS
        if row.startswith(f"{_STANDS},") and column != _WHOLE
    }
    words = "Adjusted Rand index with the whole algorithm, less 0.5."
    return told(parts, words, unit="hundredths") if parts else _absent(_STANDS)


def resnets_fade(photos: Photos) -> Told:
    """Whether the ResNets' partitions have faded where both lines are left out."""
    parts = {
        row: Gains(_FADED - np.array(_kept(photos, row, "without both")))
        for row in photos[0].rows
        if row.startswith(tuple(f"{name}," for name in _FADE))
    }
    words = "0.5 less the adjusted Rand index with the whole algorithm, without both lines."
    return told(parts, words, unit="hundredths") if parts else _absent(" and ".join(_FADE))


def vit_unmoved(photos: Photos) -> Told:
    """Whether leaving out line 11 changes no pixel of ViT16's partitions; line 10 is measured."""
    rows = [row for row in photos[0].rows if row.startswith(f"{_VIT},")]
    if not rows:
        return _absent(_VIT)
    same = [kept == 1.0 for row in rows for kept in _kept(photos, row, "without line 11")]
    left = mean(kept for row in rows for kept in _kept(photos, row, "without line 10"))
    words = (
        f"Without line 11 {sum(same)} of {len(same)} partitions are the same to the last pixel; "
        f"without line 10 the adjusted Rand index is {left:.2f} in the mean."
    )
    return too_few(len(photos), words) if len(photos) < FEWEST else (all(same), words)


def _absent(network: str) -> Told:
    return None, f"Weights of {network} were not at hand: 0 photos."


@final
@dataclass(frozen=True)
class Figure7(Overlays):
    """The algorithm, and without normalising, without weighting, without both (appendix A).

    Attributes:
        n_clusters: K.
    """

    n_clusters: int = 5
    n_drawn: int = 3

    title = "Figure 7: without lines 10 and 11"
    words = (
        "Line 10 of Algorithm 1 divides each level's vector at a pixel by its norm, line 11 by one "
        "plus the level's number of channels. Without them the level with the largest numbers, or "
        "the most channels, decides alone."
    )
    networks = PAPERS
    claims: ClassVar = {
        "vgg_stands": vgg_stands,
        "resnets_fade": resnets_fade,
        "vit_unmoved": vit_unmoved,
    }

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo by each network, set of levels and variant, with one forward pass each."""
        frame = (image.shape[2], image.shape[3])
        for name, model in networks.items():
            activations = model.activations(image.to(model.device), ALL_LEVELS)
            for which, levels in _LEVEL_SETS.items():
                for column, (normalize, weight) in _VARIANTS.items():
                    nas = NAS(
                        model,
                        levels=levels,
                        n_clusters=self.n_clusters,
                        seed=conditions.seed,
                        normalize=normalize,
                        weight=weight,
                    )
                    chosen = [activations[level] for level in levels]
                    yield Cut(f"{TITLES[name]}, {which}", column, nas.segment(chosen, frame))

    def draw(self, photos: Photos) -> tuple[list[Table], list[Drawing]]:
        """How much of the whole algorithm's partition each variant keeps; a figure a network.

        On the left of each all levels, on the right the last three.
        """
        rows: list[list[Value]] = []
        for row in photos[0].rows:
            for column in _VARIANTS:
                found = _kept(photos, row, column)
                numbers = [photo.cuts[row, column].n_superpixels for photo in photos]
                rows.append([row, column, mean(found), min(found), max(found), mean(numbers)])
        table = Table(
            "ablation",
            "What is left of the partition",
            ("network, levels", "variant", "mean ARI", "lowest", "highest", "mean superpixels"),
            rows,
            "Adjusted Rand index of the clusters with those of the whole algorithm: 1 is the same "
            "partition, 0 no more agreement than by chance.",
        )
        words = (
            "Left all levels, right the last three. Below each picture its number of superpixels, "
            "and how its clusters agree with the whole algorithm's (adjusted Rand index). A "
            "cluster has the colour of the one there that shares most pixels."
        )
        drawings = []
        networks = dict.fromkeys(row.rpartition(", ")[0] for row in photos[0].rows)
        for place, network in enumerate(networks):
            panels = [self._row(photo, network) for photo in photos[: self.n_drawn]]
            columns = [
                "photo",
                *(f"{which}\n{name}" for which in _LEVEL_SETS for name in _VARIANTS),
            ]
            title = f"{self.title}, {network}"
            name = f"figure7_{place + 1}"
            drawings.append(drawing(name, title, columns, panels, f"{network}. {words}"))
        return [table], drawings

    def _row(self, photo: KeptPhoto, network: str) -> list[Panel]:
        panels: list[Panel] = [(photo.picture(), "")]
        for which in _LEVEL_SETS:
            row = f"{network}, {which}"
            reference = photo.cuts[row, _WHOLE].clusters
            for column in _VARIANTS:
                cut = photo.cuts[row, column]
                note = f"{cut.n_superpixels}"
                if column != _WHOLE:
                    note += f", ARI {_kept([photo], row, column)[0]:.2f}"
                panels.append((photo.coloured(cut, named_as(cut.clusters, reference)), note))
        return panels


def mean_exists(photos: Photos) -> Told:
    """Whether the ten agree with their consensus more than with each other."""
    parts = {}
    for place in photos[0].cuts:
        found = [photo.cuts[place] for photo in photos]
        gains = [float(np.mean(c.aris)) - float(c.cluster_ari or 0) for c in found]  # type: ignore[arg-type]
        parts[", ".join(place)] = Gains(np.array(gains))
    words = "Adjusted Rand index of the ten with their consensus less that of any two."
    return told(parts, words, unit="hundredths")


@final
@dataclass(frozen=True)
class Figure8(Overlays):
    """Segmentations that differ in k-means' start only (appendix B).

    Attributes:
        levels: Of NAS in the paper's networks; the default network has its own.
        numbers: Of clusters.
        n_segmentations: How many, each with a seed of its own.
    """

    levels: tuple[int, ...] = LAST_THREE
    numbers: tuple[int, ...] = (5, 10, 20)
    n_segmentations: int = 10
    n_drawn: int = 2

    title = "Figure 8: ten segmentations and their consensus"
    words = (
        "The same photo cut ten times, k-means started anew with one random start each: how often "
        "each pixel is a boundary, and the partition that the ten agree on."
    )
    networks = PAPERS
    claims: ClassVar = {"mean_exists": mean_exists}

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo again and again by each network, with one forward pass each."""
        frame = (image.shape[2], image.shape[3])
        for name, model in networks.items():
            levels = levels_of(name, model, self.levels)
            activations = model.activations(image.to(model.device), levels)
            for n_clusters in self.numbers:
                nas = NAS(model, levels=levels, n_clusters=n_clusters, n_init=1)
                found = []
                for number in range(self.n_segmentations):
                    seeded = replace(nas, seed=conditions.seed + number)
                    found.append(seeded.segment(activations, frame))
                agreed = consensus(found)
                yield Cut(TITLES[name], f"K = {n_clusters}", agreed.mean, agreed, of=found)

    def draw(self, photos: Photos) -> tuple[list[Table], list[Drawing]]:
        """How much any two agree, and with the consensus; a row a network, overlay beside it."""
        rows: list[list[Value]] = []
        drawings = []
        for place, photo in enumerate(photos):
            panels: list[list[Panel]] = []
            for row in photo.rows:
                panels.append([(None if panels else photo.picture(), "")])
                for column in photo.columns:
                    cut = photo.cuts[row, column]
                    assert cut.frequency is not None
                    assert cut.aris is not None
                    assert cut.numbers is not None
                    few, many = (int(each) for each in (cut.numbers.min(), cut.numbers.max()))
                    rows.append(
                        [photo.id, row, column, cut.cluster_ari, float(cut.aris.mean()),
                         cut.superpixel_ari, few, many, cut.n_superpixels]
                    )  # fmt: skip
                    overlay = plots.frequency_picture(photo.image, cut.frequency, zoom=ZOOM)
                    panels[-1].append((overlay, f"ARI {cut.cluster_ari:.2f}"))
                    panels[-1].append((photo.coloured(cut), f"{cut.n_superpixels} superpixels"))
            columns = ["photo"]
            for column in photo.columns:
                columns += [f"{column}, {self.n_segmentations} overlaid", "consensus"]
            if place < self.n_drawn:
                words = (
                    "In an overlay a line is the darker the more of the segmentations have a "
                    "boundary there; below it the mean adjusted Rand index of their clusters."
                )
                title = f"{self.title}, {photo.id}"
                name = f"figure8_{place + 1}"
                drawings.append(drawing(name, title, columns, panels, words, photo.rows))
        headings = (
            *("photo", "network", "K", "ARI of clusters", "with the consensus"),
            *("ARI of superpixels", "fewest superpixels", "most superpixels", "of the consensus"),
        )
        words = (
            "Adjusted Rand index: mean over all pairs of the ten, and over the ten with their "
            "consensus. 1 is the same partition, 0 chance."
        )
        table = Table("agreement", "How much any two agree", headings, rows, words)
        return [table], drawings


def _shares(photo: KeptPhoto, column: str) -> list[float]:
    """For each step to more clusters, the share of pixels that a refinement leaves together."""
    return [
        _refined(photo.cuts[a, column].clusters, photo.cuts[b, column].clusters)
        for a, b in pairwise(photo.rows)
    ]


def _refined(coarse: Int64[np.ndarray, "H W"], fine: Int64[np.ndarray, "H W"]) -> float:
    """Share of the pixels that lie where most of their fine cluster lies.

    Example:
        >>> _refined(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]]))
        0.75
    """
    overlap = np.zeros((int(fine.max()) + 1, int(coarse.max()) + 1), np.int64)
    np.add.at(overlap, (fine.ravel(), coarse.ravel()), 1)
    return float(overlap.max(1).sum() / fine.size)


def ward_refines(photos: Photos) -> Told:
    """Whether every cut of Ward's trees refines the one before, to the last pixel."""
    ward, kmeans = (
        [share == 1 for photo in photos for share in _shares(photo, column)]
        for column in (_WARD, _KMEANS)
    )
    words = (
        f"By Ward {sum(ward)} of {len(ward)} steps (pictures: {len(photos)}) are refinements to "
        f"the last pixel, by k-means {sum(kmeans)}."
    )
    return _exactly(ward, photos, words)


def ward_is_deterministic(photos: Photos) -> Told:
    """Whether a second tree of the same photo gives the same cuts, to the last pixel."""
    same = [
        np.array_equal(photo.cuts[row, _WARD].clusters, photo.cuts[row, _AGAIN].clusters)
        for photo in photos
        for row in photo.rows
    ]
    words = f"Of {len(same)} cuts of {len(photos)} photos {sum(same)} are the same when made again."
    return _exactly(same, photos, words)


def _exactly(answers: Sequence[bool], photos: Photos, words: str) -> Told:
    """What holds of all pixels of all photos, which one counterexample refutes."""
    if not all(answers):
        return False, words
    return too_few(len(photos), words) if len(photos) < FEWEST else (True, words)


@final
@dataclass(frozen=True)
class Figure9(Overlays):
    """Ward's tree of a photo, cut again and again; k-means beside it, started anew for each K.

    Attributes:
        levels: Of NAS in the paper's network; the default network has its own.
        numbers: Of clusters, a row each.
    """

    levels: tuple[int, ...] = LAST_THREE
    numbers: tuple[int, ...] = (2, 3, 5, 8, 12, 20)
    n_drawn: int = 2

    title = "Figure 9: Ward's refinements"
    words = (
        "Each cut of Ward's tree into more clusters splits clusters of the one before and moves no "
        "other boundary; k-means starts anew for each number. At most 96 x 96 pixels are leaves of "
        "the tree; a larger photo's tree is built on a smaller frame, which its pixels descend."
    )
    claims: ClassVar = {"refines": ward_refines, "deterministic": ward_is_deterministic}

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo's tree, and cluster it by k-means, with one forward pass."""
        name, model = next(iter(networks.items()))
        levels = levels_of(name, model, self.levels)
        activations = model.activations(image.to(model.device), levels)
        frame = (image.shape[2], image.shape[3])
        ward = NAS(model, levels=levels, algorithm="ward")
        tree, again = (ward.segment(activations, frame) for _ in range(2))
        for n_clusters in self.numbers:
            row = f"K = {n_clusters}"
            nas = NAS(model, levels=levels, n_clusters=n_clusters, seed=conditions.seed)
            yield Cut(row, _WARD, tree.cut(n_clusters))
            yield Cut(row, _KMEANS, nas.segment(activations, frame))
            yield Cut(row, _AGAIN, again.cut(n_clusters))

    def draw(self, photos: Photos) -> tuple[list[Table], list[Drawing]]:
        """Share of pixels in clusters that lie within one of the cut before; K down, two columns.

        A figure has a photo's.
        """
        steps = list(pairwise(photos[0].rows))
        shares = {
            column: np.array([_shares(photo, column) for photo in photos]).mean(0)
            for column in (_WARD, _KMEANS)
        }
        names = (f"{a.removeprefix('K = ')} to {b.removeprefix('K = ')}" for a, b in steps)
        table = Table(
            "refinement",
            "How far each refines the one before",
            ("algorithm", *names),
            [(column, *map(float, found)) for column, found in shares.items()],
            "For each step to more clusters, the share of the pixels whose cluster lies within one "
            "cluster of the step before; 1 is a refinement.",
        )
        words = (
            "K grows down the columns. Below each picture its number of superpixels. From row to "
            "row the largest part of a cluster keeps its colour, and new parts get new ones."
        )
        shown, columns = photos[: self.n_drawn], (_WARD, _KMEANS)
        drawings = grids("figure9", self.title, shown, columns, words)
        return [table], drawings

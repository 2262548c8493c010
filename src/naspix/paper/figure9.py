"""Figure 9: Ward's linkage, whose cuts refine each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from naspix import plots
from naspix.models import DEFAULT_MODEL, Classifier
from naspix.paper.cutting import Cut, cut_photos, sentences_on
from naspix.paper.experiment import (
    Conditions,
    Drawing,
    Progress,
    Table,
    Value,
    Verdict,
)
from naspix.paper.kept_cuts import (
    ZOOM,
    KeptPhoto,
    cluster_picture,
    named_as,
    read_photos,
)
from naspix.paper.published import published
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run
from naspix.segmentation import NAS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WARD, _KMEANS = "Ward", "k-means"


@final
@dataclass(frozen=True)
class Figure9:
    """One tree a photo, cut again and again; k-means beside it, started anew for each K.

    Attributes:
        levels: Of NAS in the paper's network; the default network has its own.
        numbers: Of clusters, a column each.
        n_photos: How many photos, if no limit is given; one to be quick.
    """

    levels: tuple[int, ...] = (2, 3, 4)
    numbers: tuple[int, ...] = (2, 3, 5, 8, 12, 20)
    n_photos: int = 2

    title = "Figure 9: Ward's refinements"
    items = "photos"
    words = (
        "Each cut of Ward's tree into more clusters splits clusters of the one before and moves no "
        "other boundary; k-means starts anew for each number."
    )
    networks = ("resnet18",)

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Cut the photos."""
        n_photos = 1 if conditions.quick else self.n_photos
        cut_photos(opened, self, conditions, n_photos=n_photos, engine=engine, progress=progress)

    def cuts(
        self,
        image: Float[Tensor, "1 3 H W"],
        networks: Mapping[str, Classifier],
        conditions: Conditions,
    ) -> Iterator[Cut]:
        """Cut one photo's tree, and cluster it by k-means, with one forward pass."""
        name, model = next(iter(networks.items()))
        levels = model.default_levels if name == DEFAULT_MODEL else self.levels
        activations = model.activations(image.to(model.device), levels)
        frame = (image.shape[2], image.shape[3])
        tree = NAS(model, levels=levels, algorithm="ward").segment(activations, frame)
        for n_clusters in self.numbers:
            yield Cut(_WARD, f"K = {n_clusters}", tree.cut(n_clusters))
        for n_clusters in self.numbers:
            nas = NAS(model, levels=levels, n_clusters=n_clusters, seed=conditions.seed)
            yield Cut(_KMEANS, f"K = {n_clusters}", nas.segment(activations, frame))

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """Share of pixels in clusters that lie within one cluster of the cut before."""
        photos = read_photos(run)
        steps = _steps(photos[0])
        rows: list[tuple[Value, ...]] = []
        for row in (_WARD, _KMEANS):
            shares = [_shares(photo, row) for photo in photos]
            rows.append((row, *(float(np.mean(step)) for step in zip(*shares, strict=True))))
        words = (
            "For each step to more clusters, the share of the pixels whose cluster lies within one "
            "cluster of the step before; 1 is a refinement."
        )
        columns = ("algorithm", *(f"{before} to {after}" for before, after in steps))
        return [
            Table("refinement", "How far each refines the one before", columns, tuple(rows), words)
        ]

    def figures(self, run: Run) -> list[Drawing]:
        """A grid for each photo."""
        return [
            Drawing(
                f"figure9-{number}",
                f"{self.title}, {photo.id}",
                _grid(photo),
                "Below each picture its number of superpixels. From column to column the largest "
                "part of a cluster keeps its colour, and new parts get new ones.",
            )
            for number, photo in enumerate(read_photos(run), start=1)
        ]

    def verdicts(self, run: Run) -> list[Verdict]:
        """Whether Ward's cuts refine each other."""
        claim = published("figure9").claims["refines"]
        photos = read_photos(run)
        ward = [share for photo in photos for share in _shares(photo, _WARD)]
        kmeans = [share for photo in photos for share in _shares(photo, _KMEANS)]
        why = (
            f"By Ward {sum(s == 1 for s in ward)} of {len(ward)} steps (pictures: {len(photos)}) "
            f"are refinements to the last pixel, by k-means {sum(s == 1 for s in kmeans)}."
        )
        return [claim.verdict(all(share == 1 for share in ward), why)]


def _steps(photo: KeptPhoto) -> list[tuple[str, str]]:
    numbers = [column.removeprefix("K = ") for column in photo.columns]
    return list(pairwise(numbers))


def _shares(photo: KeptPhoto, row: str) -> list[float]:
    """For each step the share of pixels that a refinement accounts for."""
    return [
        _refined(photo.cut(row, f"K = {before}").clusters, photo.cut(row, f"K = {after}").clusters)
        for before, after in _steps(photo)
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


def _grid(photo: KeptPhoto) -> "Figure":
    pictures: list[list[np.ndarray | None]] = []
    notes: list[list[str]] = []
    for row in (_WARD, _KMEANS):
        pictures.append([None if pictures else plots.photo_picture(photo.image, zoom=ZOOM)])
        notes.append([""])
        before: np.ndarray | None = None
        for column in photo.columns:
            cut = photo.cut(row, column)
            before = cut.clusters if before is None else named_as(cut.clusters, before)
            pictures[-1].append(cluster_picture(photo, before, cut.superpixels))
            notes[-1].append(str(cut.n_superpixels))
    return plots.grid_figure(pictures, ["photo", *photo.columns], (_WARD, _KMEANS), notes=notes)

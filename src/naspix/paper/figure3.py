"""Figure 3: what levels and the number of clusters change."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from naspix import plots
from naspix.models import Classifier
from naspix.paper.cutting import Cut, cut_photos, sentences_on
from naspix.paper.experiment import Conditions, Drawing, Progress, Table, Value, Verdict
from naspix.paper.kept_cuts import (
    ZOOM,
    KeptPhoto,
    cluster_picture,
    named_as,
    read_photos,
)
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run
from naspix.segmentation import NAS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ALL = (0, 1, 2, 3, 4)


@final
@dataclass(frozen=True)
class Figure3:
    """Sets of levels by numbers of clusters.

    Attributes:
        level_sets: A column each.
        numbers: Of clusters, a row each.
        n_photos: How many photos, if no limit is given; one to be quick.
    """

    level_sets: tuple[tuple[int, ...], ...] = ((0,), (2,), (4,), (0, 2, 4), (2, 3, 4), _ALL)
    numbers: tuple[int, ...] = (2, 5, 10, 20)
    n_photos: int = 2

    title = "Figure 3: levels and numbers of clusters"
    items = "photos"
    words = (
        "Shallow levels cut along edges and colours, deep ones along objects and their parts; "
        "together they do both. More clusters cut finer."
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
        """Cut one photo in every way, with one forward pass."""
        model = next(iter(networks.values()))
        activations = model.activations(image.to(model.device), _ALL)
        frame = (image.shape[2], image.shape[3])
        for n_clusters in self.numbers:
            for levels in self.level_sets:
                nas = NAS(model, levels=levels, n_clusters=n_clusters, seed=conditions.seed)
                chosen = [activations[level] for level in levels]
                yield Cut(f"K = {n_clusters}", _named(levels), nas.segment(chosen, frame))

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """Mean number of superpixels for levels and K."""
        photos = read_photos(run)
        rows, columns = photos[0].rows, photos[0].columns
        means: tuple[tuple[Value, ...], ...] = tuple(
            (row, *(_mean_number(photos, row, column) for column in columns)) for row in rows
        )
        return [Table("superpixels", "Mean number of superpixels", ("levels", *columns), means)]

    def figures(self, run: Run) -> list[Drawing]:
        """A grid for each photo."""
        return [
            Drawing(
                f"figure3-{number}",
                f"{self.title}, {photo.id}",
                _grid(photo),
                "Below each picture its number of superpixels; boundaries are drawn where there "
                "are not too many. A colour goes from row to row to the cluster that shares most "
                "pixels with it.",
            )
            for number, photo in enumerate(read_photos(run), start=1)
        ]

    def verdicts(self, run: Run) -> list[Verdict]:
        """The paper's claims about it are not at hand."""
        return []


def _named(levels: tuple[int, ...]) -> str:
    if len(levels) == len(_ALL):
        return "levels 0 to 4"
    if len(levels) == 1:
        return f"level {levels[0]}"
    return f"levels {', '.join(map(str, levels))}"


def _mean_number(photos: list[KeptPhoto], row: str, column: str) -> float:
    return float(np.mean([photo.cut(row, column).n_superpixels for photo in photos]))


def _grid(photo: KeptPhoto) -> "Figure":
    pictures: list[list[np.ndarray | None]] = []
    notes: list[list[str]] = []
    above: dict[str, np.ndarray] = {}
    for row in photo.rows:
        pictures.append([plots.photo_picture(photo.image, zoom=ZOOM)] if not pictures else [None])
        notes.append([""])
        for column in photo.columns:
            cut = photo.cut(row, column)
            clusters = cut.clusters
            if column in above:
                clusters = named_as(clusters, above[column])
            above[column] = clusters
            pictures[-1].append(cluster_picture(photo, clusters, cut.superpixels))
            notes[-1].append(str(cut.n_superpixels))
    return plots.grid_figure(pictures, ["photo", *photo.columns], photo.rows, notes=notes)

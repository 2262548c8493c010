"""Figure 8: ten segmentations of one photo, where they agree, and their consensus (appendix B)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float
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
from naspix.paper.kept_cuts import ZOOM, cluster_picture, named_as, read_photos
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run
from naspix.segmentation import NAS, consensus

_MEAN = "consensus"
_SHOWN = 2  # of the segmentations, beside what they agree on


@final
@dataclass(frozen=True)
class Figure8:
    """Segmentations that differ in k-means' start only.

    Attributes:
        levels: Of NAS in the paper's network; the default network has its own.
        n_clusters: K.
        n_segmentations: How many, each with a seed of its own.
        n_photos: How many photos, if no limit is given; half of them to be quick.
    """

    levels: tuple[int, ...] = (2, 3, 4)
    n_clusters: int = 5
    n_segmentations: int = 10
    n_photos: int = 4

    title = "Figure 8: ten segmentations and their consensus"
    items = "photos"
    words = (
        "The same photo cut ten times, k-means started anew with one random start each: how often "
        "each pixel is a boundary, and the partition that the ten agree on."
    )
    networks = ("resnet18",)

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Cut the photos."""
        n_photos = self.n_photos // 2 if conditions.quick else self.n_photos
        cut_photos(opened, self, conditions, n_photos=n_photos, engine=engine, progress=progress)

    def cuts(
        self,
        image: Float[Tensor, "1 3 H W"],
        networks: Mapping[str, Classifier],
        conditions: Conditions,
    ) -> Iterator[Cut]:
        """Cut one photo again and again, with one forward pass."""
        name, model = next(iter(networks.items()))
        levels = model.default_levels if name == DEFAULT_MODEL else self.levels
        nas = NAS(model, levels=levels, n_clusters=self.n_clusters, n_init=1)
        activations = model.activations(image.to(model.device), levels)
        found = []
        for number in range(self.n_segmentations):
            seeded = replace(nas, seed=conditions.seed + number)
            found.append(seeded.segment(activations, (image.shape[2], image.shape[3])))
            yield Cut("", str(number + 1), found[-1])
        agreed = consensus(found)
        yield Cut("", _MEAN, agreed.mean, agreed)

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """How much any two of the ten agree."""
        rows: list[tuple[Value, ...]] = []
        for photo in read_photos(run):
            mean = photo.cut("", _MEAN)
            numbers = [cut.n_superpixels for cut in photo.cuts if cut.column != _MEAN]
            rows.append(
                (photo.id, mean.cluster_ari, mean.superpixel_ari, min(numbers), max(numbers),
                 mean.n_superpixels)
            )  # fmt: skip
        columns = (
            *("photo", "ARI of clusters", "ARI of superpixels", "fewest superpixels"),
            *("most superpixels", "superpixels of the consensus"),
        )
        words = "Adjusted Rand index, mean over all pairs: 1 is the same partition, 0 chance."
        return [Table("agreement", "How much any two agree", columns, tuple(rows), words)]

    def figures(self, run: Run) -> list[Drawing]:
        """A row a photo: two of the ten, the overlay of all, the consensus."""
        pictures: list[list[np.ndarray | None]] = []
        notes: list[list[str]] = []
        for photo in read_photos(run):
            mean = photo.cut("", _MEAN)
            assert mean.frequency is not None
            few = [cut for cut in photo.cuts if cut.column != _MEAN][:_SHOWN]
            overlay = plots.frequency_picture(photo.image, mean.frequency, zoom=ZOOM)
            pictures.append(
                [
                    plots.photo_picture(photo.image, zoom=ZOOM),
                    *(
                        cluster_picture(
                            photo, named_as(cut.clusters, mean.clusters), cut.superpixels
                        )
                        for cut in few
                    ),
                    overlay,
                    cluster_picture(photo, mean.clusters, mean.superpixels),
                ]
            )
            notes.append(
                [
                    "",
                    *(f"{cut.n_superpixels} superpixels" for cut in few),
                    f"ARI {mean.cluster_ari:.2f}",
                    f"{mean.n_superpixels} superpixels",
                ]
            )
        names = ["photo", "first", "second", f"overlay of {self.n_segmentations}", _MEAN]
        figure = plots.grid_figure(pictures, names, notes=notes)
        words = (
            "In the overlay a line is the darker the more of the segmentations have a boundary "
            "there; below it the mean adjusted Rand index of their clusters."
        )
        return [Drawing("figure8", self.title, figure, words)]

    def verdicts(self, run: Run) -> list[Verdict]:
        """The paper's claims about it are not at hand."""
        return []

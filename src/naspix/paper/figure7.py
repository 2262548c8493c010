"""Figure 7: Algorithm 1 without its lines 10 and 11, the paper's ablation (appendix A)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from naspix import plots
from naspix.models import Classifier
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
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run
from naspix.segmentation import NAS

# name -> whether vectors are normalised (line 10), whether levels are weighted (line 11)
_VARIANTS = {
    "Algorithm 1": (True, True),
    "without line 10": (False, True),
    "without line 11": (True, False),
    "without both": (False, False),
}
_WHOLE = "Algorithm 1"


@final
@dataclass(frozen=True)
class Figure7:
    """The algorithm, and without normalising, without weighting, without both.

    Attributes:
        levels: Of NAS: all, so that there is much to bring into balance.
        n_clusters: K.
        n_photos: How many photos, if no limit is given; half of them to be quick.
    """

    levels: tuple[int, ...] = (0, 1, 2, 3, 4)
    n_clusters: int = 5
    n_photos: int = 4

    title = "Figure 7: without lines 10 and 11"
    items = "photos"
    words = (
        "Line 10 of Algorithm 1 divides each level's vector at a pixel by its norm, line 11 by one "
        "plus the level's number of channels. Without them the level with the largest numbers, or "
        "the most channels, decides alone."
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

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """How much of the whole algorithm's partition each variant keeps."""
        photos = read_photos(run)
        rows: list[tuple[Value, ...]] = []
        for column in _VARIANTS:
            agreement = [_agreement(photo, column) for photo in photos]
            numbers = [photo.cut("", column).n_superpixels for photo in photos]
            rows.append(
                (column, float(np.mean(agreement)), float(np.min(agreement)),
                 float(np.max(agreement)), float(np.mean(numbers)))
            )  # fmt: skip
        words = (
            "Adjusted Rand index of the clusters with those of the whole algorithm: 1 is the same "
            "partition, 0 no more agreement than by chance."
        )
        columns = ("variant", "mean ARI", "lowest", "highest", "mean number of superpixels")
        return [Table("ablation", "What is left of the partition", columns, tuple(rows), words)]

    def figures(self, run: Run) -> list[Drawing]:
        """A row a photo, a column a variant."""
        pictures: list[list[np.ndarray | None]] = []
        notes: list[list[str]] = []
        for photo in read_photos(run):
            reference = photo.cut("", _WHOLE).clusters
            pictures.append([plots.photo_picture(photo.image, zoom=ZOOM)])
            notes.append([""])
            for column in _VARIANTS:
                cut = photo.cut("", column)
                clusters = named_as(cut.clusters, reference)
                pictures[-1].append(cluster_picture(photo, clusters, cut.superpixels))
                agreement = "" if column == _WHOLE else f", ARI {_agreement(photo, column):.2f}"
                notes[-1].append(f"{cut.n_superpixels} superpixels{agreement}")
        figure = plots.grid_figure(pictures, ["photo", *_VARIANTS], notes=notes)
        words = (
            "Below each picture its number of superpixels, and how its clusters agree with the "
            "whole algorithm's. A cluster has the colour of the one there that shares most pixels."
        )
        return [Drawing("figure7", self.title, figure, words)]

    def verdicts(self, run: Run) -> list[Verdict]:
        """The paper's claims about it are not at hand."""
        return []


def _agreement(photo: KeptPhoto, column: str) -> float:
    from sklearn.metrics import adjusted_rand_score

    whole, other = (photo.cut("", name).clusters.ravel() for name in (_WHOLE, column))
    return float(adjusted_rand_score(whole, other))

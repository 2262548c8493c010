"""Figure 1: photos cut by NAS in four networks, by SLIC and Felzenszwalb into as many pieces."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from naspix import plots
from naspix.models import DEFAULT_MODEL, Classifier
from naspix.paper.cutting import Cut, cut_photos, sentences_on
from naspix.paper.experiment import Conditions, Drawing, Progress, Table, Value, Verdict
from naspix.paper.kept_cuts import (
    ZOOM,
    KeptCut,
    KeptPhoto,
    cluster_picture,
    named_as,
    read_photos,
)
from naspix.paper.networks import PAPERS, TITLES
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run
from naspix.segmentation import NAS, SLIC, Felzenszwalb
from naspix.segmentation.matching import Match

_OTHERS = ("SLIC", "Felzenszwalb")
# of the mean superpixel's area: smaller specks are merged by Felzenszwalb; the first that will do
_LEAST_SHARES = (1 / 4, 1 / 16, 1 / 64)
_CLOSE = 0.15  # of the number wanted


@final
@dataclass(frozen=True)
class Figure1:
    """Six columns: the photo, NAS in the paper's networks, SLIC and Felzenszwalb.

    Attributes:
        levels: Of NAS in the paper's networks; the default network has its own.
        n_clusters: K.
        n_photos: How many photos, if no limit is given; half of them to be quick.
    """

    levels: tuple[int, ...] = (2, 3, 4)
    n_clusters: int = 5
    n_photos: int = 4

    title = "Figure 1: what each network tells apart"
    items = "photos"
    words = (
        "Superpixels of NAS follow what a network has learnt to tell apart; those of SLIC and "
        "Felzenszwalb, matched to them in number, follow the photo's colours."
    )
    networks = PAPERS

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
        """Cut one photo by each network, then by the others into as many superpixels on average."""
        numbers = []
        for name, model in networks.items():
            levels = model.default_levels if name == DEFAULT_MODEL else self.levels
            nas = NAS(model, levels=levels, n_clusters=self.n_clusters, seed=conditions.seed)
            cut = nas(image.to(model.device))
            numbers.append(int(cut.n_superpixels[0]))
            yield Cut("", TITLES[name], cut)
        wanted = float(np.mean(numbers))
        yield Cut("", "SLIC", SLIC().match(image, wanted)(image))
        yield Cut("", "Felzenszwalb", _match_felzenszwalb(image, wanted)(image))

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """Number of superpixels by photo and column."""
        photos = read_photos(run)
        columns = photos[0].columns
        rows: list[tuple[Value, ...]] = []
        for photo in photos:
            cuts = [photo.at("", column) for column in columns]
            rows.append((photo.id, *(None if cut is None else cut.n_superpixels for cut in cuts)))
        return [
            Table(
                "superpixels",
                "Number of superpixels",
                ("photo", *columns),
                tuple(rows),
                "SLIC and Felzenszwalb are matched, photo by photo, to the mean over the networks.",
            )
        ]

    def figures(self, run: Run) -> list[Drawing]:
        """The photos in rows."""
        photos = read_photos(run)
        columns = photos[0].columns
        pictures, notes = [], []
        for photo in photos:
            cuts = [photo.at("", column) for column in columns]
            pictures.append([plots.photo_picture(photo.image, zoom=ZOOM), *_pictures(photo, cuts)])
            notes.append(["", *("" if cut is None else f"{cut.n_superpixels}" for cut in cuts)])
        figure = plots.grid_figure(pictures, ["photo", *columns], notes=notes)
        words = (
            "Below each picture its number of superpixels. Colours are clusters, the same where "
            "they lie in the same place of a photo; SLIC and Felzenszwalb have superpixels only."
        )
        return [Drawing("figure1", self.title, figure, words)]

    def verdicts(self, run: Run) -> list[Verdict]:
        """The paper's claims about it are not at hand."""
        return []


def _match_felzenszwalb(image: Float[Tensor, "1 3 H W"], wanted: float) -> Match:
    """The setting with large regions, unless only smaller ones come near the number."""
    area = image.shape[2] * image.shape[3] / wanted
    matches: list[Match] = []
    for share in _LEAST_SHARES:
        matches.append(Felzenszwalb(min_size=round(share * area)).match(image, wanted))
        if abs(matches[-1].n_superpixels - wanted) <= _CLOSE * wanted:
            break
    return min(matches, key=lambda match: abs(match.n_superpixels - wanted))


def _pictures(photo: KeptPhoto, cuts: list[KeptCut | None]) -> list[np.ndarray | None]:
    """Clusters in colours, named as those of the first network; others by their boundaries."""
    reference = cuts[0]
    pictures: list[np.ndarray | None] = []
    for cut in cuts:
        if cut is None or reference is None:
            pictures.append(None)
        elif cut.column in _OTHERS:
            pictures.append(plots.boundary_picture(photo.image, cut.superpixels, zoom=ZOOM))
        else:
            clusters = named_as(cut.clusters, reference.clusters)
            pictures.append(cluster_picture(photo, clusters, cut.superpixels))
    return pictures

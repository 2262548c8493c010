"""Photos cut in several ways, and drawn: what figures 1, 2, 3, 7, 8 and 9 share."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import UInt8

from naspix import plots
from naspix.models import DEFAULT_MODEL, Classifier
from naspix.paper.data import Conditions
from naspix.paper.experiment import Drawing, Experiment, Progress, Verdict
from naspix.paper.published import published
from naspix.paper.segmentations import (
    Cut,
    Image,
    KeptPhoto,
    Networks,
    Step,
    cut_photos,
    named_as,
)
from naspix.paper.verdicts import Told
from naspix.runs import Engine, OpenRun, Run

Panel = tuple[UInt8[np.ndarray, "y x 3"] | None, str]  # a picture and what stands below it

ALL_LEVELS = (0, 1, 2, 3, 4)
LAST_THREE = (2, 3, 4)


@dataclass(frozen=True)
class Overlays(Experiment):
    """Photos cut in several ways.

    Attributes:
        n_photos: How many photos, if no limit is given: as many as claims need.
        n_drawn: How many of them are drawn; so many are cut, if it has to be quick.
    """

    n_photos: int = 20
    n_drawn: int = 4

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
            n_photos=min(self.n_drawn, 2) if conditions.quick else self.n_photos,
            engine=engine,
            progress=progress,
        )

    @abstractmethod
    def cuts(
        self, image: Image, networks: Networks, conditions: Conditions
    ) -> Iterable[Cut | Step]:
        """Cut one photo in every way.

        Args:
            image: In [0, 1].
            networks: Those that were found, by name.
            conditions: What is asked.
        """


def levels_of(name: str, model: Classifier, levels: tuple[int, ...]) -> tuple[int, ...]:
    """Levels of NAS in one of the paper's networks; the default network has its own."""
    return model.default_levels if name == DEFAULT_MODEL else levels


def mean(values: Iterable[float]) -> float:
    """The mean of some numbers."""
    return float(np.mean(list(values)))


def verdicts_on(
    run: Run,
    photos: Sequence[KeptPhoto],
    tests: Mapping[str, Mapping[str, Callable[[Sequence[KeptPhoto]], Told]]],
) -> list[Verdict]:
    """Whether the paper's claims about a figure hold on the photos that were cut.

    Args:
        run: The figure's.
        photos: All that were cut.
        tests: Figure -> claim -> its test.
    """
    claims = published(run.kind).claims
    return [claims[name].verdict(*test(photos)) for name, test in tests[run.kind].items()]


def grids(
    name: str,
    title: str,
    photos: Sequence[KeptPhoto],
    columns: Sequence[str],
    words: str,
) -> list[Drawing]:
    """A figure a photo: rows by columns, with colours that go from row to row."""
    drawings = []
    for number, photo in enumerate(photos, start=1):
        panels: list[list[Panel]] = []
        before: dict[str, np.ndarray] = {}  # clusters as named in the row above
        for row in photo.rows:
            panels.append([(None if panels else photo.picture(), "")])
            for column in columns:
                cut = photo.cuts[row, column]
                clusters = cut.clusters
                if column in before:
                    clusters = named_as(clusters, before[column])
                before[column] = clusters
                panels[-1].append((photo.coloured(cut, clusters), str(cut.n_superpixels)))
        one, names = f"{title}, {photo.id}", ["photo", *columns]
        drawings.append(drawing(f"{name}-{number}", one, names, panels, words, photo.rows))
    return drawings


def drawing(
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

"""What an evaluation writes down of each picture and setting: the paper's three measures.

`LeRF` (section 4.3.2, figure 6, table 2): curves. `WSOL` (tables 3 and 4): overlaps with true
boxes. `Semantics` (table 1): saliency of the clusters that the pictures of a class share. A measure
is a frozen dataclass; asked about a batch, it returns rows, one a picture and setting.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from naspix.datasets import Dataset
from naspix.errors import InputError, NaspixError
from naspix.evaluation.pictures import Framing, Picture
from naspix.files import written
from naspix.metrics import (
    PerturbationCurves,
    cluster_saliency,
    energy_inside,
    greedy_lerf,
    lerf,
    overlaps,
    pointing_game,
    srg,
)
from naspix.models import Classifier
from naspix.pipeline import Answers
from naspix.runs import Kind, Row
from naspix.segmentation import ClassClustering, ClassClusters
from naspix.targets import as_given

GREEDY = "greedy"  # the "method" that knows the best order
COMMON_COLUMNS: Mapping[str, Kind] = {
    "index": "int",
    "id": "text",
    "label": "int",
    "predicted": "int",
    "target": "int",
    "method": "text",
    "segmenter": "text",
    "n_superpixels": "int",
}
_CLASSES_KEPT = 16  # whose clusters are in memory
_AT_ONCE = 16  # pictures that clusters are found by
CLASSES = "classes"  # where clusters of classes lie, below the run's folder


@runtime_checkable
class Measure(Protocol):
    """Turns what is answered about a batch into rows, one a picture and setting."""

    @property
    def needs_boxes(self) -> bool:
        """Whether pictures without a box are left out."""
        ...

    @property
    def columns(self) -> Mapping[str, Kind]:
        """What it adds to the columns that all rows have."""
        ...

    def prepared(self, dataset: Dataset, framing: Framing, folder: Path, n_items: int) -> "Measure":
        """The same with what holds for all pictures, found and kept in the run's folder."""
        ...

    def level_names(self, model: Classifier) -> tuple[str, ...]:
        """Modules whose activations it wants of each picture."""
        ...

    def __call__(
        self, model: Classifier, pictures: Sequence[Picture], answers: Answers
    ) -> list[Row]:
        """Rows in the order of the settings and pictures."""
        ...


@final
@dataclass(frozen=True)
class LeRF:
    """How well the score of the class survives when the least relevant is hidden first.

    A raw map is hidden pixel by pixel in equal steps, a pooled one superpixel by superpixel.

    Attributes:
        steps: Of raw maps; pooled ones take a step a superpixel.
        both: Also hide the most relevant first (MoRF); their difference is SRG. Twice the time.
        greedy: Also find the greedy order of each segmenter's superpixels, the paper's "AUC Max.":
            n (n + 1) / 2 forwards for n superpixels.
        baseline: What hidden pixels show.
        score: Of the class, before or after the softmax.
        seed: Of ties.
        batch_size: Partly hidden images that pass the network at once: few on a CPU, many on a GPU
            by default.
    """

    _: KW_ONLY
    steps: int = 100
    both: bool = False
    greedy: bool = False
    baseline: Literal["mean", "black", "blurred", "inpainted"] = "mean"
    score: Literal["logit", "probability"] = "logit"
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"lerf.{name} is at least 1, not {value}")

    @property
    def needs_boxes(self) -> bool:
        """No picture is left out for lack of boxes."""
        return False

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The area (missing where the curve has none) and the curve, scaled from 1 to 0."""
        return {"auc": "float", "auc_morf": "float", "fraction": "float32s", "score": "float32s"}

    def prepared(self, dataset: Dataset, framing: Framing, folder: Path, n_items: int) -> "LeRF":
        """It is."""
        return self

    def level_names(self, model: Classifier) -> tuple[str, ...]:
        """It wants no activations."""
        return ()

    def __call__(
        self, model: Classifier, pictures: Sequence[Picture], answers: Answers
    ) -> list[Row]:
        """A row an image, method and segmenter; ``"greedy"`` stands as a method."""
        rows: list[Row] = []
        for method, segmenter, heat, superpixels in answers.maps():
            found = (srg if self.both else lerf)(
                model,
                answers.images,
                heat,
                as_given(answers.target),
                superpixels=superpixels,
                steps=self.steps,
                baseline=self.baseline,
                score=self.score,
                seed=self.seed,
                batch_size=self.batch_size,
            )
            if isinstance(found, PerturbationCurves):
                values = self._values(found, superpixels)
            else:
                values = self._values(found.lerf, superpixels)
                for place, value in enumerate(values):
                    value["auc_morf"] = _number(found.morf.auc[place])
            rows += rows_of(pictures, answers, method, segmenter, superpixels, values)
        if self.greedy:
            for segmenter, segmentation in answers.segmentations.items():
                if not answers.wants(GREEDY, segmenter):
                    continue
                best = greedy_lerf(
                    model,
                    answers.images,
                    segmentation.superpixels,
                    as_given(answers.target),
                    baseline=self.baseline,
                    score=self.score,
                    batch_size=self.batch_size,
                )
                values = self._values(best.curves, segmentation.superpixels)
                rows += rows_of(
                    pictures, answers, GREEDY, segmenter, segmentation.superpixels, values
                )
        return rows

    def _values(
        self, curves: PerturbationCurves, superpixels: Tensor | None
    ) -> list[dict[str, object]]:
        values: list[dict[str, object]] = []
        for place in range(len(curves.auc)):
            n_steps = self.steps if superpixels is None else len(superpixels[place].unique())
            values.append(
                {
                    "auc": _number(curves.auc[place]),
                    "auc_morf": None,
                    "fraction": curves.fraction[place, : n_steps + 1].cpu().numpy(),
                    "score": curves.score[place, : n_steps + 1].cpu().numpy(),
                }
            )
        return values


@final
@dataclass(frozen=True)
class WSOL:
    """How well maps find the boxes of objects, to the letter of wsolevaluation.

    For each map the best IoU of its boxes with a true one, at every cut of the 8-bit map that
    changes something: all that MaxBoxAccV2 needs, for any threshold and any IoU, and little, since
    a pooled map has no more cuts than superpixels.
    """

    @property
    def needs_boxes(self) -> bool:
        """A picture without a box is left out."""
        return True

    @property
    def columns(self) -> Mapping[str, Kind]:
        """Cuts and overlaps, the map's highest 8-bit value, and two scores without thresholds."""
        return {
            "top": "int",
            "cut": "uint8s",
            "iou": "float64s",
            "pointing": "float",
            "energy": "float",
            "n_boxes": "int",
        }

    def prepared(self, dataset: Dataset, framing: Framing, folder: Path, n_items: int) -> "WSOL":
        """It is."""
        return self

    def level_names(self, model: Classifier) -> tuple[str, ...]:
        """It wants no activations."""
        return ()

    def __call__(
        self, model: Classifier, pictures: Sequence[Picture], answers: Answers
    ) -> list[Row]:
        """A row an image, method and segmenter."""
        boxes = [picture.boxes for picture in pictures]
        rows: list[Row] = []
        for method, segmenter, heat, superpixels in answers.maps(blank=True):
            found = overlaps(heat, boxes)
            pointing, energy = pointing_game(heat, boxes), energy_inside(heat, boxes)
            values: list[dict[str, object]] = [
                {
                    "top": found[place].top,
                    "cut": found[place].cut,
                    "iou": found[place].iou,
                    "pointing": _number(pointing[place]),
                    "energy": _number(energy[place]),
                    "n_boxes": len(boxes[place]),
                }
                for place in range(len(boxes))
            ]
            rows += rows_of(pictures, answers, method, segmenter, superpixels, values)
        return rows


@final
@dataclass(frozen=True)
class Semantics:
    """How much saliency falls on each cluster of a picture's class.

    The clusters of a class are found once, before the first picture, and lie in the run's folder,
    one file a class, from where every worker reads them.

    Attributes:
        n_clusters: Of each class.
        n_images: Pictures of a class to find its clusters by, at most.
        n_samples: Pixels of these that are clustered.
        levels: As for NAS; by default the model's own.
        weigh: Whether superpixels count alike, as in the paper, or by area.
        seed: Of the pixels that are sampled.
        folder: Where the clusters lie, once they are found.
    """

    _: KW_ONLY
    n_clusters: int = 10
    n_images: int = 200
    n_samples: int = 1000
    levels: Sequence[int | str] = ()
    weigh: Literal["superpixels", "area"] = "superpixels"
    seed: int = 0
    folder: Path | None = field(default=None, repr=False, compare=False)
    _read: dict[int, ClassClusters] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def needs_boxes(self) -> bool:
        """No picture is left out for lack of boxes."""
        return False

    @property
    def columns(self) -> Mapping[str, Kind]:
        """Of each cluster: sums, weights, area; and whether the map was blank."""
        return {"sums": "float64s", "weights": "float64s", "area": "float64s", "blank": "bool"}

    def prepared(
        self, dataset: Dataset, framing: Framing, folder: Path, n_items: int
    ) -> "Semantics":
        """The same with the clusters of each class of the first so many pictures.

        Raises:
            InputError: No class of the data set is one of the model's.
        """
        model, place = framing.model, folder.absolute() / CLASSES
        if place.is_dir() and not n_items:  # a worker, after the run has begun
            return replace(self, folder=place)
        labels = [None if each is None else framing.label_of.get(each) for each in dataset.labels]
        wanted = sorted({label for label in labels[:n_items] if label is not None})
        if not wanted:
            raise InputError(
                f"no picture has a label that {model.name} knows; saliency by meaning wants a "
                "data set with the model's classes"
            )
        with written(folder):
            place.mkdir(exist_ok=True)
        for label in wanted:
            file = place / class_file(label)
            if not file.exists():
                of_class = [i for i, each in enumerate(labels) if each == label][: self.n_images]
                self._clustering(model).fit(_batches(dataset, framing, of_class)).save(file)
        return replace(self, folder=place)

    def level_names(self, model: Classifier) -> tuple[str, ...]:
        """The levels whose activations it wants of each picture."""
        return model.level_names(self._clustering(model).levels)

    def __call__(
        self, model: Classifier, pictures: Sequence[Picture], answers: Answers
    ) -> list[Row]:
        """A row an image, method and segmenter.

        Raises:
            InputError: A picture without a label.
        """
        clusters, superpixels = self.regions(model, pictures, answers)
        rows: list[Row] = []
        for method, segmenter, heat, own in answers.maps():
            measured = cluster_saliency(
                {method: heat}, clusters, superpixels, n_clusters=self.n_clusters, weigh=self.weigh
            )
            values: list[dict[str, object]] = [
                {
                    "sums": measured.sums[place, 0].cpu().numpy(),
                    "weights": measured.weights[place].cpu().numpy(),
                    "area": measured.area[place].cpu().numpy(),
                    "blank": bool(measured.blank[place, 0]),
                }
                for place in range(len(pictures))
            ]
            rows += rows_of(pictures, answers, method, segmenter, own, values)
        return rows

    def regions(
        self, model: Classifier, pictures: Sequence[Picture], answers: Answers
    ) -> tuple[Tensor, Tensor]:
        """Clusters and superpixels of each picture, by its own class.

        Raises:
            InputError: A picture without a label.
        """
        names = self.level_names(model)
        frame = (answers.images.shape[2], answers.images.shape[3])
        found = []
        for place, picture in enumerate(pictures):
            if picture.label is None:
                raise InputError(
                    f"{picture.id} has no label, by which its class's clusters are found"
                )
            maps = [answers.activations[name][place : place + 1] for name in names]
            found.append(self._clusters_of(picture.label, model).segment(maps, frame))
        return (
            torch.cat([each.clusters for each in found]),
            torch.cat([each.superpixels for each in found]),
        )

    def _clusters_of(self, label: int, model: Classifier) -> ClassClusters:
        """The clusters of a class, read when they are asked for; the last ones are kept."""
        if label not in self._read:
            if len(self._read) == _CLASSES_KEPT:
                self._read.pop(next(iter(self._read)))
            assert self.folder is not None
            self._read[label] = ClassClusters.load(self.folder / class_file(label), model)
        return self._read[label]

    def _clustering(self, model: Classifier) -> ClassClustering:
        return ClassClustering(
            model,
            n_clusters=self.n_clusters,
            n_samples=self.n_samples,
            levels=self.levels,
            seed=self.seed,
        )


def class_file(label: int) -> str:
    """The file of a class's clusters in the folder of classes."""
    return f"class-{label}.npz"


MEASURES: Mapping[str, type] = {"lerf": LeRF, "wsol": WSOL, "semantics": Semantics}


def rows_of(
    pictures: Sequence[Picture],
    answers: Answers,
    method: str,
    segmenter: str,
    superpixels: Tensor | None,
    values: Sequence[Mapping[str, object]],
) -> list[Row]:
    """One row a picture: what all rows have, and values.

    Args:
        pictures: Of the batch.
        answers: About them.
        method: Whose maps.
        segmenter: Pooled over whose superpixels.
        superpixels: ``(B, H, W)``; None for raw maps.
        values: The measure's own columns for each picture.
    """
    return [
        {
            "index": picture.index,
            "id": picture.id,
            "label": picture.label,
            "predicted": int(answers.predicted[place]),
            "target": int(answers.target[place].flatten()[0]),
            "method": method,
            "segmenter": segmenter,
            "n_superpixels": None if superpixels is None else len(superpixels[place].unique()),
            **values[place],
        }
        for place, picture in enumerate(pictures)
    ]


def _batches(dataset: Dataset, framing: Framing, places: Sequence[int]) -> Iterator[Tensor]:
    """Images of a class, without those that cannot be read."""
    images = []
    for place in places:
        try:
            images.append(framing(place, dataset[place], needs_boxes=False).image)
        except NaspixError:
            continue
        if len(images) == _AT_ONCE:
            yield torch.stack(images).to(framing.model.device)
            images = []
    if images:
        yield torch.stack(images).to(framing.model.device)


def _number(value: Tensor | float) -> float | None:
    """A value, or None where there is none (NaN)."""
    found = float(value)
    return None if math.isnan(found) else found

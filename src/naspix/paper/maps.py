"""Figure 5: maps of five methods, as they are and pooled, beside the greedy order of superpixels.

What is recorded of a photo: itself, each method's map, each segmenter's superpixels, and at which
step the greedy search hides each. Pooled maps are made of these when they are drawn.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from naspix import plots
from naspix.evaluation.evaluator import Evaluation, Evaluator, MakeEvaluator
from naspix.evaluation.measures import GREEDY, Measure, rows_of
from naspix.evaluation.pictures import Picture
from naspix.evaluation.tables import title_of
from naspix.metrics import greedy_lerf
from naspix.models import DEFAULT_MODEL, Classifier
from naspix.paper.data import Conditions
from naspix.paper.evaluations import METHODS, Question
from naspix.paper.experiment import (
    Drawing,
    Experiment,
    Progress,
    Shown,
    Table,
    Value,
    found_data,
    sentences_on,
)
from naspix.paper.segmentations import by_area, eight_bit
from naspix.pipeline import RAW, Answers
from naspix.runs import Engine, Kind, OpenRun, Row, Run, carry_out
from naspix.superpixelify import superpixelify

if TYPE_CHECKING:
    pass

_PHOTO = "photo"
_ALL_LEVELS = (0, 1, 2, 3, 4)


@final
@dataclass(frozen=True)
class Figure5(Experiment):
    """Maps as they are, over SLIC and over NAS, and the order that costs the score least.

    Attributes:
        n_clusters: K.
        n_photos: How many, if no limit is given; half of them to be quick.
        most_ordered: Superpixels above which no order is searched: n (n + 1) / 2 forwards for n.
    """

    n_clusters: int = 5
    n_photos: int = 4
    most_ordered: int = 150

    title = "Figure 5: pooled maps and the greedy order"
    items = "photos"
    words = (
        "Each map as it is, and its mean over superpixels of SLIC and of NAS, every map from 0 to "
        "1. The last column is the order in which the superpixels can be hidden at the least cost "
        "to the score: blue first, red last."
    )
    networks = ("resnet18",)

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Explain the photos by every method, and search the greedy orders."""
        source, found = found_data(opened, conditions, self.networks, conditions.at_hand.photos)
        n_photos = self.n_photos // 2 if conditions.quick else self.n_photos
        n_items = min(len(source.open()), conditions.limit or n_photos)
        name, weights = next(iter(found["weights"].items()))
        nas: dict[str, Any] = {"n_clusters": self.n_clusters}
        if not (conditions.quick or name == DEFAULT_MODEL):
            nas["levels"] = _ALL_LEVELS
        question = Question("lerf", parameters={"nas": nas})
        settings = question.settings(source, name, weights, conditions, n_items)
        make_evaluator = Evaluation(settings).begin(opened, n_items)
        carry_out(
            opened,
            partial(_make_worker, make_evaluator, self.most_ordered),
            n_items=n_items,
            batch_size=1,
            engine=engine,
            progress=lambda n_more: progress(n_more, n_items),
        )

    def show(self, run: Run) -> Shown:
        """How many superpixels each photo has, and of how many an order was searched; the maps."""
        rows: list[list[Value]] = []
        drawings = []
        for place, photo in enumerate(_read(run)):
            for segmenter, superpixels in photo.superpixels.items():
                ordered = "yes" if segmenter in photo.orders else "no, too many"
                rows.append([photo.id, title_of(segmenter), int(superpixels.max()) + 1, ordered])
            labels = {title_of(name): by_area(each) for name, each in photo.superpixels.items()}
            pooled = {
                (title_of(method), title_of(segmenter)): superpixelify(
                    torch.from_numpy(heat)[None], torch.from_numpy(superpixels)[None]
                )[0].numpy()
                for method, heat in photo.raw.items()
                for segmenter, superpixels in photo.superpixels.items()
            }
            figure = plots.explanation_figure(
                photo.image,
                {name: (each, each) for name, each in labels.items()},
                {title_of(name): heat for name, heat in photo.raw.items()},
                pooled,
                orders={title_of(name): order for name, order in photo.orders.items()},
            )
            title = f"Figure 5: {photo.id}"
            drawings.append(Drawing(f"figure5_{place}", title, figure, f"{photo.id}."))
        columns = ("photo", "segmenter", "superpixels", "order searched")
        table = Table("superpixels", "Superpixels", columns, rows)
        return Shown(sentences_on(run), [table], drawings)


@dataclass(frozen=True, eq=False)
class _KeptPhoto:
    id: str
    image: np.ndarray
    raw: Mapping[str, np.ndarray]
    superpixels: Mapping[str, np.ndarray]
    orders: Mapping[str, np.ndarray]


@final
@dataclass(frozen=True)
class _Maps:
    """Keeps a batch's photos, maps, superpixels and greedy orders.

    Attributes:
        most_ordered: Superpixels above which no order is searched.
    """

    _: KW_ONLY
    most_ordered: int

    @property
    def needs_boxes(self) -> bool:
        return False

    @property
    def columns(self) -> Mapping[str, Kind]:
        return {"array": "bytes", "order": "bytes"}

    def prepared(self, dataset: Any, framing: Any, folder: Path, n_items: int) -> Measure:
        return self

    def level_names(self, model: Classifier) -> tuple[str, ...]:
        return ()

    def __call__(
        self, model: Classifier, pictures: Sequence[Picture], answers: Answers
    ) -> list[Row]:
        photos = [torch.from_numpy(eight_bit(image)) for image in answers.images.cpu()]
        rows = rows_of(pictures, answers, _PHOTO, RAW, None, _values(photos))
        for method, heat in answers.raw.items():
            rows += rows_of(pictures, answers, method, RAW, None, _values(list(heat.half())))
        for segmenter, segmentation in answers.segmentations.items():
            superpixels = segmentation.superpixels
            values = _values(list(superpixels.to(torch.int32)))
            if int(superpixels.max()) < self.most_ordered:
                best = greedy_lerf(model, answers.images, superpixels, answers.target)
                for value, labels, order in zip(values, superpixels, best.order, strict=True):
                    value["order"] = _encoded(order.argsort()[labels.cpu()].to(torch.int32))
            rows += rows_of(pictures, answers, GREEDY, segmenter, superpixels, values)
        return rows


def _make_worker(make_evaluator: MakeEvaluator, most_ordered: int) -> Evaluator:
    evaluator = make_evaluator()
    evaluator.measure = _Maps(most_ordered=most_ordered)
    return evaluator


def _read(run: Run) -> list[_KeptPhoto]:
    """The photos of a run, in order."""
    found = []
    frame = run.records()
    for _, rows in frame.groupby("index", sort=True):
        arrays = {
            (row["method"], row["segmenter"]): _decoded(row["array"])
            for row in rows.to_dict("records")
        }
        orders = {
            row["segmenter"]: _decoded(row["order"]).astype(np.int64)
            for row in rows.to_dict("records")
            if row["order"] is not None
        }
        found.append(
            _KeptPhoto(
                id=str(rows["id"].iloc[0]),
                image=arrays[_PHOTO, RAW].astype(np.float32) / 255,
                raw={name: arrays[name, RAW].astype(np.float32) for name in METHODS},
                superpixels={
                    s: each.astype(np.int64) for (m, s), each in arrays.items() if m == GREEDY
                },
                orders=orders,
            )
        )
    return found


def _values(arrays: Sequence[Tensor]) -> list[dict[str, Any]]:
    return [{"array": _encoded(array), "order": None} for array in arrays]


def _encoded(array: Tensor) -> bytes:
    content = io.BytesIO()
    np.save(content, array.cpu().numpy(), allow_pickle=False)
    return content.getvalue()


def _decoded(content: bytes) -> np.ndarray:
    array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return array

"""Figure 5: maps of five methods, as they are and pooled, beside the greedy order of superpixels.

What is recorded of a photo: itself, each method's map, each segmenter's superpixels, and at which
step the greedy search hides each. Pooled maps are made of these when they are drawn.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from naspix import plots
from naspix.datasets import Dataset
from naspix.evaluation.evaluator import Evaluation, Evaluator, MakeEvaluator
from naspix.evaluation.measures import GREEDY, Measure, rows_of
from naspix.evaluation.pictures import Picture
from naspix.evaluation.tables import title_of
from naspix.metrics import greedy_lerf
from naspix.models import DEFAULT_MODEL, Classifier
from naspix.paper.evaluations import METHODS, Question
from naspix.paper.experiment import Drawing, Experiment, Shown, Work, sentences_on
from naspix.paper.published import FEWEST, Gains, Table, Told, Value, told, too_few
from naspix.paper.segmentations import ALL_LEVELS, by_area, eight_bit, inside_boxes
from naspix.pipeline import RAW, Answers
from naspix.plots.colours import unit_scale
from naspix.runs import Kind, Row, Run
from naspix.superpixelify import superpixelify

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PHOTO, _INSIDE = "photo", "inside"  # stand as methods
_OUTLIERS = 0.01
_WIDTH = 1.05  # inches of a picture, seven beside each other
_THREE = ("grad_cam_plus_plus", "rise", "xrai")  # that the paper finds to set objects off most
_ENOUGH_FOR_NONE = 60


@dataclass(frozen=True, eq=False)
class ExplainedPhoto:
    """A photo with its maps, read from records.

    Attributes:
        id: Its name.
        image: Values in [0, 1].
        raw: Method -> its map.
        superpixels: Segmenter -> its superpixels.
        orders: Segmenter -> at each pixel the step at which the greedy search hides it.
        inside: Which pixels lie within boxes; None without boxes.
    """

    id: str
    image: np.ndarray
    raw: Mapping[str, np.ndarray]
    superpixels: Mapping[str, np.ndarray]
    orders: Mapping[str, np.ndarray]
    inside: np.ndarray | None

    def pooled(self, method: str, segmenter: str) -> np.ndarray:
        """A method's map, averaged over a segmenter's superpixels."""
        heat = torch.from_numpy(self.raw[method])[None]
        superpixels = torch.from_numpy(self.superpixels[segmenter])[None]
        values: np.ndarray = superpixelify(heat, superpixels)[0].numpy()
        return values


# claims: each is asked of photos with boxes


def sets_object_off(photos: Sequence[ExplainedPhoto]) -> Told:
    """Whether each method's map over NAS is higher within the boxes than outside."""
    parts = {title_of(m): Gains(_contrasts(photos, m)) for m in photos[0].raw}
    words = "Mean of the map over NAS, scaled from 0 to 1, within boxes less that outside them."
    return told(parts, words, unit="hundredths")


def most_for_three(photos: Sequence[ExplainedPhoto]) -> Told:
    """Whether Grad-CAM++, RISE and XRAI set the object off more than the others in the mean."""
    found = {m: _contrasts(photos, m) for m in photos[0].raw}
    rest = np.mean([found[m] for m in found if m not in _THREE], axis=0)
    parts = {title_of(m): Gains(found[m] - rest) for m in _THREE if m in found}
    words = "The same of three methods, less the mean of the others."
    return told(parts, words, unit="hundredths")


def hides_object_first(photos: Sequence[ExplainedPhoto]) -> Told:
    """Whether the greedy order over NAS hides the object before the rest in some pictures.

    One such picture is enough; that there is none is told by sixty, of which a share of 5 % would
    show itself nineteen times in twenty.
    """
    known = [p for p in photos if p.inside is not None and "nas" in p.orders and p.inside.any()]
    first = [
        p.orders["nas"][p.inside].mean() < p.orders["nas"][~p.inside].mean()  # type: ignore[operator]
        for p in known
        if not p.inside.all()  # type: ignore[union-attr]
    ]
    words = (
        f"In {sum(first)} of {len(first)} pictures the mean step at which the boxes' pixels are "
        "hidden is earlier than that of the others."
    )
    if len(first) < FEWEST:
        return too_few(len(first), words)
    if any(first):
        return True, words
    if len(first) >= _ENOUGH_FOR_NONE:
        return False, words
    return None, f"{words} {_ENOUGH_FOR_NONE} pictures would tell."


def _contrasts(photos: Sequence[ExplainedPhoto], method: str) -> np.ndarray:
    found = []
    for photo in photos:
        heat = photo.pooled(method, "nas").astype(float)
        reach = heat.max() - heat.min()
        if photo.inside is None or photo.inside.all() or not photo.inside.any() or not reach:
            found.append(np.nan)
        else:
            apart = heat[photo.inside].mean() - heat[~photo.inside].mean()
            found.append(float(apart / reach))
    return np.array(found)


@final
@dataclass(frozen=True)
class Figure5(Experiment):
    """Maps as they are, over SLIC and over NAS, and the order that costs the score least.

    Attributes:
        n_clusters: K.
        n_photos: How many, if no limit is given: as many as claims need.
        n_drawn: How many of them are drawn; half of them are explained, if it has to be quick.
        clipped: Whether the half percent at both ends of a map's values is cut off when it is
            drawn, in place of scaling by the least and largest value.
        most_ordered: Superpixels above which no order is searched: n (n + 1) / 2 forwards for n.
    """

    n_clusters: int = 5
    n_photos: int = 20
    n_drawn: int = 4
    clipped: bool = False
    most_ordered: int = 150

    title = "Figure 5: pooled maps and the greedy order"
    items = "photos"
    words = (
        "Each map as it is, and its mean over superpixels of SLIC and of NAS, every map from 0 to "
        "1. The last column is the order in which the superpixels can be hidden at the least cost "
        "to the score: blue first, red last."
    )
    networks = ("resnet18",)
    claims: ClassVar = {
        "sets_off": sets_object_off,
        "most_for_three": most_for_three,
        "object_first": hides_object_first,
    }

    def compute(self, work: Work) -> None:
        """Explain the photos by every method, and search the greedy orders."""
        conditions, source = work.conditions, work.source(work.conditions.at_hand.photos)
        found = work.networks(self.networks, source)
        n_photos = self.n_drawn // 2 if conditions.quick else self.n_photos
        n_items = min(len(source.open()), conditions.limit or n_photos)
        name, weights = next(iter(found["weights"].items()))
        nas: dict[str, Any] = {"n_clusters": self.n_clusters}
        if not (conditions.quick or name == DEFAULT_MODEL):
            nas["levels"] = ALL_LEVELS
        question = Question("lerf", parameters={"nas": nas})
        settings = question.settings(source, name, weights, conditions, n_items)
        make_evaluator = Evaluation(settings).begin(work.opened, n_items)
        work.carry_out(partial(_make_worker, make_evaluator, self.most_ordered), n_items)

    def show(self, run: Run) -> Shown:
        """How many superpixels each photo has, and of how many an order was searched; the maps."""
        rows: list[list[Value]] = []
        drawings = []
        photos = _read(run)
        for place, photo in enumerate(photos):
            for segmenter, superpixels in photo.superpixels.items():
                ordered = "yes" if segmenter in photo.orders else "no, too many"
                rows.append([photo.id, title_of(segmenter), int(superpixels.max()) + 1, ordered])
            if place < self.n_drawn:
                title, figure = f"Figure 5: {photo.id}", self._figure(photo)
                drawings.append(Drawing(f"figure5_{place}", title, figure, f"{photo.id}."))
        columns = ("photo", "segmenter", "superpixels", "order searched")
        table = Table("superpixels", "Superpixels", columns, rows)
        return Shown(sentences_on(run), [table], drawings, self.verdicts(run, photos))

    def _figure(self, photo: ExplainedPhoto) -> "Figure":
        """A row for the maps as they are, and one a segmenter, the order last."""
        methods = list(photo.raw)

        def shown(heat: np.ndarray) -> np.ndarray:
            scale = unit_scale(heat, outliers=_OUTLIERS if self.clipped else 0.0)
            return plots.saliency_picture(heat, scale)

        first = [plots.photo_picture(photo.image), *(shown(photo.raw[m]) for m in methods)]
        pictures: list[list[np.ndarray | None]] = [[*first, None]]
        for segmenter, superpixels in photo.superpixels.items():
            order = photo.orders.get(segmenter)
            pictures.append(
                [
                    plots.cluster_picture(photo.image, by_area(superpixels), superpixels),
                    *(shown(photo.pooled(m, segmenter)) for m in methods),
                    None if order is None else plots.order_picture(order),
                ]
            )
        columns = ["photo", *map(title_of, methods), "greedy order"]
        names = ["as they are", *(f"over {title_of(each)}" for each in photo.superpixels)]
        return plots.grid_figure(pictures, columns, names, width=_WIDTH)


@final
@dataclass(frozen=True)
class _Maps:
    """Keeps a batch's photos, maps, superpixels and greedy orders.

    Attributes:
        most_ordered: Superpixels above which no order is searched.
        dataset: Where the photos' boxes are.
    """

    _: KW_ONLY
    most_ordered: int
    dataset: Dataset

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
        masks = [
            inside_boxes(self.dataset[picture.index], lambda mask: model.load_images(mask)[0])
            for picture in pictures
        ]
        if all(mask is not None for mask in masks):
            kept = _values([torch.from_numpy(mask) for mask in masks if mask is not None])
            rows += rows_of(pictures, answers, _INSIDE, RAW, None, kept)
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
    evaluator.measure = _Maps(most_ordered=most_ordered, dataset=evaluator.dataset)
    return evaluator


def _read(run: Run) -> list[ExplainedPhoto]:
    """The photos of a run, in order."""
    found = []
    frame = run.records()
    for _, rows in frame.groupby("index", sort=True):
        arrays, orders = {}, {}
        for row in rows.to_dict("records"):
            arrays[row["method"], row["segmenter"]] = np.load(io.BytesIO(row["array"]))
            if row["order"] is not None:
                orders[row["segmenter"]] = np.load(io.BytesIO(row["order"])).astype(np.int64)
        found.append(
            ExplainedPhoto(
                id=str(rows["id"].iloc[0]),
                image=arrays[_PHOTO, RAW].astype(np.float32) / 255,
                raw={name: arrays[name, RAW].astype(np.float32) for name in METHODS},
                superpixels={
                    s: each.astype(np.int64) for (m, s), each in arrays.items() if m == GREEDY
                },
                orders=orders,
                inside=arrays.get((_INSIDE, RAW)),
            )
        )
    return found


def _values(arrays: Sequence[Tensor]) -> list[dict[str, Any]]:
    return [{"array": _encoded(array), "order": None} for array in arrays]


def _encoded(array: Tensor) -> bytes:
    content = io.BytesIO()
    np.save(content, array.cpu().numpy(), allow_pickle=False)
    return content.getvalue()

"""The worker of an evaluation: items of a data set in, a part with their records out.

A picture that cannot be read or explained is left out and says why; the others go on. The next
batch is read by a thread while the network works on this one.
"""

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from naspix.datasets import Dataset, Sample
from naspix.errors import DeviceError, InputError, NaspixError, OutputError
from naspix.evaluation.explaining import ExplainedBatch, Explainer, Picture
from naspix.images import read_images
from naspix.metrics import scale_boxes
from naspix.models import Classifier
from naspix.runs.parts import Failure, Part, Span, this_machine

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

# steps of the stopwatch: reading goes on beside the others, only the wait for it takes their time
READING, WAITING = "reading pictures", "waiting for pictures"


@runtime_checkable
class Measure(Protocol):
    """Turns an explained batch into rows, one an image and setting."""

    @property
    def needs_boxes(self) -> bool:
        """Whether pictures without a box are left out."""
        ...

    @property
    def columns(self) -> "Sequence[pa.Field]":
        """What it adds to the columns that all rows have."""
        ...

    def level_names(self, model: Classifier) -> tuple[str, ...]:
        """Modules whose activations it wants of each picture."""
        ...

    def __call__(self, model: Classifier, batch: ExplainedBatch) -> list[Row]:
        """Rows in the order of the images."""
        ...


@dataclass(frozen=True)
class Framing:
    """How a data set's pictures become images of one size.

    Attributes:
        model: Says the size.
        squash: Scale height and width apart, bilinear, so that all of the picture is seen, as
            wsolevaluation does; otherwise the middle, as the model was tested.
        label_of: The model's class for each of the data set's, by number.
    """

    model: Classifier
    squash: bool
    label_of: Mapping[int, int]

    def __call__(self, index: int, sample: Sample, needs_boxes: bool) -> Picture:
        """Make a picture of a sample.

        Raises:
            InputError: A box is wanted and there is none.
        """
        height, width = sample.image.shape[-2:]
        label = None if sample.label is None else self.label_of.get(sample.label)
        boxes = torch.zeros(0, 4, dtype=torch.int64)
        if not self.squash:
            if needs_boxes:
                raise InputError("boxes need the whole picture; squash it")
            return Picture(index, sample.id, self._cropped(sample), label, boxes)
        frame = self.model.input_size
        image = read_images(_eight_bit(sample.image), frame, resize="squash")[0]
        if len(sample.boxes):
            boxes = scale_boxes(sample.boxes, (height, width), frame)
        elif needs_boxes:
            raise InputError(": ".join([f"{sample.id} has no box", *sample.problems]))
        return Picture(index, sample.id, image, label, boxes)

    def _cropped(self, sample: Sample) -> Tensor:
        return self.model.load_images(_eight_bit(sample.image))[0].cpu()


class Evaluator:
    """Explains and measures items of a data set.

    Args:
        dataset: Pictures in a fixed order.
        explainer: What is asked of them.
        measure: What is written down.
        framing: How pictures are read.
    """

    def __init__(
        self, dataset: Dataset, explainer: Explainer, measure: Measure, framing: Framing
    ) -> None:
        self.dataset, self.explainer = dataset, explainer
        self.measure, self.framing = measure, framing
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="naspix-reader")
        self._ahead: dict[Span, Future[tuple[list[Picture | Failure], float]]] = {}

    def __call__(self, span: Span, following: Span | None) -> Part:
        """Evaluate the items of a span."""
        stopwatch = self.explainer.stopwatch
        with stopwatch(WAITING):
            found = self._ahead.pop(span, None) or self._reader.submit(self._timed_read, span)
            if following is not None:
                self._ahead[following] = self._reader.submit(self._timed_read, following)
            pictures, seconds = found.result()
        stopwatch.add(READING, seconds)
        failed = [each for each in pictures if isinstance(each, Failure)]
        rows: list[Row] = []
        for group in _of_one_size([each for each in pictures if isinstance(each, Picture)]):
            rows += self._rows(group, failed)
        rows.sort(key=lambda row: row["index"])  # stable: settings stay in their order
        return Part(
            span,
            self._table(rows),
            tuple(sorted(failed, key=lambda failure: failure.index)),
            stopwatch.reset(),
            (this_machine(torch.get_num_threads()),),
        )

    def read(self, span: Span) -> list[Picture | Failure]:
        """The pictures of a span, or why there is none."""
        return [self.read_one(index) for index in range(*span)]

    def _timed_read(self, span: Span) -> tuple[list[Picture | Failure], float]:
        """The pictures and the seconds that took, in the thread that reads ahead."""
        begin = time.perf_counter()
        return self.read(span), time.perf_counter() - begin

    def read_one(self, index: int) -> Picture | Failure:
        """A picture, or why there is none."""
        try:
            return self.framing(index, self.dataset[index], self.measure.needs_boxes)
        except NaspixError as error:
            return Failure(index, self.dataset.ids[index], str(error))

    def _rows(self, pictures: Sequence[Picture], failed: list[Failure]) -> list[Row]:
        """Rows of a batch; if one picture spoils it, of each alone."""
        try:
            batch = self.explainer(pictures)
            with self.explainer.stopwatch("measure"):
                return self.measure(self.framing.model, batch)
        except (DeviceError, OutputError):  # not the picture's fault
            raise
        except NaspixError as error:
            if len(pictures) == 1:
                failed.append(Failure(pictures[0].index, pictures[0].id, str(error)))
                return []
        return [row for picture in pictures for row in self._rows([picture], failed)]

    def _table(self, rows: Sequence[Row]) -> "pa.Table":
        import pyarrow as pa

        schema = pa.schema([*_common_columns(), *self.measure.columns])
        columns = {name: [row[name] for row in rows] for name in schema.names}
        return pa.table(columns, schema=schema)


def rows_of(
    batch: ExplainedBatch,
    method: str,
    segmenter: str,
    superpixels: Tensor | None,
    values: Sequence[Row],
) -> list[Row]:
    """One row an image: what all rows have, and values.

    Args:
        batch: The images.
        method: Whose maps.
        segmenter: Pooled over whose superpixels.
        superpixels: ``(B, H, W)``; None for raw maps.
        values: The measure's own columns for each image.
    """
    return [
        {
            "index": picture.index,
            "id": picture.id,
            "label": picture.label,
            "predicted": int(batch.predicted[place]),
            "target": int(batch.target[place]),
            "method": method,
            "segmenter": segmenter,
            "n_superpixels": None if superpixels is None else len(superpixels[place].unique()),
            **values[place],
        }
        for place, picture in enumerate(batch.pictures)
    ]


def number(value: Tensor | float) -> float | None:
    """A value, or None where there is none (NaN)."""
    found = float(value)
    return None if math.isnan(found) else found


def _common_columns() -> "list[pa.Field]":
    import pyarrow as pa

    return [
        pa.field("index", pa.int32(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("predicted", pa.int32(), nullable=False),
        pa.field("target", pa.int32(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("segmenter", pa.string(), nullable=False),
        pa.field("n_superpixels", pa.int32()),
    ]


def _of_one_size(pictures: Sequence[Picture]) -> list[list[Picture]]:
    groups: dict[tuple[int, ...], list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(tuple(picture.image.shape), []).append(picture)
    return list(groups.values())


def _eight_bit(image: Tensor) -> np.ndarray:
    """The picture as it was on disk: eight bits, which are resized as PIL does."""
    return (image * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()

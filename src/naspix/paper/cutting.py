"""Segmentations computed into records: each photo, and every way it is cut, with its label maps.

What figures 1, 3, 4, 7, 8 and 9 share. An experiment says how one photo is cut (`Cutter`); here the
photos are read, the cuts computed photo by photo, and written. `kept_cuts.py` reads them back for
drawing. A record is

    index, id       which photo
    row, column     where it stands in the figure; both empty for the photo itself
    segmenter       what made it
    n_clusters, n_superpixels
    photo           PNG, in the photo's own record
    clusters, superpixels   16-bit PNG; clusters are numbered by their area, the largest 0
    frequency       16-bit PNG, 65535 is 1: how often a pixel is a boundary, in a consensus's record
    cluster_ari, superpixel_ari   in a consensus's record
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.datasets import Dataset
from naspix.errors import DeviceError, NaspixError, OutputError
from naspix.images import read_images
from naspix.models import Classifier
from naspix.paper.at_hand import Source
from naspix.paper.experiment import Conditions, Progress
from naspix.paper.networks import find_networks, load_networks, sentence_on
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine, carry_out
from naspix.runs.parts import Failure, Part, Span, this_machine
from naspix.runs.store import Run
from naspix.segmentation import Consensus, Segmentation

if TYPE_CHECKING:
    import pyarrow as pa

FRAME = (224, 224)  # all networks see the same middle square
_PHOTOS = "photos"
FULL = 65535  # of a frequency's PNG, stands for 1


@dataclass(frozen=True, eq=False)
class Cut:
    """A segmentation of one photo and its place in the figure.

    Attributes:
        row: Its row's name.
        column: Its column's name.
        segmentation: Of one image.
        consensus: What it is the mean of, if it is one.
        is_named: Whether a cluster's number means the same in all photos, and is kept.
    """

    row: str
    column: str
    segmentation: Segmentation
    consensus: Consensus | None = None
    is_named: bool = False


@runtime_checkable
class Cutter(Protocol):
    """An experiment that cuts photos; picklable."""

    @property
    def networks(self) -> tuple[str, ...]:
        """The paper's networks that it wants."""
        ...

    def cuts(
        self,
        image: Float[Tensor, "1 3 H W"],
        networks: Mapping[str, Classifier],
        conditions: Conditions,
    ) -> Iterable[Cut]:
        """Cut one photo in every way.

        Args:
            image: In [0, 1].
            networks: Those that were found, by name.
            conditions: What is asked.
        """
        ...


def cut_photos(
    opened: OpenRun,
    cutter: Cutter,
    conditions: Conditions,
    *,
    n_photos: int,
    engine: Engine,
    progress: Progress,
) -> None:
    """Cut photos that have not been cut yet, and keep the records.

    Args:
        opened: Where.
        cutter: How.
        conditions: What is asked; its limit goes before ``n_photos``.
        n_photos: How many photos.
        engine: Who computes.
        progress: Told how many photos are done more, and how many there are.
    """
    spare = opened.run.folder / _PHOTOS
    source = opened.find("source", lambda: conditions.at_hand.photos(spare).to_plain())
    dataset = Source.from_plain(source).open()
    networks = opened.find(
        "networks", lambda: find_networks(cutter.networks, conditions, dataset.categories)
    )
    n_items = min(len(dataset), conditions.limit or n_photos)
    carry_out(
        opened,
        partial(_make_worker, cutter, source, networks, conditions),
        n_items=n_items,
        batch_size=1,
        engine=engine,
        progress=lambda n_more: progress(n_more, n_items),
    )


def sentences_on(run: Run) -> list[str]:
    """What photos and networks a run of `cut_photos` was made with, for its page."""
    found = run.header["found"]
    n = run.n_items - len(run.failures)
    photos = Source.from_plain(found["source"]).counted(n)
    return [photos, sentence_on(found["networks"])]


def by_area(labels: Int64[np.ndarray, "H W"]) -> Int64[np.ndarray, "H W"]:
    """The same regions, numbered by their area, the largest 0; of equal ones the first met.

    Example:
        >>> by_area(np.array([[5, 5, 2], [7, 2, 2]]))
        array([[1, 1, 0],
               [2, 0, 0]])
    """
    names, first, inverse, counts = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -counts))
    number = np.empty(len(names), np.int64)
    number[order] = np.arange(len(names))
    return np.asarray(number[inverse.reshape(labels.shape)])


class _PhotoWorker:
    """Cuts the photos of a span."""

    def __init__(
        self,
        dataset: Dataset,
        networks: Mapping[str, Classifier],
        cutter: Cutter,
        conditions: Conditions,
    ) -> None:
        self._dataset, self._networks = dataset, networks
        self._cutter, self._conditions = cutter, conditions

    def __call__(self, span: Span, following: Span | None) -> Part:
        rows, failed = [], []
        for index in range(*span):
            try:
                rows += self._rows(index)
            except (DeviceError, OutputError):  # not the photo's fault
                raise
            except NaspixError as error:
                failed.append(Failure(index, self._dataset.ids[index], str(error)))
        machine = this_machine(torch.get_num_threads())
        return Part(span, _table(rows), tuple(failed), {}, (machine,))

    def _rows(self, index: int) -> list[dict[str, Any]]:
        sample = self._dataset[index]
        eight_bit = (sample.image * 255).round().byte().permute(1, 2, 0).numpy()
        image = read_images(eight_bit, FRAME, interpolation="bicubic")
        shown = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
        common = {"index": index, "id": sample.id}
        rows = [{**common, "photo": _encoded(shown)}]
        for cut in self._cutter.cuts(image, self._networks, self._conditions):
            rows.append({**common, **_record(cut)})
        return rows


def _make_worker(
    cutter: Cutter,
    source: Mapping[str, Any],
    networks: Mapping[str, Any],
    conditions: Conditions,
) -> _PhotoWorker:
    return _PhotoWorker(
        Source.from_plain(source).open(),
        load_networks(networks, conditions.device),
        cutter,
        conditions,
    )


def _record(cut: Cut) -> dict[str, Any]:
    segmentation = cut.segmentation
    clusters = segmentation.clusters[0].cpu().numpy()
    clusters = clusters if cut.is_named else by_area(clusters)
    superpixels = segmentation.superpixels[0].cpu().numpy()
    record: dict[str, Any] = {
        "row": cut.row,
        "column": cut.column,
        "segmenter": segmentation.source,
        "n_clusters": int(clusters.max()) + 1,
        "n_superpixels": int(superpixels.max()) + 1,
        "clusters": _encoded(clusters.astype(np.uint16)),
        "superpixels": _encoded(superpixels.astype(np.uint16)),
    }
    if cut.consensus is not None:
        frequency = cut.consensus.boundary_frequency.cpu().numpy()
        record["frequency"] = _encoded(np.rint(frequency * FULL).astype(np.uint16))
        record["cluster_ari"] = cut.consensus.cluster_ari
        record["superpixel_ari"] = cut.consensus.superpixel_ari
    return record


def _table(rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
    import pyarrow as pa

    schema = pa.schema(
        [
            pa.field("index", pa.int32(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("row", pa.string()),
            pa.field("column", pa.string()),
            pa.field("segmenter", pa.string()),
            pa.field("n_clusters", pa.int32()),
            pa.field("n_superpixels", pa.int32()),
            pa.field("photo", pa.binary()),
            pa.field("clusters", pa.binary()),
            pa.field("superpixels", pa.binary()),
            pa.field("frequency", pa.binary()),
            pa.field("cluster_ari", pa.float64()),
            pa.field("superpixel_ari", pa.float64()),
        ]
    )
    return pa.table({name: [row.get(name) for row in rows] for name in schema.names}, schema=schema)


def _encoded(pixels: np.ndarray) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png", optimize=True)
    return content.getvalue()

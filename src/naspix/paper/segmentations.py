"""Photos cut in several ways: computed photo by photo, kept as records, read back, and drawn.

What figures 1 to 4 and 7 to 9 share. An experiment says in which ways one photo is cut
(`Cutter`); here the photos are read, cut and written, and read again for drawing.
"""

import io
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from naspix import plots
from naspix.datasets import Sample
from naspix.errors import DeviceError, NaspixError, OutputError
from naspix.images import read_images
from naspix.machine import this_machine
from naspix.models import DEFAULT_MODEL, Classifier
from naspix.paper.data import Conditions, Source, load_networks
from naspix.paper.experiment import Drawing, Experiment, Shown, Work, sentences_on
from naspix.paper.published import Table
from naspix.runs import Failure, Kind, Part, Run, Span, Worker
from naspix.segmentation import Consensus, Segmentation

ALL_LEVELS = (0, 1, 2, 3, 4)
LAST_THREE = (2, 3, 4)
FRAME = (224, 224)  # all networks see the same middle square
ZOOM = 2  # finer lines than the photo's pixels
_FULL = 65535  # of a frequency's PNG, stands for 1
_AS_KEPT = ("n_superpixels", "cluster_ari", "superpixel_ari", "aris", "numbers")  # of a cut
_BLUR = 2.0  # pixels, of Canny's edges
_MOST_LINED = 150  # superpixels whose boundaries do not yet cover the picture

# of a record: the photo itself, one of its cuts, or the picture of a step
_COLUMNS: Mapping[str, Kind] = {
    **dict.fromkeys(("index", "n_clusters", "n_superpixels"), "int"),
    "id": "text",
    **dict.fromkeys(("row", "column"), "text"),  # in the figure; empty for the photo itself
    "segmenter": "text",  # what made it
    "photo": "bytes",  # PNG, of the photo itself or a step
    "inside": "bytes",  # PNG, of the photo itself: white within boxes around objects, if it has any
    "note": "text",  # what stands below a step's picture
    **dict.fromkeys(("clusters", "superpixels"), "bytes"),  # 16-bit PNG
    # of a consensus: 16-bit PNG, 65535 is 1: how often a pixel is a boundary
    "frequency": "bytes",
    **dict.fromkeys(("cluster_ari", "superpixel_ari"), "float"),
    # how each segmentation agrees with it, and its number of superpixels
    **dict.fromkeys(("aris", "numbers"), "float64s"),
}


@dataclass(frozen=True, eq=False)
class Cut:
    """A segmentation of one photo and its place in the figure.

    Attributes:
        row: Its row's name.
        column: Its column's name.
        segmentation: Of one image.
        consensus: What it is the mean of, if it is one.
        is_named: Whether a cluster's number means the same in all photos, and is kept.
        of: The segmentations that it is the mean of.
    """

    row: str
    column: str
    segmentation: Segmentation
    consensus: Consensus | None = None
    is_named: bool = False
    of: Sequence[Segmentation] = ()


@dataclass(frozen=True, eq=False)
class Step:
    """A picture of a step on the way to a segmentation, and its place in the figure.

    Attributes:
        row: Its row's name.
        column: Its column's name.
        picture: Itself.
        note: What stands below it.
    """

    row: str
    column: str
    picture: UInt8[np.ndarray, "h w 3"]
    note: str = ""


Panel = tuple[UInt8[np.ndarray, "y x 3"] | None, str]  # a picture and what stands below it
Image = Float[Tensor, "1 3 H W"]  # in [0, 1]
Networks = Mapping[str, Classifier]  # those that were found, by name
Cutter = Callable[[Image, Networks, Conditions], Iterable[Cut | Step]]  # picklable


def cut_photos(
    work: Work,
    cutter: Cutter,
    networks: Sequence[str],
    *,
    look: Callable[[Path], Source],
    n_photos: int,
) -> None:
    """Cut photos that have not been cut yet, and keep the records.

    Args:
        work: Where and on what; its limit goes before ``n_photos``.
        cutter: How one photo is cut.
        networks: The paper's that it wants.
        look: For the photos, a method of `AtHand`.
        n_photos: How many photos.
    """
    conditions, source = work.conditions, work.source(look)
    found = work.networks(networks, source)
    n_items = min(len(source.open()), conditions.limit or n_photos)
    work.carry_out(partial(_make_worker, cutter, source, found, conditions), n_items)


def _make_worker(
    cutter: Cutter, source: Source, found: Mapping[str, Any], conditions: Conditions
) -> Worker:
    dataset, networks = source.open(), load_networks(found, conditions.device)

    def rows_of(index: int) -> list[dict[str, Any]]:
        sample = dataset[index]
        image = read_images(eight_bit(sample.image), FRAME, interpolation="bicubic")
        common = {"index": index, "id": sample.id}
        cuts = [{**common, **_record(cut)} for cut in cutter(image, networks, conditions)]
        inside = inside_boxes(sample, lambda mask: read_images(mask, FRAME)[0])
        photo = {
            "photo": _encoded(eight_bit(image[0])),
            "inside": None if inside is None else _encoded(inside.astype(np.uint8) * 255),
        }
        return [{**common, **photo}, *cuts]

    def cut(span: Span, following: Span | None) -> Part:
        rows, failed = [], []
        for index in range(*span):
            try:
                rows += rows_of(index)
            except (DeviceError, OutputError):  # not the photo's fault
                raise
            except NaspixError as error:
                failed.append(Failure(index, dataset.ids[index], str(error)))
        machine = this_machine(torch.get_num_threads())
        return Part(span, rows, _COLUMNS, tuple(failed), {}, machine)

    return cut


def eight_bit(image: Tensor) -> UInt8[np.ndarray, "H W 3"]:
    """An image ``(3, H, W)`` in [0, 1] with eight bits a channel."""
    pixels: np.ndarray = (image * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels


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


def inside_boxes(
    sample: Sample, framed: Callable[[UInt8[np.ndarray, "h w 3"]], Tensor]
) -> Bool[np.ndarray, "H W"] | None:
    """Which pixels of a photo as it is shown lie within its boxes; None where it has none.

    Args:
        sample: The photo with its boxes.
        framed: Makes a picture ``(3, H, W)`` in [0, 1] as large as the photo is shown.
    """
    if not len(sample.boxes):
        return None
    mask = np.zeros((*sample.image.shape[1:], 3), np.uint8)
    for left, top, right, bottom in sample.boxes.round().int().tolist():
        mask[top:bottom, left:right] = 255
    return np.asarray(framed(mask)[0].cpu().numpy() > 0.5)


def _record(cut: Cut | Step) -> dict[str, Any]:
    if isinstance(cut, Step):
        picture = _encoded(cut.picture)
        return {"row": cut.row, "column": cut.column, "photo": picture, "note": cut.note}
    segmentation = cut.segmentation
    partition = segmentation.clusters[0].cpu().numpy()
    clusters = partition if cut.is_named else by_area(partition)
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
        record["frequency"] = _encoded(np.rint(frequency * _FULL).astype(np.uint16))
        record["cluster_ari"] = cut.consensus.cluster_ari
        record["superpixel_ari"] = cut.consensus.superpixel_ari
        record["aris"] = np.array(
            [agreement(each.clusters[0].cpu().numpy(), partition) for each in cut.of]
        )
        record["numbers"] = np.array([float(each.n_superpixels[0]) for each in cut.of])
    return record


def agreement(one: Int64[np.ndarray, "*S"], other: Int64[np.ndarray, "*S"]) -> float:
    """Adjusted Rand index of two partitions: 1 is the same one, 0 agreement by chance.

    Example:
        >>> agreement(np.array([[0, 0, 1, 1]]), np.array([[1, 1, 0, 0]]))
        1.0
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(one.ravel(), other.ravel()))


def _encoded(pixels: np.ndarray) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png", optimize=True)
    return content.getvalue()


@dataclass(frozen=True, eq=False)
class KeptCut:
    """A segmentation read from records.

    Attributes:
        clusters: Numbered by area, or as they were if their numbers mean something.
        superpixels: From 0.
        n_superpixels: How many there are.
        frequency: How often each pixel is a boundary; None but for a consensus.
        cluster_ari: Of a consensus.
        superpixel_ari: Of a consensus.
        aris: How each segmentation agrees with it, of a consensus.
        numbers: Of superpixels of each, of a consensus.
    """

    clusters: Int64[np.ndarray, "H W"]
    superpixels: Int64[np.ndarray, "H W"]
    n_superpixels: int
    frequency: Float64[np.ndarray, "H W"] | None
    cluster_ari: float | None
    superpixel_ari: float | None
    aris: Float64[np.ndarray, " n"] | None
    numbers: Float64[np.ndarray, " n"] | None


@dataclass(frozen=True, eq=False)
class KeptPhoto:
    """A photo and its cuts, read from records.

    Attributes:
        id: Its name.
        image: Values in [0, 1].
        inside: Which pixels lie within boxes; None without boxes.
        steps: Row and column -> picture of a step, and what stands below it.
        cuts: Row and column -> cut, in the order in which they were made.
    """

    id: str
    image: Float32[np.ndarray, "H W 3"]
    inside: Bool[np.ndarray, "H W"] | None = None
    steps: dict[tuple[str, str], tuple[UInt8[np.ndarray, "h w 3"], str]] = field(
        default_factory=dict
    )
    cuts: dict[tuple[str, str], KeptCut] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        """Names of rows, in order."""
        return list(dict.fromkeys(row for row, _ in self.cuts))

    @property
    def columns(self) -> list[str]:
        """Names of columns, in order."""
        return list(dict.fromkeys(column for _, column in self.cuts))

    @cached_property
    def edges(self) -> Bool[np.ndarray, "H W"]:
        """The photo's edges, by Canny."""
        from skimage.feature import canny

        return np.asarray(canny(self.image.mean(-1), sigma=_BLUR))

    def picture(self) -> UInt8[np.ndarray, "y x 3"]:
        """The photo itself, as large as pictures of its cuts."""
        return plots.photo_picture(self.image, zoom=ZOOM)

    def coloured(
        self, cut: KeptCut, clusters: Int64[np.ndarray, "H W"] | None = None, *, lined: bool = True
    ) -> UInt8[np.ndarray, "y x 3"]:
        """A cut's clusters in colours, with boundaries unless these would be all that one sees.

        Args:
            cut: One of its own.
            clusters: Its clusters by other numbers.
            lined: Whether boundaries are wanted at all.
        """
        lined = lined and cut.n_superpixels <= _MOST_LINED
        superpixels = cut.superpixels if lined else cut.superpixels * 0
        clusters = cut.clusters if clusters is None else clusters
        return plots.cluster_picture(self.image, clusters, superpixels, zoom=ZOOM)


def read_photos(run: Run) -> list[KeptPhoto]:
    """The photos of a run with all their cuts, in order."""
    photos: dict[int, KeptPhoto] = {}
    for record in run.records().to_dict("records"):
        place = record["row"], record["column"]
        if record["photo"] is not None:
            pixels = _decoded(record["photo"])
            if record["row"] is not None:
                photos[record["index"]].steps[place] = pixels, record["note"]
                continue
            inside = None if record["inside"] is None else _decoded(record["inside"]) > 0
            image = (pixels / 255).astype(np.float32)
            photos[record["index"]] = KeptPhoto(record["id"], image, inside)
            continue
        frequency = record["frequency"]
        photos[record["index"]].cuts[place] = KeptCut(
            clusters=_decoded(record["clusters"]).astype(np.int64),
            superpixels=_decoded(record["superpixels"]).astype(np.int64),
            frequency=None if frequency is None else _decoded(frequency) / _FULL,
            **{name: record[name] for name in _AS_KEPT},
        )
    return list(photos.values())


def named_as(
    labels: Int64[np.ndarray, "H W"], reference: Int64[np.ndarray, "H W"]
) -> Int64[np.ndarray, "H W"]:
    """The same regions, with the reference's numbers where they overlap most, one each.

    So that what lies in the same place has the same colour. Further regions have further numbers.

    Example:
        >>> named_as(np.array([[0, 0, 1, 2]]), np.array([[1, 1, 0, 0]]))
        array([[1, 1, 0, 2]])
    """
    from scipy.optimize import linear_sum_assignment

    n_own, n_names = int(labels.max()) + 1, int(reference.max()) + 1
    overlap = np.zeros((n_own, n_names))
    np.add.at(overlap, (labels.ravel(), reference.ravel()), 1)
    own, theirs = linear_sum_assignment(overlap, maximize=True)
    number = np.full(n_own, -1)
    touching = overlap[own, theirs] > 0
    number[own[touching]] = theirs[touching]
    taken = set(number[number >= 0].tolist())
    spare = (name for name in range(n_own + n_names) if name not in taken)
    number[number < 0] = [next(spare) for _ in range(int((number < 0).sum()))]
    return np.asarray(number[labels])


def _decoded(content: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)))


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
    def compute(self, work: Work) -> None:
        """Cut the photos."""
        conditions = work.conditions
        cut_photos(
            work,
            self.cuts,
            self.networks,
            look=conditions.at_hand.photos,
            n_photos=min(self.n_drawn, 2) if conditions.quick else self.n_photos,
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

    def show(self, run: Run) -> Shown:
        """What is drawn of the photos, and whether the paper's claims hold on all that were cut."""
        photos = read_photos(run)
        tables, drawings = self.draw(photos)
        return Shown(sentences_on(run), tables, drawings, self.verdicts(run, photos))

    @abstractmethod
    def draw(self, photos: Sequence[KeptPhoto]) -> tuple[list[Table], list[Drawing]]:
        """Tables on all photos, and figures of some."""


def levels_of(name: str, model: Classifier, levels: tuple[int, ...]) -> tuple[int, ...]:
    """Levels of NAS in one of the paper's networks; the default network has its own."""
    return model.default_levels if name == DEFAULT_MODEL else levels


def mean(values: Iterable[float]) -> float:
    """The mean of some numbers."""
    return float(np.mean(list(values)))


def grids(
    name: str, title: str, photos: Sequence[KeptPhoto], columns: Sequence[str], words: str
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

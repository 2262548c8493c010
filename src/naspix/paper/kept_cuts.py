"""Segmentations read back from the records of `cutting.py`, and how they are coloured.

A figure names the clusters of one cut as those of another, so that what lies in the same place has
the same colour.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from naspix import plots
from naspix.paper.cutting import FULL
from naspix.runs.store import Run

ZOOM = 2  # finer lines than the photo's pixels
_MOST_LINED = 150  # superpixels whose boundaries do not yet cover the picture


@dataclass(frozen=True, eq=False)
class KeptCut:
    """A segmentation read from records.

    Attributes:
        row: Its row's name.
        column: Its column's name.
        segmenter: What made it.
        clusters: Numbered by area, or as they were if their numbers mean something.
        superpixels: From 0.
        frequency: How often each pixel is a boundary; None but for a consensus.
        cluster_ari: Of a consensus.
        superpixel_ari: Of a consensus.
    """

    row: str
    column: str
    segmenter: str
    clusters: Int64[np.ndarray, "H W"]
    superpixels: Int64[np.ndarray, "H W"]
    frequency: Float[np.ndarray, "H W"] | None
    cluster_ari: float | None
    superpixel_ari: float | None

    @property
    def n_superpixels(self) -> int:
        """How many superpixels there are."""
        return int(self.superpixels.max()) + 1

    @property
    def n_clusters(self) -> int:
        """How many clusters there are."""
        return int(self.clusters.max()) + 1


@dataclass(frozen=True, eq=False)
class KeptPhoto:
    """A photo and its cuts, read from records.

    Attributes:
        id: Its name.
        image: Values in [0, 1].
        cuts: In the order in which they were made.
    """

    id: str
    image: Float32[np.ndarray, "H W 3"]
    cuts: Sequence[KeptCut]

    def at(self, row: str, column: str) -> KeptCut | None:
        """The cut at a place of the figure, if there is one."""
        return next((cut for cut in self.cuts if (cut.row, cut.column) == (row, column)), None)

    def cut(self, row: str, column: str) -> KeptCut:
        """The same, where there must be one."""
        found = self.at(row, column)
        assert found is not None, (row, column)
        return found

    @property
    def rows(self) -> list[str]:
        """Names of rows, in order."""
        return list(dict.fromkeys(cut.row for cut in self.cuts))

    @property
    def columns(self) -> list[str]:
        """Names of columns, in order."""
        return list(dict.fromkeys(cut.column for cut in self.cuts))


def read_photos(run: Run) -> list[KeptPhoto]:
    """The photos of a run with all their cuts, in order."""
    photos: dict[int, tuple[str, Any, list[KeptCut]]] = {}
    for record in run.records().to_pylist():
        if record["photo"] is not None:
            photos[record["index"]] = (record["id"], _decoded(record["photo"]), [])
        else:
            photos[record["index"]][2].append(_kept(record))
    return [
        KeptPhoto(id, (pixels / 255).astype(np.float32), cuts)
        for id, pixels, cuts in photos.values()
    ]


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


def cluster_picture(
    photo: KeptPhoto, clusters: Int64[np.ndarray, "H W"], superpixels: Int64[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "y x 3"]:
    """Clusters in their colours, with boundaries unless these would be all that one sees."""
    lined = superpixels if superpixels.max() < _MOST_LINED else np.zeros_like(superpixels)
    return plots.cluster_picture(photo.image, clusters, lined, zoom=ZOOM)


def _kept(record: Mapping[str, Any]) -> KeptCut:
    frequency = record["frequency"]
    return KeptCut(
        row=record["row"],
        column=record["column"],
        segmenter=record["segmenter"],
        clusters=_decoded(record["clusters"]).astype(np.int64),
        superpixels=_decoded(record["superpixels"]).astype(np.int64),
        frequency=None if frequency is None else _decoded(frequency) / FULL,
        cluster_ari=record["cluster_ari"],
        superpixel_ari=record["superpixel_ari"],
    )


def _decoded(content: bytes) -> UInt8[np.ndarray, "H W 3"] | Int64[np.ndarray, "H W"]:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(content)))
    return pixels if pixels.ndim == 3 else pixels.astype(np.int64)

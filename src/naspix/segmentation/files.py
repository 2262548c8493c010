"""Segmentations in files and formats: ``.npz`` without pickle, PNG label maps, COCO's dictionaries.

In and out go plain arrays and plain values; what is made of them is the business of
``Segmentation`` and ``ClassClusters``. Files are written whole or not at all. A file that is
damaged, or not what was asked for, is refused in one sentence.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64

from naspix.clustering.ward import WardTree
from naspix.errors import InputError
from naspix.files import write_whole, written

FORMAT_VERSION = 1  # of segmentations, and of class clusters
_REMEDY = "choose another place"
_MOST_BYTES = 1 << 31  # of the largest array of a file
_MOST_TEXT = 1 << 24
_HEADER = 1 << 12  # of an array in a file, and more than a number takes


def write_segmentation(
    path: str | PathLike[str],
    clusters: Int64[np.ndarray, "B H W"],
    superpixels: Int64[np.ndarray, "B H W"],
    *,
    source: str,
    tree: Sequence[WardTree],
    connectivity: int,
) -> None:
    """Write what a segmentation holds; see ``Segmentation.save``."""
    arrays: dict[str, Any] = {
        "version": np.int64(FORMAT_VERSION),
        "clusters": clusters,
        "superpixels": superpixels,
        "connectivity": np.int64(connectivity),
        "source": np.str_(source),
        "n_trees": np.int64(len(tree)),
    }
    for i, each in enumerate(tree):
        arrays[f"linkage_{i}"] = each.linkage
        arrays[f"leaves_{i}"] = each.leaves.cpu().numpy()
    _write_arrays(path, arrays)


def read_segmentation(path: str | PathLike[str]) -> dict[str, Any]:
    """Read what ``write_segmentation`` wrote: the arguments that ``Segmentation`` takes.

    Raises:
        InputError: If the file is missing, damaged, or not such a file.
    """
    with _opened(path, "Segmentation.save; save it anew") as file:
        _check_version(path, "a segmentation", file.number("version"))
        n_trees, connectivity = file.number("n_trees"), file.number("connectivity")
        clusters = file.array("clusters", _MOST_BYTES)
        superpixels = file.array("superpixels", clusters.nbytes)
        n_pixels = clusters[0].size if len(clusters) else 0
        with file.whole("segmentation"):
            if n_trees not in (0, len(clusters)):
                raise InputError(f"it has {n_trees} trees for {len(clusters)} images")
            if connectivity not in (4, 8):
                raise InputError(f"its connectivity is {connectivity}")
            _check_regions(clusters, superpixels)
        trees = []
        for i in range(n_trees):
            linkage = file.array(f"linkage_{i}", 4 * 8 * n_pixels)
            leaves = file.array(f"leaves_{i}", 8 * n_pixels)
            with file.whole("segmentation"):
                trees.append(_tree(linkage, leaves))
        return {
            "clusters": torch.from_numpy(clusters),
            "superpixels": torch.from_numpy(superpixels),
            "source": str(file.array("source", _MOST_TEXT)),
            "tree": trees or None,
            "connectivity": connectivity,
        }


def write_class_clusters(
    path: str | PathLike[str],
    described: dict[str, Any],
    points: Float[np.ndarray, "n D"],
    linkage: Float[np.ndarray, "n_merges 4"],
) -> None:
    """Write a sample, its tree, and what is said of them; see ``ClassClusters.save``."""
    described = {"class_clusters": FORMAT_VERSION, **described}
    text = np.str_(json.dumps(described, ensure_ascii=False))
    _write_arrays(path, {"described": text, "points": points, "linkage": linkage})


def read_class_clusters(
    path: str | PathLike[str],
) -> tuple[dict[str, Any], Float[np.ndarray, "n D"], WardTree]:
    """Read what ``write_class_clusters`` wrote: the description, the sample, and its tree.

    Raises:
        InputError: If the file is missing, damaged, or not such a file.
    """
    with _opened(path, "ClassClusters.save; fit and save it anew") as file:
        text = str(file.array("described", _MOST_TEXT))
        points = file.array("points", _MOST_BYTES)
        linkage = file.array("linkage", 4 * 8 * len(points) if points.ndim else 0)
        try:
            described: dict[str, Any] = json.loads(text)
            version = described["class_clusters"]
        except (KeyError, TypeError, ValueError) as error:
            raise file.damaged() from error
        if type(version) is not int:
            raise file.damaged()
        _check_version(path, "class clusters", version)
        with file.whole("class clusters"):
            if points.ndim != 2 or points.dtype not in (np.float32, np.float64):
                raise InputError("its sample is none")
            if not np.isfinite(points).all():
                raise InputError("its sample is not finite")
            return described, points, _tree(linkage, np.arange(len(points))[None])


def write_label_png(path: str | PathLike[str], labels: Int[np.ndarray, "H W"]) -> None:
    """Write one label map; see ``Segmentation.save_png``."""
    from PIL import Image

    from naspix.plots import cluster_colours  # here, so that matplotlib is imported when needed

    highest = int(labels.max())
    if highest >= 2**16:
        raise InputError(f"a PNG label map holds 65,536 ids at most, here are {highest + 1}")
    if highest < 2**8:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(cluster_colours(256).tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    with written(Path(path), _REMEDY), write_whole(Path(path)) as file:
        image.save(file, format="PNG")


def _write_arrays(path: str | PathLike[str], arrays: dict[str, Any]) -> None:
    with written(Path(path), _REMEDY), write_whole(Path(path)) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


class _Archive:
    """Arrays in an ``.npz`` file, of which only those asked for are read, and none beyond bounds.

    A few megabytes of such a file may unfold to gigabytes.
    """

    def __init__(self, path: str | PathLike[str], file: Any, writer: str) -> None:
        self._path, self._file, self._writer = path, file, writer

    def array(self, name: str, most_bytes: int) -> np.ndarray:
        """An array of at most so many bytes."""
        if name not in self._file.files:
            raise InputError(f"{self._path} was not written by {self._writer}: it lacks {name}")
        try:
            n_bytes = self._file.zip.getinfo(f"{name}.npy").file_size
            if n_bytes > most_bytes + _HEADER:
                raise InputError(
                    f"{self._path} is damaged: its {name} unfold to {n_bytes} bytes, where "
                    f"{most_bytes} are the most"
                )
            found: np.ndarray = self._file[name]
            return found
        except InputError:
            raise
        except Exception as error:  # zipfile and NumPy raise a dozen kinds on damaged bytes
            raise self.damaged() from error

    def number(self, name: str) -> int:
        """A whole number."""
        found = self.array(name, _HEADER)
        if found.shape != () or found.dtype.kind not in "iu":
            raise self.damaged()
        return int(found)

    def damaged(self) -> InputError:
        """What is said of a file that holds something else."""
        return InputError(f"{self._path} is damaged, or was not written by {self._writer}")

    @contextmanager
    def whole(self, what: str) -> Iterator[None]:
        """Say of what is found wrong inside that the file holds no such thing."""
        try:
            yield
        except (InputError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{self._path} holds no whole {what}: {error}") from error


@contextmanager
def _opened(path: str | PathLike[str], writer: str) -> Iterator[_Archive]:
    try:
        content = io.BytesIO(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        file = np.load(content, allow_pickle=False)
    except Exception as error:  # zipfile and NumPy raise a dozen kinds on damaged bytes
        raise InputError(f"{path} is damaged, or was not written by {writer}") from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise InputError(f"{path} is damaged, or was not written by {writer}")
    with file:
        yield _Archive(path, file, writer)


def _check_regions(clusters: np.ndarray, superpixels: np.ndarray) -> None:
    """Refuse clusters below 0, and superpixels that lie in several clusters."""
    maps = {"clusters": clusters, "superpixels": superpixels}
    for name, labels in maps.items():
        if labels.ndim != 3 or labels.dtype != np.int64 or labels.size == 0 or labels.min() < 0:
            raise InputError(f"its {name} are no (B, H, W) int64 numbers from 0")
    if clusters.shape != superpixels.shape or superpixels.max() >= clusters[0].size:
        raise InputError("its superpixels do not fit its clusters")
    cluster_of = np.zeros(int(superpixels.max()) + 1, np.int64)
    for cluster, superpixel in zip(clusters, superpixels, strict=True):
        cluster_of[superpixel] = cluster
        if not np.array_equal(cluster_of[superpixel], cluster):
            raise InputError("a superpixel of it lies in several clusters")


def _check_version(path: str | PathLike[str], what: str, version: int) -> None:
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path} holds {what} of format {version}, this naspix reads up to {FORMAT_VERSION}; "
            "install a newer naspix"
        )


def _tree(linkage: np.ndarray, leaves: np.ndarray) -> WardTree:
    """Return the tree, having seen that every node and leaf it names exists."""
    n = len(linkage) + 1
    whole = (
        linkage.dtype == np.float64
        and linkage.shape == (n - 1, 4)
        and (linkage[:, :2] >= 0).all()
        and (linkage[:, :2].max(axis=1, initial=0) < n + np.arange(n - 1)).all()
        and leaves.dtype == np.int64
        and leaves.ndim == 2
        and 0 <= leaves.min() <= leaves.max() < n
    )
    if not whole:
        raise InputError("its tree names nodes that do not exist")
    return WardTree(linkage, torch.from_numpy(leaves))


# COCO's JSON format: uncompressed run lengths down the columns, an annotation a superpixel. Reading
# them back is pycocotools' business. Source: Lin et al., "Microsoft COCO", 2014; the format's
# description at cocodataset.org.


def run_lengths(labels: Int64[np.ndarray, "H W"]) -> list[dict[str, Any]]:
    """Encode the mask of every label; see ``Segmentation.to_rle``.

    Example:
        >>> run_lengths(np.array([[0, 1]]))
        [{'size': [1, 2], 'counts': [0, 1, 1]}, {'size': [1, 2], 'counts': [1, 1]}]
    """
    height, width = labels.shape
    columns = labels.ravel(order="F")
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    stops = np.append(starts[1:], columns.size)
    owner = columns[starts]
    encoded = []
    for label in range(int(labels.max()) + 1):
        mine = owner == label
        edges = np.stack([starts[mine], stops[mine]], axis=1).ravel()  # in, out, in, out, ...
        counts = np.diff(edges, prepend=0, append=columns.size).tolist()
        if counts[-1] == 0:
            counts.pop()
        encoded.append({"size": [height, width], "counts": counts})
    return encoded


def instances(
    clusters: Int64[np.ndarray, "B H W"],
    superpixels: Int64[np.ndarray, "B H W"],
    *,
    image_ids: Sequence[int] | None,
    file_names: Sequence[str] | None,
    made_by: str,
) -> dict[str, Any]:
    """Describe a batch as COCO's instances dictionary; see ``Segmentation.to_coco``."""
    n_images, height, width = clusters.shape
    ids = list(range(1, n_images + 1)) if image_ids is None else [int(i) for i in image_ids]
    if len(ids) != n_images or len(set(ids)) != n_images:
        raise InputError(f"{n_images} images need {n_images} different image_ids; got {ids}")
    if file_names is not None and len(file_names) != n_images:
        raise InputError(f"{n_images} images need {n_images} file_names; got {len(file_names)}")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for b, image_id in enumerate(ids):
        image = {"id": image_id, "height": height, "width": width}
        images.append(image if file_names is None else {**image, "file_name": file_names[b]})
        for annotation in annotations_of(clusters[b], superpixels[b]):
            numbers = {"id": len(annotations) + 1, "image_id": image_id}
            annotations.append({**numbers, **annotation})
    return {
        "info": {"description": "superpixels", "contributor": f"naspix: {made_by or 'unknown'}"},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": k + 1, "name": f"cluster {k}"} for k in range(int(clusters.max()) + 1)
        ],
    }


def annotations_of(
    clusters: Int64[np.ndarray, "H W"], superpixels: Int64[np.ndarray, "H W"]
) -> list[dict[str, Any]]:
    """Describe the superpixels of one image, without the ids that number them in the file.

    Pixels whose superpixel is -1 are in none; a number without pixels is passed over.
    """
    from scipy.ndimage import find_objects

    inside = superpixels >= 0
    n_clusters = int(clusters.max()) + 1
    pairs = superpixels[inside] * n_clusters + clusters[inside]
    counts = np.bincount(pairs, minlength=(int(superpixels.max()) + 1) * n_clusters)
    counts = counts.reshape(-1, n_clusters)
    annotations = []
    codes, places = run_lengths(superpixels), find_objects(superpixels + 1)
    for code, place, of_cluster in zip(codes, places, counts, strict=True):
        if place is None:
            continue
        (top, bottom), (left, right) = ((axis.start, axis.stop) for axis in place)
        annotations.append(
            {
                "category_id": int(of_cluster.argmax()) + 1,
                "segmentation": code,
                "area": int(of_cluster.sum()),
                "bbox": [float(side) for side in (left, top, right - left, bottom - top)],
                "iscrowd": 0,
            }
        )
    return annotations

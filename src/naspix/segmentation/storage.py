"""Segmentations on disk: everything in one ``.npz`` without pickle, or one label map as a PNG.

Files are written whole or not at all: first beside their place, then moved there. A file that is
not what ``save`` writes, or is damaged, is refused in one sentence.
"""

import io
import os
import tempfile
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Int

from naspix.clustering.ward import WardTree
from naspix.errors import InputError, OutputError

if TYPE_CHECKING:
    from naspix.segmentation.segmentation import Segmentation

FORMAT_VERSION = 1


def save(segmentation: "Segmentation", path: str | PathLike[str]) -> None:
    """Write a segmentation as ``.npz``; see ``Segmentation.save``."""
    arrays: dict[str, Any] = {
        "version": np.int64(FORMAT_VERSION),
        "clusters": segmentation.clusters.cpu().numpy(),
        "superpixels": segmentation.superpixels.cpu().numpy(),
        "connectivity": np.int64(segmentation.connectivity),
        "source": np.str_(segmentation.source),
        "n_trees": np.int64(len(segmentation.tree or ())),
    }
    for i, tree in enumerate(segmentation.tree or ()):
        arrays[f"linkage_{i}"] = tree.linkage
        arrays[f"leaves_{i}"] = tree.leaves.cpu().numpy()
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_whole(path, content.getvalue())


def load(path: str | PathLike[str]) -> "Segmentation":
    """Read what ``save`` wrote; see ``Segmentation.load``."""
    from naspix.segmentation.segmentation import Segmentation  # which imports this module

    try:
        content = io.BytesIO(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zipfile and NumPy raise a dozen kinds on damaged bytes
        raise InputError(
            f"{path} is damaged, or was not written by Segmentation.save; save it anew"
        ) from error
    missing = {"version", "clusters", "superpixels", "source", "n_trees", "connectivity"} - {
        *arrays
    }
    if missing:
        raise InputError(f"{path} was not written by Segmentation.save: it lacks {min(missing)}")
    if arrays["version"] > FORMAT_VERSION:
        raise InputError(
            f"{path} is a segmentation of format {arrays['version']}, this naspix reads up to "
            f"{FORMAT_VERSION}; install a newer naspix"
        )
    try:
        return Segmentation(
            torch.from_numpy(arrays["clusters"]),
            torch.from_numpy(arrays["superpixels"]),
            source=str(arrays["source"]),
            tree=_trees(arrays),
            connectivity=_connectivity(int(arrays["connectivity"])),
        )
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no whole segmentation: {error}") from error


def _connectivity(number: int) -> Literal[4, 8]:
    if number == 8:
        return 8
    if number == 4:
        return 4
    raise InputError(f"its connectivity is {number}")


def _trees(arrays: dict[str, np.ndarray]) -> list[WardTree] | None:
    n_trees = int(arrays["n_trees"])
    names = [(f"linkage_{i}", f"leaves_{i}") for i in range(n_trees)]
    if any(name not in arrays for pair in names for name in pair):
        raise InputError(f"it lacks some of its {n_trees} trees")
    return [_tree(arrays[linkage], arrays[leaves]) for linkage, leaves in names] or None


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


def save_png(labels: Int[np.ndarray, "H W"], path: str | PathLike[str]) -> None:
    """Write one label map as a PNG; see ``Segmentation.save_png``."""
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
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_whole(path, content.getvalue())


def write_whole(path: str | PathLike[str], content: bytes) -> None:
    """Write a file beside its place and move it there, so that no half of it is ever seen."""
    place = Path(path)
    part: str | None = None
    try:
        handle, part = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(part, 0o666 & ~_umask())  # mkstemp's files are private
        os.replace(part, place)
    except OSError as error:
        if part is not None:
            with suppress(OSError):
                os.unlink(part)
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {place}: {reason}; choose another place") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Class clusters on disk: sample, tree, names and settings in one ``.npz`` without pickle.

The network is not saved; the file says which it was, and loading asks for it.
"""

import io
import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from naspix.clustering.ward import WardTree
from naspix.errors import InputError
from naspix.models import Classifier
from naspix.segmentation.classwise import ClassClustering, ClassClusters
from naspix.segmentation.storage import write_whole

FORMAT_VERSION = 1
_SETTINGS = (
    "n_clusters",
    "levels",
    "n_samples",
    "n_neighbors",
    "size",
    "seed",
    "normalize",
    "weight",
    "connectivity",
)


def save(clusters: ClassClusters, path: str | PathLike[str]) -> None:
    """Write class clusters; see ``ClassClusters.save``."""
    described = {
        "class_clusters": FORMAT_VERSION,
        "model": clusters.clustering.model.name,
        "settings": {name: getattr(clusters.clustering, name) for name in _SETTINGS},
        "names": clusters.names,
        "n_images": clusters.n_images,
    }
    content = io.BytesIO()
    np.savez_compressed(
        content,
        allow_pickle=False,
        described=np.str_(json.dumps(described, ensure_ascii=False)),
        points=clusters.points.numpy(),
        linkage=clusters.tree.linkage,
    )
    write_whole(path, content.getvalue())


def load(path: str | PathLike[str], model: Classifier) -> ClassClusters:
    """Read what ``save`` wrote; see ``ClassClusters.load``."""
    try:
        content = io.BytesIO(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        with np.load(content, allow_pickle=False) as file:
            described: dict[str, Any] = json.loads(str(file["described"]))
            points, linkage = file["points"], file["linkage"]
        version, fitted_to = described["class_clusters"], described["model"]
    except Exception as error:  # zipfile, NumPy and json raise a dozen kinds on damaged bytes
        raise InputError(
            f"{path} is damaged, or was not written by ClassClusters.save; fit and save it anew"
        ) from error
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path} holds class clusters of format {version}, this naspix reads up to "
            f"{FORMAT_VERSION}; install a newer naspix"
        )
    if fitted_to != model.name:
        raise InputError(f"{path} was fitted to {fitted_to}, not to {model.name}; load that model")
    try:
        return _clusters(described, points, linkage, model)
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no whole class clusters: {error}") from error


def _clusters(
    described: dict[str, Any], points: np.ndarray, linkage: np.ndarray, model: Classifier
) -> ClassClusters:
    settings = {name: described["settings"][name] for name in _SETTINGS}
    if settings["size"] is not None:
        settings["size"] = tuple(settings["size"])
    n = len(points)
    whole = (
        points.ndim == 2
        and points.dtype in (np.float32, np.float64)
        and np.isfinite(points).all()
        and linkage.shape == (n - 1, 4)
        and linkage.dtype == np.float64
        and (linkage[:, :2] >= 0).all()
        and (linkage[:, :2].max(axis=1, initial=0) < n + np.arange(n - 1)).all()
    )
    if not whole:
        raise InputError("its sample or its tree is not one")
    return ClassClusters(
        ClassClustering(model, **settings),
        torch.from_numpy(points),
        WardTree(linkage, torch.arange(n)[None]),
        n_images=int(described["n_images"]),
        names=tuple(map(str, described["names"])),
    )

"""Superpixels in COCO's JSON format: uncompressed run lengths down the columns, an annotation each.

In: label maps ``(H, W)``. Out: plain dictionaries for ``json.dump``. Reading them back is
``pycocotools``' business.
Source: Lin et al., "Microsoft COCO", 2014; the format's description at cocodataset.org.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from naspix.errors import InputError


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
        for annotation in _annotations(clusters[b], superpixels[b]):
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


def _annotations(
    clusters: Int64[np.ndarray, "H W"], superpixels: Int64[np.ndarray, "H W"]
) -> list[dict[str, Any]]:
    """Describe the superpixels of one image, without the ids that number them in the file."""
    annotations = []
    for label, code in enumerate(run_lengths(superpixels)):
        mask = superpixels == label
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top = int(columns[0]), int(rows[0])
        box = [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
        annotations.append(
            {
                "category_id": int(np.bincount(clusters[mask]).argmax()) + 1,
                "segmentation": code,
                "area": int(mask.sum()),
                "bbox": [float(side) for side in box],
                "iscrowd": 0,
            }
        )
    return annotations

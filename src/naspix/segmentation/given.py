"""Segments that others made as label maps: integers of any kind, and masks that may overlap.

SAM and its kin give a mask for each thing they find: masks nest, overlap, and leave pixels over.
Here every pixel gets one number. Arrays in, an int64 tensor ``(B, H, W)`` out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from naspix.errors import InputError


def numbered_labels(labels: Any) -> Int64[Tensor, "B H W"]:
    """Labels of one image or several, numbered from 0 without gaps in each image.

    Raises:
        InputError: They are no whole numbers of ``(H, W)`` or ``(B, H, W)``.
    """
    found = _array(labels)
    if found.ndim == 2:
        found = found[None]
    if found.ndim != 3 or 0 in found.shape or found.dtype.kind not in "iub":
        raise InputError(
            f"labels are {found.dtype} of shape {found.shape}; give whole numbers (H, W) or "
            "(B, H, W)"
        )
    each = [np.unique(one, return_inverse=True)[1].reshape(one.shape) for one in found]
    return torch.from_numpy(np.stack(each).astype(np.int64))


def labels_of_masks(masks: Any) -> Int64[Tensor, "B H W"]:
    """One number for each pixel: that of the smallest mask it lies in, and 0 outside of all.

    Raises:
        InputError: There are no masks, or they are none.
    """
    several = list(masks)
    first = several[0] if several else None
    if isinstance(first, Mapping) or (several and _array(first).ndim == 2):
        several = [several]
    painted = [_painted(one) for one in several]
    sizes = {one.shape for one in painted}
    if len(sizes) != 1:
        shown = " and ".join(f"{h}x{w}" for h, w in sorted(sizes))
        raise InputError(
            f"masks of one size are needed, one list an image; got {shown}"
            if sizes
            else "there are no masks; give those of at least one image"
        )
    return numbered_labels(np.stack(painted))


def _painted(masks: Any) -> Int64[np.ndarray, "H W"]:
    """The masks of one image over each other, the largest first."""
    found = [_array(one["segmentation"] if isinstance(one, Mapping) else one) for one in masks]
    if not found:
        raise InputError("an image has no masks; give at least one")
    for one in found:
        if one.ndim != 2 or one.shape != found[0].shape or 0 in one.shape:
            raise InputError(
                f"a mask has the shape {one.shape}; give (H, W), the same for all of an image"
            )
        if one.dtype.kind != "b" and not set(np.unique(one).tolist()) <= {0, 1}:
            raise InputError(
                f"a mask holds {one.dtype} values other than 0 and 1; give true and false"
            )
    labels = np.zeros(found[0].shape, np.int64)
    for place in sorted(range(len(found)), key=lambda at: -int(found[at].sum())):
        labels[found[place].astype(bool)] = place + 1
    return labels


def _array(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)

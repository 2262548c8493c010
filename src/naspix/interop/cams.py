"""pytorch-grad-cam and torchcam: their maps pooled over superpixels, in one line.

pytorch-grad-cam returns one array ``(B, H, W)``, torchcam a list of tensors, one a layer, on the
layers' grids. Neither library is needed here: the maps are given.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from naspix.errors import InputError
from naspix.segmentation import Segmentation
from naspix.superpixelify import superpixelify


def pool_cam(
    cam: np.ndarray | Tensor | Sequence[Tensor], segmentation: Segmentation
) -> Float[Tensor, "B H W"]:
    """Pool class activation maps over superpixels.

    Ask torchcam for ``normalized=False``: maps scaled image by image have lost their magnitudes.

    Args:
        cam: ``(B, h, w)``, or one such map a layer, which are averaged. On a coarser grid than the
            segmentation they are scaled up bilinearly first.
        segmentation: Of the same images.

    Raises:
        InputError: If there are no maps, or not one for each image.

    Example:
        >>> seg = Segmentation(torch.tensor([[[0, 0, 1, 1]]]))
        >>> pool_cam(np.array([[[0.0, 1.0, 2.0, 4.0]]], dtype=np.float32), seg)
        tensor([[[0.5000, 0.5000, 3.0000, 3.0000]]])
    """
    layers = [cam] if isinstance(cam, np.ndarray | Tensor) else list(cam)
    if not layers:
        raise InputError("there are no class activation maps to pool")
    maps = [_scaled(torch.as_tensor(layer), segmentation) for layer in layers]
    return superpixelify(torch.stack(maps).mean(0), segmentation.superpixels)


def _scaled(cam: Tensor, segmentation: Segmentation) -> Float[Tensor, "B H W"]:
    if cam.ndim != 3 or len(cam) != len(segmentation):
        raise InputError(
            f"class activation maps are (B, h, w) for {len(segmentation)} images, not "
            f"{tuple(cam.shape)}"
        )
    cam = cam.detach().to(segmentation.device, torch.float32)
    if tuple(cam.shape[1:]) == segmentation.size:
        return cam
    return functional.interpolate(cam[:, None], segmentation.size, mode="bilinear")[:, 0]

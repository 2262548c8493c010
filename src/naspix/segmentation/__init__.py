"""Segmenters: images ``(B, C, H, W)`` in [0, 1] to ``Segmentation``, NAS and what it is compared with."""

from naspix.segmentation.segmentation import Segmentation

__all__ = ["Segmentation"]

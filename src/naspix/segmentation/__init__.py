"""Segmenters: images ``(B, C, H, W)`` in [0, 1] to ``Segmentation``; NAS and its baselines."""

from naspix.segmentation.segmentation import Segmentation

__all__ = ["Segmentation"]

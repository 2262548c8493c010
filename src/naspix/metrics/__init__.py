"""How good an explanation is, and how far explanations agree; tensors and callables, no model."""

from naspix.metrics.agreement import (
    SegmentationAgreement,
    saliency_agreement,
    segmentation_agreement,
)

__all__ = [
    "SegmentationAgreement",
    "saliency_agreement",
    "segmentation_agreement",
]

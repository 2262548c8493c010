"""Saliency methods: ``(images (B, C, H, W), target) -> saliency (B, H, W)``, higher matters more.

Each is a frozen dataclass made with a ``Classifier`` and then called; any function of that shape
is a method too. Nothing here segments or pools.
"""

from naspix.saliency.backprop import (
    GuidedBackprop,
    InputXGradient,
    SmoothGrad,
    VanillaGradient,
)
from naspix.saliency.cam import GradCAM, GradCAMPlusPlus
from naspix.saliency.gradients import IntegratedAttributions, IntegratedGradients
from naspix.saliency.lrp import LRP, PropagatedRelevance
from naspix.saliency.method import ReduceChannels, SaliencyMethod, reduce_channels

__all__ = [
    "LRP",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "InputXGradient",
    "IntegratedAttributions",
    "IntegratedGradients",
    "PropagatedRelevance",
    "ReduceChannels",
    "SaliencyMethod",
    "SmoothGrad",
    "VanillaGradient",
    "reduce_channels",
]

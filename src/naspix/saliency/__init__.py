"""Saliency methods: ``(images (B, C, H, W), target) -> saliency (B, H, W)``, higher matters more.

Each is a frozen dataclass made with a ``Classifier`` and then called; any function of that shape
is a method too. Nothing here segments or pools.
"""

from naspix.saliency.base import ReduceChannels, SaliencyMethod, reduce_channels
from naspix.saliency.cam import GradCAM, GradCAMPlusPlus
from naspix.saliency.gradients import (
    GuidedBackprop,
    InputXGradient,
    SmoothGrad,
    VanillaGradient,
)
from naspix.saliency.growing import GrownRegions, grow_regions
from naspix.saliency.integrated import IntegratedAttributions, IntegratedGradients
from naspix.saliency.lrp import LRP, PropagatedRelevance
from naspix.saliency.occlusion import Occlusion
from naspix.saliency.regression import LIME, KernelSHAP
from naspix.saliency.relax import RELAX, RELAXEstimate
from naspix.saliency.rise import RISE, RISEEstimate
from naspix.saliency.rollout import AttentionRollout
from naspix.saliency.shapley import Shapley, ShapleyValues
from naspix.saliency.swag import SWAG
from naspix.saliency.xrai import XRAI, XRAIRegions

__all__ = [
    "LIME",
    "LRP",
    "RELAX",
    "RISE",
    "SWAG",
    "XRAI",
    "AttentionRollout",
    "GradCAM",
    "GradCAMPlusPlus",
    "GrownRegions",
    "GuidedBackprop",
    "InputXGradient",
    "IntegratedAttributions",
    "IntegratedGradients",
    "KernelSHAP",
    "Occlusion",
    "PropagatedRelevance",
    "RELAXEstimate",
    "RISEEstimate",
    "ReduceChannels",
    "SaliencyMethod",
    "Shapley",
    "ShapleyValues",
    "SmoothGrad",
    "VanillaGradient",
    "XRAIRegions",
    "grow_regions",
    "reduce_channels",
]

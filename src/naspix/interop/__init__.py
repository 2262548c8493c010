"""naspix inside the libraries people already use, one file a library.

captum, lime, shap, Quantus, CLIP, the authors' ``saliency`` (XRAI),
pytorch-grad-cam and torchcam. Each file says what its library wants and gives it: regions, a model,
or a method. Images stay ``(B, C, H, W)`` in [0, 1] on this side. No library is imported before
something of it is called.
"""

from naspix.interop import cams, captum, lime, pair_saliency, quantus, shap
from naspix.interop.clip import wrap_clip

__all__ = [
    "cams",
    "captum",
    "lime",
    "pair_saliency",
    "quantus",
    "shap",
    "wrap_clip",
]

"""The front door: which superpixels of these photos speak for the class, in one call.

Images (B, C, H, W) -> predictions, segmentations, saliency maps, and the maps pooled over the
superpixels (the paper's superpixelification), for any number of methods and segmenters at once.
"""

from naspix.explain.explanation import Explanation
from naspix.explain.front_door import Method, Segmenter, explain

__all__ = ["Explanation", "Method", "Segmenter", "explain"]

"""Segmenters: images ``(B, C, H, W)`` in [0, 1] to ``Segmentation``; NAS and its baselines."""

from naspix.segmentation.atlas import Atlas, AtlasEntry, AtlasMaker, Example
from naspix.segmentation.baselines import (
    SLIC,
    Felzenszwalb,
    Grid,
    NormalizedCut,
    Quickshift,
    Watershed,
)
from naspix.segmentation.classwise import ClassClustering, ClassClusters
from naspix.segmentation.consensus import Consensus, consensus
from naspix.segmentation.matching import Match
from naspix.segmentation.nas import NAS, ArraySegmenter
from naspix.segmentation.segmentation import Segmentation

__all__ = [
    "NAS",
    "SLIC",
    "ArraySegmenter",
    "Atlas",
    "AtlasEntry",
    "AtlasMaker",
    "ClassClustering",
    "ClassClusters",
    "Consensus",
    "Example",
    "Felzenszwalb",
    "Grid",
    "Match",
    "NormalizedCut",
    "Quickshift",
    "Segmentation",
    "Watershed",
    "consensus",
]

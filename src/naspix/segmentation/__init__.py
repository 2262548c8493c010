"""Segmenters: images ``(B, C, H, W)`` in [0, 1] to ``Segmentation``; NAS and its baselines."""

from naspix.segmentation.atlas import Atlas, AtlasEntry, AtlasMaker, Example
from naspix.segmentation.baselines import (
    SLIC,
    Felzenszwalb,
    Grid,
    Quickshift,
    Watershed,
)
from naspix.segmentation.classwise import ClassClustering, ClassClusters
from naspix.segmentation.consensus import Consensus, consensus
from naspix.segmentation.matching import Match
from naspix.segmentation.nas import NAS
from naspix.segmentation.normalized_cut import NormalizedCut
from naspix.segmentation.segmentation import Segmentation

__all__ = [
    "NAS",
    "SLIC",
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

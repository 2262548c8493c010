"""Numerics on tensors: upsampled features, k-means, Ward, components; no model and no image."""

from naspix.clustering.components import superpixels_from_clusters
from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.kmeans import kmeans
from naspix.clustering.ordering import canonical_order
from naspix.clustering.ward import WardTree, ward

__all__ = [
    "UpsampledFeatures",
    "WardTree",
    "canonical_order",
    "kmeans",
    "superpixels_from_clusters",
    "ward",
]

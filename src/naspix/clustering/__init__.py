"""Numerics on tensors: upsampled features, k-means, Ward, components; no model and no image."""

from naspix.clustering.components import superpixels_from_clusters
from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.kmeans import kmeans
from naspix.clustering.neighbours import nearest_labels
from naspix.clustering.ordering import canonical_order
from naspix.clustering.sampling import StratifiedSample
from naspix.clustering.ward import WardTree, ward, ward_of_points

__all__ = [
    "StratifiedSample",
    "UpsampledFeatures",
    "WardTree",
    "canonical_order",
    "kmeans",
    "nearest_labels",
    "superpixels_from_clusters",
    "ward",
    "ward_of_points",
]

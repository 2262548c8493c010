"""How good an explanation is, how far explanations agree, and whether differences are real.

Tensors and callables in, numbers out: no model class is known here. What stands on torchmetrics,
which takes seconds to import, is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from naspix.metrics.agreement import (
    SegmentationAgreement,
    saliency_agreement,
    segmentation_agreement,
)
from naspix.metrics.audit import Suspect, clever_hans_audit, outside_shares
from naspix.metrics.boxes import scale_boxes
from naspix.metrics.control import random_segmentation
from naspix.metrics.curves import MeanCurve, PerturbationCurves
from naspix.metrics.deciding import DecidingSets, RegionSet, deciding_sets
from naspix.metrics.hiding import Blurred, Inpainted
from naspix.metrics.maximum import BestOrder, greedy_lerf, optimal_lerf
from naspix.metrics.overlaps import Overlaps, overlaps
from naspix.metrics.per_cluster import ClusterSaliency, cluster_saliency
from naspix.metrics.perturbation import RelevanceGain, deletion, insertion, lerf, morf, srg
from naspix.metrics.pointing import energy_inside, pointing_game
from naspix.metrics.semantics import SaliencyByCluster, SaliencyRow, saliency_by_cluster
from naspix.metrics.significance import Comparison, Contender, compare

if TYPE_CHECKING:
    from naspix.metrics.localization import LocalizationCurve, MaxBoxAcc, MaxBoxAccV2, PxAP

_LOCALIZATION = ("LocalizationCurve", "MaxBoxAcc", "MaxBoxAccV2", "PxAP")

__all__ = [
    "BestOrder",
    "Blurred",
    "ClusterSaliency",
    "Comparison",
    "Contender",
    "DecidingSets",
    "Inpainted",
    "LocalizationCurve",
    "MaxBoxAcc",
    "MaxBoxAccV2",
    "MeanCurve",
    "Overlaps",
    "PerturbationCurves",
    "PxAP",
    "RegionSet",
    "RelevanceGain",
    "SaliencyByCluster",
    "SaliencyRow",
    "SegmentationAgreement",
    "Suspect",
    "clever_hans_audit",
    "cluster_saliency",
    "compare",
    "deciding_sets",
    "deletion",
    "energy_inside",
    "greedy_lerf",
    "insertion",
    "lerf",
    "morf",
    "optimal_lerf",
    "outside_shares",
    "overlaps",
    "pointing_game",
    "random_segmentation",
    "saliency_agreement",
    "saliency_by_cluster",
    "scale_boxes",
    "segmentation_agreement",
    "srg",
]


def __getattr__(name: str) -> object:
    if name in _LOCALIZATION:
        return getattr(import_module("naspix.metrics.localization"), name)
    raise AttributeError(f"module 'naspix.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Layer-wise relevance propagation: the method, its rules, and how a network is followed."""

from naspix.saliency.lrp.method import LRP, PropagatedRelevance

__all__ = ["LRP", "PropagatedRelevance"]

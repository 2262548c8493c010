"""Explanations of a whole data set, judged: LeRF, localisation, saliency by meaning."""

from naspix.evaluation.running import evaluate
from naspix.evaluation.settings import EvaluationSettings

__all__ = ["EvaluationSettings", "evaluate"]

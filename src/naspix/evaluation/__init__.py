"""Explanations of a whole data set, judged: LeRF, localisation, saliency by meaning."""

from naspix.evaluation.results import Results
from naspix.evaluation.running import evaluate, render_evaluation
from naspix.evaluation.settings import EvaluationSettings

__all__ = ["EvaluationSettings", "Results", "evaluate", "render_evaluation"]

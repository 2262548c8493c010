"""Fine-tuning: a named network learns the classes of a data set (extra ``train``)."""

from naspix.training.finetuning import Finetuning
from naspix.training.run_folder import Result
from naspix.training.splits import Splits, View, open_splits

__all__ = ["Finetuning", "Result", "Splits", "View", "open_splits"]

"""Fine-tuning: a named network learns the classes of a data set (extra ``train``)."""

from naspix.training.finetuning import finetune
from naspix.training.run_folder import Result
from naspix.training.settings import Finetuning
from naspix.training.splits import Splits, View, open_splits

__all__ = ["Finetuning", "Result", "Splits", "View", "finetune", "open_splits"]

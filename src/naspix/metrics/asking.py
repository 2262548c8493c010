"""A model asked about partly hidden images: any callable from images to logits, in shared batches.

Images (B, C, H, W) and masks of what is hidden in, the class's score of each out, in float64 on the
CPU. The first question, about the images as they are, also says which classes are predicted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from naspix.errors import InputError, ModelError
from naspix.metrics.hiding import Baseline, Hider, hider_of
from naspix.models import Classifier
from naspix.models.batches import batch_size_on, in_batches
from naspix.models.finite import why_not_finite
from naspix.models.scores import ScoreMeaning, probabilities_of
from naspix.targets import Number, Target, asks_number, name_of, one_each, pick_scores, resolve

Model = Callable[[Tensor], Tensor]
Score = Literal["logit", "probability"]


@dataclass(frozen=True, eq=False)
class Asking:
    """A model asked about partly hidden images: the class's score of each.

    Attributes:
        model: Images to logits.
        hide: Hides parts of the images.
        target: ``(B,)``, on the CPU: whose score it is; ``(B, 2)`` for contrasts.
        whole: ``(B, n_classes)``, the scores of all classes with nothing hidden.
        score: What a score is.
        batch_size: How many images at once.
    """

    model: Model
    hide: Hider
    target: Int64[Tensor, "B ..."]
    whole: Float[Tensor, "B n_classes"]
    score: Score
    batch_size: int

    @classmethod
    def begin(
        cls,
        model: Model,
        images: Float[Tensor, "B C H W"],
        target: Target,
        baseline: Baseline | None,
        score: Score,
        batch_size: int | None,
    ) -> "Asking":
        """Ask about the images as they are, which also says what is predicted.

        Raises:
            InputError: classes, baseline or score that do not fit.
            ModelError: a model that returns no finite logits.
        """
        if score not in get_args(Score):
            raise InputError(f"score is one of {', '.join(get_args(Score))}, not {score!r}")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is at least 1, not {batch_size}")
        if asks_number(target):
            model, target = _number_of(model, target), 0
        device = getattr(model, "device", images.device)
        at_once = batch_size_on(device, batch_size)

        def ask(part: slice) -> Tensor:
            return _outputs(model, images[part], score)

        outputs = torch.cat(list(in_batches(ask, len(images), at_once)))
        classes = resolve(
            target,
            len(outputs),
            outputs.argmax(1),
            outputs.shape[1],
            getattr(model, "categories", None),
            getattr(model, "name", "the model"),
        ).cpu()
        return cls(model, hider_of(model, images, baseline), classes, outputs, score, at_once)

    @property
    def unhidden(self) -> Float[Tensor, " B"]:
        """The score with nothing hidden."""
        return pick_scores(self.whole, self.target)

    def __call__(
        self, index: Int64[Tensor, " n"], hidden: Callable[[slice], Bool[Tensor, "k H W"]]
    ) -> Float[Tensor, " n"]:
        """Scores of image ``index[i]`` with mask i hidden, where ``hidden`` makes some masks."""
        return pick_scores(self.outputs(index, hidden), self.target[index])

    def outputs(
        self, index: Int64[Tensor, " n"], hidden: Callable[[slice], Bool[Tensor, "k H W"]]
    ) -> Float[Tensor, "n n_classes"]:
        """The same of all classes."""

        def ask(part: slice) -> Tensor:
            points = self.hide(index[part].to(self.hide.images.device), hidden(part))
            return _outputs(self.model, points, self.score)

        return torch.cat(list(in_batches(ask, len(index), self.batch_size)))


def _number_of(model: Model, number: Number) -> Model:
    """The model with one score an image: what a callable makes of its output."""
    if isinstance(model, Classifier):
        return model.asking(number)

    def ask(images: Tensor) -> Tensor:
        return one_each(number, model(images), len(images))[:, None]

    ask.scores = ScoreMeaning("none", f"{name_of(number)}, as asked")  # type: ignore[attr-defined]
    return ask


@torch.no_grad()
def _outputs(
    model: Model, images: Float[Tensor, "n C H W"], score: Score
) -> Float[Tensor, "n n_classes"]:
    """Logits or probabilities, in float64 on the CPU."""
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        what = (
            f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        )
        raise ModelError(
            f"the model returns no logits (B, n_classes) for {len(images)} images but {what}; "
            "wrap it with naspix.wrap_model, or in a function that does"
        )
    logits = logits.cpu().double()
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"the model's logits are not finite (NaN or infinite); {why_not_finite(model)}"
        )
    return probabilities_of(model, logits) if score == "probability" else logits

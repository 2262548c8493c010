"""LeRF of an evaluation's maps (the paper, section 4, figure 6 and table 2): curves as records.

A raw map is hidden pixel by pixel in equal steps, a pooled one superpixel by superpixel. Asked for,
the other order (MoRF) and the greedy maximum of each segmenter are recorded as well.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal, final

from torch import Tensor

from naspix.errors import InputError
from naspix.evaluation.evaluator import Row, number, rows_of
from naspix.evaluation.explaining import ExplainedBatch
from naspix.metrics import PerturbationCurves, greedy_lerf, lerf, srg
from naspix.models import Classifier

if TYPE_CHECKING:
    import pyarrow as pa

GREEDY = "greedy"  # the "method" that knows the best order


@final
@dataclass(frozen=True)
class LeRF:
    """How well the score of the class survives when the least relevant is hidden first.

    Attributes:
        steps: Of raw maps; pooled ones take a step a superpixel.
        both: Also hide the most relevant first (MoRF); their difference is SRG. Twice the time.
        greedy: Also find the greedy order of each segmenter's superpixels, the paper's "AUC Max.":
            n (n + 1) / 2 forwards for n superpixels.
        baseline: What hidden pixels show.
        score: Of the class, before or after the softmax.
        seed: Of ties.
        batch_size: Partly hidden images that pass the network at once: few on a CPU, many on a GPU
            by default.
    """

    _: KW_ONLY
    steps: int = 100
    both: bool = False
    greedy: bool = False
    baseline: Literal["mean", "black", "blurred", "inpainted"] = "mean"
    score: Literal["logit", "probability"] = "logit"
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"lerf.{name} is at least 1, not {value}")

    @property
    def needs_boxes(self) -> bool:
        """No picture is left out for lack of boxes."""
        return False

    @property
    def columns(self) -> "Sequence[pa.Field]":
        """The area (missing where the curve has none) and the curve, scaled from 1 to 0."""
        import pyarrow as pa

        return [
            pa.field("auc", pa.float64()),
            pa.field("auc_morf", pa.float64()),
            pa.field("fraction", pa.list_(pa.float32()), nullable=False),
            pa.field("score", pa.list_(pa.float32()), nullable=False),
        ]

    def level_names(self, model: Classifier) -> tuple[str, ...]:
        """It wants no activations."""
        return ()

    def __call__(self, model: Classifier, batch: ExplainedBatch) -> list[Row]:
        """A row an image, method and segmenter; ``"greedy"`` stands as a method."""
        rows: list[Row] = []
        for method, segmenter, heat, superpixels in batch.maps():
            curves, morf_auc = self._curves(model, batch, heat, superpixels)
            rows += self._rows(batch, method, segmenter, superpixels, curves, morf_auc)
        if self.greedy:
            for segmenter, superpixels in batch.superpixels.items():
                best = greedy_lerf(
                    model,
                    batch.images,
                    superpixels,
                    batch.target,
                    baseline=self.baseline,
                    score=self.score,
                    batch_size=self.batch_size,
                )
                rows += self._rows(batch, GREEDY, segmenter, superpixels, best.curves, None)
        return rows

    def _curves(
        self, model: Classifier, batch: ExplainedBatch, heat: Tensor, superpixels: Tensor | None
    ) -> tuple[PerturbationCurves, Tensor | None]:
        found = (srg if self.both else lerf)(
            model,
            batch.images,
            heat,
            batch.target,
            superpixels=superpixels,
            steps=self.steps,
            baseline=self.baseline,
            score=self.score,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        if isinstance(found, PerturbationCurves):
            return found, None
        return found.lerf, found.morf.auc

    def _rows(
        self,
        batch: ExplainedBatch,
        method: str,
        segmenter: str,
        superpixels: Tensor | None,
        curves: PerturbationCurves,
        morf_auc: Tensor | None,
    ) -> list[Row]:
        values = []
        for place in range(len(batch.pictures)):
            n_steps = self.steps if superpixels is None else len(superpixels[place].unique())
            values.append(
                {
                    "auc": number(curves.auc[place]),
                    "auc_morf": None if morf_auc is None else number(morf_auc[place]),
                    "fraction": curves.fraction[place, : n_steps + 1].tolist(),
                    "score": curves.score[place, : n_steps + 1].tolist(),
                }
            )
        return rows_of(batch, method, segmenter, superpixels, values)

"""Weakly supervised localisation of an evaluation's maps (tables 3 and 4): overlaps as records.

For each map the best IoU of its boxes with a true one, at every cut of the 8-bit map that changes
something: all that MaxBoxAccV2 needs, for any threshold and any IoU, and little, since a pooled map
has no more cuts than superpixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from naspix.evaluation.evaluator import Row, number, rows_of
from naspix.evaluation.explaining import ExplainedBatch
from naspix.metrics import energy_inside, overlaps, pointing_game
from naspix.models import Classifier

if TYPE_CHECKING:
    import pyarrow as pa


@final
@dataclass(frozen=True)
class WSOL:
    """How well maps find the boxes of objects, to the letter of wsolevaluation."""

    @property
    def needs_boxes(self) -> bool:
        """A picture without a box is left out."""
        return True

    @property
    def columns(self) -> "Sequence[pa.Field]":
        """Cuts and overlaps, the map's highest 8-bit value, and two scores without thresholds."""
        import pyarrow as pa

        return [
            pa.field("top", pa.uint8(), nullable=False),
            pa.field("cut", pa.list_(pa.uint8()), nullable=False),
            pa.field("iou", pa.list_(pa.float64()), nullable=False),
            pa.field("pointing", pa.float64()),
            pa.field("energy", pa.float64()),
            pa.field("n_boxes", pa.int32(), nullable=False),
        ]

    def level_names(self, model: Classifier) -> tuple[str, ...]:
        """It wants no activations."""
        return ()

    def __call__(self, model: Classifier, batch: ExplainedBatch) -> list[Row]:
        """A row an image, method and segmenter."""
        boxes = [picture.boxes for picture in batch.pictures]
        rows: list[Row] = []
        for method, segmenter, heat, superpixels in batch.maps(blank=True):
            found = overlaps(heat, boxes)
            pointing, energy = pointing_game(heat, boxes), energy_inside(heat, boxes)

            values = [
                {
                    "top": found[place].top,
                    "cut": found[place].cut.tolist(),
                    "iou": found[place].iou.tolist(),
                    "pointing": number(pointing[place]),
                    "energy": number(energy[place]),
                    "n_boxes": len(boxes[place]),
                }
                for place in range(len(boxes))
            ]
            rows += rows_of(batch, method, segmenter, superpixels, values)
        return rows

"""Table 4: weakly supervised localisation by VGG16, ResNet18 and ResNet50."""

from dataclasses import dataclass
from typing import final

from naspix.experiments.continuing import OpenRun
from naspix.experiments.engine import Engine
from naspix.experiments.evaluation.curves import curves_figure
from naspix.experiments.paper.experiment import (
    Conditions,
    Drawing,
    Progress,
    Table,
    Verdict,
    subruns,
)
from naspix.experiments.paper.judging import raised_for_every_method, scores_below, sentences_on
from naspix.experiments.paper.localisation import find_boxes, localisation_tables
from naspix.experiments.paper.networks import TITLES
from naspix.experiments.paper.published import published
from naspix.experiments.store import Run


@final
@dataclass(frozen=True)
class Table4:
    """MaxBoxAccV2 by three networks.

    Attributes:
        networks: The paper's.
        n_pictures: How many, if no limit is given; None for all.
    """

    networks: tuple[str, ...] = ("vgg16", "resnet18", "resnet50")
    n_pictures: int | None = None

    title = "Table 4: localisation by three networks"
    words = (
        "Maps are cut at a threshold and give boxes; an object is found if a box overlaps the true "
        "one by at least 30, 50 or 70 % (MaxBoxAccV2). Pooling over NAS makes a map's parts end "
        "where the object ends."
    )

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Put boxes around what each map finds."""
        find_boxes(
            opened, conditions, self.networks, self.n_pictures, engine=engine, progress=progress
        )

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """The paper's form, and everything with its interval."""
        return localisation_tables(run)

    def figures(self, run: Run) -> list[Drawing]:
        """What is found over the threshold, a panel a method."""
        drawings = []
        for name, each in subruns(run).items():
            figure = curves_figure(each)
            assert figure is not None
            words = (
                f"{TITLES.get(name, name)}: share of objects found over the threshold; whole lines "
                "at IoU 30, dashed at 50, dotted at 70."
            )
            drawings.append(Drawing(f"table4_{name}", self.title, figure, words))
        return drawings

    def verdicts(self, run: Run) -> list[Verdict]:
        """Whether NAS raises IoU 70 for every method."""
        claims = published(run.kind).claims
        holds, why = raised_for_every_method(scores_below(run), "iou_70")
        return [claims["raises_iou_70"].verdict(holds, why)]

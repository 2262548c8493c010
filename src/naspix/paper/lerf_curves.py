"""What table 2 and figure 6 share: the question, LeRF of five methods raw, over SLIC, over NAS."""

from naspix.paper.experiment import Conditions, Progress
from naspix.paper.judging import SPARE, Question, found_source, judge
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine

NETWORKS = ("resnet18",)
N_PICTURES = 200
_QUICK_PICTURES = 4
QUESTION = Question(
    "lerf",
    parameters={"lerf": {"greedy": True}, "nas": {"n_clusters": 5}},
    quick={"lerf": {"steps": 20}, "nas": {"n_clusters": 3}},
)


def compute_curves(
    opened: OpenRun,
    conditions: Conditions,
    n_pictures: int,
    *,
    engine: Engine,
    progress: Progress,
) -> None:
    """Hide the least relevant first in each picture, by each method.

    Args:
        opened: The experiment's run.
        conditions: What is asked.
        n_pictures: How many, if no limit is given and it need not be quick.
        engine: Who computes.
        progress: Told how many pictures are done more, and how many there are.
    """
    spare = opened.run.folder.parent / SPARE
    judge(
        opened,
        conditions,
        QUESTION,
        NETWORKS,
        found_source(opened, conditions.at_hand.photos(spare)),
        n_pictures=_QUICK_PICTURES if conditions.quick else n_pictures,
        engine=engine,
        progress=progress,
    )

"""Explanations judged as the paper's tables 1 to 4 do: an evaluation for each network, below a run.

What those tables and figures 4 to 6 share: which methods, how cheap when it has to be quick, where
the records lie, and what may be said of so many pictures. The numbers themselves are those of
`naspix.evaluation`. What another experiment in the same folder has computed is taken
over: figure 6 shows the curves of table 2.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from naspix.datasets import Dataset
from naspix.evaluation.explaining import RAW
from naspix.evaluation.parameters import settable
from naspix.evaluation.running import evaluate
from naspix.evaluation.scores import Score, scores_of
from naspix.evaluation.settings import EvaluationSettings, Task, fingerprint
from naspix.evaluation.tables import title_of
from naspix.files import written
from naspix.models.loading import is_saved
from naspix.paper.at_hand import Source
from naspix.paper.experiment import Conditions, Progress, subfolder, subruns
from naspix.paper.networks import TITLES, find_networks, sentence_on
from naspix.paper.published import published
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import HEADER, Run, read_run

METHODS = ("grad_cam_plus_plus", "integrated_gradients", "lrp", "rise", "xrai")
POOLED = (RAW, "slic", "nas")
FEWEST = 20  # pictures of which anything may be said
SPARE = "photos"  # scikit-image's, beside the experiments' folders

Parameters = Mapping[str, Mapping[str, Any]]

_QUICK: Parameters = {
    "integrated_gradients": {"n_steps": 8, "tolerance": 1.0},
    "rise": {"n_masks": 48},
    "xrai": {"n_steps": 4},
}


@dataclass(frozen=True)
class Question:
    """What is asked of each network.

    Attributes:
        task: What is measured.
        parameters: Of methods, segmenters and the task.
        quick: The same, where it has to be quick.
        segmenters: Maps are pooled over them.
        methods: Whose maps.
    """

    task: Task
    parameters: Parameters = field(default_factory=dict)
    quick: Parameters = field(default_factory=dict)
    segmenters: tuple[str, ...] = POOLED
    methods: tuple[str, ...] = METHODS

    def settings(
        self, source: Source, network: str, weights: str, conditions: Conditions, limit: int | None
    ) -> EvaluationSettings:
        """The evaluation of one network."""
        asked = EvaluationSettings(
            task=self.task,
            dataset=source.dataset,
            root=source.root,
            model=weights if is_saved(weights) else network,
            weights="default" if is_saved(weights) else weights,
            device=conditions.device,
            methods=self.methods,
            segmenters=self.segmenters,
            limit=limit,
            batch_size=4,
        )
        owners = asked.owners()
        chosen: dict[str, dict[str, Any]] = {
            name: {"seed": conditions.seed}
            for name, owner in owners.items()
            if "seed" in settable(owner)
        }
        given = [{source.dataset: source.parameters}, self.parameters]
        given += [_QUICK, self.quick] if conditions.quick else []
        for several in given:
            for name, values in several.items():
                if name in owners and values:
                    chosen.setdefault(name, {}).update(values)
        return replace(asked, parameters=chosen)


def judge(
    opened: OpenRun,
    conditions: Conditions,
    question: Question,
    networks: Sequence[str],
    source: Source,
    *,
    n_pictures: int | None,
    engine: Engine,
    progress: Progress,
) -> None:
    """Evaluate each network whose weights are at hand, or go on where that was interrupted.

    Args:
        opened: The experiment's run; the evaluations lie below it.
        conditions: What is asked; its limit goes before ``n_pictures``.
        question: What is measured.
        networks: The paper's.
        source: The pictures, as found when the run began.
        n_pictures: How many; None for all.
        engine: Who computes.
        progress: Told how many pictures are done more, and how many there are, over all networks.
    """
    found = opened.find(
        "networks", lambda: find_networks(networks, conditions, source.open().categories)
    )
    limit = conditions.limit or n_pictures
    n_all = len(found["weights"])
    for network, weights in found["weights"].items():
        settings = question.settings(source, network, weights, conditions, limit)
        folder = subfolder(opened, network)
        _take_over(settings, opened.run.folder, folder)
        evaluate(
            settings,
            folder,
            engine=engine,
            progress=lambda n_more, n_items: progress(n_more, n_all * n_items),
            examples=False,
        )


def found_source(opened: OpenRun, source: Source) -> Source:
    """The pictures that the run began with."""
    return Source.from_plain(opened.find("source", source.to_plain))


def sentences_on(run: Run) -> list[str]:
    """What pictures and networks a run of `judge` was made with, for its page."""
    found = run.header["found"]
    below = list(subruns(run).values())
    n = max(each.n_items - len(each.failures) for each in below)
    failed = sum(len(each.failures) for each in below)
    sentences = [Source.from_plain(found["source"]).counted(n)]
    if failed:
        reasons = dict.fromkeys(f.reason for each in below for f in each.failures)
        sentences.append(f"Left out: {'; '.join(list(reasons)[:5])}.")
    sentences.append(sentence_on(found["networks"]))
    if run.settings.get("quick"):
        sentences.append(
            "Quick, an impression only: Integrated Gradients in 8 steps, RISE with 48 masks, XRAI "
            "in 4 steps a baseline."
        )
    if not has_numbers(run):
        number = published(run.kind).number
        sentences.append(f"The paper's own numbers of {number} are not at hand.")
    return sentences


def has_numbers(run: Run) -> bool:
    """Whether any of the paper's numbers of this table is at hand."""
    return any(value is not None for row in _cells(run).values() for value in row.values())


def scores_below(run: Run) -> dict[str, list[Score]]:
    """Network's title -> its scores."""
    return {TITLES.get(name, name): scores_of(each) for name, each in subruns(run).items()}


def raised_for_every_method(
    scores: Mapping[str, Sequence[Score]], figure: str, segmenter: str = "nas"
) -> tuple[bool | None, str]:
    """Whether pooling raises a figure for every method of every network, by its intervals.

    Each difference has a 95 % interval over pictures, paired. It holds where all of them lie above
    zero, fails where one lies below, and cannot be told otherwise, nor on a handful of pictures.

    Args:
        scores: Network -> its scores.
        figure: Such as ``"iou_70"``.
        segmenter: What maps are pooled over.

    Returns:
        Whether it holds, and the numbers.
    """
    differences = [
        (network, score)
        for network, several in scores.items()
        for score in several
        if (score.figure, score.segmenter) == (figure, segmenter) and score.difference is not None
    ]
    if not differences:
        return None, "No map was pooled."
    fewest = min(score.n_pictures for _, score in differences)
    rose = [each for each in differences if (each[1].difference_low or 0) > 0]
    fell = [each for each in differences if (each[1].difference_high or 0) < 0]
    several = len(scores) > 1
    n_rose = sum((score.difference or 0) > 0 for _, score in differences)
    words = (
        f"By the mean {n_rose} of {len(differences)} rose. Surely (95 % interval over pictures) "
        f"rose: {_listed(rose, several)}; fell: {_listed(fell, several)}."
    )
    if fewest < FEWEST:
        return None, f"{fewest} pictures are too few to tell ({FEWEST} at least). {words}"
    if fell:
        return False, words
    if len(rose) == len(differences):
        return True, words
    return None, f"It cannot be told with {fewest} pictures. {words}"


def _listed(differences: Sequence[tuple[str, Score]], several: bool) -> str:
    names = [
        f"{title_of(score.method)}{f' on {network}' if several else ''} "
        f"({100 * (score.difference or 0):+.1f})"
        for network, score in differences
    ]
    return ", ".join(names) if names else "none"


def _cells(run: Run) -> Mapping[str, Mapping[str, float | None]]:
    return published(run.kind).cells


def _take_over(settings: EvaluationSettings, own: Path, folder: Path) -> None:
    """Copy the finished records of the same evaluation by another experiment, if there are any."""
    if (folder / HEADER).exists():
        return
    dataset: Dataset = settings.make_dataset()
    wanted = json.loads(json.dumps({**settings.to_plain(), "data": fingerprint(dataset)}))
    for other in sorted(own.parent.glob(f"*/{folder.parent.name}/{folder.name}/{HEADER}")):
        run = read_run(other.parent)
        if run.kind == settings.task and run.settings == wanted and run.n_items:
            with written(folder):
                shutil.copytree(other.parent, folder, ignore=shutil.ignore_patterns(".lock"))
            return

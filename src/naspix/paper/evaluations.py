"""Explanations judged as the paper's tables 1 to 4 do: an evaluation for each network, below a run.

What those tables and figures 4 to 6 share: which methods, how cheap when it has to be quick, where
the records lie, and what may be said of so many pictures. The numbers themselves are those of
`naspix.evaluation`. What another experiment in the same folder has computed is taken over: figure 6
shows the curves of table 2.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from naspix.evaluation.running import evaluate_run
from naspix.evaluation.scores import Score, scores_of
from naspix.evaluation.settings import EvaluationSettings, Task, fingerprint
from naspix.evaluation.tables import FIGURES, asked_instead, setting_title, title_of
from naspix.files import written
from naspix.models.saved import is_saved
from naspix.paper.data import TITLES, Conditions, Source
from naspix.paper.experiment import Experiment, Work, sentences_on, subruns
from naspix.paper.published import Table, Value, published
from naspix.pipeline import RAW
from naspix.runs import Run, read_run
from naspix.runs.file import STORE
from naspix.settings import settable

METHODS = ("integrated_gradients", "lrp", "grad_cam_plus_plus", "rise", "xrai")
MAPS = {RAW: "raw", "slic": "SLIC", "nas": "NAS"}  # as the paper's tables have it

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
    segmenters: tuple[str, ...] = (RAW, "slic", "nas")
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
            classes=conditions.classes if self.task == "wsol" else {},
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


@dataclass(frozen=True)
class Evaluated(Experiment):
    """An evaluation of each network whose weights are at hand.

    Attributes:
        n_pictures: How many, if no limit is given and it need not be quick; None for all.
        question: What is measured.
        pictures: Which of the pictures at hand.
        n_quick: How many pictures, if no limit is given and it has to be quick.
        networks: The paper's.
        papers_data: Name of the paper's data set.
    """

    n_pictures: int | None = None

    question: ClassVar[Question]
    pictures: ClassVar[Literal["photos", "labelled", "boxed"]] = "photos"
    n_quick: ClassVar[int] = 4
    networks: ClassVar[tuple[str, ...]] = ("resnet18",)
    papers_data: ClassVar[str] = "stl10"

    @final
    def compute(self, work: Work) -> None:
        """Evaluate each network, or go on where that was interrupted."""
        conditions = work.conditions
        source = work.source(getattr(conditions.at_hand, self.pictures))
        limit = conditions.limit or (self.n_quick if conditions.quick else self.n_pictures)
        weights_of = work.networks(self.networks, source)["weights"]
        for network, weights in weights_of.items():
            asked = self.question.settings(source, network, weights, conditions, limit)
            settings = self.prepared(asked, work, source, network, weights)
            folder = work.subfolder(network)
            _take_over(settings, work.opened.run.folder, folder)
            evaluate_run(
                settings,
                folder,
                engine=work.engine,
                progress=lambda n_more, n: work.progress(n_more, len(weights_of) * n),
                render=False,
            )

    def prepared(
        self, asked: EvaluationSettings, work: Work, source: Source, network: str, weights: str
    ) -> EvaluationSettings:
        """The evaluation of one network; what it needs beforehand is put into its folder."""
        return asked

    @final
    def sentences(self, run: Run) -> list[str]:
        """What pictures and networks a run was made with, and how little of everything."""
        pictures, networks = sentences_on(run)
        reasons = dict.fromkeys(f.reason for each in subruns(run).values() for f in each.failures)
        sentences = [pictures]
        if reasons:
            sentences.append(f"Left out: {'; '.join(list(reasons)[:5])}.")
        sentences.append(networks)
        sentences += dict.fromkeys(filter(None, map(asked_instead, subruns(run).values())))
        if run.settings.get("quick"):
            sentences.append(
                "Quick, an impression only: Integrated Gradients in 8 steps, RISE with 48 masks, "
                "XRAI in 4 steps a baseline."
            )
        return sentences

    @final
    def beside(self, run: Run, figures: Sequence[str]) -> list[Table]:
        """Our scores beside the paper's, where network and data are the paper's; else nothing.

        Args:
            run: What this left.
            figures: Which figures.
        """
        if run.header["found"]["source"]["dataset"] != self.papers_data:
            return []
        paper = published(run.kind)
        ours: dict[tuple[tuple[str, ...], str], float] = {}
        for name, each in subruns(run).items():
            for score in scores_of(each) if name in self.networks else []:
                if score.figure not in figures:
                    continue
                keys = [title_of(score.method), MAPS.get(score.segmenter, score.segmenter)]
                if paper.n_keys > len(keys):
                    keys.insert(0, title_of_network(name))
                value = score.difference
                if (
                    value is None or score.figure == "auc"
                ):  # which table 2 prints of pooled maps too
                    value = score.value
                ours[tuple(keys), FIGURES[score.figure]] = 100 * value
        table = paper.beside(ours)
        return [table] if table.rows else []


def title_of_network(name: str) -> str:
    """How people call the network of a run below an experiment's."""
    return TITLES.get(name, name)


def scores_below(run: Run) -> dict[str, list[Score]]:
    """Network's title -> its scores."""
    return {title_of_network(name): scores_of(each) for name, each in subruns(run).items()}


def interval_table(
    scores: Mapping[str, Sequence[Score]], figures: Sequence[str], words: str
) -> Table:
    """Every score and difference with its interval, in percent.

    Args:
        scores: Network's title -> its scores.
        figures: Which of them.
        words: What has to be known to read it.
    """
    rows: list[list[Value]] = []
    for network, several in scores.items():
        for s in several:
            if s.figure in figures:
                values = (s.value, s.low, s.high, s.difference, s.difference_low, s.difference_high)
                rows.append(
                    [network, setting_title(s.method, s.segmenter), FIGURES[s.figure],
                     *(None if value is None else 100 * value for value in values),
                     s.n_superpixels, s.n_pictures, s.n_left_out]
                )  # fmt: skip
    columns = (
        *("network", "map", "figure", "value", "from", "to", "difference", "from ", "to "),
        *("superpixels", "pictures", "left out"),
    )
    return Table("intervals", "With intervals", columns, rows, words)


def _take_over(settings: EvaluationSettings, own: Path, folder: Path) -> None:
    """Copy the finished records of the same evaluation by another experiment, if there are any."""
    if (folder / STORE).exists():
        return
    plain = {**settings.to_plain(), "data": fingerprint(settings.make_dataset())}
    wanted = json.loads(json.dumps(plain))
    for other in sorted(own.parent.glob(f"*/{folder.parent.name}/{folder.name}/{STORE}")):
        run = read_run(other.parent)
        if run.kind == settings.task and run.settings == wanted and run.n_items:
            with written(folder):
                shutil.copytree(other.parent, folder, ignore=shutil.ignore_patterns(".lock"))
            return

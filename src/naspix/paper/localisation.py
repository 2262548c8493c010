"""Tables 3 and 4: MaxBoxAccV2 of five methods raw, over SLIC and over NAS (K = 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import numpy as np

from naspix.evaluation.curves import curves_figure
from naspix.evaluation.scores import Score
from naspix.evaluation.tables import FIGURES, tables_of, title_of
from naspix.paper.evaluations import (
    Evaluated,
    Question,
    interval_table,
    scores_below,
    title_of_network,
)
from naspix.paper.experiment import Drawing, Shown, subruns
from naspix.paper.published import Interval, Table, Told, Value, published, told_by_intervals
from naspix.runs import Run

_MOST_RAISED = "grad_cam_plus_plus"
_SHOWN = ("mean", "iou_30", "iou_50", "iou_70")  # in the paper's order


Scores = Mapping[str, Sequence[Score]]  # network -> its scores


def nas_raises(scores: Scores, figure: str) -> Told:
    """Whether pooling over NAS raises a figure for every method of every network."""
    words = f"{FIGURES[figure]} over NAS less that of the map as it is."
    return told_by_intervals(_differences(scores, figure, "nas"), _fewest(scores), words)


def slic_raises_three(scores: Scores) -> Told:
    """Whether SLIC raises MaxBoxAccV2 for those methods for which table 3 has it raised, only."""
    parts = {}
    for name, part in _differences(scores, "mean", "slic").items():
        printed = published("table3").value((name.partition(" on ")[0], "SLIC"), FIGURES["mean"])
        raised = printed is not None and printed > 0
        parts[f"{name} ({'raised' if raised else 'not raised'})"] = (
            part if raised else Interval(-part.value, -part.high, -part.low, is_asked=False)
        )
    words = "MaxBoxAccV2 over SLIC less that of the map as it is, negative where it is to fall."
    return told_by_intervals(parts, _fewest(scores), words)


def most_for_grad_cam(scores: Scores) -> Told:
    """Whether NAS adds more to IoU 70 for Grad-CAM++ than for every other method."""
    parts = {}
    for network, several in scores.items():
        gains = _differences({network: several}, "iou_70", "nas")
        first = gains.pop(title_of(_MOST_RAISED), None)
        if first is None:
            continue
        for name, part in gains.items():
            label = f"{name} on {network}" if len(scores) > 1 else name
            low, high = first.low - part.high, first.high - part.low
            parts[label] = Interval(first.value - part.value, low, high)
    words = (
        "What NAS adds to IoU 70 for Grad-CAM++ less what it adds for the others; intervals from "
        "the ends of both, which are wider than need be."
    )
    return told_by_intervals(parts, _fewest(scores), words)


def nas_lowers_iou_30(scores: Scores) -> Told:
    """Whether NAS lowers IoU 30 in the mean over the methods, of each network."""
    parts = {}
    for network, several in scores.items():
        found = list(_differences({network: several}, "iou_30", "nas").values())
        if found:
            ends = np.array([(each.value, each.low, each.high) for each in found])
            value, low, high = (float(x) for x in ends.mean(0))
            parts[network] = Interval(-value, -high, -low)
    words = (
        "IoU 30 of maps as they are less that over NAS, mean over methods; intervals from the mean "
        "of their ends, which are wider than need be."
    )
    return told_by_intervals(parts, _fewest(scores), words)


def slic_inconsistent(scores: Scores) -> Told:
    """Whether SLIC does not raise IoU 70 for all methods: surely lowers it for one at least."""
    parts = _differences(scores, "iou_70", "slic")
    lowest = min(parts, key=lambda name: parts[name].value, default="")
    words = "IoU 70 of the map as it is less that over SLIC, of the method that it helps least."
    chosen = {}
    if parts:
        part = parts[lowest]
        chosen[lowest] = Interval(-part.value, -part.high, -part.low)
    return told_by_intervals(chosen, _fewest(scores), words)


def _differences(scores: Scores, figure: str, segmenter: str) -> dict[str, Interval]:
    """What pooling adds for each method of each network, with its interval."""
    return {
        f"{title_of(score.method)} on {network}"
        if len(scores) > 1
        else title_of(score.method): Interval(
            score.difference or 0.0, score.difference_low or 0.0, score.difference_high or 0.0
        )
        for network, several in scores.items()
        for score in several
        if (score.figure, score.segmenter) == (figure, segmenter) and score.difference is not None
    }


def _fewest(scores: Scores) -> int:
    """Pictures of the network that has fewest."""
    return min((score.n_pictures for several in scores.values() for score in several), default=0)


@dataclass(frozen=True)
class LocalisationTable(Evaluated):
    """MaxBoxAccV2 by some networks."""

    words = (
        "Maps are cut at a threshold and give boxes; an object is found if a box overlaps the true "
        "one by at least 30, 50 or 70 % (MaxBoxAccV2). Pooling over NAS makes a map's parts end "
        "where the object ends."
    )
    question = Question(
        "wsol", parameters={"nas": {"n_clusters": 10}}, quick={"nas": {"n_clusters": 5}}
    )
    pictures = "boxed"
    papers_data = "cub"
    claims: ClassVar = {
        "raises_mean": partial(nas_raises, figure="mean"),
        "slic_raises_three": slic_raises_three,
        "raises_iou_70": partial(nas_raises, figure="iou_70"),
        "most_for_grad_cam": most_for_grad_cam,
        "lowers_iou_30": nas_lowers_iou_30,
        "slic_inconsistent": slic_inconsistent,
    }

    def show(self, run: Run) -> Shown:
        """The paper's form, everything with its interval, beside the paper's numbers.

        Drawn is what is found over the threshold, a panel a method; tested are the claims of
        section 4.3.3 and appendix D.
        """
        scores = scores_below(run)
        words = (
            "In %. 95 % intervals over pictures, paired for differences; each resample its own "
            "threshold."
        )
        tables = [_papers_form(run), interval_table(scores, _SHOWN, words)]
        tables += self.beside(run, _SHOWN)
        drawings = []
        for name, each in subruns(run).items():
            figure = curves_figure(each)
            assert figure is not None
            words = (
                f"{title_of_network(name)}: share of objects found over the threshold; dots mark "
                "the best threshold."
            )
            drawings.append(Drawing(f"{run.kind}_{name}", self.title, figure, words))
        return Shown(self.sentences(run), tables, drawings, self.verdicts(run, scores))


@final
@dataclass(frozen=True)
class Table3(LocalisationTable):
    """MaxBoxAccV2 by ResNet18."""

    title = "Table 3: localisation, ResNet18"


@final
@dataclass(frozen=True)
class Table4(LocalisationTable):
    """MaxBoxAccV2 by three networks."""

    title = "Table 4: localisation by three networks"
    items = "pictures for all networks"
    networks = ("vgg16", "resnet18", "resnet50")


def _papers_form(run: Run) -> Table:
    """A row a network, method and segmenter: absolute for raw maps, differences for pooled ones."""
    rows: list[list[Value]] = []
    marked: set[tuple[int, int]] = set()
    for network, each in subruns(run).items():
        by_figure = {table.figure: table for table in tables_of(each)}
        several = [by_figure[figure] for figure in _SHOWN]
        for down, (method, *_) in enumerate(several[0].rows):
            for across, segmenter in enumerate(several[0].columns[1:], start=1):
                cells = [table.rows[down][across] for table in several]
                marked |= {(len(rows), 3 + place) for place, c in enumerate(cells) if c.clear}
                texts = (cell.text for cell in cells)
                kind = segmenter.removeprefix("+")
                rows.append([title_of_network(network), method.text, kind, *texts])
    columns = ("network", "method", "map", *(FIGURES[figure] for figure in _SHOWN))
    words = (
        "In %: the map as it is, and what pooling adds to it. Bold: differences whose 95 % "
        "interval over pictures leaves out zero."
    )
    return Table("localisation", "Objects found", columns, rows, words, frozenset(marked))

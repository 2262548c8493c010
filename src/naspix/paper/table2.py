"""Table 2: the area under the LeRF curve of five methods, raw, over SLIC, over NAS, and its maxima.

Beside each mean: how many superpixels, the interval over pictures, and by Wilcoxon's test corrected
by Holm what cannot be told from the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from naspix.evaluation.explaining import RAW
from naspix.evaluation.lerf import GREEDY
from naspix.evaluation.scores import Score, picture_scores
from naspix.evaluation.tables import setting_title, title_of
from naspix.metrics import compare
from naspix.metrics.significance import holm
from naspix.paper.experiment import (
    Conditions,
    Drawing,
    Progress,
    Table,
    Value,
    Verdict,
    subruns,
)
from naspix.paper.judging import (
    FEWEST,
    has_numbers,
    scores_below,
    sentences_on,
)
from naspix.paper.lerf_curves import N_PICTURES, compute_curves
from naspix.paper.networks import TITLES
from naspix.paper.published import beside_the_papers, published
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run

if TYPE_CHECKING:
    from pandas import DataFrame

_LEVEL = 0.05
_COLUMN = "AUC-LeRF"


@final
@dataclass(frozen=True)
class Table2:
    """AUC-LeRF of five methods.

    Attributes:
        n_pictures: How many, if no limit is given.
    """

    n_pictures: int = N_PICTURES

    title = "Table 2: area under the LeRF curve"
    items = "pictures"
    words = (
        "The least relevant parts of a picture are hidden first, pixels for a map as it is, whole "
        "superpixels for a pooled one; the larger the area under the score of the class, the "
        "better the map knows what is irrelevant. The greedy maximum always hides the "
        "superpixel that leaves the highest score."
    )

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Hide the least relevant first in each picture, by each method."""
        compute_curves(opened, conditions, self.n_pictures, engine=engine, progress=progress)

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """The paper's form, everything with its interval, and the tests behind the bold print."""
        tables = []
        for network, scores in scores_below(run).items():
            areas = [score for score in scores if score.figure == "auc"]
            tables += [_papers_form(network, areas), _intervals(network, areas)]
        for name, each in subruns(run).items():
            tables += _tests(name, each)
        if has_numbers(run):
            ours = {
                (setting_title(score.method, score.segmenter), _COLUMN): score.value
                for scores in scores_below(run).values()
                for score in scores
                if score.figure == "auc"
            }
            tables.append(beside_the_papers(run.kind, "paper", "Beside the paper's", ours))
        return tables

    def figures(self, run: Run) -> list[Drawing]:
        """None: figure 6 has the curves."""
        return []

    def verdicts(self, run: Run) -> list[Verdict]:
        """Whether the area is inconsistent: whether pooling turns the order of methods round."""
        claim = published(run.kind).claims["inconsistent"]
        (first, *_) = subruns(run).values()
        return [claim.verdict(*turned_round(first))]


def turned_round(run: Run) -> tuple[bool | None, str]:
    """Whether two methods change places by pooling over NAS, and by a test on both sides.

    Args:
        run: Of LeRF.

    Returns:
        True where some pair surely does, False where all pairs surely keep their order, None
        where that cannot be told; and the numbers.
    """
    kept = _areas(run, ["segmenter", "method"])
    n = len(kept)
    if not n:
        return None, "No picture has a curve in all settings."
    methods = list(kept[RAW])
    pairs = [(a, b) for i, a in enumerate(methods) for b in methods[i + 1 :]]
    p: list[float] = []
    means: list[float] = []
    for segmenter in (RAW, "nas"):
        for a, b in pairs:
            areas = {name: kept[segmenter, name].to_numpy(copy=True) for name in (a, b)}
            p.append(min(contender.p for contender in compare(areas).contenders))
            means.append(float((areas[a] - areas[b]).mean()))
    sure = holm(np.array(p)).reshape(2, -1) < _LEVEL
    signs = np.sign(means).reshape(2, -1)
    both = sure.all(0)
    turned = [pairs[i] for i in np.flatnonzero(both & (signs[0] != signs[1]))]
    swapped = int((signs[0] != signs[1]).sum())
    words = (
        f"Of {len(pairs)} pairs of methods {swapped} change places in the mean when pooled over "
        f"NAS; by Wilcoxon's test on both sides, corrected by Holm, "
        + (", ".join(f"{title_of(a)} and {title_of(b)}" for a, b in turned) or "none")
        + " surely."
    )
    if n < FEWEST:
        return None, f"{n} pictures are too few to tell ({FEWEST} at least). {words}"
    if turned:
        return True, words
    return (False, words) if both.all() else (None, f"It cannot be told. {words}")


def _papers_form(network: str, scores: Sequence[Score]) -> Table:
    """A row a method: the raw map's area, and what pooling adds; maxima as they are."""
    by_setting = {(score.method, score.segmenter): score for score in scores}
    segmenters = list(dict.fromkeys(s.segmenter for s in scores))
    methods = list(dict.fromkeys(s.method for s in scores))
    rows: list[tuple[Value, ...]] = []
    marked: set[tuple[int, int]] = set()
    for down, method in enumerate(methods):
        cells: list[Value] = [title_of(method)]
        for across, segmenter in enumerate(segmenters, start=1):
            score = by_setting.get((method, segmenter))
            if score is None:
                cells.append(None)
                continue
            value, sign = (score.value, "") if score.difference is None else (score.difference, "+")
            cells.append(f"{value:{sign}.3f}")
            if score.as_good_as_best and method != GREEDY:
                marked.add((down, across))
        rows.append(tuple(cells))
    columns = ["method"] + [
        "as it is" if name == RAW else f"+ {title_of(name)}" for name in segmenters
    ]
    words = (
        "The area of the map as it is, and what pooling adds to it; of the greedy maximum the "
        "area. Bold: the best of all fifteen, or not told from it (Wilcoxon, Holm, 5 %)."
    )
    name = f"areas_{_file_name(network)}"
    title = f"AUC-LeRF, {network}"
    return Table(name, title, tuple(columns), tuple(rows), words, frozenset(marked))


def _intervals(network: str, scores: Sequence[Score]) -> Table:
    rows: list[tuple[Value, ...]] = [
        (setting_title(s.method, s.segmenter), s.value, s.low, s.high, s.difference,
         s.difference_low, s.difference_high, s.n_superpixels, s.n_pictures, s.n_left_out)
        for s in scores
    ]  # fmt: skip
    columns = (
        "map", "area", "from", "to", "difference", "from ", "to ", "superpixels", "pictures",
        "left out",
    )  # fmt: skip
    words = (
        "95 % intervals over pictures, paired for differences. Left out: pictures whose score is "
        "the same whole and hidden, so that they have no curve."
    )
    title = f"With intervals, {network}"
    return Table(f"intervals_{_file_name(network)}", title, columns, tuple(rows), words)


def _tests(network: str, run: Run) -> list[Table]:
    """What stands behind the bold print; nothing where no picture has a curve in all settings."""
    wide = _areas(run, ["method", "segmenter"])
    if not len(wide):
        return []
    found = compare({setting_title(*each): wide[each].to_numpy(copy=True) for each in wide})
    rows: list[tuple[Value, ...]] = [
        (each.name, each.mean, each.difference, each.p_holm, each.rank_biserial, each.cohens_d)
        for each in sorted(found.contenders, key=lambda each: -each.mean)
    ]
    columns = (
        "map",
        "mean area",
        "beside the best",
        "p (Holm)",
        "rank-biserial",
        "Cohen's d",
    )
    words = f"Each beside the best, {found.best}, on {found.n_images} pictures."
    name = f"tests_{_file_name(network)}"
    title = f"What cannot be told from the best, {TITLES.get(network, network)}"
    return [Table(name, title, columns, tuple(rows), words)]


def _areas(run: Run, columns: Sequence[str]) -> "DataFrame":
    """A row a picture that has a curve in all settings, a column a setting."""
    scores = picture_scores(run)
    return scores.pivot(index="index", columns=list(columns), values="score").dropna()


def _file_name(network: str) -> str:
    return network.lower().replace("-", "_")

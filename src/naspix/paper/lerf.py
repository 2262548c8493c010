"""Table 2 and figure 6: LeRF of five methods raw, over SLIC, over NAS, and the greedy maximum.

Beside each mean area: how many superpixels, the interval over pictures, and by Wilcoxon's test
corrected by Holm what cannot be told from the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from naspix.evaluation.curves import POINTS, Lines, mean_curves
from naspix.evaluation.measures import GREEDY
from naspix.evaluation.scores import picture_scores
from naspix.evaluation.tables import setting_title, tables_of, title_of
from naspix.metrics import compare
from naspix.metrics.significance import holm
from naspix.paper.evaluations import (
    FEWEST,
    Evaluated,
    Question,
    interval_table,
    scores_below,
    title_of_network,
)
from naspix.paper.experiment import Drawing, Shown, Table, Value, subruns
from naspix.paper.published import published
from naspix.pipeline import RAW
from naspix.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_LEVEL = 0.05
_COLUMN = "AUC-LeRF"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_PANELS = (RAW, "slic", "nas")
_EVERY = 10  # of the curves' 101 points, in the table


@dataclass(frozen=True)
class LeRFCurves(Evaluated):
    """The least relevant hidden first in each picture, by each method."""

    n_pictures: int | None = 200

    question = Question(
        "lerf",
        parameters={"lerf": {"greedy": True}, "nas": {"n_clusters": 5}},
        quick={"lerf": {"steps": 20}, "nas": {"n_clusters": 3}},
    )


@final
@dataclass(frozen=True)
class Table2(LeRFCurves):
    """AUC-LeRF of five methods."""

    title = "Table 2: area under the LeRF curve"
    words = (
        "The least relevant parts of a picture are hidden first, pixels for a map as it is, whole "
        "superpixels for a pooled one; the larger the area under the score of the class, the "
        "better the map knows what is irrelevant. The greedy maximum always hides the "
        "superpixel that leaves the highest score."
    )

    def show(self, run: Run) -> Shown:
        """The paper's form, everything with its interval, and the tests behind the bold print.

        Figure 6 has the curves. Tested is whether pooling turns the order of methods round.
        """
        below, scores = subruns(run), scores_below(run)
        words = (
            "95 % intervals over pictures, paired for differences. Left out: pictures whose score "
            "is the same whole and hidden, so that they have no curve."
        )
        tables = [_papers_form(network, each) for network, each in below.items()]
        tables.append(interval_table(scores, ["auc"], factor=1, words=words))
        tables += [table for network, each in below.items() for table in _tests(network, each)]
        paper = published(run.kind)
        if paper.has_numbers:
            ours = {
                (setting_title(score.method, score.segmenter), _COLUMN): score.value
                for several in scores.values()
                for score in several
                if score.figure == "auc"
            }
            tables.append(paper.beside("paper", "Beside the paper's", ours))
        turned = paper.claims["inconsistent"].verdict(*turned_round(next(iter(below.values()))))
        return Shown(self.sentences(run), tables, verdicts=[turned])


@final
@dataclass(frozen=True)
class Figure6(LeRFCurves):
    """Mean LeRF curves, or what table 2 found."""

    title = "Figure 6: mean LeRF curves"
    words = (
        "The score of the class over the hidden share of the picture, scaled from 1 to 0, mean "
        "over pictures: maps as they are, pooled over SLIC, and pooled over NAS, with the greedy "
        "maximum of those superpixels."
    )

    def show(self, run: Run) -> Shown:
        """The curves, a panel for the maps as they are and one a segmenter; and as numbers.

        Table 2 has the claims.
        """
        tables, drawings = [], []
        for network, each in subruns(run).items():
            lines = mean_curves(each)
            tables.append(_curve_table(network, lines))
            words = f"{title_of_network(network)}. The greedy maximum is dashed."
            figure = _curve_figure(lines)
            drawings.append(Drawing(f"figure6_{network}", self.title, figure, words))
        return Shown(self.sentences(run), tables, drawings)


def _papers_form(network: str, run: Run) -> Table:
    """A row a method: the raw map's area, and what pooling adds; maxima as they are."""
    (areas,) = (table for table in tables_of(run) if table.figure == "auc")
    marked = frozenset(
        (down, across)
        for down, cells in enumerate(areas.rows)
        for across, cell in enumerate(cells)
        if cell.marked
    )
    words = (
        "The area of the map as it is, and what pooling adds to it; of the greedy maximum the "
        "area. Bold: the best of all fifteen, or not told from it (Wilcoxon, Holm, 5 %)."
    )
    rows = [[cell.text for cell in cells] for cells in areas.rows]
    title = f"AUC-LeRF, {title_of_network(network)}"
    return Table(f"areas_{network}", title, areas.columns, rows, words, marked)


def _tests(network: str, run: Run) -> list[Table]:
    """What stands behind the bold print; nothing where no picture has a curve in all settings."""
    wide = _areas(run, ["method", "segmenter"])
    if not len(wide):
        return []
    found = compare({setting_title(*each): wide[each].to_numpy(copy=True) for each in wide})
    rows: list[list[Value]] = [
        [each.name, each.mean, each.difference, each.p_holm, each.rank_biserial, each.cohens_d]
        for each in sorted(found.contenders, key=lambda each: -each.mean)
    ]
    columns = ("map", "mean area", "beside the best", "p (Holm)", "rank-biserial", "Cohen's d")
    words = f"Each beside the best, {found.best}, on {found.n_images} pictures."
    title = f"What cannot be told from the best, {title_of_network(network)}"
    return [Table(f"tests_{network}", title, columns, rows, words)]


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


def _areas(run: Run, columns: Sequence[str]) -> "DataFrame":
    """A row a picture that has a curve in all settings, a column a setting."""
    scores = picture_scores(run)
    return scores.pivot(index="index", columns=list(columns), values="score").dropna()


def _curve_figure(lines: Lines) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 2.75), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharex=True, sharey=True)
    methods = [m for m in dict.fromkeys(method for method, _ in lines) if m != GREEDY]
    colours = dict(zip(methods, _COLOURS, strict=False))
    for segmenter, panel in zip(_PANELS, panels, strict=True):
        panel.axhline(0, color="#d0d4d8", lw=0.8, zorder=0)
        for method in (*methods, GREEDY):
            found = lines.get((method, segmenter))
            if found is None:
                continue
            style = {"color": colours.get(method, "#20262c"), "lw": 1.4}
            dashes = {"ls": "--"} if method == GREEDY else {}
            panel.plot(POINTS, found[0], label=title_of(method), **style, **dashes)
        panel.set_title(
            "as they are" if segmenter == RAW else f"over {title_of(segmenter)}", size=9
        )
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        panel.set_xlim(0, 1)
    panels[1].set_xlabel("hidden share of the picture, least relevant first", fontsize=9)
    panels[0].set_ylabel("score of the class", fontsize=9)
    handles, names = panels[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8,
                  frameon=False)  # fmt: skip
    return figure


def _curve_table(network: str, lines: Lines) -> Table:
    """The curves as numbers, at every tenth of the picture."""
    places = range(0, len(POINTS), _EVERY)
    rows: list[list[Value]] = [
        [title_of(method), "as it is" if segmenter == RAW else f"+ {title_of(segmenter)}",
         *(float(curve[0][place]) for place in places)]
        for (method, segmenter), curve in lines.items()
    ]  # fmt: skip
    columns = ("method", "pooled", *(f"{POINTS[place]:.0%}" for place in places))
    title = f"The curves as numbers, {title_of_network(network)}"
    words = "Score over the hidden share; each curve is the mean over pictures."
    return Table(f"curves_{network}", title, columns, rows, words)

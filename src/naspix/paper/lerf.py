"""Table 2 and figure 6: LeRF of five methods raw, over SLIC, over NAS, and the greedy maximum.

Beside each mean area: how many superpixels, the interval over pictures, and by Wilcoxon's test
corrected by Holm what cannot be told from the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from naspix.evaluation.curves import POINTS, Lines, mean_curves
from naspix.evaluation.measures import GREEDY
from naspix.evaluation.scores import by_setting
from naspix.evaluation.tables import setting_title, title_of
from naspix.metrics import compare
from naspix.paper.evaluations import (
    MAPS,
    Evaluated,
    Question,
    interval_table,
    scores_below,
    title_of_network,
)
from naspix.paper.experiment import Drawing, Shown, subruns
from naspix.paper.published import Gains, Table, Told, Value, told
from naspix.pipeline import RAW
from naspix.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_MARGIN = 0.1  # ten points, in which areas are alike and beyond which they stay below the maximum
_EXCEPTED = ("integrated_gradients", "rise")  # methods that the paper says pooling does not help
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_DASHES = {RAW: ":", "nas": "-", "slic": "--"}
_EVERY = 10  # of the curves' 101 points, in the table


def pooling_raises(run: Run) -> Told:
    """Whether pooling raises the area for every method but those that the paper excepts.

    Args:
        run: Of LeRF.

    Returns:
        True where it surely does for the others and surely for none of those, False where one goes
        surely the other way, None where that cannot be told; and the numbers.
    """
    kept = _areas(run)
    parts = {}
    for method, segmenter in kept:
        if segmenter != RAW and method != GREEDY:
            excepted = method in _EXCEPTED
            gains = kept[method, segmenter] - kept[method, RAW]
            name = setting_title(method, segmenter)
            parts[f"{name} (not raised)" if excepted else name] = Gains(
                -gains if excepted else gains, is_asked=not excepted
            )
    return told(parts, "The area over superpixels less that of the map as it is.")


def stays_below_maximum(run: Run) -> Told:
    """Whether pooled maps stay ten points or more below the greedy maximum on the same regions."""
    kept = _areas(run)
    parts = {
        setting_title(m, s): Gains(kept[GREEDY, s] - kept[m, s] - _MARGIN)
        for m, s in kept
        if s != RAW and m != GREEDY and (GREEDY, s) in kept
    }
    words = "The greedy maximum's area over the same superpixels less the map's, less 10 points."
    return told(parts, words)


def slic_and_nas_alike(run: Run) -> Told:
    """Whether the areas over SLIC and over NAS are within ten points in the mean, each method's."""
    kept = _areas(run)
    parts = {}
    for method, segmenter in kept:
        if segmenter == "nas" and method != GREEDY and (method, "slic") in kept:
            apart = kept[method, "nas"] - kept[method, "slic"]
            parts[f"{title_of(method)} above -10"] = Gains(_MARGIN + apart)
            parts[f"{title_of(method)} below 10"] = Gains(_MARGIN - apart)
    return told(parts, "The area over NAS less that over SLIC, and its distance to 10 points.")


def _areas(run: Run, *, greedy: bool = True) -> "DataFrame":
    """A row a picture that has a curve in all settings, a column a method and segmenter."""
    frame = run.records(["index", "method", "segmenter", "auc"])
    if not greedy:
        frame = frame[frame["method"] != GREEDY]
    return frame.pivot(index="index", columns=["method", "segmenter"], values="auc").dropna()


@dataclass(frozen=True)
class LeRFCurves(Evaluated):
    """The least relevant hidden first in each picture, by each method."""

    n_pictures: int | None = 1000  # 100 of each class of STL-10

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
    claims: ClassVar = {
        "raised": pooling_raises,
        "below": stays_below_maximum,
        "alike": slic_and_nas_alike,
    }

    def show(self, run: Run) -> Shown:
        """The paper's form, everything with its interval, and the tests behind the bold print.

        Figure 6 has the curves. Tested are the three claims of section 4.3.2.
        """
        below, scores = subruns(run), scores_below(run)
        words = (
            "In %. 95 % intervals over pictures, paired for differences. Left out: pictures whose "
            "score is the same whole and hidden, so that they have no curve."
        )
        tables = [_papers_form(network, each) for network, each in below.items()]
        tables.append(interval_table(scores, ["auc"], words))
        tables += [table for network, each in below.items() for table in _tests(network, each)]
        tables += self.beside(run, ["auc"])
        verdicts = self.verdicts(run, next(iter(below.values())))
        return Shown(self.sentences(run), tables, verdicts=verdicts)


@final
@dataclass(frozen=True)
class Figure6(LeRFCurves):
    """Mean LeRF curves, or what table 2 found.

    Attributes:
        drawn: Over whose superpixels curves are drawn; ``("nas", "slic")`` has both.
    """

    drawn: tuple[str, ...] = ("nas",)

    title = "Figure 6: mean LeRF curves"
    words = (
        "The score of the class over the hidden share of the picture, scaled from 1 to 0, mean "
        "over pictures: maps as they are, pooled over NAS, and the greedy maximum of its "
        "superpixels."
    )

    def show(self, run: Run) -> Shown:
        """The curves in one plot, and those over SLIC too as numbers.

        Table 2 has the claims.
        """
        tables, drawings = [], []
        for network, each in subruns(run).items():
            lines = mean_curves(each)
            tables.append(_curve_table(network, lines))
            words = (
                f"{title_of_network(network)}. Dotted: maps as they are. Plain: over NAS; black is "
                "the greedy maximum."
            )
            figure = _curve_figure(lines, self.drawn)
            drawings.append(Drawing(f"figure6_{network}", self.title, figure, words))
        return Shown(self.sentences(run), tables, drawings)


def _papers_form(network: str, run: Run) -> Table:
    """A row a method and map, as the paper prints them: mean and spread over pictures."""
    frame = run.records(["index", "method", "segmenter", "auc"])
    areas = {setting: group.set_index("index")["auc"] for setting, group in by_setting(frame)}
    rows: list[list[Value]] = []
    marked: set[tuple[int, int]] = set()
    for method in dict.fromkeys(name for name, _ in areas):
        several = {s: area.to_numpy(copy=True) for (m, s), area in areas.items() if m == method}
        some_in_all = np.isfinite(list(several.values())).all(0).any()
        is_compared = some_in_all and method != GREEDY and len(several) > 1
        best = compare(several).as_good_as_best if is_compared else ()
        for segmenter, area in several.items():
            if segmenter in best:
                marked.add((len(rows), 2))
            known = 100 * area[np.isfinite(area)]
            spread = float(known.std(ddof=1)) if len(known) > 1 else None
            mean = float(known.mean()) if len(known) else None
            rows.append([title_of(method), MAPS.get(segmenter, segmenter), mean, spread])
    words = (
        "In %: mean, and standard deviation over pictures; the class is the predicted one, its "
        "score the one before the softmax. Bold: the best of a method's three, and what does not "
        "differ from it significantly (Wilcoxon, Holm, 5 %)."
    )
    title = f"AUC-LeRF, {title_of_network(network)}"
    columns = ("method", "map", "AUC-LeRF", "±")
    return Table(f"areas_{network}", title, columns, rows, words, frozenset(marked))


def _tests(network: str, run: Run) -> list[Table]:
    """What stands behind the bold print; nothing where no picture has a curve in all settings."""
    wide = _areas(run, greedy=False)
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


def _curve_figure(lines: Lines, segmenters: Sequence[str]) -> "Figure":
    """One plot: maps as they are dotted, pooled ones plain, a colour a method."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(5.2, 3.9), layout="constrained")
    panel = figure.subplots()
    panel.axhline(0, color="#d0d4d8", lw=0.8, zorder=0)
    methods = [m for m in dict.fromkeys(method for method, _ in lines) if m != GREEDY]
    colours = {**dict(zip(methods, _COLOURS, strict=False)), GREEDY: "#20262c"}
    handles = [Line2D([], [], color=colours[m], lw=1.6, label=title_of(m)) for m in colours]
    for segmenter in (RAW, *segmenters):
        style = _DASHES[segmenter]
        for method, colour in colours.items():
            if (method, segmenter) in lines:
                curve = lines[method, segmenter][0]
                panel.plot(POINTS, curve, color=colour, ls=style, lw=1.4)
        name = "as it is" if segmenter == RAW else f"over {title_of(segmenter)}"
        handles.append(Line2D([], [], color="#6b7480", ls=style, lw=1.4, label=name))
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    panel.set_xlim(0, 1)
    panel.set_xlabel("hidden share of the picture, least relevant first", fontsize=9)
    panel.set_ylabel("score of the class", fontsize=9)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
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

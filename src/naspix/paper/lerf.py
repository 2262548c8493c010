"""Table 2 and figure 6: LeRF of five methods raw, over SLIC, over NAS, and the greedy maximum.

Beside each mean area: how many superpixels, the interval over pictures, and by Wilcoxon's test
corrected by Holm what cannot be told from the best.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from naspix.evaluation.curves import POINTS, Lines, mean_curves
from naspix.evaluation.measures import GREEDY
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
_MARGIN = 0.1  # ten points, in which areas are alike and beyond which they stay below the maximum
_EXCEPTED = ("integrated_gradients", "rise")  # methods that the paper says pooling does not help
_Pair = tuple[str, str]  # method and segmenter
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

        Figure 6 has the curves. Tested are the three claims of section 4.3.2.
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
        tables += self.beside(run, {"auc": ("AUC-LeRF", 100.0)})
        first = next(iter(below.values()))
        tests = {
            "raised": pooling_raises,
            "below": stays_below_maximum,
            "alike": slic_and_nas_alike,
        }
        verdicts = [paper.claims[name].verdict(*test(first)) for name, test in tests.items()]
        return Shown(self.sentences(run), tables, verdicts=verdicts)


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


def pooling_raises(run: Run) -> tuple[bool | None, str]:
    """Whether pooling raises the area for every method but those that the paper excepts.

    Args:
        run: Of LeRF.

    Returns:
        True where it surely does for the others and surely for none of those, False where one goes
        surely the other way, None where that cannot be told; and the numbers.
    """
    kept = _areas(run)
    pairs = [each for each in kept if each[1] != RAW and each[0] != GREEDY]
    gains = {each: (kept[each] - kept[each[0], RAW]).to_numpy(copy=True) for each in pairs}
    signs = _signs(gains)
    against = [p for p, sign in signs.items() if sign == (1 if p[0] in _EXCEPTED else -1)]
    open_ = [p for p, sign in signs.items() if sign == 0 and p[0] not in _EXCEPTED]
    return _told(
        kept,
        gains,
        against,
        open_,
        f"Surely raised: {_listed(signs, 1)}; surely lowered: {_listed(signs, -1)}.",
    )


def stays_below_maximum(run: Run) -> tuple[bool | None, str]:
    """Whether pooled maps stay ten points or more below the greedy maximum on the same regions."""
    kept = _areas(run)
    pairs = [p for p in kept if p[1] != RAW and p[0] != GREEDY and (GREEDY, p[1]) in kept]
    room = {p: (kept[GREEDY, p[1]] - kept[p]).to_numpy(copy=True) - _MARGIN for p in pairs}
    signs = _signs(room)
    against = [p for p, sign in signs.items() if sign < 0]
    open_ = [p for p, sign in signs.items() if sign == 0]
    least = min((100 * (_MARGIN + float(d.mean())) for d in room.values()), default=0.0)
    return _told(kept, room, against, open_, f"The least mean distance is {least:.1f} points.")


def slic_and_nas_alike(run: Run) -> tuple[bool | None, str]:
    """Whether the areas over SLIC and over NAS are within ten points in the mean, each method's."""
    kept = _areas(run)
    methods = [m for m, s in kept if s == "nas" and m != GREEDY and (m, "slic") in kept]
    apart = {(m, "nas"): (kept[m, "nas"] - kept[m, "slic"]).to_numpy(copy=True) for m in methods}
    over = _signs({p: d - _MARGIN for p, d in apart.items()})
    under = _signs({p: d + _MARGIN for p, d in apart.items()})
    against = [p for p in apart if over[p] > 0 or under[p] < 0]
    open_ = [p for p in apart if p not in against and not (over[p] < 0 and under[p] > 0)]
    listed = ", ".join(f"{title_of(m)} {100 * float(d.mean()):+.1f}" for (m, _), d in apart.items())
    return _told(kept, apart, against, open_, f"NAS less SLIC, in points: {listed or 'none'}.")


def _signs(differences: Mapping[_Pair, NDArray[np.float64]]) -> dict[_Pair, int]:
    """1 where differences over pictures are surely positive, -1 negative, 0 where not told.

    By Wilcoxon's test over pictures, corrected by Holm, at 5 %.
    """
    if not differences:
        return {}
    found = [compare({"a": d, "b": np.zeros_like(d)}).contenders for d in differences.values()]
    p = holm(np.array([min(each.p for each in several) for several in found]))
    signs = [int(np.sign(d.mean())) for d in differences.values()]
    return {
        pair: sign if sure < _LEVEL else 0
        for pair, sign, sure in zip(differences, signs, p, strict=True)
    }


def _told(
    kept: "DataFrame",
    differences: Mapping[_Pair, NDArray[np.float64]],
    against: Sequence[_Pair],
    undecided: Sequence[_Pair],
    words: str,
) -> tuple[bool | None, str]:
    """The verdict, with its test and, where it is open, about how many pictures would tell."""
    n = len(kept)
    if not n or not differences:
        return None, "No picture has a curve in all 0 settings." if not n else "0 maps were pooled."
    words = f"{words} {n} pictures, Wilcoxon's test, Holm, 5 %."
    if n < FEWEST:
        return None, f"{n} pictures are too few to tell ({FEWEST} at least). {words}"
    if against:
        return False, f"Against it: {_names(against)}. {words}"
    if not undecided:
        return True, words
    # as many as a test of 5 % needs to find a difference of this size four times in five
    sizes = [abs(float(differences[p].mean() / differences[p].std())) for p in undecided]
    needed = max(n + 1, *(round((2.8 / max(size, 1e-3)) ** 2) for size in sizes))
    return None, f"Open: {_names(undecided)}; about {needed} pictures would tell. {words}"


def _names(pairs: Iterable[_Pair]) -> str:
    return ", ".join(f"{title_of(m)} + {title_of(s)}" for m, s in pairs) or "none"


def _listed(signs: Mapping[_Pair, int], sign: int) -> str:
    return _names(pair for pair, found in signs.items() if found == sign)


def _areas(run: Run, *, greedy: bool = True) -> "DataFrame":
    """A row a picture that has a curve in all settings, a column a method and segmenter."""
    frame = run.records(["index", "method", "segmenter", "auc"])
    if not greedy:
        frame = frame[frame["method"] != GREEDY]
    return frame.pivot(index="index", columns=["method", "segmenter"], values="auc").dropna()


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

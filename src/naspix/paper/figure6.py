"""Figure 6: mean LeRF curves of five methods, as they are and pooled over NAS."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from naspix.evaluation.curves import POINTS, Lines, mean_curves
from naspix.evaluation.explaining import RAW
from naspix.evaluation.lerf import GREEDY
from naspix.evaluation.tables import title_of
from naspix.paper.experiment import (
    Conditions,
    Drawing,
    Progress,
    Table,
    Value,
    Verdict,
    subruns,
)
from naspix.paper.judging import sentences_on
from naspix.paper.lerf_curves import N_PICTURES, compute_curves
from naspix.paper.networks import TITLES
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_PANELS = (RAW, "slic", "nas")
_EVERY = 10  # of the curves' 101 points, in the table


@final
@dataclass(frozen=True)
class Figure6:
    """Mean LeRF curves.

    Attributes:
        n_pictures: How many, if no limit is given.
    """

    n_pictures: int = N_PICTURES

    title = "Figure 6: mean LeRF curves"
    items = "pictures"
    words = (
        "The score of the class over the hidden share of the picture, scaled from 1 to 0, mean "
        "over pictures: maps as they are, pooled over SLIC, and pooled over NAS, with the greedy "
        "maximum of those superpixels."
    )

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Hide the least relevant first in each picture, or take over what table 2 found."""
        compute_curves(opened, conditions, self.n_pictures, engine=engine, progress=progress)

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """The curves as numbers, at every tenth of the picture."""
        return [_table(name, mean_curves(each)) for name, each in subruns(run).items()]

    def figures(self, run: Run) -> list[Drawing]:
        """A panel for the maps as they are, and one a segmenter."""
        drawings = []
        for name, each in subruns(run).items():
            words = f"{TITLES.get(name, name)}. The greedy maximum is dashed."
            figure = _figure(mean_curves(each))
            drawings.append(Drawing(f"figure6_{name}", self.title, figure, words))
        return drawings

    def verdicts(self, run: Run) -> list[Verdict]:
        """Table 2 has them."""
        return []


def _figure(lines: Lines) -> "Figure":
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


def _table(network: str, lines: Lines) -> Table:
    places = range(0, len(POINTS), _EVERY)
    rows: list[tuple[Value, ...]] = [
        (title_of(method), "as it is" if segmenter == RAW else f"+ {title_of(segmenter)}",
         *(float(curve[0][place]) for place in places))
        for (method, segmenter), curve in lines.items()
    ]  # fmt: skip
    columns = ("method", "pooled", *(f"{POINTS[place]:.0%}" for place in places))
    title = f"The curves as numbers, {TITLES.get(network, network)}"
    words = "Score over the hidden share; each curve is the mean over pictures."
    return Table(f"curves_{network}", title, columns, tuple(rows), words)

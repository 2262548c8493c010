"""Tables 3 and 4: MaxBoxAccV2 of five methods raw, over SLIC and over NAS (K = 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

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
from naspix.paper.experiment import Drawing, Shown, Table, Value, subruns
from naspix.paper.published import published
from naspix.paper.verdicts import FEWEST
from naspix.runs import Run

_SHOWN = ("mean", "iou_30", "iou_50", "iou_70")  # in the paper's order


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

    def show(self, run: Run) -> Shown:
        """The paper's form, everything with its interval, beside the paper's numbers.

        Drawn is what is found over the threshold, a panel a method; tested whether NAS raises IoU
        70 for every method.
        """
        scores = scores_below(run)
        words = (
            "In %. 95 % intervals over pictures, paired for differences; each resample its own "
            "threshold."
        )
        tables = [_papers_form(run), interval_table(scores, _SHOWN, factor=100, words=words)]
        paper = published(run.kind)
        tables += self.beside(run, {figure: (FIGURES[figure], 100.0) for figure in _SHOWN})
        drawings = []
        for name, each in subruns(run).items():
            figure = curves_figure(each)
            assert figure is not None
            words = (
                f"{title_of_network(name)}: share of objects found over the threshold; dots mark "
                "the best threshold."
            )
            drawings.append(Drawing(f"{run.kind}_{name}", self.title, figure, words))
        raised = paper.claims["raises_iou_70"]
        verdict = raised.verdict(*raised_for_every_method(scores, "iou_70"))
        return Shown(self.sentences(run), tables, drawings, [verdict])


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
                rows.append([title_of_network(network), method.text, segmenter, *texts])
    columns = ("network", "method", "map", *(FIGURES[figure] for figure in _SHOWN))
    words = (
        "In %: the map as it is, and what pooling adds to it. Bold: differences whose 95 % "
        "interval over pictures leaves out zero."
    )
    return Table("localisation", "Objects found", columns, rows, words, frozenset(marked))


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

    def listed(some: Sequence[tuple[str, Score]]) -> str:
        names = (
            f"{title_of(score.method)}{f' on {network}' if len(scores) > 1 else ''} "
            f"({100 * (score.difference or 0):+.1f})"
            for network, score in some
        )
        return ", ".join(names) or "none"

    fewest = min(score.n_pictures for _, score in differences)
    rose = [each for each in differences if (each[1].difference_low or 0) > 0]
    fell = [each for each in differences if (each[1].difference_high or 0) < 0]
    n_rose = sum((score.difference or 0) > 0 for _, score in differences)
    words = (
        f"By the mean {n_rose} of {len(differences)} rose. Surely (95 % interval over pictures) "
        f"rose: {listed(rose)}; fell: {listed(fell)}."
    )
    if fewest < FEWEST:
        return None, f"{fewest} pictures are too few to tell ({FEWEST} at least). {words}"
    if fell:
        return False, words
    if len(rose) == len(differences):
        return True, words
    return None, f"It cannot be told with {fewest} pictures. {words}"

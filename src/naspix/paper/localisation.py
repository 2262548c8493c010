"""What tables 3 and 4 share: MaxBoxAccV2 of five methods raw, over SLIC and over NAS (K = 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from naspix.evaluation.curves import curves_figure
from naspix.evaluation.explaining import RAW
from naspix.evaluation.scores import Score
from naspix.evaluation.tables import FIGURES, setting_title, title_of
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
    SPARE,
    Question,
    found_source,
    has_numbers,
    judge,
    raised_for_every_method,
    scores_below,
    sentences_on,
)
from naspix.paper.networks import TITLES
from naspix.paper.published import beside_the_papers, published
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run

_QUICK_PICTURES = 4
_SHOWN = ("iou_30", "iou_50", "iou_70", "mean")
QUESTION = Question(
    "wsol", parameters={"nas": {"n_clusters": 10}}, quick={"nas": {"n_clusters": 5}}
)


@dataclass(frozen=True)
class LocalisationTable:
    """MaxBoxAccV2 by some networks.

    Attributes:
        networks: The paper's.
        n_pictures: How many, if no limit is given and it need not be quick; None for all.
    """

    networks: tuple[str, ...]
    n_pictures: int | None = None

    title: ClassVar[str]
    items: ClassVar[str]
    words: ClassVar[str] = (
        "Maps are cut at a threshold and give boxes; an object is found if a box overlaps the true "
        "one by at least 30, 50 or 70 % (MaxBoxAccV2). Pooling over NAS makes a map's parts end "
        "where the object ends."
    )

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Put boxes around what each map finds, and compare them with the true ones."""
        judge(
            opened,
            conditions,
            QUESTION,
            self.networks,
            found_source(opened, conditions.at_hand.boxed(opened.run.folder.parent / SPARE)),
            n_pictures=_QUICK_PICTURES if conditions.quick else self.n_pictures,
            engine=engine,
            progress=progress,
        )

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """The paper's form, everything with its interval, the paper's numbers where at hand."""
        return _tables(run)

    def figures(self, run: Run) -> list[Drawing]:
        """What is found over the threshold, a panel a method."""
        drawings = []
        for name, each in subruns(run).items():
            figure = curves_figure(each)
            assert figure is not None
            words = (
                f"{TITLES.get(name, name)}: share of objects found over the threshold; dots mark "
                "the best threshold."
            )
            drawings.append(Drawing(f"{run.kind}_{name}", self.title, figure, words))
        return drawings

    def verdicts(self, run: Run) -> list[Verdict]:
        """Whether NAS raises IoU 70 for every method."""
        claims = published(run.kind).claims
        holds, why = raised_for_every_method(scores_below(run), "iou_70")
        return [claims["raises_iou_70"].verdict(holds, why)]


def _tables(run: Run) -> list[Table]:
    below = scores_below(run)
    tables = [_papers_form(below), _intervals(below)]
    if has_numbers(run):
        ours: dict[tuple[str, str], float | None] = {}
        for network, scores in below.items():
            for score in scores:
                if score.figure in _SHOWN:
                    ours[_row(network, score, len(below) > 1), FIGURES[score.figure]] = _percent(
                        score.value if score.difference is None else score.difference
                    )
        tables.append(beside_the_papers(run.kind, "paper", "Beside the paper's", ours))
    return tables


def _papers_form(below: Mapping[str, Sequence[Score]]) -> Table:
    """A row a network, method and segmenter: absolute for raw maps, differences for pooled ones."""
    rows: list[tuple[Value, ...]] = []
    marked: set[tuple[int, int]] = set()
    for network, scores in below.items():
        cells = {(s.method, s.segmenter, s.figure): s for s in scores}
        for method, segmenter in dict.fromkeys((s.method, s.segmenter) for s in scores):
            row: list[Value] = [
                network,
                title_of(method),
                "as it is" if segmenter == RAW else f"+ {title_of(segmenter)}",
            ]
            for across, figure in enumerate(_SHOWN, start=len(row)):
                score = cells[method, segmenter, figure]
                if score.difference is None:
                    row.append(f"{_percent(score.value):.1f}")
                    continue
                row.append(f"{_percent(score.difference):+.1f}")
                assert score.difference_low is not None
                assert score.difference_high is not None
                if score.difference_low > 0 or score.difference_high < 0:
                    marked.add((len(rows), across))
            rows.append(tuple(row))
    columns = ("network", "method", "map", *(FIGURES[figure] for figure in _SHOWN))
    words = (
        "In %: the map as it is, and what pooling adds to it. Bold: differences whose 95 % "
        "interval over pictures leaves out zero."
    )
    title = "Objects found"
    return Table("localisation", title, columns, tuple(rows), words, frozenset(marked))


def _intervals(below: Mapping[str, Sequence[Score]]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for network, scores in below.items():
        for s in scores:
            if s.figure in _SHOWN:
                rows.append(
                    (network, setting_title(s.method, s.segmenter), FIGURES[s.figure],
                     _percent(s.value), _percent(s.low), _percent(s.high), _percent(s.difference),
                     _percent(s.difference_low), _percent(s.difference_high), s.n_superpixels,
                     s.n_pictures)
                )  # fmt: skip
    columns = (
        "network", "map", "figure", "%", "from", "to", "difference", "from ", "to ", "superpixels",
        "pictures",
    )  # fmt: skip
    words = "95 % intervals over pictures, paired for differences; each resample its own threshold."
    return Table("intervals", "With intervals", columns, tuple(rows), words)


def _row(network: str, score: Score, several: bool) -> str:
    title = setting_title(score.method, score.segmenter)
    return f"{network}, {title}" if several else title


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value

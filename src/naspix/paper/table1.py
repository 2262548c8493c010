"""Table 1: how much saliency falls on each cluster that the pictures of a class share."""

from dataclasses import dataclass
from typing import final

from naspix.evaluation.explaining import RAW
from naspix.evaluation.scores import meaning_of
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
from naspix.paper.judging import FEWEST, Question, found_source, judge, sentences_on
from naspix.paper.networks import TITLES
from naspix.paper.views import labelled_pictures
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import Run

_CLASSES = "classes"  # of scikit-image's photos, beside the experiments' folders
_QUICK_PICTURES = 12
_QUESTION = Question(
    "semantics",
    parameters={"semantics": {"n_clusters": 10}},
    quick={"semantics": {"n_clusters": 6, "n_samples": 300}},
    segmenters=(RAW,),
)


@final
@dataclass(frozen=True)
class Table1:
    """The most salient cluster of each class, and the others.

    Attributes:
        n_pictures: How many, if no limit is given; None for all.
    """

    n_pictures: int | None = None

    title = "Table 1: what the saliency falls on"
    items = "pictures"
    words = (
        "The pictures of a class are clustered together, so that a cluster means the same in all "
        "of them: the head, the grass. For each method the cluster with the highest mean saliency "
        "of its superpixels (maps scaled to 0..1), and the mean of all others; for all "
        "predictions, the right and the wrong ones."
    )
    networks = ("resnet18",)

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Find the clusters of each class, then the saliency on each."""
        spare = opened.run.folder.parent / _CLASSES
        judge(
            opened,
            conditions,
            _QUESTION,
            self.networks,
            found_source(opened, labelled_pictures(conditions.at_hand, spare)),
            n_pictures=_QUICK_PICTURES if conditions.quick else self.n_pictures,
            engine=engine,
            progress=progress,
        )

    def sentences(self, run: Run) -> list[str]:
        """What it ran on."""
        return sentences_on(run)

    def tables(self, run: Run) -> list[Table]:
        """A table a network: a row for each class, method, and all, right or wrong predictions."""
        return [_table(name, each) for name, each in subruns(run).items()]

    def figures(self, run: Run) -> list[Drawing]:
        """None: figure 4 shows the clusters."""
        return []

    def verdicts(self, run: Run) -> list[Verdict]:
        """The paper's claims about it are not at hand."""
        return []


def _table(network: str, run: Run) -> Table:
    names = run.header["found"]["categories"]
    rows: list[tuple[Value, ...]] = []
    marked: set[tuple[int, int]] = set()
    for each in meaning_of(run):
        found = each.row
        if not found.n_images:
            continue
        name = names[each.label] if each.label < len(names) else f"class {each.label}"
        cells = (name, title_of(each.method), found.split, found.n_images, found.cluster)
        if found.n_images >= FEWEST and found.chosen_interval[0] > found.others_interval[1]:
            marked.add((len(rows), len(cells)))
        rows.append((*cells, found.chosen, found.others))
    columns = ("class", "method", "predictions", "pictures", "cluster", "its mean", "the others'")
    words = (
        "Clusters are numbered anew in each class. Bold: the cluster's 95 % interval over at least "
        f"{FEWEST} pictures lies above that of the others."
    )
    title = f"Saliency by cluster, {TITLES.get(network, network)}"
    return Table(f"meaning_{network}", title, columns, tuple(rows), words, frozenset(marked))

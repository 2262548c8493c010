"""What a table or figure of the paper consists of, so that one command computes and draws any.

An experiment is a frozen dataclass in a module of its own, listed in `catalogue.py`:

    compute(opened, conditions, ...)   leaves records; the only part that knows a network
    sentences(run)                     what it ran on, for the page
    tables(run)   -> [Table]           plain values -> csv files, and the page
    figures(run)  -> [Drawing]         matplotlib figures -> png and pdf files, and the page
    verdicts(run) -> [Verdict]         whether the paper's claims hold here, with the test's numbers

The last four are pure functions of what `compute` left on disk, so that `naspix render` draws all
again without computing. ``run.folder`` is ``OUTPUT/NAME``. An experiment writes its records

- into the opened run itself (`cutting.py` does so for pictures of segmentations), or
- as runs of their own below it, one a network or task: ``subfolder(opened, "resnet18")`` is a
  folder for `naspix.evaluation.running.evaluate`, ``subrun(run, "resnet18")`` reads it.

What is decided once for the whole run (which networks have weights, what data there is) is kept by
``opened.find(name, look)`` and read back from ``run.header["found"]``. `at_hand.py` finds data,
`networks.py` the paper's four networks, `published.py` the paper's numbers and claims.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from naspix.errors import InputError
from naspix.paper.at_hand import AtHand
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine
from naspix.runs.store import HEADER, Run, read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = str | int | float | None
Progress = Callable[[int, int], None]

_RUNS = "runs"


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """On what, with which weights, how much of it.

    Attributes:
        at_hand: Where data lies.
        weights: Network of the paper -> its weights: a file, or the folder of `naspix finetune`;
            ``"skip"`` leaves the network out. Of several, such as one learnt on STL-10 and one on
            CUB, each experiment takes the one that knows its pictures' classes. Without an entry,
            its usual ones if they can be had.
        limit: How many pictures; None leaves it to the experiment.
        quick: Little of everything, for minutes on two cores: an impression.
        device: Where networks run.
        seed: Of everything random.
    """

    at_hand: AtHand = field(default_factory=AtHand)
    weights: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    limit: int | None = None
    quick: bool = False
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit is at least 1, not {self.limit}")

    def to_plain(self) -> dict[str, Any]:
        """All of it as JSON knows it."""
        return {
            "at_hand": self.at_hand.to_plain(),
            "weights": dict(self.weights),
            "limit": self.limit,
            "quick": self.quick,
            "device": self.device,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Table:
    """A table as plain values.

    Attributes:
        name: Of its csv file.
        title: Above it.
        columns: Headings. In the one called ``"paper"``, None is a number that is not at hand.
        rows: A value a column; None is empty.
        words: What has to be known to read it.
        marked: Places (row, column) that are set in bold.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    words: str = ""
    marked: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure to be saved.

    Attributes:
        name: Of its png and pdf files.
        title: Above it; also what a reader hears who does not see it.
        figure: The figure itself.
        words: What has to be known to read it.
    """

    name: str
    title: str
    figure: "Figure"
    words: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether a claim of the paper holds here.

    Attributes:
        claim: A sentence.
        holds: None where it cannot be told from what is at hand.
        why: The test and its numbers, or what is missing.
        source: Where the claim is from.
    """

    claim: str
    holds: bool | None
    why: str
    source: str = ""


@runtime_checkable
class Experiment(Protocol):
    """A table or figure of the paper; see the module's words."""

    @property
    def title(self) -> str:
        """What people call it, such as "Figure 1: ..."."""
        ...

    @property
    def words(self) -> str:
        """What it shows, in one or two sentences."""
        ...

    @property
    def items(self) -> str:
        """What its progress counts, such as "pictures"."""
        ...

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Write what is missing of its records.

        Args:
            opened: Where, held by this process alone.
            conditions: What is asked.
            engine: Who computes.
            progress: Told how many items are done more, and how many there are.
        """
        ...

    def sentences(self, run: Run) -> list[str]:
        """What it ran on, what had to be left out and how to get it."""
        ...

    def tables(self, run: Run) -> list[Table]:
        """Tables, in the paper's order."""
        ...

    def figures(self, run: Run) -> list[Drawing]:
        """Figures, in the paper's order."""
        ...

    def verdicts(self, run: Run) -> list[Verdict]:
        """Whether the paper's claims about it hold here."""
        ...


def subfolder(opened: OpenRun, name: str) -> Path:
    """The folder of a run below an experiment's, to be made by whoever writes it."""
    return opened.run.folder / _RUNS / name


def subrun(run: Run, name: str) -> Run:
    """A run that an experiment wrote below its own.

    Raises:
        InputError: It is not there.
    """
    return read_run(run.folder / _RUNS / name)


def subruns(run: Run) -> dict[str, Run]:
    """All runs below an experiment's, by name."""
    folders: Sequence[Path] = sorted((run.folder / _RUNS).glob(f"*/{HEADER}"))
    return {header.parent.name: read_run(header.parent) for header in folders}

"""What a table or figure of the paper consists of, so that one command computes and draws any.

An experiment is a frozen dataclass, listed in `running.EXPERIMENTS`:

    compute(opened, conditions, ...)   leaves records; the only part that knows a network
    show(run) -> Shown                 what a page shows of them, as plain values:
        sentences   what it ran on
        tables      plain values -> csv files, and the page
        drawings    matplotlib figures -> png and pdf files, and the page
        verdicts    whether the paper's claims hold here, with the test's numbers

`show` is a pure function of what `compute` left on disk, so that `naspix render` draws all again
without computing. ``run.folder`` is ``OUTPUT/NAME``. An experiment writes its records

- into the opened run itself (`segmentations.py` does so for photos that are cut), or
- as runs of their own below it, one a network (`evaluations.py`): ``subfolder(opened, "resnet18")``
  is a folder for `naspix.evaluation.evaluate`, ``subruns(run)`` reads them.

What is decided once for the whole run (which networks have weights, what data there is) is kept by
``opened.find(name, look)`` and read back from ``run.header["found"]``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from naspix.paper.data import Conditions, Source
from naspix.paper.networks import find_networks, sentence_on
from naspix.runs import Engine, OpenRun, Run, read_run
from naspix.runs.file import STORE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = str | int | float | None
Progress = Callable[[int, int], None]

_RUNS = "runs"


@dataclass(frozen=True)
class Table:
    """A table as plain values.

    Attributes:
        name: Of its csv file.
        title: Above it.
        columns: Headings.
        rows: A value a column; None is empty.
        words: What has to be known to read it.
        marked: Places (row, column) that are set in bold.
        underlined: Places that are underlined.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    words: str = ""
    marked: frozenset[tuple[int, int]] = frozenset()
    underlined: frozenset[tuple[int, int]] = frozenset()


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


@dataclass(frozen=True, eq=False)
class Shown:
    """What a page shows of a run.

    Attributes:
        sentences: What it ran on, what had to be left out and how to get it.
        tables: In the paper's order.
        drawings: In the paper's order.
        verdicts: Whether the paper's claims about it hold here.
    """

    sentences: Sequence[str]
    tables: Sequence[Table] = ()
    drawings: Sequence[Drawing] = ()
    verdicts: Sequence[Verdict] = ()


class Experiment(ABC):
    """A table or figure of the paper; see the module's words.

    Attributes:
        title: What people call it, such as "Figure 1: ...".
        words: What it shows, in one or two sentences.
        items: What its progress counts.
    """

    title: ClassVar[str]
    words: ClassVar[str]
    items: ClassVar[str] = "pictures"

    @abstractmethod
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

    @abstractmethod
    def show(self, run: Run) -> Shown:
        """What a page shows of its records."""


def found_data(
    opened: OpenRun,
    conditions: Conditions,
    networks: Sequence[str],
    look: Callable[[Path], Source],
) -> tuple[Source, dict[str, Any]]:
    """The pictures and the networks that a run began with, looked for where it begins now.

    Args:
        opened: The experiment's run.
        conditions: What is asked.
        networks: The paper's that are wanted.
        look: A method of `AtHand`; it is given the folder of all experiments.

    Returns:
        The pictures, and what `find_networks` found.
    """
    spare = opened.run.folder.parent
    source = Source(**opened.find("source", lambda: look(spare).to_plain()))
    found = opened.find(
        "networks", lambda: find_networks(networks, conditions, source.open().categories)
    )
    return source, found


def sentences_on(run: Run) -> list[str]:
    """What pictures and networks a run was made with, for its page."""
    found = run.header["found"]
    computed = list(subruns(run).values()) or [run]
    n = max(each.n_items - len(each.failures) for each in computed)
    return [Source(**found["source"]).counted(n), sentence_on(found["networks"])]


def subfolder(opened: OpenRun, name: str) -> Path:
    """The folder of a run below an experiment's, to be made by whoever writes it."""
    return opened.run.folder / _RUNS / name


def subruns(run: Run) -> dict[str, Run]:
    """All runs below an experiment's, by name."""
    folders = sorted((run.folder / _RUNS).glob(f"*/{STORE}"))
    return {header.parent.name: read_run(header.parent) for header in folders}

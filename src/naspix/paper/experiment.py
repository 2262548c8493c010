"""What a table or figure of the paper consists of, so that one command computes and draws any.

An experiment is a frozen dataclass, listed in `running.EXPERIMENTS`:

    compute(work)      leaves records; the only part that knows a network
    show(run) -> Shown what a page shows of them, as plain values:
        sentences   what it ran on
        tables      plain values -> csv files, and the page
        drawings    matplotlib figures -> png and pdf files, and the page
        verdicts    whether the paper's claims hold here, with the test's numbers

`show` is a pure function of what `compute` left on disk, so that `naspix render` draws all again
without computing. ``run.folder`` is ``OUTPUT/NAME``. An experiment writes its records

- into the opened run itself (`segmentations.py` does so for photos that are cut), or
- as runs of their own below it, one a network (`evaluations.py`): ``work.subfolder("resnet18")`` is
  a folder for `naspix.evaluation.evaluate`, ``subruns(run)`` reads them.

What is decided once for the whole run (which networks have weights, what data there is) is kept by
``opened.find(name, look)`` and read back from ``run.header["found"]``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from naspix.paper.data import Conditions, Source, find_networks, sentence_on
from naspix.paper.published import Table, Told, Verdict, published
from naspix.runs import Engine, MakeWorker, OpenRun, Run, carry_out, read_run
from naspix.runs.file import STORE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Progress = Callable[[int, int], None]

_RUNS = "runs"


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


@dataclass(frozen=True, eq=False)
class Work:
    """An experiment's run while it is computed.

    Attributes:
        opened: Where, held by this process alone.
        conditions: What is asked.
        engine: Who computes.
        progress: Told how many items are done more, and how many there are.
    """

    opened: OpenRun
    conditions: Conditions
    engine: Engine
    progress: Progress

    @property
    def output(self) -> Path:
        """The folder of all experiments."""
        return self.opened.run.folder.parent

    def source(self, look: Callable[[Path], Source], name: str = "source") -> Source:
        """The pictures that the run began with, looked for where it begins now.

        Args:
            look: A method of `AtHand`; it is given the folder of all experiments.
            name: Under which they are kept.
        """
        return Source(**self.opened.find(name, lambda: asdict(look(self.output))))

    def networks(self, names: Sequence[str], source: Source) -> dict[str, Any]:
        """What `find_networks` found when the run began, looked for where it begins now.

        Args:
            names: The paper's that are wanted.
            source: Of pictures whose classes they should know.
        """
        return dict(
            self.opened.find(
                "networks", lambda: find_networks(names, self.conditions, source.open().categories)
            )
        )

    def carry_out(self, make_worker: MakeWorker, n_items: int) -> None:
        """Compute what is missing of so many items, one at a time."""
        carry_out(
            self.opened,
            make_worker,
            n_items=n_items,
            batch_size=1,
            engine=self.engine,
            progress=lambda n_more: self.progress(n_more, n_items),
        )

    def subfolder(self, name: str) -> Path:
        """The folder of a run below the experiment's, to be made by whoever writes it."""
        return self.opened.run.folder / _RUNS / name


class Experiment(ABC):
    """A table or figure of the paper; see the module's words.

    Attributes:
        title: What people call it, such as "Figure 1: ...".
        words: What it shows, in one or two sentences.
        items: What its progress counts.
        claims: The test of each claim of the paper about it, by the claim's id.
    """

    title: ClassVar[str]
    words: ClassVar[str]
    items: ClassVar[str] = "pictures"
    claims: ClassVar[Mapping[str, Callable[..., Told]]] = {}

    @abstractmethod
    def compute(self, work: Work) -> None:
        """Write what is missing of its records."""

    @abstractmethod
    def show(self, run: Run) -> Shown:
        """What a page shows of its records."""

    @final
    def verdicts(self, run: Run, *evidence: Any) -> list[Verdict]:
        """Whether the paper's claims about it hold here.

        Args:
            run: Its own.
            *evidence: What the tests are given.
        """
        claims = published(run.kind).claims
        return [claim.verdict(*self.claims[name](*evidence)) for name, claim in claims.items()]


def sentences_on(run: Run) -> list[str]:
    """What pictures and networks a run was made with, for its page."""
    found = run.header["found"]
    computed = list(subruns(run).values()) or [run]
    n = max(each.n_items - len(each.failures) for each in computed)
    return [Source(**found["source"]).counted(n), sentence_on(found["networks"])]


def subruns(run: Run) -> dict[str, Run]:
    """All runs below an experiment's, by name."""
    folders = sorted((run.folder / _RUNS).glob(f"*/{STORE}"))
    return {header.parent.name: read_run(header.parent) for header in folders}

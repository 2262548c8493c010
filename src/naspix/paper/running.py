"""A table or figure of the paper from nothing: computed, or gone on with, and drawn.

OUTPUT/NAME/   run.sqlite, runs/              what was computed
               page.html, *.png, *.pdf, *.csv functions of it, drawn again by `render`
OUTPUT/        paper.html                     of all that is there, by `all`
"""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from naspix.errors import DeviceError, InputError, NaspixError, OutputError, UnknownNameError
from naspix.files import write_whole, written
from naspix.paper.appendix import Figure7, Figure8, Figure9
from naspix.paper.data import Conditions
from naspix.paper.experiment import Experiment, Progress
from naspix.paper.lerf import Figure6, Table2
from naspix.paper.localisation import Table3, Table4
from naspix.paper.maps import Figure5
from naspix.paper.page import Drawn, page_of, page_of_all
from naspix.paper.published import paper_title, published
from naspix.paper.regions import Figure1, Figure2, Figure3
from naspix.paper.run_times import Table5
from naspix.paper.semantics import Figure4, Table1
from naspix.runs import Engine, InProcess, Run, open_run, read_run
from naspix.runs.file import STORE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# in the paper's order; adding one is its class, its line here and its entry in paper.json
EXPERIMENTS: Mapping[str, type[Experiment]] = {
    "figure1": Figure1,
    "figure2": Figure2,
    "figure3": Figure3,
    "figure4": Figure4,
    "table1": Table1,
    "figure5": Figure5,
    "figure6": Figure6,
    "table2": Table2,
    "table3": Table3,
    "table4": Table4,
    "table5": Table5,
    "figure7": Figure7,
    "figure8": Figure8,
    "figure9": Figure9,
}
ALL = "all"
PAGE, WHOLE = "page.html", "paper.html"
DOTS = 280  # an inch


def find_experiment(name: str) -> Experiment:
    """The experiment with its defaults.

    Raises:
        UnknownNameError: with the names most like it.

    Example:
        >>> find_experiment("figure3").numbers
        (2, 5, 10, 20)
    """
    if name not in EXPERIMENTS:
        raise UnknownNameError.among("experiment", name, [*EXPERIMENTS, ALL])
    return EXPERIMENTS[name]()


def reproduce(
    name: str,
    conditions: Conditions,
    output: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    progress: Progress = lambda n_more, n_all: None,
) -> Drawn:
    """Compute a table or figure, or go on where it was interrupted, and draw it.

    Args:
        name: Of the experiment.
        conditions: On what.
        output: The folder of all experiments; this one's is below it.
        engine: Who computes; this process by default.
        progress: Told how many items are done more, and how many there are.

    Raises:
        UnknownNameError: There is no such experiment.
        InputError: The folder holds a run under other conditions.
        OutputError: The folder cannot be written, or another process writes to it.
    """
    experiment = find_experiment(name)
    folder = Path(output) / name
    settings = {"made": repr(experiment), **conditions.to_plain()}
    with open_run(folder, kind=name, settings=settings, growing=["limit"]) as opened:
        experiment.compute(opened, conditions, engine=engine or InProcess(), progress=progress)
    return draw(read_run(folder))


def draw(run: Run) -> Drawn:
    """Draw a run's page, pictures and tables into its folder, without computing.

    Raises:
        InputError: The run is no experiment of the paper's, or has no records.
        OutputError: They cannot be written.
    """
    if run.kind not in EXPERIMENTS:
        raise InputError(
            f"{run.folder} holds a run of {run.kind}, not of a table or figure of the paper; give "
            "a folder that naspix reproduce wrote"
        )
    experiment = find_experiment(run.kind)
    shown = experiment.show(run)
    printed = published(run.kind).printed
    if printed is not None:
        shown = replace(shown, tables=[*shown.tables, printed])
    kept = {}
    for table in shown.tables:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([table.columns, *table.rows])  # what is not there is empty
        kept[f"{table.name}.csv"] = text.getvalue().encode()
    for drawing in shown.drawings:
        kept[f"{drawing.name}.png"] = _saved(drawing.figure, "png")
        kept[f"{drawing.name}.pdf"] = _saved(drawing.figure, "pdf", drawing.title)
    pngs = [kept[f"{drawing.name}.png"] for drawing in shown.drawings]
    drawn = Drawn(experiment, run, shown, pngs)
    kept[PAGE] = page_of(drawn).encode()
    for name, content in kept.items():
        _write(run.folder / name, content)
    for kind in ("png", "pdf", "csv"):  # of an earlier drawing, which are not drawn any more
        for file in run.folder.glob(f"*.{kind}"):
            if file.name not in kept:
                with written(file):
                    file.unlink()
    return drawn


def reproduce_all(
    conditions: Conditions,
    output: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    began: Callable[[str], Progress] = lambda name: lambda n_more, n_all: None,
) -> list[tuple[str, str]]:
    """Compute the whole paper, then write it as one page, which can be printed.

    What cannot be computed from what is at hand is left out, and the page says so.

    Args:
        conditions: On what.
        output: The folder of all experiments.
        engine: Who computes; this process by default.
        began: Told the name of what begins; gives what is told of its progress.

    Returns:
        Names of what was left out, and why.
    """
    drawn, failed = [], []
    for name in EXPERIMENTS:
        try:
            drawn.append(reproduce(name, conditions, output, engine=engine, progress=began(name)))
        except (DeviceError, OutputError):  # the same for all
            raise
        except NaspixError as error:
            failed.append((name, str(error)))
    _write_whole_paper(Path(output), drawn, failed)
    return failed


def render(folder: str | os.PathLike[str]) -> Path:
    """Draw again, without computing, what lies in a folder.

    Args:
        folder: An experiment's, or that of several, whose whole page is drawn again too.

    Returns:
        The page.

    Raises:
        InputError: There is no run of the paper's.
    """
    path = Path(folder)
    below = [name for name in EXPERIMENTS if (path / name / STORE).is_file()]
    if (path / STORE).exists() or not below:
        draw(read_run(path))
        return path / PAGE
    _write_whole_paper(path, [draw(read_run(path / name)) for name in below], [])
    return path / WHOLE


def _write_whole_paper(
    output: Path, drawn: Sequence[Drawn], failed: Sequence[tuple[str, str]]
) -> None:
    if not drawn:
        raise InputError(f"nothing could be computed: {failed[0][1]}")
    _write(output / WHOLE, page_of_all(paper_title(), drawn, failed).encode())


def _saved(figure: "Figure", kind: str, title: str | None = None) -> bytes:
    """A figure as png or pdf: the same bytes each time, letters as letters, fonts embedded."""
    from matplotlib import rc_context

    content = io.BytesIO()
    metadata = {"CreationDate": None, "Title": title} if kind == "pdf" else None
    with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "naspix"}):
        figure.savefig(content, format=kind, dpi=DOTS, bbox_inches="tight", metadata=metadata)
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    with written(path), write_whole(path) as file:
        file.write(content)

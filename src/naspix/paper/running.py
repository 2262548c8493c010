"""A table or figure of the paper from nothing: computed, or gone on with, and drawn.

OUTPUT/NAME/   run.json, records/, runs/      what was computed
               page.html, *.png, *.pdf, *.csv   functions of it, drawn again by `render`
OUTPUT/        paper.html, paper.pdf          of all that is there, by `all`
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from naspix.errors import DeviceError, InputError, NaspixError, OutputError
from naspix.paper.book import write_book
from naspix.paper.catalogue import EXPERIMENTS, find_experiment
from naspix.paper.experiment import Conditions, Progress
from naspix.paper.page import Shown, page_of, page_of_all
from naspix.paper.published import paper_title
from naspix.paper.saving import remove_others, write, write_drawing, write_table
from naspix.runs.continuing import open_run
from naspix.runs.engine import Engine, InProcess
from naspix.runs.store import HEADER, Run, read_run

PAGE, WHOLE, BOOK = "page.html", "paper.html", "paper.pdf"


def reproduce(
    name: str,
    conditions: Conditions,
    output: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    progress: Progress = lambda n_more, n_all: None,
) -> Shown:
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
    with open_run(
        folder, kind=name, settings={"made": repr(experiment), **conditions.to_plain()},
        growing=["limit"],
    ) as opened:  # fmt: skip
        experiment.compute(opened, conditions, engine=engine or InProcess(), progress=progress)
    return draw(read_run(folder))


def draw(run: Run) -> Shown:
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
    tables, drawings = experiment.tables(run), experiment.figures(run)
    for table in tables:
        write_table(run.folder, table)
    shown = Shown(
        name=run.kind,
        experiment=experiment,
        run=run,
        sentences=experiment.sentences(run),
        tables=tables,
        drawings=drawings,
        pngs=[write_drawing(run.folder, drawing) for drawing in drawings],
        verdicts=experiment.verdicts(run),
    )
    write(run.folder / PAGE, page_of(shown).encode())
    kept = [f"{table.name}.csv" for table in tables]
    kept += [f"{drawing.name}.{suffix}" for drawing in drawings for suffix in ("png", "pdf")]
    remove_others(run.folder, kept)
    return shown


def reproduce_all(
    conditions: Conditions,
    output: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    began: Callable[[str], Progress] = lambda name: lambda n_more, n_all: None,
) -> list[tuple[str, str]]:
    """Compute the whole paper, then write it as one page and one pdf.

    What cannot be computed from what is at hand is left out, and the page says so.

    Args:
        conditions: On what.
        output: The folder of all experiments.
        engine: Who computes; this process by default.
        began: Told the name of what begins; gives what is told of its progress.

    Returns:
        Names of what was left out, and why.
    """
    shown, failed = [], []
    for name in EXPERIMENTS:
        try:
            shown.append(reproduce(name, conditions, output, engine=engine, progress=began(name)))
        except (DeviceError, OutputError):  # the same for all
            raise
        except NaspixError as error:
            failed.append((name, str(error)))
    write_whole_paper(Path(output), shown, failed)
    return failed


def render(folder: str | os.PathLike[str]) -> Path:
    """Draw again, without computing, what lies in a folder.

    Args:
        folder: An experiment's, or that of several, whose whole page and pdf are drawn again too.

    Returns:
        The page.

    Raises:
        InputError: There is no run of the paper's.
    """
    path = Path(folder)
    below = [name for name in EXPERIMENTS if (path / name / HEADER).is_file()]
    if (path / HEADER).exists() or not below:
        draw(read_run(path))
        return path / PAGE
    write_whole_paper(path, [draw(read_run(path / name)) for name in below], [])
    return path / WHOLE


def write_whole_paper(
    output: Path, shown: Sequence[Shown], failed: Sequence[tuple[str, str]]
) -> None:
    """Write the page and the pdf of all experiments."""
    if not shown:
        raise InputError(f"nothing could be computed: {failed[0][1]}")
    title = paper_title()
    write(output / WHOLE, page_of_all(title, shown, failed).encode())
    write_book(output / BOOK, title, shown)

"""A table or figure of the paper from nothing: computed, or gone on with, and drawn.

OUTPUT/NAME/   run.sqlite, runs/              what was computed
               page.html, *.png, *.pdf, *.csv functions of it, drawn again by `render`
OUTPUT/        paper.html                     of all that is there, by `all`

A page is one HTML file with everything inside, made by the template ``templates/paper.html.j2`` of
what an experiment shows of its run and of how that run was made. Printed, it has the paper's form.
"""

import base64
import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from naspix.errors import DeviceError, InputError, NaspixError, OutputError, UnknownNameError
from naspix.evaluation.page import settings_of
from naspix.files import write_whole, written
from naspix.paper.appendix import Figure7, Figure8, Figure9
from naspix.paper.data import Conditions
from naspix.paper.experiment import Experiment, Progress, Shown, Work, subruns
from naspix.paper.lerf import Figure6, Table2
from naspix.paper.localisation import Table3, Table4
from naspix.paper.maps import Figure5
from naspix.paper.published import Table, Value, paper_title, published
from naspix.paper.regions import Figure1, Figure2, Figure3
from naspix.paper.run_times import Table5
from naspix.paper.semantics import Figure4, Table1
from naspix.plots.figures import figure_bytes
from naspix.report import pages
from naspix.runs import Engine, InProcess, Run, open_run, read_run
from naspix.runs.file import STORE

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
_WORDS = {True: "holds here", False: "does not hold here", None: "cannot be told here"}


@dataclass(frozen=True, eq=False)
class Drawn:
    """An experiment as it was drawn.

    Attributes:
        experiment: The experiment.
        run: What it left.
        shown: What is shown of that.
        pngs: Its drawings as png.
    """

    experiment: Experiment
    run: Run
    shown: Shown
    pngs: Sequence[bytes]

    @property
    def below(self) -> dict[str, Run]:
        """The runs below its own."""
        return subruns(self.run)


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
        experiment.compute(Work(opened, conditions, engine or InProcess(), progress))
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
        kept[f"{drawing.name}.png"] = figure_bytes(drawing.figure, "png", dpi=DOTS)
        kept[f"{drawing.name}.pdf"] = figure_bytes(
            drawing.figure, "pdf", dpi=DOTS, title=drawing.title
        )
    pngs = [kept[f"{drawing.name}.png"] for drawing in shown.drawings]
    drawn = Drawn(experiment, run, shown, pngs)
    kept[PAGE] = _page(experiment.title, experiment.words, [drawn]).encode()
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
    output: Path, all_drawn: Sequence[Drawn], failed: Sequence[tuple[str, str]]
) -> None:
    if not all_drawn:
        raise InputError(f"nothing could be computed: {failed[0][1]}")
    verdicts = [verdict for drawn in all_drawn for verdict in drawn.shown.verdicts]
    counts = ", ".join(
        f"{n} {_WORDS[answer].replace('holds', 'hold').replace('does not', 'do not')}"
        if (n := sum(v.holds is answer for v in verdicts)) != 1
        else f"1 {_WORDS[answer]}"
        for answer in (True, False, None)
    )
    words = (
        "Every table and figure that was computed, beside the paper's. Of the paper's claims "
        f"{counts}."
    )
    page = _page(paper_title(), words, all_drawn, failed, is_whole=True)
    _write(output / WHOLE, page.encode())


def _page(
    title: str,
    words: str,
    all_drawn: Sequence[Drawn],
    failed: Sequence[tuple[str, str]] = (),
    *,
    is_whole: bool = False,
) -> str:
    """The page of one table or figure, or of the whole paper and what is left out of it."""
    return pages.render(
        "paper.html.j2",
        "naspix.paper",
        title=f"naspix: {title}",
        heading=title,
        words=words,
        is_whole=is_whole,
        failed=failed,
        all_drawn=all_drawn,
        verdict_words=_WORDS,
        numeric_columns=_numeric_columns,
        texts=shown_cells,
        settings_of=settings_of,
        webp=_webp,
        items_of=lambda failures: [(each.item, each.reason) for each in failures],
    )


def _numeric_columns(table: Table) -> list[bool]:
    return [
        all(isinstance(row[place], int | float | None) for row in table.rows)
        for place in range(len(table.columns))
    ]


def shown_cells(table: Table) -> list[list[str]]:
    """A table's rows in words; the numbers of a column have as many decimals, three figures or so.

    Example:
        >>> rows = (("a", 0.1234, None), ("b", 9.0, 72.04))
        >>> shown_cells(Table("t", "T", ("what", "ms", "its ms"), rows))
        [['a', '0.123', ''], ['b', '9.000', '72.0']]
    """
    columns = []
    for place in range(len(table.columns)):
        column: list[Value] = [row[place] for row in table.rows]
        largest = max((abs(value) for value in column if isinstance(value, float)), default=0.0)
        decimals = 0 if largest >= 1000 else 1 if largest >= 10 else 3
        columns.append(
            [
                ""
                if value is None
                else f"{value:.{decimals}f}"
                if isinstance(value, float)
                else str(value)
                for value in column
            ]
        )
    return [list(row) for row in zip(*columns, strict=True)]


def _webp(png: bytes) -> str:
    """The same picture for a page, a tenth of the size."""
    from PIL import Image

    content = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(content, "webp", quality=90, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


def _write(path: Path, content: bytes) -> None:
    with written(path), write_whole(path) as file:
        file.write(content)

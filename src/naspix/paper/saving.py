"""Figures and tables as files: png, vector pdf with embedded fonts, csv; the same each time."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from naspix.files import write_whole, written
from naspix.paper.experiment import Drawing, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS = 280  # an inch


def write_drawing(folder: Path, drawing: Drawing) -> bytes:
    """Write a figure as png and pdf.

    Returns:
        The png.
    """
    png = picture_of(drawing.figure)
    write(folder / f"{drawing.name}.png", png)
    content = io.BytesIO()
    with repeatable():
        drawing.figure.savefig(
            content,
            format="pdf",
            dpi=DOTS,
            bbox_inches="tight",
            metadata={"CreationDate": None, "Title": drawing.title},
        )
    write(folder / f"{drawing.name}.pdf", content.getvalue())
    return png


def picture_of(figure: "Figure") -> bytes:
    """A figure as png."""
    content = io.BytesIO()
    with repeatable():
        figure.savefig(content, format="png", dpi=DOTS, bbox_inches="tight")
    return content.getvalue()


def write_table(folder: Path, table: Table) -> None:
    """Write a table as csv; what is not there is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    write(folder / f"{table.name}.csv", text.getvalue().encode())


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    with written(path), write_whole(path) as file:
        file.write(content)


@contextmanager
def repeatable() -> Iterator[None]:
    """Settings with which matplotlib writes the same bytes each time, and letters as letters."""
    from matplotlib import rc_context

    with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "naspix"}):
        yield


def remove_others(folder: Path, kept: Sequence[str]) -> None:
    """Remove pictures and tables of an earlier drawing that are not drawn any more."""
    for suffix in ("png", "pdf", "csv"):
        for file in folder.glob(f"*.{suffix}"):
            if file.name not in kept:
                with written(file):
                    file.unlink()

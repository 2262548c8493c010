"""What a finished evaluation's records are written out as: csv files and a page."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from naspix.evaluation.page import page_of
from naspix.evaluation.scores import scores_of
from naspix.evaluation.tables import paper_rows
from naspix.files import write_whole, written
from naspix.runs.store import Run

SCORES, TABLE, PAGE = "scores.csv", "table.csv", "report.html"


def write_results(run: Run) -> None:
    """Write ``scores.csv`` (a row a score), ``table.csv`` (the paper's form) and ``report.html``.

    Functions of the records, and of the pictures that were drawn; nothing is computed anew.

    Raises:
        OutputError: They cannot be written.
    """
    _write(run, SCORES, [asdict(score) for score in scores_of(run)])
    _write(run, TABLE, paper_rows(run))
    with written(run.folder), write_whole(run.folder / PAGE) as file:
        file.write(page_of(run).encode())


def _write(run: Run, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with written(run.folder), write_whole(run.folder / name) as file:
        file.write(text.getvalue().encode())

"""The paper's numbers and claims: ``tables/*.csv`` as it prints them, and ``paper.json``.

A cell is what the paper prints, with its sign and its brackets. ``**1.0**`` is set in bold there,
``_1.0_`` underlined; ``1.0†`` contradicts other cells of its row, and is kept as it is printed.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from naspix.paper.verdicts import Verdict

Value = str | int | float | None

_MARKS = re.compile(r"^\*\*(.*)\*\*$|^_(.*)_$")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


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


@dataclass(frozen=True)
class Claim:
    """What the paper says, as a sentence.

    Attributes:
        id: Names it.
        sentence: In few words.
        source: Where it says so.
    """

    id: str
    sentence: str
    source: str

    def verdict(self, holds: bool | None, why: str) -> Verdict:
        """Whether it holds here.

        Args:
            holds: None where that cannot be told from what is at hand.
            why: The test and its numbers, or what is missing.
        """
        return Verdict(self.sentence, holds, why, self.source)


@dataclass(frozen=True)
class Entry:
    """What the paper has of one table or figure.

    Attributes:
        name: The experiment's.
        number: Such as "table 5".
        section: Where the paper speaks of it.
        words: What has to be known to read its numbers: what they are measured on, their unit.
        n_keys: How many columns name a row; the others are numbers.
        columns: Headings; none for a figure.
        cells: As they stand in the file, with their marks.
        claims: By id.
    """

    name: str
    number: str
    section: str
    words: str
    n_keys: int
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    claims: Mapping[str, Claim]

    @property
    def printed(self) -> Table | None:
        """The table as the paper prints it; None for a figure.

        Example:
            >>> published("table5").printed.rows[2]
            ['NAS', '2 to 4', '5', '11.9', '13.9 (833.3)', '14.9', '']
        """
        if not self.columns:
            return None
        bold, underlined = (
            frozenset(
                (down, across)
                for down, row in enumerate(self.cells)
                for across, cell in enumerate(row)
                if cell.startswith(mark)
            )
            for mark in ("**", "_")
        )
        title = f"The paper's {self.number} as printed"
        rows = [[_plain(cell) for cell in row] for row in self.cells]
        return Table(f"{self.name}_paper", title, self.columns, rows, self.words, bold, underlined)

    def value(self, row: tuple[str, ...], column: str) -> float | None:
        """A number of the table; None where the paper has none there.

        Args:
            row: What its first columns say.
            column: Its heading.

        Example:
            >>> published("table3").value(("Grad-CAM++", "NAS"), "IoU 70")
            21.1
        """
        by_row = {tuple(map(_plain, cells[: self.n_keys])): cells for cells in self.cells}
        if row not in by_row or column not in self.columns[self.n_keys :]:
            return None
        found = _NUMBER.search(by_row[row][self.columns.index(column)])
        return None if found is None else float(found.group())

    def beside(self, ours: Mapping[tuple[tuple[str, ...], str], float]) -> Table:
        """Our numbers, the paper's, and their difference; for the paper's network and data only.

        Args:
            ours: (row, column) -> number, as for `value`.

        Example:
            >>> ours = {(("SLIC", "", ""), "CPU"): 3.6}
            >>> published("table5").beside(ours).rows
            [['SLIC', '', '', 'CPU', 3.6, 2.6, 1.0]]
        """
        rows: list[list[Value]] = []
        for (row, column), here in ours.items():
            printed = self.value(row, column)
            if printed is not None:
                rows.append([*row, column, here, printed, here - printed])
        columns = (*self.columns[: self.n_keys], "figure", "here", "paper", "difference")
        words = "The same network and data as in the paper."
        return Table("paper", f"Beside the paper's {self.number}", columns, rows, words)


@cache
def published(name: str) -> Entry:
    """What the paper has of a table or figure.

    Args:
        name: The experiment's.

    Example:
        >>> published("table5").number
        'table 5'
    """
    content = _content()["entries"][name]
    path = files("naspix.paper").joinpath("tables", f"{name}.csv")
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    columns, *cells = ([tuple(row) for row in csv.reader(lines)]) or [()]
    return Entry(
        name=name,
        number=content["number"],
        section=content["section"],
        words=content["words"],
        n_keys=content.get("keys", 0),
        columns=columns,
        cells=tuple(cells),
        claims={claim["id"]: Claim(**claim) for claim in content["claims"]},
    )


def paper_title() -> str:
    """The paper's title."""
    return str(_content()["paper"]["title"])


def _plain(cell: str) -> str:
    """A cell without marks of bold print and underlining."""
    return _MARKS.sub(r"\1\2", cell)


@cache
def _content() -> Any:
    text = files("naspix.paper").joinpath("paper.json").read_text("utf-8")
    return json.loads(text)

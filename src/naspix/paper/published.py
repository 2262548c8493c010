"""The paper's numbers and claims, beside which ours are printed: ``paper.json``.

    {"schema": 1, "paper": {...},
     "entries": {"table5": {
         "where": {"number": "table 5", "page": null},
         "unit": "images/s",
         "cells": {row: {column: number, or null where it is not at hand}},
         "claims": [{"id": ..., "sentence": ..., "source": ...}]}}}

Who has the paper's text replaces nulls by its numbers; nothing else has to be done. Rows and
columns are those that the experiment of that name prints.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from naspix.paper.experiment import Table, Value, Verdict

PAPER = "paper"  # the column in which None is said to be not at hand


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
    """What is at hand of one table or figure of the paper.

    Attributes:
        name: The experiment's.
        number: Such as "table 5".
        page: None if it is not at hand.
        unit: Of the numbers.
        cells: Row -> column -> number, or None.
        claims: By id.
    """

    name: str
    number: str
    page: int | None
    unit: str
    cells: Mapping[str, Mapping[str, float | None]]
    claims: Mapping[str, Claim]

    @property
    def has_numbers(self) -> bool:
        """Whether any number of the table is at hand."""
        return any(number is not None for row in self.cells.values() for number in row.values())

    def beside(
        self, table: str, title: str, ours: Mapping[tuple[str, str], float], words: str = ""
    ) -> Table:
        """Our numbers, the paper's and their difference, a row a cell of the paper's table.

        Args:
            table: What the table's file is called.
            title: Above it.
            ours: (row, column) -> number, as the data file names them.
            words: What has to be known to read it.

        Example:
            >>> ours = {("SLIC", "96 x 96, CPU"): 200.0}
            >>> published("table5").beside("paper", "Rates", ours).columns
            ('row', 'column', 'here', 'paper', 'difference')
        """
        places = [(row, column) for row, columns in self.cells.items() for column in columns]
        places += [place for place in ours if place not in set(places)]
        rows: list[list[Value]] = []
        for row, column in places:
            here, paper = ours.get((row, column)), self.cells.get(row, {}).get(column)
            difference = None if here is None or paper is None else here - paper
            rows.append([row, column, here, paper, difference])
        return Table(table, title, ("row", "column", "here", PAPER, "difference"), rows, words)


@cache
def published(name: str) -> Entry:
    """What is at hand of a table or figure.

    Args:
        name: The experiment's.

    Example:
        >>> published("table5").number
        'table 5'
    """
    content = _content()["entries"][name]
    return Entry(
        name=name,
        number=content["where"]["number"],
        page=content["where"]["page"],
        unit=content["unit"],
        cells=content["cells"],
        claims={claim["id"]: Claim(**claim) for claim in content["claims"]},
    )


def paper_title() -> str:
    """The paper's title."""
    return str(_content()["paper"]["title"])


@cache
def _content() -> Any:
    text = files("naspix.paper").joinpath("paper.json").read_text("utf-8")
    return json.loads(text)

"""The paper's numbers and claims, and whether these hold on the pictures at hand.

The numbers are ``tables/*.csv`` as it prints them, the claims ``paper.json``. A cell is what the
paper prints, with its sign and its brackets. ``**1.0**`` is set in bold there, ``_1.0_``
underlined; ``1.0†`` contradicts other cells of its row, and is kept as it is printed.

One rule tells whether a claim holds. A claim has parts, such as one a method. Each part is, picture
by picture, how far it goes the way that the claim says, less the claim's margin. The claim holds
where every part surely does, fails where one surely goes the other way, and cannot be told
otherwise, nor on a handful of pictures. *Surely* is Wilcoxon's signed-rank test over pictures,
corrected by Holm for the claim's parts, at 5 %; for figures that a picture has not by itself, such
as MaxBoxAccV2, it is a 95 % interval over pictures that leaves out zero.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from naspix.metrics import compare
from naspix.metrics.significance import holm

Value = str | int | float | None
Told = tuple[bool | None, str]  # whether it holds, and the test's numbers

FEWEST = 20  # pictures of which anything may be said
LEVEL = 0.05
_POWER = 2.8  # standard errors that a difference spans which a test finds four times in five
_MOST = 100_000  # pictures that are counted

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
        words: What has to be known to read its numbers: what they are measured on, their unit.
        n_keys: How many columns name a row; the others are numbers.
        columns: Headings; none for a figure.
        cells: As they stand in the file, with their marks.
        claims: By id.
    """

    name: str
    number: str
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


@dataclass(frozen=True, eq=False)
class Gains:
    """One part of a claim, on all pictures.

    Attributes:
        gains: Of each picture, above zero where it goes as the claim says; NaN where it has none.
        is_asked: Whether the claim needs it to be sure; else it only must not surely go the other
            way.
    """

    gains: Any
    is_asked: bool = True


@dataclass(frozen=True)
class Interval:
    """One part of a claim whose figure is of all pictures together.

    Attributes:
        value: Above zero where it goes as the claim says.
        low: Lower end of its 95 % interval.
        high: Upper end.
        is_asked: As for `Gains`.
    """

    value: float
    low: float
    high: float
    is_asked: bool = True


def told(
    parts: Mapping[str, Gains], words: str, *, unit: str = "points", scale: float = 100.0
) -> Told:
    """The verdict by Wilcoxon's test, with its numbers; where it is open, how many would tell.

    Args:
        parts: By name, as the page lists them.
        words: What was measured, a sentence.
        unit: Of the means that are listed.
        scale: From gains to that unit.
    """
    known = {}
    for name, part in parts.items():
        gains = np.asarray(part.gains, np.float64)
        known[name] = gains[np.isfinite(gains)]
    if not known or not all(map(len, known.values())):
        missing = [name for name, gains in known.items() if not len(gains)]
        return None, f"{words} There are 0 pictures for {', '.join(missing) or 'it'}."
    wilcoxon = [compare({"gains": gains, "none": np.zeros_like(gains)}) for gains in known.values()]
    p = holm(np.array([min(each.p for each in found.contenders) for found in wilcoxon]))
    signs = {
        name: int(np.sign(gains.mean())) if sure < LEVEL else 0
        for (name, gains), sure in zip(known.items(), p, strict=True)
    }
    means = ", ".join(
        f"{name} {scale * float(gains.mean()):+.3g}{'' if signs[name] else ' (not sure)'}"
        for name, gains in known.items()
    )
    n = min(map(len, known.values()))
    words = f"{words} In {unit}: {means}. {n} pictures, Wilcoxon's test, Holm, 5 %."
    needed = {}  # pictures of which a test of 5 % finds such differences four times in five
    for name, gains in known.items():
        size = abs(float(gains.mean())) / max(float(gains.std()), 1e-12)
        needed[name] = round((_POWER / max(size, 1e-3)) ** 2)
    return _verdict(parts, signs, n, words, needed)


def told_by_intervals(parts: Mapping[str, Interval], n: int, words: str) -> Told:
    """The verdict by 95 % intervals over pictures, with its numbers.

    Args:
        parts: By name, as the page lists them; in shares, which are listed in points.
        n: Pictures.
        words: What was measured, a sentence.
    """
    signs = {name: (part.low > 0) - (part.high < 0) for name, part in parts.items()}
    means = ", ".join(
        f"{name} {100 * part.value + 0.0:+.1f} "  # no negative zero
        f"({100 * part.low + 0.0:+.1f} to {100 * part.high + 0.0:+.1f})"
        for name, part in parts.items()
    )
    words = f"{words} In points, with 95 % intervals: {means or 'none'}. {n} pictures."
    needed = {}
    for name, part in parts.items():
        reach = (part.high - part.low) / 2
        ratio = reach / max(abs(part.value), 1e-3)
        needed[name] = round(n * max(ratio, 1.0) ** 2)
    return _verdict(parts, signs, n, words, needed)


def too_few(n: int, words: str) -> Told:
    """That nothing can be told of a handful of pictures, and what was measured on them."""
    return None, f"{n} pictures are too few to tell ({FEWEST} at least). {words}"


def _verdict(
    parts: Mapping[str, Gains] | Mapping[str, Interval],
    signs: Mapping[str, int],
    n: int,
    words: str,
    needed: Mapping[str, int],
) -> Told:
    against = [name for name, sign in signs.items() if sign < 0]
    undecided = [name for name, sign in signs.items() if sign == 0 and parts[name].is_asked]
    if not parts or n < FEWEST:
        return too_few(n, words)
    if against:
        return False, f"Against it: {', '.join(against)}. {words}"
    if not undecided:
        return True, words
    most = max(n + 1, *(needed[name] for name in undecided))
    enough = f"about {most}" if most <= _MOST else f"more than {_MOST}"
    return None, f"Open: {', '.join(undecided)}; {enough} pictures would tell. {words}"

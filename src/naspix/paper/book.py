"""The whole paper as one pdf: for each experiment a page of words and tables, then its figures.

Drawn by matplotlib, so that nothing else is needed; letters are letters, and fonts embedded.
"""

import io
import textwrap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from naspix.paper.experiment import Table
from naspix.paper.page import NO_CLAIMS, Shown, shown_cells, verdict_word
from naspix.paper.saving import DOTS, repeatable, write

_WIDTH, _HEIGHT = 8.27, 11.69  # A4, inches
_MARGIN = 0.75
_LINE = 0.19  # inches
_LETTERS = 9.5
_ACROSS = 94  # letters a line
_SMALL = 7.5
_WIDE, _NARROW = 0.075, 0.062  # inches a small letter is given at most, and needs
_ROWS_DOWN = 48  # of a table on a page


def write_book(path: Path, title: str, all_shown: Sequence[Shown]) -> None:
    """Write the pdf.

    Args:
        path: Where.
        title: The paper's.
        all_shown: Experiments in order.
    """
    content = io.BytesIO()
    with (
        repeatable(),
        PdfPages(content, metadata={"CreationDate": None, "Title": title}) as pages,
    ):
        pages.savefig(_first_leaf(title, all_shown))
        for shown in all_shown:
            for figure in _leaves(shown):
                pages.savefig(figure)
            for drawing in shown.drawings:
                pages.savefig(drawing.figure, dpi=DOTS, bbox_inches="tight")
    write(path, content.getvalue())


class _Leaf:
    """A page that is written from top to bottom."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(_WIDTH, _HEIGHT))
        self.down = _MARGIN

    def room(self) -> float:
        """Inches left."""
        return _HEIGHT - _MARGIN - self.down

    def write(self, text: str, *, size: float = _LETTERS, weight: str = "normal") -> None:
        """Write a paragraph, broken into lines."""
        across = int(_ACROSS * _LETTERS / size)
        for line in textwrap.wrap(text, across):
            self._put(_MARGIN, line, size, weight)
            self.down += _LINE * size / _LETTERS
        self.down += 0.5 * _LINE

    def rule(self, height: float = 0.5) -> None:
        """Draw a line across."""
        from matplotlib.lines import Line2D

        ends = (_MARGIN / _WIDTH, 1 - _MARGIN / _WIDTH)
        y = 1 - self.down / _HEIGHT
        self.figure.add_artist(Line2D(ends, (y, y), linewidth=height, color="black"))

    def row(
        self,
        cells: Sequence[str],
        places: Sequence[float],
        right: Sequence[bool],
        size: float,
        bold: Collection[int] = (),
    ) -> None:
        """Write a row of a table, some of its columns in bold."""
        for across, cell in enumerate(cells):
            weight = "bold" if across in bold else "normal"
            self._put(places[across], cell, size, weight, "right" if right[across] else "left")
        self.down += _LINE * _SMALL / _LETTERS

    def _put(self, x: float, text: str, size: float, weight: str, side: str = "left") -> None:
        self.figure.text(
            x / _WIDTH, 1 - self.down / _HEIGHT, text.replace("$", r"\$"),
            fontsize=size, fontweight=weight, ha=side, va="top",
        )  # fmt: skip


def _first_leaf(title: str, all_shown: Sequence[Shown]) -> Figure:
    """The title, what follows, and which of the paper's claims hold."""
    leaf = _Leaf()
    leaf.write(title, size=16, weight="bold")
    leaf.write("Every table and figure that was computed, beside the paper's. What follows:")
    for shown in all_shown:
        leaf.write(shown.experiment.title, size=_SMALL)
        for verdict in shown.verdicts:
            leaf.write(f"    The claim {verdict_word(verdict)}: {verdict.claim}", size=_SMALL)
    return leaf.figure


def _leaves(shown: Shown) -> Iterator[Figure]:
    """Pages of words and tables."""
    leaf = _Leaf()
    leaf.write(shown.experiment.title, size=14, weight="bold")
    for sentence in (shown.experiment.words, *shown.sentences):
        leaf.write(sentence)
    for verdict in shown.verdicts:
        source = f" ({verdict.source})" if verdict.source else ""
        leaf.write(f"The claim {verdict_word(verdict)}: {verdict.claim}{source} {verdict.why}")
    if not shown.verdicts:
        leaf.write(NO_CLAIMS)
    for drawing in shown.drawings:
        leaf.write(f"{drawing.title}: {drawing.words}", size=_SMALL)
    for table in shown.tables:
        for start in range(0, len(table.rows), _ROWS_DOWN):
            rows = table.rows[start : start + _ROWS_DOWN]
            if leaf.room() < _LINE * (len(rows) + 5):
                yield leaf.figure
                leaf = _Leaf()
            _write_table(leaf, table, start, len(rows))
    yield leaf.figure


def _write_table(leaf: _Leaf, table: Table, start: int, n_rows: int) -> None:
    texts = shown_cells(table)[start : start + n_rows]
    right = [
        all(isinstance(row[place], int | float) or row[place] is None for row in table.rows)
        for place in range(len(table.columns))
    ]
    places, size = _places([table.columns, *texts], right)
    leaf.write(table.title if not start else f"{table.title}, continued", weight="bold")
    leaf.rule(0.9)
    leaf.down += 0.05
    leaf.row(table.columns, places, right, size)
    leaf.rule()
    leaf.down += 0.05
    for down, row in enumerate(texts, start=start):
        bold = {across for across in range(len(row)) if (down, across) in table.marked}
        leaf.row(row, places, right, size, bold)
    leaf.rule(0.9)
    leaf.down += _LINE
    if table.words:
        leaf.write(table.words, size=_SMALL)


def _places(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> tuple[list[float], float]:
    """Where columns are set, by their longest cells, and letters so small that all find room."""
    letters = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    scale = min(_WIDE, (_WIDTH - 2 * _MARGIN) / sum(letters))
    places, x = [], _MARGIN
    for n, is_right in zip(letters, right, strict=True):
        places.append(x + (n - 1) * scale if is_right else x)
        x += n * scale
    return places, min(_SMALL, _SMALL * scale / _NARROW)

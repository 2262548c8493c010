"""The page of one table or figure, and of the whole paper: one HTML file with everything inside.

Functions of records alone: what an experiment shows of its run, and how that run was made, as plain
values for the template ``templates/paper.html.j2``. Printed, it has the paper's form.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from naspix.evaluation.page import settings_of
from naspix.paper.experiment import Experiment, Shown, Table, Value, subruns
from naspix.report.pages import render
from naspix.runs import Run

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


def page_of(drawn: Drawn) -> str:
    """The page of one table or figure."""
    experiment = drawn.experiment
    return _render(experiment.title, experiment.words, [drawn], is_whole=False)


def page_of_all(
    title: str, all_drawn: Sequence[Drawn], failed: Sequence[tuple[str, str]] = ()
) -> str:
    """The page of the whole paper.

    Args:
        title: The paper's.
        all_drawn: In the paper's order.
        failed: Names of what could not be computed, and why.
    """
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
    return _render(title, words, all_drawn, failed, is_whole=True)


def _render(
    title: str,
    words: str,
    all_drawn: Sequence[Drawn],
    failed: Sequence[tuple[str, str]] = (),
    *,
    is_whole: bool,
) -> str:
    return render(
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

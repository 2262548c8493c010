"""The page of one table or figure, and of the whole paper: one HTML file with everything inside.

Functions of records alone: what an experiment makes of its run, and how that run was made.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from naspix.evaluation.furniture import document, failures_note, settings_list
from naspix.paper.experiment import (
    Drawing,
    Experiment,
    Table,
    Value,
    Verdict,
    subruns,
)
from naspix.paper.published import PAPER
from naspix.runs.store import Run

NOT_AT_HAND = "not at hand"
NO_CLAIMS = "What the paper claims about it is not at hand."
_WORD = {True: "holds here", False: "does not hold here", None: "cannot be told here"}
_CLASS = {True: "yes", False: "no", None: "open"}
_STYLE = """
.scores td, .scores th { padding: 0.25rem 1.1rem 0.25rem 0; text-align: left; white-space: nowrap; }
.scores thead th { color: var(--soft); border-bottom: 1px solid var(--line); }
.scores th { font-weight: 600; } .scores td.number { text-align: right; }
.scores thead th.number { text-align: right; }
.scores .marked { font-weight: 700; } .scores .absent { color: var(--soft); font-style: italic; }
.drawing { margin: 0 0 1.2rem; } .drawing img { background: #fff; padding: 0.4rem; width: auto;
  max-width: 100%; }
.verdicts { list-style: none; margin: 0; padding: 0; } .verdicts li { margin: 0 0 0.7rem; }
.verdicts b { margin-right: 0.5rem; } .verdicts p { margin: 0.1rem 0 0; color: var(--soft); }
.yes { color: var(--fill); } .no { color: var(--against); } .open { color: var(--soft); }
section h3 { margin-bottom: 0.3rem; }
"""


@dataclass(frozen=True, eq=False)
class Shown:
    """An experiment as it is shown: everything a pure function of its run.

    Attributes:
        name: The experiment's.
        experiment: The experiment.
        run: What it left.
        sentences: What it ran on.
        tables: In order.
        drawings: In order.
        pngs: The drawings as png, in the same order.
        verdicts: On the paper's claims.
    """

    name: str
    experiment: Experiment
    run: Run
    sentences: Sequence[str]
    tables: Sequence[Table]
    drawings: Sequence[Drawing]
    pngs: Sequence[bytes]
    verdicts: Sequence[Verdict]


def page_of(shown: Shown) -> str:
    """The page of one table or figure."""
    experiment = shown.experiment
    header = f"<h1>{escape(experiment.title)}</h1>\n{_paragraphs([experiment.words])}"
    return document(experiment.title, _STYLE, header, _section(shown), _made(shown))


def page_of_all(
    title: str, all_shown: Sequence[Shown], failed: Sequence[tuple[str, str]] = ()
) -> str:
    """The page of the whole paper.

    Args:
        title: The paper's.
        all_shown: In the paper's order.
        failed: Names of what could not be computed, and why.
    """
    verdicts = [verdict for shown in all_shown for verdict in shown.verdicts]
    counts = ", ".join(
        f"{n} {_WORD[answer].replace('holds', 'hold').replace('does not', 'do not')}"
        if (n := sum(v.holds is answer for v in verdicts)) != 1
        else f"1 {_WORD[answer]}"
        for answer in (True, False, None)
    )
    links = "".join(
        f'<li><a href="#{shown.name}">{escape(shown.experiment.title)}</a></li>'
        for shown in all_shown
    )
    header = (
        f"<h1>{escape(title)}</h1>\n<p>Every table and figure that was computed, beside the "
        f"paper's. Of the paper's claims {counts}.</p>"
    )
    missing = "".join(f"<li><b>{escape(name)}</b>: {escape(why)}</li>" for name, why in failed)
    note = f'<div class="note"><p>Left out:</p><ul>{missing}</ul></div>\n' if failed else ""
    main = f"<nav><ol>{links}</ol></nav>\n{note}" + "".join(
        f'<h2 id="{shown.name}">{escape(shown.experiment.title)}</h2>\n'
        f"{_paragraphs([shown.experiment.words])}{_section(shown)}"
        for shown in all_shown
    )
    made = "".join(
        f"<h3>{escape(shown.experiment.title)}</h3>{_made(shown)}" for shown in all_shown
    )
    return document(title, _STYLE, header, main, made)


def shown_cells(table: Table) -> list[list[str]]:
    """A table's rows in words; the numbers of a column have as many decimals, three figures or so.

    Example:
        >>> rows = (("a", 0.1234, None), ("b", 9.0, 72.04))
        >>> shown_cells(Table("t", "T", ("what", "ms", "paper"), rows))
        [['a', '0.123', 'not at hand'], ['b', '9.000', '72.0']]
    """
    columns = list(zip(*table.rows, strict=True))
    decimals = [_decimals(column) for column in columns]
    return [
        [
            _shown(value, name, places)
            for value, name, places in zip(row, table.columns, decimals, strict=True)
        ]
        for row in table.rows
    ]


def _decimals(column: Sequence[Value]) -> int:
    """As the largest number needs."""
    largest = max((abs(value) for value in column if isinstance(value, float)), default=0.0)
    return 0 if largest >= 1000 else 1 if largest >= 10 else 3


def _shown(value: Value, column: str, decimals: int) -> str:
    if value is None:
        return NOT_AT_HAND if column == PAPER else ""
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


def verdict_word(verdict: Verdict) -> str:
    """Whether it holds here, in words."""
    return _WORD[verdict.holds]


def _section(shown: Shown) -> str:
    drawings = "\n".join(map(_drawing, shown.drawings, shown.pngs))
    tables = "\n".join(map(_table, shown.tables))
    return (
        f"<section>\n{_paragraphs(shown.sentences)}{failures_note(shown.run)}"
        f"{_verdicts(shown.verdicts)}{drawings}\n{tables}</section>\n"
    )


def _paragraphs(sentences: Sequence[str]) -> str:
    return "".join(f"<p>{escape(sentence)}</p>\n" for sentence in sentences if sentence)


def _drawing(drawing: Drawing, png: bytes) -> str:
    caption = f"<figcaption>{escape(drawing.words)}</figcaption>" if drawing.words else ""
    return (
        f'<figure class="drawing"><img loading="lazy" alt="{escape(drawing.title, quote=True)}" '
        f'src="data:image/webp;base64,{_webp(png)}">{caption}</figure>'
    )


def _webp(png: bytes) -> str:
    """The same picture for a page, a tenth of the size."""
    from PIL import Image

    content = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(content, "webp", quality=90, method=4)
    return base64.b64encode(content.getvalue()).decode()


def _table(table: Table) -> str:
    numeric = [
        all(isinstance(row[place], int | float) or row[place] is None for row in table.rows)
        for place in range(len(table.columns))
    ]
    head = "".join(
        f"<th{_classes(number=is_number)}>{escape(name)}</th>"
        for name, is_number in zip(table.columns, numeric, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(
            _cell(text, is_number=numeric[across], marked=(down, across) in table.marked)
            for across, text in enumerate(texts)
        )
        + "</tr>"
        for down, texts in enumerate(shown_cells(table))
    )
    words = f"<p>{escape(table.words)}</p>" if table.words else ""
    return (
        f"<h3>{escape(table.title)}</h3>\n{words}\n"
        f'<div class="wide"><table class="scores"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>\n"
    )


def _cell(text: str, *, is_number: bool, marked: bool) -> str:
    classes = _classes(number=is_number, marked=marked, absent=text == NOT_AT_HAND)
    return f"<td{classes}>{escape(text)}</td>"


def _classes(**names: bool) -> str:
    chosen = " ".join(name for name, holds in names.items() if holds)
    return f' class="{chosen}"' if chosen else ""


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return f"<p>{NO_CLAIMS}</p>\n"
    items = "\n".join(
        f'<li><b class="{_CLASS[verdict.holds]}">{_WORD[verdict.holds]}</b>'
        f"{escape(verdict.claim)} {escape(f'({verdict.source})' if verdict.source else '')}"
        f"<p>{escape(verdict.why)}</p></li>"
        for verdict in verdicts
    )
    return f'<h3>What the paper claims</h3>\n<ul class="verdicts">\n{items}\n</ul>\n'


def _made(shown: Shown) -> str:
    parts = [settings_list(shown.run)]
    parts += [f"<h4>{escape(name)}</h4>{settings_list(run)}" for name, run in _below(shown)]
    return f"<details><summary>How this was made</summary>\n{''.join(parts)}</details>"


def _below(shown: Shown) -> list[tuple[str, Run]]:
    return list(subruns(shown.run).items())

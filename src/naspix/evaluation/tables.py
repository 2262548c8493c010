"""Scores in the paper's form: a row a method, the raw map's figure, and what pooling adds to it.

Tables 3 and 4 print the raw map's score and the differences, table 2 absolute scores with their
spread; here all are differences. Every one has its interval, and the best, with what a test cannot
tell from it, is marked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from naspix import registry
from naspix.evaluation.scores import Score, blank_maps, meaning_of, scores_of
from naspix.metrics import SaliencyRow
from naspix.pipeline import RAW
from naspix.runs import Run

FIGURES: Mapping[str, str] = {
    "auc": "AUC-LeRF",
    "srg": "SRG",
    "mean": "MaxBoxAccV2",
    "iou_30": "IoU 30",
    "iou_50": "IoU 50",
    "iou_70": "IoU 70",
    "pointing": "Pointing",
    "energy": "Energy",
}
_PARTS = ("pictures", "most salient", "its mean", "the others'")  # of a line of table 1
_PERCENT = ("mean", "iou_30", "iou_50", "iou_70", "pointing", "energy")


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        interval: The ends of its interval, in the same form.
        marked: Whether it is the best, or not told from it.
        clear: Whether a difference's interval leaves out zero.
    """

    text: str
    interval: str = ""
    marked: bool = False
    clear: bool = False


@dataclass(frozen=True)
class FigureTable:
    """One figure of all settings.

    Attributes:
        figure: Its name.
        title: How people write it.
        columns: Headings, the method's first.
        rows: Cells, the method's name first.
        pictures: How many pictures each row stands on; nothing where a column says so.
    """

    figure: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    pictures: tuple[str, ...] = ()


def tables_of(run: Run) -> list[FigureTable]:
    """The scores of a run in the paper's form, a table a figure."""
    if run.kind == "semantics":
        return _meaning_tables(run)
    scores = scores_of(run)
    figures = list(dict.fromkeys(score.figure for score in scores))
    return [_table(figure, [s for s in scores if s.figure == figure]) for figure in figures]


def notes_on(run: Run) -> list[str]:
    """What the tables do not show: numbers of superpixels, pictures and maps that do not count."""
    if run.kind == "semantics":
        return []
    scores = scores_of(run)
    instead = asked_instead(run)
    counts = {s.segmenter: s.n_superpixels for s in scores if s.n_superpixels is not None}
    notes = [instead] if instead else []
    if counts:
        listed = ", ".join(f"{title_of(name)} {n:.1f}" for name, n in counts.items())
        notes.append(f"Superpixels of a picture, mean: {listed}.")
    out = {
        setting_title(s.method, s.segmenter): s.n_left_out
        for s in scores
        if s.figure == "auc" and s.n_left_out
    }
    if out:
        listed = ", ".join(f"{setting} {n}" for setting, n in out.items())
        notes.append(
            "Pictures without a curve, since their score is the same with nothing and with "
            f"everything hidden, are left out: {listed}."
        )
    blank = blank_maps(run)
    if blank:
        listed = ", ".join(
            f"{setting_title(method, segmenter)} {n}" for (method, segmenter), n in blank.items()
        )
        notes.append(
            f"Maps that are constant or not finite count as zero everywhere, as they do for "
            f"wsolevaluation: {listed}."
        )
    return notes


def asked_instead(run: Run) -> str:
    """Which classes of the data set the network does not know by name, and what it was asked.

    Nothing where it was not asked about true classes.
    """
    if run.settings.get("target") != "true":
        return ""
    named: Mapping[str, str] = run.settings.get("classes") or {}
    unknown = run.header["found"].get("unknown_classes") or []
    sentences = [f"The network was asked about {own} where pictures show {theirs}."
                 for theirs, own in named.items()]  # fmt: skip
    if unknown:
        some = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        sentences.append(
            f"The network does not know {some}: such pictures are explained for the predicted "
            f"class; --class {unknown[0].replace(' ', '_')}=CLASS names another."
        )
    return " ".join(sentences)


def paper_rows(run: Run) -> list[dict[str, object]]:
    """The same as one table of numbers: a row a method and figure, a column a segmenter."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for score in scores_of(run):
        row = rows.setdefault(
            (score.figure, score.method), {"figure": score.figure, "method": score.method}
        )
        if score.segmenter == RAW:
            row["raw"] = score.value
        elif score.difference is None:
            row[score.segmenter] = score.value
        else:
            row[f"+{score.segmenter}"] = score.difference
    return list(rows.values())


def title_of(name: str) -> str:
    """How people write the name of a method or segmenter.

    Example:
        >>> title_of("nas@coarse"), title_of("rise")
        ('NAS coarse', 'RISE')
    """
    base, _, variant = name.partition("@")
    controls = {"random": "Random", "greedy": "Greedy maximum"}
    return f"{controls.get(base) or registry.title_of(base)} {variant}".strip()


def setting_title(method: str, segmenter: str) -> str:
    """How people call a method's maps, as they are or pooled.

    Example:
        >>> setting_title("lrp", "none"), setting_title("lrp", "nas")
        ('LRP', 'LRP + NAS')
    """
    title = title_of(method)
    return title if segmenter == RAW else f"{title} + {title_of(segmenter)}"


def joined_tables(runs: Mapping[str, Run]) -> list[FigureTable]:
    """The tables of one or several networks, a table a figure, with the numbers of pictures.

    Args:
        runs: Network's name -> its run; of several the first column is the network.
    """
    found: dict[str, FigureTable] = {}
    for network, run in runs.items():
        for table in tables_of(run):
            columns, rows = table.columns, table.rows
            if table.pictures:
                columns = (*columns, "pictures")
                rows = tuple((*row, Cell(n)) for row, n in zip(rows, table.pictures, strict=True))
            if len(runs) > 1:
                columns = ("model", *columns)
                rows = tuple((Cell(network), *row) for row in rows)
            before = found.get(table.figure)
            whole = FigureTable(table.figure, table.title, columns, rows)
            found[table.figure] = (
                whole if before is None else replace(before, rows=before.rows + rows)
            )
    return list(found.values())


def text_table(runs: Mapping[str, Run]) -> str:
    """The tables for a terminal or a file."""
    lines = []
    for table in joined_tables(runs):
        texts = [[_text(cell) for cell in row] for row in table.rows]
        widths = [max(map(len, column)) for column in zip(table.columns, *texts, strict=True)]
        lines += [table.title, _line(table.columns, widths)]
        lines += [_line(row, widths) for row in texts] + [""]
    return "\n".join([*lines, *_words_on(runs)])


def markdown_tables(runs: Mapping[str, Run]) -> str:
    """The tables for Markdown; bold is what a test does not tell from the best."""
    lines = []
    for table in joined_tables(runs):
        rows = [[_text(cell, "**", "**") for cell in row] for row in table.rows]
        rows = [list(table.columns), ["---"] * len(table.columns), *rows]
        lines += [f"**{table.title}**", ""]
        lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join([*lines, *(f"{words}\n" for words in _words_on(runs, "bold:"))])


def latex_tables(runs: Mapping[str, Run]) -> str:
    """The tables for LaTeX with the package booktabs; bold as in Markdown."""
    lines = ["% needs \\usepackage{booktabs}"]
    lines += [f"% {words}" for words in _words_on(runs, "bold:")]
    for table in joined_tables(runs):
        rows = [[_tex(cell.text, cell) for cell in row] for row in table.rows]
        lines += [
            "",
            "\\begin{table}",
            f"\\caption{{{_tex(table.title)}}}",
            f"\\begin{{tabular}}{{{'l' * len(table.columns)}}}",
            "\\toprule",
            " & ".join(map(_tex, table.columns)) + " \\\\",
            "\\midrule",
            *(" & ".join(row) + " \\\\" for row in rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
    return "\n".join([*lines, ""])


def _tex(text: str, cell: Cell | None = None) -> str:
    """A text in LaTeX, with the interval of the cell that it is from, bold where that is marked."""
    for sign in "&%#_$":
        text = text.replace(sign, f"\\{sign}")
    if text.startswith("-") and len(text) > 1:
        text = f"$-${text[1:]}"
    if cell is None:
        return text
    text = f"\\textbf{{{text}}}" if cell.marked else text
    return f"{text} {{\\scriptsize {cell.interval}}}" if cell.interval else text


def _words_on(runs: Mapping[str, Run], mark: str = "*") -> list[str]:
    """What has to be known to read the tables, and what they do not show."""
    runs_of = list(runs.values())
    counts = sorted({run.n_items - len(run.failures) for run in runs_of})
    n = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    n = f"{n} picture{'s' * (n != '1')}"
    if runs_of[0].kind == "semantics":
        legend = f"{n}; mean saliency of the most salient cluster and of the others [95 %]"
    else:
        legend = (
            f"{n}; [95 % interval]; differences are to the raw map in the same row; {mark} the best"
            f"{' of its network' * (len(runs) > 1)}, or not told from it (Wilcoxon, Holm, 5 %)"
        )
    notes = [
        note if len(runs) < 2 else f"{network}: {note}"
        for network, run in runs.items()
        for note in notes_on(run)
    ]
    return [legend, *notes]


def _meaning_tables(run: Run) -> list[FigureTable]:
    """Table 1: a table a class, a row a setting and all, right or wrong predictions."""
    rows = meaning_of(run)
    columns = ("method", "predictions", *_PARTS)
    tables = []
    for label in dict.fromkeys(row.label for row in rows):
        lines = [
            (
                Cell(setting_title(row.method, row.segmenter)),
                Cell(row.row.split),
                *_meaning_cells(row.row),
            )
            for row in rows
            if row.label == label
        ]
        names = run.header["found"]["categories"]
        name = names[label] if label < len(names) else f"class {label}"
        tables.append(FigureTable(f"class {label}", name, columns, tuple(lines)))
    return tables


def _meaning_cells(row: SaliencyRow) -> list[Cell]:
    if not row.n_images:
        return [Cell("0"), *[Cell("-")] * (len(_PARTS) - 1)]
    ends = (row.chosen_interval, row.others_interval)
    return [
        Cell(str(row.n_images)),
        Cell(f"cluster {row.cluster}"),
        *(
            Cell(f"{value:.3f}", f"[{low:.3f}, {high:.3f}]" if row.n_images > 1 else "")
            for value, (low, high) in zip((row.chosen, row.others), ends, strict=True)
        ),
    ]


def _table(figure: str, scores: Sequence[Score]) -> FigureTable:
    segmenters = list(dict.fromkeys(score.segmenter for score in scores))
    by_setting = {(score.method, score.segmenter): score for score in scores}
    rows, pictures = [], []
    for method in dict.fromkeys(score.method for score in scores):
        cells = [Cell(title_of(method))]
        for segmenter in segmenters:
            score = by_setting.get((method, segmenter))
            cells.append(Cell("") if score is None else _cell(score))
        rows.append(tuple(cells))
        counts = sorted({score.n_pictures for score in scores if score.method == method})
        pictures.append(" to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))))
    headings = ["raw" if name == RAW else f"+{title_of(name)}" for name in segmenters]
    unit = ", %" if figure in _PERCENT else ""
    title, columns = FIGURES[figure] + unit, ("method", *headings)
    return FigureTable(figure, title, columns, tuple(rows), tuple(pictures))


def _cell(score: Score) -> Cell:
    """The raw map's figure, or the difference to it."""
    signed = score.difference is not None
    value = score.value if score.difference is None else score.difference
    ends = (score.difference_low, score.difference_high) if signed else (score.low, score.high)
    text, marked = _number(score.figure, value, signed=signed), bool(score.as_good_as_best)
    low, high = ends
    if low is None or high is None:
        return Cell(text, "", marked)
    told = ", ".join(_number(score.figure, end, signed=signed) for end in (low, high))
    return Cell(text, f"[{told}]", marked, clear=signed and (low > 0 or high < 0))


def _number(figure: str, value: float, *, signed: bool = False) -> str:
    if math.isnan(value):
        return "-"
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.1f}" if figure in _PERCENT else f"{value:{sign}.3f}"


def _text(cell: Cell, before: str = "", behind: str = "*") -> str:
    """A cell's text and interval, the text between marks where the cell is marked."""
    text = f"{before}{cell.text}{behind}" if cell.marked else cell.text
    return f"{text} {cell.interval}".strip()


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (f"{text:<{width}}" for text, width in zip(texts, widths, strict=True))
    return "  ".join([first, *others]).rstrip()

"""Scores in the paper's form: a row a method, the raw map's figure, and what pooling adds to it.

Tables 2 to 4 print the raw map's score and the differences. Here every difference has its interval,
and the best, with what a test cannot tell from it, is marked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """

    figure: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


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


def text_table(run: Run) -> str:
    """The tables for a terminal or a file."""
    lines = []
    for table in tables_of(run):
        texts = [[_text(cell) for cell in row] for row in table.rows]
        widths = [max(map(len, column)) for column in zip(table.columns, *texts, strict=True)]
        lines += [table.title, _line(table.columns, widths)]
        lines += [_line(row, widths) for row in texts] + [""]
    lines += [_legend(run), *notes_on(run)]
    return "\n".join(lines)


def _legend(run: Run) -> str:
    n = run.n_items - len(run.failures)
    if run.kind == "semantics":
        return f"{n} pictures; mean saliency of the most salient cluster and of the others [95 %]"
    return (
        f"{n} pictures; [95 % interval]; differences are to the raw map in the same row; "
        "* the best, or not told from it (Wilcoxon, Holm, 5 %)"
    )


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
            Cell(f"{value:.3f}", f"[{low:.3f}, {high:.3f}]")
            for value, (low, high) in zip((row.chosen, row.others), ends, strict=True)
        ),
    ]


def _table(figure: str, scores: Sequence[Score]) -> FigureTable:
    segmenters = list(dict.fromkeys(score.segmenter for score in scores))
    by_setting = {(score.method, score.segmenter): score for score in scores}
    rows = []
    for method in dict.fromkeys(score.method for score in scores):
        cells = [Cell(title_of(method))]
        for segmenter in segmenters:
            score = by_setting.get((method, segmenter))
            cells.append(Cell("") if score is None else _cell(score))
        rows.append(tuple(cells))
    headings = ["raw" if name == RAW else f"+{title_of(name)}" for name in segmenters]
    unit = ", %" if figure in _PERCENT else ""
    return FigureTable(figure, FIGURES[figure] + unit, ("method", *headings), tuple(rows))


def _cell(score: Score) -> Cell:
    if score.difference is None or score.difference_low is None or score.difference_high is None:
        ends = f"[{_number(score.figure, score.low)}, {_number(score.figure, score.high)}]"
        return Cell(_number(score.figure, score.value), ends, bool(score.as_good_as_best))
    low, high = score.difference_low, score.difference_high
    return Cell(
        _number(score.figure, score.difference, signed=True),
        f"[{_number(score.figure, low, signed=True)}, {_number(score.figure, high, signed=True)}]",
        bool(score.as_good_as_best),
        clear=low > 0 or high < 0,
    )


def _number(figure: str, value: float, *, signed: bool = False) -> str:
    if math.isnan(value):
        return "-"
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.1f}" if figure in _PERCENT else f"{value:{sign}.3f}"


def _text(cell: Cell) -> str:
    return f"{cell.text}{'*' if cell.marked else ''} {cell.interval}".strip()


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (f"{text:<{width}}" for text, width in zip(texts, widths, strict=True))
    return "  ".join([first, *others]).rstrip()

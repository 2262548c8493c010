"""An evaluation's page: tables in the paper's form, curves, pictures to look at, what was left out.

One HTML file with everything inside it, a function of the run's folder alone.
"""

import base64
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import PurePath

from naspix.evaluation.curves import curves_figure
from naspix.evaluation.evaluator import Evaluator
from naspix.evaluation.examples import (
    Example,
    ShownMap,
    draw_examples,
    main_segmenter,
    read_examples,
    up_to_date,
)
from naspix.evaluation.measures import GREEDY
from naspix.evaluation.scores import scores_of
from naspix.evaluation.tables import (
    Cell,
    FigureTable,
    notes_on,
    paper_rows,
    tables_of,
    title_of,
)
from naspix.files import write_whole, written
from naspix.pipeline import RAW
from naspix.plots.colours import cluster_colours
from naspix.report.document import CLOSING, definitions, flattened, left_out, opening
from naspix.runs import Run

SCORES, TABLE, RECORDS, PAGE = "scores.csv", "table.csv", "records.parquet", "report.html"
_HEADINGS = {
    "lerf": (
        "How long the score survives",
        "The least relevant parts are hidden first; the larger the area under the score of the "
        "class, the better the map knows what is irrelevant (AUC-LeRF).",
    ),
    "wsol": (
        "Where the object is",
        "Maps are cut at a threshold and give boxes; an object is found if a box overlaps the true "
        "one by the wanted IoU (MaxBoxAccV2).",
    ),
    "semantics": (
        "What the saliency falls on",
        "Saliency of each cluster that the pictures of a class share; the most salient one, and "
        "the others.",
    ),
}
_DIFFERENCES = (
    "The raw map's figure, and what pooling over superpixels adds to it, with 95 % intervals over "
    "pictures; coloured where the interval leaves out zero. Bold: the best, or not told from it by "
    "a test (Wilcoxon, corrected by Holm, 5 %)."
)
_GREEDY = (
    " The greedy maximum is no difference: it is the area that the best order found of those "
    "superpixels reaches, without any map."
)
_SRG = (
    " SRG is the area with the least relevant hidden first less that with the most relevant first."
)
_BOXES = (
    " Boxes: white the true ones; blue, of the boxes of the map, the one that overlaps one of them "
    "best, at the threshold that is best for all pictures at IoU 50. Below each map that overlap, "
    "its IoU."
)
_FIGURE_BELOW = {
    "lerf": " Below each map its AUC-LeRF.",
    "wsol": _BOXES,
    "semantics": " Below each map the mean saliency of its most salient cluster.",
}
_LEGENDS = {
    "lerf": _DIFFERENCES,
    "wsol": _DIFFERENCES,
    "semantics": "For all predictions, the right and the wrong ones: the most salient of the "
    "clusters that the pictures of a class share, the mean saliency of its superpixels and of all "
    "others (maps scaled to 0..1), with 95 % intervals over pictures. The clusters themselves lie "
    "in classes/, for ClassClusters.load; below they are drawn in the colours of their numbers.",
}
_WHY = {"best": "helps most", "usual": "the usual case", "worst": "harms most"}
_STYLE = """
.scores td, .scores th { padding: 0.3rem 1.1rem 0.3rem 0; text-align: left; white-space: nowrap; }
.scores thead th { color: var(--soft); border-bottom: 1px solid var(--line); }
.scores tr > :first-child { position: sticky; left: 0; background: var(--card); }
.chips span { white-space: nowrap; margin-left: 0.6rem; }
.tables { margin-bottom: 0.8rem; } .tables .wide { margin-bottom: 0.4rem; }
.scores th { font-weight: 600; } .scores small { color: var(--soft); display: block; }
.scores .marked { font-weight: 700; } .scores .clear { color: var(--fill); }
.example { display: grid; gap: 0.8rem; margin: 0.6rem 0 1.6rem; align-items: start;
  grid-template-columns: repeat(var(--n), minmax(0, 12rem)); }
.example figure:first-child { grid-row: 1 / span var(--rows); }
@media (max-width: 40rem) {
  .example { grid-template-columns: repeat(2, 1fr); }
  .example figure:first-child { grid-row: auto; }
  .scores td, .scores th { padding-right: 0.7rem; }
  .scores tr > :first-child { white-space: normal; max-width: 6.5rem; }
}
.curves { background: #fff; border-radius: 0.4rem; padding: 0.4rem; min-width: var(--least);
  max-width: var(--most); }
"""


def write_results(run: Run, make_worker: Callable[[], Evaluator] | None = None) -> None:
    """Write what a run's records say: tables as csv, records as parquet, and a page.

    ``scores.csv`` has a row a score, ``table.csv`` the paper's form. Functions of the records and
    of the pictures that were drawn; nothing is computed anew but maps of the pictures to look at,
    where there is a worker to ask and they are not drawn yet.

    Args:
        run: A run, finished or not.
        make_worker: Makes what explains pictures again; without it those drawn before are shown.

    Raises:
        OutputError: They cannot be written.
    """
    if make_worker and run.n_items > len(run.failures) and not up_to_date(run):
        draw_examples(run, make_worker())
    _write_table(run, SCORES, [asdict(score) for score in scores_of(run)])
    _write_table(run, TABLE, paper_rows(run))
    run.export(run.folder / RECORDS)
    with written(run.folder), write_whole(run.folder / PAGE) as file:
        file.write(page_of(run).encode())


def _write_table(run: Run, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with written(run.folder), write_whole(run.folder / name) as file:
        file.write(text.getvalue().encode())


def page_of(run: Run) -> str:
    """The whole page.

    Raises:
        InputError: The run has no records, or is no evaluation.
    """
    title, words = _HEADINGS[run.kind]
    header = f"<h1>{escape(title)}</h1>\n<p>{escape(words)}</p>\n<p>{escape(_judged(run))}</p>"
    main = f"{_tables(run)}{_curves(run)}{_examples(run, read_examples(run))}{failures_note(run)}"
    footer = f"<details><summary>Settings</summary>\n{settings_list(run)}</details>"
    return document(title, _STYLE, header, main, footer)


def _judged(run: Run) -> str:
    """Which pictures, network and class."""
    settings = run.settings
    n = run.n_items - len(run.failures)
    folder = PurePath(str(settings["root"])).name
    target = {"predicted": "the predicted class", "label": "the picture's own class"}.get(
        str(settings["target"]), str(settings["target"])
    )
    return (
        f"{n} {'picture' if n == 1 else 'pictures'} of {folder} (--dataset {settings['dataset']}), "
        f"{settings['model']}, explained for {target}."
    )


def _tables(run: Run) -> str:
    shown = tables_of(run)
    legend = _LEGENDS[run.kind]
    if run.kind == "lerf":
        has_greedy = any(row[0].text == title_of(GREEDY) for table in shown for row in table.rows)
        legend += _GREEDY if has_greedy else ""
        legend += _SRG if any(table.figure == "srg" for table in shown) else ""
    notes = "".join(f"<p>{escape(words)}</p>\n" for words in [legend, *notes_on(run)])
    tables = "\n".join(map(_table, shown))
    return f'<section>\n<div class="tables">\n{tables}</div>\n{notes}</section>\n'


def _table(table: FigureTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "\n".join(
        f"<tr><th>{escape(name.text)}</th>{''.join(map(_cell, cells))}</tr>"
        for name, *cells in table.rows
    )
    return (
        f'<div class="wide"><h2>{escape(table.title)}</h2><table class="scores">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    classes = " ".join(
        name for name, holds in (("marked", cell.marked), ("clear", cell.clear)) if holds
    )
    interval = f"<small>{escape(cell.interval)}</small>" if cell.interval else ""
    return f'<td class="{classes}">{escape(cell.text)}{interval}</td>'


def _curves(run: Run) -> str:
    figure = curves_figure(run)
    if figure is None:
        return ""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "naspix"}):  # the same records, the same page
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    source = base64.b64encode(buffer.getvalue()).decode()
    words = str(figure.get_label())
    # small print stays readable: a phone scrolls, a wide window does not blow it up
    inches = figure.get_figwidth()
    return (
        f"<section>\n<h2>Curves</h2>\n<p>{escape(words)}.</p>\n"
        f'<div class="wide"><img class="curves" style="--least: {4.2 * inches:.0f}rem; '
        f'--most: {6.6 * inches:.0f}rem" alt="{escape(words, quote=True)}" '
        f'src="data:image/svg+xml;base64,{source}"></div>\n</section>\n'
    )


def _examples(run: Run, examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    shown = "\n".join(_example(run, example) for example in examples)
    legend = _cluster_legend(run) if run.kind == "semantics" else ""
    return (
        f"<section>\n<h2>Pictures</h2>\n<p>{_chosen_by(run)}{_FIGURE_BELOW[run.kind]}</p>\n"
        f"{legend}{shown}\n</section>\n"
    )


def _cluster_legend(run: Run) -> str:
    """Which colour each cluster's number has."""
    n_clusters = len(run.records(["sums"])["sums"][0])
    chips = " ".join(
        f'<span><i class="chip" style="background:rgb{tuple(colour.tolist())}"></i>{number}</span>'
        for number, colour in enumerate(cluster_colours(n_clusters))
    )
    return f'<p class="chips">Clusters: {chips}</p>\n'


def _chosen_by(run: Run) -> str:
    main = main_segmenter(run.settings["segmenters"])
    if main == RAW:
        return "The best, the usual and the worst pictures by the mean over all methods."
    return escape(
        f"Where pooling over {title_of(main)} helps most, where it harms most, and between: chosen "
        "by what it adds, the mean over all methods, in brackets. The quickest methods are shown."
    )


def _example(run: Run, example: Example) -> str:
    chosen = example.chosen
    figures = "\n".join(_figure(run, each) for each in example.maps)
    n = len({RAW, *run.settings["segmenters"]})
    return (
        f"<h3>{escape(_WHY[chosen.why])}: {escape(chosen.id)}, explained for "
        f"{escape(example.target)} ({chosen.gain:+.3f})</h3>\n"
        f'<div class="example" style="--n: {n + 1}; --rows: {(len(example.maps) - 1) // n}">\n'
        f"{figures}\n</div>"
    )


def _figure(run: Run, shown: ShownMap) -> str:
    from PIL import Image

    content = io.BytesIO()
    try:
        picture = Image.open(run.folder / shown.file)
        picture.save(content, "jpeg", quality=88)
    except OSError:
        return ""
    width, height = picture.size
    source = base64.b64encode(content.getvalue()).decode()
    score = "" if shown.score is None else f": {shown.score:.3f}"
    caption = escape(f"{shown.title}{score}")
    return (
        f'<figure><img width="{width}" height="{height}" alt="{caption}" '
        f'src="data:image/jpeg;base64,{source}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def document(title: str, style: str, header: str, main: str, footer: str) -> str:
    """A whole page, self-contained, in the style of all of naspix's pages.

    Args:
        title: Of the window.
        style: What goes beyond the common style.
        header: Of the page.
        main: Its content.
        footer: How it was made.
    """
    return (
        f"{opening(f'naspix: {title}', style)}<header>{header}</header>\n<main>\n{main}</main>\n"
        f"<footer>{footer}</footer>\n{CLOSING}"
    )


def failures_note(run: Run) -> str:
    """Which pictures were left out, and why; nothing if none were."""
    failures = run.failures
    if not failures:
        return ""
    n = len(failures)
    words = f"{n} {'picture was' if n == 1 else 'pictures were'} left out:"
    return left_out(words, [(failure.item, failure.reason) for failure in failures])


def settings_list(run: Run) -> str:
    """Settings, what was found, times and machines, as a list of definitions."""
    entries = [*flattened(run.settings), *flattened(run.header["found"])]
    entries += [(f"seconds of {name}", f"{value:.1f}") for name, value in run.seconds.items()]
    for machine in run.machines:
        entries += [(name, str(value)) for name, value in machine.items() if value]
    entries.append(("begun", str(run.header["created"])))
    return definitions(entries)

"""An evaluation's page: tables in the paper's form, curves, pictures to look at, what was left out.

One HTML file with everything inside it, a function of the run's folder alone.
"""

import base64
import io
from collections.abc import Sequence
from html import escape

from naspix.experiments.evaluation.curves import curves_figure
from naspix.experiments.evaluation.examples import Example, ShownMap, read_examples
from naspix.experiments.evaluation.explaining import RAW
from naspix.experiments.evaluation.tables import Cell, FigureTable, tables_of
from naspix.experiments.furniture import document, failures_note, settings_list
from naspix.experiments.store import Run

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
_LEGENDS = {
    "lerf": _DIFFERENCES,
    "wsol": _DIFFERENCES,
    "semantics": "For all predictions, the right and the wrong ones: the most salient of the "
    "clusters that the pictures of a class share, the mean saliency of its superpixels and of all "
    "others (maps scaled to 0..1), with 95 % intervals over pictures.",
}
_WHY = {"best": "helps most", "usual": "the usual case", "worst": "harms most"}
_STYLE = """
.scores td, .scores th { padding: 0.3rem 1.1rem 0.3rem 0; text-align: left; white-space: nowrap; }
.scores thead th { color: var(--soft); border-bottom: 1px solid var(--line); }
.scores th { font-weight: 600; } .scores small { color: var(--soft); display: block; }
.scores .marked { font-weight: 700; } .scores .clear { color: var(--fill); }
.example { display: grid; gap: 0.8rem; margin: 0.6rem 0 1.6rem; align-items: start;
  grid-template-columns: repeat(var(--n), minmax(0, 12rem)); }
.example figure:first-child { grid-row: 1 / span var(--rows); }
@media (max-width: 40rem) {
  .example { grid-template-columns: repeat(2, 1fr); }
  .example figure:first-child { grid-row: auto; }
}
.curves { width: 100%; background: #fff; border-radius: 0.4rem; padding: 0.4rem; }
"""


def page_of(run: Run) -> str:
    """The whole page.

    Raises:
        InputError: The run has no records, or is no evaluation.
    """
    title, words = _HEADINGS[run.kind]
    n = run.n_items - len(run.failures)
    header = (
        f"<h1>{escape(title)}</h1>\n<p>{escape(words)}</p>\n"
        f"<p>{n} pictures of {escape(str(run.settings['dataset']))}, "
        f"{escape(str(run.settings['model']))}.</p>"
    )
    main = f"{_tables(run)}{_curves(run)}{_examples(run, read_examples(run))}{failures_note(run)}"
    footer = f"<details><summary>Settings</summary>\n{settings_list(run)}</details>"
    return document(title, _STYLE, header, main, footer)


def _tables(run: Run) -> str:
    tables = "\n".join(map(_table, tables_of(run)))
    return (
        f'<section>\n<div class="tables">\n{tables}</div>\n'
        f"<p>{escape(_LEGENDS[run.kind])}</p>\n</section>\n"
    )


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
    return (
        "<section>\n<h2>Curves</h2>\n"
        f'<img class="curves" alt="{escape(str(figure.get_label()), quote=True)}" '
        f'src="data:image/svg+xml;base64,{source}">\n</section>\n'
    )


def _examples(run: Run, examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    shown = "\n".join(_example(run, example) for example in examples)
    return (
        "<section>\n<h2>Pictures</h2>\n<p>Where pooling over superpixels helps most, where it "
        "harms most, and between: chosen by the mean over all methods; the quickest methods are "
        f"shown.</p>\n{shown}\n</section>\n"
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
        Image.open(run.folder / shown.file).save(content, "jpeg", quality=88)
    except OSError:
        return ""
    source = base64.b64encode(content.getvalue()).decode()
    score = "" if shown.score is None else f": {shown.score:.3f}"
    caption = escape(f"{shown.title}{score}")
    return (
        f'<figure><img loading="lazy" alt="{caption}" src="data:image/jpeg;base64,{source}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )

"""An evaluation's page: tables in the paper's form, curves, pictures to look at, what was left out.

One HTML file with everything inside it, a function of the run's folder alone.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from naspix.evaluation.curves import curves_figure
from naspix.evaluation.evaluator import Evaluator
from naspix.evaluation.examples import (
    Example,
    draw_examples,
    main_segmenter,
    read_examples,
    up_to_date,
)
from naspix.evaluation.measures import GREEDY
from naspix.evaluation.scores import joined, picture_scores, score_rows
from naspix.evaluation.tables import (
    FigureTable,
    asked_instead,
    joined_tables,
    latex_tables,
    markdown_tables,
    notes_on,
    paper_rows,
    title_of,
)
from naspix.files import write_whole, written
from naspix.pipeline import RAW
from naspix.plots.colours import cluster_colours
from naspix.report.pages import flattened, render
from naspix.runs import Run

SCORES, TABLE, PICTURES = "scores.csv", "table.csv", "pictures.csv"
MARKDOWN, LATEX, RECORDS, PAGE = "tables.md", "tables.tex", "records.parquet", "report.html"
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


def write_results(run: Run, make_worker: Callable[[], Evaluator] | None = None) -> None:
    """Write what a run's records say: tables, records as parquet, and a page.

    ``scores.csv`` has a row a score, ``table.csv`` the paper's form, ``pictures.csv`` each
    picture's own scores; ``tables.md`` and ``tables.tex`` are for papers. Functions of the records
    and of the pictures that were drawn; nothing is computed anew but maps of the pictures to look
    at, where there is a worker to ask and they are not drawn yet.

    Args:
        run: A run, finished or not.
        make_worker: Makes what explains pictures again; without it those drawn before are shown.

    Raises:
        OutputError: They cannot be written.
    """
    if make_worker and run.n_items > len(run.failures) and not up_to_date(run):
        draw_examples(run, make_worker())
    _write_tables(run.folder, {str(run.settings["model"]): run})
    run.export(run.folder / RECORDS)
    _write(run.folder / PAGE, page_of(run))


def write_comparison(folder: Path, runs: Mapping[str, Run]) -> None:
    """Write the tables of several networks, and a page that leads to each one's own.

    Args:
        folder: Where to.
        runs: Network's name -> its run, which lies below the folder.

    Raises:
        OutputError: They cannot be written.
    """
    _write_tables(folder, runs)
    _write(folder / PAGE, _comparison_page(folder, runs))


def _write_tables(folder: Path, runs: Mapping[str, Run]) -> None:
    """The files that one network and several have; those of several name the network."""

    def of_each(rows_of: Callable[[Run], Sequence[Mapping[str, object]]]) -> str:
        named = joined(runs, rows_of)
        columns = list(dict.fromkeys(column for row in named for column in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(named)
        return text.getvalue()

    _write(folder / SCORES, of_each(score_rows))
    _write(folder / TABLE, of_each(paper_rows))
    _write(folder / PICTURES, of_each(lambda run: picture_scores(run).to_dict("records")))
    _write(folder / MARKDOWN, markdown_tables(runs))
    _write(folder / LATEX, latex_tables(runs))


def _write(path: Path, text: str) -> None:
    with written(path.parent), write_whole(path) as file:
        file.write(text.encode())


def _comparison_page(folder: Path, runs: Mapping[str, Run]) -> str:
    """The page of several networks: the tables, and links to each one's page."""
    first = next(iter(runs.values()))
    heading, words = _HEADINGS[first.kind]
    tables = joined_tables(runs)
    notes = [f"{name}: {note}" for name, run in runs.items() for note in notes_on(run)]
    return render(
        "evaluation.html.j2",
        "naspix.evaluation",
        title=f"naspix: {heading}",
        heading=heading,
        words=[words, *(f"{name}: {_judged(run)}" for name, run in runs.items())],
        tables=tables,
        links=[
            (name, (run.folder / PAGE).relative_to(folder).as_posix()) for name, run in runs.items()
        ],
        notes=[_legend(first, tables), *notes],
        curves=None,
        examples=(),
        failures=dict.fromkeys((f.item, f.reason) for run in runs.values() for f in run.failures),
        settings=settings_of(first),
    )


def page_of(run: Run) -> str:
    """The whole page.

    Raises:
        InputError: The run has no records, or is no evaluation.
    """
    heading, words = _HEADINGS[run.kind]
    tables = joined_tables({str(run.settings["model"]): run})
    examples = [shown for example in read_examples(run) if (shown := _example(run, example))]
    return render(
        "evaluation.html.j2",
        "naspix.evaluation",
        title=f"naspix: {heading}",
        heading=heading,
        words=[words, _judged(run)],
        tables=tables,
        links=(),
        notes=[_legend(run, tables), *notes_on(run)],
        curves=_curves(run),
        examples=examples,
        chosen_by=_chosen_by(run) + _FIGURE_BELOW[run.kind],
        clusters=_cluster_colours(run) if run.kind == "semantics" and examples else (),
        failures=[(failure.item, failure.reason) for failure in run.failures],
        settings=settings_of(run),
    )


def settings_of(run: Run) -> list[tuple[str, str]]:
    """Settings, what was found, times and machines, by name."""
    entries = [*flattened(run.settings), *flattened(run.header["found"])]
    entries += [(f"seconds of {name}", f"{value:.1f}") for name, value in run.seconds.items()]
    for machine in run.machines:
        entries += [(name, str(value)) for name, value in machine.items() if value]
    return [*entries, ("begun", str(run.header["created"]))]


def _judged(run: Run) -> str:
    """Which pictures, network and class."""
    settings = run.settings
    n = run.n_items - len(run.failures)
    folder = PurePath(str(settings["root"])).name
    own = "the picture's own class"
    target = {"predicted": "the predicted class", "label": own, "true": own}.get(
        str(settings["target"]), str(settings["target"])
    )
    of = f"{folder} (--dataset {settings['dataset']})" if folder else settings["dataset"]
    return (
        f"{n} {'picture' if n == 1 else 'pictures'} of {of}, "
        f"{settings['model']}, explained for {target}. {asked_instead(run)}".strip()
    )


def _legend(run: Run, tables: Sequence[FigureTable]) -> str:
    legend = _LEGENDS[run.kind]
    if run.kind == "lerf":
        has_greedy = any(row[0].text == title_of(GREEDY) for table in tables for row in table.rows)
        legend += _GREEDY if has_greedy else ""
        legend += _SRG if any(table.figure == "srg" for table in tables) else ""
    return legend


def _curves(run: Run) -> dict[str, Any] | None:
    figure = curves_figure(run)
    if figure is None:
        return None
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "naspix"}):  # the same records, the same page
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    inches = figure.get_figwidth()
    return {
        "words": str(figure.get_label()),
        "svg": buffer.getvalue(),
        "least": f"{4.2 * inches:.0f}",
        "most": f"{6.6 * inches:.0f}",
    }


def _cluster_colours(run: Run) -> list[list[int]]:
    """The colour of each cluster's number."""
    colours: list[list[int]] = cluster_colours(len(run.records(["sums"])["sums"][0])).tolist()
    return colours


def _chosen_by(run: Run) -> str:
    main = main_segmenter(run.settings["segmenters"])
    if main == RAW:
        return "The best, the usual and the worst pictures by the mean over all methods."
    return (
        f"Where pooling over {title_of(main)} helps most, where it harms most, and between: chosen "
        "by what it adds, the mean over all methods, in brackets. The quickest methods are shown."
    )


def _example(run: Run, example: Example) -> dict[str, Any]:
    """A picture with its maps, without those whose files are gone; nothing where all are."""
    from PIL import Image

    chosen, maps = example.chosen, []
    for shown in example.maps:
        try:
            with Image.open(run.folder / shown.file) as picture:
                pixels = np.asarray(picture.convert("RGB"))
        except OSError:
            continue
        score = "" if shown.score is None else f": {shown.score:.3f}"
        maps.append({"pixels": pixels, "caption": f"{shown.title}{score}"})
    if not maps:
        return {}
    n = len({RAW, *run.settings["segmenters"]})
    return {
        "title": f"{_WHY[chosen.why]}: {chosen.id}, explained for {example.target} "
        f"({chosen.gain:+.3f})",
        "n": n,
        "n_rows": (len(example.maps) - 1) // n,
        "maps": maps,
    }

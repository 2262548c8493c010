"""``naspix explain``: photos in, pictures, a report and a record out."""

import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from naspix.cli import talk
from naspix.cli.options import (
    EngineOptions,
    InputOptions,
    Json,
    MethodName,
    ModelOptions,
    NasOptions,
    Output,
    Photos,
    SegmenterName,
    assignments,
    several,
)

_MODEL, _NAS, _INPUT, _ENGINE = ModelOptions(), NasOptions(), InputOptions(), EngineOptions()


def explain(
    paths: Photos = None,
    /,
    *,
    method: Annotated[
        tuple[Literal[MethodName, "all"], ...],
        several("Saliency method; all are those that explain a class"),
    ] = ("grad_cam_plus_plus",),
    segmenter: Annotated[
        tuple[Literal[SegmenterName, "all"], ...],
        several("What cuts"),
    ] = ("nas",),
    target: Annotated[
        tuple[str, ...],
        Parameter(
            help="Class to explain, number or name; the predicted one if absent. Given several "
            "times, each class of each photo is explained.",
            negative=(),
            show_default=False,
        ),
    ] = (),
    contrast: Annotated[
        str | None,
        Parameter(
            help="Class that the target is held against: why the one and not the other.",
            show_default=False,
        ),
    ] = None,
    set_: Annotated[tuple[str, ...], assignments("a method or segmenter")] = (),
    tiles: Annotated[
        int,
        Parameter(
            help="Cover photos whole at their own scale, by at most so many tiles of the network's "
            "size; 64 is a good number. 0 scales and cuts photos as --resize says."
        ),
    ] = 0,
    threshold: Annotated[
        float,
        Parameter(
            help="From which probability on a class is listed, where a photo may have several "
            "classes at once."
        ),
    ] = 0.5,
    quick: Annotated[
        bool,
        Parameter(
            help="Fewer masks, samples and steps in the methods that take long: a first look.",
            negative=(),
            show_default=False,
        ),
    ] = False,
    greedy: Annotated[
        bool,
        Parameter(
            help="Also search the order in which superpixels can be hidden at the least cost.",
            negative=(),
            show_default=False,
        ),
    ] = False,
    sets: Annotated[
        bool,
        Parameter(
            help="Also search the few superpixels that suffice for the class, and the few that it "
            "needs.",
            negative=(),
            show_default=False,
        ),
    ] = False,
    film: Annotated[
        bool,
        Parameter(
            help="The folder holds the frames of a film, in the order of their names.",
            negative=(),
            show_default=False,
        ),
    ] = False,
    every: Annotated[int, Parameter(help="Of a film: only each so manieth frame.")] = 1,
    most_frames: Annotated[int, Parameter(help="Of a film: no more frames than that.")] = 600,
    kind: Annotated[
        Literal["png", "svg", "pdf"],
        Parameter(
            name="--format",
            help="svg, pdf: also a figure of each photo, explanation.svg or explanation.pdf.",
        ),
    ] = "png",
    model: ModelOptions = _MODEL,
    nas: NasOptions = _NAS,
    inputs: InputOptions = _INPUT,
    engine: EngineOptions = _ENGINE,
    output: Output = Path("naspix-results"),
    json: Json = False,
) -> int:
    """Explain what an image classifier sees in photos.

    Writes pictures of each photo, report.html, results.json and ranking.csv into the output folder.
    The same command goes on where it was stopped, and the folder takes other methods, segmenters
    and photos: what is there is used, what lacks is computed. A video or an animated GIF becomes
    explained.mp4, film.html and frames.csv.
    """
    from naspix import progress, registry
    from naspix.films import explain_film, is_film
    from naspix.folders import PhotoSettings, explain_photos

    settings = PhotoSettings(
        **model.plain,
        methods=tuple(dict.fromkeys(registry.with_all("method", method))),
        segmenters=tuple(dict.fromkeys(registry.with_all("segmenter", segmenter))),
        parameters=_parameters(set_, nas.parameters),
        target=target or None,
        contrast=contrast,
        tiles=tiles,
        threshold=threshold,
        quick=quick,
        greedy=greedy,
        sets=sets,
        **vars(inputs),
        file_format=kind,
    )

    if paths and len(paths) == 1 and (film or is_film(paths[0])):
        with progress.progress_of_photos("explaining") as doing:
            found = explain_film(
                settings, paths[0], output, every=every, most_frames=most_frames, doing=doing
            )
        print(f"{found.n_frames} frames, {found.target}")  # noqa: T201 - a result
        talk.say(f"see {output / 'film.html'}")
        return 0

    def told(photo: Mapping[str, Any]) -> None:
        if "error" in photo:
            talk.say(f"left out {photo['source']}: {photo['error']}")
        elif not json:
            counts = ", ".join(f"{n} superpixels ({name})" for name, n in photo["counts"].items())
            print(f"{_in_column(photo['name'])}  {photo['said']}  {counts}")  # noqa: T201 - a result

    with progress.progress_of_photos("explaining") as doing:
        run = explain_photos(
            settings, output, paths=paths, engine=engine.make(), told=told, doing=doing
        )
    failed = len(run.failures)
    if json:
        with (output / "results.json").open(encoding="utf-8") as file:
            shutil.copyfileobj(file, sys.stdout)
    else:
        if failed:
            talk.say(f"{failed} of {run.n_items} photos were left out")
        if failed < run.n_items:
            talk.say(f"see {output / 'report.html'}")
    return 1 if failed else 0


def _parameters(assignments: Iterable[str], of_nas: Mapping[str, Any]) -> dict[str, Any]:
    """What ``--set`` says, over the options of NAS."""
    from naspix.registry import SALIENCY, SEGMENTERS
    from naspix.settings import read_assignments

    found = read_assignments(list(assignments), {**SALIENCY, **SEGMENTERS})
    return {**found, "nas": {**of_nas, **found.get("nas", {})}}


def _in_column(name: str, width: int = 24) -> str:
    """A name in a column, its middle left out where it is longer."""
    if len(name) > width:
        kept = width - 1
        name = f"{name[: kept // 2]}…{name[-(kept - kept // 2) :]}"
    return f"{name:<{width}}"

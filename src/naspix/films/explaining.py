"""A film explained: one class throughout, regions that keep their numbers, and what is written.

Two passes over the film: the first asks what the network sees in each frame, which decides the
class and the colours' scale; the second explains frame by frame. Memory is that of a few frames.
"""

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from naspix import plots
from naspix.errors import InputError
from naspix.files import write_whole, written
from naspix.films.drawing import Strip, frame_picture, width_of
from naspix.films.drawing import written as film_written
from naspix.films.reading import Film
from naspix.folders import PhotoSettings
from naspix.models import Classifier
from naspix.models.batches import batch_size_on
from naspix.pipeline import Pipeline
from naspix.report import RunRecord
from naspix.report.pages import render
from naspix.report.record import made_by
from naspix.superpixelify import superpixelify
from naspix.targets import as_given

FILM, PAGE, TABLE = "explained.mp4", "film.html", "frames.csv"
_N_CURVES = 5


@dataclass(frozen=True)
class ExplainedFilm:
    """What is left of a film.

    Attributes:
        folder: Where ``explained.mp4``, ``film.html`` and ``frames.csv`` lie.
        n_frames: How many frames were taken.
        target: The class that is explained.
        likeliest: Class and mean probability over the frames, the likeliest first.
    """

    folder: Path
    n_frames: int
    target: str
    likeliest: tuple[tuple[str, float], ...]


def explain_film(
    settings: PhotoSettings,
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    every: int = 1,
    most_frames: int = 600,
    doing: Callable[[float, int, str], None] = lambda done, total, step: None,
) -> ExplainedFilm:
    """Explain a film, by one method over NAS, and write it with a table of its frames and a page.

    The class is that of ``settings.target``, or else the one of the highest mean probability over
    all frames. Colours mean the same in all frames: their scale is that of the frame in which the
    class is likeliest.

    Args:
        settings: What is asked, as of photos.
        path: A video, an animated GIF, or a folder of pictures in the order of their names.
        output: The folder of results; files of the same names are replaced.
        every: Only each so manieth frame is taken.
        most_frames: No more frames than that are taken.
        doing: Told how many frames are done, how many there are, and what is under way.

    Raises:
        InputError: Settings that suit no film.
        ImageError: The film cannot be read.
        MissingExtraError: PyAV is not installed.
        OutputError: The results cannot be written.
    """
    if len(settings.methods) != 1 or settings.segmenters != ("nas",):
        raise InputError("a film is explained by one method over nas; ask for one")
    if isinstance(settings.target, tuple) and len(settings.target) > 1:
        raise InputError("one class of a film is explained; ask for one target")
    if settings.tiles or settings.contrast or settings.greedy or settings.sets:
        raise InputError("films know no tiles, contrasts, greedy orders or sets; leave them out")
    film = Film(Path(path), every=every, most=most_frames)
    folder = Path(output)
    model = settings.load()
    (method,) = settings.make_methods(model).values()
    nas = settings.make_segmenters(model)["nas"]

    scores, seen = [], 0
    for images in _batches(model, film, settings):
        with torch.no_grad():
            scores.append(model.scores.probabilities(model(images).cpu().double()))
        seen += len(images)
        doing(0, seen, "reading the film")
    if not scores:
        raise InputError(f"there is no frame in {os.fspath(film.path)!r}")
    probabilities = torch.cat(scores).numpy()
    given = settings.target[0] if isinstance(settings.target, tuple) else settings.target
    means = probabilities.mean(0)
    target = int(means.argmax()) if given is None else model.find_class(given)
    shown = _shown_classes(probabilities, target)
    names = [model.category(index) for index in shown]
    rate, n_frames = film.rate, len(probabilities)
    seconds = [number / rate for number in range(n_frames)]

    levels = model.level_names(nas.levels)
    ask = Pipeline(model, {"method": method}, levels=levels)
    scale = _scale(ask, nas, model, film, settings, probabilities[:, target], target)
    follow = nas.follower()
    strip: Strip | None = None
    rows: list[dict[str, Any]] = []
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{FILM}.part"
        try:
            with film_written(part, rate) as add:
                for number, image in enumerate(_frames(model, film, settings)):
                    regions, pooled = _explained(ask, follow, model, image, target)
                    labels = regions.superpixels[0].cpu().numpy()
                    if strip is None:
                        width = width_of(labels.shape)
                        strip = Strip(
                            probabilities[:, shown],
                            names,
                            seconds,
                            width,
                            are_probabilities=model.scores.are_probabilities,
                        )
                    picture = _array(model, image)
                    add(frame_picture(picture, labels, pooled, scale, strip.at(number)))
                    values = probabilities[number]
                    best = int(values.argmax())
                    means_of = np.bincount(labels.ravel(), pooled.ravel()) / np.bincount(
                        labels.ravel()
                    )
                    tracks = regions.tracks.numpy()
                    rows.append(
                        {
                            "frame": number * every,
                            "seconds": round(seconds[number], 3),
                            "predicted": model.category(best),
                            "probability": float(values[best]),
                            "target_probability": float(values[target]),
                            "n_superpixels": len(tracks),
                            "most_salient": int(tracks[means_of.argmax()]),
                            **{
                                f"p_{name}": float(values[index])
                                for name, index in zip(names, shown, strict=True)
                            },
                        }
                    )
                    doing(number + 1, n_frames, "explaining")
            part.replace(folder / FILM)
        finally:
            part.unlink(missing_ok=True)
        order = means.argsort()[::-1][:_N_CURVES]
        found = ExplainedFilm(
            folder,
            n_frames,
            model.category(target),
            tuple((model.category(int(index)), float(means[index])) for index in order),
        )
        with write_whole(folder / TABLE) as file:
            file.write(_csv(rows))
        with write_whole(folder / PAGE) as file:
            file.write(_page(found, film, settings, rows, rate, model, scale).encode())
    return found


def _frames(
    model: Classifier, film: Film, settings: PhotoSettings
) -> Iterator[Float[Tensor, "1 C H W"]]:
    """Each frame as the network takes it."""
    resize = None if settings.resize == "none" else settings.resize
    for frame in film:
        yield model.load_images([frame], resize, max_pixels=settings.max_pixels)


def _batches(
    model: Classifier, film: Film, settings: PhotoSettings
) -> Iterator[Float[Tensor, "B C H W"]]:
    frames = _frames(model, film, settings)
    while some := list(islice(frames, batch_size_on(model.device, None))):
        yield torch.cat(some)


def _explained(
    ask: Pipeline, follow: Any, model: Classifier, image: Tensor, target: int
) -> tuple[Any, Float[np.ndarray, "H W"]]:
    """A frame's regions, under their lasting numbers, and its map pooled over them."""
    found = ask(image, as_given(torch.tensor([target], device=model.device)))
    maps = [found.activations[level] for level in ask.levels]
    regions = follow(maps, (image.shape[2], image.shape[3]))
    heat = superpixelify(found.raw["method"], regions.superpixels)[0]
    return regions, heat.cpu().float().numpy()


def _scale(
    ask: Pipeline,
    nas: Any,
    model: Classifier,
    film: Film,
    settings: PhotoSettings,
    of_target: Float[np.ndarray, " F"],
    target: int,
) -> plots.Scale:
    """The colours of the frame in which the class is likeliest, for all frames."""
    best = int(of_target.argmax())
    image = next(islice(_frames(model, film, settings), best, None))
    _, pooled = _explained(ask, nas.follower(), model, image, target)
    return plots.saliency_scale(pooled, outliers=0.01)


def _shown_classes(probabilities: Float[np.ndarray, "F n"], target: int) -> list[int]:
    """The class that is explained, and those that are likeliest in some frame."""
    order = probabilities.max(0).argsort()[::-1]
    others = [int(index) for index in order if int(index) != target]
    return [target, *others[: _N_CURVES - 1]]


def _array(model: Classifier, image: Tensor) -> np.ndarray:
    one = image[0] if model.shown is None else image[0, [*model.shown]]
    return one.permute(1, 2, 0).cpu().numpy()


def _csv(rows: list[dict[str, Any]]) -> bytes:
    import io

    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


def _page(
    found: ExplainedFilm,
    film: Film,
    settings: PhotoSettings,
    rows: list[dict[str, Any]],
    rate: float,
    model: Classifier,
    scale: plots.Scale,
) -> str:
    record = RunRecord(
        {
            "film": film.path.name,
            "frames": f"{found.n_frames}, each {film.every}. of the film's, {rate:.3g} a second",
            "model": model.name,
            "scores": str(model.scores),
            "method": settings.methods[0],
            "colours": f"from {scale.low:.3g} to {scale.high:.3g}, in the method's own unit",
            "segmenter": "nas, tracked",
            "resize": settings.resize,
        }
    )
    told = [
        [row["frame"], row["seconds"], row["predicted"], row["probability"],
         row["target_probability"], row["n_superpixels"]]
        for row in rows
    ]  # fmt: skip
    return render(
        "film.html.j2",
        "naspix.films",
        title=f"naspix: {film.path.name}",
        found=found,
        film=FILM,
        rows=told,
        rate=rate,
        settings=made_by(record),
        are_probabilities=model.scores.are_probabilities,
    )

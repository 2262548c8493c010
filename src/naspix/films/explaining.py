"""A film explained: one class throughout, regions that keep their numbers, and what is written.

Two passes over the film: the first asks what the network sees in each frame, which decides the
class and the colours' scale; the second explains frame by frame. Memory is that of a few frames.
"""

import csv
import io
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
from naspix.segmentation import NAS, Segmentation
from naspix.superpixelify import superpixelify
from naspix.targets import as_given

Doing = Callable[[float, int, str], None]

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
    doing: Doing = lambda done, total, step: None,
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
    model = settings.load()
    (method,) = settings.make_methods(model).values()
    nas = settings.make_segmenters(model)["nas"]
    probabilities = _probabilities(model, film, settings, doing)
    means = probabilities.mean(0)
    given = settings.target[0] if isinstance(settings.target, tuple) else settings.target
    target = int(means.argmax()) if given is None else model.find_class(given)
    ask = Pipeline(model, {"method": method}, levels=model.level_names(nas.levels))
    of_film = _OfFilm(film, settings, model, nas, ask, target)
    order = means.argsort()[::-1][:_N_CURVES]
    found = ExplainedFilm(
        Path(output),
        len(probabilities),
        model.category(target),
        tuple((model.category(int(index)), float(means[index])) for index in order),
    )
    scale = of_film.scale(int(probabilities[:, target].argmax()))
    with written(found.folder):
        found.folder.mkdir(parents=True, exist_ok=True)
        part = found.folder / f".{FILM}.part"
        try:
            rows = of_film.write(part, probabilities, scale, doing)
            part.replace(found.folder / FILM)
        finally:
            part.unlink(missing_ok=True)
        with write_whole(found.folder / TABLE) as file:
            file.write(_csv(rows))
        with write_whole(found.folder / PAGE) as file:
            file.write(of_film.page(found, rows, scale).encode())
    return found


def _probabilities(
    model: Classifier, film: Film, settings: PhotoSettings, doing: Doing
) -> Float[np.ndarray, "F n_classes"]:
    """What the network sees in each frame.

    Raises:
        InputError: There is no frame.
    """
    found: list[Tensor] = []
    frames = _frames(model, film, settings)
    while some := list(islice(frames, batch_size_on(model.device, None))):
        with torch.no_grad():
            scores = model(torch.cat(some))
        found.append(model.scores.probabilities(scores.cpu().double()))
        doing(0, sum(map(len, found)), "reading the film")
    if not found:
        raise InputError(f"there is no frame in {os.fspath(film.path)!r}")
    return torch.cat(found).numpy()


def _frames(
    model: Classifier, film: Film, settings: PhotoSettings
) -> Iterator[Float[Tensor, "1 C H W"]]:
    """Each frame as the network takes it."""
    resize = None if settings.resize == "none" else settings.resize
    for frame in film:
        yield model.load_images([frame], resize, max_pixels=settings.max_pixels)


@dataclass(frozen=True)
class _OfFilm:
    """A film, and who is asked about it.

    Attributes:
        film: The film.
        settings: What is asked.
        model: The network.
        nas: Cuts.
        ask: Asks the network for a frame's map and activations at once.
        target: The class that is explained.
    """

    film: Film
    settings: PhotoSettings
    model: Classifier
    nas: NAS
    ask: Pipeline
    target: int

    def explained(
        self, image: Tensor, follow: Callable[..., Segmentation]
    ) -> tuple[Segmentation, Float[np.ndarray, "H W"]]:
        """A frame's regions, under their lasting numbers, and its map pooled over them."""
        target = torch.tensor([self.target], device=self.model.device)
        found = self.ask(image, as_given(target))
        maps = [found.activations[level] for level in self.ask.levels]
        regions = follow(maps, (image.shape[2], image.shape[3]))
        heat = superpixelify(found.raw["method"], regions.superpixels)[0]
        return regions, heat.cpu().float().numpy()

    def scale(self, number: int) -> plots.Scale:
        """The colours of one frame, for all."""
        image = next(islice(_frames(self.model, self.film, self.settings), number, None))
        _, pooled = self.explained(image, self.nas.follower())
        return plots.saliency_scale(pooled, outliers=0.01)

    def write(
        self,
        path: Path,
        probabilities: Float[np.ndarray, "F n_classes"],
        scale: plots.Scale,
        doing: Doing,
    ) -> list[dict[str, Any]]:
        """Write the explained film, and return a row a frame."""
        model, n_frames, rate = self.model, len(probabilities), self.film.rate
        order = probabilities.max(0).argsort()[::-1].tolist()
        shown = [self.target, *(one for one in order if one != self.target)][:_N_CURVES]
        curves = {model.category(index): probabilities[:, index] for index in shown}
        seconds = [number / rate for number in range(n_frames)]
        follow, rows = self.nas.follower(), []
        strip: Strip | None = None
        with film_written(path, rate) as add:
            for number, image in enumerate(_frames(model, self.film, self.settings)):
                regions, pooled = self.explained(image, follow)
                assert regions.tracks is not None
                labels, tracks = regions.superpixels[0].cpu().numpy(), regions.tracks
                if strip is None:
                    strip = Strip(
                        curves,
                        seconds,
                        width_of(labels.shape),
                        are_probabilities=model.scores.are_probabilities,
                    )
                one = image[0] if model.shown is None else image[0, [*model.shown]]
                pixels = one.permute(1, 2, 0).cpu().numpy()
                add(frame_picture(pixels, labels, pooled, scale, strip.at(number)))
                best = int(probabilities[number].argmax())
                most_salient = labels.ravel()[pooled.argmax()]  # constant on each superpixel
                rows.append(
                    {
                        "frame": number * self.film.every,
                        "seconds": round(seconds[number], 3),
                        "predicted": model.category(best),
                        "probability": float(probabilities[number, best]),
                        "target_probability": float(probabilities[number, self.target]),
                        "n_superpixels": len(tracks),
                        "most_salient": int(tracks[most_salient]),
                        **{f"p_{name}": float(curve[number]) for name, curve in curves.items()},
                    }
                )
                doing(number + 1, n_frames, "explaining")
        return rows

    def page(self, found: ExplainedFilm, rows: list[dict[str, Any]], scale: plots.Scale) -> str:
        """The page with the film and a slider."""
        film, model = self.film, self.model
        every = "" if film.every == 1 else f", one in {film.every} of the film's"
        record = RunRecord(
            {
                "film": film.path.name,
                "frames": f"{found.n_frames}{every}, {film.rate:.3g} a second",
                "model": model.name,
                "scores": str(model.scores),
                "method": self.settings.methods[0],
                "colours": f"from {scale.low:.3g} to {scale.high:.3g}, in the method's own unit",
                "segmenter": "nas, tracked",
                "resize": self.settings.resize,
            }
        )
        told = ("frame", "seconds", "predicted", "probability", "target_probability")
        return render(
            "film.html.j2",
            "naspix.films",
            title=f"naspix: {film.path.name}",
            found=found,
            film=FILM,
            rows=[[row[name] for name in (*told, "n_superpixels")] for row in rows],
            rate=film.rate,
            settings=made_by(record),
            are_probabilities=model.scores.are_probabilities,
        )


def _csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()

"""``naspix explain``: photos in, pictures, a report and a record out."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from naspix.cli import talk
from naspix.cli.inputs import Batch, Photo, answers, find_photos, read_batches
from naspix.cli.options import (
    InputOptions,
    Json,
    MethodName,
    ModelOptions,
    NasOptions,
    Output,
    Photos,
    SegmenterName,
    several,
)

if TYPE_CHECKING:
    from naspix.explain import Explanation, Segmenter
    from naspix.models import Classifier
    from naspix.report import PhotoExplanation, RunRecord
    from naspix.saliency import SaliencyMethod

_MODEL, _NAS, _INPUT = ModelOptions(), NasOptions(), InputOptions()


def explain(
    paths: Photos = None,
    /,
    *,
    method: Annotated[
        tuple[Literal[MethodName, "all"], ...],
        several("Saliency method"),
    ] = ("grad_cam_plus_plus",),
    segmenter: Annotated[
        tuple[Literal[SegmenterName, "all"], ...],
        several("What cuts"),
    ] = ("nas",),
    target: Annotated[
        str | None, Parameter(help="Class to explain, number or name; the predicted one if absent.")
    ] = None,
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
    model: ModelOptions = _MODEL,
    nas: NasOptions = _NAS,
    inputs: InputOptions = _INPUT,
    output: Output = Path("naspix-results"),
    json: Json = False,
) -> int:
    """Explain what an image classifier sees in photos.

    Writes pictures of each photo, report.html and results.json into the output folder.
    """
    from naspix.models.targets import find_class
    from naspix.report import ResultsFolder

    photos = find_photos(paths)
    network = model.load()
    asked = _Question(
        network,
        methods=_methods(method, network, quick=quick),
        segmenters=_segmenters(segmenter, network, nas),
        greedy=greedy,
        target=find_class(network, target),
    )
    run = _run_record(model, nas, inputs, asked)
    width = min(40, max(len(photo.name) for photo in photos))
    with (
        talk.progress_of_parts(len(photos), "explaining", n_parts=asked.n_parts) as step,
        ResultsFolder(output, run) as results,
    ):
        done = 0

        def fail(photo: Photo, reason: str) -> None:
            nonlocal done
            results.fail(photo.source, reason)
            talk.say(f"left out {photo.source}: {reason}")
            done += 1

        asked.told = lambda part, doing: step(done + part, doing)
        for batch in read_batches(photos, network, inputs, fail):
            for explained in _explained(batch, asked, fail):
                results.add(explained)
                done += 1
                step(done, "explaining")
                if not json:
                    _print_line(explained, width)
    if json:
        _print_file(output / "results.json")
    else:
        _say_where(output, results.failed, len(photos))
    return 1 if results.failed else 0


class _Question:
    """What is asked of every batch."""

    def __init__(
        self,
        network: "Classifier",
        methods: "Mapping[str, SaliencyMethod]",
        segmenters: "Mapping[str, Segmenter]",
        target: int | None,
        greedy: bool,
    ) -> None:
        self.network, self.methods = network, methods
        self.segmenters, self.target, self.greedy = segmenters, target, greedy
        self.told: Callable[[float, str], None] = lambda part, doing: None

    @property
    def n_parts(self) -> int:
        """How many things are asked of a photo."""
        return len(self.segmenters) + len(self.methods)

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """What is asked about together.

        On a CPU a batch is no faster than its photos one by one, and these come out sooner.
        """
        if self.network.device.type != "cpu" or len(self.methods) == 1:
            yield batch
            return
        for index, photo in enumerate(batch.photos):
            yield Batch([photo], batch.images[index : index + 1])

    def ask(self, batch: Batch) -> "Explanation":
        from naspix import registry
        from naspix.explain import explain

        begun = 0

        def told(name: str) -> None:
            nonlocal begun
            self.told(len(batch.photos) * begun / self.n_parts, registry.TITLES.get(name, name))
            begun += 1

        return explain(
            self.network,
            batch.images,
            self.target,
            method=list(self.methods.values()),
            segmenter=list(self.segmenters.values()),
            names=[photo.name for photo in batch.photos],
            greedy=self.greedy,
            told=told,
        )


def _explained(
    batch: Batch, question: _Question, fail: Callable[[Photo, str], None]
) -> "Iterator[PhotoExplanation]":
    for together in question.parts(batch):
        for part, explanation in answers(together, question.ask, fail):
            for photo, explained in zip(part.photos, explanation.photos(), strict=True):
                yield replace(explained, name=photo.name, source=photo.source)


def _methods(
    names: tuple[str, ...], network: "Classifier", *, quick: bool
) -> "dict[str, SaliencyMethod]":
    from naspix import registry

    asked = registry.SALIENCY if "all" in names else names
    return {name: registry.make_method(name, network, quick=quick) for name in asked}


def _segmenters(
    names: tuple[str, ...], network: "Classifier", nas: NasOptions
) -> "dict[str, Segmenter]":
    from naspix import registry

    asked = registry.SEGMENTERS if "all" in names else names
    return {name: nas.make(network) if name == "nas" else name for name in asked}


def _run_record(
    model: ModelOptions, nas: NasOptions, inputs: InputOptions, question: _Question
) -> "RunRecord":
    from naspix import registry
    from naspix.report import RunRecord

    settings: dict[str, object] = {
        "model": model.model,
        "weights": model.weights,
        "device": str(question.network.device),
        "resize": inputs.resize,
        "batch_size": inputs.batch_size,
        "target": "predicted" if question.target is None else question.target,
        "methods": {name: repr(method) for name, method in question.methods.items()},
        "segmenters": {
            name: repr(registry.find_segmenter(made)() if isinstance(made, str) else made)
            for name, made in question.segmenters.items()
        },
    }
    return RunRecord(settings=settings, seed=nas.seed)


def _print_line(photo: "PhotoExplanation", width: int) -> None:
    first = photo.predictions[0]
    counts = ", ".join(
        f"{labels.max() + 1} superpixels ({name})"
        for name, (_, labels) in photo.segmentations.items()
    )
    line = f"{photo.name:<{width}}  {first.name:<24} {first.probability:>6.1%}  {counts}"
    print(line)  # noqa: T201 - a result


def _print_file(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        shutil.copyfileobj(file, sys.stdout)


def _say_where(output: Path, failed: list[tuple[str, str]], n_photos: int) -> None:
    if failed:
        talk.say(f"{len(failed)} of {n_photos} photos were left out")
    if len(failed) < n_photos:
        talk.say(f"see {output / 'report.html'}")

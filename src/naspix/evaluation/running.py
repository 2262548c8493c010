"""An evaluation from settings to a finished run's folder, on any engine, gone on with after a stop.

Everything that holds for all pictures (matched parameters) is decided before the first batch and
kept with the run, so that whoever computes a batch, and when, changes nothing.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from naspix.errors import InputError, NaspixError
from naspix.evaluation.evaluator import Evaluator, Framing
from naspix.evaluation.examples import draw_examples, up_to_date
from naspix.evaluation.explaining import Explainer, Picture
from naspix.evaluation.semantics import Semantics, Shelf, find_clusters
from naspix.evaluation.settings import EvaluationSettings, classes_of, fingerprint
from naspix.files import written
from naspix.models import Classifier
from naspix.runs.continuing import OpenRun, open_run
from naspix.runs.engine import Engine, InProcess, carry_out
from naspix.runs.store import Run, read_run
from naspix.segmentation import NAS

_MATCHED_ON = 16  # pictures
_CLASSES = "classes"  # where clusters of classes lie


def evaluate(
    settings: EvaluationSettings,
    output: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    progress: Callable[[int, int], None] = lambda n_done, n_all: None,
    examples: bool = True,
) -> Run:
    """Evaluate explanations on a data set, or go on where it was interrupted.

    Args:
        settings: What is asked.
        output: The run's folder, new or begun with the same settings.
        engine: Who computes; this process by default.
        progress: Told how many pictures are done more, and how many there are.
        examples: Whether maps of a few pictures are made again, to be looked at.

    Returns:
        The finished run.

    Raises:
        InputError: Settings that cannot be, or others than the folder's.
        OutputError: The folder cannot be written, or another process writes to it.
    """
    dataset = settings.make_dataset()
    n_items = len(dataset) if settings.limit is None else min(settings.limit, len(dataset))
    plain = {**settings.to_plain(), "data": fingerprint(dataset)}
    with open_run(output, kind=settings.task, settings=plain, growing=["limit"]) as run:
        found = _found(run, settings, n_items)
        carry_out(
            run,
            partial(make_evaluator, settings, found),
            n_items=n_items,
            batch_size=settings.batch_size,
            engine=engine or InProcess(),
            progress=lambda n_more: progress(n_more, n_items),
        )
        if examples:
            _draw(run, settings, found)
    return read_run(output)


def make_evaluator(settings: EvaluationSettings, found: Mapping[str, Any]) -> Evaluator:
    """The worker: in each process once.

    Args:
        settings: What is asked.
        found: What was decided when the run began.
    """
    model = settings.make_model()
    dataset = settings.make_dataset()
    measure = settings.make_measure()
    if isinstance(measure, Semantics):
        measure = replace(measure, shelf=Shelf(Path(found["classes"]), model))
    explainer = Explainer(
        model,
        settings.make_methods(model),
        settings.make_segmenters(model, found["matched"]),
        settings.target,
        measure.level_names(model),
    )
    return Evaluator(dataset, explainer, measure, _framing(settings, model))


def _draw(run: OpenRun, settings: EvaluationSettings, found: Mapping[str, Any]) -> None:
    """Draw pictures to look at, if that has not been done for these records."""
    finished = read_run(run.run.folder)
    if finished.n_items > len(finished.failures) and not up_to_date(finished):
        draw_examples(finished, make_evaluator(settings, found))


def _framing(settings: EvaluationSettings, model: Classifier) -> Framing:
    dataset = settings.make_dataset()
    label_of = classes_of(dataset, model)
    if settings.target == "label" and not label_of:
        some = ", ".join(dataset.categories[:3]) or "none"
        raise InputError(
            f"the classes of the data set ({some}) are not those of {model.name}; give --target "
            "predicted, or a class"
        )
    return Framing(model, squash=settings.task == "wsol", label_of=label_of)


def _found(run: OpenRun, settings: EvaluationSettings, n_items: int) -> dict[str, Any]:
    """What holds for all pictures, found now or when the run began."""
    matched = run.find("matched", lambda: matched_parameters(settings))
    measure, classes = settings.make_measure(), run.run.folder.absolute() / _CLASSES
    if isinstance(measure, Semantics):
        framing = _framing(settings, settings.make_model())
        with written(run.run.folder):
            find_clusters(measure, settings.make_dataset(), framing, classes, n_items)
        run.find("categories", lambda: list(framing.model.categories or ()))
    return {"matched": matched, "classes": str(classes)}


def matched_parameters(settings: EvaluationSettings) -> dict[str, dict[str, Any]]:
    """Parameters with which other segmenters have as many superpixels as the first NAS."""
    if not settings.to_match():
        return {}
    model = settings.make_model()
    images = _some_images(settings, model)
    segmenters = settings.make_segmenters(model, {})
    nas = segmenters[settings.first_nas or ""]
    assert isinstance(nas, NAS)
    n_superpixels = float(nas(images).n_superpixels.double().mean())
    found = {}
    for name in settings.to_match():
        before: Any = segmenters[name]
        after: Any = before.match(images.cpu(), n_superpixels).segmenter
        old, new = dataclasses.asdict(before), dataclasses.asdict(after)
        found[name] = {key: value for key, value in new.items() if value != old[key]}
    return found


def _some_images(settings: EvaluationSettings, model: Classifier) -> Tensor:
    """The first pictures that can be read."""
    dataset, framing = settings.make_dataset(), _framing(settings, model)
    pictures: list[Picture] = []
    for index in range(len(dataset)):
        if len(pictures) == _MATCHED_ON:
            break
        try:
            pictures.append(framing(index, dataset[index], needs_boxes=False))
        except NaspixError:
            continue
    if not pictures:
        raise InputError(f"none of the {len(dataset)} pictures in {settings.root} can be read")
    return torch.stack([picture.image for picture in pictures]).to(model.device)

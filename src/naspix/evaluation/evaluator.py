"""The worker of an evaluation, and how it is made of settings.

It reads pictures of a data set, asks the pipeline about them, and has the measure write
rows. A picture that cannot be read or explained is left out and says why; the others go on. What
holds for all pictures (matched parameters, clusters of classes) is decided before the first batch
and kept with the run, so that whoever computes a batch, and when, changes nothing.
"""

import dataclasses
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int64
from torch import Tensor

from naspix.datasets import Dataset
from naspix.errors import InputError, NaspixError
from naspix.evaluation.measures import COMMON_COLUMNS, Measure
from naspix.evaluation.pictures import Framing, Picture
from naspix.evaluation.settings import EvaluationSettings, classes_of
from naspix.images import ReadingAhead, answers_of, of_one_size
from naspix.machine import this_machine
from naspix.pipeline import Pipeline
from naspix.runs import Failure, OpenRun, Part, Row, Span
from naspix.segmentation import NAS

if TYPE_CHECKING:
    from naspix.pipeline import Answers

_MATCHED_ON = 16  # pictures

# steps of the stopwatch: reading goes on beside the others, only the wait for it takes their time
READING, WAITING = "reading pictures", "waiting for pictures"


class Evaluation:
    """Settings made into objects, each once: the network, the data set, how it is read.

    Args:
        settings: What is asked.

    Raises:
        InputError: The data set's classes are wanted, and are not the model's.
    """

    def __init__(self, settings: EvaluationSettings) -> None:
        self.settings = settings
        self.dataset = settings.make_dataset()
        self.model = settings.load()
        label_of = classes_of(self.dataset, self.model, settings.classes)
        if settings.target == "label" and not label_of:
            some = ", ".join(self.dataset.categories[:3]) or "none"
            raise InputError(
                f"the classes of the data set ({some}) are not those of {self.model.name}; give "
                "--target predicted, or a class"
            )
        assert settings.target is not None  # settings without one have chosen it
        self.target: str | int = settings.target
        if self.target not in ("predicted", "label", "true"):
            self.target = self.model.find_class(self.target)
        self.framing = Framing(self.model, squash=settings.task == "wsol", label_of=label_of)

    def begin(self, run: OpenRun, n_items: int) -> "MakeEvaluator":
        """Decide what holds for all pictures; what is returned makes workers.

        Args:
            run: Where it is kept.
            n_items: How many pictures there will be.
        """
        matched = run.find("matched", self.matched_parameters)
        if self.target == "true":
            unknown = [
                name
                for number, name in enumerate(self.dataset.categories)
                if number not in self.framing.label_of
            ]
            run.find("unknown_classes", lambda: unknown)
        if self.settings.task == "semantics":
            run.find("categories", lambda: list(self.model.categories or ()))
        self.settings.make_measure().prepared(self.dataset, self.framing, run.folder, n_items)
        return MakeEvaluator(self.settings, matched, os.fspath(run.folder.absolute()), self)

    def matched_parameters(self) -> dict[str, dict[str, Any]]:
        """Parameters with which other segmenters have as many superpixels as the first NAS."""
        to_match = self.settings.to_match()
        if not to_match:
            return {}
        images = self._some_images()
        segmenters = self.settings.make_segmenters(self.model, {})
        nas = segmenters[self.settings.first_nas or ""]
        assert isinstance(nas, NAS)
        n_superpixels = float(nas(images).n_superpixels.double().mean())
        found = {}
        for name in to_match:
            before: Any = segmenters[name]
            after: Any = before.match(images.cpu(), n_superpixels).segmenter
            old, new = dataclasses.asdict(before), dataclasses.asdict(after)
            found[name] = {key: value for key, value in new.items() if value != old[key]}
        return found

    def _some_images(self) -> Tensor:
        """The first pictures that can be read."""
        pictures: list[Picture] = []
        for index in range(len(self.dataset)):
            if len(pictures) == _MATCHED_ON:
                break
            try:
                pictures.append(self.framing(index, self.dataset[index], needs_boxes=False))
            except NaspixError:
                continue
        if not pictures:
            raise InputError(
                f"none of the {len(self.dataset)} pictures in {self.settings.root} can be read"
            )
        return torch.stack([picture.image for picture in pictures]).to(self.model.device)


class MakeEvaluator:
    """Makes the worker of an evaluation, in each process once; the first process has its parts.

    Args:
        settings: What is asked.
        matched: Parameters found by matching, by segmenter.
        folder: The run's.
        evaluation: In the process that began the run: what is loaded already.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        matched: Mapping[str, Mapping[str, Any]],
        folder: str,
        evaluation: Evaluation | None = None,
    ) -> None:
        self._settings, self._matched, self._folder = settings, matched, folder
        self._evaluation = evaluation

    def __reduce__(self) -> tuple[object, ...]:
        return MakeEvaluator, (self._settings, self._matched, self._folder)

    def __call__(self) -> "Evaluator":
        """The worker."""
        evaluation = self._evaluation or Evaluation(self._settings)
        settings, model = self._settings, evaluation.model
        measure = settings.make_measure().prepared(
            evaluation.dataset, evaluation.framing, Path(self._folder), 0
        )
        pipeline = Pipeline(
            model,
            settings.make_methods(model),
            settings.make_segmenters(model, self._matched),
            levels=measure.level_names(model),
        )
        return Evaluator(
            evaluation.dataset, pipeline, measure, evaluation.framing, evaluation.target
        )


class Evaluator:
    """Explains and measures items of a data set: the worker.

    The next batch is read by a thread while the network works on this one.

    Args:
        dataset: Pictures in a fixed order.
        pipeline: What is asked of them.
        measure: What is written down.
        framing: How pictures are read.
        target: ``"predicted"``, ``"label"``, ``"true"``, or a class for all.
    """

    def __init__(
        self,
        dataset: Dataset,
        pipeline: Pipeline,
        measure: Measure,
        framing: Framing,
        target: str | int = "predicted",
    ) -> None:
        self.dataset, self.measure, self.framing = dataset, measure, framing
        self.pipeline = dataclasses.replace(pipeline, watch=self._watch)
        self.target = target
        self._seconds: dict[str, float] = defaultdict(float)
        self._read = ReadingAhead(self.read_one)

    def __call__(self, span: Span, following: Span | None) -> Part:
        """Evaluate the items of a span."""
        with self._watch(WAITING):
            pictures, seconds = self._read(span, following)
        self._seconds[READING] += seconds
        failed = [each for each in pictures if isinstance(each, Failure)]
        read = [each for each in pictures if isinstance(each, Picture)]
        rows: list[Row] = []

        def fail(picture: Picture, error: NaspixError) -> None:
            failed.append(Failure(picture.index, picture.id, str(error)))

        def kind(picture: Picture) -> tuple[int, ...]:
            """Pictures of one size, those of known classes apart from others."""
            return (*picture.image.shape, self.target == "true" and picture.label is None)

        for group in of_one_size(read, kind):
            rows += answers_of(group, self._rows, fail)
        rows.sort(key=lambda row: row["index"])  # stable: settings stay in their order
        seconds_of, self._seconds = dict(self._seconds), defaultdict(float)
        return Part(
            span,
            rows,
            {**COMMON_COLUMNS, **self.measure.columns},
            tuple(sorted(failed, key=lambda failure: failure.index)),
            seconds_of,
            this_machine(torch.get_num_threads()),
        )

    def read_one(self, index: int) -> Picture | Failure:
        """A picture, or why there is none."""
        try:
            return self.framing(index, self.dataset[index], self.measure.needs_boxes)
        except NaspixError as error:
            return Failure(index, self.dataset.ids[index], str(error))

    def ask(self, pictures: Sequence[Picture]) -> "Answers":
        """What the network says of pictures of one size, and how that is explained.

        Raises:
            NaspixError: One of them cannot be explained.
        """
        model = self.framing.model
        images = torch.stack([picture.image for picture in pictures]).to(model.device)
        indices = [picture.index for picture in pictures]
        return self.pipeline(images, self._targets(pictures), indices=indices)

    def _rows(self, pictures: Sequence[Picture]) -> list[Row]:
        """Rows of pictures of one size."""
        answers = self.ask(pictures)
        with self._watch("measure"):
            return self.measure(self.framing.model, pictures, answers)

    def _targets(self, pictures: Sequence[Picture]) -> int | Int64[Tensor, " B"] | None:
        if self.target == "predicted":
            return None
        if self.target == "true" and pictures[0].label is None:  # like all of its batch
            return None
        if self.target not in ("label", "true"):
            return int(self.target)
        labels = [picture.label for picture in pictures if picture.label is not None]
        if len(labels) < len(pictures):
            unlabeled = next(picture.id for picture in pictures if picture.label is None)
            raise InputError(f"{unlabeled} has no label to be the target; take --target predicted")
        return torch.tensor(labels)

    @contextmanager
    def _watch(self, step: str) -> Iterator[None]:
        """Add the seconds of a step to those of its name."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step] += time.perf_counter() - begin

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from naspix.datasets import Dataset
from naspix.errors import InputError, NaspixError
from naspix.evaluation.measures import COMMON_COLUMNS, Measure
from naspix.evaluation.pictures import Framing, Picture
from naspix.evaluation.settings import EvaluationSettings, classes_of
from naspix.explain import asking_number
from naspix.images import ReadingAhead, answers_of, of_one_size
from naspix.machine import this_machine
from naspix.models.weights import weights_digest
from naspix.pipeline import Pipeline, RandomRegions
from naspix.runs import Failure, OpenRun, Part, Row, Span
from naspix.segmentation import NAS
from naspix.targets import Target, asks_number

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
        self.digest = weights_digest(self.model.network)
        label_of = classes_of(self.dataset, self.model, settings.classes)
        if settings.target == "label" and not label_of:
            some = ", ".join(self.dataset.categories[:3]) or "none"
            raise InputError(
                f"the classes of the data set ({some}) are not those of {self.model.name}; give "
                "--target predicted, or a class"
            )
        assert settings.target is not None  # settings without one have chosen it
        self.target: Target = settings.target
        if settings.objects.target is not None:
            self.target = cast("Target", settings.objects.target)
        elif self.target not in ("predicted", "label", "true"):
            self.target = self.model.find_class(settings.target)
        self.framing = Framing(self.model, squash=settings.task == "wsol", label_of=label_of)

    def begin(self, run: OpenRun, n_items: int) -> "MakeEvaluator":
        """Decide what holds for all pictures; what is returned makes workers.

        Args:
            run: Where it is kept.
            n_items: How many pictures there will be.
        """
        to_match = self.settings.to_match()
        matched = run.find("matched", lambda: self.matched_parameters(to_match))
        new = [name for name in to_match if name not in matched]
        if new:  # segmenters that a run is asked for later
            matched = run.find_more("matched", self.matched_parameters(new))
        if matched:
            run.find("matched_to", lambda: self.settings.first_nas)
        if self.settings.target == "true":
            unknown = [
                name
                for number, name in enumerate(self.dataset.categories)
                if number not in self.framing.label_of
            ]
            run.find("unknown_classes", lambda: unknown)
        if self.settings.task == "semantics":
            run.find("categories", lambda: list(self.model.categories or ()))
        self.settings.make_measure().prepared(self.dataset, self.framing, run.folder, n_items)
        kept = {name: matched[name] for name in to_match}
        return MakeEvaluator(self.settings, kept, os.fspath(run.folder.absolute()), self)

    def matched_parameters(self, to_match: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Parameters with which other segmenters have as many superpixels as the first NAS."""
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
        digest: str = "",
    ) -> None:
        self._settings, self._matched, self._folder = settings, matched, folder
        self._evaluation = evaluation
        self._digest = evaluation.digest if evaluation is not None else digest

    def __reduce__(self) -> tuple[object, ...]:
        settings = self._settings
        return MakeEvaluator, (settings, self._matched, self._folder, None, self._digest)

    def __call__(self) -> "Evaluator":
        """The worker.

        Raises:
            InputError: The network of this process has other weights than the run's.
        """
        evaluation = self._evaluation or Evaluation(self._settings)
        settings, model = self._settings, evaluation.model
        if self._digest not in ("", evaluation.digest):
            raise InputError(
                f"{model.name} has other weights in each process; give weights, or a function that "
                "sets a seed"
            )
        measure = settings.make_measure().prepared(
            evaluation.dataset, evaluation.framing, Path(self._folder), 0
        )
        methods = settings.make_methods(model)
        segmenters = settings.make_segmenters(model, self._matched)
        levels, framing, target = measure.level_names(model), evaluation.framing, evaluation.target
        if asks_number(target):
            model, methods, segmenters = asking_number(model, target, methods, segmenters)
            framing, target = dataclasses.replace(framing, model=model), 0
        pipeline = Pipeline(model, methods, segmenters, levels=levels)
        return Evaluator(evaluation.dataset, pipeline, measure, framing, target, settings.parts)


class Evaluator:
    """Explains and measures items of a data set: the worker.

    The next batch is read by a thread while the network works on this one.

    Args:
        dataset: Pictures in a fixed order.
        pipeline: What is asked of them.
        measure: What is written down.
        framing: How pictures are read.
        target: ``"predicted"``, ``"label"``, ``"true"``, or a class for all, or a contrast.
        parts: Name -> method and segmenter that are asked for together; each with each if empty.
    """

    def __init__(
        self,
        dataset: Dataset,
        pipeline: Pipeline,
        measure: Measure,
        framing: Framing,
        target: Target = "predicted",
        parts: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.dataset, self.measure, self.framing = dataset, measure, framing
        self.pipeline = dataclasses.replace(pipeline, watch=self._watch)
        self.target = target
        self._parts = parts or {}
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

        true = isinstance(self.target, str) and self.target == "true"
        wanted = {self._parts[name] for name in span.parts} if span.parts else None

        def kind(picture: Picture) -> tuple[int, ...]:
            """Pictures of one size, those of known classes apart from others."""
            return (*picture.image.shape, true and picture.label is None)

        def rows_of(some: Sequence[Picture]) -> list[Row]:
            answers = self.ask(some, wanted)
            with self._watch("measure"):
                return self.measure(self.framing.model, some, answers)

        for group in of_one_size(read, kind):
            rows += answers_of(group, rows_of, fail)
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

    def ask(
        self, pictures: Sequence[Picture], wanted: Collection[tuple[str, str]] | None = None
    ) -> "Answers":
        """What the network says of pictures of one size, and how that is explained.

        Args:
            pictures: Which.
            wanted: The methods and segmenters that are asked for together; each with each if None.

        Raises:
            NaspixError: One of them cannot be explained.
        """
        model = self.framing.model
        images = torch.stack([picture.image for picture in pictures]).to(model.device)
        indices = [picture.index for picture in pictures]
        pipeline = self.pipeline if wanted is None else self._part_of_pipeline(wanted)
        answers = pipeline(images, self._targets(pictures), indices=indices)
        return dataclasses.replace(answers, wanted=wanted)

    def _part_of_pipeline(self, wanted: Collection[tuple[str, str]]) -> Pipeline:
        """What is needed of methods and segmenters for some of them together."""
        all_segmenters = self.pipeline.segmenters
        needed = {segmenter for _, segmenter in wanted}
        needed |= {
            one.of
            for name, one in all_segmenters.items()
            if name in needed and isinstance(one, RandomRegions)
        }
        asked = {method for method, _ in wanted}
        return dataclasses.replace(
            self.pipeline,
            methods={name: one for name, one in self.pipeline.methods.items() if name in asked},
            segmenters={name: one for name, one in all_segmenters.items() if name in needed},
        )

    def _targets(self, pictures: Sequence[Picture]) -> Target:
        if isinstance(self.target, str) and self.target == "predicted":
            return None
        if not isinstance(self.target, str):
            return self.target
        if self.target == "true" and pictures[0].label is None:  # like all of its batch
            return None
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

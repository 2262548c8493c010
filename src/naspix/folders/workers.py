"""What a worker does with photos of a folder: it reads them, asks about them, and makes rows.

Settings and photos in, parts of a run out; the same on any engine.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from naspix import registry
from naspix.errors import InputError, NaspixError
from naspix.explain import explain, search_sets
from naspix.explanation import Explanation
from naspix.folders.known import Known, with_known
from naspix.folders.settings import PhotoSettings
from naspix.images import Photo, ReadingAhead, answers_of, of_one_size
from naspix.machine import this_machine
from naspix.models import Classifier
from naspix.models.batches import batch_size_on
from naspix.report import (
    Agreement,
    PhotoResult,
)
from naspix.runs import (
    Failure,
    Kind,
    Part,
    Row,
    Span,
    is_run,
    read_run,
)
from naspix.segmentation import Segmentation
from naspix.targets import Contrast, Each
from naspix.tiling import OverTiles


@runtime_checkable
class Ask(Protocol):
    """What is asked of a batch: rows with what to keep, what to tell, and files."""

    columns: Mapping[str, Kind]
    model: Classifier

    @property
    def n_steps(self) -> int:
        """How often it tells what it does, a batch."""
        ...

    @property
    def record(self) -> dict[str, Any]:
        """What results are made by."""
        ...

    @property
    def asked(self) -> str:
        """A digest of all that may be asked of a run in another way later."""
        ...

    def __call__(
        self,
        photos: Sequence[Photo],
        images: Tensor,
        known: Sequence[Sequence[Known]],
        told: Callable[[str], None],
    ) -> list[Row]:
        """Rows of a batch, of which something may be known."""
        ...


def made_by(model: Classifier, ask: object) -> str:
    """The repr of a method or segmenter; the network by its name, since its own repr grows."""
    return repr(ask).replace(repr(model), model.name)


def digest_of(*asked: object) -> str:
    """A few letters that stand for plain values."""
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


class Explain:
    """Asks for explanations; what is loaded once for all photos."""

    columns: Mapping[str, Kind] = {
        "index": "int",
        "name": "text",
        "told": "text",
        "entry": "text",
        "section": "bytes",
        "words": "text",
        "agreement": "text",
        "files": "text",
        "known": "bytes",
    }

    def __init__(self, settings: PhotoSettings) -> None:
        self._settings = settings
        self.model = settings.load()
        self._methods = settings.make_methods(self.model)
        self._segmenters = settings.make_segmenters(self.model)
        given = settings.target
        classes = () if given is None else (given,) if isinstance(given, str) else given
        asked = tuple(dict.fromkeys(self.model.find_class(one) for one in classes))
        self._targets: tuple[int | Contrast | None, ...] = asked
        if settings.contrast is not None:
            against = self.model.find_class(settings.contrast)
            self._targets = tuple(Contrast(one, against) for one in asked or (None,))

    @property
    def n_steps(self) -> int:
        """How many things are asked of a photo."""
        return len(self._methods) + len(self._segmenters)

    @property
    def record(self) -> dict[str, Any]:
        """What made the results, for ``results.json``."""
        settings = self._settings
        seeds = [values["seed"] for values in settings.parameters.values() if "seed" in values]
        return {
            "settings": {
                "model": settings.model,
                "weights": settings.weights,
                "device": str(self.model.device),
                "resize": settings.resize,
                "batch_size": settings.batch_size,
                "scores": str(self.model.scores),
                "target": _plain_target(self._targets),
                **({"tiles": settings.tiles} if settings.tiles else {}),
                "methods": {name: repr(method) for name, method in self._methods.items()},
                "segmenters": {name: repr(each) for name, each in self._segmenters.items()},
            },
            "seed": seeds[0] if seeds else 0,
        }

    @property
    def asked(self) -> str:
        """A digest of methods, segmenters, and what else may be asked of a run later."""
        settings = self._settings
        return digest_of(
            {name: made_by(self.model, method) for name, method in self._methods.items()},
            {name: made_by(self.model, each) for name, each in self._segmenters.items()},
            [settings.greedy, settings.sets, settings.threshold, settings.file_format],
        )

    def __call__(
        self,
        photos: Sequence[Photo],
        images: Tensor,
        known: Sequence[Sequence[Known]],
        told: Callable[[str], None],
    ) -> list[Row]:
        """Rows of a batch: what is not known of all photos is computed."""
        n_each, greedy = max(1, len(self._targets)), self._settings.greedy
        entries = [
            one
            for of_photo in known
            for one in (of_photo if len(of_photo) == n_each else [Known()] * n_each)
        ]
        methods = {name: made_by(self.model, one) for name, one in self._methods.items()}
        segmenters = {name: made_by(self.model, one) for name, one in self._segmenters.items()}
        new_methods = [
            self._methods[name]
            for name, maker in methods.items()
            if not all(maker in one.maps for one in entries)
        ]
        new_segmenters = [
            self._segmenters[name]
            for name, maker in segmenters.items()
            if not all(
                maker in one.segmentations and (maker in one.orders or not greedy)
                for one in entries
            )
        ]
        explanation = explain(
            self.model,
            images,
            Each(*self._targets) if len(self._targets) > 1 else next(iter(self._targets), None),
            method=new_methods or _no_map,
            segmenter=new_segmenters or _one_region,
            names=[photo.name for photo in photos],
            greedy=greedy and bool(new_segmenters),
            threshold=self._settings.threshold,
            tiles=self._settings.tiles,
            batch_size=batch_size_on(self.model.device, None, backwards=True),
            told=lambda name: told(name) if name in methods or name in segmenters else None,
        )
        explanation, entries = with_known(explanation, methods, segmenters, entries)
        if self._settings.sets:
            explanation, entries = self._with_sets(explanation, methods, segmenters, entries)
        rows: list[Row] = []
        for number, found in enumerate(explanation.photos()):
            photo = photos[number // n_each]
            if n_each == 1:
                found = replace(found, name=photo.name)
            found = replace(found, source=photo.source, fitting=self._fitting(photo, found.fitting))
            result = PhotoResult.of(found, self._settings.file_format)
            first = found.predictions[0]
            counts = {
                name: int(labels.max()) + 1 for name, (_, labels) in found.segmentations.items()
            }
            line = {
                "name": found.name,
                "class": first.name,
                "probability": first.probability,
                "said": ", ".join(f"{one.name} {one.shown()}" for one in found.predictions)
                if self.model.scores.multi_label
                else f"{first.name:<24} {first.shown():>6}",
                "target": found.target.name,
                "counts": counts,
            }
            rows.append(
                {
                    "name": found.name,
                    "told": json.dumps(line),
                    "entry": json.dumps(result.entry, ensure_ascii=False),
                    "section": zlib.compress(result.section.encode(), 1),
                    "words": result.link[1],
                    "agreement": json.dumps(_plain(result.agreement)),
                    "known": entries[number].packed(),
                    "pictures": result.pictures,
                }
            )
        return rows

    def _with_sets(
        self,
        explanation: Explanation,
        methods: Mapping[str, str],
        segmenters: Mapping[str, str],
        known: Sequence[Known],
    ) -> tuple[Explanation, list[Known]]:
        """The explanation with what suffices and what is needed, and that among what is known."""
        threshold = self._settings.threshold
        words = {
            (method, segmenter): f"{methods[method]} over {segmenters[segmenter]} from {threshold}"
            for method, segmenter in explanation.pooled
        }
        lacking = {
            pair: heat
            for pair, heat in explanation.pooled.items()
            if not all(words[pair] in one.sets for one in known)
        }
        found = search_sets(
            OverTiles(self.model) if self._settings.tiles else self.model,
            explanation.images,
            lacking,
            explanation.segmentations,
            explanation.target,
            threshold,
        )
        found |= {
            pair: tuple(one.sets[words[pair]] for one in known)
            for pair in explanation.pooled
            if pair not in lacking
        }
        now = [
            replace(one, sets={**one.sets, **{words[p]: sets[at] for p, sets in found.items()}})
            for at, one in enumerate(known)
        ]
        return replace(explanation, deciding={p: found[p] for p in explanation.pooled}), now

    def _fitting(self, photo: Photo, of_tiles: str) -> str:
        """What of a photo the network sees, in words."""
        settings = self._settings
        size = photo.size(exif=settings.exif)
        fitted = self.model.fitting(size, None if settings.resize == "none" else settings.resize)
        return of_tiles or ("" if fitted is None else fitted.told(size))


def _no_map(images: Tensor, target: object) -> Tensor:
    """In place of methods, where all maps are known."""
    return images.new_zeros(len(images), *images.shape[-2:])


def _one_region(images: Tensor) -> Segmentation:
    """In place of segmenters, where all segmentations are known."""
    labels = torch.zeros(len(images), *images.shape[-2:], dtype=torch.int64, device=images.device)
    return Segmentation(labels, labels)


def _plain_target(targets: Sequence[int | Contrast | None]) -> object:
    """What was asked about, for a record."""
    plain = [
        {"positive": one.positive, "negative": one.negative} if isinstance(one, Contrast) else one
        for one in targets
    ]
    return "predicted" if not plain else plain[0] if len(plain) == 1 else plain


class MakeWorker:
    """Makes the worker in each process; in this one what is loaded already.

    Args:
        work: Makes what asks, of settings.
        settings: What is asked.
        photos: Number -> photo.
        folder: Of the run, which knows of former photos.
        ask: What asks in this process.
    """

    def __init__(
        self,
        work: "Callable[[PhotoSettings], Ask]",
        settings: PhotoSettings,
        photos: Mapping[int, Photo],
        folder: Path,
        ask: Ask | None = None,
    ) -> None:
        self._arguments = (work, settings, photos, folder)
        self._worker = None if ask is None else Worker(ask, settings, photos, folder)

    def __reduce__(self) -> tuple[object, ...]:
        return MakeWorker, self._arguments

    def __call__(self) -> "Worker":
        """The worker of this process."""
        work, settings, photos, folder = self._arguments
        if self._worker is None:
            self._worker = Worker(work(settings), settings, photos, folder)
        return self._worker


class Worker:
    """Reads photos and asks about them; those that cannot be answered for are left out.

    Args:
        ask: Asks about a batch.
        settings: What is asked.
        photos: Number -> photo.
        folder: Of the run; where it is not found, on another machine, nothing is known.
    """

    def __init__(
        self, ask: Ask, settings: PhotoSettings, photos: Mapping[int, Photo], folder: Path
    ) -> None:
        self.ask = ask
        self.doing: Callable[[float, str], None] = lambda share, step: None
        self._settings, self._photos, self._folder = settings, photos, folder
        self._read = ReadingAhead(self._read_one)

    def __call__(self, span: Span, following: Span | None) -> Part:
        """Explain or cut the photos of a span."""
        images, seconds = self._read(span, following)
        failed = [image for image in images if isinstance(image, Failure)]
        read = [
            (span.start + place, image)
            for place, image in enumerate(images)
            if isinstance(image, Tensor)
        ]
        former = self._former(span)
        rows: list[Row] = []

        def fail(one: tuple[int, Tensor], error: NaspixError) -> None:
            failed.append(Failure(one[0], self._photos[one[0]].source, str(error)))

        def rows_of(group: Sequence[tuple[int, Tensor]]) -> list[Row]:
            return self._rows(group, former)

        # what is known goes together, so that only what lacks is asked for
        for group in of_one_size(read, lambda one: (*one[1].shape, len(former[one[0]]))):
            rows += answers_of(group, rows_of, fail)
        rows.sort(key=lambda row: row["index"])
        return Part(
            span,
            rows,
            self.ask.columns,
            tuple(sorted(failed, key=lambda failure: failure.index)),
            {"reading photos": seconds},
            this_machine(torch.get_num_threads()),
        )

    def _former(self, span: Span) -> dict[int, list[dict[str, Any]]]:
        """Number -> what the run has of a photo from before."""
        run = read_run(self._folder) if is_run(self._folder) else None
        return {
            item: [] if run is None else run.rows_of(item, ["files", "known"])
            for item in range(*span)
        }

    def _rows(
        self,
        group: Sequence[tuple[int, Tensor]],
        former: Mapping[int, Sequence[Mapping[str, Any]]],
    ) -> list[Row]:
        """Rows of photos of one size, with the files that they no longer have."""
        photos = [self._photos[index] for index, _ in group]
        n_told = 0

        def told(name: str) -> None:
            nonlocal n_told
            self.doing(len(group) * n_told / self.ask.n_steps, registry.title_of(name))
            n_told += 1

        known = [[Known.unpacked(row["known"]) for row in former[index]] for index, _ in group]
        found = self.ask(photos, torch.cat([image for _, image in group]), known, told)
        n_each = len(found) // len(group)  # entries of a photo, one for each class asked about
        rows: list[Row] = []
        for at, row in enumerate(found):
            index, files = group[at // n_each][0], list(row["pictures"])
            before = former[index][at % n_each] if len(former[index]) == n_each else {"files": "[]"}
            gone = [path for path in json.loads(before["files"]) if path not in files]
            rows.append({**row, "index": index, "files": json.dumps(files), "gone": gone})
        return rows

    def check_readable(self) -> None:
        """Raise unless one of the photos can be read.

        Raises:
            InputError: None can; the first one's reason.
        """
        first: Failure | None = None
        for index in self._photos:
            found = self._read_one(index)
            if isinstance(found, Tensor):
                return
            first = first or found
        if first is not None:
            raise InputError(first.reason)

    def _read_one(self, index: int) -> Tensor | Failure:
        photo, settings = self._photos[index], self._settings
        try:
            return self.ask.model.load_images(
                [photo.content],
                resize=None if settings.resize == "none" or settings.tiles else settings.resize,
                max_pixels=settings.max_pixels,
                exif=settings.exif,
            )
        except InputError as error:
            return Failure(index, photo.source, str(error))


def _plain(agreement: Agreement) -> dict[str, Any]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(agreement).items()
    }


def agreement_of(plain: Mapping[str, Any]) -> Agreement:
    """The agreement that a row holds as plain values."""
    return Agreement(
        tuple(plain["methods"]),
        tuple(plain["segmenters"]),
        np.array(plain["rank_correlation"], np.float64),
        np.array(plain["variance_kept"], np.float64),
    )

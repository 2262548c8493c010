"""Many photos explained or cut, on any engine, gone on with after a stop.

Photos in; for `explain_photos` pictures, ``report.html`` and ``results.json`` out, for
`segment_photos` a file a photo. What is computed lies in ``run.sqlite`` of the output folder as it
comes, so that the same command goes on where it was stopped, and memory does not grow with the
number of photos.
"""

import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, final, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from naspix import registry
from naspix.errors import InputError, NaspixError, NaspixWarning
from naspix.explain import explain
from naspix.files import written
from naspix.images import Photo, ReadingAhead, answers_of, find_photos, of_one_size
from naspix.machine import this_machine
from naspix.models import Classifier, Output, load_model
from naspix.report import (
    Agreement,
    PhotoResult,
    ResultsFolder,
    RunRecord,
    write_pictures,
)
from naspix.runs import (
    STORE,
    Engine,
    Failure,
    Kind,
    OpenRun,
    Part,
    Row,
    Run,
    Span,
    carry_out,
    is_run,
    locked,
    open_run,
    read_run,
)
from naspix.segmentation import NAS, Segmentation
from naspix.targets import Each

Format = Literal["png", "npz", "coco"]
_FREE = ("batch_size",)  # no result depends on it
Told = Callable[[Row], None]


@final
@dataclass(frozen=True, kw_only=True)
class PhotoSettings:
    """What is asked of photos, as plain values.

    Attributes:
        model: As ``load_model`` takes it.
        weights: ``"default"``, ``"none"``, or a file.
        device: Where the model runs.
        scores: What its scores are: ``"softmax"``, ``"sigmoid"`` or ``"none"``; None finds out.
        categories: File with the classes' names; None for the network's own.
        methods: Names of saliency methods; none where photos are only cut.
        segmenters: Names of segmenters.
        parameters: Name of a method or segmenter -> parameter -> value.
        target: A class's number or name, or several, each of which is explained; the predicted one
            if None.
        threshold: From which probability on a class is listed, where an image may have several.
        quick: Fewer masks, samples and steps in the methods that take long.
        greedy: Also search the order in which superpixels can be hidden at the least cost.
        resize: ``"crop"``, ``"squash"`` or ``"none"``.
        max_pixels: Larger photos are refused.
        exif: Whether photos are turned upright as their EXIF says.
        batch_size: Photos that pass the network together, and are kept at once.
        file_format: Of what `segment_photos` writes.
    """

    model: str = "efficientnet_lite0"
    weights: str = "default"
    device: str = "cpu"
    scores: Output | None = None
    categories: str | None = None
    methods: tuple[str, ...] = ("grad_cam_plus_plus",)
    segmenters: tuple[str, ...] = ("nas",)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    target: str | tuple[str, ...] | None = None
    threshold: float = 0.5
    quick: bool = False
    greedy: bool = False
    resize: Literal["crop", "squash", "none"] = "crop"
    max_pixels: int = 100_000_000
    exif: bool = True
    batch_size: int = 8
    file_format: Format = "png"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"--batch-size is at least 1, not {self.batch_size}")
        for name in self.methods:
            registry.find_method(name)
        for name in self.segmenters:
            registry.find_segmenter(name)

    def load(self) -> Classifier:
        """The network, on its device."""
        return load_model(
            self.model,
            weights=self.weights,
            device=self.device,
            output=self.scores,
            categories=self.categories,
        )

    def make_methods(self, model: Classifier) -> dict[str, Any]:
        """Name -> saliency method."""
        kinds = {name: registry.find_method(name) for name in self.methods}
        return {
            name: kind(model, **(kind.quick if self.quick else {})) for name, kind in kinds.items()
        }

    def make_segmenters(self, model: Classifier) -> dict[str, Any]:
        """Name -> segmenter.

        Raises:
            ActivationError: A level has no spatial map; said here once, not of every photo.
        """
        made: dict[str, Any] = {}
        for name in self.segmenters:
            kind, values = registry.find_segmenter(name), self.parameters.get(name, {})
            made[name] = NAS(model, **values) if kind is NAS else kind(**values)
            if kind is NAS and values.get("levels"):
                blank = torch.full((1, model.in_channels, *model.input_size), 0.5)
                model.activations(blank, values["levels"])
        return made


def explain_photos(
    settings: PhotoSettings,
    output: str | os.PathLike[str],
    *,
    paths: Sequence[str | os.PathLike[str]] | None = None,
    engine: Engine | None = None,
    told: Told = lambda row: None,
    doing: Callable[[float, int, str], None] = lambda done, total, step: None,
) -> Run:
    """Explain photos and write pictures, a report and a record, or go on where that was stopped.

    Args:
        settings: What is asked.
        output: The folder of results. A finished run of other settings there is set aside.
        paths: Photos and folders of photos; without any, two of scikit-image's.
        engine: Who computes; this process by default.
        told: Told of each photo as it is done, first those of former runs: ``name``, ``class``,
            ``probability``, ``counts``.
        doing: Told how many photos are done, how many there are, and what is under way.

    Raises:
        InputError: Settings that cannot be; an unfinished run of others in the folder.
        OutputError: The folder cannot be written, or another process writes to it.
    """
    return _run("explain", _Explain, settings, output, paths, engine, told, doing)


def segment_photos(
    settings: PhotoSettings,
    output: str | os.PathLike[str],
    *,
    paths: Sequence[str | os.PathLike[str]] | None = None,
    engine: Engine | None = None,
    told: Told = lambda row: None,
    doing: Callable[[float, int, str], None] = lambda done, total, step: None,
) -> Run:
    """Cut photos and write a file for each, or go on where that was stopped.

    Args:
        settings: What is asked; of several segmenters the first cuts.
        output: The folder of files. A finished run of other settings there is set aside.
        paths: Photos and folders of photos; without any, two of scikit-image's.
        engine: Who computes; this process by default.
        told: Told of each photo as it is done: ``source``, ``file``, ``n_clusters``,
            ``n_superpixels``.
        doing: Told how many photos are done, how many there are, and what is under way.

    Raises:
        InputError: Settings that cannot be; an unfinished run of others in the folder.
        OutputError: The folder cannot be written, or another process writes to it.
    """
    return _run("segment", _Segment, settings, output, paths, engine, told, doing)


def _run(
    kind: str,
    work: "Callable[[PhotoSettings], _Ask]",
    settings: PhotoSettings,
    output: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]] | None,
    engine: Engine | None,
    told: Told,
    doing: Callable[[float, int, str], None],
) -> Run:
    photos, output = find_photos(paths), Path(output)
    digest = hashlib.sha256(json.dumps([photo.stamp for photo in photos]).encode())
    plain = {
        **asdict(settings),
        "photos": {"n": len(photos), "stamps_sha256": digest.hexdigest()[:16]},
    }
    if all(isinstance(one.content, Path) and not one.content.exists() for one in photos):
        # said before a network is loaded
        raise InputError(f"there is no image file {photos[0].source!r}")
    make_worker = _MakeWorker(work, settings, photos)
    worker = make_worker.begun()  # what is wrong with the settings is said before anything is lost
    _make_room(output, kind, json.loads(json.dumps(plain)), worker)
    with open_run(output, kind=kind, settings=plain, free=_FREE) as run:
        if run.run.n_items:
            for row in run.run.rows(["told"]):
                told(json.loads(row["told"]))
        run.find("record", lambda: worker.ask.record)
        n_done = 0

        def keep(part: Part) -> Part:
            for row in part.rows:
                write_pictures(output, row["files"])
                told(json.loads(row["told"]))
            for failure in part.failed:
                told({"source": failure.item, "error": failure.reason})
            return part

        def progress(n_more: int) -> None:
            nonlocal n_done
            n_done += n_more
            doing(n_done, len(photos), "")

        worker.doing = lambda share, step: doing(n_done + share, len(photos), step)
        with written(output):
            output.mkdir(parents=True, exist_ok=True)
        finished = False
        try:
            carry_out(
                run,
                make_worker,
                n_items=len(photos),
                batch_size=settings.batch_size,
                engine=engine,
                progress=progress,
                keep=keep,
            )
            finished = True
        finally:
            if kind == "explain":
                _write_results(run, output, finished)
        run.find("finished", lambda: True)
        return run.run


def _make_room(output: Path, kind: str, plain: dict[str, Any], worker: "_Worker") -> None:
    """Set a finished run of other settings aside, with its files, into a folder below.

    Raises:
        InputError: No photo can be read, for which nothing is moved.

    Warns:
        NaspixWarning: There was one.
    """
    if not is_run(output):
        return
    with locked(output):
        try:
            before = read_run(output)
        except InputError:  # damaged, or of another schema: said when it is opened
            return
        former, now = dict(before.settings), dict(plain)
        for name in _FREE:
            former.pop(name, None)
            now.pop(name, None)
        same = (before.kind, former) == (kind, now)
        if same or not before.header["found"].get("finished"):
            return
        worker.check_readable()
        number = 1 + len(list(output.glob("former-*")))
        place = output / f"former-{number}"
        files = {STORE, "results.json", *(path.name for path in output.glob("report*.html"))}
        for row in before.rows(["name", "told"]) if before.kind in ("explain", "segment") else ():
            files.add(json.loads(row["told"]).get("file", row["name"]))
        with written(output):
            place.mkdir()
            for name in sorted(files, key=lambda name: name == STORE):  # the store last
                if (output / name).exists():
                    (output / name).rename(place / name)
    warnings.warn(
        f"the results of another run in {output} are in {place} now", NaspixWarning, stacklevel=4
    )


def _write_results(run: OpenRun, output: Path, finished: bool) -> None:
    """The pages and ``results.json`` of what is there."""
    header = run.run.header
    record = RunRecord(
        settings=header["found"]["record"]["settings"],
        seed=header["found"]["record"]["seed"],
        versions=header["versions"],
        created=header["created"],
    )
    with ResultsFolder(output, record) as results:
        for row in run.run.rows(["name", "entry", "section", "words", "agreement"]):
            results.append(
                PhotoResult(
                    row["name"],
                    json.loads(row["entry"]),
                    zlib.decompress(row["section"]).decode(),
                    (row["name"], row["words"]),
                    _agreement(json.loads(row["agreement"])),
                    {},
                )
            )
        for failure in run.run.failures:
            results.fail(failure.item, failure.reason)
        results.stopped = not finished


def _plain(agreement: Agreement) -> dict[str, Any]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(agreement).items()
    }


def _agreement(plain: Mapping[str, Any]) -> Agreement:
    return Agreement(
        tuple(plain["methods"]),
        tuple(plain["segmenters"]),
        np.array(plain["rank_correlation"], np.float64),
        np.array(plain["variance_kept"], np.float64),
    )


@runtime_checkable
class _Ask(Protocol):
    """What is asked of a batch: rows with what to keep, what to tell, and files."""

    columns: Mapping[str, Kind]
    model: Classifier

    @property
    def n_steps(self) -> int: ...

    @property
    def record(self) -> dict[str, Any]: ...

    def __call__(
        self, photos: Sequence[Photo], images: Tensor, told: Callable[[str], None]
    ) -> list[Row]: ...


class _Explain:
    """Asks for explanations; what is loaded once for all photos."""

    columns: Mapping[str, Kind] = {
        "index": "int",
        "name": "text",
        "told": "text",
        "entry": "text",
        "section": "bytes",
        "words": "text",
        "agreement": "text",
    }

    def __init__(self, settings: PhotoSettings) -> None:
        self._settings = settings
        self.model = settings.load()
        self._methods = settings.make_methods(self.model)
        self._segmenters = settings.make_segmenters(self.model)
        given = settings.target
        classes = () if given is None else (given,) if isinstance(given, str) else given
        self._targets = tuple(dict.fromkeys(self.model.find_class(one) for one in classes))

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
                "target": "predicted"
                if not self._targets
                else self._targets[0]
                if len(self._targets) == 1
                else list(self._targets),
                "methods": {name: repr(method) for name, method in self._methods.items()},
                "segmenters": {name: repr(each) for name, each in self._segmenters.items()},
            },
            "seed": seeds[0] if seeds else 0,
        }

    def __call__(
        self, photos: Sequence[Photo], images: Tensor, told: Callable[[str], None]
    ) -> list[Row]:
        explanation = explain(
            self.model,
            images,
            Each(*self._targets) if len(self._targets) > 1 else next(iter(self._targets), None),
            method=list(self._methods.values()),
            segmenter=list(self._segmenters.values()),
            names=[photo.name for photo in photos],
            greedy=self._settings.greedy,
            threshold=self._settings.threshold,
            told=told,
        )
        rows: list[Row] = []
        n_each = max(1, len(self._targets))
        for number, found in enumerate(explanation.photos()):
            photo = photos[number // n_each]
            if n_each == 1:
                found = replace(found, name=photo.name)
            result = PhotoResult.of(replace(found, source=photo.source))
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
                    "files": result.pictures,
                }
            )
        return rows


class _Segment:
    """Cuts photos, and makes a file of each."""

    columns: Mapping[str, Kind] = {"index": "int", "name": "text", "told": "text"}

    def __init__(self, settings: PhotoSettings) -> None:
        self._settings = settings
        self.model = settings.load()
        self._segmenter = next(iter(settings.make_segmenters(self.model).values()))

    @property
    def n_steps(self) -> int:
        """How many things are asked of a photo."""
        return 1

    @property
    def record(self) -> dict[str, Any]:
        """What cut them."""
        return {"segmenter": repr(self._segmenter)}

    def __call__(
        self, photos: Sequence[Photo], images: Tensor, told: Callable[[str], None]
    ) -> list[Row]:
        segmentation: Segmentation = self._segmenter(images)
        suffix = {"coco": "json"}.get(self._settings.file_format, self._settings.file_format)
        rows: list[Row] = []
        for index, photo in enumerate(photos):
            one = segmentation[index]
            name = f"{photo.name}.{suffix}"
            line = {
                "source": photo.source,
                "file": name,
                "n_clusters": int(one.n_clusters),
                "n_superpixels": int(one.n_superpixels),
            }
            content = _file_of(one, self._settings.file_format, photo.name)
            rows.append({"name": photo.name, "told": json.dumps(line), "files": {name: content}})
        return rows


def _file_of(segmentation: Segmentation, file_format: Format, name: str) -> bytes:
    if file_format == "coco":
        return json.dumps(segmentation.to_coco(file_names=[name])).encode()
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"labels.{file_format}"
        (segmentation.save_png if file_format == "png" else segmentation.save)(path)
        return path.read_bytes()


class _MakeWorker:
    """Makes the worker in each process; in this one what is loaded already."""

    def __init__(
        self,
        work: "Callable[[PhotoSettings], _Ask]",
        settings: PhotoSettings,
        photos: Sequence[Photo],
        worker: "_Worker | None" = None,
    ) -> None:
        self._arguments = (work, settings, photos)
        self._worker = worker

    def begun(self) -> "_Worker":
        """The worker of this process."""
        work, settings, photos = self._arguments
        self._worker = _Worker(work(settings), settings, photos)
        return self._worker

    def __reduce__(self) -> tuple[object, ...]:
        return _MakeWorker, self._arguments

    def __call__(self) -> "_Worker":
        return self._worker or self.begun()


class _Worker:
    """Reads photos and asks about them; those that cannot be answered for are left out."""

    def __init__(self, ask: _Ask, settings: PhotoSettings, photos: Sequence[Photo]) -> None:
        self.ask = ask
        self.doing: Callable[[float, str], None] = lambda share, step: None
        self._settings, self._photos = settings, photos
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
        rows: list[Row] = []

        def fail(one: tuple[int, Tensor], error: NaspixError) -> None:
            failed.append(Failure(one[0], self._photos[one[0]].source, str(error)))

        for group in of_one_size(read, lambda one: one[1].shape):
            rows += answers_of(group, self._rows, fail)
        rows.sort(key=lambda row: row["index"])
        return Part(
            span,
            rows,
            self.ask.columns,
            tuple(sorted(failed, key=lambda failure: failure.index)),
            {"reading photos": seconds},
            this_machine(torch.get_num_threads()),
        )

    def _rows(self, group: Sequence[tuple[int, Tensor]]) -> list[Row]:
        """Rows of photos of one size."""
        photos = [self._photos[index] for index, _ in group]
        n_told = 0

        def told(name: str) -> None:
            nonlocal n_told
            self.doing(len(group) * n_told / self.ask.n_steps, registry.title_of(name))
            n_told += 1

        found = self.ask(photos, torch.cat([image for _, image in group]), told)
        n_each = len(found) // len(group)  # entries of a photo, one for each class asked about
        return [{**row, "index": group[at // n_each][0]} for at, row in enumerate(found)]

    def check_readable(self) -> None:
        """Raise unless one of the photos can be read.

        Raises:
            InputError: None can; the first one's reason.
        """
        first: Failure | None = None
        for index in range(len(self._photos)):
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
                resize=None if settings.resize == "none" else settings.resize,
                max_pixels=settings.max_pixels,
                exif=settings.exif,
            )
        except InputError as error:
            return Failure(index, photo.source, str(error))

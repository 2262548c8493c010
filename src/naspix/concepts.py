"""What a class is made of: clusters that its photos share, shown so that a person can name them.

Photos of one class in; ``atlas.html``, ``concepts.json``, ``clusters.npz`` and ``names.json`` out.
The clusters are fitted in a first pass over the photos; a second one looks at each photo through
the pipeline: where its clusters lie, what the methods' saliency falls on, whether the prediction is
right, what lies outside the boxes that people drew.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from naspix import registry
from naspix.datasets.boxes import fitted_boxes
from naspix.datasets.frames import QUARTER_TURNS, find_frame
from naspix.datasets.voc import read_annotation
from naspix.errors import InputError, NaspixError, NaspixWarning
from naspix.files import write_whole, written
from naspix.images import (
    ORIENTATION,
    Photo,
    ReadingAhead,
    answers_of,
    find_photos,
    of_one_size,
    orientation,
    visible_files,
)
from naspix.metrics import (
    ClusterSaliency,
    clever_hans_audit,
    cluster_saliency,
    outside_shares,
    saliency_by_cluster,
)
from naspix.models import Classifier, ModelSettings
from naspix.pipeline import Method, Pipeline
from naspix.report import RunRecord
from naspix.report.atlas import AtlasReport, atlas_page, atlas_record
from naspix.segmentation import ClassClustering, ClassClusters

CLUSTERS, FIT, NAMES, PAGE, RECORD = (
    "clusters.npz",
    "fit.json",
    "names.json",
    "atlas.html",
    "concepts.json",
)
_SAMPLE = '{"0": "grass", "1": "head"}'


@final
@dataclass(frozen=True, kw_only=True)
class ConceptSettings(ModelSettings):
    """What is asked for, as plain values: of which network, as in `ModelSettings`, and the rest.

    Attributes:
        category: The photos' class, number or name: its saliency is measured, right and wrong
            predictions are told apart. Without it the predicted classes'.
        methods: Names of saliency methods.
        parameters: Name of a method -> parameter -> value.
        boxes: Folder with Pascal VOC XML files of the photos' names, for the audit.
        names: JSON file with names for clusters; the output folder's by default.
        n_examples: Photos shown for each cluster.
        n_clusters: How many parts.
        levels: As for NAS; by default the model's own.
        n_samples: Pixels that are clustered, over all photos.
        n_neighbors: Sampled pixels that vote on each pixel.
        seed: Of everything random.
        resize: ``"model"`` (as the network wants photos), ``"crop"``, ``"squash"``, ``"pad"`` or
            ``"none"``.
        max_pixels: Larger photos are refused.
        exif: Whether photos are turned upright as their EXIF says.
        batch_size: Photos that pass the network together.
    """

    category: str | int | None = None
    methods: tuple[str, ...] = ("grad_cam_plus_plus",)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    boxes: str | os.PathLike[str] | None = None
    names: str | os.PathLike[str] | None = None
    n_examples: int = 8
    n_clusters: int = 10
    levels: Sequence[int | str] = ()
    n_samples: int = 1000
    n_neighbors: int = 5
    seed: int = 0
    resize: Literal["model", "crop", "squash", "pad", "none"] = "model"
    max_pixels: int = 100_000_000
    exif: bool = True
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"--batch-size is at least 1, not {self.batch_size}")

    def make_clustering(self, model: Classifier) -> ClassClustering:
        """What finds the clusters."""
        return ClassClustering(
            model,
            n_clusters=self.n_clusters,
            levels=self.levels,
            n_samples=self.n_samples,
            n_neighbors=self.n_neighbors,
            seed=self.seed,
        )


def concepts(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    settings: ConceptSettings | None = None,
    *,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
    failed: Callable[[str, str], None] = lambda source, reason: None,
) -> AtlasReport:
    """Find what a class is made of, and write a page on which a person names the parts.

    Clusters that were fitted to the same photos in the same way are taken from the folder, so that
    editing ``names.json`` and calling again only writes the page anew.

    Args:
        images: Photos, and folders of photos, of one class.
        output: Folder for ``atlas.html``, ``concepts.json``, ``clusters.npz`` and ``names.json``.
        settings: What is asked.
        progress: Told the step, how many photos are done, and how many there are.
        failed: Told of each photo that is left out, and why.

    Returns:
        What the page shows.

    Raises:
        InputError: Settings or names that cannot be.
        OutputError: The folder cannot be written.

    Warns:
        NaspixWarning: Clusters are taken from the folder, or names of former ones set aside.
    """
    settings, output = settings or ConceptSettings(), Path(output)
    images = [images] if isinstance(images, str | os.PathLike) else images
    given = None if settings.names is None else read_names(Path(settings.names))
    boxes = None if settings.boxes is None else _box_files(Path(settings.boxes))
    found = find_photos(images)  # before a network is loaded
    model = settings.load()
    methods: dict[str, Method] = {
        name: registry.find_method(name)(model, **settings.parameters.get(name, {}))
        for name in settings.methods
    }
    target = None if settings.category is None else model.find_class(settings.category)
    photos = _Photos(found, model, settings, progress, failed)
    with written(output):
        output.mkdir(parents=True, exist_ok=True)
    clusters = _fitted(settings, model, photos, output)
    clusters = _named(clusters, output, given)

    pipeline = Pipeline(model, methods, levels=model.level_names(clusters.clustering.levels))
    maker = clusters.atlas_maker(n_examples=settings.n_examples)
    measured: list[ClusterSaliency] = []
    right: list[Tensor] = []
    outside: list[Tensor] = []
    sources: list[str] = []

    def look(some: Sequence[Photo], batch: Tensor) -> None:
        """At one batch; what can fail comes before anything is kept."""
        answers = pipeline(batch, target)
        masks = [photos.mask_of(photo, boxes) for photo in some] if boxes is not None else []
        maps = [answers.activations[name] for name in pipeline.levels]
        seg = clusters.show(batch, maker, activations=maps)
        n = clusters.n_clusters
        measured.append(cluster_saliency(answers.raw, seg.clusters, seg.superpixels, n_clusters=n))
        right.append((answers.predicted == answers.target).cpu())
        if masks:
            outside.append(outside_shares(seg.clusters.cpu(), torch.stack(masks), n_clusters=n))
        sources.extend(photo.source for photo in some)

    photos.each("looking", look)
    joined = ClusterSaliency.join(measured)
    report = AtlasReport(
        title=_title(images) if target is None else model.category(target),
        atlas=maker.finish(),
        sources=sources,
        run=RunRecord(
            settings={
                "model": settings.model,
                "weights": settings.weights,
                "class": "predicted" if target is None else target,
                "methods": list(methods),
                **({"parameters": dict(settings.parameters)} if settings.parameters else {}),
                "clusters": repr(clusters),
                "resize": settings.resize,
                "exif": settings.exif,
                "boxes": None if settings.boxes is None else str(settings.boxes),
            },
            seed=settings.seed,
        ),
        saliency=saliency_by_cluster(joined, torch.cat(right), seed=settings.seed),
        suspects=clever_hans_audit(joined, outside=torch.cat(outside) if outside else None),
        judged=target is not None,
        titles={name: registry.title_of(name) for name in registry.SALIENCY},
        failed=sorted(photos.left_out.items()),
    )
    with written(output / PAGE), write_whole(output / PAGE) as file:
        file.write(atlas_page(report).encode())
    _write_json(atlas_record(report), output / RECORD)
    return report


def read_names(path: Path) -> dict[int, str]:
    """Names by cluster, from a JSON object or list.

    Raises:
        InputError: The file cannot be read, or names no clusters.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); it should be like {_SAMPLE}") from error
    if isinstance(content, list):
        content = {str(k): name for k, name in enumerate(content)}
    if not isinstance(content, dict) or not all(
        k.isdecimal() and isinstance(name, str) for k, name in content.items()
    ):
        raise InputError(f"{path} does not name clusters; it should be like {_SAMPLE}")
    return {int(k): name for k, name in content.items()}


class _Photos:
    """The photos, read a batch ahead; those that cannot be read or looked at are left out."""

    def __init__(
        self,
        photos: Sequence[Photo],
        model: Classifier,
        settings: ConceptSettings,
        progress: Callable[[str, int, int], None],
        failed: Callable[[str, str], None],
    ) -> None:
        self.all, self.left_out = photos, dict[str, str]()
        self._model, self._settings = model, settings
        self._progress, self._failed = progress, failed
        self._resize = None if settings.resize == "none" else settings.resize

    def each(self, step: str, look: Callable[[Sequence[Photo], Tensor], None]) -> None:
        """Look at all photos, a batch of one size at a time; if one spoils it, at each alone."""

        def ask(some: Sequence[tuple[Photo, Tensor]]) -> tuple[()]:
            look([photo for photo, _ in some], torch.cat([image for _, image in some]))
            return ()

        for group in self._groups(step):
            answers_of(group, ask, lambda one, error: self._fail(one[0], error))

    def batches(self, step: str) -> Iterator[tuple[list[Photo], Tensor]]:
        """Photos of one size with their images."""
        for group in self._groups(step):
            yield [photo for photo, _ in group], torch.cat([image for _, image in group])

    def _groups(self, step: str) -> Iterator[list[tuple[Photo, Tensor]]]:
        kept = [photo for photo in self.all if photo.source not in self.left_out]
        read = ReadingAhead(lambda index: self._read(kept[index]))
        size = self._settings.batch_size
        spans = [(i, min(i + size, len(kept))) for i in range(0, len(kept), size)]
        for span, following in zip(spans, [*spans[1:], None], strict=True):
            found: list[tuple[Photo, Tensor]] = []
            for photo, image in zip(kept[slice(*span)], read(span, following)[0], strict=True):
                if isinstance(image, NaspixError):
                    self._fail(photo, image)
                else:
                    found.append((photo, image))
            yield from of_one_size(found, lambda one: one[1].shape)
            self._progress(step, span[1], len(kept))

    def mask_of(self, photo: Photo, files: Mapping[str, Path]) -> Tensor:
        """True inside the boxes; false everywhere where the photo has none, or none that is right.

        The boxes are drawn as a picture and resized and cropped as the photo was.
        """
        from PIL import Image, ImageOps

        assert isinstance(photo.content, Path)  # these photos are files
        source, exif = photo.content, self._settings.exif
        turn, (height, width) = orientation(source)
        file = files.get(source.stem)
        found = None if file is None else read_annotation(file)
        drawn_on = None if found is None else found.size
        frame = find_frame(source, drawn_on, exif=exif, drawn=found is not None)
        if frame.upright and turn in QUARTER_TURNS:
            height, width = width, height
        drawn = np.zeros((height, width, 3), np.uint8)
        if found is not None:
            fitted = fitted_boxes(found.boxes, [0] * len(found.boxes), (height, width), found.size)
            if found.problems:
                warnings.warn(f"{file}: {'; '.join(found.problems)}", NaspixWarning, stacklevel=2)
            for left, top, right, bottom in fitted.boxes.round().long().tolist():
                drawn[top:bottom, left:right] = 255
        picture = Image.fromarray(drawn)
        if exif and not frame.upright:  # the photo was turned
            picture.getexif()[ORIENTATION] = turn
            picture = ImageOps.exif_transpose(picture)
        image = self._model.load_images([picture], resize=self._resize)
        return image[0].mean(0).cpu() > 0.5

    def _read(self, photo: Photo) -> Tensor | InputError:
        try:
            return self._model.load_images(
                [photo.content],
                resize=self._resize,
                max_pixels=self._settings.max_pixels,
                exif=self._settings.exif,
            )
        except InputError as error:
            return error

    def _fail(self, photo: Photo, error: NaspixError) -> None:
        if photo.source not in self.left_out:
            self.left_out[photo.source] = str(error)
            self._failed(photo.source, str(error))


def _fitted(
    settings: ConceptSettings, model: Classifier, photos: _Photos, output: Path
) -> ClassClusters:
    """The folder's clusters, if they were fitted to the same photos in the same way; else new."""
    clustering = settings.make_clustering(model)
    key = {
        "clustering": repr(clustering),
        "resize": settings.resize,
        "photos": [photo.stamp for photo in photos.all],
    }
    if (output / CLUSTERS).is_file() and _read_json(output / FIT) == key:
        _note(f"taking the clusters from {output / CLUSTERS}")
        return ClassClusters.load(output / CLUSTERS, model)
    clusters = clustering.fit(images for _, images in photos.batches("sampling"))
    if any(read_names(output / NAMES).values() if (output / NAMES).is_file() else ()):
        (output / NAMES).replace(output / "names.old.json")
        _note("the clusters are new: names.json was of others, and is names.old.json now")
    elif (output / NAMES).is_file():
        (output / NAMES).unlink()
    clusters.save(output / CLUSTERS)
    _write_json(key, output / FIT)
    return clusters


def _named(clusters: ClassClusters, output: Path, given: dict[int, str] | None) -> ClassClusters:
    """The clusters with the names that a person wrote; the file is there for editing afterwards."""
    path = output / NAMES
    names = given
    if names is None:
        names = read_names(path) if path.is_file() else {}
    named = clusters.named(names)
    if given is not None or not path.is_file():
        _write_json({str(k): name for k, name in enumerate(named.names)}, path)
    if named.names != clusters.names:
        named.save(output / CLUSTERS)
    return named


def _box_files(folder: Path) -> dict[str, Path]:
    files = {file.stem: file for file in visible_files(folder) if file.suffix.lower() == ".xml"}
    if not files:
        raise InputError(f"there is no XML file in {str(folder)!r}; --boxes is a folder of them")
    return files


def _title(images: Sequence[str | os.PathLike[str]]) -> str:
    return Path(images[0]).resolve().name if len(images) == 1 else f"{len(images)} folders"


def _note(sentence: str) -> None:
    warnings.warn(sentence, NaspixWarning, stacklevel=4)


def _read_json(path: Path) -> Any:
    """What a JSON file holds; None if it cannot be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _write_json(value: object, path: Path) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    with written(path), write_whole(path) as file:
        file.write(f"{text}\n".encode())

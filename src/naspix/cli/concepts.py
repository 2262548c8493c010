"""``naspix concepts``: what a class is made of, as a page on which a person names the parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from naspix.cli import talk
from naspix.cli.box_masks import BoxMasks
from naspix.cli.inputs import Batch, Photo, answers, find_photos, read_batches
from naspix.cli.names import read_json, read_names, stamp, write_json
from naspix.cli.options import (
    InputOptions,
    Json,
    MethodName,
    ModelOptions,
    Output,
    read_levels,
    several,
)

if TYPE_CHECKING:
    from torch import Tensor

    from naspix.metrics import ClusterSaliency, SaliencyByCluster, Suspect
    from naspix.models import Classifier
    from naspix.report.atlas import AtlasReport
    from naspix.saliency import SaliencyMethod
    from naspix.segmentation import Atlas, ClassClustering, ClassClusters

CLUSTERS, FIT, NAMES, PAGE, RECORD = (
    "clusters.npz",
    "fit.json",
    "names.json",
    "atlas.html",
    "concepts.json",
)


@Parameter(name="*")
@dataclass(frozen=True)
class ClusteringOptions:
    """How the class is clustered.

    Attributes:
        n_clusters: How many parts.
        levels: Depths of the network to take activations from, separated by commas: 0 is shallow,
            4 is deep; or module names. Without it the network's own.
        n_samples: Pixels that are clustered, over all photos.
        n_neighbors: Sampled pixels that vote on each pixel.
        seed: Of everything random.
    """

    n_clusters: Annotated[int, Parameter(alias="-k")] = 10
    levels: Annotated[str, Parameter(show_default=False)] = ""
    n_samples: int = 1000
    n_neighbors: int = 5
    seed: int = 0

    def make(self, model: "Classifier") -> "ClassClustering":
        """The clustering, not fitted yet."""
        from naspix.segmentation import ClassClustering

        return ClassClustering(
            model,
            n_clusters=self.n_clusters,
            levels=read_levels(self.levels),
            n_samples=self.n_samples,
            n_neighbors=self.n_neighbors,
            seed=self.seed,
        )


_MODEL, _CLUSTERING, _INPUT = ModelOptions(), ClusteringOptions(), InputOptions()


def concepts(
    *,
    images: Annotated[
        list[Path], Parameter(negative=(), help="Photos, and folders of photos, of one class.")
    ],
    category: Annotated[
        str | None,
        Parameter(
            name="--class",
            help="The photos' class, number or name: its saliency is measured, right and wrong "
            "predictions are told apart. Without it the predicted classes'.",
        ),
    ] = None,
    method: Annotated[tuple[MethodName, ...], several("Saliency method")] = ("grad_cam_plus_plus",),
    set_: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            negative=(),
            help="METHOD.PARAMETER=VALUE, such as rise.n_masks=500; may be given several times.",
        ),
    ] = (),
    boxes: Annotated[
        Path | None,
        Parameter(help="Folder with Pascal VOC XML files of the photos' names, for the audit."),
    ] = None,
    names: Annotated[
        Path | None,
        Parameter(
            help="JSON file with names for clusters; the output folder's names.json if absent."
        ),
    ] = None,
    n_examples: Annotated[int, Parameter(help="Photos shown for each cluster.")] = 8,
    model: ModelOptions = _MODEL,
    clustering: ClusteringOptions = _CLUSTERING,
    inputs: InputOptions = _INPUT,
    output: Output = Path("naspix-concepts"),
    json: Json = False,
) -> int:
    """Find what a class is made of, and show it so that a person can name the parts.

    Writes atlas.html, concepts.json, clusters.npz (read by naspix.segmentation.ClassClusters.load)
    and names.json into the output folder. Edit names.json and run the same command again: the
    clusters are taken from the folder, and the page has the names.
    """
    from naspix.files import written
    from naspix.models.targets import find_class

    photos = find_photos(images)
    parameters = _parameters(method, set_)
    network = model.load()
    methods = _methods(network, method, parameters)
    target = find_class(network, category)
    given = None if names is None else read_names(names)
    with written(output):
        output.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}

    def fail(photo: Photo, reason: str) -> None:
        if photo.source not in failed:
            failed[photo.source] = reason
            talk.say(f"left out {photo.source}: {reason}")

    def batches(doing: str) -> Iterator[Batch]:
        kept = [photo for photo in photos if photo.source not in failed]
        with talk.progress(len(kept), doing) as step:
            for batch in read_batches(kept, network, inputs, fail):
                yield batch
                for _ in batch.photos:
                    step()

    clusters = _fitted(clustering.make(network), photos, inputs, batches, output)
    clusters = _named(clusters, output, given)
    look = _Look(clusters, methods, target, boxes, inputs, n_examples)
    for batch in batches("looking"):
        for part, _ in answers(batch, look.at, fail):
            look.sources += [photo.source for photo in part.photos]
    settings: dict[str, object] = {
        "model": model.model,
        "weights": model.weights,
        "class": "predicted" if target is None else target,
        "methods": list(look.methods),
        **({"parameters": parameters} if parameters else {}),
        "clusters": repr(clusters),
        "resize": inputs.resize,
        "boxes": None if boxes is None else str(boxes),
    }
    title = network.category(target) if target is not None else _folder_name(images)
    report = look.report(title, settings, clustering.seed, sorted(failed.items()))
    _write(report, output)
    if json:
        print((output / RECORD).read_text("utf-8"), end="")  # noqa: T201 - a result
    else:
        _print_lines(report)
        if failed:
            talk.say(f"{len(failed)} of {len(photos)} photos were left out")
        talk.say(f"see {output / PAGE}; name the clusters in {output / NAMES}")
    return 1 if failed else 0


def _parameters(names: Sequence[str], assignments: Sequence[str]) -> dict[str, dict[str, object]]:
    """Name -> parameter -> value of the methods, as they were set."""
    from naspix.registry import find_method
    from naspix.settings import read_assignments

    return read_assignments(assignments, {name: find_method(name) for name in names})


def _methods(
    model: "Classifier", names: Sequence[str], parameters: Mapping[str, Mapping[str, object]]
) -> "dict[str, SaliencyMethod]":
    """Name -> method, each once."""
    from naspix.registry import find_method

    return {name: find_method(name)(model, **parameters.get(name, {})) for name in names}


class _Look:
    """Looks at every batch once: atlas, saliency, predictions, boxes."""

    def __init__(
        self,
        clusters: "ClassClusters",
        methods: "Mapping[str, SaliencyMethod]",
        target: int | None,
        boxes: Path | None,
        inputs: InputOptions,
        n_examples: int,
    ) -> None:
        self.model = clusters.clustering.model
        self.methods = methods
        self.sources: list[str] = []
        self._clusters, self._target = clusters, target
        self._maker = clusters.atlas_maker(n_examples=n_examples)
        self._measured: list[ClusterSaliency] = []
        self._right: list[Tensor] = []
        self._outside: list[Tensor] = []
        self._boxes = None if boxes is None else BoxMasks(boxes, self.model, inputs)

    def at(self, batch: Batch) -> None:
        """Look at one batch; what can fail comes before anything is kept."""
        import torch

        from naspix.metrics import cluster_saliency, outside_shares

        images, k = batch.images, self._clusters.n_clusters
        with torch.no_grad():
            predicted = self.model(images).argmax(1).cpu()
        target = predicted if self._target is None else self._target
        saliency = {name: method(images, target) for name, method in self.methods.items()}
        masks = [self._boxes.mask(photo) for photo in batch.photos] if self._boxes else []
        segmentation = self._clusters.show(images, self._maker)
        self._measured.append(
            cluster_saliency(
                saliency, segmentation.clusters, segmentation.superpixels, n_clusters=k
            )
        )
        self._right.append(predicted == target)
        if masks:
            objects = torch.stack(masks)
            self._outside.append(outside_shares(segmentation.clusters.cpu(), objects, n_clusters=k))

    def report(
        self,
        title: str,
        settings: dict[str, object],
        seed: int,
        failed: list[tuple[str, str]],
    ) -> "AtlasReport":
        """What is shown of all batches."""
        import torch

        from naspix.metrics import ClusterSaliency, clever_hans_audit, saliency_by_cluster
        from naspix.registry import TITLES
        from naspix.report import RunRecord
        from naspix.report.atlas import AtlasReport

        atlas: Atlas = self._maker.finish()
        measured = ClusterSaliency.join(self._measured)
        table: SaliencyByCluster = saliency_by_cluster(measured, torch.cat(self._right), seed=seed)
        outside = torch.cat(self._outside) if self._outside else None
        suspects: tuple[Suspect, ...] = clever_hans_audit(measured, outside=outside)
        return AtlasReport(
            title=title,
            atlas=atlas,
            sources=self.sources,
            run=RunRecord(settings=settings, seed=seed),
            saliency=table,
            suspects=suspects,
            judged=self._target is not None,
            titles=TITLES,
            failed=failed,
        )


def _fitted(
    clustering: "ClassClustering",
    photos: list[Photo],
    inputs: InputOptions,
    batches: Callable[[str], Iterator[Batch]],
    output: Path,
) -> "ClassClusters":
    """The folder's clusters, if they were fitted to the same photos in the same way; else new."""
    from naspix.segmentation import ClassClusters

    key = {
        "clustering": repr(clustering),
        "resize": inputs.resize,
        "photos": [stamp(photo) for photo in photos],
    }
    if (output / CLUSTERS).is_file() and read_json(output / FIT) == key:
        talk.say(f"taking the clusters from {output / CLUSTERS}")
        return ClassClusters.load(output / CLUSTERS, clustering.model)

    clusters = clustering.fit(batch.images for batch in batches("sampling"))
    if any(read_names(output / NAMES).values() if (output / NAMES).is_file() else ()):
        (output / NAMES).replace(output / "names.old.json")
        talk.say("the clusters are new: names.json was of others, and is names.old.json now")
    elif (output / NAMES).is_file():
        (output / NAMES).unlink()
    clusters.save(output / CLUSTERS)
    write_json(key, output / FIT)
    return clusters


def _named(
    clusters: "ClassClusters", output: Path, given: dict[int, str] | None
) -> "ClassClusters":
    """The clusters with the names that a person wrote; the file is there for editing afterwards."""
    path = output / NAMES
    names = given
    if names is None:
        names = read_names(path) if path.is_file() else {}
    named = clusters.named(names)
    if given is not None or not path.is_file():
        write_json({str(k): name for k, name in enumerate(named.names)}, path)
    if named.names != clusters.names:
        named.save(output / CLUSTERS)
    return named


def _write(report: "AtlasReport", output: Path) -> None:
    from naspix.files import write_whole, written
    from naspix.report.atlas import atlas_page, atlas_record

    with written(output / PAGE), write_whole(output / PAGE) as file:
        file.write(atlas_page(report).encode())
    write_json(atlas_record(report), output / RECORD)


def _folder_name(images: list[Path]) -> str:
    return images[0].resolve().name if len(images) == 1 else f"{len(images)} folders"


def _print_lines(report: "AtlasReport") -> None:
    from naspix.report.atlas import NOTABLE

    suspicion = {one.cluster: one.score for one in report.suspects}
    for entry in report.atlas.entries:
        means = "".join(
            f"  {method} {float(report.saliency.means[method, 'all'][entry.cluster]):.2f}"
            for method in report.methods
            if report.saliency is not None
        )
        suspicious = suspicion.get(entry.cluster, 0.0)
        mark = f"  suspicious {suspicious:.2f}" if suspicious >= NOTABLE else ""
        line = (
            f"{entry.title:<20} {entry.area:>6.1%} of all pixels, in {entry.frequency:>4.0%} of "
            f"the photos{means}{mark}"
        )
        print(line)  # noqa: T201 - a result

"""``naspix concepts``: what a class is made of, as a page on which a person names the parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from naspix import progress
from naspix.cli import talk
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
    from naspix.report.atlas import AtlasReport


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
    from naspix.concepts import NAMES, PAGE, RECORD, ConceptSettings
    from naspix.concepts import concepts as find_concepts
    from naspix.models import keep_freed_memory
    from naspix.registry import find_method
    from naspix.settings import read_assignments

    keep_freed_memory()
    settings = ConceptSettings(
        **model.plain,
        category=category,
        methods=tuple(dict.fromkeys(method)),
        parameters=read_assignments(set_, {name: find_method(name) for name in method}),
        boxes=boxes,
        names=names,
        n_examples=n_examples,
        n_clusters=clustering.n_clusters,
        levels=read_levels(clustering.levels),
        n_samples=clustering.n_samples,
        n_neighbors=clustering.n_neighbors,
        seed=clustering.seed,
        **vars(inputs),
    )
    with progress.progress_of_items() as step:
        report = find_concepts(
            images,
            output,
            settings,
            progress=step,
            failed=lambda source, reason: talk.say(f"left out {source}: {reason}"),
        )
    if json:
        print((output / RECORD).read_text("utf-8"), end="")  # noqa: T201 - a result
    else:
        _print_lines(report)
        if report.failed:
            n_photos = len(report.failed) + len(report.sources)
            talk.say(f"{len(report.failed)} of {n_photos} photos were left out")
        talk.say(f"see {output / PAGE}; name the clusters in {output / NAMES}")
    return 1 if report.failed else 0


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

"""Table 5 of the paper, extended: what NAS costs beside other superpixels and beside itself, dense.

A section is a function from a :class:`~naspix.paper.plan.Plan` to records; contenders of a
ratio take turns in one run. Nothing is printed here. Memory and whole processes are in
``processes``, the GPU in ``gpu``.

Source: table 5 gives 72 images a second at 96 x 96 on a GPU.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from naspix.paper.gpu import cuda
from naspix.paper.photos import Photo, stacked
from naspix.paper.plan import DEFAULT, RESNET18, Network, Plan
from naspix.paper.processes import memory, process
from naspix.paper.records import Case, Goal, Record
from naspix.paper.rivals import (
    dense_kmeans,
    dense_points,
    felzenszwalb,
    inertia,
    opencv_slic,
    slic,
)
from naspix.paper.timing import Timing, interleaved, limited_threads
from naspix.segmentation import NAS

PAPER_IMAGES_PER_SECOND = 72
PAPER = (
    f"The paper's table 5: NAS segments {PAPER_IMAGES_PER_SECOND} images a second at 96 x 96 on a "
    "GPU, and SLIC is faster by an order of magnitude. Its other cells are not at hand."
)

_WHOLE_BATCH = 8
_Goals = Mapping[tuple[str, int], Goal]  # by name and size

_NAS, _POOLED, _FIXED = "NAS", "NAS with superpixels", "NAS, tol=0"
_SLIC, _FELZENSZWALB, _OPENCV = "SLIC", "Felzenszwalb", "OpenCV SLIC"
_LITERAL, _FORWARD = "Algorithm 1, dense", "forward pass"
_NAS_GOALS: _Goals = {
    **{(_SLIC, size): Goal(0.5) for size in (96, 224)},
    **{(_OPENCV, size): Goal(1.0) for size in (96, 224)},
    **{(_LITERAL, size): Goal(50, at_least=True) for size in (96, 224)},
    (_FIXED, 96): Goal(0.8),
    (_FIXED, 224): Goal(0.6),
}


@dataclass(frozen=True, eq=False)
class _Item:
    """A photo and its activations."""

    photo: Photo
    activations: list[Tensor]


@dataclass(frozen=True, eq=False)
class _Batch:
    """Images, and the same as the network takes them."""

    images: Tensor
    standardized: Tensor


def nas(plan: Plan) -> list[Record]:
    """Time NAS given activations against other superpixels and against Algorithm 1 literally."""
    return _against_rivals(plan, "nas", RESNET18, _NAS_GOALS)


def inertias(plan: Plan) -> list[Record]:
    """Compare the inertia with that of scikit-learn's k-means on the dense matrix."""
    return _inertias(plan, "inertia", RESNET18, Goal(1.001))


def trained(plan: Plan) -> list[Record]:
    """Do both on the default network, whose features are trained; time with one thread as well."""
    records = []
    for threads in sorted({1, plan.threads}):
        records += _against_rivals(replace(plan, threads=threads), "trained", DEFAULT, {})
    return records + _inertias(plan, "trained", DEFAULT, None)


def variants(plan: Plan) -> list[Record]:
    """Time NAS with more levels, more clusters and larger networks against SLIC."""
    size = max(plan.sizes)
    networks = {
        "levels 0 to 4": Network(levels=(0, 1, 2, 3, 4)),
        "ten clusters": Network(n_clusters=10),
        "ResNet50": Network("resnet50"),
        "VGG16": Network("vgg16"),
    }
    records = []
    for name, network in networks.items():
        segmenter = network.segmenter()
        items = _items(segmenter, plan, size)
        times = _in_turns(plan, {_NAS: _clusters(segmenter, size), _SLIC: _of_photo(slic)}, items)
        case = network.case(size, plan.threads, len(items))
        records.append(
            Record.of_ratio(
                "variants", f"NAS, {name}", case, times[_NAS], _SLIC, times[_SLIC], Goal(1.5)
            )
        )
    return records


def whole(plan: Plan) -> list[Record]:
    """Time NAS from the image on against the network's bare forward pass."""
    size = max(plan.sizes)
    photos = plan.photos(size)
    records = []
    for network in (RESNET18, DEFAULT):
        segmenter = network.segmenter()
        contenders: dict[str, Callable[[_Batch], object]] = {
            _NAS: lambda batch, nas=segmenter: nas(batch.images).clusters,  # type: ignore[misc]
            _FORWARD: _forward(segmenter.model.network),
        }
        for n_at_once in sorted({1, min(_WHOLE_BATCH, len(photos))}):
            batches = []
            for start in range(0, len(photos) - n_at_once + 1, n_at_once):
                images = stacked(photos[start : start + n_at_once])
                batches.append(_Batch(images, segmenter.model.standardize(images)))
            with limited_threads(plan.threads):
                times = interleaved(contenders, batches, rounds=plan.rounds, clock=plan.clock)
            case = network.case(size, plan.threads, n_at_once * len(batches))
            name = f"NAS of images, {n_at_once} at a time"
            records.append(
                Record.of_ratio(
                    "whole", name, case, times[_NAS], _FORWARD, times[_FORWARD], Goal(1.25)
                )
            )
    return records


def ward(plan: Plan) -> list[Record]:
    """Time Ward's tree of one photo, and SciPy's on dense features of half the size, scaled.

    Both grow with the square of the number of points.
    """
    from scipy.cluster import hierarchy

    size = min(plan.sizes)
    half = size // 2
    segmenter = replace(RESNET18.segmenter(), algorithm="ward")
    items = _items(segmenter, plan, size)[: min(2, plan.n_slow)]

    def scipy_tree(item: _Item) -> object:
        return hierarchy.ward(dense_points(item.activations, half).numpy())

    times = _in_turns(
        replace(plan, rounds=1), {"ward": _clusters(segmenter, size), "scipy": scipy_tree}, items
    )
    scale = (size / half) ** 4
    case = RESNET18.case(size, plan.threads, len(items))
    name = "NAS by Ward, exact"
    return [
        Record(
            section="ward",
            name=name,
            case=case,
            timing=times["ward"],
            figure=times["ward"].median_ms / 1e3,
            unit="s",
            goal=Goal(2.0) if size == 96 else None,
        ),
        Record.of_ratio(
            "ward",
            name,
            case,
            times["ward"],
            "SciPy, dense",
            times["scipy"].scaled(scale),
            Goal(0.25),
            note=f"SciPy's ward at {half} x {half}, its time times {scale:.0f}",
        ),
    ]


SECTIONS: dict[str, Callable[[Plan], list[Record]]] = {
    "nas": nas,
    "inertia": inertias,
    "trained": trained,
    "variants": variants,
    "memory": memory,
    "whole": whole,
    "ward": ward,
    "process": process,
    "cuda": cuda,
}


def _against_rivals(plan: Plan, section: str, network: Network, goals: _Goals) -> list[Record]:
    """NAS beside all others, at every size."""
    segmenter = network.segmenter()
    opencv = opencv_slic()
    records = []
    for size in plan.sizes:
        items = _items(segmenter, plan, size)
        contenders: dict[str, Callable[[_Item], object]] = {
            _NAS: _clusters(segmenter, size),
            _POOLED: lambda item, size=size: (
                segmenter.segment(  # type: ignore[misc]
                    item.activations, (size, size)
                ).superpixels
            ),
            _FIXED: _clusters(replace(segmenter, tol=0), size),
            _SLIC: _of_photo(slic),
            _FELZENSZWALB: _of_photo(felzenszwalb),
        }
        if opencv is not None:
            contenders[_OPENCV] = _of_photo(opencv)
        times = _in_turns(plan, contenders, items)
        case = network.case(size, plan.threads, len(items))
        for name, rival in (
            (_NAS, _SLIC),
            (_POOLED, _SLIC),
            (_FIXED, _SLIC),
            (_NAS, _FELZENSZWALB),
            (_NAS, _OPENCV),
        ):
            goal = goals.get((rival if name == _NAS else name, size))
            if rival in times:
                record = Record.of_ratio(
                    section, name, case, times[name], rival, times[rival], goal
                )
            else:
                note = "left out: needs pip install opencv-contrib-python-headless"
                record = Record(
                    section=section, name=name, case=case, against=rival, goal=goal, note=note
                )
            records.append(record)
        few = items[: plan.n_slow]
        records.append(
            _against_literal(plan, section, segmenter, replace(case, n_photos=len(few)), few, goals)
        )
    return records


def _against_literal(
    plan: Plan, section: str, nas: NAS, case: Case, items: list[_Item], goals: _Goals
) -> Record:
    """How many times faster NAS is than the algorithm as the paper writes it."""
    size = int(case.size or 0)

    def literal(item: _Item) -> object:
        return dense_kmeans(dense_points(item.activations, size), nas.n_clusters)

    times = _in_turns(
        replace(plan, rounds=1), {_NAS: _clusters(nas, size), _LITERAL: literal}, items
    )
    return Record(
        section=section,
        name=_NAS,
        case=case,
        timing=times[_NAS],
        against=_LITERAL,
        against_timing=times[_LITERAL],
        figure=times[_LITERAL].median_ms / times[_NAS].median_ms,
        unit="x faster",
        goal=goals.get((_LITERAL, size)),
    )


def _inertias(plan: Plan, section: str, network: Network, goal: Goal | None) -> list[Record]:
    """Mean ratio of inertias over photos: all at the smallest size, few at greater ones."""
    segmenter = network.segmenter()
    records = []
    for size in plan.sizes:
        n_photos = len(plan.sources) if size == min(plan.sizes) else plan.n_slow
        ratios = []
        with limited_threads(plan.threads):
            for item in _items(segmenter, plan, size)[:n_photos]:
                points = dense_points(item.activations, size)
                ours, theirs = 0.0, 0.0
                for seed in range(plan.n_seeds):
                    found = replace(segmenter, seed=seed).segment(item.activations, (size, size))
                    ours += inertia(points, found.clusters.flatten())
                    labels = dense_kmeans(points, network.n_clusters, seed)
                    theirs += inertia(points, torch.from_numpy(labels))
                ratios.append(ours / theirs)
        records.append(
            Record(
                section=section,
                name="inertia of NAS",
                case=network.case(size, plan.threads, len(ratios)),
                against="scikit-learn KMeans",
                figure=sum(ratios) / len(ratios),
                goal=goal,
                note=f"{len(ratios)} photos, {plan.n_seeds} seeds, n_init=1 on the dense matrix at "
                f"{size}; from {min(ratios):.4f} to {max(ratios):.4f}",
            )
        )
    return records


def _items(nas: NAS, plan: Plan, size: int) -> list[_Item]:
    photos = plan.photos(size)
    return [_Item(photo, nas.model.activations(photo.batch, nas.levels)) for photo in photos]


def _in_turns(
    plan: Plan, contenders: Mapping[str, Callable[[_Item], object]], items: list[_Item]
) -> dict[str, Timing]:
    with limited_threads(plan.threads):
        return interleaved(contenders, items, rounds=plan.rounds, clock=plan.clock)


def _clusters(nas: NAS, size: int) -> Callable[[_Item], object]:
    return lambda item: nas.segment(item.activations, (size, size)).clusters


def _of_photo(segment: Callable[[Photo], object]) -> Callable[[_Item], object]:
    return lambda item: segment(item.photo)


def _forward(network: torch.nn.Module) -> Callable[[_Batch], object]:
    def forward(batch: _Batch) -> object:
        with torch.no_grad():
            return network(batch.standardized)

    return forward

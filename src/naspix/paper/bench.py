"""Table 5 of the paper, extended: what NAS costs beside other superpixels and beside itself, dense.

A section is a function from a :class:`~naspix.paper.timing.Plan` to records; contenders of a ratio
take turns in one run. Nothing is printed here.

Source: table 5, in milliseconds an image.
"""

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.kmeans import kmeans
from naspix.paper.processes import memory, process
from naspix.paper.timing import (
    DEFAULT,
    N_SEGMENTS,
    RESNET18,
    Network,
    Photo,
    Plan,
    Record,
    felzenszwalb,
    limited_threads,
    photos_at,
    slic,
    stacked,
)
from naspix.segmentation import NAS, Segmentation

PAPER = (
    "The paper's table 5: NAS with ResNet18, levels 2 to 4 and K = 5 takes 13.9 ms an image of "
    "96 x 96 on a GPU, SLIC 2.6 and Felzenszwalb 2.3 on a CPU."
)

_Goals = Mapping[tuple[str, int], float]  # by name and size

_NAS, _POOLED, _FIXED = "NAS", "NAS with superpixels", "NAS, tol=0"
_TORCH = "NAS, torch route"
_SLIC, _FELZENSZWALB, _OPENCV = "SLIC", "Felzenszwalb", "OpenCV SLIC"
_LITERAL, _FORWARD = "Algorithm 1, dense", "forward pass"
_NAS_GOALS: _Goals = {
    (_SLIC, 96): 0.2,
    (_SLIC, 224): 0.15,
    (_OPENCV, 96): 0.4,
    (_OPENCV, 224): 0.35,
    (_FELZENSZWALB, 96): 0.15,
    (_FELZENSZWALB, 224): 0.08,
    (_LITERAL, 96): 330,  # times faster, at least
    (_LITERAL, 224): 500,
    (_FIXED, 96): 0.3,
    (_FIXED, 224): 0.25,
}
_DEFAULT_GOALS: _Goals = {(_SLIC, 96): 0.12, (_SLIC, 224): 0.08}
_DINOV2 = Network("timm/vit_small_patch14_dinov2")
_DINOV2_SIZE = 518
_VARIANTS: Mapping[str, tuple[Network, Mapping[int, float]]] = {  # and goals by size
    "levels 0 to 4": (Network(levels=(0, 1, 2, 3, 4)), {96: 0.35, 224: 0.35}),
    "ten clusters": (Network(n_clusters=10), {96: 0.25, 224: 0.25}),
    "twenty clusters": (Network(n_clusters=20), {96: 0.5, 224: 0.8}),
    "ResNet50": (Network("resnet50"), {224: 0.25}),
    "VGG16": (Network("vgg16"), {224: 0.35}),
    "a large frame": (RESNET18, {512: 0.15, 1024: 0.15}),
    "DINOv2": (_DINOV2, {_DINOV2_SIZE: 0.15}),
}
_N_FRAMES = 100  # of a film
_WHOLE_BATCH = 8
_OPENCV_ROUNDS = 10  # as many as scikit-image's SLIC runs at most
_GPU_BATCH, _CPU_BATCH, _GPU_ROUNDS = 256, 32, 5


@dataclass(frozen=True, eq=False)
class _Item:
    """A photo and its activations."""

    photo: Photo
    activations: list[Tensor]

    @property
    def size(self) -> int:
        return self.photo.batch.shape[-1]

    def cut(self, nas: NAS) -> Segmentation:
        return nas.segment(self.activations, (self.size, self.size))

    def points(self) -> Float[Tensor, "n_pixels D"]:
        return dense_points(self.activations, self.size)


def nas(plan: Plan) -> list[Record]:
    """Time NAS given activations against other superpixels and against Algorithm 1 literally."""
    return _against_rivals(plan, "nas", RESNET18, _NAS_GOALS)


def inertias(plan: Plan) -> list[Record]:
    """Compare the inertia with that of scikit-learn's k-means on the dense matrix."""
    return _inertias(plan, "inertia", RESNET18, 1.001)


def trained(plan: Plan) -> list[Record]:
    """Do both on a trained network, the default one or that asked for; with one thread as well."""
    network = _trained(plan)
    goals = _DEFAULT_GOALS if network is DEFAULT else {}
    records = _against_rivals(plan, "trained", network, goals)
    return records + _inertias(plan, "trained", network, None)


def _trained(plan: Plan) -> Network:
    if plan.model is None:
        return DEFAULT
    weights = None if plan.weights.lower() == "none" else plan.weights
    return Network(plan.model, weights, levels=None)


def variants(plan: Plan) -> list[Record]:
    """Time NAS with more levels, more clusters, larger networks and frames against SLIC."""
    records = []
    for name, (network, goals) in _VARIANTS.items():
        segmenter = network.segmenter()
        for size, goal in goals.items():
            large = size > 2 * max(plan.sizes)
            few = replace(plan, sources=plan.sources[: plan.n_slow], rounds=1) if large else plan
            items = _items(segmenter, few, size)
            contenders = {_NAS: _clusters(segmenter), _SLIC: lambda item: slic(item.photo)}
            times = few.times(contenders, items)
            case = network.case(size, plan.threads, len(items))
            record = Record(section="variants", name=f"NAS, {name}", case=case, goal=goal)
            records.append(record.of(times, _NAS, _SLIC))
    return records


def film(plan: Plan) -> list[Record]:
    """Count frames a second of a film, all in one batch, given the activations."""
    size = max(plan.sizes)
    photos = photos_at(plan.sources, size)
    frames = stacked([photos[i % len(photos)] for i in range(_N_FRAMES)])
    segmenter = RESNET18.segmenter()
    activations = segmenter.model.activations(frames, segmenter.levels)
    contenders = {_NAS: lambda _: segmenter.segment(activations, (size, size)).clusters}
    times = plan.times(contenders, [0])
    return [
        Record(
            section="film",
            name=f"NAS of {_N_FRAMES} frames",
            case=RESNET18.case(size, plan.threads, _N_FRAMES),
            timing=times[_NAS],
            figure=1e3 * _N_FRAMES / times[_NAS].median_ms,
            unit="frames/s",
            goal=600 if size == 224 else None,
            at_least=True,
        )
    ]


def whole(plan: Plan) -> list[Record]:
    """Time NAS from the image on against the network's bare forward pass."""
    records = []
    for network in (RESNET18, _trained(plan), _DINOV2):
        size = _DINOV2_SIZE if network is _DINOV2 else max(plan.sizes)
        photos = photos_at(
            plan.sources[: plan.n_slow] if network is _DINOV2 else plan.sources, size
        )
        segmenter = network.segmenter()
        contenders = {
            _NAS: lambda pair, nas=segmenter: nas(pair[0]).clusters,
            _FORWARD: torch.no_grad()(lambda pair, nas=segmenter: nas.model.network(pair[1])),
        }
        most = 1 if network is _DINOV2 else _WHOLE_BATCH
        for n_at_once in sorted({1, min(most, len(photos))}):
            batches = []  # as images, and as the network takes them
            for start in range(0, len(photos) - n_at_once + 1, n_at_once):
                images = stacked(photos[start : start + n_at_once])
                batches.append((images, segmenter.model.standardize(images)))
            times = plan.times(contenders, batches)
            case = network.case(size, plan.threads, n_at_once * len(batches))
            name = f"NAS of images, {n_at_once} at a time"
            record = Record(section="whole", name=name, case=case, goal=1.08)
            records.append(record.of(times, _NAS, _FORWARD))
    return records


def ward(plan: Plan) -> list[Record]:
    """Time Ward's tree of one photo, and SciPy's on dense features of half the size, scaled.

    Both grow with the square of the number of points.
    """
    from scipy.cluster import hierarchy

    size = min(plan.sizes)
    half = size // 2
    segmenter = replace(RESNET18, algorithm="ward").segmenter()
    items = _items(segmenter, plan, size)[: min(2, plan.n_slow)]

    def scipy_tree(item: _Item) -> object:
        return hierarchy.ward(dense_points(item.activations, half).numpy())

    contenders = {"ward": _clusters(segmenter), "scipy": scipy_tree}
    times = replace(plan, rounds=1).times(contenders, items)
    scale = (size / half) ** 4
    exact = Record(
        section="ward",
        name="NAS by Ward, exact",
        case=RESNET18.case(size, plan.threads, len(items)),
        timing=times["ward"],
        figure=times["ward"].median_ms / 1e3,
        unit="s",
        goal=0.75 if size == 96 else None,
    )
    beside = replace(
        exact,
        against="SciPy, dense",
        against_timing=times["scipy"].scaled(scale),
        figure=None,
        unit="x",
        goal=0.25,
        note=f"SciPy's ward at {half} x {half}, its time times {scale:.0f}",
    )
    return [exact, beside]


def cuda(plan: Plan) -> list[Record]:
    """Count images a second on a GPU, and compare its labels with the CPU's."""
    size = min(plan.sizes)
    rate = Record(
        section="cuda",
        name="NAS of images on a GPU",
        case=RESNET18.case(size, plan.threads, _GPU_BATCH),
        unit="images/s",
        goal=2000 if size == 96 else None,
        at_least=True,
    )
    if not torch.cuda.is_available():
        return [replace(rate, note="left out: there is no CUDA device")]
    photos = photos_at(plan.sources, size)
    images = stacked([photos[i % len(photos)] for i in range(_GPU_BATCH)])
    on_cpu = RESNET18.segmenter()
    on_gpu = replace(on_cpu, model=RESNET18.load().to("cuda"))
    few = images[:_CPU_BATCH]

    def synchronized(labels: Tensor) -> None:
        torch.cuda.synchronize()

    slow = replace(plan, rounds=1).times({_NAS: lambda some: on_cpu(some).clusters}, [few])
    fast = replace(plan, rounds=_GPU_ROUNDS).times(
        {
            _NAS: lambda some: synchronized(on_gpu(some).clusters),
            _POOLED: lambda some: synchronized(on_gpu(some).superpixels),
        },
        [images.cuda()],
    )
    cpu_rate = 1e3 * len(few) / slow[_NAS].median_ms
    rates = {key: 1e3 * len(images) / timing.median_ms for key, timing in fast.items()}
    reported = replace(rate, goal=None, at_least=False)
    name = f"{rate.name}, times the CPU's rate"
    return [
        replace(rate, figure=rates[_NAS]),
        replace(reported, name=f"{rate.name}, with superpixels", figure=rates[_POOLED]),
        replace(reported, name=name, figure=rates[_NAS] / cpu_rate, unit="x"),
        replace(
            reported,
            name="labels as the CPU's, same centres",
            figure=_agreement(on_cpu, few),
            unit="share",
        ),
    ]


SECTIONS: dict[str, Callable[[Plan], list[Record]]] = {
    "nas": nas,
    "inertia": inertias,
    "trained": trained,
    "variants": variants,
    "film": film,
    "memory": memory,
    "whole": whole,
    "ward": ward,
    "process": process,
    "cuda": cuda,
}


def _against_rivals(plan: Plan, section: str, network: Network, goals: _Goals) -> list[Record]:
    """NAS beside all others, with one thread and with all, at every size."""
    segmenter = network.segmenter()
    records = []
    for threads, size in product(sorted({1, plan.threads}), plan.sizes):
        asked = replace(plan, threads=threads)
        items = _items(segmenter, plan, size)
        case = network.case(size, threads, len(items))

        contenders: dict[str, Callable[[_Item], object]] = {
            _NAS: _clusters(segmenter),
            _POOLED: lambda item: item.cut(segmenter).superpixels,
            _FIXED: _clusters(replace(segmenter, tol=0)),
            _TORCH: _by_torch(_clusters(segmenter)),
        }
        rivals = {_SLIC: slic, _FELZENSZWALB: felzenszwalb, _OPENCV: opencv_slic()}
        contenders |= {name: _of_photo(cut) for name, cut in rivals.items() if cut is not None}
        times = asked.times(contenders, items)
        pairs = [(name, _SLIC) for name in (_NAS, _POOLED, _FIXED, _TORCH)]
        for name, rival in (*pairs, (_NAS, _FELZENSZWALB), (_NAS, _OPENCV)):
            goal = goals.get((rival if name == _NAS else name, size))
            record = Record(section=section, name=name, case=case, against=rival, goal=goal)
            if rival in times:
                records.append(record.of(times, name, rival))
            else:
                note = "left out: needs pip install opencv-contrib-python-headless"
                records.append(replace(record, note=note))
        few = items[: plan.n_slow]
        once = replace(asked, rounds=1)
        times = once.times(
            {
                _NAS: contenders[_NAS],
                _LITERAL: lambda item: dense_kmeans(item.points(), network.n_clusters),
            },
            few,
        )
        slower = Record(
            section=section,
            name=_NAS,
            case=replace(case, n_photos=len(few)),
            figure=times[_LITERAL].median_ms / times[_NAS].median_ms,
            unit="x faster",
            goal=goals.get((_LITERAL, size)),
            at_least=True,
        )
        records.append(slower.of(times, _NAS, _LITERAL))
    return records


def _inertias(plan: Plan, section: str, network: Network, goal: float | None) -> list[Record]:
    """Mean ratio of inertias over photos: all at the smallest size, few at greater ones."""
    segmenter = network.segmenter()
    records = []
    for size in plan.sizes:
        n_photos = len(plan.sources) if size == min(plan.sizes) else plan.n_slow
        ratios = []
        with limited_threads(plan.threads):
            for item in _items(segmenter, plan, size)[:n_photos]:
                points = item.points()
                ours, theirs = 0.0, 0.0
                for seed in range(plan.n_seeds):
                    found = item.cut(replace(segmenter, seed=seed))
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
    photos = photos_at(plan.sources, size)
    return [_Item(photo, nas.model.activations(photo.batch, nas.levels)) for photo in photos]


def _of_photo(cut: Callable[[Photo], object]) -> Callable[[_Item], object]:
    return lambda item: cut(item.photo)


def _clusters(nas: NAS) -> Callable[[_Item], object]:
    return lambda item: item.cut(nas).clusters


def _by_torch(call: Callable[[_Item], object]) -> Callable[[_Item], object]:
    """The same without the compiled part."""

    def without(item: _Item) -> object:
        before = os.environ.get("NASPIX_KERNEL")
        os.environ["NASPIX_KERNEL"] = "off"
        try:
            return call(item)
        finally:
            if before is None:
                del os.environ["NASPIX_KERNEL"]
            else:
                os.environ["NASPIX_KERNEL"] = before

    return without


def opencv_slic() -> Callable[[Photo], object] | None:
    """OpenCV's SLIC, or None where OpenCV came without its contrib modules.

    The conversion to CIELAB and the joining of stray pixels are left out, in OpenCV's favour.
    """
    import cv2

    ximgproc = getattr(cv2, "ximgproc", None)
    if ximgproc is None:
        return None

    def segment(photo: Photo) -> object:
        lab = photo.lab
        size = max(1, round(math.sqrt(lab.shape[0] * lab.shape[1] / N_SEGMENTS)))
        segmenter = ximgproc.createSuperpixelSLIC(lab, algorithm=ximgproc.SLIC, region_size=size)
        segmenter.iterate(_OPENCV_ROUNDS)
        return segmenter.getLabels()

    return segment


def dense_points(
    activations: Sequence[Float[Tensor, "1 _ _ _"]], size: int
) -> Float[Tensor, "n_pixels D"]:
    """Lines 5 to 12 of Algorithm 1 as they stand: one row a pixel, one column a channel."""
    parts = []
    for activation in activations:
        upsampled = functional.interpolate(
            activation, size=(size, size), mode="bicubic", align_corners=False
        )
        norms = upsampled.norm(dim=1, keepdim=True).clamp_min(1e-12)
        parts.append(upsampled / norms / (1 + activation.shape[1]))
    return torch.cat(parts, dim=1)[0].flatten(1).T.contiguous()


def dense_kmeans(
    points: Float[Tensor, "n_pixels D"], n_clusters: int, seed: int = 0
) -> NDArray[np.int32]:
    """Line 13 by scikit-learn, from one start."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    fitted = KMeans(n_clusters, n_init=1, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # tiny pictures: fewer distinct points
        return np.asarray(fitted.fit(points.numpy()).labels_)


def inertia(points: Float[Tensor, "n_pixels D"], labels: Integer[Tensor, " n_pixels"]) -> float:
    """The sum of squared distances of points from the means of their clusters.

    Example:
        >>> inertia(torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 1]))
        2.0
    """
    total = 0.0
    for label in labels.unique():
        group = points[labels == label]
        mean = group.mean(0, dtype=torch.float64).to(group.dtype)
        total += float((group - mean).square().sum(dtype=torch.float64))
    return total


def _agreement(nas: NAS, images: Tensor) -> float:
    """Share of pixels that the GPU labels as the CPU does, k-means from the same centres."""
    frame = (images.shape[2], images.shape[3])
    activations = nas.model.activations(images, nas.levels)
    features = UpsampledFeatures(activations, frame)
    generator = torch.Generator().manual_seed(0)
    starts = torch.rand(len(images), features.n_pixels, generator=generator)
    centers = features.at(starts.argsort(1)[:, : nas.n_clusters])
    on_gpu = UpsampledFeatures([maps.cuda() for maps in activations], frame)
    expected = kmeans(features, nas.n_clusters, tol=0, init=centers)
    found = kmeans(on_gpu, nas.n_clusters, tol=0, init=centers.cuda())
    return float((expected == found.cpu()).float().mean())

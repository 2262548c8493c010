"""NAS on a GPU: images a second, and whether its labels are the CPU's.

A section of the benchmark of ``table5``: a function from a plan to records.
"""

from dataclasses import replace

import torch
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.kmeans import kmeans
from naspix.paper.photos import stacked
from naspix.paper.plan import RESNET18, Plan
from naspix.paper.records import Goal, Record
from naspix.paper.timing import interleaved, limited_threads
from naspix.segmentation import NAS

_BATCH, _CPU_BATCH, _ROUNDS = 256, 32, 5
_NAS, _POOLED = "NAS", "NAS and its superpixels"


def cuda(plan: Plan) -> list[Record]:
    """Count images a second on a GPU, and compare its labels with the CPU's."""
    size = min(plan.sizes)
    name = "NAS of images on a GPU"
    case = RESNET18.case(size, plan.threads, _BATCH)
    goal = Goal(2000, at_least=True) if size == 96 else None
    if not torch.cuda.is_available():
        note = "left out: there is no CUDA device"
        return [Record(section="cuda", name=name, case=case, unit="images/s", goal=goal, note=note)]
    photos = plan.photos(size)
    images = stacked([photos[i % len(photos)] for i in range(_BATCH)])
    on_cpu = RESNET18.segmenter()
    on_gpu = replace(on_cpu, model=RESNET18.load().to("cuda"))
    few = images[:_CPU_BATCH]
    with limited_threads(plan.threads):
        slow = interleaved({_NAS: lambda some: on_cpu(some).clusters}, [few], clock=plan.clock)
        fast = interleaved(
            {
                _NAS: lambda some: _synchronized(on_gpu(some).clusters),
                _POOLED: lambda some: _synchronized(on_gpu(some).superpixels),
            },
            [images.cuda()],
            rounds=_ROUNDS,
            clock=plan.clock,
        )
    cpu_rate = 1e3 * len(few) / slow[_NAS].median_ms
    rates = {key: 1e3 * len(images) / timing.median_ms for key, timing in fast.items()}
    pooled = f"{name}, with superpixels"
    agreeing = _agreement(on_cpu, few)
    return [
        Record(section="cuda", name=what, case=case, figure=figure, unit=unit, goal=wanted)
        for what, figure, unit, wanted in (
            (name, rates[_NAS], "images/s", goal),
            (pooled, rates[_POOLED], "images/s", None),
            (f"{name}, times the CPU's rate", rates[_NAS] / cpu_rate, "x", None),
            ("labels as the CPU's, same centres", agreeing, "share", None),
        )
    ]


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


def _synchronized(labels: Tensor) -> Tensor:
    torch.cuda.synchronize()
    return labels

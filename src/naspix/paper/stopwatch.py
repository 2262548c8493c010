"""Times of NAS in many ways beside SLIC's and Felzenszwalb's, as records of table 5.

Every row is timed by turns with SLIC on the same photos, so that a slow minute slows both.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional

from naspix.models import DEFAULT_MODEL
from naspix.paper.at_hand import Source
from naspix.paper.bench import SECTIONS
from naspix.paper.networks import TITLES, load_network
from naspix.paper.timing import (
    Network,
    Photo,
    Plan,
    felzenszwalb,
    interleaved,
    limited_threads,
    photos_at,
    slic,
    spread,
    stacked,
    usual_photos,
)
from naspix.runs.parts import Part, Span, this_machine
from naspix.segmentation import NAS

if TYPE_CHECKING:
    import pyarrow as pa

_SLIC, _FELZENSZWALB = "SLIC", "Felzenszwalb"
CROPS = "crops"  # of scikit-image's photos
_ROUNDS = 3
_GPU_BATCH, _GPU_ROUNDS = 64, 5


@dataclass(frozen=True)
class Contender:
    """A row of the table: one way of NAS.

    Attributes:
        network: Its name.
        levels: None for the network's own.
        n_clusters: K.
        algorithm: Of clustering.
    """

    network: str = "resnet18"
    levels: tuple[int, ...] | None = (2, 3, 4)
    n_clusters: int = 5
    algorithm: str = "kmeans"

    @property
    def name(self) -> str:
        """As the data file names the row."""
        levels = "own levels"
        if self.levels is not None:
            levels = f"levels {self.levels[0]} to {self.levels[-1]}"
        by = " by Ward" if self.algorithm == "ward" else ""
        return f"NAS{by}, {TITLES[self.network]}, {levels}, K = {self.n_clusters}"


CONTENDERS: tuple[Contender, ...] = (
    Contender(),
    Contender(levels=(0, 1, 2, 3, 4)),
    Contender(n_clusters=10),
    Contender(network="resnet50"),
    Contender(network="vgg16"),
    Contender(network="vit_b_16"),
    Contender(network=DEFAULT_MODEL, levels=None),
    Contender(algorithm="ward"),
)


class Stopwatch:
    """Measures one row, or one section of the benchmark, a span.

    Args:
        source: The photos.
        networks: What `find_networks` found.
        sizes: Sides of the square photos.
        threads: Each library may use.
        sections: Of `naspix bench`, after the contenders.
        n_photos: How many photos.
        quick: Whether one round has to do.
        seed: Of k-means.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        networks: Mapping[str, Any],
        *,
        sizes: tuple[int, ...],
        threads: int,
        sections: tuple[str, ...],
        n_photos: int,
        quick: bool,
        seed: int,
    ) -> None:
        self._networks, self._sections = networks, sections
        self._sizes, self._threads = sizes, threads
        self._quick, self._seed = quick, seed
        self._sources = _pictures(Source.from_plain(source), n_photos)

    def __call__(self, span: Span, following: Span | None) -> Part:
        """Measure them, and the machine's load."""
        rows = []
        for index in range(*span):
            if index < len(CONTENDERS):
                rows += self._contender(index, CONTENDERS[index])
            else:
                rows += self._section(index, self._sections[index - len(CONTENDERS)])
        for row in rows:
            row["load"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return Part(span, _table(rows), (), {}, (this_machine(self._threads),))

    def _contender(self, index: int, contender: Contender) -> list[dict[str, Any]]:
        given = self._networks["weights"].get(contender.network)
        model = (
            Network(contender.network).load()
            if given is None
            else load_network(contender.network, given, "cpu")
        )
        nas = NAS(
            model,
            levels=contender.levels or model.default_levels,
            n_clusters=contender.n_clusters,
            algorithm=contender.algorithm,  # type: ignore[arg-type]
            seed=self._seed,
        )
        common = {
            "index": index,
            "network": contender.network,
            "weights": "random" if given is None else given,
        }
        rows = []
        for size in self._sizes:
            photos = photos_at(self._sources, size)
            contenders: dict[str, Callable[[Photo], object]] = {
                contender.name: partial(_cut, nas), _SLIC: slic,
            }  # fmt: skip
            if index == 0:
                contenders[_FELZENSZWALB] = felzenszwalb
            times = self._times(contenders, photos)
            names = contenders if index == 0 else [contender.name]
            for name in names:
                on_cpu = {"column": f"{size} x {size}, CPU", **_summary(times[name], times[_SLIC])}
                rows.append({**common, "row": name, **on_cpu})
                if name in (_SLIC, _FELZENSZWALB):
                    rows[-1].update(network="", weights="")
            if torch.cuda.is_available():
                on_gpu = {"column": f"{size} x {size}, GPU", **_on_gpu(nas, photos)}
                rows.append({**common, "row": contender.name, **on_gpu})
        return rows

    def _times(
        self, contenders: Mapping[str, Callable[[Photo], object]], photos: Sequence[Photo]
    ) -> dict[str, list[float]]:
        """Milliseconds for each photo, the median of several rounds."""
        rounds = 1 if self._quick else _ROUNDS
        times: dict[str, list[float]] = {name: [] for name in contenders}
        with limited_threads(self._threads):
            for photo in photos:
                found = interleaved(contenders, [photo], rounds=rounds)
                for name, timing in found.items():
                    times[name].append(timing.median_ms)
        return times

    def _section(self, index: int, section: str) -> list[dict[str, Any]]:
        plan = Plan(self._sources, threads=self._threads, sizes=self._sizes)
        plan = plan.quick() if self._quick else plan
        return [
            {
                "index": index,
                "section": section,
                "row": record.name,
                "network": record.case.network,
                "size": record.case.size,
                "n_photos": record.case.n_photos,
                "median_ms": None if record.timing is None else record.timing.median_ms,
                "against": record.against,
                "against_ms": (
                    None if record.against_timing is None else record.against_timing.median_ms
                ),
                "note": record.note,
            }
            for record in SECTIONS[section](plan)
        ]


def _pictures(source: Source, n: int) -> list[UInt8[np.ndarray, "H W 3"]]:
    """So many pictures, or as many as there are."""
    if source.dataset == CROPS:
        return spread(usual_photos(), n)
    dataset = source.open()
    images = (dataset[index].image for index in range(min(n, len(dataset))))
    return [(image * 255).round().byte().permute(1, 2, 0).numpy() for image in images]


def _cut(nas: NAS, photo: Photo) -> Tensor:
    return _superpixels(nas, photo.batch)


def _superpixels(nas: NAS, images: Tensor) -> Tensor:
    """Superpixels in the photos' frame; a network of one size sees them enlarged to it."""
    frame = (images.shape[2], images.shape[3])
    if nas.model.name.startswith("vit") and frame != nas.model.input_size:
        images = functional.interpolate(images, nas.model.input_size, mode="bilinear")
    return nas.segment(nas.model.activations(images, nas.levels), frame).superpixels


def _on_gpu(nas: NAS, photos: Sequence[Photo]) -> dict[str, Any]:
    """Images a second of batches on the CUDA device, superpixels included."""
    on_gpu = replace(nas, model=nas.model.to("cuda"))
    n = 1 if nas.algorithm == "ward" else _GPU_BATCH
    batch = stacked([photos[i % len(photos)] for i in range(n)]).cuda()

    def cut(images: Tensor) -> None:
        _superpixels(on_gpu, images)
        torch.cuda.synchronize()

    timing = interleaved({"": cut}, [batch], rounds=_GPU_ROUNDS)[""]
    nas.model.to("cpu")
    return {
        "rate": 1e3 * n / timing.median_ms,
        "median_ms": timing.median_ms / n,
        "lower_ms": timing.quartiles_ms[0] / n,
        "upper_ms": timing.quartiles_ms[1] / n,
        "n_photos": len(photos),
    }


def _summary(times: Sequence[float], slics: Sequence[float]) -> dict[str, Any]:
    lower, median, upper = (float(q) for q in np.quantile(times, (0.25, 0.5, 0.75)))
    return {
        "rate": 1e3 / median,
        "median_ms": median,
        "lower_ms": lower,
        "upper_ms": upper,
        "n_photos": len(times),
        "times_ms": list(times),
        "slic_times_ms": list(slics),
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
    import pyarrow as pa

    kinds = {
        "index": pa.int32(),
        "section": pa.string(),
        "row": pa.string(),
        "column": pa.string(),
        "network": pa.string(),
        "weights": pa.string(),
        "size": pa.int32(),
        "rate": pa.float64(),
        "median_ms": pa.float64(),
        "lower_ms": pa.float64(),
        "upper_ms": pa.float64(),
        "n_photos": pa.int32(),
        "times_ms": pa.list_(pa.float64()),
        "slic_times_ms": pa.list_(pa.float64()),
        "against": pa.string(),
        "against_ms": pa.float64(),
        "note": pa.string(),
        "load": pa.float64(),  # the machine's, after measuring
    }
    schema = pa.schema([pa.field(name, kind) for name, kind in kinds.items()])
    return pa.table({name: [row.get(name) for row in rows] for name in kinds}, schema=schema)

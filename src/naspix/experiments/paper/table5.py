"""Table 5: images a second, NAS by networks, levels, K and by Ward, SLIC and Felzenszwalb.

From the image on: forward pass, clustering and superpixels. Every row is timed by turns with SLIC
on the same photos, so that a slow minute slows both. What NAS costs given the activations, and
beside Algorithm 1 as it is written, are sections of `naspix bench`, whose records are here too.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from naspix.experiments import table5 as benchmark
from naspix.experiments.continuing import OpenRun
from naspix.experiments.engine import Engine, InProcess, carry_out
from naspix.experiments.paper.at_hand import AtHand, Source
from naspix.experiments.paper.experiment import (
    Conditions,
    Drawing,
    Progress,
    Table,
    Value,
    Verdict,
)
from naspix.experiments.paper.networks import PAPERS, TITLES, find_networks, load_network
from naspix.experiments.paper.published import beside_the_papers, published
from naspix.experiments.parts import Part, Span, this_machine
from naspix.experiments.photos import Photo, photos_at, stacked, usual_photos
from naspix.experiments.plan import Network, Plan
from naspix.experiments.rivals import felzenszwalb, slic
from naspix.experiments.store import Run
from naspix.experiments.timing import interleaved, limited_threads
from naspix.models import DEFAULT_MODEL
from naspix.plots import draw_rates
from naspix.segmentation import NAS

if TYPE_CHECKING:
    import pyarrow as pa

_SLIC, _FELZENSZWALB = "SLIC", "Felzenszwalb"
_CROPS = "crops"
_ROUNDS = 3
_BUSY = 1.25  # load a core
_GPU_BATCH, _GPU_ROUNDS = 64, 5
_ORDER_OF_MAGNITUDE = 10.0
_LEVEL = 0.05  # of the test


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


@final
@dataclass(frozen=True)
class Table5:
    """Rates on this machine, on its processor and on a CUDA device where there is one.

    Attributes:
        sizes: Sides of the square photos; STL-10's and ImageNet's.
        threads: Each library may use.
        sections: Of `naspix bench`, to be measured too.
        n_photos: How many photos, if no limit is given; to be quick six, of the least size only,
            and with one thread.
    """

    sizes: tuple[int, ...] = (96, 224)
    threads: int = 2
    sections: tuple[str, ...] = ("nas", "whole")
    n_photos: int = 24

    title = "Table 5: run times"
    words = (
        "Images a second from the image on: the network's forward pass, clustering and "
        "superpixels. One image at a time on the processor, many at once on a CUDA device."
    )

    def compute(
        self, opened: OpenRun, conditions: Conditions, *, engine: Engine, progress: Progress
    ) -> None:
        """Measure what has not been measured; in this process, whoever else could compute."""
        del engine  # several at once would slow each other
        source = opened.find("source", lambda: _find_source(conditions.at_hand).to_plain())
        networks = opened.find("networks", lambda: find_networks(PAPERS, conditions))
        n_items = len(CONTENDERS) + len(self.sections)
        carry_out(
            opened,
            partial(_Stopwatch, self, source, networks, conditions),
            n_items=n_items,
            batch_size=1,
            engine=InProcess(),
            progress=lambda n_more: progress(n_more, n_items),
        )

    def sentences(self, run: Run) -> list[str]:
        """Photos, weights and machine."""
        found, machine = run.header["found"], run.machines[0]
        rates = _rates(run)
        n = max(rate["n_photos"] for rate in rates)
        random = dict.fromkeys(rate["network"] for rate in rates if rate["weights"] == "random")
        weights = ""
        if random:
            names = ", ".join(TITLES[name] for name in random)
            weights = (
                f"Timed with random weights, since real ones are not at hand: {names}. A forward "
                "pass takes the same time, clustering a little more or less. Weights are given by "
                f"--model-weights {next(iter(random))}=PATH."
            )
        load = max((rate["load"] or 0.0 for rate in rates), default=0.0)
        busy = ""
        cores = machine["cores"]
        if isinstance(cores, int) and load > _BUSY * cores:
            busy = (
                f"The machine was busy with other things (load {load:.1f}): times are too long, "
                "ratios of rows on the same photos can still be compared."
            )
        gpu = machine.get("cuda_device") or "no CUDA device, so that the GPU's column is empty"
        return [
            Source.from_plain(found["source"]).counted(n),
            weights,
            f"On {machine['processor']}, threads: {machine['threads']}; {gpu}.",
            busy,
        ]

    def tables(self, run: Run) -> list[Table]:
        """Beside the paper's; all that was measured; what `naspix bench` measures."""
        rates = _rates(run)
        ours = {(rate["row"], rate["column"]): float(rate["rate"]) for rate in rates}
        measured: tuple[tuple[Value, ...], ...] = tuple(
            (
                *(rate["row"], rate["column"], rate["weights"], float(rate["rate"])),
                *(rate["median_ms"], rate["lower_ms"], rate["upper_ms"]),
                _ratio(rate),
            )
            for rate in rates
        )
        columns = ("row", "column", "weights", "images/s", "ms", "lower quartile", "upper quartile")
        return [
            beside_the_papers("table5", "table5", "Images a second, beside the paper's", ours),
            Table(
                "times",
                "Times an image",
                (*columns, "times SLIC's"),
                measured,
                "Medians and quartiles over the photos; SLIC with 20 superpixels, by turns with "
                "each row.",
            ),
            _sections_table(run),
        ]

    def figures(self, run: Run) -> list[Drawing]:
        """Rates as bars."""
        columns: dict[str, dict[str, float]] = {}
        for rate in sorted(_rates(run), key=lambda rate: not rate["row"].startswith("NAS")):
            columns.setdefault(rate["column"], {})[rate["row"]] = float(rate["rate"])
        figure = draw_rates(columns, xlabel="images a second")
        words = "The longer, the faster; the axis is logarithmic."
        return [Drawing("table5", self.title, figure, words)]

    def verdicts(self, run: Run) -> list[Verdict]:
        """Whether SLIC is ten times as fast as NAS at its defaults, by a test over the photos."""
        claim = published("table5").claims["slic_is_faster"]
        column = f"{min(self.sizes)} x {min(self.sizes)}, CPU"
        row = CONTENDERS[0].name
        rate = next(r for r in _rates(run) if (r["row"], r["column"]) == (row, column))
        ratios = np.array(rate["times_ms"]) / np.array(rate["slic_times_ms"])
        return [claim.verdict(*_order_of_magnitude(ratios, f"{row} at {column}"))]


class _Stopwatch:
    """Measures one row, or one section of the benchmark, a span."""

    def __init__(
        self,
        table: Table5,
        source: Mapping[str, Any],
        networks: Mapping[str, Any],
        conditions: Conditions,
    ) -> None:
        self._table, self._networks, self._conditions = table, networks, conditions
        n_photos = conditions.limit or (6 if conditions.quick else table.n_photos)
        self._sizes = table.sizes[:1] if conditions.quick else table.sizes
        self._threads = 1 if conditions.quick else table.threads
        self._sources = _pictures(Source.from_plain(source), n_photos)

    def __call__(self, span: Span, following: Span | None) -> Part:
        rows = []
        for index in range(*span):
            if index < len(CONTENDERS):
                rows += self._contender(index, CONTENDERS[index])
            else:
                rows += self._section(index, self._table.sections[index - len(CONTENDERS)])
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
            seed=self._conditions.seed,
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
        rounds = 1 if self._conditions.quick else _ROUNDS
        times: dict[str, list[float]] = {name: [] for name in contenders}
        with limited_threads(self._threads):
            for photo in photos:
                found = interleaved(contenders, [photo], rounds=rounds)
                for name, timing in found.items():
                    times[name].append(timing.median_ms)
        return times

    def _section(self, index: int, section: str) -> list[dict[str, Any]]:
        plan = Plan(self._sources, threads=self._threads, sizes=self._sizes)
        plan = plan.quick() if self._conditions.quick else plan
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
            for record in benchmark.SECTIONS[section](plan)
        ]


def _find_source(at_hand: AtHand) -> Source:
    """Pictures that were given; else crops, since scikit-image's photos are few."""
    if at_hand != AtHand():
        return at_hand.photos(Path())
    return Source(_CROPS, "", "crops of scikit-image's photos, since none were given")


def _pictures(source: Source, n: int) -> list[UInt8[np.ndarray, "H W 3"]]:
    """So many pictures, or as many as there are."""
    if source.dataset == _CROPS:
        crops = usual_photos()
        n = min(n, len(crops))
        return [crops[i * len(crops) // n] for i in range(n)]
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


def _order_of_magnitude(ratios: NDArray[np.float64], what: str) -> tuple[bool | None, str]:
    """Whether times are ten times SLIC's, by Wilcoxon's test of their logarithms over photos."""
    from scipy.stats import wilcoxon

    logs = np.log(ratios / _ORDER_OF_MAGNITUDE)
    less = float(wilcoxon(logs, alternative="less").pvalue)
    more = float(wilcoxon(logs, alternative="greater").pvalue)
    said = (
        f"{what} takes {np.median(ratios):.2g} times SLIC's time (median of {len(ratios)} "
        f"pictures, from {ratios.min():.2g} to {ratios.max():.2g}). Wilcoxon's test against ten "
        f"times: p = {min(less, more):.2g}, {'less' if less < more else 'more'}."
    )
    if min(less, more) >= _LEVEL:
        return None, f"{said} More pictures would tell."
    return more < less, said


def _rates(run: Run) -> list[dict[str, Any]]:
    return [record for record in run.records().to_pylist() if record["section"] is None]


def _ratio(rate: Mapping[str, Any]) -> float | None:
    if rate["slic_times_ms"] is None:
        return None
    return float(np.median(np.array(rate["times_ms"]) / np.array(rate["slic_times_ms"])))


def _sections_table(run: Run) -> Table:
    rows: list[tuple[Value, ...]] = []
    for record in run.records().to_pylist():
        if record["section"] is not None:
            ratio = None
            if record["median_ms"] and record["against_ms"]:
                ratio = record["median_ms"] / record["against_ms"]
            rows.append(
                (record["row"], record["network"], record["size"], record["median_ms"],
                 record["against"], record["against_ms"], ratio)
            )  # fmt: skip
    columns = ("what", "network", "size", "ms", "against", "its ms", "ratio")
    words = (
        "Given the activations, and from the image on (of images), medians by turns. Weights are "
        "random but for the default network's."
    )
    return Table("bench", "As naspix bench measures it", columns, tuple(rows), words)


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

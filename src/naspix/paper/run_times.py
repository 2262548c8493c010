"""Table 5: images a second, NAS by networks, levels, K and by Ward, SLIC and Felzenszwalb.

From the image on: forward pass, clustering and superpixels. Every row is timed by turns with SLIC
on the same photos, so that a slow minute slows both. What NAS costs given the activations, and
beside Algorithm 1 as it is written, are sections of `naspix bench`, whose records are here too.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from naspix.machine import this_machine
from naspix.metrics import compare
from naspix.models import DEFAULT_MODEL
from naspix.paper.bench import SECTIONS
from naspix.paper.data import PAPERS, TITLES, AtHand, Conditions, Source, find_networks
from naspix.paper.experiment import Drawing, Experiment, Shown, Work
from naspix.paper.published import Gains, Table, Told, Value, told
from naspix.paper.segmentations import eight_bit
from naspix.paper.timing import (
    Network,
    Photo,
    Plan,
    Timing,
    felzenszwalb,
    interleaved,
    limited_threads,
    photos_at,
    slic,
    spread,
    stacked,
    usual_photos,
)
from naspix.plots import draw_rates
from naspix.runs import InProcess, Kind, Part, Run, Span, Worker
from naspix.segmentation import NAS

# where none were given; scikit-image's photos are few
_USUAL = Source("crops", "", "crops of scikit-image's photos, since none were given")
_ROUNDS = 3
_GPU_BATCH, _GPU_ROUNDS = 64, 5
_BUSY = 1.25  # load a core
_SIXTY = 60.0


_COLUMNS: Mapping[str, Kind] = {
    **dict.fromkeys(("index", "size", "n_photos"), "int"),
    **dict.fromkeys(("section", "row", "column", "network", "weights", "against", "note"), "text"),
    **dict.fromkeys(("rate", "median_ms", "lower_ms", "upper_ms", "against_ms"), "float"),
    **dict.fromkeys(("times_ms", "slic_times_ms"), "float64s"),
    "load": "float",  # the machine's, after measuring
}


LEVEL_SETS: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3, 4), (2, 3, 4))
NUMBERS = (5, 10)
NETWORKS = ("vgg16", "resnet18", "resnet50")
_CELLS = tuple(  # of the paper's grid, row by row
    Network(name, levels=levels, n_clusters=n_clusters)
    for levels, n_clusters, name in product(LEVEL_SETS, NUMBERS, NETWORKS)
)
_WARD = Network(algorithm="ward")
CONTENDERS: tuple[Network, ...] = (
    Network(),  # the first: SLIC and Felzenszwalb are timed beside it
    *(each for each in _CELLS if each != Network()),
    _WARD,
    Network(DEFAULT_MODEL, levels=None),
    Network("vit_b_16"),
)


def row_of(network: Network) -> str:
    """As the data file names the row of one way of NAS."""
    levels = "own levels"
    if network.levels is not None:
        levels = f"levels {network.levels[0]} to {network.levels[-1]}"
    by = " by Ward" if network.algorithm == "ward" else ""
    return f"NAS{by}, {TITLES[network.name]}, {levels}, K = {network.n_clusters}"


def column_of(size: int, device: str) -> str:
    """As the data file names the column of a size and device."""
    return f"{size} x {size}, {device}"


_GRID = tuple(map(row_of, _CELLS))


# claims: each is asked of the milliseconds of each way on the same pictures, on the CPU

Times = Mapping[str, NDArray[np.float64]]


def order_of_magnitude(times: Times) -> Told:
    """Whether SLIC and Felzenszwalb are ten times as fast as NAS at its defaults."""
    own = times.get(row_of(Network()))
    if own is None:
        return None, "NAS was not timed: 0 pictures."
    others = {name: own / times[name] for name in ("SLIC", "Felzenszwalb")}
    ratios = ", ".join(f"{name} {np.median(each):.2g}" for name, each in others.items())
    words = (
        f"How many times as long NAS takes (ResNet18, levels 2 to 4, K = 5; medians: {ratios}), as "
        "a power of ten less 1. The paper's own cell says 5.3 times."
    )
    parts = {name: Gains(np.log10(each) - 1) for name, each in others.items()}
    return told(parts, words, unit="powers of ten", scale=1)


def of_one_order(times: Times) -> Told:
    """Whether the slowest of the twelve cells takes less than ten times as long as the fastest."""
    cells = _cells(times)
    parts = {}
    if len(cells) == len(_GRID):
        slow = max(cells, key=lambda name: float(cells[name].mean()))
        fast = min(cells, key=lambda name: float(cells[name].mean()))
        parts[f"{slow} by {fast}"] = Gains(1 - np.log10(cells[slow] / cells[fast]))
    words = "1 less the power of ten by which the slowest cell takes longer than the fastest."
    return told(parts, words, unit="powers of ten", scale=1)


def vgg_is_fastest(times: Times) -> Told:
    """Whether VGG16 with levels 2 to 4 and K = 5 is faster than each other cell."""
    cells = _cells(times)
    own = cells.pop(row_of(Network("vgg16")), None)
    parts = {} if own is None else {name: Gains(each - own) for name, each in cells.items()}
    words = (
        "Time of each other cell less that of VGG16, levels 2 to 4, K = 5. It has not the fewest "
        "parameters, as the paper says, on either reading: those levels have 1,280 channels, 896 "
        "in ResNet18, and VGG16 is the largest of the three networks."
    )
    return told(parts, words, unit="ms", scale=1)


def ward_costs_sixty(times: Times) -> Told:
    """Whether Ward takes about sixty times as long as k-means: from 30 to 120 times."""
    own, ward = times.get(row_of(Network())), times.get(row_of(_WARD))
    if own is None or ward is None:
        return None, "Ward was not timed: 0 pictures."
    ratios = ward / own
    parts = {
        "above 30": Gains(np.log10(ratios / _SIXTY * 2)),
        "below 120": Gains(np.log10(_SIXTY * 2 / ratios)),
    }
    words = (
        f"How many times as long Ward takes (median {np.median(ratios):.3g}), as a power of ten "
        "beyond 30 and below 120."
    )
    return told(parts, words, unit="powers of ten", scale=1)


def _cells(times: Times) -> dict[str, NDArray[np.float64]]:
    return {name: times[name] for name in _GRID if name in times}


@final
@dataclass(frozen=True)
class Table5(Experiment):
    """Times on this machine, on its processor and on a CUDA device where there is one.

    Attributes:
        sizes: Sides of the square photos; STL-10's, which the paper's form is of, and ImageNet's.
        threads: Each library may use.
        sections: Of `naspix bench`, to be measured too.
        n_photos: How many photos of the first size, if no limit is given; to be quick six, of that
            size only, and with one thread.
        n_larger: How many of the other sizes, at most.
    """

    sizes: tuple[int, ...] = (96, 224)
    threads: int = 2
    sections: tuple[str, ...] = ("nas", "whole")
    n_photos: int = 1000
    n_larger: int = 24

    title = "Table 5: run times"
    items = "rows"
    words = (
        "Milliseconds an image, from the image on: the network's forward pass is counted (the "
        "paper does not say whether it counts it), clustering and superpixels. One image at a time "
        "on the processor, many at once on a CUDA device."
    )
    claims: ClassVar = {
        "others_are_faster": order_of_magnitude,
        "one_order": of_one_order,
        "vgg_fastest": vgg_is_fastest,
        "ward_sixty": ward_costs_sixty,
    }

    def compute(self, work: Work) -> None:
        """Measure what has not been measured; in this process, whoever else could compute."""
        conditions, at_hand = work.conditions, work.conditions.at_hand

        def look(spare: Path) -> Source:
            given = at_hand != AtHand()
            return (at_hand.training() or at_hand.photos(spare)) if given else _USUAL

        source = work.source(look)
        networks = work.opened.find("networks", lambda: find_networks(PAPERS, conditions))
        quick = conditions.quick
        chosen = replace(self, sizes=self.sizes[:1], threads=1, n_photos=6) if quick else self
        alone = replace(work, engine=InProcess())  # several at once would slow each other
        alone.carry_out(
            partial(chosen._make_worker, source, networks, conditions),
            len(CONTENDERS) + len(self.sections),
        )

    def _make_worker(
        self, source: Source, networks: Mapping[str, Any], conditions: Conditions
    ) -> Worker:
        """What measures one row, or one section of the benchmark, a span."""
        n = conditions.limit or self.n_photos
        if source == _USUAL:
            sources = spread(usual_photos(), n)
        else:
            dataset = source.open()
            sources = [eight_bit(dataset[i].image) for i in range(min(n, len(dataset)))]
        weights, rounds = networks["weights"], 1 if conditions.quick else _ROUNDS
        plan = Plan(sources, threads=self.threads, sizes=self.sizes)
        plan = plan.quick() if conditions.quick else plan

        def measure(span: Span, following: Span | None) -> Part:
            rows: list[dict[str, Any]] = []
            for index in range(*span):
                if index < len(CONTENDERS):
                    network = CONTENDERS[index]
                    network = replace(network, weights=weights.get(network.name))
                    nas = network.segmenter(conditions.seed)
                    own = {"network": network.name, "weights": network.weights or "random"}
                    for size in self.sizes:
                        few = None if size == self.sizes[0] else self.n_larger
                        photos = photos_at(sources[:few], size)
                        found = self._rows(row_of(network), nas, photos, rounds, first=not index)
                        rows += [{**own, **row, "index": index} for row in found]
                else:
                    for record in SECTIONS[self.sections[index - len(CONTENDERS)]](plan):
                        row = record.to_dict()  # of which the run keeps its own columns
                        row |= {"row": row["name"], "against_ms": row["against_median_ms"]}
                        rows.append({**row, "index": index})
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
            loaded = [{**row, "load": load} for row in rows]
            return Part(span, loaded, _COLUMNS, machine=this_machine(self.threads))

        return measure

    def _rows(
        self, name: str, nas: NAS, photos: Sequence[Photo], rounds: int, *, first: bool
    ) -> list[dict[str, Any]]:
        """One way of NAS at one size on the processor, and on a CUDA device where there is one.

        The first one's rows are followed by SLIC's and Felzenszwalb's.
        """
        contenders: dict[str, Callable[[Photo], object]] = {
            name: lambda photo: _superpixels(nas, photo.batch),
            "SLIC": slic,
        }
        if first:
            contenders["Felzenszwalb"] = felzenszwalb
        times: dict[str, list[float]] = {name: [] for name in contenders}
        with limited_threads(self.threads):
            for photo in photos:
                for each, timing in interleaved(contenders, [photo], rounds=rounds).items():
                    times[each].append(timing.median_ms)
        size = photos[0].batch.shape[-1]
        common = {"row": name, "column": f"{size} x {size}, CPU", "n_photos": len(photos)}
        rows = []
        for each in contenders if first else [name]:
            row = {**common, "times_ms": times[each], "slic_times_ms": times["SLIC"]}
            row |= {} if each == name else {"row": each, "network": "", "weights": ""}
            rows.append({**row, **_rates(Timing.of([1e-3 * ms for ms in times[each]]))})
        if torch.cuda.is_available():
            on_gpu = _rates(*_on_gpu(nas, photos))
            rows.append({**common, "column": f"{size} x {size}, GPU", **on_gpu})
        return rows

    def show(self, run: Run) -> Shown:
        """The paper's form, all that was measured, as bars, and `naspix bench`'s sections."""
        records = run.records().to_dict("records")
        rates = [record for record in records if record["section"] is None]
        rows: list[list[Value]] = [
            [rate["row"], rate["column"], Path(rate["weights"]).name, float(rate["rate"]),
             rate["median_ms"], rate["lower_ms"], rate["upper_ms"],
             None if rate["slic_times_ms"] is None
             else float(np.median(rate["times_ms"] / rate["slic_times_ms"]))]
            for rate in rates
        ]  # fmt: skip
        times = Table(
            "times",
            "Times an image",
            ("row", "column", "weights", "images/s", "ms", "lower quartile", "upper quartile",
             "times SLIC's"),
            rows,
            "Medians and quartiles over the photos; SLIC with 20 superpixels, by turns with each "
            "row.",
        )  # fmt: skip
        bars: dict[str, dict[str, float]] = {}
        for rate in sorted(rates, key=lambda rate: not rate["row"].startswith("NAS")):
            bars.setdefault(rate["column"], {})[rate["row"]] = float(rate["rate"])
        figure = draw_rates(bars, xlabel="images a second")
        words = "The longer, the faster; the axis is logarithmic."
        times_of = {
            rate["row"]: np.array(rate["times_ms"], np.float64)
            for rate in rates
            if rate["column"] == column_of(self.sizes[0], "CPU")
        }
        return Shown(
            _sentences(run, rates),
            [
                papers_form(rates, self.sizes[0]),
                times,
                _sections_table([r for r in records if r["section"] is not None]),
            ],
            [Drawing("table5", self.title, figure, words)],
            self.verdicts(run, times_of),
        )


def papers_form(rates: Sequence[Mapping[str, Any]], size: int) -> Table:
    """The grid of twelve with Ward in brackets, SLIC and Felzenszwalb, a block a device."""
    cpu = {r["row"]: r for r in rates if r["column"] == column_of(size, "CPU")}
    gpu = {r["row"]: r for r in rates if r["column"] == column_of(size, "GPU")}
    several = {name: np.array(rate["times_ms"], float) for name, rate in cpu.items()}
    fastest: tuple[str, ...] = ()
    if len(several) > 1:
        fastest = compare(several, higher_is_better=False).as_good_as_best
    ours = {name: float(times.mean()) for name, times in several.items() if name in _GRID}
    first = min(ours, key=lambda name: ours[name], default="")
    rows: list[list[Value]] = []
    bold: set[tuple[int, int]] = set()
    underlined: set[tuple[int, int]] = set()
    for start in range(0, len(_CELLS), len(NETWORKS)):
        networks = _CELLS[start : start + len(NETWORKS)]
        cells: list[Value] = []
        for place, network in enumerate(networks):
            name, where = row_of(network), (len(rows), 3 + place)
            bold |= {where} if name in fastest else set()
            underlined |= {where} if name == first else set()
            mean_ms = ours.get(name)
            text = "" if mean_ms is None else f"{mean_ms:.1f}"
            if network == Network() and row_of(_WARD) in several:
                text += f" ({several[row_of(_WARD)].mean():.1f})"
            cells.append(text)
        rates_of = [gpu.get(row_of(network)) for network in networks]
        cells += ["" if rate is None else f"{rate['median_ms']:.1f}" for rate in rates_of]
        levels = networks[0].levels or ()
        number = str(networks[0].n_clusters)
        rows.append(["NAS", f"{levels[0]} to {levels[-1]}", number, *cells, ""])
    for name in ("SLIC", "Felzenszwalb"):
        bold |= {(len(rows), 9)} if name in fastest else set()
        mean_ms = float(several[name].mean())
        rows.append([name, *[""] * 8, f"{mean_ms:.1f}"])
    columns = (
        *("segmenter", "levels", "K"),
        *(f"{TITLES[network]}, {device}" for device in ("CPU", "CUDA") for network in NETWORKS),
        "CPU",
    )
    words = (
        f"In ms, mean over {len(next(iter(several.values())))} pictures of {size} x {size}; with "
        "Ward in brackets. Bold: the fastest, or not told from it (Wilcoxon, Holm, 5 %). "
        "Underlined: the fastest of NAS on the CPU."
    )
    title = "Run times"
    return Table("run_times", title, columns, rows, words, frozenset(bold), frozenset(underlined))


def _superpixels(nas: NAS, images: Tensor) -> Tensor:
    """Superpixels in the photos' frame; a network of one size sees them enlarged to it."""
    frame = (images.shape[2], images.shape[3])
    if nas.model.name.startswith("vit") and frame != nas.model.input_size:
        images = functional.interpolate(images, nas.model.input_size, mode="bilinear")
    return nas.segment(nas.model.activations(images, nas.levels), frame).superpixels


def _on_gpu(nas: NAS, photos: Sequence[Photo]) -> tuple[Timing, int]:
    """The time of a batch on the CUDA device, superpixels included, and of how many images."""
    on_gpu = replace(nas, model=nas.model.to("cuda"))
    n = 1 if nas.algorithm == "ward" else _GPU_BATCH
    batch = stacked([photos[i % len(photos)] for i in range(n)]).cuda()

    def cut(images: Tensor) -> None:
        _superpixels(on_gpu, images)
        torch.cuda.synchronize()

    timing = interleaved({"": cut}, [batch], rounds=_GPU_ROUNDS)[""]
    nas.model.to("cpu")
    return timing, n


def _rates(timing: Timing, n_images: int = 1) -> dict[str, float]:
    """Images a second, and milliseconds an image with their quartiles."""
    lower, upper = timing.quartiles_ms
    return {
        "rate": 1e3 * n_images / timing.median_ms,
        "median_ms": timing.median_ms / n_images,
        "lower_ms": lower / n_images,
        "upper_ms": upper / n_images,
    }


def _sentences(run: Run, rates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Photos, weights and machine."""
    found, machine = run.header["found"], run.machines[0]
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
        Source(**found["source"]).counted(n),
        weights,
        f"On {machine['processor']}, threads: {machine['threads']}; {gpu}.",
        busy,
    ]


def _sections_table(records: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[list[Value]] = []
    for record in records:
        ratio = None
        if record["median_ms"] and record["against_ms"]:
            ratio = record["median_ms"] / record["against_ms"]
        rows.append(
            [record["row"], record["network"], record["size"], record["median_ms"],
             record["against"], record["against_ms"], ratio]
        )  # fmt: skip
    columns = ("what", "network", "size", "ms", "against", "its ms", "ratio")
    words = (
        "Given the activations, and from the image on (of images), medians by turns. Weights are "
        "random but for the default network's."
    )
    return Table("bench", "As naspix bench measures it", columns, rows, words)

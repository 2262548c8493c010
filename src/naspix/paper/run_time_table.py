"""What table 5 consists of, its paper's form, and what the paper claims about it."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from naspix.metrics import compare
from naspix.models import DEFAULT_MODEL
from naspix.paper.experiment import Table, Value
from naspix.paper.networks import TITLES
from naspix.paper.timing import Network
from naspix.paper.verdicts import Part, Told, told

LEVEL_SETS: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3, 4), (2, 3, 4))
NUMBERS = (5, 10)
NETWORKS = ("vgg16", "resnet18", "resnet50")
_WARD = Network(algorithm="ward")
CONTENDERS: tuple[Network, ...] = (
    Network(),  # the first: SLIC and Felzenszwalb are timed beside it
    *(
        each
        for each in (
            Network(name, levels=levels, n_clusters=n_clusters)
            for levels, n_clusters, name in product(LEVEL_SETS, NUMBERS, NETWORKS)
        )
        if each != Network()
    ),
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
    for levels, n_clusters in product(LEVEL_SETS, NUMBERS):
        cells: list[Value] = []
        for place, network in enumerate(NETWORKS):
            name = row_of(Network(network, levels=levels, n_clusters=n_clusters))
            where = (len(rows), 3 + place)
            bold |= {where} if name in fastest else set()
            underlined |= {where} if name == first else set()
            mean_ms = ours.get(name)
            text = "" if mean_ms is None else f"{mean_ms:.1f}"
            ward = several.get(row_of(_WARD))
            if name == row_of(Network()) and ward is not None:
                text += f" ({ward.mean():.1f})"
            cells.append(text)
        for network in NETWORKS:
            rate = gpu.get(row_of(Network(network, levels=levels, n_clusters=n_clusters)))
            cells.append("" if rate is None else f"{rate['median_ms']:.1f}")
        rows.append(["NAS", f"{levels[0]} to {levels[-1]}", str(n_clusters), *cells, ""])
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
    parts = {name: Part(np.log10(each) - 1) for name, each in others.items()}
    return told(parts, words, unit="powers of ten", scale=1)


def of_one_order(times: Times) -> Told:
    """Whether the slowest of the twelve cells takes less than ten times as long as the fastest."""
    cells = _cells(times)
    parts = {}
    if len(cells) == len(_GRID):
        slow = max(cells, key=lambda name: float(cells[name].mean()))
        fast = min(cells, key=lambda name: float(cells[name].mean()))
        parts[f"{slow} by {fast}"] = Part(1 - np.log10(cells[slow] / cells[fast]))
    words = "1 less the power of ten by which the slowest cell takes longer than the fastest."
    return told(parts, words, unit="powers of ten", scale=1)


def vgg_is_fastest(times: Times) -> Told:
    """Whether VGG16 with levels 2 to 4 and K = 5 is faster than each other cell."""
    cells = _cells(times)
    own = cells.pop(row_of(Network("vgg16")), None)
    parts = {} if own is None else {name: Part(each - own) for name, each in cells.items()}
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
        "above 30": Part(np.log10(ratios / _SIXTY * 2)),
        "below 120": Part(np.log10(_SIXTY * 2 / ratios)),
    }
    words = (
        f"How many times as long Ward takes (median {np.median(ratios):.3g}), as a power of ten "
        "beyond 30 and below 120."
    )
    return told(parts, words, unit="powers of ten", scale=1)


def _cells(times: Times) -> dict[str, NDArray[np.float64]]:
    return {name: times[name] for name in _GRID if name in times}


_SIXTY = 60.0
_GRID = tuple(
    row_of(Network(name, levels=levels, n_clusters=n_clusters))
    for levels, n_clusters, name in product(LEVEL_SETS, NUMBERS, NETWORKS)
)
CLAIMS: Mapping[str, Callable[[Times], Told]] = {
    "others_are_faster": order_of_magnitude,
    "one_order": of_one_order,
    "vgg_fastest": vgg_is_fastest,
    "ward_sixty": ward_costs_sixty,
}

"""Table 5: images a second, NAS by networks, levels, K and by Ward, SLIC and Felzenszwalb.

From the image on: forward pass, clustering and superpixels, measured by `stopwatch.py`. What NAS
costs given the activations, and beside Algorithm 1 as it is written, are sections of `naspix
bench`, whose records are here too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from naspix.paper import stopwatch
from naspix.paper.at_hand import AtHand, Source
from naspix.paper.experiment import (
    Conditions,
    Drawing,
    Progress,
    Table,
    Value,
    Verdict,
)
from naspix.paper.networks import PAPERS, TITLES, find_networks
from naspix.paper.published import beside_the_papers, published
from naspix.plots import draw_rates
from naspix.runs.continuing import OpenRun
from naspix.runs.engine import Engine, InProcess, carry_out
from naspix.runs.store import Run

_BUSY = 1.25  # load a core
_ORDER_OF_MAGNITUDE = 10.0
_LEVEL = 0.05  # of the test


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
    items = "rows"
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
        n_items = len(stopwatch.CONTENDERS) + len(self.sections)
        quick = conditions.quick
        carry_out(
            opened,
            partial(
                stopwatch.Stopwatch,
                source,
                networks,
                sizes=self.sizes[:1] if quick else self.sizes,
                threads=1 if quick else self.threads,
                sections=self.sections,
                n_photos=conditions.limit or (6 if quick else self.n_photos),
                quick=quick,
                seed=conditions.seed,
            ),
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
                *(rate["row"], rate["column"], Path(rate["weights"]).name, float(rate["rate"])),
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
        row = stopwatch.CONTENDERS[0].name
        rate = next(r for r in _rates(run) if (r["row"], r["column"]) == (row, column))
        ratios = np.array(rate["times_ms"]) / np.array(rate["slic_times_ms"])
        return [claim.verdict(*_order_of_magnitude(ratios, f"{row} at {column}"))]


def _find_source(at_hand: AtHand) -> Source:
    """Pictures that were given; else crops, since scikit-image's photos are few."""
    if at_hand != AtHand():
        return at_hand.photos(Path())
    return Source(stopwatch.CROPS, "", "crops of scikit-image's photos, since none were given")


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

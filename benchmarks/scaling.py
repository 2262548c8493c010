"""What a million images cost for each method, and the paper's tables 3 and 4, from measured runs.

    naspix evaluate wsol ... --output RUN --limit 8 --threads 1
    python benchmarks/scaling.py RUN [RUN ...] [--gpu-speedup 50] [--host xrai=0.33] [--json]

Rates are those of the runs' own records: seconds of each step, bytes of the parts; what writing
takes is measured by writing the parts again. GPU hours stand on a run that was recorded on a GPU,
or on ``--gpu-speedup``, an assumption: how many times faster a GPU computes the network's steps
than the run did. ``--host METHOD=SECONDS`` says what of a method a GPU does not make faster.

A worker takes its pictures one after the other, workers share GPUs, one process writes. The
slowest of the three decides; with ``h`` seconds a picture that stay on the host, ``g`` that a GPU
makes ``s`` times shorter, and ``w`` of writing::

    seconds = n * max((h + g / s) / workers, g / s / gpus, w)

That is a bound from below: workers are taken not to slow each other.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from naspix.errors import InputError, NaspixError
from naspix.evaluation.evaluator import READING, WAITING
from naspix.evaluation.measures import GREEDY
from naspix.evaluation.tables import title_of
from naspix.runs import Part, Run, open_run, read_run

if TYPE_CHECKING:
    from pandas import DataFrame

WRITING, MEASURE = "writing", "measure"
_WRITTEN = 16  # parts at most, to learn what writing takes
CUB = 5794 + 1000  # CUB's test pictures and CUBv2's, tables 3 and 4
_GROUPS = ("reading", "forward", "NAS", "other segmenters", "method", "measure")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a picture takes, of one run or of one of its methods.

    Attributes:
        host: Step -> seconds a picture that no GPU makes shorter.
        device: Step -> seconds a picture of the network, where the run was computed.
        writing: Seconds a picture of the one process that writes.
        bytes: Of records a picture.
    """

    host: Mapping[str, float]
    device: Mapping[str, float]
    writing: float
    bytes: float

    @property
    def seconds(self) -> float:
        """A picture's time in one worker."""
        return sum(self.host.values()) + sum(self.device.values())


@final
@dataclass(frozen=True, kw_only=True)
class Machines:
    """What computes.

    Attributes:
        workers: Processes, a core each.
        gpus: Shared by the workers; 0 where the network runs as it did in the run.
        speedup: How many times faster than in the run a GPU computes the network's steps.
    """

    workers: int = 1
    gpus: int = 0
    speedup: float = 1.0

    def __post_init__(self) -> None:
        if self.workers < 1 or self.gpus < 0 or not self.speedup > 0:
            raise InputError(f"there is no computing with {self}")


@dataclass(frozen=True)
class Cost:
    """What a number of pictures costs.

    Attributes:
        hours: By the clock.
        bound: What decides: ``"workers"``, ``"GPUs"`` or ``"writing"``.
        step: The step that takes most of that.
        bytes: Of records.
    """

    hours: float
    bound: str
    step: str
    bytes: float


def cost(rates: Rates, n_pictures: int, machines: Machines) -> Cost:
    """What so many pictures cost on these machines.

    Args:
        rates: What one takes.
        n_pictures: How many.
        machines: What computes.

    Example:
        >>> rates = Rates(host={"reading": 1.0}, device={"forward": 7.0}, writing=0.1, bytes=10)
        >>> cost(rates, 3600, Machines(workers=4))
        Cost(hours=2.0, bound='workers', step='forward', bytes=36000)
        >>> cost(rates, 3600, Machines(workers=4, gpus=1, speedup=7))
        Cost(hours=1.0, bound='GPUs', step='forward', bytes=36000)
    """
    network = {step: seconds / machines.speedup for step, seconds in rates.device.items()}
    if not machines.gpus:
        network = dict(rates.device)
    work = {**rates.host, **network}
    bounds = {"workers": sum(work.values()) / machines.workers}
    if machines.gpus:
        bounds["GPUs"] = sum(network.values()) / machines.gpus
    bounds[WRITING] = rates.writing
    bound = max(bounds, key=lambda name: bounds[name])
    steps = {"workers": work, "GPUs": network}.get(bound, {WRITING: rates.writing})
    return Cost(
        hours=n_pictures * bounds[bound] / 3600,
        bound=bound,
        step=max(steps, key=lambda step: steps[step], default=""),
        bytes=n_pictures * rates.bytes,
    )


@dataclass(frozen=True)
class Measured:
    """A run's rates.

    Attributes:
        network: Its model.
        task: What was measured.
        device: Where the network ran.
        n_pictures: How many were computed.
        n_settings: Rows a picture.
        all: Of everything that was asked.
        methods: Of each method alone with its segmenters, as if only it had been asked for.
    """

    network: str
    task: str
    device: str
    n_pictures: int
    n_settings: int
    all: Rates
    methods: Mapping[str, Rates] = field(default_factory=dict)


def measured(run: Run, host: Mapping[str, float] | None = None) -> Measured:
    """What a picture of a run took.

    Args:
        run: An evaluation.
        host: Method -> seconds a picture of it that no GPU makes shorter, such as XRAI's segments.

    Raises:
        InputError: The run is no evaluation, or has no records.
    """
    if "methods" not in run.settings:
        raise InputError(f"{run.folder} holds a run of {run.kind}, which is no evaluation")
    frame = run.records()
    n_pictures = frame["index"].nunique()
    steps = {step: seconds / n_pictures for step, seconds in run.seconds.items()}
    waiting = steps.pop(WAITING, 0.0)
    steps.setdefault(READING, waiting)
    everything = Rates(
        host={},
        device=steps,
        writing=_seconds_of_writing(run) / n_pictures,
        bytes=_bytes_a_picture(run, None),
    )
    shares = _shares(run.kind, frame)
    found = {
        method: replace(
            everything,
            device={
                step: seconds * (shares[method] if step == MEASURE else 1)
                for step, seconds in steps.items()
                if not step.startswith("method ") or step == f"method {method}"
            },
            bytes=_bytes_a_picture(run, method),
        )
        for method in shares
    }
    split = {name: _split(rates, run.kind, host or {}) for name, rates in found.items()}
    return Measured(
        network=run.settings["model"],
        task=run.kind,
        device=run.settings["device"],
        n_pictures=n_pictures,
        n_settings=len(frame[["method", "segmenter"]].drop_duplicates()),
        all=_split(everything, run.kind, host or {}),
        methods=split,
    )


def _split(rates: Rates, task: str, host: Mapping[str, float]) -> Rates:
    """Part the steps that are the network's from those that stay on the host."""
    on_host: dict[str, float] = {}
    on_device: dict[str, float] = {}
    for step, seconds in rates.device.items():
        kind, _, name = step.partition(" ")
        is_network = (
            step == "forward"
            or kind == "method"
            or (kind == "segmenter" and name.partition("@")[0] == "nas")
            or (step == MEASURE and task == "lerf")
        )
        (on_device if is_network else on_host)[step] = seconds
        if kind == "method" and name in host:
            kept = min(host[name], seconds)
            on_device[step], on_host[f"{name}, on the host"] = seconds - kept, kept
    return replace(rates, host=on_host, device=on_device)


def _shares(task: str, frame: "DataFrame") -> dict[str, float]:
    """Each method's share of the measure's time: by forwards for LeRF, by cuts for boxes."""
    weights: Counter[str] = Counter()
    for row in frame.to_dict("records"):
        if task == "lerf":
            n = row["n_superpixels"]
            greedy = row["method"] == GREEDY
            weights[row["method"]] += n * (n + 1) / 2 if greedy else len(row["score"])
        else:
            weights[row["method"]] += len(row["cut"]) if task == "wsol" else 1
    total = sum(weights.values())
    return {method: weight / total for method, weight in weights.items()}


def _bytes_a_picture(run: Run, method: str | None) -> float:
    """What the values of a picture's records take."""
    frame = run.records()
    n_pictures = frame["index"].nunique()
    if method is not None:
        frame = frame[frame["method"] == method]
    return sum(map(_size, frame.to_numpy().ravel())) / n_pictures


def _size(value: object) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    return len(value.encode()) if isinstance(value, str) else 8


def _seconds_of_writing(run: Run) -> float:
    """What keeping the run's batches takes, by doing it again beside it."""
    frame, columns = run.records(), run.header["columns"]
    parts = []
    for span in run.spans[:_WRITTEN]:
        rows = frame[frame["index"].between(span.start, span.stop - 1)]
        parts.append(Part(span, rows.to_dict("records"), columns, seconds=run.seconds))
    with tempfile.TemporaryDirectory(dir=run.folder.parent) as folder:
        plain: dict[str, Any] = {}
        with open_run(folder, kind=run.kind, settings=plain) as again:
            begin = time.perf_counter()
            for part in parts:
                again.add(part)
            return (time.perf_counter() - begin) * len(run.spans) / len(parts)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of an evaluation")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pictures", type=int, default=CUB, help="of tables 3 and 4")
    parser.add_argument("--gpus", default="1,8,64", help="numbers of GPUs, with commas")
    parser.add_argument("--workers-per-gpu", type=int, default=8)
    parser.add_argument("--gpu-speedup", type=float, help="an assumption, see above")
    parser.add_argument("--host", action="append", default=[], metavar="METHOD=SECONDS")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        host = {name: float(value) for name, value in (each.split("=") for each in given.host)}
        runs = [measured(read_run(folder), host) for folder in given.runs]
        records = [
            *of_methods(runs, given.images, machines_of(given, (1,))),
            *of_tables(runs, given.pictures, machines_of(given, _numbers(given.gpus))),
        ]
    except (NaspixError, ValueError) as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    print(json.dumps(records, indent=1) if given.json else "\n\n".join(markdown(records, given)))
    return 0


def machines_of(given: argparse.Namespace, gpus: Sequence[int]) -> list[Machines]:
    """This machine, and so many GPUs where there is a rate for them."""
    speedup = given.gpu_speedup
    if speedup is None:
        runs = [read_run(folder).settings["device"] for folder in given.runs]
        speedup = 1.0 if all(device.startswith("cuda") for device in runs) else None
    here = Machines(workers=given.workers)
    if speedup is None:
        return [here]
    each = given.workers_per_gpu
    return [here, *(Machines(workers=each * n, gpus=n, speedup=speedup) for n in gpus)]


def of_methods(
    runs: Sequence[Measured], n_images: int, machines: Sequence[Machines]
) -> Iterator[dict[str, object]]:
    """A record for each run and method: what a picture takes, step by step, and what all cost."""
    for run in runs:
        for method, rates in {**run.methods, "all": run.all}.items():
            yield {
                "table": "methods",
                **_about(run),
                "method": method,
                "n_images": n_images,
                "milliseconds": {**_grouped(rates), "writing": 1000 * rates.writing},
                "bytes_a_picture": rates.bytes,
                "costs": [_costs(rates, n_images, each) for each in machines],
            }


def of_tables(
    runs: Sequence[Measured], n_pictures: int, machines: Sequence[Machines]
) -> Iterator[dict[str, object]]:
    """A record for each run of localisation: what the paper's tables 3 and 4 cost."""
    for run in runs:
        if run.task == "wsol":
            yield {
                "table": "tables 3 and 4",
                **_about(run),
                "n_images": n_pictures,
                "bytes_a_picture": run.all.bytes,
                "costs": [_costs(run.all, n_pictures, each) for each in machines],
            }


def markdown(records: Sequence[Mapping[str, object]], given: argparse.Namespace) -> Iterator[str]:
    """The records as tables to read."""
    methods = [record for record in records if record["table"] == "methods"]
    for key in dict.fromkeys((r["network"], r["task"]) for r in methods):
        rows = [record for record in methods if (record["network"], record["task"]) == key]
        yield _caption(rows[0])
        head = ["ms a picture", *rows[0]["milliseconds"], "in all"]
        yield _table(head, [_step_row(row) for row in rows])
        head = ["a million pictures" if given.images == 1_000_000 else f"{given.images} pictures"]
        head += [_machines(each["machines"]) for each in rows[0]["costs"]] + ["records"]
        yield _table(head, [_cost_row(_title(row), row) for row in rows])
    tables = [record for record in records if record["table"] == "tables 3 and 4"]
    if tables:
        yield f"Tables 3 and 4: {given.pictures} pictures a network"
        head = ["network"] + [_machines(each["machines"]) for each in tables[0]["costs"]]
        rows = [_cost_row(str(row["network"]), row) for row in tables]
        yield _table([*head, "records"], [*rows, _sum_row(tables)])
    if len(methods[0]["costs"]) == 1:
        yield "No GPU rate was measured: give --gpu-speedup, or a run that was recorded on a GPU."


def _about(run: Measured) -> dict[str, object]:
    return {
        "network": run.network,
        "task": run.task,
        "device": run.device,
        "measured_on": run.n_pictures,
        "n_settings": run.n_settings,
    }


def _costs(rates: Rates, n_images: int, machines: Machines) -> dict[str, object]:
    return {"machines": asdict(machines), **asdict(cost(rates, n_images, machines))}


def _grouped(rates: Rates) -> dict[str, float]:
    """Milliseconds a picture by kind of step."""
    found = dict.fromkeys(_GROUPS, 0.0)
    for step, seconds in {**rates.host, **rates.device}.items():
        found[_group(step)] += 1000 * seconds
    return found


def _group(step: str) -> str:
    if step in (READING, "forward", MEASURE):
        return "reading" if step == READING else step
    if step.startswith("segmenter "):
        return "NAS" if step.split(" ")[1].startswith("nas") else "other segmenters"
    return "method"


def _caption(row: Mapping[str, object]) -> str:
    return (
        f"`{row['network']}`, {row['task']}, measured on {row['measured_on']} pictures, "
        f"{row['n_settings']} settings, one worker on {row['device']}"
    )


def _title(row: Mapping[str, object]) -> str:
    return "all together" if row["method"] == "all" else title_of(str(row["method"]))


def _step_row(row: Mapping[str, object]) -> list[str]:
    values = list(row["milliseconds"].values())
    return [_title(row), *(f"{value:,.1f}" for value in values), f"{sum(values[:-1]):,.0f}"]


def _machines(machines: Mapping[str, object]) -> str:
    if not machines["gpus"]:
        return f"{machines['workers']} cores"
    return f"{machines['gpus']} GPU, {machines['workers']} workers"


def _cost_row(title: str, row: Mapping[str, object]) -> list[str]:
    cells = [f"{_hours(each['hours'])} ({each['bound']}: {each['step']})" for each in row["costs"]]
    return [title, *cells, f"{row['costs'][0]['bytes'] / 1e9:,.3g} GB"]


def _sum_row(rows: Sequence[Mapping[str, object]]) -> list[str]:
    columns = zip(*(row["costs"] for row in rows), strict=True)
    hours = [sum(each["hours"] for each in column) for column in columns]
    weight = sum(row["costs"][0]["bytes"] for row in rows)
    return ["all, one after the other", *map(_hours, hours), f"{weight / 1e9:,.3g} GB"]


def _hours(hours: float) -> str:
    return f"{60 * hours:,.0f} min" if hours < 2 else f"{hours:,.0f} h"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main())

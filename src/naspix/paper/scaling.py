"""What an evaluation of any size would cost: hours, machines and storage, from what one measured.

A worker takes its pictures one after the other, workers share GPUs, one process writes. The
slowest of the three decides; with ``h`` seconds a picture that stay on the host, ``g`` that a GPU
makes ``s`` times shorter, and ``w`` of writing::

    seconds = n * max((h + g / s) / workers, g / s / gpus, w)

That is a bound from below: workers are taken not to slow each other.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, final

from naspix.errors import InputError
from naspix.evaluation.evaluator import READING, WAITING
from naspix.evaluation.lerf import GREEDY
from naspix.runs.continuing import MERGED, open_run
from naspix.runs.parts import Part, Span
from naspix.runs.store import Run

if TYPE_CHECKING:
    from pandas import DataFrame

WRITING, MEASURE = "writing", "measure"
_WRITTEN = 16  # parts at most, to learn what writing takes


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
    frame = run.records().to_pandas()
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
    """What a picture adds to a part, and its share of what a merged part weighs beside."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = run.records()
    if method is not None:
        table = table.filter(pc.equal(table["method"], method))
    indices = sorted(set(table["index"].to_pylist()))
    half = indices[: len(indices) // 2]
    machines = tuple(run.machines)

    def weight(kept: list[int]) -> int:
        rows = table.filter(pc.is_in(table["index"], pa.array(kept, pa.int32())))
        return len(Part(Span(0, len(kept)), rows, seconds=run.seconds, machines=machines).encode())

    whole = weight(indices)
    if not half:
        return float(whole)
    each = (whole - weight(half)) / (len(indices) - len(half))
    beside = max(whole - each * len(indices), 0.0)
    return float(each + beside / (MERGED * run.settings["batch_size"]))


def _seconds_of_writing(run: Run) -> float:
    """What keeping the run's parts takes, by doing it again beside it."""
    parts: list[tuple[Span, bytes]] = [(part.span, part.encode()) for part in run.parts()]
    kept = parts[:_WRITTEN]
    with tempfile.TemporaryDirectory(dir=run.folder.parent) as folder:
        plain: dict[str, Any] = {}
        with open_run(folder, kind=run.kind, settings=plain) as again:
            again.pending(parts[-1][0].stop, run.settings["batch_size"])
            begin = time.perf_counter()
            for span, encoded in kept:
                again.add(span, encoded)
            return (time.perf_counter() - begin) * len(parts) / len(kept)

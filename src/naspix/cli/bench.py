"""``naspix bench``: what NAS costs on this machine, line by line beside its goals."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from naspix import progress
from naspix.cli import talk
from naspix.cli.options import Json

if TYPE_CHECKING:
    from rich.table import Table

    from naspix.paper.timing import Record

SectionName = Literal[
    "nas", "inertia", "trained", "variants", "film", "memory", "whole", "ward", "process", "cuda"
]
SECTION_TITLES: Mapping[SectionName, str] = {
    "nas": "NAS given activations",
    "inertia": "Inertia",
    "trained": "The same with a trained network",
    "variants": "More levels, more clusters, larger networks",
    "film": "Films",
    "memory": "Memory",
    "whole": "From the image on",
    "ward": "Ward",
    "process": "Whole processes",
    "cuda": "On a GPU",
}
_COLUMNS = ("what", "network", "size", "threads", "ms", "against", "its ms", "figure", "goal", "")
_NUMBERS = ("size", "threads", "ms", "its ms", "figure", "goal")
_LEAST_WIDTH = 120  # of a table that is not shown in a terminal


def bench(
    *,
    photos: Annotated[
        Path | None,
        Parameter(help="Folder of photos; 24 of them are taken. Scikit-image's without one."),
    ] = None,
    threads: Annotated[int, Parameter(help="Threads each library may use.")] = 2,
    sizes: Annotated[
        tuple[int, ...],
        Parameter(help="Sides of the square pictures.", consume_multiple=True, negative=()),
    ] = (96, 224),
    sections: Annotated[
        tuple[SectionName, ...],
        Parameter(help="Only these.", consume_multiple=True, negative=(), show_default=False),
    ] = (),
    model: Annotated[
        str | None,
        Parameter(
            alias="-m",
            help="Network to measure in place of the default one, as naspix explain takes it.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[str, Parameter(help="Its weights.")] = "default",
    quick: Annotated[
        bool, Parameter(help="Little of everything: an impression.", negative=())
    ] = False,
    json: Json = False,
) -> int:
    """Measure speed, memory and exactness on this machine, each beside its goal.

    All contenders of a ratio take turns in one run. Takes some minutes; leave the machine alone.
    """
    import json as encoder

    from naspix.machine import describe_machine
    from naspix.paper.bench import PAPER, SECTIONS
    from naspix.paper.timing import Plan, find_photos

    plan = Plan(find_photos(photos), threads=threads, sizes=sizes, model=model, weights=weights)
    plan = plan.quick() if quick else plan
    asked = sections or tuple(SECTION_TITLES)
    machine = describe_machine(threads)
    if not json:
        _print(f"{PAPER}\n\n" + _sentence(machine, len(plan.sources)))
    load, cores = machine["load"], machine["cores"]
    if isinstance(load, float) and isinstance(cores, int) and load > 0.5 * cores:
        talk.say(f"note: this machine is busy (load {load:.1f}, {cores} cores); times are too long")
    records: list[Record] = []
    with progress.progress(len(asked), "measuring") as step:
        for section in asked:
            found = SECTIONS[section](plan)
            records += found
            step()
            if not json:
                _print(_table(SECTION_TITLES[section], found))
    if json:
        result = {
            "machine": machine,
            "paper": PAPER,
            "quick": quick,
            "records": [record.to_dict() for record in records],
        }
        print(encoder.dumps(result, indent=1))  # noqa: T201 - a result
    else:
        _print(_verdict(records))
    return 0


def _table(title: str, records: "list[Record]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    rows = [_cells(record) for record in records]
    kept = [i for i in range(len(_COLUMNS)) if any(row[i] for row in rows)]
    for i in kept:
        table.add_column(_COLUMNS[i], justify="right" if _COLUMNS[i] in _NUMBERS else "left")
    for row in rows:
        table.add_row(*(row[i] for i in kept))
    notes = dict.fromkeys(f"{record.name}: {record.note}" for record in records if record.note)
    table.caption = "\n".join(notes) or None
    table.caption_justify = "left"
    return table


def _cells(record: "Record") -> list[str]:
    case, timing, rival, goal = record.case, record.timing, record.against_timing, record.goal
    verdict = {True: "[green]met[/]", False: "[red]not met[/]", None: "" if goal is None else "-"}
    return [
        record.name,
        f"{case.network} {_levels(case.levels)} K={case.n_clusters}" if case.network else "",
        str(case.size or ""),
        str(case.threads or ""),
        _number(timing.median_ms) if timing else "",
        record.against,
        _number(rival.median_ms) if rival else "",
        "-" if record.figure is None else f"{_figure(record.figure)} {record.unit}",
        "" if goal is None else f"{'at least' if record.at_least else 'at most'} {goal:g}",
        verdict[record.met],
    ]


def _levels(levels: tuple[int, ...]) -> str:
    """The first and last; none stands for the network's own."""
    if not levels:
        return "its own levels"
    return f"{levels[0]}-{levels[-1]}" if len(levels) > 1 else str(levels[0])


def _number(value: float) -> str:
    """Three figures, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _figure(value: float) -> str:
    """As a time, but near one the fourth decimal counts."""
    return f"{value:.4f}" if 0.95 < value < 1.05 else _number(value)


def _sentence(machine: "dict[str, object]", n_photos: int) -> str:
    libraries = ("python", "torch", "scikit-image", "scikit-learn", "scipy", "numpy", "naspix")
    gpu = f", {machine['cuda_device']}" if machine["cuda_device"] else ", no CUDA device"
    return (
        f"{machine['date']}: {machine['processor']}, {machine['cores']} cores{gpu}; "
        f"{machine['threads']} threads; {n_photos} photos.\n"
        f"{machine['system']}; "
        + ", ".join(f"{name} {machine[name]}" for name in libraries)
        + f"; NAS on the CPU: {machine['clustering']}"
    )


def _verdict(records: "list[Record]") -> str:
    met = [record.met for record in records]
    missing = sum(record.met is None and record.goal is not None for record in records)
    left_out = f", {missing} could not be measured here" if missing else ""
    return f"{met.count(True)} goals met, {met.count(False)} not met{left_out}."


def _print(what: "str | Table") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _LEAST_WIDTH))
    console.print(what)

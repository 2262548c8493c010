"""What a million images cost for each method, and the paper's tables 3 and 4, from measured runs.

    naspix evaluate wsol ... --output RUN --limit 8 --threads 1
    python benchmarks/scaling.py RUN [RUN ...] [--gpu-speedup 50] [--host xrai=0.33] [--json]

Rates are those of the runs' own records: seconds of each step, bytes of the parts; what writing
takes is measured by writing the parts again. GPU hours stand on a run that was recorded on a GPU,
or on ``--gpu-speedup``, an assumption: how many times faster a GPU computes the network's steps
than the run did. ``--host METHOD=SECONDS`` says what of a method a GPU does not make faster.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from naspix.errors import NaspixError
from naspix.evaluation.evaluator import READING
from naspix.evaluation.tables import title_of
from naspix.paper.scaling import MEASURE, Machines, Measured, Rates, cost, measured
from naspix.runs.store import read_run

CUB = 5794 + 1000  # CUB's test pictures and CUBv2's, tables 3 and 4
_GROUPS = ("reading", "forward", "NAS", "other segmenters", "method", "measure")


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

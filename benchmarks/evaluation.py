"""What an evaluation costs: rates of one and two workers, and memory over the number of pictures.

    python benchmarks/evaluation.py --root PHOTOS [--method lrp] [--limit 32] [--ray]

The rates are of a folder of photos with the default network, one thread a worker, after the workers
have begun. The memory is the peak of a process that evaluates a tiny network on made-up pictures.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from naspix.evaluation.evaluator import MakeEvaluator
from naspix.evaluation.settings import EvaluationSettings
from naspix.runs import Engine, InProcess, Processes, Ray, carry_out, open_run, read_run


def pictures_a_second(settings: EvaluationSettings, engine: Engine, n_items: int) -> float:
    """Pictures a second, from the first part's end to the last's."""
    times: list[tuple[float, int]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_run(folder, kind=settings.task, settings=settings.to_plain()) as run,
    ):
        carry_out(
            run,
            MakeEvaluator(settings, {}, folder),
            n_items=n_items,
            batch_size=settings.batch_size,
            engine=engine,
            progress=lambda n: times.append((time.perf_counter(), n)),
        )
    first, last = times[1], times[-1]
    return sum(n for _, n in times[2:]) / (last[0] - first[0])


def print_rates(root: str, method: str, limit: int, with_ray: bool) -> None:
    """A line an engine."""
    settings = EvaluationSettings(
        task="lerf",
        dataset="photos",
        root=root,
        methods=(method,),
        segmenters=("none", "nas"),
        parameters={"lerf": {"steps": 20}},
        batch_size=2,
        match=False,
    )
    torch.set_num_threads(1)
    engines: dict[str, Engine] = {
        "1 process": Processes(workers=1, threads=1),
        "2 processes": Processes(workers=2, threads=1),
    }
    if with_ray:
        engines |= {
            "Ray, 1 actor": Ray(workers=1, threads=1),
            "Ray, 2 actors": Ray(workers=2, threads=1),
        }
    base = 0.0
    for place, (name, engine) in enumerate(engines.items()):
        rate = pictures_a_second(settings, engine, limit)
        base = rate if place % 2 == 0 else base
        print(f"{name:<14} {rate:6.2f} pictures/s, {rate / base:.2f} x one", flush=True)


def print_memory() -> None:
    """The peak of a process of its own for 200 and for 2,000 pictures."""
    for n in (200, 2000):
        command = [sys.executable, __file__, "--peak", str(n)]
        peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"{n:>5} pictures: peak {float(peak):.0f} MiB", flush=True)


def print_peak(n: int) -> None:
    """Evaluate n made-up pictures in this process."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "runs"))
    from tiny_evaluation import run

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), n, InProcess())
        assert read_run(folder).n_items == n
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="A folder of photos, for the rates.")
    parser.add_argument("--method", default="lrp")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print_peak(given.peak)
        return
    print_memory()
    if given.root:
        print_rates(given.root, given.method, given.limit, given.ray)


if __name__ == "__main__":
    main()

"""Sections of the benchmark that need processes of their own: peak memory, and whole commands."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from naspix.errors import NaspixError
from naspix.models import wrap_model
from naspix.paper.timing import Case, Network, Plan, Record, interleaved, photos_at
from naspix.segmentation import NAS

_MEGABYTE = 1e6
PYTHON = (sys.executable, "-c")
_NASPIX = "import sys; from naspix.cli import main; sys.exit(main())"


def memory(plan: Plan) -> list[Record]:
    """Measure the memory that segmenting ResNet50's activations takes, in a process of its own."""
    network = Network("resnet50")
    size = max(plan.sizes)
    photo = photos_at(plan.sources, size)[0]
    segmenter = network.segmenter()
    activations = segmenter.model.activations(photo.batch, segmenter.levels)
    n_channels = sum(maps.shape[1] for maps in activations)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "activations.pt"
        torch.save(activations, path)
        module = "import sys, naspix.paper.processes as p; p.print_peak(*sys.argv[1:])"
        arguments = (str(path), str(size), str(network.n_clusters))
        first, later = map(float, output_of((*PYTHON, module, *arguments), plan).split())
    dense = 4 * size * size * n_channels / _MEGABYTE
    return [
        Record(
            section="memory",
            name="extra memory of NAS",
            case=network.case(size, plan.threads, 1),
            against=f"dense: {dense:.0f} MB",
            figure=first,
            unit="MB",
            goal=20 if size == 224 else None,
            note="peak of a process's first call, with the libraries' own buffers; "
            f"of its second call: {later:.1f} MB",
        )
    ]


def process(plan: Plan) -> list[Record]:
    """Time the command line from start to end, and the imports it should not exceed."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        pixels = photos_at(plan.sources[:1], 512)[0].pixels
        Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(photo)
        output = str(Path(folder) / "results")
        commands = {
            "naspix --help": (*PYTHON, _NASPIX, "--help"),
            "import naspix": (*PYTHON, "import naspix"),
            "import torch": (*PYTHON, "import torch"),
            "naspix explain PHOTO": (*PYTHON, _NASPIX, "explain", str(photo), "-o", output),
            "import torch, timm": (*PYTHON, "import torch, timm"),
        }
        contenders = {
            name: lambda _, command=command: output_of(command, plan)
            for name, command in commands.items()
        }
        times = interleaved(contenders, range(plan.n_processes), clock=plan.clock)
    case = Case(threads=plan.threads)
    helped = Record(section="process", name="naspix --help", case=case, unit="s", goal=0.5)
    timing = times[helped.name]
    records = [replace(helped, timing=timing, figure=timing.median_ms / 1e3)]
    for name, rival, most in (
        ("import naspix", "import torch", 1.2),
        ("naspix explain PHOTO", "import torch, timm", 3.0),
    ):
        record = Record(section="process", name=name, case=case, goal=most)
        records.append(record.of(times, name, rival))
    return records


def output_of(command: Sequence[str], plan: Plan) -> str:
    """What a process of its own prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(plan.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NaspixError(f"a process that the benchmark started has failed: {last}")
    return done.stdout


def print_peak(path: str, size: str, n_clusters: str) -> None:
    """Segment saved activations twice and print how many megabytes each call took at its peak.

    For a fresh process: what a process has once used, it uses again unseen.
    """
    activations = torch.load(path, weights_only=True)
    names = [str(level) for level in range(len(activations))]
    model = wrap_model(nn.Sequential(*(nn.Identity() for _ in names)), levels=names)  # of no weight
    nas = NAS(model, levels=names, n_clusters=int(n_clusters))
    frame = (int(size), int(size))
    peaks = [_peak_of(lambda: nas.segment(activations, frame).clusters) for _ in range(2)]
    sys.stdout.write(" ".join(f"{peak / _MEGABYTE:.3f}" for peak in peaks))


def _peak_of(call: Callable[[], object]) -> int:
    """Return by how many bytes the process grows, at most, while it calls."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) * unit

    def kilobytes(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(f"{field}:"))
        return int(line.split()[1])

    clear.write_text("5")  # the peak so far is forgotten
    before = kilobytes("VmRSS")
    call()
    return max(0, kilobytes("VmHWM") - before) * 1024

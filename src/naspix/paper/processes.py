"""What can only be measured from outside: memory in a fresh process, and whole processes.

Sections of the benchmark of ``table5``: functions from a plan to records.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from naspix.errors import NaspixError
from naspix.paper.photos import save_photo
from naspix.paper.plan import Network, Plan
from naspix.paper.records import Case, Goal, Record
from naspix.paper.timing import interleaved

_MEGABYTE = 1e6
_PYTHON = (sys.executable, "-c")
_NASPIX = "import sys; from naspix.cli import main; sys.exit(main())"


def memory(plan: Plan) -> list[Record]:
    """Measure the memory that segmenting ResNet50's activations takes, in a process of its own."""
    network = Network("resnet50")
    size = max(plan.sizes)
    photo = plan.photos(size)[0]
    activations = network.load().activations(photo.batch, network.levels)
    n_channels = sum(maps.shape[1] for maps in activations)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "activations.pt"
        torch.save(activations, path)
        module = "import sys, naspix.paper.processes as p; p.print_peak(*sys.argv[1:])"
        arguments = (str(path), str(size), str(network.n_clusters))
        first, later = map(float, _output((*_PYTHON, module, *arguments), plan).split())
    dense = 4 * size * size * n_channels / _MEGABYTE
    return [
        Record(
            section="memory",
            name="extra memory of NAS",
            case=network.case(size, plan.threads, 1),
            against=f"dense: {dense:.0f} MB",
            figure=first,
            unit="MB",
            goal=Goal(40) if size == 224 else None,
            note="peak of a process's first call, with the libraries' own buffers; "
            f"of its second call: {later:.1f} MB",
        )
    ]


def process(plan: Plan) -> list[Record]:
    """Time the command line from start to end, and the imports it should not exceed."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        save_photo(plan.sources[0], photo)
        output = str(Path(folder) / "results")
        commands = {
            "naspix --help": (*_PYTHON, _NASPIX, "--help"),
            "import naspix": (*_PYTHON, "import naspix"),
            "import torch": (*_PYTHON, "import torch"),
            "naspix explain PHOTO": (*_PYTHON, _NASPIX, "explain", str(photo), "-o", output),
            "import torch, timm": (*_PYTHON, "import torch, timm"),
        }
        contenders = {name: _starter(command, plan) for name, command in commands.items()}
        times = interleaved(contenders, range(plan.n_processes), clock=plan.clock)
    case = Case(threads=plan.threads)
    shown = times["naspix --help"]
    return [
        Record(
            section="process",
            name="naspix --help",
            case=case,
            timing=shown,
            figure=shown.median_ms / 1e3,
            unit="s",
            goal=Goal(0.5),
        ),
        *(
            Record.of_ratio("process", name, case, times[name], rival, times[rival], Goal(most))
            for name, rival, most in (
                ("import naspix", "import torch", 1.2),
                ("naspix explain PHOTO", "import torch, timm", 3.0),
            )
        ),
    ]


def print_peak(path: str, size: str, n_clusters: str) -> None:
    """Segment saved activations twice and print how many megabytes each call took at its peak.

    For a fresh process: what a process has once used, it uses again unseen.
    """
    from naspix.models import wrap_model
    from naspix.segmentation import NAS

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
        return _peak_by_resource(call)
    clear.write_text("5")  # the peak so far is forgotten
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def _peak_by_resource(call: Callable[[], object]) -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _starter(command: Sequence[str], plan: Plan) -> Callable[[int], object]:
    return lambda _: _output(command, plan)


def _output(command: Sequence[str], plan: Plan) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": str(plan.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NaspixError(f"a process that the benchmark started has failed: {last}")
    return done.stdout

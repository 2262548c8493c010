"""Explain many photos: killed, continued, by several workers, and what it takes.

    python benchmarks/many_photos.py --photos FOLDER [--n 2000] [--ray]

The photos of the folder, under several names each, are explained by one process. Then a second
command is killed twice, goes on with two local workers, is killed again, and ends with two actors
of Ray (with ``--ray``). Both must leave the same ``results.json``. Printed: photos a second, and
the peak of the memory of the command's process (workers not counted).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from naspix.errors import NaspixError
from naspix.runs import read_run

NASPIX = "import sys; from naspix.cli import main; sys.exit(main())"


def main() -> None:
    """Print a line a command, and whether the results are the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--ray", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "photos").mkdir()
        files = sorted(given.photos.rglob("*.jpg"))
        for place in range(given.n):
            file = files[place % len(files)]
            (root / "photos" / f"{place:05d}-{file.name}").hardlink_to(_near(file, root))
        threads = ["--threads", "1"]
        explained(root, "whole", "one process", threads)
        explained(root, "pieces", "killed once", threads, kill_at=given.n // 6)
        explained(root, "pieces", "killed twice", threads, kill_at=given.n // 3)
        two = ["--workers", "2", *threads]
        last = given.n * 2 // 3 if given.ray else None
        explained(root, "pieces", "two workers", two, kill_at=last)
        if given.ray:
            explained(root, "pieces", "two actors of Ray", [*two, "--engine", "ray"])
        whole, pieces = (results(root / name) for name in ("whole", "pieces"))
        print("results.json:", "the same" if whole == pieces else "DIFFERENT", flush=True)
        pages = sorted((root / "pieces").glob("*.html"))
        largest = max(page.stat().st_size for page in pages) / 1e6
        print(f"{len(pages)} pages, the largest {largest:.0f} MB", flush=True)


def _near(file: Path, root: Path) -> Path:
    """The photo on the file system of the folder, where names can be linked to it."""
    near = root / "originals" / file.name
    if not near.exists():
        near.parent.mkdir(exist_ok=True)
        near.write_bytes(file.read_bytes())
    return near


def explained(
    root: Path, output: str, title: str, options: list[str], kill_at: int | None = None
) -> None:
    """Run the command, killed when so many photos are done; print rate and memory."""
    command = [sys.executable, "-c", NASPIX, "explain", str(root / "photos")]
    command += ["--output", str(root / output), *options]
    before = n_done(root / output)
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    peak = [0]
    watching = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
    watching.start()
    while process.poll() is None:
        time.sleep(0.2)
        if kill_at is not None and n_done(root / output) >= kill_at:
            os.killpg(process.pid, signal.SIGKILL)
    seconds = time.perf_counter() - begin
    done = n_done(root / output) - before
    print(
        f"{title:<20} {done:>5} photos, {done / seconds:5.2f} a second with the start, "
        f"peak {peak[0] / 1024:.0f} MiB",
        flush=True,
    )


def _watch(pid: int, peak: list[int]) -> None:
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
        peak[0] = max([peak[0], *(int(line.split()[1]) for line in lines)])
        time.sleep(0.5)


def n_done(folder: Path) -> int:
    """How many photos a folder has."""
    try:
        return read_run(folder).n_items
    except (NaspixError, OSError):
        return 0


def results(folder: Path) -> object:
    """What was found, without the date."""
    found = json.loads((folder / "results.json").read_text())
    del found["created"]
    return found


if __name__ == "__main__":
    main()

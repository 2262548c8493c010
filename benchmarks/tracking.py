"""How many pixels of a film keep their region, where the motion is known: a crop moves over photos.

    python benchmarks/tracking.py --photos FOLDER [--n-photos 24] [--frames 24] [--step 3]

A window of 224 x 224 goes in a circle over each photo, some pixels a frame. A pixel keeps its
region where its region's number is the same in the next frame, at the place that it moved to. NAS
by `track`, NAS frame by frame and SLIC of about as many superpixels, both matched in the same way.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import naspix

_SIDE, _LARGE = 224, 320


def _film(path: Path, n_frames: int, step: float) -> list[tuple[Tensor, tuple[int, int]]]:
    """Frames (1, 3, 224, 224), and where each lies in the photo."""
    photo = Image.open(path).convert("RGB")
    scale = _LARGE / min(photo.size)
    photo = photo.resize((round(scale * photo.width), round(scale * photo.height)))
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None] / 255
    free = (pixels.shape[2] - _SIDE, pixels.shape[3] - _SIDE)
    radius = min(free) / 2
    frames = []
    for number in range(n_frames):
        angle = number * step / radius
        top = round(free[0] / 2 + radius * math.sin(angle))
        left = round(free[1] / 2 + radius * math.cos(angle))
        top, left = min(max(top, 0), free[0]), min(max(left, 0), free[1])
        window = pixels[:, :, top : top + _SIDE, left : left + _SIDE]
        frames.append((window, (top, left)))
    return frames


def _matched(films: Iterator[Tensor]) -> Iterator[Tensor]:
    """Label maps under numbers that go over from frame to frame by shared pixels."""
    before: tuple[np.ndarray, np.ndarray] | None = None
    n_numbers = 0
    for labels in films:
        now = labels.numpy()
        numbers = np.full(int(now.max()) + 1, -1)
        if before is not None:
            shared = np.zeros((len(before[1]), len(numbers)), np.int64)
            np.add.at(shared, (before[0].ravel(), now.ravel()), 1)
            olds, news = linear_sum_assignment(shared, maximize=True)
            good = shared[olds, news] > 0
            numbers[news[good]] = before[1][olds[good]]
        new = numbers < 0
        numbers[new] = n_numbers + np.arange(new.sum())
        n_numbers += int(new.sum())
        before = now, numbers
        yield torch.from_numpy(numbers)[labels]


def _kept(numbers: list[Tensor], places: list[tuple[int, int]]) -> float:
    """The share of pixels that keep their number, of those in both frames."""
    shares = []
    for at in range(1, len(numbers)):
        down, right = (b - a for a, b in zip(places[at - 1], places[at], strict=True))
        rows, columns = _SIDE - abs(down), _SIDE - abs(right)
        old = numbers[at - 1][max(down, 0) :, max(right, 0) :][:rows, :columns]
        new = numbers[at][max(-down, 0) :, max(-right, 0) :][:rows, :columns]
        shares.append(float((old == new).double().mean()))
    return sum(shares) / len(shares)


def main() -> None:
    """Print a table for the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--n-photos", type=int, default=24)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--step", type=float, default=3.0, help="pixels a frame")
    given = parser.parse_args()
    model = naspix.load_model()
    nas = naspix.NAS(model)
    photos = sorted(path for path in Path(given.photos).iterdir() if path.is_file())
    chosen = photos[:: max(1, len(photos) // given.n_photos)][: given.n_photos]
    kept: dict[str, list[float]] = {}
    counts: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for path in chosen:
        film = _film(path, given.frames, given.step)
        frames, places = [frame for frame, _ in film], [place for _, place in film]
        n_like = float(np.mean([int(nas(frame).n_superpixels[0]) for frame in frames[::6]]))
        slic = naspix.SLIC(n_segments=max(2, round(n_like)))
        ways: dict[str, Callable[[], list[Tensor]]] = {
            "NAS, tracked": lambda frames=frames: [
                seg.tracks[seg.superpixels[0]] for seg in nas.track(frames)
            ],
            "NAS, frame by frame": lambda frames=frames: list(
                _matched(nas(frame).superpixels[0] for frame in frames)
            ),
            "SLIC, frame by frame": lambda frames=frames, slic=slic: list(
                _matched(slic(frame).superpixels[0] for frame in frames)
            ),
        }
        for name, ask in ways.items():
            began = time.process_time()
            numbers = ask()
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - began
            kept.setdefault(name, []).append(_kept(numbers, places))
            counts.setdefault(name, []).append(np.mean([len(one.unique()) for one in numbers]))
    print("| regions | pixels that keep theirs (95 %) | superpixels | processor time a frame |")
    print("|---|---|---|---|")
    draws = np.random.default_rng(0).integers(len(chosen), size=(2000, len(chosen)))
    for name, shares in kept.items():
        low, high = np.quantile(np.array(shares)[draws].mean(1), (0.025, 0.975))
        mean = float(np.mean(shares))
        each = 1000 * seconds[name] / (len(chosen) * given.frames)
        print(
            f"| {name} | {mean:.1%} ({low:.1%} to {high:.1%}) | {np.mean(counts[name]):.0f} | "
            f"{each:.0f} ms |"
        )


if __name__ == "__main__":
    main()

"""Metrics: LeRF against the bare forwards, MaxBoxAccV2 against the literal thousand thresholds.

Run: python benchmarks/metrics.py [--photos FOLDER] [--threads N] [--maps N] [--identical N]

Contenders take turns on each photo or map. Every map is also checked: both ways must give the same.
Maps are noise, smooth, and pooled, and the photos' brightness raw and pooled over SLIC.
With --identical N nothing is timed: N random maps and maps of a network, raw and pooled, each with
a box of its own, are cut in both ways, and anything that differs ends the run.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

import naspix
from naspix.machine import describe_machine
from naspix.metrics import lerf
from naspix.metrics.boxes import eight_bit
from naspix.metrics.overlaps import overlaps_of
from naspix.paper.timing import find_photos, interleaved, limited_threads, photos_at

sys.path.append(str(Path(__file__).parents[1] / "tests" / "reference"))
import literal_max_box_acc as literal

SIZE, BATCH, STEPS = 224, 32, 100
TRUTHS = np.array([[40, 30, 180, 200]])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photos")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--maps", type=int, default=10, help="of each kind")
    parser.add_argument("--identical", type=int, help="compare so many maps, time none")
    options = parser.parse_args()
    photos = [photo.batch for photo in photos_at(find_photos(options.photos), SIZE)]
    with limited_threads(options.threads):
        if options.identical:
            identical(photos, options.identical)
            return
        machine = describe_machine(options.threads)
        print("  ".join(f"{key}: {value}" for key, value in machine.items()))
        print(f"\n{'what':46} {'ours':>12} {'theirs':>12} {'ratio':>7} {'goal':>6}")
        curves(photos[:2])
        localisation(photos, options.maps)


def curves(photos: list[Tensor]) -> None:
    """LeRF of pixels beside as many bare forwards in batches of the same size."""
    model = naspix.load_model("efficientnet_lite0")
    images = torch.cat(photos)
    heat = images.mean(1)
    n_forwards = len(images) * (STEPS + 1)

    def forwards(_: int) -> None:
        batch = images[:1].expand(BATCH, -1, -1, -1).contiguous()
        with torch.no_grad():
            for start in range(0, n_forwards, BATCH):
                model(batch[: min(BATCH, n_forwards - start)])

    def curves_of(_: int) -> None:
        lerf(model, images, heat, steps=STEPS, batch_size=BATCH)

    contenders = {"ours": curves_of, "theirs": forwards}
    times = interleaved(contenders, range(2))
    compare(f"LeRF, {STEPS} steps of {len(images)} photos", times, 1.15)


def localisation(photos: list[Tensor], n: int) -> None:
    """Both ways on maps of each kind."""
    generator = np.random.default_rng(0)
    bright = [photo[0].mean(0).numpy() for photo in photos[:n]]
    pooled = [
        naspix.superpixelify(photo.mean(1), naspix.SLIC()(photo).superpixels)[0].numpy()
        for photo in photos[:n]
    ]
    coarse = [generator.random((7, 7)) for _ in range(n)]
    kinds = {
        "brightness": bright,
        "brightness over SLIC": pooled,
        "smooth": [cv2.resize(each, (SIZE, SIZE), interpolation=2) for each in coarse],
        "noise": [generator.random((SIZE, SIZE)) for _ in range(max(1, n // 10))],
    }
    for kind, maps in kinds.items():
        for each in maps:
            same = np.array_equal(theirs(each), ours(each))
            if not same:
                raise SystemExit(f"{kind}: the two ways differ")
        compare(f"MaxBoxAccV2, {kind}", interleaved({"ours": ours, "theirs": theirs}, maps), 0.02)


def identical(photos: list[Tensor], n: int) -> None:
    """Both ways on many maps, each with a box of its own."""
    generator = np.random.default_rng(0)
    for i, (kind, saliency) in enumerate(itertools.islice(_maps(photos, generator), n)):
        corners = np.sort(generator.choice(SIZE, (2, 2), replace=False), axis=0)
        truths = corners.reshape(1, 4)
        if not np.array_equal(theirs(saliency, truths), ours(saliency, truths)):
            raise SystemExit(f"map {i} ({kind}): the two ways differ")
    print(f"{n} maps: the same best overlap at each of {len(literal.THRESHOLDS)} thresholds")


def _maps(photos: list[Tensor], generator: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Without end: for each photo two random maps, two of a network, and these two pooled."""
    model = naspix.load_model("efficientnet_lite0")
    nas = naspix.NAS(model, n_clusters=10)
    methods = [naspix.saliency.GradCAMPlusPlus(model), naspix.saliency.VanillaGradient(model)]
    for photo in itertools.cycle(photos):
        yield "noise", generator.random((SIZE, SIZE))
        coarse = generator.random((7, 7))
        yield "smooth", cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        superpixels = nas(photo).superpixels
        for method in methods:
            heat = method(photo)
            yield type(method).__name__, heat[0].numpy()
            pooled = naspix.superpixelify(heat, superpixels)
            yield f"{type(method).__name__} over NAS", pooled[0].numpy()


def ours(saliency: np.ndarray, truths: np.ndarray = TRUTHS) -> np.ndarray:
    """The best overlap at each threshold, as naspix finds it."""
    return overlaps_of(eight_bit(saliency), truths).at_thresholds()


def theirs(saliency: np.ndarray, truths: np.ndarray = TRUTHS) -> np.ndarray:
    """The same by a thousand thresholds."""
    return literal.best_ious(saliency, truths)


def compare(what: str, times: dict, goal: float) -> None:
    """One line of a table."""
    ours, theirs = times["ours"].median_ms, times["theirs"].median_ms
    print(f"{what:46} {ours:9.1f} ms {theirs:9.0f} ms {ours / theirs:7.3f} {goal:6.2f}", flush=True)


if __name__ == "__main__":
    main()

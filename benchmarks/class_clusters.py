"""Class clustering: time to predict beside NAS, memory of a stream, and what the sample does.

Run: python benchmarks/class_clusters.py [--photos FOLDER] [--threads N] [--images N]
     [--sections predict memory sample]

Without photos, scikit-image's. The memory of 1,300 images is measured on photos taken again and
again, mirrored and shifted.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

import naspix
from naspix.machine import describe_machine
from naspix.paper.timing import find_photos, limited_threads, photos_at

SIZE = 224
NETWORKS = {"efficientnet_lite0": "default", "resnet18": None}  # random weights
SECTIONS = ("predict", "memory", "sample")


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photos, best of one kind")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=1300, help="of the stream")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    options = parser.parse_args()
    photos = torch.cat([photo.batch for photo in photos_at(find_photos(options.photos)[:40], SIZE)])
    with limited_threads(options.threads):
        machine = describe_machine(options.threads)
        print("  ".join(f"{key}: {value}" for key, value in machine.items()))
        if "memory" in options.sections:  # first: the peak never falls
            memory(photos, options.images)
        if "predict" in options.sections:
            predict(photos)
        if "sample" in options.sections:
            sample(photos)


def memory(photos: Tensor, n_images: int) -> None:
    """Peak memory of the process that fits a stream."""
    model = naspix.load_model("efficientnet_lite0")
    start = time.perf_counter()
    clusters = naspix.ClassClustering(model).fit(stream(photos, n_images))
    taken = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\nfitting {clusters.n_images} images of {SIZE} x {SIZE}: {taken:.0f} s, peak of the "
        f"whole process {peak:.0f} MB (goal 2048)"
    )


def stream(photos: Tensor, n_images: int) -> Iterator[Tensor]:
    """Batches of photos, mirrored and shifted."""
    for i in range(0, n_images, 16):
        number = min(16, n_images - i)
        batch = photos[torch.arange(i, i + number) % len(photos)].roll(i // len(photos), 3)
        yield batch.flip(3) if i // len(photos) % 2 else batch


def predict(photos: Tensor) -> None:
    """A photo by NAS and by class clusters, in turns, the network's pass in both."""
    print(f"\n{'network':20} {'n_samples':>9} {'NAS':>9} {'class':>9} {'ratio':>6}  (goal 5)")
    for name, weights in NETWORKS.items():
        model = naspix.load_model(name, weights=weights)
        nas = naspix.NAS(model)
        for n_samples in (500, 1000, 2000):
            clusters = naspix.ClassClustering(model, n_samples=n_samples).fit(photos)
            ours, theirs = [], []
            for i in range(12):
                photo = photos[i % len(photos)][None]
                theirs.append(milliseconds(partial(nas, photo)))
                ours.append(milliseconds(partial(clusters, photo)))
            ratio = median(a / b for a, b in zip(ours[2:], theirs[2:], strict=True))
            print(
                f"{name:20} {n_samples:9} {median(theirs[2:]):6.0f} ms {median(ours[2:]):6.0f} ms "
                f"{ratio:6.2f}",
                flush=True,
            )


def sample(photos: Tensor) -> None:
    """How alike the partitions of two samples are, by the samples' size."""
    model = naspix.load_model("efficientnet_lite0")
    print(f"\n{'n_samples':>9} {'adjusted Rand index of two samples':>36}")
    for n_samples in (250, 500, 1000, 2000, 4000):
        labels = [
            naspix.ClassClustering(model, n_samples=n_samples, seed=seed)
            .fit(photos)(photos[:8])
            .clusters[:, ::4, ::4]
            .flatten()
            for seed in range(3)
        ]
        pairs = [(0, 1), (0, 2), (1, 2)]
        index = sum(adjusted_rand_score(labels[i], labels[j]) for i, j in pairs) / 3
        print(f"{n_samples:9} {index:36.2f}", flush=True)


def milliseconds(call: Callable[[], object]) -> float:
    """Processor time that one call takes, so that other programs on the machine count little."""
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


if __name__ == "__main__":
    main()

"""Saliency methods: seconds and memory a photo, and their ratios to what they are compared with.

Run: python benchmarks/saliency.py [--photos FOLDER] [--threads N] [--quick] [--ratios]
     [--methods NAME ...]

RISE against the bare forwards of as many images; XRAI against the authors' package (saliency),
its region growing alone and the whole call with the same network and steps; pooling against
scipy.ndimage.mean. Contenders take turns on each photo. Without photos, scikit-image's. Tables are
Markdown; --ratios prints the first alone.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

import naspix
from naspix.machine import describe_machine
from naspix.paper.timing import find_photos, interleaved, limited_threads, photos_at
from naspix.registry import SALIENCY
from naspix.saliency import RISE, XRAI, grow_regions
from naspix.saliency.xrai import felzenszwalb_masks

# this file would hide the authors' package of the same name
sys.path = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

SIZE = 224
BATCH = 32
THEIR_BATCH = 16
NETWORKS = {"efficientnet_lite0": "default", "resnet18": None}  # random weights
GOALS = {"RISE": 1.15, "growing": 0.1, "whole": 0.33, "pooling": 0.2}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photos")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="fewer masks, steps and samples")
    parser.add_argument("--ratios", action="store_true", help="leave out the table of methods")
    parser.add_argument("--methods", nargs="*", choices=SALIENCY, default=list(SALIENCY))
    options = parser.parse_args()
    photos = [photo.batch for photo in photos_at(find_photos(options.photos)[:3], SIZE)]
    with limited_threads(options.threads):
        print(
            "  ".join(f"{key}: {value}" for key, value in describe_machine(options.threads).items())
        )
        print("\n| what | naspix, ms | other, ms | ratio | goal |\n|---|---:|---:|---:|---:|")
        pooling(photos)
        xrai_growing(photos)
        for name, weights in NETWORKS.items():
            model = naspix.load_model(name, weights=weights)
            rise(name, model, photos, 128 if options.quick else 512)
            xrai_whole(name, model, photos[:1], 10 if options.quick else 100)
        for name, weights in {} if options.ratios else NETWORKS.items():
            methods(name, naspix.load_model(name, weights=weights), photos[0], options)


def pooling(photos: list[Tensor]) -> None:
    """Means over superpixels, one map and sixteen at once."""
    labels = [naspix.SLIC()(photo).superpixels for photo in photos]
    for n_maps in (1, 16):
        maps = torch.rand(1, n_maps, SIZE, SIZE)

        def ours(numbers: Tensor, maps: Tensor = maps) -> object:
            return naspix.superpixelify(maps, numbers)

        def scipys(numbers: Tensor, maps: Tensor = maps) -> object:
            array, index = numbers[0].numpy(), np.arange(int(numbers.max()) + 1)
            return [scipy.ndimage.mean(each.numpy(), array, index)[array] for each in maps[0]]

        times = interleaved({"ours": ours, "theirs": scipys}, labels, rounds=10)
        compare(
            f"pooling, {n_maps} map{'s' * (n_maps > 1)} of one photo, to `scipy.ndimage.mean`",
            times,
            "pooling",
        )


def rise(name: str, model: naspix.Classifier, photos: list[Tensor], n_masks: int) -> None:
    """RISE and as many bare forwards in batches of the same size."""
    method = RISE(model, n_masks=n_masks, batch_size=BATCH)

    def forwards(photo: Tensor) -> None:
        batch = photo.expand(BATCH, -1, -1, -1).contiguous()
        with torch.no_grad():
            for _ in range(n_masks // BATCH):
                model(batch)

    contenders = {"ours": lambda photo: method(photo, 0), "theirs": forwards}
    times = interleaved(contenders, photos[:2])
    compare(f"RISE, {n_masks} masks, to bare forwards ({name})", times, "RISE")


def xrai_growing(photos: list[Tensor]) -> None:
    """The authors' region growing and ours, on the same masks and a smooth random attribution."""
    import saliency.core

    attribution = scipy.ndimage.gaussian_filter(
        np.random.default_rng(0).normal(size=(SIZE, SIZE)), 3
    )
    arrays = [2 * photo[0].permute(1, 2, 0).numpy() - 1 for photo in photos]
    pixels = [felzenszwalb_masks(array) for array in arrays]
    masks = [
        [np.isin(np.arange(SIZE * SIZE), part).reshape(SIZE, SIZE) for part in parts]
        for parts in pixels
    ]
    for variant in ("full", "fast"):
        parameters = saliency.core.XRAIParameters(algorithm=variant)
        times = interleaved(
            {
                "ours": lambda i, variant=variant: grow_regions(
                    attribution, pixels[i], variant=variant
                ),
                "theirs": lambda i, parameters=parameters: saliency.core.XRAI().GetMask(
                    arrays[i],
                    None,
                    segments=masks[i],
                    base_attribution=attribution[..., None].repeat(3, -1),
                    extra_parameters=parameters,
                ),
            },
            range(len(photos)),
        )
        compare(f"XRAI {variant}, growing alone", times, "growing")
    times = interleaved(
        {"ours": felzenszwalb_masks, "theirs": saliency.core.xrai._get_segments_felzenszwalb},
        arrays,
    )
    compare("XRAI, its segments alone", times)


def xrai_whole(name: str, model: naspix.Classifier, photos: list[Tensor], n_steps: int) -> None:
    """From the photo to the map; the authors' package with its own batch size and a larger one."""
    import saliency.core

    method = XRAI(model, n_steps=n_steps)

    def gradients(points: np.ndarray, call_model_args=None, expected_keys=None) -> dict:
        x = torch.from_numpy(points).float().permute(0, 3, 1, 2).requires_grad_()
        (gradient,) = torch.autograd.grad(model.network(x)[:, 0].sum(), x)
        return {"INPUT_OUTPUT_GRADIENTS": gradient.permute(0, 2, 3, 1).numpy()}

    def theirs(photo: Tensor, batch_size: int) -> object:
        array = model.standardize(photo)[0].permute(1, 2, 0).numpy()
        parameters = saliency.core.XRAIParameters(steps=n_steps)
        return saliency.core.XRAI().GetMask(
            array, gradients, batch_size=batch_size, extra_parameters=parameters
        )

    for batch_size in (1, THEIR_BATCH):
        times = interleaved(
            {
                "ours": lambda photo: method(photo, 0),
                "theirs": lambda photo, batch_size=batch_size: theirs(photo, batch_size),
            },
            photos,
        )
        what = f"XRAI, {n_steps} steps, their batch {batch_size} ({name})"
        compare(what, times, "whole")


def methods(
    name: str, model: naspix.Classifier, photo: Tensor, options: argparse.Namespace
) -> None:
    """Seconds and peak memory of each method at its defaults, also in units of a forward."""
    batch = photo.expand(BATCH, -1, -1, -1).contiguous()
    with torch.no_grad():
        model(batch)
        forward = median(seconds(lambda: model(batch)) for _ in range(3)) / BATCH
    print(f"\n{name}: a forward takes {1e3 * forward:.1f} ms an image in batches of {BATCH}")
    print("\n| method | seconds | forwards | peak MB |\n|---|---:|---:|---:|")
    fewer = {
        "rise": {"n_masks": 256},
        "xrai": {"n_steps": 10},
        "lime": {"n_samples": 100},
        "kernel_shap": {"n_samples": 200},
        "shapley": {"n_pairs": 2},
    }
    for key in options.methods:
        method = SALIENCY[key](model, **(fewer.get(key, {}) if options.quick else {}))
        try:
            taken, peak = with_peak(lambda method=method: seconds(lambda: method(photo, 0)))
        except naspix.errors.ModelError as error:
            print(f"| {key} | {error} | | |")
            continue
        memory = "-" if peak is None else f"{peak:.0f}"
        print(f"| {key} | {taken:.2f} | {taken / forward:.0f} | {memory} |", flush=True)


def compare(what: str, times: dict, goal: str | None = None) -> None:
    """One line of the table: milliseconds, ratio, goal."""
    ours, theirs = times["ours"].median_ms, times["theirs"].median_ms
    wanted = "" if goal is None else f"{GOALS[goal]:.2f}"
    print(f"| {what} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.3f} | {wanted} |", flush=True)


def seconds(call: Callable[[], object]) -> float:
    """What one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def with_peak(call: Callable[[], float]) -> tuple[float, float | None]:
    """What ``call`` returns, and by how many megabytes the process grew at most (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        return call(), None
    clear.write_text("5")  # forgets the peak so far
    before = _status("VmRSS")
    result = call()
    return result, (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()

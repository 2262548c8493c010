"""Whether maps depend on what the network has learnt: made random from the top, stage by stage.

Run: python benchmarks/randomisation.py [--photos FOLDER] [--n-photos N] [--threads N] [--seeds N]

The check of Adebayo et al. (Sanity Checks for Saliency Maps, 2018) on the default network: the
classifier's weights are drawn anew, then also those of the last stage, and so on down to the stem;
batch norms keep their statistics. Printed is the rank correlation (Spearman) of each method's map
with its map of the trained network, mean over photos and seeds: of the maps as they come, and of
their magnitudes, which keep what the photo itself gives. The class explained is the one that the
trained network predicts.
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import naspix
from naspix.machine import describe_machine
from naspix.paper.timing import find_photos, limited_threads, photos_at, stacked
from naspix.saliency import (
    LRP,
    GradCAM,
    GradCAMPlusPlus,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    SmoothGrad,
    VanillaGradient,
)

SIZE = 224
# from the top down, as the default network's modules are called
STAGES = ("classifier", "conv_head", *(f"blocks.{i}" for i in range(6, -1, -1)), "conv_stem")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photos")
    parser.add_argument("--n-photos", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    found = find_photos(options.photos)
    step = max(1, len(found) // options.n_photos)
    images = stacked(photos_at(found[::step][: options.n_photos], SIZE))
    with limited_threads(options.threads):
        machine = describe_machine(options.threads)
        print("  ".join(f"{key}: {value}" for key, value in machine.items()))
        print(f"{len(images)} photos, {options.seeds} seeds")
        tables = correlations(images, options.seeds)
    for title, rows in tables.items():
        names = list(next(iter(rows.values())))
        print(f"\n{title}\n{'random from the top to':24}" + "".join(f"{n:>13}" for n in names))
        for stage, values in rows.items():
            print(f"{stage:24}" + "".join(f"{values[name]:13.2f}" for name in names))


def methods(model: naspix.Classifier) -> dict[str, object]:
    """Signed maps where there are such."""
    return {
        "gradient": VanillaGradient(model, reduce="sum"),
        "input x grad": InputXGradient(model),
        "SmoothGrad": SmoothGrad(model, n_samples=10, reduce="sum"),
        "IG": IntegratedGradients(model, n_steps=20, max_steps=20),
        "guided": GuidedBackprop(model, reduce="sum"),
        "LRP": LRP(model),
        "Grad-CAM": GradCAM(model),
        "Grad-CAM++": GradCAMPlusPlus(model),
    }


def correlations(images: Tensor, n_seeds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Table -> stage -> method -> rank correlation with the trained network's map."""
    trained = naspix.load_model("efficientnet_lite0")
    target = trained.resolve_target(images, None)
    before = {name: explain(method, images, target) for name, method in methods(trained).items()}
    kinds = {"Maps as they come": lambda heat: heat, "Magnitudes": torch.abs}
    sums = {kind: {stage: dict.fromkeys(before, 0.0) for stage in STAGES} for kind in kinds}
    for seed in range(n_seeds):
        for stage, model in randomised(seed):
            for name, method in methods(model).items():
                after = explain(method, images, target)
                for kind, of in kinds.items():
                    value = rank_correlation(of(before[name]), of(after))
                    sums[kind][stage][name] += value / n_seeds
    return sums


def explain(method: object, images: Tensor, target: Tensor) -> Tensor:
    """The maps; that IG's steps do not suffice on random networks is no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(images, target)


def randomised(seed: int) -> Iterator[tuple[str, naspix.Classifier]]:
    """The network made random down to each stage."""
    model = naspix.load_model("efficientnet_lite0")
    torch.manual_seed(seed)
    for stage in STAGES:
        for module in model.network.get_submodule(stage).modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
        yield stage, model


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, each image by itself, then the mean; 0 where a map is constant."""
    from scipy.stats import spearmanr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = [
            spearmanr(x.flatten().numpy(), y.flatten().numpy()).statistic
            for x, y in zip(a, b, strict=True)
        ]
    return float(torch.tensor(values).nan_to_num(0.0).mean())


if __name__ == "__main__":
    main()

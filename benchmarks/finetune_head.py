"""A head by `naspix finetune --freeze` beside scikit-learn's logistic regression on what it sees.

    python benchmarks/finetune_head.py FOLDER [--at-least 10] [--splits 5] [--model NAME]

FOLDER has a folder of pictures for each class. Classes with fewer pictures than asked for are left
out; each class is split at random, 60 % to learn, 20 % to validate, 20 % to test, several times.
Logistic regression learns from the same pictures; its C is the one of 0.01, 0.1, 1 and 10 that
validates best, by accuracy and among equals by loss, as naspix chooses its epoch. Both are asked
about the test pictures once.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from naspix.datasets import ImageFolder
from naspix.models import load_model
from naspix.training import Finetuning, finetune, open_splits
from naspix.training.splits import View


def main() -> None:
    """Print a line a split, and the means."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--at-least", type=int, default=10)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--model", default="efficientnet_lite0")
    asked = parser.parse_args()
    rows = []
    for seed in range(asked.splits):
        with tempfile.TemporaryDirectory() as place:
            sizes = split(asked.folder, Path(place, "data"), asked.at_least, seed)
            start = time.perf_counter()
            splits = open_splits("folder", Path(place, "data"))
            settings = Finetuning(model=asked.model, freeze=True)
            result = finetune(splits, Path(place, "run"), settings)
            took = time.perf_counter() - start
            theirs = logistic_regression(Path(place, "run"), splits.train, splits.val, splits.test)
        rows.append((result.test_accuracy, theirs))
        print(
            f"split {seed}: {len(splits.categories)} classes, {sizes} pictures; naspix "
            f"{result.test_accuracy:.1%} (epoch {result.best.epoch}, {took:.0f} s), "
            f"logistic regression {theirs:.1%}",
            flush=True,
        )
    ours, theirs = np.mean(rows, axis=0)
    print(f"mean: naspix {ours:.1%}, logistic regression {theirs:.1%}")


def split(folder: Path, place: Path, at_least: int, seed: int) -> dict[str, int]:
    """Link each class's pictures into three folders; how many each has."""
    random = np.random.default_rng(seed)
    dataset = ImageFolder(folder)
    labels = np.asarray(dataset.labels)
    sizes = dict.fromkeys(("train", "val", "test"), 0)
    for label, name in enumerate(dataset.categories):
        members = random.permutation(np.flatnonzero(labels == label))
        if len(members) < at_least:
            continue
        n = max(round(0.2 * len(members)), 1)
        parts = {"test": members[:n], "val": members[n : 2 * n], "train": members[2 * n :]}
        for part, indices in parts.items():
            (place / part / name).mkdir(parents=True)
            for index in indices:
                file = folder / dataset.ids[index]
                (place / part / name / file.name).symlink_to(file.resolve())
            sizes[part] += len(indices)
    return sizes


def logistic_regression(run: Path, train: View, val: View, test: View) -> float:
    """Its accuracy on the test pictures, from what enters the network's last layer."""
    model = load_model(run)
    last = [part for part in model.network.modules() if isinstance(part, torch.nn.Linear)][-1]
    features = [pooled(model, last, view) for view in (train, val, test)]
    best, answer = (-1.0, 0.0), 0.0
    for c in (0.01, 0.1, 1.0, 10.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit = LogisticRegression(C=c, max_iter=2000).fit(features[0], train.labels)
        loss = log_loss(val.labels, fit.predict_proba(features[1]))
        rank = (fit.score(features[1], val.labels), -loss)
        if rank > best:
            best, answer = rank, float(fit.score(features[2], test.labels))
    return answer


def pooled(model: torch.nn.Module, last: torch.nn.Linear, view: View) -> np.ndarray:
    """What enters the last layer, picture by picture."""
    seen: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for sample in view:
            model(model.load_images([(sample.image * 255).round().byte()]))
    hook.remove()
    return torch.cat(seen).numpy()


if __name__ == "__main__":
    main()

"""A network of the user's own, as the command line names one: FILE.py:FUNCTION."""

import torch
from torch import nn

import naspix


def small(seed: int = 0) -> naspix.Classifier:
    """Three classes of images of 32 x 32, with the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        )  # fmt: skip
    return naspix.wrap_model(
        network, mean=0.5, std=0.5, input_size=32, levels=["1", "3"], name=f"small-{seed}"
    )


def other() -> naspix.Classifier:
    """Another one."""
    return small(1)


def halves(images: torch.Tensor) -> torch.Tensor:
    """A segmenter: left and right."""
    labels = (torch.arange(images.shape[-1]) >= images.shape[-1] // 2).long()
    return labels.expand(len(images), *images.shape[-2:]).contiguous()


def brightness(images: torch.Tensor, target: object) -> torch.Tensor:
    """A saliency method: what is bright."""
    return images.mean(1)

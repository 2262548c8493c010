"""A small network whose answers are known: the score of class c is the mean of channel c."""

import pytest
import torch
from torch import nn

import naspix


class MeanColour(nn.Module):
    """Scores are the mean of each channel, passed through a module so that there is a level."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(3, 3, 1, bias=False)
        self.map.weight.data = torch.eye(3)[:, :, None, None].clone()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.map(images).mean((2, 3))


@pytest.fixture(scope="session")
def linear() -> naspix.Classifier:
    """Score of class c: mean over the pixels of ``2 (x_c - 0.25)``; hidden pixels add nothing."""
    return naspix.wrap_model(
        MeanColour(), mean=[0.25] * 3, std=[0.5] * 3, input_size=(8, 8), levels=["map"]
    )


@pytest.fixture(scope="session")
def network() -> naspix.Classifier:
    """A small random network with a non-linearity."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    return naspix.wrap_model(
        module, mean=[0.4] * 3, std=[0.3] * 3, input_size=(24, 24), levels=["1", "3"]
    )


@pytest.fixture
def images() -> torch.Tensor:
    """Three squares of flat colours with a little noise, two images."""
    generator = torch.Generator().manual_seed(3)
    batch = torch.full((2, 3, 24, 24), 0.2)
    batch[:, 0, 4:14, 4:14] = 0.9
    batch[:, 1, 12:22, 12:22] = 0.8
    batch[1] = batch[1].flip(-1)
    return (batch + 0.1 * torch.rand(batch.shape, generator=generator)).clamp(0, 1)

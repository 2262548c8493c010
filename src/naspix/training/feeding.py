"""Pictures as batches: augmented to learn from, as `load_model`'s networks read them to validate.

What is drawn for a picture depends on the seed, the epoch and the picture alone, not on how many
processes read, nor on what came before: a run that goes on after a kill sees what it would have.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from naspix.images import read_images
from naspix.models.recipes import Description
from naspix.training.splits import View

SMALLEST_CROP = 0.3  # of a picture's area


@dataclass(frozen=True, eq=False)
class Augmented(Dataset[tuple[Tensor, int]]):
    """Random crops, mirrored or not, at the network's size: `(3, h, w)` in [0, 1] and the class.

    Args:
        view: The pictures.
        description: The network's size and how it resizes.
        seed: Of everything that is drawn.
        augment: False takes every picture as it is validated.
    """

    view: View
    description: Description
    seed: int
    augment: bool = True

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Float32[Tensor, "3 h w"], int]:
        epoch, index = place
        image, label = self.view[index].image, self.view.labels[index]
        if not self.augment:
            return fitted(image, self.description), label
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.seed, epoch, index))
            return self._drawn(image), label

    def _drawn(self, image: Float32[Tensor, "3 H W"]) -> Float32[Tensor, "3 h w"]:
        from torchvision.transforms import InterpolationMode, v2

        crop = v2.RandomResizedCrop(
            self.description.input_size,
            scale=(SMALLEST_CROP, 1.0),
            interpolation=InterpolationMode(self.description.interpolation),
            antialias=True,
        )
        augmented: Tensor = v2.RandomHorizontalFlip()(crop(image))
        return augmented.clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Fitted(Dataset[tuple[Tensor, int]]):
    """Pictures as the network is asked about them, and their classes."""

    view: View
    description: Description

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, index: int) -> tuple[Float32[Tensor, "3 h w"], int]:
        return fitted(self.view[index].image, self.description), self.view.labels[index]


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The order of an epoch in batches, this process's share of each; set ``epoch`` before it.

    All processes get equally many pictures: what is left over is left out of this epoch, and so is
    a last batch that is not full, unless it is the only one.

    Args:
        n: How many pictures there are.
        batch_size: Of all processes together.
        seed: Of the order.
        rank: Number of this process.
        world: How many there are.
    """

    def __init__(self, n: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.epoch = 0
        self._n, self._seed, self._rank, self._world = n, seed, rank, world
        self._batch_size = min(max(batch_size // world, 1) * world, max(n // world, 1) * world)

    def __len__(self) -> int:
        return max(self._n // self._batch_size, 1)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng(seed_of(self._seed, self.epoch, -1)).permutation(self._n)
        for batch in range(len(self)):
            start = batch * self._batch_size
            chosen = order[start : start + self._batch_size]
            yield [(self.epoch, int(index)) for index in chosen[self._rank :: self._world]]


def fitted(image: Float32[Tensor, "3 H W"], description: Description) -> Float32[Tensor, "3 h w"]:
    """One picture, as `Classifier.load_images` makes it of a file."""
    pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return read_images(
        pixels,
        description.input_size,
        crop_pct=description.crop_pct,
        interpolation=description.interpolation,
    )[0]


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, far apart for near ones."""
    text = "/".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")

"""Pictures as batches: augmented to learn from, as `load_model`'s networks read them to validate.

What is drawn for a picture depends on the seed, the epoch and the picture alone, not on how many
processes read, nor on what came before: a run that goes on after a kill sees what it would have.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import Dataset

from naspix.images import read_images
from naspix.models.recipes import Description
from naspix.training.splits import View

SMALLEST_CROP = 0.3  # of a picture's area


@dataclass(frozen=True, eq=False)
class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures at the network's size, `(3, h, w)` in [0, 1], and their classes.

    Args:
        view: The pictures.
        description: The network's size and how it resizes.
        drawn: Seed and epoch of random crops, mirrored or not; None takes every picture as the
            network is asked about it.
    """

    view: View
    description: Description
    drawn: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, index: int) -> tuple[Float32[Tensor, "3 h w"], int]:
        image, label = self.view[index].image, self.view.labels[index]
        if self.drawn is None:
            return self._as_asked(image), label
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(*self.drawn, index))
            return self._augmented(image), label

    def _as_asked(self, image: Float32[Tensor, "3 H W"]) -> Float32[Tensor, "3 h w"]:
        """One picture, as `Classifier.load_images` makes it of a file."""
        pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        return read_images(
            pixels,
            self.description.input_size,
            crop_pct=self.description.crop_pct,
            interpolation=self.description.interpolation,
        )[0]

    def _augmented(self, image: Float32[Tensor, "3 H W"]) -> Float32[Tensor, "3 h w"]:
        from torchvision.transforms import InterpolationMode, v2

        crop = v2.RandomResizedCrop(
            self.description.input_size,
            scale=(SMALLEST_CROP, 1.0),
            interpolation=InterpolationMode(self.description.interpolation),
            antialias=True,
        )
        augmented: Tensor = v2.RandomHorizontalFlip()(crop(image))
        return augmented.clamp(0, 1)


def epoch_batches(
    n: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """The order of an epoch in batches, this process's share of each.

    All processes get equally many pictures: what is left over is left out of this epoch, and so is
    a last batch that is not full, unless it is the only one.

    Args:
        n: How many pictures there are.
        batch_size: Of all processes together.
        seed: Of the order.
        epoch: Each has an order of its own.
        rank: Number of this process.
        world: How many there are.
    """
    batch_size = min(max(batch_size // world, 1) * world, max(n // world, 1) * world)
    order = np.random.default_rng(seed_of(seed, epoch, -1)).permutation(n).tolist()
    starts = range(0, max(n // batch_size, 1) * batch_size, batch_size)
    return [order[start : start + batch_size][rank::world] for start in starts]


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, far apart for near ones."""
    text = "/".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")

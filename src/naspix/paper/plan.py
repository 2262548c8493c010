"""How much of the benchmark is done, and the networks it is done with."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from naspix.errors import InputError
from naspix.models import DEFAULT_MODEL, Classifier, load_model
from naspix.paper.photos import Photo, photos_at
from naspix.paper.records import Case
from naspix.paper.timing import Clock
from naspix.segmentation import NAS


@dataclass(frozen=True, eq=False)
class Plan:
    """On what, how often and with how many threads to measure.

    Attributes:
        sources: Photos: files or arrays ``(H, W, 3)``.
        threads: Threads each library may use.
        sizes: Sides in pixels of the square pictures; where one size will do, the smallest stands
            for the paper's 96, the greatest for 224.
        rounds: How often each fast contender meets each photo.
        n_slow: Number of photos for what takes seconds each.
        n_seeds: Number of seeds where inertia is compared.
        n_processes: How often each command is started.
        clock: Tells seconds.
    """

    sources: Sequence[Path | NDArray[np.uint8]]
    threads: int = 2
    sizes: tuple[int, ...] = (96, 224)
    rounds: int = 3
    n_slow: int = 5
    n_seeds: int = 3
    n_processes: int = 5
    clock: Clock = time.perf_counter

    def __post_init__(self) -> None:
        if not self.sources or not self.sizes:
            raise InputError("a benchmark needs at least one photo and one size")
        if min(self.sizes) < 32:
            raise InputError(f"the size {min(self.sizes)} is too small; give at least 32 pixels")
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}; at least one is needed")

    def quick(self) -> "Plan":
        """The same with so little of everything that figures are only an impression."""
        return replace(self, sources=self.sources[:4], rounds=1, n_slow=1, n_seeds=1, n_processes=3)

    def photos(self, size: int) -> list[Photo]:
        """The photos at a size."""
        return photos_at(self.sources, size)


@dataclass(frozen=True)
class Network:
    """A network and what of it is clustered.

    Attributes:
        name: As `load_model` knows it.
        trained: Whether it gets its weights, or random ones.
        levels: Paper levels.
        n_clusters: K.
    """

    name: str = "resnet18"
    trained: bool = False
    levels: tuple[int, ...] = (2, 3, 4)
    n_clusters: int = 5

    def load(self) -> Classifier:
        """The classifier; random weights are the same each time."""
        if self.trained:
            return load_model(self.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return load_model(self.name, weights=None)

    def segmenter(self) -> NAS:
        """NAS at its defaults, on these levels."""
        return NAS(self.load(), levels=self.levels, n_clusters=self.n_clusters)

    def case(self, size: int, threads: int, n_photos: int) -> Case:
        """What a record says of a measurement with this network."""
        return Case(self.name, self.levels, self.n_clusters, size, threads, n_photos)


RESNET18 = Network()
DEFAULT = Network(DEFAULT_MODEL, trained=True, levels=(3, 4))  # its own default levels

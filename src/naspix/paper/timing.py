"""How run times are measured: contenders taken in turns on the same photos, and what that leaves.

In: callables and what they are called with. Out: what sums their seconds up, medians and quartiles,
and records of plain values. Turns make a slow minute slow them all. Threads are set for every
library that has threads of its own, and set back afterwards. Photos are real ones: without files 25
crops of five photos in scikit-image's wheel, so that nothing is downloaded.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from naspix.errors import InputError
from naspix.models import DEFAULT_MODEL, Classifier, expand_paths, load_model, read_images
from naspix.paper.data import load_network
from naspix.segmentation import NAS

Item = TypeVar("Item")
Clock = Callable[[], float]
PhotoSource = Path | NDArray[np.uint8]

_CROP = 0.7  # of the shorter side
_MOST_PHOTOS = 24
N_SEGMENTS = 20  # of SLIC


@dataclass(frozen=True)
class Timing:
    """What many calls of one contender took.

    Attributes:
        median_ms: In milliseconds.
        quartiles_ms: The lower and the upper quartile.
        n_calls: How many calls there were.
    """

    median_ms: float
    quartiles_ms: tuple[float, float]
    n_calls: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Sum up the seconds that calls took.

        Example:
            >>> Timing.of([0.001, 0.002, 0.006]).median_ms
            2.0
        """
        lower, median, upper = (1e3 * float(q) for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
        return cls(median, (lower, upper), len(seconds))

    def scaled(self, factor: float) -> "Timing":
        """What it would be if every call took so many times as long."""
        lower, upper = self.quartiles_ms
        return Timing(self.median_ms * factor, (lower * factor, upper * factor), self.n_calls)


def interleaved(
    contenders: Mapping[str, Callable[[Item], object]],
    items: Sequence[Item],
    *,
    rounds: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time contenders on the same items, one item after the other and all contenders on each.

    Each is called once before, untimed. Who begins changes from item to item, so that none always
    works in the caches that another has left.

    Args:
        contenders: What is timed, by name.
        items: What each is called with, such as photos.
        rounds: How often all of it is done.
        clock: Tells seconds.

    Example:
        >>> ticks = iter([0, 1, 1, 3])
        >>> once = interleaved({"a": id, "b": id}, ["item"], clock=lambda: next(ticks))
        >>> once["a"].median_ms, once["b"].median_ms
        (1000.0, 2000.0)
    """
    names = list(contenders)
    for name in names:
        contenders[name](items[0])
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn, item in enumerate(item for _ in range(rounds) for item in items):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = clock()
            contenders[name](item)
            seconds[name].append(clock() - start)
    return {name: Timing.of(of_one) for name, of_one in seconds.items()}


@contextmanager
def limited_threads(n_threads: int) -> Iterator[None]:
    """Let torch, OpenCV, BLAS and OpenMP use so many threads, and as many as before afterwards."""
    import cv2
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch_before, opencv_before = torch.get_num_threads(), cv2.getNumThreads()
    with threadpool_limits(n_threads):
        try:
            torch.set_num_threads(n_threads)
            cv2.setNumThreads(n_threads)
            yield
        finally:
            torch.set_num_threads(torch_before)
            cv2.setNumThreads(opencv_before)


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo at one size, in the forms that the contenders take.

    Attributes:
        batch: ``(1, 3, H, W)`` in [0, 1], for networks.
        pixels: ``(H, W, 3)`` in [0, 1], for scikit-image.
        lab: ``(H, W, 3)`` in OpenCV's 8-bit CIELAB, for its SLIC.
    """

    batch: Float[Tensor, "1 3 H W"]
    pixels: Float64[np.ndarray, "H W 3"]
    lab: UInt8[np.ndarray, "H W 3"]


def photos_at(sources: Iterable[PhotoSource], size: int) -> list[Photo]:
    """Read photos, cropped to the middle square and resized.

    Args:
        sources: Files, or arrays ``(H, W, 3)``.
        size: Side in pixels.

    Example:
        >>> photos_at([np.zeros((50, 40, 3), np.uint8)], 32)[0].pixels.shape
        (32, 32, 3)
    """
    import cv2

    photos = []
    for source in sources:
        batch = read_images(source, (size, size), interpolation="bicubic")
        pixels = np.rint(batch[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        lab = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB), dtype=np.uint8)
        photos.append(Photo(batch, pixels / 255.0, lab))
    return photos


def find_photos(folder: Path | None) -> list[PhotoSource]:
    """The photos of a folder, 24 spread over it where there are more; without one, the usual crops.

    Raises:
        InputError: If there is no image in the folder.
    """
    if folder is None:
        return list(usual_photos())
    return spread(expand_paths([folder]), _MOST_PHOTOS)


def usual_photos() -> list[NDArray[np.uint8]]:
    """25 square crops, the four corners and the middle of five photos of everyday things."""
    from skimage import data

    whole = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    motorcycle, *_ = data.stereo_motorcycle()
    crops = []
    for photo in (*whole, motorcycle):
        side = int(_CROP * min(photo.shape[:2]))
        down, right = photo.shape[0] - side, photo.shape[1] - side
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        crops += [np.ascontiguousarray(photo[y : y + side, x : x + side]) for y, x in corners]
    return crops


def spread(several: Sequence[Item], most: int) -> list[Item]:
    """So many of them at equal distances, or all.

    Example:
        >>> spread("abcdef", 3)
        ['a', 'c', 'e']
    """
    n = min(len(several), most)
    return [several[i * len(several) // n] for i in range(n)]


def stacked(photos: Iterable[Photo]) -> Float[Tensor, "B 3 H W"]:
    """The photos as one batch."""
    return torch.cat([photo.batch for photo in photos])


def slic(photo: Photo) -> NDArray[np.int64]:
    """scikit-image's own SLIC, about 20 superpixels, without this library's checks around it."""
    from skimage.segmentation import slic

    return np.asarray(slic(photo.pixels, n_segments=N_SEGMENTS, start_label=0), dtype=np.int64)


def felzenszwalb(photo: Photo) -> NDArray[np.int64]:
    """scikit-image's own Felzenszwalb at a scale that suits photos."""
    from skimage.segmentation import felzenszwalb

    labels = felzenszwalb(photo.pixels, scale=100, sigma=0.8, min_size=20)
    return np.asarray(labels, dtype=np.int64)


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
        model: In place of the default network, where a trained one is measured.
        weights: Its weights, as for `load_model`.
        clock: Tells seconds.
    """

    sources: Sequence[PhotoSource]
    threads: int = 2
    sizes: tuple[int, ...] = (96, 224)
    rounds: int = 3
    n_slow: int = 5
    n_seeds: int = 3
    n_processes: int = 5
    model: str | None = None
    weights: str = "default"
    clock: Clock = time.perf_counter

    def __post_init__(self) -> None:
        if not self.sources or not self.sizes:
            raise InputError("a benchmark needs at least one photo and one size")
        if min(self.sizes) < 32:
            raise InputError(f"the size {min(self.sizes)} is too small; give at least 32 pixels")
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}; at least one is needed")

    def times(
        self, contenders: Mapping[str, Callable[[Item], object]], items: Sequence[Item]
    ) -> dict[str, Timing]:
        """What contenders take, by turns on the same items, as `interleaved` measures it."""
        with limited_threads(self.threads):
            return interleaved(contenders, items, rounds=self.rounds, clock=self.clock)

    def quick(self) -> "Plan":
        """The same with so little of everything that figures are only an impression."""
        return replace(self, sources=self.sources[:4], rounds=1, n_slow=1, n_seeds=1, n_processes=3)


@dataclass(frozen=True)
class Case:
    """What something was measured on.

    Attributes:
        network: Its name; weights are random but for the default network's.
        levels: Paper levels.
        n_clusters: K.
        size: Side of the square frame in pixels.
        threads: Threads each library was allowed.
        n_photos: How many photos.
    """

    network: str = ""
    levels: tuple[int, ...] = ()
    n_clusters: int | None = None
    size: int | None = None
    threads: int | None = None
    n_photos: int | None = None


@dataclass(frozen=True)
class Network:
    """A network and what of it is clustered how.

    Attributes:
        name: As `load_model` knows it.
        weights: ``"default"``, a file or a folder; None for random ones.
        levels: Paper levels; None for the network's own.
        n_clusters: K.
        algorithm: Of clustering.
    """

    name: str = "resnet18"
    weights: str | None = None
    levels: tuple[int, ...] | None = (2, 3, 4)
    n_clusters: int = 5
    algorithm: Literal["kmeans", "ward"] = "kmeans"

    def load(self) -> Classifier:
        """The classifier; random weights are the same each time."""
        if self.weights is not None:
            return load_network(self.name, self.weights, "cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return load_model(self.name, weights=None)

    def segmenter(self, seed: int = 0) -> NAS:
        """NAS at its defaults but for this."""
        return NAS(
            self.load(),
            levels=self.levels or (),
            n_clusters=self.n_clusters,
            algorithm=self.algorithm,
            seed=seed,
        )

    def case(self, size: int, threads: int, n_photos: int) -> Case:
        """What a record says of a measurement with this network."""
        return Case(self.name, self.levels or (), self.n_clusters, size, threads, n_photos)


RESNET18 = Network()
DEFAULT = Network(DEFAULT_MODEL, "default", levels=(3, 4))  # its own default levels


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of a benchmark.

    Attributes:
        section: The part of the benchmark it belongs to.
        name: What was measured.
        case: On what.
        timing: What it took, if time was measured.
        against: What it was compared with.
        against_timing: What that took.
        figure: What the goal is about: the ratio of the two medians unless given; None where
            nothing could be measured.
        unit: Of the figure; ``"x"`` is a ratio.
        goal: What the figure should be at most; None where it is only reported.
        at_least: Whether the goal is what the figure should be at least.
        note: What else there is to know.
    """

    section: str
    name: str
    case: Case = Case()
    timing: Timing | None = None
    against: str = ""
    against_timing: Timing | None = None
    figure: float | None = None
    unit: str = "x"
    goal: float | None = None
    at_least: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.figure is None:
            object.__setattr__(self, "figure", self.ratio)

    def of(self, times: Mapping[str, Timing], name: str, rival: str) -> "Record":
        """The same with two of the times that were taken, one against the other."""
        return replace(self, timing=times[name], against=rival, against_timing=times[rival])

    @property
    def ratio(self) -> float | None:
        """The median time as a multiple of what it was compared with."""
        if self.timing is None or self.against_timing is None:
            return None
        return self.timing.median_ms / self.against_timing.median_ms

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is no goal or no figure."""
        if self.goal is None or self.figure is None:
            return None
        return self.figure >= self.goal if self.at_least else self.figure <= self.goal

    def to_dict(self) -> dict[str, object]:
        """The record as plain values without nesting, for JSON and tables."""
        timing, rival = self.timing, self.against_timing
        return {
            "section": self.section,
            "name": self.name,
            **asdict(self.case),
            "median_ms": timing and timing.median_ms,
            "quartiles_ms": timing and timing.quartiles_ms,
            "n_calls": timing and timing.n_calls,
            "against": self.against,
            "against_median_ms": rival and rival.median_ms,
            "against_quartiles_ms": rival and rival.quartiles_ms,
            "ratio": self.ratio,
            "figure": self.figure,
            "unit": self.unit,
            "goal": self.goal,
            "goal_is_at_least": None if self.goal is None else self.at_least,
            "met": self.met,
            "note": self.note,
        }

"""Everything that is asked of a batch of images, computed once for all settings.

One forward gives logits and the activations of every NAS setting; each method is asked once, each
segmenter once, and the maps pooled over superpixels are made of these.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.metrics import random_segmentation
from naspix.models import Classifier
from naspix.models.activations import recording
from naspix.segmentation import NAS, Segmentation
from naspix.superpixelify import superpixelify

Method = Callable[[Tensor, int | Tensor | None], Tensor]
Segmenter = Callable[[Tensor], Segmentation]

RAW = "none"  # the segmenter of a map as it is
_MANY_IMAGES = 2**31


@final
@dataclass(frozen=True)
class RandomRegions:
    """The control: random connected regions as many and as large as another segmenter's.

    Attributes:
        of: The other segmenter's name.
        seed: Of the regions.
    """

    of: str = "nas"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as the network sees it, with what is known about it.

    Attributes:
        index: Its place in the data set.
        id: Its name there.
        image: ``(C, H, W)`` in [0, 1].
        label: Its class in the model's numbers, None if not known.
        boxes: ``(n, 4)`` whole pixels of the image, as ``naspix.metrics.scale_boxes`` makes them.
        inside: ``(H, W)``, what lies in a box or mask, None where there is none.
    """

    index: int
    id: str
    image: Float[Tensor, "C H W"]
    label: int | None
    boxes: Int64[Tensor, "n 4"]
    inside: Bool[Tensor, "H W"] | None = None


@dataclass(frozen=True, eq=False)
class ExplainedBatch:
    """Images, what the network says, and how it is explained.

    Attributes:
        pictures: One an image.
        images: ``(B, C, H, W)`` in [0, 1].
        predicted: ``(B,)``.
        target: ``(B,)``, the classes that are explained.
        raw: Method -> ``(B, H, W)``.
        superpixels: Segmenter -> ``(B, H, W)``.
        activations: Level's module -> ``(B, C, h, w)``.
    """

    pictures: Sequence[Picture]
    images: Float[Tensor, "B C H W"]
    predicted: Int64[Tensor, " B"]
    target: Int64[Tensor, " B"]
    raw: Mapping[str, Float[Tensor, "B H W"]]
    superpixels: Mapping[str, Int64[Tensor, "B H W"]]
    activations: Mapping[str, Tensor]

    def maps(
        self, *, blank: bool = False
    ) -> Iterator[tuple[str, str, Float[Tensor, "B H W"], Tensor | None]]:
        """Method, segmenter, saliency and superpixels of each setting, raw maps first.

        Args:
            blank: Whether maps that are not finite become zero everywhere, as wsolevaluation has
                them; otherwise they are refused when they are pooled.
        """
        for method, found in self.raw.items():
            heat = _blanked(found) if blank else found
            yield method, RAW, heat, None
            for segmenter, superpixels in self.superpixels.items():
                yield method, segmenter, superpixelify(heat, superpixels), superpixels


@dataclass(frozen=True)
class Explainer:
    """Explains batches.

    Attributes:
        model: The classifier.
        methods: Name -> saliency method.
        segmenters: Name -> segmenter; those of ``RandomRegions`` after the one they imitate.
        target: ``"predicted"``, ``"label"``, or a class for all.
        levels: Names of modules whose activations are wanted besides NAS's.
        stopwatch: Measures the steps.
    """

    model: Classifier
    methods: Mapping[str, Method]
    segmenters: Mapping[str, Segmenter | RandomRegions]
    target: str | int = "predicted"
    levels: tuple[str, ...] = ()
    stopwatch: "Stopwatch" = field(default_factory=lambda: Stopwatch(), compare=False)

    def __call__(self, pictures: Sequence[Picture]) -> ExplainedBatch:
        """Explain pictures of one size.

        Raises:
            NaspixError: One of them cannot be explained.
        """
        images = torch.stack([picture.image for picture in pictures]).to(self.model.device)
        with self.stopwatch("forward"):
            logits, activations = self._forward(images)
        target = self._targets(pictures, images, logits)
        superpixels: dict[str, Tensor] = {}
        for name, segmenter in self.segmenters.items():
            with self.stopwatch(f"segmenter {name}"):
                superpixels[name] = self._superpixels(
                    segmenter, pictures, images, activations, superpixels
                )
        raw = {}
        for name, method in self.methods.items():
            with self.stopwatch(f"method {name}"):
                raw[name] = _checked(name, method(images, target), images)
        return ExplainedBatch(
            pictures=pictures,
            images=images,
            predicted=logits.argmax(1),
            target=target,
            raw=raw,
            superpixels=superpixels,
            activations=activations,
        )

    def only(self, methods: Collection[str]) -> "Explainer":
        """The same with some of its methods."""
        kept = {name: method for name, method in self.methods.items() if name in methods}
        return replace(self, methods=kept)

    def _forward(self, images: Float[Tensor, "B C H W"]) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and the activations of all levels that anything wants, in one pass."""
        wanted = [*self.levels] + [
            name
            for segmenter in self.segmenters.values()
            if isinstance(segmenter, NAS)
            for name in self.model.level_names(segmenter.levels)
        ]
        with torch.no_grad():
            if not wanted:
                return self.model(images), {}
            with recording(self.model.network, wanted, detach=True) as maps:
                logits = self.model(images)
        return logits, maps

    def _superpixels(
        self,
        segmenter: Segmenter | RandomRegions,
        pictures: Sequence[Picture],
        images: Float[Tensor, "B C H W"],
        activations: Mapping[str, Tensor],
        before: Mapping[str, Tensor],
    ) -> Int64[Tensor, "B H W"]:
        if isinstance(segmenter, RandomRegions):
            return _random_each(before[segmenter.of], segmenter.seed, pictures)
        if isinstance(segmenter, NAS):
            maps = [activations[name] for name in self.model.level_names(segmenter.levels)]
            frame = segmenter.size or (images.shape[2], images.shape[3])
            return segmenter.segment(maps, frame).superpixels
        return segmenter(images).superpixels

    def _targets(
        self, pictures: Sequence[Picture], images: Float[Tensor, "B C H W"], logits: Tensor
    ) -> Int64[Tensor, " B"]:
        if self.target == "predicted":
            return self.model.resolve_target(images, None, logits)
        if self.target != "label":
            return self.model.resolve_target(images, int(self.target), logits)
        labels = [picture.label for picture in pictures if picture.label is not None]
        if len(labels) < len(pictures):
            unlabeled = next(picture.id for picture in pictures if picture.label is None)
            raise InputError(f"{unlabeled} has no label to be the target; take --target predicted")
        return self.model.resolve_target(images, torch.tensor(labels), logits)


class Stopwatch:
    """Adds up the seconds that named steps take."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Measure what is done inside the ``with`` block."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(step, time.perf_counter() - begin)

    def add(self, step: str, seconds: float) -> None:
        """Count what was measured elsewhere, as in another thread."""
        self._seconds[step] += seconds

    def reset(self) -> dict[str, float]:
        """The seconds since the last reset, by step."""
        seconds, self._seconds = dict(self._seconds), defaultdict(float)
        return seconds


def _random_each(
    superpixels: Int64[Tensor, "B H W"], seed: int, pictures: Sequence[Picture]
) -> Int64[Tensor, "B H W"]:
    """Random regions by an image's place in the data set, whatever that in the batch."""
    regions = [
        random_segmentation(labels[None], seed * _MANY_IMAGES + picture.index)
        for labels, picture in zip(superpixels, pictures, strict=True)
    ]
    return torch.cat(regions)


def _blanked(heat: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    finite = heat.isfinite().flatten(1).all(1)[:, None, None]
    return torch.where(finite, heat, torch.zeros_like(heat))


def _checked(name: str, heat: object, images: Float[Tensor, "B C H W"]) -> Tensor:
    expected = (len(images), *images.shape[-2:])
    if not isinstance(heat, Tensor) or tuple(heat.shape) != expected:
        shape = tuple(heat.shape) if isinstance(heat, Tensor) else type(heat).__name__
        raise InputError(f"saliency method {name!r} returned {shape} instead of {expected}")
    return heat.detach()

"""What is asked of many photos: one frozen dataclass, from the command line to the record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch

from naspix import registry
from naspix.errors import InputError
from naspix.models import Classifier, ModelSettings
from naspix.segmentation import NAS

Format = Literal["png", "npz", "coco", "masks", "svg", "pdf"]


@final
@dataclass(frozen=True, kw_only=True)
class PhotoSettings(ModelSettings):
    """What is asked of photos, as plain values: of which network, as in `ModelSettings`, and what.

    Attributes:
        methods: Names of saliency methods; none where photos are only cut.
        segmenters: Names of segmenters.
        parameters: Name of a method or segmenter -> parameter -> value.
        target: A class's number or name, or several, each of which is explained; the predicted one
            if None.
        contrast: A class that the target is held against: why the one and not the other.
        tiles: Whether photos are covered whole by tiles at their own scale, 64 at most, or so many.
        threshold: From which probability on a class is listed, where an image may have several.
        quick: Fewer masks, samples and steps in the methods that take long.
        greedy: Also search the order in which superpixels can be hidden at the least cost.
        sets: Also search the few superpixels that suffice for the class, and those that it needs.
        resize: ``"model"`` (as the network wants photos), ``"crop"``, ``"squash"``, ``"pad"`` or
            ``"none"``.
        max_pixels: Larger photos are refused.
        exif: Whether photos are turned upright as their EXIF says.
        batch_size: Photos that pass the network together, and are kept at once.
        file_format: Of what `segment_photos` writes of each photo; ``"coco"`` is one file for all.
            `explain_photos` adds a figure of each photo for ``"svg"`` and ``"pdf"``.
    """

    methods: tuple[str, ...] = ("grad_cam_plus_plus",)
    segmenters: tuple[str, ...] = ("nas",)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    target: str | tuple[str, ...] | None = None
    contrast: str | None = None
    tiles: bool | int = False
    threshold: float = 0.5
    quick: bool = False
    greedy: bool = False
    sets: bool = False
    resize: Literal["model", "crop", "squash", "pad", "none"] = "model"
    max_pixels: int = 100_000_000
    exif: bool = True
    batch_size: int = 8
    file_format: Format = "png"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"--batch-size is at least 1, not {self.batch_size}")
        for name in self.methods:
            registry.find_method(name)
        for name in self.segmenters:
            registry.find_segmenter(name)

    def make_methods(self, model: Classifier) -> dict[str, Any]:
        """Name -> saliency method."""
        kinds = {name: registry.find_method(name) for name in self.methods}
        return {
            name: kind(
                model, **{**(kind.quick if self.quick else {}), **self.parameters.get(name, {})}
            )
            for name, kind in kinds.items()
        }

    def make_segmenters(self, model: Classifier) -> dict[str, Any]:
        """Name -> segmenter.

        Raises:
            ActivationError: A level has no spatial map; said here once, not of every photo.
        """
        made: dict[str, Any] = {}
        for name in self.segmenters:
            kind, values = registry.find_segmenter(name), self.parameters.get(name, {})
            made[name] = NAS(model, **values) if kind is NAS else kind(**values)
            if kind is NAS and values.get("levels"):
                blank = torch.full((1, model.in_channels, *model.input_size), 0.5)
                model.activations(blank, values["levels"])
        return made

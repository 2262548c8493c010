"""What an explanation holds: photos, what the network says of them, and by which regions.

It knows rankings, figures, a page, a folder of results, and how far the methods agree; nothing is
computed by a network here.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix import registry
from naspix.errors import InputError, OutputError, UnknownNameError
from naspix.files import write_whole, written
from naspix.metrics import DecidingSets, RegionSet
from naspix.report import (
    Agreement,
    PhotoExplanation,
    Prediction,
    ResultsFolder,
    RunRecord,
    agreement,
    page,
    photo_figure,
)
from naspix.runs import is_run
from naspix.segmentation import Segmentation
from naspix.superpixelify import RankedSuperpixel, rank_superpixels
from naspix.tiling import Tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN_IN_NOTEBOOK = 4


@dataclass(frozen=True, eq=False)
class Explanation:
    """Photos, what the network says of them, and which regions it says so by.

    Attributes:
        images: ``(B, C, H, W)`` in [0, 1].
        names: One for each image, no two alike.
        sources: Where each image came from.
        predictions: The likeliest classes of each image, likeliest first; where an image may have
            several classes at once, all above the threshold, and at least the likeliest.
        target: ``(B,)``, the class explained for each image; ``(B, 2)`` for contrasts.
        target_predictions: The same with names and probabilities.
        segmentations: Segmenter's name -> its segmentation of the images.
        raw: Method's name -> saliency maps ``(B, H, W)``.
        pooled: ``(method, segmenter)`` -> maps constant on superpixels.
        hidden_first: Segmenter's name -> for each image its superpixels in the order in which the
            greedy search hides them, the first hidden first; empty unless asked for.
        deciding: ``(method, segmenter)`` -> for each image the superpixels that suffice and those
            that are needed; empty unless asked for. `sufficient` and `necessary` tell them.
        settings: What made them: model, methods, segmenters.
        seed: That of everything random.
        shown: Which channels of the images pictures show; the first three by default.
        fittings: What of each photo its image shows, in words; empty for images given as tensors.
        tiles: Each image's tiles, and what the network says of each, where it was asked by tiles;
            ``predictions`` then go by the mean of their scores.
    """

    images: Float[Tensor, "B C H W"]
    names: tuple[str, ...]
    sources: tuple[str, ...]
    predictions: tuple[tuple[Prediction, ...], ...]
    target: Int64[Tensor, "B ..."]
    target_predictions: tuple[Prediction, ...]
    segmentations: Mapping[str, Segmentation]
    raw: Mapping[str, Float[Tensor, "B H W"]]
    pooled: Mapping[tuple[str, str], Float[Tensor, "B H W"]]
    hidden_first: Mapping[str, tuple[Int64[Tensor, " _"], ...]] = field(default_factory=dict)
    deciding: Mapping[tuple[str, str], tuple[DecidingSets, ...]] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    shown: tuple[int, ...] | None = None
    fittings: tuple[str, ...] = ()
    tiles: tuple[tuple[Tile, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        methods, segmenters = ", ".join(self.raw), ", ".join(self.segmentations)
        thing = "image" if len(self) == 1 else "images"
        return f"Explanation({len(self)} {thing}, methods: {methods}, segmenters: {segmenters})"

    def ranking(
        self, index: int = 0, *, method: str | None = None, segmenter: str | None = None
    ) -> list[RankedSuperpixel]:
        """Return the superpixels of one image, the most salient first.

        Args:
            index: Which image.
            method: Whose saliency; the first method's by default.
            segmenter: Whose superpixels; the first segmenter's by default.
        """
        pair = self._pair(method, segmenter)
        superpixels = self.segmentations[pair[1]].superpixels
        return rank_superpixels(self.pooled[pair][index], superpixels[index])

    def sufficient(
        self, index: int = 0, *, method: str | None = None, segmenter: str | None = None
    ) -> RegionSet | None:
        """The few superpixels that keep the class of one image while all else is hidden.

        Args:
            index: Which image.
            method: By whose saliency they were searched; the first method's by default.
            segmenter: Whose superpixels; the first segmenter's by default.

        Returns:
            The smallest set found, or None where the image as it is does not have the class. What
            is hidden shows the mean colour, as for `naspix.metrics.lerf`.

        Raises:
            InputError: They were not asked for, by ``naspix.explain(..., sets=True)``.

        Example:
            >>> import naspix
            >>> model = naspix.load_model("efficientnet_lite0")
            >>> explanation = naspix.explain(model, torch.rand(1, 3, 64, 64), sets=True)
            >>> explanation.sufficient().share <= 1
            True
        """
        return self._deciding(index, method, segmenter).sufficient

    def necessary(
        self, index: int = 0, *, method: str | None = None, segmenter: str | None = None
    ) -> RegionSet | None:
        """The few superpixels of one image that change its class when they are hidden.

        Arguments and errors are those of `sufficient`.

        Returns:
            The smallest set found, or None where hiding everything changes nothing, or the image as
            it is does not have the class.
        """
        return self._deciding(index, method, segmenter).necessary

    def _deciding(self, index: int, method: str | None, segmenter: str | None) -> DecidingSets:
        pair = self._pair(method, segmenter)
        if not self.deciding:
            raise InputError(
                "what suffices and what is needed was not searched; ask for it by "
                "naspix.explain(..., sets=True)"
            )
        return self.deciding[pair][index]

    def _pair(self, method: str | None, segmenter: str | None) -> tuple[str, str]:
        return (
            _first_or(method, self.raw, "saliency method"),
            _first_or(segmenter, self.segmentations, "segmenter"),
        )

    def photos(self) -> Iterator[PhotoExplanation]:
        """Yield what is shown of each image, as numpy arrays."""
        for index in range(len(self)):
            yield self._photo(index)

    def agreement(self) -> Agreement:
        """Say how far the methods agree over superpixels, and what pooling keeps of each map.

        Spearman's correlation of the superpixels' mean saliency for every two methods, and the
        share of each map's variance that is left once it is pooled; a table a segmenter, averaged
        over the images.

        Example:
            >>> import naspix
            >>> model = naspix.load_model("efficientnet_lite0")
            >>> methods = ["grad_cam", "vanilla_gradient"]
            >>> explanation = naspix.explain(model, torch.rand(1, 3, 64, 64), method=methods)
            >>> explanation.agreement()
            over NAS: rank correlation of the superpixels, variance kept
                               1      2   kept
             1  Grad-CAM    1.00   ...
             2  Gradient     ...
        """
        superpixels = {name: seg.superpixels for name, seg in self.segmentations.items()}
        return agreement(self.raw, superpixels).titled(self._titles)

    def plot(self, index: int = 0, *, scale: Literal["unit", "own"] = "unit") -> "Figure":
        """Draw one image's maps as the paper's figure 5: rows of segmenters, columns of methods.

        Where the greedy order was asked for, it is the last column: blue hidden first, red last.

        Args:
            index: Which image.
            scale: ``"unit"`` brings every map to 0 to 1, on one scale of colours; ``"own"`` leaves
                maps that may be negative zero in the middle of a scale of two colours.
        """
        return photo_figure(self._photo(index), scale)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write pictures, ``report.html`` and ``results.json`` into a folder, or the page alone.

        Args:
            folder: Made if it is not there. Files of the same names are replaced. A name that ends
                in ``.html`` is that of the page, which is all that is written then.

        Raises:
            OutputError: something cannot be written, or the folder holds a run of a command's.
        """
        path = Path(folder)
        if path.suffix.lower() in (".html", ".htm"):
            with written(path), write_whole(path) as file:
                file.write(self.to_html().encode())
            return
        if is_run(folder):
            raise OutputError(
                f"{os.fspath(folder)!r} holds a run of naspix, whose page and record these would "
                "overwrite; save into another folder"
            )
        with ResultsFolder(folder, self.run) as results:
            for photo in self.photos():
                results.add(photo)

    def to_html(self) -> str:
        """Return the report: one page that needs nothing from elsewhere."""
        return page(self.photos(), self.run)

    @cached_property
    def run(self) -> RunRecord:
        """What made the results, with versions and date."""
        return RunRecord(settings=dict(self.settings), seed=self.seed)

    def _repr_html_(self) -> str:
        shown = range(min(len(self), _SHOWN_IN_NOTEBOOK))
        figures = "".join(f"<div>{_figure_html(self.plot(index))}</div>" for index in shown)
        more = len(self) - len(shown)
        return figures + (f"<p>and {more} more</p>" if more else "")

    def _photo(self, index: int) -> PhotoExplanation:
        image = self.images[index]
        return PhotoExplanation(
            name=self.names[index],
            source=self.sources[index],
            image=_array((image if self.shown is None else image[[*self.shown]]).permute(1, 2, 0)),
            predictions=self.predictions[index],
            target=self.target_predictions[index],
            segmentations={
                name: (_array(seg.clusters[index]), _array(seg.superpixels[index]))
                for name, seg in self.segmentations.items()
            },
            raw={name: _array(heat[index]) for name, heat in self.raw.items()},
            pooled={pair: _array(heat[index]) for pair, heat in self.pooled.items()},
            ranking={
                (method, segmenter): self.ranking(index, method=method, segmenter=segmenter)
                for method, segmenter in self.pooled
            },
            orders={
                name: _array(_steps(orders[index], self.segmentations[name].superpixels[index]))
                for name, orders in self.hidden_first.items()
            },
            deciding={pair: several[index] for pair, several in self.deciding.items()},
            titles=self._titles,
            fitting=self.fittings[index] if self.fittings else "",
            tiles=[asdict(tile) for tile in self.tiles[index]] if self.tiles else (),
        )

    @property
    def _titles(self) -> dict[str, str]:
        return {name: _title(name) for name in (*self.raw, *self.segmentations)}


def _first_or(name: str | None, known: Mapping[str, object], kind: str) -> str:
    if name is None:
        return next(iter(known))
    if name not in known:
        raise UnknownNameError.among(kind, name, known)
    return name


def _title(name: str) -> str:
    """How people write it; of two of a kind, the second is numbered."""
    base, _, number = name.rpartition("_")
    known = {*registry.SALIENCY, *registry.SEGMENTERS}
    if name not in known and number.isdigit() and base in known:
        return f"{registry.title_of(base)} {number}"
    return registry.title_of(name)


def _steps(hidden_first: Int64[Tensor, " n"], labels: Int64[Tensor, "H W"]) -> Int64[Tensor, "H W"]:
    """At each pixel the step at which its superpixel is hidden."""
    hidden_first = hidden_first.to(labels.device)
    steps = torch.zeros(int(labels.max()) + 1, dtype=torch.int64, device=labels.device)
    steps[hidden_first] = torch.arange(len(hidden_first), device=labels.device)
    return steps[labels]


def _array(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def _figure_html(figure: "Figure") -> str:
    html = figure._repr_html_()
    return "" if html is None else html

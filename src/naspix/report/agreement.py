"""How far saliency methods agree over superpixels, and how much of a map survives the pooling.

The numbers are ``metrics.saliency_agreement`` (Spearman's correlation of the superpixels' means)
and ``variance_kept``; here is the table that shows them, as text for a terminal and as HTML for
notebooks and the report. Methods that agree make no map right, but where they do not, no single map
should be believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from naspix.errors import UnknownNameError
from naspix.metrics import saliency_agreement
from naspix.report.pages import render
from naspix.superpixelify import variance_kept

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Agreement:
    """Rank correlations between methods and the variance that pooling keeps, for each image.

    Attributes:
        methods: How people write their names.
        segmenters: The same.
        rank_correlation: Spearman's correlation between the methods' means over superpixels, from
            -1 to 1, for each image and segmenter; NaN for a method that ranks nothing.
        variance_kept: Share of a map's variance that is left when each pixel has the mean of its
            superpixel, 0 to 1; NaN for a constant map.
    """

    methods: tuple[str, ...]
    segmenters: tuple[str, ...]
    rank_correlation: Float[np.ndarray, "B S M M"]
    variance_kept: Float[np.ndarray, "B S M"]

    def __len__(self) -> int:
        return len(self.variance_kept)

    @property
    def mean_rank_correlation(self) -> Float[np.ndarray, "S M M"]:
        """Mean over the images that have a value; NaN where none has."""
        return _mean(self.rank_correlation)

    @property
    def mean_variance_kept(self) -> Float[np.ndarray, "S M"]:
        """Mean over the images that have a value; NaN where none has."""
        return _mean(self.variance_kept)

    @classmethod
    def joined(cls, parts: "Sequence[Self]") -> "Self":
        """One table over the images of several, of the same methods and segmenters."""
        return cls(
            parts[0].methods,
            parts[0].segmenters,
            np.concatenate([part.rank_correlation for part in parts]),
            np.concatenate([part.variance_kept for part in parts]),
        )

    def plot(self, segmenter: str | None = None, ax: "Axes | None" = None) -> "Axes":
        """Draw the mean rank correlation of every two methods.

        Args:
            segmenter: Over whose superpixels, as it is called here; the first by default.
            ax: Where to draw; on a figure of its own by default.
        """
        from naspix import plots

        name = self.segmenters[0] if segmenter is None else segmenter
        if name not in self.segmenters:
            raise UnknownNameError.among("segmenter", name, self.segmenters)
        values = self.mean_rank_correlation[self.segmenters.index(name)]
        return plots.draw_matrix(values, self.methods, ax, title=f"rank correlation over {name}")

    def titled(self, titles: Mapping[str, str]) -> "Self":
        """The same table under other names.

        Args:
            titles: Name -> how people write it; names that are not there stay.
        """
        return replace(
            self,
            methods=tuple(titles.get(name, name) for name in self.methods),
            segmenters=tuple(titles.get(name, name) for name in self.segmenters),
        )

    def __repr__(self) -> str:
        return "\n\n".join(self._text(place) for place in range(len(self.segmenters)))

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Tables for a page: methods are numbered, so that many fit beside each other."""
        return render("agreement.html.j2", table=self.to_plain())

    def to_plain(self) -> dict[str, Any]:
        """What a page shows: a table a segmenter, with texts and colours of the cells."""
        return {
            "methods": self.methods,
            "averaged": self._averaged,
            "tables": [
                {
                    "segmenter": name,
                    "rows": [
                        {
                            "method": method,
                            "cells": [
                                {"text": _number(value), "colour": _colour(value)} for value in row
                            ],
                            "kept": _share(kept),
                        }
                        for _, method, row, kept in self._rows(place)
                    ],
                }
                for place, name in enumerate(self.segmenters)
            ],
        }

    def _text(self, place: int) -> str:
        width = max(len(name) for name in self.methods) + 4
        numbers = range(1, len(self.methods) + 1)
        lines = [
            f"over {self.segmenters[place]}: rank correlation of the superpixels, "
            f"variance kept{self._averaged}",
            " " * width + "".join(f"{number:>7}" for number in numbers) + "   kept",
        ]
        for number, name, row, kept in self._rows(place):
            values = "".join(f"{_number(value):>7}" for value in row)
            lines.append(f"{number:>2}  {name:<{width - 4}}{values}{_share(kept):>7}")
        return "\n".join(lines)

    def _rows(self, place: int) -> list[tuple[int, str, list[float], float]]:
        correlations = self.mean_rank_correlation[place].tolist()
        kept = self.mean_variance_kept[place].tolist()
        numbers = range(1, len(self.methods) + 1)
        return list(zip(numbers, self.methods, correlations, kept, strict=True))

    @property
    def _averaged(self) -> str:
        return "" if len(self) == 1 else f", mean of {len(self)} images"


def agreement(
    raw: Mapping[str, Float[Tensor, "B H W"]], superpixels: Mapping[str, Int[Tensor, "B H W"]]
) -> Agreement:
    """Compare saliency methods over the superpixels of each segmenter.

    Args:
        raw: Method's name -> its maps.
        superpixels: Segmenter's name -> its superpixels.

    Example:
        >>> up = torch.tensor([[[1.0, 2.0, 4.0]]])
        >>> agreement({"up": up, "down": -up}, {"pairs": torch.tensor([[[0, 0, 1]]])})
        over pairs: rank correlation of the superpixels, variance kept
                      1      2   kept
         1  up     1.00  -1.00    89%
         2  down  -1.00   1.00    89%
    """
    maps = torch.stack([heat.detach().float().cpu() for heat in raw.values()], dim=1)
    labels = [one.cpu() for one in superpixels.values()]
    return Agreement(
        tuple(raw),
        tuple(superpixels),
        torch.stack([saliency_agreement(maps, one) for one in labels], dim=1).numpy(),
        torch.stack([variance_kept(maps, one) for one in labels], dim=1).numpy(),
    )


def _mean(values: Float[np.ndarray, " B *S"]) -> Float[np.ndarray, " *S"]:
    there = np.isfinite(values)
    counts = there.sum(0)
    sums = np.where(there, values, 0).sum(0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:z.2f}"


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.0%}"


def _colour(value: float) -> str:
    """Blue for agreement, orange for the opposite order, light enough for text of either scheme."""
    if np.isnan(value):
        return "transparent"
    hue = "0,114,178" if value >= 0 else "213,94,0"
    return f"rgba({hue},{0.55 * abs(value):.2f})"

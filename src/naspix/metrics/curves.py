"""What perturbation leaves: a curve for each image, and their mean with a confidence band.

Plain tensors, all on the CPU in float64. Curves of images that took fewer steps than others are
padded with their last point, which adds no area. Nothing here asks a model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from naspix.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Ends closer than this share of the larger one are the same score, but for rounding.
SAME_ENDS = 1e-5
_FEW = 20  # curves that are drawn one by one


@dataclass(frozen=True, eq=False)
class PerturbationCurves:
    """How a class's score changes while an image is hidden (or shown) step by step.

    Attributes:
        fraction: ``(B, points)``, the share of the pixels hidden so far, 0 to 1; of `insertion`,
            the share shown so far.
        score: ``(B, points)``. Where the metric scales its curves, 1 where nothing is hidden and 0
            where all is; NaN for an image that is left out.
        auc: ``(B,)``, the area under each curve by the trapezoidal rule; NaN for an image that is
            left out.
        raw: ``(B, points)``, the scores as the model gave them.
        target: ``(B,)``, or ``(B, 2)`` for contrasts, whose score it is.
    """

    fraction: Float[Tensor, "B points"]
    score: Float[Tensor, "B points"]
    auc: Float[Tensor, " B"]
    raw: Float[Tensor, "B points"]
    target: Int64[Tensor, "B ..."]

    @property
    def valid(self) -> Bool[Tensor, " B"]:
        """Which images have a curve: those whose two ends differ, if curves are scaled."""
        return ~self.auc.isnan()

    @property
    def n_left_out(self) -> int:
        """How many images have no curve."""
        return int((~self.valid).sum())

    @property
    def rises(self) -> Bool[Tensor, " B"]:
        """Whose score is higher with everything hidden than with nothing hidden.

        Scaling turns such a curve upside down: its area says how fast the score rises.
        """
        return self.valid & (self.raw[:, -1] > self.raw[:, 0])

    def plot(self, ax: "Axes | None" = None, *, label: str = "mean") -> "Axes":
        """Draw the mean curve with its band, and the images' own curves faintly while they are few.

        Args:
            ax: Where to draw; on a figure of its own by default.
            label: In the legend.

        Raises:
            InputError: No image has a curve.
        """
        ax = self.mean().plot(ax, label=label)
        if 1 < int(self.valid.sum()) <= _FEW:
            for fraction, score in zip(
                self.fraction[self.valid], self.score[self.valid], strict=True
            ):
                ax.plot(fraction, score, color="0.6", linewidth=0.6, zorder=0)
        return ax

    def __repr__(self) -> str:
        n, points = self.fraction.shape
        out = f", {self.n_left_out} left out" if self.n_left_out else ""
        area = float(self.auc[self.valid].mean()) if self.n_left_out < n else math.nan
        images = "image" if n == 1 else "images"
        return f"PerturbationCurves({n} {images}, {points} points, mean area {area:.3f}{out})"

    def mean(self, *, points: int = 101, level: float = 0.95) -> "MeanCurve":
        """Average the curves over the images, with a confidence band at each point.

        Args:
            points: How many fractions, evenly from 0 to 1; curves are linear in between.
            level: Of the band, Student's t at each point by itself.

        Raises:
            InputError: No image has a curve.

        Example:
            >>> ends = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
            >>> curves = curves_of(ends, 3 - ends, torch.zeros(1, dtype=torch.int64), scaled=True)
            >>> curves.mean(points=3).score.tolist()
            [1.0, 0.5, 0.0]
        """
        from scipy.stats import t

        valid = self.valid
        n = int(valid.sum())
        if n == 0:
            raise InputError("there is no curve to average: all images are left out")
        grid = torch.linspace(0, 1, points, dtype=torch.float64)
        scores = _interpolated(grid, self.fraction[valid], self.score[valid])
        areas = self.auc[valid]
        if n == 1:
            reach, auc_reach = torch.full_like(grid, torch.nan), torch.tensor(torch.nan)
        else:
            factor = float(t.ppf((1 + level) / 2, n - 1)) / n**0.5
            reach, auc_reach = scores.std(0) * factor, areas.std() * factor
        mean, auc = scores.mean(0), float(areas.mean())
        return MeanCurve(
            fraction=grid,
            score=mean,
            low=mean - reach,
            high=mean + reach,
            auc=auc,
            auc_interval=(auc - float(auc_reach), auc + float(auc_reach)),
            n_images=n,
        )

    @staticmethod
    def concatenated(parts: "Sequence[PerturbationCurves]") -> "PerturbationCurves":
        """The curves of several batches as those of one.

        Raises:
            InputError: There are none.
        """
        if not parts:
            raise InputError("there are no curves to concatenate")
        points = max(part.fraction.shape[1] for part in parts)
        return PerturbationCurves(
            *(
                torch.cat([_padded(getattr(part, name), points) for part in parts])
                for name in ("fraction", "score", "auc", "raw", "target")
            )
        )


@dataclass(frozen=True, eq=False)
class MeanCurve:
    """The mean of many images' curves.

    Attributes:
        fraction: ``(points,)``, hidden (or shown) so far.
        score: ``(points,)``, mean over the images.
        low: Lower end of the confidence band; NaN for a single image.
        high: Upper end.
        auc: Mean of the images' areas.
        auc_interval: Its confidence interval.
        n_images: How many images have a curve.
    """

    fraction: Float[Tensor, " points"]
    score: Float[Tensor, " points"]
    low: Float[Tensor, " points"]
    high: Float[Tensor, " points"]
    auc: float
    auc_interval: tuple[float, float]
    n_images: int

    def plot(self, ax: "Axes | None" = None, *, label: str = "mean") -> "Axes":
        """Draw the curve with its band.

        Args:
            ax: Where to draw; on a figure of its own by default.
            label: In the legend.
        """
        from naspix import plots

        bands = {label: (self.low.numpy(), self.high.numpy())} if self.n_images > 1 else None
        return plots.draw_curves(
            self.fraction.numpy(), {label: self.score.numpy()}, ax, bands=bands
        )

    def __repr__(self) -> str:
        images = "image" if self.n_images == 1 else "images"
        low, high = self.auc_interval
        told = f" [{low:.3f}, {high:.3f}]" if self.n_images > 1 else ""
        return f"MeanCurve({self.n_images} {images}, area {self.auc:.3f}{told})"


def curves_of(
    fraction: Float[Tensor, "B points"],
    raw: Float[Tensor, "B points"],
    target: Int64[Tensor, "B ..."],
    *,
    scaled: bool,
) -> PerturbationCurves:
    """Scale curves from 1 to 0 if asked for, and take their areas.

    Args:
        fraction: From 0 to 1 in each row.
        raw: Scores; the first and the last of a row are the ends that become 1 and 0.
        target: Whose score it is.
        scaled: Whether curves are scaled; those whose ends agree, up to rounding, are left out.

    Example:
        >>> line = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
        >>> curves_of(line, 8 - 4 * line, torch.zeros(1, dtype=torch.int64), scaled=True).auc
        tensor([0.5000], dtype=torch.float64)
    """
    score = raw
    if scaled:
        first, last = raw[:, :1], raw[:, -1:]
        agree = (first - last).abs() <= SAME_ENDS * torch.maximum(first.abs(), last.abs())
        score = torch.where(agree, torch.nan, (raw - last) / (first - last))
    return PerturbationCurves(fraction, score, torch.trapezoid(score, fraction), raw, target)


def _padded(values: Tensor, points: int) -> Tensor:
    if values.ndim == 1:
        return values
    return torch.cat([values, values[:, -1:].expand(-1, points - values.shape[1])], 1)


def _interpolated(
    grid: Float[Tensor, " points"], x: Float[Tensor, "B steps"], y: Float[Tensor, "B steps"]
) -> Float[Tensor, "B points"]:
    """Each row's polygon at the grid; where a row jumps, the value after the jump."""
    wanted = grid.expand(len(x), -1).contiguous()
    after = torch.searchsorted(x.contiguous(), wanted, right=True).clamp(1, x.shape[1] - 1)
    x0, x1 = x.gather(1, after - 1), x.gather(1, after)
    y0, y1 = y.gather(1, after - 1), y.gather(1, after)
    width = x1 - x0
    share = torch.where(width > 0, (wanted - x0) / width.clamp(min=1e-300), 1.0)
    return torch.lerp(y0, y1, share.clamp(0, 1))

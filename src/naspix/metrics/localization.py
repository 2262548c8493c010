"""Weakly supervised localisation as wsolevaluation scores it (the paper, section 4.3.3, table 3).

Maps (B, H, W) and boxes or masks in the maps' frame in, shares of images localised out. Metrics of
torchmetrics: they sum over batches and over processes. No image and no file is read here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor
from torchmetrics import Metric

from naspix.errors import InputError
from naspix.metrics.boxes import Boxes, checked_boxes, eight_bit
from naspix.metrics.overlaps import THRESHOLDS, checked_maps, overlaps_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class LocalizationCurve:
    """The share of images localised, over the thresholds.

    Attributes:
        threshold: ``(1000,)``, shares of a map's maximum.
        accuracy: ``(n_ious, 1000)``, 0 to 1.
        ious: What counts as localised, for each row.
    """

    threshold: Float[Tensor, " thresholds"]
    accuracy: Float[Tensor, "n_ious thresholds"]
    ious: tuple[float, ...]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the shares over the thresholds, the best of each IoU marked.

        Args:
            ax: Where to draw; on a figure of its own by default.
        """
        from naspix import plots

        threshold, accuracy = self.threshold.cpu().numpy(), self.accuracy.cpu().numpy()
        return plots.draw_accuracy(threshold, accuracy, self.ious, ax)

    def __repr__(self) -> str:
        best = ", ".join(
            f"{float(row.max()):.3f} at IoU {100 * iou:g}"
            for iou, row in zip(self.ious, self.accuracy, strict=True)
        )
        return f"LocalizationCurve(best {best})"


class MaxBoxAccV2(Metric):  # type: ignore[misc, unused-ignore]
    """How many objects a map's boxes find, at the threshold that is best for the whole data set.

    A map is scaled to 8 bits and cut at a thousand thresholds. At each, all contours of what is
    above it, also those of holes, give boxes; the image is localised if one of them overlaps one of
    its true boxes by the wanted IoU. For each IoU the threshold with most images is taken, one for
    all images; the mean over the IoUs is the metric. Only cuts that change something are looked at.

    Constant maps, and maps that are not finite, count as zero everywhere, and ``n_constant`` and
    ``n_not_finite`` say how many there were. Resize maps to 224 x 224 and scale boxes with
    `scale_boxes` to compare with published numbers.

    Args:
        ious: What counts as localised.

    Source:
        Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", 2020, and
        the authors' evaluation code, version 2.

    Example:
        >>> metric = MaxBoxAccV2()
        >>> heat = torch.zeros(1, 32, 32)
        >>> heat[0, 8:16, 8:16] = 1
        >>> metric.update(heat, torch.tensor([[8, 8, 16, 16]]))
        >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
        {'mean': 1.0, 'iou_30': 1.0, 'iou_50': 1.0, 'iou_70': 1.0, \
'threshold_30': 0.0, 'threshold_50': 0.0, 'threshold_70': 0.0}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    _largest_only = False

    hits: Tensor
    n_images: Tensor
    n_constant: Tensor
    n_not_finite: Tensor

    def __init__(self, ious: tuple[float, ...] = (0.3, 0.5, 0.7)) -> None:
        super().__init__()
        if not ious or not all(0 < iou <= 1 for iou in ious):
            raise InputError(f"ious are numbers above 0 and at most 1, not {ious}")
        self.ious = tuple(ious)
        # torchmetrics lets metrics of a collection share one state while their states are alike;
        # one that is named for class and settings keeps those of others apart
        settings = "_".join(f"{iou!r}".replace(".", "_") for iou in self.ious)
        self.add_state(f"of_{type(self).__name__}_{settings}", torch.tensor(0), "sum")
        zeros = torch.zeros(len(ious), len(THRESHOLDS), dtype=torch.int64)
        self.add_state("hits", zeros, dist_reduce_fx="sum")
        for name in ("n_images", "n_constant", "n_not_finite"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, maps: Tensor, boxes: Boxes) -> None:
        """Score more images. A batch with wrong input raises, and leaves what was scored.

        Args:
            maps: ``(B, H, W)`` floating.
            boxes: The true boxes of each image, ``(left, top, right, bottom)`` whole pixels of the
                map: ``(B, 4)``, ``(B, n, 4)``, or a list of ``(n, 4)``.

        Raises:
            InputError: Maps of another shape, an image without a box, a box that is inverted or
                has negative coordinates.
        """
        arrays = checked_maps(maps)
        truths = checked_boxes(boxes, len(arrays))
        hits = np.zeros(self.hits.shape, np.int64)
        for array, truth in zip(arrays, truths, strict=True):
            hits += localized(eight_bit(array), truth, self.ious, largest_only=self._largest_only)
        finite = torch.isfinite(maps).flatten(1).all(1)
        constant = maps.flatten(1).amax(1) == maps.flatten(1).amin(1)
        self.hits += torch.from_numpy(hits).to(self.hits.device)
        self.n_images += len(arrays)
        self.n_not_finite += int((~finite).sum())
        self.n_constant += int((constant & finite).sum())

    def compute(self) -> dict[str, Tensor]:
        """Return the mean, the accuracy for each IoU (``iou_50``), and its ``threshold_50``.

        All from 0 to 1. Of thresholds that are equally good the lowest is named.

        Raises:
            InputError: Nothing was scored.
        """
        curve = self.curve()
        best, places = (
            curve.accuracy.max(1)[0],
            (curve.accuracy == curve.accuracy.amax(1, keepdim=True)).int().argmax(1),
        )
        names = [f"{100 * iou:g}" for iou in self.ious]
        return (
            {"mean": best.mean()}
            | {f"iou_{name}": value for name, value in zip(names, best, strict=True)}
            | {
                f"threshold_{name}": curve.threshold[i]
                for name, i in zip(names, places, strict=True)
            }
        )

    def curve(self) -> LocalizationCurve:
        """Return the accuracy over the thresholds.

        Raises:
            InputError: Nothing was scored.
        """
        if int(self.n_images) == 0:
            raise InputError("no map was scored yet: call update(maps, boxes) first")
        return LocalizationCurve(
            torch.from_numpy(THRESHOLDS.copy()),
            self.hits.cpu() / self.n_images.cpu().double(),
            self.ious,
        )


class MaxBoxAcc(MaxBoxAccV2):
    """Version 1: the box of the largest contour only, at IoU 50.

    Arguments and results are those of `MaxBoxAccV2`.

    Source:
        Choe et al., 2020, section 3.

    Example:
        >>> metric = MaxBoxAcc()
        >>> metric.update(torch.eye(8)[None], torch.tensor([[0, 0, 7, 7]]))
        >>> metric.compute()["iou_50"].item()
        1.0
    """

    _largest_only = True

    def __init__(self, ious: tuple[float, ...] = (0.5,)) -> None:
        super().__init__(ious)


class PxAP(Metric):  # type: ignore[misc, unused-ignore]
    """Pixel average precision: the area under precision over recall of all pixels of all images.

    Args:
        None.

    Source:
        Choe et al., 2020, section 3, and the authors' code: a pixel counts as found at a threshold
        if its value, scaled min-max within its map, is at least that; a thousand thresholds.

    Example:
        >>> metric = PxAP()
        >>> metric.update(torch.tensor([[[0.9, 0.1, 0.2]]]), torch.tensor([[[1, 0, 0]]]))
        >>> round(metric.compute().item(), 3)
        1.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    inside: Tensor
    outside: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("inside", "outside"):
            zeros = torch.zeros(len(THRESHOLDS) + 2, dtype=torch.int64)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Score more images.

        Args:
            maps: ``(B, H, W)`` floating; constant ones and those not finite count as zero.
            masks: ``(B, H, W)`` integers or bool: 1 on the object, 0 off it, 255 not looked at.

        Raises:
            InputError: Shapes that do not fit, or other numbers in the masks.
        """
        arrays = checked_maps(maps)
        truths = masks.detach().cpu().numpy().astype(np.int64)
        if truths.shape != arrays.shape:
            raise InputError(f"maps are of shape {arrays.shape} but masks of {truths.shape}")
        if not np.isin(truths, (0, 1, 255)).all():
            raise InputError("masks hold other numbers than 0, 1 and 255 (not looked at)")
        edges = np.append(THRESHOLDS, [1.0, 2.0, 3.0])
        values = np.stack([_scaled(array) for array in arrays])
        for state, wanted in ((self.inside, 1), (self.outside, 0)):
            counts, _ = np.histogram(values[truths == wanted], edges)
            state += torch.from_numpy(counts).to(state)

    def compute(self) -> Tensor:
        """Return the average precision, 0 to 1.

        Raises:
            InputError: No pixel of any object was scored.
        """
        if int(self.inside.sum()) == 0:
            raise InputError(
                "no pixel of an object was scored: masks are empty, or update not called"
            )
        found, wrong = (
            state.cpu().double().flip(0).cumsum(0) for state in (self.inside, self.outside)
        )
        recall = found / found[-1]
        precision = found / (found + wrong).clamp(min=1)
        return (precision[1:] * recall.diff()).sum()


def localized(
    image: UInt8[np.ndarray, "H W"],
    truths: Integer[np.ndarray, "n 4"],
    ious: tuple[float, ...],
    *,
    largest_only: bool = False,
) -> Bool[np.ndarray, "n_ious thresholds"]:
    """At which thresholds the image is localised, for each IoU."""
    best = overlaps_of(image, truths, largest_only=largest_only).at_thresholds()
    return np.stack([best >= iou for iou in ious])


def _scaled(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    if not np.isfinite(high - low) or low == high:
        return np.zeros_like(values)
    values -= low
    return np.asarray(values / values.max())

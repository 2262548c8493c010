"""The highest LeRF area that superpixels allow: greedily (the paper's "AUC Max."), and exactly.

A model (images -> logits), images and labels in; curves out, with the order that gave them. No
saliency is needed: the bound tells what a map could have reached with these superpixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.images import check_images
from naspix.metrics.asking import Asking, Model, Score
from naspix.metrics.curves import PerturbationCurves, curves_of
from naspix.metrics.hiding import Baseline
from naspix.metrics.orders import numbered
from naspix.targets import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_EXACT = 12


@dataclass(frozen=True, eq=False)
class BestOrder:
    """Curves, and the order in which superpixels were hidden for them.

    Attributes:
        curves: One for each image.
        order: For each image the labels of its superpixels, the first hidden first.
        n_evaluated: How many partly hidden images the model was asked about.
    """

    curves: PerturbationCurves
    order: tuple[Int64[Tensor, " _"], ...]
    n_evaluated: int

    @property
    def auc(self) -> Float[Tensor, " B"]:
        """``(B,)``, the areas of the curves."""
        return self.curves.auc

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the mean curve, as `PerturbationCurves.plot` does.

        Args:
            ax: Where to draw; on a figure of its own by default.
        """
        return self.curves.plot(ax, label="best order")

    def __repr__(self) -> str:
        counts = sorted({len(order) for order in self.order})
        superpixels = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        return f"BestOrder({self.curves!r}, superpixels: {superpixels})"


def greedy_lerf(
    model: Model,
    images: Tensor,
    superpixels: Tensor,
    target: Target = None,
    *,
    baseline: Baseline | None = None,
    score: Score = "logit",
    batch_size: int | None = None,
) -> BestOrder:
    """Hide at each step the superpixel that leaves the highest score.

    All candidates of a step, of all images, share batches, and each hidden set is evaluated once:
    n (n + 1) / 2 + 1 forwards for n superpixels. Of equal scores the superpixel that comes first
    row by row is taken.

    Args:
        model: Any callable from images ``(B, C, H, W)`` in [0, 1] to logits ``(B, n_classes)``.
        images: Values in [0, 1].
        superpixels: ``(B, H, W)`` integers.
        target: A class for all images, one for each, or None for the predicted ones.
        baseline: What hidden pixels show; as for `lerf`.
        score: ``"logit"`` or ``"probability"``.
        batch_size: How many images pass the model at once: few on a CPU, many on a GPU by default.

    Raises:
        InputError: images, labels or classes that do not fit.
        ModelError: a model that returns no finite logits.

    Source:
        The paper, section 4.3.2 ("AUC Max.").

    Example:
        >>> model = lambda images: images.mean((2, 3))
        >>> images = torch.tensor([0.3, 0.0, 0.9, 0.6]).expand(1, 3, 1, 4)
        >>> best = greedy_lerf(model, images, torch.arange(4).view(1, 1, 4), 0, baseline="black")
        >>> best.order[0].tolist()
        [1, 0, 3, 2]
    """
    labels = _checked_labels(images, superpixels)
    asking = Asking.begin(model, images, target, baseline, score, batch_size)
    on_device = labels.to(images.device)
    counts = labels.flatten(1).amax(1) + 1
    last = int(counts.max())
    hidden = torch.zeros(len(images), last, dtype=torch.bool)
    places = torch.zeros(len(images), last, dtype=torch.int64)
    raw = asking.unhidden[:, None].repeat(1, last + 1)
    n_evaluated = len(images)
    for step in range(1, last + 1):
        free = ~hidden & (torch.arange(last) < counts[:, None])
        index, candidate = free.nonzero().unbind(1)
        tried = hidden[index]
        tried[torch.arange(len(index)), candidate] = True
        scores = torch.full(hidden.shape, -torch.inf, dtype=torch.float64)
        scores[index, candidate] = asking(index, _masks(on_device, index, tried))
        best, chosen = _first_highest(scores)
        going = free.any(1)
        hidden[going, chosen[going]] = True
        places[going, step - 1] = chosen[going]
        raw[going, step:] = best[going, None]
        n_evaluated += len(index)
    orders = [row[:n] for row, n in zip(places, counts.tolist(), strict=True)]
    return _best_order(asking, raw, superpixels, labels, orders, n_evaluated)


def optimal_lerf(
    model: Model,
    images: Tensor,
    superpixels: Tensor,
    target: Target = None,
    *,
    baseline: Baseline | None = None,
    score: Score = "logit",
    batch_size: int | None = None,
) -> BestOrder:
    """The order of superpixels with the largest area of all, by dynamic programming over subsets.

    Every one of the 2^n hidden sets is evaluated once, for at most 12 superpixels an image: the
    largest area that ends in a set is the largest over its last superpixel of what ends before it,
    plus one trapezoid. Arguments and errors are those of `greedy_lerf`.

    Raises:
        InputError: Also for more than 12 superpixels in an image.

    Source:
        Held, Karp, "A dynamic programming approach to sequencing problems", 1962.

    Example:
        >>> model = lambda images: images.mean((2, 3))
        >>> images = torch.tensor([0.3, 0.0, 0.9, 0.6]).expand(1, 3, 1, 4)
        >>> labels = torch.arange(4).view(1, 1, 4)
        >>> optimal_lerf(model, images, labels, 0, baseline="black").order[0].tolist()
        [1, 0, 3, 2]
    """
    labels = _checked_labels(images, superpixels)
    counts = (labels.flatten(1).amax(1) + 1).tolist()
    if max(counts) > MAX_EXACT:
        raise InputError(
            f"the exact maximum takes at most {MAX_EXACT} superpixels an image, but there are "
            f"{max(counts)}; ask for fewer, or take greedy_lerf"
        )
    asking = Asking.begin(model, images, target, baseline, score, batch_size)
    last = max(counts)
    sets = torch.cat([torch.arange(1, 2**n) for n in counts])
    index = torch.repeat_interleave(torch.tensor([2**n - 1 for n in counts]))
    tried = (sets[:, None] >> torch.arange(last) & 1).bool()
    scores = asking(index, _masks(labels.to(images.device), index, tried))
    orders, raw = [], asking.unhidden[:, None].repeat(1, last + 1)
    for image, n in enumerate(counts):
        of_sets = torch.cat([asking.unhidden[image, None], scores[index == image]])
        shares = torch.bincount(labels[image].flatten()).cpu().double() / labels[image].numel()
        order = _best_path(of_sets, shares)
        orders.append(order)
        raw[image, 1 : n + 1] = of_sets[(1 << order).cumsum(0)]
        raw[image, n + 1 :] = of_sets[-1]
    n_evaluated = len(images) + len(sets)
    return _best_order(asking, raw, superpixels, labels, orders, n_evaluated)


def _checked_labels(images: Tensor, superpixels: Tensor) -> Int64[Tensor, "B H W"]:
    check_images(images)
    expected = (len(images), *images.shape[-2:])
    if tuple(superpixels.shape) != expected or superpixels.is_floating_point():
        raise InputError(
            f"superpixels are {superpixels.dtype} of shape {tuple(superpixels.shape)}, not "
            f"integers of shape {expected}"
        )
    return numbered(superpixels)


def _masks(
    labels: Int64[Tensor, "B H W"], index: Int64[Tensor, " n"], sets: Bool[Tensor, "n superpixels"]
) -> Callable[[slice], Bool[Tensor, "k H W"]]:
    """Which pixels of image ``index[i]`` the superpixels of set i cover, some sets at a time."""

    def hidden(part: slice) -> Bool[Tensor, "k H W"]:
        where, chosen = index[part].to(labels.device), sets[part].to(labels.device)
        return chosen.gather(1, labels[where].flatten(1)).view(-1, *labels.shape[1:])

    return hidden


def _first_highest(
    scores: Float[Tensor, "B n"],
) -> tuple[Float[Tensor, " B"], Int64[Tensor, " B"]]:
    """The highest of each row and the first place where it stands."""
    best = scores.amax(1)
    return best, (scores == best[:, None]).int().argmax(1)


def _best_path(scores: Float[Tensor, " sets"], shares: Float[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """The order in which the sets' scores, scaled from 1 to 0, enclose the largest area.

    Args:
        scores: Of every hidden set; set s holds the superpixels whose bits are set in s.
        shares: Of the pixels, for each superpixel.
    """
    n = len(shares)
    # scaled curves of an image whose score rises are upside down: there the lowest is best
    heights = scores if scores[0] >= scores[-1] else -scores
    area = torch.zeros(2**n, dtype=torch.float64)
    came_by = torch.zeros(2**n, dtype=torch.int64)
    sets = torch.arange(2**n)
    sizes = (sets[:, None] >> torch.arange(n) & 1).sum(1)
    for size in range(1, n + 1):
        layer = sets[sizes == size]
        before = layer[:, None] ^ (1 << torch.arange(n))
        trapezoids = shares * (heights[before] + heights[layer, None]) / 2
        inside = (layer[:, None] >> torch.arange(n) & 1).bool()
        found = torch.where(inside, area[before] + trapezoids, -torch.inf)
        area[layer], came_by[layer] = _first_highest(found)
    order, remaining = [], 2**n - 1
    while remaining:
        order.append(int(came_by[remaining]))
        remaining ^= 1 << order[-1]
    return torch.tensor(order[::-1])


def _best_order(
    asking: Asking,
    raw: Float[Tensor, "B points"],
    superpixels: Tensor,
    labels: Int64[Tensor, "B H W"],
    orders: list[Int64[Tensor, " _"]],
    n_evaluated: int,
) -> BestOrder:
    fraction = torch.ones_like(raw)
    named = []
    for image, order in enumerate(orders):
        areas = torch.bincount(labels[image].flatten())
        hidden = areas[order].cumsum(0).double() / labels[image].numel()
        fraction[image, : len(order) + 1] = torch.cat([hidden.new_zeros(1), hidden])
        names = torch.empty(len(areas), dtype=torch.int64)
        names[labels[image].flatten()] = superpixels[image].flatten().cpu().long()
        named.append(names[order])
    curves = curves_of(fraction, raw, asking.target, scaled=True)
    return BestOrder(curves, tuple(named), n_evaluated)

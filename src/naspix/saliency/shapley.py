"""Shapley values of superpixels: exact where they are few, sampled with a standard error elsewhere.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W): each pixel has its superpixel's value. The game
is: show some superpixels, hide the others in the mean colour of the model's standardisation, read
the logit. Each coalition is evaluated once, coalitions in batches.
"""

import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from naspix.saliency.base import Classes, Image, Images, Labels, OneClass, Settings
from naspix.saliency.superpixels import (
    N_SEGMENTS,
    SuperpixelAttribution,
    superpixels_of,
)
from naspix.targets import Target

Coalitions = Bool[Tensor, "n players"]


@dataclass(frozen=True, eq=False)
class ShapleyValues:
    """The share of each superpixel in one image's score.

    Attributes:
        values: ``(n,)``, in the order of the superpixels' labels; they sum to the score's
            difference between the image and the hidden image.
        standard_error: ``(n,)``, zero where the values are exact.
        n_coalitions: How many different partly hidden images were asked for.
    """

    values: Float[Tensor, " n"]
    standard_error: Float[Tensor, " n"]
    n_coalitions: int


@dataclass(frozen=True)
class Shapley(SuperpixelAttribution):
    """Shapley: a superpixel's mean contribution over all orders in which superpixels are shown.

    Needs scores; costs 2^n forwards for n superpixels up to ``max_exact``, else up to
    ``2 n_pairs (n - 1) + 2``. Signed, in units of the logit; the superpixels' values sum to the
    score's difference between the image and the hidden image, exact or sampled.

    Attributes:
        model: The classifier.
        segmenter: Any; SLIC by default.
        max_exact: Up to so many superpixels all coalitions are evaluated.
        n_pairs: Beyond, so many random orders, each also taken backwards, which cancels part of
            the noise.
        seed: Of the orders.
        batch_size: How many partly hidden images pass the network at once: few on a CPU, many
            on a GPU by default.

    Source:
        Shapley: A Value for n-Person Games, 1953; sampling: Mitchell, Cooper, Frank, Holmes:
        Sampling Permutations for Shapley Value Estimation, 2022 (antithetic orders).

    Example:
        >>> import naspix
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> method = Shapley(model, segmenter=naspix.Grid(n_segments=4))
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "Shapley values"
    quick: ClassVar[Settings] = {"n_pairs": 2}

    _: KW_ONLY
    max_exact: int = 12
    n_pairs: int = 20
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("max_exact", least=0)
        self._check_counts("n_pairs", least=2)

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count the forwards for as many superpixels as SLIC makes."""
        return 2 * self.n_pairs * (N_SEGMENTS - 1) + 2, 0

    def values(self, images: Images, target: Target = None) -> list[ShapleyValues]:
        """Return the values of each image's superpixels, with standard errors."""
        return self._answer(type(self)._each, images, target)

    def _each(self, images: Images, target: Classes) -> list[ShapleyValues]:
        labels = superpixels_of(self.segmenter, images)
        return [self._shared(*one) for one in zip(images, labels, target, strict=True)]

    def _values(self, image: Image, labels: Labels, target: OneClass) -> Float[Tensor, " n"]:
        return self._shared(image, labels, target).values

    def _shared(self, image: Image, labels: Labels, target: OneClass) -> ShapleyValues:
        n = int(labels.max()) + 1
        if n <= self.max_exact:
            coalitions = _all_coalitions(n)
            values = _exact(self._scores_of_shown(image, labels, target, coalitions))
            return ShapleyValues(values, torch.zeros_like(values), len(coalitions))
        orders = _paired_orders(n, self.n_pairs, self.seed)
        coalitions, index = torch.unique(_growing(orders), dim=0, return_inverse=True)
        scores = self._scores_of_shown(image, labels, target, coalitions)[index.view(-1, n + 1)]
        pairs = _contributions(scores, orders).view(self.n_pairs, 2, n).mean(1)
        error = pairs.std(0) / math.sqrt(self.n_pairs)
        return ShapleyValues(pairs.mean(0), error, len(coalitions))


def _all_coalitions(n: int) -> Coalitions:
    """Row i holds the players whose bits are set in i."""
    return (torch.arange(2**n)[:, None] >> torch.arange(n) & 1).bool()


def _exact(scores: Float[Tensor, " coalitions"]) -> Float[Tensor, " players"]:
    """The mean contribution to each coalition without the player, weighed by its orders."""
    n = len(scores).bit_length() - 1
    index = torch.arange(len(scores))
    sizes = _all_coalitions(n).sum(1)
    # |S|! (n - |S| - 1)! / n!, the share of orders in which the player comes right after S
    weights = torch.tensor(
        [1 / (n * math.comb(n - 1, size)) for size in range(n)], dtype=scores.dtype
    )
    values = []
    for player in range(n):
        without = index[(index >> player & 1) == 0]
        gains = scores[without | 1 << player] - scores[without]
        values.append((weights[sizes[without]] * gains).sum())
    return torch.stack(values)


def _paired_orders(n: int, n_pairs: int, seed: int) -> Int64[Tensor, "orders n"]:
    """Random orders, each followed by its reverse."""
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(n, generator=generator) for _ in range(n_pairs)])
    return torch.stack([orders, orders.flip(1)], 1).flatten(0, 1)


def _growing(orders: Int64[Tensor, "orders n"]) -> Bool[Tensor, "rows n"]:
    """For each order the n + 1 coalitions from none to all."""
    places = orders.argsort(1)
    return (places[:, None] < torch.arange(orders.shape[1] + 1)[:, None]).flatten(0, 1)


def _contributions(
    scores: Float[Tensor, "orders steps"], orders: Int64[Tensor, "orders n"]
) -> Float[Tensor, "orders n"]:
    """What each player adds when its turn comes."""
    return torch.zeros_like(scores[:, 1:]).scatter(1, orders, scores.diff(dim=1))

"""Shapley values of superpixels: exact where they are few, sampled with a standard error elsewhere.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W): each pixel has its superpixel's value. The game
is: show some superpixels, hide the others in the mean colour of the model's standardisation, read
the logit. Each coalition is evaluated once, coalitions in batches.
"""

import math
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.models import Classifier, check_images
from naspix.models.batches import batch_size_on, in_batches
from naspix.saliency.method import Target, check_counts, check_finite, resolve_target, target_scores
from naspix.saliency.superpixels import Segmenter, superpixels_of

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
class Shapley:
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

    model: Classifier
    _: KW_ONLY
    segmenter: Segmenter | None = None
    max_exact: int = 12
    n_pairs: int = 20
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, batch_size=self.batch_size)
        for name, least in (("max_exact", 0), ("n_pairs", 2)):
            if getattr(self, name) < least:
                raise InputError(f"Shapley: {name} is at least {least}, not {getattr(self, name)}")

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return the value of each pixel's superpixel.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range, or superpixels of another shape.
            ModelError: scores that are not finite.
        """
        check_images(images, self.model.in_channels)
        labels = superpixels_of(self, self.segmenter, images)
        found = self._explain(images, labels, target)
        heats = [each.values[where] for each, where in zip(found, labels.cpu(), strict=True)]
        return torch.stack(heats).to(images)

    def values(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> list[ShapleyValues]:
        """Return the values of each image's superpixels, with standard errors."""
        check_images(images, self.model.in_channels)
        return self._explain(images, superpixels_of(self, self.segmenter, images), target)

    def _explain(
        self, images: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B H W"], target: Target
    ) -> list[ShapleyValues]:
        classes = resolve_target(self, self.model, images, target)
        return [self._values(*one) for one in zip(images, labels, classes, strict=True)]

    def _values(
        self,
        image: Float[Tensor, "C H W"],
        labels: Int64[Tensor, "H W"],
        target: Int64[Tensor, "..."],
    ) -> ShapleyValues:
        n = int(labels.max()) + 1
        if n <= self.max_exact:
            coalitions = _all_coalitions(n)
            values = _exact(self._scores(image, labels, target, coalitions))
            return ShapleyValues(values, torch.zeros_like(values), len(coalitions))
        orders = _paired_orders(n, self.n_pairs, self.seed)
        coalitions, index = torch.unique(_growing(orders), dim=0, return_inverse=True)
        scores = self._scores(image, labels, target, coalitions)[index.view(-1, n + 1)]
        pairs = _contributions(scores, orders).view(self.n_pairs, 2, n).mean(1)
        error = pairs.std(0) / math.sqrt(self.n_pairs)
        return ShapleyValues(pairs.mean(0), error, len(coalitions))

    @torch.no_grad()
    def _scores(
        self,
        image: Float[Tensor, "C H W"],
        labels: Int64[Tensor, "H W"],
        target: Int64[Tensor, "..."],
        coalitions: Coalitions,
    ) -> Float[Tensor, " n"]:
        """The logit with the superpixels of each coalition shown; float64, on the CPU."""
        image, labels = image.to(self.model.device), labels.to(self.model.device)
        hidden = self.model.mean.to(image)

        def ask(part: slice) -> Tensor:
            shown = coalitions[part].to(labels.device)[:, labels]
            points = torch.where(shown[:, None], image, hidden)
            classes = target.expand(len(points), *target.shape)
            return target_scores(self.model, points, classes).double().cpu()

        size = batch_size_on(self.model.device, self.batch_size)
        scores = torch.cat(list(in_batches(ask, len(coalitions), size)))
        check_finite(self, scores)
        return scores


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

"""Which few superpixels suffice for the class, and which few it needs.

A model (images -> logits), images, saliency and superpixels in; for each image two sets out: the
smallest found that keeps the class while all else is hidden, and the smallest found whose hiding
changes it. Saliency only says in which order superpixels are tried.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.images import check_images
from naspix.metrics.asking import Asking, Model
from naspix.metrics.hiding import Baseline
from naspix.metrics.orders import order_superpixels
from naspix.targets import Target, asks_number


@dataclass(frozen=True)
class RegionSet:
    """Some superpixels of an image, and what the model says once they are shown or hidden.

    Attributes:
        superpixels: Their labels, the most salient first.
        share: Of the image's pixels, 0 to 1.
        probability: Of the class that is explained; with only these shown for a sufficient set,
            with these hidden for a necessary one.
        predicted: The likeliest class then.
        category: Its name.
    """

    superpixels: tuple[int, ...]
    share: float
    probability: float
    predicted: int
    category: str


@dataclass(frozen=True)
class DecidingSets:
    """The sets of one image.

    Attributes:
        sufficient: Shown alone, these keep the class; empty where an image that is hidden whole
            keeps it. None where the image as it is does not have the class.
        necessary: Hidden, these change the class. None where even hiding all does not, or where the
            image as it is does not have the class.
        n_forwards: How many images the model was asked about, the one as it is included; at most
            three times the number of superpixels.
    """

    sufficient: RegionSet | None
    necessary: RegionSet | None
    n_forwards: int

    def to_plain(self) -> dict[str, Any]:
        """Both as values that fit JSON; `from_plain` reads them."""

        def plain(found: RegionSet | None) -> dict[str, Any] | None:
            if found is None:
                return None
            return {
                "superpixels": list(found.superpixels),
                "share": found.share,
                "probability": found.probability,
                "predicted": {"index": found.predicted, "name": found.category},
            }

        sets = {"sufficient": plain(self.sufficient), "necessary": plain(self.necessary)}
        return {**sets, "n_forwards": self.n_forwards}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "DecidingSets":
        """What `to_plain` made values of.

        Example:
            >>> sets = DecidingSets(RegionSet((3,), 0.25, 0.5, 1, "cat"), None, 7)
            >>> DecidingSets.from_plain(sets.to_plain()) == sets
            True
        """

        def read(found: Mapping[str, Any] | None) -> RegionSet | None:
            if found is None:
                return None
            predicted = found["predicted"]
            return RegionSet(
                tuple(found["superpixels"]),
                found["share"],
                found["probability"],
                predicted["index"],
                predicted["name"],
            )

        return cls(read(plain["sufficient"]), read(plain["necessary"]), plain["n_forwards"])


def deciding_sets(
    model: Model,
    images: Tensor,
    heat: Tensor,
    superpixels: Tensor,
    target: Target = None,
    *,
    threshold: float = 0.5,
    baseline: Baseline | None = None,
    batch_size: int | None = None,
) -> tuple[DecidingSets, ...]:
    """Search the superpixels that suffice for a class, and those that it needs.

    The most salient are shown, one more at a time, until the class is kept, and hidden, one more at
    a time, until it changes. Then each is tried without, the least salient first, and left out
    where that makes no difference. So no superpixel of a set can be left out alone, unless the
    bound on forwards was reached before; a smaller set of others may exist.

    Args:
        model: Any callable from images ``(B, C, H, W)`` in [0, 1] to logits ``(B, n_classes)``.
        images: Values in [0, 1].
        heat: Saliency ``(B, H, W)``, pooled or not.
        superpixels: ``(B, H, W)`` integers.
        target: A class for all images, one for each, None for the predicted ones, or a
            ``naspix.Contrast``, which is kept as long as the first class has the higher score.
        threshold: The probability from which on an image has a class, where it may have several at
            once; elsewhere it has the likeliest.
        baseline: What hidden pixels show; as for `lerf`.
        batch_size: How many images pass the model at once: few on a CPU, many on a GPU by default.

    Raises:
        InputError: Arguments that do not fit each other, or a number that is no class's.
        ModelError: A model that returns no finite logits.

    Source:
        Dabkowski and Gal, "Real Time Image Saliency for Black Box Classifiers", 2017 (the smallest
        sufficient and the smallest destroying region); Carter et al., "What made you do this?",
        2019 (sufficient input subsets).

    Example:
        >>> model = lambda images: images.mean((2, 3))  # red, green, blue
        >>> images = torch.tensor([[0.9, 0.2, 0.1], [0.2, 0.2, 0.3], [0.1, 0.1, 0.1]])
        >>> (found,) = deciding_sets(
        ...     model, images.view(1, 3, 1, 3), images[None, None, 0], torch.tensor([[[4, 5, 6]]]),
        ...     baseline=torch.tensor([0.1, 0.2, 0.1]),
        ... )
        >>> found.sufficient.superpixels, found.necessary.superpixels
        ((4,), (4,))
    """
    if asks_number(target) or _are_numbers(model):
        raise InputError(
            "sets that suffice or are needed exist for classes only, and these scores are numbers "
            "that are none's"
        )
    check_images(images)
    order = order_superpixels(heat, superpixels, "area", 0)
    asking = Asking.begin(model, images, target, baseline, "probability", batch_size)
    several = getattr(getattr(model, "scores", None), "multi_label", False)
    name: Callable[[int], str] = getattr(model, "category", str)
    sets = []
    for index, asked in enumerate(asking.target):
        place = order.n_steps[index] - order.step[index].cpu()  # 0 is the most salient
        labels = torch.empty(int(order.n_steps[index]), dtype=torch.int64)
        labels[place.flatten()] = superpixels[index].flatten().cpu().long()
        search = _Search(asking, index, asked, place, labels, threshold if several else None)
        sufficient = necessary = None
        if bool(search.keeps(asking.whole[index])):
            sufficient = search.described(search.sufficient(), name)
            needed = search.necessary()
            necessary = None if needed is None else search.described(needed, name)
        sets.append(DecidingSets(sufficient, necessary, search.n_forwards))
    return tuple(sets)


_Found = tuple[Bool[Tensor, " n"], Float[Tensor, " n_classes"]]  # a set, and what is said of it


@dataclass
class _Search:
    """Searches the sets of one image, whose superpixels are numbered by saliency.

    Attributes:
        asking: Asks about the image with parts hidden.
        index: The image.
        asked: Its class; two of a contrast.
        place: ``(H, W)``, each pixel's superpixel, 0 the most salient.
        labels: ``(n,)``, what each is called.
        threshold: From which probability on it has the class; None where it has the likeliest.
        n_forwards: How many images were asked about.
    """

    asking: Asking
    index: int
    asked: Int64[Tensor, "..."]
    place: Int64[Tensor, "H W"]
    labels: Int64[Tensor, " n"]
    threshold: float | None
    n_forwards: int = 1

    @property
    def n(self) -> int:
        """How many superpixels there are."""
        return len(self.labels)

    def keeps(self, outputs: Float[Tensor, "*k n_classes"]) -> Bool[Tensor, "*k"]:
        """Whether images of which this is said have the class."""
        if self.asked.ndim:
            return outputs[..., self.asked[0]] > outputs[..., self.asked[1]]
        if self.threshold is not None:
            return outputs[..., self.asked] >= self.threshold
        return outputs.argmax(-1) == self.asked

    def described(self, found: _Found, name: Callable[[int], str]) -> RegionSet:
        """A set as it is told, with its class's name."""
        chosen, outputs = found
        best = int(outputs.argmax())
        return RegionSet(
            superpixels=tuple(self.labels[chosen].tolist()),
            share=float(chosen[self.place].double().mean()),
            probability=float(outputs[self.asked.flatten()[0]]),
            predicted=best,
            category=name(best),
        )

    def sufficient(self) -> _Found:
        """The set that keeps the class alone."""
        whole = torch.ones(self.n, dtype=torch.bool), self.asking.whole[self.index]
        return self._leave_out(self._first(range(self.n), shown=True) or whole, shown=True)

    def necessary(self) -> _Found | None:
        """The set without which the class changes."""
        found = self._first(range(1, self.n + 1), shown=False)
        return None if found is None else self._leave_out(found, shown=False)

    def _first(self, sizes: range, *, shown: bool) -> _Found | None:
        """The first so many of the most salient that keep the class if shown, or not if hidden."""
        start, at_once = 0, 1
        while start < len(sizes):
            some = torch.tensor(sizes[start : start + at_once])
            sets = torch.arange(self.n) < some[:, None]
            outputs = self._ask(sets, shown=shown)
            good = self.keeps(outputs) == shown
            if bool(good.any()):
                best = int(good.int().argmax())
                return sets[best], outputs[best]
            start += at_once
            at_once = min(2 * at_once, self.asking.batch_size)  # few are often enough
        return None

    def _leave_out(self, found: _Found, *, shown: bool) -> _Found:
        """What of a set does as well, the least salient tried first; the very least is needed."""
        chosen, outputs = found
        for number in reversed(chosen.nonzero()[:-1, 0].tolist()):
            if self.n_forwards >= 3 * self.n:
                break
            fewer = chosen.clone()
            fewer[number] = False
            (tried,) = self._ask(fewer[None], shown=shown)
            if bool(self.keeps(tried)) == shown:
                chosen, outputs = fewer, tried
        return chosen, outputs

    def _ask(self, sets: Bool[Tensor, "k n"], *, shown: bool) -> Float[Tensor, "k n_classes"]:
        self.n_forwards += len(sets)
        hidden = ~sets if shown else sets
        index = torch.full((len(sets),), self.index)
        device = self.asking.hide.images.device
        return self.asking.outputs(index, lambda part: hidden[part][:, self.place].to(device))


def _are_numbers(model: Model) -> bool:
    return not getattr(getattr(model, "scores", None), "are_probabilities", True)

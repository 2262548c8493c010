"""Hidden superpixels and what they do to the scores: the perturbation metric, one click at a time.

Hidden means the mean colour of the model's standardisation (zero after it), as in LeRF. Every
change can be undone. Hiding in the order of saliency draws the LeRF curve (or MoRF) as it goes: the
score of the explained class before the softmax, scaled from 1 (nothing hidden) to 0 (all hidden).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.models import Classifier

Order = Literal["lerf", "morf"]

_MOST_UNDONE = 200
_AT_ONCE = 4  # images a forward, where many states are asked for: more leave a CPU's cache


def hide(
    model: Classifier,
    images: Float[Tensor, "1 C H W"],
    superpixels: Int64[Tensor, "1 H W"],
    hidden: Sequence[int] | frozenset[int],
) -> Float[Tensor, "1 C H W"]:
    """The image with superpixels in the mean colour of the model's standardisation.

    Example:
        >>> import naspix
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> halves = torch.arange(2).view(1, 1, 2)
        >>> hide(model, torch.zeros(1, 3, 1, 2), halves, [1])[0, 0]
        tensor([[0.0000, 0.5000]])
    """
    chosen = torch.tensor(sorted(hidden), dtype=torch.int64, device=superpixels.device)
    covered = torch.isin(superpixels, chosen)[:, None]
    return torch.where(covered, model.mean.to(images), images)


@dataclass
class Curve:
    """The LeRF (or MoRF) curve as far as it has come.

    Attributes:
        order: Superpixels in the order in which they are hidden.
        kind: Least or most relevant first.
        fraction: Of the photo that is hidden, after each step.
        score: 1 with nothing hidden, 0 with all.
    """

    order: list[int]
    kind: Order
    fraction: list[float] = field(default_factory=lambda: [0.0])
    score: list[float] = field(default_factory=lambda: [1.0])

    @property
    def area(self) -> float:
        """The area under what there is of it, by trapezoids."""
        return sum(
            (b - a) * (u + v) / 2
            for (a, b), (u, v) in zip(pairwise(self.fraction), pairwise(self.score), strict=True)
        )


class Hiding:
    """Which superpixels of a photo are hidden, and the scores with them hidden.

    Args:
        model: The classifier.
        images: ``(1, C, H, W)`` in [0, 1].
        superpixels: ``(1, H, W)``.
        target: The class whose curve is drawn.
        ends: The logits of the whole photo and of one that is hidden altogether, if at hand:
            neither depends on the superpixels.
    """

    def __init__(
        self,
        model: Classifier,
        images: Float[Tensor, "1 C H W"],
        superpixels: Int64[Tensor, "1 H W"],
        target: int,
        ends: Float[Tensor, "2 n_classes"] | None = None,
    ) -> None:
        self._model, self._images, self._superpixels = model, images, superpixels
        self._target = target
        self.n = int(superpixels.max()) + 1
        self._areas = superpixels.flatten().bincount().double() / superpixels.numel()
        self._past: list[tuple[frozenset[int], Curve | None]] = []
        self.hidden: frozenset[int] = frozenset()
        self.curve: Curve | None = None
        everything = frozenset(range(self.n))
        self.ends = self._ask([frozenset(), everything]) if ends is None else ends
        self._known = {frozenset(): self.ends[0], everything: self.ends[1]}

    def state(self) -> tuple[frozenset[int], Curve | None, Float[Tensor, " n_classes"]]:
        """What is hidden, the curve, and the logits with this hidden."""
        while True:  # another request of the page may change it while the network is asked
            hidden, curve = self.hidden, self.curve
            logits = self._logits([hidden])[0]
            if hidden == self.hidden and curve is self.curve:
                return hidden, curve, logits

    @property
    def before(self) -> Float[Tensor, " n_classes"]:
        """The logits of the whole photo."""
        return self._known[frozenset()]

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to undo."""
        return bool(self._past)

    def toggle(self, number: int) -> None:
        """Hide a superpixel, or show it again.

        Raises:
            InputError: there is none of this number.
        """
        if not 0 <= number < self.n:
            raise InputError(f"there is no superpixel {number}; they count from 0 to {self.n - 1}")
        self._become(self.hidden ^ {number}, None)

    def hide_all(self) -> None:
        """Hide every superpixel."""
        self._become(frozenset(range(self.n)), None)

    def show_all(self) -> None:
        """Hide none."""
        self._become(frozenset(), None)

    def invert(self) -> None:
        """Hide what is shown and show what is hidden."""
        self._become(frozenset(range(self.n)) - self.hidden, None)

    def undo(self) -> None:
        """Take the last change back; with none, nothing happens."""
        if self._past:
            self.hidden, self.curve = self._past.pop()

    def start_curve(self, saliency: Float[np.ndarray, " n"], kind: Order = "lerf") -> None:
        """Show everything, and get ready to hide in the order of saliency.

        Args:
            saliency: Of each superpixel; those alike are hidden in the order of their numbers.
            kind: ``"lerf"`` hides the least relevant first, ``"morf"`` the most relevant.
        """
        order = np.argsort(saliency if kind == "lerf" else -saliency, kind="stable")
        self._become(frozenset(), Curve(order.tolist(), kind))

    def step(self, n_steps: int = 1, told: Callable[[int], None] | None = None) -> bool:
        """Hide the next superpixels of the curve.

        Args:
            n_steps: How many.
            told: Is told how many images will pass the network.

        Returns:
            Whether there are more.

        Raises:
            InputError: no curve was started.
        """
        curve = self.curve
        if curve is None:
            raise InputError("start the curve before its steps")
        done = len(curve.fraction) - 1
        stop = min(self.n, done + max(1, n_steps))
        states = [frozenset(curve.order[: k + 1]) for k in range(done, stop)]
        if not states:
            return False
        if told is not None:
            told(len(states))
        scores = self._logits(states)[:, self._target].double()
        start, end = (float(self._known[state][self._target]) for state in self._ends)
        reach = start - end
        further = [(float(s) - end) / reach if reach else 0.0 for s in scores]
        self._become(
            states[-1],
            Curve(
                curve.order,
                curve.kind,
                curve.fraction + [self.share(state) for state in states],
                curve.score + further,
            ),
        )
        return stop < self.n

    def alone(
        self, numbers: Sequence[int] | None = None, at_once: int = _AT_ONCE
    ) -> Float[Tensor, "n n_classes"]:
        """The logits with each superpixel hidden alone.

        Args:
            numbers: Of which superpixels; all by default.
            at_once: Images a forward; others are let in between two.
        """
        chosen = range(self.n) if numbers is None else numbers
        return self._logits([frozenset({number}) for number in chosen], at_once)

    def largest(self, n: int, least: float) -> list[int]:
        """The largest superpixels: so many at most, each of this share of the image at least."""
        order = self._areas.argsort(descending=True, stable=True)[:n].tolist()
        return [number for number in order if self._areas[number] >= least]

    @property
    def _ends(self) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset(), frozenset(range(self.n))

    def _become(self, hidden: frozenset[int], curve: Curve | None) -> None:
        if hidden == self.hidden and curve is None and self.curve is None:
            return
        self._past = [*self._past[-_MOST_UNDONE + 1 :], (self.hidden, self.curve)]
        self.hidden, self.curve = hidden, curve

    def share(self, hidden: frozenset[int]) -> float:
        """Of the image that these superpixels cover."""
        return float(self._areas[sorted(hidden)].sum()) if hidden else 0.0

    def _logits(
        self, states: Sequence[frozenset[int]], at_once: int = _AT_ONCE
    ) -> Float[Tensor, "n n_classes"]:
        # held here as well: another request of the page may drop what is remembered meanwhile
        found = {state: self._known[state] for state in states if state in self._known}
        unknown = [state for state in dict.fromkeys(states) if state not in found]
        for start in range(0, len(unknown), at_once):
            some = unknown[start : start + at_once]
            found.update(zip(some, self._ask(some), strict=True))
        self._known.update(found)
        for state in [state for state in self._known if state not in self._ends][:-_MOST_UNDONE]:
            del self._known[state]
        return torch.stack([found[state] for state in states])

    def _ask(self, states: Sequence[frozenset[int]]) -> Float[Tensor, "n n_classes"]:
        views = [hide(self._model, self._images, self._superpixels, state) for state in states]
        with torch.no_grad():
            logits: Tensor = self._model(torch.cat(views))
        return logits.cpu()

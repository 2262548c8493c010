"""Perturbation curves (section 4.3.2): LeRF, MoRF, their difference, insertion, deletion.

A model (images -> logits), images and saliency in; curves of the class's score out, while the
image is hidden step by step. All steps of all images share batches, and nothing is asked twice. No
model class is known here, and no segmenter: superpixels come as labels.
"""

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
from naspix.metrics.orders import HidingOrder, Ties, order_pixels, order_superpixels
from naspix.targets import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def lerf(
    model: Model,
    images: Tensor,
    heat: Tensor,
    target: Target = None,
    superpixels: Tensor | None = None,
    steps: int = 100,
    baseline: Baseline | None = None,
    *,
    score: Score = "logit",
    scaled: bool = True,
    ties: Ties = "seed",
    seed: int = 0,
    batch_size: int | None = None,
) -> PerturbationCurves:
    """Hide the least relevant first: a good map's curve stays high, its area is large.

    Args:
        model: Any callable from images ``(B, C, H, W)`` in [0, 1] to logits ``(B, n_classes)``,
            such as a ``naspix.Classifier``.
        images: Values in [0, 1], where the model takes them.
        heat: Saliency ``(B, H, W)``, higher is more relevant; finite.
        target: A class for all images (of a ``naspix.Classifier`` by name too), a list or tensor
            with one for each, None for the predicted ones, or a ``naspix.Contrast``.
        superpixels: ``(B, H, W)`` labels: one whole superpixel is hidden at each step, that of the
            lowest mean saliency first, however often its value is tied with others'. Without them
            pixels are hidden.
        steps: Of pixels, equal up to rounding; not looked at where superpixels are given.
        baseline: What hidden pixels show. ``"mean"``, the default, is the mean colour of the
            model's standardisation, its ``mean``, if it has one as ``naspix.Classifier`` has, which
            makes zero of what is hidden; for a plain callable the image's own mean colour.
            ``"black"``, ``"blurred"`` (`Blurred`), ``"inpainted"`` (`Inpainted`), a value or a
            colour in [0, 1], images, or a function from images to images.
        score: ``"logit"``, before the softmax, or ``"probability"``: a ``naspix.Classifier`` says
            what that is; of another model's scores the softmax, but the sigmoid of a single one.
        scaled: Curves run from 1 to 0. An image whose score is the same with nothing and with
            everything hidden (to 5 digits) is left out: its area is NaN.
        ties: Which of equally salient superpixels goes first: ``"seed"`` draws, ``"area"`` hides
            the smaller first. Equally salient pixels are always drawn. How a sort treats equal
            values, and how labels are numbered, changes nothing.
        seed: For ties.
        batch_size: How many images pass the model at once: few on a CPU, many on a GPU by default.

    Returns:
        A curve and its area for each image; the area is taken over the hidden share of the pixels.

    Raises:
        InputError: images, saliency, labels or classes that do not fit, saliency not finite.
        ModelError: a model that returns no finite logits.

    Source:
        The paper, section 4.3.2 and figure 6.

    Example:
        >>> model = lambda images: images.mean((2, 3))  # red, green, blue
        >>> images = torch.tensor([0.0, 0.25, 0.75, 1.0]).expand(1, 3, 1, 4)
        >>> lerf(model, images, images[:, 0], target=0, steps=4, baseline="black").score
        tensor([[1.0000, 1.0000, 0.8750, 0.5000, 0.0000]], dtype=torch.float64)
    """
    order = _order(images, heat, superpixels, steps, ties, seed)
    (found,) = _curves(model, images, [order], target, baseline, score, batch_size)
    return found.curves(scaled)


def morf(
    model: Model,
    images: Tensor,
    heat: Tensor,
    target: Target = None,
    superpixels: Tensor | None = None,
    steps: int = 100,
    baseline: Baseline | None = None,
    *,
    score: Score = "logit",
    scaled: bool = True,
    ties: Ties = "seed",
    seed: int = 0,
    batch_size: int | None = None,
) -> PerturbationCurves:
    """Hide the most relevant first: a good map's curve falls at once, its area is small.

    The order is exactly that of `lerf` backwards, ties as well (with ``ties="area"`` the larger
    superpixel goes first). Arguments, result and errors are those of `lerf`.

    Source:
        The paper, section 4.3.2; Samek et al., "Evaluating the visualization of what a deep neural
        network has learned", 2017.

    Example:
        >>> model = lambda images: images.mean((2, 3))
        >>> images = torch.tensor([0.0, 0.25, 0.75, 1.0]).expand(1, 3, 1, 4)
        >>> morf(model, images, images[:, 0], target=0, steps=4, baseline="black").score
        tensor([[1.0000, 0.5000, 0.1250, 0.0000, 0.0000]], dtype=torch.float64)
    """
    order = _order(images, heat, superpixels, steps, ties, seed).reverse
    (found,) = _curves(model, images, [order], target, baseline, score, batch_size)
    return found.curves(scaled)


def deletion(
    model: Model,
    images: Tensor,
    heat: Tensor,
    target: Target = None,
    *,
    superpixels: Tensor | None = None,
    steps: int = 100,
    baseline: Baseline | None = None,
    score: Score = "probability",
    scaled: bool = False,
    ties: Ties = "seed",
    seed: int = 0,
    batch_size: int | None = None,
) -> PerturbationCurves:
    """RISE's deletion: `morf` of the probability as it is. Lower is better.

    Arguments, result and errors are those of `lerf`, with other defaults. The authors hide 224
    pixels a step (``steps=224`` at 224) to the mean colour.

    Source:
        Petsiuk, Das, Saenko: RISE, 2018.

    Example:
        >>> model = lambda images: 9 * images.mean((2, 3))
        >>> images = torch.zeros(1, 3, 8, 8)
        >>> images[:, 1, :, 4:] = 1
        >>> curves = deletion(model, images, images[:, 1], target=1, steps=8, baseline="black")
        >>> bool(curves.score[0, 0] > curves.score[0, -1])
        True
    """
    return morf(
        model,
        images,
        heat,
        target,
        superpixels=superpixels,
        steps=steps,
        baseline=baseline,
        score=score,
        scaled=scaled,
        ties=ties,
        seed=seed,
        batch_size=batch_size,
    )


def insertion(
    model: Model,
    images: Tensor,
    heat: Tensor,
    target: Target = None,
    *,
    superpixels: Tensor | None = None,
    steps: int = 100,
    baseline: Baseline | None = "blurred",
    score: Score = "probability",
    scaled: bool = False,
    ties: Ties = "seed",
    seed: int = 0,
    batch_size: int | None = None,
) -> PerturbationCurves:
    """RISE's insertion: show the most relevant first, on the blurred image. Higher is better.

    What is hidden at each point is what `lerf` hides, so this is its curve read from the other end:
    ``fraction`` is what is shown, and scaled curves run from 0 to 1. Arguments, result and errors
    are those of `lerf`, with other defaults.

    Source:
        Petsiuk, Das, Saenko: RISE, 2018.

    Example:
        >>> model = lambda images: images.mean((2, 3))
        >>> images = torch.rand(1, 3, 16, 16)
        >>> curves = insertion(model, images, images[:, 0], steps=16)
        >>> curves.fraction[0, 0].item(), curves.fraction[0, -1].item()
        (0.0, 1.0)
    """
    order = _order(images, heat, superpixels, steps, ties, seed)
    (found,) = _curves(model, images, [order], target, baseline, score, batch_size)
    shown = found.curves(scaled)
    return PerturbationCurves(
        1 - shown.fraction.flip(1), shown.score.flip(1), shown.auc, shown.raw.flip(1), shown.target
    )


@dataclass(frozen=True, eq=False)
class RelevanceGain:
    """Both orders of the same maps, and what lies between them.

    Attributes:
        lerf: Least relevant first.
        morf: Most relevant first.
    """

    lerf: PerturbationCurves
    morf: PerturbationCurves

    @property
    def auc(self) -> Float[Tensor, " B"]:
        """``(B,)``, the area between the curves: LeRF's less MoRF's; at most 1 for scores in 0..1.

        Maps that say nothing have 0 on average.
        """
        return self.lerf.auc - self.morf.auc

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw both mean curves with their bands.

        Args:
            ax: Where to draw; on a figure of its own by default.

        Raises:
            InputError: No image has a curve.
        """
        from naspix import plots

        means = {"least relevant first": self.lerf.mean(), "most relevant first": self.morf.mean()}
        x = next(iter(means.values())).fraction.numpy()
        return plots.draw_curves(
            x,
            {name: mean.score.numpy() for name, mean in means.items()},
            ax,
            bands={
                name: (mean.low.numpy(), mean.high.numpy())
                for name, mean in means.items()
                if mean.n_images > 1
            },
        )

    def __repr__(self) -> str:
        known = self.auc[~self.auc.isnan()]
        gain = float(known.mean()) if len(known) else float("nan")
        images = "image" if len(self.auc) == 1 else "images"
        return f"RelevanceGain({len(self.auc)} {images}, mean {gain:.3f})"


def srg(
    model: Model,
    images: Tensor,
    heat: Tensor,
    target: Target = None,
    *,
    superpixels: Tensor | None = None,
    steps: int = 100,
    baseline: Baseline | None = None,
    score: Score = "logit",
    scaled: bool = True,
    ties: Ties = "seed",
    seed: int = 0,
    batch_size: int | None = None,
) -> RelevanceGain:
    """The symmetric relevance gain: both orders at once, and LeRF's area less MoRF's.

    How a model reacts to hidden pixels as such raises or lowers both areas and cancels, so that
    rankings agree better over baselines than those of either order alone. The images' ends are
    asked once for both. Arguments and errors are those of `lerf`.

    Source:
        Bluecher, Vielhaben, Strodthoff: Decoupling Pixel Flipping and Occlusion Strategy for
        Consistent XAI Benchmarks, 2024.

    Example:
        >>> model = lambda images: images.mean((2, 3))
        >>> images = torch.tensor([0.0, 0.25, 0.75, 1.0]).expand(1, 3, 1, 4)
        >>> srg(model, images, images[:, 0], target=0, steps=4, baseline="black").auc
        tensor([0.4375], dtype=torch.float64)
    """
    order = _order(images, heat, superpixels, steps, ties, seed)
    least, most = _curves(
        model, images, [order, order.reverse], target, baseline, score, batch_size
    )
    return RelevanceGain(least.curves(scaled), most.curves(scaled))


def _order(
    images: Tensor, heat: Tensor, superpixels: Tensor | None, steps: int, ties: Ties, seed: int
) -> HidingOrder:
    check_images(images)
    expected = (len(images), *images.shape[-2:])
    if tuple(heat.shape) != expected or not heat.is_floating_point():
        raise InputError(
            f"heat is {heat.dtype} of shape {tuple(heat.shape)}, not floating maps of shape "
            f"{expected}, one for each image"
        )
    heat = heat.detach()
    if superpixels is None:
        return order_pixels(heat, steps, seed)
    return order_superpixels(heat, superpixels, ties, seed)


@dataclass(frozen=True, eq=False)
class _Scores:
    fraction: Float[Tensor, "B points"]
    raw: Float[Tensor, "B points"]
    target: Int64[Tensor, "B ..."]

    def curves(self, scaled: bool) -> PerturbationCurves:
        return curves_of(self.fraction, self.raw, self.target, scaled=scaled)


def _curves(
    model: Model,
    images: Float[Tensor, "B C H W"],
    orders: list[HidingOrder],
    target: Target,
    baseline: Baseline | None,
    score: Score,
    batch_size: int | None,
) -> list[_Scores]:
    """Scores after every step of every order; what is hidden at both ends is asked once."""
    asking = Asking.begin(model, images, target, baseline, score, batch_size)
    n_steps = orders[0].n_steps
    n_images, last = len(images), int(n_steps.max())
    inner = torch.tensor(
        [
            (order, image, step)
            for image in range(n_images)
            for order in range(len(orders))
            for step in range(1, int(n_steps[image]) + (order == 0))
        ]
    )
    steps = torch.stack([order.step.to(images.device, torch.int32) for order in orders])

    def hidden(part: slice) -> Bool[Tensor, "n H W"]:
        order, image, step = inner[part].to(images.device).unbind(1)
        return steps[order, image] <= step[:, None, None]

    scores = asking(inner[:, 1], hidden)
    raw = torch.full((len(orders), n_images, last + 1), torch.nan, dtype=torch.float64)
    raw[:, :, 0] = asking.unhidden
    raw[inner[:, 0], inner[:, 1], inner[:, 2]] = scores
    ends = raw[0, torch.arange(n_images), n_steps]
    beyond = torch.arange(last + 1) >= n_steps[:, None]
    raw = torch.where(beyond, ends[:, None], raw)
    return [
        _Scores(order.fraction.cpu(), each, asking.target)
        for order, each in zip(orders, raw, strict=True)
    ]

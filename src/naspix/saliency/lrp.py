"""Layer-wise relevance propagation: the score, shared out layer by layer down to the pixels.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W), signed. Here are the method and its composites;
the layers' rules are ``lrp_rules.py``, the other operations' ``lrp_operations.py``, and how a
network's operations are found ``lrp_tracing.py``.
"""

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from naspix.errors import InputError, ModelError
from naspix.models import Classifier, check_images
from naspix.models.batches import batch_size_on, in_batches
from naspix.saliency import lrp_rules
from naspix.saliency.lrp_rules import Layer, Rule, Shares
from naspix.saliency.lrp_state import Composite, Propagation
from naspix.saliency.lrp_tracing import check_ruled, propagating, unruled
from naspix.saliency.method import (
    ReduceChannels,
    Target,
    check_counts,
    check_finite,
    gradients_enabled,
    pick_scores,
    reduce_channels,
    resolve_target,
)

CompositeName = Literal[
    "auto",
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "gamma",
    "epsilon",
]


@dataclass(frozen=True)
class PropagatedRelevance:
    """Where a score went.

    Attributes:
        values: ``(B, C, H, W)``, the relevance of each channel of each pixel.
        absorbed: ``(B,)``, what constants took on the way: biases, class tokens, position
            embeddings. With the values' sum it makes up the score, except for what epsilon holds
            back, and under alpha2-beta1, which conserves only where both signs occur. The batch's
            total is exact; images are told apart wherever they are in order in the first dimension.
        scores: ``(B,)``, the scores that were shared out.
    """

    values: Float[Tensor, "B C H W"]
    absorbed: Float[Tensor, " B"]
    scores: Float[Tensor, " B"]


@dataclass(frozen=True)
class LRP:
    """Layer-wise relevance propagation: the class's score, shared out down to the pixels.

    Needs gradients; costs one forward and about three backwards an image. Signed: negative pixels
    speak against the class.

    Biases take their share, as in zennit: in a deep network with batch norm little is left for the
    pixels (a ten-thousandth of the score in the default one), and the map shows its proportions.
    What constants took is counted: ``attributions`` returns it, and with it the map sums to the
    score, within 1e-3 on the default network, ReLU networks and most transformers. The z+ rule
    loses what reaches units without positive contributions (a few percent with SiLU, 14 % on
    ShuffleNet, more on ConvNeXt, where "auto" avoids it).

    Every operation of the network has its rule, however it is written: layers that of the
    composite, batch norm merged into the layer before it, activations the identity, residuals and
    pools their proportion, gates nothing, attention and LayerNorm those published for transformers
    (``lrp_operations.py`` names the sources). Where there is none, the error names the layer.

    With z+ rules the map shows what the first layers see more than the class (Sixt et al.:
    When Explanations Lie, 2020): on the default network and three photos its rank correlation with
    itself, but for the score's sign, is 0.90 after the classifier was made random, 0.87 after
    everything from block 4 up, 0.67 from block 2 up.

    LRP is said to be a patented technology, free for personal and scientific use only (the lxt
    package's README says so); check whether your use is.

    Attributes:
        model: The classifier.
        composite: Which rules the layers get; ``"auto"`` takes ``"gamma"`` for networks with
            LayerNorm, ``"epsilon_plus"`` for others.
            ``"epsilon_plus"``: z+ for convolutions, epsilon for linear layers;
            ``"epsilon_alpha2_beta1"``: alpha2-beta1 for convolutions;
            both also with ``_flat``: evenly in the layers that see the pixels;
            ``"epsilon_gamma_box"``: gamma 0.25 for convolutions, z-box where the pixels are seen;
            ``"gamma"``: 0.25 for convolutions, 0.05 for linear layers;
            ``"epsilon"``: epsilon everywhere, noisy, near to input times gradient, and unstable
            where batch norm comes before the layer (DenseNet, pre-activation ResNets).
        epsilon: Keeps denominators from zero; larger values let weak relevance vanish.
        reduce: How channels become one map, see ``reduce_channels``; the sum conserves relevance,
            as zennit's examples and Quantus have it.
        batch_size: How many images pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Bach et al.: On Pixel-Wise Explanations, 2015; composites: Montavon et al.: Layer-Wise
        Relevance Propagation: An Overview, 2019, and Kohlbrenner et al.: Towards Best Practice in
        Explaining Neural Network Decisions with LRP, 2020.

    Example:
        >>> import naspix
        >>> method = LRP(naspix.load_model("efficientnet_lite0"))
        >>> method(torch.rand(1, 3, 64, 64), target=282).shape
        torch.Size([1, 64, 64])
    """

    model: Classifier
    _: KW_ONLY
    composite: CompositeName = "auto"
    epsilon: float = 1e-6
    reduce: ReduceChannels = "sum"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, batch_size=self.batch_size)
        if not 0 < self.epsilon < float("inf"):
            raise InputError(f"LRP: epsilon is above 0, not {self.epsilon}")
        for name, choices in (
            ("composite", CompositeName),
            ("reduce", ReduceChannels),
        ):
            if getattr(self, name) not in get_args(choices):
                raise InputError(
                    f"LRP: {name} is one of {', '.join(get_args(choices))}, "
                    f"not {getattr(self, name)!r}"
                )

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> Float[Tensor, "B H W"]:
        """Return the signed relevance of each pixel for the class.

        Args:
            images: Values in [0, 1].
            target: A class for all, one for each image, the predicted ones, or a pair of these.

        Raises:
            InputError: images or classes out of range.
            ModelError: a layer has no rule, or relevance is not finite.
        """
        return reduce_channels(self.attributions(images, target).values, self.reduce)

    def attributions(
        self, images: Float[Tensor, "B C H W"], target: Target = None
    ) -> PropagatedRelevance:
        """Return the relevance of each channel of each pixel, and what did not reach them."""
        check_images(images, self.model.in_channels)
        classes = resolve_target(self, self.model, images, target)

        def propagate(part: slice) -> PropagatedRelevance:
            with gradients_enabled():
                # a tensor made under inference_mode cannot be differentiated: copies can
                return self._propagate(images[part].clone(), classes[part].clone())

        size = batch_size_on(self.model.device, self.batch_size, backwards=True)
        parts = list(in_batches(propagate, len(images), size))
        return PropagatedRelevance(
            values=torch.cat([part.values for part in parts]),
            absorbed=torch.cat([part.absorbed for part in parts]),
            scores=torch.cat([part.scores for part in parts]),
        )

    def unruled(self, images: Float[Tensor, "B C H W"]) -> tuple[str, ...]:
        """Return every layer with an operation for which there is no rule; costs a forward.

        Example:
            >>> import naspix
            >>> LRP(naspix.load_model("efficientnet_lite0")).unruled(torch.rand(1, 3, 64, 64))
            ()
        """
        check_images(images, self.model.in_channels)
        with gradients_enabled():
            images = images.clone().requires_grad_()
            state = Propagation(self._composite(), self.epsilon, len(images))
            with propagating(self.model.network, images, state):
                logits = self.model(images)
            return tuple(dict.fromkeys(unruled(logits)))

    def _propagate(
        self, images: Float[Tensor, "B C H W"], classes: Int64[Tensor, "B ..."]
    ) -> PropagatedRelevance:
        images.requires_grad_()
        state = Propagation(self._composite(), self.epsilon, len(images))
        with propagating(self.model.network, images, state):
            logits = self.model(images)
        check_ruled(self.model.name, self.model.network, logits)
        outputs = logits.detach().requires_grad_()
        scores = pick_scores(outputs, classes)
        (signs,) = torch.autograd.grad(scores.sum(), outputs)
        (values,) = torch.autograd.grad(logits, images, signs * outputs.detach())
        check_finite(self, values)
        absorbed = torch.zeros_like(scores).detach()
        return PropagatedRelevance(values, sum(state.absorbed, absorbed), scores.detach())

    def _composite(self) -> Composite:
        epsilon = partial(lrp_rules.epsilon_rule, epsilon=self.epsilon)
        plus = partial(lrp_rules.z_plus_rule, epsilon=self.epsilon)
        alpha_beta = partial(lrp_rules.alpha2_beta1_rule, epsilon=self.epsilon)
        flat = partial(lrp_rules.flat_rule, epsilon=self.epsilon)
        gamma = partial(lrp_rules.gamma_rule, gamma=0.25, epsilon=self.epsilon)
        weak_gamma = partial(lrp_rules.gamma_rule, gamma=0.05, epsilon=self.epsilon)
        composites = {
            "epsilon_plus": Composite(None, plus, epsilon),
            "epsilon_plus_flat": Composite(flat, plus, epsilon),
            "epsilon_alpha2_beta1": Composite(None, alpha_beta, epsilon),
            "epsilon_alpha2_beta1_flat": Composite(flat, alpha_beta, epsilon),
            "epsilon_gamma_box": Composite(self._box_rule(), gamma, epsilon),
            "gamma": Composite(None, gamma, weak_gamma),
            "epsilon": Composite(None, epsilon, epsilon),
        }
        if self.composite != "auto":
            return composites[self.composite]
        modules = self.model.network.modules()
        has_layer_norm = any(isinstance(module, nn.LayerNorm) for module in modules)
        return composites["gamma" if has_layer_norm else "epsilon_plus"]

    def _box_rule(self) -> Rule:
        """The z-box rule between black and white as the network sees them."""
        ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, self.model.in_channels, 1, 1)
        low, high = self.model.standardize(ends).split(1)

        def rule(layer: Layer, x: Tensor, relevance: Tensor) -> Shares:
            slack = 1e-3 * float((high - low).max())
            padding = x == 0
            inside = (x >= low - slack) & (x <= high + slack) | padding
            if x.shape[1] != low.shape[1] or not bool(inside.all()):
                raise ModelError(
                    "LRP: epsilon_gamma_box needs a network that changes the standardised image in "
                    "no way before its first layer; choose another composite"
                )
            return lrp_rules.z_box_rule(
                layer, x, relevance, low=low, high=high, epsilon=self.epsilon
            )

        return rule

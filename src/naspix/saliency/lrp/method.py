"""Layer-wise relevance propagation: the score, shared out layer by layer down to the pixels.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W), signed. Here is the method; the layers' rules
and composites are ``rules.py``, the other operations' ``operations.py``, and how a network's
operations are found ``tracing.py``.
"""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from naspix.errors import InputError, ModelError
from naspix.models import check_images
from naspix.saliency.base import (
    ChannelAttribution,
    Classes,
    Images,
    Need,
    ReduceChannels,
    check_finite,
    gradients_enabled,
)
from naspix.saliency.lrp.propagation import Propagation
from naspix.saliency.lrp.rules import COMPOSITES, CompositeName, Layer, Rule, Shares, z_box_rule
from naspix.saliency.lrp.tracing import check_ruled, propagating, unruled
from naspix.targets import Target, pick_scores


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
class LRP(ChannelAttribution):
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
    (``operations.py`` names the sources). Where there is none, the error names the layer.

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

    title: ClassVar[str] = "LRP"
    needs: ClassVar[Need] = "relevance"

    _: KW_ONLY
    composite: CompositeName = "auto"
    epsilon: float = 1e-6
    reduce: ReduceChannels = "sum"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("composite", get_args(CompositeName))
        if not 0 < self.epsilon < float("inf"):
            raise InputError(f"LRP: epsilon is above 0, not {self.epsilon}")

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count one forward, and the layers' own backwards as about three."""
        return 1, 3

    def attributions(self, images: Images, target: Target = None) -> PropagatedRelevance:
        """Return the relevance of each channel of each pixel, and what did not reach them."""
        return self._answer(type(self)._relevance, images, target)

    def unruled(self, images: Images) -> tuple[str, ...]:
        """Return every layer with an operation for which there is no rule; costs a forward.

        Example:
            >>> import naspix
            >>> LRP(naspix.load_model("efficientnet_lite0")).unruled(torch.rand(1, 3, 64, 64))
            ()
        """
        check_images(images, self.model.in_channels)
        with gradients_enabled():
            logits, _ = self._traced(images.clone().requires_grad_())
            return tuple(dict.fromkeys(unruled(logits)))

    def _channels(self, images: Images, target: Classes) -> Images:
        return self._relevance(images, target).values

    def _relevance(self, images: Images, target: Classes) -> PropagatedRelevance:
        return self._in_batches(self._propagate, images, target)

    def _propagate(self, images: Images, classes: Classes) -> PropagatedRelevance:
        with gradients_enabled():
            # a tensor made under inference_mode cannot be differentiated: copies can
            images, classes = images.clone().requires_grad_(), classes.clone()
            logits, state = self._traced(images)
            check_ruled(self.model.name, self.model.network, logits)
            outputs = logits.detach().requires_grad_()
            scores = pick_scores(outputs, classes)
            (signs,) = torch.autograd.grad(scores.sum(), outputs)
            (values,) = torch.autograd.grad(logits, images, signs * outputs.detach())
        check_finite(values, self.model)
        absorbed = torch.zeros_like(scores).detach()
        return PropagatedRelevance(values, sum(state.absorbed, absorbed), scores.detach())

    def _traced(self, images: Images) -> tuple[Float[Tensor, "B n_classes"], Propagation]:
        """The logits, whose backward propagates relevance, and what is remembered for it."""
        name = self.composite
        if name == "auto":
            modules = self.model.network.modules()
            has_layer_norm = any(isinstance(module, nn.LayerNorm) for module in modules)
            name = "gamma" if has_layer_norm else "epsilon_plus"
        composite = COMPOSITES[name]
        first: Rule | None = self._box_rule() if composite.first == "box" else composite.first
        state = Propagation(
            first, composite.convolution, composite.linear, self.epsilon, len(images)
        )
        with propagating(self.model.network, images, state):
            return self.model(images), state

    def _box_rule(self) -> Rule:
        """The z-box rule between black and white as the network sees them."""
        ends = torch.tensor([0.0, 1.0], dtype=torch.float32).view(2, 1, 1, 1)
        low, high = self.model.standardize(ends.expand(2, self.model.in_channels, 1, 1)).split(1)

        def rule(layer: Layer, x: Tensor, relevance: Tensor, epsilon: float) -> Shares:
            slack = 1e-3 * float((high - low).max())
            inside = (x >= low - slack) & (x <= high + slack) | (x == 0)  # zeros of a padding
            if x.shape[1] != low.shape[1] or not bool(inside.all()):
                raise ModelError(
                    "epsilon_gamma_box needs a network that changes the standardised image in no "
                    "way before its first layer; choose another composite"
                )
            return z_box_rule(layer, x, relevance, epsilon, low=low, high=high)

        return rule

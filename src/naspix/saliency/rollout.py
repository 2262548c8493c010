"""Attention rollout: how much of each patch a transformer's attention passes on to its answer.

Images (B, C, H, W) -> saliency (B, H, W), one map for all classes. Attention is read from what is
computed, not from how modules are called: a fused kernel is asked once more with the identity as
its values, which gives the weights that it makes of queries and keys. No module is hooked for it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from naspix.errors import AttentionError, ModelError
from naspix.models.activations import tracing
from naspix.models.finite import why_not_finite
from naspix.models.grids import Layout
from naspix.saliency.base import Attribution, Classes, Images, Maps, Need

OverHeads = Literal["mean", "max", "min"]

_CLASS_TOKEN = re.compile(r"(?:^|[._])(?:cls|class)(?:_?(?:tok|token|tokens|embedding))?$")
_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)
_FUSED = functional.scaled_dot_product_attention
_FUSED_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@final
@dataclass(frozen=True)
class AttentionRollout(Attribution):
    """Attention rollout: a patch matters as much as attention of all layers passes it on.

    Needs attention over an image's tokens, as vision transformers of timm, torchvision and
    transformers have it, fused or not; costs two forwards a batch. The map is the same for every
    class, since attention knows of none: it says what the network looks at, not why it answers
    so. Never negative; the values of all patches sum to at most 1, the rest is the class token's
    own.

    Attributes:
        model: The classifier, or an encoder without a head.
        head: How the heads of a layer become one: their ``"mean"`` as the paper has it, the
            ``"max"`` or the ``"min"``.
        batch_size: How many images pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Abnar, Zuidema: Quantifying Attention Flow in Transformers, 2020: each layer's attention
        plus the identity (the residual connection), rows brought to sum 1, multiplied over the
        layers. The map is the class token's row; the mean of the patches' rows where there is no
        class token.

    Example:
        >>> import naspix, timm
        >>> network = timm.create_model("vit_tiny_patch16_224", img_size=64)
        >>> method = AttentionRollout(naspix.wrap_model(network, input_size=64))
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "Attention rollout (any class)"
    needs: ClassVar[Need] = "attention"
    asks_class: ClassVar[bool] = False

    _: KW_ONLY
    head: OverHeads = "mean"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("head", get_args(OverHeads))

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count the forward that is read, and the one that shows where tokens lie."""
        return 2, 0

    def _attribute(self, images: Images, target: Classes) -> Maps:
        return self._in_batches(lambda some, _: self._rollout(some), images, target)

    @torch.no_grad()
    def _rollout(self, images: Images) -> Maps:
        with _Attentions(len(images), self.head) as heard:
            self.model.answer(images)
        layers, layout = self._over_tokens(heard, images)
        n_tokens = layers[0].shape[-1]
        identity = torch.eye(n_tokens, device=layers[0].device, dtype=layers[0].dtype)
        rolled = identity.expand(len(images), -1, -1)
        for attention in layers:
            mixed = attention + identity
            rolled = (mixed / mixed.sum(-1, keepdim=True)) @ rolled
        # as what a level puts out: each token's vector is the row that is passed on of it
        rows = rolled[:, self._asked_tokens(layout, n_tokens)].mean(1)
        grid = layout.read(rows[:, :, None])
        frame = list(images.shape[-2:])
        return functional.interpolate(grid, frame, mode="bilinear", align_corners=False)[:, 0]

    def _over_tokens(
        self, heard: "_Attentions", images: Images
    ) -> tuple[list[Float[Tensor, "B n n"]], Layout]:
        """The layers that attend over the tokens of images, and where these tokens lie.

        Raises:
            ModelError: Their attention is not finite.
            AttentionError: There are none, some attend over other things too, or the number of
                tokens changes on the way.
        """
        by_size: dict[int, list[Tensor]] = {}
        for attention in heard.found:
            by_size.setdefault(attention.shape[-1], []).append(attention)
            if not bool(torch.isfinite(attention).all()):
                raise ModelError(
                    "the network's attention is not finite (NaN or infinite); "
                    + why_not_finite(self.model)
                )
        layouts: dict[int, Counter[Layout]] = {}
        if by_size:
            with tracing(self.model.network) as calls:
                self.model.answer(images[:1])
            for call in calls:
                if call.layout is not None and call.n_tokens in by_size:
                    layouts.setdefault(call.n_tokens, Counter())[call.layout] += 1
        if not layouts:
            raise AttentionError(
                f"no layer of {self.model.name} is found to attend over all tokens of an image (is "
                "it a convolutional network, does it attend within windows, or by a kernel of its "
                "own?); use another method"
            )
        if heard.partial:
            raise AttentionError(
                f"some layers of {self.model.name} attend over all tokens of an image, but others "
                "within windows or over fewer keys, and these cannot be multiplied; use another "
                "method"
            )
        if len(layouts) > 1:
            sizes = " and ".join(map(str, layouts))
            raise AttentionError(
                f"layers of {self.model.name} attend over {sizes} tokens, and attention cannot be "
                "multiplied where their number changes; use another method"
            )
        ((n_tokens, counts),) = layouts.items()
        return by_size[n_tokens], counts.most_common(1)[0][0]

    def _asked_tokens(self, layout: Layout, n_tokens: int) -> list[int]:
        """The class token, or all patches where there is none."""
        places = torch.arange(n_tokens)[None, :, None]
        patches = layout.read(places).flatten().tolist()
        others = sorted({*range(n_tokens)} - {*patches})
        if others and _has_class_token(self.model.network):
            return others[:1]
        return patches


def _has_class_token(network: nn.Module) -> bool:
    """Whether there is one among the parameters; tokens besides patches may be registers alone."""
    return any(_CLASS_TOKEN.search(name) for name, _ in network.named_parameters())


class _Attentions(TorchFunctionMode):
    """Hears the attention that is computed inside the ``with`` block, in this thread.

    ``found`` has one ``(B, n, n)`` for each time that ``n`` things attend to one another, heads
    being made one. ``partial`` says whether things attend within windows of images, or to fewer
    than they are; one that attends to all, as where tokens are pooled, is left out.
    """

    def __init__(self, n_images: int, head: OverHeads) -> None:
        super().__init__()
        self.found: list[Tensor] = []
        self.partial = False
        self._n_images = n_images
        self._head = head

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            weighed = {**kwargs, "need_weights": True, "average_attn_weights": False}
            output, weights = func(*args, **weighed)
            self._hear(weights)
            if not kwargs.get("need_weights", True):
                return output, None
            average = kwargs.get("average_attn_weights", True)
            return output, weights.mean(-3) if average else weights
        result = func(*args, **kwargs)
        if func is _FUSED:
            self._hear_fused({**dict(zip(_FUSED_ARGUMENTS, args, strict=False)), **kwargs})
        elif func in _SOFTMAX and result.ndim > 2:
            dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if dim in (-1, result.ndim - 1):
                self._hear(result)
        return result

    def _hear_fused(self, given: dict[str, Any]) -> None:
        """The weights of a fused kernel: what it makes of the identity."""
        key = given["key"]
        each = torch.eye(key.shape[-2], device=key.device, dtype=key.dtype)
        values = each.expand(*key.shape[:-1], -1)
        self._hear(_FUSED(**{**given, "value": values, "dropout_p": 0.0}))

    def _hear(self, weights: Tensor) -> None:
        square = weights.shape[-1] == weights.shape[-2]
        if weights.ndim == 3 and square and len(weights) % self._n_images == 0:
            weights = weights.unflatten(0, (self._n_images, -1))  # heads in the axis of images
        if weights.ndim not in (4, 5) or weights.shape[-2] == 1:
            return
        if weights.ndim == 5 or len(weights) != self._n_images or not square:
            self.partial = True
            return
        weights = weights.detach()
        if weights.dtype in (torch.float16, torch.bfloat16):
            weights = weights.float()
        if self._head == "mean":
            weights = weights.mean(1)
        else:
            weights = weights.amax(1) if self._head == "max" else weights.amin(1)
        self.found.append(weights)

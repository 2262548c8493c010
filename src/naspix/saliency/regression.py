"""LIME and KernelSHAP: a linear model of the score, fitted to photos that are partly hidden.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W): each pixel has the weight of its superpixel.
Which superpixels are shown is drawn as captum draws it, by a generator of the method's own, on the
CPU: a seed means the same in every thread and on every device.
"""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from naspix.errors import InputError
from naspix.saliency.base import Image, Labels, OneClass, Settings
from naspix.saliency.superpixels import SuperpixelAttribution

_ENDS = 1e6  # the weight of the whole and of the hidden photo, which stands for infinity


@dataclass(frozen=True)
class LIME(SuperpixelAttribution):
    """LIME: a linear model of the score, fitted where about half of the superpixels are hidden.

    Needs scores; costs ``n_samples`` forwards an image. Signed: a superpixel's value is its weight
    in the linear model, in units of the logit, somewhat shrunk by the ridge penalty.

    Attributes:
        model: The classifier.
        segmenter: Any; SLIC by default.
        n_samples: Random choices of superpixels; the authors' package takes 1000.
        kernel_width: How fast choices lose weight with their cosine distance to the whole image;
            the authors' 0.25.
        ridge: Penalty on the weights' squares; the authors' 1.
        seed: Of the samples.
        batch_size: How many partly hidden images pass the network at once: few on a CPU, many
            on a GPU by default.

    Source:
        Ribeiro, Singh, Guestrin: "Why Should I Trust You?", 2016, with the settings of the
        authors' ``lime`` package for images; as in captum's ``Lime``. lime segments by
        quickshift and hides with each superpixel's own mean colour; here hidden means the same as
        elsewhere.

    Example:
        >>> import naspix
        >>> method = LIME(naspix.load_model("efficientnet_lite0"), n_samples=8)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "LIME"
    quick: ClassVar[Settings] = {"n_samples": 150}

    _: KW_ONLY
    n_samples: int = 1000
    kernel_width: float = 0.25
    ridge: float = 1.0
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("n_samples")
        if not self.kernel_width > 0 or self.ridge < 0:
            raise InputError("LIME: kernel_width is above 0, and ridge is not negative")

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count a forward for each sample."""
        return self.n_samples, 0

    def _values(self, image: Image, labels: Labels, target: OneClass) -> Float[Tensor, " n"]:
        from sklearn.linear_model import Ridge

        generator = torch.Generator().manual_seed(self.seed)
        halves = torch.full((1, int(labels.max()) + 1), 0.5, dtype=torch.float32)
        draws = [torch.bernoulli(halves, generator=generator) for _ in range(self.n_samples)]
        shown = torch.cat(draws).bool()
        scores = self._scores_of_shown(image, labels, target, shown)
        # the authors' kernel: the cosine distance between the superpixels kept and all of them
        distances = 1 - shown.double().mean(1).sqrt()
        weights = (-distances.square() / (2 * self.kernel_width**2)).exp()
        fit = Ridge(alpha=self.ridge).fit(shown.double().numpy(), scores.numpy(), weights.numpy())
        return torch.from_numpy(fit.coef_)


@dataclass(frozen=True)
class KernelSHAP(SuperpixelAttribution):
    """KernelSHAP: Shapley values of superpixels by a weighted linear regression.

    Needs scores; costs ``n_samples`` forwards an image. Signed, in units of the logit: the
    superpixels' values sum to the score's difference to the hidden image. For few superpixels
    ``Shapley`` is exact at less cost.

    Attributes:
        model: The classifier.
        segmenter: Any; SLIC by default.
        n_samples: Random choices of superpixels; the authors' package takes 2048 and two for each
            superpixel.
        seed: Of the samples.
        batch_size: How many partly hidden images pass the network at once: few on a CPU, many
            on a GPU by default.

    Source:
        Lundberg, Lee: A Unified Approach to Interpreting Model Predictions, 2017, as
        captum's ``KernelShap``.

    Example:
        >>> import naspix
        >>> method = KernelSHAP(naspix.load_model("efficientnet_lite0"), n_samples=8)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "KernelSHAP"
    quick: ClassVar[Settings] = {"n_samples": 250}

    _: KW_ONLY
    n_samples: int = 2048
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("n_samples")

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count a forward for each sample."""
        return self.n_samples, 0

    def _values(self, image: Image, labels: Labels, target: OneClass) -> Float[Tensor, " n"]:
        from sklearn.linear_model import LinearRegression

        n = int(labels.max()) + 1
        ends = torch.tensor([[True], [False]]).expand(2, n)
        if n == 1:  # nothing to regress on
            scores = self._scores_of_shown(image, labels, target, ends)
            return (scores[0] - scores[1])[None]
        # all, none, and then as many as the Shapley kernel weighs that number
        sizes = torch.arange(n, dtype=torch.float32)
        kernel = (n - 1) / (sizes * (n - sizes))
        kernel[0] = 0
        generator = torch.Generator().manual_seed(self.seed)
        draws = [ends[:1], ends[1:]]
        while len(draws) < self.n_samples:
            size = int(torch.multinomial(kernel / kernel.sum(), 1, True, generator=generator))
            ranks = torch.randn(1, n, generator=generator, dtype=torch.float32)
            draws.append(ranks > ranks.kthvalue(n - size).values)
        shown = torch.cat(draws[: self.n_samples])
        scores = self._scores_of_shown(image, labels, target, shown)
        weights = torch.where(shown.all(1) | ~shown.any(1), _ENDS, 1.0).double()
        fit = LinearRegression().fit(shown.double().numpy(), scores.numpy(), weights.numpy())
        return torch.from_numpy(fit.coef_)

"""RELAX: hide random parts of the image and average the masks by how alike the embedding stays.

Images (B, C, H, W) in [0, 1] -> saliency (B, H, W). The embedding is what enters the head that
makes the scores, or what an encoder without a head returns: no class is asked about. Masks are
drawn and hide as those of ``rise.py`` do.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from naspix.errors import InputError
from naspix.models.batches import in_batches
from naspix.models.scores import without_head
from naspix.saliency.base import Classes, Images, Maps, Settings
from naspix.saliency.rise import RandomMasks
from naspix.targets import Target

_Result = TypeVar("_Result")

# what a head is made of: the first argument is what enters it
_PRODUCTS = (
    functional.linear,
    functional.conv2d,
    torch.matmul,
    torch.mm,
    Tensor.matmul,
    Tensor.mm,
    Tensor.__matmul__,
)
_ALIKE = 0.999  # the cosine from which on a head's output is the scores but for rounding


@dataclass(frozen=True, eq=False)
class RELAXEstimate:
    """What RELAX finds.

    Attributes:
        map: ``(B, H, W)``, the importance R.
        uncertainty: ``(B, H, W)``, U: how far the similarities under masks that show a pixel are
            from its importance, squared; in squared units of the map.
    """

    map: Float[Tensor, "B H W"]
    uncertainty: Float[Tensor, "B H W"]


@final
@dataclass(frozen=True)
class RELAX(RandomMasks):
    """RELAX: a pixel matters if the embedding stays alike whenever the pixel is seen.

    Needs an embedding only, so encoders without a head are served, and takes no ``target``: the
    map is the same for every class. Costs a forward for each of ``n_masks`` masks and one for the
    whole image. Signed, as a cosine is, but hardly ever negative, and at most 1; only differences
    between pixels say where.

    The embedding is what enters the last product (a linear layer, as a rule) whose output is the
    scores. Where no such product is seen, the scores themselves are it: of an encoder without a
    head these are the embedding, as of one that averages two heads, or of a TorchScript network
    whose inside cannot be read, they are logits.

    Attributes:
        model: The classifier, or an encoder.
        n_masks: Masks for an image; the paper has 3000.
        cells: Cells on a side of the random grid; fewer hide larger parts.
        p: The probability that a cell is seen.
        seed: Of the masks. The same seed gives the same map in any batch.
        batch_size: How many masked images pass the network at once: few on a CPU, many on
            a GPU by default.

    Source:
        Wickstrøm et al.: RELAX: Representation Learning Explainability, 2023:
        ``R = (1 / N) sum s(h, h_n) M_n`` with the cosine similarity s, and
        ``U = (1 / N) sum (s(h, h_n) - R)² M_n``. The paper multiplies the image with the mask,
        the authors' code does so after standardisation, so that hidden is the mean colour, as
        here. That code also divides by the sum of the masks in place of N, and draws masks of
        7 x 7 cells that it shifts by less than RISE's.

    Example:
        >>> import naspix
        >>> method = RELAX(naspix.load_model("efficientnet_lite0"), n_masks=16)
        >>> method(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    title: ClassVar[str] = "RELAX (embedding)"
    quick: ClassVar[Settings] = {"n_masks": 300}
    asks_class: ClassVar[bool] = False

    n_masks: int = field(default=1000, kw_only=True)

    def passes(self, shape: torch.Size) -> tuple[int, int]:
        """Count a forward for each mask, and one for the whole photo."""
        return self.n_masks + 1, 0

    def estimate(self, images: Images) -> RELAXEstimate:
        """Return the map with its uncertainty."""
        return self._answer(type(self)._estimate, images, None)

    def _answer(
        self, ask: Callable[[Any, Tensor, Tensor], _Result], images: Tensor, target: Target
    ) -> _Result:
        if target is not None:
            raise InputError(
                "RELAX: it explains what the network makes of the image before any class is "
                "chosen, so target is None"
            )
        return super()._answer(ask, images, target)

    def _attribute(self, images: Images, target: Classes) -> Maps:
        return self._estimate(images, target).map

    @torch.no_grad()
    def _estimate(self, images: Images, target: Classes) -> RELAXEstimate:
        self.model.find_scores(images)
        parts = in_batches(lambda part: self._embed(images[part]), len(images), self._at_once)
        whole = torch.cat(list(parts))
        size = (images.shape[-2], images.shape[-1])
        # sums over the masks of s M, s² M and M
        once, twice = torch.zeros(2, len(images), *size, dtype=torch.float64)
        seen = torch.zeros(size, dtype=torch.float64)
        for masks in self._rounds(size):
            seen += masks.sum(0).cpu().double()
            for index, image in enumerate(images):
                embeddings = self._under_masks(image, masks, self._embed)
                alike = functional.cosine_similarity(embeddings, whole[index, None]).to(masks)
                once[index] += torch.einsum("n,nhw->hw", alike, masks).cpu().double()
                twice[index] += torch.einsum("n,nhw->hw", alike.square(), masks).cpu().double()
        importance = once / self.n_masks
        # (s - R)² M, multiplied out
        squares = twice / self.n_masks - 2 * importance.square()
        squares += importance.square() * seen / self.n_masks
        return RELAXEstimate(importance.to(images), squares.clamp(min=0).to(images))

    def _embed(self, images: Images) -> Float[Tensor, "B d"]:
        """What enters the head, or what there is where there is none."""
        with _Products(len(images)) as products:
            scores: Tensor = self.model(images)
        if without_head(self.model.network):
            return scores
        if self.model.scores.one_score:
            scores = scores[:, 1:]
        for given, made in reversed(products.found):
            if made.shape == scores.shape and _same_rows(made.to(scores), scores):
                embedding: Tensor = given.to(scores)
                return embedding
        return scores


def _same_rows(made: Float[Tensor, "B n"], scores: Float[Tensor, "B n"]) -> bool:
    """Whether scores are what was made, but for a factor and for a constant of each row."""
    if made.shape[1] == 1:
        return torch.allclose(made, scores)
    made, scores = (rows - rows.mean(1, keepdim=True) for rows in (made, scores))
    if torch.allclose(made, scores):
        return True
    return bool((functional.cosine_similarity(made, scores) > _ALIKE).all())


class _Products(TorchFunctionMode):
    """Hears products inside the ``with`` block that make one vector of one vector an image.

    ``found`` has what entered and what came out, each ``(B, n)``.
    """

    def __init__(self, n_images: int) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, Tensor]] = []
        self._n_images = n_images

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _PRODUCTS and args and isinstance(result, Tensor):
            given = args[0]
            if self._is_rows(given) and self._is_rows(result):
                self.found.append((given.flatten(1), result.flatten(1)))
        return result

    def _is_rows(self, tensor: Tensor) -> bool:
        rows = tensor.ndim >= 2 and len(tensor) == self._n_images
        return rows and max(tensor.shape[1:]) == tensor[0].numel()

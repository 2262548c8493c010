"""shap: Owen values of superpixels, along the network's own hierarchy.

A shap masker hides features, and its ``clustering`` says in which order groups of them are parted.
shap's own image masker halves the picture along its axes; this one hides superpixels, and parts
them as Ward's tree of the network's activations does. The values of a group's superpixels sum to
what the group is worth as a whole, whatever the regions inside it do to each other.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from naspix.clustering.ward import superpixel_linkage
from naspix.errors import InputError
from naspix.interop._libraries import library
from naspix.models import Classifier
from naspix.segmentation import NAS, Segmentation

_one_at_a_time = threading.Lock()


@final
@dataclass(frozen=True, eq=False)
class SuperpixelMasker:
    """A shap masker for one picture: k features, one a superpixel, and their hierarchy.

    Made by :func:`superpixel_masker`.

    Attributes:
        superpixels: The regions.
        clustering: SciPy's linkage matrix over them.
        hidden: The colour that hidden pixels show.
    """

    superpixels: Int64[np.ndarray, "H W"]
    clustering: Float64[np.ndarray, "n_merges 4"]
    hidden: Float[np.ndarray, " C"]
    immutable_outputs = True
    fixed_background = True

    @property
    def shape(self) -> tuple[int, int]:
        """One masked picture a mask; one feature a superpixel."""
        return 1, len(self.clustering) + 1

    def mask_shapes(self, image: Float[np.ndarray, "C H W"]) -> list[tuple[int]]:
        """The shape of what shap returns for the picture."""
        return [(self.shape[1],)]

    def __call__(
        self, mask: Bool[np.ndarray, " k"], image: Float[np.ndarray, "C H W"]
    ) -> tuple[Float[np.ndarray, "1 C H W"]]:
        """Hide the superpixels whose entry is False."""
        shown = mask[self.superpixels]
        return (np.where(shown, image, self.hidden[:, None, None].astype(image.dtype))[None],)


def superpixel_masker(
    model: Classifier, segmentation: Segmentation, *, index: int = 0
) -> SuperpixelMasker:
    """Make a masker for one image of a segmentation by Ward's tree.

    Hidden pixels show the model's mean colour, which the network sees as zero.

    Args:
        model: Whose mean colour it is.
        segmentation: From ``NAS(..., algorithm="ward")``.
        index: Which image.

    Raises:
        InputError: If the segmentation has no tree, or only one superpixel.

    Example:
        >>> import naspix
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> nas = naspix.NAS(model, n_clusters=3, algorithm="ward")
        >>> seg = nas(torch.rand(1, 3, 32, 32))
        >>> masker = superpixel_masker(model, seg)
        >>> masker.shape[1] == int(seg.n_superpixels[0])
        True
    """
    if segmentation.tree is None:
        raise InputError(
            "this segmentation has no hierarchy; segment with NAS(..., algorithm='ward')"
        )
    superpixels = segmentation.superpixels[index]
    if int(superpixels.max()) == 0:
        raise InputError(
            "a single superpixel leaves nothing to share; ask NAS for more clusters with n_clusters"
        )
    return SuperpixelMasker(
        superpixels.cpu().numpy(),
        superpixel_linkage(segmentation.tree[index], superpixels),
        model.mean.detach().float().cpu().numpy().ravel(),
    )


def scores_fn(model: Classifier) -> Callable[[Any], Float[np.ndarray, "n n_classes"]]:
    """Make a model into what shap asks: arrays ``(n, C, H, W)`` in [0, 1] in, logits out."""

    def ask(arrays: Any) -> Float[np.ndarray, "n n_classes"]:
        with torch.no_grad():
            logits: Tensor = model(torch.from_numpy(np.asarray(arrays)).float())
        answer: np.ndarray = logits.cpu().double().numpy()
        return answer

    return ask


@final
@dataclass(frozen=True)
class OwenValues:
    """Owen values of superpixels by shap's ``PartitionExplainer``, as a saliency method.

    Each pixel gets the value of its superpixel, divided by nothing: over the superpixels of an
    image they sum to the class score less the score of the mean colour. Where ``max_evals`` ends
    before the tree, shap shares out what a group is worth among its superpixels in equal parts.

    Args:
        model: Asked for logits.
        segmenter: NAS by Ward's linkage; of this model with its defaults if None.
        max_evals: Most forward passes an image.
        batch_size: Of them, how many together.
        seed: shap breaks ties of its queue at random.

    Source:
        Owen, "Values of games with a priori unions", 1977; Lundberg's shap.

    Raises:
        InputError: If the segmenter makes no tree.
    """

    model: Classifier
    segmenter: Callable[[Tensor], Segmentation] | None = None
    _: KW_ONLY
    max_evals: int = 500
    batch_size: int = 32
    seed: int = 0

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: int | Tensor | None = None
    ) -> Float[Tensor, "B H W"]:
        """Return the values of ``images`` in [0, 1] for ``target``.

        Raises:
            MissingExtraError: If shap is not installed.
        """
        shap = library("shap", "shap", "OwenValues")
        classes = self.model.resolve_target(images, target).tolist()
        segmenter = self.segmenter or NAS(self.model, algorithm="ward")
        segmentation = segmenter(images)
        maps = []
        for index, label in enumerate(classes):
            masker = superpixel_masker(self.model, segmentation, index=index)
            explainer = shap.PartitionExplainer(scores_fn(self.model), masker)
            with _numpy_seed(self.seed):
                explained = explainer(
                    images[index : index + 1].detach().float().cpu().numpy(),
                    max_evals=self.max_evals,
                    batch_size=self.batch_size,
                    outputs=[label],
                    silent=True,
                )
            values = np.asarray(explained.values, dtype=np.float32).reshape(-1)
            maps.append(torch.from_numpy(values[masker.superpixels]))
        return torch.stack(maps).to(images.device)


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which shap draws from, and put it back.

    One thread at a time, so that each draws what its seed says.
    """
    with _one_at_a_time:
        state = np.random.get_state()  # noqa: NPY002 - shap knows no other
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002

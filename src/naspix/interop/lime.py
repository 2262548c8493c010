"""lime: NAS regions in ``LimeImageExplainer``, and its explanation as a saliency map.

``nas.as_lime()`` is a ``segmentation_fn``; ``segmentation_fn`` here makes one of any segmenter, and
``classifier_fn`` makes a model into what LIME asks for probabilities. ``LimeExplainer`` runs the
whole of it as a saliency method. LIME's arrays are ``(H, W, 3)``, eight-bit or in [0, 1].
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from types import FunctionType
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from naspix.errors import InputError
from naspix.interop._libraries import library
from naspix.models import Classifier, read_image
from naspix.segmentation import ArraySegmenter, Segmentation


def segmentation_fn(
    segmenter: Callable[[Tensor], Segmentation],
    *,
    input_size: tuple[int, int] | None = None,
    channels: int = 3,
) -> ArraySegmenter:
    """Make any segmenter into LIME's ``segmentation_fn``.

    Args:
        segmenter: Any callable ``images -> Segmentation``.
        input_size: Height and width to which the picture is scaled before it is segmented; its own
            if None. The regions have the picture's frame either way.
        channels: How many the segmenter takes: 3, or 1 for grey.

    Example:
        >>> import naspix
        >>> segmentation_fn(naspix.Grid(n_segments=2))(np.zeros((2, 2, 3)))
        array([[0, 1],
               [0, 1]])
    """
    return ArraySegmenter(segmenter, input_size, channels)


def classifier_fn(
    model: Classifier,
) -> Callable[[Any], Float[np.ndarray, "n n_classes"]]:
    """Make a model into LIME's ``classifier_fn``: arrays in, probabilities out.

    Args:
        model: Asked for its probabilities; of one channel or three, as LIME's arrays always
            have three. A model of one channel sees the pictures in grey.

    Raises:
        InputError: The model takes another number of channels.

    Example:
        >>> import naspix
        >>> ask = classifier_fn(naspix.load_model("efficientnet_lite0"))
        >>> ask(np.zeros((2, 64, 64, 3), np.uint8)).shape
        (2, 1000)
    """
    channels = model.in_channels
    if channels not in (1, 3):
        raise InputError(f"LIME explains models of one channel or three, and this takes {channels}")

    def ask(arrays: Any) -> Float[np.ndarray, "n n_classes"]:
        pictures = [read_image(np.asarray(array), channels=channels) for array in arrays]
        images = torch.stack(pictures)
        with torch.no_grad():
            probabilities = model.probabilities(images)
        answer: np.ndarray = probabilities.cpu().double().numpy()
        return answer

    return ask


def saliency_map(explanation: Any, label: int) -> Float[Tensor, "H W"]:
    """Turn LIME's explanation into a map: each pixel has the weight of its region.

    Args:
        explanation: What ``explain_instance`` returned.
        label: The class whose weights are meant.

    Example:
        >>> from types import SimpleNamespace
        >>> regions = np.array([[0, 1]])
        >>> saliency_map(SimpleNamespace(segments=regions, local_exp={7: [(1, 0.5)]}), 7)
        tensor([[0.0000, 0.5000]])
    """
    segments: Shaped[np.ndarray, "H W"] = np.asarray(explanation.segments)
    weights = np.zeros(int(segments.max()) + 1, dtype=np.float32)
    for region, weight in explanation.local_exp[label]:
        weights[region] = weight
    return torch.from_numpy(weights[segments])


@final
@dataclass(frozen=True)
class LimeExplainer:
    """LIME by its authors' package, as a saliency method.

    Our own ``naspix.saliency.LIME`` is faster, as it makes the hidden pictures on the model's
    device; this one is theirs to the letter.

    Args:
        model: Asked for probabilities.
        segmenter: Any callable ``images -> Segmentation``; LIME's own quickshift if None.
        n_samples: Pictures with hidden regions, each a forward pass.
        hide_color: What hidden pixels show, in [0, 1]; the mean colour of their region if None.
        batch_size: Pictures that pass the network together.
        seed: Of the choice of hidden regions.

    Source:
        Ribeiro, Singh and Guestrin, "Why should I trust you?", 2016.
    """

    model: Classifier
    segmenter: Callable[[Tensor], Segmentation] | None = None
    _: KW_ONLY
    n_samples: int = 1000
    hide_color: float | None = None
    batch_size: int = 32
    seed: int = 0

    def __call__(
        self, images: Float[Tensor, "B C H W"], target: int | Tensor | None = None
    ) -> Float[Tensor, "B H W"]:
        """Return the weights of the regions of ``images`` in [0, 1] for ``target``.

        Raises:
            InputError: If the model takes neither one channel nor three.
            MissingExtraError: If lime is not installed.
        """
        explainer = _silent_explainer()
        ask = classifier_fn(self.model)
        classes = self.model.resolve_target(images, target).tolist()
        colours = images.detach().float().cpu().expand(-1, 3, -1, -1)  # LIME knows no other
        arrays = colours.permute(0, 2, 3, 1).double().numpy()
        segment = None
        if self.segmenter is not None:
            segment = ArraySegmenter(self.segmenter, channels=self.model.in_channels)
        maps = []
        for array, label in zip(arrays, classes, strict=True):
            explanation = explainer(random_state=self.seed, verbose=False).explain_instance(
                array.copy(),
                ask,
                labels=(label,),
                top_labels=None,
                hide_color=self.hide_color,
                num_samples=self.n_samples,
                batch_size=self.batch_size,
                segmentation_fn=segment,
                random_seed=self.seed,
            )
            maps.append(saliency_map(explanation, label))
        return torch.stack(maps).to(images.device)


def _silent_explainer() -> Any:
    """LIME's explainer of pictures, whose loop shows no progress bar.

    The loop is the package's own code, run with an iterator where it looks for its bar: nothing of
    the package is changed for who else uses it.
    """
    explainer = library("lime.lime_image", "lime", "LimeExplainer").LimeImageExplainer
    loop = explainer.data_labels
    silent = FunctionType(
        loop.__code__,
        {**loop.__globals__, "tqdm": lambda rows, **_: rows},
        loop.__name__,
        loop.__defaults__,
        loop.__closure__,
    )
    return type("LimeImageExplainer", (explainer,), {"data_labels": silent})

"""Names -> classes: what can be asked for by a word, in the command line and in ``explain``.

Literal dictionaries, nothing registers itself. Adding a segmenter or a saliency method is its file
and one line here: a class says itself how people write its name, what it needs and what it costs.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from naspix.datasets import CUB200, STL10, COCOBoxes, ImageFolder, Photos, VOCBoxes
from naspix.errors import UnknownNameError
from naspix.saliency import (
    LIME,
    LRP,
    RELAX,
    RISE,
    SWAG,
    XRAI,
    AttentionRollout,
    GradCAM,
    GradCAMPlusPlus,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    KernelSHAP,
    Occlusion,
    Shapley,
    SmoothGrad,
    VanillaGradient,
)
from naspix.saliency.base import Attribution
from naspix.segmentation import (
    NAS,
    SLIC,
    Felzenszwalb,
    Grid,
    NormalizedCut,
    Quickshift,
    Watershed,
)

_Kind = TypeVar("_Kind")

SEGMENTERS: Mapping[str, type[Any]] = {
    "nas": NAS,
    "slic": SLIC,
    "felzenszwalb": Felzenszwalb,
    "quickshift": Quickshift,
    "watershed": Watershed,
    "normalized_cut": NormalizedCut,
    "grid": Grid,
}

SALIENCY: Mapping[str, type[Attribution]] = {
    "grad_cam_plus_plus": GradCAMPlusPlus,
    "grad_cam": GradCAM,
    "integrated_gradients": IntegratedGradients,
    "vanilla_gradient": VanillaGradient,
    "input_x_gradient": InputXGradient,
    "smoothgrad": SmoothGrad,
    "guided_backprop": GuidedBackprop,
    "lrp": LRP,
    "rise": RISE,
    "xrai": XRAI,
    "swag": SWAG,
    "occlusion": Occlusion,
    "lime": LIME,
    "kernel_shap": KernelSHAP,
    "shapley": Shapley,
    "attention_rollout": AttentionRollout,
    "relax": RELAX,
}

DATASETS: Mapping[str, type] = {
    "stl10": STL10,
    "cub": CUB200,
    "voc": VOCBoxes,
    "folder": ImageFolder,
    "coco": COCOBoxes,
    "photos": Photos,
}


def with_all(kind: Literal["method", "segmenter"], asked: Iterable[Any]) -> list[Any]:
    """What is asked for, with all names in the place of ``"all"``, and then each name once.

    All methods are those of a class: the others may not serve a network, and are asked for by name.

    Args:
        kind: Of what they are names.
        asked: Names; anything else is left where it is.

    Example:
        >>> with_all("segmenter", ["all"])[:3], "relax" in with_all("method", ["all", "lime"])
        (['nas', 'slic', 'felzenszwalb'], False)
    """
    several = list(asked)
    if not any(isinstance(one, str) and one == "all" for one in several):
        return several
    every = list(SEGMENTERS)
    if kind == "method":
        every = [name for name, each in SALIENCY.items() if each.asks_class]
    found: list[Any] = []
    for one in several:
        for each in every if isinstance(one, str) and one == "all" else [one]:
            if not (isinstance(each, str) and each in found):
                found.append(each)
    return found


def find_segmenter(name: str) -> type[Any]:
    """The segmenter's class.

    Raises:
        UnknownNameError: with the names most like it.

    Example:
        >>> find_segmenter("slic").__name__
        'SLIC'
    """
    return _found("segmenter", name, SEGMENTERS)


def find_method(name: str) -> type[Attribution]:
    """The saliency method's class.

    Raises:
        UnknownNameError: with the names most like it.

    Example:
        >>> find_method("grad_cam").__name__
        'GradCAM'
    """
    return _found("saliency method", name, SALIENCY)


def find_dataset(name: str) -> type:
    """The data set's class.

    Raises:
        UnknownNameError: with the names most like it.

    Example:
        >>> find_dataset("voc").__name__
        'VOCBoxes'
    """
    return _found("data set", name, DATASETS)


def _found(kind: str, name: str, known: Mapping[str, type[_Kind]]) -> type[_Kind]:
    if name not in known:
        raise UnknownNameError.among(kind, name, known)
    return known[name]


def title_of(name: str) -> str:
    """How people write the name of a segmenter or saliency method; any other name is its own.

    Example:
        >>> title_of("grad_cam_plus_plus"), title_of("nas"), title_of("mine")
        ('Grad-CAM++', 'NAS', 'mine')
    """
    kind = SALIENCY.get(name) or SEGMENTERS.get(name)
    return name if kind is None else kind.title

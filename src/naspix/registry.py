"""Names -> classes: what can be asked for by a word, in the command line and in ``explain``.

Literal dictionaries, nothing registers itself. Adding a segmenter or a saliency method is its file
and one line here.
"""

from collections.abc import Mapping

from naspix.datasets import CUB200, STL10, COCOBoxes, ImageFolder, Photos, VOCBoxes
from naspix.errors import UnknownNameError
from naspix.models import Classifier
from naspix.saliency import (
    LIME,
    LRP,
    RISE,
    SWAG,
    XRAI,
    GradCAM,
    GradCAMPlusPlus,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    KernelSHAP,
    Occlusion,
    SaliencyMethod,
    Shapley,
    SmoothGrad,
    VanillaGradient,
)
from naspix.segmentation import (
    NAS,
    SLIC,
    Felzenszwalb,
    Grid,
    NormalizedCut,
    Quickshift,
    Watershed,
)

SEGMENTERS: Mapping[str, type] = {
    "nas": NAS,
    "slic": SLIC,
    "felzenszwalb": Felzenszwalb,
    "quickshift": Quickshift,
    "watershed": Watershed,
    "normalized_cut": NormalizedCut,
    "grid": Grid,
}

SALIENCY: Mapping[str, type] = {
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
}

DATASETS: Mapping[str, type] = {
    "stl10": STL10,
    "cub": CUB200,
    "voc": VOCBoxes,
    "folder": ImageFolder,
    "coco": COCOBoxes,
    "photos": Photos,
}

# how people write the names
TITLES: Mapping[str, str] = {
    "nas": "NAS",
    "slic": "SLIC",
    "felzenszwalb": "Felzenszwalb",
    "quickshift": "Quickshift",
    "watershed": "Watershed",
    "normalized_cut": "Normalized cut",
    "grid": "Grid",
    "grad_cam_plus_plus": "Grad-CAM++",
    "grad_cam": "Grad-CAM",
    "integrated_gradients": "Integrated Gradients",
    "vanilla_gradient": "Gradient",
    "input_x_gradient": "Input x gradient",
    "smoothgrad": "SmoothGrad",
    "guided_backprop": "Guided backprop",
    "lrp": "LRP",
    "rise": "RISE",
    "xrai": "XRAI",
    "swag": "SWAG",
    "occlusion": "Occlusion",
    "lime": "LIME",
    "kernel_shap": "KernelSHAP",
    "shapley": "Shapley values",
}


# for a first look: fewer masks, samples and steps than the methods' authors take
QUICK: Mapping[str, Mapping[str, object]] = {
    "integrated_gradients": {"n_steps": 20, "tolerance": 0.2},
    "smoothgrad": {"n_samples": 12},
    "rise": {"n_masks": 300},
    "xrai": {"n_steps": 15},
    "lime": {"n_samples": 150},
    "kernel_shap": {"n_samples": 250},
    "shapley": {"n_pairs": 2},
}


def find_segmenter(name: str) -> type:
    """The segmenter's class.

    Raises:
        UnknownNameError: with the names most like it.

    Example:
        >>> find_segmenter("slic").__name__
        'SLIC'
    """
    return _found("segmenter", name, SEGMENTERS)


def find_method(name: str) -> type:
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


def _found(kind: str, name: str, known: Mapping[str, type]) -> type:
    if name not in known:
        raise UnknownNameError.among(kind, name, known)
    return known[name]


def make_method(name: str, model: Classifier, *, quick: bool = False) -> SaliencyMethod:
    """The saliency method with its defaults, or with fewer samples for a first look.

    Args:
        name: Of the method.
        model: What it explains.
        quick: Whether to take the settings of ``QUICK``; methods that are fast stay as they are.

    Raises:
        UnknownNameError: with the names most like it.

    Example:
        >>> from naspix.models import load_model
        >>> make_method("rise", load_model("efficientnet_lite0"), quick=True).n_masks
        300
    """
    made: SaliencyMethod = find_method(name)(model, **(QUICK.get(name, {}) if quick else {}))
    return made

"""naspix: which parts of a picture an image classifier's decision rests on.

The public face. Everything is imported on first use: ``import naspix`` costs next to nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.2.0.dev0"

# name -> module that defines it; submodules are listed by their own name
_HOMES = {
    "Classifier": "naspix.models",
    "load_model": "naspix.models",
    "wrap_model": "naspix.models",
    "wrap_clip": "naspix.interop",
    "wrap_huggingface": "naspix.models",
    "NAS": "naspix.segmentation",
    "SLIC": "naspix.segmentation",
    "Felzenszwalb": "naspix.segmentation",
    "Quickshift": "naspix.segmentation",
    "Watershed": "naspix.segmentation",
    "NormalizedCut": "naspix.segmentation",
    "Grid": "naspix.segmentation",
    "Segmentation": "naspix.segmentation",
    "Contrast": "naspix.targets",
    "ClassClustering": "naspix.segmentation",
    "consensus": "naspix.segmentation",
    "superpixelify": "naspix.superpixelify",
    "Explanation": "naspix.explanation",
    "explain": "naspix.explain",
    "explore": "naspix.app",
    "check": "naspix.doctor",
    "evaluate": "naspix.evaluation",
    "concepts": "naspix.concepts",
    "finetune": "naspix.training",
    "NaspixError": "naspix.errors",
    "NaspixWarning": "naspix.errors",
}
_ROOMS = (
    "clustering",
    "datasets",
    "interop",
    "metrics",
    "models",
    "plots",
    "saliency",
    "segmentation",
    "targets",
)

__all__ = [
    "NAS",
    "SLIC",
    "ClassClustering",
    "Classifier",
    "Contrast",
    "Explanation",
    "Felzenszwalb",
    "Grid",
    "NaspixError",
    "NaspixWarning",
    "NormalizedCut",
    "Quickshift",
    "Segmentation",
    "Watershed",
    "__version__",
    "check",
    "clustering",
    "concepts",
    "consensus",
    "datasets",
    "evaluate",
    "explain",
    "explore",
    "finetune",
    "interop",
    "load_model",
    "metrics",
    "models",
    "plots",
    "saliency",
    "segmentation",
    "superpixelify",
    "targets",
    "wrap_clip",
    "wrap_huggingface",
    "wrap_model",
]

if TYPE_CHECKING:
    from naspix import (
        clustering,
        datasets,
        interop,
        metrics,
        models,
        plots,
        saliency,
        segmentation,
        targets,
    )
    from naspix.app import explore
    from naspix.concepts import concepts
    from naspix.doctor import check
    from naspix.errors import NaspixError, NaspixWarning
    from naspix.evaluation.running import evaluate
    from naspix.explain import explain
    from naspix.explanation import Explanation
    from naspix.interop import wrap_clip
    from naspix.models import Classifier, load_model, wrap_huggingface, wrap_model
    from naspix.segmentation import (
        NAS,
        SLIC,
        ClassClustering,
        Felzenszwalb,
        Grid,
        NormalizedCut,
        Quickshift,
        Segmentation,
        Watershed,
        consensus,
    )
    from naspix.superpixelify import superpixelify
    from naspix.targets import Contrast
    from naspix.training import finetune


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return import_module(f"naspix.{name}")
    raise AttributeError(f"module 'naspix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Face(ModuleType):
    """Keeps ``naspix.explain`` the function when the submodule of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face

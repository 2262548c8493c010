"""Classifiers one can ask about: by name, or the user's own module."""

from naspix.images import (
    MAX_PIXELS,
    check_images,
    expand_paths,
    read_image,
    read_images,
)
from naspix.models.activations import recording
from naspix.models.categories import read_categories
from naspix.models.classifier import Classifier
from naspix.models.devices import keep_freed_memory, resolve_device
from naspix.models.huggingface import wrap_huggingface
from naspix.models.loading import Model, ModelSettings, as_classifier, load_model
from naspix.models.recipes import DEFAULT_MODEL, list_models
from naspix.models.scores import Output, ScoreMeaning
from naspix.models.wrapping import wrap_model

__all__ = [
    "DEFAULT_MODEL",
    "MAX_PIXELS",
    "Classifier",
    "Model",
    "ModelSettings",
    "Output",
    "ScoreMeaning",
    "as_classifier",
    "check_images",
    "expand_paths",
    "keep_freed_memory",
    "list_models",
    "load_model",
    "read_categories",
    "read_image",
    "read_images",
    "recording",
    "resolve_device",
    "wrap_huggingface",
    "wrap_model",
]

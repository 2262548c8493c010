"""Where classifiers come from: names, folders, functions of the user's (`load_model`).

Which names there are and how each is built, `recipes.py` knows; folders are `saved.py`'s business,
functions of the user's `own_models.py`'s, modules at hand `wrapping.py`'s. All give a `Classifier`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from naspix.errors import InputError
from naspix.models.categories import Categories, ordered_categories, read_categories
from naspix.models.classifier import Classifier
from naspix.models.devices import resolve_device
from naspix.models.huggingface import is_pipeline, wrap_huggingface
from naspix.models.own_models import own_classifier, with_own_weights
from naspix.models.own_network import names_own_code
from naspix.models.recipes import DEFAULT_MODEL, is_known, recipe_of, with_weights
from naspix.models.saved import is_saved, read_model
from naspix.models.scores import Output
from naspix.models.wrapping import timms_word, with_timms_word, wrap_model


def load_model(
    name: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    weights: str | os.PathLike[str] | None = "default",
    device: str | torch.device | None = None,
    output: Output | None = None,
    categories: str | os.PathLike[str] | Categories | None = None,
) -> Classifier:
    """Load a network by name, with what its authors say about size, mean and standard deviation.

    Args:
        name: ``"efficientnet_lite0"``, whose ImageNet weights come with the installation; any of
            torchvision's classification networks; ``"timm/<name>"``, with or without timm's tag for
            a set of weights (`list_models` lists them all); the folder that `naspix finetune`
            left; or a function of yours, ``"FILE.py:FUNCTION"`` or ``"package.module:function"``,
            which is called without arguments and returns a module, or a `Classifier` that is taken
            as it is.
        weights: ``"default"`` for the usual weights, downloaded where they are not embedded or
            cached; a ``.pth``, ``.pt`` or ``.safetensors`` file; None, or ``"none"``, for random
            ones. A file with another number of classes makes a network with that number, without
            category names. A function of yours decides itself, unless a file is given.
        device: Such as ``"cpu"`` or ``"cuda:1"``; ``"auto"`` is a GPU where there is one; None is
            the CPU, where weights lie channels last, which is faster (safetensors wants them made
            ``contiguous()`` before it saves them).
        output: What the scores are; as for `wrap_model`.
        categories: The classes' names where they are not known, or others; as for `wrap_model`, or
            a file for `read_categories`.

    Raises:
        InputError: If the categories cannot be read, or a function of yours returns no network.
        UnknownNameError: If there is no such model, with the names most like it.
        ModelError: If a function of yours raises an error.
        WeightsError: If weights cannot be fetched, read or fitted.
        DeviceError: If the device is absent.

    Warns:
        NaspixWarning: A function of yours returns a module, and nobody says its mean and standard
            deviation.

    Example:
        >>> model = load_model("efficientnet_lite0")
        >>> model.input_size, model.category(282)
        ((224, 224), 'tiger cat')
    """
    if isinstance(weights, str) and weights.lower() == "none":
        weights = None
    if isinstance(categories, str | os.PathLike):
        categories = read_categories(categories)
    place = resolve_device(device)
    if not is_known(name) and not is_saved(name) and names_own_code(name):
        own = own_classifier(str(name), output, categories)
        if weights is not None and weights != "default":
            own = with_own_weights(own, str(name), weights)
        return own.to(place)
    with torch.random.fork_rng(devices=[], enabled=weights is not None):  # overwritten if drawn
        if not is_known(name) and is_saved(name):
            if weights != "default":
                raise InputError(
                    f"the model in {str(name)!r} comes with its weights; leave weights out, or "
                    "name its network instead of the folder"
                )
            described, network = read_model(name)
            title, usual_names = f"{Path(name).name} ({described.network})", described.categories
            output = output or described.output
        else:
            recipe = recipe_of(str(name))
            described = recipe.description
            title, usual_names = str(name), described.categories
            if weights is None:
                network = recipe.build(None)
            else:
                network, usual = with_weights(recipe, weights)
                usual_names = usual_names if usual else None
    return Classifier(
        _placed(network, place),
        name=title,
        input_size=described.input_size,
        mean=described.mean,
        std=described.std,
        categories=usual_names if categories is None else ordered_categories(categories),
        output=output,
        crop_pct=described.crop_pct,
        interpolation=described.interpolation,
    )


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which network, as plain values: what the settings of commands and records begin with.

    Attributes:
        model: As ``load_model`` takes it.
        weights: ``"default"``, ``"none"``, or a file.
        device: Where the model runs.
        scores: What its scores are: ``"softmax"``, ``"sigmoid"`` or ``"none"``; None finds out.
        categories: File with the classes' names; None for the network's own.
    """

    model: str = DEFAULT_MODEL
    weights: str = "default"
    device: str = "cpu"
    scores: Output | None = None
    categories: str | None = None

    def load(self) -> Classifier:
        """The network, on its device."""
        return load_model(
            self.model,
            weights=self.weights,
            device=self.device,
            output=self.scores,
            categories=self.categories,
        )


Model = Classifier | nn.Module | Callable[..., Any] | str | os.PathLike[str]  # see `as_classifier`


def as_classifier(model: object, what: str) -> Classifier:
    """A classifier of what is given as a model: itself, a name, or a module that is known enough.

    Args:
        model: A `Classifier`; a name for `load_model`; a module of timm's, whose
            ``pretrained_cfg`` says how it wants its images; a pipeline of transformers; or a
            function from images in [0, 1] to scores.
        what: Who asks, for the error.

    Raises:
        InputError: It is none of these; with what to do.
    """
    if isinstance(model, Classifier):
        return model
    if isinstance(model, str | os.PathLike):
        return load_model(model)
    if is_pipeline(model):
        return wrap_huggingface(model)
    if not isinstance(model, nn.Module):
        if callable(model) and not isinstance(model, type):
            return wrap_model(model)
        raise InputError(
            f"{what} needs a model, as load_model and wrap_model return it, "
            f"not {model.__name__ + ' itself' if isinstance(model, type) else type(model).__name__}"
        )
    if timms_word(model):
        return with_timms_word(model)
    raise InputError(
        f"{what} needs to know how {type(model).__name__} wants its images; "
        "wrap it: naspix.wrap_model(network, mean=..., std=...)"
    )


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device; channels last on a CPU, where convolutions are faster so.

    Only for networks built here: a stranger's may call ``view``, which wants the other layout.
    """
    network = network.eval().to(device)
    if device.type == "cpu":
        network.to(memory_format=torch.channels_last)
    return network

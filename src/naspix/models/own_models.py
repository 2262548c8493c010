"""Networks of the user's own code as classifiers, with other weights, and about to learn.

`own_network.py` runs the code; here is what is made of the network that it returns.
"""

import os
import warnings

import torch
from torch import nn

from naspix.errors import InputError, ModelError, NaspixWarning
from naspix.models.categories import Categories
from naspix.models.checkpoints import read_state
from naspix.models.classifier import Classifier
from naspix.models.heads import head_of, replace_head
from naspix.models.own_network import absolute_name, own_network, short_name
from naspix.models.recipes import Description, Recipe
from naspix.models.saved import is_saved, read_saved
from naspix.models.scores import Output
from naspix.models.weights import fitted
from naspix.models.wrapping import timms_word, with_timms_word


def own_classifier(
    name: str, output: Output | None = None, categories: Categories | None = None
) -> Classifier:
    """What a function of the user's returns, as a classifier.

    Raises:
        InputError: It returns no network, or one that says no size; or a classifier, which says
            itself what its scores and classes are.
        ModelError: It raises an error.

    Warns:
        NaspixWarning: It returns a module, and nobody says its mean and standard deviation.
    """
    with torch.random.fork_rng(devices=[]):
        made = own_network(name)
    if isinstance(made, Classifier):
        made.require_size()
        if output is not None or categories is not None:
            raise InputError(
                f"{name} returns a classifier, which says itself what its scores and classes are; "
                "leave scores and categories out, or give them to wrap_model there"
            )
        return made
    if not timms_word(made):
        warnings.warn(
            f"{name} returns a module, and nobody says its mean and standard deviation: it is "
            "given images in [0, 1] as they are; if it wants others, return "
            "naspix.wrap_model(network, mean=..., std=...)",
            NaspixWarning,
            stacklevel=3,
        )
    classifier = with_timms_word(made, output, categories, short_name(name))
    classifier.require_size()
    return classifier


def with_own_weights(model: Classifier, name: str, weights: str | os.PathLike[str]) -> Classifier:
    """The same with weights of a file, or of the folder that `naspix finetune` left of it.

    Weights of another number of classes make a head for so many; a folder names them.

    Raises:
        WeightsError: The weights cannot be read, or are another network's.
        ModelError: The head cannot be found.
    """
    what = f"the weights {str(weights)!r} for {name}"
    described = None
    if is_saved(weights):
        described, state = read_saved(weights)
    else:
        state = read_state(weights)

    def build(n_classes: int | None) -> nn.Module:
        if n_classes is not None:
            replace_head(model.network, _head_of(model), n_classes)
        return model.network

    _, usual = fitted(build, state, what)
    if described is not None and described.categories is not None:
        return model.renamed(described.categories, described.output)
    return model if usual else model.renamed(None, None)


def own_recipe(name: str) -> Recipe:
    """How to build a network of the user's code with any number of classes, for learning.

    Raises:
        ModelError: Its head cannot be found, or it prepares its photos itself or takes more than
            images.
    """
    model = own_classifier(name)
    if model.called_by is not None:
        raise ModelError(
            f"{model.name} takes more than images (forward=), which fine-tuning has not; give it "
            "a module that takes images alone"
        )
    if model.preprocess is not None:
        raise ModelError(
            f"{model.name} prepares photos by a function of its own, which a folder cannot keep; "
            "give it mean=, std= and input_size= to be fine-tuned"
        )
    description = Description(
        network=absolute_name(name),
        categories=model.categories,
        input_size=model.input_size,
        mean=tuple(model.mean.flatten().tolist()),
        std=tuple(model.std.flatten().tolist()),
        crop_pct=model.crop_pct,
        interpolation=model.interpolation,
        output=None,
    )
    head = _head_of(model)

    def build(n_classes: int | None) -> nn.Module:
        made = own_network(name)
        network = made.network if isinstance(made, Classifier) else made
        if n_classes is not None:
            replace_head(network, head, n_classes)
        return network

    return Recipe(description, build, build, lambda: build(None), origin=short_name(name))


def _head_of(model: Classifier) -> str:
    """The name of the layer that puts out a classifier's scores."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, model.in_channels, *model.input_size)
    images = torch.rand(shape, generator=generator, dtype=torch.float32).to(model.device)
    with torch.no_grad():
        head = head_of(model.network, lambda: model.answer(images), model(images))
    if not head:
        raise ModelError(
            f"no linear layer of {model.name} puts out its scores as they are, so that it cannot "
            "be given other classes"
        )
    return head

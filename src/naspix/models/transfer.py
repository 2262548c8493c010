"""A named network with classes of its own: trained weights where they fit, a fresh head."""

import os
from dataclasses import dataclass

import torch
from torch import nn

from naspix.errors import InputError
from naspix.models.recipes import Recipe, fetched, recipe_of
from naspix.models.weights import fitted, read_state

_HEAD_STD = 0.01


@dataclass(frozen=True, eq=False)
class Transferred:
    """A network about to learn other classes.

    Attributes:
        network: The module, in training mode.
        recipe: How it wants its images.
        head: Names of the parameters that depend on the number of classes, freshly drawn.
    """

    network: nn.Module
    recipe: Recipe
    head: frozenset[str]


def with_classes(
    name: str, n_classes: int, *, weights: str | os.PathLike[str] | None = "default", seed: int = 0
) -> Transferred:
    """Build a network for so many classes.

    Args:
        name: As for `load_model`.
        n_classes: Of the new head.
        weights: ``"default"``, a file of the same network with any number of classes, or None for
            random ones.
        seed: Of everything that is drawn.

    Raises:
        UnknownNameError: If there is no such network.
        WeightsError: If the weights cannot be had, or are of another network.

    Example:
        >>> made = with_classes("efficientnet_lite0", 7)
        >>> sorted(made.head), made.network.classifier.weight.shape[0]
        (['classifier.bias', 'classifier.weight'], 7)
    """
    if n_classes < 2:
        raise InputError(f"a classifier needs two classes or more, not {n_classes}")
    recipe = recipe_of(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = recipe.build(n_classes)
        head = _head(network, recipe.build(n_classes + 1))
        trained = _trained(name, recipe, weights)
    if trained is not None:
        own, theirs = network.state_dict(), trained.state_dict()
        kept = {key: theirs[key] for key in own if key in theirs and key not in head}
        network.load_state_dict({**own, **kept})
        _start_small(network, head, seed)
    return Transferred(network.train(), recipe, head)


def _trained(name: str, recipe: Recipe, weights: str | os.PathLike[str] | None) -> nn.Module | None:
    if weights is None:
        return None
    if weights == "default":
        return fetched(name, recipe)
    what = f"the weights {str(weights)!r} for {name}"
    return fitted(recipe.restore, read_state(weights), what, in_order=recipe.in_order)[0]


def _start_small(network: nn.Module, head: frozenset[str], seed: int) -> None:
    """Draw the head so small that what the network has learned decides from the first step.

    Some networks' own initialisation is made for a thousand classes; for a few classes it draws a
    head whose noise little data never outweighs.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if name in head:
            with torch.no_grad():
                drawn = torch.randn(parameter.shape, generator=generator) * _HEAD_STD
                parameter.copy_(drawn if parameter.ndim > 1 else torch.zeros_like(parameter))


def _head(network: nn.Module, other: nn.Module) -> frozenset[str]:
    """Names of the tensors whose shape changes with the number of classes."""
    shapes = {key: tensor.shape for key, tensor in other.state_dict().items()}
    return frozenset(k for k, t in network.state_dict().items() if shapes.get(k) != t.shape)

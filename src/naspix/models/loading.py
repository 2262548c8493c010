"""Where classifiers come from: by name or folder (`load_model`), or any module (`wrap_model`).

Which names there are and how each is built, `recipes.py` knows. Both ways give a `Classifier`. A
folder, which `naspix finetune` leaves behind, holds ``model.safetensors`` with the weights and
``model.json`` with all else: no code is in it, and none is run when it is read.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from naspix.errors import InputError, UnknownNameError, WeightsError
from naspix.files import write_whole
from naspix.models.classifier import Classifier, unwrapped
from naspix.models.devices import resolve_device
from naspix.models.recipes import (
    DEFAULT_MODEL,
    Description,
    is_known,
    recipe_of,
    with_weights,
)
from naspix.models.scores import Logits, Output
from naspix.models.weights import fitted, read_state

SCHEMA = "naspix-model/1"
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"

Categories = Iterable[str] | Mapping[Any, Any]


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
            a set of weights (`list_models` lists them all); or the folder that `naspix finetune`
            left.
        weights: ``"default"`` for the usual weights, downloaded where they are not embedded or
            cached; a ``.pth``, ``.pt`` or ``.safetensors`` file; None, or ``"none"``, for random
            ones. A file with another number of classes makes a network with that number, without
            category names.
        device: Such as ``"cpu"`` or ``"cuda:1"``; ``"auto"`` is a GPU where there is one; None is
            the CPU, where weights lie channels last, which is faster (safetensors wants them made
            ``contiguous()`` before it saves them).
        output: What the scores are; as for `wrap_model`.
        categories: The classes' names where they are not known, or others; as for `wrap_model`, or
            a file for `read_categories`.

    Raises:
        InputError: If the categories cannot be read.
        UnknownNameError: If there is no such model, with the names most like it.
        WeightsError: If weights cannot be fetched, read or fitted.
        DeviceError: If the device is absent.

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


def ordered_categories(categories: object) -> tuple[str, ...]:
    """Names of classes in the order of their numbers.

    Args:
        categories: Names in order; or a dictionary of numbers (as words too) and names, either way
            round, such as ``config.id2label`` and ``ImageFolder.class_to_idx``.

    Raises:
        InputError: It is no such thing, or numbers are missing, so that names would go wrong.

    Example:
        >>> ordered_categories({"dog": 1, "cat": 0}), ordered_categories({"1": "dog", "0": "cat"})
        (('cat', 'dog'), ('cat', 'dog'))
    """
    if isinstance(categories, Mapping):
        keys, values = list(categories), list(categories.values())
        if all(map(_is_number, keys)) and not all(map(_is_number, values)):
            by_number = {int(key): str(name) for key, name in zip(keys, values, strict=True)}
        elif all(map(_is_number, values)) and not all(map(_is_number, keys)):
            by_number = {int(value): str(key) for key, value in zip(keys, values, strict=True)}
        else:
            raise InputError(
                "categories as a dictionary must have numbers on one side and names on the other"
            )
        if sorted(by_number) != list(range(len(keys))) or not keys:
            raise InputError(
                f"categories as a dictionary must name every class from 0 to {len(keys) - 1} once, "
                f"but number {', '.join(map(str, sorted(by_number))) or 'none'}"
            )
        return tuple(by_number[index] for index in range(len(keys)))
    if isinstance(categories, str | bytes | set | frozenset) or not isinstance(
        categories, Iterable
    ):
        raise InputError(
            "categories must be a list of names in order, or a dictionary of numbers and names, "
            f"not {type(categories).__name__}"
        )
    names = tuple(categories)
    if not all(isinstance(name, str) for name in names):
        wrong = next(name for name in names if not isinstance(name, str))
        raise InputError(f"categories must be names, and {wrong!r} is none")
    return names


def read_categories(file: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names of classes from a file: JSON, a list or a dictionary of numbers; or a name a line.

    Raises:
        InputError: It cannot be read, or holds something else.
    """
    path = Path(file)
    try:
        words = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the categories in {str(path)!r} cannot be read: {error}") from None
    if path.suffix.lower() == ".json" or words.lstrip()[:1] in ("{", "["):
        try:
            return ordered_categories(json.loads(words))
        except ValueError as error:
            raise InputError(f"the categories in {str(path)!r}: {error}") from None
    names = [line.strip() for line in words.rstrip().splitlines()]
    if not names or not all(names):
        raise InputError(f"{str(path)!r} must hold one class's name in each line")
    return tuple(names)


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value.isdecimal()
    return isinstance(value, Integral) and not isinstance(value, bool)


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
    categories: Categories | None = None,
    levels: Sequence[str] | None = None,
    logits: Logits | None = None,
    output: Output | None = None,
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


def is_saved(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a classifier, or was meant to."""
    return Path(folder, DESCRIPTION).is_file() or Path(folder, WEIGHTS).is_file()


def save_model(
    folder: str | os.PathLike[str], description: Description, state: Mapping[str, Tensor]
) -> None:
    """Write a classifier into a folder that exists; each file appears whole or not at all.

    Args:
        folder: Where to.
        description: What it is.
        state: Its weights by name, as ``network.state_dict()`` gives them.
    """
    from safetensors.torch import save

    content = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    described = json.dumps({"schema": SCHEMA, **asdict(description)}, indent=1, ensure_ascii=False)
    for name, written in (
        (WEIGHTS, save(_apart(content))),
        (DESCRIPTION, f"{described}\n".encode()),
    ):
        with write_whole(Path(folder, name), durable=True) as file:
            file.write(written)


def read_model(folder: str | os.PathLike[str]) -> tuple[Description, nn.Module]:
    """Read a classifier from its folder.

    Raises:
        WeightsError: If the folder holds none, or it is damaged or contradicts itself.
    """
    path = Path(folder, DESCRIPTION)
    description = _read_description(path)
    try:
        recipe = recipe_of(description.network)
    except UnknownNameError as error:
        raise WeightsError(f"{str(path)!r} is of an unknown network: {error}") from None
    state = read_state(Path(folder, WEIGHTS))
    n_classes = len(description.categories or ())
    what = f"the weights in {str(folder)!r} for {description.network} and its {n_classes} classes"
    network, _ = fitted(lambda _: recipe.restore(n_classes), state, what)
    return description, network


def _read_description(path: Path) -> Description:
    try:
        content: Any = json.loads(path.read_bytes())
    except OSError:
        raise WeightsError(
            f"there is no file {str(path)!r}; a folder with a model has one beside its weights"
        ) from None
    except ValueError as error:
        raise WeightsError(f"{str(path)!r} is damaged: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise WeightsError(f"{str(path)!r} is not of the form {SCHEMA} that is known here")
    try:
        values = {
            one.name: content[one.name] for one in fields(Description) if one.name != "output"
        }
        described = Description(
            network=str(values["network"]),
            categories=tuple(map(str, values["categories"])),
            input_size=(int(values["input_size"][0]), int(values["input_size"][1])),
            mean=tuple(map(float, values["mean"])),
            std=tuple(map(float, values["std"])),
            crop_pct=float(values["crop_pct"]),
            interpolation=str(values["interpolation"]),
            output=content.get("output"),  # of a folder made before it was asked for
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise WeightsError(f"{str(path)!r} lacks something, or holds nonsense: {error}") from None
    return described


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, which safetensors asks for."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in state.items():
        shared = tensor.data_ptr() in seen and tensor.numel() > 0
        apart[name] = tensor.clone() if shared else tensor
        seen.add(tensor.data_ptr())
    return apart

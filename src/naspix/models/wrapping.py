"""Any module, or function, as a classifier: `wrap_model`, and what a network says of its images."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from PIL import Image
from torch import Tensor, nn

from naspix.errors import InputError
from naspix.images import Resize
from naspix.models.answers import Logits
from naspix.models.asking import unwrapped
from naspix.models.categories import Categories, ordered_categories
from naspix.models.classifier import Classifier
from naspix.models.functions import Forward, Function
from naspix.models.huggingface import is_pipeline, wrap_huggingface
from naspix.models.scores import Output


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
        >>> import torch
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
    if not isinstance(crop_pct, int | float) or not 0 < crop_pct <= 1:
        raise InputError(
            "crop_pct is the share of the scaled photo that is kept, above 0 and at most 1, not "
            f"{crop_pct!r}"
        )
    if preprocess is not None and not callable(preprocess):
        raise InputError(
            f"preprocess makes a tensor of a picture, which {type(preprocess).__name__} cannot"
        )
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
        tuple(timms_word(network).get("input_size") or ())[1:],
    )
    sizes = declared if given is None else (given,)
    for size in sizes:
        pair = (size, size) if isinstance(size, int) else size
        if isinstance(pair, tuple | list) and len(pair) == 2 and min(pair) > 0:
            return int(pair[0]), int(pair[1])
        if given is not None:
            raise InputError(f"input_size must be (height, width) in pixels, not {given!r}")
    return None


def timms_word(network: nn.Module) -> Mapping[str, Any]:
    """How a network of timm's wants its images; empty where that is not said, or does not fit."""
    network = unwrapped(network)
    said: Any = getattr(network, "pretrained_cfg", None)
    if not isinstance(said, Mapping) or not said.get("mean") or not said.get("std"):
        return {}
    return said if len(said["mean"]) == _n_channels(network, None, None) else {}


def with_timms_word(
    network: nn.Module,
    output: Output | None = None,
    categories: Categories | None = None,
    name: str | None = None,
) -> Classifier:
    """The network wrapped; standardising, cropping and resizing as timm says where it does."""
    said = timms_word(network)
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

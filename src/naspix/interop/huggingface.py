"""Hugging Face: image classifiers of transformers, with what their processor knows.

The processor says how pictures are scaled, cropped and standardised; the configuration says what
the classes are called. Both become a ``Classifier``. Nothing is imported: model and processor are
given, so nothing is downloaded either.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from naspix.errors import InputError
from naspix.models import Classifier, Output
from naspix.models.categories import ordered_categories
from naspix.models.scores import declared_output

_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL's numbers


def wrap_huggingface(
    model: nn.Module,
    processor: Any,
    *,
    name: str | None = None,
    levels: Sequence[str] | None = None,
    output: Output | None = None,
) -> Classifier:
    """Make an image classifier of transformers one that can be explained.

    Args:
        model: Such as ``AutoModelForImageClassification`` returns; it is not changed.
        processor: Such as ``AutoImageProcessor`` returns. Its mean, standard deviation, rescaling,
            size, crop and interpolation are taken over. Processors that squash photos to a square
            ask for ``load_images(..., resize="squash")``.
        name: What to call it in reports; where it came from by default.
        levels: Module names, shallow first, to be levels 0, 1, 2 and so on; found if not given.
        output: What the scores are; ``config.problem_type`` says it, or else as for `wrap_model`.

    Raises:
        InputError: If the model is no image classifier, or the processor makes no such input.

    Example:
        >>> import torch
        >>> from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor
        >>> config = ResNetConfig(
        ...     embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1] * 4, layer_type="basic"
        ... )
        >>> processor = ViTImageProcessor(size={"height": 64, "width": 64})
        >>> model = wrap_huggingface(ResNetForImageClassification(config), processor)
        >>> model(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """
    config = getattr(model, "config", None)
    if not isinstance(model, nn.Module) or config is None:
        raise InputError(
            f"wrap_huggingface takes an image classifier of transformers, not "
            f"{type(model).__name__}; wrap_model takes any module"
        )
    names = getattr(config, "id2label", None)
    size, crop_pct = _size_and_crop(processor)
    mean, std = _statistics(processor)
    network: nn.Module = model
    if getattr(processor, "do_flip_channel_order", False):
        network, mean, std = _Flipped(model), mean[::-1], std[::-1]
    return Classifier(
        network,
        name=name or str(getattr(config, "name_or_path", "") or type(model).__name__),
        input_size=size,
        mean=mean,
        std=std,
        categories=ordered_categories(names) if names else None,
        output=output or declared_output(model),
        levels=levels,
        crop_pct=crop_pct,
        interpolation=_INTERPOLATIONS.get(int(getattr(processor, "resample", 2) or 0), "bicubic"),
    )


class _Flipped(nn.Module):
    """A network that was trained on blue, green and red, in this order."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network(images.flip(1))


def _statistics(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for images in [0, 1].

    The processor computes ``(255 x factor - offset - mean) / std`` for ``x`` in [0, 1];
    EfficientNet's divides by ``std`` once more.
    """
    factor = 255.0
    if getattr(processor, "do_rescale", True):
        factor *= float(getattr(processor, "rescale_factor", None) or 1 / 255)
    offset = 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if getattr(processor, "do_normalize", True):
        mean = _channels("image_mean", getattr(processor, "image_mean", None))
        std = _channels("image_std", getattr(processor, "image_std", None))
    if getattr(processor, "include_top", False):
        again = _channels("image_std", getattr(processor, "image_std", None))
        std = (std[0] * again[0], std[1] * again[1], std[2] * again[2])
    return (
        tuple((value + offset) / factor for value in mean),
        tuple(value / factor for value in std),
    )


def _channels(name: str, values: object) -> tuple[float, float, float]:
    if isinstance(values, int | float):
        return (float(values),) * 3
    if not isinstance(values, Sequence) or len(values) != 3:
        raise InputError(f"the processor's {name} is {values!r}; three numbers are needed")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _size_and_crop(processor: Any) -> tuple[tuple[int, int], float]:
    """The network's input size, and the share of the scaled picture that it is."""
    size = _mapping(getattr(processor, "size", None))
    crop = _mapping(getattr(processor, "crop_size", None))
    cropped = bool(getattr(processor, "do_center_crop", False)) and "height" in crop
    if "shortest_edge" in size:
        edge = size["shortest_edge"]
        if type(processor).__name__.startswith("LevitImageProcessor"):
            edge = edge * 256 // 224  # which its documentation calls a part of its resizing
        if cropped:
            return (crop["height"], crop["width"]), min(1.0, crop["height"] / edge)
        # ConvNeXt: up to 384 pixels, scaled by 1 / crop_pct and cropped to the size
        share = getattr(processor, "crop_pct", None)
        return (edge, edge), float(share) if share and edge < 384 else 1.0
    if "height" in size and "width" in size:
        if cropped and crop["height"] <= size["height"]:
            return (crop["height"], crop["width"]), crop["height"] / size["height"]
        return (size["height"], size["width"]), 1.0
    raise InputError(
        f"the processor's size is {dict(size)}; height and width, or shortest_edge, are needed"
    )


def _mapping(value: Any) -> Mapping[str, int]:
    """A size as a dictionary; transformers also writes one number, or a class of its own."""
    if value is None:
        return {}
    if isinstance(value, int):
        return {"height": value, "width": value}
    return {key: int(side) for key, side in dict(value).items() if side is not None}

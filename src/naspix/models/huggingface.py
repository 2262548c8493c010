"""Hugging Face: image classifiers of transformers, with what their processor knows.

The processor scales, crops and standardises photos, and what it does to colours is found out on
plain ones; the configuration says what the classes are called. Both become a ``Classifier``.
Nothing is imported: model and processor are given, so nothing is downloaded either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor, nn

from naspix.errors import InputError
from naspix.models.categories import ordered_categories
from naspix.models.classifier import Classifier
from naspix.models.scores import Output, declared_output

_SIDE = 256  # of the plain photos by which it is found out what a processor does
_ROUNDING = 1e-4


def is_pipeline(model: object) -> bool:
    """Whether this is a pipeline of transformers, whatever its task."""
    known = ("task", "model", "image_processor", "preprocess", "postprocess")
    return not isinstance(model, nn.Module | type) and all(hasattr(model, key) for key in known)


def wrap_huggingface(
    model: Any,
    processor: Any = None,
    *,
    name: str | None = None,
    levels: Sequence[str] | None = None,
    output: Output | None = None,
) -> Classifier:
    """Make an image classifier of transformers one that can be explained.

    Args:
        model: Such as ``AutoModelForImageClassification`` returns, which is not changed; or a
            ``pipeline("image-classification")``, which has its processor with it.
        processor: Such as ``AutoImageProcessor`` or ``AutoProcessor`` returns. ``load_images``
            has photos scaled, cropped or squashed by it, in eight bits.
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
    if is_pipeline(model):
        if model.task != "image-classification":
            raise InputError(
                f"the pipeline's task is {model.task}; image-classification is what can be "
                "explained so (wrap_clip takes the model of a zero-shot one)"
            )
        model, processor = model.model, processor or model.image_processor
    config = getattr(model, "config", None)
    if not isinstance(model, nn.Module) or config is None:
        raise InputError(
            f"wrap_huggingface takes an image classifier of transformers, not "
            f"{type(model).__name__}; wrap_model takes any module"
        )
    if processor is None:
        raise InputError(
            "wrap_huggingface needs the processor too, such as AutoImageProcessor returns"
        )
    names = getattr(config, "id2label", None)
    processed = Processed.by(getattr(processor, "image_processor", processor))
    return Classifier(
        _Flipped(model) if processed.flipped else model,
        name=name or str(getattr(config, "name_or_path", "") or type(model).__name__),
        input_size=processed.size,
        mean=processed.mean.flatten().tolist(),
        std=processed.std.flatten().tolist(),
        categories=ordered_categories(names) if names else None,
        output=output or declared_output(model),
        levels=levels,
        preprocess=processed,
    )


class _Flipped(nn.Module):
    """A network that was trained on blue, green and red, in this order."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network(images.flip(1))


@dataclass(frozen=True)
class Processed:
    """Photos as a processor makes them, brought back to [0, 1]; found out on plain photos.

    Attributes:
        processor: Makes ``(x - mean) / std`` of photos, with its own resizing and cropping.
        mean: `(3, 1, 1)`, of red, green and blue on the scale of [0, 1].
        std: The same for the divisor.
        flipped: Whether blue comes first.
        size: Height and width of what it makes.
    """

    processor: Any
    mean: Tensor
    std: Tensor
    flipped: bool
    size: tuple[int, int]

    @classmethod
    def by(cls, processor: Any) -> "Processed":
        """What a processor does, whatever its settings are called.

        Raises:
            InputError: It makes no pictures, or does more to colours than scale and shift them.
        """
        plain = {
            colour: _pixels(processor, Image.new("RGB", (_SIDE, _SIDE), colour))
            for colour in ("black", "white", "red", "#808080")
        }
        height, width = plain["black"].shape[1:]
        black, white, red, grey = (
            pixels[:, height // 2, width // 2].double() for pixels in plain.values()
        )
        step = white - black
        linear = (grey - black - step * 128 / 255).abs() <= _ROUNDING * step.abs()
        if not bool((step > 0).all() and linear.all()):
            raise InputError("the processor does more to colours than to scale and shift them")
        flipped = bool((red - black).abs()[2] > (red - black).abs()[0])
        std, mean = (1 / step).view(3, 1, 1), (-black / step).view(3, 1, 1)
        if flipped:
            std, mean = std.flip(0), mean.flip(0)
        return cls(processor, mean, std, flipped, (int(height), int(width)))

    def __call__(self, picture: Image.Image) -> Tensor:
        """A photo as the processor makes it, in [0, 1]."""
        pixels = _pixels(self.processor, picture).double()
        pixels = pixels.flip(0) if self.flipped else pixels
        return (pixels * self.std + self.mean).clamp(0, 1).float()


def _pixels(processor: Any, picture: Image.Image) -> Tensor:
    """What the processor makes of one photo, ``(3, H, W)``."""
    try:
        made = processor(images=picture, return_tensors="pt")
    except Exception as error:  # processors raise their own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"the processor fails on a photo: {reason}") from error
    pixels = made.get("pixel_values") if isinstance(made, Mapping) else None
    if not isinstance(pixels, Tensor) or pixels.ndim != 4 or tuple(pixels.shape[:2]) != (1, 3):
        made_of = (
            f"values {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else "something else"
        )
        raise InputError(
            f"{type(processor).__name__} makes {made_of} of a photo, not a picture (1, 3, H, W)"
        )
    return pixels[0]
